//! The operator's own programs around a change of the primary: when each runs, and what it is told.

use crate::model::name::ServerName;
use crate::model::topology::Server;
use crate::model::topology::Topology;
use crate::plan::step::Action;
use crate::plan::step::Hook;
use crate::plan::step::Risk;
use crate::plan::step::Step;

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Before,
    After,
}

/// Returns the step that runs the operator's program before clients are interrupted, where there is one.
pub fn before(topology: &Topology, from: Option<&ServerName>, to: &ServerName) -> Option<Step> {
    step(topology, Moment::Before, from, to, from)
}

/// Returns the step that runs the operator's program when another server accepts writes, where there is one.
pub fn after(topology: &Topology, from: Option<&ServerName>, to: &ServerName) -> Option<Step> {
    step(topology, Moment::After, from, to, Some(to))
}

/// Returns what runs when the former primary was made the primary again.
pub fn undone(topology: &Topology, from: &ServerName, to: &ServerName) -> Option<Hook> {
    hook(topology, Moment::After, Some(from), to, Some(from))
}

fn step(
    topology: &Topology,
    moment: Moment,
    from: Option<&ServerName>,
    to: &ServerName,
    primary: Option<&ServerName>,
) -> Option<Step> {
    let hook = hook(topology, moment, from, to, primary)?;
    Some(Step {
        title: format!("run {}", hook.program.display()),
        server: None,
        risk: Risk::Disruptive,
        action: Action::Hook(hook),
        files: Vec::new(),
    })
}

fn hook(
    topology: &Topology,
    moment: Moment,
    from: Option<&ServerName>,
    to: &ServerName,
    primary: Option<&ServerName>,
) -> Option<Hook> {
    let hooks = &topology.common().hooks;
    let (program, word) = match moment {
        Moment::Before => (hooks.before.as_ref()?, "before"),
        Moment::After => (hooks.after.as_ref()?, "after"),
    };
    let mut environment = vec![
        ("PGSTEAD_MOMENT", word.to_owned()),
        ("PGSTEAD_TOPOLOGY", topology.name().to_string()),
        ("PGSTEAD_FROM", from.map(ToString::to_string).unwrap_or_default()),
        ("PGSTEAD_TO", to.to_string()),
    ];
    let of = |server: Option<&ServerName>, field: fn(&Server) -> String| {
        server.and_then(|server| topology.server(server)).map(field).unwrap_or_default()
    };
    let address = |server: &Server| server.address.to_string();
    let port = |server: &Server| server.port.to_string();
    environment.extend([
        ("PGSTEAD_TO_ADDRESS", of(Some(to), address)),
        ("PGSTEAD_TO_PORT", of(Some(to), port)),
        ("PGSTEAD_PRIMARY", primary.map(ToString::to_string).unwrap_or_default()),
        ("PGSTEAD_PRIMARY_ADDRESS", of(primary, address)),
        ("PGSTEAD_PRIMARY_PORT", of(primary, port)),
    ]);
    Some(Hook { program: program.clone(), environment, timeout_s: hooks.timeout_s, may_fail: moment == Moment::After })
}

//! The operator's own programs around a change of the primary: when each runs, and what it is told.

use std::path::Path;

use crate::model::name::ServerName;
use crate::model::topology::{Server, Topology};
use crate::plan::step::{Action, Hook, Risk, Step};

/// A change of the primary, as hooks are told of it.
#[derive(Debug, Clone, Copy)]
pub struct RoleChange<'a> {
    pub topology: &'a Topology,
    /// The primary until then, where that is known.
    pub from: Option<&'a ServerName>,
    /// Its successor.
    pub to: &'a ServerName,
}

impl RoleChange<'_> {
    /// Returns what runs before clients are interrupted.
    pub fn before(self) -> Option<Hook> {
        let program = self.topology.common().hooks.before.as_deref()?;
        Some(self.hook(program, "before", self.from, false))
    }

    /// Returns what runs when the successor accepts writes.
    pub fn after(self) -> Option<Hook> {
        let program = self.topology.common().hooks.after.as_deref()?;
        Some(self.hook(program, "after", Some(self.to), true))
    }

    /// Returns what runs when the former primary was made the primary again.
    pub fn undone(self) -> Option<Hook> {
        let program = self.topology.common().hooks.after.as_deref()?;
        Some(self.hook(program, "after", self.from, true))
    }

    fn hook(self, program: &Path, moment: &str, primary: Option<&ServerName>, may_fail: bool) -> Hook {
        let of = |server: Option<&ServerName>, field: fn(&Server) -> String| {
            server.and_then(|server| self.topology.server(server)).map(field).unwrap_or_default()
        };
        let name = |server: &Server| server.name.to_string();
        let address = |server: &Server| server.address.to_string();
        let port = |server: &Server| server.port.to_string();
        let to = Some(self.to);
        let environment = vec![
            ("PGSTEAD_MOMENT", moment.to_owned()),
            ("PGSTEAD_TOPOLOGY", self.topology.name().to_string()),
            ("PGSTEAD_FROM", of(self.from, name)),
            ("PGSTEAD_TO", of(to, name)),
            ("PGSTEAD_TO_ADDRESS", of(to, address)),
            ("PGSTEAD_TO_PORT", of(to, port)),
            ("PGSTEAD_PRIMARY", of(primary, name)),
            ("PGSTEAD_PRIMARY_ADDRESS", of(primary, address)),
            ("PGSTEAD_PRIMARY_PORT", of(primary, port)),
        ];
        let timeout_s = self.topology.common().hooks.timeout_s;
        Hook { program: program.to_owned(), environment, timeout_s, may_fail }
    }
}

/// Returns the step that runs a hook.
pub fn step(hook: Hook) -> Step {
    Step {
        title: format!("run {}", hook.program.display()),
        server: None,
        risk: Risk::Disruptive,
        action: Action::Hook(hook),
        files: Vec::new(),
    }
}

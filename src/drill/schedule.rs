//! The stages of a drill: ordinary commands, as an operator would type them, and the faults between them.

use serde::Serialize;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::name::ServerName;
use crate::model::topology::{Purpose, Topology};

/// What is rehearsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A planned change of the primary, there and back.
    Switchover,
    /// The primary's instance is killed, and a standby takes its place; the former primary comes back.
    Failover,
    /// A standby loses its control file and is brought back.
    Reseed,
    /// The role of the primary goes back to the server that should have it.
    RestoreOfRole,
}

impl Kind {
    /// Returns its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Switchover => "switchover",
            Kind::Failover => "failover",
            Kind::Reseed => "reseed",
            Kind::RestoreOfRole => "restore-of-role",
        }
    }

    /// Says whether it breaks something on purpose, and so needs a lab (hazard 67).
    pub fn has_faults(self) -> bool {
        matches!(self, Kind::Failover | Kind::Reseed)
    }
}

/// Something that is broken on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The postmaster is killed: the instance ends as in a crash.
    KillInstance(ServerName),
    /// The instance is killed, and its control file moved out of its place.
    LoseControlFile(ServerName),
}

/// What a stage does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// A command of pgstead, without the global options.
    Command(Vec<String>),
    Fault(Fault),
}

/// One stage of a drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// What it does, in the imperative.
    pub title: String,
    /// The same for a machine.
    pub act: Act,
    /// Whether what clients see from its beginning on is what the drill measures.
    pub measured: bool,
}

impl Stage {
    fn command(title: String, words: &[&str]) -> Self {
        let act = Act::Command(words.iter().map(|word| (*word).to_owned()).collect());
        Self { title, act, measured: false }
    }

    fn fault(title: String, fault: Fault) -> Self {
        Self { title, act: Act::Fault(fault), measured: false }
    }

    /// Says whether it changes nothing, and only looks whether all is well.
    pub fn looks_only(&self) -> bool {
        matches!(&self.act, Act::Command(words) if words.first().is_some_and(|word| word == "check"))
    }

    fn measured(self) -> Self {
        Self { measured: true, ..self }
    }
}

/// Returns the stages of a drill. `primary` is the one that accepts writes now; `server` is the one that the operator names:
/// the successor, or the standby that breaks.
///
/// # Errors
/// A drill with faults in a topology that is no lab; no standby that would do.
pub fn schedule(
    topology: &Topology,
    kind: Kind,
    primary: &ServerName,
    server: Option<&ServerName>,
) -> Result<Vec<Stage>, Box<Diagnostic>> {
    if kind.has_faults() && topology.common().purpose != Purpose::Lab {
        return Err(Box::new(
            Diagnostic::error(Code::NotALab, format!("a drill of {} breaks an instance on purpose", kind.word()))
                .detail("The purpose of this topology is production, as its inventory says or leaves out.")
                .hint("Rehearse it in a lab: pgstead lab up. In production: pgstead drill switchover."),
        ));
    }
    if server == Some(primary) {
        let message = format!("server \"{primary}\" is the primary");
        return Err(Box::new(
            Diagnostic::error(Code::DrillNeedsStandby, message).server(primary).hint("Name a standby."),
        ));
    }
    let standby = match server {
        Some(server) => server.clone(),
        None => successor(topology, primary).ok_or_else(|| {
            Box::new(
                Diagnostic::error(Code::DrillNeedsStandby, "there is no standby to rehearse with")
                    .hint("Add one to the inventory: pgstead bootstrap."),
            )
        })?,
    };
    let (a, b) = (primary.as_str(), standby.as_str());
    let switch = |to: &str| Stage::command(format!("switch over to \"{to}\""), &["switchover", "--to", to]);
    let check = Stage::command("prove every link".to_owned(), &["check"]);
    let preferred = &topology.preferred_primary();
    Ok(match kind {
        Kind::Switchover => vec![switch(b).measured(), switch(a), check],
        Kind::RestoreOfRole if primary == *preferred => vec![switch(b), switch(a).measured(), check],
        Kind::RestoreOfRole => vec![switch(preferred.as_str()).measured(), check],
        Kind::Failover => vec![
            Stage::fault(format!("kill the instance of \"{a}\""), Fault::KillInstance(primary.clone())).measured(),
            Stage::command(format!("fail over to \"{b}\""), &["failover", "--to", b, "--accept-loss"]),
            Stage::command(format!("bring \"{a}\" back as a standby"), &["reseed", a, "--accept-divergence"]),
            Stage::command("put everything in line".to_owned(), &["bootstrap"]),
            switch(a),
            check,
        ],
        Kind::Reseed => vec![
            Stage::fault(format!("take the control file of \"{b}\" away"), Fault::LoseControlFile(standby.clone()))
                .measured(),
            Stage::command(format!("bring \"{b}\" back"), &["reseed", b]),
            check,
        ],
    })
}

/// The standby that takes part where none is named: one that follows the primary directly, the next in the inventory.
fn successor(topology: &Topology, primary: &ServerName) -> Option<ServerName> {
    let links = topology.links(primary);
    let direct = links.iter().find(|link| link.upstream == *primary);
    direct.or(links.first()).map(|link| link.standby.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: Kind, purpose: &str, primary: &str, server: Option<&str>) -> String {
        let text = format!(
            "topology: lab\npurpose: {purpose}\npostgres: {{ version: 17 }}\nservers:\n  \
             a: {{ address: 10.0.0.1, kind: primary }}\n  b: {{ address: 10.0.0.2, kind: standby }}\n  \
             c: {{ address: 10.0.0.3, kind: standby, upstream: b }}\n"
        );
        let (topology, _) = crate::inventory::read(&text, "lab.yaml").unwrap();
        let server = server.map(|name| name.parse().unwrap());
        match schedule(&topology, kind, &primary.parse().unwrap(), server.as_ref()) {
            Ok(stages) => {
                let line = |stage: &Stage| {
                    let act = match &stage.act {
                        Act::Command(words) => words.join(" "),
                        Act::Fault(Fault::KillInstance(name)) => format!("(kill {name})"),
                        Act::Fault(Fault::LoseControlFile(name)) => format!("(break {name})"),
                    };
                    [if stage.measured { "*" } else { "" }, &act].concat()
                };
                stages.iter().map(line).collect::<Vec<_>>().join("; ")
            }
            Err(diagnostic) => diagnostic.code.to_string(),
        }
    }

    #[test]
    fn it_goes_there_and_comes_back() {
        let production = |kind, primary, server| shown(kind, "production", primary, server);
        let there_and_back = "*switchover --to b; switchover --to a; check";
        assert_eq!(production(Kind::Switchover, "a", None), there_and_back);
        assert_eq!(production(Kind::Switchover, "b", Some("c")), "*switchover --to c; switchover --to b; check");
        let restored = "switchover --to b; *switchover --to a; check";
        assert_eq!(production(Kind::RestoreOfRole, "a", None), restored);
        assert_eq!(production(Kind::RestoreOfRole, "c", None), "*switchover --to a; check");
    }

    #[test]
    fn what_breaks_something_needs_a_lab() {
        for kind in [Kind::Failover, Kind::Reseed] {
            assert_eq!(shown(kind, "production", "a", None), "not-a-lab");
        }
        assert_eq!(
            shown(Kind::Failover, "lab", "a", None),
            "*(kill a); failover --to b --accept-loss; reseed a --accept-divergence; bootstrap; switchover --to a; check"
        );
        assert_eq!(shown(Kind::Reseed, "lab", "a", Some("c")), "*(break c); reseed c; check");
        assert_eq!(shown(Kind::Reseed, "lab", "a", Some("a")), "drill-needs-standby");
    }
}

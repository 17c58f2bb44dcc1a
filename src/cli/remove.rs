//! `remove`: a server leaves the topology, and the others forget it.

use std::collections::BTreeMap;

use clap::Args;

use super::bootstrap::{propose_with, save_passwords};
use super::exit::Exit;
use super::globals::Globals;
use super::plan::tell_plan;
use super::runner::{Operation, Proposal, Told};
use super::session::Session;
use super::{inventory, runner};
use crate::diagnostic::{Diagnostic, Failure, FailureKind};
use crate::judge::State;
use crate::model::name::ServerName;
use crate::model::secret::Secret;
use crate::model::topology::Link;
use crate::plan::operation::remove::{Request, plan_removal};
use crate::plan::step::{Risk, Step};
use crate::plan::survey::authority::Keys;
use crate::plan::{Consent, Plan};
use crate::state::{StateDir, StateError};
use crate::ui::ask::{Gravity, Question};
use crate::ui::json::RunDocument;
use crate::ui::plan::PlanView;
use crate::ui::{Ui, report};

/// Take a standby out of the topology: the others forget it, and it is stopped
///
/// The others admit it no more, do not ask it before they start, do not wait for it, and keep no WAL for it. What else the inventory
/// asks for is done, too, as by bootstrap. Then its instance is stopped, and nothing starts it any more; --keep-running leaves it
/// alone. A server that cannot be reached is removed as well, and nothing on it is changed. Its data directory is never touched. The
/// primary, the upstream of another server, and a standby without which too few are left for commits to wait for are refused.
///
/// Afterwards take its lines out of the inventory. After an interruption, run the same command again.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead remove c --dry-run       show what would be done
  pgstead remove c                 show it, ask, do it
  pgstead remove c --keep-running  its instance goes on, and receives nothing more")]
pub(super) struct RemoveArgs {
    /// The server; one that is in the inventory, or was
    #[arg(value_name = "SERVER")]
    server: String,
    /// Leave its instance running: clients that read from it go on, with data that grow old
    #[arg(long)]
    keep_running: bool,
    /// Show the plan and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(globals: &Globals, args: &RemoveArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let server = match args.server.parse::<ServerName>() {
        Ok(server) => server,
        Err(_) => inventory.server(&args.server)?.clone(),
    };
    let removal = Removal { server, keep_running: args.keep_running, is_dry_run: args.dry_run };
    Ok(runner::run(&removal, &inventory, ui, |view, told| tell(view, told, ui))?.exit())
}

/// Says what to do where another server is dead, too.
fn of_another(why: Diagnostic, is_gone: bool) -> Diagnostic {
    let Some(other) = why.server.clone() else { return why };
    let more = match is_gone {
        true => format!("Is \"{other}\" gone as well? Take both out of the inventory, then: pgstead bootstrap"),
        false => format!("Is \"{other}\" gone for good? First: pgstead remove {other}"),
    };
    let hint = why.hint.iter().chain([&more]).map(String::as_str).collect::<Vec<_>>().join(" ");
    why.hint(hint)
}

/// A server leaves.
struct Removal {
    server: ServerName,
    keep_running: bool,
    is_dry_run: bool,
}

impl Operation for Removal {
    const NAME: &'static str = "remove";
    /// The passwords that were made for roles of applications.
    type Facts = BTreeMap<String, Secret>;

    fn is_dry_run(&self) -> bool {
        self.is_dry_run
    }

    fn keep(&self, made: &Self::Facts, state: &StateDir) -> Result<(), StateError> {
        save_passwords(made, state)
    }

    /// Everybody is needed but the server itself, which may be dead.
    fn require(&self, session: &Session<'_>) -> Result<(), Failure> {
        let others = session.unreachable.iter().filter(|why| why.server.as_deref() != Some(self.server.as_str()));
        let is_gone = session.unreachable.iter().any(|why| why.server.as_deref() == Some(self.server.as_str()));
        let others: Vec<Diagnostic> = others.map(|why| of_another(why.clone(), is_gone)).collect();
        if others.is_empty() { Ok(()) } else { Err(Failure::all(FailureKind::Unreachable, others)) }
    }

    async fn propose(&self, session: &mut Session<'_>, keys: &Keys) -> Result<Proposal<Self::Facts>, Failure> {
        let request = Request { server: &self.server, keep_running: self.keep_running };
        propose_with(session, keys, Consent::default(), |topology, observation, material| {
            plan_removal(topology, observation, material, request)
        })
        .await
    }

    fn question(&self, plan: &Plan, _: &Self::Facts) -> Question {
        let (server, topology) = (&self.server, &plan.topology);
        let stops = |step: &Step| step.server.as_ref() == Some(server) && step.risk == Risk::Disruptive;
        let is_stopped = plan.steps.iter().any(|planned| stops(&planned.step));
        let change = match is_stopped {
            true => format!("Remove \"{server}\" from topology {topology}, and stop its instance"),
            false => format!("Remove \"{server}\" from topology {topology}"),
        };
        Question { gravity: Gravity::of(plan), change }
    }

    fn confirms(&self, state: &State<'_>, link: &Link) -> bool {
        link.standby != self.server && state.sends_to(&link.upstream, &link.standby)
    }
}

fn tell(view: &PlanView<'_>, told: &Told<BTreeMap<String, Secret>>, ui: &Ui) -> Result<(), Failure> {
    match &told.report {
        None => tell_plan(view, ui),
        Some(report) => ui.answer(|look| report::render_run(report, look), || RunDocument::new(report)).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Code;

    #[test]
    fn two_dead_servers_have_a_way_out() {
        let why = || {
            Diagnostic::error(Code::Unreachable, "server \"d\" could not be reached").server("d").hint("Look at it.")
        };
        let both = of_another(why(), true).hint.unwrap();
        assert_eq!(both, "Look at it. Is \"d\" gone as well? Take both out of the inventory, then: pgstead bootstrap");
        let one = of_another(why(), false).hint.unwrap();
        assert_eq!(one, "Look at it. Is \"d\" gone for good? First: pgstead remove d");
    }
}

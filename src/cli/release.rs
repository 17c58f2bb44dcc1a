//! `release`: pgstead leaves, and replication goes on under plain PostgreSQL.

use std::collections::BTreeSet;

use clap::Args;

use super::bootstrap::WithoutArgs;
use super::exit::Exit;
use super::globals::Globals;
use super::plan::tell_plan;
use super::runner::{Operation, Proposal, Told};
use super::session::Session;
use super::{inventory, runner};
use crate::diagnostic::{Diagnostic, Failure, FailureKind};
use crate::judge::State;
use crate::model::name::ServerName;
use crate::model::topology::Link;
use crate::plan::Plan;
use crate::plan::operation::release;
use crate::plan::survey::authority::Keys;
use crate::ui::ask::{Gravity, Question};
use crate::ui::json::ReleaseDocument;
use crate::ui::plan::PlanView;
use crate::ui::{Ui, report};

/// Stop using pgstead: its parts leave the servers, and replication goes on
///
/// The configuration files become yours: they stand alone, and say what they said. Then the roles and the canary table that only
/// pgstead needs are dropped, and the start guard, its lists and marks are taken away, standbys first. Nothing is stopped or
/// restarted, and every server can be restarted, rebooted and promoted at any moment. Links, slots, certificates and role replicator
/// stay; what stays is listed, with the days on which certificates expire. No data directory is touched but for the mark in it.
///
/// After an interruption, run the same command again. pgstead bootstrap takes the servers over again, without a copy.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead release --dry-run    show what would be done, and what stays
  pgstead release              show it, ask, do it
  pgstead release --without c  server c is down for now: release the others")]
pub(super) struct ReleaseArgs {
    #[command(flatten)]
    without: WithoutArgs,
    /// Show the plan and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(globals: &Globals, args: &ReleaseArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let left_out = args.without.find(&inventory.topology)?;
    let release = Release { left_out, is_dry_run: args.dry_run };
    Ok(runner::run(&release, &inventory, ui, |view, told| tell(view, told, ui))?.exit())
}

/// pgstead leaves.
struct Release {
    /// The servers that are neither looked at nor changed.
    left_out: BTreeSet<ServerName>,
    is_dry_run: bool,
}

impl Operation for Release {
    const NAME: &'static str = "release";
    /// What stays on each server.
    type Facts = Vec<Diagnostic>;

    fn is_dry_run(&self) -> bool {
        self.is_dry_run
    }

    fn left_out(&self) -> BTreeSet<ServerName> {
        self.left_out.clone()
    }

    /// Everybody is needed; one that is down for now is left out, or taken out.
    fn require(&self, session: &Session<'_>) -> Result<(), Failure> {
        let why: Vec<Diagnostic> = session.unreachable.iter().cloned().map(with_a_way_out).collect();
        if why.is_empty() { Ok(()) } else { Err(Failure::all(FailureKind::Unreachable, why)) }
    }

    async fn propose(&self, session: &mut Session<'_>, keys: &Keys) -> Result<Proposal<Self::Facts>, Failure> {
        let run = session.material(keys)?.run;
        let (topology, observation) = (&session.inventory.topology, &session.observation);
        let plan = release::plan_release(topology, observation).map_err(runner::refused);
        Ok(Proposal { plan, facts: release::stays(topology, observation), run })
    }

    fn question(&self, plan: &Plan, _: &Self::Facts) -> Question {
        Question { gravity: Gravity::of(plan), change: format!("Release topology {}", plan.topology) }
    }

    /// Without its role pgstead cannot prove a link any more.
    fn confirms(&self, _: &State<'_>, _: &Link) -> bool {
        false
    }
}

/// Says what to do where a server is down.
fn with_a_way_out(why: Diagnostic) -> Diagnostic {
    let Some(name) = why.server.clone() else { return why };
    let more = format!(
        "Is \"{name}\" down for now? Release the others: pgstead release --without {name}. Is it gone for good? First: pgstead remove {name}"
    );
    let hint = why.hint.iter().chain([&more]).map(String::as_str).collect::<Vec<_>>().join(" ");
    why.hint(hint)
}

fn tell(view: &PlanView<'_>, told: &Told<Vec<Diagnostic>>, ui: &Ui) -> Result<(), Failure> {
    let Some(report) = &told.report else { return tell_plan(view, ui) };
    let stays = told.facts();
    ui.answer(|look| report::render_release(report, stays, look), || ReleaseDocument::new(report, stays)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Code;

    #[test]
    fn a_server_that_is_down_has_a_way_out() {
        let why =
            Diagnostic::error(Code::Unreachable, "server \"c\" could not be reached").server("c").hint("Look at it.");
        let hint = with_a_way_out(why).hint.unwrap();
        assert_eq!(
            hint,
            "Look at it. Is \"c\" down for now? Release the others: pgstead release --without c. Is it gone for good? First: pgstead remove c"
        );
    }
}

//! `plan`: what `bootstrap` would do. It changes nothing.

use std::collections::BTreeMap;

use clap::Args;

use super::block_on;
use super::exit;
use super::exit::Exit;
use super::globals::Globals;
use super::inventory;
use super::inventory::Inventory;
use super::session::Session;
use super::session::to_plan;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::event::Events;
use crate::model::argv::Login;
use crate::model::name::ServerName;
use crate::model::name::TopologyName;
use crate::plan::Consent;
use crate::plan::Plan;
use crate::ui::Progress;
use crate::ui::Ui;
use crate::ui::Verbosity;
use crate::ui::json::PlanDocument;
use crate::ui::plan;
use crate::ui::plan::PlanView;

/// Show the steps and file changes that bootstrap would take
///
/// Observes the servers and changes nothing. With refusals it ends with code 5.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead plan                                     steps, diffs and commands
  pgstead plan -v | less                           every line of every file, script and command
  pgstead plan -q                                  one line per step
  pgstead plan --exit-code && echo nothing to do   end with code 8 when changes are pending
  pgstead plan --format json | jq .changes")]
pub(super) struct PlanArgs {
    /// End with code 8 when changes are pending
    #[arg(long)]
    exit_code: bool,
}

/// What observing and planning yield.
#[derive(Debug)]
pub(super) struct Planned {
    /// The plan, or every refusal.
    pub(super) plan: Result<Plan, Vec<Diagnostic>>,
    /// The logins that were observed.
    pub(super) logins: BTreeMap<ServerName, Login>,
}

pub(super) fn run(globals: &Globals, args: &PlanArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let progress = Progress::start(ui);
    let planned = block_on(observe_and_plan(&inventory, progress.events()));
    progress.finish();
    let planned = planned?;
    show(inventory.topology.name(), &planned, ui)?;
    Ok(exit_of(&planned, args.exit_code))
}

/// Writes a plan to stdout, and its refusals to stderr.
pub(super) fn show(topology: &TopologyName, planned: &Planned, ui: &Ui) -> Result<(), Failure> {
    let view = PlanView { topology, plan: planned.plan.as_ref().map_err(Vec::as_slice), logins: &planned.logins };
    let steps_alone = ui.options.verbosity == Verbosity::Quiet;
    let text = |look| if steps_alone { plan::render_steps(&view, look) } else { plan::render(&view, look) };
    ui.answer(text, || PlanDocument::new(&view))?;
    if let Err(refusals) = &planned.plan {
        ui.diagnostics(refusals);
    }
    Ok(())
}

/// Returns the end that refusals mean: a server that could not be looked at is unreachable, not refused.
pub(super) fn refused(refusals: &[Diagnostic]) -> Failure {
    let unreachable = refusals.iter().any(|refusal| refusal.code == "unreachable");
    let kind = if unreachable { FailureKind::Unreachable } else { FailureKind::Refused };
    Failure::all(kind, refusals.to_vec())
}

pub(super) fn exit_of(planned: &Planned, exit_code: bool) -> Exit {
    match &planned.plan {
        Err(refusals) => refused(refusals).kind.into(),
        Ok(plan) if exit_code && plan.changes() => exit::CHANGES_PENDING,
        Ok(_) => exit::DONE,
    }
}

/// Connects, observes, plans. Holds no lock and has no way to write.
async fn observe_and_plan(inventory: &Inventory, events: Events) -> Result<Planned, Failure> {
    let mut session = Session::open(inventory, to_plan(), events).await?;
    session.compare_histories().await;
    let planned = plan_over(&session);
    session.close().await;
    planned
}

fn plan_over(session: &Session<'_>) -> Result<Planned, Failure> {
    session.require_all()?;
    // Consent changes nothing but whether a restart is refused; a plan shows the restart.
    let consent = Consent { allow_restart: true };
    let (plan, _) = session.plan(&session.keys()?, consent)?;
    Ok(Planned { plan, logins: session.logins() })
}

//! `bootstrap`: observe, plan, show, ask, apply.

use clap::Args;

use super::block_on;
use super::exit;
use super::exit::Exit;
use super::globals::Globals;
use super::inventory;
use super::inventory::Inventory;
use super::not_wired;
use super::plan;
use super::plan::Planned;
use crate::apply::RunReport;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::event::Events;
use crate::plan::Plan;
use crate::ui::Progress;
use crate::ui::Ui;
use crate::ui::ask;
use crate::ui::ask::Gravity;
use crate::ui::ask::Question;
use crate::ui::json::RunDocument;
use crate::ui::plan::PlanView;
use crate::ui::report;

/// Make the servers as the inventory says
///
/// Sets up the primary, takes base backups, starts the standbys. Also adopts an existing primary, adds a standby, applies
/// changed settings, and finishes a run that was interrupted. A second run changes nothing. No data directory is ever
/// deleted.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead bootstrap                        show the plan, ask, carry it out
  pgstead bootstrap --dry-run              show the plan alone
  pgstead bootstrap --yes --allow-restart  also restart a serving primary")]
pub(super) struct BootstrapArgs {
    /// Consent to the restart of a primary that serves clients; --yes does not cover it
    #[arg(long)]
    allow_restart: bool,
    /// Show the plan and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Everything between looking and doing: what was observed and decided, with the connections still open.
#[derive(Debug)]
struct Prepared {
    planned: Planned,
}

pub(super) fn run(globals: &Globals, args: &BootstrapArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    block_on(async {
        let progress = Progress::start(ui);
        let prepared = prepare(&inventory, args.allow_restart, args.dry_run, progress.events()).await;
        progress.finish();
        let prepared = prepared?;
        if args.dry_run {
            plan::show(inventory.topology.name(), &prepared.planned, ui)?;
            return Ok(plan::exit_of(&prepared.planned, false));
        }
        let plan = match &prepared.planned.plan {
            Ok(plan) => plan,
            Err(refusals) => return Err(Failure::all(FailureKind::Refused, refusals.clone())),
        };
        if plan.changes() {
            let view =
                PlanView { topology: inventory.topology.name(), plan: Ok(plan), logins: &prepared.planned.logins };
            let text = crate::ui::plan::render(&view, ui.err);
            // Nobody is asked about a plan that was not shown, not even with -q.
            if ui.can_ask && !ui.options.yes {
                ui.say(&text)
            } else {
                ui.explain(&text)
            }
            ask::consent(ui, &question(plan))?;
        }
        let progress = Progress::start(ui);
        let report = apply(prepared, &inventory, progress.events()).await;
        progress.finish();
        let report = report?;
        ui.answer(|look| report::render_run(&report, look), || RunDocument::new(&report))?;
        Ok(match &report.failure {
            None => exit::DONE,
            Some(failure) => {
                ui.diagnostics(&failure.diagnostics);
                failure.kind.into()
            }
        })
    })
}

fn question(plan: &Plan) -> Question {
    let servers: std::collections::BTreeSet<_> = plan.steps.iter().filter_map(|p| p.step.server.as_ref()).collect();
    let change = format!("Carry out {} steps on {} servers", plan.steps.len(), servers.len());
    Question { gravity: Gravity::of(plan), change }
}

// SEAM: connect, take the lock (not for a dry run), observe, plan.
async fn prepare(
    _inventory: &Inventory,
    _allow_restart: bool,
    _dry_run: bool,
    _events: Events,
) -> Result<Prepared, Failure> {
    not_wired("bootstrap")
}

// SEAM: carry the plan out over the connections of `prepare`, prove the links, release the lock. An empty plan gives a
// report without changes. What ends a run early stands in `RunReport::failure`, not in `Err`.
async fn apply(_prepared: Prepared, _inventory: &Inventory, _events: Events) -> Result<RunReport, Failure> {
    not_wired("bootstrap")
}

//! `bootstrap`: observe, plan, show, ask, apply.

use std::time::Instant;

use clap::Args;

use super::block_on;
use super::carry_out::Agreed;
use super::carry_out::carry_out;
use super::carry_out::end;
use super::carry_out::give_back;
use super::exit::Exit;
use super::globals::Globals;
use super::inventory;
use super::plan;
use super::plan::Planned;
use super::session::Session;
use super::session::hold;
use super::session::state_identity;
use super::session::to_plan;
use crate::apply::RunReport;
use crate::apply::lock;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::model::name::TopologyName;
use crate::plan::Consent;
use crate::plan::Plan;
use crate::prove;
use crate::prove::Sessions;
use crate::remote::Ssh;
use crate::ui::Progress;
use crate::ui::Ui;
use crate::ui::ask;
use crate::ui::ask::Gravity;
use crate::ui::ask::Question;
use crate::ui::json::RunDocument;
use crate::ui::plan::PlanView;
use crate::ui::report;

/// The name of this operation in locks and journal.
const OPERATION: &str = "bootstrap";

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
    /// Make a new CA although servers use one that this machine does not hold: where that is lost for good
    #[arg(long)]
    new_authority: bool,
    /// Show the plan and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(globals: &Globals, args: &BootstrapArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let begun = Instant::now();
    block_on(async {
        let progress = Progress::start(ui);
        let events = progress.events();
        let local = hold(&inventory, OPERATION, args.dry_run)?;
        let mut session = Session::open(&inventory, to_plan(), events.clone()).await?;
        session.compare_histories().await;
        let result = over(&session, args, ui, progress, begun).await;
        session.close().await;
        drop(local);
        result
    })
}

/// Plans over open connections, shows, asks, carries out.
async fn over(
    session: &Session<'_>,
    args: &BootstrapArgs,
    ui: &Ui,
    progress: Progress,
    begun: Instant,
) -> Result<Exit, Failure> {
    progress.finish();
    session.require_all()?;
    if !args.dry_run {
        lock::refuse_held(&session.observation, &state_identity(&session.state))?;
    }
    let (keys, replaced) = match args.new_authority {
        true => session.keys_of_new_authority()?,
        false => (session.keys()?, None),
    };
    let (mut plan, material) = session.plan(&keys, Consent { allow_restart: args.allow_restart })?;
    if let Ok(plan) = &mut plan {
        plan.notes.extend(replaced);
    }
    let planned = Planned { plan, logins: session.logins() };
    let topology = session.inventory.topology.name();
    if args.dry_run {
        plan::show(topology, &planned, ui)?;
        return Ok(plan::exit_of(&planned, false));
    }
    let plan = match &planned.plan {
        Ok(plan) => plan,
        Err(refusals) => return Err(plan::refused(refusals)),
    };
    ui.diagnostics(&plan.notes);
    let report = if plan.changes() {
        let view = PlanView { topology, plan: Ok(plan), logins: &planned.logins };
        // With --yes the progress names every step, and "plan" has shown the rest.
        match (ui.options.yes, ui.can_ask) {
            (true, _) if !ui.err.whole => {}
            (false, false) if !ui.err.whole => ui.explain(&crate::ui::plan::render_steps(&view, ui.err)),
            _ => ui.explain(&crate::ui::plan::render(&view, ui.err)),
        }
        ask::consent(ui, &question(plan))?;
        let agreed = Agreed {
            operation: OPERATION,
            run: &material.run,
            plan,
            logins: &planned.logins,
            keys: &keys,
            attested: Vec::new(),
            begun,
        };
        carry_out(session, agreed, ui).await?
    } else {
        give_back(session, plan).await;
        let sessions = session.sessions(&keys)?;
        prove_unchanged(session, &sessions, topology, begun).await?
    };
    ui.answer(|look| report::render_run(&report, look), || RunDocument::new(&report))?;
    Ok(end(report.failure.as_ref(), ui))
}

/// With nothing to change, the links are still proven: the second and last round trip.
async fn prove_unchanged(
    session: &Session<'_>,
    sessions: &Sessions<'_, Ssh>,
    topology: &TopologyName,
    begun: Instant,
) -> Result<RunReport, Failure> {
    if let Some(primary) = session.observation.current_primary(&session.inventory.topology) {
        let links = session.inventory.topology.links(primary);
        prove::prove_links(sessions, primary, &links, prove::OLD_LINK, |_| ())
            .await
            .map_err(|diagnostic| Failure::one(FailureKind::Unhealthy, *diagnostic))?;
    }
    Ok(RunReport::unchanged(topology, begun.elapsed().as_secs_f64()))
}

fn question(plan: &Plan) -> Question {
    let servers: std::collections::BTreeSet<_> = plan.steps.iter().filter_map(|p| p.step.server.as_ref()).collect();
    let change = format!("Carry out {} steps on {} servers", plan.steps.len(), servers.len());
    Question { gravity: Gravity::of(plan), change }
}

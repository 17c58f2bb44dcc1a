//! `reseed`: diagnose, choose, show, ask, bring one server back.

use std::time::Instant;

use clap::Args;
use clap::ValueEnum;
use jiff::Timestamp;

use super::block_on;
use super::exit;
use super::exit::Exit;
use super::globals::Globals;
use super::interrupts::Interrupts;
use super::inventory;
use super::plan::refused;
use super::session::Session;
use super::session::state_identity;
use crate::apply::Run;
use crate::apply::RunReport;
use crate::apply::lock;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::diagnostic::Severity;
use crate::model::method::Method;
use crate::model::name::ServerName;
use crate::observe::probe::Wish;
use crate::plan::reseed;
use crate::plan::reseed::Refused;
use crate::plan::reseed::Request;
use crate::plan::reseed::Reseed;
use crate::state::Holder;
use crate::state::StateDir;
use crate::state::StateError;
use crate::state::journal::operator;
use crate::ui::Progress;
use crate::ui::Ui;
use crate::ui::ask;
use crate::ui::ask::Gravity;
use crate::ui::ask::Question;
use crate::ui::json::ReseedDocument;
use crate::ui::json::ReseedPlanDocument;
use crate::ui::plan::PlanView;
use crate::ui::reseed::ReseedView;
use crate::ui::reseed::render;
use crate::ui::reseed::render_done;

/// The name of this operation in locks and journal.
const OPERATION: &str = "reseed";

/// Bring a failed server back as a standby, by the cheapest safe way
///
/// Says what is wrong with it and how that is known, what each way to mend it would cost, and takes the cheapest that is
/// safe: replay the WAL that it missed, rewind a copy of its data directory (pg_rewind), or copy everything anew
/// (pg_basebackup). Its old data directory is never changed: it is set aside whole once the new one is complete. The primary,
/// and data that are not this server's, are refused. After an interruption, run the same command again.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead reseed b --dry-run              say what is wrong, and what would be done
  pgstead reseed b                        show it, ask, bring it back
  pgstead reseed a --accept-divergence    its own writes are left out; they are set aside
  pgstead reseed b --method basebackup    copy everything anew, whatever else would do")]
pub(super) struct ReseedArgs {
    /// The server
    server: String,
    /// How it is brought back; what is unsafe is refused all the same
    #[arg(long, value_enum, default_value_t = Wanted::Auto)]
    method: Wanted,
    /// Writes that only this server has may be left out; --yes does not cover it
    #[arg(long)]
    accept_divergence: bool,
    /// Show the diagnosis, the ways and the plan, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// The cheapest that is safe
    Auto,
    /// Start it, and let it replay the WAL that it missed
    Replay,
    /// Copy its data directory on the server, and rewind the copy
    Rewind,
    /// Copy everything from its upstream
    Basebackup,
}

impl Wanted {
    fn method(self) -> Option<Method> {
        match self {
            Wanted::Auto => None,
            Wanted::Replay => Some(Method::Replay),
            Wanted::Rewind => Some(Method::Rewind),
            Wanted::Basebackup => Some(Method::Basebackup),
        }
    }
}

pub(super) fn run(globals: &Globals, args: &ReseedArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let name = reseed::find(&inventory.topology, &args.server)
        .map_err(|diagnostic| Failure::one(FailureKind::Refused, *diagnostic))?;
    let begun = Instant::now();
    block_on(async {
        let progress = Progress::start(ui);
        let events = progress.events();
        let state = StateDir::at(&inventory.state_dir);
        let local = match args.dry_run {
            true => None,
            false => {
                let holder = Holder::this_process(operator(), OPERATION, Timestamp::now());
                Some(state.lock(&holder).map_err(|error| {
                    let is_locked = matches!(error, StateError::Locked { .. });
                    let kind = if is_locked { FailureKind::Locked } else { FailureKind::Refused };
                    Failure::one(kind, error.diagnostic())
                })?)
            }
        };
        let mut session = Session::open(&inventory, Wish::default(), events.clone()).await?;
        session.compare_for_reseed(name).await;
        let result = over(&session, name, args, ui, progress, begun).await;
        session.close().await;
        drop(local);
        result
    })
}

/// Plans over open connections, shows, asks, carries out.
async fn over(
    session: &Session<'_>,
    name: &ServerName,
    args: &ReseedArgs,
    ui: &Ui,
    progress: Progress,
    begun: Instant,
) -> Result<Exit, Failure> {
    progress.finish();
    let topology = &session.inventory.topology;
    let (own, others): (Vec<_>, Vec<_>) =
        session.unreachable.iter().cloned().partition(|why| why.server.as_deref() == Some(name.as_str()));
    // A server that could not be reached says why itself, in better words than its absence.
    if !own.is_empty() {
        return Err(Failure::all(FailureKind::Unreachable, own));
    }
    if !args.dry_run {
        lock::refuse_held(&session.observation, &state_identity(&session.state))?;
    }
    let secrets = session.secrets()?;
    let material = session.material(&secrets)?;
    let request = Request {
        server: name,
        method: args.method.method(),
        accept_divergence: args.accept_divergence,
        now: Timestamp::now(),
    };
    let logins = session.logins();
    let planned = match reseed::plan_reseed(topology, &session.observation, &material, request) {
        Ok(planned) => planned,
        Err(refused) => return Ok(refuse(*refused, others, args.dry_run, topology.name(), &logins, ui)?.kind.into()),
    };
    let Reseed { diagnosis, rungs, method, plan, set_aside } = &planned;
    let plan_view = PlanView { topology: topology.name(), plan: Ok(plan), logins: &logins };
    let view = ReseedView {
        diagnosis: Some(diagnosis),
        rungs,
        method: *method,
        set_aside: set_aside.as_deref(),
        plan: plan_view,
    };
    if args.dry_run {
        ui.answer(|look| render(&view, look), || ReseedPlanDocument::new(&view))?;
        return Ok(exit::DONE);
    }
    ui.diagnostics(&plan.notes);
    let report = if plan.changes() {
        if !ui.options.yes || ui.err.whole {
            ui.explain(&render(&view, ui.err));
        }
        ask::consent(ui, &question(&planned))?;
        session
            .state
            .save_secrets(&secrets)
            .map_err(|error| Failure::one(FailureKind::StepFailed, error.diagnostic()))?;
        let sessions = session.sessions(&secrets)?;
        let state = state_identity(&session.state);
        lock::release_left(&session.hosts, &session.observation, &state, |server| plan.touches(server)).await;
        let progress = Progress::start(ui);
        let events = progress.events();
        let run = Run {
            plan,
            observation: &session.observation,
            hosts: &session.hosts,
            logins: &logins,
            sessions: &sessions,
            state: &session.state,
            holder: lock::Holder {
                run: material.run.clone(),
                operation: OPERATION.to_owned(),
                owner: operator(),
                pid: std::process::id(),
                since: Timestamp::now().to_string(),
                state,
            },
            events: &events,
            begun,
        };
        let mut interrupts = Interrupts::listen()?;
        let report = run.carry_out(async || interrupts.next().await).await;
        drop(events);
        progress.finish();
        report?
    } else {
        RunReport::unchanged(topology.name(), begun.elapsed().as_secs_f64())
    };
    ui.diagnostics(&report.warnings);
    ui.answer(|look| render_done(&report, &view, look), || ReseedDocument::new(&report, &view))?;
    Ok(match &report.failure {
        None => exit::DONE,
        Some(failure) => {
            ui.diagnostics(&failure.diagnostics);
            failure.kind.into()
        }
    })
}

/// Shows what was found out before the refusals: at three in the morning that is what helps.
fn refuse(
    refused_plan: Refused,
    unreachable: Vec<Diagnostic>,
    is_dry_run: bool,
    topology: &crate::model::name::TopologyName,
    logins: &std::collections::BTreeMap<ServerName, crate::model::argv::Login>,
    ui: &Ui,
) -> Result<Failure, Failure> {
    let Refused { diagnosis, rungs, refusals } = refused_plan;
    let mut failure = refused(&refusals);
    let has_no_primary = refusals.iter().any(|refusal| refusal.code == "primary-missing");
    if has_no_primary && unreachable.iter().any(|why| why.severity == Severity::Error) {
        failure.kind = FailureKind::Unreachable;
        failure.diagnostics.extend(unreachable);
    }
    let plan = PlanView { topology, plan: Err(&refusals), logins };
    let view = ReseedView { diagnosis: diagnosis.as_ref(), rungs: &rungs, method: None, set_aside: None, plan };
    if !is_dry_run && ui.options.format == crate::ui::Format::Human {
        ui.explain(&render(&view, ui.err));
        return Err(failure);
    }
    ui.answer(|look| render(&view, look), || ReseedPlanDocument::new(&view))?;
    ui.diagnostics(&failure.diagnostics);
    Ok(failure)
}

fn question(planned: &Reseed) -> Question {
    let server = &planned.diagnosis.server;
    let how = planned.method.map_or("replay", Method::word);
    let change = match &planned.set_aside {
        Some(_) => format!("Re-seed \"{server}\" by {how} and set its old data directory aside"),
        None => format!("Re-seed \"{server}\" by {how}"),
    };
    Question { gravity: Gravity::of(&planned.plan), change }
}

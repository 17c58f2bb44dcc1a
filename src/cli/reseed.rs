//! `reseed`: diagnose, choose, show, ask, bring one server back.

use std::collections::BTreeMap;
use std::time::Instant;

use clap::Args;
use clap::ValueEnum;
use jiff::Timestamp;

use super::block_on;
use super::carry_out::Agreed;
use super::carry_out::carry_out;
use super::carry_out::end;
use super::exit::Exit;
use super::globals::Globals;
use super::inventory;
use super::plan::refused;
use super::session::Session;
use super::session::hold;
use super::session::state_identity;
use super::session::to_plan;
use crate::apply::RunReport;
use crate::apply::lock;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::model::argv::Login;
use crate::model::lost::Lost;
use crate::model::method::Method;
use crate::model::method::Space;
use crate::model::name::ServerName;
use crate::model::observed::Observed;
use crate::model::topology::Topology;
use crate::observe::pairs;
use crate::plan::reseed;
use crate::plan::reseed::Condition;
use crate::plan::reseed::Refused;
use crate::plan::reseed::Request;
use crate::plan::reseed::Reseed;
use crate::plan::reseed::Rung;
use crate::ui::Format;
use crate::ui::Progress;
use crate::ui::Ui;
use crate::ui::ask;
use crate::ui::ask::Gravity;
use crate::ui::ask::Question;
use crate::ui::json::ReseedDocument;
use crate::ui::json::ReseedPlanDocument;
use crate::ui::json::ReseedsDocument;
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
  pgstead reseed b c                      one after the other, upstreams first
  pgstead reseed a --accept-divergence    its own writes are left out; they are set aside
  pgstead reseed b --method basebackup    copy everything anew, whatever else would do
  pgstead reseed a --space reuse --accept-divergence    rewind without room for a copy")]
pub(super) struct ReseedArgs {
    /// The servers; each comes back behind its upstream
    #[arg(required = true, value_name = "SERVER")]
    servers: Vec<String>,
    /// How it is brought back; what is unsafe is refused all the same
    #[arg(long, value_enum, default_value_t = Wanted::Auto)]
    method: Wanted,
    /// Where the room comes from: keep the old data directory beside the new one, or reuse it, after which there is no old one
    #[arg(long, value_enum, default_value_t = Room::Keep)]
    space: Room,
    /// How much a base backup may carry a second, such as 20M; without a letter it is in kB
    #[arg(long, value_name = "RATE", value_parser = max_rate)]
    max_rate: Option<String>,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Room {
    /// The old data directory is set aside whole
    Keep,
    /// The data directory itself is rewound; the WAL that only it has is kept
    Reuse,
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

/// Reads what `pg_basebackup --max-rate` understands: 32 kB to 1 GB a second (manual, pg_basebackup).
fn max_rate(text: &str) -> Result<String, String> {
    let (number, unit) = match text.strip_suffix(['k', 'M']) {
        Some(number) => (number, if text.ends_with('M') { 1024 } else { 1 }),
        None => (text, 1),
    };
    let kilobytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    match kilobytes {
        Some(32..=1_048_576) => Ok(text.to_owned()),
        _ => Err("it is between 32k and 1024M; without a letter it is in kB".to_owned()),
    }
}

pub(super) fn run(globals: &Globals, args: &ReseedArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let mut names: Vec<&ServerName> = Vec::new();
    for word in &args.servers {
        let name = reseed::find(&inventory.topology, word)
            .map_err(|diagnostic| Failure::one(FailureKind::Refused, *diagnostic))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let begun = Instant::now();
    block_on(async {
        let progress = Progress::start(ui);
        let events = progress.events();
        let local = hold(&inventory, OPERATION, args.dry_run)?;
        let mut session = Session::open(&inventory, to_plan(), events.clone()).await?;
        progress.finish();
        let result = one_after_the_other(&mut session, names, args, ui, begun).await;
        session.close().await;
        drop(local);
        tell(&inventory.topology, &result?, args.dry_run, begun, ui)
    })
}

/// What became of one server.
struct Told {
    planned: Result<Reseed, Box<Refused>>,
    lost: Option<Observed<Lost>>,
    rate: Option<u64>,
    logins: BTreeMap<ServerName, Login>,
    /// None where nothing was begun: it was refused, or only to be shown.
    report: Option<RunReport>,
    /// Why it was not brought back.
    failure: Option<Failure>,
}

impl Told {
    fn view<'a>(&'a self, topology: &'a Topology) -> ReseedView<'a> {
        let plan = match &self.planned {
            Ok(planned) => Ok(&planned.plan),
            Err(refused) => Err(refused.refusals.as_slice()),
        };
        let plan = PlanView { topology: topology.name(), plan, logins: &self.logins };
        let (lost, rate) = (self.lost.as_ref(), self.rate);
        match &self.planned {
            Ok(Reseed { diagnosis, rungs, method, set_aside, .. }) => {
                let (diagnosis, set_aside) = (Some(diagnosis), set_aside.as_deref());
                ReseedView { diagnosis, lost, rungs, method: *method, set_aside, rate, plan }
            }
            Err(refused) => {
                let (diagnosis, rungs) = (refused.diagnosis.as_ref(), refused.rungs.as_slice());
                ReseedView { diagnosis, lost, rungs, method: None, set_aside: None, rate, plan }
            }
        }
    }
}

/// Brings the servers back, each behind its upstream, and ends with the first that cannot be.
async fn one_after_the_other(
    session: &mut Session<'_>,
    mut names: Vec<&ServerName>,
    args: &ReseedArgs,
    ui: &Ui,
    begun: Instant,
) -> Result<Vec<Told>, Failure> {
    let mut all: Vec<Told> = Vec::new();
    while !names.is_empty() {
        if !all.is_empty() {
            session.observe(to_plan()).await;
        }
        let name = names.remove(next(session, &names));
        session.look_for_reseed(name).await;
        let told = match one(session, name, args, ui, begun).await {
            Ok(told) => told,
            // What was done before it is told all the same.
            Err(failure) if !all.is_empty() => {
                let refused = Refused { diagnosis: None, rungs: Vec::new(), refusals: failure.diagnostics.clone() };
                let planned = Err(Box::new(refused));
                let (logins, failure) = (session.logins(), Some(failure));
                Told { planned, lost: None, rate: None, logins, report: None, failure }
            }
            Err(failure) => return Err(failure),
        };
        let is_end = told.failure.is_some();
        all.push(told);
        if is_end {
            break;
        }
    }
    Ok(all)
}

/// Returns the place of the first server whose upstream does not wait to be brought back itself.
fn next(session: &Session<'_>, names: &[&ServerName]) -> usize {
    let topology = &session.inventory.topology;
    let primary = session.observation.current_primary(topology).unwrap_or_else(|| topology.preferred_primary());
    let links = topology.links(primary);
    let waits = |name: &ServerName| links.iter().any(|link| link.standby == *name && names.contains(&&link.upstream));
    names.iter().position(|name| !waits(name)).unwrap_or_default()
}

/// Plans for one server over open connections, shows, asks, carries out.
async fn one(
    session: &Session<'_>,
    name: &ServerName,
    args: &ReseedArgs,
    ui: &Ui,
    begun: Instant,
) -> Result<Told, Failure> {
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
    let keys = session.keys()?;
    let material = session.material(&keys)?;
    let mut request = Request {
        server: name,
        method: args.method.method(),
        space: match args.space {
            Room::Keep => Space::Keep,
            Room::Reuse => Space::Reuse,
        },
        accept_divergence: args.accept_divergence,
        rate: None,
        max_rate: args.max_rate.as_deref(),
        now: Timestamp::now(),
    };
    let mut planned = reseed::plan_reseed(topology, &session.observation, &material, request);
    // What takes long is worth half a second more, to know how long, and whether compressing pays.
    let is_decided = matches!(request.method, Some(Method::Replay | Method::Rewind));
    if let Some(from) = worth_measuring(&planned).filter(|_| !is_decided) {
        let (hosts, events) = (&session.hosts, &session.events);
        let rate = pairs::measure_rate(topology, &session.observation, hosts, [&from, name], events).await;
        request.rate = rate.map(|rate| rate as u64);
        planned = reseed::plan_reseed(topology, &session.observation, &material, request);
    }
    let diagnosis = match &planned {
        Ok(planned) => Some(&planned.diagnosis),
        Err(refused) => refused.diagnosis.as_ref(),
    };
    let lost = match diagnosis {
        Some(diagnosis) => session.only_on(diagnosis).await,
        None => None,
    };
    let failure = planned.as_ref().err().map(|refused| refusal(&refused.refusals, others));
    let mut told = Told { planned, lost, rate: request.rate, logins: session.logins(), report: None, failure };
    let (Ok(planned), false) = (&told.planned, args.dry_run) else { return Ok(told) };
    let plan = &planned.plan;
    ui.diagnostics(&plan.notes);
    if !plan.changes() {
        told.report = Some(RunReport::unchanged(topology.name(), begun.elapsed().as_secs_f64()));
        return Ok(told);
    }
    if !ui.options.yes || ui.err.whole {
        ui.explain(&render(&told.view(topology), ui.err));
    }
    ask::consent(ui, &question(planned))?;
    let agreed = Agreed {
        operation: OPERATION,
        run: &material.run,
        plan,
        logins: &told.logins,
        keys: &keys,
        attested: Vec::new(),
        begun,
    };
    let report = carry_out(session, agreed, ui).await?;
    told.failure = report.failure.clone();
    told.report = Some(report);
    Ok(told)
}

/// Returns the end that refusals mean. That nobody is the primary may be due to a server out of reach.
fn refusal(refusals: &[Diagnostic], unreachable: Vec<Diagnostic>) -> Failure {
    let mut failure = refused(refusals);
    if refusals.iter().any(|refusal| refusal.code == "primary-missing") && !unreachable.is_empty() {
        failure.kind = FailureKind::Unreachable;
        failure.diagnostics.extend(unreachable);
    }
    failure
}

/// Tells what became of every server: one document, or a text for each. What was found out about one that was refused is
/// shown as well: at three in the morning that is what helps.
fn tell(topology: &Topology, all: &[Told], is_dry_run: bool, begun: Instant, ui: &Ui) -> Result<Exit, Failure> {
    let views: Vec<ReseedView<'_>> = all.iter().map(|told| told.view(topology)).collect();
    let reports: Vec<Option<&RunReport>> = all.iter().map(|told| told.report.as_ref()).collect();
    let failure = all.iter().find_map(|told| told.failure.as_ref());
    for report in reports.iter().flatten() {
        ui.diagnostics(&report.warnings);
    }
    let text = |look| {
        let one = |(view, report): (&ReseedView<'_>, &Option<&RunReport>)| match report {
            Some(report) => render_done(report, view, look),
            None => render(view, look),
        };
        views.iter().zip(&reports).map(one).collect::<Vec<_>>().join("\n")
    };
    match (views.as_slice(), reports.as_slice()) {
        // A text about a refusal is no result.
        ([view], [None]) if !is_dry_run && ui.options.format == Format::Human => ui.explain(&render(view, ui.err)),
        ([view], [Some(report)]) => _ = ui.answer(text, || ReseedDocument::new(report, view))?,
        ([view], [None]) => _ = ui.answer(text, || ReseedPlanDocument::new(view))?,
        _ => {
            let seconds = begun.elapsed().as_secs_f64();
            _ = ui.answer(text, || ReseedsDocument::new(topology.name(), &views, &reports, failure, seconds))?;
        }
    }
    Ok(end(failure, ui))
}

/// Bytes over the line from which on its rate decides.
const WORTH_MEASURING_BYTES: u64 = 256 << 20;

/// Returns the server from which so much may come that the line is worth being measured.
fn worth_measuring(planned: &Result<Reseed, Box<Refused>>) -> Option<ServerName> {
    let (diagnosis, rungs, method) = match planned {
        Ok(planned) => (Some(&planned.diagnosis), &planned.rungs, planned.method),
        Err(refused) => (refused.diagnosis.as_ref(), &refused.rungs, None),
    };
    let is_long = |rung: &Rung| rung.cost.is_some_and(|cost| cost.transfer_bytes > WORTH_MEASURING_BYTES);
    let is_copied =
        method != Some(Method::Replay) && diagnosis.is_some_and(|one| one.condition != Condition::Streaming);
    (is_copied && rungs.iter().any(is_long)).then(|| diagnosis.map(|diagnosis| diagnosis.upstream.clone())).flatten()
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

//! `reseed`: diagnose, choose, show, ask, bring one server back.

use std::collections::BTreeMap;
use std::time::Instant;

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::exit::Exit;
use super::globals::Globals;
use super::inventory::Inventory;
use super::runner::{Operation, Proposal, Told};
use super::session::{Session, to_plan};
use super::{exit, inventory, runner};
use crate::apply::RunReport;
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::judge;
use crate::judge::State;
use crate::model::lost::Lost;
use crate::model::method::{Method, Space};
use crate::model::name::ServerName;
use crate::model::observed::Observed;
use crate::model::topology::Link;
use crate::observe::pairs;
use crate::plan::Plan;
use crate::plan::operation::reseed;
use crate::plan::operation::reseed::{Condition, Diagnosis, Refused, Request, Reseed, Rung};
use crate::plan::survey::authority::Keys;
use crate::ui::ask::{Gravity, Question};
use crate::ui::json::{ReseedDocument, ReseedPlanDocument, ReseedsDocument};
use crate::ui::plan::PlanView;
use crate::ui::reseed::{ReseedView, render, render_done};
use crate::ui::{Format, Progress, Ui};

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
    /// Recovery method; unsafe choices are still refused
    #[arg(long, value_enum, default_value_t = Wanted::Auto)]
    method: Wanted,
    /// Keep the old data directory beside the new one, or reuse it in place: no copy of it remains
    #[arg(long, value_enum, default_value_t = Room::Keep)]
    space: Room,
    /// How much a base backup may carry a second, such as 20M; without a letter it is in kB
    #[arg(long, value_name = "RATE", value_parser = max_rate)]
    max_rate: Option<String>,
    /// Discard changes that exist only on this server; not implied by --yes
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
    let mut waiting: Vec<Reseeding<'_>> = Vec::new();
    for word in &args.servers {
        let name = inventory.server(word)?;
        if !waiting.iter().any(|one| one.server == name) {
            waiting.push(Reseeding { server: name, args });
        }
    }
    let begun = Instant::now();
    let Some(first) = waiting.first().copied() else { return Ok(exit::DONE) };
    let all = runner::opened(&first, &inventory, ui, async |session: &mut Session<'_>, progress: Progress| {
        progress.finish();
        one_after_the_other(session, waiting, ui, begun).await
    })?;
    tell_all(&inventory, &all, args.dry_run, begun, ui)
}

/// What became of the servers, one after the other.
struct All {
    told: Vec<Told<Found>>,
    /// What ended it at a server of which nothing was found out.
    ended: Option<Failure>,
}

/// One server comes back.
#[derive(Debug, Clone, Copy)]
struct Reseeding<'a> {
    server: &'a ServerName,
    args: &'a ReseedArgs,
}

/// What was found out about a server.
#[derive(Debug, Default)]
struct Found {
    /// None where it could not be looked at.
    diagnosis: Option<Diagnosis>,
    rungs: Vec<Rung>,
    /// How it is brought back; none where that is refused, or nothing has to be done.
    method: Option<Method>,
    set_aside: Option<String>,
    lost: Option<Observed<Lost>>,
    /// Bytes a second over the line, where that was measured.
    rate: Option<u64>,
}

/// Brings the servers back, each behind its upstream, and ends with the first that cannot be.
async fn one_after_the_other(
    session: &mut Session<'_>,
    mut waiting: Vec<Reseeding<'_>>,
    ui: &Ui,
    begun: Instant,
) -> Result<All, Failure> {
    let mut told: Vec<Told<Found>> = Vec::new();
    while !waiting.is_empty() && told.iter().all(|one| one.failure.is_none()) {
        if !told.is_empty() {
            session.observe(to_plan()).await;
        }
        let one = waiting.remove(next(session, &waiting));
        match one.bring_back(session, ui, begun).await {
            Ok(one) => told.push(one),
            // What was done before it is told all the same.
            Err(failure) if !told.is_empty() => return Ok(All { told, ended: Some(failure) }),
            Err(failure) => return Err(failure),
        }
    }
    Ok(All { told, ended: None })
}

/// Returns the place of the first server whose upstream does not wait to be brought back itself.
fn next(session: &Session<'_>, waiting: &[Reseeding<'_>]) -> usize {
    let topology = &session.inventory.topology;
    let primary = judge::primary_or_preferred(topology, &session.observation);
    let links = topology.links(primary);
    let is_listed = |name: &ServerName| waiting.iter().any(|one| one.server == name);
    let waits = |one: &Reseeding<'_>| links.iter().any(|link| link.standby == *one.server && is_listed(&link.upstream));
    waiting.iter().position(|one| !waits(one)).unwrap_or_default()
}

impl Reseeding<'_> {
    /// Plans over open connections, shows, asks, carries out.
    async fn bring_back(&self, session: &mut Session<'_>, ui: &Ui, begun: Instant) -> Result<Told<Found>, Failure> {
        let proposal = runner::propose(self, session).await?;
        runner::carry_out(self, session, proposal, ui, begun).await
    }
}

impl Operation for Reseeding<'_> {
    const NAME: &'static str = "reseed";
    type Facts = Found;

    fn is_dry_run(&self) -> bool {
        self.args.dry_run
    }

    fn require(&self, session: &Session<'_>) -> Result<(), Failure> {
        session.require(self.server.as_str())
    }

    async fn propose(&self, session: &mut Session<'_>, keys: &Keys) -> Result<Proposal<Found>, Failure> {
        session.look_for_reseed(self.server).await;
        let topology = &session.inventory.topology;
        let material = session.material_of_reseed(keys, self.server)?;
        let mut request = Request {
            server: self.server,
            method: self.args.method.method(),
            space: match self.args.space {
                Room::Keep => Space::Keep,
                Room::Reuse => Space::Reuse,
            },
            accept_divergence: self.args.accept_divergence,
            rate: None,
            max_rate: self.args.max_rate.as_deref(),
            now: Timestamp::now(),
        };
        let mut planned = reseed::plan_reseed(topology, &session.observation, &material, request);
        // What takes long is worth half a second more, to know how long, and whether compressing pays.
        let is_decided = matches!(request.method, Some(Method::Replay | Method::Rewind));
        if let Some(from) = worth_measuring(&planned).filter(|_| !is_decided) {
            let (hosts, events) = (&session.hosts, &session.events);
            let rate = pairs::measure_rate(topology, &session.observation, hosts, [&from, self.server], events).await;
            request.rate = rate.map(|rate| rate as u64);
            planned = reseed::plan_reseed(topology, &session.observation, &material, request);
        }
        let (plan, mut found) = match planned {
            Ok(Reseed { diagnosis, rungs, method, set_aside, plan }) => {
                (Ok(plan), Found { diagnosis: Some(diagnosis), rungs, method, set_aside, ..Found::default() })
            }
            Err(refused) => {
                let Refused { diagnosis, rungs, refusals } = *refused;
                (Err(refusal(refusals, &session.unreachable)), Found { diagnosis, rungs, ..Found::default() })
            }
        };
        found.rate = request.rate;
        if let Some(diagnosis) = &found.diagnosis {
            found.lost = session.only_on(diagnosis).await;
        }
        Ok(Proposal { plan, facts: found, run: material.run })
    }

    fn confirms(&self, _: &State<'_>, link: &Link) -> bool {
        link.standby == *self.server
    }

    fn explanation(&self, proposal: &Proposal<Found>, view: &PlanView<'_>, ui: &Ui) -> Option<String> {
        (!ui.options.yes || ui.err.whole).then(|| render(&reseed_view(&proposal.facts, *view), ui.err))
    }

    fn question(&self, plan: &Plan, found: &Found) -> Question {
        let server = self.server;
        let how = found.method.map_or("replay", Method::word);
        let change = match &found.set_aside {
            Some(_) => format!("Re-seed \"{server}\" by {how} and set its old data directory aside"),
            None => format!("Re-seed \"{server}\" by {how}"),
        };
        Question { gravity: Gravity::of(plan), change }
    }
}

fn reseed_view<'a>(found: &'a Found, plan: PlanView<'a>) -> ReseedView<'a> {
    let Found { diagnosis, rungs, method, set_aside, lost, rate } = found;
    ReseedView {
        diagnosis: diagnosis.as_ref(),
        lost: lost.as_ref(),
        rungs,
        method: *method,
        set_aside: set_aside.as_deref(),
        rate: *rate,
        plan,
    }
}

/// Returns the end that refusals mean. That nobody is the primary may be due to a server out of reach.
fn refusal(refusals: Vec<Diagnostic>, unreachable: &[Diagnostic]) -> Failure {
    let is_missing = refusals.iter().any(|refusal| refusal.code == Code::PrimaryMissing);
    let mut failure = runner::refused(refusals);
    if is_missing && !unreachable.is_empty() {
        failure.kind = FailureKind::Unreachable;
        failure.diagnostics.extend(unreachable.iter().cloned());
    }
    failure
}

/// Tells what became of every server: one document, or a text for each. What was found out about one that was refused is
/// shown as well: at three in the morning that is what helps.
fn tell_all(inventory: &Inventory, all: &All, is_dry_run: bool, begun: Instant, ui: &Ui) -> Result<Exit, Failure> {
    let topology = inventory.topology.name();
    let (nothing, nobody) = (Found::default(), BTreeMap::new());
    let mut views: Vec<ReseedView<'_>> =
        all.told.iter().map(|told| reseed_view(told.facts(), told.view(inventory))).collect();
    let mut reports: Vec<Option<&RunReport>> = all.told.iter().map(|told| told.report.as_ref()).collect();
    if let Some(failure) = &all.ended {
        let plan = PlanView { topology, plan: Err(&failure.diagnostics), logins: &nobody };
        views.push(reseed_view(&nothing, plan));
        reports.push(None);
    }
    let failure = all.ended.as_ref().or_else(|| all.told.iter().find_map(|told| told.failure.as_ref()));
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
            _ = ui.answer(text, || ReseedsDocument::new(topology, &views, &reports, failure, seconds))?;
        }
    }
    Ok(failure.map_or(exit::DONE, |failure| {
        ui.diagnostics(&failure.diagnostics);
        failure.kind.into()
    }))
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

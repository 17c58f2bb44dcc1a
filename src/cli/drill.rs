//! `drill`: rehearses with the ordinary commands, measures as a client sees it, and writes evidence.
//!
//! Each stage is pgstead itself, started as an operator would: what is rehearsed is what is done in earnest.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::Child;

use super::exit::Exit;
use super::globals::Globals;
use super::interrupts::Interrupts;
use super::runner::{At, Done, Next, Outcome, Task};
use super::session::Session;
use super::{inventory, runner};
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::drill::evidence::StageRecord;
use crate::drill::{Act, Evidence, Fault, Kind, Stage, evidence, measure, schedule};
use crate::judge::{Role, ServerState};
use crate::model::name::ServerName;
use crate::model::quantity::count;
use crate::model::topology::Purpose;
use crate::observe::probe::Wish;
use crate::plan::steps::faults;
use crate::remote::Host;
use crate::render::drill::report;
use crate::state::journal::operator;
use crate::ui::Ui;
use crate::ui::ask::{Gravity, Question};
use crate::ui::drill::Files;
use crate::ui::json::{DrillDocument, DrillPlan};
use crate::wait::Look;
use crate::{judge, prove, ui, wait};

/// How many writes of the client go before the first stage, and come after the last one.
const LEAD: usize = 25;
/// How long these may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Rehearse a change of the primary or a loss, measure it, and write evidence
///
/// A client writes all the time, while pgstead runs its own commands one after the other: there, and back again. What is
/// measured is what that client saw, against the objectives in the inventory. The record (JSON) and a report (HTML, one file
/// that needs nothing else) are for whoever has to prove that this was rehearsed. "failover" kills an instance and "reseed"
/// takes a control file away: they need an inventory with purpose lab. "switchover" and "restore-of-role" may be rehearsed in
/// production: clients are interrupted twice, for as long as a switchover takes.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead drill switchover                       there and back, in a lab
  pgstead drill switchover --in-production       the same where users are
  pgstead drill failover --server b              kill the primary's instance, promote b, come back
  pgstead drill reseed --server c -o evidence    break c, bring it back; keep the evidence in evidence/
  pgstead drill restore-of-role                  bring the role back to the preferred primary
  pgstead drill failover --dry-run               show the stages")]
pub(super) struct DrillArgs {
    /// What is rehearsed
    kind: Wanted,
    /// The standby that takes part [default: the first that follows the primary]
    #[arg(long, value_name = "SERVER")]
    server: Option<String>,
    /// Rehearse where the inventory's purpose is production; --yes does not cover it
    #[arg(long)]
    in_production: bool,
    /// Write the evidence into DIR [default: drills/ in the topology's state directory]
    #[arg(short = 'o', long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Show the stages, and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// A planned change of the primary, there and back
    Switchover,
    /// Kill the primary's instance, promote a standby, bring the former primary back
    Failover,
    /// Take a standby's control file away, and bring it back
    Reseed,
    /// Bring the role of the primary back to the server that should have it
    RestoreOfRole,
}

impl Wanted {
    fn kind(self) -> Kind {
        match self {
            Wanted::Switchover => Kind::Switchover,
            Wanted::Failover => Kind::Failover,
            Wanted::Reseed => Kind::Reseed,
            Wanted::RestoreOfRole => Kind::RestoreOfRole,
        }
    }
}

pub(super) fn run(globals: &Globals, args: &DrillArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let server = args.server.as_deref().map(|word| inventory.server(word)).transpose()?;
    let rehearsal = Rehearsal { globals, args, server };
    let kind = args.kind.kind();
    let tell = |outcome: &Outcome<Vec<Stage>, Rehearsed>| match &outcome.report {
        None => {
            let stages = &outcome.proposal;
            ui.answer(|look| ui::drill::render_stages(kind, stages, look), || DrillPlan::new(kind, stages)).map(drop)
        }
        Some(Rehearsed { evidence, files }) => {
            ui.answer(|look| ui::drill::render(evidence, files, look), || DrillDocument::new(evidence, files)).map(drop)
        }
    };
    Ok(runner::perform(&rehearsal, &inventory, ui, tell)?.exit())
}

/// A drill, and the standby that takes part where one is named.
struct Rehearsal<'a> {
    globals: &'a Globals,
    args: &'a DrillArgs,
    server: Option<&'a ServerName>,
}

/// What was seen, and where it is kept.
struct Rehearsed {
    evidence: Evidence,
    files: Files,
}

impl Task for Rehearsal<'_> {
    const NAME: &'static str = "drill";
    type Proposal = Vec<Stage>;
    type Report = Rehearsed;

    fn is_dry_run(&self) -> bool {
        self.args.dry_run
    }

    /// Each stage is a run of its own, which needs the state directory.
    fn keeps_state(&self) -> bool {
        false
    }

    async fn propose(&self, session: &mut Session<'_>) -> Result<Vec<Stage>, Failure> {
        let topology = &session.inventory.topology;
        let refuse = |diagnostic| Failure::one(FailureKind::Refused, diagnostic);
        let primary = judge::primary(topology, &session.observation).ok_or_else(|| {
            refuse(
                Diagnostic::error(Code::PrimaryMissing, "there is no single primary to begin with")
                    .hint("Find out what is wrong first: pgstead check."),
            )
        })?;
        schedule(topology, self.args.kind.kind(), primary, self.server).map_err(|diagnostic| refuse(*diagnostic))
    }

    async fn next(
        &self,
        stages: &Vec<Stage>,
        session: &Session<'_>,
        ui: &Ui,
        _: Instant,
    ) -> Result<Next<Rehearsed>, Failure> {
        if self.args.dry_run {
            return Ok(Next::Tell(None));
        }
        let kind = self.args.kind.kind();
        if session.inventory.topology.common().purpose == Purpose::Production && !self.args.in_production {
            let message = format!("a drill of {} interrupts the clients of a production topology", kind.word());
            return Err(Failure::one(
                FailureKind::Refused,
                Diagnostic::error(Code::DrillInProduction, message)
                    .detail("They cannot write for as long as a switchover takes, twice; sessions are ended.")
                    .hint(
                        "When they can bear that, add --in-production. A lab says so in its inventory: purpose: lab.",
                    ),
            ));
        }
        if !ui.options.yes {
            ui.explain(&ui::drill::render_stages(kind, stages, ui.err));
        }
        Ok(Next::Ask(Question { gravity: Gravity::Disruptive, change: format!("Rehearse {}", kind.word()) }))
    }

    async fn carry_out(
        &self,
        stages: &Vec<Stage>,
        session: &mut Session<'_>,
        at: At<'_>,
    ) -> Result<Done<Rehearsed>, Failure> {
        let output = self.args.output.clone().unwrap_or_else(|| session.state.path().join("drills"));
        make(&output)?;
        let evidence = rehearse(session, self.args.kind.kind(), stages, self.globals, at).await?;
        let files = keep(&output, &evidence)?;
        let failure = end_of(&evidence, stages).map(|kind| Failure::all(kind, Vec::new()));
        Ok(Done { report: Rehearsed { evidence, files }, warnings: Vec::new(), failure })
    }
}

/// A stage that failed is one; objectives that were missed, and links that are not proven, are unhealthy.
fn end_of(evidence: &Evidence, stages: &[Stage]) -> Option<FailureKind> {
    let mut played = evidence.stages.iter().zip(stages);
    let has_failed = played.any(|(record, stage)| !record.is_done() && !stage.looks_only());
    match (evidence.verdict.passed, has_failed) {
        (true, _) => None,
        (false, true) => Some(FailureKind::StepFailed),
        (false, false) => Some(FailureKind::Unhealthy),
    }
}

/// Carries the stages out while a client writes, and puts the record together.
async fn rehearse(
    session: &mut Session<'_>,
    kind: Kind,
    stages: &[Stage],
    globals: &Globals,
    at: At<'_>,
) -> Result<Evidence, Failure> {
    let topology = &session.inventory.topology;
    let keys = session.keys()?;
    let names: Vec<ServerName> = topology.servers().map(|server| server.name.clone()).collect();
    let (started, begun) = (Timestamp::now(), Instant::now());
    let (records, writes) = {
        let sessions = session.sessions(&keys)?;
        let (ended, n_written) = (Cell::new(false), Cell::new(0));
        let client = prove::write_all_the_time(&sessions, &names, begun, &n_written, || ended.get());
        let staged = async {
            let result = carry_out(session, stages, globals, at, begun, &n_written).await;
            ended.set(true);
            result
        };
        let (writes, records) = tokio::join!(client, staged);
        (records?, writes)
    };
    let end_ms = begun.elapsed().as_secs_f64() * 1000.0;
    let servers = topology.servers().map(|server| line(session, server)).collect();
    session.observe(Wish::default()).await;
    let primary = judge::primary(topology, &session.observation).cloned();
    let sessions = session.sessions(&keys)?;
    let lost = match &primary {
        Some(primary) => prove::missing(&sessions, primary, &writes).await,
        None => Err("no single server accepts writes".to_owned()),
    };
    let window = window(kind, stages, &records, end_ms);
    let objectives = topology.common().objectives;
    let measured = measure::measure(&writes, lost.as_ref().unwrap_or(&Default::default()), window);
    let mut verdict = evidence::judge(&records, stages.len(), &measured, objectives);
    if let Err(why) = lost {
        verdict.passed = false;
        verdict.reasons.push(format!("Whether acknowledged writes are lost is not known: {why}."));
    }
    Ok(Evidence {
        version: evidence::VERSION,
        pgstead: env!("CARGO_PKG_VERSION").to_owned(),
        drill: kind,
        topology: topology.name().clone(),
        purpose: topology.common().purpose,
        operator: operator(),
        started,
        seconds: end_ms / 1000.0,
        servers,
        objectives,
        stages: records,
        acknowledged_writes: writes.len(),
        periods: measure::periods(&writes),
        pauses: measure::pauses(&writes, end_ms),
        measured,
        verdict,
    })
}

fn line(session: &Session<'_>, server: &crate::model::topology::Server) -> evidence::Server {
    let seen = session.observation.server(&server.name);
    evidence::Server {
        name: server.name.clone(),
        site: server.site.to_string(),
        address: server.address.to_string(),
        role: match seen.map(|seen| ServerState::of_seen(seen).role) {
            Some(Role::Primary(_)) => Some("primary"),
            Some(Role::Standby(_)) => Some("standby"),
            _ => None,
        },
        postgres: seen.and_then(|seen| seen.version.known()).map(ToString::to_string),
    }
}

/// Carries the stages out, and ends with the first that fails.
async fn carry_out(
    session: &Session<'_>,
    stages: &[Stage],
    globals: &Globals,
    at: At<'_>,
    begun: Instant,
    n_written: &Cell<usize>,
) -> Result<Vec<StageRecord>, Failure> {
    let now = || begun.elapsed().as_secs_f64() * 1000.0;
    writes_on(n_written).await.map_err(|seen| {
        let message = "a client cannot write to the canary table";
        let hint = "See why: pgstead check. \"pgstead bootstrap\" makes the table where it is missing.";
        let diagnostic = Diagnostic::error(Code::DrillCannotWrite, message).detail(seen).hint(hint);
        Failure::one(FailureKind::Refused, diagnostic)
    })?;
    let mut records: Vec<StageRecord> = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        at.ui.status(&format!("Stage {} of {}: {}", index + 1, stages.len(), stage.title));
        let from_ms = now();
        let (command, exit_code, answer) = match &stage.act {
            Act::Command(words) => {
                let (exit_code, answer) = run_command(words, globals, at.interrupts).await?;
                (Some(["pgstead ", &words.join(" ")].concat()), exit_code, answer)
            }
            Act::Fault(fault) => {
                let broken = break_it(session, fault).await;
                let answer = broken.as_ref().err().map_or(Value::Null, |why| Value::String(why.clone()));
                (None, Some(i32::from(broken.is_err())), answer)
            }
        };
        let fault = matches!(stage.act, Act::Fault(_));
        let (title, measured) = (stage.title.clone(), stage.measured);
        records.push(StageRecord { title, command, measured, fault, from_ms, to_ms: now(), exit_code, answer });
        if exit_code != Some(0) {
            break;
        }
    }
    // Where nobody can write any more, that is what was measured.
    let _ = writes_on(n_written).await;
    Ok(records)
}

/// Waits until the client has written some more.
async fn writes_on(n_written: &Cell<usize>) -> Result<(), String> {
    let wanted = n_written.get() + LEAD;
    let look = async || match n_written.get() {
        enough if enough >= wanted => Look::Ready(()),
        n_written => {
            Look::NotYet(format!("{} acknowledged within {} s.", count(n_written, "write"), PATIENCE.as_secs()))
        }
    };
    wait::until(PATIENCE, wait::LOOK_AGAIN, look).await
}

/// Runs pgstead, and returns how it ended and what it answered.
async fn run_command(
    words: &[String],
    globals: &Globals,
    interrupts: &mut Interrupts,
) -> Result<(Option<i32>, Value), Failure> {
    let failed = |error: std::io::Error| {
        let diagnostic =
            Diagnostic::error(Code::DrillCommand, "could not run pgstead itself").detail(format!("{error}."));
        Failure::one(FailureKind::StepFailed, diagnostic)
    };
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = tokio::process::Command::new(program);
    command.args(words).args(["--yes", "--format", "json", "--inventory"]).arg(globals.inventory_path());
    if let Some(state) = &globals.state {
        command.arg("--state").arg(state);
    }
    if globals.quiet {
        command.arg("--quiet");
    }
    // A group of its own: Ctrl-C comes here, and is passed on once for each time.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let child = command.spawn().map_err(failed)?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let ended = Child::wait_with_output(child);
    tokio::pin!(ended);
    let output = loop {
        tokio::select! {
            output = &mut ended => break output.map_err(failed)?,
            () = interrupts.next() => {
                if let Some(pid) = pid {
                    // That it has just ended shows in a moment.
                    let _ = kill_process(pid, Signal::INT);
                }
            }
        }
    };
    let answer = serde_json::from_slice(&output.stdout);
    let answer = answer.unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&output.stdout).into_owned()));
    Ok((output.status.code(), answer))
}

async fn break_it(session: &Session<'_>, fault: &Fault) -> Result<(), String> {
    let name = faults::struck(fault);
    let (host, seen) = match (session.hosts.get(name), session.observation.server(name)) {
        (Some(Ok(host)), Some(seen)) => (host, seen),
        _ => return Err(format!("server \"{name}\" cannot be reached")),
    };
    let layout = seen.layout.known().ok_or("where its instance is, is not known")?;
    host.run(&[faults::command(fault, layout)], &seen.login).await.map(drop).map_err(|error| error.to_string())
}

/// What is measured goes from the measured stage to the next change of the primary, or to the last look at the links.
fn window(kind: Kind, stages: &[Stage], records: &[StageRecord], end_ms: f64) -> measure::Window {
    let from = stages.iter().position(|stage| stage.measured).unwrap_or_default();
    let is_next = |stage: &Stage| match &stage.act {
        Act::Command(words) => words.first().is_some_and(|word| word == "switchover") || stage.looks_only(),
        Act::Fault(_) => false,
    };
    let next = stages.iter().skip(from + 1).position(is_next).map_or(stages.len(), |index| from + 1 + index);
    let mended = next.checked_sub(1).and_then(|last| records.get(last)).filter(|record| record.is_done());
    measure::Window {
        from_ms: records.get(from).map_or(end_ms, |record| record.from_ms),
        mended_ms: mended.map(|record| record.to_ms),
        to_ms: records.get(next).map_or(end_ms, |record| record.from_ms),
        changes_primary: kind != Kind::Reseed,
    }
}

/// Makes the directory of the evidence before anything is begun: a full disk or a wrong name is told now.
fn make(directory: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(directory).and_then(|()| tempfile::tempfile_in(directory).map(drop)).map_err(|error| {
        let message = format!("could not write into \"{}\"", directory.display());
        let diagnostic = Diagnostic::error(Code::DrillOutput, message).detail(format!("{error}."));
        Failure::one(FailureKind::Refused, diagnostic.hint("Name another directory with -o."))
    })
}

/// Writes record and report.
fn keep(directory: &Path, evidence: &Evidence) -> Result<Files, Failure> {
    let record = ui::json::text(evidence)?;
    let page = report(evidence, &record).map_err(|error| {
        let detail = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        Failure::one(FailureKind::Bug, Diagnostic::error(Code::Template, error.to_string()).detail(detail))
    })?;
    let stem = format!("{}-{}", evidence.started.strftime("%Y%m%dT%H%M%SZ"), evidence.drill.word());
    let write = |extension: &str, text: &str| {
        let path = directory.join([&stem, extension].concat());
        std::fs::write(&path, text).map(|()| path.clone()).map_err(|error| {
            let message = format!("could not write \"{}\"", path.display());
            Failure::one(
                FailureKind::StepFailed,
                Diagnostic::error(Code::DrillOutput, message).detail(format!("{error}.")),
            )
        })
    };
    Ok(Files { record: write(".json", &record)?, report: write(".html", &page)? })
}

//! `history`: what was done, when, by whom, with what result. It reads the journal of this machine, and on wish the servers'.

use std::collections::BTreeMap;

use clap::Args;
use futures_util::future::join_all;
use jiff::tz::TimeZone;

use super::exit::Exit;
use super::globals::Globals;
use super::inventory::Inventory;
use super::session::Session;
use super::{block_on, exit, inventory};
use crate::apply::lock::{Locked, Standing};
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::event::Events;
use crate::model::name::ServerName;
use crate::observe::probe::Wish;
use crate::state::journal::Journal;
use crate::state::past::RunSummary;
use crate::state::{StateDir, journal, past};
use crate::ui::history::History;
use crate::ui::json::Versioned;
use crate::ui::{Ui, history};

/// Show what was done, when, by whom, with what result
///
/// Reads the journal of this machine. With --servers it reads the audit logs of all servers as well: what others did from
/// their machines, and what this one did before its state directory was lost. A run that was killed did not end; the step
/// that had begun is named.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead history
  pgstead history --servers                  also ask the servers
  pgstead history --format json | jq '.runs[-1]'")]
pub(super) struct HistoryArgs {
    /// Read the audit logs of all servers as well
    #[arg(long)]
    servers: bool,
}

pub(super) fn run(globals: &Globals, args: &HistoryArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let state = StateDir::at(&inventory.state_dir);
    let local = state.read_journal().map_err(|error| Failure::one(FailureKind::Unknown, error.diagnostic()))?;
    let asked = match args.servers {
        true => Some(block_on(ask(&inventory))?),
        false => None,
    };
    let journals = asked.iter().flat_map(|asked| &asked.journals).map(|(name, journal)| (Some(name), journal));
    let runs = past::merge([(None, &local)].into_iter().chain(journals));
    let holder = state.lock_holder().ok().flatten();
    let is_running = |run: &RunSummary| match &asked {
        Some(asked) if asked.living.contains(&run.run) => true,
        // The lock of this machine names no run: it is the last one, if that began under it.
        _ => {
            let last = local.runs().pop().is_some_and(|last| last.run == run.run);
            last && holder.as_ref().is_some_and(|holder| holder.since <= run.started)
        }
    };
    let runs = runs.into_iter().map(|run| {
        let running = run.result.is_none() && is_running(&run);
        shown(run, running, args.servers)
    });
    let history = History { topology: inventory.topology.name().clone(), runs: runs.collect() };
    ui.answer(|look| history::render(&history, &TimeZone::system(), look), || Versioned::new(&history))?;
    let Some(asked) = asked.filter(|asked| !asked.failures.is_empty()) else { return Ok(exit::DONE) };
    ui.diagnostics(&asked.failures);
    Ok(exit::UNREACHABLE)
}

/// What the servers said.
struct Asked {
    journals: BTreeMap<ServerName, Journal>,
    /// The runs whose leases live.
    living: Vec<String>,
    /// Why some did not say anything.
    failures: Vec<Diagnostic>,
}

async fn ask(inventory: &Inventory) -> Result<Asked, Failure> {
    let session = Session::open(inventory, Wish::default(), Events::silent()).await?;
    let answers = session.hosts.iter().map(async |(name, host)| {
        // One that was not reached is among those that the session names.
        let Ok(host) = host else { return None };
        let unseen = || {
            Diagnostic::error(Code::NoHistory, format!("server \"{name}\": its audit log could not be read"))
                .server(name)
        };
        let Some(seen) = session.observation.server(name) else {
            return Some((name, Err(unseen().detail("The server could not be looked at."))));
        };
        let Some(layout) = seen.layout.known() else {
            return Some((
                name,
                Err(unseen().detail("PostgreSQL was not found there, and with it not where pgstead keeps its files.")),
            ));
        };
        let read = Locked { host, layout, seen }.read_audit().await;
        Some((name, read.map_err(|error| error.diagnostic())))
    });
    let answers: Vec<_> = join_all(answers).await.into_iter().flatten().collect();
    let mut asked = Asked { journals: BTreeMap::new(), living: Vec::new(), failures: session.unreachable.clone() };
    for (name, answer) in answers {
        match answer {
            Ok(bytes) => {
                asked.journals.insert(name.clone(), Journal::parse(&bytes));
            }
            Err(diagnostic) => asked.failures.push(diagnostic),
        }
    }
    let locks = session.observation.servers.values().filter_map(|seen| Standing::of(seen.known()?));
    asked.living = locks.filter(Standing::is_living).filter_map(|lock| lock.run).collect();
    session.close().await;
    Ok(asked)
}

fn shown(run: RunSummary, running: bool, with_servers: bool) -> history::Run {
    let skipped = run.skipped.iter().map(|(code, reason)| format!("skipped {code}: {reason}"));
    let attested = run.attested.iter().map(|(server, reason)| format!("{server} was said to be off: {reason}"));
    let said: Vec<String> = run.message.into_iter().chain(attested).chain(skipped).chain(run.locks).collect();
    history::Run {
        id: run.run,
        started: run.started,
        seconds: run.seconds,
        who: run.operator,
        command: run.operation,
        result: run.result.map(|result| match result {
            journal::RunResult::Done => history::RunResult::Done,
            journal::RunResult::NoChanges => history::RunResult::NoChanges,
            journal::RunResult::Refused => history::RunResult::Refused,
            journal::RunResult::Failed => history::RunResult::Failed,
            journal::RunResult::Stopped => history::RunResult::Stopped,
        }),
        running,
        steps: run.steps_done,
        unfinished: run.unfinished,
        servers: with_servers.then(|| run.servers.iter().map(ToString::to_string).collect()),
        message: (!said.is_empty()).then(|| said.join("; ")),
    }
}

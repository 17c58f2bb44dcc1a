//! `history`: what was done, when, by whom, with what result. It reads the journal of this machine and no server.

use clap::Args;
use jiff::tz::TimeZone;

use super::exit;
use super::exit::Exit;
use super::globals::Globals;
use super::inventory;
use super::inventory::Inventory;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::state::StateDir;
use crate::state::journal;
use crate::ui::Ui;
use crate::ui::history;
use crate::ui::history::History;
use crate::ui::json::Versioned;

/// Show what was done, when, by whom, with what result
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead history
  pgstead history --format json | jq '.runs[-1]'")]
pub(super) struct HistoryArgs {}

pub(super) fn run(globals: &Globals, _args: &HistoryArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let history = read(&inventory)?;
    ui.answer(|look| history::render(&history, &TimeZone::system(), look), || Versioned::new(&history))?;
    Ok(exit::DONE)
}

/// A journal that is not there is an empty one.
fn read(inventory: &Inventory) -> Result<History, Failure> {
    let journal = StateDir::at(&inventory.state_dir)
        .read_journal()
        .map_err(|error| Failure::one(FailureKind::Unknown, error.diagnostic()))?;
    let runs = journal.runs().into_iter().map(|run| history::Run {
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
        steps: run.steps_done,
        message: match run.skipped.as_slice() {
            [] => run.message,
            skipped => {
                let skipped = skipped.iter().map(|(code, reason)| format!("skipped {code}: {reason}"));
                Some(run.message.into_iter().chain(skipped).collect::<Vec<_>>().join("; "))
            }
        },
    });
    Ok(History { topology: inventory.topology.name().clone(), runs: runs.collect() })
}

//! `history`: what was done, when, by whom, with what result. It reads the journal of this machine and no server.

use clap::Args;
use jiff::tz::TimeZone;

use super::exit;
use super::exit::Exit;
use super::globals::Globals;
use super::inventory;
use super::inventory::Inventory;
use super::not_wired;
use crate::diagnostic::Failure;
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

// SEAM: the journal under `inventory.state_dir`; a journal that is not there is an empty one.
fn read(_inventory: &Inventory) -> Result<History, Failure> {
    not_wired("the journal")
}

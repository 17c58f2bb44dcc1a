//! `validate`: the inventory alone, offline.

use clap::Args;

use super::exit::Exit;
use super::globals::Globals;
use super::{exit, inventory};
use crate::diagnostic::Failure;
use crate::ui::json::ValidateDocument;
use crate::ui::{Ui, validate};

/// Check the inventory, offline
///
/// Every problem is reported at once, with its line and column. No server is contacted.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead validate                          check pgstead.yaml
  pgstead -i lab.yaml --format json validate")]
pub(super) struct ValidateArgs {}

pub(super) fn run(globals: &Globals, _args: &ValidateArgs, ui: &Ui) -> Result<Exit, Failure> {
    let (inventory, warnings) = inventory::load_with_warnings(globals)?;
    ui.diagnostics(&warnings);
    ui.answer(
        |look| validate::render(&inventory.topology, &inventory.path.display().to_string(), look),
        || ValidateDocument::new(&inventory.topology, &warnings),
    )?;
    Ok(exit::DONE)
}

//! Reads the inventory for the commands: warnings go to the screen, problems end the run, all at once.

use std::path::Path;
use std::path::PathBuf;

use super::globals::Globals;
use super::not_wired;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Failure;
use crate::model::topology::Topology;
use crate::ui::Ui;

/// An inventory that was read.
#[derive(Debug)]
pub(super) struct Inventory {
    /// Where it is.
    pub(super) path: PathBuf,
    /// What it describes.
    pub(super) topology: Topology,
    /// The directory of the topology's state on this machine.
    #[expect(dead_code, reason = "the journal, the keys and the lock are not wired yet")]
    pub(super) state_dir: PathBuf,
}

/// Reads the inventory and shows its warnings.
pub(super) fn load(globals: &Globals, ui: &Ui) -> Result<Inventory, Failure> {
    let (inventory, warnings) = load_with_warnings(globals)?;
    ui.diagnostics(&warnings);
    Ok(inventory)
}

/// Reads the inventory and returns its warnings.
pub(super) fn load_with_warnings(globals: &Globals) -> Result<(Inventory, Vec<Diagnostic>), Failure> {
    let (path, text) = globals.inventory_text()?;
    let (topology, warnings) = read(&text, &path)?;
    let state_dir = globals.state_dir(&path, topology.name());
    Ok((Inventory { path, topology, state_dir }, warnings))
}

// SEAM: `crate::inventory::read(text, &path.display().to_string())`, its `Err` as
// `Failure::all(FailureKind::Inventory, …)`.
fn read(_text: &str, _path: &Path) -> Result<(Topology, Vec<Diagnostic>), Failure> {
    not_wired("reading an inventory")
}

//! Reads the inventory for the commands: warnings go to the screen, problems end the run, all at once.

use std::path::{Path, PathBuf};

use super::globals::Globals;
use crate::diagnostic::{Diagnostic, Failure, FailureKind};
use crate::inventory::Places;
use crate::model::name::ServerName;
use crate::model::topology::Topology;
use crate::plan::operation::reseed;
use crate::ui::Ui;

/// An inventory that was read.
#[derive(Debug)]
pub(super) struct Inventory {
    /// Where it is.
    pub(super) path: PathBuf,
    /// What it describes.
    pub(super) topology: Topology,
    /// The directory of the topology's state on this machine.
    pub(super) state_dir: PathBuf,
}

impl Inventory {
    /// Returns the server that an operator names.
    pub(super) fn server(&self, word: &str) -> Result<&ServerName, Failure> {
        reseed::find(&self.topology, word).map_err(|diagnostic| Failure::one(FailureKind::Refused, *diagnostic))
    }
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

fn read(text: &str, path: &Path) -> Result<(Topology, Vec<Diagnostic>), Failure> {
    let base = path.parent().map(|parent| std::path::absolute(parent).unwrap_or_else(|_| parent.to_owned()));
    let here = std::env::current_dir().unwrap_or_default();
    let base = base.filter(|base| !base.as_os_str().is_empty()).unwrap_or(here);
    let places = Places { base, home: std::env::var_os("HOME").map(PathBuf::from) };
    crate::inventory::read_at(text, &path.display().to_string(), &places)
        .map_err(|problems| Failure::all(FailureKind::Inventory, problems))
}

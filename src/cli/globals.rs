//! The options that every command has, and what follows from them. It opens no inventory.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::model::name::TopologyName;
use crate::ui::{Format, Options, Verbosity};

/// The inventory that is meant when none is named.
pub const DEFAULT_INVENTORY: &str = "pgstead.yaml";
/// The variable that names an inventory.
pub const INVENTORY_VARIABLE: &str = "PGSTEAD_INVENTORY";
/// The directory of state beside an inventory.
pub const STATE_DIRECTORY: &str = ".pgstead";

/// The options that every command has; they may stand before or after the command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Read the inventory FILE [default: pgstead.yaml, then $PGSTEAD_INVENTORY]
    #[arg(short = 'i', long, global = true, value_name = "FILE")]
    pub inventory: Option<PathBuf>,
    /// Keep certificates, passwords and the journal under DIR [default: .pgstead beside the inventory]
    #[arg(long, global = true, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Write the result as text, as exactly one JSON document, or (check alone) as a monitoring plugin's line
    #[arg(long, global = true, value_name = "FORMAT", default_value = "human", hide_default_value = true, value_parser = format_parser())]
    pub format: Format,
    /// Confirm the change beforehand; restarts and losses keep their own options
    #[arg(long, global = true)]
    pub yes: bool,
    /// Show every round trip with its commands, and every line of scripts and certificates
    #[arg(short = 'v', long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Show warnings and errors alone
    #[arg(short = 'q', long, global = true)]
    pub quiet: bool,
}

fn format_parser() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(["human", "json", "nagios"]).map(|word| match word.as_str() {
        "json" => Format::Json,
        "nagios" => Format::Nagios,
        _ => Format::Human,
    })
}

impl Globals {
    /// Returns what the command line says about output.
    pub fn options(&self) -> Options {
        let verbosity = match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, _) => Verbosity::Verbose,
        };
        Options { format: self.format, verbosity, yes: self.yes }
    }

    /// Returns the inventory's path: the option, else `pgstead.yaml` where it is, else the variable.
    pub fn inventory_path(&self) -> PathBuf {
        let variable = std::env::var_os(INVENTORY_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        choose_inventory(self.inventory.clone(), Path::new(DEFAULT_INVENTORY).exists(), variable)
    }

    /// Reads the inventory's text.
    ///
    /// # Errors
    /// Inventory, when the file is not there or cannot be read.
    pub fn inventory_text(&self) -> Result<(PathBuf, String), Failure> {
        let path = self.inventory_path();
        let text = std::fs::read_to_string(&path).map_err(|error| {
            let shown = path.display();
            let diagnostic =
                Diagnostic::error(Code::InventoryUnreadable, format!("could not read inventory \"{shown}\""))
                    .detail(format!("{error}."));
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let diagnostic = match missing {
                true => diagnostic.hint("Name it with -i FILE, or write a first one with \"pgstead init\"."),
                false => diagnostic,
            };
            Failure::one(FailureKind::Inventory, diagnostic)
        })?;
        Ok((path, text))
    }

    /// Returns the directory of a topology's state: `.pgstead/TOPOLOGY` beside the inventory, or `TOPOLOGY` under `--state`.
    pub fn state_dir(&self, inventory: &Path, topology: &TopologyName) -> PathBuf {
        let root = match &self.state {
            Some(root) => root.clone(),
            None => inventory.parent().unwrap_or(Path::new("")).join(STATE_DIRECTORY),
        };
        root.join(topology.as_str())
    }
}

fn choose_inventory(option: Option<PathBuf>, default_exists: bool, variable: Option<PathBuf>) -> PathBuf {
    match (option, default_exists, variable) {
        (Some(path), _, _) => path,
        (None, false, Some(path)) => path,
        (None, _, _) => PathBuf::from(DEFAULT_INVENTORY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inventory_is_chosen_in_the_documented_order() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(choose_inventory(path("x"), true, path("y")), Path::new("x"));
        assert_eq!(choose_inventory(None, true, path("y")), Path::new("pgstead.yaml"));
        assert_eq!(choose_inventory(None, false, path("y")), Path::new("y"));
        assert_eq!(choose_inventory(None, false, None), Path::new("pgstead.yaml"));
    }
}

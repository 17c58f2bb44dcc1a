//! `init`: writes a first inventory, or the JSON Schema of inventories. It never overwrites a file.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::exit;
use super::exit::Exit;
use super::globals::{DEFAULT_INVENTORY, Globals};
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::inventory::init;
use crate::inventory::schema::json_schema;
use crate::ui::Ui;
use crate::ui::json::Versioned;

/// Write an annotated inventory
///
/// Without --from it holds three servers on three sites as an example. With --from it holds the servers of an older
/// `disaster_recovery:` file. An existing file is never overwritten.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead init                              write pgstead.yaml
  pgstead init --from old.yaml -o dr.yaml   take the servers of an older file
  pgstead init -o -                         write to standard output
  pgstead init --schema > pgstead.schema.json")]
pub(super) struct InitArgs {
    /// Take the servers of the older form in FILE
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Write to FILE; "-" is standard output
    #[arg(short = 'o', long, value_name = "FILE", default_value = DEFAULT_INVENTORY)]
    output: PathBuf,
    /// Print the JSON Schema of inventories instead, for editors
    #[arg(long, conflicts_with_all = ["from", "output"])]
    schema: bool,
}

#[derive(Debug, Serialize)]
struct Schema {
    schema: serde_json::Value,
}

#[derive(Debug, Serialize)]
struct Text<'a> {
    inventory: &'a str,
}

#[derive(Debug, Serialize)]
struct Written {
    path: PathBuf,
}

pub(super) fn run(_globals: &Globals, args: &InitArgs, ui: &Ui) -> Result<Exit, Failure> {
    if args.schema {
        let schema = json_schema();
        // For people the document is the schema itself, ready for an editor.
        match ui.is_json() {
            true => ui.document(&Versioned::new(Schema { schema }))?,
            false => ui.document(&schema)?,
        };
        return Ok(exit::DONE);
    }
    let (text, notes) = match &args.from {
        None => (init::EXAMPLE.to_owned(), Vec::new()),
        Some(path) => {
            let old = std::fs::read_to_string(path).map_err(|error| {
                let message = format!("could not read \"{}\"", path.display());
                Failure::one(
                    FailureKind::Inventory,
                    Diagnostic::error(Code::FromUnreadable, message).detail(format!("{error}.")),
                )
            })?;
            let converted = init::convert(&old, &path.display().to_string())
                .map_err(|problems| Failure::all(FailureKind::Inventory, problems))?;
            (converted.inventory, converted.notes)
        }
    };
    ui.diagnostics(&notes);
    if args.output == Path::new("-") {
        ui.answer(|_| text.clone(), || Versioned::new(Text { inventory: &text }))?;
        return Ok(exit::DONE);
    }
    write_new(&args.output, &text)?;
    let shown = args.output.display().to_string();
    ui.answer(
        |_| format!("{shown} is written. Edit it, then run \"pgstead validate\".\n"),
        || Versioned::new(Written { path: args.output.clone() }),
    )?;
    Ok(exit::DONE)
}

fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let written = OpenOptions::new().write(true).create_new(true).open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| {
        let shown = path.display();
        let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
        let diagnostic = match exists {
            true => Diagnostic::error(Code::FileExists, format!("\"{shown}\" exists and is not overwritten"))
                .hint("Choose another name with -o FILE."),
            false => Diagnostic::error(Code::WriteInventory, format!("could not write \"{shown}\""))
                .detail(format!("{error}.")),
        };
        Failure::one(if exists { FailureKind::Refused } else { FailureKind::StepFailed }, diagnostic)
    })
}

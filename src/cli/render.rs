//! `render`: every file that would be installed, on standard output or in a directory of this machine.

use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::exit;
use super::exit::Exit;
use super::globals::Globals;
use super::inventory;
use super::inventory::Inventory;
use super::not_wired;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::ui::Ui;
use crate::ui::json::Versioned;

/// Write every file that would be installed
///
/// No server is contacted. Files with secrets are left out.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead render             print every file
  pgstead render -o files    write files/SERVER/PATH")]
pub(super) struct RenderArgs {
    /// Write the files under DIR, as DIR/SERVER/PATH, instead of printing them
    #[arg(short = 'o', long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// One rendered file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct RenderedFile {
    /// The server it belongs to.
    pub(super) server: String,
    /// Its path on the server.
    pub(super) path: String,
    /// What it holds.
    pub(super) content: String,
}

#[derive(Debug, Serialize)]
struct Rendered<'a> {
    topology: &'a str,
    files: &'a [RenderedFile],
}

pub(super) fn run(globals: &Globals, args: &RenderArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let files = files(&inventory)?;
    if let Some(dir) = &args.output {
        for file in &files {
            write(dir, file)?;
        }
    }
    ui.answer(
        |_| match &args.output {
            Some(dir) => format!("{} files are written under {}.\n", files.len(), dir.display()),
            None => files
                .iter()
                .map(|file| format!("# ==> {}:{} <==\n{}\n", file.server, file.path, file.content.trim_end()))
                .collect::<Vec<_>>()
                .join("\n"),
        },
        || Versioned::new(Rendered { topology: inventory.topology.name().as_str(), files: &files }),
    )?;
    Ok(exit::DONE)
}

fn write(dir: &Path, file: &RenderedFile) -> Result<(), Failure> {
    let relative = Path::new(&file.path);
    let relative = relative.strip_prefix("/").unwrap_or(relative);
    let path = dir.join(&file.server).join(relative);
    let parent = path.parent().unwrap_or(dir);
    std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, &file.content)).map_err(|error| {
        let message = format!("could not write \"{}\"", path.display());
        Failure::one(FailureKind::StepFailed, Diagnostic::error("write-file", message).detail(format!("{error}.")))
    })
}

// SEAM: `crate::render` for every server, secret files left out.
fn files(_inventory: &Inventory) -> Result<Vec<RenderedFile>, Failure> {
    not_wired("rendering")
}

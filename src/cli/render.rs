//! `render`: every file that would be installed, on standard output or in a directory of this machine.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::exit::Exit;
use super::globals::Globals;
use super::inventory::Inventory;
use super::session::{Session, keys};
use super::{block_on, exit, inventory};
use crate::apply::material;
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::observe::probe::Wish;
use crate::plan::FileChange;
use crate::plan::files::rendering;
use crate::plan::operation::rotate::Renewal;
use crate::plan::survey::offline;
use crate::state::StateDir;
use crate::ui::json::Versioned;
use crate::ui::{Progress, Ui, changes};

/// Write every file that would be installed
///
/// No server is contacted. Files with secrets are left out.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead render             print every file
  pgstead render -o files    write files/SERVER/PATH
  pgstead render --diff      what differs on the servers")]
pub(super) struct RenderArgs {
    /// Write the files under DIR, as DIR/SERVER/PATH, instead of printing them
    #[arg(short = 'o', long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Show how the files on the servers differ; looks at the servers and changes nothing
    #[arg(long, conflicts_with = "output")]
    diff: bool,
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
    if args.diff {
        return diff(&inventory, ui);
    }
    let files: Vec<RenderedFile> = files_of(&inventory, &offline::presume(&inventory.topology))?
        .into_iter()
        .filter_map(|(server, file)| {
            Some(RenderedFile { server: server.to_string(), path: file.path, content: file.after? })
        })
        .collect();
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

/// One file that differs on a server.
#[derive(Debug, Serialize)]
struct Differing {
    server: String,
    path: String,
    diff: String,
}

#[derive(Debug, Serialize)]
struct Differences<'a> {
    topology: &'a str,
    differences: &'a [Differing],
}

/// Compares with what stands on the servers.
fn diff(inventory: &Inventory, ui: &Ui) -> Result<Exit, Failure> {
    let progress = Progress::start(ui);
    let files = block_on(async {
        let session = Session::open(inventory, Wish::default(), progress.events()).await?;
        let files = session.require_all().and_then(|()| files_of(inventory, &session.observation));
        session.close().await;
        files
    });
    progress.finish();
    let differences: Vec<Differing> = files?
        .into_iter()
        .filter(|(_, file)| file.after.is_some() && file.after != file.before)
        .filter_map(|(server, file)| {
            let diff = changes::unified_diff(&file)?;
            Some(Differing { server: server.to_string(), path: file.path, diff })
        })
        .collect();
    ui.answer(
        |_| match differences.as_slice() {
            [] => "Every file on the servers is as it would be rendered.\n".to_owned(),
            some => some.iter().map(|file| format!("--- {}:{}\n{}", file.server, file.path, file.diff)).collect(),
        },
        || Versioned::new(Differences { topology: inventory.topology.name().as_str(), differences: &differences }),
    )?;
    Ok(exit::DONE)
}

/// Returns every file with what stands there; certificates and other secrets are made in memory and not shown.
fn files_of(inventory: &Inventory, observation: &Observation) -> Result<Vec<(ServerName, FileChange)>, Failure> {
    let topology = &inventory.topology;
    let failed = |diagnostic| Failure::one(FailureKind::Refused, diagnostic);
    let pki = |error: crate::pki::PkiError| failed(Diagnostic::error(Code::Certificates, error.to_string()));
    let keys = keys(&StateDir::at(&inventory.state_dir), topology, observation)?;
    let mut material =
        material::prepare(topology, observation, &keys, Renewal::OfNone, Timestamp::now()).map_err(pki)?;
    // Certificates are issued by a bootstrap; a picture of the files does without.
    material.certificates_to_replace.clear();
    rendering::rendered(topology, observation, &material).map_err(failed)
}

fn write(dir: &Path, file: &RenderedFile) -> Result<(), Failure> {
    let relative = Path::new(&file.path);
    let relative = relative.strip_prefix("/").unwrap_or(relative);
    let path = dir.join(&file.server).join(relative);
    let parent = path.parent().unwrap_or(dir);
    std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, &file.content)).map_err(|error| {
        let message = format!("could not write \"{}\"", path.display());
        Failure::one(FailureKind::StepFailed, Diagnostic::error(Code::WriteFile, message).detail(format!("{error}.")))
    })
}

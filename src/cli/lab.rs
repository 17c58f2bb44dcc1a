//! `lab`: real instances to practise on.

use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;

use super::block_on;
use super::exit;
use super::exit::Exit;
use super::globals::Globals;
use super::not_wired;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::event::Events;
use crate::ui::Progress;
use crate::ui::Ui;
use crate::ui::json::Versioned;
use crate::ui::lab;
use crate::ui::lab::LabView;

/// Run a lab of real instances on this machine
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead lab up --dir /var/tmp/lab                 three servers on 127.0.0.x
  pgstead -i /var/tmp/lab/pgstead.yaml bootstrap
  pgstead lab up --backend hosts --release trixie   three booted Debian systems
  pgstead lab down")]
pub(super) struct LabArgs {
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Start a lab and write its inventory
    Up(UpArgs),
    /// Stop a lab and remove what it made
    Down(WhereArgs),
    /// Show the servers of a lab
    Status(WhereArgs),
}

/// Which lab is meant.
#[derive(Debug, Args)]
pub(super) struct WhereArgs {
    /// What a server is: an sshd on a loopback address, or a booted Debian tree (needs root)
    #[arg(long, value_enum, default_value_t = Backend::Local)]
    pub(super) backend: Backend,
    /// Keep the lab in DIR [default: a directory for labs that is named on the screen]
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
}

/// The lab to start.
#[derive(Debug, Args)]
pub(super) struct UpArgs {
    #[command(flatten)]
    pub(super) place: WhereArgs,
    /// Make N servers: one primary and N-1 standbys
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub(super) servers: u8,
    /// Boot this Debian release; hosts backend only [default: bookworm]
    #[arg(long, value_name = "NAME", value_enum)]
    pub(super) release: Option<Release>,
}

/// What a server of the lab is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Backend {
    /// An sshd of its own on a loopback address
    Local,
    /// A Debian tree booted by systemd-nspawn
    Hosts,
}

/// A Debian release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Release {
    /// Debian 12 with PostgreSQL 15
    Bookworm,
    /// Debian 13 with PostgreSQL 17
    Trixie,
}

pub(super) fn run(_globals: &Globals, args: &LabArgs, ui: &Ui) -> Result<Exit, Failure> {
    if let LabCommand::Up(UpArgs { release: Some(_), place: WhereArgs { backend: Backend::Local, .. }, .. }) =
        &args.command
    {
        return Err(Failure::one(
            FailureKind::Usage,
            Diagnostic::error(
                "usage",
                "--release is for the hosts backend; a local lab runs the PostgreSQL of this machine",
            ),
        ));
    }
    let progress = Progress::start(ui);
    let events = progress.events();
    let view = block_on(async {
        match &args.command {
            LabCommand::Up(args) => up(args, events).await,
            LabCommand::Down(place) => down(place, events).await,
            LabCommand::Status(place) => status(place).await,
        }
    });
    progress.finish();
    let view = view?;
    ui.answer(|look| lab::render(&view, look), || Versioned::new(&view))?;
    Ok(exit::DONE)
}

// SEAM: `crate::lab::{local, hosts}`.
async fn up(_args: &UpArgs, _events: Events) -> Result<LabView, Failure> {
    not_wired("lab up")
}

// SEAM: `crate::lab::{local, hosts}`; returns the view of a lab without servers.
async fn down(_place: &WhereArgs, _events: Events) -> Result<LabView, Failure> {
    not_wired("lab down")
}

// SEAM: `crate::lab::{local, hosts}`.
async fn status(_place: &WhereArgs) -> Result<LabView, Failure> {
    not_wired("lab status")
}

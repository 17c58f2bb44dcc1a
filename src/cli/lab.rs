//! `lab`: real instances to practise on.

use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;

use super::block_on;
use super::exit;
use super::exit::Exit;
use super::globals::Globals;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::event::Events;
use crate::lab::hosts;
use crate::lab::local;
use crate::model::name::ServerName;
use crate::ui::Progress;
use crate::ui::Ui;
use crate::ui::json::Versioned;
use crate::ui::lab;
use crate::ui::lab::LabServer;
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

async fn up(args: &UpArgs, _events: Events) -> Result<LabView, Failure> {
    let dir = directory(&args.place)?;
    let names = names(args.servers)?;
    match args.place.backend {
        Backend::Local => {
            let spec = local::LocalLabSpec { servers: names, ..local::LocalLabSpec::new(&dir) };
            local::up(&spec).map_err(|error| failed(&error))?;
            local_view(&dir)
        }
        Backend::Hosts => {
            let release = match args.release.unwrap_or(Release::Bookworm) {
                Release::Bookworm => hosts::Release::Bookworm,
                Release::Trixie => hosts::Release::Trixie,
            };
            let hosts = names.iter().map(|name| hosts::HostSpec::new(name.as_str(), release)).collect();
            let lab = hosts::up(hosts::LabSpec { dir, hosts, owned: false }).map_err(|error| failed(&error))?;
            hosts::inventory::write(&lab).map_err(|error| failed(&error))?;
            Ok(hosts_view(&lab))
        }
    }
}

async fn down(place: &WhereArgs, _events: Events) -> Result<LabView, Failure> {
    let dir = directory(place)?;
    match place.backend {
        Backend::Local => local::down(&dir).map(drop).map_err(|error| failed(&error))?,
        Backend::Hosts => hosts::down(&dir).map_err(|error| failed(&error))?,
    }
    Ok(empty(dir))
}

async fn status(place: &WhereArgs) -> Result<LabView, Failure> {
    let dir = directory(place)?;
    match place.backend {
        Backend::Local => local_view(&dir),
        Backend::Hosts if !dir.exists() => Ok(empty(dir)),
        Backend::Hosts => Ok(hosts_view(&hosts::HostsLab::load(&dir).map_err(|error| failed(&error))?)),
    }
}

/// The first servers are a, b, c, as everywhere in the documents.
fn names(count: u8) -> Result<Vec<ServerName>, Failure> {
    let name = |number: u8| match number {
        0..26 => char::from(b'a' + number).to_string(),
        _ => format!("s{}", number + 1),
    };
    let parsed: Result<Vec<ServerName>, _> = (0..count).map(|number| name(number).parse()).collect();
    parsed.map_err(|error| Failure::one(FailureKind::Bug, Diagnostic::error("bug", error.to_string())))
}

fn directory(place: &WhereArgs) -> Result<PathBuf, Failure> {
    match (&place.dir, place.backend) {
        (Some(dir), _) => Ok(std::path::absolute(dir).unwrap_or_else(|_| dir.clone())),
        (None, Backend::Local) => local::default_directory().map_err(|error| failed(&error)),
        (None, Backend::Hosts) => Ok(PathBuf::from("/var/tmp/pgstead-hosts")),
    }
}

fn local_view(dir: &Path) -> Result<LabView, Failure> {
    let Some(status) = local::status(dir).map_err(|error| failed(&error))? else { return Ok(empty(dir.to_owned())) };
    let servers = status.lab.servers.iter().zip(&status.servers).map(|(server, now)| LabServer {
        name: server.name.to_string(),
        ssh: format!("{}:{}", server.address, status.lab.ssh_port),
        running: now.sshd.is_some(),
    });
    Ok(LabView { dir: dir.to_owned(), inventory: status.lab.inventory.clone(), servers: servers.collect() })
}

fn hosts_view(lab: &hosts::HostsLab) -> LabView {
    let servers = lab.hosts().iter().map(|host| LabServer {
        name: host.name().to_owned(),
        ssh: format!("{}:{}", host.address(), host.spec().ssh_port),
        running: host.is_running(),
    });
    LabView { dir: lab.dir().to_owned(), inventory: hosts::inventory::path(lab), servers: servers.collect() }
}

fn empty(dir: PathBuf) -> LabView {
    LabView { inventory: dir.join("pgstead.yaml"), dir, servers: Vec::new() }
}

/// A lab that does not come up or go down: the whole chain of causes, since a lab's commands are the user's own machine.
fn failed(error: &dyn std::error::Error) -> Failure {
    let mut diagnostic = Diagnostic::error("lab", error.to_string());
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    if !causes.is_empty() {
        diagnostic = diagnostic.detail(causes.join(": "));
    }
    Failure::one(FailureKind::StepFailed, diagnostic)
}

//! `lab`: real instances to practise on.

use std::error::Error;
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
use crate::lab::local::LocalLabError;
use crate::lab::local::LocalLabSpec;
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
    match args.place.backend {
        Backend::Hosts => {
            let release = match args.release.unwrap_or(Release::Bookworm) {
                Release::Bookworm => hosts::Release::Bookworm,
                Release::Trixie => hosts::Release::Trixie,
            };
            let names = (0..args.servers).map(server_name);
            let hosts = names.map(|name| hosts::HostSpec::new(&name, release)).collect();
            let spec = hosts::LabSpec { dir: hosts_dir(&args.place), hosts, owned: false };
            let lab = hosts::up(spec).map_err(|error| hosts_failure(&error))?;
            hosts::inventory::write(&lab).map_err(|error| hosts_failure(&error))?;
            Ok(view_of_hosts(&lab))
        }
        Backend::Local => {
            let mut spec = LocalLabSpec::new(local_dir(&args.place)?);
            spec.servers = (0..args.servers).filter_map(|index| server_name(index).parse().ok()).collect();
            let lab = local::up(&spec).map_err(local_failure)?;
            view_of_local(&lab.directory)
        }
    }
}

async fn down(place: &WhereArgs, _events: Events) -> Result<LabView, Failure> {
    match place.backend {
        Backend::Hosts => {
            let dir = hosts_dir(place);
            hosts::down(&dir).map_err(|error| hosts_failure(&error))?;
            Ok(LabView { dir, inventory: None, servers: Vec::new() })
        }
        Backend::Local => {
            let dir = local_dir(place)?;
            local::down(&dir).map_err(local_failure)?;
            view_of_local(&dir)
        }
    }
}

async fn status(place: &WhereArgs) -> Result<LabView, Failure> {
    match place.backend {
        Backend::Hosts => {
            let dir = hosts_dir(place);
            if !dir.exists() {
                return Ok(LabView { dir, inventory: None, servers: Vec::new() });
            }
            Ok(view_of_hosts(&hosts::HostsLab::load(&dir).map_err(|error| hosts_failure(&error))?))
        }
        Backend::Local => view_of_local(&local_dir(place)?),
    }
}

/// Returns the name of a server by its place: a to z, then s27 and so on.
fn server_name(index: u8) -> String {
    match index {
        0..26 => char::from(b'a' + index).to_string(),
        _ => format!("s{}", u16::from(index) + 1),
    }
}

fn local_dir(place: &WhereArgs) -> Result<PathBuf, Failure> {
    match &place.dir {
        // The lab outlives this process and its working directory.
        Some(dir) => std::path::absolute(dir).map_err(|error| {
            let message = format!("could not find lab directory \"{}\"", dir.display());
            Failure::one(FailureKind::Usage, Diagnostic::error("lab-directory", message).detail(format!("{error}.")))
        }),
        None => local::default_directory().map_err(local_failure),
    }
}

fn hosts_dir(place: &WhereArgs) -> PathBuf {
    let dir = place.dir.clone().unwrap_or_else(|| PathBuf::from("/var/tmp/pgstead-hosts"));
    std::path::absolute(&dir).unwrap_or(dir)
}

fn view_of_hosts(lab: &hosts::HostsLab) -> LabView {
    let servers = lab.hosts().iter().map(|host| LabServer {
        name: host.name().to_owned(),
        ssh: format!("{}:{}", host.address(), host.spec().ssh_port),
        running: host.is_running(),
    });
    let inventory = Some(hosts::inventory::path(lab)).filter(|path| path.exists());
    LabView { dir: lab.dir().to_owned(), inventory, servers: servers.collect() }
}

/// Tells the whole chain of causes: what fails here is the user's own machine.
fn hosts_failure(error: &dyn Error) -> Failure {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    let diagnostic = Diagnostic::error("hosts-lab", error.to_string());
    let diagnostic = if causes.is_empty() { diagnostic } else { diagnostic.detail(causes.join(": ")) };
    Failure::one(FailureKind::StepFailed, diagnostic)
}

fn view_of_local(dir: &Path) -> Result<LabView, Failure> {
    let Some(status) = local::status(dir).map_err(local_failure)? else {
        return Ok(LabView { dir: dir.to_owned(), inventory: None, servers: Vec::new() });
    };
    let servers = status.lab.servers.iter().map(|server| LabServer {
        name: server.name.to_string(),
        ssh: format!("{}:{}", server.address, status.lab.ssh_port),
        running: status.servers.iter().any(|seen| seen.name == server.name && seen.sshd.is_some()),
    });
    Ok(LabView {
        servers: servers.collect(),
        // A lab that was left half made has no inventory to go on with.
        inventory: status.complete.then_some(status.lab.inventory),
        dir: status.lab.directory,
    })
}

/// Maps what a local lab refuses or fails at: a refusal has changed nothing.
fn local_failure(error: LocalLabError) -> Failure {
    use LocalLabError as E;
    let kind = match error {
        E::NoHome
        | E::BadPath { .. }
        | E::PathTooLong { .. }
        | E::NotALab { .. }
        | E::Symlink { .. }
        | E::NotOurs { .. }
        | E::Mounted { .. }
        | E::HalfMade { .. }
        | E::BadState { .. }
        | E::OtherServers { .. }
        | E::BadServers { .. }
        | E::PortTaken { .. }
        | E::NoFreePort { .. }
        | E::NoPostgres { .. }
        | E::VersionMissing { .. }
        | E::ProgramMissing { .. }
        | E::NoOsUser { .. }
        | E::Unreachable { .. } => FailureKind::Refused,
        _ => FailureKind::StepFailed,
    };
    let diagnostic = Diagnostic::error("local-lab", error.to_string());
    Failure::one(
        kind,
        match error.source() {
            Some(source) => diagnostic.detail(format!("{source}.")),
            None => diagnostic,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_by_letters_as_long_as_they_last() {
        assert_eq!([server_name(0), server_name(25), server_name(26)], ["a", "z", "s27"]);
    }

    #[test]
    fn a_directory_that_is_no_lab_is_refused() {
        let failure = local_failure(LocalLabError::NotALab { path: "/srv".into() });
        assert_eq!(failure.kind, FailureKind::Refused);
    }
}

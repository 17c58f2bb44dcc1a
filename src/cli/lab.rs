//! `lab`: real instances to practise on.

use std::num::NonZeroU32;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::exit;
use super::exit::Exit;
use super::globals::Globals;
use crate::diagnostic::Failure;
use crate::lab::{BackendKind, Fault, LabError, Wish, hosts, vagrant};
use crate::ui::json::Versioned;
use crate::ui::{Progress, Ui};
use crate::{lab, ui};

/// Run a lab of real instances on this machine
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead lab up --dir /var/tmp/lab                 three servers on 127.0.0.x
  pgstead -i /var/tmp/lab/pgstead.yaml bootstrap
  pgstead lab up --backend hosts --release trixie   three booted Debian systems
  pgstead lab up --backend docker                   three containers on three networks
  pgstead lab --backend docker fault power b off
  pgstead lab --backend docker ssh a
  pgstead lab --backend docker down
  pgstead lab up --backend vagrant                  three virtual machines (or -i INVENTORY)")]
pub(super) struct LabArgs {
    #[command(flatten)]
    place: WhereArgs,
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Start a lab and write its inventory
    Up(UpArgs),
    /// Stop a lab and remove what it made
    Down,
    /// Show the servers of a lab
    Status,
    /// Log in to a server of a lab, or run a command there
    Ssh(SshArgs),
    /// Break a server of a lab, or mend it
    Fault(FaultArgs),
}

/// Which lab is meant; these options may stand before or after the command.
#[derive(Debug, Args)]
pub(super) struct WhereArgs {
    /// What a server is made of
    #[arg(long, global = true, value_enum, default_value_t = Backend::Local)]
    pub(super) backend: Backend,
    /// Keep the lab in DIR [default: a directory for labs that is named on the screen]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
}

/// The lab to start.
#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// Make N servers: one primary and N-1 standbys; not on the docker backend [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=50))]
    pub(super) servers: Option<u8>,
    /// Boot this Debian release; hosts and vagrant backends [default: bookworm]
    #[arg(long, value_name = "NAME", value_enum)]
    pub(super) release: Option<Release>,
    /// Give each server a disk of so many MiB for its data, which can be filled; not on the local backend
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(64..=1_048_576))]
    pub(super) disk: Option<u32>,
    /// Let this provider of Vagrant's make the machines [default: libvirt where it can be used, else virtualbox]
    #[arg(long, value_name = "NAME", value_enum)]
    pub(super) provider: Option<Provider>,
}

/// The server to log in to.
#[derive(Debug, Args)]
pub(super) struct SshArgs {
    /// The server
    #[arg(value_name = "SERVER")]
    server: String,
    /// A command for the server's shell, instead of a login
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// The fault to make or to mend.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead lab fault power b off     and later: on
  pgstead lab fault link b off      and later: on
  pgstead lab fault disk b full     and later: free
  pgstead lab fault rate c 20       megabits per second each way, and later: off
  pgstead lab fault clock c 90      seconds ahead, and later: off

A backend that cannot make a fault says so, and changes nothing.")]
pub(super) struct FaultArgs {
    #[command(subcommand)]
    fault: FaultCommand,
}

#[derive(Debug, Subcommand)]
enum FaultCommand {
    /// Let every process end at once, or boot again
    Power(SwitchArgs),
    /// Cut a server off from everyone, or let it be reached again
    Link(SwitchArgs),
    /// Fill the disk of a server's data, or free it again
    Disk(DiskArgs),
    /// Limit what a server's line carries, or let it be as fast as it can
    Rate(RateArgs),
    /// Set a server's clock wrong, or right again
    Clock(ClockArgs),
}

#[derive(Debug, Args)]
pub(super) struct SwitchArgs {
    /// The server
    #[arg(value_name = "SERVER")]
    server: String,
    /// Whether it has it
    #[arg(value_name = "STATE", value_enum)]
    switch: Switch,
}

#[derive(Debug, Args)]
pub(super) struct DiskArgs {
    /// The server
    #[arg(value_name = "SERVER")]
    server: String,
    /// Whether there is room
    #[arg(value_name = "STATE", value_enum)]
    room: Room,
}

#[derive(Debug, Args)]
pub(super) struct RateArgs {
    /// The server
    #[arg(value_name = "SERVER")]
    server: String,
    /// Megabits per second each way, or off
    #[arg(value_name = "MEGABITS", value_parser = megabits)]
    limit: Limit<NonZeroU32>,
}

#[derive(Debug, Args)]
pub(super) struct ClockArgs {
    /// The server
    #[arg(value_name = "SERVER")]
    server: String,
    /// By how much it is ahead (behind, where negative), or off
    #[arg(value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    limit: Limit<i32>,
}

/// A number, or none.
#[derive(Debug, Clone, Copy)]
enum Limit<T> {
    To(T),
    Off,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Switch {
    Off,
    On,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Room {
    Full,
    Free,
}

/// What a server of the lab is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Backend {
    /// An sshd of its own on a loopback address
    Local,
    /// A Debian tree booted by systemd-nspawn; needs root
    Hosts,
    /// A container; needs Docker and Compose
    Docker,
    /// A virtual machine made by Vagrant
    Vagrant,
}

/// What makes the machines of a Vagrant lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Provider {
    /// qemu, with KVM where there is one
    Libvirt,
    /// VirtualBox
    Virtualbox,
    /// Containers
    Docker,
}

/// A Debian release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Release {
    /// Debian 12 with PostgreSQL 15
    Bookworm,
    /// Debian 13 with PostgreSQL 17
    Trixie,
    /// Debian 14, not released yet, with PostgreSQL 18
    Forky,
    /// The same with PostgreSQL 19 of Debian's experimental suite
    Experimental,
}

pub(super) fn run(globals: &Globals, args: &LabArgs, ui: &Ui) -> Result<Exit, Failure> {
    let (backend, dir) = place(&args.place).map_err(|error| error.failure())?;
    let progress = Progress::start(ui);
    let events = progress.events();
    // A lab that is half made is one, too.
    let had_lab = backend.status(&dir).map_or(true, |status| !status.servers.is_empty());
    let status = match &args.command {
        LabCommand::Up(args) => {
            let wish = Wish {
                servers: args.servers,
                release: args.release.map(Into::into),
                disk_mib: args.disk,
                inventory: globals.inventory.clone(),
                provider: args.provider.map(Into::into),
            };
            backend.up(&dir, &wish, &events)
        }
        LabCommand::Down => backend.down(&dir, &events),
        LabCommand::Status => backend.status(&dir),
        LabCommand::Fault(args) => {
            let (server, fault) = fault(&args.fault);
            lab::backend::fault(backend, &dir, server, fault).and_then(|()| backend.status(&dir))
        }
        LabCommand::Ssh(args) => {
            progress.finish();
            return Err(ssh(backend, &dir, args).failure());
        }
    };
    progress.finish();
    let status = status.map_err(|error| error.failure())?;
    let went = had_lab && matches!(args.command, LabCommand::Down);
    let text = |look| if went { ui::lab::render_down(&status) } else { ui::lab::render(&status, look) };
    ui.answer(text, || Versioned::new(&status))?;
    Ok(exit::DONE)
}

/// Returns the backend that is meant, and the lab's directory: it outlives this process and its working directory.
fn place(args: &WhereArgs) -> Result<(&'static dyn lab::Backend, PathBuf), LabError> {
    let backend = BackendKind::from(args.backend).backend();
    let dir = match &args.dir {
        Some(dir) => std::path::absolute(dir).map_err(|source| LabError::Directory { dir: dir.clone(), source })?,
        None => backend.default_directory()?,
    };
    Ok((backend, dir))
}

/// Becomes an ssh to the server; returns only what kept it from that.
fn ssh(backend: &dyn lab::Backend, dir: &Path, args: &SshArgs) -> LabError {
    match backend.ssh(dir, &args.server) {
        Ok(target) => LabError::Ssh { source: target.command(&args.words).exec() },
        Err(error) => error,
    }
}

/// Returns the server and the fault that are meant.
fn fault(command: &FaultCommand) -> (&str, Fault) {
    match command {
        FaultCommand::Power(SwitchArgs { server, switch: Switch::Off }) => (server, Fault::PowerOff),
        FaultCommand::Power(SwitchArgs { server, switch: Switch::On }) => (server, Fault::PowerOn),
        FaultCommand::Link(SwitchArgs { server, switch: Switch::Off }) => (server, Fault::LinkOff),
        FaultCommand::Link(SwitchArgs { server, switch: Switch::On }) => (server, Fault::LinkOn),
        FaultCommand::Disk(DiskArgs { server, room: Room::Full }) => (server, Fault::DiskFull),
        FaultCommand::Disk(DiskArgs { server, room: Room::Free }) => (server, Fault::DiskFree),
        FaultCommand::Rate(RateArgs { server, limit: Limit::To(megabits) }) => {
            (server, Fault::RateLimited { megabits: *megabits })
        }
        FaultCommand::Rate(RateArgs { server, limit: Limit::Off }) => (server, Fault::RateFree),
        FaultCommand::Clock(ClockArgs { server, limit: Limit::To(seconds) }) => {
            (server, Fault::ClockAhead { seconds: *seconds })
        }
        FaultCommand::Clock(ClockArgs { server, limit: Limit::Off }) => (server, Fault::ClockRight),
    }
}

fn megabits(text: &str) -> Result<Limit<NonZeroU32>, String> {
    match text {
        "off" => Ok(Limit::Off),
        _ => text
            .parse()
            .map(Limit::To)
            .map_err(|_| "neither a whole number of megabits per second nor \"off\"".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Limit<i32>, String> {
    match text {
        "off" => Ok(Limit::Off),
        _ => text.parse().map(Limit::To).map_err(|_| "neither a whole number of seconds nor \"off\"".to_owned()),
    }
}

impl From<Backend> for BackendKind {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Local => Self::Local,
            Backend::Hosts => Self::Hosts,
            Backend::Docker => Self::Docker,
            Backend::Vagrant => Self::Vagrant,
        }
    }
}

impl From<Provider> for vagrant::Provider {
    fn from(provider: Provider) -> Self {
        match provider {
            Provider::Libvirt => Self::Libvirt,
            Provider::Virtualbox => Self::Virtualbox,
            Provider::Docker => Self::Docker,
        }
    }
}

impl From<Release> for hosts::Release {
    fn from(release: Release) -> Self {
        match release {
            Release::Bookworm => Self::Bookworm,
            Release::Trixie => Self::Trixie,
            Release::Forky => Self::Forky,
            Release::Experimental => Self::Experimental,
        }
    }
}

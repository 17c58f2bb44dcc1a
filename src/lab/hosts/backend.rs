//! The hosts lab in the vocabulary of all labs. What its hosts cannot do is said here.

use std::path::{Path, PathBuf};

use super::{Host, HostSpec, HostsLab, LabSpec, Release, SmallDisk, inventory};
use crate::event::Events;
use crate::lab::backend::{Backend, BackendKind, LabServer, LabStatus, Wish, server_name};
use crate::lab::error::LabError;
use crate::lab::fault::{Fault, FaultKind};
use crate::lab::ssh::SshTarget;

/// Where a lab is kept unless a directory is named.
const DEFAULT_DIRECTORY: &str = "/var/tmp/pgstead-hosts";

/// How many servers a lab has unless a number is named.
const SERVERS: u8 = 3;

/// What a disk of a host's own holds: everything of PostgreSQL in Debian's layout.
const DATA: &str = "/var/lib/postgresql";

/// Servers that are booted Debian trees.
#[derive(Debug)]
pub struct Hosts;

impl Backend for Hosts {
    fn kind(&self) -> BackendKind {
        BackendKind::Hosts
    }

    fn default_directory(&self) -> Result<PathBuf, LabError> {
        Ok(PathBuf::from(DEFAULT_DIRECTORY))
    }

    fn up(&self, dir: &Path, wish: &Wish, _events: &Events) -> Result<LabStatus, LabError> {
        if wish.inventory.is_some() {
            let why = "a hosts lab makes its own inventory";
            return Err(LabError::NotForBackend { option: "--inventory", backend: self.kind(), why });
        }
        if wish.provider.is_some() {
            let why = "its hosts are booted by systemd-nspawn";
            return Err(LabError::NotForBackend { option: "--provider", backend: self.kind(), why });
        }
        let release = wish.release.unwrap_or(Release::Bookworm);
        let hosts = (0..wish.servers.unwrap_or(SERVERS)).map(|index| {
            let disk = |mebibytes| SmallDisk { mount_point: DATA.to_owned(), mebibytes };
            HostSpec { small_disk: wish.disk_mib.map(disk), ..HostSpec::new(&server_name(index), release) }
        });
        let spec = LabSpec { owned: false, ..LabSpec::new(dir.to_owned(), hosts.collect()) };
        let lab = super::up(spec)?;
        inventory::write(&lab)?;
        Ok(self.view(&lab))
    }

    fn down(&self, dir: &Path, _events: &Events) -> Result<LabStatus, LabError> {
        super::down(dir)?;
        let kept = Release::ALL.into_iter().filter(|release| super::is_built(*release));
        let kept = kept.map(|release| super::tree_of(release).display().to_string()).collect();
        Ok(LabStatus { kept, ..LabStatus::down(self.kind(), dir) })
    }

    fn status(&self, dir: &Path) -> Result<LabStatus, LabError> {
        if !dir.exists() {
            return Ok(LabStatus::down(self.kind(), dir));
        }
        Ok(self.view(&HostsLab::load(dir)?))
    }

    fn ssh(&self, dir: &Path, server: &str) -> Result<SshTarget, LabError> {
        let (lab, index) = find(dir, server)?;
        let host = &lab.hosts()[index];
        Ok(SshTarget {
            user: "root".to_owned(),
            host: host.address().to_string(),
            port: host.spec().ssh_port,
            identity_file: lab.identity_file(),
            known_hosts: lab.known_hosts(),
            jump: None,
        })
    }

    fn cannot(&self, fault: FaultKind) -> Option<&'static str> {
        match fault {
            FaultKind::Clock => Some("its hosts share this machine's clock"),
            _ => None,
        }
    }

    fn fault(&self, dir: &Path, server: &str, fault: Fault) -> Result<(), LabError> {
        let (lab, index) = find(dir, server)?;
        let host = &lab.hosts()[index];
        // A server that is off already has nothing to lose, and one that is off has no line.
        if host.is_running() == matches!(fault, Fault::PowerOn) {
            return Err(LabError::WrongState { server: server.to_owned(), running: host.is_running() });
        }
        match fault {
            Fault::PowerOff => host.power_cut()?,
            Fault::PowerOn => host.boot()?,
            Fault::LinkOff => host.cut_link()?,
            Fault::LinkOn => host.mend_link()?,
            Fault::DiskFull => host.fill_disk(disk(host)?, 0)?,
            Fault::DiskFree => host.free_disk(disk(host)?)?,
            Fault::RateLimited { megabits } => host.limit_rate(megabits.get())?,
            Fault::RateFree => host.unlimit()?,
            Fault::ClockAhead { .. } | Fault::ClockRight => {
                let why = self.cannot(FaultKind::Clock).unwrap_or_default();
                return Err(LabError::CannotFault { backend: self.kind(), fault: FaultKind::Clock, why });
            }
        }
        Ok(())
    }
}

impl Hosts {
    fn view(&self, lab: &HostsLab) -> LabStatus {
        let servers = lab.hosts().iter().map(|host| LabServer {
            name: host.name().to_owned(),
            ssh: format!("{}:{}", host.address(), host.spec().ssh_port),
            running: host.is_running(),
        });
        LabStatus {
            backend: self.kind(),
            dir: lab.dir().to_owned(),
            inventory: Some(inventory::path(lab)).filter(|path| path.exists()),
            servers: servers.collect(),
            kept: Vec::new(),
        }
    }
}

/// Returns where the disk is that can be filled: the machine's own is nobody's to fill.
fn disk(host: &Host) -> Result<&str, LabError> {
    let disk = host.spec().small_disk.as_ref().map(|disk| disk.mount_point.as_str());
    disk.ok_or_else(|| LabError::NoDisk { server: host.name().to_owned() })
}

fn find(dir: &Path, name: &str) -> Result<(HostsLab, usize), LabError> {
    if !dir.exists() {
        return Err(LabError::NoLab { dir: dir.to_owned() });
    }
    let lab = HostsLab::load(dir)?;
    match lab.hosts().iter().position(|host| host.name() == name) {
        Some(index) => Ok((lab, index)),
        None => {
            let servers = lab.hosts().iter().map(|host| host.name().to_owned()).collect();
            Err(LabError::NoServer { name: name.to_owned(), servers })
        }
    }
}

//! The local lab in the vocabulary of all labs. What its servers cannot do is said here.

use std::path::{Path, PathBuf};

use super::{LocalLab, LocalLabSpec, LocalServer};
use crate::event::Events;
use crate::lab::backend::{Backend, BackendKind, LabServer, LabStatus, Wish, server_name};
use crate::lab::error::LabError;
use crate::lab::fault::{Fault, FaultKind};
use crate::lab::ssh::SshTarget;

/// Servers that are an sshd each on a loopback address.
#[derive(Debug)]
pub struct Local;

impl Backend for Local {
    fn kind(&self) -> BackendKind {
        BackendKind::Local
    }

    fn default_directory(&self) -> Result<PathBuf, LabError> {
        Ok(super::default_directory()?)
    }

    fn up(&self, dir: &Path, wish: &Wish, _events: &Events) -> Result<LabStatus, LabError> {
        let refused = [
            ("--release", wish.release.is_some(), "a local lab runs the PostgreSQL of this machine"),
            ("--disk", wish.disk_mib.is_some(), "the servers of a local lab share this machine's file system"),
            ("--inventory", wish.inventory.is_some(), "a local lab makes its own inventory"),
            ("--provider", wish.provider.is_some(), "a local lab runs on this machine itself"),
        ];
        if let Some((option, _, why)) = refused.into_iter().find(|(_, given, _)| *given) {
            return Err(LabError::NotForBackend { option, backend: self.kind(), why });
        }
        let mut spec = LocalLabSpec::new(dir);
        if let Some(servers) = wish.servers {
            spec.servers = (0..servers).filter_map(|index| server_name(index).parse().ok()).collect();
        }
        let lab = super::up(&spec)?;
        self.status(&lab.directory)
    }

    fn down(&self, dir: &Path, _events: &Events) -> Result<LabStatus, LabError> {
        super::down(dir)?;
        Ok(LabStatus::down(self.kind(), dir))
    }

    fn status(&self, dir: &Path) -> Result<LabStatus, LabError> {
        let Some(status) = super::status(dir)? else {
            return Ok(LabStatus::down(self.kind(), dir));
        };
        let servers = status.lab.servers.iter().map(|server| LabServer {
            name: server.name.to_string(),
            ssh: format!("{}:{}", server.address, status.lab.ssh_port),
            running: status.servers.iter().any(|seen| seen.name == server.name && seen.sshd.is_some()),
        });
        Ok(LabStatus {
            backend: self.kind(),
            servers: servers.collect(),
            // A lab that was left half made has no inventory to go on with.
            inventory: status.complete.then_some(status.lab.inventory),
            dir: status.lab.directory,
            kept: Vec::new(),
        })
    }

    fn ssh(&self, dir: &Path, server: &str) -> Result<SshTarget, LabError> {
        let (lab, server) = find(dir, server)?;
        Ok(SshTarget {
            host: server.address.to_string(),
            user: lab.login_user,
            port: lab.ssh_port,
            identity_file: lab.identity_file,
            known_hosts: lab.known_hosts,
            jump: None,
        })
    }

    fn cannot(&self, fault: FaultKind) -> Option<&'static str> {
        match fault {
            FaultKind::Power => None,
            FaultKind::Link | FaultKind::Rate => Some("its servers talk over this machine's loopback interface"),
            FaultKind::Disk => Some("its servers share this machine's file system"),
            FaultKind::Clock => Some("its servers share this machine's clock"),
        }
    }

    fn fault(&self, dir: &Path, server: &str, fault: Fault) -> Result<(), LabError> {
        let (lab, server) = find(dir, server)?;
        match fault {
            Fault::PowerOff => Ok(super::power_off(&lab, &server)?),
            Fault::PowerOn => {
                let status = super::status(dir)?;
                let seen = status.iter().flat_map(|status| &status.servers).find(|seen| seen.name == server.name);
                if seen.is_some_and(|seen| seen.sshd.is_some()) {
                    return Err(LabError::WrongState { server: server.name.to_string(), running: true });
                }
                Ok(super::power_on(&lab, &server)?)
            }
            other => Err(self.unable(other)),
        }
    }
}

impl Local {
    /// Says that a fault can't be had, should it be asked for past [`crate::lab::backend::fault`].
    fn unable(&self, fault: Fault) -> LabError {
        let kind = fault.kind();
        LabError::CannotFault { backend: self.kind(), fault: kind, why: self.cannot(kind).unwrap_or_default() }
    }
}

fn find(dir: &Path, name: &str) -> Result<(LocalLab, LocalServer), LabError> {
    let Some(status) = super::status(dir)? else {
        return Err(LabError::NoLab { dir: dir.to_owned() });
    };
    match status.lab.servers.iter().find(|server| server.name.as_str() == name).cloned() {
        Some(server) => Ok((status.lab, server)),
        None => {
            let servers = status.lab.servers.iter().map(|server| server.name.to_string()).collect();
            Err(LabError::NoServer { name: name.to_owned(), servers })
        }
    }
}

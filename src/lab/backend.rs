//! What every lab can be asked, whatever its servers are made of: one vocabulary, and one module per backend behind it.
//!
//! A backend says in one message what it cannot do; it never does something else instead. Nothing here makes a server:
//! see `local`, `hosts` and `vagrant`.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::LabError;
use super::fault::{Fault, FaultKind};
use super::ssh::SshTarget;
use crate::event::Events;

/// What a server of a lab is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// An sshd of its own on a loopback address.
    Local,
    /// A Debian tree booted by `systemd-nspawn`.
    Hosts,
    /// A container.
    Docker,
    /// A virtual machine that Vagrant makes.
    Vagrant,
}

impl BackendKind {
    /// All of them, the smallest first.
    pub const ALL: [Self; 4] = [Self::Local, Self::Hosts, Self::Docker, Self::Vagrant];

    /// Returns what makes and breaks servers of this kind.
    #[must_use]
    pub fn backend(self) -> &'static dyn Backend {
        match self {
            Self::Local => &super::local::Local,
            Self::Hosts => &super::hosts::Hosts,
            Self::Docker => &super::docker::Docker,
            Self::Vagrant => &super::vagrant::Vagrant,
        }
    }

    /// Returns the word for it on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Hosts => "hosts",
            Self::Docker => "docker",
            Self::Vagrant => "vagrant",
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a lab is wished to be. What is left open, the backend decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// How many servers: a primary and its standbys.
    pub servers: Option<u8>,
    /// Which Debian release they run.
    pub release: Option<super::hosts::Release>,
    /// The size in MiB of a disk for the data of each server, which can be filled.
    pub disk_mib: Option<u32>,
    /// The inventory that says which servers there are, for the backends that are driven by one.
    pub inventory: Option<PathBuf>,
    /// What makes the machines, for the backend that leaves that to another program.
    pub provider: Option<super::vagrant::Provider>,
}

/// A lab as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabStatus {
    /// What its servers are made of.
    pub backend: BackendKind,
    /// Where it lives.
    pub dir: PathBuf,
    /// Its inventory; absent when the lab is down or half made.
    pub inventory: Option<PathBuf>,
    /// Its servers; empty when the lab is down.
    pub servers: Vec<LabServer>,
    /// What outlives the lab on purpose, so that the next one is up sooner: images, trees.
    pub kept: Vec<String>,
}

impl LabStatus {
    /// Returns the status of a directory in which no lab is up.
    pub fn down(backend: BackendKind, dir: &Path) -> Self {
        Self { backend, dir: dir.to_owned(), inventory: None, servers: Vec::new(), kept: Vec::new() }
    }
}

/// One server of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabServer {
    pub name: String,
    /// Where SSH reaches it, as `address:port`.
    pub ssh: String,
    /// Whether it runs.
    pub running: bool,
}

/// One way to make labs. Every method starts from the directory, so that another process can go on with a lab.
pub trait Backend {
    /// Returns which one it is.
    fn kind(&self) -> BackendKind;

    /// Returns where a lab is kept unless a directory is named.
    ///
    /// # Errors
    /// Nothing says where this user keeps things.
    fn default_directory(&self) -> Result<PathBuf, LabError>;

    /// Brings a lab up and writes its inventory; what was made is taken away again if it can't be finished. In a lab that
    /// is up, what has stopped comes back where the backend can tell.
    ///
    /// # Errors
    /// The wish can't be met, or something on this machine is missing or fails.
    fn up(&self, dir: &Path, wish: &Wish, events: &Events) -> Result<LabStatus, LabError>;

    /// Takes a lab away with all that it made. One that is gone, in part or whole, is fine.
    ///
    /// # Errors
    /// The directory holds something else, or something does not go away.
    fn down(&self, dir: &Path, events: &Events) -> Result<LabStatus, LabError>;

    /// Looks at a lab. A directory in which none is up is fine.
    ///
    /// # Errors
    /// The directory holds something else, or can't be read.
    fn status(&self, dir: &Path) -> Result<LabStatus, LabError>;

    /// Returns how a person's ssh reaches a server.
    ///
    /// # Errors
    /// There is no such lab, or no such server in it.
    fn ssh(&self, dir: &Path, server: &str) -> Result<SshTarget, LabError>;

    /// Returns why servers of this kind can't have a fault of a kind, where they can't.
    fn cannot(&self, fault: FaultKind) -> Option<&'static str>;

    /// Breaks a server, or mends it. Only what [`Self::cannot`] has no objection to is asked for.
    ///
    /// # Errors
    /// There is no such server, it is not in the state for it, or it could not be done.
    fn fault(&self, dir: &Path, server: &str, fault: Fault) -> Result<(), LabError>;
}

/// Breaks a server of a lab, or mends it, or says why a server of this kind can't be broken like that.
///
/// # Errors
/// The backend cannot do it, or failed to.
pub fn fault(backend: &dyn Backend, dir: &Path, server: &str, fault: Fault) -> Result<(), LabError> {
    match backend.cannot(fault.kind()) {
        Some(why) => Err(LabError::CannotFault { backend: backend.kind(), fault: fault.kind(), why }),
        None => backend.fault(dir, server, fault),
    }
}

/// Returns the name of a server by its place: a to z, then s27 and so on.
pub(super) fn server_name(index: u8) -> String {
    match index {
        0..26 => char::from(b'a' + index).to_string(),
        _ => format!("s{}", u16::from(index) + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_by_letters_as_long_as_they_last() {
        assert_eq!([server_name(0), server_name(25), server_name(26)], ["a", "z", "s27"]);
    }

    #[test]
    fn what_a_backend_cannot_do_is_one_message_and_touches_nothing() {
        let nowhere = Path::new("/nonexistent/lab");
        let ahead = Fault::ClockAhead { seconds: 90 };
        for kind in BackendKind::ALL {
            let Some(why) = kind.backend().cannot(FaultKind::Clock) else { continue };
            let failure = fault(kind.backend(), nowhere, "b", ahead).map_err(|error| error.failure());
            let message = failure.map_or_else(|failure| failure.to_string(), |()| String::new());
            assert_eq!(message, format!("the {kind} backend cannot change a clock: {why}"));
        }
    }
}

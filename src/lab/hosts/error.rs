//! What can go wrong in a hosts lab, one variant per operation.
//!
//! Only says what failed and with which command; decides no wording for the operator's screen and repairs nothing.

use std::path::PathBuf;

use super::spec::Release;
use crate::lab::Failure;

/// The failure of one operation on a hosts lab.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostsLabError {
    #[error("the hosts lab needs root: it mounts, makes a network bridge and boots hosts")]
    NotRoot,
    /// The wish itself can't be met.
    #[error("invalid hosts lab: {problem}")]
    InvalidSpec { problem: String },
    #[error("\"{program}\" is not in PATH (Debian package \"{package}\"; lab/hosts/install-packages installs all)")]
    MissingProgram {
        program: &'static str,
        /// The package that brings it.
        package: &'static str,
    },
    /// The directory is not a lab, or its state can't be read.
    #[error("could not load the lab in \"{}\"", dir.display())]
    Load {
        dir: PathBuf,
        #[source]
        source: Failure,
    },
    /// The lab's own files (state, keys, known hosts) could not be written.
    #[error("could not prepare the lab in \"{}\"", dir.display())]
    PrepareLab {
        dir: PathBuf,
        #[source]
        source: Failure,
    },
    #[error("could not build the {release} tree (log: \"{}\")", log.display())]
    BuildTree {
        /// Of which release.
        release: Release,
        /// What the build printed.
        log: PathBuf,
        #[source]
        source: Failure,
    },
    #[error("could not make the lab's network")]
    AddNetwork {
        #[source]
        source: Failure,
    },
    #[error("could not remove bridge \"{bridge}\"")]
    RemoveNetwork {
        bridge: String,
        #[source]
        source: Failure,
    },
    #[error("could not look for labs on this machine")]
    Registry {
        #[source]
        source: Failure,
    },
    /// A host's file system or identity could not be made.
    #[error("could not prepare host \"{host}\"")]
    PrepareHost {
        host: String,
        #[source]
        source: Failure,
    },
    /// The host did not start, or its sshd did not answer in time.
    #[error("could not boot host \"{host}\"; its boot log ends:\n{log_tail}")]
    Boot {
        host: String,
        /// The end of what it printed.
        log_tail: String,
        #[source]
        source: Failure,
    },
    /// The host is running and must not be, or the other way round.
    #[error("host \"{host}\" is {}", if *running { "running" } else { "not running" })]
    WrongState { host: String, running: bool },
    #[error("could not stop host \"{host}\"")]
    Stop {
        host: String,
        #[source]
        source: Failure,
    },
    /// A command could not be run on the host, or failed where it had to succeed.
    #[error("could not run a command on host \"{host}\"")]
    Exec {
        host: String,
        #[source]
        source: Failure,
    },
    #[error("could not {doing} of host \"{host}\"")]
    Fault {
        /// Such as "cut the link".
        doing: &'static str,
        host: String,
        #[source]
        source: Failure,
    },
    #[error("could not clear away the lab in \"{}\"", dir.display())]
    Clear {
        dir: PathBuf,
        #[source]
        source: Failure,
    },
}

impl HostsLabError {
    /// Says whether it is a refusal: nothing was changed.
    pub(in crate::lab) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NotRoot
                | Self::InvalidSpec { .. }
                | Self::MissingProgram { .. }
                | Self::Load { .. }
                | Self::WrongState { .. }
        )
    }
}

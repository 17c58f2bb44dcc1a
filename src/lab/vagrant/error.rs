//! What can go wrong with a Vagrant lab, one variant per operation.

use std::io;
use std::path::PathBuf;

use super::Provider;
use crate::diagnostic::Diagnostic;
use crate::lab::Failure;

/// The failure of one operation on a Vagrant lab.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VagrantLabError {
    #[error("there is no place for the lab: HOME is not set")]
    NoHome,
    #[error("\"{program}\" is not installed (Debian package \"{package}\")")]
    ProgramMissing {
        program: &'static str,
        /// The package that brings it.
        package: &'static str,
    },
    /// The provider can't make machines here.
    #[error("the provider {provider} can't be used on this machine: {why}")]
    ProviderMissing { provider: Provider, why: String },
    #[error("there is no provider of virtual machines on this machine: neither libvirt nor VirtualBox can be used")]
    NoProvider,
    /// The inventory has problems, each with its place.
    #[error("the inventory is not valid")]
    Inventory {
        /// All of them.
        problems: Vec<Diagnostic>,
    },
    #[error("no lab can be made of \"{}\": {problem}", inventory.display())]
    NoLabOf { inventory: PathBuf, problem: String },
    /// The Vagrantfile refused to begin.
    #[error("{message}")]
    Refused {
        /// In its own words.
        message: String,
    },
    #[error("the box is not on this machine, and could not be fetched")]
    NoBox {
        /// What Vagrant says.
        message: String,
    },
    #[error("\"{}\" is not empty, and no Vagrant lab", path.display())]
    NotALab { path: PathBuf },
    #[error("another lab is up in \"{}\": its {what} is not the one that is wished for", path.display())]
    OtherLab {
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    #[error("could not understand \"{}\"", path.display())]
    State { path: PathBuf, source: serde_json::Error },
    #[error("could not write the lab's inventory")]
    WriteInventory { source: io::Error },
    #[error(transparent)]
    Failed(#[from] Failure),
    #[error("{program} failed: {message}")]
    Vagrant {
        /// The program, with what it was to do.
        program: String,
        message: String,
    },
    #[error("server \"{server}\" told no host keys")]
    NoHostKeys { server: String },
    #[error("the machine of server \"{server}\" is still there")]
    StillThere { server: String },
}

impl VagrantLabError {
    /// Says whether it is a refusal: nothing was changed.
    pub(in crate::lab) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NoHome
                | Self::ProgramMissing { .. }
                | Self::ProviderMissing { .. }
                | Self::NoProvider
                | Self::NoLabOf { .. }
                | Self::Refused { .. }
                | Self::NoBox { .. }
                | Self::NotALab { .. }
                | Self::OtherLab { .. }
                | Self::State { .. }
        )
    }

    /// Returns what is known beside the message, where no other error is its cause.
    pub(in crate::lab) fn detail(&self) -> Option<&str> {
        match self {
            Self::NoBox { message } => Some(message),
            _ => None,
        }
    }

    /// Returns what would help, where that is known.
    pub(in crate::lab) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoBox { .. } => Some(
                "With libvirt, vagrant/build-box makes a box of Debian packages alone; PGSTEAD_BOX names one that you have.",
            ),
            Self::NoProvider => Some(
                "Install libvirt (Debian packages \"libvirt-daemon-system\", \"qemu-system-x86\" and \"vagrant-libvirt\"), or choose --provider docker.",
            ),
            Self::OtherLab { .. } => Some("Take it down first, or name another directory with --dir."),
            _ => None,
        }
    }
}

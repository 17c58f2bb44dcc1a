//! What can go wrong with a lab, whatever it is made of, and how it is told. The backends' own errors say what failed.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use super::backend::BackendKind;
use super::docker::DockerLabError;
use super::fault::FaultKind;
use super::hosts::HostsLabError;
use super::local::LocalLabError;
use super::vagrant::VagrantLabError;
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};

/// Why a lab could not be made, looked at, broken or taken down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// An option was given that means nothing to the backend.
    #[error("{option} is not for the {backend} backend: {why}")]
    NotForBackend {
        option: &'static str,
        backend: BackendKind,
        /// Why it means nothing.
        why: &'static str,
    },
    /// A fault was asked for that servers of this kind can't have.
    #[error("the {backend} backend cannot {fault}: {why}")]
    CannotFault { backend: BackendKind, fault: FaultKind, why: &'static str },
    /// Servers of this kind can have the fault, and this one was not made for it.
    #[error("server \"{server}\" has no disk of its own that could be filled")]
    NoDisk { server: String },
    /// The server is in the state already that a fault would bring about, or must be in another for it.
    #[error("server \"{server}\" is {}", if *running { "running" } else { "not running" })]
    WrongState { server: String, running: bool },
    #[error("no lab is up in \"{}\"", dir.display())]
    NoLab { dir: PathBuf },
    #[error("the lab has no server \"{name}\"")]
    NoServer {
        name: String,
        /// Those that it has.
        servers: Vec<String>,
    },
    #[error("could not find lab directory \"{}\"", dir.display())]
    Directory { dir: PathBuf, source: io::Error },
    #[error("could not run ssh")]
    Ssh { source: io::Error },
    #[error(transparent)]
    Local(#[from] LocalLabError),
    #[error(transparent)]
    Hosts(#[from] HostsLabError),
    #[error(transparent)]
    Docker(#[from] DockerLabError),
    #[error(transparent)]
    Vagrant(#[from] VagrantLabError),
}

impl LabError {
    /// Says it to the operator. A refusal has changed nothing.
    #[must_use]
    pub fn failure(&self) -> Failure {
        use FailureKind::{Refused, StepFailed, Usage};
        if let Self::Vagrant(VagrantLabError::Inventory { problems }) = self {
            return Failure::all(FailureKind::Inventory, problems.clone());
        }
        let of = |is_refusal| if is_refusal { Refused } else { StepFailed };
        let (code, kind) = match self {
            Self::NotForBackend { .. } => (Code::Usage, Usage),
            Self::Directory { .. } => (Code::LabDirectory, Usage),
            Self::CannotFault { .. } => (Code::LabCannot, Refused),
            Self::NoDisk { .. } => (Code::LabNoDisk, Refused),
            Self::WrongState { .. } => (Code::LabState, Refused),
            Self::NoLab { .. } => (Code::LabMissing, Refused),
            Self::NoServer { .. } => (Code::LabServer, Refused),
            Self::Ssh { .. } => (Code::LabSsh, StepFailed),
            Self::Local(error) => (Code::LocalLab, of(error.is_refusal())),
            Self::Hosts(error) => (Code::HostsLab, of(error.is_refusal())),
            Self::Docker(DockerLabError::InvalidInventory(problems)) => {
                return Failure::all(FailureKind::Inventory, problems.clone());
            }
            Self::Docker(error) => (Code::DockerLab, of(error.is_refusal())),
            Self::Vagrant(error) => (Code::VagrantLab, of(error.is_refusal())),
        };
        let mut diagnostic = Diagnostic::error(code, self.to_string());
        // The whole chain: what fails here is the user's own machine.
        let mut causes = Vec::new();
        let mut cause = self.source();
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        if !causes.is_empty() {
            diagnostic = diagnostic.detail([&causes.join(": "), "."].concat());
        }
        if let Self::NoServer { servers, .. } = self {
            diagnostic = diagnostic.detail(format!("Its servers are {}.", servers.join(", ")));
        }
        if let Self::Vagrant(error) = self
            && let Some(detail) = error.detail()
        {
            diagnostic = diagnostic.detail(detail);
        }
        match self.hint() {
            Some(hint) => Failure::one(kind, diagnostic.hint(hint)),
            None => Failure::one(kind, diagnostic),
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoDisk { .. } => Some("Bring the lab up with --disk MIB."),
            Self::NoLab { .. } => {
                Some("Name the lab with --backend and --dir, or bring it up with \"pgstead lab up\".")
            }
            Self::Docker(error) => error.hint(),
            Self::Vagrant(error) => error.hint(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_no_lab_is_refused() {
        let failure = LabError::from(LocalLabError::NotALab { path: "/srv".into() }).failure();
        assert_eq!(failure.kind, FailureKind::Refused);
    }
}

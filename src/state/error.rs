//! What can go wrong with the state directory, and how that is told.

use std::io;
use std::path::PathBuf;

use crate::diagnostic::{Code, Diagnostic};
use crate::state::lock::Holder;

/// An operation on the state directory that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("could not create state directory {path:?}")]
    CreateDirectory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not read state file {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not write state file {path:?}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("secret file {path:?} can be read by others: mode {mode:04o}")]
    Exposed { path: PathBuf, mode: u32 },
    /// Others may put their own files in place of ours.
    #[error("state directory {path:?} can be changed by others: mode {mode:04o}")]
    OpenDirectory { path: PathBuf, mode: u32 },
    /// A new CA would be written over another one, which servers may use.
    #[error("state file {path:?} holds another CA that was about to be the new one")]
    AnotherAuthority { path: PathBuf },
    #[error("another run of pgstead works on this topology")]
    Locked {
        path: PathBuf,
        /// Who holds it, where the lock file says so.
        holder: Option<Holder>,
    },
    #[error("could not lock {path:?}")]
    Lock {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl StateError {
    /// Returns what to tell the operator.
    pub fn diagnostic(&self) -> Diagnostic {
        let message = self.to_string();
        match self {
            StateError::CreateDirectory { source, .. }
            | StateError::Read { source, .. }
            | StateError::Write { source, .. }
            | StateError::Lock { source, .. } => {
                Diagnostic::error(Code::State, message).detail([&source.to_string(), "."].concat())
            }
            StateError::Exposed { path, .. } => Diagnostic::error(Code::StateExposed, message)
                .detail("Whoever read it holds the topology's keys.")
                .hint("Take the permissions away with the command below. If others may have read a key, they can pose as any server of the topology: \"pgstead rotate certificates --ca\" makes new ones, and no server trusts the old ones then. Only when that has ended, and they may have read the replication password as well: \"pgstead rotate passwords\". \"pgstead bootstrap --new-authority\" is not for this: servers go on trusting the CA that was read.")
                .command(crate::quote::sh::join(&["chmod", "600", &path.to_string_lossy()])),
            StateError::OpenDirectory { path, .. } => Diagnostic::error(Code::StateExposed, message)
                .command(crate::quote::sh::join(&["chmod", "700", &path.to_string_lossy()])),
            StateError::AnotherAuthority { .. } => Diagnostic::error(Code::State, message)
                .detail("Its key, ca.new.key, or the files of the CA before it, ca.crt and ca.key, are not there. Nothing was changed.")
                .hint("Put what is missing back, from a backup or from another machine that has it, and run the same command again. Where its key is lost for good and \"pgstead check\" finds no server with certificates of it, move ca.new.crt away."),
            StateError::Locked { holder, .. } => {
                let diagnostic = Diagnostic::error(Code::Locked, message).hint("Wait until it ends, or end that process: the next run takes its locks over.");
                match holder {
                    Some(holder) => diagnostic.detail(holder.sentence()),
                    None => diagnostic,
                }
            }
        }
    }
}

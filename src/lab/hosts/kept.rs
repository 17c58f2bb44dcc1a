//! What a lab's hosts have written, kept for labs to come that begin with it.
//!
//! A kept directory has the form of a lab's own: its state, the operator's keys, and per host its identity and what it wrote. Nobody
//! writes there: each later lab has a copy, and the same number, since addresses are in what was written.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::error::HostsLabError;
use super::host::Host;
use super::lab::HostsLab;
use super::spec::LabSpec;
use super::state::{self, HostPaths, State};
use crate::lab::Failure;
use crate::lab::command::succeed;

impl HostsLab {
    /// Shuts all hosts down and keeps what they have written, with their keys, in `to`, which must not exist.
    ///
    /// # Errors
    /// A host does not shut down; it has a small disk, which is not kept; files cannot be copied.
    pub fn keep(&self, to: &Path) -> Result<(), HostsLabError> {
        if let Some(host) = self.hosts().iter().find(|host| host.spec().small_disk.is_some()) {
            let problem = format!("host \"{}\" has a small disk, which can't be kept", host.name());
            return Err(HostsLabError::InvalidSpec { problem });
        }
        std::thread::scope(|scope| {
            let shut_down: Vec<_> = self.hosts().iter().map(|host| scope.spawn(|| host.shut_down())).collect();
            shut_down
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        let keep = || {
            // Under its own name it is whole.
            let unfinished = to.with_extension("new");
            succeed(Command::new("rm").args(["-rf", "--one-file-system", "--"]).arg(&unfinished))?;
            for host in self.hosts() {
                let into = HostPaths::new(&unfinished, host.name());
                fs::create_dir_all(into.dir()).map_err(Failure::file("make", into.dir()))?;
                copy(&host.paths().identity(), &into.identity())?;
                copy(&host.paths().upper(), &into.upper())?;
            }
            copy(&self.dir().join(state::CLIENT), &unfinished.join(state::CLIENT))?;
            self.state().write(&unfinished)?;
            fs::rename(&unfinished, to).map_err(Failure::file("rename", &unfinished))
        };
        keep().map_err(|source| HostsLabError::PrepareLab { dir: to.to_owned(), source })
    }
}

/// Makes sure that what was kept in `kept` fits the wish: the same hosts under the same number.
pub(super) fn require_fit(kept: &Path, spec: &LabSpec) -> Result<(), HostsLabError> {
    let state = State::read(kept).map_err(|source| HostsLabError::Load { dir: kept.to_owned(), source })?;
    if state.hosts == spec.hosts && spec.number == Some(state.number.into()) {
        return Ok(());
    }
    let problem = format!("\"{}\" was kept of other hosts, or under another number", kept.display());
    Err(HostsLabError::InvalidSpec { problem })
}

/// Gives the operator of a lab the keys that its hosts know.
pub(super) fn take_client(kept: &Path, lab_dir: &Path) -> Result<(), Failure> {
    copy(&kept.join(state::CLIENT), &lab_dir.join(state::CLIENT))
}

/// Gives a host the identity that it had.
pub(super) fn take_identity(kept: &Path, host: &Host) -> Result<(), Failure> {
    let dir = host.paths().dir();
    fs::create_dir_all(dir).map_err(Failure::file("make", dir))?;
    copy(&HostPaths::new(kept, host.name()).identity(), &host.paths().identity())
}

/// Copies a directory under a new name with everything that belongs to it: owners, modes, times, extended attributes, by which an
/// overlay knows what was removed.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    succeed(Command::new("cp").args(["-a", "--no-target-directory", "--"]).arg(from).arg(to))?;
    Ok(())
}

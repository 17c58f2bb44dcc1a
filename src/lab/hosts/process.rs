//! Names processes so that a number used again is never taken for the old one.
//!
//! Signals go to one process by its id, after its start time was compared; never to a name or a group.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::lab::Failure;
use crate::lab::command::succeed;

/// A process for ever: its id may be used again, but not with the same start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessId {
    /// Its number.
    pub(super) pid: u32,
    /// When it started, in clock ticks since the machine did.
    pub(super) start_time: u64,
}

impl ProcessId {
    /// Returns the process that is `pid` now.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let (_, start_time) = state_and_start_time(pid)?;
        Some(Self { pid, start_time })
    }

    /// Returns this very process.
    pub(super) fn own() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// Reads the record that `lab/hosts/boot-host` writes.
    pub(super) fn from_record(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (pid, start_time) = text.trim().split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, start_time: start_time.parse().ok()? })
    }

    /// Tells whether it still runs. A zombie does not: its files, mounts and namespaces are gone.
    pub(super) fn is_alive(self) -> bool {
        state_and_start_time(self.pid)
            .is_some_and(|(state, start_time)| start_time == self.start_time && !matches!(state, 'Z' | 'X'))
    }

    /// Sends it a signal; a process that is gone needs none.
    pub(super) fn signal(self, signal: &str) -> Result<(), Failure> {
        if !self.is_alive() {
            return Ok(());
        }
        let sent = succeed(Command::new("kill").arg("-s").arg(signal).arg("--").arg(self.pid.to_string()));
        match sent {
            Err(failure) if self.is_alive() => Err(failure),
            _ => Ok(()),
        }
    }

    /// Returns its children that are alive.
    pub(super) fn children(self) -> Vec<Self> {
        if !self.is_alive() {
            return Vec::new();
        }
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| Self::of(pid.parse().ok()?)).collect()
    }

    /// Tells whether it is the first process of another PID namespace: the init of a host.
    pub(super) fn is_init(self) -> bool {
        is_init(self.pid)
    }
}

fn is_init(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .filter_map(|line| line.strip_prefix("NSpid:"))
        .any(|ids| ids.split_whitespace().count() > 1 && ids.split_whitespace().last() == Some("1"))
}

/// Fields 3 and 22 of `/proc/PID/stat`; field 2 is a name that may hold spaces and parentheses.
fn state_and_start_time(pid: u32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    Some((state, start_time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_another_with_its_number_is_not() {
        let own = ProcessId::own();
        assert!(own.is_some_and(ProcessId::is_alive));
        let imposter = own.map(|own| ProcessId { start_time: own.start_time + 1, ..own });
        assert!(!imposter.is_some_and(ProcessId::is_alive));
    }

    #[test]
    fn an_ordinary_process_is_no_init_of_a_host() {
        assert!(!ProcessId::own().is_some_and(ProcessId::is_init));
    }
}

//! What strikes a run, when, and how it is mended.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use pgstead::lab::hosts::Block;
use pgstead::lab::hosts::HostsLabError;

use crate::scenario::Started;
use crate::schedules::DISK;
use crate::schedules::NAMES;
use crate::schedules::Stage;

/// What strikes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// pgstead is killed.
    ToolKilled,
    /// The operator presses Ctrl-C.
    ToolInterrupted,
    /// A second run is started.
    SecondRun,
    /// A copy is killed on the server that takes it.
    CopyKilled(&'static str),
    /// A postmaster is killed.
    PostmasterKilled(&'static str),
    /// A postmaster stands still.
    PostmasterStill(&'static str),
    /// Somebody starts the instance of a server.
    InstanceStarted(&'static str),
    /// A host loses its power.
    PowerCut(&'static str),
    /// What passes between two hosts vanishes.
    LinkDropped(&'static str, &'static str),
    /// What one host sends to another vanishes.
    OneWayDropped(&'static str, &'static str),
    /// What one host sends to another is rejected.
    LinkRejected(&'static str, &'static str),
    /// What the operator sends to a host vanishes.
    OperatorDropped(&'static str),
    /// What the operator sends to a host's sshd is rejected.
    OperatorRejected(&'static str),
    /// The disk of b is full.
    DiskFull,
}

/// A fault with its moment, counted from the beginning of the run, and how long it lasts.
pub(super) struct Strike {
    pub(super) fault: Fault,
    pub(super) at: Duration,
    pub(super) lasts: Duration,
}

impl Strike {
    /// Anything, to anybody.
    pub(super) fn of(rng: &mut Rng) -> Self {
        let one = rng.choice(NAMES).unwrap();
        let others: Vec<&str> = NAMES.into_iter().filter(|name| *name != one).collect();
        let other = rng.choice(others).unwrap();
        let fault = match rng.u32(0..13) {
            0 => Fault::ToolKilled,
            1 => Fault::ToolInterrupted,
            2 => Fault::SecondRun,
            3 => Fault::CopyKilled(one),
            4 => Fault::PostmasterKilled(one),
            5 => Fault::PostmasterStill(one),
            6 => Fault::PowerCut(one),
            7 => Fault::LinkDropped(one, other),
            8 => Fault::OneWayDropped(one, other),
            9 => Fault::LinkRejected(one, other),
            10 => Fault::OperatorDropped(one),
            11 => Fault::OperatorRejected(one),
            _ => Fault::DiskFull,
        };
        Self::at_some_time(fault, rng)
    }

    /// A fault at some time within the first seconds.
    pub(super) fn at_some_time(fault: Fault, rng: &mut Rng) -> Self {
        Self { fault, at: Duration::from_millis(rng.u64(0..4_000)), lasts: Duration::from_millis(rng.u64(50..3_000)) }
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "; {:?} at {} ms for {} ms", self.fault, self.at.as_millis(), self.lasts.as_millis())
    }
}

impl Stage {
    pub(super) fn strike(&self, fault: Fault, command: &[&str], run: &Started) -> Result<(), HostsLabError> {
        // By id, and inside the host alone.
        const KILL_COPY: &str = "for p in $(pgrep -x pg_basebackup); do kill -s KILL \"$p\"; done";
        let host = |name: &str| self.lab.host(name);
        match fault {
            Fault::ToolKilled => run.signal("KILL", false),
            Fault::ToolInterrupted => run.signal("INT", true),
            Fault::SecondRun => {
                let ran = self.lab.pgstead(command);
                assert!([0, 4, 5, 6, 7, 9, 10].contains(&ran.code), "{ran}");
            }
            Fault::CopyKilled(on) => drop(host(on).run(&["sh", "-c", KILL_COPY])?),
            Fault::PostmasterKilled(on) => host(on).signal_postmaster(&self.data(), "KILL")?,
            Fault::PostmasterStill(on) => host(on).signal_postmaster(&self.data(), "STOP")?,
            Fault::InstanceStarted(on) => {
                host(on).run(&["systemctl", "start", "--no-block", &self.unit()])?;
            }
            Fault::PowerCut(on) => host(on).power_cut()?,
            Fault::LinkDropped(one, other) => {
                host(one).block_arriving(Block::Drop, host(other).address(), None)?;
                host(other).block_arriving(Block::Drop, host(one).address(), None)?;
            }
            Fault::OneWayDropped(from, to) => host(to).block_arriving(Block::Drop, host(from).address(), None)?,
            Fault::LinkRejected(from, to) => host(to).block_arriving(Block::Reject, host(from).address(), None)?,
            Fault::OperatorDropped(on) => {
                host(on).block_arriving(Block::Drop, host(on).operator_address(), Some(22))?
            }
            Fault::OperatorRejected(on) => {
                host(on).block_arriving(Block::Reject, host(on).operator_address(), Some(22))?;
            }
            Fault::DiskFull => host("b").fill_disk(DISK, 64)?,
        }
        Ok(())
    }

    pub(super) fn mend(&self, fault: Fault) -> Result<(), HostsLabError> {
        let host = |name: &str| self.lab.host(name);
        match fault {
            Fault::ToolKilled | Fault::ToolInterrupted | Fault::SecondRun => Ok(()),
            Fault::CopyKilled(_) | Fault::PostmasterKilled(_) | Fault::InstanceStarted(_) => Ok(()),
            Fault::PostmasterStill(on) => host(on).signal_postmaster(&self.data(), "CONT"),
            Fault::PowerCut(on) => host(on).boot(),
            Fault::LinkDropped(one, other) => host(one).unblock().and_then(|()| host(other).unblock()),
            Fault::OneWayDropped(_, on) | Fault::LinkRejected(_, on) => host(on).unblock(),
            Fault::OperatorDropped(on) | Fault::OperatorRejected(on) => host(on).unblock(),
            Fault::DiskFull => host("b").free_disk(DISK),
        }
    }

    /// Mends whatever strikes may have left broken on these: two faults may have met on one host.
    pub(super) fn mend_all(&self, names: &[&str]) {
        for host in names.iter().map(|name| self.lab.host(name)) {
            if !host.is_running() {
                host.boot().unwrap_or_else(|error| panic!("{}", crate::scenario::chain(&error)));
            }
            host.unblock().unwrap();
            host.free_disk(DISK).unwrap();
            host.unlimit().unwrap();
            // Where none runs, nobody stands still.
            let _ = host.signal_postmaster(&self.data(), "CONT");
        }
    }
}

//! What may happen in a round, and how often.

use std::fmt;

use fastrand::Rng;

use crate::schedules::strikes::Fault;
use crate::schedules::strikes::Strike;

/// One thing that happens to the topology. Standbys go by their place among those that are standbys by then.
pub(super) enum Event {
    /// Somebody hands over to a standby.
    Switchover(usize, Interruption),
    /// The primary dies, and a standby takes its place.
    Failover(Failover),
    /// The primary dies, and is started again.
    PrimaryKilled,
    /// A standby is not what it should be.
    Standby(usize, Trouble),
    /// All power fails, and comes back.
    AllReboot,
    /// Parameters are changed, one of which needs restarts.
    Parameters(Interruption),
    /// A standby is copied anew although nothing is wrong with it.
    Reseed(usize, Interruption),
    /// Two servers do not hear each other for a while.
    LineCut(usize, usize),
}

/// What comes between the beginning of a command and its end.
pub(super) enum Interruption {
    Nothing,
    /// Faults of the servers, the lines and the run.
    Strikes(Vec<Strike>),
    /// pgstead is killed at a moment, and somebody goes on.
    Killed(&'static str, Next),
    /// pgstead stands still from a moment on until its leases have run out, and somebody goes on.
    Frozen(&'static str, Next),
}

/// What comes after a run that did not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// A colleague takes the switchover back.
    TheirAbort,
    /// A colleague gives the same command.
    TheirSame,
    /// The operator gives the same command.
    Same,
    /// The operator gives another one, and does what it says.
    Bootstrap,
}

/// The primary dies, and a standby takes its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failover {
    /// Its host loses its power; otherwise its postmaster is killed.
    pub(super) is_cut: bool,
    pub(super) to: usize,
    pub(super) accepts_loss: bool,
    /// Whether the other standby does not run.
    pub(super) is_other_stopped: bool,
}

/// What is wrong with a standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Stopped,
    Killed,
    PowerCut,
    /// Its data directory is gone.
    Wiped,
    /// Somebody promoted it, and wrote to it.
    Promoted,
}

impl Event {
    pub(super) fn of(rng: &mut Rng) -> Self {
        match rng.u32(0..24) {
            0..8 => Event::Switchover(rng.usize(0..2), Interruption::of(rng)),
            8..13 => Event::Failover(Failover {
                is_cut: rng.bool(),
                to: rng.usize(0..2),
                accepts_loss: rng.bool(),
                is_other_stopped: rng.u32(0..4) == 0,
            }),
            13 => Event::PrimaryKilled,
            14..19 => {
                let all = [Trouble::Stopped, Trouble::Killed, Trouble::PowerCut, Trouble::Wiped, Trouble::Promoted];
                Event::Standby(rng.usize(0..2), rng.choice(all).unwrap())
            }
            19 => Event::AllReboot,
            20 | 21 => Event::Parameters(Interruption::of_ordinary(rng)),
            22 => Event::Reseed(rng.usize(0..2), Interruption::of_ordinary(rng)),
            _ => {
                let one = rng.usize(0..3);
                Event::LineCut(one, (one + rng.usize(1..3)) % 3)
            }
        }
    }
}

impl Interruption {
    fn of(rng: &mut Rng) -> Self {
        const MOMENTS: [&str; 3] = ["locked", "stopped", "promoted"];
        let next = |rng: &mut Rng| {
            rng.choice([Next::TheirAbort, Next::TheirAbort, Next::TheirSame, Next::Same, Next::Bootstrap]).unwrap()
        };
        match rng.u32(0..8) {
            0 | 1 => Interruption::Nothing,
            2 | 3 => Interruption::strikes(rng),
            4 | 5 => Interruption::Killed(rng.choice(MOMENTS).unwrap(), next(rng)),
            _ => Interruption::Frozen(rng.choice(MOMENTS).unwrap(), next(rng)),
        }
    }

    /// Of a command that is no switchover.
    fn of_ordinary(rng: &mut Rng) -> Self {
        if rng.bool() { Interruption::Nothing } else { Interruption::strikes(rng) }
    }

    fn strikes(rng: &mut Rng) -> Self {
        Interruption::Strikes((0..rng.usize(1..=2)).map(|_| Strike::at_some_time(fault(rng), rng)).collect())
    }
}

/// A fault that needs no disk of its own.
fn fault(rng: &mut Rng) -> Fault {
    loop {
        match Strike::of(rng).fault {
            Fault::DiskFull => {}
            fault => return fault,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Switchover(to, interruption) => write!(f, "switchover to standby {to}{interruption}"),
            Event::Failover(failover) => write!(f, "{failover:?}"),
            Event::PrimaryKilled => f.write_str("the primary is killed, and started again"),
            Event::Standby(which, trouble) => write!(f, "standby {which}: {trouble:?}"),
            Event::AllReboot => f.write_str("all reboot"),
            Event::Parameters(interruption) => write!(f, "parameters are changed{interruption}"),
            Event::Reseed(which, interruption) => write!(f, "standby {which} is copied anew{interruption}"),
            Event::LineCut(one, other) => write!(f, "the line between servers {one} and {other} is cut"),
        }
    }
}

impl fmt::Display for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Interruption::Nothing => Ok(()),
            Interruption::Strikes(strikes) => strikes.iter().try_for_each(|strike| strike.fmt(f)),
            Interruption::Killed(moment, next) => write!(f, ", killed when {moment}, then {next:?}"),
            Interruption::Frozen(moment, next) => write!(f, ", frozen when {moment}, then {next:?}"),
        }
    }
}

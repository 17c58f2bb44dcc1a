//! The faults of a lab, in one vocabulary for all backends. Pure values: what makes them is each backend's own.

use std::fmt;
use std::num::NonZeroU32;

/// One fault, or the end of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power goes: every process ends at once, nothing is told to anyone.
    PowerOff,
    /// The power is back, and the server boots.
    PowerOn,
    /// The server is cut off from everyone, silently.
    LinkOff,
    /// It is reached again.
    LinkOn,
    /// The disk of the server's data is full.
    DiskFull,
    /// There is room again.
    DiskFree,
    /// The server's line carries no more than so many megabits per second each way.
    RateLimited {
        /// How many.
        megabits: NonZeroU32,
    },
    /// The line is as fast as it can be.
    RateFree,
    /// The server's clock is so many seconds ahead; behind, where they are negative.
    ClockAhead {
        /// How many.
        seconds: i32,
    },
    /// The server's clock is right again.
    ClockRight,
}

/// What a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Electricity.
    Power,
    /// The network cable.
    Link,
    /// Room on the disk of the data.
    Disk,
    /// The speed of the network.
    Rate,
    /// The time of day.
    Clock,
}

impl Fault {
    /// Returns what it is about.
    #[must_use]
    pub fn kind(self) -> FaultKind {
        match self {
            Self::PowerOff | Self::PowerOn => FaultKind::Power,
            Self::LinkOff | Self::LinkOn => FaultKind::Link,
            Self::DiskFull | Self::DiskFree => FaultKind::Disk,
            Self::RateLimited { .. } | Self::RateFree => FaultKind::Rate,
            Self::ClockAhead { .. } | Self::ClockRight => FaultKind::Clock,
        }
    }
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Power, Self::Link, Self::Disk, Self::Rate, Self::Clock];

    /// Returns the word for it on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::Link => "link",
            Self::Disk => "disk",
            Self::Rate => "rate",
            Self::Clock => "clock",
        }
    }
}

/// As what is done to a server: "cut the power".
impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Power => "cut the power",
            Self::Link => "cut a link",
            Self::Disk => "fill a disk",
            Self::Rate => "limit a rate",
            Self::Clock => "change a clock",
        })
    }
}

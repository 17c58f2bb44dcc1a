//! PostgreSQL versions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A major version that pgstead supports: 15 to 19.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Major(u32);

/// Why a number is not a supported major version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("PostgreSQL {number} is not supported; supported are 15, 16, 17, 18 and 19")]
pub struct MajorError {
    /// The number as given.
    pub number: u32,
}

impl Major {
    /// Returns the number, 15 to 19.
    pub fn number(self) -> u32 {
        self.0
    }

    /// Says whether this version has the WAL summarizer (`summarize_wal`, new in 17).
    pub fn has_wal_summarizer(self) -> bool {
        self.0 >= 17
    }

    /// Says whether `ssl_ecdh_curve` has become `ssl_groups`, a list (new in 18).
    pub fn has_ssl_groups(self) -> bool {
        self.0 >= 18
    }

    /// Says whether `initdb` and `pg_basebackup` of this version can make everything durable with one `syncfs` (new in 17).
    pub fn has_sync_method(self) -> bool {
        self.0 >= 17
    }

    /// Says whether SIGINT may go to all processes of an instance at once, and is a fast shutdown then. From 18 on the
    /// checkpointer takes it for the postmaster's wish to write the shutdown checkpoint, while others still write
    /// (checkpointer.c, `ReqShutdownXLOG`).
    pub fn may_interrupt_all(self) -> bool {
        self.0 < 18
    }

    /// Says whether libpq of this version knows `require_auth` (new in 16).
    pub fn has_require_auth(self) -> bool {
        self.0 >= 16
    }
}

impl TryFrom<u32> for Major {
    type Error = MajorError;
    fn try_from(number: u32) -> Result<Self, MajorError> {
        if (15..=19).contains(&number) { Ok(Self(number)) } else { Err(MajorError { number }) }
    }
}

impl From<Major> for u32 {
    fn from(major: Major) -> u32 {
        major.0
    }
}

impl fmt::Display for Major {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An installed version such as 15.18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServerVersion {
    /// The major version.
    pub major: u32,
    /// The minor version.
    pub minor: u32,
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

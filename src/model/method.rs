//! The ways in which a server is re-seeded, cheapest first, by the words of the command line.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A way to bring a server back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// It is started, or left running, and replays the WAL that it missed.
    Replay,
    /// A copy of its data directory is rewound with `pg_rewind`.
    Rewind,
    /// Everything is copied anew with `pg_basebackup`.
    Basebackup,
}

impl Method {
    /// All of them, cheapest first.
    pub const ALL: [Method; 3] = [Method::Replay, Method::Rewind, Method::Basebackup];

    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            Method::Replay => "replay",
            Method::Rewind => "rewind",
            Method::Basebackup => "basebackup",
        }
    }
}

/// Where the room for new data comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// The old data directory stays whole beside the new one until that is proven.
    #[default]
    Keep,
    /// The old data directory becomes the new one.
    Reuse,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

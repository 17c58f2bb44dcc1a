//! The control file of a data directory, as `pg_controldata` shows it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::lsn::Lsn;

/// The control file, as far as decisions need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlFile {
    /// The database system identifier.
    pub system_identifier: u64,
    /// The database cluster state.
    pub state: ClusterState,
    /// The timeline of the latest checkpoint.
    pub timeline: u32,
    /// Where the latest checkpoint lies.
    pub checkpoint: Lsn,
    /// The data page checksum version; 0 is off (hazard 12).
    pub checksum_version: u32,
    /// Whether changes of hint bits alone are in the WAL (`wal_log_hints`), where the file says it.
    #[serde(default)]
    pub logs_hints: bool,
    /// What recovery must replay to before the data are consistent; none outside recovery.
    #[serde(default)]
    pub minimum_recovery_end: Option<Lsn>,
    /// The timeline of that position.
    #[serde(default)]
    pub minimum_recovery_timeline: Option<u32>,
    /// Bytes of a WAL segment.
    #[serde(default)]
    pub segment_bytes: Option<u64>,
}

/// The database cluster state (`pg_control.h`, `DBState`): what the instance was doing when it last wrote its control file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ClusterState {
    /// It begins its first start.
    StartingUp,
    /// It was a primary and shut down in order: its shutdown checkpoint ends its WAL.
    ShutDown,
    /// It was in recovery and shut down in order.
    ShutDownInRecovery,
    /// It was a primary and was shutting down.
    ShuttingDown,
    /// It was a primary that replays its own WAL after a crash.
    InCrashRecovery,
    /// It was in recovery.
    InArchiveRecovery,
    /// It was a primary.
    InProduction,
    /// A state that no supported version has, as it is shown.
    Other(String),
}

impl ClusterState {
    /// Every known state with the words of `pg_controldata` under `LC_ALL=C`.
    const WORDS: [(Self, &str); 7] = [
        (Self::StartingUp, "starting up"),
        (Self::ShutDown, "shut down"),
        (Self::ShutDownInRecovery, "shut down in recovery"),
        (Self::ShuttingDown, "shutting down"),
        (Self::InCrashRecovery, "in crash recovery"),
        (Self::InArchiveRecovery, "in archive recovery"),
        (Self::InProduction, "in production"),
    ];

    /// Says whether the instance was a primary when it last wrote its control file: of a standby the state is one of recovery.
    pub fn is_of_a_primary(&self) -> bool {
        matches!(self, Self::InProduction | Self::ShuttingDown | Self::ShutDown | Self::InCrashRecovery)
    }
}

impl fmt::Display for ClusterState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(words) => f.write_str(words),
            known => f.write_str(Self::WORDS.iter().find(|(state, _)| state == known).map_or("", |(_, words)| words)),
        }
    }
}

impl From<String> for ClusterState {
    fn from(text: String) -> Self {
        let known = Self::WORDS.into_iter().find(|(_, words)| *words == text);
        known.map_or(Self::Other(text), |(state, _)| state)
    }
}

impl From<ClusterState> for String {
    fn from(state: ClusterState) -> Self {
        state.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_shown_as_it_is_read() {
        for (state, words) in ClusterState::WORDS {
            assert_eq!(ClusterState::from(words.to_owned()), state);
            assert_eq!(state.to_string(), words);
        }
        let other = ClusterState::from("unrecognized status code".to_owned());
        assert_eq!(other.to_string(), "unrecognized status code");
        assert!(!other.is_of_a_primary());
    }
}

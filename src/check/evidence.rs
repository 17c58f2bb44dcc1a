//! What a check tried and sampled besides the observation. Values; nothing here judges.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::check::Canaries;
use crate::model::name::ServerName;
use crate::model::observed::Observed;
use crate::plan::material::Authority;

/// What was tried and sampled. What is none was not tried.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// When, by the operator's clock.
    pub at: Timestamp,
    /// The rows that were written (L7).
    pub canaries: Option<Canaries>,
    /// Whether servers dialled each other (L15); what they found is in the observation.
    pub dialled: bool,
    /// Samples of links, by standby (L6, L8).
    pub samples: BTreeMap<ServerName, Observed<Vec<Sample>>>,
    /// The certificate that each server serves, as PEM (L16).
    pub served: Option<BTreeMap<ServerName, Observed<String>>>,
    /// The certificate of the topology's CA, PEM: this machine's, or what the servers show where another machine holds it. Two, while
    /// one takes the place of the other.
    pub authority: Option<String>,
    /// Whether one CA takes the place of another.
    pub in_rotation: bool,
    /// Who holds the CA, where this machine does not.
    pub elsewhere: Option<Authority>,
    /// The servers that were asked through their local sockets although this machine has a certificate, and why.
    pub by_socket: BTreeMap<ServerName, String>,
    /// What `pg_amcheck` said, by standby (L12).
    pub amcheck: Option<BTreeMap<ServerName, Observed<Vec<Amcheck>>>>,
    /// A segment's way into the archive (L20).
    pub archive: Option<Observed<ArchiveTrip>>,
    /// The ends of the logs that say why something does not run or stream, by server.
    pub logs: BTreeMap<ServerName, Observed<Log>>,
}

/// The end of an instance's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The file, or the words for a journal.
    pub file: String,
    /// Its last lines.
    pub text: String,
}

/// One look at a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Milliseconds since the first sample.
    pub after_ms: u64,
    /// Bytes from the primary's position to what the standby has replayed, where both are known.
    pub behind_bytes: Option<i64>,
    /// `reply_time`, by the standby's own clock, in microseconds since the epoch; none where there is no walsender.
    pub reply_time_us: Option<i64>,
}

/// What `pg_amcheck` said of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amcheck {
    /// The database.
    pub database: String,
    /// What came of it.
    pub outcome: AmcheckOutcome,
}

/// What came of `pg_amcheck`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AmcheckOutcome {
    /// Every page and index was read, and is sound.
    Sound,
    /// The extension is not installed in the database.
    NotInstalled,
    /// Something is damaged; its own words.
    Damage(String),
    /// It could not be finished, and why.
    Failed(String),
}

/// A segment's way into the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveTrip {
    /// The segment.
    pub segment: String,
    /// Milliseconds until `pg_stat_archiver` named it or a later one; none when it did not.
    pub archived_ms: Option<u64>,
    /// How long was waited, in milliseconds.
    pub waited_ms: u64,
    /// Whether the copy is equal; absent where `archive_command` does not tell where it is.
    pub copy_equal: Observed<bool>,
}

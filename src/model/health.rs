//! What a running instance says about its own health: what only `check` judges. All of it is one part of one answer.

use serde::{Deserialize, Serialize};

/// The facts of one instance that need no further look.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Names of settings whose value in the files is not the one in force, without an error and without a pending restart.
    pub unserved: Vec<String>,
    /// `checksum_failures` of `pg_stat_database`, of databases that have any.
    pub checksum_failures: Vec<ChecksumFailures>,
    /// The collation versions of databases that have one.
    pub collations: Vec<Collation>,
    /// For how long sessions have been waiting for a synchronous standby, in milliseconds.
    pub sync_waits_ms: Vec<u64>,
    /// Settings of `synchronous_commit` for roles and databases, such as `role crawler: synchronous_commit=off`.
    pub commit_overrides: Vec<String>,
    /// `pg_stat_archiver`.
    pub archiver: Option<Archiver>,
    /// How much WAL was written since when.
    pub wal: Option<WalRate>,
    /// Records of `pg_hba.conf` that let somebody in from the network without any proof, for replication or for all databases.
    pub trusted: Vec<Trusted>,
    /// The text of the CRL file. None where `ssl_crl_file` is empty, and where the file is not there.
    pub crl: Option<String>,
}

/// A record of `pg_hba_file_rules` whose method is `trust`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusted {
    /// `line_number`.
    pub line: u32,
    /// `database`, with commas.
    pub database: String,
    /// `user_name`, with commas.
    pub user: String,
    /// `address`.
    pub address: String,
}

/// A row of `pg_stat_database` with checksum failures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChecksumFailures {
    /// `datname`; empty for shared objects.
    pub database: String,
    /// `checksum_failures`.
    pub failures: u64,
    /// `checksum_last_failure`.
    pub last: Option<String>,
}

/// A database and its collation's versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collation {
    /// `datname`.
    pub database: String,
    /// `datcollversion`: what its indexes were built with.
    pub recorded: Option<String>,
    /// `pg_database_collation_actual_version()`: what this server would sort by.
    pub actual: Option<String>,
}

/// The row of `pg_stat_archiver`, and what waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archiver {
    /// `last_archived_wal`.
    pub last_archived_wal: Option<String>,
    /// `last_archived_time`, in microseconds since the epoch.
    pub last_archived_us: Option<i64>,
    /// `failed_count`.
    pub failed_count: u64,
    /// `last_failed_wal`.
    pub last_failed_wal: Option<String>,
    /// `last_failed_time`, in microseconds since the epoch.
    pub last_failed_us: Option<i64>,
    /// Segments that wait for the archiver (`.ready` files).
    pub ready: u64,
}

/// `pg_stat_wal`: bytes since the last reset of the statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalRate {
    /// `wal_bytes`.
    pub bytes: u64,
    /// Seconds since `stats_reset`.
    pub seconds: u64,
}

impl WalRate {
    /// Returns bytes per second, where they were counted for at least so many seconds.
    pub fn bytes_per_second(self, at_least_s: u64) -> Option<u64> {
        (self.seconds >= at_least_s.max(1)).then(|| self.bytes / self.seconds)
    }
}

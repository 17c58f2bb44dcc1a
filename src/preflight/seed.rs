//! Estimates the base backups that are to come: bytes, time, and the WAL that is written meanwhile (field.md, section 5).
//!
//! Estimates only; `disk` says what they mean for free space and for WAL retention.

use serde::Serialize;

use crate::model::lsn::Lsn;
use crate::model::name::ServerName;
use crate::preflight::facts::{Facts, Seen};

/// One base backup that is to come.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Seed {
    /// The server that is copied.
    pub upstream: ServerName,
    /// The server that receives.
    pub standby: ServerName,
    /// Bytes of the data directory and of the tablespaces.
    pub bytes: u64,
    /// Bytes that do not lie in the data directory: by tablespace.
    pub tablespaces: Vec<TablespaceSeed>,
    /// Files at the least.
    pub files: u64,
    /// Bytes per second of the link; measured, or presumed.
    pub bytes_per_second: f64,
    /// Whether the link was measured.
    pub measured: bool,
    /// Seconds that the copy will take at that speed.
    pub seconds: f64,
    /// Bytes of WAL per second that the primary writes.
    pub wal_bytes_per_second: f64,
    /// Bytes of WAL that will be written during the copy.
    pub wal_bytes: u64,
}

/// The part of a base backup that is one tablespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TablespaceSeed {
    /// Its name.
    pub name: String,
    /// Its directory, the same on every server.
    pub location: String,
    /// Its bytes.
    pub bytes: u64,
}

impl Seed {
    /// Returns the bytes that go into the data directory itself.
    pub fn data_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.tablespaces.iter().map(|tablespace| tablespace.bytes).sum())
    }
}

/// Returns the base backups that a bootstrap would take, where a primary runs.
pub(super) fn seeds(facts: &Facts<'_>) -> Vec<Seed> {
    let Some(source) = facts.source().filter(|seen| seen.instance().is_some()) else { return Vec::new() };
    let wanting = facts.standbys().filter(|standby| standby.layout().is_some() && !standby.has_data());
    wanting.map(|standby| seed(facts, source, standby)).collect()
}

fn seed(facts: &Facts<'_>, source: Seen<'_>, standby: Seen<'_>) -> Seed {
    let upstream = facts.links.iter().find(|link| link.standby == *standby.name).map(|link| &link.upstream);
    let upstream = upstream.unwrap_or(facts.primary);
    let ready = source.instance_readiness();
    let database_bytes = source.instance().map_or(0, |instance| instance.database_bytes);
    let tablespaces: Vec<TablespaceSeed> = source
        .instance()
        .into_iter()
        .flat_map(|instance| &instance.tablespaces)
        .map(|(name, location)| TablespaceSeed {
            name: name.clone(),
            location: location.clone(),
            bytes: ready.and_then(|ready| ready.tablespace_bytes.get(name)).copied().unwrap_or(0),
        })
        .collect();
    let of_tablespaces: u64 = ready.map_or(0, |ready| ready.tablespace_bytes.values().sum());
    let bytes = database_bytes.max(of_tablespaces);
    let files = ready.map_or(0, |ready| {
        let databases = ready.databases.values().filter_map(|database| database.known());
        databases.map(|database| database.files).sum()
    });
    let measured = facts.way(upstream, standby.name).and_then(|way| way.bytes_per_second);
    let bytes_per_second = measured.unwrap_or(facts.thresholds.presumed_bytes_per_second);
    let wal_bytes_per_second = wal_rate(source);
    let seconds = bytes as f64 / bytes_per_second;
    Seed {
        upstream: upstream.clone(),
        standby: standby.name.clone(),
        bytes,
        tablespaces,
        files,
        bytes_per_second,
        measured: measured.is_some(),
        seconds,
        wal_bytes_per_second,
        wal_bytes: (wal_bytes_per_second * seconds) as u64,
    }
}

/// Returns the bytes of WAL that a primary writes per second: the mean since its statistics were reset, or what was
/// seen just now, whichever is more.
pub(super) fn wal_rate(source: Seen<'_>) -> f64 {
    let Some(ready) = source.instance_readiness() else { return 0.0 };
    // Statistics of a few seconds are those of the start.
    let mean = if ready.wal_seconds > 60.0 { ready.wal_bytes as f64 / ready.wal_seconds } else { 0.0 };
    let written = |(first, second): (Lsn, Lsn)| second.bytes_ahead_of(first).max(0) as f64;
    let sample = ready.wal_first.zip(ready.wal_second).map_or(0.0, written);
    if ready.wal_sample_seconds > 0.05 { mean.max(sample / ready.wal_sample_seconds) } else { mean }
}

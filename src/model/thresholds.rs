//! How much is too much for `check`: the defaults, and what an inventory may say instead.

/// The limits of `check`, each with its unit in its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Milliseconds within which a canary must arrive at a standby of the primary's region (L7).
    pub canary_near_ms: u64,
    /// The same for a standby of another region.
    pub canary_far_ms: u64,
    /// Bytes that replay may be behind before it is a warning (L8).
    pub lag_warning_bytes: u64,
    /// Bytes that replay may be behind before the link is unhealthy.
    pub lag_error_bytes: u64,
    /// Bytes from which on a standby is watched over three samples, to see whether it falls further behind.
    pub lag_growth_bytes: u64,
    /// Milliseconds between two samples.
    pub sample_interval_ms: u64,
    /// Free walsenders and slots that every server keeps for the next standby and a base backup (L17).
    pub headroom: u64,
    /// Seconds that a standby must be able to stay away without losing its slot's WAL (L10). Also the shortest time
    /// over which WAL is counted before a rate is told from it.
    pub slot_outage_s: u64,
    /// Seconds that a slot of somebody else may be inactive, where the server counts them (17 and later).
    pub slot_inactive_s: u64,
    /// Days before the end of a certificate or CRL from which on the server is unhealthy (L16).
    pub certificate_error_days: u64,
    /// Percent of a file system that should stay free; less is unhealthy when it would fill up within `disk_full_hours`
    /// (L21).
    pub disk_free_percent: u64,
    /// Percent of a file system that must stay free, however slowly it fills.
    pub disk_free_error_percent: u64,
    /// Hours for which free space must last at the rate at which WAL is written.
    pub disk_full_hours: u64,
    /// Milliseconds by which a server's clock may differ from the primary's (L21).
    pub clock_skew_ms: u64,
    /// Milliseconds that a commit may wait for a synchronous standby (L19).
    pub sync_wait_ms: u64,
    /// WAL segments that may wait for the archiver (L20).
    pub archive_backlog_segments: u64,
    /// Milliseconds within which a segment must be archived (`check --deep`).
    pub archive_wait_ms: u64,
    /// Seconds that `pg_amcheck` may take on one database (`check --deep`, L12).
    pub amcheck_timeout_s: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            canary_near_ms: 2_000,
            canary_far_ms: 10_000,
            lag_warning_bytes: 64 << 20,
            lag_error_bytes: 1 << 30,
            lag_growth_bytes: 16 << 20,
            sample_interval_ms: 1_000,
            headroom: 2,
            slot_outage_s: 3_600,
            slot_inactive_s: 60,
            certificate_error_days: 7,
            disk_free_percent: 20,
            disk_free_error_percent: 5,
            disk_full_hours: 24,
            clock_skew_ms: 1_000,
            sync_wait_ms: 5_000,
            archive_backlog_segments: 32,
            archive_wait_ms: 60_000,
            amcheck_timeout_s: 3_600,
        }
    }
}

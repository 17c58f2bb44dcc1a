//! Judges room and time: free space where data and WAL are written, and clocks.

use std::collections::BTreeSet;

use crate::check::Finding;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::layout::Layout;
use crate::model::name::ServerName;
use crate::model::observation::{Instance, ServerObservation};
use crate::model::observed::Observed;
use crate::model::quantity::bytes;
use crate::model::thresholds::Thresholds;

/// L21, first half: file systems. `rate` is the primary's WAL in bytes per second, where it is known.
pub(super) fn check_disks(
    name: &ServerName,
    seen: &ServerObservation,
    rate: Option<u64>,
    thresholds: &Thresholds,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut mounts = BTreeSet::new();
    for (path, disk) in &seen.disks {
        let disk = match disk.look() {
            Ok(Some(disk)) => disk,
            Ok(None) => continue,
            Err(why) => {
                findings.push(Finding::unknown(
                    Diagnostic::error(
                        Code::DiskUnreadable,
                        format!("server \"{name}\": the room at {path} could not be looked at"),
                    )
                    .server(name)
                    .detail(why),
                ));
                continue;
            }
        };
        if disk.total_bytes == 0 || !mounts.insert(&disk.mount) {
            continue;
        }
        let percent = disk.free_bytes.saturating_mul(100) / disk.total_bytes;
        let hours = rate.filter(|rate| *rate > 0).map(|rate| disk.free_bytes / rate / 3600);
        let fills = percent < thresholds.disk_free_percent && hours.is_some_and(|h| h < thresholds.disk_full_hours);
        if percent < thresholds.disk_free_error_percent || fills {
            let lasts = hours.map_or(String::new(), |hours| format!(" At the rate of WAL they last {hours} hours."));
            findings.push(Finding::unhealthy(
                Diagnostic::error(
                    Code::DiskNearlyFull,
                    format!("server \"{name}\": {percent} % of {} are free", disk.mount),
                )
                .server(name)
                .detail(format!(
                    "{} MB of {} MB.{lasts} {path} is on it.",
                    disk.free_bytes >> 20,
                    disk.total_bytes >> 20
                ))
                .hint("PostgreSQL stops when it cannot write WAL. Make room; never in pg_wal by hand."),
            ));
        }
    }
    findings
}

/// L21: what slots may keep has room on the disk of the WAL (hazard 45).
pub(super) fn check_slot_cap(
    name: &ServerName,
    seen: &ServerObservation,
    layout: &Layout,
    instance: &Instance,
    thresholds: &Thresholds,
) -> Option<Finding> {
    let cap = instance.settings.get("max_slot_wal_keep_size")?.setting.parse::<i64>().ok()?;
    let wal = [&layout.data_directory, "/pg_wal"].concat();
    let disk = seen.disks.get(&wal).or_else(|| seen.disks.get(&layout.data_directory)).and_then(Observed::known)?;
    // That it is nearly full already is said by itself.
    if disk.free_bytes.saturating_mul(100) < disk.total_bytes.saturating_mul(thresholds.disk_free_error_percent) {
        return None;
    }
    let room = disk.free_bytes.saturating_add(instance.wal_directory_bytes.unwrap_or(0));
    // -1 is no cap. The setting counts in megabytes.
    let cap = u64::try_from(cap).ok().map(|cap| cap.saturating_mul(1 << 20));
    if cap.is_some_and(|cap| cap <= room) {
        return None;
    }
    let keeps = cap.map_or("without a limit".to_owned(), |cap| format!("up to {}", bytes(cap)));
    Some(
        Finding::remark(
            Diagnostic::warning(
                Code::SlotCapExceedsDisk,
                format!("server \"{name}\": slots may keep more WAL than {} can hold", disk.mount),
            )
            .server(name)
            .detail(format!(
                "They keep {keeps}; there is room for {}. A standby that stays away would stop this server.",
                bytes(room)
            ))
            .hint(
                "Lower replication.max_slot_wal_keep_size in the inventory and bootstrap, or give WAL a larger disk.",
            ),
        )
        .of_topology(),
    )
}

/// L21, second half: clocks. Both skews are measured against the operator's clock, each within its round trip.
pub(super) fn check_clock(
    name: &ServerName,
    seen: &ServerObservation,
    primary: &ServerName,
    reference: &ServerObservation,
    thresholds: &Thresholds,
) -> Option<Finding> {
    let apart = (seen.os.clock_skew_ms - reference.os.clock_skew_ms).unsigned_abs();
    (name != primary && apart > thresholds.clock_skew_ms).then(|| {
        Finding::unhealthy(
            Diagnostic::error(
                Code::ClockSkew,
                format!("server \"{name}\": its clock is {:.1} s off that of \"{primary}\"", apart as f64 / 1000.0),
            )
            .server(name)
            .detail("Certificates, recovery targets and replay_lag depend on clocks that agree.")
            .hint("Look at its time synchronisation: timedatectl."),
        )
        .of_topology()
    })
}

//! Judges the limits of `check`: what is not given is the default, and a warning must come before its error.

use crate::diagnostic::{Code, Diagnostic};
use crate::inventory::problems::Path;
use crate::inventory::raw;
use crate::inventory::validate::Judge;
use crate::model::lifetimes::Lifetimes;
use crate::model::thresholds::Thresholds;

impl Judge<'_, '_> {
    pub(super) fn thresholds(&mut self, lifetimes: Lifetimes) -> Thresholds {
        let given = self.raw.thresholds.clone().unwrap_or_default();
        let thresholds = complete(&given);
        let pairs = [
            ("lag_warning_bytes", thresholds.lag_warning_bytes, "lag_error_bytes", thresholds.lag_error_bytes),
            (
                "certificate_error_days",
                thresholds.certificate_error_days,
                "certificates.renew_before_days",
                u64::from(lifetimes.renew_before),
            ),
            (
                "disk_free_error_percent",
                thresholds.disk_free_error_percent,
                "disk_free_percent",
                thresholds.disk_free_percent,
            ),
        ];
        for (low_key, low, high_key, high) in pairs {
            if low > high {
                self.problems.add(
                    &Path::of(&["thresholds"]),
                    Diagnostic::error(
                        Code::ThresholdsCrossed,
                        format!("{low_key} is {low}, more than {high_key}, which is {high}"),
                    )
                    .detail("A key that is not given has its default."),
                );
            }
        }
        thresholds
    }
}

/// Puts defaults where nothing is given.
fn complete(given: &raw::Thresholds) -> Thresholds {
    let or = Thresholds::default();
    Thresholds {
        canary_near_ms: given.canary_near_ms.unwrap_or(or.canary_near_ms),
        canary_far_ms: given.canary_far_ms.unwrap_or(or.canary_far_ms),
        lag_warning_bytes: given.lag_warning_bytes.unwrap_or(or.lag_warning_bytes),
        lag_error_bytes: given.lag_error_bytes.unwrap_or(or.lag_error_bytes),
        lag_growth_bytes: given.lag_growth_bytes.unwrap_or(or.lag_growth_bytes),
        sample_interval_ms: given.sample_interval_ms.unwrap_or(or.sample_interval_ms),
        headroom: given.headroom.unwrap_or(or.headroom),
        slot_outage_s: given.slot_outage_s.unwrap_or(or.slot_outage_s),
        slot_inactive_s: given.slot_inactive_s.unwrap_or(or.slot_inactive_s),
        certificate_error_days: given.certificate_error_days.unwrap_or(or.certificate_error_days),
        disk_free_percent: given.disk_free_percent.unwrap_or(or.disk_free_percent),
        disk_free_error_percent: given.disk_free_error_percent.unwrap_or(or.disk_free_error_percent),
        disk_full_hours: given.disk_full_hours.unwrap_or(or.disk_full_hours),
        clock_skew_ms: given.clock_skew_ms.unwrap_or(or.clock_skew_ms),
        sync_wait_ms: given.sync_wait_ms.unwrap_or(or.sync_wait_ms),
        archive_backlog_segments: given.archive_backlog_segments.unwrap_or(or.archive_backlog_segments),
        archive_wait_ms: given.archive_wait_ms.unwrap_or(or.archive_wait_ms),
        amcheck_timeout_s: given.amcheck_timeout_s.unwrap_or(or.amcheck_timeout_s),
    }
}

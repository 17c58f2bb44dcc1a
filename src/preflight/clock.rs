//! Judges clocks against each other, by what each surely differs from the operator's: never by a reading alone.
//!
//! That a clock differs from the operator's is the plan's matter; two servers may both be near it and apart.

use crate::diagnostic::{Code, Diagnostic};
use crate::model::pair::Pair;
use crate::preflight::Finding;
use crate::preflight::facts::{Facts, Seen};

pub(super) fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    let servers: Vec<Seen<'_>> = facts.servers().collect();
    let mut found = Vec::new();
    for (index, one) in servers.iter().enumerate() {
        let error_ms = one.seen.os.clock_error_ms;
        if error_ms > facts.thresholds.clock_warning_ms {
            let name = one.name;
            found.push(Finding::from(
                Diagnostic::note(Code::ClockUnsure, format!("server \"{name}\": its clock could not be read closely"))
                    .server(name)
                    .detail(format!(
                        "The round trip took {:.1} s, within which any difference may hide.",
                        error_ms as f64 / 500.0
                    ))
                    .hint("Run it again when the line is quieter."),
            ));
        }
        found.extend(servers[index + 1..].iter().filter_map(|other| compare(facts, *one, *other)));
    }
    found
}

/// Returns the bounds of a server's clock less the operator's, in milliseconds.
fn bounds(seen: Seen<'_>) -> (i64, i64) {
    let (skew, width) = (seen.seen.os.clock_skew_ms, 2 * seen.seen.os.clock_error_ms);
    match skew {
        0 => (-width, width),
        ahead if ahead > 0 => (ahead, ahead + width),
        behind => (behind - width, behind),
    }
}

fn compare(facts: &Facts<'_>, one: Seen<'_>, other: Seen<'_>) -> Option<Finding> {
    let ((low, high), (other_low, other_high)) = (bounds(one), bounds(other));
    let surely_ms = (low - other_high).max(other_low - high);
    if surely_ms <= facts.thresholds.clock_warning_ms {
        return None;
    }
    let (name, second) = (one.name, other.name);
    let message =
        format!("the clocks of \"{name}\" and \"{second}\" differ by {:.1} s at the least", surely_ms as f64 / 1000.0);
    let diagnostic = match surely_ms > facts.thresholds.clock_error_ms {
        true => Diagnostic::error(Code::ClocksDiffer, message),
        false => Diagnostic::warning(Code::ClocksDiffer, message),
    };
    let diagnostic = diagnostic
        .detail(format!(
            "Against this machine's clock \"{name}\" is between {low} and {high} ms, \"{second}\" between {other_low} and {other_high} ms."
        ))
        .hint("Start time synchronisation on both (chrony or systemd-timesyncd).");
    Some(Finding { diagnostic, pair: Some(Pair::new(name, second)) })
}

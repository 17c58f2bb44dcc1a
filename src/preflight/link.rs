//! Judges the lines between servers by what was measured: latency, loss, throughput, and what each is needed for.

use crate::diagnostic::{Code, Diagnostic};
use crate::model::pair::{Pair, Way};
use crate::model::quantity::{bytes, milliseconds};
use crate::preflight::facts::Facts;
use crate::preflight::report::loss;
use crate::preflight::{Finding, seed};

/// A path that carries less in one packet than Ethernet does cuts or drops what others send.
const ETHERNET_WITH_TUNNELS: u32 = 1_400;
/// Fewer segments sent again are noise.
const RETRANSMITS: u64 = 2;

pub(super) fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (from, others) in facts.pairs {
        for (to, way) in others {
            let Some(way) = way.known() else { continue };
            let pair = Pair::new(from, to);
            let mut add = |diagnostic: Diagnostic| {
                found.push(Finding { diagnostic, pair: Some(pair.clone()) });
            };
            latency(facts, &pair, way).map(&mut add);
            let back = facts.way(to, from);
            if let Some(loss) =
                loss(way).filter(|loss| *loss >= facts.thresholds.loss && way.echo_retransmits >= RETRANSMITS)
            {
                add(Diagnostic::warning(Code::PacketsLost, format!("packets from \"{from}\" to \"{to}\" are lost"))
                    .detail(format!(
                        "{} of {} segments had to be sent again, {:.0} %.",
                        way.echo_retransmits,
                        way.echo_segments,
                        loss * 100.0
                    ))
                    .hint("Look at the line; TCP is slow on one that loses packets."));
            }
            if let Some(mtu) = way.path_mtu.filter(|mtu| *mtu < ETHERNET_WITH_TUNNELS) {
                add(Diagnostic::note(Code::SmallMtu, format!("packets from \"{from}\" to \"{to}\" are small"))
                    .detail(format!("The path takes {mtu} bytes at once."))
                    .hint("A tunnel is on the way. Where a copy hangs after its first bytes, look at ICMP filters and MSS clamping."));
            }
            // Once for both directions.
            if from < to
                && let (Some(there), Some(back)) = (way.bytes_per_second, back.and_then(|back| back.bytes_per_second))
                && there.max(back) / there.min(back) > facts.thresholds.asymmetry
                && there.min(back) < facts.thresholds.fast_bytes_per_second
            {
                add(Diagnostic::warning(
                    Code::AsymmetricLine,
                    format!("the line between \"{from}\" and \"{to}\" is much slower in one direction"),
                )
                .detail(format!(
                    "{} per second from \"{from}\", {} per second from \"{to}\".",
                    bytes(there as u64),
                    bytes(back as u64)
                ))
                .hint("After a role change WAL flows the other way."));
            }
            if let (Some(rate), Some(source)) = (way.bytes_per_second, facts.source())
                && facts.links.iter().any(|link| link.upstream == *from && link.standby == *to)
            {
                let wal = seed::wal_rate(source);
                if rate < wal {
                    add(Diagnostic::error(
                        Code::LineSlowerThanWal,
                        format!("the line from \"{from}\" to \"{to}\" is slower than the primary writes WAL"),
                    )
                    .detail(format!(
                        "It takes {} per second; \"{}\" writes {} per second. \"{to}\" would never catch up.",
                        bytes(rate as u64),
                        source.name,
                        bytes(wal as u64)
                    ))
                    .hint(
                        "A faster line, less WAL (wal_compression, longer checkpoint_timeout), or another upstream.",
                    ));
                }
            }
        }
    }
    found
}

fn latency(facts: &Facts<'_>, pair: &Pair, way: &Way) -> Option<Diagnostic> {
    let [shortest, mean, longest] = way.echo_ms?;
    let Pair { from, to } = pair;
    let numbers = format!(
        "20 echoes took {} on average, {} to {}.",
        milliseconds(mean),
        milliseconds(shortest),
        milliseconds(longest)
    );
    let waits = facts.topology.common().replication.synchronous.as_ref().is_some_and(|wish| wish.standbys.contains(to))
        && from == facts.primary;
    if waits && mean > facts.thresholds.sync_latency_ms {
        return Some(
            Diagnostic::warning(Code::SyncLatency, format!("every commit on \"{from}\" would wait long for \"{to}\""))
                .detail(numbers)
                .hint("Choose a nearer synchronous standby, or let sessions that can lose a commit set synchronous_commit = local."),
        );
    }
    (mean > facts.thresholds.latency_ms).then(|| {
        Diagnostic::note(Code::HighLatency, format!("\"{to}\" is far from \"{from}\""))
            .detail(numbers)
            .hint("Fit for asynchronous replication.")
    })
}

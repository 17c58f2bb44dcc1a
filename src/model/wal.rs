//! Places in the write-ahead log: segments, their files' names, timeline histories, and what was read of them to tell
//! one history from another. Reads nothing itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::lsn::Lsn;
use crate::model::name::ServerName;
use crate::model::observed::Observed;

/// Bytes of a segment where `initdb` was not told otherwise.
pub const DEFAULT_SEGMENT_BYTES: u64 = 16 << 20;

/// A segment of the write-ahead log, whatever its timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// Its number since the beginning of the log.
    pub number: u64,
    /// Its size in bytes; `initdb` chose it.
    pub bytes: u64,
}

impl Segment {
    /// Returns the segment that holds the last byte before a position, and how many of its bytes lie before it.
    pub fn before(end: Lsn, segment_bytes: u64) -> (Self, u64) {
        let last = end.0.saturating_sub(1);
        (Self { number: last / segment_bytes, bytes: segment_bytes }, last % segment_bytes + 1)
    }

    /// Returns the segment before this one.
    pub fn previous(self) -> Option<Self> {
        Some(Self { number: self.number.checked_sub(1)?, ..self })
    }

    /// Returns where it begins.
    pub fn start(self) -> Lsn {
        Lsn(self.number * self.bytes)
    }

    /// Returns the name of its file on a timeline, as `pg_walfile_name()` does.
    pub fn file(self, timeline: u32) -> String {
        let per_log = (1_u64 << 32) / self.bytes.max(1);
        format!("{timeline:08X}{:08X}{:08X}", self.number / per_log.max(1), self.number % per_log.max(1))
    }
}

/// Returns the name of a timeline's history file.
pub fn history_file(timeline: u32) -> String {
    format!("{timeline:08X}.history")
}

/// Parses the text of a timeline history file: each ancestor with the position at which it was left.
pub fn parse_history(text: &str) -> Vec<(u32, Lsn)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// What must be read of a joining server and of its upstream before one may follow the other (hazards.md, finding 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalQuestion {
    /// The server that is to join.
    pub joining: ServerName,
    /// The server that it is to follow.
    pub upstream: ServerName,
    /// The timeline of the joining server's last WAL.
    pub timeline: u32,
    /// A position up to which the joining server surely has WAL.
    pub end: Lsn,
    /// The timeline that the upstream writes or replays.
    pub upstream_timeline: u32,
    /// Bytes of a segment.
    pub segment_bytes: u64,
}

impl WalQuestion {
    /// Returns the segment in which the joining server's WAL ends, and how many of its bytes are compared.
    pub fn last(&self) -> (Segment, u64) {
        Segment::before(self.end, self.segment_bytes)
    }

    /// Returns the files that may hold a segment: its timeline's own, what a promotion made of it, and the copies that
    /// the timelines after it begin with.
    pub fn files(&self, segment: Segment) -> Vec<String> {
        let own = segment.file(self.timeline);
        let partial = [&own, ".partial"].concat();
        // Timelines are counted one by one; a distance beyond this is no fork of the same instance.
        let after = self.timeline.saturating_add(1)..=self.upstream_timeline.min(self.timeline.saturating_add(20));
        [own, partial].into_iter().chain(after.map(|timeline| segment.file(timeline))).collect()
    }

    /// Returns the timelines whose histories are compared.
    pub fn timelines(&self) -> Vec<u32> {
        let mut timelines = vec![self.timeline, self.upstream_timeline];
        timelines.dedup();
        timelines.retain(|timeline| *timeline > 1);
        timelines
    }
}

/// What one server has of the WAL that was asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalSeen {
    /// The texts of history files, by timeline.
    pub histories: BTreeMap<u32, Observed<String>>,
    /// The SHA-256 of the first bytes of each file that holds the last segment. Absent: none does any more.
    pub last: Observed<BTreeMap<String, String>>,
    /// The same for the whole segment before it.
    pub earlier: Observed<BTreeMap<String, String>>,
}

/// A question with its answers from both servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalComparison {
    /// What was asked.
    pub question: WalQuestion,
    /// What the joining server has.
    pub joining: Observed<WalSeen>,
    /// What its upstream has.
    pub upstream: Observed<WalSeen>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_postgresql_gives_them() {
        let segment = |end: &str, bytes| Segment::before(end.parse().unwrap(), bytes);
        let (last, bytes) = segment("0/3000150", DEFAULT_SEGMENT_BYTES);
        assert_eq!((last.file(1).as_str(), bytes), ("000000010000000000000003", 0x150));
        assert_eq!(last.start(), Lsn(0x300_0000));
        // At a boundary the last byte is in the segment before it.
        let (last, bytes) = segment("2/0", DEFAULT_SEGMENT_BYTES);
        assert_eq!((last.file(10).as_str(), bytes), ("0000000A00000001000000FF", DEFAULT_SEGMENT_BYTES));
        let (last, _) = segment("1/40000028", 1 << 30);
        assert_eq!(last.file(2), "000000020000000100000001");
        assert_eq!(segment("0/10", DEFAULT_SEGMENT_BYTES).0.previous(), None);
    }

    #[test]
    fn histories_as_postgresql_writes_them() {
        let text = "1\t0/3000150\tno recovery target specified\n\n2\t0/4000000\tbefore 2000-01-01\n";
        assert_eq!(parse_history(text), [(1, Lsn(0x300_0150)), (2, Lsn(0x400_0000))]);
        assert_eq!(history_file(27), "0000001B.history");
    }

    #[test]
    fn a_segment_is_looked_for_on_later_timelines_too() {
        let name = |text: &str| text.parse().unwrap();
        let question = WalQuestion {
            joining: name("b"),
            upstream: name("a"),
            timeline: 1,
            end: Lsn(0x300_0150),
            upstream_timeline: 3,
            segment_bytes: DEFAULT_SEGMENT_BYTES,
        };
        assert_eq!(
            question.files(question.last().0),
            [
                "000000010000000000000003",
                "000000010000000000000003.partial",
                "000000020000000000000003",
                "000000030000000000000003"
            ]
        );
        assert_eq!(question.timelines(), [3]);
    }
}

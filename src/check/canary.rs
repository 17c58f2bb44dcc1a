//! What was seen of the rows that a check writes on the primary and reads on the standbys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::name::ServerName;
use crate::model::observed::Observed;

/// What was seen of one canary on one standby.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Milliseconds from the commit on the primary until the row was read on the standby; none when it did not come.
    pub arrived_ms: Option<f64>,
    /// How long was waited, in milliseconds.
    pub waited_ms: f64,
    /// Whether the row read on the standby is the one that was written (L7).
    pub same_row: bool,
    /// Whether the upstream heard from the standby after the write: `reply_time` moved (L6). None if the upstream could not be asked.
    #[serde(default)]
    pub replied: Option<bool>,
    /// Whether all canaries that are kept are the same as on the primary (L11). Absent: the table of an earlier release
    /// has no chain.
    #[serde(default)]
    pub chain: Observed<Chain>,
}

/// The chain of canaries on a standby, beside that on the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chain {
    /// They are equal, up to the canary that was written last.
    Equal {
        /// How many rows were compared.
        rows: u64,
    },
    /// They differ.
    Differs {
        /// The number of the first row that is not the same on both, or on one of them only.
        seq: i64,
    },
}

/// Returns the number of the first canary in which two chains differ. Each is a list of number and hash, in order.
///
/// The standby must have been read before the primary: it may still have the beginning of the chain, which the primary
/// has removed since.
pub fn first_difference(standby: &[(i64, String)], primary: &[(i64, String)]) -> Option<i64> {
    let begin = primary.first().map_or(0, |(seq, _)| *seq);
    let standby = &standby[standby.partition_point(|(seq, _)| *seq < begin)..];
    let longest = standby.len().max(primary.len());
    let differ =
        (0..longest).map(|index| (standby.get(index), primary.get(index))).find(|(own, other)| own != other)?;
    match differ {
        (Some((own, _)), Some((other, _))) => Some(*own.min(other)),
        (one, other) => one.or(other).map(|(seq, _)| *seq),
    }
}

/// The canaries of one check, by standby. `Absent` means that none was written, since no server accepts writes.
pub type Canaries = BTreeMap<ServerName, Observed<Canary>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(text: &str) -> Vec<(i64, String)> {
        text.split_whitespace()
            .map(|word| word.split_once('=').unwrap())
            .map(|(seq, hash)| (seq.parse().unwrap(), hash.to_owned()))
            .collect()
    }

    #[test]
    fn the_first_difference() {
        let differ = |standby, primary| first_difference(&chain(standby), &chain(primary));
        assert_eq!(differ("1=a 2=b 3=c", "1=a 2=b 3=c"), None);
        // Another row, a missing row, a row too many, at the end too.
        assert_eq!(differ("1=a 2=x 3=c", "1=a 2=b 3=c"), Some(2));
        assert_eq!(differ("1=a 3=c", "1=a 2=b 3=c"), Some(2));
        assert_eq!(differ("1=a 2=b 3=c", "1=a 3=c"), Some(2));
        assert_eq!(differ("1=a 2=b", "1=a 2=b 3=c"), Some(3));
        assert_eq!(differ("2=b 3=c", "1=a 2=b 3=c"), Some(1));
        assert_eq!(differ("", "4=d"), Some(4));
        // The primary has removed the beginning since.
        assert_eq!(differ("1=a 2=b 3=c", "2=b 3=c"), None);
        assert_eq!(differ("1=a 2=b 3=c", "3=x"), Some(3));
    }
}

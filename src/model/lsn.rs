//! Log sequence numbers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A byte position in the write-ahead log, printed as PostgreSQL's `pg_lsn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lsn(pub u64);

/// Why a text is not an LSN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a log sequence number")]
pub struct LsnError {
    /// The text as given.
    pub text: String,
}

impl Lsn {
    /// Returns how many bytes `self` is ahead of `other`; negative when it is behind.
    pub fn bytes_ahead_of(self, other: Lsn) -> i64 {
        self.0.wrapping_sub(other.0) as i64
    }
}

impl FromStr for Lsn {
    type Err = LsnError;
    fn from_str(text: &str) -> Result<Self, LsnError> {
        let parse = |part: &str| u32::from_str_radix(part, 16).ok();
        text.split_once('/')
            .and_then(|(high, low)| Some(Lsn(u64::from(parse(high)?) << 32 | u64::from(parse(low)?))))
            .ok_or_else(|| LsnError { text: text.to_owned() })
    }
}

impl TryFrom<String> for Lsn {
    type Error = LsnError;
    fn try_from(text: String) -> Result<Self, LsnError> {
        text.parse()
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> String {
        lsn.to_string()
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_and_print() {
        assert_eq!("1/A0000028".parse(), Ok(Lsn(0x1_A000_0028)));
        assert_eq!(Lsn(0x1_A000_0028).to_string(), "1/A0000028");
        assert!("1".parse::<Lsn>().is_err());
        assert!("1/".parse::<Lsn>().is_err());
        assert_eq!(Lsn(5).bytes_ahead_of(Lsn(8)), -3);
    }
}

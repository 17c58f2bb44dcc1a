//! The frame of the probe's answer: records of a name, a length and that many bytes.
//!
//! Parses, and knows nothing of what the records mean.

use std::collections::BTreeMap;

use crate::model::observed::Observed;

/// Why an answer could not be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// The answer is not made of records.
    #[error("the probe's answer is not understood at byte {offset}: {found:?}")]
    Malformed {
        /// Where.
        offset: usize,
        /// What stands there.
        found: String,
    },
    /// The answer has no end record: the probe was cut off.
    #[error("the probe's answer ends early, after record \"{last}\"")]
    CutOff {
        /// The last whole record.
        last: String,
    },
}

/// The records of one answer, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    records: BTreeMap<String, Observed<String>>,
}

impl Records {
    /// Parses an answer.
    ///
    /// # Errors
    /// The answer is malformed or cut off.
    pub fn parse(answer: &[u8]) -> Result<Self, RecordsError> {
        let mut records = BTreeMap::new();
        let mut last = String::from("none");
        let mut offset = 0;
        while offset < answer.len() {
            let start = offset;
            let rest = &answer[start..];
            let malformed = || RecordsError::Malformed {
                offset: start,
                found: String::from_utf8_lossy(&rest[..rest.len().min(80)]).into_owned(),
            };
            let line_end = rest.iter().position(|&b| b == b'\n').ok_or_else(malformed)?;
            let line = std::str::from_utf8(&rest[..line_end]).map_err(|_| malformed())?;
            let (name, length) = line.strip_prefix('#').and_then(|line| line.split_once(' ')).ok_or_else(malformed)?;
            offset += line_end + 1;
            let value = match length {
                "-" => Observed::Absent,
                why if why.starts_with('!') => Observed::Unreadable(why[1..].trim().to_owned()),
                number => {
                    let length: usize = number.parse().map_err(|_| malformed())?;
                    let body = rest.get(line_end + 1..line_end + 1 + length).ok_or_else(malformed)?;
                    offset += length + 1;
                    Observed::Known(String::from_utf8_lossy(body).into_owned())
                }
            };
            last = name.to_owned();
            records.insert(name.to_owned(), value);
        }
        if records.contains_key("end") { Ok(Self { records }) } else { Err(RecordsError::CutOff { last }) }
    }

    /// Returns a record; one that the probe did not write was not looked at.
    pub fn get(&self, name: &str) -> Observed<String> {
        self.records.get(name).cloned().unwrap_or_default()
    }

    /// Returns a record's text, or an empty text.
    pub fn text(&self, name: &str) -> String {
        self.get(name).known().cloned().unwrap_or_default()
    }

    /// Returns the records whose names start with a prefix, without it.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Observed<String>)> {
        self.records.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_anything() {
        let records = Records::parse(b"#a 5\n#b 1\n\n#c -\n#d ! no way\n#end 2\nok\n").unwrap();
        assert_eq!(records.get("a"), Observed::Known("#b 1\n".into()));
        assert_eq!(records.get("c"), Observed::Absent);
        assert_eq!(records.get("d"), Observed::Unreadable("no way".into()));
        assert_eq!(records.get("e"), Observed::default());
    }

    #[test]
    fn a_cut_answer_is_an_error() {
        assert_eq!(Records::parse(b"#a 1\nx\n"), Err(RecordsError::CutOff { last: "a".into() }));
        assert!(Records::parse(b"#a 9\nx\n").is_err());
        assert!(Records::parse(b"bash: no such thing\n").is_err());
    }
}

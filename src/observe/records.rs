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
            match length {
                "-" => {
                    records.insert(name.to_owned(), Observed::Absent);
                }
                why if why.starts_with('!') => {
                    records.insert(name.to_owned(), Observed::Unreadable(why[1..].trim().to_owned()));
                }
                lengths => {
                    // A name alone may have the sign in it, as that of a path has.
                    let names: Vec<&str> = if lengths.contains('+') { name.split('+').collect() } else { vec![name] };
                    let mut lengths = lengths.split('+');
                    for name in names {
                        let length = lengths.next().and_then(|number| number.parse::<usize>().ok());
                        let length = length.ok_or_else(malformed)?;
                        let body = answer.get(offset..offset.saturating_add(length)).ok_or_else(malformed)?;
                        offset += length;
                        records.insert(name.to_owned(), known(body));
                    }
                    if lengths.next().is_some() {
                        return Err(malformed());
                    }
                    offset += 1;
                }
            }
            last = name.to_owned();
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

/// How long a record may be: nothing that is asked for is near that, and all of it is kept.
const RECORD_MAX_BYTES: usize = 4 << 20;

fn known(body: &[u8]) -> Observed<String> {
    match body.len() {
        ..=RECORD_MAX_BYTES => Observed::Known(String::from_utf8_lossy(body).into_owned()),
        bytes => Observed::Unreadable(format!("it has {} MB, more than {}", bytes >> 20, RECORD_MAX_BYTES >> 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_too_long_is_not_kept_and_costs_no_other() {
        let answer = |bytes: usize| format!("#a+b {bytes}+1\n{}x\n#end 2\nok\n", "y".repeat(bytes));
        let records = Records::parse(answer(RECORD_MAX_BYTES + 1).as_bytes()).unwrap();
        assert_eq!(records.get("a"), Observed::Unreadable("it has 4 MB, more than 4".into()));
        assert_eq!(records.get("b"), Observed::Known("x".into()));
        let records = Records::parse(answer(RECORD_MAX_BYTES).as_bytes()).unwrap();
        assert_eq!(records.get("a").known().unwrap().len(), RECORD_MAX_BYTES);
    }

    #[test]
    fn values_may_hold_anything() {
        let records = Records::parse(b"#a 5\n#b 1\n\n#c -\n#d ! no way\n#end 2\nok\n").unwrap();
        assert_eq!(records.get("a"), Observed::Known("#b 1\n".into()));
        assert_eq!(records.get("c"), Observed::Absent);
        assert_eq!(records.get("d"), Observed::Unreadable("no way".into()));
        assert_eq!(records.get("e"), Observed::default());
    }

    #[test]
    fn several_values_may_follow_each_other() {
        let records = Records::parse(b"#a+b+c 2+0+3\n\xff\n#b1\n#end 2\nok\n").unwrap();
        let known = |name: &str| records.get(name).known().unwrap().clone();
        assert_eq!([known("a"), known("b"), known("c")], ["\u{fffd}\n", "", "#b1"]);
        let records = Records::parse(b"#disk./a+b 2\nxx\n#end 2\nok\n").unwrap();
        assert_eq!(records.get("disk./a+b"), Observed::Known("xx".into()));
        assert!(Records::parse(b"#a 1+1\nxx\n#end 2\nok\n").is_err());
        assert!(Records::parse(b"#a+b 1+9\nxx\n#end 2\nok\n").is_err());
    }

    #[test]
    fn a_cut_answer_is_an_error() {
        assert_eq!(Records::parse(b"#a 1\nx\n"), Err(RecordsError::CutOff { last: "a".into() }));
        assert!(Records::parse(b"#a 9\nx\n").is_err());
        assert!(Records::parse(b"bash: no such thing\n").is_err());
    }
}

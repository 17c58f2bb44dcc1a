//! The frame of the probe's answer: records of a name, a length and that many bytes.
//!
//! Parses, and knows nothing of what the records mean.

use std::collections::BTreeMap;

use crate::model::bytes;
use crate::model::observed::Observed;

/// Why an answer could not be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    #[error("the probe's answer is not understood at byte {offset}: {found:?}")]
    Malformed {
        /// Where.
        offset: usize,
        /// What stands there.
        found: String,
    },
    /// Two records have one name: whoever made the second, nobody knows which of them to believe.
    #[error("the probe's answer has two records \"{name}\": nothing of it is believed")]
    Twice { name: String },
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
        let mut add = |name: &str, value| match records.insert(name.to_owned(), value) {
            Some(_) => Err(RecordsError::Twice { name: name.to_owned() }),
            None => Ok(()),
        };
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
            // Names are ours. One that no word of ours would make is somebody else's text, which has no place there.
            if !name.split('+').all(is_name) {
                return Err(malformed());
            }
            offset += line_end + 1;
            match length {
                "-" => add(name, Observed::Absent)?,
                why if why.starts_with('!') => add(name, Observed::Unreadable(why[1..].trim().to_owned()))?,
                lengths => {
                    let mut lengths = lengths.split('+');
                    for name in name.split('+') {
                        let length = lengths.next().and_then(|number| number.parse::<usize>().ok());
                        let length = length.ok_or_else(malformed)?;
                        let body = answer.get(offset..offset.saturating_add(length)).ok_or_else(malformed)?;
                        offset += length;
                        add(name, known(name, body))?;
                    }
                    // Behind the bytes stands a line feed, or the lengths are not those of the bytes.
                    if lengths.next().is_some() || answer.get(offset) != Some(&b'\n') {
                        return Err(malformed());
                    }
                    offset += 1;
                }
            }
            last = name.to_owned();
            // What comes behind is not the probe's: a recorder of sessions says goodbye.
            if last == "end" {
                break;
            }
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

/// Says whether a record may have this name: our words, numbers and the names of servers, with dots between them.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// How long a record may be: nothing that is asked for is near that, and all of it is kept.
const RECORD_MAX_BYTES: usize = 4 << 20;

fn known(name: &str, body: &[u8]) -> Observed<String> {
    match body.len() {
        // What may be written back is kept to the byte; what is only read and shown is not.
        ..=RECORD_MAX_BYTES if name.starts_with("content.") => Observed::Known(bytes::text(body)),
        ..=RECORD_MAX_BYTES => Observed::Known(String::from_utf8_lossy(body).into_owned()),
        bytes => Observed::Unreadable(format!("it has {} MB, more than {}", bytes >> 20, RECORD_MAX_BYTES >> 20)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever a value holds, it is that value and nothing beside it.
        #[test]
        fn what_is_put_is_what_is_read(values in proptest::collection::vec(".*|(#[a-z_]+ [0-9!-]\n?)+", 0..6)) {
            let mut answer = Vec::new();
            for (number, value) in values.iter().enumerate() {
                answer.extend_from_slice(format!("#disk.{number} {}\n{value}\n", value.len()).as_bytes());
            }
            answer.extend_from_slice(b"#end 2\nok\n");
            let records = Records::parse(&answer).unwrap();
            prop_assert_eq!(records.with_prefix("").count(), values.len() + 1);
            for (number, value) in values.iter().enumerate() {
                prop_assert_eq!(&records.text(&format!("disk.{number}")), value);
            }
        }

        /// A name that holds foreign text is never a name, and never ends one to begin another.
        #[test]
        fn a_name_is_never_foreign_text(text in "[^a-zA-Z0-9._+-]|.*[\n /#\u{e9}].*") {
            let answer = format!("#disk.{text} 2\nxx\n#end 2\nok\n");
            let parsed = Records::parse(answer.as_bytes());
            prop_assert!(parsed.is_err(), "{parsed:?}");
        }
    }

    #[test]
    fn a_second_record_of_a_name_ends_all_belief() {
        let forged = b"#instance_user 8\npostgres\n#instance_user 4\nroot\n#end 2\nok\n";
        assert_eq!(Records::parse(forged), Err(RecordsError::Twice { name: "instance_user".into() }));
        assert!(Records::parse(b"#a 1\nxx\n#end 2\nok\n").is_err());
    }

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

//! The codes that a part of the program tells, by its source.

use std::collections::BTreeSet;
use std::path::Path;

use pgstead::diagnostic::Code;
use strum::IntoEnumIterator;

/// What stands before a code that is told: a constructor, a helper of check/, the arm of a match, a pair of code and wording.
/// One that is only compared has something else before it.
const BEFORE: [&str; 10] = [
    "Diagnostic::error(",
    "Diagnostic::warning(",
    "Diagnostic::note(",
    "wrong(",
    "unhealthy(",
    "grave(",
    "=> (",
    "=> ",
    "Some((",
    "Err((",
];

/// Returns the codes that a file below `src`, or every file of a directory there, tells. Tests at the end of a file are left out.
pub(crate) fn told(place: &str) -> BTreeSet<Code> {
    let is_told = |before: &str| BEFORE.iter().any(|word| before.trim_end().ends_with(word.trim_end()));
    found(place, is_told)
}

/// Returns the codes in front of which stands what is wanted.
pub(crate) fn found(place: &str, wants: impl Fn(&str) -> bool + Copy) -> BTreeSet<Code> {
    let mut found = BTreeSet::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(place)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.extend(in_text(text.split("#[cfg(test)]\nmod tests").next().unwrap(), wants));
        }
    }
    found
}

fn in_text(text: &str, wants: impl Fn(&str) -> bool) -> impl Iterator<Item = Code> {
    let words = text.match_indices("Code::").filter(move |(at, _)| wants(&text[..*at]));
    words.filter_map(|(at, word)| {
        let rest = &text[at + word.len()..];
        let name = &rest[..rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len())];
        Code::iter().find(|code| format!("{code:?}") == name)
    })
}

//! The parts of an operator's own configuration files that pgstead writes: whole lines between two marks.
//!
//! Texts only. A file is put together from the operator's text, which is never changed, and our parts before and behind
//! it; each part carries its own hash, so that a hand edit inside one is told from an edit of the operator's own lines.

use crate::plan::files::hash::sha256;

/// The first word of a part's first line; its hash follows.
const BEGIN: &str = "# >>> pgstead: up to the end mark, change it in the inventory; sha256 ";
/// A part's last line.
const END: &str = "# <<< pgstead\n";

/// Why a file cannot be taken apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the mark in line {line} has no end mark \"{end}\"", end = END.trim_end())]
pub struct MarkError {
    /// The line of the begin mark, from 1.
    pub line: usize,
}

/// A file, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marked {
    /// The operator's own text.
    pub own: String,
    /// Our parts, in order, without their marks.
    pub parts: Vec<Part>,
}

/// One part between marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub text: String,
    /// The hash that its mark carries: that of the text as it was written.
    pub recorded: String,
}

impl Part {
    /// Says whether nobody edited it.
    pub fn is_intact(&self) -> bool {
        sha256(&self.text) == self.recorded
    }
}

/// Takes a file apart.
///
/// # Errors
/// A part has no end.
pub fn parse(text: &str) -> Result<Marked, MarkError> {
    let mut marked = Marked::default();
    let mut open: Option<(usize, Part)> = None;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        open = match open.take() {
            None => match line.strip_prefix(BEGIN) {
                Some(hash) => Some((index + 1, Part { text: String::new(), recorded: hash.trim().to_owned() })),
                None => {
                    marked.own.push_str(line);
                    None
                }
            },
            Some((_, part)) if line.trim_end() == END.trim_end() => {
                marked.parts.push(part);
                None
            }
            Some((at, mut part)) => {
                part.text.push_str(line);
                Some((at, part))
            }
        };
    }
    match open {
        Some((line, _)) => Err(MarkError { line }),
        None => Ok(marked),
    }
}

/// Returns a file without marks: in the place of each part stands what becomes of it.
///
/// # Errors
/// A part has no end.
pub fn unmarked(text: &str, becomes: impl Fn(&str) -> String) -> Result<String, MarkError> {
    let mut whole = String::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        open = match open.take() {
            None if line.starts_with(BEGIN) => Some((index + 1, String::new())),
            None => {
                whole.push_str(line);
                None
            }
            Some((_, part)) if line.trim_end() == END.trim_end() => {
                whole.push_str(&becomes(&part));
                None
            }
            Some((at, part)) => Some((at, part + line)),
        };
    }
    open.map_or(Ok(whole), |(line, _)| Err(MarkError { line }))
}

/// Puts a file together: a part, the operator's text, a part. An empty part is left out.
pub fn compose(before: &str, own: &str, behind: &str) -> String {
    let mut text = part(before);
    text.push_str(own);
    if !behind.is_empty() && !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&part(behind));
    text
}

fn part(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    [BEGIN, &sha256(text), "\n", text, END].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_edit_inside_a_part_is_told_from_one_outside() {
        let text = compose("one\n", "own\n", "two\n");
        let parts = parse(&text).unwrap().parts;
        assert_eq!(parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>(), ["one\n", "two\n"]);
        assert!(parts.iter().all(Part::is_intact));
        let outside = parse(&text.replace("own", "my own")).unwrap();
        assert!(outside.parts.iter().all(Part::is_intact));
        assert_eq!(outside.own, "my own\n");
        let inside = parse(&text.replace("two", "three")).unwrap();
        assert_eq!(inside.parts.iter().map(Part::is_intact).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_lost_end_mark_swallows_nothing() {
        let text = compose("", "own\n", "ours\n").replace(END, "") + "more of the operator's\n";
        assert_eq!(parse(&text), Err(MarkError { line: 2 }));
    }

    proptest! {
        #[test]
        fn the_operators_text_comes_back(own in "([a-z# =']{0,12}\n){0,5}", before in "([a-z]{1,5}\n){0,2}", behind in "([a-z]{1,5}\n){0,2}") {
            let marked = parse(&compose(&before, &own, &behind)).unwrap();
            prop_assert_eq!(&marked.own, &own);
            prop_assert_eq!(marked.parts.iter().map(|part| part.text.as_str()).collect::<String>(), [before, behind].concat());
            prop_assert_eq!(compose("", &marked.own, ""), own);
        }
    }
}

//! How text looks on a stream: colour, width, box characters; and how foreign text is made harmless.
//!
//! Colour only ever repeats what the words say already.

use std::borrow::Cow;

use unicode_width::UnicodeWidthStr;

use crate::model::bytes::byte;

/// The width assumed where no terminal tells one.
pub const DEFAULT_WIDTH: usize = 100;

/// How one stream looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Whether it is a terminal.
    pub terminal: bool,
    /// Whether colour is used.
    pub colour: bool,
    /// Whether lines can be redrawn in place.
    pub redraw: bool,
    /// Whether box and arrow characters can be shown.
    pub unicode: bool,
    /// The width in columns.
    pub width: usize,
    /// Whether scripts, certificates and what servers share are shown line by line (`-v`).
    pub whole: bool,
}

/// What a piece of text means, for colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// A heading.
    Bold,
    /// Less important.
    Dim,
    /// Good, or added.
    Good,
    /// Doubtful.
    Warn,
    /// Bad, or removed.
    Bad,
    /// A name or position.
    Accent,
}

impl Look {
    /// A file or pipe: no colour, no redrawing, the default width.
    pub const PLAIN: Look =
        Look { terminal: false, colour: false, redraw: false, unicode: true, width: DEFAULT_WIDTH, whole: false };

    /// Decides how a stream looks, from the environment (`NO_COLOR`, `CLICOLOR_FORCE`, `TERM`, the locale) and the
    /// stream itself.
    pub fn of_stream(env: &impl Fn(&str) -> Option<String>, terminal: bool, width: Option<usize>) -> Self {
        let dumb = env("TERM").is_some_and(|term| term == "dumb");
        let forced = env("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let colour = env("NO_COLOR").is_none() && (forced || terminal && !dumb);
        let locale = env("LC_ALL").or_else(|| env("LC_CTYPE")).or_else(|| env("LANG")).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        Self {
            terminal,
            colour,
            redraw: terminal && !dumb,
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
            width: width.filter(|&width| width >= 20).unwrap_or(DEFAULT_WIDTH),
            whole: false,
        }
    }

    /// Colours a text, where colour is used.
    pub fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => "",
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Warn => "33",
            Style::Bad => "1;31",
            Style::Accent => "36",
        };
        if !self.colour || code.is_empty() || text.is_empty() {
            return text.to_owned();
        }
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Returns the first text where Unicode can be shown, else the second.
    pub fn or_ascii(self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.unicode { unicode } else { ascii }
    }
}

/// Returns the width of a terminal.
pub(crate) fn terminal_width(stream: &impl std::os::fd::AsFd) -> Option<usize> {
    terminal_size::terminal_size_of(stream).map(|(width, _)| usize::from(width.0))
}

/// Makes control characters visible, so that remote text can neither move the cursor nor reorder a line. Line breaks
/// and tabs stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            // Marks that reorder or hide what is around them.
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
            || byte(c).is_some()
    };
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let text = text.replace("\r\n", "\n");
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\r' => out.push_str("\\r"),
            c if byte(c).is_some() => out.push_str(&format!("\\x{:02x}", byte(c).unwrap_or_default())),
            c if harmful(c) && c.is_ascii() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if harmful(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Makes a text visible and puts it on one line.
pub(crate) fn one_line(text: &str) -> String {
    visible(text.trim()).replace(['\n', '\t'], " ")
}

/// Returns the columns that a text takes on a terminal.
pub(crate) fn columns(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// Fills a text with spaces up to a width.
pub(crate) fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

/// Cuts a text that is too wide for a line.
pub(crate) fn shorten(text: &str, width: usize, look: Look) -> Cow<'_, str> {
    if columns(text) <= width {
        return Cow::Borrowed(text);
    }
    let mark = look.or_ascii("…", "...");
    let mut out = String::new();
    for c in text.chars() {
        if columns(&out) + columns(c.encode_utf8(&mut [0; 4])) + columns(mark) > width {
            break;
        }
        out.push(c);
    }
    out.push_str(mark);
    Cow::Owned(out)
}

/// Wraps text to a width; words longer than a line stay whole, so that paths can still be copied.
pub(crate) fn wrap(text: &str, width: usize, first: &str, rest: &str) -> String {
    let options = textwrap::Options::new(width)
        .initial_indent(first)
        .subsequent_indent(rest)
        .break_words(false)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .word_separator(textwrap::WordSeparator::Custom(words))
        .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit);
    textwrap::fill(text, options)
}

/// Splits a line where it may break: behind spaces, and behind characters of double width, which have no spaces.
fn words(line: &str) -> Box<dyn Iterator<Item = textwrap::core::Word<'_>> + '_> {
    let mut start = 0;
    let mut before = ' ';
    let mut found = Vec::new();
    for (at, c) in line.char_indices() {
        let wide = |c: char| columns(c.encode_utf8(&mut [0; 4])) == 2;
        // A closing mark never begins a line.
        let closes = matches!(c, '，' | '。' | '、' | '；' | '：' | '！' | '？' | '）' | '」' | '》');
        if at > start && c != ' ' && !closes && (before == ' ' || wide(before)) {
            found.push(textwrap::core::Word::from(&line[start..at]));
            start = at;
        }
        before = c;
    }
    if start < line.len() {
        found.push(textwrap::core::Word::from(&line[start..]));
    }
    Box::new(found.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(pairs: &'static [(&'static str, &'static str)], terminal: bool) -> Look {
        Look::of_stream(
            &|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
            terminal,
            None,
        )
    }

    #[test]
    fn colour_follows_the_environment() {
        assert!(look(&[], true).colour);
        assert!(!look(&[], false).colour);
        assert!(!look(&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], true).colour);
        assert!(look(&[("CLICOLOR_FORCE", "1")], false).colour);
        assert!(!look(&[("CLICOLOR_FORCE", "0")], false).colour);
        assert!(!look(&[("TERM", "dumb")], true).colour);
        assert!(!look(&[("TERM", "dumb")], true).redraw);
    }

    #[test]
    fn box_characters_follow_the_locale() {
        assert!(look(&[("LANG", "zh_CN.UTF-8")], true).unicode);
        assert!(!look(&[("LANG", "zh_CN.UTF-8"), ("LC_ALL", "C")], true).unicode);
        assert!(!look(&[], true).unicode);
    }

    #[test]
    fn control_characters_become_visible() {
        assert_eq!(visible("a\x1b[2Jb\x07\r\nc\td\re"), "a\\x1b[2Jb\\x07\nc\td\\re");
        assert_eq!(visible("x\u{9b}31m\u{202e}txt"), "x\\u{9b}31m\\u{202e}txt");
        assert_eq!(visible("主数据中心"), "主数据中心");
    }

    #[test]
    fn text_without_spaces_breaks_and_paths_stay_whole() {
        assert_eq!(wrap("数据目录已经保留，没有删除", 12, "", ""), "数据目录已经\n保留，没有删\n除");
        assert_eq!(
            wrap("see /var/lib/postgresql/15/main now", 10, "", "  "),
            "see\n  /var/lib/postgresql/15/main\n  now"
        );
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(pad("主", 4), "主  ");
        assert_eq!(shorten("主数据中心", 7, Look::PLAIN), "主数据…");
    }
}

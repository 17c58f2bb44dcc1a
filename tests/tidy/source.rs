//! A source file as tidy sees it: words with their lines, without comments, documentation and test modules.

use proc_macro2::Delimiter;
use proc_macro2::TokenStream;
use proc_macro2::TokenTree;

/// One word of a source file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Word {
    pub(crate) line: usize,
    pub(crate) text: String,
    /// Whether it is the content of a string literal.
    pub(crate) quoted: bool,
}

/// One file of `src/`.
#[derive(Debug)]
pub(crate) struct Source {
    /// The path from `src/`, such as `plan/mod.rs`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The words outside of test modules.
    pub(crate) words: Vec<Word>,
}

impl Source {
    /// Reads a file. A file that is no Rust is a finding of the compiler's, so it panics here.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut words = Vec::new();
        collect(tokens, &mut words);
        Self { path: path.to_owned(), text: text.to_owned(), words }
    }

    /// The top-level module: the first directory, or the file without its ending.
    pub(crate) fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// Says whether the words from an index on are these, none of them quoted.
    pub(crate) fn reads(&self, index: usize, words: &[&str]) -> bool {
        self.words
            .get(index..index + words.len())
            .is_some_and(|found| found.iter().zip(words).all(|(word, wanted)| !word.quoted && word.text == *wanted))
    }

    /// The lines where these words stand one after another.
    pub(crate) fn lines_with(&self, words: &[&str]) -> Vec<usize> {
        let starts = (0..self.words.len()).filter(|index| self.reads(*index, words));
        starts.map(|index| self.words[index].line).collect()
    }

    /// The lines with a string literal for which the predicate holds.
    pub(crate) fn lines_quoting(&self, holds: impl Fn(&str) -> bool) -> Vec<usize> {
        self.words.iter().filter(|word| word.quoted && holds(&word.text)).map(|word| word.line).collect()
    }

    /// The paths of this crate that are named, with their lines, each as the top-level module and what follows it:
    /// `crate::X::a`, `crate::{X::a, Y}`.
    pub(crate) fn paths_named(&self) -> Vec<(usize, String, String)> {
        let text = |at: usize| self.words.get(at).map_or("", |word| word.text.as_str());
        let path = |at: usize| {
            let next = if self.reads(at + 1, &[":", ":"]) { text(at + 3) } else { "" };
            (self.words[at].line, text(at).to_owned(), next.to_owned())
        };
        let mut named = Vec::new();
        for index in (0..self.words.len()).filter(|index| self.reads(*index, &["crate", ":", ":"])) {
            if text(index + 3) != "{" {
                named.push(path(index + 3));
                continue;
            }
            let mut depth = 0;
            for at in index + 3..self.words.len() {
                if depth == 1 && matches!(text(at - 1), "{" | ",") && text(at) != "}" {
                    named.push(path(at));
                }
                match text(at) {
                    "{" => depth += 1,
                    "}" if depth == 1 => break,
                    "}" => depth -= 1,
                    _ => {}
                }
            }
        }
        named
    }
}

fn collect(tokens: TokenStream, words: &mut Vec<Word>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut index = 0;
    while index < tokens.len() {
        if let Some(length) = skipped(&tokens[index..]) {
            index += length;
            continue;
        }
        let token = &tokens[index];
        let line = token.span().start().line;
        let mut word = |text: String, quoted| words.push(Word { line, text, quoted });
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                word(open.to_owned(), false);
                collect(group.stream(), words);
                words.push(Word { line: group.span_close().start().line, text: close.to_owned(), quoted: false });
            }
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let quoted = text.ends_with(['"', '#']);
                word(text, quoted);
            }
            other => word(other.to_string(), false),
        }
        index += 1;
    }
}

/// Returns how many tokens to leave out: documentation, and what is compiled for tests only.
fn skipped(tokens: &[TokenTree]) -> Option<usize> {
    let is = |index: usize, text: &str| tokens.get(index).is_some_and(|token| token.to_string() == text);
    if !is(0, "#") {
        return None;
    }
    let attribute = if is(1, "!") { 2 } else { 1 };
    let TokenTree::Group(group) = tokens.get(attribute)? else { return None };
    let inside = group.stream().to_string().replace(' ', "");
    if inside.starts_with("doc=") {
        return Some(attribute + 1);
    }
    if attribute == 2 || inside != "cfg(test)" {
        return None;
    }
    // The item ends with its block or with a semicolon.
    let end = tokens.iter().position(|token| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        other => other.to_string() == ";",
    });
    Some(end.map_or(tokens.len(), |end| end + 1))
}

//! Identifiers and literals of SQL, and statements built from them.
//!
//! A [`Sql`] is fixed text with quoted tokens between; there is no way to put a bare value into it.

use std::fmt;

use crate::model::argv::Piece;
use crate::model::secret::Secret;

/// Returns a delimited identifier (manual, 4.1.1). A zero byte cannot occur in PostgreSQL text and is dropped.
pub fn identifier(text: &str) -> String {
    delimited(text, '"')
}

/// Returns a string constant that reads the same whatever `standard_conforming_strings` says (manual, 4.1.2.2).
pub fn literal(text: &str) -> String {
    if !text.contains('\\') {
        return delimited(text, '\'');
    }
    let mut quoted = String::from(" E");
    quoted.push_str(&delimited(&text.replace('\\', r"\\"), '\''));
    quoted
}

fn delimited(text: &str, mark: char) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(mark);
    for c in text.chars().filter(|&c| c != '\0') {
        quoted.push(c);
        if c == mark {
            quoted.push(mark);
        }
    }
    quoted.push(mark);
    quoted
}

/// SQL text under construction: fixed text, identifiers, literals, secret literals.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sql {
    pieces: Vec<Piece>,
}

impl Sql {
    /// Starts an empty text.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds fixed SQL. The lifetime keeps run-time text out.
    #[must_use]
    pub fn text(mut self, text: &'static str) -> Self {
        self.push(text);
        self
    }

    /// Adds a quoted identifier.
    #[must_use]
    pub fn identifier(mut self, name: &str) -> Self {
        self.push(&identifier(name));
        self
    }

    /// Adds a string constant.
    #[must_use]
    pub fn literal(mut self, value: &str) -> Self {
        self.push(&literal(value));
        self
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, value: i64) -> Self {
        self.push(&value.to_string());
        self
    }

    /// Adds a string constant that is sent and never shown.
    #[must_use]
    pub fn secret(mut self, value: &Secret) -> Self {
        self.pieces.push(Piece::Secret(Secret::new(literal(value.expose()))));
        self
    }

    /// Adds other SQL.
    #[must_use]
    pub fn then(mut self, other: Sql) -> Self {
        self.pieces.extend(other.pieces);
        self
    }

    /// Returns the pieces, for a command's standard input.
    pub fn into_pieces(self) -> Vec<Piece> {
        self.pieces
    }

    fn push(&mut self, text: &str) {
        if let Some(Piece::Text(last)) = self.pieces.last_mut() {
            last.push_str(text);
        } else {
            self.pieces.push(Piece::Text(text.to_owned()));
        }
    }
}

impl fmt::Display for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Secret(secret) => secret.fmt(f),
        })
    }
}

impl fmt::Debug for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_inert() {
        assert_eq!(identifier(r#"a"b"#), r#""a""b""#);
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"\'"), r" E'\\'''");
    }

    #[test]
    fn a_secret_is_masked_when_printed() {
        let sql = Sql::new().text("ALTER ROLE ").identifier("r").text(" PASSWORD ").secret(&Secret::new("s3cret"));
        assert_eq!(sql.to_string(), r#"ALTER ROLE "r" PASSWORD ***"#);
    }
}

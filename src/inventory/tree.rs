//! The YAML text as a tree that remembers where everything stands.
//!
//! A typed deserializer stops at the first problem; this tree does not, so that all problems can be told at once. It
//! keeps scalars as they are written (`off`, `1.10`, `0x10`), and duplicate keys. It knows nothing about inventories.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::options::NonFiniteFloatPolicy;
use serde_saphyr::{DuplicateKeyPolicy, Spanned};

/// A line and a column, both counted from 1. Ordered as a reader meets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: u64,
    /// The column, in characters.
    pub(super) column: u64,
}

impl Place {
    /// The beginning of the text.
    pub(super) const START: Place = Place { line: 1, column: 1 };
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A node and where it begins.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it begins; for an alias, where the alias stands.
    pub(super) place: Place,
    /// What it is.
    pub(super) value: Value,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Nothing after the colon, `~` or `null`.
    Null,
    Scalar {
        /// Its text as written, without quotes.
        text: String,
        /// What YAML takes it for.
        kind: ScalarKind,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the text, duplicate keys included.
    Map(Vec<Entry>),
}

/// What YAML takes a scalar for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarKind {
    /// Text: quoted, or like nothing else.
    Text,
    Number,
    /// `true`, `false`, `yes`, `no`, `on`, `off`.
    Boolean,
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Where the key stands.
    pub(super) place: Place,
    /// The value.
    pub(super) node: Node,
}

/// Why a text is not YAML.
#[derive(Debug, Clone)]
pub(super) struct SyntaxError {
    /// Where reading stopped, where that is known.
    pub(super) place: Option<Place>,
    /// What the YAML reader says.
    pub(super) message: String,
}

impl Node {
    /// Reads a text.
    pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
        let options = serde_saphyr::options! {
            duplicate_keys: DuplicateKeyPolicy::PassThrough,
            non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
            with_snippet: false,
            emit_comments: false,
            reject_unsupported_tags: true,
        };
        serde_saphyr::from_str_with_options::<Spanned<Parsed>>(text, options)
            .map(|parsed| Node::settle(parsed, text))
            .map_err(|error| SyntaxError {
                place: error.location().map(place),
                message: for_operators(&error.to_string()),
            })
    }

    /// Returns the value of a key of a mapping.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// Returns a key of a mapping, with its value.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// Returns the entries of a mapping, and none of anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Returns the text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Says what the node is, for a message.
    pub(super) fn describe(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar { kind: ScalarKind::Text, .. } => "text",
            Value::Scalar { kind: ScalarKind::Number, .. } => "a number",
            Value::Scalar { kind: ScalarKind::Boolean, .. } => "a boolean",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    fn settle(parsed: Spanned<Parsed>, source: &str) -> Node {
        let as_written = |kind, fallback: String| Value::Scalar {
            text: parsed
                .defined
                .span()
                .byte_offset()
                .zip(parsed.defined.span().byte_len())
                .and_then(|(offset, length)| {
                    let start = usize::try_from(offset).ok()?;
                    source.get(start..start.checked_add(usize::try_from(length).ok()?)?)
                })
                .map_or(fallback, |slice| slice.trim().to_owned()),
            kind,
        };
        let value = match parsed.value {
            Parsed::Null => Value::Null,
            Parsed::Text(text) => Value::Scalar { text, kind: ScalarKind::Text },
            Parsed::Number(text) => as_written(ScalarKind::Number, text),
            Parsed::Boolean(value) => as_written(ScalarKind::Boolean, value.to_string()),
            Parsed::List(items) => Value::List(items.into_iter().map(|item| Node::settle(item, source)).collect()),
            Parsed::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, node)| Entry {
                        place: place(key.referenced),
                        key: key.value,
                        node: Node::settle(node, source),
                    })
                    .collect(),
            ),
        };
        Node { place: place(parsed.referenced), value }
    }
}

fn place(location: serde_saphyr::Location) -> Place {
    Place { line: location.line().max(1), column: location.column().max(1) }
}

/// Keeps of the YAML reader's message what an operator can use: not the place, which a diagnostic says in its own way,
/// and not the advice behind a semicolon, which is for Rust programmers.
fn for_operators(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    let message = message.split(" at line ").next().unwrap_or_default();
    message.split(';').next().unwrap_or_default().to_owned()
}

/// What the YAML reader hands over, before scalars get their text back.
enum Parsed {
    Null,
    Text(String),
    Number(String),
    Boolean(bool),
    List(Vec<Spanned<Parsed>>),
    Map(Vec<(Spanned<String>, Spanned<Parsed>)>),
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor)
    }
}

struct AnyVisitor;

impl<'de> de::Visitor<'de> for AnyVisitor {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }
    fn visit_unit<E>(self) -> Result<Parsed, E> {
        Ok(Parsed::Null)
    }
    fn visit_none<E>(self) -> Result<Parsed, E> {
        Ok(Parsed::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parsed, D::Error> {
        deserializer.deserialize_any(AnyVisitor)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Parsed, E> {
        Ok(Parsed::Boolean(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Parsed, E> {
        Ok(Parsed::Number(value.to_string()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Parsed, E> {
        Ok(Parsed::Number(value.to_string()))
    }
    fn visit_i128<E>(self, value: i128) -> Result<Parsed, E> {
        Ok(Parsed::Number(value.to_string()))
    }
    fn visit_u128<E>(self, value: u128) -> Result<Parsed, E> {
        Ok(Parsed::Number(value.to_string()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Parsed, E> {
        Ok(Parsed::Number(value.to_string()))
    }
    fn visit_str<E>(self, value: &str) -> Result<Parsed, E> {
        Ok(Parsed::Text(value.to_owned()))
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut access: A) -> Result<Parsed, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Parsed::List(items))
    }
    fn visit_map<A: de::MapAccess<'de>>(self, mut access: A) -> Result<Parsed, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Parsed::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(node: &Node) -> String {
        let value = match &node.value {
            Value::Null => "null".to_owned(),
            Value::Scalar { text, kind } => format!("{kind:?} {text:?}"),
            Value::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
            Value::Map(entries) => format!(
                "{{{}}}",
                entries
                    .iter()
                    .map(|e| format!("{}@{}: {}", e.key, e.place, show(&e.node)))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        format!("{value}@{}", node.place)
    }

    fn parse(text: &str) -> String {
        Node::parse(text).map_or_else(|error| format!("{:?}: {}", error.place, error.message), |node| show(&node))
    }

    #[test]
    fn scalars_keep_the_text_as_written() {
        assert_eq!(
            parse("a: off\nb: 1.10\nc: 0x10 # ten\nd: 'off'\ne: 1_000\nf: 007\ng: 1e999\nh: 99999999999999999999999\n"),
            "{a@1:1: Boolean \"off\"@1:4, b@2:1: Number \"1.10\"@2:4, c@3:1: Number \"0x10\"@3:4, \
             d@4:1: Text \"off\"@4:4, e@5:1: Number \"1_000\"@5:4, f@6:1: Number \"007\"@6:4, \
             g@7:1: Number \"1e999\"@7:4, h@8:1: Number \"99999999999999999999999\"@8:4}@1:1"
        );
    }

    #[test]
    fn keys_are_text_even_where_yaml_sees_a_boolean() {
        assert_eq!(
            parse("no: {on: [yes, ~, ]}\n15: x\n"),
            "{no@1:1: {on@1:6: [Boolean \"yes\"@1:11, null@1:16]@1:10}@1:5, 15@2:1: Text \"x\"@2:5}@1:1"
        );
    }

    #[test]
    fn duplicate_keys_and_aliases_are_kept() {
        assert_eq!(
            parse("a: &x 1.0\na: *x\nb: &y {c: 主}\nd: *y\n"),
            "{a@1:1: Number \"1.0\"@1:7, a@2:1: Number \"1.0\"@2:4, b@3:1: {c@3:8: Text \"主\"@3:11}@3:7, \
             d@4:1: {c@4:4: Text \"主\"@4:4}@4:4}@1:1"
        );
        assert_eq!(
            parse("a: &x {b: 1}\nc:\n  <<: *x\n  d: 2"),
            "{a@1:1: {b@1:8: Number \"1\"@1:11}@1:7, c@2:1: {d@4:3: Number \"2\"@4:6, b@3:7: Number \"1\"@3:7}@3:3}@1:1"
        );
    }

    #[test]
    fn what_is_not_yaml() {
        for (text, line, column) in [
            ("a: [1\nb: 2", 2, 2),
            ("a: 1\n\tb: 2", 1, 4),
            ("a: 1\n---\nb: 2\n", 3, 1),
            ("[a]: 1\n", 1, 1),
            ("a: *x\n", 1, 4),
            ("a: \"\u{7}\"\n", 1, 5),
            ("<<: 3\n", 1, 5),
            ("a: !x 3\n", 1, 7),
            ("a: &l [*l]\n", 1, 8),
            ("~: 3", 1, 1),
        ] {
            let error = Node::parse(text).unwrap_err();
            assert_eq!(error.place, Some(Place { line, column }), "{text:?}: {}", error.message);
            assert!(!error.message.contains("use "), "{}", error.message);
        }
        assert!(matches!(Node::parse(""), Ok(Node { value: Value::Null, .. })));
    }
}

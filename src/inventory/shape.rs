//! Compares the tree with the JSON Schema: unknown and missing keys, wrong types, unknown words, numbers out of range.
//!
//! Whatever does not fit is reported and left out, so that the rest can be deserialized and judged in the same run. It
//! understands those parts of JSON Schema that [`super::raw`] needs, and does not judge what a value means.

use serde_json::{Map, Value as Json};

use crate::diagnostic::{Code, Diagnostic};
use crate::inventory::problems::{Path, Problems, did_you_mean, known_here, shown};
use crate::inventory::tree::{Entry, Node, ScalarKind, Value};

/// Returns what fits of a tree; reports the rest.
pub(super) fn conform(root: &Node, schema: &Json, problems: &mut Problems<'_>) -> Json {
    let mut check = Check { schema, problems };
    check.node(root, schema, &Path::default()).unwrap_or_else(|| Json::Object(Map::new()))
}

struct Check<'a, 'p> {
    schema: &'a Json,
    problems: &'a mut Problems<'p>,
}

impl<'a> Check<'a, '_> {
    fn node(&mut self, node: &Node, schema: &'a Json, path: &Path) -> Option<Json> {
        let branches = self.branches(schema);
        if matches!(node.value, Value::Null) && branches.iter().any(|branch| has_type(branch, "null")) {
            return None; // Nothing behind the colon is the same as no such key.
        }
        let Some(branch) = branches.iter().find(|branch| fits(node, branch)) else {
            let expected = branches.iter().filter_map(|branch| expectation(branch)).collect::<Vec<_>>().join(" or ");
            self.problems.add(
                path,
                Diagnostic::error(Code::WrongType, format!("expected {expected}, found {}", node.describe())),
            );
            return None;
        };
        match &node.value {
            Value::Null => None,
            Value::Map(entries) => Some(self.mapping(entries, branch, path)),
            Value::List(items) => {
                let schema = branch.get("items").unwrap_or(&Json::Null);
                let items = items.iter().enumerate();
                Some(Json::Array(
                    items.filter_map(|(index, item)| self.node(item, schema, &path.index(index))).collect(),
                ))
            }
            Value::Scalar { text, .. } if has_type(branch, "integer") => self.integer(text, branch, path),
            // Text keeps `off` as it is written; only what can be nothing but true or false becomes one of them.
            Value::Scalar { text, .. } if !has_type(branch, "string") => {
                Some(Json::Bool(text.eq_ignore_ascii_case("true")))
            }
            Value::Scalar { text, .. } => self.word(text, branch, path),
        }
    }

    fn mapping(&mut self, entries: &[Entry], schema: &'a Json, path: &Path) -> Json {
        let properties = schema.get("properties").and_then(Json::as_object);
        let others = schema.get("additionalProperties").filter(|others| others.is_object());
        let mut fitting = Map::new();
        for (position, entry) in entries.iter().enumerate() {
            let own_path = path.key(&entry.key);
            if let Some(first) = entries.iter().take(position).find(|earlier| earlier.key == entry.key) {
                self.problems.add_at(
                    entry.place,
                    &own_path,
                    Diagnostic::error(Code::DuplicateKey, format!("key {} is given twice", shown(&entry.key)))
                        .detail(format!("It is given first at {}.", first.place)),
                );
                continue;
            }
            match properties.and_then(|known| known.get(&entry.key)).or(others) {
                Some(schema) => {
                    if let Some(value) = self.node(&entry.node, schema, &own_path) {
                        fitting.insert(entry.key.clone(), value);
                    } else if properties.is_none() {
                        // The name counts even where nothing usable is behind it: others may refer to it.
                        let branches = self.branches(schema);
                        if branches.iter().any(|branch| has_type(branch, "null")) {
                            fitting.insert(entry.key.clone(), Json::Null);
                        } else if branches.iter().any(|branch| has_type(branch, "object")) {
                            fitting.insert(entry.key.clone(), Json::Object(Map::new()));
                        }
                    }
                }
                None => {
                    let known: Vec<&str> = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
                    let problem = Diagnostic::error(Code::UnknownKey, format!("unknown key {}", shown(&entry.key)))
                        .detail(known_here("keys", &known));
                    self.problems.add_at(entry.place, &own_path, did_you_mean(problem, &entry.key, known));
                }
            }
        }
        for key in schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
            // A key with nothing behind it is there, and has been reported as a wrong type.
            if !entries.iter().any(|entry| entry.key == key) {
                self.problems.add(path, Diagnostic::error(Code::MissingKey, format!("key {key:?} is missing")));
            }
        }
        Json::Object(fitting)
    }

    fn integer(&mut self, text: &str, schema: &Json, path: &Path) -> Option<Json> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let plain = !digits.is_empty()
            && digits.chars().all(|c| c.is_ascii_digit())
            && (digits == "0" || !digits.starts_with('0'));
        if !plain {
            self.problems.add(
                path,
                Diagnostic::error(Code::WrongType, format!("expected a whole number, found {}", shown(text))),
            );
            return None;
        }
        let low = schema.get("minimum").and_then(Json::as_i64).unwrap_or(0);
        let high = schema.get("maximum").and_then(Json::as_i64).unwrap_or(i64::from(u32::MAX));
        match text.parse::<i64>() {
            Ok(number) if (low..=high).contains(&number) => Some(Json::from(number)),
            _ => {
                let range = if schema.get("maximum").is_some() {
                    format!("from {low} to {high}")
                } else {
                    format!("of at least {low}")
                };
                self.problems.add(
                    path,
                    Diagnostic::error(Code::OutOfRange, format!("expected a number {range}, found {}", shown(text))),
                );
                None
            }
        }
    }

    fn word(&mut self, text: &str, schema: &Json, path: &Path) -> Option<Json> {
        let words = words(schema);
        if words.is_empty() || words.contains(&text) {
            return Some(Json::from(text));
        }
        // Where the word stands for a secret, somebody may have written the secret itself.
        let is_secret = schema.get("writeOnly").is_some_and(|secret| secret == &Json::Bool(true));
        let message = if is_secret {
            "unknown word, which is not shown".to_owned()
        } else {
            format!("unknown word {}", shown(text))
        };
        let problem = Diagnostic::error(Code::UnknownWord, message).detail(known_here("words", &words));
        self.problems.add(path, did_you_mean(problem, text, words));
        None
    }

    /// Returns the alternatives of a schema, references followed.
    fn branches(&self, schema: &'a Json) -> Vec<&'a Json> {
        if let Some(name) = schema.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix("#/$defs/")) {
            return self
                .schema
                .get("$defs")
                .and_then(|defs| defs.get(name))
                .map_or(vec![], |found| self.branches(found));
        }
        match schema.get("anyOf").and_then(Json::as_array) {
            Some(branches) => branches.iter().flat_map(|branch| self.branches(branch)).collect(),
            None => vec![schema],
        }
    }
}

fn types(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(one)) => vec![one.as_str()],
        Some(Json::Array(several)) => several.iter().filter_map(Json::as_str).collect(),
        _ if schema.get("oneOf").is_some() => vec!["string"], // Words, each with a description.
        _ => vec![],
    }
}

fn has_type(schema: &Json, name: &str) -> bool {
    types(schema).contains(&name)
}

fn fits(node: &Node, schema: &Json) -> bool {
    match &node.value {
        Value::Null => false,
        Value::Map(_) => has_type(schema, "object"),
        Value::List(_) => has_type(schema, "array"),
        // A quoted number is text. Any scalar is good as text, since its text is kept as written.
        Value::Scalar { kind, .. } => {
            has_type(schema, "string")
                || (has_type(schema, "integer") && *kind == ScalarKind::Number)
                || (has_type(schema, "boolean") && *kind == ScalarKind::Boolean)
        }
    }
}

fn words(schema: &Json) -> Vec<&str> {
    let constants = schema.get("oneOf").and_then(Json::as_array).into_iter().flatten().filter_map(|c| c.get("const"));
    let listed = schema.get("enum").and_then(Json::as_array).into_iter().flatten();
    constants.chain(listed).filter_map(Json::as_str).collect()
}

fn expectation(schema: &Json) -> Option<String> {
    let words = words(schema);
    if !words.is_empty() {
        return Some(words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" or "));
    }
    let name = types(schema).into_iter().find(|name| *name != "null")?;
    Some(
        match name {
            "object" => "a mapping",
            "array" => "a list",
            "integer" => "a whole number",
            "boolean" => "true or false",
            _ => "text",
        }
        .to_owned(),
    )
}

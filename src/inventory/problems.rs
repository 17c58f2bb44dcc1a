//! Collects problems with the place of each, so that all are told at once and in the order of the text.
//!
//! It finds places and suggestions; what is wrong is judged, and worded, by its callers.

use std::fmt;

use crate::diagnostic::Diagnostic;
use crate::inventory::tree::{Node, Place, Value};

/// The way to a node: `servers.b.upstream`, `postgres.hba[0].user`.
#[derive(Debug, Clone, Default)]
pub(super) struct Path(Vec<Step>);

#[derive(Debug, Clone)]
enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    /// Returns the path of keys below the root.
    pub(super) fn of(keys: &[&str]) -> Path {
        Path(keys.iter().map(|key| Step::Key((*key).to_owned())).collect())
    }

    /// Returns the path of a key below this one.
    pub(super) fn key(&self, key: &str) -> Path {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.to_owned()));
        Path(steps)
    }

    /// Returns the path of a list item below this one.
    pub(super) fn index(&self, index: usize) -> Path {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Path(steps)
    }

    /// Returns the server that the path is about.
    pub(super) fn server(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Step::Key(first), Step::Key(server), ..] if first == "servers" => Some(server),
            _ => None,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    if position > 0 {
                        f.write_str(".")?;
                    }
                    if !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
                        f.write_str(key)?;
                    } else {
                        write!(f, "{}", shown(key))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Returns a text of the inventory for a message: quoted, control characters escaped, not endless.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// Returns a list of words for a message.
pub(super) fn list<T: fmt::Display>(words: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| shown(&word.to_string())).collect();
    match quoted.as_slice() {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Returns a sentence that lists what is known at a place: `what` is its plural.
pub(super) fn known_here(what: &str, words: &[&str]) -> String {
    match words {
        [one] => format!("The only known {} here is {}.", what.trim_end_matches('s'), shown(one)),
        several => format!("Known {what} here are {}.", list(several)),
    }
}

/// What people write who know another tool, and what is meant here.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("databases", "postgres.databases"),
    ("datadir", "data_directory"),
    ("hba", "postgres.hba"),
    ("host", "address"),
    ("hosts", "servers"),
    ("ip", "address"),
    ("leader", "primary"),
    ("master", "primary"),
    ("name", "topology"),
    ("nodes", "servers"),
    ("password", "scram-sha-256"),
    ("pgdata", "data_directory"),
    ("port", "postgres.port"),
    ("replica", "standby"),
    ("role", "kind"),
    ("secondary", "standby"),
    ("slave", "standby"),
    ("user", "ssh.user"),
    ("version", "postgres.version"),
];

/// Returns the candidate that was probably meant, or nothing where that would be a guess.
pub(super) fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let lower = word.to_lowercase();
    let near = candidates
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), *candidate))
        .filter(|(distance, _)| *distance <= (lower.chars().count() / 3).max(1) && *distance < lower.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned());
    let mut longer = candidates.iter().filter(|candidate| {
        lower.chars().count() > 2 && (candidate.starts_with(&lower) || candidate.ends_with(&lower))
    });
    let longer = longer.next().filter(|_| longer.next().is_none()).map(|candidate| (*candidate).to_owned());
    near.or(longer).or_else(|| {
        OTHER_WORDS
            .iter()
            .find(|(other, meant)| *other == lower && candidates.iter().any(|c| Some(*c) == meant.split('.').next()))
            .map(|(_, meant)| (*meant).to_owned())
    })
}

/// Adds "Did you mean …?" to a diagnostic where something was probably meant.
pub(super) fn did_you_mean<'a>(
    diagnostic: Diagnostic,
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Diagnostic {
    match suggest(word, candidates) {
        Some(meant) => diagnostic.hint(format!("Did you mean {meant:?}?")),
        None => diagnostic,
    }
}

/// The problems of one text.
#[derive(Debug)]
pub(super) struct Problems<'a> {
    file: &'a str,
    root: &'a Node,
    found: Vec<(Place, Diagnostic)>,
}

impl<'a> Problems<'a> {
    /// Begins with no problem.
    pub(super) fn new(file: &'a str, root: &'a Node) -> Self {
        Self { file, root, found: Vec::new() }
    }

    /// Adds a problem at a path.
    pub(super) fn add(&mut self, path: &Path, diagnostic: Diagnostic) {
        self.add_at(self.place(path), path, diagnostic);
    }

    /// Adds a problem at a place that is known.
    pub(super) fn add_at(&mut self, place: Place, path: &Path, diagnostic: Diagnostic) {
        let path_text = path.to_string();
        let separator = if path_text.is_empty() { "" } else { ": " };
        let mut diagnostic = diagnostic.at(format!("{}:{place}{separator}{path_text}", self.file));
        if diagnostic.server.is_none() {
            diagnostic.server = path.server().map(|name| name.escape_debug().to_string());
        }
        self.found.push((place, diagnostic));
    }

    /// Says whether there is no problem.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns the problems in the order of the text.
    pub(super) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|(place, _)| *place);
        self.found.into_iter().map(|(_, diagnostic)| diagnostic).collect()
    }

    /// Returns where a node begins: a scalar where it stands, a collection where its key stands, and what is not there
    /// where it would belong.
    fn place(&self, path: &Path) -> Place {
        let mut node = self.root;
        let mut place = node.place;
        for step in &path.0 {
            match (step, &node.value) {
                (Step::Key(key), Value::Map(_)) => {
                    let Some(entry) = node.entry(key) else { break };
                    node = &entry.node;
                    place = if node.text().is_some() { node.place } else { entry.place };
                }
                (Step::Index(index), Value::List(items)) => {
                    let Some(item) = items.get(*index) else { break };
                    node = item;
                    place = item.place;
                }
                _ => break,
            }
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_made_only_where_one_is_probable() {
        assert_eq!(suggest("adress", ["address", "site"]), Some("address".into()));
        assert_eq!(suggest("Standby", ["primary", "standby"]), Some("standby".into()));
        assert_eq!(suggest("slave", ["primary", "standby"]), Some("standby".into()));
        assert_eq!(suggest("port", ["address", "postgres"]), Some("postgres.port".into()));
        assert_eq!(suggest("d", ["a", "b", "c"]), None);
        assert_eq!(suggest("B", ["a", "b", "c"]), Some("b".into()));
        assert_eq!(suggest("", ["a"]), None);
    }

    #[test]
    fn paths_show_odd_keys_quoted() {
        assert_eq!(Path::of(&["servers", "db.east", "ssh"]).to_string(), "servers.\"db.east\".ssh");
        assert_eq!(Path::of(&["postgres", "hba"]).index(1).key("user").to_string(), "postgres.hba[1].user");
        assert_eq!(Path::of(&["a\nb"]).to_string(), "\"a\\nb\"");
    }
}

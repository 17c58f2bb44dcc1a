//! What configuration files include and nobody sees in what the server has read: a file without a setting, a directory without a file.
//! A server does not start where one of them is not there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::model::observed::Observed;
use crate::plan::files::marked;
use crate::plan::seen::Seen;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::plan) struct Silent {
    /// Where it is.
    pub path: String,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// Returns those of a primary that runs.
pub(in crate::plan) fn includes(primary: Seen<'_>) -> Vec<Silent> {
    let Some(instance) = primary.instance else { return Vec::new() };
    let main = [primary.layout.config_home(), "/postgresql.conf"].concat();
    let fact = primary.seen.files.get(&main).and_then(Observed::known);
    let text = fact.and_then(|fact| fact.content.as_deref()).unwrap_or_default();
    // A file whose marks are damaged is refused elsewhere.
    let own = marked::parse(text).map(|marked| marked.own).unwrap_or_default();
    let mut all = BTreeSet::new();
    let files = instance.included_files.iter().map(|(path, text)| (path.as_str(), text.as_str()));
    for (file, text) in files.chain([(main.as_str(), own.as_str())]) {
        for (is_directory, named) in text.lines().filter_map(directive) {
            let path = resolved(file, &named);
            let is_seen = match is_directory {
                true => instance.included_files.keys().any(|one| Path::new(one).parent() == Some(Path::new(&path))),
                false => instance.included_files.contains_key(&path),
            };
            if !is_seen {
                all.insert(Silent { path, is_directory });
            }
        }
    }
    all.into_iter().collect()
}

/// A path is relative to the file that names it.
fn resolved(file: &str, named: &str) -> String {
    let whole = Path::new(file).parent().unwrap_or_else(|| Path::new("/")).join(named);
    let mut path = PathBuf::new();
    for part in whole.components() {
        match part {
            std::path::Component::ParentDir => {
                path.pop();
            }
            other => path.push(other),
        }
    }
    path.to_string_lossy().into_owned()
}

/// Returns what a line includes, and whether that is a directory. What need not exist is passed over.
fn directive(line: &str) -> Option<(bool, String)> {
    let line = line.trim_start();
    let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    let is_directory = match line[..end].to_ascii_lowercase().as_str() {
        "include" => false,
        "include_dir" => true,
        _ => return None,
    };
    let value = line[end..].trim_start().trim_start_matches('=').trim_start();
    let named = match value.strip_prefix('\'') {
        Some(quoted) => quoted.split('\'').next(),
        None => value.split(|c: char| c.is_whitespace() || c == '#').next(),
    };
    named.filter(|named| !named.is_empty()).map(|named| (is_directory, named.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_told_from_settings() {
        for (line, named) in [
            ("include '/etc/ours.conf'", Some((false, "/etc/ours.conf"))),
            (" Include_Dir = 'conf.d' # ours", Some((true, "conf.d"))),
            ("include more.conf#x", Some((false, "more.conf"))),
            ("include_if_exists 'x'", None),
            ("#include 'x'", None),
            ("includes = 'x'", None),
            ("include ''", None),
        ] {
            assert_eq!(directive(line), named.map(|(is_directory, named)| (is_directory, named.to_owned())), "{line}");
        }
        assert_eq!(
            resolved("/etc/postgresql/15/main/conf.d/x.conf", "../more.conf"),
            "/etc/postgresql/15/main/more.conf"
        );
    }
}

//! What changes for a running instance: every setting whose effective value is not what it was, with its old value and
//! where that comes from, and whether a restart is needed.
//!
//! For people to read; the order of restarts is decided in `change`.

use serde::Serialize;

use crate::model::argv::Piece;
use crate::model::name::ServerName;
use crate::model::observation::{Instance, Setting};
use crate::model::parameter::is_same_value;
use crate::plan::files::decided::Decided;
use crate::plan::files::{Entry, kept};
use crate::quote::mask;
use crate::render::postgresql_conf::parse_settings;

/// What begins the names of settings that the connection itself holds (manual, 20.3.2).
const OF_CONNECTION: &str = "tcp_";

/// Units, with how many of them make the next larger one.
const LARGER: [(&str, i64, &str); 7] = [
    ("B", 1024, "kB"),
    ("kB", 1024, "MB"),
    ("MB", 1024, "GB"),
    ("ms", 1000, "s"),
    ("s", 60, "min"),
    ("min", 60, "h"),
    ("h", 24, "d"),
];

/// The change of one effective setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingChange {
    pub server: ServerName,
    /// The parameter.
    pub name: String,
    /// The value now, in base units with its unit.
    pub before: String,
    /// Where it comes from: a file, `default`, `command line`.
    pub source: String,
    /// The value as our file has it; none where our file no longer sets it.
    pub after: Option<String>,
    /// Whether the instance must restart for it.
    pub restart: bool,
}

/// Returns the changes that the files of one server bring to its running instance.
pub(in crate::plan) fn of(decided: &Decided<'_>) -> Vec<SettingChange> {
    let seen = decided.seen;
    let Some(instance) = seen.instance else { return Vec::new() };
    let path = kept::settings_file(seen.layout, seen.configuration);
    let text = decided.install.iter().find_map(|entry| match entry {
        Entry::File { path: at, content: Piece::Text(text), .. } if *at == path => Some(text),
        _ => None,
    });
    let Some(text) = text else { return Vec::new() };
    let after = parse_settings(text);
    let before = seen.seen.files.get(&path).and_then(|fact| fact.known()).and_then(|fact| fact.content.as_deref());
    let removed = parse_settings(before.unwrap_or_default()).into_keys().filter(|name| !after.contains_key(name));
    let removed = removed.map(|name| (name, None)).collect::<Vec<_>>();
    let set = after.into_iter().map(|(name, value)| (name, Some(value)));
    // Over a local connection these show nothing but 0: what our own file says is what is in force.
    let written = parse_settings(before.unwrap_or_default());
    let is_in_force = |name: &String, after: &Option<String>| {
        let is_ours = instance.settings.get(name).is_some_and(|setting| setting.sourcefile.as_ref() == Some(&path));
        name.starts_with(OF_CONNECTION) && is_ours && (before.is_none() || written.get(name) == after.as_ref())
    };
    let change = |(name, after): (String, Option<String>)| {
        if is_in_force(&name, &after) { None } else { change(&seen.server.name, instance, name, after) }
    };
    set.chain(removed).filter_map(change).collect()
}

fn change(server: &ServerName, instance: &Instance, name: String, after: Option<String>) -> Option<SettingChange> {
    let setting = instance.settings.get(&name)?;
    let unit = setting.unit.as_deref();
    if after.as_ref().is_some_and(|after| is_same_value(after, &setting.setting, unit)) {
        return None;
    }
    Some(SettingChange {
        server: server.clone(),
        before: mask::passwords(&readable(setting)),
        source: setting.sourcefile.clone().unwrap_or_else(|| setting.source.clone()),
        restart: setting.context == "postmaster",
        name,
        after,
    })
}

/// Returns a value with its unit, the largest in which it is a whole number: `131072kB` is 128MB, as people write it.
fn readable(setting: &Setting) -> String {
    let (Some(unit), Ok(number)) = (setting.unit.as_deref(), setting.setting.parse::<i64>()) else {
        return setting.setting.clone();
    };
    let digits = unit.len() - unit.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (factor, mut unit) = unit.split_at(digits);
    if number <= 0 {
        return number.to_string();
    }
    let mut number = number.saturating_mul(factor.parse().unwrap_or(1));
    while let Some((_, size, larger)) = LARGER.iter().find(|(smaller, ..)| *smaller == unit)
        && number % size == 0
    {
        number /= size;
        unit = larger;
    }
    [number.to_string(), unit.to_owned()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_in_the_units_that_people_write() {
        let shown = |setting: &str, unit: Option<&str>| {
            readable(&Setting {
                setting: setting.to_owned(),
                unit: unit.map(str::to_owned),
                context: "sighup".to_owned(),
                sourcefile: None,
                pending_restart: false,
                source: String::new(),
                boot: None,
            })
        };
        for (setting, unit, expected) in [
            ("131072", Some("kB"), "128MB"),
            ("16384", Some("8kB"), "128MB"),
            ("64", Some("16MB"), "1GB"),
            ("1000", Some("MB"), "1000MB"),
            ("30000", Some("ms"), "30s"),
            ("500", Some("ms"), "500ms"),
            ("-1", Some("kB"), "-1"),
            ("0", Some("s"), "0"),
            ("on", None, "on"),
        ] {
            assert_eq!(shown(setting, unit), expected, "{setting} {unit:?}");
        }
    }
}

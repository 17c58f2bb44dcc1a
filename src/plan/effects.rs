//! What changes for a running instance: every setting whose effective value is not what it was, with its old value and
//! where that comes from, and whether a restart is needed.
//!
//! For people to read; the order of restarts is decided in `change`.

use serde::Serialize;

use crate::model::argv::Piece;
use crate::model::name::ServerName;
use crate::model::observation::Instance;
use crate::model::observation::Setting;
use crate::model::parameter::is_same_value;
use crate::plan::decided::Decided;
use crate::plan::files::Entry;
use crate::plan::kept;
use crate::quote::mask;
use crate::render::postgresql_conf::parse_settings;

/// The change of one effective setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingChange {
    /// The server.
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
pub(super) fn of(decided: &Decided<'_>) -> Vec<SettingChange> {
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
    let change = |(name, after): (String, Option<String>)| change(&seen.server.name, instance, name, after);
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

/// Returns a value with its unit: `64 × 16MB` would be exact and unreadable, so multiples are multiplied out.
fn readable(setting: &Setting) -> String {
    let (Some(unit), Ok(number)) = (setting.unit.as_deref(), setting.setting.parse::<i64>()) else {
        return setting.setting.clone();
    };
    let digits = unit.len() - unit.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (factor, unit) = unit.split_at(digits);
    match factor.parse::<i64>() {
        _ if number <= 0 => number.to_string(),
        Ok(factor) => [(number * factor).to_string(), unit.to_owned()].concat(),
        Err(_) => [number.to_string(), unit.to_owned()].concat(),
    }
}

//! What one server will be set to, as far as this run brings it there: by the inventory, and by the files of an existing primary.

use std::collections::BTreeMap;

use crate::model::identity::Configuration;
use crate::model::observation::FileSetting;
use crate::model::parameter::is_same_value;
use crate::model::topology::Topology;
use crate::plan::files::{brought, parameters};
use crate::plan::seen::Seen;
use crate::render::postgresql_conf::ConfSetting;

/// Where a setting of the inventory is set, as people read it.
pub(super) const INVENTORY: &str = "The inventory";

/// What one server will be set to.
pub(super) struct Settings<'a> {
    of_inventory: BTreeMap<&'a str, &'a String>,
    /// What a file that pgstead writes whole has besides.
    defaults: Vec<ConfSetting>,
    primary: Option<Seen<'a>>,
    own: Option<Seen<'a>>,
}

impl<'a> Settings<'a> {
    pub(super) fn new(topology: &'a Topology, seen: Seen<'a>, primary: Option<Seen<'a>>) -> Self {
        let of_inventory = parameters::of_inventory(topology, seen.server);
        // A server with data has its configuration already, and only what the inventory changes is new to it.
        let primary = primary.filter(|primary| seen.data.is_none() && primary.configuration == Configuration::Kept);
        let is_written = seen.configuration == Configuration::Written;
        let defaults = if is_written { parameters::defaults(topology) } else { Vec::new() };
        Self { of_inventory, defaults, primary, own: Some(seen).filter(|seen| seen.data.is_some()) }
    }

    /// Returns the whole number that pgstead's own file will have, new or not.
    pub(super) fn our_number(&self, name: &str) -> Option<u64> {
        let default = || self.defaults.iter().find(|setting| setting.name == name);
        match self.of_inventory.get(name) {
            Some(value) => number(value),
            // It is quoted for the file.
            None => number(default()?.value.trim_matches('\'')),
        }
    }

    /// Returns a setting that the server does not have yet, and where it is set.
    pub(super) fn get(&self, name: &str) -> Option<(String, String)> {
        if let Some(value) = self.of_inventory.get(name) {
            let has = self.own.and_then(|own| own.instance?.settings.get(name));
            let is_new = has.is_none_or(|has| !is_same_value(value, &has.setting, has.unit.as_deref()));
            return is_new.then(|| ((*value).clone(), INVENTORY.to_owned()));
        }
        let primary = self.primary?;
        let set = self.of_primary().rfind(|set| set.name.eq_ignore_ascii_case(name))?;
        Some((set.setting.clone(), format!("{} of \"{}\"", brought::place(set), primary.server.name)))
    }

    /// Returns a setting that the server will have, new or not, and where it is set: by the inventory, or by files of its own that
    /// stay as they are.
    pub(super) fn will_have(&self, name: &str) -> Option<(String, String)> {
        self.will_have_one_of(&[name]).map(|(_, value, set)| (value, set))
    }

    /// The same of a setting with several names, of which the last that is set counts, and by which name.
    pub(super) fn will_have_one_of(&self, names: &[&str]) -> Option<(String, String, String)> {
        let wished = |name: &&str| Some(((*name).to_owned(), (*self.of_inventory.get(*name)?).clone()));
        // The file of the inventory's parameters has them by name.
        if let Some((name, value)) = names.iter().rev().find_map(wished) {
            return Some((name, value, INVENTORY.to_owned()));
        }
        let own = self.own.filter(|own| own.configuration == Configuration::Kept)?;
        let is_it =
            |set: &&FileSetting| names.iter().any(|name| set.name.eq_ignore_ascii_case(name)) && !is_of_pgstead(set);
        let set = own.instance?.file_settings.iter().rfind(is_it)?;
        Some((set.name.to_ascii_lowercase(), set.setting.clone(), brought::place(set)))
    }

    /// Returns the names of all settings that it may get.
    pub(super) fn names(&self) -> Vec<String> {
        let of_inventory = self.of_inventory.keys().map(|name| (*name).to_owned());
        let mut names: Vec<String> =
            of_inventory.chain(self.of_primary().map(|set| set.name.to_ascii_lowercase())).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Returns the whole number that the server will have, new or not, where that is known. The default is known only of a server
    /// whose settings were read, or which gets all of them from this run.
    pub(super) fn number(&self, name: &str, default: u64) -> Option<u64> {
        if let Some((value, _)) = self.get(name) {
            return number(&value);
        }
        match (self.own, self.primary) {
            (Some(own), _) => {
                let settings = &own.instance.filter(|instance| !instance.settings.is_empty())?.settings;
                settings.get(name).map_or(Some(default), |has| number(&has.setting))
            }
            (None, Some(primary)) => primary.instance.filter(|it| !it.file_settings.is_empty()).map(|_| default),
            (None, None) => Some(default),
        }
    }

    pub(super) fn collects_logs(&self) -> bool {
        let now = || Some(self.own?.instance?.settings.get("logging_collector")?.setting == "on");
        self.get("logging_collector").map_or_else(|| now().unwrap_or_default(), |(value, _)| is_on(&value))
    }

    /// What pgstead has set on the primary it sets on no other server: each gets a file of its own, by the inventory.
    fn of_primary(&self) -> impl DoubleEndedIterator<Item = &'a FileSetting> + use<'a> {
        let instance = self.primary.and_then(|primary| primary.instance);
        instance.into_iter().flat_map(|instance| &instance.file_settings).filter(|set| !is_of_pgstead(set))
    }
}

fn is_of_pgstead(set: &FileSetting) -> bool {
    set.file.ends_with("/pgstead.conf")
}

/// Reads a whole number as people write it. PostgreSQL reads more (`0x40`, `1e2`, the octal `0144`), and that is not judged.
fn number(value: &str) -> Option<u64> {
    let value = value.trim();
    let is_plain = value == "0" || !value.starts_with('0');
    value.parse().ok().filter(|_| is_plain)
}

/// Says whether a value turns something on.
pub(super) fn is_on(value: &str) -> bool {
    ["on", "true", "yes", "1", "t", "y"].contains(&value.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_written_otherwise_are_not_judged() {
        for (value, read) in
            [("100", Some(100)), (" 3 ", Some(3)), ("0", Some(0)), ("0x1F4", None), ("5e2", None), ("0144", None)]
        {
            assert_eq!(number(value), read, "{value}");
        }
    }
}

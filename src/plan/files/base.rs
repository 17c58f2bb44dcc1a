//! What an operator's own configuration says, on which pgstead's part is built.

use std::collections::BTreeMap;

use crate::model::observation::{FileSetting, Setting};
use crate::model::parameter::is_same_written;
use crate::plan::seen::Seen;

/// What the operator's own files say, without ours; what `ALTER SYSTEM` wrote among them.
#[derive(Debug, Clone)]
pub struct Base<'a> {
    values: BTreeMap<&'a str, &'a str>,
    /// The same without what `ALTER SYSTEM` wrote.
    files: BTreeMap<&'a str, &'a str>,
    settings: &'a BTreeMap<String, Setting>,
    /// Whether the data has page checksums, which every copy shares.
    pub(super) checksums: bool,
}

impl<'a> Base<'a> {
    /// Reads it from a running instance; `None` where none runs.
    pub fn of(primary: Seen<'a>) -> Option<Self> {
        let instance = primary.instance?;
        let operators = instance.file_settings.iter().filter(|setting| !setting.file.ends_with("/pgstead.conf"));
        let pair = |setting: &'a FileSetting| (setting.name.as_str(), setting.setting.as_str());
        let of_files = operators.clone().filter(|setting| !setting.file.ends_with("/postgresql.auto.conf"));
        let (files, values) = (of_files.map(pair).collect(), operators.map(pair).collect());
        let control = primary.data.and_then(|data| data.control.known());
        let checksums = control.is_some_and(|control| control.checksum_version > 0);
        Some(Self { values, files, settings: &instance.settings, checksums })
    }

    /// Returns the value that holds without our file, as written or in base units.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).copied().or_else(|| self.settings.get(name)?.boot.as_deref())
    }

    /// Returns the value that the operator's files set, without what `ALTER SYSTEM` wrote.
    pub(in crate::plan) fn file_value(&self, name: &str) -> Option<&str> {
        self.files.get(name).copied()
    }

    /// Says whether the operator's files set a parameter.
    pub(super) fn sets(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub(super) fn says(&self, name: &str, wanted: &str) -> bool {
        let unit = self.settings.get(name).and_then(|setting| setting.unit.as_deref());
        self.value(name).is_some_and(|value| is_same_written(value, wanted, unit))
    }
}

//! What an operator's own configuration says, on which pgstead's part is built.

use std::collections::BTreeMap;

use crate::model::observation::{FileSetting, Setting};
use crate::model::parameter::is_same_written;
use crate::plan::files::brought::Brought;
use crate::plan::seen::Seen;
use crate::render::postgresql_conf::parse_settings;

/// What the operator's own files say, without ours; what `ALTER SYSTEM` wrote among them.
#[derive(Debug, Clone)]
pub struct Base<'a> {
    values: BTreeMap<&'a str, &'a str>,
    /// The same without what `ALTER SYSTEM` wrote.
    files: BTreeMap<&'a str, &'a str>,
    settings: &'a BTreeMap<String, Setting>,
    /// Whether the data has page checksums, which every copy shares.
    pub(super) checksums: bool,
    /// What our own file says on a server that has files of its own and does not run.
    written: Option<Written>,
}

/// What our file says, which was right when it was written: nobody can ask the files around it.
#[derive(Debug, Clone)]
struct Written {
    settings: BTreeMap<String, String>,
    /// Whether the server was a standby then. The file of a primary leaves out what only matters on a standby.
    is_standby: bool,
}

/// Of these nobody can tell what they should be where the operator's files cannot be asked.
const OF_ITS_OWN: [&str; 2] = ["listen_addresses", "unix_socket_directories"];

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
        Some(Self { values, files, settings: &instance.settings, checksums, written: None })
    }

    /// The same for a server that has files of its own and does not run: what our file says there stays. Another server's files
    /// tell only what one that was a primary needs as a standby, and how many connections for replication all must have.
    pub(super) fn stopped(self, seen: Seen<'a>, ours: &str) -> Self {
        // What the inventory says is not kept: it may say something else now.
        let built = ours.split("\n# --- From the inventory").next().unwrap_or_default();
        let settings = parse_settings(built);
        let is_standby = settings.contains_key("primary_conninfo");
        let control = seen.data.and_then(|data| data.control.known());
        let checksums = control.is_some_and(|control| control.checksum_version > 0);
        Self { checksums, written: Some(Written { settings, is_standby }), ..self }
    }

    /// Returns what our file says on a server that does not run; `None` within where it leaves that to the operator's files.
    pub(super) fn written(&self, name: &str) -> Option<Option<&str>> {
        Some(self.written.as_ref()?.settings.get(name).map(String::as_str))
    }

    /// Says whether fewer than so many are certain without our file.
    pub(super) fn has_fewer(&self, name: &str, needed: usize) -> bool {
        let is_written = self.written(name).is_some_and(|value| value.is_some());
        let has = self.values.get(name).copied().or_else(|| self.settings.get(name)?.boot.as_deref());
        is_written || has.and_then(|value| value.parse::<usize>().ok()).is_some_and(|has| has < needed)
    }

    /// Says whether a file before ours sets what acts on a standby.
    pub(in crate::plan) fn acts(&self, one: &Brought, unit: Option<&str>) -> bool {
        let is_set = || self.file_value(one.name).is_some_and(|value| !one.is_neutral_written(value, unit));
        match &self.written {
            None => is_set(),
            Some(written) => match written.settings.get(one.name) {
                Some(value) => value == one.neutral,
                None => !written.is_standby && is_set(),
            },
        }
    }

    /// Returns the value that holds without our file, as written or in base units; on a server that does not run, the one that our
    /// file has.
    pub fn value(&self, name: &str) -> Option<&str> {
        if let Some(written) = self.written(name) {
            return written;
        }
        self.values.get(name).copied().or_else(|| self.settings.get(name)?.boot.as_deref())
    }

    /// Returns the value that the operator's files set, without what `ALTER SYSTEM` wrote.
    pub(in crate::plan) fn file_value(&self, name: &str) -> Option<&str> {
        self.files.get(name).copied()
    }

    /// Says whether the operator's files set a parameter.
    pub(super) fn sets(&self, name: &str) -> bool {
        if let Some(written) = self.written(name) {
            return written.is_none();
        }
        self.values.contains_key(name)
    }

    pub(super) fn says(&self, name: &str, wanted: &str) -> bool {
        if let Some(written) = &self.written {
            let is_written = written.settings.contains_key(name);
            if is_written || written.is_standby || OF_ITS_OWN.contains(&name) {
                return !is_written;
            }
        }
        let unit = self.settings.get(name).and_then(|setting| setting.unit.as_deref());
        self.value(name).is_some_and(|value| is_same_written(value, wanted, unit))
    }
}

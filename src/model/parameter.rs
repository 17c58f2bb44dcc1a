//! Configuration parameters.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Parameters by name, with values as they stand in `postgresql.conf` (unquoted).
pub type Parameters = BTreeMap<ParameterName, String>;

/// The name of a configuration parameter, lower case; extension parameters have a dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ParameterName(String);

/// Why a text is not a parameter name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a parameter name")]
pub struct ParameterNameError {
    /// The text as given.
    pub text: String,
}

impl ParameterName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ParameterName {
    type Err = ParameterNameError;
    fn from_str(text: &str) -> Result<Self, ParameterNameError> {
        let part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
        };
        if text.len() <= 63 && text.split('.').count() <= 2 && text.split('.').all(part) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(ParameterNameError { text: text.to_owned() })
        }
    }
}

impl TryFrom<String> for ParameterName {
    type Error = ParameterNameError;
    fn try_from(text: String) -> Result<Self, ParameterNameError> {
        text.parse()
    }
}

impl From<ParameterName> for String {
    fn from(name: ParameterName) -> String {
        name.0
    }
}

impl fmt::Display for ParameterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The parameters that must be at least as high on a standby as on its primary (manual, 27.4.5 "Hot Standby Parameter Reference"; hazard 38).
pub const HOT_STANDBY_PARAMETERS: [&str; 5] = [
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
];

/// Parameters that pgstead itself decides, with what to use instead. An inventory that sets one is refused.
pub const MANAGED_PARAMETERS: &[(&str, &str)] = &[
    ("archive_cleanup_command", "leave it unset"),
    ("cluster_name", "the server's name in the inventory"),
    ("config_file", "the layout decides it"),
    ("data_directory", "servers.NAME.data_directory"),
    // Up to version 16. Roles would have to be called "pgstead@postgres".
    ("db_user_namespace", "it must be off"),
    ("external_pid_file", "the layout decides it"),
    ("hba_file", "postgres.hba"),
    ("hot_standby", "it is always on"),
    ("ident_file", "the layout decides it"),
    // In postgresql.conf these three are directives: "include = 'x'" reads another file.
    ("include", "write the parameters here"),
    ("include_dir", "write the parameters here"),
    ("include_if_exists", "write the parameters here"),
    ("listen_addresses", "servers.NAME.address"),
    ("max_slot_wal_keep_size", "replication.max_slot_wal_keep_size"),
    ("password_encryption", "it is always scram-sha-256"),
    ("port", "postgres.port"),
    ("primary_conninfo", "servers.NAME.upstream"),
    ("primary_slot_name", "servers.NAME.upstream"),
    ("promote_trigger_file", "leave it unset"),
    ("recovery_end_command", "leave it unset"),
    ("recovery_target", "leave it unset"),
    ("recovery_target_action", "leave it unset"),
    ("recovery_target_inclusive", "leave it unset"),
    ("recovery_target_lsn", "leave it unset"),
    ("recovery_target_name", "leave it unset"),
    ("recovery_target_time", "leave it unset"),
    ("recovery_target_timeline", "it is always latest"),
    ("recovery_target_xid", "leave it unset"),
    ("ssl", "it is always on"),
    ("ssl_ca_file", "pgstead issues it"),
    ("ssl_cert_file", "pgstead issues it"),
    ("ssl_key_file", "pgstead issues it"),
    ("synchronous_standby_names", "replication.synchronous"),
    ("unix_socket_directories", "the layout decides it"),
    ("wal_level", "it is always replica"),
    ("wal_log_hints", "it is always on"),
];

/// Returns what to use instead of a parameter that pgstead decides, where an inventory may not have this value of it.
///
/// What `db_user_namespace` is anyway may be written down.
pub fn managed(name: &ParameterName, value: &str) -> Option<&'static str> {
    let is_as_it_must_be = name.as_str() == "db_user_namespace" && boolean(value) == Some(false);
    let (_, instead) = MANAGED_PARAMETERS.iter().find(|(managed, _)| *managed == name.as_str())?;
    (!is_as_it_must_be).then_some(instead)
}

/// A setting with which committed data do not survive, or damage goes on unnoticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsafeSetting {
    /// The parameter.
    pub name: &'static str,
    /// Its value that is safe.
    pub safe: &'static str,
    /// What happens with another one.
    pub what: &'static str,
    /// Whether it loses what was committed; the others hide damage that is there already.
    pub loses: bool,
}

/// The settings with which a server keeps no promise about its data (manual, 20.5 and 20.17).
pub const UNSAFE_SETTINGS: [UnsafeSetting; 8] = [
    UnsafeSetting { name: "fsync", safe: "on", what: "a crash of the machine may destroy all data", loses: true },
    UnsafeSetting {
        name: "full_page_writes",
        safe: "on",
        what: "a crash of the machine leaves torn pages, which every copy takes over",
        loses: true,
    },
    UnsafeSetting {
        name: "data_sync_retry",
        safe: "off",
        what: "after a failed flush the server goes on without data that the kernel has dropped",
        loses: true,
    },
    UnsafeSetting {
        name: "zero_damaged_pages",
        safe: "off",
        what: "a damaged page is emptied when it is read, and its rows are gone",
        loses: true,
    },
    UnsafeSetting {
        name: "ignore_checksum_failure",
        safe: "off",
        what: "damaged pages are read as if they were sound",
        loses: false,
    },
    UnsafeSetting {
        name: "ignore_invalid_pages",
        safe: "off",
        what: "recovery goes on past pages that are not there",
        loses: false,
    },
    UnsafeSetting {
        name: "ignore_system_indexes",
        safe: "off",
        what: "damaged indexes of the catalog are passed over",
        loses: false,
    },
    UnsafeSetting {
        name: "allow_system_table_mods",
        safe: "off",
        what: "the catalog can be changed by hand",
        loses: false,
    },
];

/// Says whether a value as written in a file is what `pg_settings` shows in its base unit.
///
/// `32MB` is `4096` of unit `8kB`, `yes` is `on`; what is not understood counts as different (manual, 20.1.1).
pub fn is_same_value(written: &str, setting: &str, unit: Option<&str>) -> bool {
    if written == setting {
        return true;
    }
    if let (Some(one), Some(other)) = (boolean(written), boolean(setting)) {
        return one == other;
    }
    let base = unit.and_then(scaled);
    match (quantity(written, base), setting.parse::<i64>()) {
        (Some(value), Ok(setting)) => value == i128::from(setting),
        _ => false,
    }
}

/// Says whether two values as written in files mean the same, in a parameter's base unit.
pub fn is_same_written(one: &str, other: &str, unit: Option<&str>) -> bool {
    let base = unit.and_then(scaled);
    let as_quantity = || quantity(one, base).zip(quantity(other, base)).is_some_and(|(one, other)| one == other);
    let as_boolean = || boolean(one).zip(boolean(other)).is_some_and(|(one, other)| one == other);
    one == other || as_boolean() || as_quantity()
}

/// Says whether a value, as written or in the base unit, is no more than another one as written.
pub fn is_at_most(value: &str, limit: &str, unit: Option<&str>) -> bool {
    let base = unit.and_then(scaled);
    quantity(value, base).zip(quantity(limit, base)).is_some_and(|(value, limit)| value <= limit)
}

/// Reads a value as written in a unit: one without its own is in that already.
pub fn in_units(text: &str, unit: &str) -> Option<i128> {
    quantity(text, scaled(unit))
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "tru" | "tr" | "t" | "yes" | "ye" | "y" | "1" => Some(true),
        "off" | "of" | "false" | "fals" | "fal" | "fa" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// A kind of quantity and its size: bytes, or milliseconds.
type Scale = (bool, i128);

/// Reads a unit with an optional factor, such as `8kB` or `min`.
fn scaled(text: &str) -> Option<Scale> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let factor: i128 = if digits == 0 { 1 } else { text[..digits].parse().ok()? };
    let (is_bytes, size) = match &text[digits..] {
        "B" => (true, 1),
        "kB" => (true, 1 << 10),
        "MB" => (true, 1 << 20),
        "GB" => (true, 1 << 30),
        "TB" => (true, 1 << 40),
        "ms" => (false, 1),
        "s" => (false, 1_000),
        "min" => (false, 60_000),
        "h" => (false, 3_600_000),
        "d" => (false, 86_400_000),
        _ => return None,
    };
    Some((is_bytes, factor * size))
}

/// Reads a whole number with an optional unit and returns it in the base unit.
fn quantity(text: &str, base: Option<Scale>) -> Option<i128> {
    let text = text.trim();
    let sign = usize::from(text.starts_with('-'));
    let digits = text[sign..].len() - text[sign..].trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: i128 = text[..sign + digits].parse().ok()?;
    let unit = text[sign + digits..].trim_start();
    if unit.is_empty() {
        return Some(number);
    }
    let ((is_bytes, size), (base_is_bytes, base_size)) = (scaled(unit)?, base?);
    (is_bytes == base_is_bytes && number * size % base_size == 0).then(|| number * size / base_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!("Work_Mem".parse::<ParameterName>().map(String::from), Ok("work_mem".to_owned()));
        assert!("pg_stat_statements.max".parse::<ParameterName>().is_ok());
        for text in ["", "a b", "a=b", "a\nb", "a.b.c", "-a", "1a"] {
            assert!(text.parse::<ParameterName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn values_in_other_units_are_the_same() {
        for (written, setting, unit) in [
            ("32MB", "4096", Some("8kB")),
            ("1GB", "64", Some("16MB")),
            ("30s", "30000", Some("ms")),
            ("5min", "300", Some("s")),
            ("-1", "-1", Some("kB")),
            ("100", "100", None),
            ("yes", "on", None),
            ("latest", "latest", None),
        ] {
            assert!(is_same_value(written, setting, unit), "{written} {setting} {unit:?}");
        }
        assert!(is_same_written("512MB", "524288kB", Some("MB")));
        assert!(is_same_written("on", "yes", None));
        assert!(!is_same_written("512MB", "0", Some("MB")));
        for (written, setting, unit) in
            [("33MB", "4096", Some("8kB")), ("30s", "30", Some("8kB")), ("banana", "1", None)]
        {
            assert!(!is_same_value(written, setting, unit), "{written} {setting} {unit:?}");
        }
    }
}

//! Configuration parameters.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

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
}

//! What was seen of a directory beside a data directory: the facts on which its removal is decided.

use serde::{Deserialize, Serialize};

use crate::model::control::ControlFile;
use crate::model::observed::Observed;

/// Something that stands beside a data directory (`….seed.RUN`, `….aside.…`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BesideFact {
    pub path: String,
    /// What it is.
    pub kind: BesideKind,
    pub owner: String,
    /// When its entries last changed, in seconds since the epoch.
    pub modified_s: i64,
    /// How many entries it has.
    pub entries: u64,
    /// Where something is mounted: on it, or below it. Absent when nowhere.
    #[serde(default)]
    pub mount: Observed<String>,
    /// The process that works in it, by its id. Absent when none was seen.
    #[serde(default)]
    pub process: Observed<u32>,
    /// The text of its `pgstead.identity`.
    #[serde(default)]
    pub identity: Observed<String>,
    /// What `pg_controldata` prints of it.
    #[serde(default)]
    pub control: Observed<ControlFile>,
    /// Directories elsewhere to which its tablespaces and its WAL lead.
    #[serde(default)]
    pub leads_to: Vec<String>,
    /// Bytes that it occupies on its own file system, where the probe was asked to count.
    #[serde(default)]
    pub bytes: Observed<u64>,
}

/// What a path beside a data directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BesideKind {
    /// A directory of its own.
    Directory,
    /// A symbolic link.
    Link,
    /// The data directory itself, under another name.
    DataDirectory,
    /// Anything else.
    Other,
}

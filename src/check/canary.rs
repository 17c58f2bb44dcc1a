//! What was seen of the rows that a check writes on the primary and reads on the standbys.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::model::name::ServerName;
use crate::model::observed::Observed;

/// What was seen of one canary on one standby.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Milliseconds from the commit on the primary until the row was read on the standby; none when it did not come.
    pub arrived_ms: Option<f64>,
    /// How long was waited, in milliseconds.
    pub waited_ms: f64,
    /// Whether the row read on the standby is the one that was written (L7).
    pub same_row: bool,
    /// Whether the upstream heard from the standby after the write: `reply_time` moved (L6).
    pub replied: bool,
}

/// The canaries of one check, by standby. `Absent` means that none was written, since no server accepts writes.
pub type Canaries = BTreeMap<ServerName, Observed<Canary>>;

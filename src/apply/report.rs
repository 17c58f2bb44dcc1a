//! The result of carrying a plan out, in the shape of the JSON contract (design, section 5).

use std::time::Duration;

use serde::Serialize;

use crate::diagnostic::{Diagnostic, Failure};
use crate::model::name::{ServerName, TopologyName};
use crate::plan::StepId;
use crate::state::journal::Outcome;

/// One step's result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// Its number.
    pub id: StepId,
    pub title: String,
    /// The server it changed.
    pub server: Option<ServerName>,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// How long writes were unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Downtime {
    /// How long.
    pub took: Duration,
    /// Whether that is the least: an earlier run has begun it, and when is not known any more.
    pub is_least: bool,
}

/// The whole run's result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunReport {
    pub topology: TopologyName,
    /// Whether anything was changed.
    pub changed: bool,
    /// Every step of the plan.
    pub steps: Vec<StepReport>,
    /// Wall time of the whole command, in seconds.
    pub seconds: f64,
    /// What arrived on servers while something was copied there, in bytes.
    #[serde(skip)]
    pub bytes_transferred: u64,
    /// How long writes were unavailable while the primary changed; none if it did not change.
    #[serde(skip)]
    pub write_downtime: Option<Downtime>,
    /// What the operator should know besides.
    #[serde(skip)]
    pub warnings: Vec<Diagnostic>,
    /// Why it ended early, where it did.
    #[serde(skip)]
    pub failure: Option<Failure>,
}

impl RunReport {
    /// Returns the report of a run in which there was nothing to do.
    pub fn unchanged(topology: &TopologyName, seconds: f64) -> Self {
        Self {
            topology: topology.clone(),
            changed: false,
            steps: Vec::new(),
            seconds,
            bytes_transferred: 0,
            write_downtime: None,
            warnings: Vec::new(),
            failure: None,
        }
    }
}

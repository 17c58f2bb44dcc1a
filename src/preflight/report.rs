//! The result of a preflight, in the shape of the JSON contract (design, section 5).

use serde::Serialize;

use crate::diagnostic::Code;
use crate::model::name::{ServerName, TopologyName};
use crate::model::pair::Way;
use crate::preflight::facts::Facts;
use crate::preflight::{Finding, Seed};

/// The whole result.
#[derive(Debug, Clone, PartialEq)]
pub struct PreflightReport {
    /// The topology.
    pub topology: TopologyName,
    /// Whether no error stands, among what was judged.
    pub ready: bool,
    /// What was found, worst first.
    pub findings: Vec<Finding>,
    /// The codes that were judged alone; empty means all.
    pub only: Vec<Code>,
    /// The codes that were left out.
    pub skipped: Vec<Skipped>,
    /// What was measured between servers.
    pub ways: Vec<WayReport>,
    /// The base backups that are to come.
    pub seeds: Vec<Seed>,
}

/// A code that is not judged, with the operator's reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The code.
    pub code: Code,
    /// Why, in the operator's words.
    pub reason: String,
}

/// One way, as it was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WayReport {
    /// Who connects.
    pub from: ServerName,
    /// To whom.
    pub to: ServerName,
    /// What was measured; none where it could not be.
    pub measured: Option<Way>,
    /// The share of segments that were sent again during the echoes.
    pub loss: Option<f64>,
}

/// Returns the share of segments that were sent again during the echoes.
pub(super) fn loss(way: &Way) -> Option<f64> {
    (way.echo_segments > 0).then(|| way.echo_retransmits as f64 / way.echo_segments as f64)
}

/// Returns what was measured, in the order of the inventory's names.
pub(super) fn ways(facts: &Facts<'_>) -> Vec<WayReport> {
    let all = facts.pairs.iter().flat_map(|(from, others)| others.iter().map(move |(to, way)| (from, to, way)));
    all.map(|(from, to, way)| WayReport {
        from: from.clone(),
        to: to.clone(),
        measured: way.known().cloned(),
        loss: way.known().and_then(loss),
    })
    .collect()
}

//! The result of `check`, in the shape of the JSON contract (design, section 5).

use jiff::Timestamp;
use serde::Serialize;

use crate::check::Finding;
use crate::model::name::{ServerName, TopologyName};

/// Three-valued health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Proven to work.
    Healthy,
    /// Could not look.
    Unknown,
    /// Proven not to work.
    Unhealthy,
}

/// The whole result.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckReport {
    pub topology: TopologyName,
    /// The worst of all verdicts.
    pub verdict: Verdict,
    /// Every server of the inventory.
    pub servers: Vec<ServerReport>,
    /// Every link that should exist.
    pub links: Vec<LinkReport>,
    /// What is wrong or worth knowing: the worst cause first, and behind each cause what follows from it.
    pub findings: Vec<Finding>,
    /// When the servers were looked at.
    pub checked_at: Timestamp,
    /// Every check: what came of it, or why it was left out.
    pub checks: Vec<CheckEntry>,
}

impl CheckReport {
    /// Returns the causes, each with how many findings follow from it.
    pub fn causes(&self) -> impl Iterator<Item = (&Finding, usize)> {
        self.findings.iter().enumerate().filter(|(_, finding)| finding.follows.is_none()).map(|(at, finding)| {
            (finding, self.findings[at + 1..].iter().take_while(|finding| finding.follows.is_some()).count())
        })
    }

    /// Returns what is to be done next, where something is wrong: the first cause's own advice.
    pub fn next(&self) -> Option<&str> {
        let (first, _) = self.causes().next().filter(|(finding, _)| finding.verdict != Verdict::Healthy)?;
        first.diagnostic.hint.as_deref()
    }
}

/// One check of hazards.md, section 4.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckEntry {
    /// Its number, such as `L7`.
    pub id: &'static str,
    /// What it proves.
    pub title: &'static str,
    /// What came of it; none where it was left out as a whole.
    pub verdict: Option<Verdict>,
    /// What was left out, and why: all of it, where there is no verdict.
    pub skipped: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerReport {
    pub name: ServerName,
    /// Whether SSH and the probe reached it.
    pub reachable: bool,
    /// `pg_is_in_recovery()`, where the instance answered.
    pub in_recovery: Option<bool>,
    pub timeline: Option<u32>,
    /// Its database system identifier, as text: it exceeds the integers that JSON readers keep exactly.
    pub system_identifier: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinkReport {
    /// The sending server.
    pub upstream: ServerName,
    /// The receiving server.
    pub standby: ServerName,
    /// `pg_stat_replication.state` on the upstream.
    pub state: Option<String>,
    /// `pg_stat_replication.sync_state` on the upstream.
    pub sync_state: Option<String>,
    /// The slot it streams from.
    pub slot: Option<String>,
    /// The TLS version, such as `TLSv1.3`.
    pub tls: Option<String>,
    /// Milliseconds from the write on the primary until it was read on the standby.
    pub canary_ms: Option<f64>,
    /// Bytes that the standby's replay is behind the primary's WAL position.
    pub lag_bytes: Option<i64>,
    pub verdict: Verdict,
}

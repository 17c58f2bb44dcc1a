//! Judges links and servers: healthy, unhealthy, or unknown.
//!
//! Pure: (topology, observation, canaries, thresholds) in, a verdict with findings out. "Could not look" is never
//! healthy. The numbers L1 to L23 are those of hazards.md, section 4.

pub mod canary;
pub mod files;
pub mod links;
pub mod report;
pub mod servers;

use std::cmp::Reverse;

use crate::diagnostic::Diagnostic;
use crate::diagnostic::Severity;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::topology::Link;
use crate::model::topology::Topology;

pub use canary::Canaries;
pub use canary::Canary;
pub use canary::Chain;
pub use canary::first_difference;
pub use report::CheckReport;
pub use report::LinkReport;
pub use report::ServerReport;
pub use report::Verdict;

/// How much is too much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Milliseconds within which a canary must arrive at a standby of the primary's region (L7).
    pub canary_near_ms: u64,
    /// The same for a standby of another region.
    pub canary_far_ms: u64,
    /// Bytes that replay may be behind before it is a warning (L8).
    pub lag_warning_bytes: i64,
    /// Bytes that replay may be behind before the link is unhealthy.
    pub lag_error_bytes: i64,
    /// Free walsenders and slots that every server keeps for the next standby and a base backup (L17).
    pub headroom: usize,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            canary_near_ms: 2_000,
            canary_far_ms: 10_000,
            lag_warning_bytes: 64 << 20,
            lag_error_bytes: 1 << 30,
            headroom: 2,
        }
    }
}

impl Thresholds {
    /// Returns how long a canary may take from the primary to a standby, in milliseconds.
    pub fn canary_ms(&self, topology: &Topology, primary: &ServerName, standby: &ServerName) -> u64 {
        let region = |name| {
            let site = &topology.server(name)?.site;
            topology.common().sites.get(site).and_then(|site| site.region.clone())
        };
        if region(primary) == region(standby) { self.canary_near_ms } else { self.canary_far_ms }
    }
}

/// A finding with what it means for the verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What is told.
    pub diagnostic: Diagnostic,
    /// What it says about the server or link.
    pub verdict: Verdict,
    /// What it is about.
    pub scope: Scope,
}

/// What a finding is about, and so whose verdict it decides besides the topology's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The server that the diagnostic names; a standby's own fault is a fault of the link towards it.
    Server,
    /// The link towards this standby.
    Link(ServerName),
    /// The topology: no single link.
    Topology,
}

impl Finding {
    /// A finding that proves something wrong.
    fn unhealthy(diagnostic: Diagnostic) -> Self {
        Self { diagnostic, verdict: Verdict::Unhealthy, scope: Scope::Server }
    }

    /// A finding that says something could not be looked at.
    fn unknown(mut diagnostic: Diagnostic) -> Self {
        diagnostic.severity = Severity::Warning;
        Self { diagnostic, verdict: Verdict::Unknown, scope: Scope::Server }
    }

    /// A finding that is worth knowing while everything works.
    fn remark(diagnostic: Diagnostic) -> Self {
        Self { diagnostic, verdict: Verdict::Healthy, scope: Scope::Server }
    }

    fn on(self, link: &Link) -> Self {
        Self { scope: Scope::Link(link.standby.clone()), ..self }
    }

    fn of_topology(self) -> Self {
        Self { scope: Scope::Topology, ..self }
    }

    /// Says whether it decides the verdict of a link.
    fn decides(&self, link: &Link) -> bool {
        match &self.scope {
            Scope::Server => self.diagnostic.server.as_deref() == Some(link.standby.as_str()),
            Scope::Link(standby) => *standby == link.standby,
            Scope::Topology => false,
        }
    }
}

/// Judges a topology. Without canaries only what was observed is judged: a picture, not a proof.
pub fn check(
    topology: &Topology,
    observation: &Observation,
    canaries: Option<&Canaries>,
    thresholds: &Thresholds,
) -> CheckReport {
    let primary = observation.current_primary(topology).unwrap_or_else(|| topology.preferred_primary());
    let links = topology.links(primary);
    let mut findings = servers::check_servers(topology, observation, primary, &links, thresholds);
    findings.extend(links::check_links(topology, observation, primary, &links, canaries, thresholds));
    findings.sort_by_key(|finding| Reverse((finding.verdict, finding.diagnostic.severity)));
    let verdict = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Healthy);
    CheckReport {
        topology: topology.name().clone(),
        verdict,
        servers: servers::report(topology, observation),
        links: links.iter().map(|link| links::report(observation, primary, link, canaries, &findings)).collect(),
        findings: findings.into_iter().map(|finding| finding.diagnostic).collect(),
    }
}

//! Judges links and servers: healthy, unhealthy, or unknown.
//!
//! Pure: (topology with its thresholds, observation, evidence, selection) in, a verdict with findings out. "Could not look" is never
//! healthy. The numbers L1 to L23 are those of hazards.md, section 4.

mod access;
mod brought;
pub mod canary;
pub mod catalog;
pub mod cause;
mod certificates;
mod durability;
pub mod evidence;
pub mod files;
pub mod guard;
pub mod links;
pub mod log;
pub mod pooler;
pub mod report;
mod room;
pub mod selection;
pub mod servers;
mod slots;
mod soundness;

use std::collections::BTreeSet;

use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::judge::State;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::topology::{Link, Topology};

pub use canary::{Canaries, Canary, Chain, first_difference};
pub use cause::Cause;
pub use evidence::Evidence;
pub use report::{CheckEntry, CheckReport, LinkReport, ServerReport, Verdict};
pub use selection::Selection;

use catalog::CHECKS;
use selection::Left;

/// Returns how long a canary may take from the primary to a standby, in milliseconds.
pub fn canary_limit_ms(topology: &Topology, primary: &ServerName, standby: &ServerName) -> u64 {
    let region = |name| {
        let site = &topology.server(name)?.site;
        topology.common().sites.get(site).and_then(|site| site.region.clone())
    };
    let thresholds = &topology.common().thresholds;
    if region(primary) == region(standby) { thresholds.canary_near_ms } else { thresholds.canary_far_ms }
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
    /// The servers besides its own that it is about: what is wrong with them may be its cause.
    pub others: Vec<ServerName>,
    /// The finding that it follows from, where it is not one of its own.
    pub follows: Option<Cause>,
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
        Self { diagnostic, verdict: Verdict::Unhealthy, scope: Scope::Server, others: Vec::new(), follows: None }
    }

    /// A finding that says something could not be looked at.
    fn unknown(mut diagnostic: Diagnostic) -> Self {
        diagnostic.severity = Severity::Warning;
        Self { diagnostic, verdict: Verdict::Unknown, scope: Scope::Server, others: Vec::new(), follows: None }
    }

    /// A finding that is worth knowing while everything works.
    fn remark(diagnostic: Diagnostic) -> Self {
        Self { diagnostic, verdict: Verdict::Healthy, scope: Scope::Server, others: Vec::new(), follows: None }
    }

    /// Returns the number of the check that tells it.
    pub fn check(&self) -> &'static str {
        catalog::check_of(self.diagnostic.code).unwrap_or_default()
    }

    fn on(self, link: &Link) -> Self {
        Self { scope: Scope::Link(link.standby.clone()), ..self }
    }

    fn with(self, others: impl IntoIterator<Item = ServerName>) -> Self {
        Self { others: others.into_iter().collect(), ..self }
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

/// Judges a topology by what was observed and tried. Where nothing was tried it is a picture, not a proof.
pub fn check(
    topology: &Topology,
    observation: &Observation,
    evidence: &Evidence,
    selection: &Selection,
) -> CheckReport {
    let state = &State::of(topology, observation);
    let primary = state.primary().unwrap_or_else(|| topology.preferred_primary());
    let links = topology.links(primary);
    let mut findings = servers::check_servers(state, primary, &links, evidence);
    findings.extend(links::check_links(state, primary, &links, evidence));
    findings.retain(|finding| selection.keeps(finding.diagnostic.code));
    let findings = cause::group(findings, &links, primary);
    let verdict = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Healthy);
    CheckReport {
        topology: topology.name().clone(),
        verdict,
        servers: servers::report(state),
        links: links.iter().map(|link| links::report(state, primary, link, evidence, &findings)).collect(),
        checked_at: evidence.at,
        checks: checks(state, primary, evidence, selection, &findings),
        findings,
    }
}

/// Returns the servers whose logs say why: standbys that do not connect, and instances that do not run.
pub fn logs_wanted(report: &CheckReport) -> BTreeSet<ServerName> {
    let wants = |finding: &Finding| match (finding.diagnostic.code, &finding.scope) {
        (Code::NoSender, Scope::Link(standby)) => Some(standby.clone()),
        (Code::InstanceNotRunning, _) => finding.diagnostic.server.as_deref()?.parse().ok(),
        _ => None,
    };
    report.findings.iter().filter_map(wants).collect()
}

/// Returns what came of every check. Where an instance could not be asked, no check is healthy.
fn checks(
    state: &State<'_>,
    primary: &ServerName,
    evidence: &Evidence,
    selection: &Selection,
    findings: &[Finding],
) -> Vec<CheckEntry> {
    let at_best = if state.all_answer() { Verdict::Healthy } else { Verdict::Unknown };
    let entry = |(id, title): (&'static str, &'static str)| {
        let worst = findings.iter().filter(|finding| finding.check() == id).map(|finding| finding.verdict).max();
        let floor = if id == CHECKS[0].0 { Verdict::Healthy } else { at_best };
        let verdict = worst.unwrap_or(Verdict::Healthy).max(floor);
        let (verdict, skipped) = match selection::left_out(id, state, primary, evidence, selection) {
            Left::Whole(why) if worst.is_none() => (None, Some(why)),
            Left::Whole(why) | Left::Part(why) => (Some(verdict), Some(why)),
            Left::Nothing => (Some(verdict), None),
        };
        CheckEntry { id, title, verdict, skipped }
    };
    CHECKS.into_iter().map(entry).collect()
}

//! Judges, before anything is begun, whether servers and the ways between them are fit for the topology.
//!
//! Pure: (topology, observation, measured ways, thresholds) in, findings with evidence out. What a bootstrap would
//! refuse is said by its own plan, which the caller hands in, so that the two never disagree. Nothing here changes or looks at
//! anything; what could not be looked at is a finding of its own and never counts as good.

mod clock;
pub mod codes;
mod collation;
mod compatibility;
mod disk;
mod facts;
mod host;
mod installed;
mod link;
mod network;
mod replication;
pub mod report;
mod seed;
mod sites;
mod unseen;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::model::observation::Observation;
use crate::model::pair::{Pair, Pairs};
use crate::model::topology::Topology;
use facts::Facts;
pub use report::{PreflightReport, Skipped};
pub use seed::Seed;

/// How much is too much, or too little.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Milliseconds by which two clocks may surely differ before it is a warning (hazard 15).
    pub clock_warning_ms: i64,
    /// The same before it is an error.
    pub clock_error_ms: i64,
    /// Milliseconds of an echo that every commit may wait for.
    pub sync_latency_ms: f64,
    /// Milliseconds of an echo that are worth knowing on any link.
    pub latency_ms: f64,
    /// The share of segments sent again that is worth a warning.
    pub loss: f64,
    /// How much faster one direction may be than the other.
    pub asymmetry: f64,
    /// Bytes per second above which asymmetry is of no interest.
    pub fast_bytes_per_second: f64,
    /// The share of data that must be free besides (hazard 16).
    pub spare: f64,
    /// The share of a file system below which its free space is worth a warning.
    pub disk_free: f64,
    /// The share of the primary's memory or processors below which a standby is small.
    pub smaller: f64,
    /// Free walsenders and slots that every server keeps for role changes and a base backup (hazard 25).
    pub headroom: u64,
    /// Bytes per second that a base backup is presumed to take where the link was not measured.
    pub presumed_bytes_per_second: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            clock_warning_ms: 1_000,
            clock_error_ms: 5_000,
            sync_latency_ms: 10.0,
            latency_ms: 150.0,
            loss: 0.05,
            asymmetry: 4.0,
            fast_bytes_per_second: 125_000_000.0,
            spare: 0.2,
            disk_free: 0.1,
            smaller: 0.5,
            headroom: 2,
            presumed_bytes_per_second: 10_000_000.0,
        }
    }
}

/// Something that a preflight found: of a server, of a pair of servers, or of the whole topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is told.
    pub diagnostic: Diagnostic,
    /// The pair that it is about, where it is one.
    pub pair: Option<Pair>,
}

impl From<Diagnostic> for Finding {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { diagnostic, pair: None }
    }
}

/// What is judged, and what is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// These codes alone; empty means all.
    pub only: BTreeSet<Code>,
    /// Codes that are left out, with the operator's reason.
    pub skipped: Vec<Skipped>,
}

impl Choice {
    fn admits(&self, code: Code) -> bool {
        (self.only.is_empty() || self.only.contains(&code)) && !self.skipped.iter().any(|skip| skip.code == code)
    }
}

/// What is said already: why servers could not be reached, why a bootstrap would refuse, and what it would remark.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Reported whatever the choice is: nobody is ready while a bootstrap refuses.
    pub refusals: Vec<Diagnostic>,
    /// Reported as other findings are.
    pub notes: Vec<Diagnostic>,
}

/// A bootstrap has other words for a library that is loaded at the start, and for a tablespace where another is to be.
const ITS_WORDS: [(Code, Code); 2] =
    [(Code::PreloadLibraryMissing, Code::LibraryMissing), (Code::TablespaceNotEmpty, Code::TablespaceTaken)];

/// Judges everything that was seen, beside what is said already.
pub fn preflight(
    topology: &Topology,
    observation: &Observation,
    pairs: &Pairs,
    told: &Told,
    choice: &Choice,
    thresholds: &Thresholds,
) -> PreflightReport {
    let facts = Facts::new(topology, observation, pairs, thresholds);
    let seeds = seed::seeds(&facts);
    let mut findings: Vec<Finding> = told.refusals.iter().cloned().map(Finding::from).collect();
    let notes = told.notes.iter().filter(|note| choice.admits(note.code));
    findings.extend(notes.cloned().map(Finding::from));

    let mut own = Vec::new();
    own.extend(unseen::judge(&facts));
    own.extend(host::judge(&facts));
    own.extend(clock::judge(&facts));
    own.extend(sites::judge(&facts));
    own.extend(network::judge(&facts));
    own.extend(link::judge(&facts));
    own.extend(disk::judge(&facts, &seeds));
    own.extend(compatibility::judge(&facts));
    own.extend(collation::judge(&facts));
    own.extend(installed::judge(&facts));
    own.extend(replication::judge(&facts));
    // Of two findings about the same, the bootstrap's own stays.
    let said: BTreeSet<(Option<String>, Code)> =
        findings.iter().map(|finding| (finding.diagnostic.server.clone(), finding.diagnostic.code)).collect();
    own.retain(|finding| {
        let Diagnostic { code, ref server, .. } = finding.diagnostic;
        let its = ITS_WORDS.iter().find(|(own, _)| *own == code).map_or(code, |(_, its)| *its);
        choice.admits(code) && !said.contains(&(server.clone(), its))
    });
    findings.extend(own);

    findings.sort_by_key(|finding| Reverse(finding.diagnostic.severity));
    PreflightReport {
        topology: topology.name().clone(),
        ready: findings.iter().all(|finding| finding.diagnostic.severity < Severity::Error),
        findings,
        only: choice.only.iter().copied().collect(),
        skipped: choice.skipped.clone(),
        ways: report::ways(&facts),
        seeds,
    }
}

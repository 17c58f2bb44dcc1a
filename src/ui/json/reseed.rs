//! The documents of `reseed`: of a run, of a plan, and of several servers at once.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{DiagnosticJson, PlanDocument, RunDocument, VERSION, diagnostics, first_error};
use crate::apply::{RunReport, StepReport};
use crate::diagnostic::Failure;
use crate::model::lost::Lost;
use crate::model::method::Method;
use crate::model::name::{ServerName, TopologyName};
use crate::plan::StepId;
use crate::plan::operation::reseed::{Diagnosis, Rung};
use crate::ui::reseed::ReseedView;

/// What was found out about a server that is re-seeded.
#[derive(Debug, Serialize)]
struct ReseedFacts<'a> {
    server: Option<&'a ServerName>,
    /// The way that is taken; null where nothing is wrong, or everything was refused.
    method: Option<Method>,
    /// Where the old data directory goes, or went.
    set_aside: Option<&'a str>,
    diagnosis: Option<&'a Diagnosis>,
    /// What only this server has; null where it did not diverge, or where that could not be read.
    only_here: Option<&'a Lost>,
    ways: &'a [Rung],
    /// What the line from its upstream carries, in bytes a second; null where it was not measured.
    bytes_per_second: Option<u64>,
}

impl<'a> ReseedFacts<'a> {
    fn new(view: &ReseedView<'a>) -> Self {
        Self {
            server: view.diagnosis.map(|diagnosis| &diagnosis.server),
            method: view.method,
            set_aside: view.set_aside,
            diagnosis: view.diagnosis,
            only_here: view.lost.and_then(|lost| lost.known()),
            ways: view.rungs,
            bytes_per_second: view.rate,
        }
    }
}

/// The result of `reseed`: that of a run, and how the server was brought back.
#[derive(Debug, Serialize)]
pub struct ReseedDocument<'a> {
    #[serde(flatten)]
    run: RunDocument<'a>,
    #[serde(flatten)]
    facts: ReseedFacts<'a>,
    /// What arrived on the server while it was copied, in bytes, on the network card by which most did; 0 where nothing was.
    bytes_transferred: u64,
}

impl<'a> ReseedDocument<'a> {
    pub fn new(report: &'a RunReport, view: &ReseedView<'a>) -> Self {
        let bytes_transferred = report.bytes_transferred;
        Self { run: RunDocument::new(report), facts: ReseedFacts::new(view), bytes_transferred }
    }
}

/// The result of `reseed --dry-run`, and of one that was refused.
#[derive(Debug, Serialize)]
pub struct ReseedPlanDocument<'a> {
    #[serde(flatten)]
    plan: PlanDocument<'a>,
    #[serde(flatten)]
    facts: ReseedFacts<'a>,
}

impl<'a> ReseedPlanDocument<'a> {
    pub fn new(view: &ReseedView<'a>) -> Self {
        Self { plan: PlanDocument::new(&view.plan), facts: ReseedFacts::new(view) }
    }
}

/// The result of `reseed` of several servers: the steps of all in one count, and how each was brought back.
#[derive(Debug, Serialize)]
pub struct ReseedsDocument<'a> {
    version: u32,
    topology: &'a TopologyName,
    changed: bool,
    steps: Vec<StepReport>,
    seconds: f64,
    /// The way that all of them were brought back by; null where they differ.
    method: Option<Method>,
    bytes_transferred: u64,
    /// Where old data directories went, by server.
    set_aside: BTreeMap<&'a ServerName, &'a str>,
    servers: Vec<ReseedOneJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<DiagnosticJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<DiagnosticJson<'a>>>,
}

#[derive(Debug, Serialize)]
struct ReseedOneJson<'a> {
    #[serde(flatten)]
    facts: ReseedFacts<'a>,
    changed: bool,
    bytes_transferred: u64,
    refusals: Vec<DiagnosticJson<'a>>,
}

impl<'a> ReseedsDocument<'a> {
    /// Makes the document. A server without a report was refused, or only shown.
    pub fn new(
        topology: &'a TopologyName,
        views: &[ReseedView<'a>],
        reports: &[Option<&'a RunReport>],
        failure: Option<&'a Failure>,
        seconds: f64,
    ) -> Self {
        let of_all = || reports.iter().flatten();
        let mut steps: Vec<StepReport> = of_all().flat_map(|report| report.steps.iter().cloned()).collect();
        for (number, step) in (1..).zip(&mut steps) {
            step.id = StepId(number);
        }
        let one = |(view, report): (&ReseedView<'a>, &Option<&RunReport>)| ReseedOneJson {
            facts: ReseedFacts::new(view),
            changed: report.is_some_and(|report| report.changed),
            bytes_transferred: report.map_or(0, |report| report.bytes_transferred),
            refusals: view.plan.plan.err().map(diagnostics).unwrap_or_default(),
        };
        let set_aside = |view: &ReseedView<'a>| Some((&view.diagnosis?.server, view.set_aside?));
        let first = views.first().and_then(|view| view.method);
        Self {
            version: VERSION,
            topology,
            changed: of_all().any(|report| report.changed),
            steps,
            seconds,
            method: first.filter(|first| views.iter().all(|view| view.method == Some(*first))),
            bytes_transferred: of_all().map(|report| report.bytes_transferred).sum(),
            set_aside: views.iter().filter_map(set_aside).collect(),
            servers: views.iter().zip(reports).map(one).collect(),
            error: failure.and_then(|failure| first_error(&failure.diagnostics)),
            errors: failure.map(|failure| diagnostics(&failure.diagnostics)),
        }
    }
}

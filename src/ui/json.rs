//! The JSON documents that others script against. Keys are added, never renamed (design, section 5).
//!
//! The mirror types here are the only place where a key gets its name. No text for people is made here.

mod conninfo;
mod drill;
mod reseed;
mod role_change;

use jiff::Timestamp;
use serde::Serialize;

use crate::apply::{RunReport, StepReport};
use crate::check::{Cause, CheckEntry, CheckReport, Finding, LinkReport, ServerReport, Verdict};
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind, Severity};
use crate::model::address::Address;
use crate::model::aside::Beside;
use crate::model::lsn::Lsn;
use crate::model::name::{ServerName, SiteName, TopologyName};
use crate::model::pair::Pair;
use crate::model::topology::Topology;
use crate::plan::{PlannedStep, Risk, SettingChange, StepId};
use crate::preflight;
use crate::preflight::report::WayReport;
use crate::preflight::{PreflightReport, Seed, Skipped};
use crate::ui::beside::BesideView;
use crate::ui::plan::PlanView;
use crate::ui::topology::{RoleView, StatusView};

pub use conninfo::ConninfoDocument;
pub use drill::{DrillDocument, DrillPlan};
pub use reseed::{ReseedDocument, ReseedPlanDocument, ReseedsDocument};
pub use role_change::{RoleChangeDocument, RoleChangePlanDocument};

/// The version that every document carries.
pub const VERSION: u32 = 1;

/// Writes a document as text, with a line break at its end.
///
/// # Errors
/// Never for the documents of this module; a failure is a defect.
pub fn text(document: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(document).map_err(|error| {
        Failure::one(
            FailureKind::Bug,
            Diagnostic::error(Code::Bug, "could not write the result as JSON").detail(format!("{error}.")),
        )
    })?;
    Ok(text + "\n")
}

#[derive(Debug, Serialize)]
pub struct DiagnosticJson<'a> {
    code: Code,
    severity: Severity,
    message: &'a str,
    detail: Option<&'a str>,
    hint: Option<&'a str>,
    server: Option<&'a str>,
    command: Option<&'a str>,
    at: Option<&'a str>,
}

impl<'a> From<&'a Diagnostic> for DiagnosticJson<'a> {
    fn from(diagnostic: &'a Diagnostic) -> Self {
        Self {
            code: diagnostic.code,
            severity: diagnostic.severity,
            message: &diagnostic.message,
            detail: diagnostic.detail.as_deref(),
            hint: diagnostic.hint.as_deref(),
            server: diagnostic.server.as_deref(),
            command: diagnostic.command.as_deref(),
            at: diagnostic.at.as_deref(),
        }
    }
}

/// Mirrors a list of diagnostics.
pub(crate) fn diagnostics(diagnostics: &[Diagnostic]) -> Vec<DiagnosticJson<'_>> {
    diagnostics.iter().map(DiagnosticJson::from).collect()
}

/// What ended a run: the most important error, and all of them.
#[derive(Debug, Serialize)]
pub struct ErrorDocument<'a> {
    version: u32,
    error: Option<DiagnosticJson<'a>>,
    errors: Vec<DiagnosticJson<'a>>,
}

impl<'a> ErrorDocument<'a> {
    pub fn new(all: &'a [Diagnostic]) -> Self {
        Self { version: VERSION, error: first_error(all), errors: diagnostics(all) }
    }
}

fn first_error(all: &[Diagnostic]) -> Option<DiagnosticJson<'_>> {
    all.iter().find(|d| d.severity == Severity::Error).or(all.first()).map(DiagnosticJson::from)
}

/// The result of `plan` and of every `--dry-run`.
#[derive(Debug, Serialize)]
pub struct PlanDocument<'a> {
    version: u32,
    topology: &'a TopologyName,
    changes: bool,
    steps: Vec<PlanStepJson<'a>>,
    /// The effective settings of running instances that change.
    settings: &'a [SettingChange],
    refusals: Vec<DiagnosticJson<'a>>,
    notes: Vec<DiagnosticJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<DiagnosticJson<'a>>,
}

#[derive(Debug, Serialize)]
struct PlanStepJson<'a> {
    id: StepId,
    title: &'a str,
    server: Option<&'a ServerName>,
    risk: Risk,
    /// The commands as shell lines; absent for a step that only writes files.
    command: Option<String>,
    after: &'a [StepId],
    files: Vec<FileJson<'a>>,
}

#[derive(Debug, Serialize)]
struct FileJson<'a> {
    path: &'a str,
    /// Whether it is there already; not told of secret files.
    exists: Option<bool>,
    secret: bool,
    diff: Option<String>,
}

impl<'a> PlanDocument<'a> {
    pub fn new(view: &PlanView<'a>) -> Self {
        let (steps, notes, refusals): (&[PlannedStep], &[Diagnostic], &[Diagnostic]) = match view.plan {
            Ok(plan) => (&plan.steps, &plan.notes, &[]),
            Err(refusals) => (&[], &[], refusals),
        };
        Self {
            version: VERSION,
            topology: view.topology,
            changes: !steps.is_empty(),
            steps: steps.iter().map(|planned| step(planned, view)).collect(),
            settings: view.plan.map_or(&[], |plan| &plan.settings),
            refusals: diagnostics(refusals),
            notes: diagnostics(notes),
            error: first_error(refusals),
        }
    }
}

fn step<'a>(planned: &'a PlannedStep, view: &PlanView<'_>) -> PlanStepJson<'a> {
    let lines = view.command_lines(&planned.step);
    let file = |change: &'a crate::plan::FileChange| FileJson {
        path: &change.path,
        exists: change.after.as_ref().map(|_| change.before.is_some()),
        secret: change.after.is_none(),
        diff: crate::ui::changes::unified_diff(change),
    };
    PlanStepJson {
        id: planned.id,
        title: &planned.step.title,
        server: planned.step.server.as_ref(),
        risk: planned.step.risk,
        command: (!lines.is_empty()).then(|| lines.join("\n")),
        after: &planned.after,
        files: planned.step.files.iter().map(file).collect(),
    }
}

/// The result of `bootstrap`; the error keys stand there only when the run ended early.
#[derive(Debug, Serialize)]
pub struct RunDocument<'a> {
    version: u32,
    topology: &'a TopologyName,
    changed: bool,
    steps: &'a [StepReport],
    seconds: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<DiagnosticJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<DiagnosticJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<DiagnosticJson<'a>>>,
}

impl<'a> RunDocument<'a> {
    pub fn new(report: &'a RunReport) -> Self {
        let failure = report.failure.as_ref();
        Self {
            version: VERSION,
            topology: &report.topology,
            changed: report.changed,
            steps: &report.steps,
            seconds: report.seconds,
            warnings: diagnostics(&report.warnings),
            error: failure.and_then(|failure| first_error(&failure.diagnostics)),
            errors: failure.map(|failure| diagnostics(&failure.diagnostics)),
        }
    }
}

/// The result of `forget-aside`: that of a run, and what was removed.
#[derive(Debug, Serialize)]
pub struct ForgetDocument<'a> {
    #[serde(flatten)]
    run: RunDocument<'a>,
    server: &'a str,
    /// The directory's own name.
    set_aside: &'a str,
    /// What it occupied; null where it could not be counted.
    bytes: Option<u64>,
    /// Directories of tablespaces and WAL elsewhere, which stay.
    left: &'a [String],
}

impl<'a> ForgetDocument<'a> {
    pub fn new(
        report: &'a RunReport,
        server: &'a str,
        set_aside: &'a str,
        bytes: Option<u64>,
        left: &'a [String],
    ) -> Self {
        Self { run: RunDocument::new(report), server, set_aside, bytes, left }
    }
}

/// The result of `release`: that of a run, and what stays on each server.
#[derive(Debug, Serialize)]
pub struct ReleaseDocument<'a> {
    #[serde(flatten)]
    run: RunDocument<'a>,
    stays: Vec<DiagnosticJson<'a>>,
}

impl<'a> ReleaseDocument<'a> {
    pub fn new(report: &'a RunReport, stays: &'a [Diagnostic]) -> Self {
        Self { run: RunDocument::new(report), stays: diagnostics(stays) }
    }
}

/// The result of `check`.
#[derive(Debug, Serialize)]
pub struct CheckDocument<'a> {
    version: u32,
    topology: &'a TopologyName,
    verdict: Verdict,
    servers: &'a [ServerReport],
    links: &'a [LinkReport],
    findings: Vec<FindingJson<'a>>,
    /// What to do first.
    next: Option<&'a str>,
    checked_at: Timestamp,
    checks: &'a [CheckEntry],
}

/// A diagnostic of a check: with the check it belongs to, and what it says about the health.
#[derive(Debug, Serialize)]
struct FindingJson<'a> {
    #[serde(flatten)]
    diagnostic: DiagnosticJson<'a>,
    check: &'static str,
    verdict: Verdict,
    /// The finding that it follows from; null where it is a cause.
    follows_from: Option<&'a Cause>,
}

impl<'a> From<&'a Finding> for FindingJson<'a> {
    fn from(finding: &'a Finding) -> Self {
        Self {
            diagnostic: (&finding.diagnostic).into(),
            check: finding.check(),
            verdict: finding.verdict,
            follows_from: finding.follows.as_ref(),
        }
    }
}

impl<'a> CheckDocument<'a> {
    pub fn new(report: &'a CheckReport) -> Self {
        Self {
            version: VERSION,
            topology: &report.topology,
            verdict: report.verdict,
            servers: &report.servers,
            links: &report.links,
            findings: report.findings.iter().map(FindingJson::from).collect(),
            next: report.next(),
            checked_at: report.checked_at,
            checks: &report.checks,
        }
    }
}

/// The result of `preflight`.
#[derive(Debug, Serialize)]
pub struct PreflightDocument<'a> {
    version: u32,
    topology: &'a TopologyName,
    ready: bool,
    findings: Vec<PreflightFindingJson<'a>>,
    skipped: &'a [Skipped],
    /// The codes that were judged alone; empty means all.
    only: &'a [Code],
    ways: &'a [WayReport],
    base_backups: &'a [Seed],
}

/// A diagnostic with the pair of servers that it is about.
#[derive(Debug, Serialize)]
struct PreflightFindingJson<'a> {
    #[serde(flatten)]
    diagnostic: DiagnosticJson<'a>,
    pair: Option<&'a Pair>,
}

impl<'a> PreflightDocument<'a> {
    pub fn new(report: &'a PreflightReport) -> Self {
        let finding = |finding: &'a preflight::Finding| PreflightFindingJson {
            diagnostic: (&finding.diagnostic).into(),
            pair: finding.pair.as_ref(),
        };
        Self {
            version: VERSION,
            topology: &report.topology,
            ready: report.ready,
            findings: report.findings.iter().map(finding).collect(),
            skipped: &report.skipped,
            only: &report.only,
            ways: &report.ways,
            base_backups: &report.seeds,
        }
    }
}

/// The result of `validate`; an invalid inventory is an error document.
#[derive(Debug, Serialize)]
pub struct ValidateDocument<'a> {
    version: u32,
    topology: &'a TopologyName,
    valid: bool,
    servers: usize,
    sites: usize,
    warnings: Vec<DiagnosticJson<'a>>,
}

impl<'a> ValidateDocument<'a> {
    /// Makes the document of a valid inventory.
    pub fn new(topology: &'a Topology, warnings: &'a [Diagnostic]) -> Self {
        Self {
            version: VERSION,
            topology: topology.name(),
            valid: true,
            servers: topology.servers().count(),
            sites: topology.common().sites.len(),
            warnings: diagnostics(warnings),
        }
    }
}

/// The result of `status`.
#[derive(Debug, Serialize)]
pub struct StatusDocument<'a> {
    version: u32,
    topology: &'a TopologyName,
    verdict: Verdict,
    servers: Vec<StatusServerJson<'a>>,
    links: &'a [LinkReport],
    /// Why it is not healthy: the causes, the worst first.
    why: Vec<DiagnosticJson<'a>>,
    /// What was set aside; a name that pgstead did not give has neither reason nor run nor time.
    aside: Vec<BesideJson<'a>>,
    /// Data directories that a run did not complete.
    seeds: Vec<BesideJson<'a>>,
}

#[derive(Debug, Serialize)]
struct BesideJson<'a> {
    server: &'a ServerName,
    /// The directory's own name.
    name: &'a str,
    reason: Option<&'static str>,
    run: Option<&'a str>,
    since: Option<Timestamp>,
    bytes: Option<u64>,
    /// Whether its removal was interrupted.
    half_removed: bool,
    /// The command that removes it; none for what pgstead does not remove.
    command: Option<&'a str>,
}

impl<'a> From<&'a BesideView> for BesideJson<'a> {
    fn from(view: &'a BesideView) -> Self {
        let (aside, run) = match &view.kind {
            Beside::Aside(aside) => (Some(aside), Some(aside.run.as_str())),
            Beside::Seed { run } => (None, Some(run.as_str())),
            Beside::Other => (None, None),
        };
        Self {
            server: &view.server,
            name: &view.name,
            reason: aside.map(|aside| aside.reason.word()),
            run,
            since: aside.map(|aside| aside.since),
            bytes: view.bytes,
            half_removed: aside.is_some_and(|aside| aside.is_forgotten),
            command: view.command.as_deref(),
        }
    }
}

#[derive(Debug, Serialize)]
struct StatusServerJson<'a> {
    name: &'a ServerName,
    site: &'a SiteName,
    location: Option<&'a str>,
    region: Option<&'a str>,
    address: &'a Address,
    port: u16,
    /// `primary`, `standby`, `not_running`, `no_instance`, `unreachable` or `unknown`.
    role: &'static str,
    /// Why the role could not be seen.
    reason: Option<&'a str>,
    timeline: Option<u32>,
    lsn: Option<Lsn>,
    notes: &'a [String],
}

impl<'a> StatusDocument<'a> {
    pub fn new(view: &'a StatusView) -> Self {
        let pairs = view.sites.iter().flat_map(|site| site.servers.iter().map(move |server| (site, server)));
        let servers = pairs.map(|(site, server)| {
            let (role, reason) = match &server.role {
                RoleView::Primary => ("primary", None),
                RoleView::Standby => ("standby", None),
                RoleView::NotRunning => ("not_running", None),
                RoleView::NoInstance => ("no_instance", None),
                RoleView::Unreachable(why) => ("unreachable", Some(why.as_str())),
                RoleView::Unknown(why) => ("unknown", Some(why.as_str())),
            };
            StatusServerJson {
                name: &server.name,
                site: &site.name,
                location: site.location.as_deref(),
                region: site.region.as_deref(),
                address: &server.address,
                port: server.port,
                role,
                reason,
                timeline: server.timeline,
                lsn: server.lsn,
                notes: &server.notes,
            }
        });
        Self {
            version: VERSION,
            topology: &view.topology,
            verdict: view.verdict,
            servers: servers.collect(),
            links: &view.links,
            why: diagnostics(&view.why),
            aside: view.beside.iter().filter(|view| !view.is_seed()).map(BesideJson::from).collect(),
            seeds: view.beside.iter().filter(|view| view.is_seed()).map(BesideJson::from).collect(),
        }
    }
}

/// Any other result: `version` in front of the value's own keys.
#[derive(Debug, Serialize)]
pub struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    value: T,
}

impl<T: Serialize> Versioned<T> {
    /// Puts `version` in front.
    pub fn new(value: T) -> Self {
        Self { version: VERSION, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples;

    #[test]
    fn error_document() {
        let all = [
            Diagnostic::warning(Code::NoStandbyOffSite, "all servers stand on one site"),
            Diagnostic::error(Code::Unreachable, "server \"b\" could not be reached")
                .server("b")
                .detail("ssh said: Connection refused.")
                .command("ssh b true")
                .hint("Is sshd running?"),
        ];
        insta::assert_snapshot!(text(&ErrorDocument::new(&all)).unwrap());
    }

    #[test]
    fn plan_documents() {
        let plan = samples::plan();
        insta::assert_snapshot!(text(&PlanDocument::new(&samples::view(Ok(&plan)))).unwrap());
        let refusals = [samples::refusal()];
        insta::assert_snapshot!(text(&PlanDocument::new(&samples::view(Err(&refusals)))).unwrap());
    }

    #[test]
    fn run_documents() {
        insta::assert_snapshot!(text(&RunDocument::new(&samples::run())).unwrap());
        insta::assert_snapshot!(text(&RunDocument::new(&samples::failed_run())).unwrap());
    }

    #[test]
    fn validate_and_status_documents() {
        let warnings = [Diagnostic::warning(Code::NoStandbyOffSite, "all servers stand on one site")];
        insta::assert_snapshot!(text(&ValidateDocument::new(&samples::topology(), &warnings)).unwrap());
        insta::assert_snapshot!(text(&StatusDocument::new(&samples::status())).unwrap());
    }

    #[test]
    fn check_document() {
        insta::assert_snapshot!(text(&CheckDocument::new(&samples::check())).unwrap());
    }
}

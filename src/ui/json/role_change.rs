//! The documents of `switchover`: of a run, and of a plan.

use serde::Serialize;

use super::{PlanDocument, RunDocument};
use crate::apply::RunReport;
use crate::model::name::ServerName;
use crate::ui::plan::PlanView;
use crate::ui::role_change::View;

/// The result of a change of the primary: that of a run, and who hands over to whom.
#[derive(Debug, Serialize)]
pub struct RoleChangeDocument<'a> {
    #[serde(flatten)]
    run: RunDocument<'a>,
    /// The primary until then; null where an earlier run has handed over.
    from: Option<&'a ServerName>,
    to: &'a ServerName,
    /// Milliseconds for which nobody could write; null where this run has not handed over.
    write_downtime_ms: Option<f64>,
    /// Whether it was at least that long: an earlier run has shut the former primary down.
    write_downtime_is_least: bool,
    /// Bytes of WAL that the new primary lacks: 0 where it had the shutdown checkpoint; null where this run has promoted nobody,
    /// and where nobody can tell.
    lost_lsn_bytes: Option<u64>,
}

impl<'a> RoleChangeDocument<'a> {
    pub fn new(report: &'a RunReport, view: &'a View) -> Self {
        let write_downtime_ms = report.write_downtime.map(|downtime| downtime.took.as_secs_f64() * 1000.0);
        Self {
            run: RunDocument::new(report),
            from: view.from.as_ref(),
            to: &view.to,
            write_downtime_ms,
            write_downtime_is_least: report.write_downtime.is_some_and(|downtime| downtime.is_least),
            lost_lsn_bytes: match &view.lost {
                Some(lost) => lost.bytes(),
                None => write_downtime_ms.map(|_| 0),
            },
        }
    }
}

/// The result of a dry run, and of one that was refused.
#[derive(Debug, Serialize)]
pub struct RoleChangePlanDocument<'a> {
    #[serde(flatten)]
    plan: PlanDocument<'a>,
    from: Option<&'a ServerName>,
    to: Option<&'a ServerName>,
}

impl<'a> RoleChangePlanDocument<'a> {
    pub fn new(plan: &PlanView<'a>, view: Option<&'a View>) -> Self {
        let from = view.and_then(|view| view.from.as_ref());
        Self { plan: PlanDocument::new(plan), from, to: view.map(|view| &view.to) }
    }
}

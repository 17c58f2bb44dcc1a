//! What `switchover` and `failover` have in common: a planned change of the primary is shown, asked for, carried out and told.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use super::carry_out;
use super::carry_out::Agreed;
use super::exit;
use super::exit::Exit;
use super::plan::refused;
use super::session::Session;
use crate::apply::RunReport;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::model::name::ServerName;
use crate::plan::Action;
use crate::plan::Hook;
use crate::plan::Material;
use crate::plan::Plan;
use crate::plan::authority::Keys;
use crate::ui::Ui;
use crate::ui::ask;
use crate::ui::ask::Question;
use crate::ui::json::RoleChangeDocument;
use crate::ui::json::RoleChangePlanDocument;
use crate::ui::plan;
use crate::ui::plan::PlanView;
use crate::ui::role_change;
use crate::ui::role_change::View;

/// A change of the primary that may be made.
pub(super) struct RoleChange {
    pub(super) view: View,
    pub(super) plan: Plan,
    pub(super) material: Material,
    pub(super) question: Question,
}

/// How it is made.
#[derive(Debug, Clone)]
pub(super) struct How {
    /// The name of the operation in locks and journal.
    pub(super) operation: &'static str,
    pub(super) is_dry_run: bool,
    pub(super) begun: Instant,
    /// What the operator answers for: by server, how the operator knows.
    pub(super) attested: Vec<(ServerName, String)>,
}

/// Shows, asks, carries out, tells; or tells why not.
pub(super) async fn carry_out(
    session: &Session<'_>,
    keys: &Keys,
    planned: Result<RoleChange, Vec<Diagnostic>>,
    how: How,
    ui: &Ui,
) -> Result<Exit, Failure> {
    let topology = session.inventory.topology.name();
    let logins = session.logins();
    let RoleChange { view, plan, material, question } = match planned {
        Ok(planned) => planned,
        Err(refusals) if how.is_dry_run => {
            let shown = PlanView { topology, plan: Err(&refusals), logins: &logins };
            ui.answer(|look| plan::render(&shown, look), || RoleChangePlanDocument::new(&shown, None))?;
            ui.diagnostics(&refusals);
            return Ok(refused(&refusals).kind.into());
        }
        Err(refusals) => return Err(refused(&refusals)),
    };
    let shown = PlanView { topology, plan: Ok(&plan), logins: &logins };
    if how.is_dry_run {
        ui.answer(|look| plan::render(&shown, look), || RoleChangePlanDocument::new(&shown, Some(&view)))?;
        return Ok(exit::DONE);
    }
    ui.diagnostics(&plan.notes);
    let missing: Vec<Diagnostic> = hooks(&plan).filter_map(not_executable).collect();
    if !missing.is_empty() {
        return Err(Failure::all(FailureKind::Refused, missing));
    }
    let report = if plan.changes() {
        if !ui.options.yes || ui.err.whole {
            ui.explain(&plan::render_steps(&shown, ui.err));
        }
        ask::consent(ui, &question)?;
        let agreed = Agreed {
            operation: how.operation,
            run: &material.run,
            plan: &plan,
            logins: &logins,
            keys,
            attested: how.attested,
            begun: how.begun,
        };
        carry_out::carry_out(session, agreed, ui).await?
    } else {
        RunReport::unchanged(topology, how.begun.elapsed().as_secs_f64())
    };
    ui.answer(|look| role_change::render(&report, &view, look), || RoleChangeDocument::new(&report, &view))?;
    Ok(carry_out::end(report.failure.as_ref(), ui))
}

/// The operator's programs that a plan may run.
fn hooks(plan: &Plan) -> impl Iterator<Item = &Hook> {
    plan.steps.iter().flat_map(|planned| match &planned.step.action {
        Action::Hook(hook) => vec![hook],
        Action::HandOver(hand_over) => hand_over.before.iter().chain(&hand_over.undone).collect(),
        _ => Vec::new(),
    })
}

/// Says why a hook could not be run, before anything is begun: behind a promotion it would be too late.
fn not_executable(hook: &Hook) -> Option<Diagnostic> {
    let why = match std::fs::metadata(&hook.program) {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => return None,
        Ok(_) => "It is no file that may be executed.".to_owned(),
        Err(error) => format!("{error}."),
    };
    let message = format!("hook {} cannot be run", hook.program.display());
    Some(
        Diagnostic::error("hook-missing", message).detail(why).hint("Correct hooks in the inventory, or leave it out."),
    )
}

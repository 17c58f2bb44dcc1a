//! What `switchover` and `failover` tell.

use super::runner::Told;
use crate::diagnostic::Failure;
use crate::ui::json::{RoleChangeDocument, RoleChangePlanDocument};
use crate::ui::plan::PlanView;
use crate::ui::role_change::View;
use crate::ui::{Ui, plan, role_change};

/// Writes what a change of the primary would do, or did. Who hands over to whom is known where it is not refused.
pub(super) fn tell(shown: &PlanView<'_>, told: &Told<Option<View>>, ui: &Ui) -> Result<(), Failure> {
    let view = told.facts().as_ref();
    let delivered = match (&told.report, view) {
        (Some(report), Some(view)) => {
            ui.answer(|look| role_change::render(report, view, look), || RoleChangeDocument::new(report, view))
        }
        _ => ui.answer(|look| plan::render(shown, look), || RoleChangePlanDocument::new(shown, view)),
    };
    delivered.map(drop)
}

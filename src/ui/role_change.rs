//! The result of a change of the primary as text. It judges nothing.

use crate::apply::RunReport;
use crate::apply::report::Downtime;
use crate::model::name::ServerName;
use crate::model::quantity::{milliseconds, seconds};
use crate::plan::operation::failover::Loss;
use crate::ui::look::{Look, Style};
use crate::ui::report;

/// Who hands over to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The primary until then, where this is known.
    pub from: Option<ServerName>,
    /// The primary from then on.
    pub to: ServerName,
    /// What is lost by a failover; none where nothing can be.
    pub lost: Option<Loss>,
}

/// Renders the result.
pub fn render(report: &RunReport, view: &View, look: Look) -> String {
    let View { from, to, lost } = view;
    if report.failure.is_none() && !report.changed {
        return format!("No changes. \"{to}\" is the primary. ({})\n", seconds(report.seconds));
    }
    let mut out = report::render_run(report, look);
    if report.failure.is_none() {
        let heading = look.paint(Style::Bold, &format!("\"{to}\" is the primary."));
        let downtime = report.write_downtime.map_or(String::new(), |Downtime { took, is_least }| {
            let least = if is_least { "at least " } else { "" };
            format!(
                " Writes were unavailable for {least}{}; nothing was lost.",
                milliseconds(took.as_secs_f64() * 1000.0)
            )
        });
        out.push_str(&format!("{heading}{downtime}\n"));
        let from = from.as_ref().filter(|from| *from != to);
        match (from, lost) {
            (Some(from), Some(lost)) => {
                out.push_str(&format!("{}\nOnce server \"{from}\" is repaired: pgstead reseed {from}\n", lost.words()));
            }
            (Some(from), None) => out.push_str(&format!("The way back: pgstead switchover --to {from}\n")),
            (None, _) => {}
        }
    }
    out
}

//! A re-seed as text: what is wrong, how that is known, the ways to mend it, and what is done. It adds no judgement.

use crate::apply::RunReport;
use crate::model::method::Method;
use crate::model::quantity::bytes;
use crate::model::quantity::seconds;
use crate::plan::reseed::Diagnosis;
use crate::plan::reseed::Rung;
use crate::ui::columns::cell;
use crate::ui::columns::styled;
use crate::ui::columns::table;
use crate::ui::look::Look;
use crate::ui::look::Style;
use crate::ui::plan;
use crate::ui::plan::PlanView;
use crate::ui::report;

/// What is shown of a re-seed.
#[derive(Debug, Clone, Copy)]
pub struct ReseedView<'a> {
    /// What is wrong, where that could be told.
    pub diagnosis: Option<&'a Diagnosis>,
    /// The ways to mend it.
    pub rungs: &'a [Rung],
    /// The way that is taken.
    pub method: Option<Method>,
    /// Where the old data directory goes.
    pub set_aside: Option<&'a str>,
    /// The steps, or every refusal.
    pub plan: PlanView<'a>,
}

/// Renders the diagnosis, the ways and the plan.
pub fn render(view: &ReseedView<'_>, look: Look) -> String {
    let mut out = String::new();
    if let Some(diagnosis) = view.diagnosis {
        let heading = format!("Server \"{}\" {}.", diagnosis.server, diagnosis.condition.words());
        out.push_str(&look.paint(Style::Bold, &heading));
        out.push('\n');
        for line in &diagnosis.evidence {
            out.push_str(&format!("  {line}\n"));
        }
        out.push('\n');
    }
    if !view.rungs.is_empty() {
        out.push_str(&ways(view, look));
        out.push('\n');
    }
    if let Some(place) = view.set_aside {
        out.push_str(&format!("The old data directory is kept as {place}.\n\n"));
    }
    if view.plan.plan.is_ok_and(|plan| !plan.changes()) {
        out.push_str("Nothing needs to be done.\n");
        return out;
    }
    out.push_str(&plan::render_steps(&view.plan, look));
    out
}

fn ways(view: &ReseedView<'_>, look: Look) -> String {
    let row = |rung: &Rung| {
        let (word, style) = match (&rung.refused, view.method == Some(rung.method)) {
            (Some(_), _) => ("no", Style::Bad),
            (None, true) => ("taken", Style::Good),
            (None, false) => ("possible", Style::Plain),
        };
        let cost = rung.cost;
        vec![
            cell(rung.method.word()),
            styled(word, style),
            cell(cost.map(|cost| bytes(cost.transfer_bytes)).unwrap_or_default()),
            cell(cost.map(|cost| seconds(cost.seconds as f64)).unwrap_or_default()),
            cell(cost.map(|cost| bytes(cost.peak_bytes)).unwrap_or_default()),
            cell(rung.refused.as_deref().unwrap_or_default()),
        ]
    };
    let rows: Vec<_> = view.rungs.iter().map(row).collect();
    let table = table(&["WAY", "", "OVER THE LINK", "TIME", "ROOM NEEDED", "WHY NOT"], &rows, look);
    format!("{table}Estimates: a link of 1 Gbit/s and disks of 400 MB/s are presumed.\n")
}

/// Renders the result of a re-seed.
pub fn render_done(report: &RunReport, view: &ReseedView<'_>, look: Look) -> String {
    let server = view.diagnosis.map_or("", |diagnosis| diagnosis.server.as_str());
    if report.failure.is_none() && !report.changed {
        return format!(
            "No changes. \"{server}\" {}. ({})\n",
            view.diagnosis.map_or("streams", |one| one.condition.words()),
            seconds(report.seconds)
        );
    }
    let mut out = report::render_run(report, look);
    if report.failure.is_none() {
        if let Some(method) = view.method {
            let carried = match report.bytes_transferred {
                0 => String::new(),
                some => format!(", {} over the link", bytes(some)),
            };
            out.push_str(&format!("\"{server}\" was brought back by {method}{carried}.\n"));
        }
        if let Some(place) = view.set_aside {
            let name = crate::model::aside::own_name(place);
            out.push_str(&format!(
                "Its old data directory is {place}. When nobody needs it any more: pgstead forget-aside {server} {name}\n"
            ));
        }
    }
    out
}

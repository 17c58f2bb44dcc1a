//! A re-seed as text: what is wrong, how that is known, the ways to mend it, and what is done. It adds no judgement.

use crate::apply::RunReport;
use crate::model::lost::Lost;
use crate::model::method::Method;
use crate::model::observed::Observed;
use crate::model::quantity::{bytes, count, seconds};
use crate::plan::operation::reseed::room::Need;
use crate::plan::operation::reseed::{Diagnosis, Rung};
use crate::ui::columns::{cell, styled, table};
use crate::ui::look::{Look, Style};
use crate::ui::plan::PlanView;
use crate::ui::{plan, report};

/// What is shown of a re-seed.
#[derive(Debug, Clone, Copy)]
pub struct ReseedView<'a> {
    /// What is wrong, where that could be told.
    pub diagnosis: Option<&'a Diagnosis>,
    /// What only this server has, where it diverged; or why that could not be read.
    pub lost: Option<&'a Observed<Lost>>,
    /// The ways to mend it.
    pub rungs: &'a [Rung],
    /// The way that is taken.
    pub method: Option<Method>,
    /// Where the old data directory goes.
    pub set_aside: Option<&'a str>,
    /// What the line from its upstream carries, in bytes a second, where it was measured.
    pub rate: Option<u64>,
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
        if let Some(lost) = view.lost {
            out.push_str(&only_here(diagnosis.server.as_str(), lost));
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

/// How many tables are named.
const TABLES_SHOWN: usize = 10;

fn only_here(server: &str, lost: &Observed<Lost>) -> String {
    let lost = match lost {
        Observed::Known(lost) => lost,
        other => {
            let why = other.unreadable().unwrap_or("its WAL is not there").trim();
            return format!("  What only \"{server}\" has could not be read: {why}\n");
        }
    };
    let when = match (&lost.first, &lost.last) {
        (Some(first), Some(last)) if first != last => format!(", committed from {first} to {last}"),
        (Some(first), _) => format!(", committed at {first}"),
        _ => String::new(),
    };
    let mut out = format!(
        "  Only \"{server}\" has {}{when}.\n",
        count(usize::try_from(lost.transactions).unwrap_or(usize::MAX), "transaction")
    );
    for table in lost.tables.iter().take(TABLES_SHOWN) {
        let records = count(usize::try_from(table.records).unwrap_or(usize::MAX), "record");
        out.push_str(&format!("    {}: {} ({records} of WAL)\n", table.database, table.name));
    }
    if lost.tables.len() > TABLES_SHOWN {
        out.push_str(&format!("    and {} more\n", count(lost.tables.len() - TABLES_SHOWN, "table")));
    }
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
            cell(
                cost.map(|cost| {
                    format!("{}{}", bytes(cost.transfer_bytes), if cost.is_compressed { " (zstd)" } else { "" })
                })
                .unwrap_or_default(),
            ),
            cell(cost.map(|cost| seconds(cost.seconds as f64)).unwrap_or_default()),
            cell(cost.map(|cost| bytes(cost.peak_bytes)).unwrap_or_default()),
            cell(rung.refused.as_deref().unwrap_or_default()),
        ]
    };
    let rows: Vec<_> = view.rungs.iter().map(row).collect();
    let table = table(&["WAY", "", "OVER THE LINK", "TIME", "ROOM NEEDED", "WHY NOT"], &rows, look);
    let line = match view.rate {
        Some(rate) => format!("the line carries {}/s, as measured", bytes(rate)),
        None => "a line of 1 Gbit/s is presumed".to_owned(),
    };
    let taken = view.rungs.iter().find(|rung| view.method == Some(rung.method)).map(|rung| rung.room.as_slice());
    let mounts: Vec<String> = taken.filter(|room| room.len() > 1).unwrap_or_default().iter().map(need).collect();
    let room = if mounts.is_empty() { String::new() } else { format!("Room needed: {}.\n", mounts.join("; ")) };
    format!("{table}{room}Estimates: {line}; disks of 400 MB/s are presumed.\n")
}

fn need(need: &Need) -> String {
    let free =
        need.free_bytes.map_or("what is free there is not known".to_owned(), |free| format!("{} free", bytes(free)));
    format!("{} on {} ({free})", bytes(need.needed_bytes), need.mount)
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
                "Its old data directory is {place}. When it is no longer needed: pgstead forget-aside {server} {name}\n"
            ));
        }
    }
    out
}

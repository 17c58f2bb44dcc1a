//! A drill as text: what will be done, and how it went. It judges nothing.

use std::path::PathBuf;

use crate::drill::{Act, Evidence, Kind, Stage};
use crate::model::quantity::{count, duration};
use crate::ui::columns::{cell, styled, table};
use crate::ui::look::{Look, Style};

/// Where the evidence is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The record, JSON.
    pub record: PathBuf,
    /// The report, HTML.
    pub report: PathBuf,
}

/// Renders what a drill would do.
pub fn render_stages(kind: Kind, stages: &[Stage], look: Look) -> String {
    let mut out = format!("Drill of {}, while a client writes:\n", look.paint(Style::Bold, kind.word()));
    for (index, stage) in stages.iter().enumerate() {
        let how = match &stage.act {
            Act::Command(words) => format!("pgstead {}", words.join(" ")),
            Act::Fault(_) => "broken on purpose".to_owned(),
        };
        out.push_str(&format!("{:>2}  {} ({how})\n", index + 1, stage.title));
    }
    out
}

/// Renders how it went.
pub fn render(evidence: &Evidence, files: &Files, look: Look) -> String {
    let rows: Vec<_> = evidence
        .stages
        .iter()
        .map(|stage| {
            let (word, style) = match stage.exit_code {
                Some(0) => ("done".to_owned(), Style::Good),
                Some(code) => (format!("code {code}"), Style::Bad),
                None => ("killed".to_owned(), Style::Bad),
            };
            vec![cell(&stage.title), styled(&word, style), cell(duration(stage.to_ms - stage.from_ms))]
        })
        .collect();
    let mut out = table(&["STAGE", "END", "TIME"], &rows, look);
    let measured = &evidence.measured;
    let objectives = &evidence.objectives;
    let recovery = measured.recovery_time_ms.map_or("not reached".to_owned(), duration);
    let rto = objectives.rto_s.map_or("no objective".to_owned(), |rto_s| format!("objective: {rto_s} s"));
    out.push_str(&format!(
        "\nRecovery time: {recovery} ({rto}). Writes were unavailable for {}.\n",
        duration(measured.write_downtime_ms)
    ));
    let writes = count(evidence.acknowledged_writes, "acknowledged write");
    out.push_str(&match measured.lost_writes {
        0 => format!("Recovery point: none of {writes} is lost (objective: {} s).\n", objectives.rpo_s),
        lost => format!(
            "Recovery point: {lost} of {writes} are lost, those of the last {} (objective: {} s).\n",
            duration(measured.recovery_point_ms),
            objectives.rpo_s
        ),
    });
    let verdict = &evidence.verdict;
    match verdict.passed {
        true => out.push_str(&look.paint(Style::Good, "Passed.")),
        false => out.push_str(&look.paint(Style::Bad, "Not passed.")),
    }
    out.push('\n');
    for reason in &verdict.reasons {
        out.push_str(&format!("  {reason}\n"));
    }
    out.push_str(&format!("Record: {}\nReport: {}\n", files.record.display(), files.report.display()));
    out
}

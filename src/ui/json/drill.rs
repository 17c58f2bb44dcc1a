//! The documents of `drill`: its stages, and its record with where that is kept.

use serde::Serialize;

use super::VERSION;
use crate::drill::{Act, Evidence, Kind, Stage};
use crate::ui::drill::Files;

/// What a drill would do.
#[derive(Debug, Serialize)]
pub struct DrillPlan<'a> {
    version: u32,
    drill: Kind,
    stages: Vec<PlannedStage<'a>>,
}

#[derive(Debug, Serialize)]
struct PlannedStage<'a> {
    title: &'a str,
    command: Option<String>,
    fault: bool,
}

impl<'a> DrillPlan<'a> {
    pub fn new(drill: Kind, stages: &'a [Stage]) -> Self {
        let planned = |stage: &'a Stage| PlannedStage {
            title: &stage.title,
            command: match &stage.act {
                Act::Command(words) => Some(["pgstead ", &words.join(" ")].concat()),
                Act::Fault(_) => None,
            },
            fault: matches!(stage.act, Act::Fault(_)),
        };
        Self { version: VERSION, drill, stages: stages.iter().map(planned).collect() }
    }
}

/// How a drill went.
#[derive(Debug, Serialize)]
pub struct DrillDocument<'a> {
    #[serde(flatten)]
    evidence: &'a Evidence,
    files: KeptFiles,
}

#[derive(Debug, Serialize)]
struct KeptFiles {
    record: String,
    report: String,
}

impl<'a> DrillDocument<'a> {
    pub fn new(evidence: &'a Evidence, files: &Files) -> Self {
        let Files { record, report } = files;
        let files = KeptFiles { record: record.display().to_string(), report: report.display().to_string() };
        Self { evidence, files }
    }
}

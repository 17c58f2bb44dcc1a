//! The report of a drill: one page of HTML that needs nothing else. Positions in its picture are computed here.

use serde::Serialize;

use super::{RenderError, render};
use crate::drill::Evidence;
use crate::model::quantity::{count, duration, seconds};

/// Where the time axis begins and how long it is, in the picture's units.
const LEFT: f64 = 80.0;
const LENGTH: f64 = 860.0;
/// The height of a lane of writes, and of a stage.
const LANE: f64 = 26.0;
const STAGE: f64 = 22.0;
/// Where the first lane begins.
const TOP: f64 = 32.0;
/// What is shorter is drawn as wide as this.
const NARROWEST: f64 = 2.0;
/// Distances between marks on the axis, in seconds; about eight of them should be there.
const STEPS: &[f64] = &[0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

#[derive(Serialize)]
struct Page<'a> {
    title: String,
    started: String,
    operator: &'a str,
    pgstead: &'a str,
    passed: bool,
    reasons: &'a [String],
    figures: Vec<Figure>,
    height: f64,
    bottom: f64,
    ticks: Vec<Tick>,
    lanes: Vec<Lane>,
    pause_y: f64,
    pause_text_y: f64,
    pauses: Vec<Bar>,
    stages: Vec<Stage<'a>>,
    pause_rows: Vec<PauseRow>,
    servers: Vec<Server<'a>>,
    acknowledged: usize,
    record: &'a str,
}

#[derive(Serialize)]
struct Figure {
    label: &'static str,
    value: String,
    wish: String,
}

#[derive(Serialize)]
struct Tick {
    x: f64,
    label: String,
}

#[derive(Serialize)]
struct Lane {
    name: String,
    y: f64,
    text_y: f64,
    bars: Vec<Bar>,
}

#[derive(Serialize)]
struct Bar {
    x: f64,
    width: f64,
    label: String,
}

#[derive(Serialize)]
struct Stage<'a> {
    number: usize,
    title: &'a str,
    command: Option<&'a str>,
    fault: bool,
    done: bool,
    end: String,
    began: String,
    took: String,
    x: f64,
    width: f64,
    y: f64,
    text_y: f64,
    label_x: f64,
    anchor: &'static str,
}

#[derive(Serialize)]
struct PauseRow {
    from: String,
    length: String,
    what: &'static str,
}

#[derive(Serialize)]
struct Server<'a> {
    name: &'a str,
    role: &'a str,
    site: &'a str,
    address: &'a str,
    postgres: &'a str,
}

/// The time axis.
#[derive(Clone, Copy)]
struct Axis {
    whole_ms: f64,
}

impl Axis {
    fn x(self, at_ms: f64) -> f64 {
        round(LEFT + LENGTH * (at_ms / self.whole_ms).clamp(0.0, 1.0))
    }

    fn bar(self, from_ms: f64, to_ms: f64, label: String) -> Bar {
        let x = self.x(from_ms);
        Bar { x, width: round((self.x(to_ms) - x).max(NARROWEST)), label }
    }

    fn ticks(self) -> Vec<Tick> {
        let whole = self.whole_ms / 1000.0;
        let step = STEPS.iter().copied().find(|step| whole / step <= 10.0).unwrap_or(7200.0);
        let marks = (0..).map(|index| f64::from(index) * step).take_while(|at| *at <= whole);
        marks.map(|at| Tick { x: self.x(at * 1000.0), label: format!("{at} s") }).collect()
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Renders the report. `record` is the record as JSON, which it shows word for word.
///
/// # Errors
/// The template is broken: a defect of pgstead.
pub fn report(evidence: &Evidence, record: &str) -> Result<String, RenderError> {
    let axis = Axis { whole_ms: (evidence.seconds * 1000.0).max(1.0) };
    let lanes: Vec<Lane> = evidence
        .servers
        .iter()
        .enumerate()
        .map(|(index, server)| lane(evidence, axis, index, server.name.as_str()))
        .collect();
    let pause_y = TOP + lanes.len() as f64 * LANE;
    let first_stage = pause_y + LANE + 12.0;
    let bottom = first_stage + evidence.stages.len() as f64 * STAGE;
    let ends = |pause: &crate::drill::measure::Pause| pause.to_ms.unwrap_or(axis.whole_ms);
    let length = |pause: &crate::drill::measure::Pause| duration(ends(pause) - pause.from_ms);
    let page = Page {
        title: format!("Drill: {} of {}", evidence.drill.word(), evidence.topology),
        started: evidence.started.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        operator: &evidence.operator,
        pgstead: &evidence.pgstead,
        passed: evidence.verdict.passed,
        reasons: &evidence.verdict.reasons,
        figures: figures(evidence),
        height: bottom + 8.0,
        bottom,
        ticks: axis.ticks(),
        pause_y,
        pause_text_y: pause_y + 14.0,
        pauses: evidence.pauses.iter().map(|pause| axis.bar(pause.from_ms, ends(pause), length(pause))).collect(),
        stages: stages(evidence, axis, first_stage),
        pause_rows: evidence
            .pauses
            .iter()
            .map(|pause| PauseRow {
                from: seconds(pause.from_ms / 1000.0),
                length: length(pause),
                what: match (pause.server_changed, pause.to_ms) {
                    (true, _) => "another server accepted writes after it",
                    (false, Some(_)) => "the same server went on",
                    (false, None) => "to the end of the drill",
                },
            })
            .collect(),
        servers: evidence
            .servers
            .iter()
            .map(|server| Server {
                name: server.name.as_str(),
                role: server.role.unwrap_or("not seen"),
                site: &server.site,
                address: &server.address,
                postgres: server.postgres.as_deref().unwrap_or("not seen"),
            })
            .collect(),
        acknowledged: evidence.acknowledged_writes,
        lanes,
        record,
    };
    render("drill.html", &page)
}

fn lane(evidence: &Evidence, axis: Axis, index: usize, name: &str) -> Lane {
    let y = TOP + index as f64 * LANE;
    let own = evidence.periods.iter().filter(|period| period.server.as_str() == name);
    let bars = own.map(|period| axis.bar(period.from_ms, period.to_ms, count(period.writes, "write"))).collect();
    Lane { name: name.to_owned(), y, text_y: y + 14.0, bars }
}

fn stages(evidence: &Evidence, axis: Axis, top: f64) -> Vec<Stage<'_>> {
    let all = evidence.stages.iter().enumerate();
    all.map(|(index, stage)| {
        let y = top + index as f64 * STAGE;
        let Bar { x, width, .. } = axis.bar(stage.from_ms, stage.to_ms, String::new());
        // What begins late is labelled on its left, where there is room.
        let is_late = x > LEFT + LENGTH * 0.55;
        Stage {
            number: index + 1,
            title: &stage.title,
            command: stage.command.as_deref(),
            fault: stage.fault,
            done: stage.is_done(),
            end: match stage.exit_code {
                Some(0) => "done".to_owned(),
                Some(code) => format!("code {code}"),
                None => "killed".to_owned(),
            },
            began: seconds(stage.from_ms / 1000.0),
            took: duration(stage.to_ms - stage.from_ms),
            x,
            width,
            y,
            text_y: y + 11.0,
            label_x: if is_late { round(x - 6.0) } else { round(x + width + 6.0) },
            anchor: if is_late { "end" } else { "start" },
        }
    })
    .collect()
}

fn figures(evidence: &Evidence) -> Vec<Figure> {
    let measured = &evidence.measured;
    let objectives = &evidence.objectives;
    let rto = objectives.rto_s.map_or("no objective".to_owned(), |rto_s| format!("objective: {rto_s} s"));
    vec![
        Figure {
            label: "Recovery time",
            value: measured.recovery_time_ms.map_or("not reached".to_owned(), duration),
            wish: rto,
        },
        Figure {
            label: "Recovery point",
            value: match measured.lost_writes {
                0 => "0 s".to_owned(),
                _ => duration(measured.recovery_point_ms),
            },
            wish: format!("objective: {} s", objectives.rpo_s),
        },
        Figure {
            label: "Writes were unavailable for",
            value: duration(measured.write_downtime_ms),
            wish: String::new(),
        },
        Figure {
            label: "Acknowledged writes lost",
            value: measured.lost_writes.to_string(),
            wish: format!("of {}", evidence.acknowledged_writes),
        },
    ]
}

//! The table of past runs. Times come from the journal; the time zone is given.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::model::name::TopologyName;
use crate::model::quantity::seconds;
use crate::ui::columns::cell;
use crate::ui::columns::styled;
use crate::ui::columns::table;
use crate::ui::look::Look;
use crate::ui::look::Style;

/// What `history` shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct History {
    /// The topology.
    pub topology: TopologyName,
    /// The runs, oldest first.
    pub runs: Vec<Run>,
}

/// One run of the journal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Its identifier.
    pub id: String,
    /// When it began.
    pub started: Timestamp,
    /// How long it took; absent while it runs, or when it was killed.
    pub seconds: Option<f64>,
    /// Who started it, as `user@host`.
    pub who: String,
    /// The command line, such as `bootstrap`.
    pub command: String,
    /// How it ended; absent while it runs, or when it was killed.
    pub result: Option<RunResult>,
    /// How many steps it did.
    pub steps: usize,
    /// The primary message of what ended it early.
    pub message: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunResult {
    /// It did its work.
    Done,
    /// There was nothing to do.
    NoChanges,
    /// It refused.
    Refused,
    /// A step failed.
    Failed,
    /// The operator stopped it.
    Stopped,
}

/// Renders the table.
pub fn render(history: &History, zone: &TimeZone, look: Look) -> String {
    if history.runs.is_empty() {
        return format!("No run of {} is recorded here.\n", history.topology);
    }
    let rows: Vec<_> = history
        .runs
        .iter()
        .map(|run| {
            let (word, style) = match run.result {
                Some(RunResult::Done) => ("done", Style::Good),
                Some(RunResult::NoChanges) => ("no changes", Style::Plain),
                Some(RunResult::Refused) => ("refused", Style::Warn),
                Some(RunResult::Failed) => ("failed", Style::Bad),
                Some(RunResult::Stopped) => ("stopped", Style::Warn),
                None => ("not finished", Style::Warn),
            };
            vec![
                cell(run.started.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()),
                cell(&run.who),
                cell(&run.command),
                styled(word, style),
                cell(run.steps.to_string()),
                cell(run.seconds.map(seconds).unwrap_or_default()),
                cell(&run.id),
                cell(run.message.as_deref().unwrap_or_default()),
            ]
        })
        .collect();
    table(&["STARTED", "WHO", "COMMAND", "RESULT", "STEPS", "TIME", "RUN", "MESSAGE"], &rows, look)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples;

    fn history() -> History {
        let run = |id: &str, second: i64, result| Run {
            id: id.into(),
            started: Timestamp::from_second(1_790_000_000 + second).unwrap(),
            seconds: Some(12.5),
            who: "ops@desk".into(),
            command: "bootstrap".into(),
            result,
            steps: 7,
            message: None,
        };
        let failed = Run {
            message: Some("could not take a base backup from \"a\"".into()),
            ..run("r2", 60, Some(RunResult::Failed))
        };
        let killed = Run { seconds: None, ..run("r3", 120, None) };
        History { topology: samples::TOPOLOGY.clone(), runs: vec![run("r1", 0, Some(RunResult::Done)), failed, killed] }
    }

    #[test]
    fn runs() {
        insta::assert_snapshot!(render(&history(), &TimeZone::UTC, Look::PLAIN));
        let empty = History { runs: Vec::new(), ..history() };
        assert_eq!(render(&empty, &TimeZone::UTC, Look::PLAIN), "No run of crawler is recorded here.\n");
    }

    #[test]
    fn document() {
        insta::assert_snapshot!(crate::ui::json::text(&crate::ui::json::Versioned::new(history())).unwrap());
    }
}

//! The table of past runs. Times come from the journal; the time zone is given.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::model::name::TopologyName;
use crate::model::quantity::seconds;
use crate::ui::columns::{cell, styled, table};
use crate::ui::look::{Look, Style};

/// What `history` shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct History {
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
    /// Whether it is at work now.
    pub running: bool,
    /// How many steps it did.
    pub steps: usize,
    /// The steps that had begun and of which no end is written, the last one last.
    pub unfinished: Vec<String>,
    /// The servers whose audit logs tell of it; absent where none was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers: Option<Vec<String>>,
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
    let with_servers = history.runs.iter().any(|run| run.servers.is_some());
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
                None if run.running => ("running", Style::Plain),
                None => ("did not end", Style::Warn),
            };
            let begun = run.unfinished.last().filter(|_| run.result.is_none()).map(|step| ["begun: ", step].concat());
            let message: Vec<&str> = begun.as_deref().into_iter().chain(run.message.as_deref()).collect();
            let mut row = vec![
                cell(run.started.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()),
                cell(&run.who),
                cell(&run.command),
                styled(word, style),
                cell(run.steps.to_string()),
                cell(run.seconds.map(seconds).unwrap_or_default()),
                cell(&run.id),
                cell(message.join("; ")),
            ];
            if with_servers {
                row.insert(7, cell(run.servers.as_deref().unwrap_or_default().join(", ")));
            }
            row
        })
        .collect();
    let mut heads = vec!["STARTED", "WHO", "COMMAND", "RESULT", "STEPS", "TIME", "RUN", "MESSAGE"];
    if with_servers {
        heads.insert(7, "SERVERS");
    }
    table(&heads, &rows, look)
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
            running: false,
            steps: 7,
            unfinished: Vec::new(),
            servers: None,
            message: None,
        };
        let failed = Run {
            message: Some("could not take a base backup from \"a\"".into()),
            ..run("r2", 60, Some(RunResult::Failed))
        };
        let unfinished = vec!["b: take base backup from \"a\"".into()];
        let killed = Run { seconds: None, unfinished, ..run("r3", 120, None) };
        History { topology: samples::TOPOLOGY.clone(), runs: vec![run("r1", 0, Some(RunResult::Done)), failed, killed] }
    }

    #[test]
    fn runs() {
        insta::assert_snapshot!(render(&history(), &TimeZone::UTC, Look::PLAIN));
        let servers = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let mut of_servers = history();
        of_servers.runs[0].servers = servers(&["a", "b"]);
        of_servers.runs[2].servers = servers(&["b"]);
        of_servers.runs[2].running = true;
        insta::assert_snapshot!(render(&of_servers, &TimeZone::UTC, Look::PLAIN));
        let empty = History { runs: Vec::new(), ..history() };
        assert_eq!(render(&empty, &TimeZone::UTC, Look::PLAIN), "No run of crawler is recorded here.\n");
    }

    #[test]
    fn document() {
        insta::assert_snapshot!(crate::ui::json::text(&crate::ui::json::Versioned::new(history())).unwrap());
    }
}

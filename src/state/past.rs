//! Past runs, put together from the lines of one journal, or of this machine's and all servers' together.
//!
//! A line that stands in several places counts once. Nothing is decided from what is told here.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::model::name::ServerName;
use crate::state::journal::{Entry, Journal, Outcome, RunResult};

/// One run, put together from its entries.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSummary {
    pub run: String,
    /// When it began.
    pub started: Timestamp,
    /// Who started it.
    pub operator: String,
    pub operation: String,
    /// How many steps did their work.
    pub steps_done: usize,
    /// The steps that had begun and of which no end is written, the last one last: with the server, where it is one.
    pub unfinished: Vec<String>,
    /// The codes that a preflight left out, with the reasons.
    pub skipped: Vec<(String, String)>,
    /// The servers of which the operator said that they are off, with the reasons.
    pub attested: Vec<(ServerName, String)>,
    /// How it ended; none while it runs, or when it was killed.
    pub result: Option<RunResult>,
    /// How long it took.
    pub seconds: Option<f64>,
    /// The primary message of what ended it early.
    pub message: Option<String>,
    /// What became of its locks, where they were taken over or broken.
    pub locks: Vec<String>,
    /// The servers whose audit logs have lines of it.
    pub servers: BTreeSet<ServerName>,
}

/// One step of a run: by its server, its number and its title.
type StepKey<'a> = (Option<&'a ServerName>, Option<u32>, &'a str);

struct Past<'a> {
    summary: RunSummary,
    /// When each step began, or was first heard of, and how it ended.
    steps: BTreeMap<StepKey<'a>, (Timestamp, Option<Outcome>)>,
}

impl Journal {
    /// Returns the runs, oldest first.
    pub fn runs(&self) -> Vec<RunSummary> {
        merge([(None, self)])
    }
}

/// Puts runs together from several journals, each of a server or of this machine, and returns them oldest first.
pub fn merge<'a>(journals: impl IntoIterator<Item = (Option<&'a ServerName>, &'a Journal)>) -> Vec<RunSummary> {
    let mut runs: BTreeMap<&str, Past<'a>> = BTreeMap::new();
    let mut locks: Vec<(&str, String)> = Vec::new();
    for (server, journal) in journals {
        for entry in &journal.entries {
            let Some((run, time)) = entry.of() else {
                locks.extend(entry.of_lock(server));
                continue;
            };
            // The line with which it began may be torn, or of a release that wrote none on servers.
            let past = runs.entry(run).or_insert_with(|| Past { summary: unknown(run, time), steps: BTreeMap::new() });
            past.summary.servers.extend(server.cloned());
            past.add(entry);
            locks.extend(entry.of_lock(server));
        }
    }
    let mut all: Vec<RunSummary> = runs.into_values().map(Past::finish).collect();
    for (run, what) in locks {
        if let Some(summary) = all.iter_mut().find(|summary| summary.run == run && !summary.locks.contains(&what)) {
            summary.locks.push(what);
        }
    }
    all.sort_by(|one, other| (one.started, &one.run).cmp(&(other.started, &other.run)));
    all
}

fn unknown(run: &str, started: Timestamp) -> RunSummary {
    RunSummary {
        run: run.to_owned(),
        started,
        operator: "unknown".to_owned(),
        operation: "unknown".to_owned(),
        steps_done: 0,
        unfinished: Vec::new(),
        skipped: Vec::new(),
        attested: Vec::new(),
        result: None,
        seconds: None,
        message: None,
        locks: Vec::new(),
        servers: BTreeSet::new(),
    }
}

impl Entry {
    /// Returns the run that wrote a line about itself, and when.
    fn of(&self) -> Option<(&str, Timestamp)> {
        match self {
            Entry::RunStarted { run, time, .. }
            | Entry::StepStarted { run, time, .. }
            | Entry::Step { run, time, .. }
            | Entry::Skipped { run, time, .. }
            | Entry::Attested { run, time, .. }
            | Entry::RunEnded { run, time, .. } => Some((run, *time)),
            Entry::LeaseExpired { .. } | Entry::LockBroken { .. } | Entry::Other => None,
        }
    }

    /// Returns the run whose lock somebody else took or broke, and how.
    fn of_lock(&self, server: Option<&ServerName>) -> Option<(&str, String)> {
        let on = server.map(|server| format!(" on {server}")).unwrap_or_default();
        let (lock, what) = match self {
            Entry::LeaseExpired { run, operator, age_seconds, lock, .. } => (
                lock,
                format!("its lease{on}, not renewed for {age_seconds} s, was taken over by {operator}, run {run}"),
            ),
            Entry::LockBroken { operator, lock, .. } => (lock, format!("its lock{on} was broken by {operator}")),
            _ => return None,
        };
        // The text is JSON in JSON; the run's name has nothing to escape.
        let (_, rest) = lock.split_once(r#""run":""#)?;
        Some((rest.split_once('"')?.0, what))
    }
}

impl<'a> Past<'a> {
    fn add(&mut self, entry: &'a Entry) {
        let summary = &mut self.summary;
        match entry {
            Entry::RunStarted { time, operator, operation, .. } => {
                summary.started = *time;
                summary.operator.clone_from(operator);
                summary.operation.clone_from(operation);
            }
            Entry::StepStarted { time, step, title, server, .. } => {
                self.steps.entry((server.as_ref(), Some(*step), title)).or_insert((*time, None));
            }
            Entry::Step { time, step, title, server, outcome, .. } => {
                self.steps.entry((server.as_ref(), *step, title)).or_insert((*time, None)).1 = Some(*outcome);
            }
            Entry::Skipped { code, reason, .. } => {
                let skipped = (code.clone(), reason.clone());
                if !summary.skipped.contains(&skipped) {
                    summary.skipped.push(skipped);
                }
            }
            Entry::Attested { server, reason, .. } => {
                let attested = (server.clone(), reason.clone());
                if !summary.attested.contains(&attested) {
                    summary.attested.push(attested);
                }
            }
            // This machine's own word comes first: what the servers have was written before they were let go.
            Entry::RunEnded { result, seconds, message, .. } if summary.result.is_none() => {
                summary.result = Some(*result);
                summary.seconds = Some(*seconds);
                summary.message.clone_from(message);
            }
            Entry::RunEnded { .. } | Entry::LeaseExpired { .. } | Entry::LockBroken { .. } | Entry::Other => {}
        }
    }

    fn finish(self) -> RunSummary {
        let done = self.steps.values().filter(|(_, outcome)| *outcome == Some(Outcome::Done)).count();
        let mut unfinished: Vec<_> = self.steps.iter().filter(|(_, (_, outcome))| outcome.is_none()).collect();
        unfinished.sort_by_key(|((_, step, _), (begun, _))| (*begun, *step));
        let titled = |(server, _, title): &StepKey<'_>| match server {
            Some(server) => [server.as_str(), ": ", title].concat(),
            None => (*title).to_owned(),
        };
        let unfinished = unfinished.into_iter().map(|(key, _)| titled(key)).collect();
        RunSummary { steps_done: done, unfinished, ..self.summary }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: &str = r#"{"event":"run_started","run":"r1","time":"2026-11-25T10:00:00Z","operator":"ann@desk","operation":"bootstrap"}
{"event":"step_started","run":"r1","time":"2026-11-25T10:00:01Z","step":1,"title":"make directories","server":"b"}
{"event":"step","run":"r1","time":"2026-11-25T10:00:02Z","step":1,"title":"make directories","server":"b","outcome":"done","seconds":1.0,"commands":[]}
{"event":"step_started","run":"r1","time":"2026-11-25T10:00:03Z","step":4,"title":"take a base backup","server":"b"}
"#;

    fn server(name: &str) -> ServerName {
        name.parse().unwrap()
    }

    #[test]
    fn a_killed_run_did_not_end_and_names_the_step_that_had_begun() {
        let runs = Journal::parse(KILLED.as_bytes()).runs();
        assert_eq!((runs.len(), runs[0].steps_done, runs[0].result), (1, 1, None));
        assert_eq!(runs[0].unfinished, ["b: take a base backup"]);
    }

    #[test]
    fn lines_of_several_places_count_once_and_torn_ones_not_at_all() {
        let local = Journal::parse(KILLED.as_bytes());
        let torn =
            [KILLED, r#"{"event":"run_ended","run":"r1","#, "\n", r#"{"event":"from_the_future","x":1}"#].concat();
        let taken = r#"{"event":"lease_expired","run":"r2","time":"2026-11-25T11:00:00Z","operator":"bob@desk","age_seconds":99,"lock":"{\"run\":\"r1\",\"owner\":\"ann@desk\"}"}"#;
        let (on_a, on_b) = (Journal::parse(taken.as_bytes()), Journal::parse(torn.as_bytes()));
        assert_eq!((on_b.unreadable_lines, on_b.entries.len()), (1, 5));
        let (a, b) = (server("a"), server("b"));
        let runs = merge([(None, &local), (Some(&a), &on_a), (Some(&b), &on_b)]);
        assert_eq!((runs.len(), runs[0].steps_done), (1, 1));
        assert_eq!(runs[0].servers, BTreeSet::from([b]));
        assert_eq!(runs[0].locks, ["its lease on a, not renewed for 99 s, was taken over by bob@desk, run r2"]);
    }

    #[test]
    fn the_first_line_may_be_lost() {
        let rest = KILLED.split_once('\n').unwrap().1;
        let runs = Journal::parse(rest.as_bytes()).runs();
        assert_eq!((runs[0].operator.as_str(), runs[0].steps_done), ("unknown", 1));
        assert_eq!(runs[0].started, "2026-11-25T10:00:01Z".parse().unwrap());
    }
}

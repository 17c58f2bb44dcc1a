//! Progress as lines: `12:03:04 b  take base backup from "a" … 3.1 s`.
//!
//! A pure fold of events and moments into text. A short step gives one line, when it ends; a long one tells now and then
//! how far it is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Moment;
use crate::event::{Event, StepOutcome};
use crate::model::name::ServerName;
use crate::model::quantity::{bytes, count, seconds};
use crate::ui::look::{Look, Style, columns, one_line, pad};

/// How often a long step tells how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// The state of the fold.
#[derive(Debug)]
pub(super) struct Plain {
    verbose: bool,
    look: Look,
    server_width: usize,
    running: BTreeMap<u32, Running>,
}

#[derive(Debug)]
struct Running {
    server: String,
    title: String,
    told: Duration,
    /// When the phase that is under way was first told, and how far it was.
    phase: Option<(String, Duration, u64)>,
    is_stalled: bool,
}

impl Plain {
    pub(super) fn new(verbose: bool, look: Look) -> Self {
        Self { verbose, look, server_width: 1, running: BTreeMap::new() }
    }

    /// Returns the lines for an event, each with its line break; often none.
    pub(super) fn lines(&mut self, event: &Event, moment: Moment) -> String {
        match event {
            Event::PhaseStarted { phase, servers } => {
                for server in servers {
                    self.server_width = self.server_width.max(columns(server.as_str()));
                }
                let names: Vec<&str> = servers.iter().map(ServerName::as_str).collect();
                if names.is_empty() {
                    return self.line(moment, "", phase);
                }
                self.line(moment, "", &format!("{phase}: {}", names.join(", ")))
            }
            Event::PhaseDone { phase, server, error: Some(error) } => {
                let text = format!("{} {}", self.look.paint(Style::Bad, &format!("{phase} failed:")), one_line(error));
                self.line(moment, server.as_str(), &text)
            }
            Event::PhaseDone { phase, server, error: None } if self.verbose => {
                self.line(moment, server.as_str(), &format!("{phase}: done"))
            }
            Event::PhaseDone { .. } => String::new(),
            Event::RoundTrip { server, commands } if self.verbose => commands
                .iter()
                .map(|command| {
                    let text = format!("$ {}", one_line(command));
                    self.line(moment, server.as_str(), &self.look.paint(Style::Dim, &text))
                })
                .collect(),
            Event::RoundTrip { .. } => String::new(),
            Event::RunStarted { steps } => self.line(moment, "", &count(*steps, "step")),
            Event::StepStarted { id, title, server } => {
                let server = server.as_ref().map(ToString::to_string).unwrap_or_default();
                self.server_width = self.server_width.max(columns(&server));
                let title = one_line(title);
                let running = Running { server, title, told: moment.since_start, phase: None, is_stalled: false };
                self.running.insert(*id, running);
                String::new()
            }
            Event::StepProgress { id, phase, done_bytes, total_bytes, stalled } => {
                let Some(running) = self.running.get_mut(id) else { return String::new() };
                let (begun, first) = match &running.phase {
                    Some((name, begun, first)) if name == phase => (*begun, *first),
                    _ => {
                        running.phase = Some((phase.clone(), moment.since_start, *done_bytes));
                        (moment.since_start, *done_bytes)
                    }
                };
                // That it stands still is told at once, and then as often as anything.
                let is_news = stalled.is_some() && !running.is_stalled;
                running.is_stalled = stalled.is_some();
                if !is_news && moment.since_start.saturating_sub(running.told) < PROGRESS_EVERY {
                    return String::new();
                }
                running.told = moment.since_start;
                let tail = match stalled {
                    Some(stalled) => format!("; {}", one_line(stalled)),
                    None => {
                        let took = moment.since_start.saturating_sub(begun);
                        pace(
                            done_bytes.saturating_sub(first),
                            took,
                            total_bytes.map(|all| all.saturating_sub(*done_bytes)),
                        )
                    }
                };
                let text = format!(
                    "{} {} {}: {}{tail}",
                    running.title,
                    self.look.or_ascii("…", "..."),
                    one_line(phase),
                    amount(*done_bytes, *total_bytes)
                );
                let server = running.server.clone();
                self.line(moment, &server, &text)
            }
            Event::StepWarned { id, text } => {
                let Some(running) = self.running.get(id) else { return String::new() };
                self.line(
                    moment,
                    &running.server,
                    &self.look.paint(Style::Warn, &format!("warning: {}", one_line(text))),
                )
            }
            Event::StepFinished { id, outcome, seconds: took } => {
                let Some(running) = self.running.remove(id) else { return String::new() };
                let end = match outcome {
                    StepOutcome::Done => seconds(*took),
                    StepOutcome::Failed => self.look.paint(Style::Bad, &format!("failed after {}", seconds(*took))),
                    StepOutcome::GoesOn => {
                        let text = format!("goes on there; not waited for after {}", seconds(*took));
                        self.look.paint(Style::Warn, &text)
                    }
                };
                self.line(
                    moment,
                    &running.server,
                    &format!("{} {} {end}", running.title, self.look.or_ascii("…", "...")),
                )
            }
            Event::Stopping { running } => {
                let titles: Vec<String> = running.iter().map(|title| one_line(title)).collect();
                let still = if titles.is_empty() { "nothing".to_owned() } else { titles.join("; ") };
                let text = format!("stopping: no new step begins; still running: {still}");
                self.line(moment, "", &self.look.paint(Style::Warn, &text))
            }
        }
    }

    fn line(&self, moment: Moment, server: &str, text: &str) -> String {
        let clock = moment.clock.strftime("%H:%M:%S").to_string();
        let server = self.look.paint(Style::Accent, &pad(server, self.server_width));
        format!("{} {server}  {text}\n", self.look.paint(Style::Dim, &clock))
    }
}

/// Writes how far a transfer is.
fn amount(done: u64, total: Option<u64>) -> String {
    match total.filter(|&total| total > 0) {
        // The total of a base backup is an estimate; it may be passed.
        Some(total) => {
            format!("{}% of {}", (u128::from(done) * 100 / u128::from(total)).min(100), bytes(total))
        }
        None => bytes(done),
    }
}

/// Writes how quick a transfer is and how long it takes still, where that is known.
fn pace(done: u64, took: Duration, left: Option<u64>) -> String {
    let rate = done as f64 / took.as_secs_f64();
    if !rate.is_finite() || rate < 1.0 {
        return String::new();
    }
    let left = left.map(|left| format!(", {} left", seconds(left as f64 / rate))).unwrap_or_default();
    format!(", {}/s{left}", bytes(rate as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples::server;

    fn events() -> Vec<(i8, Event)> {
        let progress = |done_bytes| Event::StepProgress {
            id: 2,
            phase: "streaming database files".into(),
            done_bytes,
            total_bytes: Some(1 << 30),
            stalled: None,
        };
        let stalled = |still: &str| Event::StepProgress {
            id: 2,
            phase: "streaming database files".into(),
            done_bytes: 1 << 29,
            total_bytes: Some(1 << 30),
            stalled: Some(format!("nothing has moved for {still} s: the line is down")),
        };
        let step = |id, title: &str, name: Option<&str>| Event::StepStarted {
            id,
            title: title.into(),
            server: name.map(server),
        };
        vec![
            (1, Event::PhaseStarted { phase: "connect", servers: vec![server("a"), server("b-2")] }),
            (2, Event::PhaseDone { phase: "connect", server: server("a"), error: None }),
            (
                2,
                Event::PhaseDone {
                    phase: "connect",
                    server: server("b-2"),
                    error: Some("Connection refused\x1b[31m\r\n".into()),
                },
            ),
            (3, Event::RoundTrip { server: server("a"), commands: vec!["uname -a".into(), "df -k".into()] }),
            (3, Event::RunStarted { steps: 3 }),
            (3, step(1, "make roles", Some("a"))),
            (3, step(2, "take base backup from \"a\"", Some("b-2"))),
            (3, step(3, "prove every link", None)),
            (3, Event::StepFinished { id: 1, outcome: StepOutcome::Done, seconds: 0.04 }),
            (4, progress(1 << 20)),
            (14, progress(1 << 29)),
            (15, progress(1 << 29)),
            (16, Event::Stopping { running: vec!["take base backup from \"a\"".into()] }),
            (17, stalled("10")),
            (18, stalled("11")),
            (28, stalled("21")),
            (17, Event::StepFinished { id: 3, outcome: StepOutcome::Failed, seconds: 14.0 }),
            (40, Event::StepFinished { id: 2, outcome: StepOutcome::Done, seconds: 37.25 }),
            (40, step(4, "take base backup from \"a\"", Some("a"))),
            (42, Event::StepFinished { id: 4, outcome: StepOutcome::GoesOn, seconds: 2.0 }),
        ]
    }

    fn text(verbose: bool) -> String {
        let mut plain = Plain::new(verbose, Look::PLAIN);
        events()
            .iter()
            .map(|(second, event)| {
                let clock = jiff::civil::time(12, 3, *second, 0);
                plain.lines(event, Moment { clock, since_start: Duration::from_secs(*second as u64) })
            })
            .collect()
    }

    #[test]
    fn lines() {
        insta::assert_snapshot!(text(false));
    }

    #[test]
    fn lines_with_round_trips() {
        insta::assert_snapshot!(text(true));
    }
}

//! Progress on a terminal: one line per running step below the lines of those that ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Moment;
use super::plain::Plain;
use crate::event::Event;
use crate::model::name::ServerName;
use crate::ui::look::{Look, one_line};

/// How often a running line is redrawn.
const TICK: Duration = Duration::from_millis(120);

/// The lines that are drawn now.
#[derive(Debug)]
pub(super) struct Bars {
    look: Look,
    all: MultiProgress,
    steps: BTreeMap<u32, ProgressBar>,
    titles: BTreeMap<u32, String>,
    phases: BTreeMap<&'static str, (BTreeSet<ServerName>, ProgressBar)>,
}

impl Bars {
    pub(super) fn new(look: Look) -> Self {
        Self {
            look,
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
            steps: BTreeMap::new(),
            titles: BTreeMap::new(),
            phases: BTreeMap::new(),
        }
    }

    /// Draws an event; what stays on the screen is what [`Plain`] would have written.
    pub(super) fn draw(&mut self, event: &Event, plain: &mut Plain, moment: Moment) {
        let lines = plain.lines(event, moment);
        match event {
            Event::PhaseStarted { phase, servers } if !servers.is_empty() => {
                let bar = self.add("{spinner} {prefix}: {wide_msg}");
                bar.set_prefix(*phase);
                let waiting: BTreeSet<ServerName> = servers.iter().cloned().collect();
                bar.set_message(names(&waiting));
                if let Some((_, old)) = self.phases.insert(phase, (waiting, bar)) {
                    self.remove(&old);
                }
                // The bar says it; a line of its own would only repeat it.
                return;
            }
            Event::PhaseDone { phase, server, .. } => {
                if let Some((waiting, bar)) = self.phases.get_mut(phase) {
                    waiting.remove(server);
                    bar.set_message(names(waiting));
                    if waiting.is_empty()
                        && let Some((_, bar)) = self.phases.remove(phase)
                    {
                        self.remove(&bar);
                    }
                }
            }
            Event::StepStarted { id, title, server } => {
                let bar = self.add("{spinner} {prefix}  {wide_msg} {elapsed}");
                bar.unset_length();
                bar.set_prefix(server.as_ref().map_or_else(|| "(all)".to_owned(), ToString::to_string));
                bar.set_message(one_line(title));
                self.titles.insert(*id, one_line(title));
                self.steps.insert(*id, bar);
            }
            Event::StepProgress { id, phase, done_bytes, total_bytes, stalled } => {
                if let Some(bar) = self.steps.get(id) {
                    self.advance(bar, *done_bytes, *total_bytes);
                    let title = self.titles.get(id).map(String::as_str).unwrap_or_default();
                    let saying = stalled.as_ref().unwrap_or(phase);
                    bar.set_message(format!("{title}: {}", one_line(saying)));
                }
                // The bar says it, here too.
                return;
            }
            Event::StepFinished { id, .. } => {
                if let Some(bar) = self.steps.remove(id) {
                    self.remove(&bar);
                }
            }
            _ => {}
        }
        for line in lines.lines() {
            // Where the terminal went away there is nothing left to draw on.
            let _ = self.all.println(line);
        }
    }

    /// Removes every line that is still drawn.
    pub(super) fn clear(&mut self) {
        for bar in self.steps.values().chain(self.phases.values().map(|(_, bar)| bar)) {
            bar.finish_and_clear();
        }
        let _ = self.all.clear();
    }

    fn add(&self, template: &str) -> ProgressBar {
        let bar = self.all.add(ProgressBar::new_spinner());
        bar.set_style(self.style(template));
        bar.enable_steady_tick(TICK);
        bar
    }

    fn remove(&self, bar: &ProgressBar) {
        bar.finish_and_clear();
        self.all.remove(bar);
    }

    fn style(&self, template: &str) -> ProgressStyle {
        let ticks = self.look.or_ascii("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ", "|/-\\ ");
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()).tick_chars(ticks)
    }

    fn advance(&self, bar: &ProgressBar, done: u64, total: Option<u64>) {
        match total.filter(|&total| total > 0) {
            Some(total) => {
                if bar.length().is_none() {
                    bar.set_style(self.style(
                        "{spinner} {prefix}  {wide_msg} {percent:>3}% {binary_bytes_per_sec} {eta} left {elapsed}",
                    ));
                }
                // The total of a base backup is an estimate; it may be passed.
                bar.set_length(total.max(done));
                bar.set_position(done);
            }
            None => {
                bar.set_style(self.style("{spinner} {prefix}  {wide_msg} {bytes} {binary_bytes_per_sec} {elapsed}"));
                bar.set_position(done);
            }
        }
    }
}

fn names(servers: &BTreeSet<ServerName>) -> String {
    servers.iter().map(ServerName::as_str).collect::<Vec<_>>().join(", ")
}

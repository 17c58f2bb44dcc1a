//! Progress on stderr: consumes events on a thread of its own, so that drawing never slows the work.
//!
//! One line per running step on a terminal, plain lines elsewhere, nothing with `-q`. It draws what events say and
//! decides nothing.

mod bars;
mod plain;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Zoned;
use jiff::civil::Time;

use crate::event::{Event, Events};
use crate::ui::{Ui, Verbosity};
use bars::Bars;
use plain::Plain;

/// How long [`Progress::finish`] waits for events of senders that still live.
const LINGER: Duration = Duration::from_millis(20);

/// When an event was drawn.
#[derive(Debug, Clone, Copy)]
struct Moment {
    /// The wall clock, for people.
    clock: Time,
    /// Since the drawing began.
    since_start: Duration,
}

/// A running drawing. When it is finished or dropped, everything sent so far is drawn and no bar is left behind.
#[derive(Debug)]
pub struct Progress {
    events: Option<Events>,
    thread: Option<JoinHandle<()>>,
    finishing: Arc<AtomicBool>,
}

impl Progress {
    /// Starts drawing.
    pub fn start(ui: &Ui) -> Self {
        let finishing = Arc::new(AtomicBool::new(false));
        if ui.options.verbosity == Verbosity::Quiet {
            return Self { events: Some(Events::silent()), thread: None, finishing };
        }
        let (events, receiver) = Events::channel();
        let flag = Arc::clone(&finishing);
        let ui = *ui;
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || draw(ui, &receiver, &flag));
        // Without a thread there is no progress, and the work goes on.
        match thread {
            Ok(thread) => Self { events: Some(events), thread: Some(thread), finishing },
            Err(_) => Self { events: Some(Events::silent()), thread: None, finishing },
        }
    }

    /// Returns a sending end for the work.
    pub fn events(&self) -> Events {
        self.events.clone().unwrap_or_else(Events::silent)
    }

    /// Draws what was sent, clears the bars and ends. Diagnostics may follow.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.events = None;
        self.finishing.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A drawing that panicked has been reported by the panic hook; the work is not affected.
            let _ = thread.join();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

fn draw(ui: Ui, receiver: &Receiver<Event>, finishing: &AtomicBool) {
    let start = Instant::now();
    let verbose = ui.options.verbosity >= Verbosity::Verbose;
    let mut plain = Plain::new(verbose, ui.err);
    let mut bars = ui.err.redraw.then(|| Bars::new(ui.err));
    loop {
        match receiver.recv_timeout(LINGER) {
            Ok(event) => {
                let moment = Moment { clock: Zoned::now().time(), since_start: start.elapsed() };
                match &mut bars {
                    Some(bars) => bars.draw(&event, &mut plain, moment),
                    None => {
                        let lines = plain.lines(&event, moment);
                        if !lines.is_empty() {
                            ui.say(&lines);
                        }
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) if finishing.load(Ordering::Relaxed) => break,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if let Some(bars) = &mut bars {
        bars.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::{Look, Options};

    #[test]
    fn it_ends_although_a_sender_lives() {
        let ui = Ui { options: Options::default(), out: Look::PLAIN, err: Look::PLAIN, can_ask: false };
        let progress = Progress::start(&ui);
        let kept = progress.events();
        progress.finish();
        // Nobody listens any more; sending is still harmless.
        kept.send(Event::RunStarted { steps: 1 });
    }
}

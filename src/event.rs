//! The only road from work to screen: work sends events, `ui/` draws them.
//!
//! Events carry facts, not sentences, and never a secret. Sending never blocks and never fails the work.

use std::sync::mpsc;

use crate::model::name::ServerName;

/// Something that happened while working.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A phase begins over some servers, such as "connect" or "observe".
    PhaseStarted {
        /// Its name.
        phase: &'static str,
        /// The servers it touches.
        servers: Vec<ServerName>,
    },
    /// A phase ended for one server.
    PhaseDone {
        /// Its name.
        phase: &'static str,
        server: ServerName,
        /// What went wrong, where something did.
        error: Option<String>,
    },
    /// One remote execution: a round trip. Shown with `-v`; the commands carry no secret.
    RoundTrip {
        server: ServerName,
        /// The command lines, masked.
        commands: Vec<String>,
    },
    /// A run of steps begins.
    RunStarted {
        /// How many steps it has.
        steps: usize,
    },
    /// A step begins.
    StepStarted {
        /// Its number in the plan, from 1.
        id: u32,
        title: String,
        /// The server it changes, where it is one.
        server: Option<ServerName>,
    },
    /// A long step tells how far it is.
    StepProgress {
        /// The step.
        id: u32,
        /// What it is doing, in PostgreSQL's words.
        phase: String,
        done_bytes: u64,
        /// Bytes in all, where known.
        total_bytes: Option<u64>,
        /// What keeps it, where nothing has moved for a while.
        stalled: Option<String>,
    },
    /// A step did its work, and has something to say about it.
    StepWarned {
        /// The step.
        id: u32,
        /// What.
        text: String,
    },
    /// A step ended.
    StepFinished {
        /// The step.
        id: u32,
        /// How.
        outcome: StepOutcome,
        /// How long it took, in seconds.
        seconds: f64,
    },
    /// The operator asked to stop (Ctrl-C): running steps are finished, no new one starts.
    Stopping {
        /// The titles of the steps that still run.
        running: Vec<String>,
    },
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// It did its work.
    Done,
    /// It did not, or nobody knows.
    Failed,
    /// Its job goes on on its server; nobody waits for it any more.
    GoesOn,
}

/// The sending end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events(Option<mpsc::Sender<Event>>);

impl Events {
    /// Makes both ends.
    pub fn channel() -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel();
        (Self(Some(sender)), receiver)
    }

    /// Makes a sending end that nobody listens to.
    pub fn silent() -> Self {
        Self(None)
    }

    /// Sends an event. A listener that went away is no reason to stop working.
    pub fn send(&self, event: Event) {
        if let Some(sender) = &self.0 {
            let _ = sender.send(event);
        }
    }
}

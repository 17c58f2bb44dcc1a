//! Writes down what a run does, as it happens: into the operator's journal at once, and through the lease for the servers.
//!
//! A line that says that a step begins is written before its command is sent, so a run that is killed leaves its last step.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Instant;

use jiff::Timestamp;

use crate::apply::executor::{End, Leave, Work};
use crate::apply::lease::Lease;
use crate::diagnostic::{Code, Diagnostic, Failure};
use crate::model::argv::Login;
use crate::model::name::ServerName;
use crate::plan::{Step, StepId};
use crate::remote::Host;
use crate::state::journal::{Entry, JournalFile, RunResult};
use crate::state::{StateDir, StateError};

/// The operator's journal of one run. That it cannot be written is told once, and stops nothing.
#[derive(Debug, Default)]
pub(super) struct Journal {
    file: RefCell<Option<JournalFile>>,
    trouble: RefCell<Option<Diagnostic>>,
}

impl Journal {
    pub(super) fn open(state: &StateDir) -> Self {
        let journal = Self::default();
        match state.open_journal() {
            Ok(file) => *journal.file.borrow_mut() = Some(file),
            Err(error) => journal.remember(&error),
        }
        journal
    }

    fn remember(&self, error: &StateError) {
        self.trouble.borrow_mut().get_or_insert_with(|| error.diagnostic());
    }

    /// Writes an entry. A process that is killed loses nothing that was written; only a `durable` one survives a power loss.
    pub(super) fn write(&self, entry: &Entry, durable: bool) {
        let mut file = self.file.borrow_mut();
        let Some(Err(error)) = file.as_mut().map(|file| file.append(std::slice::from_ref(entry), durable)) else {
            return;
        };
        self.remember(&error);
    }

    /// Returns why something could not be written.
    pub(super) fn trouble(self) -> Option<Diagnostic> {
        self.trouble.into_inner()
    }
}

/// Returns how a run ended, as journals have it.
pub(super) fn result_of(failure: Option<&Failure>) -> RunResult {
    match failure {
        None => RunResult::Done,
        Some(failure) if failure.diagnostics.iter().all(|diagnostic| diagnostic.code == Code::Stopped) => {
            RunResult::Stopped
        }
        Some(_) => RunResult::Failed,
    }
}

/// Writes down what the operator answers for: here, and on every server that the run touches.
pub(super) fn attest<H: Host>(run: &str, attested: &[(ServerName, String)], journal: &Journal, lease: &Lease<'_, H>) {
    for (server, reason) in attested {
        let (run, server, reason) = (run.to_owned(), server.clone(), reason.clone());
        let entry = Entry::Attested { run, time: Timestamp::now(), server, reason };
        journal.write(&entry, true);
        lease.note(None, &entry.line());
    }
}

/// Work that is written down.
#[derive(Debug)]
pub(super) struct Recorded<'a, W, H> {
    pub(super) work: W,
    pub(super) run: &'a str,
    pub(super) logins: &'a BTreeMap<ServerName, Login>,
    pub(super) journal: &'a Journal,
    pub(super) lease: &'a Lease<'a, H>,
}

impl<W: Work, H: Host> Work for Recorded<'_, W, H> {
    async fn work(&self, id: StepId, step: &Step, leave: Leave) -> End {
        let begun = Instant::now();
        self.write(
            step,
            &Entry::StepStarted {
                run: self.run.to_owned(),
                time: Timestamp::now(),
                step: id.0,
                title: step.title.clone(),
                server: step.server.clone(),
            },
            false,
        );
        let end = self.work.work(id, step, leave).await;
        let outcome = end.outcome();
        let commands = match step.server.as_ref().and_then(|name| self.logins.get(name)) {
            Some(login) => step.commands().iter().map(|argv| argv.line(login)).collect(),
            None => Vec::new(),
        };
        self.write(
            step,
            &Entry::Step {
                run: self.run.to_owned(),
                time: Timestamp::now(),
                step: Some(id.0),
                title: step.title.clone(),
                server: step.server.clone(),
                outcome,
                seconds: begun.elapsed().as_secs_f64(),
                commands,
            },
            true,
        );
        end
    }
}

impl<W, H: Host> Recorded<'_, W, H> {
    fn write(&self, step: &Step, entry: &Entry, durable: bool) {
        self.journal.write(entry, durable);
        self.lease.note(step.server.as_ref(), &entry.line());
    }
}

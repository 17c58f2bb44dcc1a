//! A whole run: lock everywhere, steps, journal, audit, unlock.

use std::collections::BTreeMap;
use std::time::Instant;

use futures_util::future::join_all;
use jiff::Timestamp;

use crate::apply::executor::run_steps;
use crate::apply::lock::Holder;
use crate::apply::lock::Locked;
use crate::apply::report::Outcome;
use crate::apply::report::RunReport;
use crate::apply::report::StepReport;
use crate::apply::worker::Worker;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Failure;
use crate::event::Events;
use crate::model::argv::Login;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::plan::Plan;
use crate::prove::Sessions;
use crate::remote::Host;
use crate::state::StateDir;
use crate::state::journal::Entry;
use crate::state::journal::RunResult;
use crate::state::journal::StepOutcome;

/// Everything a run needs.
#[derive(Debug)]
pub struct Run<'a, H> {
    /// What is to be done.
    pub plan: &'a Plan,
    /// What was seen.
    pub observation: &'a Observation,
    /// The connections.
    pub hosts: &'a BTreeMap<ServerName, Result<H, String>>,
    /// Who each connection is.
    pub logins: &'a BTreeMap<ServerName, Login>,
    /// The sessions to the instances.
    pub sessions: &'a Sessions<'a, H>,
    /// The state directory, for the journal.
    pub state: &'a StateDir,
    /// Who this run is.
    pub holder: Holder,
    /// Where progress goes.
    pub events: &'a Events,
    /// When the command began.
    pub begun: Instant,
}

impl<H: Host> Run<'_, H> {
    /// Carries the plan out. What ends it early stands in the report.
    ///
    /// # Errors
    /// A lock could not be taken; nothing was changed.
    pub async fn carry_out(self, stop: impl AsyncFnMut()) -> Result<RunReport, Failure> {
        let locked: Vec<Locked<'_, H>> = self.servers().filter_map(|name| self.locked(name)).collect();
        let taken = join_all(locked.iter().map(|server| server.take(&self.holder))).await;
        if taken.iter().any(Result::is_err) {
            let ours = locked.iter().zip(&taken).filter(|(_, taken)| taken.is_ok());
            join_all(ours.map(|(server, _)| server.release(&self.holder.run, ""))).await;
            let failures: Vec<Failure> = taken.into_iter().filter_map(Result::err).collect();
            let kind = failures[0].kind;
            return Err(Failure::all(kind, failures.into_iter().flat_map(|failure| failure.diagnostics).collect()));
        }
        let mut troubles = Vec::new();
        let mut journal = |entries: &[Entry]| {
            if let Err(error) = self.state.append_journal(entries) {
                troubles.push(error.diagnostic());
            }
        };
        let run = self.holder.run.clone();
        journal(&[Entry::RunStarted {
            run: run.clone(),
            time: Timestamp::now(),
            operator: self.holder.owner.clone(),
            operation: self.holder.operation.clone(),
        }]);
        let worker = Worker { hosts: self.hosts, logins: self.logins, sessions: self.sessions, events: self.events };
        let (steps, failure) = run_steps(self.plan, &worker, self.events, stop).await;
        let mut entries: Vec<Entry> = steps.iter().filter_map(|step| self.entry(step)).collect();
        let released = locked.iter().map(async |server| {
            let audit: String = entries
                .iter()
                .filter(|entry| matches!(entry, Entry::Step { server: Some(name), .. } if name == server.host.name()))
                .filter_map(|entry| serde_json::to_string(entry).ok())
                .map(|line| line + "\n")
                .collect();
            server.release(&run, &audit).await
        });
        let released = join_all(released).await;
        let message = failure.as_ref().map(ToString::to_string);
        let result = match &failure {
            None => RunResult::Done,
            Some(failure) if failure.diagnostics.iter().all(|diagnostic| diagnostic.code == "stopped") => {
                RunResult::Stopped
            }
            Some(_) => RunResult::Failed,
        };
        let seconds = self.begun.elapsed().as_secs_f64();
        entries.push(Entry::RunEnded { run, time: Timestamp::now(), result, seconds, message });
        journal(&entries);
        let unreleased = released.into_iter().filter_map(Result::err).map(|error| {
            let diagnostic = error.diagnostic();
            Diagnostic { severity: crate::diagnostic::Severity::Warning, ..diagnostic }
        });
        troubles.extend(unreleased);
        let failure = match (failure, troubles.is_empty()) {
            (Some(mut failure), _) => {
                failure.diagnostics.extend(troubles);
                Some(failure)
            }
            (None, true) => None,
            // The work is done; that it could not be written down is told, and does not undo it.
            (None, false) => Some(Failure::all(crate::diagnostic::FailureKind::StepFailed, troubles)),
        };
        let changed = steps.iter().any(|step| step.outcome != Outcome::NotStarted);
        Ok(RunReport { topology: self.plan.topology.clone(), changed, steps, seconds, failure })
    }

    /// The servers that the plan touches, each once.
    fn servers(&self) -> impl Iterator<Item = &ServerName> {
        self.observation
            .servers
            .keys()
            .filter(|name| self.plan.steps.iter().any(|planned| planned.step.server.as_ref() == Some(name)))
    }

    fn locked<'b>(&'b self, name: &ServerName) -> Option<Locked<'b, H>> {
        let host = self.hosts.get(name)?.as_ref().ok()?;
        let seen = self.observation.server(name)?;
        let Observed::Known(layout) = &seen.layout else { return None };
        Some(Locked { host, layout, seen })
    }

    fn entry(&self, step: &StepReport) -> Option<Entry> {
        let outcome = match step.outcome {
            Outcome::Done => StepOutcome::Done,
            Outcome::Failed => StepOutcome::Failed,
            Outcome::Unknown => StepOutcome::Unknown,
            Outcome::LeftRunning => StepOutcome::LeftRunning,
            Outcome::NotStarted => return None,
        };
        let planned = self.plan.steps.iter().find(|planned| planned.id == step.id)?;
        let login = step.server.as_ref().and_then(|name| self.logins.get(name));
        let commands = match login {
            Some(login) => planned.step.commands().iter().map(|argv| argv.line(login)).collect(),
            None => Vec::new(),
        };
        Some(Entry::Step {
            run: self.holder.run.clone(),
            time: Timestamp::now(),
            title: step.title.clone(),
            server: step.server.clone(),
            outcome,
            seconds: step.seconds,
            commands,
        })
    }
}

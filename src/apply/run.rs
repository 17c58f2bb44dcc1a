//! A whole run: lock everywhere, steps under a lease that is renewed, journal, audit, unlock.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Instant;

use futures_util::future::Either;
use futures_util::future::join_all;
use futures_util::future::select;
use jiff::Timestamp;

use crate::apply::executor::run_steps;
use crate::apply::lease;
use crate::apply::lease::Lease;
use crate::apply::lease::RENEW_EVERY;
use crate::apply::lock;
use crate::apply::lock::Holder;
use crate::apply::lock::Locked;
use crate::apply::record::Journal;
use crate::apply::record::Recorded;
use crate::apply::report::Outcome;
use crate::apply::report::RunReport;
use crate::apply::report::StepReport;
use crate::apply::worker::Worker;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::diagnostic::Severity;
use crate::event::Events;
use crate::model::argv::Login;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::plan::Plan;
use crate::prove::Sessions;
use crate::remote::Host;
use crate::remote::RemoteError;
use crate::state::StateDir;
use crate::state::journal::Entry;
use crate::state::journal::RunResult;

/// The code of a run that the operator stopped.
const STOPPED: &str = "stopped";

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
        let run = self.holder.run.clone();
        let started = Entry::RunStarted {
            run: run.clone(),
            time: Timestamp::now(),
            operator: self.holder.owner.clone(),
            operation: self.holder.operation.clone(),
            state: Some(self.holder.state.clone()),
        };
        let locked: Vec<Locked<'_, H>> = self.servers().filter_map(|name| self.locked(name)).collect();
        let warnings = self.lock_all(&locked, &started).await?;
        let journal = Journal::open(self.state);
        journal.write(&started, false);
        let lease = Lease::new(&locked, &run);
        let (steps, failure) = self.work(&lease, &journal, stop).await;
        let failure = with_lost(failure, lease.all_lost());
        let ended = |failure: Option<&Failure>| Entry::RunEnded {
            run: run.clone(),
            time: Timestamp::now(),
            result: result_of(failure),
            seconds: self.begun.elapsed().as_secs_f64(),
            message: failure.map(ToString::to_string),
        };
        lease.note(None, &ended(failure.as_ref()).line());
        let mut troubles = self.release_all(&locked, &lease).await;
        // That a lock was lost while the last step ran shows only where it should be given back.
        let failure = with_lost(failure, lease.all_lost());
        journal.write(&ended(failure.as_ref()), true);
        troubles.extend(journal.trouble());
        let failure = match (failure, troubles.is_empty()) {
            (Some(mut failure), _) => {
                failure.diagnostics.extend(troubles);
                Some(failure)
            }
            (None, true) => None,
            // The work is done; that it could not be written down is told, and does not undo it.
            (None, false) => Some(Failure::all(FailureKind::StepFailed, troubles)),
        };
        let changed = steps.iter().any(|step| step.outcome != Outcome::NotStarted);
        let seconds = self.begun.elapsed().as_secs_f64();
        Ok(RunReport { topology: self.plan.topology.clone(), changed, steps, seconds, warnings, failure })
    }

    /// Takes the lock on all servers, or on none, and returns whose expired leases were taken over.
    async fn lock_all(&self, locked: &[Locked<'_, H>], started: &Entry) -> Result<Vec<Diagnostic>, Failure> {
        let taken = join_all(locked.iter().map(|server| server.take(&self.holder, started))).await;
        if taken.iter().any(Result::is_err) {
            let ours: Vec<_> = locked.iter().zip(&taken).filter(|(_, taken)| taken.is_ok()).collect();
            let failures: Vec<Failure> = taken.iter().filter_map(|taken| taken.as_ref().err().cloned()).collect();
            let failure =
                Failure::all(failures[0].kind, failures.into_iter().flat_map(|one| one.diagnostics).collect());
            let ended = Entry::RunEnded {
                run: self.holder.run.clone(),
                time: Timestamp::now(),
                result: RunResult::Refused,
                seconds: self.begun.elapsed().as_secs_f64(),
                message: Some(failure.to_string()),
            };
            let line = ended.line() + "\n";
            join_all(ours.into_iter().map(|(server, _)| server.release(&self.holder.run, &line))).await;
            return Err(failure);
        }
        let named = locked.iter().zip(taken).filter_map(|(server, taken)| Some((server.host.name(), taken.ok()??)));
        Ok(named.map(|(name, lock)| lock::taken_over(name, &lock)).collect())
    }

    /// Carries the steps out while the leases are renewed. Once a lock is lost no step begins.
    async fn work(
        &self,
        lease: &Lease<'_, H>,
        journal: &Journal,
        mut stop: impl AsyncFnMut(),
    ) -> (Vec<StepReport>, Option<Failure>) {
        let worker =
            Worker { hosts: self.hosts, logins: self.logins, sessions: self.sessions, lease, events: self.events };
        let not_started = RefCell::default();
        let work = Recorded { work: worker, run: &self.holder.run, logins: self.logins, journal, lease, not_started };
        let mut is_told = false;
        let stop = async || {
            if is_told {
                return stop().await;
            }
            let lost = pin!(lease.lost());
            if let Either::Right(_) = select(pin!(stop()), lost).await {
                is_told = true;
            }
        };
        let steps = Box::pin(run_steps(self.plan, &work, self.events, stop));
        let (mut steps, failure) = match select(steps, pin!(lease.keep(RENEW_EVERY))).await {
            Either::Left((ended, _)) => ended,
            Either::Right((never, _)) => match never {},
        };
        let not_started = work.not_started.borrow();
        for step in steps.iter_mut().filter(|step| not_started.contains(&step.id)) {
            step.outcome = Outcome::NotStarted;
        }
        (steps, failure)
    }

    /// Gives all locks back, with the lines that the audit logs still lack, and returns what did not work.
    async fn release_all(&self, locked: &[Locked<'_, H>], lease: &Lease<'_, H>) -> Vec<Diagnostic> {
        let released = locked.iter().map(async |server| {
            let name = server.host.name();
            match server.release(&self.holder.run, &lease.last_lines(name)).await {
                Ok(()) => None,
                Err(RemoteError::Command { status: Some(lock::HELD), stdout, .. }) => {
                    lease.lose(name, Some(&stdout));
                    None
                }
                Err(error) => Some(Diagnostic { severity: Severity::Warning, ..error.diagnostic() }),
            }
        });
        join_all(released).await.into_iter().flatten().collect()
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
}

/// Returns how a run ended, as journals have it.
fn result_of(failure: Option<&Failure>) -> RunResult {
    match failure {
        None => RunResult::Done,
        Some(failure) if failure.diagnostics.iter().all(|diagnostic| diagnostic.code == STOPPED) => RunResult::Stopped,
        Some(_) => RunResult::Failed,
    }
}

/// Puts lost locks in front of what else ended a run: whatever failed besides may be the other run's work.
fn with_lost(failure: Option<Failure>, lost: Vec<Diagnostic>) -> Option<Failure> {
    if lost.is_empty() {
        return failure;
    }
    let besides = failure.into_iter().flat_map(|failure| failure.diagnostics);
    let besides = besides.filter(|diagnostic| ![lease::LOST, STOPPED].contains(&diagnostic.code));
    Some(Failure::all(FailureKind::Locked, lost.into_iter().chain(besides).collect()))
}

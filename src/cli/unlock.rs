//! `unlock`: shows who holds the locks of the servers, and breaks them on consent.

use std::time::Instant;

use clap::Args;
use futures_util::future::join_all;
use jiff::Timestamp;
use serde::Serialize;

use super::exit::Exit;
use super::globals::Globals;
use super::runner::{At, Done, Next, Outcome, Task};
use super::session::{Session, state_identity};
use super::{inventory, runner};
use crate::apply::lock::{Locked, Standing};
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::model::name::{ServerName, TopologyName};
use crate::model::quantity::count;
use crate::observe::probe::Wish;
use crate::remote::Ssh;
use crate::state::journal::operator;
use crate::ui::Ui;
use crate::ui::ask::{Gravity, Question};
use crate::ui::json::{DiagnosticJson, Versioned, diagnostics};

/// Show who holds the locks of the servers, and break them on consent
///
/// A run holds a lock on every server it touches and renews it while it lives. A run that was killed leaves its lock; the
/// next run from the same state directory takes it over at once, and any other as soon as its lease has ended, after a
/// minute. A lease that lives is broken only by whoever types "yes": its run may be at work.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead unlock          show the holders, ask, break
  pgstead unlock --yes    break leases that have ended, without asking")]
pub(super) struct UnlockArgs {}

/// A lock that somebody holds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Held {
    server: ServerName,
    holder: String,
    run: Option<String>,
    operation: Option<String>,
    owner: Option<String>,
    since: Option<String>,
    renewed_seconds_ago: Option<i64>,
    /// Whether its run may be at work: its lease has not ended, and it is not one of this state directory.
    living: bool,
    broken: bool,
}

#[derive(Debug, Serialize)]
struct Unlocked<'a> {
    topology: &'a TopologyName,
    locks: &'a [Held],
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<DiagnosticJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<DiagnosticJson<'a>>,
}

pub(super) fn run(globals: &Globals, args: &UnlockArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let tell = |outcome: &Outcome<Vec<Held>, Vec<Held>>| {
        let locks = outcome.report.as_deref().unwrap_or_default();
        let errors = outcome.failure.as_ref().map_or(&[][..], |failure| &failure.diagnostics);
        let topology = inventory.topology.name();
        let text = |_| match locks.iter().filter(|lock| lock.broken).count() {
            0 if locks.is_empty() => format!("No server of {topology} is locked.\n"),
            0 => "No lock is broken.\n".to_owned(),
            1 => "1 lock is broken.\n".to_owned(),
            broken => format!("{broken} locks are broken.\n"),
        };
        let document = || {
            let error = errors.first().map(DiagnosticJson::from);
            Versioned::new(Unlocked { topology, locks, error, errors: diagnostics(errors) })
        };
        ui.answer(text, document).map(drop)
    };
    Ok(runner::perform(args, &inventory, ui, tell)?.exit())
}

/// It has the state directory for itself meanwhile: a lock that carries the directory's mark is of a dead run then, and no run
/// begins whose lock could be taken for the one that was shown.
impl Task for UnlockArgs {
    const NAME: &'static str = "unlock";
    type Proposal = Vec<Held>;
    type Report = Vec<Held>;

    fn is_dry_run(&self) -> bool {
        false
    }

    /// Leases are what it is about.
    fn heeds_leases(&self) -> bool {
        false
    }

    fn wish(&self) -> Wish {
        Wish::default()
    }

    /// Servers that cannot be reached keep nobody from breaking the locks of the others.
    fn require(&self, _: &Session<'_>) -> Result<(), Failure> {
        Ok(())
    }

    async fn propose(&self, session: &mut Session<'_>) -> Result<Vec<Held>, Failure> {
        let ours = state_identity(&session.state);
        let held = |server: &ServerName| {
            let (Locked { seen, .. }, text) = locked(session, server)?;
            let lock = Standing::new(text, seen.lock_age_seconds);
            Some(Held {
                server: server.clone(),
                holder: lock.sentence(),
                living: lock.is_living() && !lock.is_of(&ours),
                run: lock.run,
                operation: lock.operation,
                owner: lock.owner,
                since: lock.since,
                renewed_seconds_ago: lock.age_seconds,
                broken: false,
            })
        };
        Ok(session.hosts.keys().filter_map(held).collect())
    }

    async fn next(
        &self,
        held: &Vec<Held>,
        session: &Session<'_>,
        ui: &Ui,
        _: Instant,
    ) -> Result<Next<Vec<Held>>, Failure> {
        if held.is_empty() {
            return session.require_all().map(|()| Next::Unchanged(Vec::new()));
        }
        for lock in held {
            let living = if lock.living { "The lease lives" } else { "Its run is dead" };
            ui.say(&format!("{}: {} {living}.\n", lock.server, lock.holder));
        }
        let gravity = if held.iter().any(|lock| lock.living) { Gravity::Rival } else { Gravity::Ordinary };
        if gravity == Gravity::Rival && ui.options.yes {
            return Err(living(held));
        }
        Ok(Next::Ask(Question { gravity, change: format!("Break the locks of {}", count(held.len(), "server")) }))
    }

    async fn carry_out(
        &self,
        held: &Vec<Held>,
        session: &mut Session<'_>,
        at: At<'_>,
    ) -> Result<Done<Vec<Held>>, Failure> {
        let (who, now) = (operator(), Timestamp::now().to_string());
        let each = held.iter().filter_map(|lock| locked(session, &lock.server));
        let breaking = join_all(each.map(async |(server, text)| server.break_lock(text, &who, &now).await));
        let left = "left while locks were being broken; \"pgstead unlock\" shows which still stand";
        let broken = at.interrupts.unless_stopped(left, async { Ok(breaking.await) }).await?;
        let mut report = held.clone();
        let mut failed = Vec::new();
        for (lock, broken) in report.iter_mut().zip(broken) {
            lock.broken = broken.is_ok();
            failed.extend(broken.err().map(|error| error.diagnostic()));
        }
        let failure = match failed.is_empty() {
            true => session.require_all().err(),
            false => Some(Failure::all(FailureKind::StepFailed, failed)),
        };
        Ok(Done { report, warnings: Vec::new(), failure })
    }
}

/// Returns a server whose lock somebody holds, with the lock's text.
fn locked<'a>(session: &'a Session<'_>, server: &ServerName) -> Option<(Locked<'a, Ssh>, &'a str)> {
    let host = session.hosts.get(server)?.as_ref().ok()?;
    let seen = session.observation.server(server)?;
    Some((Locked { host, layout: seen.layout.known()?, seen }, seen.lock.known()?))
}

/// The answer to --yes where a lease lives: a run of somebody else may be at work, and only a person can know better.
fn living(held: &[Held]) -> Failure {
    let diagnostics = held.iter().filter(|lock| lock.living).map(|lock| {
        Diagnostic::error(Code::LeaseLiving, format!("server \"{}\": the lease of another run lives", lock.server))
            .server(&lock.server)
            .detail(lock.holder.clone())
            .hint("A dead run's lease ends by itself within a minute; run it again then. To break it now, run \"pgstead unlock\" without --yes on a terminal.")
    });
    Failure::all(FailureKind::Locked, diagnostics.collect())
}

//! `unlock`: shows who holds the locks of the servers, and breaks them on consent.

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::block_on;
use super::exit;
use super::exit::Exit;
use super::globals::Globals;
use super::inventory;
use super::session::Session;
use super::session::state_identity;
use crate::apply::lock::Locked;
use crate::apply::lock::Standing;
use crate::diagnostic::Code;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::event::Events;
use crate::model::observed::Observed;
use crate::observe::probe::Wish;
use crate::state::StateDir;
use crate::state::journal::operator;
use crate::ui::Ui;
use crate::ui::ask;
use crate::ui::ask::Gravity;
use crate::ui::ask::Question;
use crate::ui::json::Versioned;

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

#[derive(Debug, Serialize)]
struct Held {
    server: String,
    holder: String,
    run: Option<String>,
    operation: Option<String>,
    owner: Option<String>,
    since: Option<String>,
    renewed_seconds_ago: Option<i64>,
    /// Whether its run may be at work: its lease has not ended, and it is not one of this state directory.
    living: bool,
}

#[derive(Debug, Serialize)]
struct Unlocked<'a> {
    topology: &'a str,
    locks: &'a [Held],
}

pub(super) fn run(globals: &Globals, _args: &UnlockArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let here = StateDir::at(&inventory.state_dir).lock_holder();
    if let Ok(Some(holder)) = here {
        return Err(Failure::one(
            FailureKind::Locked,
            Diagnostic::error(Code::Locked, "a run on this machine is alive and holds the lock")
                .detail(holder.sentence())
                .hint("Wait for it, or end that process; its locks then belong to the next run."),
        ));
    }
    block_on(async {
        let session = Session::open(&inventory, Wish::default(), Events::silent()).await?;
        let result = over(&session, ui).await;
        session.close().await;
        result
    })
}

async fn over(session: &Session<'_>, ui: &Ui) -> Result<Exit, Failure> {
    let mut held = Vec::new();
    let mut locked = Vec::new();
    let ours = state_identity(&session.state);
    for (name, host) in &session.hosts {
        let (Ok(host), Some(seen)) = (host, session.observation.server(name)) else { continue };
        let (Observed::Known(text), Observed::Known(layout)) = (&seen.lock, &seen.layout) else { continue };
        let lock = Standing::new(text, seen.lock_age_seconds);
        held.push(Held {
            server: name.to_string(),
            holder: lock.sentence(),
            living: lock.is_living() && !lock.is_of(&ours),
            run: lock.run,
            operation: lock.operation,
            owner: lock.owner,
            since: lock.since,
            renewed_seconds_ago: lock.age_seconds,
        });
        locked.push((Locked { host, layout, seen }, text));
    }
    if !locked.is_empty() {
        for lock in &held {
            let living = if lock.living { "The lease lives" } else { "Its run is dead" };
            ui.say(&format!("{}: {} {living}.\n", lock.server, lock.holder));
        }
        let change = format!("Break the locks of {} servers", locked.len());
        let gravity = if held.iter().any(|lock| lock.living) { Gravity::Rival } else { Gravity::Ordinary };
        if gravity == Gravity::Rival && ui.options.yes {
            return Err(living(&held));
        }
        ask::consent(ui, &Question { gravity, change })?;
    }
    let now = Timestamp::now().to_string();
    for (server, text) in &locked {
        server
            .break_lock(text, &operator(), &now)
            .await
            .map_err(|error| Failure::one(FailureKind::StepFailed, error.diagnostic()))?;
    }
    if !session.unreachable.is_empty() {
        return Err(Failure::all(FailureKind::Unreachable, session.unreachable.clone()));
    }
    let topology = session.inventory.topology.name();
    ui.answer(
        |_| match held.len() {
            0 => format!("No server of {topology} is locked.\n"),
            count => format!("{count} locks are broken.\n"),
        },
        || Versioned::new(Unlocked { topology: topology.as_str(), locks: &held }),
    )?;
    Ok(exit::DONE)
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

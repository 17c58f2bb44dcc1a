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
use crate::apply::lock;
use crate::apply::lock::Locked;
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
/// A run holds a lock on every server it touches. A run that was killed leaves its lock; the next run from the same
/// state directory takes it over by itself, and any other needs this command. Break only what is dead.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead unlock          show the holders, ask, break
  pgstead unlock --yes    break without asking")]
pub(super) struct UnlockArgs {}

#[derive(Debug, Serialize)]
struct Held {
    server: String,
    holder: String,
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
            Diagnostic::error("locked", "a run on this machine is alive and holds the lock")
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
    for (name, host) in &session.hosts {
        let (Ok(host), Some(seen)) = (host, session.observation.server(name)) else { continue };
        let (Observed::Known(text), Observed::Known(layout)) = (&seen.lock, &seen.layout) else { continue };
        held.push(Held { server: name.to_string(), holder: lock::holder_sentence(text) });
        locked.push((Locked { host, layout, seen }, text));
    }
    if !locked.is_empty() {
        for lock in &held {
            ui.say(&format!("{}: {}\n", lock.server, lock.holder));
        }
        let change = format!("Break the locks of {} servers", locked.len());
        ask::consent(ui, &Question { gravity: Gravity::Ordinary, change })?;
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

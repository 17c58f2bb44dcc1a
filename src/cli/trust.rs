//! `trust`: shows SSH host keys and records the new ones on consent. A changed key is refused, always.

use clap::Args;
use serde::Serialize;

use super::block_on;
use super::exit;
use super::exit::Exit;
use super::globals::Globals;
use super::inventory;
use super::inventory::Inventory;
use super::not_wired;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::ui::Ui;
use crate::ui::ask;
use crate::ui::ask::Gravity;
use crate::ui::ask::Question;
use crate::ui::json::Versioned;
use crate::ui::keys;
use crate::ui::keys::HostKey;
use crate::ui::keys::KeyState;

/// Show SSH host keys, and record them on consent
///
/// Compare the fingerprints with what the servers' consoles show (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub)
/// before you confirm. A key that differs from a recorded one is refused: remove the old record yourself when the server was
/// installed anew.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead trust          show the keys, ask, record
  pgstead trust --yes    record new keys without asking, as in a lab")]
pub(super) struct TrustArgs {}

#[derive(Debug, Serialize)]
struct Trusted<'a> {
    keys: &'a [HostKey],
    recorded: usize,
}

pub(super) fn run(globals: &Globals, _args: &TrustArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let keys = block_on(scan(&inventory))?;
    let (changed, new): (Vec<&HostKey>, Vec<&HostKey>) = {
        let of = |state| keys.iter().filter(|key| key.state == state).collect();
        (of(KeyState::Changed), of(KeyState::New))
    };
    // The table is what the question is about, so it stands before it, and not on stdout, where results go.
    if !changed.is_empty() || !new.is_empty() {
        ui.say(&keys::render(&keys, ui.err));
    }
    if !changed.is_empty() {
        return Err(Failure::all(FailureKind::Refused, changed.into_iter().map(refuse).collect()));
    }
    if !new.is_empty() {
        let change = format!("Record {} new host keys", new.len());
        ask::consent(ui, &Question { gravity: Gravity::Ordinary, change })?;
        record(&inventory, &new)?;
    }
    ui.answer(
        |look| match new.len() {
            0 => format!("{}\nEvery host key is recorded already.\n", keys::render(&keys, look)),
            recorded => format!("{recorded} host keys are recorded.\n"),
        },
        || Versioned::new(Trusted { keys: &keys, recorded: new.len() }),
    )?;
    Ok(exit::DONE)
}

fn refuse(key: &HostKey) -> Diagnostic {
    let diagnostic =
        Diagnostic::error("host-key-changed", format!("{} shows another host key than the recorded one", key.endpoint))
            .detail(format!("It shows {} {}. Nothing was recorded.", key.key_type, key.fingerprint))
            .hint(
                "When the server was installed anew, remove its line from known_hosts and run \"pgstead trust\" again.",
            );
    match &key.server {
        Some(server) => diagnostic.server(server),
        None => diagnostic,
    }
}

// SEAM: asks every server and jump host for its host keys and compares them with the recorded ones.
async fn scan(_inventory: &Inventory) -> Result<Vec<HostKey>, Failure> {
    not_wired("the scan of host keys")
}

// SEAM: adds keys to the known_hosts file of the topology's state.
fn record(_inventory: &Inventory, _keys: &[&HostKey]) -> Result<(), Failure> {
    not_wired("recording host keys")
}

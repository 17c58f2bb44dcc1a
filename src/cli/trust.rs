//! `trust`: shows SSH host keys and records the new ones on consent. A changed key is refused, always.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::exit::Exit;
use super::globals::Globals;
use super::inventory::Inventory;
use super::{block_on, exit, inventory};
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::event::Events;
use crate::model::name::ServerName;
use crate::remote;
use crate::remote::trust::Scan;
use crate::remote::{ConnectOptions, Connector, trust};
use crate::state::StateDir;
use crate::ui::ask::{Gravity, Question};
use crate::ui::json::Versioned;
use crate::ui::keys::{HostKey, KeyState};
use crate::ui::{Ui, ask, keys};

/// Show SSH host keys, and record them on consent
///
/// Compare the fingerprints with what the servers' consoles show (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub)
/// before you confirm. A key that differs from a recorded one is refused: "pgstead replace" takes it for a server whose machine is
/// another one now.
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
    block_on(async {
        let mut recorded = 0;
        // A server behind a jump host shows its keys only once the jump host's own are recorded.
        loop {
            let scans = scan_all(&inventory).await?;
            let keys: Vec<HostKey> = scans.iter().flat_map(shown).collect();
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
                record(&inventory, &scans)?;
                recorded += new.len();
            }
            if !new.is_empty() && scans.iter().any(Scan::waits_for_jump_host) {
                continue;
            }
            let failures: Vec<Diagnostic> =
                scans.iter().filter_map(|scan| Some(scan.keys.as_ref().err()?.diagnostic())).collect();
            if !failures.is_empty() {
                return Err(Failure::all(FailureKind::Unreachable, failures));
            }
            ui.answer(
                |look| match recorded {
                    0 => format!("{}\nEvery host key is recorded already.\n", keys::render(&keys, look)),
                    recorded => format!("{recorded} host keys are recorded.\n"),
                },
                || Versioned::new(Trusted { keys: &keys, recorded }),
            )?;
            return Ok(exit::DONE);
        }
    })
}

fn refuse(key: &HostKey) -> Diagnostic {
    let diagnostic = Diagnostic::error(
        Code::HostKeyChanged,
        format!("{} shows another host key than the recorded one", key.endpoint),
    )
    .detail(format!("It shows {} {}. Nothing was recorded.", key.key_type, key.fingerprint))
    .hint("When that machine was installed anew, remove its line from known_hosts and run \"pgstead trust\" again.");
    match &key.server {
        Some(server) => diagnostic
            .server(server)
            .hint(format!("When that machine is new, or was installed anew: pgstead replace {server}. It shows both keys, and asks. When it is the primary, and has new keys alone, remove its line from known_hosts and run \"pgstead trust\" again.")),
        None => diagnostic,
    }
}

/// Asks every server and jump host for its host keys.
async fn scan_all(inventory: &Inventory) -> Result<Vec<Scan>, Failure> {
    let mut scans = trust::scan(&connector(inventory)?, inventory.topology.servers()).await;
    scans.iter_mut().for_each(Scan::leave_one_to_compare);
    Ok(scans)
}

/// Returns what connects with the keys that are recorded.
pub(super) fn connector(inventory: &Inventory) -> Result<Connector, Failure> {
    let known_hosts = recorded_keys(inventory, None);
    Connector::new(ConnectOptions::new(known_hosts), Events::silent())
        .map_err(|error| Failure::one(FailureKind::Unreachable, error.diagnostic()))
}

/// Adds the new keys to the file that the inventory names, or else to the topology's own.
fn record(inventory: &Inventory, scans: &[Scan]) -> Result<(), Failure> {
    let failed = |diagnostic| Failure::one(FailureKind::StepFailed, diagnostic);
    let state = StateDir::at(&inventory.state_dir);
    for scan in scans {
        let Ok(keys) = &scan.keys else { continue };
        let new: Vec<&remote::HostKey> = keys.iter().filter(|key| key.state == remote::KeyState::New).collect();
        if new.is_empty() {
            continue;
        }
        let file = recorded_keys(inventory, scan.server.as_ref());
        if file == state.known_hosts() {
            state.create().map_err(|error| failed(error.diagnostic()))?;
        }
        trust::record(&file, new).map_err(|error| failed(error.diagnostic()))?;
    }
    Ok(())
}

/// Returns the file in which the host key of a server is recorded; without one, the topology's own.
pub(super) fn recorded_keys(inventory: &Inventory, server: Option<&ServerName>) -> PathBuf {
    let named = server.and_then(|name| inventory.topology.server(name)?.ssh.known_hosts.clone());
    let known_hosts = named.unwrap_or_else(|| StateDir::at(&inventory.state_dir).known_hosts());
    std::path::absolute(&known_hosts).unwrap_or(known_hosts)
}

/// Returns the keys of one scan as they are shown.
fn shown(scan: &Scan) -> Vec<HostKey> {
    let keys = scan.keys.as_deref().unwrap_or_default();
    keys.iter()
        .map(|key| HostKey {
            server: scan.server.clone(),
            endpoint: scan.endpoint.clone(),
            key_type: key.key_type.clone(),
            fingerprint: key.fingerprint.clone(),
            state: match key.state {
                remote::KeyState::Known => KeyState::Known,
                remote::KeyState::New => KeyState::New,
                remote::KeyState::Changed => KeyState::Changed,
            },
        })
        .collect()
}

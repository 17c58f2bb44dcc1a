//! The host key of a new machine under a known name: shown beside the recorded ones, and taken in their place on consent.

use std::collections::BTreeSet;

use super::inventory::Inventory;
use super::trust;
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::model::address::Address;
use crate::model::topology::Server;
use crate::remote;
use crate::remote::former;
use crate::remote::former::Former;
use crate::remote::trust::Scan;
use crate::remote::{Connector, HostKey, KeyState, RemoteError};
use crate::state::StateDir;
use crate::ui::ask::{Gravity, Question};
use crate::ui::{Ui, ask, keys};

/// Whose key is taken, and on which word.
pub(super) struct Exchange<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) server: &'a Server,
    /// The addresses that it had before.
    pub(super) former: &'a BTreeSet<Address>,
    /// The fingerprints that the operator names.
    pub(super) named: &'a [String],
    pub(super) is_dry_run: bool,
}

/// What known hosts files have of the server.
struct Recorded {
    /// Those that go, in files that pgstead writes.
    leave: Vec<Former>,
    /// Those that stay: in the user's own files, in lines for other hosts, too.
    stay: Vec<Former>,
}

impl Exchange<'_> {
    /// Takes the keys that the machine shows in the place of those that are recorded: those that the operator names, or those that
    /// an answer at the terminal accepts. Where all is as it should be, nothing is asked.
    ///
    /// # Errors
    /// Not accepted, or no key could be read.
    pub(super) async fn take(&self, ui: &Ui) -> Result<(), Failure> {
        let name = &self.server.name;
        let connector = trust::connector(self.inventory)?;
        if self.is_as_recorded(&connector).await.map_err(told)? {
            return Ok(());
        }
        let scan = self.scan(&connector).await?;
        let shown = scan.keys.as_deref().unwrap_or_default();
        let Recorded { leave, stay } = self.recorded(&connector, shown).await.map_err(told)?;
        let named = |key: &&HostKey| self.named.is_empty() || self.named.contains(&key.fingerprint);
        let is_known = shown.iter().any(|key| key.state == KeyState::Known);
        // One that is known proves the machine; the others that it shows are "trust"'s matter.
        let taken: Vec<&HostKey> = match is_known {
            true => Vec::new(),
            false => shown.iter().filter(named).collect(),
        };
        if let Some(wrong) = self.named.iter().find(|named| shown.iter().all(|key| key.fingerprint != **named)) {
            return Err(self.refused(shown, &leave, &format!("None of them is {wrong}, which was named."), ui));
        }
        if let Some(revoked) =
            stay.iter().find(|one| one.revoked && taken.iter().any(|key| key.fingerprint == one.fingerprint))
        {
            let place = format!("{}, line {}", revoked.file.display(), revoked.line);
            return Err(self.refused(shown, &leave, &format!("It is revoked: {place}."), ui));
        }
        if taken.is_empty() && leave.is_empty() {
            return Ok(());
        }
        if self.is_dry_run || self.named.is_empty() && !ui.can_ask {
            if taken.is_empty() {
                return Ok(());
            }
            let why = if self.is_dry_run { "A dry run takes no key." } else { "--yes does not stand for it." };
            return Err(self.refused(shown, &leave, why, ui));
        }
        ui.say(&self.table(shown, &leave, ui));
        if self.named.is_empty() {
            let goes = if leave.is_empty() { "" } else { ", and remove those of its former machine" };
            let change = match taken.is_empty() {
                true => format!("Remove the host keys of the former machine of \"{name}\""),
                false => format!("Take the new host keys of \"{name}\"{goes}"),
            };
            ask::consent(ui, &Question { gravity: Gravity::Stranger, change })?;
        }
        self.write(&leave, taken)?;
        let left: Vec<Diagnostic> = stay.iter().filter(|one| !one.revoked).map(|one| one.left(name)).collect();
        ui.diagnostics(&left);
        Ok(())
    }

    /// Says whether the server proves to be the recorded one, and nothing else is recorded of it. Whoever asks for keys does not log
    /// in, and sshd counts that against this machine (`PerSourcePenalties`): a run that goes on with another one does not.
    async fn is_as_recorded(&self, connector: &Connector) -> Result<bool, RemoteError> {
        let name = former::name_at(connector, self.server, &self.server.address).await?;
        let Recorded { leave, stay } = self.recorded(connector, &[]).await?;
        let all: Vec<&Former> = leave.iter().chain(&stay).collect();
        let types: BTreeSet<&str> = all.iter().map(|one| one.key_type.as_str()).collect();
        let is_sole = types.len() == all.len() && all.iter().all(|one| one.name == name && !one.revoked);
        let is_named = self.named.iter().all(|named| all.iter().any(|one| one.fingerprint == *named));
        if all.is_empty() || !is_sole || !is_named {
            return Ok(false);
        }
        match connector.connect(self.server).await {
            Ok(session) => {
                session.close().await;
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    async fn scan(&self, connector: &Connector) -> Result<Scan, Failure> {
        let scans = remote::trust::scan(connector, [self.server]).await;
        let unread: Vec<Diagnostic> =
            scans.iter().filter_map(|scan| Some(scan.keys.as_ref().err()?.diagnostic())).collect();
        if !unread.is_empty() {
            return Err(Failure::all(FailureKind::Unreachable, unread));
        }
        let of_server = scans.into_iter().find(|scan| scan.server.as_ref() == Some(&self.server.name));
        of_server.ok_or_else(|| Failure::all(FailureKind::Unreachable, Vec::new()))
    }

    /// Reads what is recorded under the names that the server has and had, but for what it shows.
    async fn recorded(&self, connector: &Connector, shown: &[HostKey]) -> Result<Recorded, RemoteError> {
        let mut names = vec![former::name_at(connector, self.server, &self.server.address).await?];
        for address in self.former {
            names.push(former::name_at(connector, self.server, address).await?);
        }
        let mut of_others = BTreeSet::new();
        for other in self.inventory.topology.servers().filter(|other| other.name != self.server.name) {
            of_others.insert(former::name_at(connector, other, &other.address).await?);
        }
        let (own, others) = former::files(connector, self.server);
        let mut recorded = Recorded { leave: Vec::new(), stay: Vec::new() };
        for name in names.iter().filter(|name| !of_others.contains(*name)) {
            for file in own.iter().chain(&others) {
                let found = former::recorded(file, name).await?;
                // What it shows goes on counting, under whatever name.
                let is_gone = |one: &Former| one.revoked || shown.iter().all(|key| key.fingerprint != one.fingerprint);
                for one in found.into_iter().filter(is_gone) {
                    let goes = own.contains(file) && one.is_own;
                    if goes { &mut recorded.leave } else { &mut recorded.stay }.push(one);
                }
            }
        }
        Ok(recorded)
    }

    fn write(&self, leave: &[Former], taken: Vec<&HostKey>) -> Result<(), Failure> {
        let state = StateDir::at(&self.inventory.state_dir);
        let file = trust::recorded_keys(self.inventory, Some(&self.server.name));
        if file == state.known_hosts() {
            state.create().map_err(|error| Failure::one(FailureKind::StepFailed, error.diagnostic()))?;
        }
        former::exchange(&file, leave, taken).map_err(told)
    }

    fn table(&self, shown: &[HostKey], leave: &[Former], ui: &Ui) -> String {
        let name = Some(self.server.name.clone());
        let mut rows = Vec::new();
        for one in leave {
            rows.push(keys::HostKey {
                server: name.clone(),
                endpoint: one.name.clone(),
                key_type: one.key_type.clone(),
                fingerprint: one.fingerprint.clone(),
                state: keys::KeyState::Former,
            });
        }
        rows.extend(shown.iter().map(|key| keys::HostKey {
            server: name.clone(),
            endpoint: self.server.address.to_string(),
            key_type: key.key_type.clone(),
            fingerprint: key.fingerprint.clone(),
            state: if key.state == KeyState::Known { keys::KeyState::Known } else { keys::KeyState::New },
        }));
        keys::render(&rows, ui.err)
    }

    fn refused(&self, shown: &[HostKey], leave: &[Former], why: &str, ui: &Ui) -> Failure {
        ui.say(&self.table(shown, leave, ui));
        let server = &self.server.name;
        let is_changed = shown.iter().any(|key| key.state == KeyState::Changed);
        let (code, what) = match is_changed {
            true => (Code::HostKeyChanged, "not the recorded one"),
            false => (Code::HostKeyUnknown, "not recorded"),
        };
        let fingerprints = shown.iter().map(|key| key.fingerprint.as_str()).collect::<Vec<_>>().join(", ");
        Failure::one(
            FailureKind::Refused,
            Diagnostic::error(code, format!("the host key of server \"{server}\" is {what}, and was not accepted"))
                .server(server)
                .detail(format!("It shows {fingerprints}. {why} Nothing was changed."))
                .hint(format!("Compare it with what its console shows (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub). Then: pgstead replace {server} --host-key FINGERPRINT")),
        )
    }
}

fn told(error: RemoteError) -> Failure {
    Failure::one(FailureKind::StepFailed, error.diagnostic())
}

//! Which password role replicator has, and what follows where this machine keeps another one.
//!
//! The primary says it, by its verifier. Where none runs all servers that run must agree: what one has may be older, since it was
//! down, or was fenced, or has not replayed the change yet.
//!
//! Where it is another one, somebody replaced it from another machine, or by hand: the one that is kept here is stale, and may be
//! known to whoever it was taken from. It replaces nothing by the way; servers keep the one that they have.

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::State;
use crate::model::name::ServerName;
use crate::model::observation::{Observation, Role};
use crate::model::observed::Observed;
use crate::model::topology::{Authentication, Topology};
use crate::pki::{OperatorSecrets, RolePassword};
use crate::plan::Material;
use crate::plan::files::hash::sha256;
use crate::plan::material::Replication;
use crate::render::hba::roles;

/// What servers show of the password that role replicator has.
struct Shown<'a> {
    /// The role on the servers that count; none where no server runs.
    roles: Vec<&'a Role>,
    /// The SHA-256 of the passfile of each server that has one.
    passfiles: Vec<&'a str>,
}

impl<'a> Shown<'a> {
    fn of(topology: &'a Topology, observation: &'a Observation) -> Self {
        let state = State::of(topology, observation);
        let running = state.names(|server| server.instance().is_some());
        let primary = state.primary().filter(|name| running.contains(name));
        let counted = primary.map_or(running, |primary| vec![primary]);
        let roles = counted.iter().filter_map(|name| state.instance(name)?.roles.get(roles::REPLICATOR)).collect();
        let passfiles = topology.servers().filter_map(|server| passfile(observation, &server.name)).collect();
        Self { roles, passfiles }
    }

    /// Says whether the servers have this password; none where they do not show it.
    fn has(&self, replication: &Replication) -> Option<bool> {
        let is_its = |role: &&Role| {
            let sha256 = role.verifier_sha256.as_deref()?;
            let made_anew = || Some(replication.role.has_verifier(role.salted.as_deref()?, sha256));
            Some(replication.verifier_sha256 == sha256 || made_anew().unwrap_or_default())
        };
        let known: Vec<bool> = self.roles.iter().filter_map(is_its).collect();
        if !known.is_empty() {
            return Some(known.iter().all(|is_its| *is_its));
        }
        // A role without a password waits for one. Where nobody runs the passfiles say what was in use.
        let is_asked = !self.roles.is_empty() || self.passfiles.is_empty();
        (!is_asked).then(|| self.passfiles.contains(&sha256(replication.passfile().expose()).as_str()))
    }
}

fn passfile<'a>(observation: &'a Observation, server: &ServerName) -> Option<&'a str> {
    let seen = observation.server(server)?;
    let file = seen.files.get(&seen.layout.known()?.own("passfile")).and_then(Observed::known)?;
    Some(&file.sha256)
}

/// Returns the password of two that servers have: while one takes the place of another, the primary decides.
pub fn in_use<'a>(topology: &Topology, observation: &Observation, secrets: &'a OperatorSecrets) -> &'a RolePassword {
    let shown = Shown::of(topology, observation);
    let has = |password: &RolePassword| shown.has(&Replication::of(password, false)) == Some(true);
    let former = secrets.former_password.as_ref().filter(|former| has(former) && !has(&secrets.replication));
    former.unwrap_or(&secrets.replication)
}

/// Says whether the servers have another password than this one.
pub fn is_another(topology: &Topology, observation: &Observation, password: &RolePassword) -> bool {
    is_by_password(topology) && Shown::of(topology, observation).has(&Replication::of(password, false)) == Some(false)
}

fn is_by_password(topology: &Topology) -> bool {
    topology.common().replication.authentication == Authentication::ScramSha256
}

/// Leaves servers the password that they have, where it is not the one that is kept here.
pub fn keep_anothers(topology: &Topology, observation: &Observation, material: &mut Material) {
    let Some(replication) = &material.replication else { return };
    if is_by_password(topology)
        && !replication.is_new
        && Shown::of(topology, observation).has(replication) == Some(false)
    {
        (material.replication, material.is_password_elsewhere) = (None, true);
    }
}

/// Says whether a server surely does not have the password that is in use: it has none, or another one than all others, which agree.
/// The primary has the new one before the others do.
pub fn lacks(topology: &Topology, observation: &Observation, server: &ServerName) -> bool {
    let Some(its) = passfile(observation, server) else { return true };
    if State::of(topology, observation).primary() == Some(server) {
        return false;
    }
    let names = topology.servers().map(|other| &other.name).filter(|other| *other != server);
    let others: Vec<&str> = names.filter_map(|other| passfile(observation, other)).collect();
    matches!(others.as_slice(), [first, second, ..] if first == second && *first != its)
        && others.iter().all(|other| *other != its)
}

/// Says that the password that is kept here is another one.
pub fn note(material: &Material) -> Option<Diagnostic> {
    material.is_password_elsewhere.then(|| {
        Diagnostic::warning(
            Code::PasswordElsewhere,
            "this machine keeps another password of role replicator than the primary has",
        )
        .detail("Somebody replaced it from another machine, or by hand. The servers keep the one that they have.")
        .hint(HINT)
    })
}

const HINT: &str = "Copy replication.password and replication.verifier, both, from the state directory of the machine that replaced it. Where nobody has them: pgstead rotate passwords";

/// Refuses for each of these servers that does not have the password in use: this machine cannot give it.
pub fn refusals<'a>(
    topology: &Topology,
    observation: &Observation,
    material: &Material,
    servers: impl IntoIterator<Item = &'a ServerName>,
) -> Vec<Diagnostic> {
    let told = |name: &ServerName| {
        let message =
            format!("server \"{name}\" needs the password of role replicator, which this machine does not know");
        Diagnostic::error(Code::PasswordElsewhere, message)
            .server(name)
            .detail("This machine keeps another one than the primary has.")
            .hint(HINT)
    };
    let servers = servers.into_iter().filter(|_| material.is_password_elsewhere);
    servers.filter(|name| lacks(topology, observation, name)).map(told).collect()
}

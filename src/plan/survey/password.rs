//! Which password role replicator has, and what follows where this machine keeps another one.
//!
//! The primary says it, by its verifier and by its passfile, which each of its changes brings to it first. Where none answers a server
//! that runs does. What other servers have may be older: they were down, or were fenced, or have not replayed the change yet.
//!
//! Where it is another one, somebody replaced it from another machine: the one that is kept here is stale, and may be known to whoever
//! it was taken from. It replaces nothing by the way; servers keep the one that they have.

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::State;
use crate::model::name::ServerName;
use crate::model::observation::{FileFact, Observation};
use crate::model::observed::Observed;
use crate::model::topology::{Authentication, Topology};
use crate::pki::{OperatorSecrets, RolePassword};
use crate::plan::Material;
use crate::plan::files::hash::sha256;
use crate::plan::material::Replication;
use crate::render::hba::roles;

/// What the server shows that counts.
struct Witness<'a> {
    name: &'a ServerName,
    /// The SHA-256 of the verifier; none where the role has none, or nobody could ask.
    verifier: Option<&'a str>,
    /// The SHA-256 of its passfile; none where there is none.
    passfile: Option<&'a str>,
}

impl<'a> Witness<'a> {
    fn of(topology: &'a Topology, observation: &'a Observation) -> Option<Self> {
        let state = State::of(topology, observation);
        let running = || state.names(|server| server.instance().is_some()).into_iter().next();
        let name = state.primary().filter(|name| state.instance(name).is_some()).or_else(running)?;
        let role = state.instance(name)?.roles.get(roles::REPLICATOR);
        let verifier = role.and_then(|role| role.verifier_sha256.as_deref());
        let passfile = passfile(observation, name).and_then(Observed::known).map(|file| file.sha256.as_str());
        Some(Self { name, verifier, passfile })
    }
}

fn passfile<'a>(observation: &'a Observation, server: &ServerName) -> Option<&'a Observed<FileFact>> {
    let seen = observation.server(server)?;
    seen.files.get(&seen.layout.known()?.own("passfile"))
}

/// Returns the password of two that servers have: while one takes the place of another, the primary decides.
pub fn in_use<'a>(topology: &Topology, observation: &Observation, secrets: &'a OperatorSecrets) -> &'a RolePassword {
    let has = |former: &&RolePassword| {
        let witness = Witness::of(topology, observation);
        witness.is_some_and(|witness| witness.verifier == Some(former.verifier_sha256().as_str()))
    };
    secrets.former_password.as_ref().filter(has).unwrap_or(&secrets.replication)
}

/// Leaves servers the password that they have, where it is not the one that is kept here. Where the primary shows that one at all, by
/// its verifier or its passfile, a run was interrupted, or somebody changed the other by hand: that is mended.
pub fn keep_anothers(topology: &Topology, observation: &Observation, material: &mut Material) {
    let Some(replication) = &material.replication else { return };
    let is_by_password = topology.common().replication.authentication == Authentication::ScramSha256;
    if is_by_password && !replication.is_new && is_anothers(topology, observation, replication) {
        (material.replication, material.is_password_elsewhere) = (None, true);
    }
}

fn is_anothers(topology: &Topology, observation: &Observation, replication: &Replication) -> bool {
    let wanted = sha256(replication.passfile().expose());
    match Witness::of(topology, observation) {
        Some(Witness { verifier: Some(verifier), passfile: Some(passfile), .. }) => {
            verifier != replication.verifier_sha256 && passfile != wanted
        }
        _ => false,
    }
}

/// Says whether a server does not have the password that is in use.
pub fn lacks(topology: &Topology, observation: &Observation, server: &ServerName) -> bool {
    let Some(its) = passfile(observation, server).and_then(Observed::known) else { return true };
    let witness = Witness::of(topology, observation).filter(|witness| witness.name != server);
    witness.and_then(|witness| witness.passfile).is_some_and(|passfile| passfile != its.sha256)
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

//! The password of role replicator, where this machine keeps another than the one that the servers use.
//!
//! Somebody replaced it from another machine: the one that is kept here is stale, and may be known to whoever it was taken from. It
//! replaces nothing by the way; servers keep the one that they have.

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::State;
use crate::model::name::ServerName;
use crate::model::observation::{FileFact, Observation};
use crate::model::observed::Observed;
use crate::model::topology::{Authentication, Topology};
use crate::plan::Material;
use crate::plan::files::hash::sha256;
use crate::plan::material::Replication;
use crate::render::hba::roles;

/// Leaves servers the password that they have, where none of them knows the one that is kept here. Where one does, a run was
/// interrupted, or somebody changed it on a server by hand: that is mended.
pub fn keep_anothers(topology: &Topology, observation: &Observation, material: &mut Material) {
    let Some(replication) = &material.replication else { return };
    let is_by_password = topology.common().replication.authentication == Authentication::ScramSha256;
    if is_by_password && !replication.is_new && is_anothers(topology, observation, replication) {
        (material.replication, material.is_password_elsewhere) = (None, true);
    }
}

fn is_anothers(topology: &Topology, observation: &Observation, replication: &Replication) -> bool {
    let state = State::of(topology, observation);
    let roles = state.servers().filter_map(|(name, _)| state.instance(name)?.roles.get(roles::REPLICATOR));
    let verifiers: Vec<&String> = roles.filter_map(|role| role.verifier_sha256.as_ref()).collect();
    let wanted = sha256(replication.passfile().expose());
    let passfiles: Vec<&FileFact> =
        state.servers().filter_map(|(name, _)| its_passfile(observation, name)?.known()).collect();
    let knows_ours =
        verifiers.contains(&&replication.verifier_sha256) || passfiles.iter().any(|file| file.sha256 == wanted);
    !verifiers.is_empty() && !passfiles.is_empty() && !knows_ours
}

fn its_passfile<'a>(observation: &'a Observation, server: &ServerName) -> Option<&'a Observed<FileFact>> {
    let seen = observation.server(server)?;
    seen.files.get(&seen.layout.known()?.own("passfile"))
}

/// Says that the password that is kept here is another one.
pub fn note(material: &Material) -> Option<Diagnostic> {
    material.is_password_elsewhere.then(|| {
        Diagnostic::warning(Code::PasswordElsewhere, "this machine keeps another password of role replicator than the servers use")
            .detail("No server knows the one that is kept here. Somebody replaced it from another machine, or by hand. The servers keep the one that they have.")
            .hint("Copy replication.password and replication.verifier from the state directory of the machine that replaced it. Where nobody has them: pgstead rotate passwords")
    })
}

/// Refuses for each of these servers that has no password yet: the one in use is not known here.
pub fn refusals<'a>(
    observation: &Observation,
    material: &Material,
    servers: impl IntoIterator<Item = &'a ServerName>,
) -> Vec<Diagnostic> {
    let has_none = |name: &&ServerName| its_passfile(observation, name).and_then(Observed::known).is_none();
    let told = |name: &ServerName| {
        let message =
            format!("server \"{name}\" needs the password of role replicator, which this machine does not know");
        Diagnostic::error(Code::PasswordElsewhere, message)
            .server(name)
            .detail("This machine keeps another one than the servers use.")
            .hint("Copy replication.password and replication.verifier from the state directory of the machine that replaced it. Where nobody has them: pgstead rotate passwords")
    };
    servers.into_iter().filter(|_| material.is_password_elsewhere).filter(has_none).map(told).collect()
}

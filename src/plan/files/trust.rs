//! Which CAs a server goes on trusting.

use crate::judge::State;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::topology::Topology;
use crate::pki;
use crate::plan::Material;

/// Returns what of a server's bundle of CA certificates stays: all but CAs that pgstead made for this topology and that nobody needs.
/// A server that was away while another CA took the place of one would trust that for good, and whoever has its key.
///
/// Needed are those of this machine, what the primary trusts, and that of which a server has certificates. Where it is not known what
/// the primary trusts, that is everything.
pub(super) fn still_needed(
    topology: &Topology,
    observation: &Observation,
    material: &Material,
    bundle: &str,
    primary: Option<&str>,
) -> String {
    let (Some(primary), Ok(certificates)) = (primary, pki::split_bundle(bundle)) else { return bundle.to_owned() };
    let needed: Vec<String> = material
        .authorities()
        .into_iter()
        .chain([primary])
        .flat_map(|bundle| pki::split_bundle(bundle).unwrap_or_default())
        .collect();
    let leaves = leaves(topology, observation);
    let is_left_over = |one: &String| {
        pki::is_authority_of(one, topology.name())
            && !needed.contains(one)
            && !leaves.iter().any(|leaf| pki::verify_signed_by(leaf, one).is_ok())
    };
    if !certificates.iter().any(is_left_over) {
        return bundle.to_owned();
    }
    certificates.into_iter().filter(|one| !is_left_over(one)).collect()
}

/// The certificates of servers that others verify. One whose place another took, or that has no data, gets others with its copy.
fn leaves<'a>(topology: &Topology, observation: &'a Observation) -> Vec<&'a str> {
    let state = State::of(topology, observation);
    let names = state.names(|server| server.data.is_some() && !server.lost_its_place());
    let leaf = |name| {
        let seen = observation.server(name)?;
        seen.files.get(&seen.layout.known()?.own("tls/server.crt")).and_then(Observed::known)?.content.as_deref()
    };
    names.into_iter().filter_map(leaf).collect()
}

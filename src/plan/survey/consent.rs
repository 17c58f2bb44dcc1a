//! What the operator consented to, and whom a bootstrap passes over for it.

use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::topology::Topology;
use crate::plan::survey::authority;

/// What the operator consented to beyond the ordinary question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Consent {
    /// A serving primary may be restarted.
    pub allow_restart: bool,
    /// Servers may get certificates of another CA than the one whose they have.
    pub new_authority: bool,
}

/// Returns the servers that a bootstrap passes over. Nobody re-seeds a server without the CA's key, and whoever has lost that cannot
/// have it re-seeded before.
pub(in crate::plan) fn passed_over<'a>(
    topology: &'a Topology,
    observation: &'a Observation,
    consent: Consent,
) -> Vec<&'a ServerName> {
    if consent.new_authority { authority::passed_over(topology, observation) } else { Vec::new() }
}

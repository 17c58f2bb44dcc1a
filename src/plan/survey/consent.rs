//! What the operator consented to, and whom a bootstrap passes over for it.

use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::topology::Topology;
use crate::plan::survey::authority;
use crate::plan::survey::left_out::left_out;

/// What the operator consented to beyond the ordinary question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Consent {
    /// A serving primary may be restarted.
    pub allow_restart: bool,
    /// Servers may get certificates of another CA than the one whose they have.
    pub new_authority: bool,
}

/// Returns the servers that a bootstrap passes over: those that the operator leaves out; and where a CA was lost, those that are to
/// be re-seeded, since nobody re-seeds a server without the CA's key.
pub fn passed_over<'a>(topology: &'a Topology, observation: &'a Observation, consent: Consent) -> Vec<&'a ServerName> {
    let fenced = if consent.new_authority { authority::passed_over(topology, observation) } else { Vec::new() };
    left_out(observation).into_iter().chain(fenced).collect()
}

//! Every file that a finished topology has, for `render`. Secret files are named and not shown.

use crate::diagnostic::Diagnostic;
use crate::judge;
use crate::judge::ServerState;
use crate::model::identity::Configuration;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::topology::Topology;
use crate::plan::files::desired;
use crate::plan::files::parameters::{ConfRole, synchronous_standby_names};
use crate::plan::seen::Seen;
use crate::plan::{FileChange, Material, files};

/// Returns the files of all servers that have a known layout, with what stands there now.
///
/// # Errors
/// A template is broken.
pub fn rendered(
    topology: &Topology,
    observation: &Observation,
    material: &Material,
) -> Result<Vec<(ServerName, FileChange)>, Diagnostic> {
    let primary = judge::primary_or_preferred(topology, observation);
    let links = topology.links(primary);
    let names = topology.synchronous(primary).as_ref().map(synchronous_standby_names).unwrap_or_default();
    let look = |server| {
        let seen = observation.server(&topology.server(server)?.name)?;
        let state = ServerState::of_seen(seen);
        let configuration = state.configuration();
        Some(Seen {
            topology: topology.name(),
            version: topology.common().version,
            server: topology.server(server)?,
            seen,
            layout: seen.layout.known()?,
            // Files that stay the operator's are compared in our parts of them alone.
            data: state.data.filter(|_| configuration == Configuration::Kept),
            instance: state.instance(),
            configuration,
            adopted: false,
        })
    };
    let seen_primary = look(primary);
    let mut files = Vec::new();
    for server in topology.servers() {
        let Some(seen) = look(&server.name) else { continue };
        let role = match links.iter().find(|link| link.standby == server.name) {
            None => ConfRole::Primary(names.clone()),
            Some(link) => desired::standby_role(topology, seen, &link.upstream),
        };
        let wanted = desired::wanted(
            topology,
            observation,
            material,
            seen,
            seen_primary.filter(|_| seen.configuration == Configuration::Kept),
            role,
        )?;
        for entry in wanted.outside.into_iter().chain(wanted.inside) {
            files.extend(files::change(seen.seen, &entry).map(|change| (server.name.clone(), change)));
        }
    }
    Ok(files)
}

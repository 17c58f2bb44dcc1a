//! Which addresses servers have, as far as files must name them.
//!
//! What a server's connections come from is taken from what was observed, not from the inventory alone: a second
//! network card or a loopback lab shows another source than the address that is dialled (field.md, rows 1 and 3).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::model::hba::Cidr;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::topology::Server;
use crate::model::topology::Topology;
use crate::render::hba::PeerAccess;

/// Returns the IP addresses at which a server is dialled: its own, or what its name resolves to on the others.
pub fn dialled(topology: &Topology, observation: &Observation, server: &Server) -> BTreeSet<IpAddr> {
    match server.address.ip() {
        Some(ip) => BTreeSet::from([ip]),
        None => topology
            .servers()
            .filter_map(|other| observation.server(&other.name)?.peers.get(&server.name))
            .flat_map(|peer| peer.resolved.iter().copied())
            .collect(),
    }
}

/// Returns the addresses from which a server's connections come.
pub fn sources(topology: &Topology, observation: &Observation, server: &Server) -> BTreeSet<IpAddr> {
    let mut sources = dialled(topology, observation, server);
    if let Some(seen) = observation.server(&server.name) {
        sources.extend(seen.peers.values().filter_map(|peer| peer.source));
    }
    sources
}

/// Returns the servers by the address from which their connections come.
pub fn peers(topology: &Topology, observation: &Observation) -> Vec<PeerAccess> {
    let mut by_address: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    for server in topology.servers() {
        for ip in sources(topology, observation, server) {
            by_address.entry(ip).or_default().push(server.name.to_string());
        }
    }
    by_address.into_iter().map(|(ip, servers)| PeerAccess { address: Cidr::single(ip).to_string(), servers }).collect()
}

/// Returns the addresses that an instance listens on: those that are dialled and are the server's own, with the local
/// ones beside them; never a wildcard (hazard 91).
///
/// On a loopback lab several servers share `localhost`, so there each listens on its own address alone.
pub fn listen(topology: &Topology, observation: &Observation, server: &Server) -> Vec<IpAddr> {
    let own: BTreeSet<IpAddr> =
        observation.server(&server.name).map(|seen| seen.addresses.iter().copied().collect()).unwrap_or_default();
    let dialled = dialled(topology, observation, server);
    if !dialled.is_empty() && dialled.iter().all(IpAddr::is_loopback) {
        return dialled.into_iter().collect();
    }
    let mut listen: Vec<IpAddr> = dialled.intersection(&own).copied().collect();
    if listen.is_empty() {
        // The dialled address is translated on the way (NAT): listen where this server's own connections start.
        let seen = observation.server(&server.name);
        let sources: BTreeSet<IpAddr> =
            seen.iter().flat_map(|seen| seen.peers.values().filter_map(|peer| peer.source)).collect();
        listen.extend(sources);
    }
    listen.push(IpAddr::from([127, 0, 0, 1]));
    listen
}

/// Returns the address that an SSH forward on the server itself connects to.
pub fn forward_target(topology: &Topology, observation: &Observation, server: &ServerName) -> Option<IpAddr> {
    listen(topology, observation, topology.server(server)?).into_iter().next()
}

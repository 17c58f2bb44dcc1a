//! Which addresses servers have, as far as files must name them.
//!
//! What a server's connections come from is taken from what was observed, not from the inventory alone: a second
//! network card or a loopback lab shows another source than the address that is dialled (field.md, rows 1 and 3).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::ServerState;
use crate::model::hba::Cidr;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::topology::{Server, Topology};
use crate::render::hba::{PeerAccess, admitted};

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
        for peer in seen.peers.values() {
            sources.extend(peer.source);
            sources.extend(peer.routes.iter().map(|route| route.source));
            sources.extend(peer.seen_as.known());
        }
        return sources;
    }
    // Where it could not be looked at, it will come from where it came before: what found that out is in the others' files.
    for seen in topology.servers().filter_map(|other| observation.server(&other.name)) {
        let Some(layout) = seen.layout.known() else { continue };
        let text = |name: &str| {
            let path = [layout.config_home(), "/", name].concat();
            seen.files.get(&path).and_then(Observed::known).and_then(|fact| fact.content.as_deref())
        };
        let (hba, ident) = (text("pg_hba.conf").unwrap_or_default(), text("pg_ident.conf").unwrap_or_default());
        let own = |(ip, name): (IpAddr, String)| (name == server.name.as_str()).then_some(ip);
        sources.extend(admitted(hba, ident).into_iter().filter_map(own));
    }
    sources
}

/// A call from one server to another, to hear from there which address the caller has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Meeting {
    /// Who calls.
    pub caller: ServerName,
    /// Who is called.
    pub called: ServerName,
}

/// Returns the calls without which the address that a server has for another is not known: those whose way is not plainly
/// direct, so that a router between them may translate it, and those of a standby that does not come where it is
/// expected. Where all are neighbours and well, there are none.
pub fn meetings(topology: &Topology, observation: &Observation) -> BTreeSet<Meeting> {
    let mut meetings = BTreeSet::new();
    for caller in topology.servers() {
        let Some(seen) = observation.server(&caller.name).filter(|seen| seen.layout.known().is_some()) else {
            continue;
        };
        for (called, peer) in &seen.peers {
            let is_there = observation.server(called).is_some_and(|seen| seen.layout.known().is_some());
            let is_known = is_direct(topology, observation, caller, called) && !is_missing(observation, caller, called);
            if is_there && peer.seen_as == Observed::NotAsked && !is_known {
                meetings.insert(Meeting { caller: caller.name.clone(), called: called.clone() });
            }
        }
    }
    meetings
}

/// Says whether every way from one server to another leads over a network that both are on, from the address under which
/// the first is known.
fn is_direct(topology: &Topology, observation: &Observation, caller: &Server, called: &ServerName) -> bool {
    let (Some(from), Some(to)) = (observation.server(&caller.name), observation.server(called)) else { return true };
    let known = dialled(topology, observation, caller);
    let routes = from.peers.get(called).map(|peer| peer.routes.as_slice()).unwrap_or_default();
    // One machine has many loopback addresses and chooses its source freely; nobody translates it.
    routes
        .iter()
        .filter(|route| !route.to.is_loopback())
        .all(|route| route.via.is_none() && to.addresses.contains(&route.to) && known.contains(&route.source))
}

/// Puts what servers once told each other into a later observation: nobody is asked twice in one run.
pub fn remember(before: &Observation, now: &mut Observation) {
    for (name, seen) in &mut now.servers {
        let (Observed::Known(seen), Some(earlier)) = (seen, before.server(name)) else { continue };
        for (called, peer) in &mut seen.peers {
            if let Some(earlier) = earlier.peers.get(called) {
                peer.seen_as = earlier.seen_as.clone();
            }
        }
    }
}

/// Says whether a standby's slot waits for it in vain on its running upstream: it may be turned away.
fn is_missing(observation: &Observation, caller: &Server, called: &ServerName) -> bool {
    let instance = ServerState::of(observation.servers.get(called)).instance();
    let slot = instance.and_then(|instance| instance.slots.get(&caller.name.slot_name()));
    slot.is_some_and(|slot| !slot.active)
}

/// Returns what an operator should know about translated addresses: those that were found out, and those that were not.
pub fn notes(topology: &Topology, observation: &Observation) -> Vec<Diagnostic> {
    let mut notes = Vec::new();
    for caller in topology.servers() {
        let Some(seen) = observation.server(&caller.name) else { continue };
        let name = &caller.name;
        for (called, peer) in &seen.peers {
            match &peer.seen_as {
                Observed::Known(ip) if peer.routes.iter().any(|route| route.source == *ip) => {}
                Observed::Known(ip) => notes.push(
                    Diagnostic::note(
                        Code::AddressTranslated,
                        format!("server \"{called}\" sees connections from \"{name}\" come from {ip}"),
                    )
                    .server(called)
                    .detail(format!(
                        "Something between them translates the address. HBA records for \"{name}\" name {ip} too."
                    )),
                ),
                _ if is_direct(topology, observation, caller, called) => {}
                other => notes.push(
                    Diagnostic::warning(
                        Code::AddressNotSeen,
                        format!("under which address \"{called}\" sees \"{name}\" could not be found out"),
                    )
                    .server(name)
                    .detail(format!(
                        "The way there leads through a router: {}.",
                        other.unreadable().unwrap_or("not asked").trim().trim_end_matches('.')
                    ))
                    .hint(format!("Where the router keeps addresses, nothing is amiss. Where it translates them, \"{called}\" turns \"{name}\" away, and the failure names the address that it saw.")),
                ),
            }
        }
    }
    notes
}

/// Returns the address that PostgreSQL names when no HBA record admits a connection.
pub fn not_admitted(said: &str) -> Option<IpAddr> {
    let said = said.split_once("no pg_hba.conf entry for ").or(said.split_once("pg_hba.conf rejects "))?.1;
    said.split_once("host \"")?.1.split_once('"')?.0.parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_in_the_words_of_postgresql() {
        let said = |text: &str| not_admitted(text).map(|ip| ip.to_string());
        let replication = "FATAL:  no pg_hba.conf entry for replication connection from host \"10.0.0.7\", user \"replicator\", no encryption";
        assert_eq!(said(replication).as_deref(), Some("10.0.0.7"));
        let rejected = "FATAL:  pg_hba.conf rejects replication connection for host \"fd00::7\", user \"replicator\", SSL encryption";
        assert_eq!(said(rejected).as_deref(), Some("fd00::7"));
        assert_eq!(said("FATAL:  no pg_hba.conf entry for host \"[local]\", user \"x\""), None);
        assert_eq!(said("FATAL:  password authentication failed for host \"10.0.0.7\""), None);
    }
}

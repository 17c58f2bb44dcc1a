//! Connections under the name of a standby that has no data directory: what an interrupted base backup left on the
//! upstream, or somebody else (hazard 17).
//!
//! A server that lost its power in the middle of a copy stays connected until TCP gives it up, and its slot stays taken.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::State;
use crate::model::name::ServerName;
use crate::model::observation::{Instance, Observation, Sender, ServerObservation};
use crate::model::topology::{Link, Server, Topology};
use crate::plan::links::network;
use crate::plan::seen::Seen;
use crate::plan::step::{Risk, Step};
use crate::plan::steps::sql;

/// Returns the addresses of a server from which connections under its name are left on its upstream; `None` where there
/// are no such connections.
pub fn of<'a>(
    topology: &Topology,
    observation: &Observation,
    standby: Seen<'_>,
    upstream: Seen<'a>,
) -> Option<BTreeSet<&'a str>> {
    let (own, _) = apart(topology, observation, standby.server, standby.seen, upstream.instance);
    (!own.is_empty()).then_some(own)
}

/// Returns the step that ends these connections.
pub fn end(standby: Seen<'_>, upstream: Seen<'_>, addresses: &BTreeSet<&str>) -> Step {
    let name = &standby.server.name;
    let title = format!("end the walsenders that \"{name}\" left");
    let command = sql::psql(upstream.layout, upstream.server, sql::end_senders(name, addresses));
    Step::run(&upstream.server.name, Risk::Reversible, title, vec![command])
}

/// Returns why a copy cannot begin: somebody else streams under the standby's name, so that the inventory's address of the
/// standby may be wrong.
pub fn refusals(
    topology: &Topology,
    observation: &Observation,
    servers: &BTreeMap<ServerName, Seen<'_>>,
    links: &[Link],
) -> Vec<Diagnostic> {
    let of_link = |link: &Link| {
        let (standby, upstream) = (*servers.get(&link.standby)?, *servers.get(&link.upstream)?);
        // An existing primary's slots and consumers are its adoption's matter.
        if standby.data.is_some() || upstream.adopted {
            return None;
        }
        let (_, others) = apart(topology, observation, standby.server, standby.seen, upstream.instance);
        let from = others.first()?;
        Some(refused(&link.upstream, standby.server, from, ", which has no data directory,"))
    };
    links.iter().filter_map(of_link).collect()
}

/// Returns why two servers have one name: somebody streams under the name of a server, from elsewhere.
pub fn foreign(state: &State<'_>, name: &ServerName) -> Option<Diagnostic> {
    let (server, seen) = (state.topology.server(name)?, state.seen(name)?);
    state.servers().find_map(|(upstream, of_upstream)| {
        let (_, others) = apart(state.topology, state.observation, server, seen, of_upstream.instance());
        Some(refused(upstream, server, others.first()?, ""))
    })
}

fn refused(upstream: &ServerName, standby: &Server, from: &str, what: &str) -> Diagnostic {
    let name = &standby.name;
    let message = format!("server \"{upstream}\": somebody else streams under the name of \"{name}\"");
    Diagnostic::error(Code::StandbyElsewhere, message)
        .server(upstream)
        .detail(format!("The connection comes from {from}, and \"{name}\"{what} is {}.", standby.address))
        .hint(format!(
            "If that is the real \"{name}\", correct its address in the inventory. Otherwise end what connects there."
        ))
}

/// The addresses of connections under the standby's name: the standby's own, and others.
fn apart<'a>(
    topology: &Topology,
    observation: &Observation,
    standby: &Server,
    seen: &ServerObservation,
    upstream: Option<&'a Instance>,
) -> (BTreeSet<&'a str>, BTreeSet<&'a str>) {
    let mut known: BTreeSet<String> =
        network::sources(topology, observation, standby).iter().map(ToString::to_string).collect();
    known.extend(seen.addresses.iter().map(ToString::to_string));
    let name = standby.name.as_str();
    let is_its = |sender: &&'a Sender| sender.application_name == name;
    let senders = upstream.into_iter().flat_map(|instance| &instance.senders).filter(is_its);
    senders
        .map(|sender| sender.client_addr.as_deref().unwrap_or("a local socket"))
        .partition(|from| known.contains(*from))
}

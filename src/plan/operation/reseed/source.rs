//! Whom new data come from. A rewind needs a source that accepts writes (hazard 75); a base backup comes from a standby at the
//! server's own site, where its upstream is at another: the line between the sites is the dear one.

use std::collections::BTreeMap;

use crate::judge::link::receives_from;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::topology::{Link, Server, Topology};
use crate::plan::seen::Seen;
use crate::plan::survey::{Survey, Unsaid, survey_of};

/// Returns the standby at a server's site that sends a base backup instead of its upstream, where there is one: it streams,
/// nothing is to be said against it, and it does not follow the server.
pub(super) fn nearer<'a>(
    topology: &'a Topology,
    observation: &'a Observation,
    primary: &ServerName,
    link: &Link,
) -> Option<Seen<'a>> {
    let site = |name: &ServerName| topology.server(name).map(|server| &server.site);
    if site(&link.upstream) == site(&link.standby) {
        return None;
    }
    let upstreams: BTreeMap<ServerName, ServerName> =
        topology.links(primary).into_iter().map(|link| (link.standby, link.upstream)).collect();
    let follows = |name: &ServerName| {
        let mut chain = std::iter::successors(upstreams.get(name), |upstream| upstreams.get(*upstream));
        chain.any(|upstream| *upstream == link.standby)
    };
    let is_near = |server: &&Server| {
        let name = &server.name;
        site(name) == site(&link.standby) && *name != link.standby && upstreams.contains_key(name) && !follows(name)
    };
    let near: Vec<&ServerName> = topology.servers().filter(is_near).map(|server| &server.name).collect();
    let Survey { servers, refusals, .. } =
        survey_of(topology, observation, Unsaid::default(), |one| near.contains(&one));
    let streams = |seen: &Seen<'_>| {
        let standby = seen.state().standby();
        standby.is_some_and(|instance| receives_from(topology, instance).is_some())
    };
    let is_well = |name: &ServerName| refusals.iter().all(|refusal| refusal.server.as_deref() != Some(name.as_str()));
    servers.into_iter().find(|(name, seen)| is_well(name) && streams(seen)).map(|(_, seen)| seen)
}

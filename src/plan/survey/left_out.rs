//! Servers that the operator leaves out (`--without`): nobody looks at them, nothing on them is changed, and everything that others
//! keep for them stays: their slots, their records in pg_hba.conf, their place among the peers of the start guard.

use std::collections::BTreeMap;

use crate::diagnostic::Code;
use crate::diagnostic::Diagnostic;
use crate::judge::link;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::parameter::HOT_STANDBY_PARAMETERS;
use crate::model::topology::Link;
use crate::model::topology::Topology;
use crate::plan::files::decided::Change;
use crate::plan::files::decided::Decided;
use crate::plan::files::decided::Direction;
use crate::plan::seen::Seen;

/// Returns the servers that were left out: nobody was to look at them.
pub fn left_out(observation: &Observation) -> Vec<&ServerName> {
    let servers = observation.servers.iter();
    servers.filter(|(_, seen)| matches!(seen, Observed::NotAsked)).map(|(name, _)| name).collect()
}

/// Says that a server is left out.
pub fn told(server: &ServerName) -> Diagnostic {
    Diagnostic::note(Code::LeftOut, format!("server \"{server}\" is left out: pgstead neither looks at it nor changes it"))
        .server(server)
        .detail("Its slot, its records in pg_hba.conf and its certificates stay as they are. While it is away, its slot may keep WAL on its upstream, up to max_slot_wal_keep_size.")
        .hint("When it answers again, run the same command without --without: that completes it.")
}

/// Returns the standbys that receive WAL from a server that is left out, and are to follow another one: it runs, and may be the
/// primary.
pub(in crate::plan) fn still_sending(
    topology: &Topology,
    observation: &Observation,
    primary: &ServerName,
    servers: &BTreeMap<ServerName, Seen<'_>>,
) -> Vec<Diagnostic> {
    let left_out = left_out(observation);
    servers.values().filter_map(|seen| follows(topology, *seen, primary, &left_out)).collect()
}

/// Says why the others cannot be planned for without those that are left out.
pub(in crate::plan) fn refusals(
    observation: &Observation,
    primary: &ServerName,
    links: &[Link],
    decided: &BTreeMap<&ServerName, Decided<'_>>,
) -> Vec<Diagnostic> {
    let left_out = left_out(observation);
    let mut refusals = Vec::new();
    if left_out.is_empty() {
        return refusals;
    }
    let seen_primary = decided.get(primary);
    if seen_primary.is_none_or(|server| server.seen.data.is_none()) {
        refusals.push(no_new_primary(primary, &left_out));
        return refusals;
    }
    for link in links.iter().filter(|link| left_out.contains(&&link.upstream)) {
        let Some(standby) = decided.get(&link.standby) else { continue };
        let is_new = standby.seen.data.is_none();
        if is_new || matches!(standby.change, Change::Restart { .. }) {
            refusals.push(upstream_is_missing(link, primary, is_new));
        }
    }
    // A standby that has less than its primary stops replaying, or does not start (hazard 38).
    if let Some(Decided { change: Change::Restart { parameters }, .. }) = seen_primary {
        let rises = |(name, way): &&(String, Direction)| {
            *way == Direction::Rises && HOT_STANDBY_PARAMETERS.contains(&name.as_str())
        };
        refusals.extend(parameters.iter().find(rises).map(|(name, _)| would_stop(name, primary, &left_out)));
    }
    refusals
}

fn names(servers: &[&ServerName]) -> String {
    servers.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

fn no_new_primary(primary: &ServerName, left_out: &[&ServerName]) -> Diagnostic {
    Diagnostic::error(Code::LeftOutNeeded, "a new primary is made only where every server was looked at")
        .server(primary)
        .detail(format!("Server \"{primary}\" has no data yet. {} may have the data of this topology, and is left out.", names(left_out)))
        .hint("Run the command without --without. A server that does not exist yet belongs into the inventory when it does.")
}

fn follows(topology: &Topology, seen: Seen<'_>, primary: &ServerName, left_out: &[&ServerName]) -> Option<Diagnostic> {
    let instance = seen.instance?;
    let from = left_out.iter().find(|name| link::streams_from(topology, instance, name))?;
    let name = &seen.server.name;
    let is_wished = topology.links(primary).iter().any(|link| link.standby == *name && link.upstream == **from);
    (!is_wished).then(|| {
        Diagnostic::error(
            Code::LeftOutNeeded,
            format!("server \"{name}\" receives WAL from \"{from}\", which is left out"),
        )
        .server(name)
        .detail(format!("So \"{from}\" runs, and may accept writes. The plan would take \"{name}\" away from it."))
        .hint(format!("Make \"{from}\" reachable over SSH, and run the command without --without."))
    })
}

fn upstream_is_missing(link: &Link, primary: &ServerName, is_new: bool) -> Diagnostic {
    let Link { standby, upstream } = link;
    let why = if is_new {
        "It would be copied, and could not be proven."
    } else {
        "It would be restarted, and could not be proven."
    };
    Diagnostic::error(Code::LeftOutNeeded, format!("server \"{standby}\" gets its WAL from \"{upstream}\", which is left out"))
        .server(standby)
        .detail(why)
        .hint(format!("Leave \"{standby}\" out, too (--without {standby}), or let it follow the primary: servers.{standby}.upstream: {primary}."))
}

fn would_stop(parameter: &str, primary: &ServerName, left_out: &[&ServerName]) -> Diagnostic {
    Diagnostic::error(
        Code::LeftOutNeeded,
        format!("{parameter} would rise on \"{primary}\", and not on {}", names(left_out)),
    )
    .server(primary)
    .detail("A standby that has less of it than its primary stops replaying, and does not start.")
    .hint("Change it when every server answers: take it back in the inventory until then.")
}

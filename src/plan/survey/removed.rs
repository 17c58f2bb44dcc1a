//! Servers that were taken out of the inventory: what the others still have of them tells who they were.
//!
//! Their lists of peers are all that tells it. So a server stays listed until nobody keeps WAL for it any more: an interrupted run, or
//! one that found it streaming, is followed by one that knows it.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Code, Diagnostic};
use crate::model::name::ServerName;
use crate::model::topology::Topology;
use crate::plan::files::guard;
use crate::plan::seen::Seen;

/// The servers that others list as peers and the inventory does not have, and the one that is removed in this run.
#[derive(Debug)]
pub struct Removed {
    /// All of them.
    pub names: BTreeSet<ServerName>,
    /// Those that go on streaming: the others know them further on.
    pub stay: BTreeSet<ServerName>,
}

/// Returns the servers that leave. `leaving` is the one that an operator removes in this run.
pub fn removed(topology: &Topology, servers: &BTreeMap<ServerName, Seen<'_>>, leaving: Option<&ServerName>) -> Removed {
    let names = listed(topology, servers).chain(leaving.cloned()).collect::<BTreeSet<_>>();
    let streams = |name: &&ServerName| Some(*name) != leaving && upstream_of(servers, name).is_some();
    let stay = names.iter().filter(streams).cloned().collect();
    Removed { names, stay }
}

/// Returns the servers that others list as peers and the inventory does not have.
pub fn listed<'a>(
    topology: &Topology,
    servers: &'a BTreeMap<ServerName, Seen<'a>>,
) -> impl Iterator<Item = ServerName> {
    let peers = servers.values().flat_map(|seen| guard::listed_peers(*seen));
    peers.filter(|name| guard::has_left(topology, name))
}

/// Says what becomes of each, but for the one that an operator removes: its removal says it.
pub fn told(
    servers: &BTreeMap<ServerName, Seen<'_>>,
    removed: &Removed,
    leaving: Option<&ServerName>,
) -> Vec<Diagnostic> {
    let others = removed.names.iter().filter(|name| Some(*name) != leaving);
    others.map(|name| of_one(servers, name)).collect()
}

/// Says why a primary that does not run is not started by a run that takes servers out: one of them may have been promoted, and
/// its start guard would ask it no more.
pub fn refusal(
    primary: &ServerName,
    seen: Option<&Seen<'_>>,
    removed: &Removed,
    leaving: Option<&ServerName>,
) -> Option<Diagnostic> {
    seen.filter(|seen| seen.data.is_some() && seen.instance.is_none())?;
    let Some(name) = removed.names.iter().find(|name| Some(*name) != leaving) else {
        let name = removed.names.first()?;
        let message = format!("server \"{name}\" cannot leave now: the primary \"{primary}\" does not run");
        return Some(
            Diagnostic::error(Code::ServerRemoved, message)
                .server(primary)
                .detail(format!("\"{name}\" may have been promoted in its place, and nobody would ask it any more."))
                .hint(format!("First: pgstead bootstrap. Where \"{name}\" cannot be reached, start the instance of \"{primary}\" on the server itself: its start guard still asks \"{name}\". Then run the same command again.")),
        );
    };
    let message =
        format!("server \"{name}\" is not in the inventory any more, and the primary \"{primary}\" does not run");
    Some(
        Diagnostic::error(Code::ServerRemoved, message)
            .server(primary)
            .detail(format!("\"{name}\" may have been promoted in its place, and nobody would ask it any more."))
            .hint(format!("Start the instance of \"{primary}\" on the server itself: its start guard still asks \"{name}\". Or put \"{name}\" back into the inventory. Then run the same command again.")),
    )
}

/// Returns the server from which one receives WAL through its slot.
fn upstream_of<'a>(servers: &'a BTreeMap<ServerName, Seen<'_>>, name: &ServerName) -> Option<&'a ServerName> {
    let uses = |seen: &&Seen<'_>| {
        seen.instance.and_then(|instance| instance.slots.get(&name.slot_name())).is_some_and(|slot| slot.active)
    };
    servers.values().find(uses).map(|seen| &seen.server.name)
}

fn of_one(servers: &BTreeMap<ServerName, Seen<'_>>, name: &ServerName) -> Diagnostic {
    let message = format!("server \"{name}\" is not in the inventory any more");
    let told = Diagnostic::warning(Code::ServerRemoved, message);
    match upstream_of(servers, name) {
        Some(upstream) => told
            .server(upstream)
            .detail(format!("It still receives WAL from \"{upstream}\", through slot \"{}\", which stays. When its connection ends, it is refused, and the slot keeps WAL for it, up to max_slot_wal_keep_size.", name.slot_name()))
            .hint(format!("If it is to go: pgstead remove {name}. That ends its connection, and drops the slot.")),
        None => told
            .detail("The others admit it no more, do not ask it before they start, and keep no WAL for it. Its instance and its files are not touched.")
            .hint("Make sure that its instance does not run. Started by somebody, it could become a second primary."),
    }
}

/// Says that the inventory still has a server that an operator has removed.
pub fn still_listed(name: &ServerName) -> Diagnostic {
    Diagnostic::warning(Code::ServerRemoved, format!("server \"{name}\" was removed, and is in the inventory still"))
        .server(name)
        .detail("A bootstrap makes it a standby again, and so does a change of the primary.")
        .hint(format!("If it is to stay away, take servers.{name} out of the inventory first."))
}

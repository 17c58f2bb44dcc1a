//! Servers that were taken out of the inventory: what the others still have of them tells who they were.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Code, Diagnostic};
use crate::model::name::ServerName;
use crate::model::topology::Topology;
use crate::plan::files::guard;
use crate::plan::seen::Seen;

/// Returns the servers that others list as peers and the inventory does not have.
pub fn removed(topology: &Topology, servers: &BTreeMap<ServerName, Seen<'_>>) -> BTreeSet<ServerName> {
    let peers = servers.values().flat_map(|seen| guard::listed_peers(*seen));
    // One that has only got another spelling has the same slot.
    let is_there = |name: &ServerName| topology.servers().any(|server| server.name.slot_name() == name.slot_name());
    peers.filter(|name| !is_there(name)).collect()
}

/// Says what becomes of each.
pub fn told(servers: &BTreeMap<ServerName, Seen<'_>>, removed: &BTreeSet<ServerName>) -> Vec<Diagnostic> {
    removed.iter().map(|name| of_one(servers, name)).collect()
}

/// Says why a primary that does not run is not started by a run that takes servers out: one of them may have been promoted, and
/// its start guard would ask it no more.
pub fn refusal(primary: &ServerName, seen: Option<&Seen<'_>>, removed: &BTreeSet<ServerName>) -> Option<Diagnostic> {
    let name = removed.first()?;
    seen.filter(|seen| seen.data.is_some() && seen.instance.is_none())?;
    let message =
        format!("server \"{name}\" is not in the inventory any more, and the primary \"{primary}\" does not run");
    Some(
        Diagnostic::error(Code::ServerRemoved, message)
            .server(primary)
            .detail(format!("\"{name}\" may have been promoted in its place, and nobody would ask it any more."))
            .hint(format!("Start the instance of \"{primary}\" on the server itself: its start guard still asks \"{name}\". Or put \"{name}\" back into the inventory. Then run the same command again.")),
    )
}

fn of_one(servers: &BTreeMap<ServerName, Seen<'_>>, name: &ServerName) -> Diagnostic {
    let uses = |seen: &&Seen<'_>| {
        seen.instance.and_then(|instance| instance.slots.get(&name.slot_name())).is_some_and(|slot| slot.active)
    };
    let message = format!("server \"{name}\" is not in the inventory any more");
    let told = Diagnostic::warning(Code::ServerRemoved, message);
    match servers.values().find(uses) {
        Some(upstream) => {
            let upstream = &upstream.server.name;
            told.server(upstream)
                .detail(format!("It still receives WAL from \"{upstream}\", through slot \"{}\", which stays. When its connection ends, it is refused, and the slot keeps WAL for it, up to max_slot_wal_keep_size.", name.slot_name()))
                .hint(format!("If it is to go, stop its instance before this run, which then drops the slot. Later you drop it yourself: SELECT pg_drop_replication_slot('{}') on \"{upstream}\".", name.slot_name()))
        }
        None => told
            .detail("The others admit it no more, do not ask it before they start, and keep no WAL for it. Its instance and its files are not touched.")
            .hint("Make sure that its instance does not run. Started by somebody, it could become a second primary."),
    }
}

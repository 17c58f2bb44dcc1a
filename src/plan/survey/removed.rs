//! Servers that were taken out of the inventory: what the others still have of them tells who they were.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::diagnostic::Code;
use crate::diagnostic::Diagnostic;
use crate::model::name::ServerName;
use crate::model::topology::Topology;
use crate::plan::files::guard;
use crate::plan::seen::Seen;

/// Returns the servers that others list as peers and the inventory does not have.
pub fn removed(topology: &Topology, servers: &BTreeMap<ServerName, Seen<'_>>) -> BTreeSet<ServerName> {
    let peers = servers.values().flat_map(|seen| guard::listed_peers(*seen));
    peers.filter(|name| topology.server(name).is_none()).collect()
}

/// Says what becomes of each.
pub fn told(servers: &BTreeMap<ServerName, Seen<'_>>, removed: &BTreeSet<ServerName>) -> Vec<Diagnostic> {
    removed.iter().map(|name| of_one(servers, name)).collect()
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
            .hint("Make sure that its instance does not run: nobody guards it against a second primary."),
    }
}

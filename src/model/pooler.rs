//! PgBouncer beside an instance: what the inventory says of it, and what its console says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::topology::Server;

/// How PgBouncer is reached on each server: as the OS user it runs as, who may use its console over the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pooler {
    /// Where it listens.
    pub port: u16,
    /// The directory of its socket.
    pub socket_directory: String,
    /// The OS user that it runs as.
    pub os_user: String,
    /// How long a pause may wait for transactions that are under way, in seconds; clients wait meanwhile.
    pub pause_timeout_s: u64,
}

/// What the console of one PgBouncer says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pools {
    /// Its databases by name, without the console's own.
    pub databases: BTreeMap<String, Pool>,
}

/// One database of a PgBouncer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Where it connects to; empty for a socket.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// Whether its clients wait.
    pub is_paused: bool,
}

impl Pool {
    /// Says whether it leads to a server.
    pub fn leads_to(&self, server: &Server) -> bool {
        self.host == server.address.to_string() && self.port == server.port
    }
}

//! What each server is: judged once from what was seen, for plans, checks, preflights and pictures alike.
//!
//! [`State::of`] makes one value of a topology and an observation. Whoever decides asks that value; nobody else derives these
//! facts from the raw observation, which `tests/tidy.rs` enforces. It says what is. What to do about it, and in which words,
//! is for whoever asks. Pure, like all of this layer.

pub mod link;
pub mod ownership;
mod server;
pub mod wal;

use std::collections::BTreeMap;

use crate::model::name::ServerName;
use crate::model::observation::{Instance, Observation, ServerObservation};
use crate::model::observed::Observed;
use crate::model::topology::Topology;

pub use server::{Role, ServerState, StartsAs, Writes};

/// Returns the server that accepts writes, where exactly one reachable server does.
pub fn primary<'a>(topology: &'a Topology, observation: &Observation) -> Option<&'a ServerName> {
    let state = State::of(topology, observation);
    let primary = state.primary()?;
    topology.servers().map(|server| &server.name).find(|name| *name == primary)
}

/// Returns the primary, or the server that the inventory prefers where nobody or more than one accepts writes.
pub fn primary_or_preferred<'a>(topology: &'a Topology, observation: &Observation) -> &'a ServerName {
    primary(topology, observation).unwrap_or_else(|| topology.preferred_primary())
}

/// Returns the observation as it would be if a server's data directory had its `standby.signal`.
pub fn as_standby(observation: &Observation, name: &ServerName) -> Observation {
    let mut meant = observation.clone();
    if let Some(Observed::Known(seen)) = meant.servers.get_mut(name)
        && let Observed::Known(data) = &mut seen.data_directory
    {
        data.standby_signal = true;
    }
    meant
}

/// What all servers of a topology are, with what it was judged from.
#[derive(Debug, Clone)]
pub struct State<'a> {
    /// What is wanted.
    pub topology: &'a Topology,
    /// What was seen.
    pub observation: &'a Observation,
    servers: BTreeMap<&'a ServerName, ServerState<'a>>,
}

impl<'a> State<'a> {
    /// Judges what was seen.
    pub fn of(topology: &'a Topology, observation: &'a Observation) -> Self {
        let names = topology.servers().map(|server| &server.name);
        let servers = names.map(|name| (name, ServerState::of(observation.servers.get(name))));
        Self { topology, observation, servers: servers.collect() }
    }

    /// Returns every server with its state, in the topology's order.
    pub fn servers(&self) -> impl Iterator<Item = (&'a ServerName, ServerState<'a>)> {
        self.topology.servers().map(|server| (&server.name, self.server(&server.name)))
    }

    /// Returns what a server is; one that the topology does not have was not looked at.
    pub fn server(&self, name: &ServerName) -> ServerState<'a> {
        self.servers.get(name).copied().unwrap_or_else(|| ServerState::of(None))
    }

    /// Returns what was seen on a server, where it was reached.
    pub fn seen(&self, name: &ServerName) -> Option<&'a ServerObservation> {
        self.server(name).seen
    }

    /// Returns the instance of a server, where it answers.
    pub fn instance(&self, name: &ServerName) -> Option<&'a Instance> {
        self.server(name).instance()
    }

    /// Says whether an instance answers on every server.
    pub fn all_answer(&self) -> bool {
        self.servers().all(|(_, server)| server.instance().is_some())
    }

    /// Returns the servers for which something holds.
    pub fn names(&self, holds: impl Fn(ServerState<'a>) -> bool) -> Vec<&'a ServerName> {
        self.servers().filter(|(_, state)| holds(*state)).map(|(name, _)| name).collect()
    }

    /// Returns the servers that accept writes now.
    pub fn writers(&self) -> Vec<&'a ServerName> {
        self.names(|state| state.writes() == Writes::Now)
    }

    /// Returns the server that accepts writes, where exactly one reachable server does.
    pub fn primary(&self) -> Option<&'a ServerName> {
        match self.writers().as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }
}

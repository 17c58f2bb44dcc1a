//! A server as plans see it: what is wanted of it beside what was seen on it.

use crate::judge::ServerState;
use crate::model::identity::Configuration;
use crate::model::layout::Layout;
use crate::model::name::{ServerName, TopologyName};
use crate::model::observation::{DataDirectory, Instance, Observation, ServerObservation};
use crate::model::topology::{Server, Topology};
use crate::model::version::Major;

/// A server with everything that is needed to plan for it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The topology's name.
    pub topology: &'a TopologyName,
    /// The version of PostgreSQL that is wanted.
    pub version: Major,
    /// What is wanted.
    pub server: &'a Server,
    /// What was seen.
    pub seen: &'a ServerObservation,
    /// Where things are.
    pub layout: &'a Layout,
    /// The data directory of this topology, where there is one.
    pub data: Option<&'a DataDirectory>,
    /// The running instance, where one answers.
    pub instance: Option<&'a Instance>,
    /// Who keeps its configuration files; without data, as on the primary.
    pub configuration: Configuration,
    /// Whether it is an existing primary, or standby, that becomes part of the topology in this run.
    pub adopted: bool,
}

impl<'a> Seen<'a> {
    /// Looks at a server whose instance does not count, such as one that is to be fenced. None where it was not looked at, or
    /// PostgreSQL is not installed.
    pub fn of_stopped(topology: &'a Topology, observation: &'a Observation, name: &ServerName) -> Option<Self> {
        Self::of_observed(topology, name, observation.server(name)?)
    }

    /// The same of what was seen on it.
    pub fn of_observed(topology: &'a Topology, name: &ServerName, seen: &'a ServerObservation) -> Option<Self> {
        let state = ServerState::of_seen(seen);
        Some(Self {
            topology: topology.name(),
            version: topology.common().version,
            server: topology.server(name)?,
            seen,
            layout: seen.layout.known()?,
            data: state.data,
            instance: None,
            configuration: state.configuration(),
            adopted: false,
        })
    }

    /// Says whether it is an existing standby that becomes part of the topology in this run.
    pub fn joins(&self) -> bool {
        self.adopted && self.state().standby().is_some()
    }

    /// Returns the system identifier, from the instance or from the control file.
    pub fn system_identifier(&self) -> Option<u64> {
        let control = self.data.and_then(|data| data.control.known());
        self.instance.map(|instance| instance.system_identifier).or(control.map(|control| control.system_identifier))
    }

    /// Returns where its tablespaces are, with their names as far as anybody could ask: those of an instance that does not run are told
    /// by the links in its data directory.
    pub fn tablespaces(&self) -> Vec<(Option<&'a str>, &'a str)> {
        let links =
            || self.data.into_iter().flat_map(|data| &data.tablespaces).map(|path| (None, path.as_str())).collect();
        match self.instance {
            Some(instance) => {
                instance.tablespaces.iter().map(|(name, path)| (Some(name.as_str()), path.as_str())).collect()
            }
            None => links(),
        }
    }

    /// Returns what the server is.
    pub fn state(&self) -> ServerState<'a> {
        ServerState::of_seen(self.seen)
    }
}

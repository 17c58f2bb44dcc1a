//! What the families of judgements share: who is the primary, what was seen of whom. Judges nothing.

use crate::judge;
use crate::model::layout::Layout;
use crate::model::name::ServerName;
use crate::model::observation::{Instance, Observation, ServerObservation};
use crate::model::observed::Observed;
use crate::model::pair::{Pairs, Way};
use crate::model::readiness::{InstanceReadiness, Readiness};
use crate::model::topology::{Link, Purpose, Server, Topology};
use crate::preflight::Thresholds;

/// Everything that a judgement may look at.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) topology: &'a Topology,
    pub(super) observation: &'a Observation,
    pub(super) pairs: &'a Pairs,
    pub(super) thresholds: &'a Thresholds,
    /// The server that accepts writes, else the one that is wished to.
    pub(super) primary: &'a ServerName,
    pub(super) links: Vec<Link>,
}

/// A server that was looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) server: &'a Server,
    pub(super) name: &'a ServerName,
    pub(super) seen: &'a ServerObservation,
    pub(super) ready: &'a Readiness,
}

impl<'a> Seen<'a> {
    pub(super) fn layout(&self) -> Option<&'a Layout> {
        self.seen.layout.known()
    }

    pub(super) fn instance(&self) -> Option<&'a Instance> {
        self.seen.instance.known()
    }

    pub(super) fn instance_readiness(&self) -> Option<&'a InstanceReadiness> {
        self.ready.instance.known()
    }

    /// Says whether a data directory with something in it is there.
    pub(super) fn has_data(&self) -> bool {
        self.seen.data_directory.known().is_some_and(|data| data.entries > 0)
    }

    /// Returns a setting of the running instance, in base units.
    pub(super) fn setting(&self, name: &str) -> Option<&'a str> {
        Some(self.instance()?.settings.get(name)?.setting.as_str())
    }

    /// Returns a setting of the running instance as a number.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.setting(name)?.parse().ok()
    }

    pub(super) fn is_container(&self) -> bool {
        let containers = ["systemd-nspawn", "docker", "podman", "lxc", "lxc-libvirt", "openvz", "container-other"];
        self.ready.identity.virtualisation.known().is_some_and(|word| containers.contains(&word.as_str()))
    }
}

impl<'a> Facts<'a> {
    pub(super) fn new(
        topology: &'a Topology,
        observation: &'a Observation,
        pairs: &'a Pairs,
        thresholds: &'a Thresholds,
    ) -> Self {
        let primary = judge::primary_or_preferred(topology, observation);
        Self { topology, observation, pairs, thresholds, primary, links: topology.links(primary) }
    }

    /// Returns the servers that were looked at.
    pub(super) fn servers(&self) -> impl Iterator<Item = Seen<'a>> + '_ {
        self.topology.servers().filter_map(|server| self.server(&server.name))
    }

    pub(super) fn server(&self, name: &ServerName) -> Option<Seen<'a>> {
        let server = self.topology.server(name)?;
        let seen = self.observation.server(name)?;
        Some(Seen { server, name: &server.name, seen, ready: seen.readiness.known()? })
    }

    /// Returns the primary, or the server that will be it.
    pub(super) fn source(&self) -> Option<Seen<'a>> {
        self.server(self.primary)
    }

    /// Returns the servers that are not the primary.
    pub(super) fn standbys(&self) -> impl Iterator<Item = Seen<'a>> + '_ {
        self.servers().filter(|seen| seen.name != self.primary)
    }

    pub(super) fn way(&self, from: &ServerName, to: &ServerName) -> Option<&'a Way> {
        self.pairs.get(from)?.get(to).and_then(Observed::known)
    }

    /// Says whether a stream goes between two servers today, in either direction of the connection.
    pub(super) fn is_link(&self, one: &ServerName, other: &ServerName) -> bool {
        self.links.iter().any(|link| {
            (&link.upstream, &link.standby) == (one, other) || (&link.upstream, &link.standby) == (other, one)
        })
    }

    pub(super) fn is_lab(&self) -> bool {
        self.topology.common().purpose == Purpose::Lab
    }

    /// Says whether every server is this machine under a loopback address, as a local lab is.
    pub(super) fn is_loopback(&self) -> bool {
        self.topology.servers().all(|server| server.address.ip().is_some_and(|ip| ip.is_loopback()))
    }
}

/// Writes names as `"a", "b" and "c"`.
pub(super) fn list<T: AsRef<str>>(names: &[T]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| ["\"", name.as_ref(), "\""].concat()).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => [&first.join(", "), " and ", last].concat(),
    }
}

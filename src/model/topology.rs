//! The wanted topology.
//!
//! A [`Topology`] is made only by [`Topology::new`], which refuses two primaries, cycles and unknown upstreams, so an
//! invalid one cannot be expressed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::address::Address;
use crate::model::hba::HbaRecord;
use crate::model::lifetimes::Lifetimes;
use crate::model::name::{ServerName, SiteName, TopologyName};
use crate::model::parameter::Parameters;
use crate::model::pooler::Pooler;
use crate::model::role::ApplicationRole;
use crate::model::thresholds::Thresholds;
use crate::model::version::Major;

/// What the topology is for. Faults and drills with faults refuse anything but a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Real users, real data.
    Production,
    /// A rehearsal that may be broken on purpose.
    Lab,
}

/// A place with servers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Site {
    /// Where it is, in the operator's words.
    pub location: Option<String>,
    /// The region it lies in; two sites of one region can share a disaster.
    pub region: Option<String>,
}

/// How standbys authenticate to their upstream. Both go over TLS with `verify-full`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// By the client certificate of the server.
    Certificate,
    /// By password (SCRAM, channel binding required) and, in addition, a client certificate of this topology's CA.
    ScramSha256,
}

/// The method word of `synchronous_standby_names` (manual, 20.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SynchronousMode {
    /// Any `count` of the named standbys.
    Any,
    /// The first `count` of the named standbys, by priority.
    First,
}

/// The wish for synchronous replication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synchronous {
    /// Any or first.
    pub mode: SynchronousMode,
    /// How many standbys a commit waits for; at least 1, at most the number of standbys.
    pub count: usize,
    /// The standbys, in order of priority.
    pub standbys: Vec<ServerName>,
}

/// How servers replicate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replication {
    /// How standbys authenticate.
    pub authentication: Authentication,
    /// Synchronous replication, where wanted.
    pub synchronous: Option<Synchronous>,
    /// The cap on WAL that a slot may hold back (`max_slot_wal_keep_size`; hazard 45).
    pub max_slot_wal_keep_size: String,
    /// Whether a primary starts that can ask no other server whether it was replaced (hazard 55).
    pub start_alone: bool,
}

/// How a server is reached over SSH. Empty means: as `~/.ssh/config` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ssh {
    /// The login user.
    pub user: Option<String>,
    /// The port of sshd.
    pub port: Option<u16>,
    /// The jump hosts to go through, `[user@]host[:port]`, in order.
    pub jump: Vec<String>,
    /// The private key to offer, and no other.
    pub identity_file: Option<PathBuf>,
    /// The file of known host keys.
    pub known_hosts: Option<PathBuf>,
}

/// One server of the inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: ServerName,
    /// Where SSH and PostgreSQL reach it.
    pub address: Address,
    /// The site it stands at.
    pub site: SiteName,
    /// The port of its instance.
    pub port: u16,
    /// Its own parameters on top of those of the topology.
    pub parameters: Parameters,
    /// Its data directory, where the layout's own is not wanted.
    pub data_directory: Option<String>,
    /// Its tablespaces: name to directory. The same names exist on every server.
    pub tablespaces: BTreeMap<String, String>,
    /// Where the PostgreSQL programs are, where the layout's place is not meant.
    pub bin_directory: Option<String>,
    /// The systemd unit of the instance, or [`crate::model::layout::NO_SERVICE`].
    pub service: Option<String>,
    /// How SSH reaches it.
    pub ssh: Ssh,
}

/// One upstream → standby stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Link {
    /// The server that sends.
    pub upstream: ServerName,
    /// The server that receives.
    pub standby: ServerName,
}

/// What all servers of a topology have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Common {
    /// The topology's name.
    pub name: TopologyName,
    /// What it is for.
    pub purpose: Purpose,
    /// The major version of PostgreSQL.
    pub version: Major,
    /// Databases that must exist.
    pub databases: Vec<String>,
    /// The roles of applications, by name.
    pub roles: BTreeMap<String, ApplicationRole>,
    /// Whether the certificate that an adopted primary serves may be replaced although another CA issued it.
    pub replace_certificate: bool,
    /// Parameters of every server.
    pub parameters: Parameters,
    /// HBA records of every server.
    pub hba: Vec<HbaRecord>,
    /// The sites.
    pub sites: BTreeMap<SiteName, Site>,
    /// How servers replicate.
    pub replication: Replication,
    /// What runs around a change of the primary.
    pub hooks: Hooks,
    /// How long a switchover waits for the end of transactions that began before it, in seconds.
    pub drain_timeout_s: u64,
    /// PgBouncer on every server, where there is.
    pub pooler: Option<Pooler>,
    /// What the loss of the primary may cost at most.
    pub objectives: Objectives,
    /// How long certificates are valid.
    pub lifetimes: Lifetimes,
    /// How much is too much for `check`.
    pub thresholds: Thresholds,
}

/// Programs on the operator's machine that run around a change of the primary.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// Runs before clients are interrupted.
    pub before: Option<PathBuf>,
    /// Runs when another server accepts writes, or the same one again.
    pub after: Option<PathBuf>,
    /// How long each may take, in seconds.
    pub timeout_s: u64,
}

/// What the loss of the primary may cost at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Objectives {
    /// The recovery time objective: seconds until clients can write again. None where nothing is wished.
    pub rto_s: Option<u64>,
    /// The recovery point objective: seconds of commits that may be lost.
    pub rpo_s: u64,
}

/// The wanted topology: one preferred primary and its standbys in any cascade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    common: Common,
    servers: BTreeMap<ServerName, Server>,
    primary: ServerName,
    upstreams: BTreeMap<ServerName, ServerName>,
}

/// Why servers and links do not make a topology.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    #[error("no server has \"kind: primary\"")]
    NoPrimary,
    #[error("{} servers have \"kind: primary\": {}", .names.len(), list(.names))]
    SeveralPrimaries {
        /// Their names.
        names: Vec<ServerName>,
    },
    #[error("standby \"{standby}\" names upstream \"{upstream}\", which is not in the inventory")]
    UnknownUpstream {
        /// The standby.
        standby: ServerName,
        /// The name it gives.
        upstream: String,
    },
    #[error("the upstreams form a cycle: {}", list(.names))]
    Cycle {
        /// The servers of the circle, in stream order.
        names: Vec<ServerName>,
    },
}

fn list(names: &[ServerName]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// Whether a server is wished to be the primary or a standby.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The preferred primary.
    Primary,
    /// A standby of the named upstream, or of whichever server is the primary.
    Standby {
        /// The declared upstream, where one is declared.
        upstream: Option<String>,
    },
}

impl Topology {
    /// Makes a topology of servers and their kinds, or returns every reason why they make none.
    ///
    /// # Errors
    /// No primary or several, unknown upstreams, cycles.
    pub fn new(common: Common, servers: Vec<(Server, Kind)>) -> Result<Self, Vec<TopologyError>> {
        let kinds: Vec<(ServerName, Kind)> =
            servers.iter().map(|(server, kind)| (server.name.clone(), kind.clone())).collect();
        let (primary, upstreams) = Self::shape(&kinds)?;
        let servers = servers.into_iter().map(|(server, _)| (server.name.clone(), server)).collect();
        Ok(Self { common, servers, primary, upstreams })
    }

    /// Returns the primary and the declared upstream of each standby, or every reason why these servers make no topology.
    ///
    /// # Errors
    /// No primary or several, unknown upstreams, cycles.
    pub fn shape(
        servers: &[(ServerName, Kind)],
    ) -> Result<(ServerName, BTreeMap<ServerName, ServerName>), Vec<TopologyError>> {
        let mut problems = Vec::new();
        let mut primaries = servers.iter().filter(|(_, kind)| *kind == Kind::Primary).map(|(name, _)| name);
        let primary = primaries.next();
        match (primary, primaries.next()) {
            (None, _) => problems.push(TopologyError::NoPrimary),
            (Some(first), Some(second)) => problems.push(TopologyError::SeveralPrimaries {
                names: [first, second].into_iter().chain(primaries).cloned().collect(),
            }),
            (Some(_), None) => {}
        }
        let mut upstreams = BTreeMap::new();
        for (standby, kind) in servers {
            let Kind::Standby { upstream: Some(text) } = kind else { continue };
            match servers.iter().find(|(name, _)| name.as_str() == text) {
                Some((upstream, _)) => {
                    upstreams.insert(standby.clone(), upstream.clone());
                }
                None => {
                    problems.push(TopologyError::UnknownUpstream { standby: standby.clone(), upstream: text.clone() });
                }
            }
        }
        if let Some(names) = cycle(&upstreams) {
            problems.push(TopologyError::Cycle { names });
        }
        match primary {
            Some(primary) if problems.is_empty() => Ok((primary.clone(), upstreams)),
            _ => Err(problems),
        }
    }

    /// Returns what all servers have in common.
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// Returns the topology's name.
    pub fn name(&self) -> &TopologyName {
        &self.common.name
    }

    /// Returns the servers by name.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        self.servers.values()
    }

    /// Returns a server by name.
    pub fn server(&self, name: &ServerName) -> Option<&Server> {
        self.servers.get(name)
    }

    /// Returns the topology without one of its standbys. None where others need it: it is the preferred primary, or one of them names
    /// it as its upstream. Commits wait for it no more.
    pub fn without(&self, server: &ServerName) -> Option<Self> {
        let is_needed = self.primary == *server || self.upstreams.values().any(|upstream| upstream == server);
        let mut rest = (!is_needed && self.servers.contains_key(server)).then(|| self.clone())?;
        rest.servers.remove(server);
        rest.upstreams.remove(server);
        let synchronous = &mut rest.common.replication.synchronous;
        if let Some(wish) = synchronous {
            wish.standbys.retain(|standby| standby != server);
            wish.count = wish.count.min(wish.standbys.len());
        }
        synchronous.take_if(|wish| wish.count == 0);
        Some(rest)
    }

    /// Returns the servers that name one as their upstream in the inventory.
    pub fn declared_below(&self, server: &ServerName) -> impl Iterator<Item = &ServerName> {
        self.upstreams.iter().filter(move |(_, upstream)| *upstream == server).map(|(standby, _)| standby)
    }

    /// Returns the name of the preferred primary: the wish for the first day.
    pub fn preferred_primary(&self) -> &ServerName {
        &self.primary
    }

    /// Returns the wish for synchronous replication as it is meant while a given server is the primary.
    ///
    /// The inventory names standbys of the preferred primary. Where one of them is the primary itself, the preferred primary
    /// takes its place: nobody waits for itself. Only who streams from the primary directly can be waited for (manual,
    /// 27.2.7), so that after a role change there may be fewer of them, and none at all.
    pub fn synchronous(&self, current_primary: &ServerName) -> Option<Synchronous> {
        let wish = self.common.replication.synchronous.as_ref()?;
        let links = self.links(current_primary);
        let is_direct =
            |name: &&ServerName| links.iter().any(|link| link.standby == **name && link.upstream == *current_primary);
        let in_its_place = |name| if name == current_primary { &self.primary } else { name };
        let standbys: Vec<ServerName> = wish.standbys.iter().map(in_its_place).filter(is_direct).cloned().collect();
        let count = wish.count.min(standbys.len());
        (count > 0).then_some(Synchronous { mode: wish.mode, count, standbys })
    }

    /// Returns the links below a given current primary, upstreams before their standbys.
    ///
    /// A standby keeps its declared upstream and follows the current primary where none is declared; so does the
    /// preferred primary when it is a standby (design, section 4). Declared upstreams have no cycle, so neither has this.
    pub fn links(&self, current_primary: &ServerName) -> Vec<Link> {
        let mut links = Vec::new();
        let mut wave = vec![current_primary];
        while !wave.is_empty() {
            let mut next = Vec::new();
            for upstream in wave {
                for standby in self.servers.keys().filter(|name| *name != current_primary) {
                    if self.upstreams.get(standby).unwrap_or(current_primary) == upstream {
                        links.push(Link { upstream: upstream.clone(), standby: standby.clone() });
                        next.push(standby);
                    }
                }
            }
            wave = next;
        }
        links
    }
}

fn cycle(upstreams: &BTreeMap<ServerName, ServerName>) -> Option<Vec<ServerName>> {
    upstreams.keys().find_map(|start| {
        let mut path = vec![start.clone()];
        let mut at = upstreams.get(start)?;
        while at != start {
            if path.contains(at) {
                return None; // A cycle that does not pass through `start`; another start finds it.
            }
            path.push(at.clone());
            at = upstreams.get(at)?;
        }
        path.reverse();
        Some(path)
    })
}

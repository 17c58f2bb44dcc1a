//! What one server measured of its way to another.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::name::ServerName;
use crate::model::observed::Observed;

/// An ordered pair: who connects, and to whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pair {
    /// The server that connects.
    pub from: ServerName,
    /// The server that is connected to.
    pub to: ServerName,
}

impl Pair {
    /// Names a pair.
    pub fn new(from: &ServerName, to: &ServerName) -> Self {
        Self { from: from.clone(), to: to.clone() }
    }
}

/// The measurements of all ordered pairs: from whom, to whom.
pub type Pairs = BTreeMap<ServerName, BTreeMap<ServerName, Observed<Way>>>;

/// How a TCP connection began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// It was accepted.
    Open,
    /// It was refused: nothing listens, or a firewall says no.
    Refused,
    /// Nothing came back: a firewall that drops, or no way.
    TimedOut,
    /// It failed in another way, in the kernel's words.
    Failed(String),
    /// The name has no address there.
    NotResolved,
}

/// Who answered on the port of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// PostgreSQL that offers TLS.
    Tls,
    /// PostgreSQL that offers no TLS.
    Plain,
    /// The listener that the measurement put there, as the port was free.
    Listener,
    /// Something else, or nothing.
    Other,
}

/// The way from one server to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Way {
    /// The port of the instance.
    pub port: Reach,
    /// Who answered there, where it was open.
    pub answer: Option<Answer>,
    /// The other port, on which the rest was measured.
    pub side_port: Option<Reach>,
    /// Where the listener could not listen on the instance's port, why.
    pub listen_error: Option<String>,
    /// The address from which this server believes to connect.
    pub source_here: Option<IpAddr>,
    /// The address that the other server saw.
    pub source_there: Option<IpAddr>,
    /// Small echoes, in milliseconds: the shortest, the mean and the longest.
    pub echo_ms: Option<[f64; 3]>,
    /// Segments that were sent during the echoes.
    pub echo_segments: u64,
    /// Segments that had to be sent again.
    pub echo_retransmits: u64,
    /// Bytes per second that arrived there, where it was measured.
    pub bytes_per_second: Option<f64>,
    /// The path's maximum transmission unit, in bytes.
    pub path_mtu: Option<u32>,
}

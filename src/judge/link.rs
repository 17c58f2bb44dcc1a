//! How WAL flows: whom a standby receives from, to whom a server sends, and how one link stands in the view of both sides.

use crate::judge::State;
use crate::model::name::ServerName;
use crate::model::observation::{Instance, Receiver, Sender};
use crate::model::topology::{Link, Server, Topology};
use crate::quote::conninfo;

/// Both sides write the state of a connection that sends WAL as it is made in this word.
const STREAMING: &str = "streaming";

/// Whom a standby receives WAL from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upstream<'a> {
    /// A server of the topology, by its address and port.
    Server(&'a ServerName),
    /// Another port at the address of a server of the topology.
    OtherPort(&'a ServerName),
    /// Somebody else, by the host that it names, where it names one.
    Elsewhere(Option<&'a str>),
}

impl Upstream<'_> {
    /// Says whether it is at a server's address, whatever the port.
    pub fn is_at(self, name: &ServerName) -> bool {
        matches!(self, Upstream::Server(at) | Upstream::OtherPort(at) if at == name)
    }
}

/// The walsenders of a standby's name. There must be one, and `pg_basebackup` is not one (L4).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sending<'a> {
    /// Its upstream could not be asked.
    Unknown,
    /// There is none.
    Nobody,
    /// There is one.
    One(&'a Sender),
    /// There are so many, and nobody can tell which is the standby's; the first of them.
    Several(&'a Sender, usize),
}

/// The standby's own view of a link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Receiving<'a> {
    /// The standby could not be asked.
    Unknown,
    /// It receives no WAL.
    Nothing,
    /// It has a WAL receiver, whatever that does.
    From(&'a Receiver, Upstream<'a>),
}

/// How a link stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkState<'a> {
    /// The upstream's view.
    pub sending: Sending<'a>,
    /// The standby's view.
    pub receiving: Receiving<'a>,
}

impl<'a> State<'a> {
    /// Returns how a link stands.
    pub fn link(&self, link: &Link) -> LinkState<'a> {
        let receiving = match self.instance(&link.standby) {
            None => Receiving::Unknown,
            Some(instance) => connected_to(self.topology, instance)
                .map_or(Receiving::Nothing, |(receiver, upstream)| Receiving::From(receiver, upstream)),
        };
        LinkState { sending: self.sending(&link.upstream, &link.standby), receiving }
    }

    /// Returns the walsenders of a server that are of a standby's name.
    pub fn sending(&self, upstream: &ServerName, standby: &ServerName) -> Sending<'a> {
        let Some(instance) = self.instance(upstream) else { return Sending::Unknown };
        let mut senders = instance.senders.iter().filter(|sender| sender.application_name == standby.as_str());
        match (senders.next(), senders.count()) {
            (None, _) => Sending::Nobody,
            (Some(one), 0) => Sending::One(one),
            (Some(first), more) => Sending::Several(first, more + 1),
        }
    }

    /// Says whether a server sends WAL to a standby, in its own view.
    pub fn sends_to(&self, upstream: &ServerName, standby: &ServerName) -> bool {
        let senders = self.instance(upstream).into_iter().flat_map(|instance| &instance.senders);
        senders.into_iter().any(|sender| sender.application_name == standby.as_str() && is_streaming(sender))
    }

    /// Returns whom a server receives WAL from, in its own view.
    pub fn receives_from(&self, standby: &ServerName) -> Option<Upstream<'a>> {
        receives_from(self.topology, self.instance(standby)?)
    }

    /// Returns whom a server is to receive WAL from, by its `primary_conninfo`: a server of the topology.
    pub fn is_to_follow(&self, standby: &ServerName, upstream: &ServerName) -> bool {
        let conninfo = self.instance(standby).and_then(|instance| instance.settings.get("primary_conninfo"));
        conninfo.zip(self.topology.server(upstream)).is_some_and(|(setting, server)| dials(&setting.setting, server))
    }
}

/// Returns whom an instance receives WAL from. One that has diverged may say so, too, for a moment: it is sent its old timeline up
/// to where that ended, again and again.
pub fn receives_from<'a>(topology: &'a Topology, instance: &'a Instance) -> Option<Upstream<'a>> {
    connected_to(topology, instance).filter(|(receiver, _)| is_receiving(receiver)).map(|(_, upstream)| upstream)
}

/// Says whether an instance receives WAL from a server of the topology.
pub fn streams_from(topology: &Topology, instance: &Instance, upstream: &ServerName) -> bool {
    receives_from(topology, instance) == Some(Upstream::Server(upstream))
}

/// Says whether a `primary_conninfo` names the address and port of a server, and nobody else: `hostaddr`, where it is there, wins
/// over `host`.
pub fn dials(text: &str, server: &Server) -> bool {
    let value = |keyword| conninfo::value(text, keyword);
    let host = value("hostaddr").or_else(|| value("host"));
    let port = value("port").map_or(Some(5432), |port| port.parse().ok());
    host == Some(server.address.to_string()) && port == Some(server.port)
}

fn connected_to<'a>(topology: &'a Topology, instance: &'a Instance) -> Option<(&'a Receiver, Upstream<'a>)> {
    let receiver = instance.receiver.as_ref()?;
    let host = host(receiver);
    let at_its_address = || topology.servers().filter(|server| host == Some(&*server.address.to_string()));
    let by_port = at_its_address().find(|server| receiver.sender_port == Some(server.port));
    let upstream = match (by_port, at_its_address().next()) {
        (Some(server), _) => Upstream::Server(&server.name),
        (None, Some(server)) => Upstream::OtherPort(&server.name),
        (None, None) => Upstream::Elsewhere(host),
    };
    Some((receiver, upstream))
}

/// Says where a WAL receiver is connected to, in words.
pub fn connected(receiver: &Receiver) -> String {
    let port = receiver.sender_port.map_or(String::new(), |port| format!(" port {port}"));
    format!("{}{port}", host(receiver).unwrap_or("none"))
}

/// Returns the host that a WAL receiver is connected to, as it names it.
pub fn host(receiver: &Receiver) -> Option<&str> {
    receiver.sender_host.as_deref()
}

/// Says whether a walsender sends WAL as it is made.
pub fn is_streaming(sender: &Sender) -> bool {
    sender.state == STREAMING
}

/// Says whether a WAL receiver receives WAL as it is made.
pub fn is_receiving(receiver: &Receiver) -> bool {
    receiver.status == STREAMING
}

/// Returns the bytes that a standby has yet to replay of what its primary has written. The two are looked at at slightly
/// different moments: one that was looked at later may be ahead.
pub fn behind_bytes(primary: &Instance, standby: &Instance) -> Option<i64> {
    Some(primary.positions.current?.bytes_ahead_of(standby.positions.replay?))
}

//! How a standby connects to its upstream.

use crate::model::layout::Layout;
use crate::model::topology::{Authentication, Server, Topology};
use crate::quote::conninfo;
use crate::render::hba::roles;

/// A receiver that stays has `wal_receiver_timeout` besides.
const STAYS: &[(&str, &str)] = &[("keepalives_idle", "30"), ("keepalives_interval", "10"), ("keepalives_count", "3")];

/// pg_basebackup has no timeout of its own. While something is unacknowledged, as after a power cut, the kernel sends no
/// keepalives but repeats itself for a quarter of an hour, unless `tcp_user_timeout` (in milliseconds) ends it.
const COPIES: &[(&str, &str)] = &[
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "30000"),
];

/// psql asks for a physical replication session by this; whoever speaks that protocol alone needs no word.
const REPLICATES: &[(&str, &str)] = &[("replication", "true")];

/// Returns `primary_conninfo` for a standby: verify-full, its own certificate, no password, absolute paths (hazard 29).
pub fn primary_conninfo(topology: &Topology, standby: &Server, layout: &Layout, upstream: &Server) -> String {
    conninfo(topology, layout, upstream, Manner::of(standby, STAYS))
}

/// Returns the same for pg_basebackup, which gives up an upstream that is silent for half a minute.
pub fn copy_conninfo(topology: &Topology, standby: &Server, layout: &Layout, upstream: &Server) -> String {
    conninfo(topology, layout, upstream, Manner::of(standby, COPIES))
}

/// Returns how the start guard asks another server who it is: it gives up soon, since a start waits for it.
pub fn guard_conninfo(topology: &Topology, layout: &Layout, peer: &Server) -> String {
    let manner = Manner { application_name: "pgstead_start_guard", connect_timeout: "2", more: REPLICATES };
    conninfo(topology, layout, peer, manner)
}

/// Returns how psql logs in as a standby would, to see whether that goes through.
pub fn dial_conninfo(topology: &Topology, layout: &Layout, peer: &Server) -> String {
    let manner = Manner { application_name: "pgstead_dial", connect_timeout: "10", more: REPLICATES };
    conninfo(topology, layout, peer, manner)
}

/// Returns how `pg_rewind` reaches its source, which must accept writes, as a role that may do no more than that needs
/// (hazard 75). It proves itself by its certificate, whatever replication does.
pub fn rewind_conninfo(topology: &Topology, standby: &Server, layout: &Layout, source: &Server) -> String {
    let host = source.address.to_string();
    let port = source.port.to_string();
    let (ca, certificate, key) = (layout.own("ca.crt"), layout.own("tls/client.crt"), layout.own("tls/client.key"));
    let mut pairs = vec![
        ("host", host.as_str()),
        ("port", &port),
        ("user", roles::REWIND),
        ("dbname", "postgres"),
        ("application_name", standby.name.as_str()),
        ("target_session_attrs", "read-write"),
        ("sslmode", "verify-full"),
        ("sslrootcert", &ca),
        ("sslcert", &certificate),
        ("sslkey", &key),
        ("gssencmode", "disable"),
        ("connect_timeout", "10"),
    ];
    pairs.extend(COPIES);
    if topology.common().version.has_require_auth() {
        pairs.push(("require_auth", "none"));
    }
    conninfo::join(pairs)
}

/// What differs between those who log in as the replication role.
struct Manner<'a> {
    application_name: &'a str,
    /// In seconds.
    connect_timeout: &'a str,
    more: &'a [(&'a str, &'a str)],
}

impl<'a> Manner<'a> {
    fn of(standby: &'a Server, more: &'a [(&'a str, &'a str)]) -> Self {
        Self { application_name: standby.name.as_str(), connect_timeout: "10", more }
    }
}

fn conninfo(topology: &Topology, layout: &Layout, upstream: &Server, manner: Manner<'_>) -> String {
    let host = upstream.address.to_string();
    let port = upstream.port.to_string();
    let (ca, certificate, key) = (layout.own("ca.crt"), layout.own("tls/client.crt"), layout.own("tls/client.key"));
    let passfile = layout.own("passfile");
    let mut pairs = vec![
        ("host", host.as_str()),
        ("port", &port),
        ("user", roles::REPLICATOR),
        ("application_name", manner.application_name),
        ("sslmode", "verify-full"),
        ("sslrootcert", &ca),
        ("sslcert", &certificate),
        ("sslkey", &key),
        ("gssencmode", "disable"),
        ("connect_timeout", manner.connect_timeout),
    ];
    pairs.extend(manner.more);
    let scram = topology.common().replication.authentication == Authentication::ScramSha256;
    if scram {
        pairs.extend([("passfile", passfile.as_str()), ("channel_binding", "require")]);
    }
    if topology.common().version.has_require_auth() {
        // With a certificate the server asks for nothing else; any other request means that its HBA file is not ours.
        pairs.push(("require_auth", if scram { "scram-sha-256" } else { "none" }));
    }
    conninfo::join(pairs)
}

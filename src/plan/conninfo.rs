//! How a standby connects to its upstream.

use crate::model::layout::Layout;
use crate::model::topology::Authentication;
use crate::model::topology::Server;
use crate::model::topology::Topology;
use crate::quote::conninfo;
use crate::render::hba::roles;

/// Returns `primary_conninfo` for a standby: verify-full, its own certificate, no password, absolute paths (hazard 29).
pub fn primary_conninfo(topology: &Topology, standby: &Server, layout: &Layout, upstream: &Server) -> String {
    let host = upstream.address.to_string();
    let port = upstream.port.to_string();
    let (ca, certificate, key) = (layout.own("ca.crt"), layout.own("tls/client.crt"), layout.own("tls/client.key"));
    let passfile = layout.own("passfile");
    let mut pairs = vec![
        ("host", host.as_str()),
        ("port", &port),
        ("user", roles::REPLICATOR),
        ("application_name", standby.name.as_str()),
        ("sslmode", "verify-full"),
        ("sslrootcert", &ca),
        ("sslcert", &certificate),
        ("sslkey", &key),
        ("gssencmode", "disable"),
        ("connect_timeout", "10"),
        ("keepalives_idle", "30"),
        ("keepalives_interval", "10"),
        ("keepalives_count", "3"),
    ];
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

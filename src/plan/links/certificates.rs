//! Which servers need new certificates, and why.
//!
//! Certificates on the servers are the truth; the operator's machine keeps only the CA (design, section 6).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::model::layout::Layout;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observation::ServerObservation;
use crate::model::observed::Observed;
use crate::model::topology::Server;
use crate::model::topology::Topology;
use crate::pki;
use crate::plan::links::network;

/// Returns the servers whose certificates do not serve, each with the reason; one does not that is valid for fewer than
/// `renew_before_days`.
pub fn to_replace(
    topology: &Topology,
    observation: &Observation,
    ca_certificate: &str,
    renew_before_days: u32,
    now: Timestamp,
) -> BTreeMap<ServerName, String> {
    let mut reasons = BTreeMap::new();
    for server in topology.servers() {
        let Some(seen) = observation.server(&server.name) else { continue };
        let Observed::Known(layout) = &seen.layout else { continue };
        let addresses = network::dialled(topology, observation, server);
        let of = |kind, addresses: &BTreeSet<IpAddr>| {
            reason(seen, layout, kind, server, addresses, ca_certificate, renew_before_days, now)
        };
        let (server_reason, client_reason) = (of("server", &addresses), of("client", &BTreeSet::new()));
        if let Some(reason) = server_reason.or(client_reason) {
            reasons.insert(server.name.clone(), reason);
        }
    }
    reasons
}

#[expect(clippy::too_many_arguments, reason = "one question, asked of two files")]
fn reason(
    seen: &ServerObservation,
    layout: &Layout,
    kind: &str,
    server: &Server,
    addresses: &BTreeSet<IpAddr>,
    ca_certificate: &str,
    renew_before_days: u32,
    now: Timestamp,
) -> Option<String> {
    let file = |suffix: &str| seen.files.get(&layout.own(&["tls/", kind, suffix].concat()));
    let Some(Observed::Known(fact)) = file(".crt") else {
        return Some(format!("the {kind} certificate is not there"));
    };
    match file(".key") {
        // A key that others may read makes the next restart fail (hazard 77).
        Some(Observed::Known(key)) if key.mode != "600" => {
            return Some(format!("the {kind} key has mode {}", key.mode));
        }
        Some(Observed::Known(_)) => {}
        _ => return Some(format!("the {kind} key is not there")),
    }
    let pem = fact.content.as_deref().unwrap_or_default();
    let Ok(facts) = pki::parse_certificate(pem) else {
        return Some(format!("the {kind} certificate cannot be read"));
    };
    if pki::verify_signed_by(pem, ca_certificate).is_err() {
        return Some(format!("the {kind} certificate is of another CA"));
    }
    if facts.subject_cn != server.name.as_str() {
        return Some(format!("the {kind} certificate is for \"{}\"", facts.subject_cn));
    }
    if facts.not_after <= now {
        return Some(format!("the {kind} certificate has expired"));
    }
    if facts.days_left(now) < i64::from(renew_before_days) {
        return Some(format!("the {kind} certificate expires in {} days", facts.days_left(now)));
    }
    if let Some(missing) = addresses.iter().find(|ip| !facts.ip_addresses.contains(ip)) {
        return Some(format!("the {kind} certificate does not name {missing}"));
    }
    None
}

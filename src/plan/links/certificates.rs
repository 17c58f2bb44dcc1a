//! Which servers need new certificates, and why.
//!
//! Certificates on the servers are the truth; the operator's machine keeps only the CA (design, section 6).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;

use crate::model::layout::Layout;
use crate::model::lifetimes::Lifetimes;
use crate::model::name::ServerName;
use crate::model::observation::{Observation, ServerObservation};
use crate::model::observed::Observed;
use crate::model::topology::{Server, Topology};
use crate::pki;
use crate::plan::links::network;
use crate::plan::material::Due;

/// Whose certificates serve.
#[derive(Debug, Clone, Copy)]
pub enum Signer<'a> {
    /// Those of this CA alone, or of these, one behind the other.
    Only(&'a str),
    /// Those of this CA, and of one that the server trusts itself: where this machine cannot sign, which is meant is not its business.
    Trusted(&'a str),
}

impl Signer<'_> {
    fn has_signed(self, pem: &str, seen: &ServerObservation, layout: &Layout) -> bool {
        let by = |ca: &str| pki::verify_signed_by(pem, ca).is_ok();
        let by_one_of = |bundle: &str| pki::split_bundle(bundle).is_ok_and(|all| all.iter().any(|ca| by(ca)));
        let own = || seen.files.get(&layout.own("ca.crt")).and_then(Observed::known)?.content.as_deref();
        match self {
            Self::Only(bundle) => by_one_of(bundle),
            Self::Trusted(ca) => by(ca) || own().is_some_and(by_one_of),
        }
    }
}

/// Returns the servers whose certificates do not serve, each with the reason; one that is due by their lifetimes does
/// not.
pub fn to_replace(
    topology: &Topology,
    observation: &Observation,
    signer: Signer<'_>,
    lifetimes: Lifetimes,
    now: Timestamp,
) -> BTreeMap<ServerName, Due> {
    let mut reasons = BTreeMap::new();
    for server in topology.servers() {
        let Some(seen) = observation.server(&server.name) else { continue };
        let Observed::Known(layout) = &seen.layout else { continue };
        let addresses = network::dialled(topology, observation, server);
        let of =
            |kind, addresses: &BTreeSet<IpAddr>| reason(seen, layout, kind, server, addresses, signer, lifetimes, now);
        let (server_reason, client_reason) = (of("server", &addresses), of("client", &BTreeSet::new()));
        if let Some(reason) = server_reason.or(client_reason) {
            reasons.insert(server.name.clone(), Due::Unfit(reason));
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
    signer: Signer<'_>,
    lifetimes: Lifetimes,
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
    if !signer.has_signed(pem, seen, layout) {
        return Some(format!("the {kind} certificate is of another CA"));
    }
    if facts.subject_cn != server.name.as_str() {
        return Some(format!("the {kind} certificate is for \"{}\"", facts.subject_cn));
    }
    if facts.not_before > now {
        return Some(format!("the {kind} certificate is not valid before {}", facts.not_before));
    }
    if facts.not_after <= now {
        return Some(format!("the {kind} certificate has expired"));
    }
    if lifetimes.is_due(facts.days_left(now)) {
        return Some(format!("the {kind} certificate expires in {} days", facts.days_left(now)));
    }
    if let Some(missing) = addresses.iter().find(|ip| !facts.ip_addresses.contains(ip)) {
        return Some(format!("the {kind} certificate does not name {missing}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::observation::FileFact;
    use crate::pki::CertificatePair;

    /// A server with certificates of a CA, issued at some time, which trusts that CA.
    fn with_certificates_of(ca: &CertificatePair, issued: Timestamp) -> (Topology, Observation) {
        let text = std::fs::read_to_string("tests/plan/base/inventory.json").unwrap();
        let topology =
            crate::inventory::read(&text, "inventory").map_err(|problems| format!("{problems:?}")).unwrap().0;
        let text = std::fs::read_to_string("tests/plan/base/running.json").unwrap();
        let mut observation: Observation = serde_json::from_str(&text).unwrap();
        let name: ServerName = "b".parse().unwrap();
        let addresses: Vec<_> = network::dialled(&topology, &observation, topology.server(&name).unwrap())
            .into_iter()
            .map(crate::model::address::Address::Ip)
            .collect();
        let authority = pki::Authority::open(topology.name(), ca, Lifetimes::default()).unwrap();
        let server = authority.issue_server(&name, &addresses, issued).unwrap();
        let client = authority.issue_client(&name, issued).unwrap();
        let Some(Observed::Known(seen)) = observation.servers.get_mut(&name) else { unreachable!() };
        let layout = seen.layout.known().unwrap().clone();
        let nothing = String::new();
        for (file, text) in [
            ("ca.crt", &ca.certificate),
            ("tls/server.crt", &server.certificate),
            ("tls/client.crt", &client.certificate),
            ("tls/server.key", &nothing),
            ("tls/client.key", &nothing),
        ] {
            let (owner, mode) = ("postgres:postgres".to_owned(), "600".to_owned());
            let fact = FileFact { owner, mode, content: Some(text.clone()), sha256: String::new(), is_link: false };
            seen.files.insert(layout.own(file), Observed::Known(fact));
        }
        (topology, observation)
    }

    #[test]
    fn a_certificate_is_due_when_the_inventory_says_so() {
        let now = Timestamp::now();
        let ca = pki::create_authority(&"lab".parse().unwrap(), "ops@laptop1", Lifetimes::default(), now).unwrap();
        let (topology, observation) = with_certificates_of(&ca, now);
        let due = |renew_before: u32, in_days: i64| {
            let (lifetimes, at) = (
                Lifetimes { renew_before, ..Lifetimes::default() },
                now + jiff::SignedDuration::from_hours(24 * in_days),
            );
            to_replace(&topology, &observation, Signer::Only(&ca.certificate), lifetimes, at)
                .remove(&"b".parse::<ServerName>().unwrap())
                .map(|due| due.to_string())
        };
        assert_eq!(due(30, 700), None);
        assert_eq!(due(30, 701).as_deref(), Some("the server certificate expires in 29 days"));
        assert_eq!(due(60, 670), None);
        assert_eq!(due(60, 671).as_deref(), Some("the server certificate expires in 59 days"));
    }

    #[test]
    fn a_certificate_serves_within_its_time_and_by_its_signer() {
        let now = Timestamp::now();
        let ca = |maker| pki::create_authority(&"lab".parse().unwrap(), maker, Lifetimes::default(), now).unwrap();
        let (ours, another) = (ca("ops@laptop1"), ca("ops@laptop2"));
        let (topology, observation) = with_certificates_of(&ours, now);
        let reason = |signer: Signer<'_>, at: Timestamp| {
            to_replace(&topology, &observation, signer, Lifetimes { renew_before: 0, ..Lifetimes::default() }, at)
                .remove(&"b".parse::<ServerName>().unwrap())
                .map(|due| due.to_string())
                .unwrap_or_default()
        };
        assert_eq!(reason(Signer::Only(&ours.certificate), now), "");
        let before = now - jiff::SignedDuration::from_hours(24 * 30);
        let told = reason(Signer::Only(&ours.certificate), before);
        assert!(told.starts_with("the server certificate is not valid before 20"), "{told}");
        // Whoever can sign nothing leaves what the server's own CA has signed, whichever it takes for the topology's.
        assert_eq!(reason(Signer::Only(&another.certificate), now), "the server certificate is of another CA");
        assert_eq!(reason(Signer::Trusted(&another.certificate), now), "");
    }
}

//! Makes the material of a run: certificates for servers that need them, the run's name. In memory; nothing is written.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::model::address::Address;
use crate::model::lifetimes::Lifetimes;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::topology::{Authentication, Server, Topology};
use crate::pki;
use crate::pki::{Authority, PkiError};
use crate::plan::links::certificates::Signer;
use crate::plan::links::{certificates, network};
use crate::plan::material::{Authority as Elsewhere, Due};
use crate::plan::operation::rotate::Renewal;
use crate::plan::survey::authority::Keys;
use crate::plan::survey::{authority, password};
use crate::plan::{Leaf, Material, Replication};

/// Makes the material of a run.
///
/// # Errors
/// The CA is unusable, or the operating system gives no randomness.
pub fn prepare(
    topology: &Topology,
    observation: &Observation,
    keys: &Keys,
    renewal: Renewal<'_>,
    now: Timestamp,
) -> Result<Material, PkiError> {
    let secrets = match keys {
        Keys::Held(secrets) => secrets,
        Keys::Elsewhere(authority) => return Ok(without_keys(topology, observation, authority, now)),
    };
    let authority =
        Authority::open(topology.name(), &secrets.ca, topology.common().lifetimes)?.with_chain(&secrets.chain);
    // A rotation replaces those that it is asked for; what is valid still can wait.
    let mut lifetimes = topology.common().lifetimes;
    if !matches!(renewal, Renewal::OfNone) {
        lifetimes.renew_before = 0;
    }
    // What the CA has signed whose place is being taken serves until that is done.
    let authorities = secrets.authorities();
    let signer = Signer::Only(&authorities);
    let mut to_replace = certificates::to_replace(topology, observation, signer, lifetimes, now);
    let wished = match renewal {
        Renewal::OfNone => BTreeSet::new(),
        Renewal::Of(servers) => servers.clone(),
        Renewal::OfAuthority(servers) => {
            let signer = Signer::Only(&secrets.ca.certificate);
            let others = certificates::to_replace(topology, observation, signer, lifetimes, now);
            servers.iter().filter(|name| others.contains_key(*name)).cloned().collect()
        }
    };
    for name in wished {
        to_replace.entry(name).or_insert(Due::Wished);
    }
    let mut leaves: BTreeMap<ServerName, Leaf> = BTreeMap::new();
    for server in topology.servers().filter(|server| to_replace.contains_key(&server.name)) {
        leaves.insert(server.name.clone(), issue(&authority, topology, observation, server, now)?);
    }
    let in_use = match secrets.is_password_new {
        true => &secrets.replication,
        false => password::in_use(topology, observation, secrets),
    };
    let mut material = Material {
        run: run_name(now),
        ca_certificate: Some(secrets.ca.certificate.clone()),
        former: secrets.former.as_ref().map(|former| former.certificate.clone()),
        elsewhere: None,
        leaves,
        certificates_to_replace: to_replace,
        passwords: BTreeMap::new(),
        replication: Some(Replication::of(in_use, secrets.is_password_new)),
        is_password_elsewhere: false,
    };
    password::keep_anothers(topology, observation, &mut material);
    Ok(material)
}

/// Makes the material of a re-seed. While a CA takes the place of another, a server that is made anew is not left with certificates of
/// that one.
///
/// # Errors
/// The CA is unusable, or the operating system gives no randomness.
pub fn prepare_reseed(
    topology: &Topology,
    observation: &Observation,
    keys: &Keys,
    server: &ServerName,
    now: Timestamp,
) -> Result<Material, PkiError> {
    let it = BTreeSet::from([server.clone()]);
    let renewal = match keys {
        Keys::Held(secrets) if secrets.former.is_some() => Renewal::OfAuthority(&it),
        _ => Renewal::OfNone,
    };
    let mut material = prepare(topology, observation, keys, renewal, now)?;
    authority::keep_its(topology, observation, &mut material, server);
    Ok(material)
}

/// The material where another machine holds the CA: servers keep their certificates and passwords, as long as they serve at all.
fn without_keys(topology: &Topology, observation: &Observation, elsewhere: &Elsewhere, now: Timestamp) -> Material {
    let signer = Signer::Trusted(elsewhere.certificate.as_deref().unwrap_or_default());
    let lifetimes = Lifetimes { renew_before: 0, ..topology.common().lifetimes };
    let mut needs = certificates::to_replace(topology, observation, signer, lifetimes, now);
    if topology.common().replication.authentication == Authentication::ScramSha256 {
        for server in topology.servers().filter(|server| password::lacks(topology, observation, &server.name)) {
            let why = "it does not have the password of role replicator that is in use".to_owned();
            needs.entry(server.name.clone()).or_insert(Due::Unfit(why));
        }
    }
    Material {
        run: run_name(now),
        ca_certificate: None,
        former: None,
        elsewhere: Some(elsewhere.clone()),
        leaves: BTreeMap::new(),
        certificates_to_replace: needs,
        passwords: BTreeMap::new(),
        replication: None,
        is_password_elsewhere: false,
    }
}

fn issue(
    authority: &Authority,
    topology: &Topology,
    observation: &Observation,
    server: &Server,
    now: Timestamp,
) -> Result<Leaf, PkiError> {
    let mut addresses: BTreeSet<Address> = BTreeSet::from([server.address.clone()]);
    addresses.extend(network::dialled(topology, observation, server).into_iter().map(Address::Ip));
    let addresses: Vec<Address> = addresses.into_iter().collect();
    let certificate = authority.issue_server(&server.name, &addresses, now)?;
    let client = authority.issue_client(&server.name, now)?;
    let id = pki::parse_certificate(&certificate.certificate)?.id();
    Ok(Leaf {
        server_certificate: certificate.certificate,
        server_key: certificate.key,
        client_certificate: client.certificate,
        client_key: client.key,
        id,
    })
}

/// A run's name: when it began, to the second, and four random digits.
pub fn run_name(now: Timestamp) -> String {
    let stamp = now.strftime("%Y%m%d%H%M%S").to_string();
    [stamp, format!("{:04x}", rand::random::<u16>())].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::observation::FileFact;
    use crate::model::observed::Observed;
    use crate::pki::{OperatorSecrets, StoredSecrets};
    use crate::plan::files::hash::sha256;

    /// Every server has good certificates of the former CA.
    #[test]
    fn a_server_that_is_re_seeded_in_a_rotation_gets_certificates_of_the_new_ca() {
        let text = std::fs::read_to_string("tests/plan/base/inventory.json").unwrap();
        let topology =
            crate::inventory::read(&text, "inventory").map_err(|problems| format!("{problems:?}")).unwrap().0;
        let text = std::fs::read_to_string("tests/plan/base/running.json").unwrap();
        let mut observation: Observation = serde_json::from_str(&text).unwrap();
        let (now, lifetimes) = (Timestamp::now(), Lifetimes::default());
        let complete =
            |stored| OperatorSecrets::complete(stored, topology.name(), "ops@laptop", lifetimes, now).unwrap().0;
        let one = complete(StoredSecrets::default());
        let stored = StoredSecrets { ca: Some(one.ca.clone()), ..StoredSecrets::default() };
        let two = complete(stored.succeed(topology.name(), "ops@laptop", lifetimes, now).unwrap());
        let keys = |secrets: &OperatorSecrets| Keys::Held(Box::new(secrets.clone()));
        let fresh = prepare(&topology, &observation, &keys(&one), Renewal::OfNone, now).unwrap();
        for server in topology.servers() {
            let leaf = &fresh.leaves[&server.name];
            let Some(Observed::Known(seen)) = observation.servers.get_mut(&server.name) else { unreachable!() };
            let layout = seen.layout.known().unwrap().clone();
            for (file, text) in [
                ("ca.crt", one.ca.certificate.as_str()),
                ("tls/server.crt", &leaf.server_certificate),
                ("tls/server.key", ""),
                ("tls/client.crt", &leaf.client_certificate),
                ("tls/client.key", ""),
            ] {
                let (content, sha256) = (Some(text.to_owned()), sha256(text));
                let (owner, mode) = ("postgres:postgres".to_owned(), "600".to_owned());
                let fact = FileFact { owner, mode, content, sha256, is_link: false };
                seen.files.insert(layout.own(file), Observed::Known(fact));
            }
        }
        let b: ServerName = "b".parse().unwrap();
        let due = |secrets: &OperatorSecrets| {
            let material = prepare_reseed(&topology, &observation, &keys(secrets), &b, now).unwrap();
            material.certificates_to_replace.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(due(&one), []);
        assert_eq!(due(&two), std::slice::from_ref(&b));
    }
}

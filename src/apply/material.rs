//! Makes the material of a run: certificates for servers that need them, the run's name. In memory; nothing is written.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::model::address::Address;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::topology::Server;
use crate::model::topology::Topology;
use crate::pki::Authority;
use crate::pki::OperatorSecrets;
use crate::pki::PkiError;
use crate::plan::Leaf;
use crate::plan::Material;
use crate::plan::certificates;
use crate::plan::network;

/// Makes the material of a run.
///
/// # Errors
/// The CA is unusable, or the operating system gives no randomness.
pub fn prepare(
    topology: &Topology,
    observation: &Observation,
    secrets: &OperatorSecrets,
    now: Timestamp,
) -> Result<Material, PkiError> {
    let authority = Authority::open(topology.name(), &secrets.ca)?;
    let to_replace = certificates::to_replace(topology, observation, &secrets.ca.certificate, now);
    let mut leaves: BTreeMap<ServerName, Leaf> = BTreeMap::new();
    for server in topology.servers().filter(|server| to_replace.contains_key(&server.name)) {
        leaves.insert(server.name.clone(), issue(&authority, topology, observation, server, now)?);
    }
    Ok(Material {
        run: run_name(now),
        ca_certificate: secrets.ca.certificate.clone(),
        leaves,
        certificates_to_replace: to_replace,
        replication_password: secrets.replication.password.clone(),
        replication_verifier: secrets.replication.verifier.clone(),
        replication_verifier_sha256: secrets.replication.verifier_sha256(),
    })
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
    let id = crate::pki::parse_certificate(&certificate.certificate)?.fingerprint_sha256;
    let id = id.chars().filter(char::is_ascii_alphanumeric).take(16).collect::<String>().to_lowercase();
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

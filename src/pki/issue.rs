//! Making certificates.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};

use crate::model::address::{Address, is_host_name};
use crate::model::lifetimes::Lifetimes;
use crate::model::name::{ServerName, TopologyName};
use crate::model::secret::Secret;
use crate::pki::facts::{CertificateFacts, parse_certificate};
use crate::pki::{BACKDATED_HOURS, CertificatePair, OPERATOR_NAME, PkiError};

/// The longest common name that X.509 allows (RFC 5280, A.1, ub-common-name).
const COMMON_NAME_MAX: usize = 64;

/// The longest organizational unit that X.509 allows (RFC 5280, A.1, ub-organizational-unit-name).
const ORGANIZATIONAL_UNIT_MAX: usize = 64;

/// What stands before the name of whoever made a CA.
pub(super) const MADE_BY: &str = "made by ";

/// Makes the CA of a topology. Who made it stands in its name: every server that trusts it tells who holds its key.
///
/// # Errors
/// The operating system gives no randomness.
pub fn create_authority(
    topology: &TopologyName,
    maker: &str,
    lifetimes: Lifetimes,
    now: Timestamp,
) -> Result<CertificatePair, PkiError> {
    let key = generate_key()?;
    let params = of_authority(topology, Some(maker), lifetimes.ca_valid, now);
    self_signed(&params, &key)
}

/// A CA that takes the place of another.
#[derive(Debug)]
pub struct Successor {
    /// The new CA.
    pub ca: CertificatePair,
    /// The new CA's name and key, signed by the former one (PEM): whoever trusts the former alone and is shown this between a
    /// certificate of the new CA and the end of the chain verifies it (RFC 5280, 3.2). Valid as long as the former CA.
    pub cross: String,
}

/// Makes a CA in the place of a former one, whose key is there. Without a maker it takes over the former one's: where that leads to
/// earlier ones itself, one of them may allow no CA below itself but those of its own name.
///
/// # Errors
/// The former CA is unusable, or the operating system gives no randomness.
pub fn succeed_authority(
    topology: &TopologyName,
    former: &CertificatePair,
    maker: Option<&str>,
    lifetimes: Lifetimes,
    now: Timestamp,
) -> Result<Successor, PkiError> {
    let facts = parse_certificate(&former.certificate)?;
    // One that allows no CA below itself, as those of earlier releases, allows one of its own name (RFC 5280, 4.2.1.9).
    let maker = maker.filter(|_| facts.path_length.is_none()).or(facts.maker.as_deref());
    let key = generate_key()?;
    let mut params = of_authority(topology, maker, lifetimes.ca_valid, now);
    let ca = self_signed(&params, &key)?;
    let issuer = issuer(former)?;
    let seconds = u64::try_from(facts.not_after.as_second()).unwrap_or(0);
    params.not_after = params.not_after.min(rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds));
    params.serial_number = Some(serial_number());
    params.use_authority_key_identifier_extension = true;
    let whose = || ["pgstead CA ", topology.as_str()].concat();
    let cross = params.signed_by(&key, &issuer).map_err(|source| PkiError::Issue { whose: whose(), source })?;
    Ok(Successor { ca, cross: cross.pem() })
}

/// Says whether a CA was made by pgstead for a topology: it bears the name, and nobody else vouches for it.
pub fn is_authority_of(pem: &str, topology: &TopologyName) -> bool {
    let bears =
        |facts: CertificateFacts| facts.is_ca && facts.is_self_issued && facts.subject_cn == common_name(topology);
    parse_certificate(pem).is_ok_and(bears)
}

fn common_name(topology: &TopologyName) -> String {
    let mut name = ["pgstead CA ", topology.as_str()].concat();
    name.truncate(COMMON_NAME_MAX); // Names are ASCII.
    name
}

fn of_authority(topology: &TopologyName, maker: Option<&str>, days: u32, now: Timestamp) -> CertificateParams {
    let mut params = params(&common_name(topology), None, now, days);
    if let Some(maker) = maker {
        let maker: String = [MADE_BY, maker].concat().chars().take(ORGANIZATIONAL_UNIT_MAX).collect();
        params.distinguished_name.push(DnType::OrganizationalUnitName, maker);
    }
    // Its successors stand between it and what they sign, however many there are until it ends.
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn self_signed(params: &CertificateParams, key: &KeyPair) -> Result<CertificatePair, PkiError> {
    let whose = "the CA".to_owned();
    let certificate = params.self_signed(key).map_err(|source| PkiError::Issue { whose, source })?;
    Ok(CertificatePair { certificate: certificate.pem(), key: Secret::new(key.serialize_pem()) })
}

fn issuer(ca: &CertificatePair) -> Result<Issuer<'static, KeyPair>, PkiError> {
    let key = read_key("the CA", &ca.key)?;
    Issuer::from_ca_cert_pem(&ca.certificate, key).map_err(|source| PkiError::ReadAuthority { source })
}

/// A CA that can issue certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    topology: TopologyName,
    lifetimes: Lifetimes,
    chain: String,
}

impl Authority {
    /// Takes a topology's CA into use.
    ///
    /// # Errors
    /// The certificate or the key cannot be read.
    pub fn open(topology: &TopologyName, pair: &CertificatePair, lifetimes: Lifetimes) -> Result<Self, PkiError> {
        let issuer = issuer(pair)?;
        Ok(Self { issuer, topology: topology.clone(), lifetimes, chain: String::new() })
    }

    /// Lets every certificate that it issues be followed by these: what leads to former CAs ([`Successor::cross`]).
    pub fn with_chain(self, chain: &str) -> Self {
        Self { chain: chain.to_owned(), ..self }
    }

    /// Issues a server's certificate for the names and addresses under which clients reach it.
    ///
    /// Every given address goes in, and the server's name where it is a host name, so that `verify-full` holds
    /// whichever of them a client dials (hazard 76).
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn issue_server(
        &self,
        name: &ServerName,
        addresses: &[Address],
        now: Timestamp,
    ) -> Result<CertificatePair, PkiError> {
        let mut ips: BTreeSet<IpAddr> = BTreeSet::new();
        let mut hosts: BTreeSet<String> = BTreeSet::new();
        if is_host_name(name.as_str()) {
            hosts.insert(name.as_str().to_ascii_lowercase());
        }
        for address in addresses {
            match address {
                Address::Ip(ip) => drop(ips.insert(*ip)),
                Address::Name(host) => drop(hosts.insert(host.clone())),
            }
        }
        let mut params = params(name.as_str(), Some(&self.topology), now, self.lifetimes.valid);
        for host in hosts {
            let host = host.try_into().map_err(|source| PkiError::Issue { whose: name.to_string(), source })?;
            params.subject_alt_names.push(SanType::DnsName(host));
        }
        params.subject_alt_names.extend(ips.into_iter().map(SanType::IpAddress));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(name.as_str(), params)
    }

    /// Issues a server's client certificate, with which it streams from its upstream; `pg_ident.conf` maps its common
    /// name to a role.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn issue_client(&self, name: &ServerName, now: Timestamp) -> Result<CertificatePair, PkiError> {
        self.client(name.as_str(), now)
    }

    /// Issues the client certificate of the operator's machine.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn issue_operator(&self, now: Timestamp) -> Result<CertificatePair, PkiError> {
        self.client(OPERATOR_NAME, now)
    }

    fn client(&self, name: &str, now: Timestamp) -> Result<CertificatePair, PkiError> {
        let mut params = params(name, Some(&self.topology), now, self.lifetimes.valid);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(name, params)
    }

    fn issue(&self, whose: &str, mut params: CertificateParams) -> Result<CertificatePair, PkiError> {
        let key = generate_key()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(|source| PkiError::Issue { whose: whose.to_owned(), source })?;
        let certificate = [certificate.pem().as_str(), &self.chain].concat();
        Ok(CertificatePair { certificate, key: Secret::new(key.serialize_pem()) })
    }
}

fn generate_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|source| PkiError::GenerateKey { source })
}

pub(super) fn read_key(whose: &str, key: &Secret) -> Result<KeyPair, PkiError> {
    KeyPair::from_pem(key.expose()).map_err(|source| PkiError::ReadKey { whose: whose.to_owned(), source })
}

fn params(common_name: &str, organization: Option<&TopologyName>, now: Timestamp, days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    if let Some(topology) = organization {
        params.distinguished_name.push(DnType::OrganizationName, topology.as_str());
    }
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(seconds.saturating_sub(u64::from(BACKDATED_HOURS) * 3600));
    params.not_after = epoch + Duration::from_secs(seconds + u64::from(days) * 86_400);
    params.serial_number = Some(serial_number());
    params
}

fn serial_number() -> SerialNumber {
    let mut serial: [u8; 16] = rand::random();
    serial[0] = serial[0] & 0x7f | 0x40; // Positive and of full length.
    SerialNumber::from_slice(&serial)
}

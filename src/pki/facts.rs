//! Reading certificates, our own and what servers hold or serve.

use std::net::IpAddr;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_crl;
use x509_parser::pem::Pem;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use crate::model::secret::Secret;
use crate::pki::PkiError;
use crate::pki::issue::{MADE_BY, read_key};

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The common name of its subject.
    pub subject_cn: String,
    /// The common name of its issuer.
    pub issuer_cn: String,
    /// The DNS names it is for.
    pub dns_names: Vec<String>,
    /// The addresses it is for.
    pub ip_addresses: Vec<IpAddr>,
    /// From when on it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
    /// Who made it, `user@host`; only a CA says that, and one of an earlier release does not.
    pub maker: Option<String>,
    /// Whether it may sign certificates.
    pub is_ca: bool,
    /// How many CAs may stand between it and a server's certificate; none where nothing is said.
    pub path_length: Option<u32>,
    /// Whether it names itself as its issuer: nobody else vouches for it.
    pub is_self_issued: bool,
    /// SHA-256 of the whole certificate, lower-case hex, as `openssl x509 -fingerprint -sha256` without colons.
    pub fingerprint_sha256: String,
    /// SHA-256 of the public key (SubjectPublicKeyInfo), lower-case hex: equal for renewed certificates of one key.
    pub public_key_sha256: String,
}

impl CertificateFacts {
    /// Names the certificate: the first digits of its fingerprint.
    pub fn id(&self) -> String {
        self.fingerprint_sha256.chars().take(16).collect()
    }

    /// Returns how many whole days are left; negative once it has expired.
    pub fn days_left(&self, now: Timestamp) -> i64 {
        (self.not_after.as_second() - now.as_second()).div_euclid(86_400)
    }
}

/// Reads the first certificate of a PEM text.
///
/// # Errors
/// The text holds no certificate that can be read.
pub fn parse_certificate(pem: &str) -> Result<CertificateFacts, PkiError> {
    let pem = first(pem)?;
    let certificate = decode(&pem)?;
    let mut facts = CertificateFacts {
        subject_cn: common_name(certificate.subject()),
        issuer_cn: common_name(certificate.issuer()),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        not_before: timestamp(certificate.validity().not_before)?,
        not_after: timestamp(certificate.validity().not_after)?,
        maker: maker(certificate.subject()),
        is_ca: certificate.is_ca(),
        path_length: certificate
            .basic_constraints()
            .ok()
            .flatten()
            .and_then(|constraints| constraints.value.path_len_constraint),
        is_self_issued: certificate.issuer().as_raw() == certificate.subject().as_raw(),
        fingerprint_sha256: hex(&Sha256::digest(&pem.contents)),
        public_key_sha256: hex(&Sha256::digest(certificate.public_key().raw)),
    };
    let names = certificate.subject_alternative_name().map_err(|error| unreadable(&error))?;
    for name in names.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => facts.dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => facts.ip_addresses.extend(ip(bytes)),
            _ => {}
        }
    }
    Ok(facts)
}

/// Verifies that a CA signed a certificate. Says nothing about validity periods.
///
/// # Errors
/// One of them cannot be read, the names do not fit, the CA may not sign, or the signature is wrong.
pub fn verify_signed_by(leaf_pem: &str, ca_pem: &str) -> Result<(), PkiError> {
    let (leaf_pem, ca_pem) = (first(leaf_pem)?, first(ca_pem)?);
    let (leaf, ca) = (decode(&leaf_pem)?, decode(&ca_pem)?);
    let refuse = |detail: String| PkiError::NotSignedBy {
        subject: common_name(leaf.subject()),
        authority: common_name(ca.subject()),
        detail,
    };
    if !ca.is_ca() {
        return Err(refuse("the signer is not a CA".to_owned()));
    }
    if leaf.issuer().as_raw() != ca.subject().as_raw() {
        return Err(refuse("it names another issuer".to_owned()));
    }
    leaf.verify_signature(Some(ca.public_key())).map_err(|_| refuse("the signature does not fit".to_owned()))
}

/// Says whether a private key belongs to a certificate (hazard 77).
///
/// # Errors
/// One of them cannot be read.
pub fn key_matches(certificate_pem: &str, key: &Secret) -> Result<bool, PkiError> {
    let pem = first(certificate_pem)?;
    let certificate = decode(&pem)?;
    let key = read_key(&common_name(certificate.subject()), key)?;
    Ok(certificate.public_key().subject_public_key.data.as_ref() == key.public_key_raw())
}

/// Splits a bundle into its certificates, each again PEM, without the text between them.
///
/// # Errors
/// Something between BEGIN and END is not PEM, or is no certificate.
pub fn split_bundle(bundle: &str) -> Result<Vec<String>, PkiError> {
    let mut certificates = Vec::new();
    for pem in Pem::iter_from_buffer(bundle.as_bytes()) {
        let pem = pem.map_err(|error| unreadable(&error))?;
        decode(&pem)?;
        certificates.push(encode(&pem.contents));
    }
    Ok(certificates)
}

/// Returns when a revocation list (PEM) promises its next update, where it does.
///
/// # Errors
/// The text holds no list that can be read.
pub fn crl_next_update(text: &str) -> Result<Option<Timestamp>, PkiError> {
    let refuse = |detail: String| PkiError::ReadRevocations { detail };
    let pem = match Pem::iter_from_buffer(text.as_bytes()).next() {
        Some(Ok(pem)) if pem.label == "X509 CRL" => pem,
        Some(Ok(pem)) => return Err(refuse(["the block is a ", &pem.label].concat())),
        Some(Err(error)) => return Err(refuse(error.to_string())),
        None => return Err(refuse("there is no PEM block".to_owned())),
    };
    let (_, list) = parse_x509_crl(&pem.contents).map_err(|error| refuse(error.to_string()))?;
    list.next_update().map(timestamp).transpose()
}

/// Returns a certificate as it came over the wire (DER) as PEM.
pub fn pem_of(der: &[u8]) -> String {
    encode(der)
}

fn first(text: &str) -> Result<Pem, PkiError> {
    match Pem::iter_from_buffer(text.as_bytes()).next() {
        Some(Ok(pem)) => Ok(pem),
        Some(Err(error)) => Err(unreadable(&error)),
        None => Err(PkiError::ReadCertificate { detail: "there is no PEM block".to_owned() }),
    }
}

fn decode(pem: &Pem) -> Result<X509Certificate<'_>, PkiError> {
    if pem.label != "CERTIFICATE" {
        return Err(PkiError::ReadCertificate { detail: ["the block is a ", &pem.label].concat() });
    }
    pem.parse_x509().map_err(|error| unreadable(&error))
}

fn encode(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for (index, c) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}

fn unreadable(error: &impl ToString) -> PkiError {
    PkiError::ReadCertificate { detail: error.to_string() }
}

fn common_name(name: &X509Name<'_>) -> String {
    name.iter_common_name().next().and_then(|cn| cn.as_str().ok()).unwrap_or_default().to_owned()
}

fn maker(name: &X509Name<'_>) -> Option<String> {
    let units = name.iter_organizational_unit().filter_map(|unit| unit.as_str().ok());
    units.filter_map(|unit| unit.strip_prefix(MADE_BY)).map(str::to_owned).next()
}

fn timestamp(time: ASN1Time) -> Result<Timestamp, PkiError> {
    Timestamp::from_second(time.timestamp()).map_err(|error| unreadable(&error))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

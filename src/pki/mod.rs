//! Certificates: the topology's CA, a server and a client certificate for every server, one for the operator.
//!
//! Pure: no file, no network, and the time is an argument. Randomness is the operating system's, since a generator
//! passed in could be a predictable one. Keys are ECDSA P-256 and never Ed25519: a certificate signed with Ed25519
//! breaks SCRAM channel binding (hazard 81). The passwords of roles are made here, too. This is the only module that knows `rcgen` and `x509_parser`.

mod facts;
mod issue;
mod scram;
mod secrets;

pub use crate::pki::facts::{
    CertificateFacts, crl_next_update, key_matches, parse_certificate, pem_of, split_bundle, verify_signed_by,
};
pub use crate::pki::issue::{Authority, Successor, create_authority, is_authority_of, succeed_authority};
pub use crate::pki::secrets::{Made, OperatorSecrets, RolePassword, StoredSecrets, Succession};

use crate::model::secret::Secret;

/// How far a certificate's beginning lies back, since clocks differ (hazard 15).
pub const BACKDATED_HOURS: u32 = 1;

/// The role and common name under which the operator's machine connects.
pub const OPERATOR_NAME: &str = "pgstead";

/// A certificate and its private key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificatePair {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS #8.
    pub key: Secret,
}

/// What can go wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A key could not be made.
    #[error("could not generate a private key")]
    GenerateKey {
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A private key could not be read.
    #[error("the private key of {whose} is not a usable PKCS #8 PEM text")]
    ReadKey {
        /// Whose it is.
        whose: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// The CA's certificate could not be used to sign.
    #[error("the certificate of the CA cannot be used for signing")]
    ReadAuthority {
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A certificate could not be made.
    #[error("could not issue the certificate of {whose}")]
    Issue {
        /// Whose it would be.
        whose: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A text is not a PEM certificate.
    #[error("not a PEM certificate: {detail}")]
    ReadCertificate {
        /// What is wrong with it.
        detail: String,
    },
    /// A text is not a PEM certificate revocation list.
    #[error("not a PEM certificate revocation list: {detail}")]
    ReadRevocations {
        /// What is wrong with it.
        detail: String,
    },
    /// A private key belongs to another certificate.
    #[error("the private key of {whose} does not belong to its certificate")]
    ForeignKey {
        /// Whose it is.
        whose: String,
    },
    /// A CA is to take the place of one that is not there.
    #[error("a new CA was begun with, and the one whose place it takes cannot be read")]
    FormerMissing,
    /// A certificate was not signed by the CA.
    #[error("the certificate of \"{subject}\" was not signed by \"{authority}\": {detail}")]
    NotSignedBy {
        /// The certificate's common name.
        subject: String,
        /// The CA's common name.
        authority: String,
        /// What does not fit.
        detail: String,
    },
}

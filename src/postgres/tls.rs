//! TLS as every session of ours uses it: the topology's CA and no other, our client certificate, `verify-full`.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::pki::CertificatePair;
use crate::postgres::error::PostgresError;

/// What TLS trusts and shows. Cheap to clone; one serves all sessions of a run.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Takes the CA's certificates (one, or two while the CA is being replaced) and the operator's own pair.
    ///
    /// # Errors
    /// One of them cannot be read, or the key does not belong to the certificate.
    pub fn new(ca_bundle: &str, operator: &CertificatePair) -> Result<Self, PostgresError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates("the CA's certificate", ca_bundle)? {
            roots.add(certificate).map_err(|error| unusable("the CA's certificate", &error))?;
        }
        let chain = certificates("the operator's certificate", &operator.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(operator.key.expose().as_bytes())
            .map_err(|error| unusable("the operator's key", &error))?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("the TLS library", &error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| unusable("the operator's key", &error))?;
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn connector(&self) -> MakeRustlsConnect {
        MakeRustlsConnect::new(ClientConfig::clone(&self.0))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, PostgresError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(what, &error))?;
    if found.is_empty() {
        return Err(unusable(what, &"there is no certificate in it"));
    }
    Ok(found)
}

fn unusable(what: &'static str, error: &impl ToString) -> PostgresError {
    PostgresError::Tls { what, detail: error.to_string() }
}

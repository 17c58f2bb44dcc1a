//! TLS as sessions of ours use it: the topology's CA and no other, our client certificate, `verify-full`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::model::name::ServerName;
use crate::pki::CertificatePair;
use crate::postgres::client::{ConnectWish, TlsProblem, tls_problem, within};
use crate::postgres::error::PostgresError;

/// What every PostgreSQL answers at once, with one byte (manual, 55.2.1: SSLRequest).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What TLS trusts and shows. Cheap to clone; one serves all sessions of a run.
///
/// It remembers which certificate each server has shown, also one that was refused.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    verifier: Arc<WebPkiServerVerifier>,
    has_certificate: bool,
    shown: Arc<Mutex<BTreeMap<ServerName, Vec<u8>>>>,
}

impl Tls {
    /// Takes the CA's certificates (one, or two while the CA is being replaced) and the operator's own pair.
    ///
    /// # Errors
    /// One of them cannot be read, or the key does not belong to the certificate.
    pub fn new(ca_bundle: &str, operator: &CertificatePair) -> Result<Self, PostgresError> {
        let chain = certificates("the operator's certificate", &operator.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(operator.key.expose().as_bytes())
            .map_err(|error| unusable("the operator's key", &error))?;
        Self::of(ca_bundle, Some((chain, key)))
    }

    /// Takes the CA's certificates alone: with these one can see who answers, and not log in.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn without_certificate(ca_bundle: &str) -> Result<Self, PostgresError> {
        Self::of(ca_bundle, None)
    }

    fn of(
        ca_bundle: &str,
        own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<Self, PostgresError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates("the CA's certificate", ca_bundle)? {
            roots.add(certificate).map_err(|error| unusable("the CA's certificate", &error))?;
        }
        let has_certificate = own.is_some();
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|error| unusable("the CA's certificate", &error))?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("the TLS library", &error))?
            .with_webpki_verifier(Arc::clone(&verifier));
        let mut config = match own {
            Some((chain, key)) => {
                builder.with_client_auth_cert(chain, key).map_err(|error| unusable("the operator's key", &error))?
            }
            None => builder.with_no_client_auth(),
        };
        // A resumed session shows no certificate.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), verifier, has_certificate, shown: Arc::default() })
    }

    /// Says whether there is a certificate to log in with.
    pub fn has_certificate(&self) -> bool {
        self.has_certificate
    }

    /// Looks which certificate a server shows, and does not log in. It is remembered, whether or not it proves anything.
    ///
    /// # Errors
    /// It speaks no TLS, or its certificate proves nothing.
    pub async fn look<S>(&self, wish: &ConnectWish, mut stream: S) -> Result<(), PostgresError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        const WHAT: &str = "see which certificate it serves";
        let server = &wish.server;
        let no_tls =
            || PostgresError::Answer { server: server.clone(), what: WHAT, detail: "it does not speak TLS".to_owned() };
        let look = async {
            let asked = async {
                stream.write_all(&SSL_REQUEST).await?;
                stream.read_u8().await
            };
            if asked.await.ok() != Some(b'S') {
                return Err(no_tls());
            }
            let mut connector = self.connector(server);
            let Ok(connect) = MakeTlsConnect::<S>::make_tls_connect(&mut connector, &wish.verify_name);
            match TlsConnect::<S>::connect(connect, stream).await {
                Ok(_) => Ok(()),
                Err(error) => Err(match tls_problem(&error) {
                    Some(TlsProblem::Theirs(detail)) => PostgresError::Certificate {
                        server: server.clone(),
                        verify_name: wish.verify_name.clone(),
                        detail,
                    },
                    _ => no_tls(),
                }),
            }
        };
        within(server, WHAT, wish.connect_timeout, look).await?
    }

    /// Returns the certificate (DER) that a server showed last, whether or not it was accepted.
    pub fn shown_by(&self, server: &ServerName) -> Option<Vec<u8>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).get(server).cloned()
    }

    pub(super) fn connector(&self, server: &ServerName) -> MakeRustlsConnect {
        let mut config = ClientConfig::clone(&self.config);
        let verifier = Remembering { tls: self.clone(), server: server.clone() };
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        MakeRustlsConnect::new(config)
    }
}

/// Verifies as `rustls` itself does, and remembers what was shown.
#[derive(Debug)]
struct Remembering {
    tls: Tls,
    server: ServerName,
}

impl ServerCertVerifier for Remembering {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &rustls::pki_types::ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut shown = self.tls.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.insert(self.server.clone(), end_entity.to_vec());
        drop(shown);
        self.tls.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.tls.verifier.supported_verify_schemes()
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

//! One session.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Config, NoTls, Row};

use crate::model::name::ServerName;
use crate::model::session;
use crate::model::version::Major;
use crate::pki::OPERATOR_NAME;
use crate::postgres::error::PostgresError;
use crate::postgres::tls::Tls;

/// How much longer than the server's own timeout we wait for it: a cut link never sends a cancellation.
const GRACE: Duration = Duration::from_secs(2);

/// What a session should be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectWish {
    /// The server, for messages.
    pub server: ServerName,
    /// The local socket that leads to it.
    pub socket: PathBuf,
    /// The name or address that its certificate must prove: what the inventory gives, whatever the transport is.
    pub verify_name: String,
    pub database: String,
    /// The role.
    pub user: String,
    /// The server's version, where it is known: what it has is set, too.
    pub version: Option<Major>,
    /// How long opening the session may take.
    pub connect_timeout: Duration,
    /// `statement_timeout` of the session.
    pub statement_timeout: Duration,
    /// `lock_timeout` of the session.
    pub lock_timeout: Duration,
}

impl ConnectWish {
    /// Returns the usual wish: role `pgstead` on database `postgres`.
    pub fn new(server: ServerName, socket: impl AsRef<Path>, verify_name: impl Into<String>) -> Self {
        Self {
            server,
            socket: socket.as_ref().to_owned(),
            verify_name: verify_name.into(),
            database: "postgres".to_owned(),
            user: OPERATOR_NAME.to_owned(),
            version: None,
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(2),
        }
    }

    /// Settings travel in the startup message: they cost no round trip and hold from the first statement on. Of two, the later
    /// wins.
    fn options(&self, mut options: String) -> String {
        options.push_str(" -c statement_timeout=");
        options.push_str(&self.statement_timeout.as_millis().to_string());
        options.push_str(" -c lock_timeout=");
        options.push_str(&self.lock_timeout.as_millis().to_string());
        options
    }
}

impl ConnectWish {
    fn config(&self, options: String) -> Config {
        let mut config = Config::new();
        config.user(&self.user).dbname(&self.database).application_name(OPERATOR_NAME).options(self.options(options));
        config
    }

    /// Opens the local socket that leads to the server.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn dial(&self) -> Result<UnixStream, PostgresError> {
        UnixStream::connect(&self.socket).await.map_err(|source| PostgresError::Socket {
            server: self.server.clone(),
            path: self.socket.clone(),
            source,
        })
    }
}

/// An open session. Dropping it closes the connection.
#[derive(Debug)]
pub struct Client {
    server: ServerName,
    inner: tokio_postgres::Client,
    connection: JoinHandle<()>,
    patience: Duration,
}

impl Client {
    /// Opens a session.
    ///
    /// # Errors
    /// The socket does not answer, the server's certificate proves nothing, or the server refuses the session.
    pub async fn connect(wish: &ConnectWish, tls: &Tls) -> Result<Self, PostgresError> {
        within(&wish.server, "open a PostgreSQL session", wish.connect_timeout, Self::open(wish, tls)).await?
    }

    /// Opens a session over a stream that leads to the server's local socket, as a superuser of its own machine. Where `role` is
    /// one of the server's, the session works as that role from its first statement on.
    ///
    /// The stream itself proves whose server it is.
    ///
    /// # Errors
    /// The server refuses the session.
    pub async fn connect_locally(
        wish: &ConnectWish,
        role: Option<&str>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, PostgresError> {
        let mut config = wish.config(session::options_as(wish.version, role));
        config.ssl_mode(SslMode::Disable);
        let open = Self::open_over(wish, &config, stream, NoTls);
        within(&wish.server, "open a PostgreSQL session", wish.connect_timeout, open).await?
    }

    /// Opens a session over TLS through a stream that leads to the server, where no local socket does.
    ///
    /// # Errors
    /// The server's certificate proves nothing, or the server refuses the session.
    pub async fn connect_over(
        wish: &ConnectWish,
        tls: &Tls,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, PostgresError> {
        let open = Self::open_tls(wish, tls, stream);
        within(&wish.server, "open a PostgreSQL session", wish.connect_timeout, open).await?
    }

    async fn open(wish: &ConnectWish, tls: &Tls) -> Result<Self, PostgresError> {
        Self::open_tls(wish, tls, wish.dial().await?).await
    }

    async fn open_tls<S>(wish: &ConnectWish, tls: &Tls, stream: S) -> Result<Self, PostgresError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut config = wish.config(session::options(wish.version));
        config.ssl_mode(SslMode::Require);
        let mut connector = tls.connector(&wish.server);
        let Ok(connect) = MakeTlsConnect::<S>::make_tls_connect(&mut connector, &wish.verify_name);
        Self::open_over(wish, &config, stream, connect).await
    }

    async fn open_over<S, T>(wish: &ConnectWish, config: &Config, stream: S, tls: T) -> Result<Self, PostgresError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: TlsConnect<S>,
        T::Stream: Send + 'static,
    {
        let server = wish.server.clone();
        let (inner, connection) =
            config.connect_raw(stream, tls).await.map_err(|source| match tls_problem(&source) {
                Some(TlsProblem::Ours(detail)) => PostgresError::NotTrusted { server: server.clone(), detail },
                Some(TlsProblem::Theirs(detail)) => {
                    PostgresError::Certificate { server: server.clone(), verify_name: wish.verify_name.clone(), detail }
                }
                None => PostgresError::Connect { server: server.clone(), source },
            })?;
        // What ends the connection shows in the next query.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { server, inner, connection, patience: wish.statement_timeout + GRACE })
    }

    /// Returns the server's name.
    pub fn server(&self) -> &ServerName {
        &self.server
    }

    /// Says whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// Runs one statement in one round trip. Several calls polled together are pipelined in the order of polling.
    pub(super) async fn query(
        &self,
        what: &'static str,
        sql: &'static str,
        params: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, PostgresError> {
        within(&self.server, what, self.patience, self.inner.query_typed(sql, params))
            .await?
            .map_err(|source| PostgresError::Query { server: self.server.clone(), what, source })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

pub(super) async fn within<T>(
    server: &ServerName,
    what: &'static str,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, PostgresError> {
    timeout(limit, work).await.map_err(|_| PostgresError::TimedOut {
        server: server.clone(),
        what,
        timeout_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
    })
}

/// What TLS found wrong.
pub(super) enum TlsProblem {
    /// The server did not accept our certificate.
    Ours(String),
    /// The server's certificate proves nothing.
    Theirs(String),
}

/// Returns what TLS found wrong with a certificate, where that is the cause.
pub(super) fn tls_problem(error: &(dyn std::error::Error + 'static)) -> Option<TlsProblem> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = error
            .downcast_ref::<rustls::Error>()
            .or_else(|| inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()));
        match tls {
            Some(rustls::Error::InvalidCertificate(problem)) => return Some(TlsProblem::Theirs(problem.to_string())),
            // A server that verifies us and does not like what it sees says so in an alert.
            Some(rustls::Error::AlertReceived(alert)) if is_about_a_certificate(*alert) => {
                return Some(TlsProblem::Ours(format!("{alert:?}")));
            }
            _ => {}
        }
        cause = error.source();
    }
    None
}

fn is_about_a_certificate(alert: AlertDescription) -> bool {
    use AlertDescription::*;
    matches!(
        alert,
        BadCertificate
            | UnsupportedCertificate
            | CertificateRevoked
            | CertificateExpired
            | CertificateUnknown
            | UnknownCA
            | AccessDenied
            | DecryptError
            | CertificateRequired
    )
}

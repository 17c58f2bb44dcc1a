//! One session.

use std::error::Error as _;
use std::future::Future;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres::Row;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::types::Type;

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
    /// The database.
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
    fn options(&self) -> String {
        let mut options = session::options(self.version);
        options.push_str(" -c statement_timeout=");
        options.push_str(&self.statement_timeout.as_millis().to_string());
        options.push_str(" -c lock_timeout=");
        options.push_str(&self.lock_timeout.as_millis().to_string());
        options
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

    async fn open(wish: &ConnectWish, tls: &Tls) -> Result<Self, PostgresError> {
        let server = wish.server.clone();
        let stream = UnixStream::connect(&wish.socket).await.map_err(|source| PostgresError::Socket {
            server: server.clone(),
            path: wish.socket.clone(),
            source,
        })?;
        let mut config = Config::new();
        config
            .user(&wish.user)
            .dbname(&wish.database)
            .application_name(OPERATOR_NAME)
            .options(wish.options())
            .ssl_mode(SslMode::Require);
        let mut connector = tls.connector(&wish.server);
        let Ok(connect) = MakeTlsConnect::<UnixStream>::make_tls_connect(&mut connector, &wish.verify_name);
        let (inner, connection) =
            config.connect_raw(stream, connect).await.map_err(|source| match certificate_problem(&source) {
                Some(detail) => {
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

async fn within<T>(
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

/// Returns what TLS found wrong with the server's certificate, where that is the cause.
fn certificate_problem(error: &tokio_postgres::Error) -> Option<String> {
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = error
            .downcast_ref::<rustls::Error>()
            .or_else(|| inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()));
        if let Some(rustls::Error::InvalidCertificate(problem)) = tls {
            return Some(problem.to_string());
        }
        cause = error.source();
    }
    None
}

//! Doing things on servers over SSH.
//!
//! [`Host`] is the whole interface: run commands, run a probe, forward a port, relay a stream. Each is one round trip and says so with
//! [`crate::event::Event::RoundTrip`]. This is the only module that knows `openssh`. It decides nothing, retries
//! nothing and parses no facts: a lost connection is reported as [`RemoteError::OutcomeUnknown`], and the caller looks
//! again before it acts again (hazard 92).

mod classify;
mod config;
mod connect;
mod error;
pub mod former;
mod known_hosts;
mod private;
mod relay;
mod script;
mod ssh;
pub mod trust;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

pub use crate::remote::classify::ConnectReason;
pub use crate::remote::config::ConnectOptions;
pub use crate::remote::connect::{Connector, close_all};
pub use crate::remote::error::RemoteError;
pub use crate::remote::known_hosts::{HostKey, KeyState};
pub use crate::remote::relay::Relay;
pub use crate::remote::ssh::Ssh;

use crate::model::argv::{Argv, Login};
use crate::model::name::ServerName;

/// How long a look at a server may take where nothing else is said. A healthy server needs a second; an instance that does not
/// answer is given up after ten.
pub const LOOK: Duration = Duration::from_secs(20);

/// Waits for what a server does, and not for ever: `grace` longer than it may take.
async fn within<T>(
    server: &ServerName,
    limit: Duration,
    grace: Duration,
    line: impl FnOnce() -> String,
    work: impl Future<Output = Result<T, RemoteError>>,
) -> Result<T, RemoteError> {
    match tokio::time::timeout(limit + grace, work).await {
        Ok(ended) => ended,
        Err(_) => Err(RemoteError::TimedOut { server: server.clone(), line: line(), seconds: limit.as_secs() }),
    }
}

/// What a remote execution wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Returns standard output as text; bytes that are not UTF-8 become U+FFFD.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// One server that can be worked on.
#[async_trait]
pub trait Host: Send + Sync {
    /// Returns the server's name.
    fn name(&self) -> &ServerName;

    /// Runs commands one after another in one remote execution and stops at the first that fails.
    ///
    /// One command may have standard input. The output is that of all commands, in order. An empty batch
    /// costs nothing.
    async fn run(&self, batch: &[Argv], login: &Login) -> Result<Output, RemoteError>;

    /// Runs commands that end soon. Whoever has not heard of their end within `limit` knows nothing of it, as when the connection
    /// breaks: a disk that hangs holds nobody up.
    async fn run_within(&self, limit: Duration, batch: &[Argv], login: &Login) -> Result<Output, RemoteError> {
        let line = || batch.iter().map(|command| command.line(login)).collect::<Vec<_>>().join(" && ");
        within(self.name(), limit, Duration::ZERO, line, self.run(batch, login)).await
    }

    /// Runs a fixed script, sent on standard input, as root where the login can become root, else as the login user. It only
    /// looks. One that has not ended within [`LOOK`] is ended, there as well.
    async fn probe(&self, script: &str, args: &[String]) -> Result<Output, RemoteError> {
        self.probe_within(LOOK, script, args).await
    }

    /// The same of a script that may take longer, or must not take as long.
    async fn probe_within(&self, limit: Duration, script: &str, args: &[String]) -> Result<Output, RemoteError>;

    /// Forwards a private local socket to a TCP address that the server can reach, and returns the socket's path.
    ///
    /// Asking again for the same address returns the same socket. Whether anything listens there shows when the socket
    /// is used.
    async fn forward(&self, remote_host: &str, remote_port: u16) -> Result<PathBuf, RemoteError>;

    /// Fails where the server forwards nothing to such an address, as with `AllowTcpForwarding no`. Whether anything listens there is
    /// another question.
    async fn may_forward(&self, _remote_host: &str, _remote_port: u16) -> Result<(), RemoteError> {
        Ok(())
    }

    /// Runs a command whose standard input and output are a stream. It ends with the connection, or when the stream is dropped.
    async fn relay(&self, command: &Argv, login: &Login) -> Result<Relay, RemoteError>;
}

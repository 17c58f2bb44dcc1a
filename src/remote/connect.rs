//! Making and ending SSH connections: one OpenSSH master per server, all servers at once.
//!
//! The master is started here and not by `openssh::SessionBuilder`, for three reasons. It gets a process group of its
//! own, so that Ctrl-C in the terminal reaches neither it nor the proxy process of a jump host in the middle of a step.
//! Its words on failure are kept whole. And it hangs on a leash: it ends by itself seconds after its last client, and
//! one idle client connection is held for as long as we live; however this process ends, the kernel lets go of it.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use futures_util::future::join_all;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::event::Events;
use crate::model::topology::{Server, Ssh as SshWish};
use crate::remote::classify::ConnectReason;
use crate::remote::config::ConnectOptions;
use crate::remote::error::RemoteError;
use crate::remote::private::PrivateDirectory;
use crate::remote::ssh::Ssh;
use crate::remote::{classify, config, private};

/// sshd begins to drop unauthenticated connections at 10 (`MaxStartups`).
const HANDSHAKES_PER_JUMP_HOST: usize = 8;

/// How long a master outlives its last client; also how soon the leash must be on.
const LINGER: &str = "ControlPersist=5";

/// Makes connections and owns the private directory that their sockets are in.
#[derive(Debug)]
pub struct Connector {
    options: ConnectOptions,
    events: Events,
    dir: Arc<PrivateDirectory>,
    count: AtomicU32,
    gates: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Connector {
    /// Makes the private directory. Connects to nothing yet.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(options: ConnectOptions, events: Events) -> Result<Self, RemoteError> {
        let dir = PrivateDirectory::new().map_err(|source| RemoteError::Prepare { source })?;
        Ok(Self { options, events, dir: Arc::new(dir), count: AtomicU32::new(0), gates: Mutex::default() })
    }

    /// Returns the options that connections are made with.
    pub fn options(&self) -> &ConnectOptions {
        &self.options
    }

    /// Connects to one server.
    ///
    /// # Errors
    /// The connection cannot be made; the reason comes from ssh's own words.
    pub async fn connect(&self, server: &Server) -> Result<Ssh, RemoteError> {
        self.connect_with(server, &server.ssh).await
    }

    /// Connects to a server, or to one of its jump hosts dressed as one, with the configuration of `wish`.
    pub(super) async fn connect_with(&self, server: &Server, wish: &SshWish) -> Result<Ssh, RemoteError> {
        let gate = server.ssh.jump.first().map(|jump| self.gate(jump));
        let _turn = match &gate {
            Some(gate) => gate.acquire().await.ok(),
            None => None,
        };
        let place = self.prepare(wish)?;
        self.start_master(server, &place).await?;
        let leash = UnixStream::connect(&place.control).await.map_err(|source| {
            failed(server, ConnectReason::Other, &["its control socket is not there: ", &source.to_string()].concat())
        })?;
        Ok(Ssh::new(server.name.clone(), place, leash, Arc::clone(&self.dir), self.events.clone()))
    }

    /// Connects to all servers at once; results come in the order of the servers.
    pub async fn connect_all<'a>(
        &self,
        servers: impl IntoIterator<Item = &'a Server>,
    ) -> Vec<(&'a Server, Result<Ssh, RemoteError>)> {
        join_all(servers.into_iter().map(async |server| (server, self.connect(server).await))).await
    }

    fn gate(&self, jump: &str) -> Arc<Semaphore> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = gates.entry(jump.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(HANDSHAKES_PER_JUMP_HOST)));
        Arc::clone(gate)
    }

    /// Makes the directory and the configuration of one connection.
    pub(super) fn prepare(&self, wish: &SshWish) -> Result<Place, RemoteError> {
        let config = config::render(&self.options, wish)?;
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let dir = self.dir.path().join(number.to_string());
        let place = Place {
            config: dir.join(private::CONFIG),
            log: dir.join(private::LOG),
            control: dir.join(private::CONTROL),
            dir: dir.clone(),
        };
        fs::create_dir(&dir) // Its parent is 0700.
            .and_then(|()| write_private(&place.config, &config))
            .map_err(|source| RemoteError::Prepare { source })?;
        Ok(place)
    }

    async fn start_master(&self, server: &Server, place: &Place) -> Result<(), RemoteError> {
        let mut master = ssh_command(&place.config);
        master.arg("-E").arg(&place.log).arg("-S").arg(&place.control);
        master.args(["-M", "-N", "-f", "-o", LINGER]);
        if let Some(port) = server.ssh.port {
            master.arg("-p").arg(port.to_string());
        }
        if let Some(user) = &server.ssh.user {
            master.arg("-l").arg(user);
        }
        if server.ssh.identity_file.is_some() {
            master.args(["-o", "IdentitiesOnly=yes"]);
        }
        if !server.ssh.jump.is_empty() {
            if let Some(bad) = server.ssh.jump.iter().find(|jump| !is_plain_jump(jump)) {
                return Err(failed(server, ConnectReason::Jump, &["not a jump host: ", bad].concat()));
            }
            master.arg("-J").arg(server.ssh.jump.join(","));
        }
        master.arg("--").arg(server.address.to_string());
        match self.wait(master, server).await? {
            Some(true) => Ok(()),
            Some(false) => {
                let log = fs::read_to_string(&place.log).unwrap_or_default();
                let (reason, words) = (classify::reason(&log), classify::words(&log));
                if !server.ssh.jump.is_empty() && matches!(reason, ConnectReason::Jump | ConnectReason::ClosedEarly) {
                    return Err(self.explain_jump(server, place, &words).await);
                }
                Err(failed(server, reason, &words))
            }
            None => Err(failed(server, ConnectReason::TimedOut, "nothing, until the time was up")),
        }
    }

    /// Waits for ssh to go into the background or to give up; none means that the time was up.
    async fn wait(&self, mut command: Command, server: &Server) -> Result<Option<bool>, RemoteError> {
        let hops = u32::try_from(server.ssh.jump.len()).unwrap_or(u32::MAX);
        // ssh's own timeout does not cover the login itself, which a directory service or PAM can hold up.
        let limit = self.options.connect_timeout.saturating_mul(hops.saturating_add(2)) + Duration::from_secs(5);
        match timeout(limit, command.status()).await {
            Ok(Ok(status)) => Ok(Some(status.success())),
            Ok(Err(source)) => Err(failed(server, ConnectReason::NoClient, &source.to_string())),
            Err(_) => Ok(None),
        }
    }

    /// Asks again for what a master never tells: it sends the words of its proxy process to /dev/null.
    async fn explain_jump(&self, server: &Server, place: &Place, words: &str) -> RemoteError {
        let Some((last, earlier)) = server.ssh.jump.split_last() else {
            return failed(server, ConnectReason::Jump, words);
        };
        let log = place.dir.join(private::JUMP);
        let mut proxy = ssh_command(&place.config);
        proxy.arg("-E").arg(&log).arg("-W").arg(tcp_target(&server.address.to_string(), server.ssh.port.unwrap_or(22)));
        if !earlier.is_empty() {
            proxy.arg("-J").arg(earlier.join(","));
        }
        proxy.arg("--").arg(["ssh://", last].concat());
        let passed = self.wait(proxy, server).await;
        let said = fs::read_to_string(&log).unwrap_or_default();
        match passed {
            Ok(Some(false)) if !said.is_empty() => {
                let reason = match classify::reason(&said) {
                    keys @ (ConnectReason::HostKeyChanged | ConnectReason::HostKeyUnknown) => keys,
                    _ => ConnectReason::Jump,
                };
                failed(server, reason, &classify::words(&said))
            }
            Ok(Some(true)) => failed(server, ConnectReason::ClosedEarly, words),
            _ => failed(server, ConnectReason::Jump, words),
        }
    }
}

/// Closes connections, all at once. A connection that is dropped instead closes by itself some seconds later.
pub async fn close_all(connections: impl IntoIterator<Item = Ssh>) {
    join_all(connections.into_iter().map(Ssh::close)).await;
}

/// The files of one connection.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
    pub(super) config: PathBuf,
    pub(super) log: PathBuf,
    pub(super) control: PathBuf,
}

fn ssh_command(config: &Path) -> Command {
    let mut command = Command::new("ssh");
    command
        .arg("-F")
        .arg(config)
        .env("LC_ALL", "C") // The words are classified.
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// Says whether a jump host is free of anything that a shell would read: ssh starts its proxy process through one.
fn is_plain_jump(jump: &str) -> bool {
    !jump.is_empty()
        && !jump.starts_with('-')
        && jump.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | ':' | '[' | ']'))
}

/// Returns `host:port`, with brackets around an IPv6 address.
pub(super) fn tcp_target(host: &str, port: u16) -> String {
    let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
    [open, host, close, ":", &port.to_string()].concat()
}

fn failed(server: &Server, reason: ConnectReason, detail: &str) -> RemoteError {
    let mut destination = String::new();
    if let Some(user) = &server.ssh.user {
        destination.push_str(user);
        destination.push('@');
    }
    match server.ssh.port {
        Some(port) => destination.push_str(&tcp_target(&server.address.to_string(), port)),
        None => destination.push_str(&server.address.to_string()),
    }
    if !server.ssh.jump.is_empty() {
        destination.push_str(" through ");
        destination.push_str(&server.ssh.jump.join(", "));
    }
    RemoteError::Connect { server: server.name.clone(), reason, destination, detail: detail.to_owned() }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jump_hosts_reach_no_shell() {
        for good in ["bastion.example.com", "ops@10.0.0.1:2222", "[fd00::1]:22"] {
            assert!(is_plain_jump(good), "{good}");
        }
        for bad in ["", "-oProxyCommand=x", "a;b", "$(x)", "a b", "a,b", "a\nb"] {
            assert!(!is_plain_jump(bad), "{bad:?}");
        }
    }
}

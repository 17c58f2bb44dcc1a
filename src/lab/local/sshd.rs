//! One sshd per server: its configuration, its start, its readiness.
//!
//! It runs without root, on one loopback address, with keys and files of its own. It never touches the machine's sshd.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::LocalServer;
use super::command::{Identity, installed};
use super::error::LocalLabError;
use crate::lab::Failure;
use crate::lab::command::{shell_line, succeed};
use crate::lab::wait::{Look, until};

/// How long an sshd may take until it listens. On an idle machine it takes 10 ms.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Returns the path of sshd. It insists on being called by an absolute path.
pub(super) fn program() -> Result<PathBuf, LocalLabError> {
    installed("/usr/sbin/sshd", "openssh-server")
}

/// Returns the configuration of one server's sshd.
///
/// Paths need no quotes: [`super::directory::check_path`] has refused every path that would. Sessions are logged one by
/// one (`VERBOSE`), since the tests count them; `MaxSessions` stays at its default, since real servers have it too.
pub(super) fn config(server: &LocalServer, port: u16, user: &str) -> String {
    let LocalServer { name, address, directory, .. } = server;
    let directory = directory.display();
    format!(
        "# sshd of local lab server {name}; written by \"pgstead lab up\".
Port {port}
ListenAddress {address}
HostKey {directory}/host_key
PidFile {directory}/sshd.pid
AuthorizedKeysFile {directory}/authorized_keys
AllowUsers {user}
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
AllowTcpForwarding local
PermitOpen {address}:*
AllowStreamLocalForwarding no
AllowAgentForwarding no
X11Forwarding no
PermitTunnel no
PermitTTY yes
KexAlgorithms curve25519-sha256
PrintMotd no
PrintLastLog no
MaxStartups 100:30:200
LogLevel VERBOSE
"
    )
}

/// Returns the option that newer versions need: 9.8 and later shut out an address after failed logins, and here every
/// client has the same one. Older versions would refuse the option.
pub(super) fn option(identity: &Identity, server: &LocalServer) -> Result<Option<&'static str>, LocalLabError> {
    let effective =
        succeed(identity.command(program()?).arg("-T").arg("-f").arg(server.directory.join("sshd_config")))?;
    let knows_penalties = effective.lines().any(|setting| setting.starts_with("persourcepenalties"));
    Ok(knows_penalties.then_some("PerSourcePenalties=no"))
}

/// Starts the sshd of one server and waits until it listens.
pub(super) fn start(
    identity: &Identity,
    server: &LocalServer,
    port: u16,
    option: Option<&str>,
) -> Result<(), LocalLabError> {
    let pid_file = server.directory.join("sshd.pid");
    // A file left by a power cut would read as "listening".
    match std::fs::remove_file(&pid_file) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::file("remove", pid_file)(source).into());
        }
        _ => {}
    }
    let mut command = identity.command(program()?);
    command.arg("-f").arg(server.directory.join("sshd_config")).arg("-E").arg(&server.sshd_log);
    command.args(option.map(|option| ["-o", option]).into_iter().flatten());
    succeed(&mut command)?;
    // It has gone into the background by now, and writes the file once it listens, or a line that it cannot; no event
    // tells when.
    let listens = until("sshd to listen", START_LIMIT, || {
        if pid_file.exists() {
            return Ok(Look::Ready(()));
        }
        match std::fs::read_to_string(&server.sshd_log) {
            Ok(log) if log.lines().last() == Some("Cannot bind any address.") => {
                Err(LocalLabError::PortTaken { address: server.address, port })
            }
            _ => Ok(Look::NotYet(format!("no \"{}\"", pid_file.display()))),
        }
    });
    match listens {
        Err(LocalLabError::Failed(Failure::Deadline { .. })) => Err(did_not_start(server, &command)),
        other => other,
    }
}

fn did_not_start(server: &LocalServer, command: &Command) -> LocalLabError {
    let log = std::fs::read_to_string(&server.sshd_log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    LocalLabError::SshdDidNotStart {
        server: server.name.clone(),
        command: shell_line(command),
        log: lines[lines.len().saturating_sub(3)..].join("; "),
    }
}

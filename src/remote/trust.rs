//! Fetching host keys, comparing them with the recorded ones, and recording them.
//!
//! Nothing here is proof: whoever is in between can show any key. The operator compares fingerprints; that is why
//! [`scan`] records nothing and [`record`] takes exactly the keys that were shown. OpenSSH's own programs do the work
//! (`ssh -G`, `ssh-keyscan`, `ssh-keygen -F`), so that aliases, hashed names and markers mean what they mean to ssh.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{DirBuilder, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{fs, io};

use futures_util::future::join_all;
use tokio::process::Command;

use crate::model::address::Address;
use crate::model::argv::{Argv, Login, RootAccess, RunAs};
use crate::model::name::ServerName;
use crate::model::topology::Server;
use crate::remote::connect::Place;
use crate::remote::known_hosts::{compare, parse_recorded, recorded_name};
use crate::remote::{ConnectReason, Connector, Host, HostKey, KeyState, RemoteError};

/// Where an administrator records keys for all users.
pub(super) const SYSTEM_KNOWN_HOSTS: &str = "/etc/ssh/ssh_known_hosts";

/// The host keys of a server or of a jump host.
#[derive(Debug)]
pub struct Scan {
    /// The server; none for a jump host.
    pub server: Option<ServerName>,
    /// Where it was asked, as `host:port`.
    pub endpoint: String,
    /// The keys that it shows, the strongest type first.
    ///
    /// [`RemoteError::Connect`] with [`ConnectReason::HostKeyUnknown`] means: behind a jump host whose own key is not
    /// recorded yet. Record that one and scan again.
    pub keys: Result<Vec<HostKey>, RemoteError>,
}

impl Scan {
    /// Says whether a jump host's key has to be recorded before this one can be fetched.
    pub fn waits_for_jump_host(&self) -> bool {
        matches!(self.keys, Err(RemoteError::Connect { reason: ConnectReason::HostKeyUnknown, .. }))
    }
}

/// A server or a jump host, and the jump hosts before it.
struct Target {
    /// Shaped like a server, whatever it is, so that one code connects to both.
    shape: Server,
    /// The server whose connection needs it.
    owner: Server,
    is_server: bool,
}

/// Fetches the host keys of servers and of their jump hosts, all at once. Results are in the order jump hosts first,
/// then servers.
pub async fn scan<'a>(connector: &Connector, servers: impl IntoIterator<Item = &'a Server>) -> Vec<Scan> {
    let mut groups: BTreeMap<Vec<String>, Vec<Target>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut scans = Vec::new();
    for server in servers {
        for (index, jump) in server.ssh.jump.iter().enumerate() {
            let before = server.ssh.jump[..index].to_vec();
            if !seen.insert((before.clone(), jump.clone())) {
                continue;
            }
            match dressed(server, jump, before.clone()) {
                Some(shape) => {
                    let target = Target { shape, owner: server.clone(), is_server: false };
                    groups.entry(before).or_default().push(target);
                }
                None => scans.push(Scan {
                    server: None,
                    endpoint: jump.clone(),
                    keys: Err(scan_error(server, jump, "it is not of the form [user@]host[:port]")),
                }),
            }
        }
        let target = Target { shape: server.clone(), owner: server.clone(), is_server: true };
        groups.entry(server.ssh.jump.clone()).or_default().push(target);
    }
    let found = join_all(groups.iter().map(|(jumps, targets)| scan_group(connector, jumps, targets))).await;
    scans.extend(found.into_iter().flatten());
    scans.sort_by(|a, b| (&a.server, &a.endpoint).cmp(&(&b.server, &b.endpoint)));
    scans
}

impl Scan {
    /// Leaves, of the keys that are not recorded yet, the strongest alone, and none where another is recorded already.
    ///
    /// Nobody has to prove that a key is its own to show it. Whoever is in between could pass the server's key on, and show one of
    /// its own beside it: a person compares one fingerprint, finds it right, and would take both.
    pub fn leave_one_to_compare(&mut self) {
        let Ok(keys) = &mut self.keys else { return };
        let mut may_stay = keys.iter().all(|key| key.state != KeyState::Known);
        keys.retain(|key| key.state != KeyState::New || std::mem::take(&mut may_stay));
    }
}

/// Records keys in a known hosts file, which is replaced as a whole; lines that are there already are not repeated.
///
/// # Errors
/// The file cannot be read or written.
pub fn record<'a>(file: &Path, keys: impl IntoIterator<Item = &'a HostKey>) -> Result<(), RemoteError> {
    let mut text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(RemoteError::ReadKnownHosts { path: file.to_owned(), source }),
    };
    let before = text.len();
    for key in keys {
        if text.lines().any(|line| line == key.line) {
            continue;
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&key.line);
        text.push('\n');
    }
    if text.len() == before {
        return Ok(());
    }
    replace(file, &text).map_err(|source| RemoteError::WriteKnownHosts { path: file.to_owned(), source })
}

/// Scans what is reached through the same jump hosts: through one connection, or from here.
async fn scan_group(connector: &Connector, jumps: &[String], targets: &[Target]) -> Vec<Scan> {
    let Some((last, before)) = jumps.split_last() else {
        return join_all(targets.iter().map(|target| scan_one(connector, None, target))).await;
    };
    let Some(owner) = targets.first().map(|target| &target.owner) else { return Vec::new() };
    let Some(jump) = dressed(owner, last, before.to_vec()) else {
        return failed_all(targets, |target| {
            scan_error(&target.owner, last, "it is not of the form [user@]host[:port]")
        });
    };
    match connector.connect_with(&jump, &owner.ssh).await {
        Ok(session) => {
            let scans = join_all(targets.iter().map(|target| scan_one(connector, Some(&session), target))).await;
            session.close().await;
            scans
        }
        Err(RemoteError::Connect { reason, destination, detail, .. }) => {
            failed_all(targets, |target| RemoteError::Connect {
                server: target.owner.name.clone(),
                reason,
                destination: destination.clone(),
                detail: detail.clone(),
            })
        }
        Err(other) => failed_all(targets, |target| scan_error(&target.owner, last, &other.to_string())),
    }
}

fn failed_all(targets: &[Target], error: impl Fn(&Target) -> RemoteError) -> Vec<Scan> {
    let endpoint = |target: &Target| endpoint(&target.shape.address.to_string(), target.shape.ssh.port.unwrap_or(22));
    targets.iter().map(|target| target.scan(endpoint(target), Err(error(target)))).collect()
}

impl Target {
    fn scan(&self, endpoint: String, keys: Result<Vec<HostKey>, RemoteError>) -> Scan {
        Scan { server: self.is_server.then(|| self.owner.name.clone()), endpoint, keys }
    }
}

async fn scan_one(connector: &Connector, through: Option<&dyn Host>, target: &Target) -> Scan {
    let place = match connector.prepare(&target.owner.ssh) {
        Ok(place) => place,
        Err(error) => return target.scan(target.shape.address.to_string(), Err(error)),
    };
    let meant = resolve(&place, &target.shape).await;
    let keys = fetch(connector, through, target, &meant).await;
    target.scan(endpoint(&meant.host, meant.port), keys)
}

async fn fetch(
    connector: &Connector,
    through: Option<&dyn Host>,
    target: &Target,
    meant: &Meant,
) -> Result<Vec<HostKey>, RemoteError> {
    let failed = |detail: &str| scan_error(&target.owner, &endpoint(&meant.host, meant.port), detail);
    let command = Argv::new(RunAs::Login, "ssh-keyscan")
        .args(["-T", "5", "-t", "ed25519,ecdsa,rsa", "-p"])
        .arg(meant.port.to_string())
        .args(["--", &meant.host]);
    let scanned = match through {
        Some(host) => {
            let login = Login { user: String::new(), root: RootAccess::None };
            let output = host.run(std::slice::from_ref(&command), &login).await;
            output.map_err(|error| failed(&failure_words(&error)))?.text()
        }
        None => {
            let output = local(&command.program).args(&command.args).output().await;
            let output = output.map_err(|error| failed(&["ssh-keyscan: ", &error.to_string()].concat()))?;
            if !output.status.success() {
                return Err(failed(&said(&output.stderr)));
            }
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
    };
    let files = target.owner.ssh.known_hosts.iter().chain([&connector.options().known_hosts]);
    let files = files.cloned().chain(connector.options().user_known_hosts.clone()).chain([SYSTEM_KNOWN_HOSTS.into()]);
    let mut recorded = Vec::new();
    for file in files.map(|file| expand_home(&file)).filter(|file| file.exists()) {
        let output = local("ssh-keygen").arg("-F").arg(&meant.name).arg("-f").arg(&file).output().await;
        let output = output.map_err(|source| RemoteError::ReadKnownHosts { path: file.clone(), source })?;
        recorded.extend(parse_recorded(&String::from_utf8_lossy(&output.stdout)));
    }
    let keys = compare(&scanned, &meant.name, &recorded);
    if keys.is_empty() { Err(failed("it shows no key of a type that is checked")) } else { Ok(keys) }
}

/// Where ssh goes, and under which name it looks the key up.
pub(super) struct Meant {
    host: String,
    port: u16,
    pub(super) name: String,
}

/// Asks ssh what the user's configuration makes of an address; where it does not say, the inventory's words count.
pub(super) async fn resolve(place: &Place, shape: &Server) -> Meant {
    let mut command = local("ssh");
    command.arg("-F").arg(&place.config).arg("-G");
    if let Some(port) = shape.ssh.port {
        command.arg("-p").arg(port.to_string());
    }
    if let Some(user) = &shape.ssh.user {
        command.arg("-l").arg(user);
    }
    command.arg("--").arg(shape.address.to_string());
    let output = command.output().await.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output).into_owned();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).map(str::to_owned);
    let written = shape.address.to_string();
    // What goes to ssh-keyscan must be an address, wherever it comes from.
    let host = value("hostname").filter(|host| host.parse::<Address>().is_ok()).unwrap_or(written);
    let port = value("port").and_then(|port| port.parse().ok()).or(shape.ssh.port).unwrap_or(22);
    let alias = value("hostkeyalias").filter(|alias| alias.parse::<Address>().is_ok());
    Meant { name: alias.unwrap_or_else(|| recorded_name(&host, port)), host, port }
}

/// Returns a jump host, `[user@]host[:port]`, in the shape of a server behind `before`.
fn dressed(owner: &Server, jump: &str, before: Vec<String>) -> Option<Server> {
    let (user, rest) = match jump.rsplit_once('@') {
        Some((user, rest)) => (Some(user.to_owned()), rest),
        None => (None, jump),
    };
    let (host, port) = match rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':')?)),
        None if rest.matches(':').count() > 1 => (rest, None),
        None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    let mut shape = owner.clone();
    shape.address = host.parse().ok()?;
    shape.ssh.user = user;
    shape.ssh.port = port.map(str::parse).transpose().ok()?;
    shape.ssh.jump = before;
    shape.ssh.identity_file = None; // The configuration has it; other keys count for a jump host, too.
    Some(shape)
}

pub(super) fn local(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn endpoint(host: &str, port: u16) -> String {
    crate::remote::connect::tcp_target(host, port)
}

fn scan_error(owner: &Server, address: &str, detail: &str) -> RemoteError {
    RemoteError::ScanHostKeys { server: owner.name.clone(), address: address.to_owned(), detail: detail.to_owned() }
}

fn failure_words(error: &RemoteError) -> String {
    match error {
        RemoteError::Command { stderr, status: Some(127), .. } if stderr.is_empty() => {
            "the jump host has no ssh-keyscan".to_owned()
        }
        RemoteError::Command { stderr, .. } => said(stderr),
        other => other.to_string(),
    }
}

fn said(stderr: &[u8]) -> String {
    match String::from_utf8_lossy(stderr).trim() {
        "" => "nothing answers there like an SSH server".to_owned(),
        text => text.to_owned(),
    }
}

/// ssh expands `~` by itself; ssh-keygen does not.
pub(super) fn expand_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

/// Replaces a known hosts file as a whole.
pub(super) fn replace(file: &Path, text: &str) -> io::Result<()> {
    let dir = file.parent().filter(|dir| *dir != Path::new("")).map_or_else(|| OsString::from("."), OsString::from);
    DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let mut temporary = tempfile::Builder::new().prefix(".new-").tempfile_in(&dir)?;
    temporary.as_file().set_permissions(Permissions::from_mode(0o600))?;
    temporary.write_all(text.as_bytes())?;
    temporary.as_file().sync_all()?;
    temporary.persist(file)?;
    fs::File::open(&dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::topology::Ssh;

    fn owner() -> Server {
        Server {
            name: "a".parse().unwrap(),
            address: "10.0.0.1".parse().unwrap(),
            site: "main".parse().unwrap(),
            port: 5432,
            parameters: Default::default(),
            data_directory: None,
            tablespaces: Default::default(),
            bin_directory: None,
            service: None,
            ssh: Ssh { user: Some("ops".into()), identity_file: Some("k".into()), ..Ssh::default() },
        }
    }

    #[test]
    fn one_key_is_left_to_compare() {
        use KeyState::{Changed, Known, New};
        let left = |states: &[KeyState]| {
            let key = |(number, state): (usize, &KeyState)| HostKey {
                key_type: number.to_string(),
                fingerprint: String::new(),
                state: *state,
                line: String::new(),
            };
            let keys = Ok(states.iter().enumerate().map(key).collect());
            let mut scan = Scan { server: None, endpoint: "10.0.0.1:22".into(), keys };
            scan.leave_one_to_compare();
            scan.keys.unwrap().into_iter().map(|key| (key.key_type, key.state)).collect::<Vec<_>>()
        };
        let told = |keys: &[(&str, KeyState)]| {
            keys.iter().map(|(number, state)| ((*number).to_owned(), *state)).collect::<Vec<_>>()
        };
        assert_eq!(left(&[New, New, New]), told(&[("0", New)]));
        assert_eq!(left(&[New, Known, New]), told(&[("1", Known)]));
        assert_eq!(left(&[Changed, New, New]), told(&[("0", Changed), ("1", New)]));
        assert_eq!(left(&[]), []);
    }

    #[test]
    fn jump_hosts_are_read_as_ssh_reads_them() {
        let read = |jump: &str| {
            dressed(&owner(), jump, vec![]).map(|shape| (shape.ssh.user, shape.address.to_string(), shape.ssh.port))
        };
        let user = |name: &str| Some(name.to_owned());
        assert_eq!(read("bastion"), Some((None, "bastion".into(), None)));
        assert_eq!(read("u@10.0.0.9:2222"), Some((user("u"), "10.0.0.9".into(), Some(2222))));
        assert_eq!(read("u@[fd00::1]:22"), Some((user("u"), "fd00::1".into(), Some(22))));
        assert_eq!(read("[fd00::1]"), Some((None, "fd00::1".into(), None)));
        assert_eq!(read("fd00::1"), Some((None, "fd00::1".into(), None)));
        for bad in ["", "-oX", "a b", "h:port", "$(x)"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}

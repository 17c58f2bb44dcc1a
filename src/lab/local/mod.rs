//! The local lab: each server is an sshd of its own on 127.0.0.x and a directory; no root is needed.
//!
//! [`up`] makes the servers, keys and an inventory; data directories are made by `bootstrap`, as on real servers.
//! [`down`] stops what runs in the lab and removes exactly the lab directory. Nothing here prints or asks, and nothing
//! outside the lab directory is changed.
//!
//! Run by root, everything but the operator's key belongs to `postgres` and runs as that OS user; run by anybody else,
//! everything is theirs. What it cannot imitate: servers connect from 127.0.0.1, whatever address they listen on.

mod backend;
mod command;
mod directory;
mod error;
mod inventory;
mod place;
mod processes;
mod sshd;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::backend::Local;
use self::command::Identity;
use self::directory::Found;
pub use self::error::LocalLabError;
pub use self::place::{MAX_SERVERS, POSTGRES_PORT, SSH_PORT};
use crate::lab::command::succeed;
use crate::lab::{Failure, key};
use crate::model::name::ServerName;
use crate::model::version::Major;

/// The inventory's file name in the lab directory.
const INVENTORY: &str = "pgstead.yaml";
/// The operator's private key, from the lab directory.
const IDENTITY_FILE: &str = "client/id_ed25519";
/// The host keys of the servers, from the lab directory.
const KNOWN_HOSTS: &str = "known_hosts";
/// The longest path of a Unix-domain socket that the kernel takes (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// How often the chosen place may be lost to a lab that comes up at the same time.
const RACES: usize = 5;

/// What kind of local lab is wanted.
#[derive(Debug, Clone)]
pub struct LocalLabSpec {
    /// The lab directory; made where it is not there.
    pub directory: PathBuf,
    /// The servers: the first is the primary, the second its standby, the third the standby of the second.
    pub servers: Vec<ServerName>,
    /// The major version of PostgreSQL; the newest installed one where none is given.
    pub version: Option<Major>,
    /// The port of every sshd; a free one where none is given.
    pub ssh_port: Option<u16>,
    /// The port of every instance; a free one where none is given.
    pub postgres_port: Option<u16>,
}

impl LocalLabSpec {
    /// Describes the usual lab, servers a, b and c, in a directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self::with_servers(directory, 3)
    }

    /// Describes a lab of so many servers, named a to z and then aa to zz.
    pub fn with_servers(directory: impl Into<PathBuf>, count: usize) -> Self {
        let letters = || ('a'..='z').map(String::from);
        let pairs = letters().flat_map(|first| letters().map(move |second| format!("{first}{second}")));
        let servers = letters().chain(pairs).take(count).filter_map(|name| name.parse().ok()).collect();
        Self { directory: directory.into(), servers, version: None, ssh_port: None, postgres_port: None }
    }
}

/// A local lab that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalLab {
    /// The lab directory.
    pub directory: PathBuf,
    /// The inventory, for `-i`.
    pub inventory: PathBuf,
    /// The OS user into which SSH logs in, and who owns the instances.
    pub login_user: String,
    /// Its user id.
    pub login_uid: u32,
    /// The operator's private key.
    pub identity_file: PathBuf,
    /// The host keys of the servers.
    pub known_hosts: PathBuf,
    /// The port of every sshd.
    pub ssh_port: u16,
    /// The port of every instance, once there is one.
    pub postgres_port: u16,
    /// The major version of PostgreSQL.
    pub version: Major,
    /// Where its programs are.
    pub bin_directory: String,
    /// The servers, the primary first.
    pub servers: Vec<LocalServer>,
}

/// One server of a local lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalServer {
    pub name: ServerName,
    /// Where its sshd and its instance listen.
    pub address: Ipv4Addr,
    /// All that is the server's.
    pub directory: PathBuf,
    /// Where `bootstrap` makes its data directory.
    pub data_directory: String,
    /// The log of its sshd; every session begins with a line "Starting session".
    pub sshd_log: PathBuf,
}

/// What runs in a local lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LocalLabStatus {
    /// Whether `up` got to its end; otherwise only `down` is of use.
    pub complete: bool,
    pub lab: LocalLab,
    /// What runs, server by server.
    pub servers: Vec<LocalServerStatus>,
}

/// What runs on one server of a local lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LocalServerStatus {
    /// The server.
    pub name: ServerName,
    /// The process id of its sshd, where that runs.
    pub sshd: Option<i32>,
    /// The process ids of its postmasters; more than one only where something went wrong.
    pub postmasters: Vec<i32>,
}

/// Returns where a lab is kept unless a directory is named: `/var/tmp/pgstead-lab` for root, whom other OS users must be
/// able to follow, the state directory of the XDG Base Directory Specification for everybody else.
pub fn default_directory() -> Result<PathBuf, LocalLabError> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/tmp/pgstead-lab"));
    }
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = variable("XDG_STATE_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/state")));
    Ok(state.ok_or(LocalLabError::NoHome)?.join("pgstead/lab"))
}

/// Brings a local lab up. One that is up stays as it is, and a server whose sshd has ended gets it back.
pub fn up(spec: &LocalLabSpec) -> Result<LocalLab, LocalLabError> {
    let directory = directory::check_path(&spec.directory)?;
    check_servers(&spec.servers)?;
    let identity = Identity::find()?;
    sshd::program()?;
    command::installed("/usr/bin/ssh-keygen", "openssh-client")?;
    match directory::look(&directory)? {
        Found::Lab(state) if !state.complete => Err(LocalLabError::HalfMade { path: directory }),
        Found::Lab(state) => again(state.lab, spec, &identity),
        Found::Nothing => first(spec, &directory, &identity),
    }
}

/// Tells what runs in a lab. Returns nothing where there is no lab.
pub fn status(directory: &Path) -> Result<Option<LocalLabStatus>, LocalLabError> {
    let Found::Lab(state) = directory::look(&directory::check_path(directory)?)? else {
        return Ok(None);
    };
    let running = processes::find(&state.lab)?;
    let servers = state.lab.servers.iter().map(|server| {
        let config = server.directory.join("sshd_config");
        let sshd = running.listeners.iter().find(|process| process.config.as_ref() == Some(&config));
        let inside = |at: &Option<PathBuf>| at.as_ref().is_some_and(|at| at.starts_with(&server.directory));
        let postmasters = running.postmasters.iter().filter(|process| inside(&process.directory));
        LocalServerStatus {
            name: server.name.clone(),
            sshd: sshd.map(|process| process.pid),
            postmasters: postmasters.map(|process| process.pid).collect(),
        }
    });
    let servers = servers.collect();
    Ok(Some(LocalLabStatus { complete: state.complete, lab: state.lab, servers }))
}

/// Takes a lab down: stops its sshds, what they started and its instances, then removes the lab directory. Returns
/// whether there was a lab.
pub fn down(directory: &Path) -> Result<bool, LocalLabError> {
    let directory = directory::check_path(directory)?;
    let Found::Lab(state) = directory::look(&directory)? else {
        return Ok(false);
    };
    // Before anything is stopped, so that a refusal leaves the lab as it was.
    directory::refuse_mounts(&directory)?;
    processes::stop_all(&state.lab)?;
    directory::remove(&directory)?;
    Ok(true)
}

/// Ends everything of one server at once, as a power cut does: nothing is told to stop, and nothing tidies up.
pub fn power_off(lab: &LocalLab, server: &LocalServer) -> Result<(), LocalLabError> {
    processes::kill_all(lab, server)
}

/// Brings a server's sshd back. Its instance stays down, as nothing on the server starts it.
pub fn power_on(lab: &LocalLab, server: &LocalServer) -> Result<(), LocalLabError> {
    start(lab, &[server], &Identity::find()?)
}

fn check_servers(servers: &[ServerName]) -> Result<(), LocalLabError> {
    let names: std::collections::BTreeSet<String> = servers.iter().map(ServerName::slot_name).collect();
    let fits = (1..=MAX_SERVERS).contains(&servers.len()) && names.len() == servers.len();
    if fits { Ok(()) } else { Err(LocalLabError::BadServers { max: MAX_SERVERS }) }
}

/// Decides everything about a new lab before anything is made.
fn plan(spec: &LocalLabSpec, directory: PathBuf, identity: &Identity) -> Result<LocalLab, LocalLabError> {
    let (version, bin_directory) = command::postgres(spec.version)?;
    reachable(&directory, identity)?;
    let place = place::choose(spec.servers.len(), spec.ssh_port, spec.postgres_port)?;
    let servers = spec.servers.iter().zip(place.addresses).map(|(name, address)| {
        let own = directory.join("servers").join(name.as_str());
        LocalServer {
            name: name.clone(),
            address,
            data_directory: own.join("data").display().to_string(),
            sshd_log: own.join("sshd.log"),
            directory: own,
        }
    });
    let lab = LocalLab {
        inventory: directory.join(INVENTORY),
        login_user: identity.user.clone(),
        login_uid: identity.uid,
        identity_file: directory.join(IDENTITY_FILE),
        known_hosts: directory.join(KNOWN_HOSTS),
        ssh_port: place.ssh_port,
        postgres_port: place.postgres_port,
        version,
        bin_directory: bin_directory.display().to_string(),
        servers: servers.collect(),
        directory,
    };
    // The socket is made beside the data directory (model::layout, the plain layout).
    let socket = |server: &LocalServer| server.data_directory.len() + ".pgstead/.s.PGSQL.".len() + 5;
    match lab.servers.iter().map(socket).max() {
        Some(bytes) if bytes > SOCKET_PATH_MAX => Err(LocalLabError::PathTooLong { path: lab.directory, bytes }),
        _ => Ok(lab),
    }
}

/// Refuses a directory below one that the OS user of the instances cannot enter.
fn reachable(directory: &Path, identity: &Identity) -> Result<(), LocalLabError> {
    let Some(there) = directory.ancestors().find(|ancestor| ancestor.is_dir()).filter(|_| identity.from_root) else {
        return Ok(());
    };
    match succeed(identity.command("test").arg("-x").arg(there)) {
        Err(Failure::Command { .. }) => {
            Err(LocalLabError::Unreachable { user: identity.user.clone(), path: there.to_owned() })
        }
        answer => Ok(answer.map(drop)?),
    }
}

/// Makes a lab. Interrupted at any point, it leaves what [`down`] can take away.
fn make(lab: &LocalLab, identity: &Identity) -> Result<(), LocalLabError> {
    // Other OS users have to pass where root keeps the lab, and nowhere else.
    directory::make(&lab.directory, if identity.from_root { 0o755 } else { 0o700 })?;
    directory::record(lab, false)?;

    directory::make(&lab.directory.join("client"), 0o700)?;
    let public = key::make(&lab.identity_file, "operator@lab")?;
    let servers = lab.directory.join("servers");
    directory::make(&servers, 0o755)?;
    let mut known_hosts = String::new();
    for server in &lab.servers {
        known_hosts.push_str(&make_server(lab, server, identity, &public)?);
    }
    identity.give(&servers)?;
    directory::write(&lab.known_hosts, &known_hosts, 0o644)?;
    directory::write(&lab.inventory, &inventory::text(lab)?, 0o644)?;
    start(lab, &lab.servers.iter().collect::<Vec<_>>(), identity)?;
    directory::record(lab, true)
}

/// Makes the files of one server and returns its line for `known_hosts`.
fn make_server(
    lab: &LocalLab,
    server: &LocalServer,
    identity: &Identity,
    operator: &str,
) -> Result<String, LocalLabError> {
    let file = |name: &str| server.directory.join(name);
    directory::make(&server.directory, 0o700)?;
    let public = key::make(&file("host_key"), &format!("{}@lab", server.name))?;
    directory::write(&file("authorized_keys"), operator, 0o600)?;
    let text = sshd::config(server, lab.ssh_port, &lab.login_user);
    directory::write(&file("sshd_config"), &text, 0o600)?;
    // The directory goes last: until then nobody else can put something in the place of a file.
    for name in ["host_key", "host_key.pub", "authorized_keys", "sshd_config"] {
        identity.give(&file(name))?;
    }
    identity.give(&server.directory)?;
    let mut words = public.split_whitespace();
    let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Ok(format!("[{}]:{} {kind} {key}\n", server.address, lab.ssh_port))
}

/// Makes a new lab. Where another one takes the chosen place meanwhile, the next place is tried.
fn first(spec: &LocalLabSpec, directory: &Path, identity: &Identity) -> Result<LocalLab, LocalLabError> {
    let mut races = 0;
    loop {
        let lab = plan(spec, directory.to_owned(), identity)?;
        match make(&lab, identity) {
            Err(LocalLabError::PortTaken { .. }) if races < RACES => {
                races += 1;
                processes::stop_all(&lab)?;
                directory::remove(directory)?;
            }
            outcome => return outcome.map(|()| lab),
        }
    }
}

/// Brings back what ended in a lab that was up.
fn again(lab: LocalLab, spec: &LocalLabSpec, identity: &Identity) -> Result<LocalLab, LocalLabError> {
    let list = |names: &mut dyn Iterator<Item = &ServerName>| names.map(|n| n.as_str()).collect::<Vec<_>>().join(", ");
    let have = list(&mut lab.servers.iter().map(|server| &server.name));
    let wanted = list(&mut spec.servers.iter());
    if have != wanted {
        return Err(LocalLabError::OtherServers { path: lab.directory, have, wanted });
    }
    let running = processes::find(&lab)?;
    let ended = lab.servers.iter().filter(|server| {
        let config = server.directory.join("sshd_config");
        !running.listeners.iter().any(|process| process.config.as_ref() == Some(&config))
    });
    start(&lab, &ended.collect::<Vec<_>>(), identity)?;
    Ok(lab)
}

fn start(lab: &LocalLab, servers: &[&LocalServer], identity: &Identity) -> Result<(), LocalLabError> {
    let Some(first) = servers.first() else { return Ok(()) };
    let option = sshd::option(identity, first)?;
    for server in servers {
        if !place::is_free(server.address, lab.ssh_port) {
            return Err(LocalLabError::PortTaken { address: server.address, port: lab.ssh_port });
        }
        sshd::start(identity, server, lab.ssh_port, option)?;
    }
    Ok(())
}

//! A whole lab: up, found again, down, swept away.
//!
//! Everything is recorded before it is made, and [`down`] starts from the record, so a crash at any point leaves nothing
//! that `down` does not find.

use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::HostsLabError;
use super::host::Host;
use super::process::ProcessId;
use super::spec::LabSpec;
use super::state::{self, State};
use super::tree;
use super::{boot, kept, mounts, network, prepare};
use crate::lab::Failure;
use crate::lab::command::succeed;

/// What the lab is built from, and the Debian package that brings each.
const PROGRAMS: [(&str, &str); 10] = [
    ("systemd-nspawn", "systemd-container"),
    ("mmdebstrap", "mmdebstrap"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("ssh-keygen", "openssh-client"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("kill", "procps"),
];

const MEMINFO: &str = "/proc/meminfo";

/// What a lab of a few hosts may write: three data directories, their WAL, and copies of both.
const MEMORY_FOR_A_LAB_MIB: u64 = 4096;

/// A lab that is up.
#[derive(Debug)]
pub struct HostsLab {
    dir: PathBuf,
    state: State,
    hosts: Vec<Host>,
}

/// Makes the lab and returns when every host's sshd answers; what was made is taken away again if it can't be finished.
///
/// Builds the trees that are missing, which takes about a minute each and needs Debian's archive.
pub fn up(spec: LabSpec) -> Result<HostsLab, HostsLabError> {
    spec.validate()?;
    require_root()?;
    for (program, package) in PROGRAMS {
        if !is_installed(program) {
            return Err(HostsLabError::MissingProgram { program, package });
        }
    }
    if spec.owned {
        sweep()?;
    }
    for host in &spec.hosts {
        tree::layers(host.release, host.postgres_installed)?;
    }
    if let Some(begins_with) = &spec.begins_with {
        kept::require_fit(begins_with, &spec)?;
    }

    let dir = spec.dir.clone();
    let in_memory = spec.in_memory;
    let lab = reserve(spec)?;
    match lab.make(in_memory) {
        Ok(()) => Ok(lab),
        Err(error) => {
            // The first error is the one to tell; what could not be cleared is found by `down` or by a sweep.
            let _ = down(&dir);
            Err(error)
        }
    }
}

impl HostsLab {
    /// Finds the lab in `dir`, made by this process or another.
    pub fn load(dir: &Path) -> Result<Self, HostsLabError> {
        let load = || {
            let dir = fs::canonicalize(dir).map_err(Failure::file("find", dir))?;
            let state = State::read(&dir)?;
            let hosts = Host::all(&dir, &state);
            Ok(Self { dir, state, hosts })
        };
        load().map_err(|source| HostsLabError::Load { dir: dir.to_owned(), source })
    }

    /// Returns the lab's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the number in the lab's addresses, which are 10.213.NUMBER.0/24.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.state.number.into()
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Returns all hosts, in the order of their addresses.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Returns the host called `name`.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name() == name)
    }

    /// Returns the private key that root, ops and guest accept on every host.
    #[must_use]
    pub fn identity_file(&self) -> PathBuf {
        state::identity_file(&self.dir)
    }

    /// Returns the file with the true host keys.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        state::known_hosts(&self.dir)
    }

    /// Returns a configuration for a person's ssh: `ssh -F FILE a` logs in to host "a" as root.
    #[must_use]
    pub fn ssh_config(&self) -> PathBuf {
        state::ssh_config(&self.dir)
    }

    /// Returns this machine's address on the lab's bridge.
    #[must_use]
    pub fn bridge_address(&self) -> Ipv4Addr {
        self.state.number.bridge_address()
    }

    /// Returns the name of the lab's bridge.
    #[must_use]
    pub fn bridge(&self) -> String {
        self.state.number.bridge()
    }

    /// Lets all traffic between two hosts vanish, both ways; no one is told, and others are not affected.
    pub fn drop_link(&self, one: &Host, other: &Host) -> Result<(), HostsLabError> {
        one.drop_arriving_from(other.address())?;
        other.drop_arriving_from(one.address())
    }

    /// Lets the traffic between two hosts through again.
    pub fn mend_drop(&self, one: &Host, other: &Host) -> Result<(), HostsLabError> {
        one.accept_arriving_from(other.address())?;
        other.accept_arriving_from(one.address())
    }

    /// Takes the lab away, with everything in its directory.
    pub fn down(self) -> Result<(), HostsLabError> {
        down(&self.dir)
    }

    /// Returns a guard that takes the lab away when it goes out of scope, also while a test panics.
    #[must_use]
    pub fn guard(self) -> Guard {
        Guard(self)
    }

    fn make(&self, in_memory: bool) -> Result<(), HostsLabError> {
        let prepare_lab = |source| HostsLabError::PrepareLab { dir: self.dir.clone(), source };
        if in_memory {
            self.keep_in_memory().map_err(prepare_lab)?;
        }
        let kept = self.state.begins_with.as_deref();
        let client =
            kept.map_or_else(|| prepare::make_client_key(&self.dir), |kept| kept::take_client(kept, &self.dir));
        client.map_err(prepare_lab)?;
        network::add_bridge(self.state.number).map_err(|source| HostsLabError::AddNetwork { source })?;
        for host in &self.hosts {
            let identity =
                kept.map_or_else(|| prepare::make_identity(&self.dir, host), |kept| kept::take_identity(kept, host));
            identity.map_err(|source| host.prepare_error(source))?;
        }
        prepare::write_client_files(&self.dir, &self.hosts).map_err(prepare_lab)?;
        for host in &self.hosts {
            host.make_file_system(&self.hosts)?;
            host.start()?;
        }
        self.hosts.iter().try_for_each(boot::wait_for_ssh)
    }
}

impl HostsLab {
    /// Puts what hosts will write into memory, where there is enough of it.
    fn keep_in_memory(&self) -> Result<(), Failure> {
        let hosts = self.dir.join(state::HOSTS);
        fs::create_dir_all(&hosts).map_err(Failure::file("make", &hosts))?;
        let meminfo = fs::read_to_string(MEMINFO).map_err(Failure::file("read", MEMINFO))?;
        let half = available_mebibytes(&meminfo).unwrap_or_default() / 2;
        if half < MEMORY_FOR_A_LAB_MIB { Ok(()) } else { mounts::mount_memory(&hosts, half) }
    }
}

/// Returns what the kernel says can be used without swapping, in MiB.
fn available_mebibytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes / 1024)
}

/// Takes the lab away when it goes out of scope.
#[derive(Debug)]
pub struct Guard(HostsLab);

impl Deref for Guard {
    type Target = HostsLab;

    fn deref(&self) -> &HostsLab {
        &self.0
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let result = down(&self.0.dir);
        // A test that passed must not hide that its lab stayed; one that failed already has its own reason.
        assert!(result.is_ok() || std::thread::panicking(), "the lab could not be brought down: {result:?}");
    }
}

/// Takes the lab in `dir` away: hosts, mounts, bridge, directory. A lab that is gone, in part or whole, is fine.
pub fn down(dir: &Path) -> Result<(), HostsLabError> {
    require_root()?;
    let Ok(dir) = fs::canonicalize(dir) else {
        return Ok(());
    };
    let state = match State::read(&dir) {
        Ok(state) => state,
        // Without a state file it is empty (a crash before the first record, or after the last), or it is no lab.
        Err(_) if !State::exists(&dir) && fs::remove_dir(&dir).is_ok() => return Ok(()),
        Err(source) => return Err(HostsLabError::Load { dir, source }),
    };
    let hosts = Host::all(&dir, &state);
    let bridge = state.number.bridge();

    // Only a registered number's names are this lab's; otherwise they belong to no one, or to a later lab.
    if state.number.belongs_to(&dir) {
        let mut killed = Vec::new();
        for host in &hosts {
            killed.extend(boot::kill(host).map_err(|source| host.stop_error(source))?);
        }
        for host in &hosts {
            boot::wait_until_gone(&killed)
                .and_then(|()| boot::clear_remains(host))
                .map_err(|source| host.stop_error(source))?;
        }
        network::remove_interface(&bridge).map_err(|source| HostsLabError::RemoveNetwork { bridge, source })?;
    }

    let clear = || {
        let in_memory = dir.join(state::HOSTS);
        mounts::unmount_below(&in_memory)?;
        mounts::unmount_memory(&in_memory)?;
        mounts::unmount_all(&dir)?;
        for part in [state::HOSTS, state::CLIENT] {
            mounts::remove_dir(&dir.join(part))?;
        }
        state.number.release(&dir)?;
        State::remove(&dir)?;
        mounts::remove_dir(&dir)
    };
    clear().map_err(|source| HostsLabError::Clear { dir: dir.clone(), source })
}

/// Takes every lab away whose owner is gone, and returns their directories. Labs without an owner stay.
pub fn sweep() -> Result<Vec<PathBuf>, HostsLabError> {
    require_root()?;
    let registry = |source| HostsLabError::Registry { source };
    let _lock = network::lock_sweep().map_err(registry)?;
    let mut swept = Vec::new();
    for dir in network::registered_labs().map_err(registry)? {
        // A lab that can't be read is being made or taken away by someone else.
        let Ok(state) = State::read(&dir) else { continue };
        if state.owner.is_some_and(|owner| !owner.is_alive()) {
            match down(&dir) {
                Ok(()) => swept.push(dir),
                // Someone else took it away at the same time.
                Err(_) if !State::exists(&dir) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(swept)
}

/// Takes a number and records it, before anything is made under that number.
fn reserve(spec: LabSpec) -> Result<HostsLab, HostsLabError> {
    let dir = spec.dir.clone();
    let reserve = || {
        fs::create_dir_all(&spec.dir).map_err(Failure::file("make", &spec.dir))?;
        let dir = fs::canonicalize(&spec.dir).map_err(Failure::file("find", &spec.dir))?;
        let mut entries = fs::read_dir(&dir).map_err(Failure::file("read", &dir))?;
        if entries.next().is_some() {
            return Err(Failure::Observed(format!("\"{}\" is not empty", dir.display())));
        }
        // What hosts write lies below, set-user-id programs among it: not for this machine's other users.
        fs::set_permissions(&dir, Permissions::from_mode(0o700)).map_err(Failure::file("set the mode of", &dir))?;
        let owner = if spec.owned { ProcessId::own() } else { None };
        let _lock = network::lock_registry()?;
        let number = network::free_number(spec.number).inspect_err(|_| {
            // Empty, or not ours to remove.
            let _ = fs::remove_dir(&dir);
        })?;
        let state = State::new(number, owner, spec);
        state.write(&dir)?;
        number.register(&dir)?;
        let hosts = Host::all(&dir, &state);
        Ok(HostsLab { dir, state, hosts })
    };
    reserve().map_err(|source| HostsLabError::PrepareLab { dir, source })
}

/// Fails early and clearly, where otherwise the first mount or bridge would fail.
pub(super) fn require_root() -> Result<(), HostsLabError> {
    let is_root = succeed(Command::new("id").arg("--user")).is_ok_and(|id| id.trim() == "0");
    if is_root { Ok(()) } else { Err(HostsLabError::NotRoot) }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

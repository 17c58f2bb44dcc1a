//! The Debian trees that hosts boot: built once, kept outside the checkout, never booted or changed themselves.
//!
//! A tree's name holds a hash of the script that builds it, so a changed script builds another. Only whole trees have a
//! final name; a lock keeps two processes from building at once.

use std::env;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::error::HostsLabError;
use super::mounts;
use super::spec::Release;
use crate::lab::Failure;
use crate::lab::command::{ended_badly, finish, shell_line, succeed};

/// Builds a tree; also a file of its own, so that it can be run by hand.
const BUILD_TREE: &str = include_str!("../../../lab/hosts/build-tree");

const DEFAULT_CACHE: &str = "/var/cache/pgstead";

/// What is purged for a host without PostgreSQL.
const POSTGRES_PACKAGES: [&str; 2] = ["postgresql*", "pgbouncer"];

/// Returns where trees are kept: `$PGSTEAD_CACHE/hosts`, by default `/var/cache/pgstead/hosts`.
#[must_use]
pub fn cache_dir() -> PathBuf {
    env::var_os("PGSTEAD_CACHE").map_or_else(|| PathBuf::from(DEFAULT_CACHE), PathBuf::from).join("hosts")
}

/// Tells whether the tree of `release` is built already; building takes about a minute and needs Debian's archive.
#[must_use]
pub fn is_built(release: Release) -> bool {
    tree_path(release).is_dir()
}

/// Returns the tree of `release`, building it first where needed.
pub fn build(release: Release) -> Result<PathBuf, HostsLabError> {
    super::lab::require_root()?;
    let tree = tree_path(release);
    build_once(release, &tree, |building, log, lock| {
        let script = with_suffix(&tree, ".build-tree");
        fs::write(&script, BUILD_TREE).map_err(Failure::file("write", &script))?;
        let output = File::create(log).map_err(Failure::file("write", log))?;
        let errors = output.try_clone().map_err(Failure::file("write", log))?;
        let mut command = Command::new("bash");
        command.arg(&script).arg(release.suite()).arg(building);
        // The build holds the lock as well: should this process be killed, the next one waits for what still runs.
        let held = lock.try_clone().map_err(Failure::file("share the lock of", log))?;
        run_logged(command.stdin(held).stdout(output).stderr(errors), log)
    })?;
    Ok(tree)
}

/// Returns the layers of a host's file system, the uppermost first.
pub(super) fn layers(release: Release, postgres_installed: bool) -> Result<Vec<PathBuf>, HostsLabError> {
    let tree = build(release)?;
    if postgres_installed {
        return Ok(vec![tree]);
    }
    let purged = with_suffix(&tree, "-without-postgres");
    build_once(release, &purged, |building, log, _| purge_postgres(&tree, building, log))?;
    Ok(vec![purged, tree])
}

/// Returns where the tree of `release` is, or will be when it is built.
#[must_use]
pub fn tree_path(release: Release) -> PathBuf {
    let hash = Sha256::digest(BUILD_TREE.as_bytes());
    let key: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    cache_dir().join(format!("{release}-{key}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Runs `make` for a temporary name and renames the result to `finished`, unless that is there already.
fn build_once(
    release: Release,
    finished: &Path,
    make: impl FnOnce(&Path, &Path, &File) -> Result<(), Failure>,
) -> Result<(), HostsLabError> {
    if finished.is_dir() {
        return Ok(());
    }
    let log = with_suffix(finished, ".log");
    let attempt = || {
        let cache = cache_dir();
        fs::create_dir_all(&cache).map_err(Failure::file("make", &cache))?;
        // Trees hold set-user-id programs that no one keeps up to date: not for this machine's other users.
        fs::set_permissions(&cache, Permissions::from_mode(0o700)).map_err(Failure::file("set the mode of", &cache))?;
        let lock_path = cache.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&lock_path)
            .map_err(Failure::file("open", &lock_path))?;
        lock.lock().map_err(Failure::file("lock", &lock_path))?;
        if finished.is_dir() {
            return Ok(());
        }
        // What a killed build left under the temporary name is thrown away.
        let building = with_suffix(finished, ".building");
        mounts::unmount_all(&building)?;
        mounts::remove_dir(&building)?;
        let _ = fs::remove_file(&log);
        make(&building, &log, &lock)?;
        fs::rename(&building, finished).map_err(Failure::file("rename", &building))
    };
    attempt().map_err(|source| HostsLabError::BuildTree { release, log, source })
}

/// Makes the layer that, over `tree`, is the same system after `dpkg --purge` of its PostgreSQL.
fn purge_postgres(tree: &Path, layer: &Path, log: &Path) -> Result<(), Failure> {
    let scratch = with_suffix(layer, ".scratch");
    mounts::unmount_all(&scratch)?;
    mounts::remove_dir(&scratch)?;
    let [upper, work, root] = ["upper", "work", "root"].map(|name| scratch.join(name));
    for dir in [&upper, &work, &root] {
        fs::create_dir_all(dir).map_err(Failure::file("make", dir))?;
    }
    mounts::mount_overlay(&[tree.to_owned()], &upper, &work, &root)?;
    let purged = (|| {
        let mut ask = Command::new("chroot");
        ask.arg(&root).args(["dpkg-query", "--show", "--showformat=${Package}\n"]).args(POSTGRES_PACKAGES);
        let installed = succeed(&mut ask);
        let mut command = Command::new("chroot");
        command.arg(&root).args(["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "dpkg", "--purge"]);
        let output = finish(command.args(installed?.lines()), None)?;
        fs::write(log, [output.stdout.as_slice(), &output.stderr].concat()).map_err(Failure::file("write", log))?;
        if output.status.success() { Ok(()) } else { Err(ended_badly(&command, &output)) }
    })();
    mounts::unmount_all(&scratch)?;
    purged?;
    fs::rename(&upper, layer).map_err(Failure::file("rename", &upper))?;
    mounts::remove_dir(&scratch)
}

/// Runs a command that logs for itself; a failure shows the end of the log.
fn run_logged(command: &mut Command, log: &Path) -> Result<(), Failure> {
    let line = shell_line(command);
    let status = command.status().map_err(|source| Failure::Start { command: line.clone(), source })?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Command { command: line, status: status.to_string(), stderr: tail(log, 15) })
}

/// Returns the last lines of a log, or why there are none.
pub(super) fn tail(log: &Path, n_lines: usize) -> String {
    match fs::read(log) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(n_lines)..].join("\n")
        }
        Err(error) => format!("(no log: {error})"),
    }
}

//! The private directory in which the sockets of a run's connections are, and what killed runs left of theirs.
//!
//! Nothing is removed but files that [`crate::remote::connect`] made, in a directory whose process is gone.

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use tempfile::TempDir;

/// What the names of such directories begin with.
const PREFIX: &str = "pgstead-";

/// The file whose lock the kernel holds for as long as the run lives.
const LOCK: &str = "run.lock";

/// The files of one connection.
pub(super) const CONFIG: &str = "config";
/// What ssh said.
pub(super) const LOG: &str = "log";
/// The master's control socket.
pub(super) const CONTROL: &str = "m";
/// What the ssh of a jump host said.
pub(super) const JUMP: &str = "jump";

/// What the names of forwarded sockets begin with; their number follows.
pub(super) const FORWARD: &str = "f";

/// The longest directory that leaves room for `/NN/m`, ssh's own suffix and the 104 bytes of a socket's path.
const BASE_MAX_BYTES: usize = 60;

/// The directory of this run. It is removed when the value goes away; when the process is killed, by the next run.
#[derive(Debug)]
pub(super) struct PrivateDirectory {
    dir: TempDir,
    _lock: File,
}

impl PrivateDirectory {
    /// Makes the directory where the sockets of the user's session belong, and clears away those of dead runs there.
    pub(super) fn new() -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let candidates = runtime.into_iter().chain([std::env::temp_dir(), PathBuf::from("/tmp")]);
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        for base in candidates.filter(|base| base.is_absolute() && base.as_os_str().len() <= BASE_MAX_BYTES) {
            match Self::below(&base) {
                Ok(dir) => {
                    sweep(&base);
                    return Ok(dir);
                }
                Err(source) => failure = source,
            }
        }
        Err(failure)
    }

    fn below(base: &Path) -> io::Result<Self> {
        let private = Permissions::from_mode(0o700); // From the start; the crate's default follows the umask.
        let dir = tempfile::Builder::new().prefix(PREFIX).permissions(private).tempdir_in(base)?;
        // It is locked before it has its name: a directory without it is never anybody's to clear away.
        let new = dir.path().join([LOCK, ".new"].concat());
        let lock = File::create_new(&new)?;
        lock.lock()?;
        fs::rename(&new, dir.path().join(LOCK))?;
        Ok(Self { dir, _lock: lock })
    }

    /// Returns the directory.
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Clears away the directories of runs that were killed. What cannot be looked at or removed stays.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && entry.file_type().is_ok_and(|kind| kind.is_dir())
        {
            let _ = clear_if_dead(&entry.path());
        }
    }
}

fn clear_if_dead(dir: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(dir)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o777 != 0o700 {
        return Ok(());
    }
    let lock = File::open(dir.join(LOCK))?;
    if lock.try_lock().is_err() {
        return Ok(());
    }
    for entry in fs::read_dir(dir)?.flatten() {
        let is_of_a_connection = entry.file_name().to_string_lossy().chars().all(|c| c.is_ascii_digit());
        if is_of_a_connection && entry.file_type()?.is_dir() {
            for file in fs::read_dir(entry.path())?.flatten() {
                if is_ours(&file.file_name().to_string_lossy()) {
                    let _ = fs::remove_file(file.path());
                }
            }
            // Something else is in it: then the directory stays, with its lock, and with it this very remark for the next run.
            fs::remove_dir(entry.path())?;
        }
    }
    fs::remove_file(dir.join(LOCK))?;
    fs::remove_dir(dir)
}

/// Says whether a file of a connection's directory is one that a run makes, or ssh for it.
fn is_ours(name: &str) -> bool {
    let is_forward =
        name.strip_prefix(FORWARD).is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit()));
    // ssh makes its socket under a name with a suffix first.
    let is_half_made = name.strip_prefix(CONTROL).is_some_and(|rest| rest.starts_with('.'));
    [CONFIG, LOG, CONTROL, JUMP].contains(&name) || is_forward || is_half_made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_private_and_its_path_short() {
        let dir = PrivateDirectory::new().unwrap();
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o700);
        // "/NN/m." and 16 random characters of ssh's temporary name.
        assert!(dir.path().as_os_str().len() + 22 < 104);
    }

    #[test]
    fn what_a_killed_run_left_is_cleared_away_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let living = PrivateDirectory::below(base.path()).unwrap();
        let dead = base.path().join("pgstead-dead");
        let strange = base.path().join("pgstead-strange");
        let foreign = base.path().join("pgstead-demo");
        for (dir, files) in [
            (&dead, &["run.lock", "0/config", "0/log", "0/m", "0/m.k9", "0/f0", "1/config"][..]),
            (&strange, &["run.lock", "0/config", "0/notes"]),
            (&foreign, &["0/config", "lock"]),
        ] {
            for file in files {
                let path = dir.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "x").unwrap();
            }
            fs::set_permissions(dir, Permissions::from_mode(0o700)).unwrap();
        }
        sweep(base.path());
        assert!(!dead.exists());
        assert!(living.path().join(LOCK).exists());
        assert!(strange.join("0/notes").exists(), "what we did not make is not removed");
        assert!(foreign.join("0/config").exists());
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
    }
}

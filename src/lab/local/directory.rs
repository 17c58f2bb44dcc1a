//! The lab directory: whose it is, what state the lab is in, and its removal.
//!
//! A directory is removed only with our marker file in it, owned by the caller, no symbolic link, nothing mounted inside.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::LocalLab;
use super::error::LocalLabError;
use crate::lab::Failure;

/// The marker file. It also holds the state of the lab, for the processes to come.
const MARKER: &str = "pgstead-lab.json";
const MARKER_NEW: &str = "pgstead-lab.json.new";

/// What the marker file says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// The version of this form.
    version: u32,
    /// Whether `up` got to its end.
    pub(super) complete: bool,
    pub(super) lab: LocalLab,
}

/// What is found at the path of a lab directory.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing, or an empty directory of ours.
    Nothing,
    Lab(Box<State>),
}

/// Makes a path absolute and refuses one that could not stand in every file that has to name it.
pub(super) fn check_path(path: &Path) -> Result<PathBuf, LocalLabError> {
    let absolute = std::path::absolute(path).map_err(Failure::file("read", path))?;
    let plain = |c: char| c.is_alphanumeric() || "/._-+@,".contains(c);
    let above = absolute.components().any(|part| matches!(part, std::path::Component::ParentDir));
    match absolute.to_str() {
        Some(text) if text.chars().all(plain) && !above && absolute.file_name().is_some() => Ok(absolute),
        _ => Err(LocalLabError::BadPath { path: path.to_owned() }),
    }
}

/// Looks at what is there. Anything but a lab of this user, or nothing, is an error.
pub(super) fn look(path: &Path) -> Result<Found, LocalLabError> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(source) => return Err(Failure::file("read", path.to_owned())(source).into()),
    };
    if meta.file_type().is_symlink() {
        return Err(LocalLabError::Symlink { path: path.to_owned() });
    }
    if !meta.is_dir() {
        return Err(LocalLabError::NotALab { path: path.to_owned() });
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(LocalLabError::NotOurs { path: path.to_owned(), uid: meta.uid() });
    }
    let marker = path.join(MARKER);
    let text = match fs::read_to_string(&marker) {
        Ok(text) => text,
        // `up` was interrupted before it wrote the marker, or somebody made the directory for it.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && entries(path)?.iter().all(|name| name == MARKER_NEW) =>
        {
            return Ok(Found::Nothing);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(LocalLabError::NotALab { path: path.to_owned() });
        }
        Err(source) => return Err(Failure::file("read", marker)(source).into()),
    };
    let state: State = serde_json::from_str(&text)
        .map_err(|error| LocalLabError::BadState { path: marker.clone(), reason: error.to_string() })?;
    if state.lab.directory != path {
        let reason = format!("it is the lab of \"{}\", moved or copied", state.lab.directory.display());
        return Err(LocalLabError::BadState { path: marker, reason });
    }
    Ok(Found::Lab(Box::new(state)))
}

/// Records the state, whole or not at all.
pub(super) fn record(lab: &LocalLab, complete: bool) -> Result<(), LocalLabError> {
    let path = lab.directory.join(MARKER);
    let state = State { version: 1, complete, lab: lab.clone() };
    let text = serde_json::to_string_pretty(&state)
        .map_err(|error| LocalLabError::BadState { path: path.clone(), reason: error.to_string() })?;
    let new = lab.directory.join(MARKER_NEW);
    let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
    Ok(written.map_err(Failure::file("create", path))?)
}

/// Makes a directory, and those above it, with a mode. One that is there is fine.
pub(super) fn make(path: &Path, mode: u32) -> Result<(), Failure> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(Failure::file("create", path))
}

/// Writes a file that must not be there yet, with a mode.
pub(super) fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Failure::file("create", path))
}

/// Refuses a directory in which something is mounted: removal would reach through the mount.
pub(super) fn refuse_mounts(path: &Path) -> Result<(), LocalLabError> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).map_err(Failure::file("read", table))?;
    let real = path.canonicalize().map_err(Failure::file("read", path))?;
    match mount_points(&text).into_iter().find(|mount| mount.starts_with(&real)) {
        Some(mount_point) => Err(LocalLabError::Mounted { mount_point }),
        None => Ok(()),
    }
}

/// Parses the mount points of `/proc/self/mountinfo` (proc(5)): the fifth word, with octal escapes.
fn mount_points(mountinfo: &str) -> Vec<PathBuf> {
    let unescape = |word: &str| {
        [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
            .iter()
            .fold(word.to_owned(), |word, (escape, plain)| word.replace(escape, plain))
    };
    mountinfo.lines().filter_map(|mount| mount.split(' ').nth(4)).map(|word| PathBuf::from(unescape(word))).collect()
}

/// Removes the lab directory. The marker goes last, so that an interrupted removal can be repeated.
pub(super) fn remove(path: &Path) -> Result<(), LocalLabError> {
    refuse_mounts(path)?;
    for name in entries(path)?.into_iter().filter(|name| name != MARKER) {
        let entry = path.join(name);
        let is_directory = fs::symlink_metadata(&entry).is_ok_and(|meta| meta.is_dir());
        let removed = if is_directory { fs::remove_dir_all(&entry) } else { fs::remove_file(&entry) };
        removed.map_err(Failure::file("remove", entry))?;
    }
    let marker = path.join(MARKER);
    match fs::remove_file(&marker) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(Failure::file("remove", marker)(source).into());
        }
        _ => {}
    }
    Ok(fs::remove_dir(path).map_err(Failure::file("remove", path))?)
}

fn entries(path: &Path) -> Result<Vec<String>, Failure> {
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let names = fs::read_dir(path).and_then(|entries| entries.map(|entry| entry.map(name)).collect());
    names.map_err(Failure::file("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_the_kernel_writes_them() {
        let text = "22 27 0:21 / /proc rw - proc proc rw\n25 24 0:23 / /srv/a\\040b rw - tmpfs tmpfs rw\n";
        assert_eq!(mount_points(text), [PathBuf::from("/proc"), PathBuf::from("/srv/a b")]);
    }

    #[test]
    fn paths_that_would_need_quotes_are_refused() {
        for path in ["/tmp/a b", "/tmp/a\"b", "/tmp/a%u", "/tmp/a\nb", "/tmp/x/../y", "/"] {
            assert!(check_path(Path::new(path)).is_err(), "{path:?}");
        }
        assert!(check_path(Path::new("/home/李/.local/state/pgstead/lab")).is_ok());
    }
}

//! Files that only their owner reads, replaced as a whole.

use std::fs::{DirBuilder, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::{fs, io};

use crate::state::error::StateError;

const GROUP_AND_OTHERS: u32 = 0o077;
const WRITE_BY_OTHERS: u32 = 0o022;

/// Reads a file; none where it does not exist.
pub(super) fn read(path: &Path) -> Result<Option<String>, StateError> {
    let unreadable =
        |error| StateError::Read { path: path.to_owned(), source: io::Error::new(io::ErrorKind::InvalidData, error) };
    read_bytes(path)?.map(|bytes| String::from_utf8(bytes).map_err(|error| unreadable(error.utf8_error()))).transpose()
}

/// Reads the bytes of a file; none where it does not exist.
pub(super) fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Read { path: path.to_owned(), source }),
    }
}

/// Reads a secret file, and refuses one that others can read.
pub(super) fn read_private(path: &Path) -> Result<Option<String>, StateError> {
    match mode(path)? {
        None => Ok(None),
        Some(mode) if mode & GROUP_AND_OTHERS != 0 => Err(StateError::Exposed { path: path.to_owned(), mode }),
        Some(_) => read(path),
    }
}

/// Refuses a directory in which others can replace files.
pub(super) fn check_directory(path: &Path) -> Result<(), StateError> {
    match mode(path)? {
        Some(mode) if mode & WRITE_BY_OTHERS != 0 => Err(StateError::OpenDirectory { path: path.to_owned(), mode }),
        _ => Ok(()),
    }
}

/// Creates a directory and its parents, 0700, and leaves those alone that are there.
pub(super) fn create_directory(path: &Path) -> Result<(), StateError> {
    if path.is_dir() {
        return check_directory(path);
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o700)))
        .and_then(|()| sync_parent(path))
        .map_err(|source| StateError::CreateDirectory { path: path.to_owned(), source })
}

/// Replaces a file: a temporary file beside it, on disk, then in its place, then the directory on disk.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), StateError> {
    if fs::read(path).is_ok_and(|old| old == content) && mode(path)?.is_some_and(|mode| mode == 0o600) {
        return Ok(());
    }
    let write = || -> io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
        file.as_file().set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        sync_parent(path)
    };
    write().map_err(|source| StateError::Write { path: path.to_owned(), source })
}

/// Removes a file that may not be there, and waits until that is on disk.
pub(super) fn remove(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path).map_err(|source| StateError::Write { path: path.to_owned(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(StateError::Write { path: path.to_owned(), source }),
    }
}

/// Waits until the directory entry of a path is on disk.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn mode(path: &Path) -> Result<Option<u32>, StateError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.permissions().mode() & 0o7777)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Read { path: path.to_owned(), source }),
    }
}

//! One run at a time per topology and operator's machine.
//!
//! The kernel holds the lock for the process and lets go of it however the process ends, so there is nothing stale to
//! break. The file's content only explains; it is never trusted.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::state::error::StateError;

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process on the operator's machine.
    pub pid: u32,
    /// Since when.
    pub since: Timestamp,
    /// Who started it, as `user@host`.
    pub operator: String,
    /// What it does, such as `bootstrap`.
    pub operation: String,
}

impl Holder {
    /// Describes this process as the holder.
    pub fn this_process(operator: impl Into<String>, operation: impl Into<String>, now: Timestamp) -> Self {
        Self { pid: std::process::id(), since: now, operator: operator.into(), operation: operation.into() }
    }

    /// Returns who holds the lock, as a sentence.
    pub fn sentence(&self) -> String {
        format!("\"{}\" of {}, process {}, runs since {:.0}.", self.operation, self.operator, self.pid, self.since)
    }
}

/// A held lock.
#[derive(Debug)]
pub struct RunLock {
    file: File,
}

/// How long a lock may seem held by nobody: because [`holder`] is asking, over and over, or because it is being let go of.
const ASKERS_MAX: Duration = Duration::from_secs(5);

/// How often it is tried at least in that time: on a machine with no processor to spare one try may take as long.
const TRIES_MIN: u32 = 1000;

impl RunLock {
    pub(super) fn take(path: &Path, holder: &Holder) -> Result<Self, StateError> {
        let failed = |source| StateError::Lock { path: path.to_owned(), source };
        let mut file = open(path).map_err(failed)?;
        if !try_exclusive(&mut file).map_err(failed)? {
            return Err(StateError::Locked { path: path.to_owned(), holder: content(&mut file) });
        }
        let text = serde_json::to_vec(holder).map_err(|error| failed(error.into()))?;
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&text)).map_err(failed)?;
        Ok(Self { file })
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        let _ = self.file.set_len(0); // The next holder must not be taken for this one.
    }
}

/// Takes the lock where no run holds it. Whoever only asks has a shared lock for a moment, which a run must not mistake
/// for another run: where a shared lock can be had, no run holds it.
///
/// A run that holds it has written who it is. Where nothing is written the lock is just being taken, or was just let go of and is
/// still open in a program that its run has started and that has not begun yet.
fn try_exclusive(file: &mut File) -> io::Result<bool> {
    let deadline = Instant::now() + ASKERS_MAX;
    let mut tries = 0;
    while tries < TRIES_MIN || Instant::now() < deadline {
        tries += 1;
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(source),
        }
        match file.try_lock_shared() {
            Ok(()) => file.unlock()?,
            Err(TryLockError::WouldBlock) if content(file).is_some() => return Ok(false),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(source),
        }
        std::thread::yield_now();
    }
    Ok(false)
}

/// Returns who holds a lock, where somebody does.
pub(super) fn holder(path: &Path) -> Result<Option<Holder>, StateError> {
    let failed = |source| StateError::Lock { path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(content(&mut file)),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn content(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut text)).ok()?;
    serde_json::from_str(&text).ok()
}

//! The journal: what was done, one JSON object per line. It explains; nothing is decided from it.
//!
//! The operator's machine has a line for everything, written as it happens; each server's audit log has the lines that are
//! about it. [`crate::state::past`] puts runs together from the lines of one or of all.

use std::fs::{File, OpenOptions};
use std::io;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::name::ServerName;
use crate::state::error::StateError;
use crate::state::files;

/// One line. It has no place for standard input, and so none for a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Entry {
    /// A run began.
    RunStarted {
        run: String,
        /// When.
        time: Timestamp,
        /// Who started it, as `user@host`.
        operator: String,
        /// The operation, such as `bootstrap`.
        operation: String,
        /// The mark of the run's state directory.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<String>,
    },
    /// A step is about to begin.
    StepStarted {
        run: String,
        /// When.
        time: Timestamp,
        /// Its number in the plan.
        step: u32,
        title: String,
        /// The server it changes, where it is one.
        server: Option<ServerName>,
    },
    /// A step ended.
    Step {
        run: String,
        /// When it ended.
        time: Timestamp,
        /// Its number in the plan; earlier releases wrote none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<u32>,
        title: String,
        /// The server it changed, where it is one.
        server: Option<ServerName>,
        /// How it ended.
        outcome: Outcome,
        /// How long it took.
        seconds: f64,
        /// Its commands as shell lines, masked.
        commands: Vec<String>,
    },
    /// A preflight left out a code, for a reason that the operator gave.
    Skipped {
        run: String,
        /// When.
        time: Timestamp,
        code: String,
        reason: String,
    },
    /// The operator answers for it that a server which cannot be reached is off, and stays off (hazard 54).
    Attested {
        run: String,
        /// When.
        time: Timestamp,
        server: ServerName,
        /// How the operator knows.
        reason: String,
    },
    RunEnded {
        run: String,
        /// When.
        time: Timestamp,
        /// How.
        result: RunResult,
        /// How long it took.
        seconds: f64,
        /// The primary message of what ended it early.
        message: Option<String>,
    },
    /// A run took over the lock of another one, whose lease had expired.
    LeaseExpired {
        /// The run that took it.
        run: String,
        /// When.
        time: Timestamp,
        /// Who started that run.
        operator: String,
        /// How long the lock had not been renewed, by the server's clock.
        age_seconds: i64,
        /// The old lock's text.
        lock: String,
    },
    /// An operator broke a lock.
    LockBroken {
        /// When.
        time: Timestamp,
        /// Who.
        operator: String,
        /// The lock's text.
        lock: String,
    },
    /// Something that a later release writes.
    #[serde(other)]
    Other,
}

impl Entry {
    /// Returns the entry as one line, without a line feed.
    pub fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did its work.
    Done,
    Failed,
    /// The connection broke while it ran: whether it did its work is not known (hazard 92).
    Unknown,
    /// It goes on, on the server, without this run.
    LeftRunning,
    /// It was not started: a step before it failed, the operator stopped the run, or the run did not hold the server's lock any
    /// more.
    NotStarted,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunResult {
    /// It did its work.
    Done,
    /// There was nothing to do.
    NoChanges,
    Refused,
    /// A step failed.
    Failed,
    /// The operator stopped it.
    Stopped,
}

/// What a journal holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Journal {
    /// The entries, oldest first.
    pub entries: Vec<Entry>,
    /// How many lines could not be read: a power loss tears the last one.
    pub unreadable_lines: usize,
}

/// Returns who works here, as `user@host`.
pub fn operator() -> String {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("SUDO_USER").or_else(|| variable("USER")).or_else(|| variable("LOGNAME"));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| variable("HOSTNAME"));
    let mut text = user.unwrap_or_else(|| "unknown".to_owned());
    text.push('@');
    text.push_str(host.as_deref().map_or("unknown", str::trim));
    text
}

/// A journal that is open for a run's lines.
#[derive(Debug)]
pub struct JournalFile {
    file: File,
    path: PathBuf,
    /// The last line was cut off, by a power loss long ago or by a full disk just now: the next one starts afresh.
    torn: bool,
}

impl JournalFile {
    pub(super) fn open(path: &Path) -> Result<Self, StateError> {
        let open = || -> io::Result<Self> {
            let new = !path.exists();
            let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
            if new {
                files::sync_parent(path)?;
            }
            let torn = ends_torn(&mut file)?;
            Ok(Self { file, path: path.to_owned(), torn })
        };
        open().map_err(|source| StateError::Write { path: path.to_owned(), source })
    }

    /// Adds entries; a killed process loses none of them. On wish it waits until they are on disk, where a power loss does
    /// not reach them either.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn append(&mut self, entries: &[Entry], durable: bool) -> Result<(), StateError> {
        let mut lines = Vec::new();
        if self.torn {
            lines.push(b'\n');
        }
        for entry in entries {
            lines.extend(entry.line().into_bytes());
            lines.push(b'\n');
        }
        self.torn = true;
        let written = self.file.write_all(&lines).and_then(|()| {
            self.torn = false;
            if durable { self.file.sync_data() } else { Ok(()) }
        });
        written.map_err(|source| StateError::Write { path: self.path.clone(), source })
    }
}

pub(super) fn append(path: &Path, entries: &[Entry]) -> Result<(), StateError> {
    JournalFile::open(path)?.append(entries, true)
}

pub(super) fn read(path: &Path) -> Result<Journal, StateError> {
    Ok(Journal::parse(&files::read_bytes(path)?.unwrap_or_default()))
}

impl Journal {
    /// Reads the lines of a journal or of an audit log. A torn line need not even be UTF-8; it is counted and left out.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut journal = Self::default();
        for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(entry) => journal.entries.push(entry),
                Err(_) => journal.unreadable_lines += 1,
            }
        }
        journal
    }
}

fn ends_torn(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

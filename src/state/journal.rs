//! The journal: what was done, one JSON object per line. It explains; nothing is decided from it.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::model::name::ServerName;
use crate::state::error::StateError;
use crate::state::files;

/// One line. It has no place for standard input, and so none for a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Entry {
    /// A run began.
    RunStarted {
        /// The run.
        run: String,
        /// When.
        time: Timestamp,
        /// Who started it, as `user@host`.
        operator: String,
        /// The operation, such as `bootstrap`.
        operation: String,
    },
    /// A step ended.
    Step {
        /// The run.
        run: String,
        /// When it ended.
        time: Timestamp,
        /// Its title.
        title: String,
        /// The server it changed, where it is one.
        server: Option<ServerName>,
        /// How it ended.
        outcome: StepOutcome,
        /// How long it took.
        seconds: f64,
        /// Its commands as shell lines, masked.
        commands: Vec<String>,
    },
    /// A preflight left out a code, for a reason that the operator gave.
    Skipped {
        /// The run.
        run: String,
        /// When.
        time: Timestamp,
        /// The code.
        code: String,
        /// The reason.
        reason: String,
    },
    /// A run ended.
    RunEnded {
        /// The run.
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
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// It did its work.
    Done,
    /// It failed.
    Failed,
    /// The connection broke while it ran (hazard 92).
    Unknown,
    /// It went on, on the server, when the run was stopped.
    LeftRunning,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunResult {
    /// It did its work.
    Done,
    /// There was nothing to do.
    NoChanges,
    /// It refused.
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

/// One run, put together from its entries.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSummary {
    /// The run.
    pub run: String,
    /// When it began.
    pub started: Timestamp,
    /// Who started it.
    pub operator: String,
    /// The operation.
    pub operation: String,
    /// How many steps did their work.
    pub steps_done: usize,
    /// The codes that a preflight left out, with the reasons.
    pub skipped: Vec<(String, String)>,
    /// How it ended; none while it runs, or when it was killed.
    pub result: Option<RunResult>,
    /// How long it took.
    pub seconds: Option<f64>,
    /// The primary message of what ended it early.
    pub message: Option<String>,
}

impl Journal {
    /// Returns the runs, oldest first.
    pub fn runs(&self) -> Vec<RunSummary> {
        let mut runs: Vec<RunSummary> = Vec::new();
        for entry in &self.entries {
            match entry {
                Entry::RunStarted { run, time, operator, operation } => runs.push(RunSummary {
                    run: run.clone(),
                    started: *time,
                    operator: operator.clone(),
                    operation: operation.clone(),
                    steps_done: 0,
                    skipped: Vec::new(),
                    result: None,
                    seconds: None,
                    message: None,
                }),
                Entry::Step { run, outcome, .. } => {
                    if let Some(summary) = runs.iter_mut().rfind(|summary| summary.run == *run) {
                        summary.steps_done += usize::from(*outcome == StepOutcome::Done);
                    }
                }
                Entry::Skipped { run, code, reason, .. } => {
                    if let Some(summary) = runs.iter_mut().rfind(|summary| summary.run == *run) {
                        summary.skipped.push((code.clone(), reason.clone()));
                    }
                }
                Entry::RunEnded { run, result, seconds, message, .. } => {
                    if let Some(summary) = runs.iter_mut().rfind(|summary| summary.run == *run) {
                        summary.result = Some(*result);
                        summary.seconds = Some(*seconds);
                        summary.message.clone_from(message);
                    }
                }
            }
        }
        runs
    }
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

pub(super) fn append(path: &Path, entries: &[Entry]) -> Result<(), StateError> {
    let write = || -> io::Result<()> {
        let new = !path.exists();
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut lines = Vec::new();
        if ends_torn(&mut file)? {
            lines.push(b'\n');
        }
        for entry in entries {
            lines.extend(serde_json::to_vec(entry)?);
            lines.push(b'\n');
        }
        file.write_all(&lines)?;
        file.sync_data()?;
        if new { files::sync_parent(path) } else { Ok(()) }
    };
    write().map_err(|source| StateError::Write { path: path.to_owned(), source })
}

pub(super) fn read(path: &Path) -> Result<Journal, StateError> {
    let mut journal = Journal::default();
    let bytes = files::read_bytes(path)?.unwrap_or_default(); // A torn line need not even be UTF-8.
    for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(entry) => journal.entries.push(entry),
            Err(_) => journal.unreadable_lines += 1,
        }
    }
    Ok(journal)
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

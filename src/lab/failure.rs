//! What lies under a failed operation of any lab.

use std::io;
use std::path::PathBuf;

/// A command, a file, or a wait that ran out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    #[error("could not start: {command}")]
    Start {
        /// The command, as a shell would take it.
        command: String,
        #[source]
        source: io::Error,
    },
    #[error("{command} ended with {status}: {stderr}")]
    Command {
        /// The command, as a shell would take it.
        command: String,
        status: String,
        /// What it printed as its reason.
        stderr: String,
    },
    #[error("could not {doing} \"{}\"", path.display())]
    File {
        doing: &'static str,
        /// Its object.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("\"{}\" is not as expected: {problem}", path.display())]
    Content { path: PathBuf, problem: String },
    #[error("waited {seconds} s for {awaited}; last seen: {last}")]
    Deadline {
        seconds: u64,
        /// For what.
        awaited: &'static str,
        /// The last observation.
        last: String,
    },
    /// Something that had to be gone is still there, or the reverse.
    #[error("{0}")]
    Observed(String),
}

impl Failure {
    /// Makes the `map_err` argument for a file operation.
    pub(super) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }
}

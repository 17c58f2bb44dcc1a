//! The steps a plan can hold. Each knows its title, its server, its risk and its exact commands.

use crate::model::argv::Argv;
use crate::model::name::ServerName;

/// What a step may do to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    /// Only looks.
    Read,
    /// Changes something that can be changed back.
    Reversible,
    /// Interrupts clients.
    Disruptive,
    /// Sets data aside.
    Destructive,
}

/// A change of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Where it is on the server.
    pub path: String,
    /// What it holds now; `None` when it is not there.
    pub before: Option<String>,
    /// What it will hold; `None` when it holds secrets and is not shown.
    pub after: Option<String>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it does, as a short sentence without the server's name.
    pub title: String,
    /// The server it changes; `None` for the operator's own machine.
    pub server: Option<ServerName>,
    /// What it may do.
    pub risk: Risk,
    /// Its commands.
    pub commands: Vec<Argv>,
    /// Its file changes, for the diff.
    pub files: Vec<FileChange>,
}

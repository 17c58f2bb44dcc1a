//! What is told to the operator when something is wrong: one shape for problems, refusals, findings and failures.
//!
//! PostgreSQL's message style: a short lower-case primary message, factual DETAIL, a HINT only when it is probably right.
//! This module has no wording of its own; each module words what it knows, and `ui/` decides how it looks. What others wrote is
//! quoted in it without the passwords that it may hold.

mod code;

use serde::Serialize;

pub use self::code::Code;
use crate::quote::mask;

/// How bad a diagnostic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Works today, and will hurt.
    Warning,
    /// Wrong.
    Error,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// What it says, for scripts.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// The primary message: lower case, no period.
    pub message: String,
    /// Where in the inventory, as `file:line:column: yaml.path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Facts, in full sentences.
    pub detail: Option<String>,
    /// What would help, in full sentences.
    pub hint: Option<String>,
    /// The server it is about.
    pub server: Option<String>,
    /// The exact command, secrets masked.
    pub command: Option<String>,
}

impl Diagnostic {
    /// Makes an error with a code and a primary message.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// Makes a warning.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// Makes a note.
    pub fn note(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, code, message)
    }

    fn new(severity: Severity, code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            severity,
            message: mask::passwords(&message.into()),
            at: None,
            detail: None,
            hint: None,
            server: None,
            command: None,
        }
    }

    /// Says where in the inventory.
    #[must_use]
    pub fn at(mut self, at: impl Into<String>) -> Self {
        self.at = Some(at.into());
        self
    }

    /// Adds facts.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(mask::passwords(&detail.into()));
        self
    }

    /// Adds what would help.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(mask::passwords(&hint.into()));
        self
    }

    /// Says which server it is about.
    #[must_use]
    pub fn server(mut self, server: impl ToString) -> Self {
        self.server = Some(server.to_string());
        self
    }

    /// Adds the exact command.
    #[must_use]
    pub fn command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(mask::passwords(&command.into()));
        self
    }
}

/// What ends a run early: an exit code's worth of meaning and every diagnostic that explains it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .diagnostics.first().map_or("no diagnostic", |d| d.message.as_str()))]
pub struct Failure {
    /// What kind of end it is.
    pub kind: FailureKind,
    /// Every diagnostic, the most important first. None where a report that is told says it all, as after a drill that did not pass.
    pub diagnostics: Vec<Diagnostic>,
}

/// The kinds of ends, each with its exit code (design, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The command line is wrong: 2.
    Usage,
    /// The inventory is invalid: 3.
    Inventory,
    /// A server could not be reached: 4.
    Unreachable,
    /// pgstead refuses, and changed nothing: 5.
    Refused,
    /// A step failed: 6.
    StepFailed,
    /// A link was proven not to work: 7.
    Unhealthy,
    /// Another run holds the lock: 9.
    Locked,
    /// Could not look: 10.
    Unknown,
    /// A defect of pgstead: 70.
    Bug,
}

impl Failure {
    /// Makes a failure of one diagnostic.
    pub fn one(kind: FailureKind, diagnostic: Diagnostic) -> Self {
        Self { kind, diagnostics: vec![diagnostic] }
    }

    /// Makes a failure of several diagnostics.
    pub fn all(kind: FailureKind, diagnostics: Vec<Diagnostic>) -> Self {
        Self { kind, diagnostics }
    }
}

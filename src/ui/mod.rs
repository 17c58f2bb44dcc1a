//! The only code that prints.
//!
//! Results go to stdout, progress and diagnostics to stderr. Everything below is a pure function from a value to a
//! text, a JSON document or a drawing; [`Ui`] alone knows where the text goes. This module decides nothing about servers and
//! reads no inventory: what it draws is given to it.

pub mod ask;
pub mod beside;
pub(crate) mod changes;
mod columns;
pub mod conninfo;
pub mod diagnostic;
pub mod drill;
pub mod history;
pub mod json;
pub mod keys;
pub mod lab;
pub mod look;
pub mod nagios;
pub mod plan;
pub mod preflight;
pub mod progress;
pub mod report;
pub mod reseed;
pub mod role_change;
#[cfg(test)]
pub(crate) mod samples;
pub mod topology;
pub mod validate;

use std::io;
use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind, Severity};
pub use look::Look;
pub use progress::Progress;

/// The form of the result on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Text for people.
    #[default]
    Human,
    /// Exactly one JSON document.
    Json,
    /// One line as monitoring plugins write it; `check` alone knows it.
    Nagios,
}

/// How much is said on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verbosity {
    /// Warnings and errors alone.
    Quiet,
    /// Progress, notes, warnings and errors.
    #[default]
    Normal,
    /// In addition every round trip with its commands, and scripts and certificates line by line.
    Verbose,
}

/// What the command line says about output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// The form of the result.
    pub format: Format,
    /// How much is said beside the result.
    pub verbosity: Verbosity,
    /// Whether the ordinary question is answered beforehand.
    pub yes: bool,
}

/// What became of text for stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It was written.
    Written,
    /// The reader went away, as `head` does; there is no use in writing more.
    ReaderGone,
}

/// Answers, once per process, every question about output: how much, in which form, with colour, how wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ui {
    /// What the command line says.
    pub options: Options,
    /// How stdout looks.
    pub out: Look,
    /// How stderr looks.
    pub err: Look,
    /// Whether someone can be asked: stdin and stderr are terminals.
    pub can_ask: bool,
}

impl Ui {
    /// Looks at the environment and at the three standard streams.
    pub fn new(options: Options) -> Self {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let out = Look::of_stream(&env, io::stdout().is_terminal(), look::terminal_width(&io::stdout()));
        let err = Look::of_stream(&env, io::stderr().is_terminal(), look::terminal_width(&io::stderr()));
        let whole = options.verbosity == Verbosity::Verbose;
        let (out, err) = (Look { whole, ..out }, Look { whole, ..err });
        Self { options, out, err, can_ask: io::stdin().is_terminal() && err.terminal }
    }

    /// Says whether the result is a JSON document.
    pub fn is_json(&self) -> bool {
        self.options.format == Format::Json
    }

    /// Writes text to stdout. A reader that went away is no error.
    ///
    /// # Errors
    /// When stdout cannot be written, as on a full disk.
    pub fn result(&self, text: &str) -> Result<Delivery, Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(Delivery::Written),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Delivery::ReaderGone),
            Err(error) => Err(Failure::one(
                FailureKind::StepFailed,
                Diagnostic::error(Code::WriteOutput, "could not write to standard output").detail(format!("{error}.")),
            )),
        }
    }

    /// Writes one JSON document to stdout.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn document(&self, document: &impl Serialize) -> Result<Delivery, Failure> {
        self.result(&json::text(document)?)
    }

    /// Writes the result in the form that was asked for; only that form is made.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn answer<D: Serialize>(
        &self,
        human: impl FnOnce(Look) -> String,
        document: impl FnOnce() -> D,
    ) -> Result<Delivery, Failure> {
        match self.options.format {
            Format::Human | Format::Nagios => self.result(&human(self.out)),
            Format::Json => self.document(&document()),
        }
    }

    /// Writes text to stderr. Where stderr cannot be written, there is nobody left to tell.
    pub fn say(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }

    /// Writes a line about what happens to stderr, unless `-q` was given.
    pub fn status(&self, line: &str) {
        if self.options.verbosity > Verbosity::Quiet {
            self.say(&format!("{}\n", look::visible(line)));
        }
    }

    /// Writes text that explains what comes next to stderr, unless `-q` was given.
    pub fn explain(&self, text: &str) {
        if self.options.verbosity > Verbosity::Quiet {
            self.say(text);
        }
    }

    /// Writes diagnostics to stderr; with `-q` without notes.
    pub fn diagnostics(&self, diagnostics: &[Diagnostic]) {
        let quiet = self.options.verbosity == Verbosity::Quiet;
        for diagnostic in diagnostics.iter().filter(|d| !(quiet && d.severity == Severity::Note)) {
            self.say(&diagnostic::render(diagnostic, self.err));
        }
    }

    /// Reports what ended the run: diagnostics on stderr, and the error document on stdout when JSON was asked for.
    pub fn failure(&self, failure: &Failure) {
        self.error_document(&failure.diagnostics);
        self.diagnostics(&failure.diagnostics);
    }

    /// Writes the error document to stdout when JSON was asked for, and a line when a monitoring system asks.
    pub fn error_document(&self, diagnostics: &[Diagnostic]) {
        // When stdout is broken as well, stderr still tells why the run failed.
        let _ = match self.options.format {
            Format::Json => self.document(&json::ErrorDocument::new(diagnostics)),
            Format::Nagios => {
                let message = diagnostics.first().map_or("no diagnostic", |first| first.message.as_str());
                self.result(&nagios::render_failure(message))
            }
            Format::Human => return,
        };
    }
}

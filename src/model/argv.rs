//! Commands as values.
//!
//! An [`Argv`] is what a plan holds, what the executor runs, and what journal and errors print: one value, one text.
//! Nothing composes a shell line from parts; only [`crate::quote::sh`] knows how a word is quoted.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::secret::Secret;
use crate::model::session;
use crate::quote::sh;

/// The OS identity a command needs on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunAs {
    /// The SSH login user, as it is.
    Login,
    /// root, directly or through `sudo -n`.
    Root,
    /// The OS user that owns the instance, usually `postgres`.
    User(String),
}

/// The identity of the SSH login, as the probe saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The login user's name.
    pub user: String,
    /// How that user becomes root.
    pub root: RootAccess,
}

/// How a login user becomes root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootAccess {
    /// The login user is root.
    Root,
    /// `sudo -n` works without a password.
    Sudo,
    /// There is no way.
    None,
}

/// One piece of standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text that may be shown.
    Text(String),
    /// Text that is sent and never shown.
    Secret(Secret),
}

/// A program, its arguments, its standard input and the identity it runs under.
///
/// Arguments hold no secrets: they are visible in the server's process list (hazard 89). Secrets travel on standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argv {
    /// The program, by name or absolute path.
    pub program: String,
    /// Its arguments, one word each.
    pub args: Vec<String>,
    /// What it reads on standard input; empty means nothing.
    pub stdin: Vec<Piece>,
    /// The identity it runs under.
    pub run_as: RunAs,
    /// Whether it opens a session of PostgreSQL as a superuser, which is to be like every other of ours.
    pub opens_session: bool,
}

impl Argv {
    /// Makes a command without arguments.
    pub fn new(run_as: RunAs, program: impl Into<String>) -> Self {
        Self { program: program.into(), args: Vec::new(), stdin: Vec::new(), run_as, opens_session: false }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Makes its session like every other of ours, whatever the server's defaults and the environment say.
    #[must_use]
    pub fn in_session(mut self) -> Self {
        self.opens_session = true;
        self
    }

    /// Adds text to standard input.
    #[must_use]
    pub fn stdin_text(mut self, text: impl Into<String>) -> Self {
        self.stdin.push(Piece::Text(text.into()));
        self
    }

    /// Adds secret text to standard input.
    #[must_use]
    pub fn stdin_secret(mut self, secret: Secret) -> Self {
        self.stdin.push(Piece::Secret(secret));
        self
    }

    /// Returns the words that run this command for a given login: `runuser` or `sudo -n` in front where needed.
    pub fn words(&self, login: &Login) -> Vec<String> {
        let prefix: &[&str] = match (&self.run_as, login.root) {
            (RunAs::Login, _) => &[],
            (RunAs::Root, RootAccess::Root) => &[],
            (RunAs::Root, _) => &["sudo", "-n", "--"],
            (RunAs::User(user), _) if *user == login.user => &[],
            (RunAs::User(_), RootAccess::Root) => &["runuser", "-u"],
            (RunAs::User(_), _) => &["sudo", "-n", "-u"],
        };
        let mut words: Vec<String> = prefix.iter().map(|&word| word.to_owned()).collect();
        if let (RunAs::User(user), false) = (&self.run_as, prefix.is_empty()) {
            words.push(user.clone());
            words.push("--".to_owned());
        }
        // Behind runuser and sudo, which may bring variables of their own.
        if self.opens_session {
            words.extend(["sh", "-c", &session::AS_SUPERUSER, "pgstead-session"].map(str::to_owned));
        }
        words.push(self.program.clone());
        words.extend(self.args.iter().cloned());
        words
    }

    /// Returns the copy-pastable shell line for a given login. Standard input is not part of it.
    pub fn line(&self, login: &Login) -> String {
        sh::join(&self.words(login))
    }

    /// Returns the bytes for standard input, secrets included. For transports only.
    pub fn stdin_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in &self.stdin {
            match piece {
                Piece::Text(text) => bytes.extend(crate::model::bytes::bytes(text)),
                Piece::Secret(secret) => bytes.extend_from_slice(secret.expose().as_bytes()),
            }
        }
        bytes
    }
}

impl fmt::Display for Argv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = vec![self.program.clone()];
        words.extend(self.args.iter().cloned());
        f.write_str(&sh::join(&words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str, root: RootAccess) -> Login {
        Login { user: user.to_owned(), root }
    }

    #[test]
    fn identity_becomes_a_prefix_only_where_needed() {
        let argv = Argv::new(RunAs::User("postgres".into()), "psql").arg("-c").arg("select 'x y'");
        assert_eq!(argv.line(&login("postgres", RootAccess::None)), r#"psql -c 'select '\''x y'\'''"#);
        assert_eq!(argv.words(&login("root", RootAccess::Root))[..4], ["runuser", "-u", "postgres", "--"]);
        assert_eq!(argv.words(&login("ops", RootAccess::Sudo))[..5], ["sudo", "-n", "-u", "postgres", "--"]);
    }

    #[test]
    fn secrets_are_sent_and_not_shown() {
        let argv = Argv::new(RunAs::Root, "tee").stdin_text("a=").stdin_secret(Secret::new("s3cret x"));
        assert_eq!(argv.stdin_bytes(), b"a=s3cret x");
        assert!(!format!("{argv} {argv:?}").contains("s3cret"));
    }
}

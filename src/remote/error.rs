//! What can go wrong on the way to a server, and how that is told.

use std::io;
use std::path::PathBuf;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::host_key;
use crate::model::name::ServerName;
use crate::remote::classify::ConnectReason;
use crate::remote::script::BatchError;

/// A remote operation that did not succeed. No variant carries standard input, so none carries a secret.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("could not make a private directory for SSH connections")]
    Prepare {
        #[source]
        source: io::Error,
    },
    #[error("path {path:?} cannot be used with ssh: quotes, \"${{\" and control characters are not possible there")]
    UnusablePath { path: PathBuf },
    /// The connection could not be made.
    #[error("server \"{server}\": {}", phrase(*.reason))]
    Connect {
        server: ServerName,
        /// Why, as far as ssh's words tell.
        reason: ConnectReason,
        /// Where ssh was told to go: `[user@]address[:port][ through JUMP]`.
        destination: String,
        /// ssh's own words.
        detail: String,
    },
    /// The connection was gone before the command was sent: nothing was done.
    #[error("server \"{server}\": the SSH connection is gone; the command was not sent")]
    Disconnected { server: ServerName, line: String, detail: String },
    /// The connection broke while the command ran, or the command itself said 255: it may or may not have done its work.
    #[error("server \"{server}\": the outcome of a command is unknown: the connection broke while it ran")]
    OutcomeUnknown { server: ServerName, line: String, detail: String },
    /// A command has not ended in time: something there hangs. It may or may not have done its work.
    #[error("server \"{server}\": it did not answer within {seconds} s")]
    TimedOut {
        server: ServerName,
        line: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A command wrote more than is taken, and was given up.
    #[error("server \"{server}\": a command wrote more than {} MB", .limit_bytes >> 20)]
    TooMuch {
        server: ServerName,
        line: String,
        /// What is taken.
        limit_bytes: u64,
    },
    #[error("server \"{server}\": command failed{}", status_text(*.status))]
    Command {
        server: ServerName,
        /// The command that failed, copy-pastable.
        line: String,
        /// Its place in the batch, from 0.
        index: usize,
        /// Its exit status; none where a signal ended it.
        status: Option<i32>,
        /// What the batch wrote to standard output until then.
        stdout: Vec<u8>,
        /// What the batch wrote to standard error until then.
        stderr: Vec<u8>,
    },
    /// Commands cannot go together: a defect of the caller.
    #[error("server \"{server}\": commands cannot be batched")]
    Batch {
        server: ServerName,
        #[source]
        source: BatchError,
    },
    /// Something else ran than what was sent.
    #[error("server \"{server}\": it ran something else than what was sent over SSH, and said: {said}")]
    Replaced {
        server: ServerName,
        line: String,
        /// What came instead.
        said: String,
    },
    #[error("server \"{server}\": its sshd forwards no connection to {target}")]
    ForwardingOff {
        server: ServerName,
        /// The address beyond.
        target: String,
    },
    /// sshd opens no second session on a connection, and the first one stays open.
    #[error("server \"{server}\": its sshd opens one session at a time on a connection")]
    OneSession { server: ServerName },
    #[error("server \"{server}\": could not forward a local socket to {target}")]
    Forward {
        server: ServerName,
        /// The address beyond.
        target: String,
        detail: String,
    },
    #[error("server \"{server}\": could not fetch the SSH host keys of {address}")]
    ScanHostKeys {
        /// The server, or the one whose jump host it is.
        server: ServerName,
        /// The address asked.
        address: String,
        /// What ssh-keyscan said.
        detail: String,
    },
    #[error("could not read known hosts file {path:?}")]
    ReadKnownHosts {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not write known hosts file {path:?}")]
    WriteKnownHosts {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn phrase(reason: ConnectReason) -> &'static str {
    match reason {
        ConnectReason::HostKeyChanged => host_key::CHANGED,
        ConnectReason::HostKeyUnknown => host_key::UNKNOWN,
        ConnectReason::PermissionDenied => "SSH login denied",
        ConnectReason::Refused => "SSH connection refused",
        ConnectReason::TimedOut => "SSH connection timed out",
        ConnectReason::Unreachable => "no route to the server",
        ConnectReason::NotResolved => "its address could not be resolved",
        ConnectReason::Jump => "the jump host could not be passed",
        ConnectReason::ClosedEarly => "sshd closed the connection before the login",
        ConnectReason::NoClient => "could not start the program \"ssh\"",
        ConnectReason::Other => "SSH connection failed",
    }
}

fn status_text(status: Option<i32>) -> String {
    match status {
        Some(status) => format!(" with status {status}"),
        None => " by a signal".to_owned(),
    }
}

impl ConnectReason {
    fn code(self) -> Code {
        match self {
            ConnectReason::HostKeyChanged => Code::HostKeyChanged,
            ConnectReason::HostKeyUnknown => Code::HostKeyUnknown,
            ConnectReason::PermissionDenied => Code::SshPermissionDenied,
            ConnectReason::Refused => Code::SshRefused,
            ConnectReason::TimedOut => Code::SshTimedOut,
            ConnectReason::Unreachable => Code::SshUnreachable,
            ConnectReason::NotResolved => Code::SshNameNotResolved,
            ConnectReason::Jump => Code::SshJumpFailed,
            ConnectReason::ClosedEarly => Code::SshClosedEarly,
            ConnectReason::NoClient => Code::SshClientMissing,
            ConnectReason::Other => Code::SshFailed,
        }
    }

    fn hint(self) -> &'static str {
        match self {
            ConnectReason::HostKeyChanged => host_key::CHANGED_HINT,
            ConnectReason::HostKeyUnknown => host_key::UNKNOWN_HINT,
            ConnectReason::PermissionDenied => {
                "Check \"ssh.user\" and \"ssh.identity_file\", or add the key to your SSH agent."
            }
            ConnectReason::ClosedEarly => {
                "sshd does that when too many logins are under way (MaxStartups) or when it blocks an address."
            }
            ConnectReason::NoClient => "Install the OpenSSH client.",
            ConnectReason::TimedOut | ConnectReason::Unreachable => {
                "Is the server up, is its address right, and does every firewall on the way let SSH through?"
            }
            ConnectReason::Refused => "Does sshd run there, and on the port that \"ssh.port\" says?",
            ConnectReason::NotResolved => "Check \"address\" in the inventory, or this machine's name resolution.",
            ConnectReason::Jump => "Is the jump host up, and may it reach the server?",
            ConnectReason::Other => "\"ssh -v\" to the same place tells more. Then run the same command again.",
        }
    }
}

impl RemoteError {
    /// Returns the server it is about.
    pub fn server(&self) -> Option<&ServerName> {
        match self {
            RemoteError::Prepare { .. }
            | RemoteError::UnusablePath { .. }
            | RemoteError::ReadKnownHosts { .. }
            | RemoteError::WriteKnownHosts { .. } => None,
            RemoteError::Connect { server, .. }
            | RemoteError::Disconnected { server, .. }
            | RemoteError::OutcomeUnknown { server, .. }
            | RemoteError::TimedOut { server, .. }
            | RemoteError::TooMuch { server, .. }
            | RemoteError::Command { server, .. }
            | RemoteError::Batch { server, .. }
            | RemoteError::Forward { server, .. }
            | RemoteError::Replaced { server, .. }
            | RemoteError::ForwardingOff { server, .. }
            | RemoteError::OneSession { server }
            | RemoteError::ScanHostKeys { server, .. } => Some(server),
        }
    }

    /// Says whether the server may have changed: the caller observes again before it acts again (hazard 92).
    pub fn outcome_is_unknown(&self) -> bool {
        matches!(self, RemoteError::OutcomeUnknown { .. } | RemoteError::TimedOut { .. } | RemoteError::TooMuch { .. })
    }

    /// Returns what to tell the operator.
    pub fn diagnostic(&self) -> Diagnostic {
        let message = self.to_string();
        let diagnostic = match self {
            RemoteError::Prepare { source } => {
                Diagnostic::error(Code::SshDirectory, message)
                    .detail(sentence(&source.to_string()))
                    .hint("It lies in the directory for temporary files: is that full, or not yours? TMPDIR names another.")
            }
            RemoteError::ReadKnownHosts { source, .. } | RemoteError::WriteKnownHosts { source, .. } => {
                Diagnostic::error(Code::KnownHosts, message)
                    .detail(sentence(&source.to_string()))
                    .hint("Make the file yours, or name another as \"ssh.known_hosts\" in the inventory.")
            }
            RemoteError::UnusablePath { .. } => {
                Diagnostic::error(Code::UnusablePath, message).hint("Give it a plain name, and name that in the inventory.")
            }
            RemoteError::Connect { reason, destination, detail, .. } => Diagnostic::error(reason.code(), message)
                .detail(sentence(&["ssh to ", destination, " said: ", detail].concat()))
                .hint(reason.hint()),
            RemoteError::Disconnected { line, detail, .. } => Diagnostic::error(Code::Disconnected, message)
                .detail(sentence(detail))
                .hint("Nothing was done by it. Run the same command again when the server can be reached.")
                .command(line),
            RemoteError::OutcomeUnknown { line, detail, .. } => Diagnostic::error(Code::OutcomeUnknown, message)
                .detail(sentence(detail))
                .hint("Run the same command again: it looks at the server first and does only what is missing.")
                .command(line),
            RemoteError::TimedOut { line, .. } => Diagnostic::error(Code::NoAnswer, message)
                .detail("The SSH connection works, and something there hangs: a disk, a mount of another machine, a process that stands still.")
                .hint("Log in there and look: ps -eo pid,stat,wchan:20,args shows what waits, \"D\" for a disk; dmesg says why.")
                .command(line),
            RemoteError::TooMuch { line, .. } => Diagnostic::error(Code::TooMuchOutput, message)
                .detail("What came was thrown away: nothing that is asked there writes as much.")
                .hint("Run the command there and look at what is so large.")
                .command(line),
            RemoteError::Command { line, stderr, .. } => {
                let stderr = String::from_utf8_lossy(stderr);
                let said = match stderr.trim() {
                    "" => "It said nothing on standard error.".to_owned(),
                    said => sentence(&["It said: ", said].concat()),
                };
                Diagnostic::error(Code::CommandFailed, message).detail(said).command(line)
            }
            RemoteError::Replaced { line, .. } => Diagnostic::error(Code::SshCommandReplaced, message)
                .detail("A ForceCommand of its sshd, a command= of the key, or a login shell that runs no commands is in the way.")
                .hint("Give pgstead a login whose shell runs what is sent.")
                .command(line),
            RemoteError::ForwardingOff { target, .. } => Diagnostic::error(Code::SshForwardingOff, message)
                .detail("pgstead speaks SQL through a port that SSH forwards: links are proven that way. sshd answered: administratively prohibited.")
                .hint(format!("Allow it there for this login: \"AllowTcpForwarding local\" in sshd_config, \"PermitOpen {target}\" where that is set, no \"restrict\" for its key; then reload sshd.")),
            RemoteError::OneSession { .. } => Diagnostic::error(Code::SshOneSession, message)
                .detail("A session with its instance goes through one for as long as it lives, and commands need another: this machine has no certificate to log in with over TLS, or sshd forwards nothing.")
                .hint("Raise \"MaxSessions\" in sshd_config there (the default is 10), and reload sshd."),
            RemoteError::Batch { source, .. } => {
                Diagnostic::error(Code::BugBatch, message)
                    .detail(sentence(&source.to_string()))
                    .hint("This is a defect of pgstead: please report it.")
            }
            RemoteError::Forward { detail, .. } => Diagnostic::error(Code::SshForward, message)
                .detail(sentence(detail))
                .hint("Nothing was asked through it. Run the same command again when the server can be reached."),
            RemoteError::ScanHostKeys { detail, .. } => {
                Diagnostic::error(Code::HostKeyScan, message)
                    .detail(sentence(detail))
                    .hint("Is its sshd up, and may this machine reach it? Then run the same command again.")
            }
        };
        match self.server() {
            Some(server) => diagnostic.server(server),
            None => diagnostic,
        }
    }
}

/// Ends a text with a period where it has no end yet.
fn sentence(text: &str) -> String {
    let text = text.trim_end();
    if text.ends_with(['.', '!', '?']) { text.to_owned() } else { [text, "."].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that ends at one of these has changed nothing: whoever reads it is told what to do next.
    #[test]
    fn whoever_cannot_go_on_is_told_what_to_do() {
        let server: ServerName = "b".parse().unwrap();
        let (line, detail) = ("true".to_owned(), "the connection was terminated".to_owned());
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        for error in [
            RemoteError::Prepare { source: denied() },
            RemoteError::UnusablePath { path: "a\"b".into() },
            RemoteError::ReadKnownHosts { path: "known_hosts".into(), source: denied() },
            RemoteError::Disconnected { server: server.clone(), line: line.clone(), detail: detail.clone() },
            RemoteError::OutcomeUnknown { server: server.clone(), line, detail: detail.clone() },
            RemoteError::Forward { server: server.clone(), target: "10.0.0.2:5432".to_owned(), detail: detail.clone() },
            RemoteError::ScanHostKeys { server, address: "10.0.0.2".to_owned(), detail },
        ] {
            assert!(error.diagnostic().hint.is_some_and(|hint| hint.ends_with('.')), "{error}");
        }
    }
}

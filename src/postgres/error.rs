//! What can go wrong between us and a PostgreSQL server, and how that is told.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::name::ServerName;

/// An operation on a PostgreSQL server that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The CA's certificate, or the operator's certificate or key, cannot be used for TLS.
    #[error("could not use {what} for TLS: {detail}")]
    Tls {
        /// Which of them.
        what: &'static str,
        detail: String,
    },
    #[error("server \"{server}\": could not open the forwarded socket {path:?}")]
    Socket {
        server: ServerName,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The server's certificate does not prove that it is the server we mean.
    #[error("server \"{server}\": its TLS certificate is not valid for \"{verify_name}\"")]
    Certificate {
        server: ServerName,
        /// The name or address that the certificate had to prove.
        verify_name: String,
        detail: String,
    },
    #[error("server \"{server}\": it does not accept the certificate of this machine")]
    NotTrusted {
        server: ServerName,
        /// What it said of it.
        detail: String,
    },
    /// A session could not be opened.
    #[error("server \"{server}\": could not open a PostgreSQL session")]
    Connect {
        server: ServerName,
        /// Why; it has an SQLSTATE where the server itself refused.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A query failed.
    #[error("server \"{server}\": could not {what}")]
    Query {
        server: ServerName,
        /// What the query was to find out or do, as a verb phrase.
        what: &'static str,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error("server \"{server}\": could not read the answer to \"{what}\": {detail}")]
    Answer {
        server: ServerName,
        /// What was asked.
        what: &'static str,
        /// What is odd about it.
        detail: String,
    },
    /// Nothing came in time. A statement that writes may still take effect.
    #[error("server \"{server}\": no answer within {timeout_ms} ms while trying to {what}")]
    TimedOut {
        server: ServerName,
        /// What was tried.
        what: &'static str,
        timeout_ms: u64,
    },
}

impl PostgresError {
    /// Returns the SQLSTATE, where the server gave one.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            PostgresError::Connect { source, .. } | PostgresError::Query { source, .. } => {
                source.code().map(tokio_postgres::error::SqlState::code)
            }
            _ => None,
        }
    }

    /// Says whether a column is not there: the object was made by an earlier release.
    pub(super) fn is_undefined_column(&self) -> bool {
        self.sqlstate() == Some(tokio_postgres::error::SqlState::UNDEFINED_COLUMN.code())
    }

    /// Says whether the server did not take an option of the session, such as a role that it does not have.
    pub fn is_invalid_value(&self) -> bool {
        self.sqlstate() == Some(tokio_postgres::error::SqlState::INVALID_PARAMETER_VALUE.code())
    }

    /// Says whether the server does not know who this is, or does not let them in as they wish.
    pub fn is_not_admitted(&self) -> bool {
        use tokio_postgres::error::SqlState;
        let code = self.sqlstate();
        code.is_some_and(|code| {
            [SqlState::INVALID_AUTHORIZATION_SPECIFICATION, SqlState::INVALID_PASSWORD]
                .iter()
                .any(|one| one.code() == code)
        })
    }

    /// Whether a table is not there yet.
    pub fn is_undefined_table(&self) -> bool {
        self.sqlstate() == Some(tokio_postgres::error::SqlState::UNDEFINED_TABLE.code())
    }

    /// Returns the server it is about.
    pub fn server(&self) -> Option<&ServerName> {
        match self {
            PostgresError::Tls { .. } => None,
            PostgresError::Socket { server, .. }
            | PostgresError::Certificate { server, .. }
            | PostgresError::NotTrusted { server, .. }
            | PostgresError::Connect { server, .. }
            | PostgresError::Query { server, .. }
            | PostgresError::Answer { server, .. }
            | PostgresError::TimedOut { server, .. } => Some(server),
        }
    }

    /// Returns what to tell the operator.
    pub fn diagnostic(&self) -> Diagnostic {
        let diagnostic = Diagnostic::error(self.code(), self.to_string()).hint(self.hint());
        let diagnostic = match self {
            PostgresError::Socket { source, .. } => diagnostic.detail(sentence(&source.to_string())),
            PostgresError::Certificate { detail, .. } => diagnostic.detail(sentence(detail)),
            PostgresError::NotTrusted { detail, .. } => {
                diagnostic.detail(["The server's TLS alert: ", detail, "."].concat())
            }
            PostgresError::Connect { source, .. } | PostgresError::Query { source, .. } => {
                diagnostic.detail(sentence(&words(source)))
            }
            _ => diagnostic,
        };
        match self.server() {
            Some(server) => diagnostic.server(server),
            None => diagnostic,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            PostgresError::Tls { .. } => {
                "The state directory of this machine holds it. Put it back from a copy, or run the command from another machine."
            }
            PostgresError::Certificate { .. } => {
                "If the certificate expired or the address changed, \"pgstead bootstrap\" installs a new one."
            }
            PostgresError::NotTrusted { .. } => "\"pgstead check\" says whose CA the server trusts, and what to do.",
            PostgresError::Socket { .. } | PostgresError::Connect { .. } | PostgresError::TimedOut { .. } => {
                "\"pgstead status\" says whether the instance runs. Run the same command again when it answers."
            }
            PostgresError::Query { .. } => {
                "Mend what the server says. Run the same command again: it looks at the servers first."
            }
            PostgresError::Answer { .. } => {
                "This is a defect of pgstead, or not a PostgreSQL server: please report it."
            }
        }
    }

    fn code(&self) -> Code {
        match self {
            PostgresError::Tls { .. } => Code::TlsMaterial,
            PostgresError::Socket { .. } => Code::PostgresSocket,
            PostgresError::Certificate { .. } => Code::ServerCertificate,
            PostgresError::NotTrusted { .. } => Code::OperatorCertificate,
            PostgresError::Connect { .. } => Code::PostgresConnect,
            PostgresError::Query { .. } => Code::PostgresQuery,
            PostgresError::Answer { .. } => Code::PostgresAnswer,
            PostgresError::TimedOut { .. } => Code::PostgresTimedOut,
        }
    }
}

/// Returns what the server or the transport said: the server's message, detail and SQLSTATE, or the chain of causes.
fn words(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        let mut text = [said.severity(), ": ", said.message(), " (SQLSTATE ", said.code().code(), ")"].concat();
        if let Some(detail) = said.detail() {
            text.push_str("; ");
            text.push_str(detail);
        }
        return text;
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

fn sentence(text: &str) -> String {
    let text = text.trim_end();
    if text.ends_with(['.', '!', '?']) { text.to_owned() } else { [text, "."].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_is_gone_has_the_code_that_others_look_for() {
        let (server, path) = ("a".parse().unwrap(), PathBuf::from("/gone"));
        let error = PostgresError::Socket { server, path, source: io::Error::from(io::ErrorKind::NotFound) };
        assert_eq!(error.diagnostic().code, Code::PostgresSocket);
    }
}

//! The table of SSH host keys that `trust` shows. It records nothing.

use serde::Serialize;

use crate::model::name::ServerName;
use crate::ui::columns::{cell, styled, table};
use crate::ui::look::{Look, Style};

/// A host key as a server (or jump host) shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostKey {
    /// The server; absent for a jump host.
    pub server: Option<ServerName>,
    /// Where it was asked, as `host:port`.
    pub endpoint: String,
    /// The type of key, such as `ssh-ed25519`.
    pub key_type: String,
    /// Its fingerprint, such as `SHA256:…`.
    pub fingerprint: String,
    /// What is recorded about it.
    pub state: KeyState,
}

/// What is recorded about a host key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// The same key is recorded.
    Known,
    /// No key is recorded.
    New,
    /// Another key is recorded: a new installation, or somebody in between.
    Changed,
    /// It is recorded, and the server does not show it any more.
    Former,
}

/// Renders the table.
pub fn render(keys: &[HostKey], look: Look) -> String {
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            let (word, style) = match key.state {
                KeyState::Known => ("known", Style::Good),
                KeyState::New => ("new", Style::Warn),
                KeyState::Changed => ("CHANGED", Style::Bad),
                KeyState::Former => ("former", Style::Bad),
            };
            vec![
                cell(key.server.as_ref().map_or("(jump)", ServerName::as_str)),
                cell(&key.endpoint),
                cell(&key.key_type),
                cell(&key.fingerprint),
                styled(word, style),
            ]
        })
        .collect();
    table(&["SERVER", "ENDPOINT", "TYPE", "FINGERPRINT", "RECORDED"], &rows, look)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples;

    #[test]
    fn keys() {
        let key = |server: Option<&str>, state| HostKey {
            server: server.map(samples::server),
            endpoint: "192.168.1.100:22".into(),
            key_type: "ssh-ed25519".into(),
            fingerprint: "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU".into(),
            state,
        };
        let keys = [key(None, KeyState::Known), key(Some("a"), KeyState::New), key(Some("b"), KeyState::Changed)];
        insta::assert_snapshot!(render(&keys, Look::PLAIN));
    }
}

//! The ssh_config that every connection is made with.
//!
//! The user's own configuration counts, agents, aliases and proxies included, but only after the options that keep a
//! connection safe: ssh takes the first value it finds (hazard 88).

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::topology::Ssh as SshWish;
use crate::remote::error::RemoteError;

/// How connections are made; one value for all servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectOptions {
    /// The file in which `pgstead trust` records host keys.
    pub known_hosts: PathBuf,
    /// The files of host keys that the user keeps; read after [`ConnectOptions::known_hosts`].
    pub user_known_hosts: Vec<PathBuf>,
    /// The user's own ssh configuration, in order of precedence; files that do not exist are skipped.
    pub user_config: Vec<PathBuf>,
    /// How long a TCP connection and SSH's first exchange may take.
    pub connect_timeout: Duration,
    /// How long a server may be silent before ssh asks whether it is there.
    pub alive_interval: Duration,
    /// How many unanswered questions mean that the connection is lost.
    pub alive_count: u32,
}

impl ConnectOptions {
    /// Returns the usual options with a given known hosts file. `~` is expanded by ssh.
    pub fn new(known_hosts: PathBuf) -> Self {
        Self {
            known_hosts,
            user_known_hosts: vec!["~/.ssh/known_hosts".into(), "~/.ssh/known_hosts2".into()],
            user_config: vec!["~/.ssh/config".into(), "/etc/ssh/ssh_config".into()],
            connect_timeout: Duration::from_secs(10),
            alive_interval: Duration::from_secs(5),
            alive_count: 4,
        }
    }
}

/// Options that no configuration may change, for the server and for its jump hosts.
const FIXED: &str = "\
Host *
BatchMode yes
StrictHostKeyChecking yes
UpdateHostKeys no
KnownHostsCommand none
VerifyHostKeyDNS no
NoHostAuthenticationForLocalhost no
ForwardAgent no
ForwardX11 no
ClearAllForwardings yes
Tunnel no
PermitLocalCommand no
RemoteCommand none
RequestTTY no
Compression no
ConnectionAttempts 1
LogLevel INFO
";

/// Returns the text of the configuration file for one server.
///
/// Known hosts and the identity file stand here and not on ssh's command line, so that they hold for jump hosts, too;
/// user and port do not, since a jump host has its own.
pub(super) fn render(options: &ConnectOptions, wish: &SshWish) -> Result<String, RemoteError> {
    let mut text = String::from(FIXED);
    text.push_str("ConnectTimeout ");
    text.push_str(&options.connect_timeout.as_secs().max(1).to_string());
    text.push_str("\nServerAliveInterval ");
    text.push_str(&options.alive_interval.as_secs().max(1).to_string());
    text.push_str("\nServerAliveCountMax ");
    text.push_str(&options.alive_count.max(1).to_string());
    text.push_str("\nUserKnownHostsFile");
    for file in wish.known_hosts.iter().chain([&options.known_hosts]).chain(&options.user_known_hosts) {
        text.push(' ');
        text.push_str(&path(file, Expansion::Tokens)?);
    }
    text.push('\n');
    if let Some(file) = &wish.identity_file {
        // IdentitiesOnly is not here: a jump host may need another key of the agent.
        text.push_str("IdentityFile ");
        text.push_str(&path(file, Expansion::Tokens)?);
        text.push('\n');
    }
    for file in &options.user_config {
        text.push_str("Include ");
        text.push_str(&path(file, Expansion::Glob)?);
        text.push('\n');
    }
    Ok(text)
}

/// What ssh does to a path after it has taken the quotes off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expansion {
    /// `%` tokens.
    Tokens,
    /// Wildcards.
    Glob,
}

fn path(path: &Path, expansion: Expansion) -> Result<String, RemoteError> {
    let unusable = || RemoteError::UnusablePath { path: path.to_owned() };
    let text = path.to_str().ok_or_else(unusable)?;
    let bad = |c: char| c == '"' || c == '\'' || c == '\\' || c.is_control();
    if text.is_empty() || text.contains(bad) || text.contains("${") {
        return Err(unusable());
    }
    if expansion == Expansion::Glob && text.contains(['*', '?', '[']) {
        return Err(unusable());
    }
    let text = if expansion == Expansion::Tokens { text.replace('%', "%%") } else { text.to_owned() };
    Ok(["\"", &text, "\""].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safe_options_come_before_the_users_own() {
        let wish = SshWish {
            known_hosts: Some("/inv dir/known_hosts".into()),
            identity_file: Some("~/.ssh/100%".into()),
            ..SshWish::default()
        };
        let text = render(&ConnectOptions::new("/s/known_hosts".into()), &wish).unwrap();
        let strict = text.find("StrictHostKeyChecking yes").unwrap();
        let include = text.find("Include \"~/.ssh/config\"").unwrap();
        assert!(strict < include);
        assert!(text.contains("UserKnownHostsFile \"/inv dir/known_hosts\" \"/s/known_hosts\" \"~/.ssh/known_hosts\""));
        assert!(text.contains("IdentityFile \"~/.ssh/100%%\""));
    }

    #[test]
    fn paths_cannot_smuggle_options() {
        for bad in ["a\"b", "a\nProxyCommand x", "${HOME}/k", "a\\b", ""] {
            let wish = SshWish { identity_file: Some(bad.into()), ..SshWish::default() };
            assert!(render(&ConnectOptions::new("/s/k".into()), &wish).is_err(), "{bad:?}");
        }
    }
}

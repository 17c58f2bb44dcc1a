//! What ssh's own words on a failed connection mean.
//!
//! ssh has one exit status for every failure, so its English text is all there is (it is started with `LC_ALL=C`).

/// Why a connection could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectReason {
    /// The server showed another host key than the recorded one.
    HostKeyChanged,
    /// No host key is recorded for the server.
    HostKeyUnknown,
    /// The server is there and does not let the login in.
    PermissionDenied,
    /// Nothing listens on the port.
    Refused,
    /// Nothing answered in time.
    TimedOut,
    /// No route leads there.
    Unreachable,
    /// The name has no address.
    NotResolved,
    /// A jump host could not be passed.
    Jump,
    /// The server closed the connection before it said who it is: sshd is overloaded (`MaxStartups`), or it blocks us.
    ClosedEarly,
    /// There is no `ssh` program here.
    NoClient,
    /// Something else; ssh's words are the detail.
    Other,
}

/// Phrases of OpenSSH 8.4 to 10, the most telling first.
const PHRASES: &[(&str, ConnectReason)] = &[
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", ConnectReason::HostKeyChanged),
    ("REVOKED HOST KEY", ConnectReason::HostKeyChanged),
    ("Host key verification failed", ConnectReason::HostKeyUnknown),
    ("host key is known for", ConnectReason::HostKeyUnknown),
    ("Permission denied (", ConnectReason::PermissionDenied),
    ("Too many authentication failures", ConnectReason::PermissionDenied),
    ("Could not resolve hostname", ConnectReason::NotResolved),
    // Also through a jump host: what is silent is not asked again, which would take longer than the first time.
    ("timed out during banner exchange", ConnectReason::TimedOut),
    ("stdio forwarding failed", ConnectReason::Jump),
    ("Connection closed by UNKNOWN", ConnectReason::Jump),
    ("Connection to UNKNOWN", ConnectReason::Jump),
    ("Connection refused", ConnectReason::Refused),
    ("timed out", ConnectReason::TimedOut),
    ("No route to host", ConnectReason::Unreachable),
    ("Network is unreachable", ConnectReason::Unreachable),
    ("kex_exchange_identification", ConnectReason::ClosedEarly),
    ("Connection closed by", ConnectReason::ClosedEarly),
    ("Connection reset by", ConnectReason::ClosedEarly),
];

/// Returns what ssh's words mean.
pub(super) fn reason(stderr: &str) -> ConnectReason {
    PHRASES.iter().find(|(phrase, _)| stderr.contains(phrase)).map_or(ConnectReason::Other, |(_, reason)| *reason)
}

/// Returns ssh's words without decoration: the frame of `@` around its warnings, and carriage returns.
pub(super) fn words(stderr: &str) -> String {
    let lines: Vec<&str> = stderr
        .lines()
        .map(|line| line.trim_matches(|c: char| c == '@' || c.is_whitespace()))
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_words_of_ssh() {
        let cases = [
            (
                "@@@@@@@@@@@\r\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n@@@@@@@@@@@\r\nHost key for [127.0.0.1]:2222 has changed and you have requested strict checking.\r\nHost key verification failed.\r\n",
                ConnectReason::HostKeyChanged,
            ),
            (
                "No ED25519 host key is known for [127.0.0.1]:2222 and you have requested strict checking.\r\nHost key verification failed.\r\n",
                ConnectReason::HostKeyUnknown,
            ),
            ("ops@10.0.0.1: Permission denied (publickey).\r\n", ConnectReason::PermissionDenied),
            ("ssh: connect to host 127.0.0.1 port 1: Connection refused\r\n", ConnectReason::Refused),
            ("ssh: connect to host 10.9.9.9 port 22: Connection timed out\r\n", ConnectReason::TimedOut),
            ("Connection timed out during banner exchange\r\n", ConnectReason::TimedOut),
            (
                "Connection timed out during banner exchange\r\nConnection to UNKNOWN port 65535 timed out\r\n",
                ConnectReason::TimedOut,
            ),
            ("ssh: connect to host 10.9.9.9 port 22: No route to host\r\n", ConnectReason::Unreachable),
            (
                "ssh: Could not resolve hostname nowhere.invalid: Name or service not known\r\n",
                ConnectReason::NotResolved,
            ),
            (
                "kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535\r\n",
                ConnectReason::Jump,
            ),
            ("kex_exchange_identification: read: Connection reset by peer\r\n", ConnectReason::ClosedEarly),
            ("something new", ConnectReason::Other),
        ];
        for (stderr, expected) in cases {
            assert_eq!(reason(stderr), expected, "{stderr}");
        }
    }

    #[test]
    fn decoration_goes() {
        assert_eq!(words("@@@@\r\n@   WARNING: X!   @\r\n@@@@\r\nY\r\n"), "WARNING: X!\nY");
    }
}

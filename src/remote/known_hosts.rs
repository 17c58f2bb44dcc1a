//! Host keys as text: what ssh-keyscan prints, what is recorded, and how the two compare.

use ssh_key::{HashAlg, PublicKey};

/// A host key as a server shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    /// Its type, such as `ssh-ed25519`.
    pub key_type: String,
    /// Its fingerprint, such as `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// What is recorded about it.
    pub state: KeyState,
    /// The line that records it.
    pub line: String,
}

/// What is recorded about a host key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// The same key is recorded.
    Known,
    /// Nothing is recorded that contradicts it.
    New,
    /// Another key is recorded, or this one is revoked: a new installation, or somebody in between.
    Changed,
}

/// A recorded key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    key: PublicKey,
    revoked: bool,
}

/// Returns the name under which ssh looks a host up: with the port where it is not 22.
pub(super) fn recorded_name(host: &str, port: u16) -> String {
    if port == 22 { host.to_owned() } else { ["[", host, "]:", &port.to_string()].concat() }
}

/// Reads what `ssh-keygen -F` finds. Lines of unknown form are no records.
pub(super) fn parse_recorded(text: &str) -> Vec<Recorded> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(parse_line).collect()
}

/// What a line says of a key.
pub(super) struct Described {
    pub(super) key_type: String,
    pub(super) fingerprint: String,
    pub(super) revoked: bool,
}

/// Reads the key in a line; none where that is no host key.
pub(super) fn described(line: &str) -> Option<Described> {
    let Recorded { key, revoked } = parse_line(line)?;
    let (key_type, fingerprint) = (key.algorithm().as_str().to_owned(), key.fingerprint(HashAlg::Sha256).to_string());
    Some(Described { key_type, fingerprint, revoked })
}

fn parse_line(line: &str) -> Option<Recorded> {
    let mut words = line.split_whitespace().peekable();
    let marker = words.next_if(|word| word.starts_with('@'));
    if marker.is_some_and(|marker| marker != "@revoked") {
        return None; // A CA's key is nobody's host key.
    }
    let _names = words.next()?;
    Some(Recorded { key: public_key(words.next()?, words.next()?)?, revoked: marker.is_some() })
}

/// Reads what `ssh-keyscan` prints, compares it with what is recorded, and sorts it: the strongest type first.
///
/// Keys of other types beside a known one are new. Where something is recorded and nothing of it is shown, everything is
/// changed: an impostor may choose a type of which no key is recorded.
pub(super) fn compare(scanned: &str, name: &str, recorded: &[Recorded]) -> Vec<HostKey> {
    let mut keys: Vec<PublicKey> = scanned.lines().filter_map(parse_line).map(|found| found.key).collect();
    keys.sort_by_key(|key| (rank(key), key.fingerprint(HashAlg::Sha256).to_string()));
    keys.dedup();
    let is_known = |key: &PublicKey| recorded.iter().any(|one| !one.revoked && one.key.key_data() == key.key_data());
    let any_known = keys.iter().any(is_known);
    keys.iter()
        .map(|key| {
            let revoked = recorded.iter().any(|one| one.revoked && one.key.key_data() == key.key_data());
            let same_type = recorded.iter().any(|one| !one.revoked && one.key.algorithm() == key.algorithm());
            let state = match () {
                () if revoked => KeyState::Changed,
                () if is_known(key) => KeyState::Known,
                () if same_type || (!any_known && recorded.iter().any(|one| !one.revoked)) => KeyState::Changed,
                () => KeyState::New,
            };
            HostKey {
                key_type: key.algorithm().as_str().to_owned(),
                fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
                state,
                line: [name, " ", &key.to_openssh().unwrap_or_default()].concat(),
            }
        })
        .collect()
}

fn public_key(key_type: &str, base64: &str) -> Option<PublicKey> {
    PublicKey::from_openssh(&[key_type, " ", base64].concat()).ok()
}

fn rank(key: &PublicKey) -> u8 {
    match key.algorithm() {
        ssh_key::Algorithm::Ed25519 => 0,
        ssh_key::Algorithm::Ecdsa { .. } => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ssh-keyscan -p 2222 -T 5 -t ed25519,ecdsa,rsa 127.0.0.1` of OpenSSH 9.2, comments included.
    const SCANNED: &str = include_str!("../../tests/data/ssh/keyscan.txt");
    /// Another server's ed25519 key.
    const OTHER: &str = "x ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    fn states(recorded: &str) -> Vec<KeyState> {
        compare(SCANNED, "[127.0.0.1]:2222", &parse_recorded(recorded)).into_iter().map(|key| key.state).collect()
    }

    fn line_of(key_type: &str) -> &'static str {
        SCANNED.lines().find(|line| line.contains(key_type)).unwrap()
    }

    #[test]
    fn keys_and_fingerprints_are_those_of_ssh_keygen() {
        let keys = compare(SCANNED, "[127.0.0.1]:2222", &[]);
        let shown: Vec<String> = keys.iter().map(|key| format!("{} {}", key.key_type, key.fingerprint)).collect();
        assert_eq!(shown, include_str!("../../tests/data/ssh/fingerprints.txt").lines().collect::<Vec<_>>());
        assert!(keys.iter().all(|key| key.state == KeyState::New));
        assert_eq!(keys[0].line, line_of("ssh-ed25519"));
    }

    #[test]
    fn what_is_recorded_decides() {
        use KeyState::*;
        assert_eq!(states(&format!("# Host found: line 1\n{}", line_of("ssh-ed25519"))), [Known, New, New]);
        assert_eq!(states(OTHER), [Changed, Changed, Changed]);
        assert_eq!(states(&format!("{OTHER}\n{}", line_of("ssh-rsa"))), [Changed, New, Known]);
        assert_eq!(states(&format!("@revoked {}", line_of("ssh-ed25519"))), [Changed, New, New]);
        assert_eq!(states(&format!("@cert-authority * {}", OTHER.trim_start_matches("x "))), [New, New, New]);
        assert_eq!(states("garbage\n|1|x|y ssh-dss AAAA"), [New, New, New]);
    }

    #[test]
    fn names_have_the_port_where_it_is_not_22() {
        assert_eq!(recorded_name("10.0.0.1", 22), "10.0.0.1");
        assert_eq!(recorded_name("fd00::1", 2222), "[fd00::1]:2222");
    }
}

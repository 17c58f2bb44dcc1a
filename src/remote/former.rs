//! What known hosts files have of a server whose machine is another one now, and the exchange of that for what it shows.
//!
//! As in [`crate::remote::trust`], nothing here is proof: whoever calls [`exchange`] has shown both to the operator.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Code, Diagnostic};
use crate::model::address::Address;
use crate::model::name::ServerName;
use crate::model::topology::Server;
use crate::remote::known_hosts::{Described, described};
use crate::remote::trust::{SYSTEM_KNOWN_HOSTS, expand_home, local, replace, resolve};
use crate::remote::{Connector, HostKey, RemoteError};

/// A key that a known hosts file has under a name of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    /// The file.
    pub file: PathBuf,
    /// The number of its line there, from 1.
    pub line: usize,
    /// The name under which it was found.
    pub name: String,
    /// Its type, such as `ssh-ed25519`.
    pub key_type: String,
    /// Its fingerprint, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// Whether it is said to be accepted no more.
    pub revoked: bool,
    /// Whether the line is for this server alone, or names it in a list; a line with a pattern is for others, too.
    pub is_own: bool,
}

impl Former {
    /// Says that it is still accepted: a file that the operator keeps is the operator's.
    pub fn left(&self, server: &ServerName) -> Diagnostic {
        let Self { file, line, name, fingerprint, .. } = self;
        let file = file.display();
        let message = format!("the former host key of server \"{server}\" is still accepted");
        Diagnostic::warning(Code::HostKeyLeft, message)
            .server(server)
            .detail(format!("{file}, line {line}, has {fingerprint} for {name}. pgstead does not change that line."))
            .hint(match self.is_own {
                true => format!("Remove it: ssh-keygen -R {name} -f {file}"),
                false => {
                    "That line is for other hosts, too. Is that key of nobody else? Then remove it yourself.".to_owned()
                }
            })
    }
}

/// Returns the name under which ssh looks the host key of a server up, at its address or at another one.
///
/// # Errors
/// The configuration of ssh could not be written.
pub async fn name_at(connector: &Connector, server: &Server, address: &Address) -> Result<String, RemoteError> {
    let place = connector.prepare(&server.ssh)?;
    let shape = Server { address: address.clone(), ..server.clone() };
    Ok(resolve(&place, &shape).await.name)
}

/// Returns the files in which pgstead records the host key of a server, and those that ssh reads besides.
pub fn files(connector: &Connector, server: &Server) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let options = connector.options();
    let all = |files: Vec<&PathBuf>| {
        let mut all: Vec<PathBuf> = files.into_iter().map(|file| expand_home(file)).collect();
        all.dedup();
        all
    };
    let own = all(server.ssh.known_hosts.iter().chain([&options.known_hosts]).collect());
    let system = PathBuf::from(SYSTEM_KNOWN_HOSTS);
    let mut others = all(options.user_known_hosts.iter().chain([&system]).collect());
    others.retain(|file| !own.contains(file));
    (own, others)
}

/// Returns the keys that a file has under a name; not those of CAs.
///
/// # Errors
/// The file cannot be read.
pub async fn recorded(file: &Path, name: &str) -> Result<Vec<Former>, RemoteError> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    let output = local("ssh-keygen").arg("-F").arg(name).arg("-f").arg(file).output().await;
    let output = output.map_err(|source| RemoteError::ReadKnownHosts { path: file.to_owned(), source })?;
    Ok(found(file, name, &String::from_utf8_lossy(&output.stdout)))
}

/// Takes keys in the place of former ones. Each file is replaced as a whole, that of the new keys first.
///
/// # Errors
/// A file cannot be read or written, or has changed meanwhile.
pub fn exchange<'a>(
    file: &Path,
    former: &[Former],
    keys: impl IntoIterator<Item = &'a HostKey>,
) -> Result<(), RemoteError> {
    let file = expand_home(file);
    let mut lines: BTreeMap<&Path, Vec<&Former>> = BTreeMap::new();
    for one in former.iter().filter(|one| one.is_own) {
        lines.entry(&one.file).or_default().push(one);
    }
    let new: Vec<&str> = keys.into_iter().map(|key| key.line.as_str()).collect();
    rewrite(&file, &lines.remove(file.as_path()).unwrap_or_default(), &new)?;
    lines.into_iter().try_for_each(|(other, leave)| rewrite(other, &leave, &[]))
}

/// Writes a file without some keys, and with others.
fn rewrite(file: &Path, leave: &[&Former], new: &[&str]) -> Result<(), RemoteError> {
    let unread = |source| RemoteError::ReadKnownHosts { path: file.to_owned(), source };
    let before = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(unread(source)),
    };
    let mut lines: Vec<Option<String>> = before.lines().map(|line| Some(line.to_owned())).collect();
    for one in leave {
        let line = one.line.checked_sub(1).and_then(|at| lines.get_mut(at));
        let line = line.ok_or_else(|| unread(io::Error::other(CHANGED)))?;
        // It may be gone already, found under another name.
        let Some(text) = line.take() else { continue };
        if !described(&text).is_some_and(|key| key.fingerprint == one.fingerprint && !key.revoked) {
            return Err(unread(io::Error::other(CHANGED)));
        }
        *line = without(&text, &one.name);
    }
    let stay = lines.into_iter().flatten();
    let added = new.iter().filter(|line| !before.lines().any(|there| there == **line)).map(|line| (*line).to_owned());
    let text: String = stay.chain(added).flat_map(|line| [line, "\n".to_owned()]).collect();
    if text == before {
        return Ok(());
    }
    replace(file, &text).map_err(|source| RemoteError::WriteKnownHosts { path: file.to_owned(), source })
}

const CHANGED: &str = "another program has changed it meanwhile";

/// Returns a line without a name; nothing where it is for nobody else.
fn without(line: &str, name: &str) -> Option<String> {
    let (names, key) = line.split_once(char::is_whitespace)?;
    let others: Vec<&str> = names.split(',').filter(|other| !is_same(other, name)).collect();
    let is_for_others = !names.starts_with('|') && !others.is_empty();
    is_for_others.then(|| [&others.join(","), " ", key].concat())
}

fn is_same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// Says whether a line names a server itself: a hashed name is a name, a pattern is for others, too.
fn names_itself(line: &str, name: &str) -> bool {
    let names = line.split_whitespace().next().unwrap_or_default();
    let is_pattern = |name: &str| name.contains(['*', '?', '!']);
    names.starts_with('|') || names.split(',').any(|one| is_same(one, name)) && !names.split(',').any(is_pattern)
}

/// Reads what `ssh-keygen -F` found, with the numbers of the lines.
fn found(file: &Path, name: &str, text: &str) -> Vec<Former> {
    let mut keys = Vec::new();
    let mut number = None;
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# Host ") {
            // Behind the number stands what kind of record it is, where it is not a plain one.
            let behind = comment.rsplit_once(" found: line ").and_then(|(_, behind)| behind.split_whitespace().next());
            number = behind.and_then(|number| number.parse().ok());
        } else if let (Some(at), Some(Described { key_type, fingerprint, revoked })) = (number.take(), described(line))
        {
            let (file, name) = (file.to_owned(), name.to_owned());
            let is_own = !revoked && names_itself(line, &name);
            keys.push(Former { file, line: at, name, key_type, fingerprint, revoked, is_own });
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    const OTHER: &str = include_str!("../../tests/data/ssh/keyscan.txt");

    fn other() -> String {
        let line = OTHER.lines().find(|line| line.contains("ssh-ed25519")).unwrap();
        line.split_once(' ').unwrap().1.to_owned()
    }

    #[tokio::test]
    async fn a_server_leaves_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known_hosts");
        let text = [
            "# by hand\n",
            &format!("10.0.0.3 {KEY}\n"),
            &format!("10.0.0.4 {}\n", other()),
            "\n",
            &format!("db3,10.0.0.3,[10.0.0.3]:2222 {KEY}\n"),
            &format!("10.0.0.* {KEY}\n"),
            &format!("@revoked 10.0.0.3 {KEY}\n"),
            &format!("@cert-authority 10.0.0.3 {KEY}\n"),
        ]
        .concat();
        fs::write(&file, &text).unwrap();
        let former = recorded(&file, "10.0.0.3").await.unwrap();
        let lines: Vec<_> = former.iter().map(|one| (one.line, one.is_own, one.revoked)).collect();
        assert_eq!(lines, [(2, true, false), (5, true, false), (6, false, false), (7, false, true)]);

        let new = HostKey {
            key_type: "ssh-ed25519".into(),
            fingerprint: "SHA256:x".into(),
            state: crate::remote::KeyState::Changed,
            line: ["10.0.0.3 ", &other()].concat(),
        };
        exchange(&file, &former, [&new]).unwrap();
        let after = [
            "# by hand\n",
            &format!("10.0.0.4 {}\n", other()),
            "\n",
            &format!("db3,[10.0.0.3]:2222 {KEY}\n"),
            &format!("10.0.0.* {KEY}\n"),
            &format!("@revoked 10.0.0.3 {KEY}\n"),
            &format!("@cert-authority 10.0.0.3 {KEY}\n"),
            &format!("10.0.0.3 {}\n", other()),
        ]
        .concat();
        assert_eq!(fs::read_to_string(&file).unwrap(), after);
        // What it was shown is not there any more: nobody else's line is taken for it.
        let changed = exchange(&file, &former, [&new]).unwrap_err();
        assert!(changed.diagnostic().detail.unwrap().contains("changed"), "{changed:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), after);
    }

    #[tokio::test]
    async fn a_hashed_name_is_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known_hosts");
        fs::write(&file, format!("10.0.0.3 {KEY}\n10.0.0.4 {KEY}\n")).unwrap();
        assert!(std::process::Command::new("ssh-keygen").arg("-Hf").arg(&file).output().unwrap().status.success());
        let other = recorded(&file, "10.0.0.4").await.unwrap();
        exchange(&file, &recorded(&file, "10.0.0.3").await.unwrap(), []).unwrap();
        assert_eq!(recorded(&file, "10.0.0.3").await.unwrap(), []);
        assert_eq!(recorded(&file, "10.0.0.4").await.unwrap().len(), other.len());
    }
}

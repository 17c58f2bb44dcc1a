//! Which files of a server must change, and the step that changes them all at once.
//!
//! A file is replaced only when pgstead wrote what stands there; a hand edit is shown, never overwritten (design, section 6).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use sha2::Digest;
use sha2::Sha256;

use crate::diagnostic::Diagnostic;
use crate::model::argv::Argv;
use crate::model::argv::Piece;
use crate::model::argv::RootAccess;
use crate::model::argv::RunAs;
use crate::model::layout::Layout;
use crate::model::name::ServerName;
use crate::model::observation::ServerObservation;
use crate::model::observed::Observed;
use crate::plan::scripts;
use crate::plan::step::Action;
use crate::plan::step::FileChange;
use crate::plan::step::Risk;
use crate::plan::step::Step;

/// One thing to have on a server.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A directory, made where absent and otherwise left alone.
    Directory {
        /// Where.
        path: String,
        /// Its owner, as `chown` takes it.
        owner: String,
        /// Its mode, octal.
        mode: &'static str,
    },
    /// A file.
    File {
        /// Where.
        path: String,
        /// Its owner, as `chown` takes it.
        owner: String,
        /// Its mode, octal.
        mode: &'static str,
        /// What it holds.
        content: Piece,
    },
    /// A symbolic link.
    Link {
        /// Where.
        path: String,
        /// What it points to.
        target: String,
    },
}

impl Entry {
    /// Makes a file of text.
    pub fn text(path: impl Into<String>, owner: &str, mode: &'static str, text: impl Into<String>) -> Self {
        Entry::File { path: path.into(), owner: owner.to_owned(), mode, content: Piece::Text(text.into()) }
    }

    /// Makes a directory.
    pub fn directory(path: impl Into<String>, owner: &str, mode: &'static str) -> Self {
        Entry::Directory { path: path.into(), owner: owner.to_owned(), mode }
    }

    fn path(&self) -> &str {
        match self {
            Entry::Directory { path, .. } | Entry::File { path, .. } | Entry::Link { path, .. } => path,
        }
    }
}

/// Returns the SHA-256 of a text, hexadecimal.
pub fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the identity for work that needs root where the login can be root, and the login itself elsewhere.
pub fn administrator(seen: &ServerObservation) -> RunAs {
    if seen.login.root == RootAccess::None { RunAs::Login } else { RunAs::Root }
}

/// Returns who owns pgstead's own directory, as `chown` takes it: root where a package's service runs the instance, and
/// the instance's user where log and socket live there, too.
pub fn own_directory_owner(seen: &ServerObservation, layout: &Layout) -> String {
    if layout.unit.is_none() || seen.login.root == RootAccess::None {
        [&layout.os_user, ":"].concat()
    } else {
        "root:root".to_owned()
    }
}

/// What comparing wanted files with observed ones says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// What must be installed.
    pub changes: Vec<Entry>,
    /// Hand edits that stand in the way.
    pub refusals: Vec<Diagnostic>,
    /// Hand edits that do not.
    pub drift: Vec<Diagnostic>,
    /// The files of these: what pgstead does not write it does not put into effect either.
    pub edited: BTreeSet<String>,
}

/// Compares wanted files with what is on the server, and adds the manifest of all of them where anything changes.
///
/// Directories and links count only beside a file that changes; secrets are replaced only when their hash differs.
pub fn compare(server: &ServerName, seen: &ServerObservation, layout: &Layout, wanted: &[Entry]) -> Comparison {
    let manifest_path = layout.own("manifest");
    let observed_text = |path: &str| match seen.files.get(path) {
        Some(Observed::Known(fact)) => fact.content.clone(),
        _ => None,
    };
    let recorded_text = observed_text(&manifest_path).unwrap_or_default();
    let recorded = parse_manifest(&recorded_text);
    let mut result = Comparison::default();
    for entry in wanted {
        let Entry::File { path, content, .. } = entry else { continue };
        let (hash, shown) = match content {
            Piece::Text(text) => (sha256(text), Some(text)),
            Piece::Secret(secret) => (sha256(secret.expose()), None),
        };
        let is_there = seen.files.get(path).and_then(Observed::known);
        let record = recorded.get(path.as_str());
        match is_there {
            Some(fact) if fact.sha256 == hash => {}
            Some(_) if shown.is_none() => result.changes.push(entry.clone()),
            Some(fact) if record != Some(&fact.sha256) => {
                let found = fact.content.as_deref().unwrap_or_default();
                let edited = record.is_some();
                let unchanged_wish = record == Some(&hash);
                let diagnostic = if unchanged_wish {
                    Diagnostic::warning("drift", format!("server \"{server}\": {path} was edited by hand"))
                        .hint("The edit is left alone. Put it into the inventory, or restore the file.")
                } else if edited {
                    Diagnostic::error("edited-by-hand", format!("server \"{server}\": {path} was edited by hand and would have to change"))
                        .hint("Put the edit into the inventory, then restore the file or move it away, and run again. It is never overwritten.")
                } else {
                    Diagnostic::error(
                        "file-not-ours",
                        format!("server \"{server}\": {path} exists and was not written by pgstead"),
                    )
                    .hint(format!("Look at it, then move it away: mv {path} {path}.old"))
                };
                let diagnostic =
                    diagnostic.server(server).detail(first_difference(found, shown.map_or("", String::as_str)));
                if unchanged_wish {
                    result.drift.push(diagnostic);
                    result.edited.insert(path.clone());
                } else {
                    result.refusals.push(diagnostic);
                }
            }
            _ => result.changes.push(entry.clone()),
        }
    }
    let manifest = manifest(layout, wanted);
    let recorded_already = matches!(&manifest, Some(Entry::File { content: Piece::Text(text), .. }) if observed_text(&manifest_path).as_ref() == Some(text));
    if result.changes.is_empty() && (recorded_already || !result.drift.is_empty()) {
        return result;
    }
    // Directories first, links behind the files they show, the manifest last. Only those that a new file needs.
    let is_new = |path: &str| seen.files.get(path).and_then(Observed::known).is_none();
    let new_below = |prefix: &str| {
        result.changes.iter().any(|entry| {
            entry.path().strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/')) && is_new(entry.path())
        })
    };
    let mut changes: Vec<Entry> = Vec::new();
    let mut links: Vec<Entry> = Vec::new();
    for entry in wanted {
        match entry {
            // An empty directory such as conf.d comes with the new files beside it.
            Entry::Directory { path, .. }
                if new_below(path) || path.rsplit_once('/').is_some_and(|(home, _)| new_below(home)) =>
            {
                changes.push(entry.clone());
            }
            Entry::Link { path, target } => {
                let home = path.rsplit_once('/').map_or("", |(home, _)| home);
                if new_below(&[home, "/", target].concat()) {
                    links.push(entry.clone());
                }
            }
            _ => {}
        }
    }
    changes.append(&mut result.changes);
    changes.append(&mut links);
    changes.extend(manifest);
    result.changes = changes;
    result
}

/// Returns the manifest of the files that pgstead owns; certificates and secrets prove themselves in other ways.
pub fn manifest(layout: &Layout, wanted: &[Entry]) -> Option<Entry> {
    let mut hashes = BTreeMap::new();
    let mut owner = None;
    for entry in wanted {
        if let Entry::File { path, content: Piece::Text(text), .. } = entry
            && !path.contains("/tls.")
        {
            hashes.insert(path.clone(), sha256(text));
        }
        if let Entry::Directory { path, owner: of_directory, .. } = entry
            && *path == layout.pgstead_directory
        {
            owner = Some(of_directory.clone());
        }
    }
    Some(Entry::File {
        path: layout.own("manifest"),
        owner: owner?,
        mode: "0644",
        content: Piece::Text(render_manifest(&hashes)),
    })
}

/// The manifest has the form of `sha256sum`, so that `sha256sum -c` shows every hand edit.
fn render_manifest(hashes: &BTreeMap<String, String>) -> String {
    hashes.iter().map(|(path, hash)| format!("{hash}  {path}\n")).collect()
}

fn parse_manifest(text: &str) -> BTreeMap<&str, String> {
    text.lines().filter_map(|line| line.split_once("  ")).map(|(hash, path)| (path, hash.to_owned())).collect()
}

fn first_difference(found: &str, wanted: &str) -> String {
    let mut wanted_lines = wanted.lines();
    for (index, line) in found.lines().enumerate() {
        if wanted_lines.next() != Some(line) {
            return format!("Line {} reads: {}", index + 1, line);
        }
    }
    format!("It ends after line {}.", found.lines().count())
}

/// Returns the step that installs entries, all or none, and then optionally gives a finished directory its name.
pub fn install(
    server: &ServerName,
    seen: &ServerObservation,
    layout: &Layout,
    title: impl Into<String>,
    entries: &[Entry],
    rename: Option<(&str, &str)>,
) -> Step {
    let argv = install_argv(seen, layout, entries, rename);
    let files = entries
        .iter()
        .filter_map(|entry| {
            let Entry::File { path, content, .. } = entry else { return None };
            if *path == layout.own("manifest") {
                return None; // It follows from the others.
            }
            let before = seen.files.get(path).and_then(Observed::known).and_then(|fact| fact.content.clone());
            let after = match content {
                Piece::Text(text) => Some(text.clone()),
                Piece::Secret(_) => None,
            };
            Some(FileChange { path: path.clone(), before, after })
        })
        .collect();
    Step {
        title: title.into(),
        server: Some(server.clone()),
        risk: Risk::Reversible,
        action: Action::Run(vec![argv]),
        files,
    }
}

/// Returns the command of [`install`].
pub fn install_argv(
    seen: &ServerObservation,
    layout: &Layout,
    entries: &[Entry],
    rename: Option<(&str, &str)>,
) -> Argv {
    let mut argv =
        Argv::new(administrator(seen), "sh").arg("-c").arg(scripts::INSTALL_FILES).arg("pgstead-install-files");
    for entry in entries {
        match entry {
            Entry::Directory { path, owner, mode } => argv.args.extend(words(&["d", path, owner, mode])),
            Entry::File { path, owner, mode, content } => {
                let bytes = match content {
                    Piece::Text(text) => text.len(),
                    Piece::Secret(secret) => secret.expose().len(),
                };
                argv.args.extend(words(&["f", path, owner, mode, &bytes.to_string()]));
                argv.stdin.push(content.clone());
            }
            Entry::Link { path, target } => argv.args.extend(words(&["l", path, target])),
        }
    }
    if let Some(conf) = entries.iter().find(|entry| entry.path().ends_with("/postgresql.conf")) {
        argv.args.extend(words(&["check", &layout.program("postgres"), conf.path()]));
    }
    if let Some((from, to)) = rename {
        argv.args.extend(words(&["move", from, to]));
    }
    argv
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

//! Which files of a server must change, and the step that changes them all at once.
//!
//! A file is replaced only when pgstead wrote what stands there; a hand edit is shown, never overwritten (design, section 6).

pub mod base;
pub mod brought;
pub mod decided;
pub mod desired;
pub mod effects;
pub mod footprint;
pub mod guard;
pub mod hash;
pub mod kept;
pub mod marked;
pub mod parameters;
pub mod pooler;
pub mod released;
pub mod rendering;
pub(in crate::plan) mod silent;
mod trust;

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Code, Diagnostic};
use crate::model::argv::{Argv, Piece, RootAccess, RunAs};
use crate::model::bytes::bytes;
use crate::model::layout::{DATA_DIRECTORY_RECORD, Layout};
use crate::model::name::ServerName;
use crate::model::observation::{FileFact, ServerObservation};
use crate::model::observed::Observed;
use crate::model::secret::Secret;
use crate::plan::files::hash::sha256;
use crate::plan::scripts;
use crate::plan::step::{Action, FileChange, Risk, Step};

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
    File {
        /// Where.
        path: String,
        /// Its owner, as `chown` takes it.
        owner: String,
        /// Its mode, octal.
        mode: String,
        /// What it holds.
        content: Piece,
        /// Whose it is.
        keeper: Keeper,
    },
    /// A symbolic link.
    Link {
        /// Where.
        path: String,
        /// What it points to.
        target: String,
    },
}

/// Whose a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// pgstead wrote all of it.
    Pgstead,
    /// The operator's, but for our marked parts; only those are ever changed, and only those are shown.
    Operator {
        /// Our parts as they stand now.
        before: String,
        /// Our parts as they will stand.
        after: String,
    },
    /// The operator's, copied from the primary to a server that has none. It may hold secrets and is not shown.
    Copied {
        /// What is shown in its place.
        shown: String,
    },
}

impl Entry {
    /// Makes a file of text that is ours.
    pub fn text(path: impl Into<String>, owner: &str, mode: &str, text: impl Into<String>) -> Self {
        Entry::kept(path, owner, mode, text, Keeper::Pgstead)
    }

    /// Makes a file of text.
    pub fn kept(path: impl Into<String>, owner: &str, mode: &str, text: impl Into<String>, keeper: Keeper) -> Self {
        let content = Piece::Text(text.into());
        Entry::File { path: path.into(), owner: owner.to_owned(), mode: mode.to_owned(), content, keeper }
    }

    /// Makes a file that holds a secret.
    pub fn secret(path: impl Into<String>, owner: &str, secret: Secret) -> Self {
        Entry::File {
            path: path.into(),
            owner: owner.to_owned(),
            mode: "0600".to_owned(),
            content: Piece::Secret(secret),
            keeper: Keeper::Pgstead,
        }
    }

    /// Makes a directory.
    pub fn directory(path: impl Into<String>, owner: &str, mode: &'static str) -> Self {
        Entry::Directory { path: path.into(), owner: owner.to_owned(), mode }
    }

    /// Says whether it is a file that only the operator's own files name.
    pub fn is_included(&self) -> bool {
        matches!(self, Entry::File { path, keeper: Keeper::Copied { .. }, .. }
            if !says_how_to_start(path) && !HAS_OUR_PARTS.iter().any(|name| path.ends_with(name)))
    }

    /// Returns its path.
    pub fn path(&self) -> &str {
        match self {
            Entry::Directory { path, .. } | Entry::File { path, .. } | Entry::Link { path, .. } => path,
        }
    }
}

/// The files of an operator that have parts of ours. What they include is the operator's alone.
const HAS_OUR_PARTS: [&str; 3] = ["/postgresql.conf", "/pg_hba.conf", "/pg_ident.conf"];

/// Says whether a file is one of those beside the configuration from which `pg_ctlcluster` knows how to start the instance.
fn says_how_to_start(path: &str) -> bool {
    ["/start.conf", "/pg_ctl.conf", "/environment"].iter().any(|name| path.ends_with(name))
}

/// Returns the path of a file that may be shown, and its SHA-256.
pub fn hash_of(entry: &Entry) -> Option<(String, String)> {
    match entry {
        Entry::File { path, content: Piece::Text(text), .. } => Some((path.clone(), sha256(text))),
        _ => None,
    }
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

/// Returns who works in pgstead's own directory: whoever owns it. Where root owns it, nobody else can change a parent of it.
pub fn keeper(seen: &ServerObservation, layout: &Layout) -> RunAs {
    if layout.unit.is_none() { RunAs::User(layout.os_user.clone()) } else { administrator(seen) }
}

/// Returns the command that makes a directory for the instance's user where it is absent, with those above it: by root where
/// root alone can change what it is made in, and by that user below directories of that user.
pub fn make_directory(seen: &ServerObservation, layout: &Layout, path: &str, mode: &str) -> Argv {
    Argv::new(administrator(seen), "sh").args([
        "-c",
        scripts::ENSURE_DIRECTORY,
        "pgstead-ensure-directory",
        path,
        &layout.os_user,
        mode,
    ])
}

/// Where directories mean something to the machine. Whoever owns one of them there may own the machine.
const OF_THE_MACHINE: [&str; 14] = [
    "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/boot", "/root", "/run", "/dev", "/proc", "/sys",
    "/var",
];

/// The same for a directory that another server's instance names, and no inventory: root makes it for the user only where that gives
/// away nothing of the machine's. Elsewhere the user makes it, or it is there.
pub fn make_told_directory(seen: &ServerObservation, layout: &Layout, path: &str, mode: &str) -> Argv {
    let mut command = make_directory(seen, layout, path, mode);
    if is_of_the_machine(path) {
        command.run_as = RunAs::User(layout.os_user.clone());
    }
    command
}

fn is_of_the_machine(path: &str) -> bool {
    let first = path.match_indices('/').nth(1).map_or(path, |(end, _)| &path[..end]);
    OF_THE_MACHINE.contains(&first) || path.contains("/.")
}

/// Says whether root makes a directory that the inventory wishes, or that another server's instance names.
pub fn is_made_by_root(seen: &ServerObservation, path: &str, is_wished: bool) -> bool {
    seen.login.root != RootAccess::None && (is_wished || !is_of_the_machine(path))
}

/// Returns the commands that make pgstead's own directory where the keeper of it could not: beside a data directory that is
/// yet to come.
pub fn make_own_directory(seen: &ServerObservation, layout: &Layout) -> Vec<Argv> {
    if layout.unit.is_some() || seen.login.root == RootAccess::None {
        return Vec::new();
    }
    let own = &layout.pgstead_directory;
    let parent = own.rsplit_once('/').map_or("/", |(parent, _)| parent);
    [parent, own].map(|path| make_directory(seen, layout, path, "0755")).into()
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
        let Entry::File { path, content, keeper, .. } = entry else { continue };
        let (hash, shown) = match content {
            Piece::Text(text) => (sha256(text), Some(text)),
            Piece::Secret(secret) => (sha256(secret.expose()), None),
        };
        let is_there = seen.files.get(path).and_then(Observed::known);
        let record = recorded.get(path.as_str());
        match is_there {
            Some(fact) if fact.is_link && matches!(keeper, Keeper::Operator { .. }) => result.refusals.push(
                Diagnostic::error(Code::FileIsALink, format!("server \"{server}\": {path} is a symbolic link"))
                    .server(server)
                    .detail("A file is changed by a rename onto its place, which would replace the link.")
                    .hint("Put the file itself there, and link to it from the other place."),
            ),
            Some(fact) if matches!(keeper, Keeper::Operator { .. }) => {
                compare_marked(&mut result, server, entry, fact, record, &hash);
            }
            Some(fact) if fact.sha256 == hash => {}
            // How an instance of the operator's is started, and with what environment, is decided on its server.
            Some(_) if matches!(keeper, Keeper::Copied { .. }) && says_how_to_start(path) => {}
            Some(_) if shown.is_none() => result.changes.push(entry.clone()),
            Some(fact) if record != Some(&fact.sha256) => {
                let found = fact.content.as_deref().unwrap_or_default();
                let edited = record.is_some();
                let unchanged_wish = record == Some(&hash);
                let diagnostic = if unchanged_wish {
                    Diagnostic::warning(Code::Drift, format!("server \"{server}\": {path} was edited by hand"))
                        .hint("The edit is left alone. Put it into the inventory, or restore the file.")
                } else if edited {
                    Diagnostic::error(Code::EditedByHand, format!("server \"{server}\": {path} was edited by hand and would have to change"))
                        .hint("Put the edit into the inventory, then restore the file or move it away, and run again. It is never overwritten.")
                } else {
                    Diagnostic::error(
                        Code::FileNotOurs,
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
    // What an operator edited in files that do not change stays on record as it was, and so stays visible as an edit.
    let unchanged: BTreeMap<&str, &String> = recorded
        .iter()
        .filter(|(path, _)| {
            result.edited.contains(**path) && !result.changes.iter().any(|entry| entry.path() == **path)
        })
        .map(|(path, hash)| (*path, hash))
        .collect();
    let manifest = manifest_with(layout, wanted, &unchanged);
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

/// Compares an operator's file with our parts in it.
fn compare_marked(
    result: &mut Comparison,
    server: &ServerName,
    entry: &Entry,
    fact: &FileFact,
    record: Option<&String>,
    hash: &str,
) {
    let Entry::File { path, content: Piece::Text(text), .. } = entry else { return };
    let wanted = marked::parse(text).map(|marked| marked.parts).unwrap_or_default();
    let parts = match marked::parse(fact.content.as_deref().unwrap_or_default()) {
        Ok(marked) => marked.parts,
        Err(error) => {
            result.refusals.push(
                Diagnostic::error(Code::MarkDamaged, format!("server \"{server}\": {path}: {error}"))
                    .server(server)
                    .detail("What is the operator's text and what pgstead's cannot be told apart.")
                    .hint("Put the end mark back behind the last line of the part that pgstead wrote."),
            );
            return;
        }
    };
    let edited_outside = record.is_some_and(|record| *record != fact.sha256);
    if parts.iter().any(|part| !part.is_intact()) {
        let recorded = |parts: &[marked::Part]| parts.iter().map(|part| part.recorded.clone()).collect::<Vec<_>>();
        let is_still_wanted = recorded(&parts) == recorded(&wanted);
        let message = format!("server \"{server}\": the part of {path} that pgstead wrote was edited by hand");
        if is_still_wanted {
            let hint = "The edit is left alone. Put it into the inventory, or restore the part.";
            result.drift.push(Diagnostic::warning(Code::Drift, message).server(server).hint(hint));
            result.edited.insert(path.clone());
        } else {
            let hint = "Put the edit into the inventory, then remove the part with its marks, and run again. It is never overwritten.";
            result.refusals.push(
                Diagnostic::error(Code::EditedByHand, message + " and would have to change").server(server).hint(hint),
            );
        }
        return;
    }
    if edited_outside {
        let what = format!("server \"{server}\": {path} was edited by hand");
        let hint =
            "The edit is left alone; the other servers do not have it. What all need belongs into the inventory.";
        result.drift.push(Diagnostic::warning(Code::Drift, what).server(server).hint(hint));
        result.edited.insert(path.clone());
    }
    if fact.sha256 != hash {
        result.changes.push(entry.clone());
    }
}

/// Returns the manifest of the files that pgstead owns or has a part in; certificates and secrets prove themselves in
/// other ways.
pub fn manifest(layout: &Layout, wanted: &[Entry]) -> Option<Entry> {
    manifest_with(layout, wanted, &BTreeMap::new())
}

/// Returns the manifest, with some files as they were on record.
fn manifest_with(layout: &Layout, wanted: &[Entry], on_record: &BTreeMap<&str, &String>) -> Option<Entry> {
    let mut hashes = BTreeMap::new();
    let mut owner = None;
    for entry in wanted {
        if let Some((path, hash)) = hashed(entry) {
            let recorded = on_record.get(path.as_str()).map(|hash| (*hash).clone());
            hashes.insert(path, recorded.unwrap_or(hash));
        }
        if let Entry::Directory { path, owner: of_directory, .. } = entry
            && *path == layout.pgstead_directory
        {
            owner = Some(of_directory.clone());
        }
    }
    Some(Entry::text(layout.own("manifest"), &owner?, "0644", render_manifest(&hashes)))
}

/// Returns the line of a file in the manifest, where it has one.
fn hashed(entry: &Entry) -> Option<(String, String)> {
    let Entry::File { path, content: Piece::Text(text), keeper, .. } = entry else { return None };
    let is_ours = *keeper == Keeper::Pgstead || HAS_OUR_PARTS.iter().any(|name| path.ends_with(name));
    (is_ours && !path.contains("/tls.")).then(|| (path.clone(), sha256(text)))
}

/// Returns the manifest as it stands, with some files as they are about to be: for a step that installs these alone. None where
/// there is none.
pub fn recorded(seen: &ServerObservation, layout: &Layout, entries: &[Entry]) -> Option<Entry> {
    let path = layout.own("manifest");
    let text = seen.files.get(&path).and_then(Observed::known)?.content.as_deref()?;
    let mut hashes: BTreeMap<String, String> =
        parse_manifest(text).into_iter().map(|(path, hash)| (path.to_owned(), hash)).collect();
    hashes.extend(entries.iter().filter(|entry| entry.path() != path).filter_map(hashed));
    Some(Entry::text(path, &own_directory_owner(seen, layout), "0644", render_manifest(&hashes)))
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
            // The manifest follows from the others.
            if entry.path() == layout.own("manifest") { None } else { change(seen, entry) }
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

/// Returns how the change of a file is shown. Of an operator's file only our parts are: the rest may hold secrets.
pub fn change(seen: &ServerObservation, entry: &Entry) -> Option<FileChange> {
    let Entry::File { path, content, keeper, .. } = entry else { return None };
    let (before, after) = match (keeper, content) {
        (_, Piece::Secret(_)) => (None, None),
        (Keeper::Operator { before, after }, _) => (Some(before.clone()), Some(after.clone())),
        (Keeper::Copied { shown }, _) => (None, Some(shown.clone())),
        (Keeper::Pgstead, Piece::Text(text)) => {
            let before = seen.files.get(path).and_then(Observed::known).and_then(|fact| fact.content.clone());
            (before, Some(text.clone()))
        }
    };
    Some(FileChange { path: path.clone(), before, after })
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
    argv = argv.arg(&layout.os_user);
    for entry in entries {
        match entry {
            Entry::Directory { path, owner, mode } => argv.args.extend(words(&["d", path, owner, mode])),
            Entry::File { path, owner, mode, content, .. } => {
                let length = match content {
                    Piece::Text(text) => bytes(text).len(),
                    Piece::Secret(secret) => secret.expose().len(),
                };
                let word = if layout.guard_drop_in().as_ref() == Some(path) {
                    "u"
                } else if rename.is_some() && *path == layout.own(DATA_DIRECTORY_RECORD) {
                    // A record of what is not there yet would say that a disk is not mounted.
                    "b"
                } else {
                    "f"
                };
                argv.args.extend(words(&[word, path, owner, mode, &length.to_string()]));
                argv.stdin.push(content.clone());
            }
            Entry::Link { path, target } => argv.args.extend(words(&["l", path, target])),
        }
    }
    if let Some(conf) = entries.iter().find(|entry| entry.path().ends_with("/postgresql.conf")) {
        argv.args.extend(words(&["check", &layout.program("postgres"), conf.path()]));
    } else if let Some(conf) = entries.iter().find(|entry| entry.path().ends_with("/pgstead.conf")) {
        // The operator's file stays as it is, and includes this one.
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

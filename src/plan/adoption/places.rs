//! Places that the configuration of an existing primary names, and that a standby does not have by itself: files that its HBA and
//! ident files read, a directory of logs elsewhere, WAL behind a link.
//!
//! Judges what was seen on the primary, and makes directories; which configuration files are carried is for `kept`.

use std::collections::BTreeSet;
use std::path::Path;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::identity::Configuration;
use crate::model::layout::Layout;
use crate::model::observed::Observed;
use crate::model::topology::Topology;
use crate::plan::adoption::elsewhere;
use crate::plan::files;
use crate::plan::files::marked;
use crate::plan::seen::Seen;
use crate::plan::step::{Risk, Step};

/// The words that begin a line of HBA and ident files which reads another file (manual 21.1, from 16 on).
const INCLUDES: [&str; 3] = ["include", "include_if_exists", "include_dir"];

/// Returns why what the primary's HBA and ident files read would be missing on a standby, or silently be something else there.
pub fn refusals(primary: Seen<'_>) -> Vec<Diagnostic> {
    let (name, layout) = (&primary.server.name, primary.layout);
    let mut refusals = Vec::new();
    if primary.configuration != Configuration::Kept {
        return refusals;
    }
    for file in ["pg_hba.conf", "pg_ident.conf"] {
        let path = [layout.config_home(), "/", file].concat();
        let fact = primary.seen.files.get(&path).and_then(Observed::known);
        let text = fact.and_then(|fact| fact.content.as_deref()).unwrap_or_default();
        // A file whose marks are damaged is refused elsewhere.
        let own = marked::parse(text).map(|marked| marked.own).unwrap_or_default();
        for (number, line) in own.lines().enumerate() {
            for read in reads(line).into_iter().filter(|read| !comes_along(layout, read)) {
                refusals.push(
                    Diagnostic::error(Code::IncludedElsewhere, format!("server \"{name}\": {path} reads {read}"))
                        .server(name)
                        .detail(format!(
                            "Line {}. A standby gets {file} itself and no other file: it would let in others, or nobody.",
                            number + 1
                        ))
                        .hint(format!("Write the records, or the names, into {file} itself, then: SELECT pg_reload_conf();")),
                );
            }
        }
    }
    refusals
}

/// Says whether a file lies in the data directory, and so comes with a base backup. A path is relative to the file that names it.
fn comes_along(layout: &Layout, read: &str) -> bool {
    Path::new(read).starts_with(&layout.data_directory) || !read.starts_with('/') && layout.config_directory.is_none()
}

/// Returns the files and directories that a line reads.
fn reads(line: &str) -> Vec<String> {
    let tokens = tokens(line);
    if let [(first, false), (path, _)] = tokens.as_slice()
        && INCLUDES.contains(&first.as_str())
    {
        return vec![path.clone()];
    }
    // In quotes the sign is part of a name.
    let named = |(token, is_quoted): &(String, bool)| token.strip_prefix('@').filter(|_| !is_quoted).map(str::to_owned);
    tokens.iter().filter_map(named).collect()
}

/// Takes a line apart at blanks and commas outside quotes, and says of each part whether it began with a quote.
fn tokens(line: &str) -> Vec<(String, bool)> {
    let mut tokens: Vec<(String, bool)> = Vec::new();
    let (mut is_in_quotes, mut is_open) = (false, false);
    for character in line.chars() {
        match character {
            '"' => {
                if !is_open {
                    tokens.push((String::new(), true));
                }
                (is_in_quotes, is_open) = (!is_in_quotes, true);
            }
            '#' if !is_in_quotes => break,
            ',' if !is_in_quotes => is_open = false,
            other if other.is_whitespace() && !is_in_quotes => is_open = false,
            other => {
                if !is_open {
                    tokens.push((String::new(), false));
                }
                is_open = true;
                if let Some((token, _)) = tokens.last_mut() {
                    token.push(other);
                }
            }
        }
    }
    tokens
}

/// Returns what the operator should know of the primary's places before a standby is made of it.
pub fn notes(primary: Seen<'_>, made: &BTreeSet<(String, &str)>) -> Vec<Diagnostic> {
    let name = &primary.server.name;
    let of_mode = |wanted: &str| {
        made.iter().filter(|(_, mode)| *mode == wanted).map(|(path, _)| path.as_str()).collect::<Vec<_>>()
    };
    let mut notes = Vec::new();
    for directory in of_mode(elsewhere::LOGS) {
        notes.push(
            Diagnostic::note(Code::LogDirectoryElsewhere, format!("server \"{name}\": log_directory is {directory}"))
                .server(name)
                .detail("It is made on each new standby where it is absent.")
                .hint("Whatever rotates logs, or carries them away, must know of it there."),
        );
    }
    let sockets = of_mode(elsewhere::SOCKETS);
    if !sockets.is_empty() {
        let volatile = match sockets.iter().any(|path| path.starts_with("/run/") || path.starts_with("/var/run/")) {
            true => " What lies below /run is gone after a boot, unless tmpfiles.d makes it.",
            false => "",
        };
        notes.push(
            Diagnostic::note(
                Code::PathNeededOnStandbys,
                format!("server \"{name}\": unix_socket_directories names {}", sockets.join(", ")),
            )
            .server(name)
            .detail(format!("An instance that cannot make its socket there does not start. It is made on each new standby where it is absent.{volatile}"))
            .hint("See that every standby has it after a boot, too."),
        );
    }
    let wal = [&primary.layout.data_directory, "/pg_wal"].concat();
    if let Some(disk) = primary.seen.disks.get(&wal).and_then(Observed::known) {
        notes.push(
            Diagnostic::note(Code::WalOnAnotherDisk, format!("server \"{name}\": its pg_wal is a link to {}", disk.mount))
                .server(name)
                .detail("A base backup makes pg_wal a directory in the new data directory.")
                .hint("If a standby is to have its WAL on a disk of its own: stop it when it is there, move pg_wal, and put the link in its place."),
        );
    }
    notes
}

/// Returns the step that makes on a new server what its settings name.
pub fn make(topology: &Topology, seen: Seen<'_>, primary: Option<Seen<'_>>) -> Option<Step> {
    let all = elsewhere::to_make(topology, seen, primary);
    let has = |wanted: &str| all.iter().any(|(_, mode)| *mode == wanted);
    let title = match (has(elsewhere::LOGS), has(elsewhere::SOCKETS)) {
        (false, false) => return None,
        (true, false) => "make the directory of its logs",
        (false, true) => "make the directory of its sockets",
        (true, true) => "make the directories of its logs and sockets",
    };
    let make = |(path, mode): &(String, &str)| files::make_told_directory(seen.seen, seen.layout, path, mode);
    Some(Step::run(&seen.server.name, Risk::Reversible, title, all.iter().map(make).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_line_reads_is_found_and_nothing_else() {
        let read = |line: &str| reads(line).join(" ");
        assert_eq!(read("include_dir 'hba.d' # x"), "'hba.d'");
        assert_eq!(read("include_if_exists \"/etc/more hba.conf\""), "/etc/more hba.conf");
        assert_eq!(read("host all,@dbs.txt @/etc/admins,bob 10.0.0.0/8 scram-sha-256"), "dbs.txt /etc/admins");
        for line in
            ["host include all 10.0.0.0/8 trust", "local all \"@home\" peer", "# include x", "", "host a b@c all md5"]
        {
            assert_eq!(read(line), "", "{line}");
        }
    }
}

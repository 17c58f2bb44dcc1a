//! Places that the configuration of an existing primary names, and that a standby does not have by itself: files that its HBA and
//! ident files read, a directory of logs elsewhere, WAL behind a link.
//!
//! Judges what was seen on the primary, and makes directories; which configuration files are carried is for `kept`.

use crate::diagnostic::Code;
use crate::diagnostic::Diagnostic;
use crate::model::archive::copy_directory;
use crate::model::identity::Configuration;
use crate::model::layout::Layout;
use crate::model::name::ServerName;
use crate::model::observation::Instance;
use crate::model::observed::Observed;
use crate::plan::files;
use crate::plan::marked;
use crate::plan::step::Risk;
use crate::plan::step::Step;
use crate::plan::survey::Seen;

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
    let is_below = read.strip_prefix(&layout.data_directory).is_some_and(|rest| rest.starts_with('/'));
    is_below || !read.starts_with('/') && layout.config_directory.is_none()
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

/// Returns the directory of an instance's logs, where its own files name one outside the data directory and it is written to: an
/// instance without it does not start.
fn log_directory(instance: &Instance) -> Option<&str> {
    let value = |name: &str| instance.settings.get(name).map(|setting| setting.setting.as_str());
    let directory = value("log_directory").filter(|directory| directory.starts_with('/'))?;
    (value("logging_collector") == Some("on")).then_some(directory)
}

/// Files and directories that a standby reads by the same path as the primary, and that nobody carries there: what it cannot do
/// without them.
const READ_ELSEWHERE: [(&str, &str); 7] = [
    ("dynamic_library_path", "A function of a library that is not there fails"),
    // From version 18 on.
    ("extension_control_path", "An extension whose files are not there cannot be updated, and its functions fail"),
    ("external_pid_file", "An instance starts all the same, and says in its log that it could not write it"),
    ("krb_server_keyfile", "Nobody can log in by GSSAPI without it"),
    ("ssl_crl_dir", "An instance with TLS does not start without it"),
    ("ssl_crl_file", "An instance with TLS does not start without it"),
    ("ssl_dh_params_file", "An instance with TLS does not start without it"),
];

/// Returns a remark for each of them that the operator's own files set.
fn needed(name: &ServerName, layout: &Layout, instance: &Instance) -> Vec<Diagnostic> {
    let is_set = |parameter: &str| instance.file_settings.iter().rfind(|setting| setting.name == parameter);
    let remark = |(parameter, why): &(&str, &str)| {
        let value = is_set(parameter).map(|setting| setting.setting.as_str())?;
        // What is relative lies in the data directory, and "$libdir" is each server's own.
        let paths: Vec<&str> =
            value.split(':').filter(|path| path.starts_with('/') && !is_everywhere(layout, path)).collect();
        (!paths.is_empty()).then(|| told(name, parameter, &paths.join(", "), why))
    };
    let group = is_set("unix_socket_group").filter(|setting| !setting.setting.is_empty()).map(|setting| {
        let why = "An instance does not start where that group is not there, or its user is no member of it";
        told(name, "unix_socket_group", &setting.setting, why)
    });
    let value = |name: &str| instance.settings.get(name).map_or("", |setting| setting.setting.as_str());
    let archive =
        copy_directory(value("archive_command")).filter(|_| value("archive_mode") != "off").map(|directory| {
            let why = "A standby archives nothing, and keeps all WAL, once it is the primary and that is not there";
            told(name, "archive_command", directory, why)
        });
    READ_ELSEWHERE.iter().filter_map(remark).chain(group).chain(archive).collect()
}

fn told(name: &ServerName, parameter: &str, what: &str, why: &str) -> Diagnostic {
    Diagnostic::note(Code::PathNeededOnStandbys, format!("server \"{name}\": {parameter} names {what}"))
        .server(name)
        .detail(format!("{why}; pgstead does not carry it."))
        .hint("See that every standby has it, under the same name.")
}

/// Says whether every server has a place, as its packages or pgstead make it.
fn is_everywhere(layout: &Layout, path: &str) -> bool {
    let real = |path: &str| path.replacen("/var/run/", "/run/", 1);
    real(path).starts_with(&real(&layout.socket_directory)) || path == "/tmp"
}

/// Returns the directories for sockets that are no server's by itself: an instance that cannot make its socket does not start.
fn socket_directories<'a>(layout: &'a Layout, instance: &'a Instance) -> impl Iterator<Item = &'a str> {
    let value = instance.settings.get("unix_socket_directories").map_or("", |setting| setting.setting.as_str());
    let all = value.split(',').map(|path| path.trim().trim_matches('"'));
    // An abstract socket has no directory, and what is relative lies in the data directory.
    all.filter(|path| path.starts_with('/') && !is_everywhere(layout, path))
}

/// Returns what the operator should know of the primary's places before standbys are made of it.
pub fn notes(primary: Seen<'_>) -> Vec<Diagnostic> {
    let name = &primary.server.name;
    let mut notes = Vec::new();
    if let Some(directory) =
        primary.instance.filter(|_| primary.configuration == Configuration::Kept).and_then(log_directory)
    {
        notes.push(
            Diagnostic::note(Code::LogDirectoryElsewhere, format!("server \"{name}\": log_directory is {directory}"))
                .server(name)
                .detail("An instance that cannot write there does not start. It is made on each new standby where it is absent and the instance's user may make it.")
                .hint(format!(
                    "Where that user may not: install -d -o {} -m 700 {directory}",
                    primary.layout.os_user
                )),
        );
    }
    notes.extend(
        primary
            .instance
            .filter(|_| primary.configuration == Configuration::Kept)
            .into_iter()
            .flat_map(|instance| needed(name, primary.layout, instance)),
    );
    let kept = primary.instance.filter(|_| primary.configuration == Configuration::Kept);
    let sockets: Vec<&str> =
        kept.into_iter().flat_map(|instance| socket_directories(primary.layout, instance)).collect();
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
            .detail(format!("An instance that cannot make its socket there does not start. It is made on each new standby where it is absent and the instance's user may make it.{volatile}"))
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

/// Returns the step that makes on a new standby what the settings that it gets from the primary name.
pub fn make(seen: Seen<'_>, primary: Option<&Instance>) -> Option<Step> {
    let instance = primary.filter(|_| seen.configuration == Configuration::Kept)?;
    let logs = log_directory(instance);
    let sockets: Vec<&str> = socket_directories(seen.layout, instance).collect();
    let title = match (logs, sockets.is_empty()) {
        (None, true) => return None,
        (Some(_), true) => "make the directory of its logs",
        (None, false) => "make the directory of its sockets",
        (Some(_), false) => "make the directories of its logs and sockets",
    };
    // Clients are other users; who may use a socket says unix_socket_permissions.
    let all = logs.map(|directory| (directory, "0700")).into_iter().chain(sockets.into_iter().map(|one| (one, "0755")));
    let commands = all.map(|(path, mode)| files::make_told_directory(seen.seen, seen.layout, path, mode)).collect();
    Some(Step::run(&seen.server.name, Risk::Reversible, title, commands))
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

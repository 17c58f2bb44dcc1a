//! What a server must have itself because settings or tablespaces name it, and nobody carries it there: an existing primary's
//! settings travel with its configuration files, and the inventory's are the same for all.
//!
//! Decides what is looked at, on which server, and judges what was seen. What standbys get made for them is for `places`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::archive::copy_directory;
use crate::model::layout::Layout;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::place::{Place, PlaceKind, Question};
use crate::model::topology::Topology;
use crate::plan::adoption::encryption;
use crate::plan::adoption::settings::{INVENTORY, Settings, is_on};
use crate::plan::adoption::values;
use crate::plan::seen::Seen;
use crate::plan::survey::{OF_BOOTSTRAP, Survey, consent, survey_of};
use crate::plan::{Consent, files, steps};

/// What is asked of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// The questions.
    pub questions: Vec<Question>,
    /// The `dynamic_library_path` that the server will have.
    pub library_path: String,
}

/// How a server uses what is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// A tablespace is put there.
    Tablespace,
    /// It is a directory that is made where it is absent, and written to.
    Made,
    /// It is a directory that is there and is written to.
    Written,
    /// It is there and is read.
    Read,
}

/// Something that a server must have.
struct Need {
    question: Question,
    /// What names it.
    by: String,
    /// Where that is set.
    set: String,
    /// What happens without it.
    why: &'static str,
    used: Use,
    /// Whether nothing is begun without it.
    is_vital: bool,
}

/// A setting that names files or directories: what happens where they are not there, how they are used, and whether the instance
/// cannot do without.
const PATHS: [(&str, &str, Use, bool); 10] = [
    ("log_directory", "An instance that cannot write its log does not start", Use::Made, true),
    ("unix_socket_directories", "An instance that cannot make its socket does not start", Use::Made, true),
    ("ssl_crl_file", "An instance with TLS does not start without it", Use::Read, true),
    ("ssl_crl_dir", "Nobody can log in with a certificate without it", Use::Read, true),
    ("ssl_dh_params_file", "An instance with TLS does not start without it", Use::Read, true),
    ("krb_server_keyfile", "Nobody can log in by GSSAPI without it", Use::Read, false),
    ("dynamic_library_path", "A function of a library that is not there fails", Use::Read, false),
    // From version 18 on.
    ("extension_control_path", "An extension whose files are not there cannot be updated", Use::Read, false),
    // Of Debian's packages.
    ("extension_destdir", "An extension whose files are not there cannot be updated", Use::Read, false),
    (
        "external_pid_file",
        "An instance starts all the same, and says in its log that it could not write it",
        Use::Written,
        false,
    ),
];

/// Settings that name libraries.
const LIBRARIES: [(&str, &str, bool); 6] = [
    ("shared_preload_libraries", "An instance without it does not start", true),
    ("session_preload_libraries", "Nobody can connect without it", true),
    ("local_preload_libraries", "Nobody can connect without it", true),
    ("archive_library", "A server that becomes the primary archives nothing without it, and keeps all WAL", false),
    // Of the minor releases since 2026.
    ("output_plugin_libraries", "No logical slot that uses it goes on without it after a failover", false),
    // From version 18 on.
    ("oauth_validator_libraries", "Nobody can log in by OAuth without it", false),
];

/// Settings that name a program which runs on every server, or on every one that becomes the primary.
const PROGRAMS: [(&str, &str, bool); 2] = [
    (
        "restore_command",
        "A standby asks it for WAL before its upstream, and does not start where it is not found",
        true,
    ),
    ("archive_command", "A server that becomes the primary archives nothing without it, and keeps all WAL", false),
];

/// Returns what must be looked at before a bootstrap can be planned, on which server. A server that the survey can plan for is looked
/// at whatever is refused besides, so that all is told at once.
pub fn questions(topology: &Topology, observation: &Observation, consent: Consent) -> BTreeMap<ServerName, Inquiry> {
    let passed_over = consent::passed_over(topology, observation, consent);
    let is_concerned = |name: &ServerName| !passed_over.contains(&name);
    let Survey { servers, primary, .. } = survey_of(topology, observation, OF_BOOTSTRAP, is_concerned);
    let Some(primary) = primary else { return BTreeMap::new() };
    let of_primary = servers.get(&primary).copied();
    servers.iter().filter_map(|(name, seen)| Some((name.clone(), inquiry(topology, &[*seen], of_primary)?))).collect()
}

/// Returns what must be looked at on a server, for each of the ways in which it is seen: as it is, or as if it had no data.
pub fn inquiry(topology: &Topology, ways: &[Seen<'_>], primary: Option<Seen<'_>>) -> Option<Inquiry> {
    let of_way = |seen: &Seen<'_>| needs(topology, *seen, primary).into_iter().map(|need| need.question);
    let all: BTreeSet<Question> = ways.iter().flat_map(of_way).collect();
    let path = |seen: &Seen<'_>| Some(Settings::new(topology, *seen, primary).get("dynamic_library_path")?.0);
    let library_path = ways.iter().find_map(path).unwrap_or_else(|| "$libdir".to_owned());
    (!all.is_empty()).then(|| Inquiry { questions: all.into_iter().collect(), library_path })
}

fn answer<'a>(answers: Option<&'a BTreeMap<String, Observed<Place>>>, need: &Need) -> &'a Observed<Place> {
    answers.and_then(|answers| answers.get(&need.question.key())).unwrap_or(&Observed::NotAsked)
}

fn needs(topology: &Topology, seen: Seen<'_>, primary: Option<Seen<'_>>) -> Vec<Need> {
    let mut needs = tablespaces(seen, primary);
    let settings = Settings::new(topology, seen, primary);
    let layout = seen.layout;
    // What lies in the server's own data directory comes and goes with that, and the instance makes it.
    let comes_by_itself =
        |path: &str| Path::new(path).starts_with(&layout.data_directory) || is_everywhere(layout, path);
    for (name, why, used, is_vital) in PATHS {
        let Some((value, set)) = settings.get(name) else { continue };
        let is_written_to = name != "log_directory" || settings.collects_logs();
        for path in paths(name, &value).filter(|path| is_written_to && !comes_by_itself(path)) {
            // Of a file that is written its directory is looked at.
            let path = match used {
                Use::Written => path.rsplit_once('/').map_or(path, |(directory, _)| directory),
                _ => path,
            };
            needs.push(Need {
                question: Question::Path(path.to_owned()),
                by: name.to_owned(),
                set: set.clone(),
                why,
                used,
                is_vital,
            });
        }
    }
    if let Some((group, set)) = settings.get("unix_socket_group").filter(|(group, _)| !group.is_empty()) {
        let why = "An instance does not start where that group is not there, or its user is no member of it";
        needs.push(Need {
            question: Question::Group(group),
            by: "unix_socket_group".to_owned(),
            set,
            why,
            used: Use::Read,
            is_vital: true,
        });
    }
    let archives = settings.get("archive_mode").is_some_and(|(mode, _)| is_on(&mode) || mode == "always");
    for (name, why, is_vital) in LIBRARIES.into_iter().filter(|(name, ..)| archives || *name != "archive_library") {
        let Some((value, set)) = settings.get(name) else { continue };
        for library in value.split(',').map(|one| one.trim().trim_matches('"')).filter(|one| !one.is_empty()) {
            let is_installed =
                |all: &Vec<String>| all.iter().any(|one| one == library.strip_prefix("$libdir/").unwrap_or(library));
            if !seen.seen.libraries.known().is_some_and(is_installed) {
                let question = Question::Library(library.to_owned());
                needs.push(Need { question, by: name.to_owned(), set: set.clone(), why, used: Use::Read, is_vital });
            }
        }
    }
    for (name, value, set) in values::to_ask(&settings) {
        let why = "PostgreSQL does not start with a value that it does not accept";
        let question = Question::Value([&name, "=", &value].concat());
        needs.push(Need { question, by: name, set, why, used: Use::Read, is_vital: true });
    }
    for (name, why, is_vital) in PROGRAMS.into_iter().filter(|(name, ..)| archives || *name != "archive_command") {
        let Some((value, set)) = settings.get(name) else { continue };
        if let Some(program) = program(&value) {
            let question = Question::Program(program.to_owned());
            needs.push(Need { question, by: name.to_owned(), set: set.clone(), why, used: Use::Read, is_vital });
        }
        if let Some(directory) = copy_directory(&value)
            .filter(|path| name == "archive_command" && !Path::new(path).starts_with(&layout.data_directory))
        {
            let question = Question::Path(directory.to_owned());
            needs.push(Need { question, by: name.to_owned(), set, why, used: Use::Written, is_vital });
        }
    }
    needs
}

/// Where the tablespaces go: those of the primary come with a base backup, those of the inventory are made, by a later run where the
/// primary does not run.
fn tablespaces(seen: Seen<'_>, primary: Option<Seen<'_>>) -> Vec<Need> {
    let has = primary.and_then(|primary| primary.instance).map(|instance| &instance.tablespaces);
    let is_unknown = primary.is_some_and(|primary| steps::tablespaces::are_unknown(primary));
    let is_missing = |name: &String| !is_unknown && has.is_none_or(|has| !has.contains_key(name));
    let made = seen.server.tablespaces.iter().filter(|(name, _)| is_missing(name));
    let copied = primary.filter(|_| seen.data.is_none()).map(|primary| copied_tablespaces(primary));
    let made = made.map(|(name, path)| tablespace(Some(name), path, [INVENTORY, " has it there"].concat()));
    copied.into_iter().flatten().chain(made).collect()
}

fn copied_tablespaces(primary: Seen<'_>) -> Vec<Need> {
    let needed = |(name, path)| tablespace(name, path, format!("It has that place on \"{}\"", primary.server.name));
    primary.tablespaces().into_iter().map(needed).collect()
}

fn tablespace(name: Option<&str>, path: &str, set: String) -> Need {
    Need {
        question: Question::Tablespace(path.to_owned()),
        by: name.map_or_else(|| "a tablespace".to_owned(), |name| format!("tablespace \"{name}\"")),
        set,
        why: "It must be empty of tablespaces, and the instance's user must be able to write there",
        used: Use::Tablespace,
        is_vital: true,
    }
}

/// Returns the paths that a setting names, as far as they are the same on every server: what is relative lies in the data directory,
/// `$libdir` and `$system` are each server's own, and an abstract socket is no file.
fn paths<'a>(name: &str, value: &'a str) -> impl Iterator<Item = &'a str> {
    let separator = match name {
        "unix_socket_directories" => ',',
        // "FILE:/etc/krb5.keytab" is one path.
        "dynamic_library_path" | "extension_control_path" | "krb_server_keyfile" => ':',
        // One path, whatever is in it.
        _ => '\0',
    };
    value.split(separator).map(|path| path.trim().trim_matches('"')).filter(|path| path.starts_with('/'))
}

/// Returns the program that a command line begins with, where it says so plainly. One that begins with anything else may do anything.
fn program(command: &str) -> Option<&str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '+');
    let first = command.split_whitespace().next()?;
    // A relative path begins in the data directory, which may have to come first.
    let is_relative = first.contains('/') && !first.starts_with('/');
    (first.chars().all(is_plain) && !is_relative).then_some(first)
}

/// Returns the directories that are made for a new instance or copy, with their modes: of logs first, then of sockets.
pub(in crate::plan) fn to_make(
    topology: &Topology,
    seen: Seen<'_>,
    primary: Option<Seen<'_>>,
) -> Vec<(String, &'static str)> {
    let made = needs(topology, seen, primary).into_iter().filter(|need| need.used == Use::Made);
    // Clients are other users; who may use a socket says unix_socket_permissions.
    let mode = |need: &Need| if need.by == "log_directory" { LOGS } else { SOCKETS };
    made.map(|need| (need.question.words()[1].to_owned(), mode(&need))).collect()
}

/// The mode of a directory of logs.
pub(in crate::plan) const LOGS: &str = "0700";
/// That of a directory of sockets.
pub(in crate::plan) const SOCKETS: &str = "0755";

/// Says whether every server has a place, as its packages or pgstead make it.
pub(in crate::plan) fn is_everywhere(layout: &Layout, path: &str) -> bool {
    let real =
        |path: &str| path.strip_prefix("/var/run/").map_or_else(|| path.to_owned(), |rest| ["/run/", rest].concat());
    Path::new(&real(path)).starts_with(real(&layout.socket_directory)) || path == "/tmp" || path == "/dev/null"
}

/// What is said of the needs of servers.
#[derive(Debug, Default)]
pub struct Judged {
    /// Why nothing may be begun.
    pub refusals: Vec<Diagnostic>,
    /// What servers lack and may do without.
    pub notes: Vec<Diagnostic>,
}

/// Judges what was seen of a server. `may_hold` says of a place whether a tablespace may be there already: where a copy that an earlier
/// run began is finished, and where the server's own is set aside with its data directory.
pub fn judge(
    topology: &Topology,
    observation: &Observation,
    seen: Seen<'_>,
    primary: Option<Seen<'_>>,
    may_hold: impl Fn(&str) -> bool,
) -> Judged {
    let name = &seen.server.name;
    let mut judged = Judged::default();
    let settings = Settings::new(topology, seen, primary);
    judged.refusals.extend(values::refused_together(seen, &settings));
    judged.refusals.extend(encryption::refusals(seen, &settings));
    let answers = observation.places.get(name);
    for need in needs(topology, seen, primary) {
        let answer = answer(answers, &need);
        if let (Question::Value(_), None) = (&need.question, answer.known()) {
            // Each file is checked again before it is put in place: nothing hangs on this answer.
            let note = values::not_asked(seen, answer.unreadable());
            if !judged.notes.contains(&note) {
                judged.notes.push(note);
            }
            continue;
        }
        let Some(problem) = problem(seen, &need, answer, &may_hold) else { continue };
        match need.is_vital {
            true => judged.refusals.push(problem),
            false => judged.notes.push(problem),
        }
    }
    judged
}

/// Returns what is wrong with what a server has.
fn problem(
    seen: Seen<'_>,
    need: &Need,
    answer: &Observed<Place>,
    may_hold: impl Fn(&str) -> bool,
) -> Option<Diagnostic> {
    let [sort, what] = need.question.words();
    let (name, user) = (&seen.server.name, &seen.layout.os_user);
    if need.used == Use::Tablespace && is_in_data_directory(seen.layout, what) {
        return Some(
            Diagnostic::error(
                Code::TablespaceInDataDirectory,
                format!("server \"{name}\": {what} is inside its data directory"),
            )
            .server(name)
            .detail(format!(
                "{}, for {}. A copy is put together beside its place, and the directory would stand in the way there.",
                need.set, need.by
            ))
            .hint("Make a tablespace elsewhere on the primary, move there what is in this one (ALTER TABLE, INDEX or DATABASE … SET TABLESPACE), and drop it."),
        );
    }
    let place = match answer {
        Observed::Known(place) => place,
        other => {
            let why = other.unreadable().unwrap_or("nothing was said of it");
            let found = unfit(seen, need, "could not be looked at");
            return Some(found.detail(format!("{why}. {}.", need.why)).hint("Look why, and run again."));
        }
    };
    if need.used == Use::Tablespace && !place.tablespace.is_empty() && !may_hold(what) {
        return Some(
            Diagnostic::error(Code::TablespaceTaken, format!("server \"{name}\": {what} holds a tablespace already"))
                .server(name)
                .detail(format!("{what}/{} is there. {}, and {} would be put into the same directory.", place.tablespace, need.set, need.by))
                .hint("Look whose it is, and rename it when nobody needs it: an instance that uses it must not run. pgstead deletes nothing."),
        );
    }
    // What an instance that is there already gets new is not made.
    let is_made = need.used == Use::Tablespace || need.used == Use::Made && seen.data.is_none();
    let is_wished = need.used == Use::Tablespace && seen.server.tablespaces.values().any(|path| path == what);
    let is_made_by_root = files::is_made_by_root(seen.seen, what, is_wished);
    let make = || {
        format!("On {name}: install -d -o {user} -m {} {what}", if need.by == "log_directory" { "700" } else { "755" })
    };
    // Whoever gets a directory that others use takes it from them.
    let is_theirs = place.kind == PlaceKind::Directory
        && need.used != Use::Read
        && !place.writable
        && (place.shared || is_of_others(what));
    let (state, way) = match place.kind {
        PlaceKind::Dangling if place.nearest == what => {
            ("is a link to what is not there (is a disk not mounted?)".to_owned(), mount(name))
        }
        PlaceKind::Dangling => (
            format!("lies behind {}, a link to what is not there (is a disk not mounted?)", place.nearest),
            mount(name),
        ),
        PlaceKind::Missing if is_made && (place.writable || is_made_by_root) => return None,
        PlaceKind::Missing if is_made => {
            (format!("is not there, and user {user} may not make it in {}", place.nearest), make())
        }
        PlaceKind::Missing => match sort {
            "group" => {
                let add = match what.bytes().all(|byte| byte.is_ascii_digit()) {
                    true => format!("groupadd --gid {what} NAME; usermod -aG {what} {user}"),
                    false => format!("groupadd --system {what}; usermod -aG {what} {user}"),
                };
                ("is not there".to_owned(), format!("On {name}: {add}"))
            }
            "program" => ("is not there".to_owned(), format!("Install it on {name}, as the primary has it")),
            "library" => ("is not installed".to_owned(), "Install the package that the primary has it from".to_owned()),
            "value" => (
                format!("is not accepted there: {}", place.nearest),
                values::way(seen.server, &need.by, &need.set, &place.nearest),
            ),
            // Every server has a principal of its own.
            _ if need.by == "krb_server_keyfile" => {
                ("is not there".to_owned(), format!("Put its own keytab there for user {user} to read"))
            }
            _ if need.used == Use::Read => {
                ("is not there".to_owned(), format!("Put it there for user {user} to read, as the primary has it"))
            }
            _ => ("is not there".to_owned(), make()),
        },
        PlaceKind::File | PlaceKind::Other if need.used != Use::Read => {
            ("is not a directory".to_owned(), format!("Give what stands there another name on {name}"))
        }
        PlaceKind::Directory if need.used != Use::Read && !place.writable => {
            let way = match is_theirs {
                true if need.used == Use::Tablespace => "Use a directory of its own for it, on every server".to_owned(),
                true => "Name a directory of its own in that setting, on every server".to_owned(),
                false => format!("On {name}: chown {user}: {what}"),
            };
            (format!("is a directory that user {user} may not write"), way)
        }
        _ if need.used == Use::Read && !place.readable => match sort {
            "group" => {
                (format!("is a group that user {user} is not in"), format!("On {name}: usermod -aG {what} {user}"))
            }
            "program" => (format!("is no program that user {user} may run"), format!("Let user {user} run it")),
            _ => (format!("is there, and user {user} may not read it"), format!("Let user {user} read it")),
        },
        _ => return None,
    };
    let otherwise = match is_theirs || need.used == Use::Tablespace || sort == "library" || !need.is_vital {
        true => ".",
        false if sort == "value" => "",
        false => "; or take it out of that setting.",
    };
    Some(unfit(seen, need, &state).hint([&way, otherwise].concat()))
}

/// Says whether a path lies where a data directory is, or where that leads. A relative one is of a tablespace as developers make them
/// (`allow_in_place_tablespaces`): a copy of it does not start.
fn is_in_data_directory(layout: &Layout, path: &str) -> bool {
    !path.starts_with('/')
        || [layout.data_directory.as_str(), layout.place()].iter().any(|data| Path::new(path).starts_with(data))
}

fn mount(server: &ServerName) -> String {
    format!("On {server}: mount first what it leads to")
}

/// Says whether a directory is one that programs share, or the machine's: nobody gives it to one user.
fn is_of_others(path: &str) -> bool {
    const WHOLE: [&str; 10] = ["/etc", "/usr", "/bin", "/sbin", "/lib", "/boot", "/root", "/dev", "/proc", "/sys"];
    let is_direct = |parent: &str| Path::new(path).parent() == Some(Path::new(parent));
    is_direct("/") || is_direct("/var") || WHOLE.iter().any(|whole| Path::new(path).starts_with(whole))
}

fn unfit(seen: Seen<'_>, need: &Need, state: &str) -> Diagnostic {
    let name = &seen.server.name;
    let [sort, what] = need.question.words();
    let detail = match need.used {
        Use::Tablespace => format!("{}, for {}. {}.", need.set, need.by, need.why),
        _ => format!("{} has {}. {}.", need.set, need.by, need.why),
    };
    let diagnostic = match need.used {
        _ if sort == "value" => {
            let message = format!("server \"{name}\": {} {state}", what.replacen('=', " = ", 1));
            Diagnostic::error(Code::ValueNotAccepted, message)
        }
        _ if sort == "library" && need.is_vital => {
            Diagnostic::error(Code::LibraryMissing, format!("server \"{name}\": library \"{what}\" {state}"))
        }
        Use::Tablespace => Diagnostic::error(Code::PathUnfit, format!("server \"{name}\": {what} {state}")),
        _ => {
            let message = format!("server \"{name}\": {} names {what}, which {state}", need.by);
            match need.is_vital {
                true => Diagnostic::error(Code::PathUnfit, message),
                false => Diagnostic::warning(Code::PathNeededOnStandbys, message),
            }
        }
    };
    diagnostic.server(name).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_its_program_or_nothing() {
        for (command, named) in [
            ("/usr/bin/pgbackrest --stanza=x archive-get %f %p", Some("/usr/bin/pgbackrest")),
            ("wal-g wal-fetch %f %p", Some("wal-g")),
            ("test ! -f /mnt/%f && cp %p /mnt/%f", Some("test")),
            ("envdir=/etc/wal-g wal-g wal-push %p", None),
            ("\"/opt/my tool\" %p", None),
            ("(exit 1)", None),
            ("bin/fetch %f %p", None),
            ("./fetch %f %p", None),
            ("", None),
        ] {
            assert_eq!(program(command), named, "{command}");
        }
    }

    #[test]
    fn a_directory_that_others_use_is_given_to_nobody() {
        for path in ["/srv", "/run", "/var/run", "/var/log", "/var/log/", "/tmp", "/etc/ours", "/usr/local/lib"] {
            assert!(is_of_others(path), "{path}");
        }
        for path in ["/srv/sockets", "/run/ours", "/var/log/ours", "/mnt/archive", "/etcetera/x"] {
            assert!(!is_of_others(path), "{path}");
        }
    }

    #[test]
    fn paths_are_those_that_are_the_same_everywhere() {
        let all = |name: &str, value: &'static str| paths(name, value).collect::<Vec<_>>().join(" ");
        assert_eq!(all("dynamic_library_path", "/opt/ours/lib:$libdir"), "/opt/ours/lib");
        assert_eq!(all("krb_server_keyfile", "FILE:/etc/krb5.keytab"), "/etc/krb5.keytab");
        assert_eq!(all("unix_socket_directories", "/run/a, \"/srv/b\", @abstract, here"), "/run/a /srv/b");
        assert_eq!(all("log_directory", "log"), "");
        assert_eq!(all("log_directory", "/srv/a:b/log"), "/srv/a:b/log");
    }
}

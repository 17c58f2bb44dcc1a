//! The start guard: the unit's drop-in that asks it, and whether the service manager knows of it (hazards 34, 40, 55).
//!
//! What it refuses stands in `scripts/start-guard.sh`. Where no unit runs the instance, the steps that start it ask the
//! guard themselves.

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::ServerState;
use crate::model::address::Address;
use crate::model::argv::{Argv, RunAs};
use crate::model::layout::{Layout, LayoutKind, START_GUARD};
use crate::model::name::ServerName;
use crate::model::observation::ServerObservation;
use crate::model::observed::Observed;
use crate::model::role_file::RoleFile;
use crate::model::topology::Topology;
use crate::plan::files::{Entry, released};
use crate::plan::links::conninfo;
use crate::plan::seen::Seen;
use crate::plan::step::{Risk, Step};
use crate::plan::{files, scripts};
use crate::quote;
use crate::quote::{sh, systemd};

/// The name of the file that lists whom the guard asks.
pub const PEERS: &str = "peers";

/// The name of the file by which a primary starts, within a minute, that gets no answer from the others. Against an answer it
/// counts for nothing.
pub const START_ALONE: &str = "start-alone";

/// How long an instance that starts may take to replay one segment of WAL, in seconds, before its start counts as failed.
pub const START_SECONDS: u32 = 300;

/// Returns the step that fences a server: nothing starts its instance from then on, after a reboot either (hazard 55).
pub fn fence(seen: Seen<'_>) -> Step {
    hold(seen, RoleFile::Fenced, "fence it: nothing starts it from now on")
}

/// Returns the step after which nothing starts the instance of a server that leaves, after a reboot either. A bootstrap starts it again
/// where it is put back into the inventory.
pub fn hold_removed(seen: Seen<'_>) -> Step {
    hold(seen, RoleFile::Removed, "mark it as removed: nothing starts it from now on")
}

fn hold(seen: Seen<'_>, role: RoleFile<'_>, title: &str) -> Step {
    let owner = files::own_directory_owner(seen.seen, seen.layout);
    let mut entries = vec![Entry::text(seen.layout.role_file(), &owner, "0644", role.text())];
    entries.extend(files::recorded(seen.seen, seen.layout, &entries));
    files::install(&seen.server.name, seen.seen, seen.layout, title, &entries, None)
}

/// Says that a server was about to hand over, where it was, and what to do about that.
pub fn unfinished(name: &ServerName, state: ServerState<'_>) -> Option<Diagnostic> {
    let successor = state.successor()?;
    let what = match state.instance() {
        Some(_) => "It runs, and nothing would start it again.",
        _ => "It does not run, and nothing starts it.",
    };
    Some(
        Diagnostic::error(
            Code::SwitchoverUnfinished,
            format!("server \"{name}\" has an unfinished switchover to \"{successor}\""),
        )
        .server(name)
        .detail(format!("A switchover was begun and has not come to its end. {what}"))
        .hint(finish_or_take_back(successor)),
    )
}

/// Says what to do about a switchover that is not finished.
pub fn finish_or_take_back(successor: &str) -> String {
    format!(
        "Finish it: pgstead switchover --to {successor}. Or, where nobody was promoted, take it back: pgstead switchover --abort"
    )
}

/// What makes a stop a fast shutdown while the unit still starts.
const FAST_SHUTDOWN: &str =
    "# A stop while it starts is a fast shutdown, too: what systemd signals then is all its processes at once.
KillSignal=SIGINT
";

/// How a unit of Debian's runs an instance of which not all processes may get a signal at once: the postmaster is the unit's own
/// process from the first moment, and the start ends when it accepts connections, whoever waits for it.
fn in_foreground(seen: Seen<'_>) -> String {
    let layout = seen.layout;
    // As the instance's user, who owns what is read. It says nothing of the log, where the journal is at hand.
    let user = [["--reuid=", &layout.os_user].concat(), ["--regid=", &layout.os_user].concat()];
    let [wait, seconds] = [layout.own("wait-ready"), START_SECONDS.to_string()];
    let words = ["/usr/bin/setpriv", &user[0], &user[1], "--init-groups", "/bin/sh", &wait, &layout.data_directory];
    let words = words.into_iter().chain([seconds.as_str(), "/dev/null"]);
    let command: Vec<String> = words.map(systemd::word).collect();
    // As pg_ctl gives it: what no file says lies there, as `hosts_file` since PostgreSQL 19. A shell reads the options.
    let options = systemd::word(&["--options=-D ", &sh::quote(&layout.data_directory)].concat());
    [
        "# The postmaster is the unit's own process, and it alone gets a signal: a stop while it starts is a fast shutdown, too.\n",
        "Type=exec\nPIDFile=\nExecStart=\n",
        "ExecStart=-/usr/bin/pg_ctlcluster --skip-systemctl-redirect --foreground --stdlog ",
        &options,
        " %i start\n",
        "# The start ends when it accepts connections, and not before.\nExecStartPost=-",
        &command.join(" "),
        "\nKillMode=mixed\nKillSignal=SIGINT\n",
        "[Unit]\n# Starts are quick, and nobody but a person or pgstead asks for them: none is one too many.\n",
        "StartLimitIntervalSec=0\n",
    ]
    .concat()
}

/// Returns the drop-in with its directory; nothing where no unit runs the instance.
///
/// A unit that is stopped before its start has ended never runs what stops it: every process gets a signal instead. Debian's
/// start ends two seconds after the instance answers, and its signal is SIGTERM: the startup process ends of itself, and the
/// postmaster may wait for ever for one that it started anew. SIGINT is a fast shutdown to the postmaster (manual 19.5), and
/// harmless to the others where the version says so; elsewhere the postmaster is started so that it alone gets it
/// (docs/adr/0023-a-postmaster-in-the-foreground.md).
///
/// The guard runs as root, whoever the unit's user is: it reads and says what it refuses in a directory of root's.
pub fn drop_in(seen: Seen<'_>) -> Vec<Entry> {
    let Some(path) = seen.layout.guard_drop_in() else { return Vec::new() };
    let words = seen.layout.start_guard(seen.topology, &seen.server.name);
    let command: Vec<String> = words.iter().map(|word| systemd::word(word)).collect();
    let text = [
        "# Written by pgstead: nothing starts that is not complete, or that its role file does not say it is.\n",
        &with_dashes(seen.layout),
        "[Service]\nExecStartPre=+",
        &command.join(" "),
        "\n# A primary waits for an answer of the others, for as long as it takes.\nTimeoutStartSec=infinity\n",
        &match seen.layout.kind {
            LayoutKind::Debian if seen.version.may_interrupt_all() => FAST_SHUTDOWN.to_owned(),
            LayoutKind::Debian => in_foreground(seen),
            _ => String::new(),
        },
    ]
    .concat();
    let directory = path.rsplit_once('/').map(|(directory, _)| Entry::directory(directory, "root:root", "0755"));
    directory.into_iter().chain([Entry::text(&path, "root:root", "0644", text)]).collect()
}

/// Returns what stays of the drop-in where nobody asks the start guard any more: without it the unit of a cluster whose name has a dash
/// would start nothing. None where nothing stays.
pub fn drop_in_without(seen: Seen<'_>) -> Option<String> {
    let text = with_dashes(seen.layout);
    (!text.is_empty()).then(|| [released::RELEASED, &text].concat())
}

/// The unit of postgresql-common takes dashes for slashes where it looks for the configuration, and would never start a cluster
/// that has one in its name ("%I breaks for cluster names containing dashes", `postgresql@.service`).
fn with_dashes(layout: &Layout) -> String {
    let (LayoutKind::Debian, Some(file)) = (layout.kind, layout.config_file()) else { return String::new() };
    if !layout.config_home().rsplit('/').next().is_some_and(|cluster| cluster.contains('-')) {
        return String::new();
    }
    ["[Unit]\n# The unit's own assertion takes the dashes of this cluster's name for slashes.\nAssertPathExists=\nAssertPathExists=", &file.replace('%', "%%"), "\n"].concat()
}

/// Returns the files of the guard that do not depend on the other servers, as this version of pgstead writes them: path and
/// SHA-256.
pub fn current(topology: &Topology, name: &ServerName, seen: &ServerObservation) -> Vec<(String, String)> {
    let Some(seen) = Seen::of_observed(topology, name, seen) else { return Vec::new() };
    let script = Entry::text(seen.layout.own(START_GUARD), "", "", scripts::START_GUARD);
    drop_in(seen).iter().chain([&script]).filter_map(files::hash_of).collect()
}

/// Returns the file that lists whom the guard asks before a primary starts, and how: every other server, as the OS user whose
/// certificate it shows. Whoever left the inventory stays listed: by that the run knows it that drops its slot.
pub fn peers(topology: &Topology, seen: Seen<'_>) -> Entry {
    peers_with(topology, seen, |name| has_left(topology, name))
}

/// Says whether the inventory does not have a server. One that has only got another spelling has the same slot.
pub fn has_left(topology: &Topology, name: &ServerName) -> bool {
    topology.servers().all(|server| server.name.slot_name() != name.slot_name())
}

/// The same, of those that are not in the inventory any more with some alone.
pub fn peers_with(topology: &Topology, seen: Seen<'_>, stays: impl Fn(&ServerName) -> bool) -> Entry {
    let (server, layout) = (seen.server, seen.layout);
    let mut lines = vec![
        "# Written by pgstead: whom the start guard asks, before a primary starts, whether it was replaced.".to_owned(),
        ["psql ", &layout.program("psql")].concat(),
        ["user ", &layout.os_user].concat(),
    ];
    if topology.common().replication.start_alone {
        lines.push("start_alone".to_owned());
    }
    let others = topology.servers().filter(|other| other.name != server.name);
    let mut peers: Vec<String> = others
        .map(|other| ["peer ", other.name.as_str(), " ", &conninfo::guard_conninfo(topology, layout, other)].concat())
        .collect();
    let stays = |line: &&str| listed_in(line).is_some_and(|name| stays(&name));
    peers.extend(listed(seen).filter(stays).map(str::to_owned));
    // By their names, as they were before one of them left the inventory.
    peers.sort_by_key(|line| listed_in(line));
    let n_peers = peers.len().to_string();
    lines.extend(peers);
    // Without it the guard refuses: a file that lost its end would have it ask fewer, or nobody.
    lines.push(["end ", &n_peers].concat());
    let owner = files::own_directory_owner(seen.seen, layout);
    Entry::text(layout.own(PEERS), &owner, "0644", [lines.join("\n"), "\n".to_owned()].concat())
}

/// Returns the servers that the file of a server lists.
pub fn listed_peers(seen: Seen<'_>) -> impl Iterator<Item = ServerName> {
    listed(seen).filter_map(listed_in)
}

fn listed(seen: Seen<'_>) -> impl Iterator<Item = &str> {
    let file = seen.seen.files.get(&seen.layout.own(PEERS)).and_then(Observed::known);
    file.and_then(|fact| fact.content.as_deref()).unwrap_or_default().lines()
}

/// Returns the address under which the file of a server lists another one.
pub fn listed_address(seen: Seen<'_>, name: &ServerName) -> Option<Address> {
    let line = listed(seen).find(|line| listed_in(line).as_ref() == Some(name))?;
    let (_, conninfo) = line.strip_prefix("peer ")?.split_once(' ')?;
    quote::conninfo::value(conninfo, "host")?.parse().ok()
}

/// Returns the server that a line lists.
fn listed_in(line: &str) -> Option<ServerName> {
    line.strip_prefix("peer ")?.split(' ').next()?.parse().ok()
}

/// Returns the step that lets the service manager read the drop-in, where it stands as it should and is not in force: a
/// run that installed it was interrupted, or somebody put it back by hand. Its installation ends with the same.
pub fn reload_units(seen: Seen<'_>, install: &[Entry]) -> Option<Step> {
    let path = seen.layout.guard_drop_in()?;
    let is_installed = install.iter().any(|entry| entry.path() == path);
    let Observed::Known(service) = &seen.seen.service else { return None };
    let in_force = service.runs_before_start(&seen.layout.start_guard(seen.topology, &seen.server.name))?;
    let command = Argv::new(files::administrator(seen.seen), "systemctl").arg("daemon-reload");
    (!in_force && !is_installed).then(|| {
        Step::run(&seen.server.name, Risk::Reversible, "let the service manager read the start guard", vec![command])
    })
}

/// Returns the command after which a primary may start without an answer of the others: whoever gives it has looked at all of
/// them, and found nobody who was promoted.
pub fn may_start_alone(seen: Seen<'_>) -> Argv {
    Argv::new(files::keeper(seen.seen, seen.layout), "touch").arg(seen.layout.own(START_ALONE))
}

/// Returns the command that asks the guard, for steps that start an instance without its unit, and for those that stop one
/// which should come back.
pub fn ask(seen: Seen<'_>) -> Argv {
    let run_as = match seen.layout.unit {
        Some(_) => files::administrator(seen.seen),
        None => RunAs::User(seen.layout.os_user.clone()),
    };
    let mut words = seen.layout.start_guard(seen.topology, &seen.server.name).into_iter();
    Argv::new(run_as, words.next().unwrap_or_default()).args(words)
}

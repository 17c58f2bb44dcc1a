//! Turns the probe's records into facts. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::model::argv::{Login, RootAccess};
use crate::model::bytes;
use crate::model::control::ControlFile;
use crate::model::job::Job;
use crate::model::layout::Layout;
use crate::model::lsn::Lsn;
use crate::model::name::ServerName;
use crate::model::observation::{
    DataDirectory, Dial, Disk, FileFact, Instance, Listener, Os, Peer, Route, ServerObservation, Service,
};
use crate::model::observed::Observed;
use crate::model::version::ServerVersion;
use crate::observe::probe;
use crate::observe::records::Records;

/// When the probe was sent and answered, by the operator's clock, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// When it was sent.
    pub sent_ms: i64,
    /// When its answer was complete.
    pub answered_ms: i64,
}

/// Turns one server's records into facts.
///
/// `layouts` are the candidates that the probe was given.
pub fn parse_server(records: &Records, layouts: &[Layout], asked: Asked) -> ServerObservation {
    let kind = records.text("layout");
    let layout = records.get("layout").and_then(|_| {
        // PostgreSQL never runs as root: somebody led the look to a directory of root's, and would have root act as the owner.
        if records.text("instance_user") == "root" {
            return Observed::Unreadable("Its data directory belongs to root, as whom no instance runs.".to_owned());
        }
        match layouts.iter().find(|layout| probe::kind_word(layout) == kind) {
            Some(layout) => Observed::Known(Layout {
                os_user: records.text("instance_user"),
                socket_directory: records.text("socket"),
                data_place: records.get("data_place").known().filter(|path| is_plain_path(path)).cloned(),
                ..layout.clone()
            }),
            None => Observed::Unreadable(["The probe named layout ", &kind, "."].concat()),
        }
    });
    let owned = Owned::of(records);
    let beside_facts = crate::observe::beside::parse_beside(records);
    ServerObservation {
        login: parse_login(&records.text("login"), &records.text("user")),
        os: parse_os(records, asked),
        layout,
        other_installations: lines(&records.text("installations")),
        version: owned.get("version").map_parsed(parse_version),
        data_directory: parse_data_directory(records, &owned),
        beside: beside_facts.iter().map(|fact| fact.path.clone()).collect(),
        beside_facts,
        disks: parse_disks(records),
        listener: parse_listener(records),
        service: records.get("service").map_parsed(|text| {
            let (boot, shown) = text.split_once('\n')?;
            let (enabled, boot) = boot.split_once(' ')?;
            let active = shown.lines().find_map(|line| line.strip_prefix("ActiveState="))?;
            // "{ path=… ; argv[]=the words ; ignore_errors=no ; …"; what may fail guards nothing.
            let command = |line: &str| {
                let (command, rest) = line.strip_prefix("ExecStartPre=")?.split_once("argv[]=")?.1.split_once(" ; ")?;
                rest.starts_with("ignore_errors=no").then(|| command.to_owned())
            };
            let start = shown.lines().find_map(|line| line.strip_prefix("Start=")).unwrap_or_default();
            let is_masked = shown.lines().any(|line| line == "LoadState=masked");
            let barred = match start.split_whitespace().next() {
                _ if is_masked => Some("its unit is masked".to_owned()),
                Some("disabled") => Some("its start.conf says disabled".to_owned()),
                _ => None,
            };
            Some(Service {
                barred,
                is_boot_masked: start.ends_with(" all-masked"),
                active: active.to_owned(),
                enabled: enabled == "1",
                starts_at_boot: boot == "1",
                before_start: Some(shown.lines().filter_map(command).collect()),
            })
        }),
        files: parse_files(records),
        jobs: parse_jobs(records),
        lock: records.get("lock"),
        lock_age_seconds: records.text("lock_age").trim().parse().ok(),
        generation: records.text("generation").trim().parse().unwrap_or(0),
        addresses: lines(&records.text("addresses")).iter().filter_map(|text| text.parse().ok()).collect(),
        peers: parse_peers(records),
        instance: records.get("instance").and_then(|text| parse_instance(&text, &records.text("visited"))),
        starts_or_stops: records.text("starts_or_stops") == "1",
        answers: records.text("answers") == "1",
        asked_otherwise: records.get("asked_otherwise").known().map(|why| why.trim().to_owned()),
        libraries: records.get("libraries").map_parsed(|text| Some(lines(text))),
        pooler: records.get("pooler").map_parsed(crate::observe::pooler::parse_pools),
        readiness: crate::observe::readiness::parse_readiness(records),
    }
}

/// Says whether a path can be told in a line, and leads to one place.
fn is_plain_path(path: &str) -> bool {
    path.starts_with('/') && !path.chars().any(char::is_control)
}

/// Returns who the SSH login is, from what the probe ran as and whether it became root.
fn parse_login(user: &str, probe_user: &str) -> Login {
    let root = match (user, probe_user) {
        ("root", _) => RootAccess::Root,
        (_, "root") => RootAccess::Sudo,
        _ => RootAccess::None,
    };
    Login { user: user.to_owned(), root }
}

pub(super) trait MapParsed {
    fn map_parsed<T>(self, parse: impl FnOnce(&str) -> Option<T>) -> Observed<T>;
}

impl MapParsed for Observed<String> {
    fn map_parsed<T>(self, parse: impl FnOnce(&str) -> Option<T>) -> Observed<T> {
        match self {
            Observed::Known(text) => match parse(&text) {
                Some(value) => Observed::Known(value),
                None => Observed::Unreadable(["not understood: ", text.trim()].concat()),
            },
            Observed::Absent => Observed::Absent,
            Observed::Unreadable(why) => Observed::Unreadable(why),
            Observed::NotAsked => Observed::NotAsked,
        }
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn parse_os(records: &Records, asked: Asked) -> Os {
    let kernel = records.text("kernel");
    let (architecture, host_name) = kernel.split_once(' ').unwrap_or((&kernel, ""));
    let trimmed = |name: &str| match records.get(name) {
        Observed::Known(text) => Observed::Known(text.trim().to_owned()),
        other => other,
    };
    // The probe reads its clock first of all and once more at its end. What lies between is its work, by its own clock;
    // the rest is the round trip, which bounds the error.
    let clock = |name: &str| records.text(name).trim().parse::<i64>().ok().map(|nanoseconds| nanoseconds / 1_000_000);
    let server_ms = clock("clock").unwrap_or(0);
    let worked_ms = clock("clock_end").map_or(0, |end| (end - server_ms).min(asked.answered_ms - asked.sent_ms).max(0));
    let answered_ms = asked.answered_ms - worked_ms;
    let (early, late) = (server_ms - answered_ms, server_ms - asked.sent_ms);
    let clock_skew_ms = if early <= 0 && late >= 0 {
        0
    } else if early > 0 {
        early
    } else {
        late
    };
    Os {
        name: records.text("os_name"),
        architecture: architecture.to_owned(),
        host_name: host_name.to_owned(),
        machine_id: trimmed("machine_id"),
        libc: trimmed("libc"),
        systemd: records.text("systemd") == "1",
        clock_skew_ms,
        clock_error_ms: (answered_ms - asked.sent_ms) / 2,
        os_user_exists: records.text("os_user") == "1",
        sudo_as_instance: match records.text("sudo_instance").as_str() {
            "" => None,
            said => Some(said == "1"),
        },
        sudo_refused: records.text("sudo").lines().next().map(|said| said.trim().to_owned()),
    }
}

/// Parses what `postgres --version` prints, such as `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_version(text: &str) -> Option<ServerVersion> {
    let number = text.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some(ServerVersion { major: digits(major)?, minor: digits(minor).unwrap_or(0) })
}

/// What was read as the instance's user, whose word it is: a record in the record, of which only those are believed that are asked
/// for here.
struct Owned(Observed<Result<Records, String>>);

impl Owned {
    fn of(records: &Records) -> Self {
        let parse = |text: String| Observed::Known(Records::parse(text.as_bytes()).map_err(|_| text));
        Self(records.get("as_owner").and_then(parse))
    }

    fn get(&self, name: &str) -> Observed<String> {
        match &self.0 {
            Observed::Known(Ok(records)) => records.get(name),
            Observed::Known(Err(said)) => Observed::Unreadable(collapsed(said)),
            Observed::Absent => Observed::Absent,
            Observed::Unreadable(why) => Observed::Unreadable(why.clone()),
            Observed::NotAsked => Observed::NotAsked,
        }
    }
}

fn collapsed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn parse_data_directory(records: &Records, owned: &Owned) -> Observed<DataDirectory> {
    records.get("data").map_parsed(|text| {
        let mut words = text.split_whitespace();
        let files = records.text("data_files");
        let there = |name: &str| files.split_whitespace().any(|file| file == name);
        // An empty one says nothing, and is there.
        let content = |name: &str| match owned.get(&["data.", name].concat()) {
            _ if !there(name) => Observed::Absent,
            Observed::NotAsked => Observed::Known(String::new()),
            said => said,
        };
        let control = match owned.get("control_error") {
            _ if !there("global/pg_control") => Observed::Absent,
            Observed::Known(why) => Observed::Unreadable(collapsed(&why)),
            _ => owned.get("control").map_parsed(parse_control),
        };
        Some(DataDirectory {
            entries: words.next()?.parse().ok()?,
            owner: words.next()?.to_owned(),
            mode: words.next()?.to_owned(),
            is_mount_point: words.next()? == "1",
            pg_version: content("PG_VERSION").map(|text| text.trim().to_owned()),
            control,
            standby_signal: there("standby.signal"),
            recovery_signal: there("recovery.signal"),
            backup_label: there("backup_label"),
            identity: content("pgstead.identity"),
            bytes: records.get("data_bytes").map_parsed(|text| text.trim().parse().ok()),
            newest_history: records
                .get("newest_history")
                .known()
                .and_then(|text| u32::from_str_radix(text.trim(), 16).ok()),
            tablespaces: records
                .get("data.tablespaces")
                .known()
                .map(|text| text.lines().filter(|path| path.starts_with('/')).map(str::to_owned).collect())
                .unwrap_or_default(),
        })
    })
}

/// Parses what `pg_controldata` prints under `LC_ALL=C`.
pub fn parse_control(text: &str) -> Option<ControlFile> {
    let field = |label: &str| {
        text.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(':')).map(|value| value.trim().to_owned())
    };
    Some(ControlFile {
        system_identifier: field("Database system identifier")?.parse().ok()?,
        state: field("Database cluster state")?.into(),
        timeline: field("Latest checkpoint's TimeLineID")?.parse().ok()?,
        checkpoint: field("Latest checkpoint location")?.parse().ok()?,
        checksum_version: field("Data page checksum version")?.parse().ok()?,
        logs_hints: field("wal_log_hints setting").is_some_and(|value| value == "on"),
        minimum_recovery_end: field("Minimum recovery ending location")
            .and_then(|text| text.parse().ok())
            .filter(|lsn: &Lsn| lsn.0 > 0),
        minimum_recovery_timeline: field("Min recovery ending loc's timeline")
            .and_then(|text| text.parse().ok())
            .filter(|timeline| *timeline > 0),
        segment_bytes: field("Bytes per WAL segment").and_then(|text| text.parse().ok()),
    })
}

fn parse_disks(records: &Records) -> BTreeMap<String, Observed<Disk>> {
    // The path stands last: it may hold any byte, line feeds among them.
    let parse = |value: &Observed<String>| {
        let (line, path) = value.known()?.split_once('\n')?;
        let disk = match line.strip_prefix('!') {
            Some(why) => Observed::Unreadable(why.trim().to_owned()),
            None => Observed::Known(line.to_owned()).map_parsed(parse_disk),
        };
        Some((path.to_owned(), disk))
    };
    let mut disks: BTreeMap<String, Observed<Disk>> =
        records.with_prefix("disk.").filter_map(|(_, value)| parse(value)).collect();
    for path in records.with_prefix("absent.").filter_map(|(_, value)| value.known()) {
        if let Some(Observed::Known(disk)) = disks.get_mut(path) {
            disk.absent = true;
        }
    }
    disks
}

/// Puts what a second look found into what the first one saw.
pub fn add_second_look(seen: &mut ServerObservation, records: &Records) {
    seen.disks.extend(parse_disks(records));
    for (name, peer) in &mut seen.peers {
        peer.dial = parse_dial(records, name);
    }
}

fn parse_dial(records: &Records, peer: &ServerName) -> Observed<Dial> {
    records.get(&["dial.", peer.as_str()].concat()).map_parsed(|text| {
        let mut fields = text.trim().split('|');
        Some(Dial { system_identifier: fields.next()?.parse().ok()?, timeline: fields.next()?.parse().ok()? })
    })
}

fn parse_disk(text: &str) -> Option<Disk> {
    // The mount point may hold spaces; the three numbers behind it do not. Columns are aligned with several spaces.
    let mut rest = text.trim();
    let mut number = || {
        let (before, word) = rest.rsplit_once(char::is_whitespace)?;
        rest = before.trim_end();
        Some(word)
    };
    let (inodes, size, free) = (number()?, number()?, number()?);
    Some(Disk {
        mount: rest.to_owned(),
        free_bytes: free.parse().ok()?,
        total_bytes: size.parse().ok()?,
        free_inodes: inodes.parse().unwrap_or(0),
        absent: false,
    })
}

/// Parses the lines of `ss -Hltnp`.
fn parse_listener(records: &Records) -> Observed<Listener> {
    records.get("listener").and_then(|text| if text.trim().is_empty() { Observed::Absent } else { listener(&text) })
}

fn listener(text: &str) -> Observed<Listener> {
    let process = text.split_once("((\"").and_then(|(_, rest)| rest.split_once('"')).map_or("", |(name, _)| name);
    let pid = text
        .split_once("pid=")
        .and_then(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok());
    Observed::Known(Listener {
        addresses: text.lines().filter_map(|line| line.split_whitespace().nth(3)).map(str::to_owned).collect(),
        process: process.to_owned(),
        pid,
    })
}

/// A job's record: whether its lock is held and its last word, a line feed, and what was written before it began.
fn parse_jobs(records: &Records) -> Vec<Job> {
    let job = |(name, value): (&str, &Observed<String>)| {
        let (head, record) = value.known()?.split_once('\n')?;
        let (alive, word) = head.split_once(' ').unwrap_or((head, ""));
        Job::parse(name, record, alive == "1", word)
    };
    records.with_prefix("job.").filter_map(job).collect()
}

fn parse_files(records: &Records) -> BTreeMap<String, Observed<FileFact>> {
    let mut files = BTreeMap::new();
    for (_, value) in records.with_prefix("nofile.") {
        if let Observed::Known(path) = value {
            files.insert(path.clone(), Observed::Absent);
        }
    }
    for (number, value) in records.with_prefix("file.") {
        let Some((path, facts)) = value.known().and_then(|text| text.split_once('\n')) else { continue };
        let mut words = facts.split_whitespace();
        let fact = match (words.next(), words.next(), words.next()) {
            (Some(owner), Some(mode), Some(sha256)) if sha256.len() == 64 => Observed::Known(FileFact {
                owner: owner.to_owned(),
                mode: mode.to_owned(),
                sha256: sha256.to_owned(),
                content: records.get(&["content.", number].concat()).known().cloned(),
                is_link: records.get(&["link.", number].concat()).known().is_some(),
            }),
            _ => Observed::Unreadable(facts.to_owned()),
        };
        files.insert(path.to_owned(), fact);
    }
    files
}

fn parse_peers(records: &Records) -> BTreeMap<ServerName, Peer> {
    records
        .with_prefix("peer.")
        .filter_map(|(name, value)| {
            let name: ServerName = name.parse().ok()?;
            let text = value.known()?;
            let (source, resolved) = text.split_once('\n').unwrap_or((text, ""));
            let dial = parse_dial(records, &name);
            let resolved: Vec<IpAddr> = lines(resolved).iter().filter_map(|text| text.parse().ok()).collect();
            let routes = records.text(&["routes.", name.as_str()].concat());
            let routes = lines(&routes).iter().filter_map(|line| parse_route(line)).collect();
            let source = source.trim().parse().ok();
            Some((name, Peer { resolved, source, routes, seen_as: Observed::NotAsked, dial }))
        })
        .collect()
}

/// Parses a way: to, gateway or a hyphen, source.
fn parse_route(line: &str) -> Option<Route> {
    let mut words = line.split_whitespace();
    let (to, via, source) = (words.next()?, words.next()?, words.next()?);
    Some(Route { to: to.parse().ok()?, via: via.parse().ok(), source: source.parse().ok()? })
}

/// The JSON that `visited.sql` returns.
#[derive(Deserialize)]
struct Visited {
    database: String,
    roles: BTreeMap<String, bool>,
}

/// Parses the JSON that `instance.sql` returns: an [`Instance`] whose positions lie open, and whose files are hexadecimal digits.
/// Each line of `visited` is what `visited.sql` returns in one database.
fn parse_instance(json: &str, visited: &str) -> Observed<Instance> {
    let parsed = serde_json::from_str::<Value>(json).and_then(|mut value| {
        value["history"] = match value["history"].take() {
            Value::String(digits) => json!({ "known": text(&digits) }),
            _ => json!("absent"),
        };
        let positions = ["current", "receive", "replay", "replayed_commit"];
        value["positions"] = positions.map(|name| (name.to_owned(), value[name].take())).into_iter().collect();
        if let Some(files) = value["included_files"].as_object_mut() {
            files.retain(|_, file| file.is_string());
        }
        let mut instance: Instance = serde_json::from_value(value)?;
        let visited = visited.lines().map(serde_json::from_str::<Visited>);
        instance.visitors = visited.map(|one| one.map(|one| (one.database, one.roles))).collect::<Result<_, _>>()?;
        instance.included_files.values_mut().for_each(|file| *file = text(file));
        for file in [&mut instance.certificate, &mut instance.authorities, &mut instance.health.crl] {
            *file = file.as_deref().map(text);
        }
        Ok(instance)
    });
    parsed.map_or_else(|error| Observed::Unreadable(error.to_string()), Observed::Known)
}

/// Returns a file that came as hexadecimal digits: no server takes bytes for a text that are none in its encoding.
fn text(digits: &str) -> String {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Vec<u8> = digits.as_bytes().chunks(2).filter_map(byte).collect();
    bytes::text(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/tmp` is root's, and everybody may put a PG_VERSION there and lead a data directory to it.
    #[test]
    fn root_is_no_owner_of_an_instance() {
        let layouts = |user: &str| {
            let answer = format!("#layout 5\nplain\n#instance_user {}\n{user}\n#end 2\nok\n", user.len());
            let records = Records::parse(answer.as_bytes()).unwrap();
            let layout: Layout = serde_json::from_value(serde_json::json!({
                "kind": "plain", "bin_directory": "/b", "data_directory": "/d", "config_directory": null, "unit": null,
                "socket_directory": "/s", "os_user": "", "pgstead_directory": "/o"
            }))
            .unwrap();
            parse_server(&records, &[layout], Asked { sent_ms: 0, answered_ms: 0 }).layout
        };
        assert_eq!(layouts("postgres").known().unwrap().os_user, "postgres");
        assert!(layouts("root").unreadable().is_some_and(|why| why.contains("belongs to root")));
    }

    #[test]
    fn real_words_of_df() {
        let disk =
            |text| parse_disk(text).map(|disk| (disk.mount, disk.free_bytes, disk.total_bytes, disk.free_inodes));
        let expected = |mount: &str| Some((mount.to_owned(), 52_428_800, 59_793_408, 16_371));
        assert_eq!(disk("/var/lib/postgresql 52428800 59793408 16371\n"), expected("/var/lib/postgresql"));
        assert_eq!(disk("/var/lib/postgresql  52428800   59793408     16371"), expected("/var/lib/postgresql"));
        assert_eq!(disk("/srv/two  words  52428800 59793408 16371"), expected("/srv/two  words"));
        assert_eq!(disk("/boot/efi 52428800 59793408 -"), Some(("/boot/efi".to_owned(), 52_428_800, 59_793_408, 0)));
        assert_eq!(disk("df: no such file"), None);
    }

    #[test]
    fn real_words_of_pg_controldata() {
        let text = "pg_control version number:            1300\n\
            Database system identifier:           7711181301903716754\n\
            Database cluster state:               shut down in recovery\n\
            Latest checkpoint location:           0/3000148\n\
            Latest checkpoint's REDO location:    0/3000110\n\
            Latest checkpoint's TimeLineID:       1\n\
            Minimum recovery ending location:     0/3008C50\n\
            Min recovery ending loc's timeline:   2\n\
            Bytes per WAL segment:                16777216\n\
            Data page checksum version:           1\n";
        let control = parse_control(text).unwrap();
        assert_eq!(control.minimum_recovery_end, Some(Lsn(0x300_8C50)));
        assert_eq!((control.timeline, control.minimum_recovery_timeline), (1, Some(2)));
        assert_eq!(control.segment_bytes, Some(16 << 20));
        // Outside recovery there is none.
        let primary = text.replace("0/3008C50", "0/0").replace("timeline:   2", "timeline:   0");
        let control = parse_control(&primary).unwrap();
        assert_eq!((control.minimum_recovery_end, control.minimum_recovery_timeline), (None, None));
    }

    #[test]
    fn files_come_as_bytes() {
        assert_eq!(text("4bfc680a"), "K\u{10fffc}h\n");
        assert_eq!(text(""), "");
    }

    #[test]
    fn ways_with_and_without_a_gateway() {
        let route =
            |line: &str| parse_route(line).map(|route| (route.to.to_string(), route.via, route.source.to_string()));
        let direct = route("10.213.0.11 - 10.213.0.12").unwrap();
        assert_eq!(direct, ("10.213.0.11".to_owned(), None, "10.213.0.12".to_owned()));
        let (_, via, source) = route("fd00::11 fe80::1 fd00::12").unwrap();
        assert_eq!((via.map(|ip| ip.to_string()).as_deref(), source.as_str()), (Some("fe80::1"), "fd00::12"));
        assert_eq!(route("10.213.0.11"), None);
    }
}

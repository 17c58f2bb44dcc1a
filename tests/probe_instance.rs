//! What the probe makes of an instance that is not simply there or gone: a real PostgreSQL starts, stops, turns everybody
//! away, lost its socket, was killed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod installed;
mod ports;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use pgstead::model::observed::Observed;
use pgstead::observe::probe;
use pgstead::observe::probe::Wish;
use pgstead::observe::records::Records;
use pgstead::plan::survey::unasked::way_out;

use crate::installed::BIN;
use crate::installed::is_root;
use crate::installed::program;

/// An instance that listens on its socket and on the loopback network.
struct Server {
    dir: tempfile::TempDir,
    port: String,
}

impl Server {
    /// Makes one that does not run, with lines of configuration besides.
    fn new(configuration: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("pgstead-probe-").tempdir_in("/tmp").unwrap();
        if is_root() {
            assert!(Command::new("chown").arg("postgres").arg(dir.path()).status().unwrap().success());
        }
        let free = ports::own();
        let instance = Self { dir, port: free.to_string() };
        let arguments = ["--no-sync", "-A", "trust", "-U", "postgres", "-D"];
        assert!(
            program("initdb").args(arguments).arg(instance.data()).stdout(Stdio::null()).status().unwrap().success()
        );
        let socket = instance.dir.path().display();
        instance.write(
            "postgresql.conf",
            &format!("port = {free}\nunix_socket_directories = '{socket}'\nfsync = off\n{configuration}"),
        );
        instance
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join([".s.PGSQL.", &self.port].concat())
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.data().join(name), text).unwrap();
    }

    /// Makes a standby of another one, which does not run yet.
    fn standby_of(upstream: &Self) -> Self {
        let dir = tempfile::Builder::new().prefix("pgstead-probe-").tempdir_in("/tmp").unwrap();
        if is_root() {
            assert!(Command::new("chown").arg("postgres").arg(dir.path()).status().unwrap().success());
        }
        let free = ports::own();
        let instance = Self { dir, port: free.to_string() };
        let mut copy = program("pg_basebackup");
        copy.args(["-U", "postgres", "-c", "fast", "-R", "-p", &upstream.port, "-h"]).arg(upstream.dir.path());
        assert!(copy.arg("-D").arg(instance.data()).status().unwrap().success());
        let socket = instance.dir.path().display();
        instance.write(
            "postgresql.conf",
            &format!("port = {free}\nunix_socket_directories = '{socket}'\nlisten_addresses = ''\nfsync = off\n"),
        );
        instance
    }

    #[track_caller]
    fn sql(&self, user: &str, text: &str) -> String {
        let mut psql = program("psql");
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", "template1", "-p", &self.port, "-h"]);
        let output = psql.arg(self.dir.path()).args(["-c", text]).output().unwrap();
        assert!(output.status.success(), "{text}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[track_caller]
    fn until(&self, question: &str, answer: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.sql("postgres", question) != answer {
            assert!(Instant::now() < deadline, "{question}");
        }
    }

    fn end(&self, how: &str) {
        let stop = ["-w", "-m", how, "stop"];
        assert!(
            program("pg_ctl").arg("-D").arg(self.data()).args(stop).stdout(Stdio::null()).status().unwrap().success()
        );
    }

    /// Starts it; whether it takes connections is the caller's business.
    fn start(self, wait: &str) -> Self {
        let log = self.dir.path().join("log");
        let mut start = program("pg_ctl");
        start.arg("-D").arg(self.data()).arg("-l").arg(log).args([wait, "start"]).stdout(Stdio::null());
        let status = start.status();
        assert!(status.unwrap().success());
        self
    }

    fn postmaster(&self) -> Option<String> {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        file.lines().next().map(str::to_owned)
    }

    /// Looks once.
    fn look(&self) -> Seen {
        self.look_into(&[])
    }

    /// The same, into databases that roles of applications visit, too.
    fn look_into(&self, visited: &[&str]) -> Seen {
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        let (data, socket, own) = (path(self.data()), path(self.dir.path().into()), path(self.dir.path().join("own")));
        // As somebody left them in /etc/environment.
        let foreign = [("PGSERVICE", "elsewhere"), ("PGHOSTADDR", "192.0.2.1"), ("PGTARGETSESSIONATTRS", "read-write")];
        let options = [("PGOPTIONS", "-c search_path=nowhere"), ("PGREQUIREAUTH", "gss"), ("PGSSLMODE", "verify-full")];
        let mut probe = Command::new("sh")
            .envs(foreign)
            .envs(options)
            .args(["-s", "--", "version", "15", "port", &self.port])
            .args(visited.iter().flat_map(|database| ["visited", database]))
            .args(["layout", "plain", BIN, &data, "", "", &socket, "", &own])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        probe.stdin.take().unwrap().write_all(probe::script(Wish::default()).as_bytes()).unwrap();
        let records = Records::parse(&probe.wait_with_output().unwrap().stdout).unwrap();
        Seen {
            instance: records.get("instance"),
            visited: records.text("visited"),
            starts_or_stops: records.text("starts_or_stops") == "1",
            is_listening: !records.text("listener").is_empty(),
            answers: records.text("answers") == "1",
            asked_otherwise: records.get("asked_otherwise").known().cloned(),
        }
    }

    /// Looks until what is seen is what was waited for; the kernel and PostgreSQL take a moment.
    fn look_until(&self, mut is_it: impl FnMut(&Seen) -> bool) -> Seen {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let seen = self.look();
            if is_it(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "{seen:?}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.postmaster().is_some() {
            let stop = ["-m", "immediate", "stop"];
            let _ = program("pg_ctl").arg("-D").arg(self.data()).args(stop).stdout(Stdio::null()).status();
        }
    }
}

/// What one look saw.
#[derive(Debug)]
struct Seen {
    instance: Observed<String>,
    visited: String,
    starts_or_stops: bool,
    is_listening: bool,
    answers: bool,
    asked_otherwise: Option<String>,
}

impl Seen {
    #[track_caller]
    fn is_silent_because(&self, why: &str) {
        assert!(self.instance.unreadable().is_some_and(|said| said.contains(why)), "{self:?}");
    }
}

#[test]
fn one_that_answers_neither_starts_nor_stops() {
    let seen = Server::new("").start("--wait").look();
    assert!(seen.instance.known().is_some() && seen.is_listening && !seen.starts_or_stops, "{seen:?}");
}

/// What a server's configuration says to every client is not said to us: the answer is the same, and so is that of a standby,
/// where a serializable transaction fails.
#[test]
fn one_whose_defaults_are_odd_answers_all_the_same() {
    const ODD: &str = "default_transaction_read_only = on\ndefault_transaction_isolation = serializable\n\
        default_transaction_deferrable = on\nstatement_timeout = 50\nidle_session_timeout = 50\nlock_timeout = 1\nsynchronous_commit = remote_write\n\
        client_min_messages = debug5\nsearch_path = nowhere\nDateStyle = 'Postgres, DMY'\nIntervalStyle = sql_standard\n\
        bytea_output = escape\nstandard_conforming_strings = off\nrow_security = off\nlog_statement = all\n\
        client_encoding = LATIN1\nhot_standby = on\n";
    for standby in [false, true] {
        let instance = Server::new(ODD);
        if standby {
            instance.write("standby.signal", "");
        }
        let instance = instance.start("--wait");
        let seen = instance.look();
        let answer: serde_json::Value =
            serde_json::from_str(seen.instance.known().unwrap_or_else(|| panic!("{seen:?}"))).unwrap();
        assert_eq!(answer["in_recovery"], standby);
        // What is told is what the server has set for everybody, not what this session has.
        for (name, value) in
            [("statement_timeout", "50"), ("synchronous_commit", "remote_write"), ("DateStyle", "Postgres, DMY")]
        {
            assert_eq!(answer["settings"][name]["setting"], value, "{answer:#}");
            assert_eq!(answer["settings"][name]["source"], "configuration file");
        }
        assert_eq!(answer["databases"].as_array().unwrap().len(), 2);
        let log = std::fs::read_to_string(instance.dir.path().join("log")).unwrap();
        assert!(!log.contains("json_build_object"), "the log has what was asked:\n{log}");
    }
}

/// A value is served, although the server writes it otherwise than the file does, or not at all.
#[test]
fn a_value_that_is_written_otherwise_is_served() {
    const WRITTEN: &str = "log_timezone = 'utc'\nrecovery_prefetch = true\narchive_command = 'cp %p /nowhere/%f'\n\
        log_rotation_age = '1 d'\ncheckpoint_timeout = 300s\nautovacuum_naptime = '1min'\nlog_checkpoints = ye\n\
        wal_sync_method = FSYNC\nssl_min_protocol_version = 'tlsv1.2'\nsome_extension.place = 'X'\n";
    let instance = Server::new(WRITTEN).start("--wait");
    let unserved = |instance: &Server| {
        let seen = instance.look();
        let answer: serde_json::Value = serde_json::from_str(seen.instance.known().unwrap()).unwrap();
        answer["health"]["unserved"].clone()
    };
    assert_eq!(unserved(&instance), serde_json::json!([]));
    // Another one is not.
    let conf = instance.data().join("postgresql.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    let other = text.replace("'utc'", "'Europe/Vienna'").replace("recovery_prefetch = true", "recovery_prefetch = no");
    std::fs::write(&conf, other.replace("log_checkpoints = ye", "log_checkpoints = f")).unwrap();
    assert_eq!(unserved(&instance), serde_json::json!(["log_checkpoints", "log_timezone", "recovery_prefetch"]));
}

#[test]
fn one_that_does_not_run_is_absent() {
    let seen = Server::new("").look();
    assert!(seen.instance.is_absent() && !seen.is_listening && !seen.starts_or_stops, "{seen:?}");
}

/// As when it has just begun to listen, or is about to end: its port is taken, and by nobody else.
#[test]
fn one_whose_socket_is_not_there_is_not_taken_for_a_stranger() {
    let instance = Server::new("").start("--wait");
    std::fs::remove_file(instance.socket()).unwrap();
    let seen = instance.look();
    seen.is_silent_because(&["process ", &instance.postmaster().unwrap(), " works in "].concat());
    assert!(seen.is_listening && seen.starts_or_stops, "{seen:?}");
}

/// A standby that cannot be read from turns everybody away, as one does that starts.
#[test]
fn one_that_turns_everybody_away_starts_or_stops() {
    let instance = Server::new("hot_standby = off\n");
    instance.write("standby.signal", "");
    // It listens on the network before its socket is there.
    let is_there = |seen: &Seen| !seen.instance.unreadable().is_none_or(|said| said.contains("works in"));
    let seen = instance.start("--no-wait").look_until(|seen| seen.is_listening && is_there(seen));
    seen.is_silent_because("FATAL: the database system is ");
    assert!(seen.starts_or_stops, "{seen:?}");
}

/// Whoever may not log in learns nothing by asking again.
#[test]
fn one_that_refuses_this_user_does_not_start() {
    let instance = Server::new("");
    instance.write("pg_hba.conf", "local all all reject\n");
    let seen = instance.start("--wait").look();
    seen.is_silent_because("pg_hba.conf rejects connection");
    assert!(seen.is_listening && !seen.starts_or_stops && seen.answers, "{seen:?}");
}

/// Up to version 16: every role that logs in gets the database's name behind its own.
#[test]
fn one_that_makes_other_roles_of_all_is_named() {
    let instance = Server::new("db_user_namespace = on\n").start("--wait");
    let seen = instance.look();
    let said = seen.instance.unreadable().unwrap_or_else(|| panic!("{seen:?}"));
    assert!(seen.answers && way_out(said).contains("db_user_namespace = off"), "{seen:?}");
}

/// All connections are in use, those of superusers too: whoever says so runs.
#[test]
fn one_that_has_no_connection_left_answers() {
    let instance = Server::new("max_connections = 2\nsuperuser_reserved_connections = 1\n").start("--wait");
    let hold = || {
        let mut psql = program("psql");
        psql.args(["-XAtq", "-U", "postgres", "-d", "template1", "-p", &instance.port, "-h"]).arg(instance.dir.path());
        psql.args(["-c", "SELECT pg_sleep(600)"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut clients = [hold(), hold()];
    let seen = instance.look_until(|seen| {
        // Whoever came when a look had taken its place was turned away.
        for client in &mut clients {
            if client.try_wait().unwrap().is_some() {
                *client = hold();
            }
        }
        seen.instance.known().is_none()
    });
    seen.is_silent_because("too many clients already");
    assert!(seen.answers && !seen.starts_or_stops, "{seen:?}");
    instance.end("immediate");
    clients.iter_mut().for_each(|client| drop(client.wait()));
}

#[test]
fn one_without_the_usual_database_is_asked_in_another() {
    let instance = Server::new("").start("--wait");
    for (what, why) in [
        ("ALTER DATABASE postgres ALLOW_CONNECTIONS false", "not currently accepting connections"),
        ("ALTER DATABASE postgres RENAME TO other", "database \"postgres\" does not exist"),
    ] {
        instance.sql("postgres", what);
        let seen = instance.look();
        assert!(seen.instance.known().is_some(), "{seen:?}");
        assert!(seen.asked_otherwise.as_deref().is_some_and(|said| said.contains(why)), "{seen:?}");
    }
    instance.sql("postgres", "ALTER DATABASE other RENAME TO postgres; ALTER DATABASE postgres ALLOW_CONNECTIONS true");
    assert_eq!(instance.look().asked_otherwise, None);
}

/// In one byte per letter, as editors wrote it once: no server of UTF-8 takes that for a text.
#[test]
fn files_of_another_encoding_are_read() {
    let instance = Server::new("include_dir = 'conf.d'\n");
    let in_latin_1 = |name: &str, text: &str, how: &[u8]| {
        std::fs::write(instance.data().join(name), [text.as_bytes(), how, b"\n"].concat()).unwrap();
    };
    std::fs::create_dir(instance.data().join("conf.d")).unwrap();
    in_latin_1("conf.d/local.conf", "work_mem = 8MB # f", b"\xfcr alle");
    in_latin_1("pg_hba.conf", "local all all trust # f", b"\xfcr alle");
    in_latin_1("pg_ident.conf", "# f", b"\xfcr alle");
    let instance = instance.start("--wait");
    let seen = instance.look();
    let instance = seen.instance.known().map(|text| serde_json::from_str::<serde_json::Value>(text).unwrap());
    let instance = instance.unwrap_or_else(|| panic!("{seen:?}"));
    let digits = instance["included_files"].as_object().unwrap().values().next().unwrap().as_str().unwrap();
    assert!(digits.contains("66fc72"), "{digits}");
}

/// After a switchover a standby that receives nothing has replayed a timeline that its control file does not know of yet.
#[test]
fn a_standby_that_receives_nothing_says_which_timeline_it_replays() {
    let former = Server::new("wal_keep_size = 64MB\n").start("--wait");
    let primary = Server::standby_of(&former).start("--wait");
    let standby = Server::standby_of(&former).start("--wait");
    former.end("fast");
    primary.sql("postgres", "SELECT pg_promote()");
    let follow = format!("host={} port={}", primary.dir.path().display(), primary.port);
    standby.sql("postgres", &format!("ALTER SYSTEM SET primary_conninfo = '{follow} user=postgres'"));
    standby.sql("postgres", "SELECT pg_reload_conf()");
    primary.sql("postgres", "CREATE TABLE of_timeline_2 ()");
    standby.until("SELECT to_regclass('of_timeline_2') IS NOT NULL", "t");
    primary.end("immediate");
    standby.until("SELECT count(*) FROM pg_stat_wal_receiver", "0");
    // What the control file says is why it is asked.
    let known =
        "SELECT greatest(timeline_id, min_recovery_end_timeline) FROM pg_control_checkpoint(), pg_control_recovery()";
    assert_eq!(standby.sql("postgres", known), "1");
    let seen = standby.look();
    let instance: serde_json::Value = serde_json::from_str(seen.instance.known().unwrap()).unwrap();
    assert_eq!((&instance["timeline"], &instance["replayed_timeline"]), (&2.into(), &2.into()), "{instance:#}");
    assert!(instance["history"].as_str().is_some_and(|digits| digits.starts_with("31")), "{instance:#}");
}

/// A killed postmaster leaves its file and its socket behind.
#[test]
fn one_that_was_killed_is_absent() {
    let instance = Server::new("").start("--wait");
    let pid = instance.postmaster().unwrap();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    let seen = instance.look_until(|seen| !seen.is_listening);
    assert!(instance.socket().exists());
    assert!(seen.instance.is_absent() && !seen.starts_or_stops, "{seen:?}");
}

/// Loopback, one address range for one database, and the socket are what a test or an operator may want.
/// A file that was installed in the very second of a reload, and behind it, is not in force; one from before it is.
#[test]
fn a_file_that_changed_right_behind_a_reload_waits_for_the_next() {
    let server = Server::new("listen_addresses = ''\n").start("-w");
    let path = server.data().join("pg_hba.conf");
    let stale = |offset_us: i64| {
        let at = format!("SELECT extract(epoch FROM pg_conf_load_time()) + {offset_us} / 1000000.0");
        let time = ["@", &server.sql("postgres", &at)].concat();
        assert!(Command::new("touch").arg("-d").arg(time).arg(&path).status().unwrap().success());
        let instance = server.look().instance;
        let instance: serde_json::Value = serde_json::from_str(instance.known().unwrap()).unwrap();
        instance["stale_files"].clone()
    };
    assert_eq!(stale(1), serde_json::json!([path]));
    assert_eq!(stale(-1), serde_json::json!([]));
}

#[test]
fn records_that_let_anybody_in_from_the_network_are_seen() {
    let server = Server::new("");
    let records = "local all all trust\nhost all all 127.0.0.1/32 trust\nhost all all ::1/128 trust\n\
        host app all 10.0.0.0/8 trust\nhost all all 10.0.0.0/8 scram-sha-256\nhost all all samehost trust\n";
    let open = "hostssl all,app bob 10.0.0.0/8 trust\nhost replication all samenet trust\nhost all all all trust\n";
    server.write("pg_hba.conf", &[records, open].concat());
    let seen = server.start("--wait").look();
    let instance: serde_json::Value = serde_json::from_str(seen.instance.known().unwrap()).unwrap();
    let trusted = instance["health"]["trusted"].as_array().unwrap();
    let of = |record: &serde_json::Value| {
        let word = |key: &str| record[key].as_str().unwrap().to_owned();
        (record["line"].as_u64().unwrap(), word("database"), word("user"), word("address"))
    };
    let wanted = [(7, "all,app", "bob", "10.0.0.0"), (8, "replication", "all", "samenet"), (9, "all", "all", "all")];
    let wanted = wanted.map(|(line, database, user, address)| (line, database.into(), user.into(), address.into()));
    assert_eq!(trusted.iter().map(of).collect::<Vec<_>>(), wanted);
}

/// What a server wrote from a position on, as its WAL tells: the number of transactions, or why nobody can tell.
fn written(server: &Server, start: &str) -> Result<String, String> {
    let user = if is_root() { "postgres".to_owned() } else { std::env::var("USER").unwrap() };
    let output = Command::new("sh")
        .args(["-c", &pgstead::observe::lost::SCRIPT, "pgstead-probe", "lost", &user, &format!("{BIN}/pg_waldump")])
        .arg(server.data())
        .args(["1", start])
        .output()
        .unwrap();
    let records = Records::parse(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    match records.get("lost.transactions") {
        Observed::Known(text) => Ok(text.trim().to_owned()),
        other => Err(other.unreadable().unwrap_or_default().to_owned()),
    }
}

/// Writes rows in transactions of their own, and returns the position before them.
fn write_rows(server: &Server, count: u32) -> String {
    let before = server.sql("postgres", "SELECT pg_current_wal_insert_lsn()");
    let row = "INSERT INTO rows SELECT repeat('x', 500); COMMIT AND CHAIN;";
    server.sql("postgres", &format!("BEGIN; {} COMMIT", row.repeat(count as usize)));
    before
}

/// Spoils the record at a place.
fn spoil(server: &Server, (file, offset): &(String, usize)) {
    let path = server.data().join("pg_wal").join(file);
    let mut wal = std::fs::read(&path).unwrap();
    wal[*offset..offset + 16].fill(0xFF);
    std::fs::write(&path, wal).unwrap();
}

/// The file of a position, and where in it that is.
fn place(server: &Server, lsn: &str) -> (String, usize) {
    let at = format!("SELECT pg_walfile_name('{lsn}'), ('{lsn}'::pg_lsn - '0/0') % 16777216");
    let said = server.sql("postgres", &at);
    let (file, offset) = said.split_once('|').unwrap();
    (file.to_owned(), offset.parse().unwrap())
}

/// In the last page of all there is no later page that could tell.
#[test]
fn damage_in_the_last_page_of_the_wal_is_no_end_of_it() {
    let server = Server::new("autovacuum = off\n").start("--wait");
    server.sql("postgres", "CREATE TABLE rows (text text)");
    write_rows(&server, 1);
    server.sql("postgres", "SELECT pg_switch_wal()");
    server.sql("postgres", "CHECKPOINT");
    write_rows(&server, 1);
    let damaged = write_rows(&server, 3);
    let place = place(&server, &damaged);
    server.end("immediate");
    assert!(place.1 < 8192 - 3000, "{place:?}");
    assert!(written(&server, &damaged).is_ok());
    spoil(&server, &place);
    let why = written(&server, &damaged).unwrap_err();
    assert!(why.contains("there is WAL at "), "{why}");
}

/// The end of a log, damage in it, and a log that does not come that far look the same to pg_waldump.
#[test]
fn the_end_of_the_wal_is_told_from_damage_and_from_an_earlier_moment() {
    let server = Server::new("autovacuum = off\n").start("--wait");
    server.sql("postgres", "CREATE TABLE rows (text text); CHECKPOINT");
    write_rows(&server, 5);
    let before = write_rows(&server, 100);
    let damaged = write_rows(&server, 100);
    let end = server.sql("postgres", "SELECT pg_current_wal_insert_lsn()");
    let later = server.sql("postgres", &format!("SELECT '{end}'::pg_lsn + 8192 * 40"));
    let place = place(&server, &damaged);
    server.end("immediate");

    // Segments that were only made ready, and which a directory may list first, hold nothing at all.
    for number in 0..64 {
        let path = server.data().join(format!("pg_wal/0000000100000000000000{:02X}", 0xA0 + number));
        std::fs::File::create_new(path).unwrap().set_len(16 << 20).unwrap();
    }
    assert_eq!(written(&server, &end), Ok("0".to_owned()));
    let n_written: u32 = written(&server, &before).unwrap().parse().unwrap();
    assert!((200..=204).contains(&n_written), "{n_written}");
    let n_written: u32 = written(&server, &damaged).unwrap().parse().unwrap();
    assert!((100..=102).contains(&n_written), "{n_written}");
    // A successor that has more than this log.
    assert!(written(&server, &later).unwrap_err().starts_with("it does not reach "));

    spoil(&server, &place);
    for start in [&damaged, &before] {
        let why = written(&server, start).unwrap_err();
        assert!(why.contains("there is WAL at ") && why.contains("damaged"), "{start}: {why}");
    }
}

/// Rights stand in each database; what somebody else gave, or what a former owner makes, is none of an application's.
#[test]
fn who_may_do_what_in_a_database_is_read_there() {
    const ODD: &str = "a=b 'x' \"$(c)\" \\! %s";
    let server = Server::new("").start("-w");
    let quoted = ODD.replace('"', "\"\"");
    for sql in
        ["CREATE ROLE app", "CREATE ROLE former", "CREATE ROLE clerk", "CREATE ROLE \"re'port\"", "CREATE ROLE other"]
    {
        server.sql("postgres", sql);
    }
    server.sql("postgres", "GRANT pg_read_server_files TO other; GRANT other TO clerk");
    server.sql("postgres", &format!("CREATE DATABASE \"{quoted}\" OWNER app"));
    server.sql("postgres", "CREATE DATABASE closed OWNER app ALLOW_CONNECTIONS false");
    server.sql("postgres", &format!("GRANT CONNECT, TEMPORARY ON DATABASE \"{quoted}\" TO clerk, \"re'port\""));
    let given = "ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA public GRANT SELECT, INSERT ON TABLES TO clerk, other; \
        ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA public GRANT SELECT ON TABLES TO \"re'port\"; \
        ALTER DEFAULT PRIVILEGES FOR ROLE former IN SCHEMA public GRANT SELECT, INSERT ON TABLES TO \"re'port\"";
    let mut psql = program("psql");
    psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-p", &server.port, "-h"]).arg(server.dir.path());
    assert!(psql.env("PGDATABASE", ODD).args(["-c", given]).status().unwrap().success());

    let seen = server.look_into(&[ODD, "closed", "not there", "template1"]);
    let lines: Vec<serde_json::Value> = seen.visited.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let wanted = [
        serde_json::json!({ "database": ODD, "roles": { "clerk": true, "re'port": false } }),
        serde_json::json!({ "database": "template1", "roles": {} }),
    ];
    assert_eq!(lines, wanted, "\"other\" may not connect by a right of its own");
    let instance: serde_json::Value = serde_json::from_str(seen.instance.known().unwrap()).unwrap();
    assert_eq!(instance["owners"]["closed"], "app");
    assert!(!instance["databases"].as_array().unwrap().iter().any(|open| open == "closed"));
    let powers = |role: &str| instance["roles"][role]["powers"].clone();
    assert_eq!(powers("clerk"), serde_json::json!(["pg_read_server_files"]), "by way of another");
    assert_eq!(powers("app"), serde_json::json!([]));
    assert_eq!(server.look().visited, "");
}

//! What the probe makes of an instance that is not simply there or gone: a real PostgreSQL starts, stops, turns everybody
//! away, lost its socket, was killed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod installed;

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
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
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
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        let (data, socket, own) = (path(self.data()), path(self.dir.path().into()), path(self.dir.path().join("own")));
        // As somebody left them in /etc/environment.
        let foreign = [("PGSERVICE", "elsewhere"), ("PGHOSTADDR", "192.0.2.1"), ("PGTARGETSESSIONATTRS", "read-write")];
        let options = [("PGOPTIONS", "-c search_path=nowhere"), ("PGREQUIREAUTH", "gss"), ("PGSSLMODE", "verify-full")];
        let mut probe = Command::new("sh")
            .envs(foreign)
            .envs(options)
            .args(["-s", "--", "version", "15", "port", &self.port])
            .args(["layout", "plain", BIN, &data, "", "", &socket, "", &own])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        probe.stdin.take().unwrap().write_all(probe::script(Wish::default()).as_bytes()).unwrap();
        let records = Records::parse(&probe.wait_with_output().unwrap().stdout).unwrap();
        Seen {
            instance: records.get("instance"),
            starts_or_stops: records.text("starts_or_stops") == "1",
            is_listening: !records.text("listener").is_empty(),
        }
    }

    /// Looks until what is seen is what was waited for; the kernel and PostgreSQL take a moment.
    fn look_until(&self, is_it: impl Fn(&Seen) -> bool) -> Seen {
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
    starts_or_stops: bool,
    is_listening: bool,
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
    let seen = instance.start("--no-wait").look_until(|seen| seen.is_listening);
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
    assert!(seen.is_listening && !seen.starts_or_stops, "{seen:?}");
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

//! What the start guard makes of a primary's own WAL: one that crashed has all that its standby has, and starts; one that was
//! put back to an older state has not. A real primary and a real standby, past SSH and past pgstead.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod installed;
mod ports;

use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use pgstead::plan::scripts::START_GUARD;

use crate::installed::BIN;
use crate::installed::is_root;
use crate::installed::program;

/// Segments are small, so that records are longer than a segment at times, and segments end often.
const INITDB: &[&str] = &["--no-sync", "--wal-segsize=1", "-A", "trust", "-U", "postgres", "-D"];
/// Without waiting WAL is sent by whole pages, so that it ends in the middle of a record.
const CONFIGURATION: &str = "synchronous_commit = off\nmax_wal_size = '64MB'\nwal_retrieve_retry_interval = '200ms'\nlisten_addresses = '127.0.0.1'\n";
const WRITES: &str = "SELECT pg_logical_emit_message(true, 'test', repeat('x', (random() * random() * 3000000)::int))";
const STREAMS: &str = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";

/// A primary `a` with a standby `b`.
struct Pair {
    dir: tempfile::TempDir,
    ports: [u16; 2],
}

impl Pair {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("pgstead-guard-").tempdir_in("/tmp").unwrap();
        if is_root() {
            assert!(Command::new("chown").arg("postgres").arg(dir.path()).status().unwrap().success());
        }
        let pair = Self { dir, ports: [ports::own(), ports::own()] };
        let done = |command: &mut Command| assert!(command.stdout(Stdio::null()).status().unwrap().success());
        done(program("initdb").args(INITDB).arg(pair.path("a")));
        let socket = pair.dir.path().display();
        pair.write("a/postgresql.conf", &format!("{CONFIGURATION}unix_socket_directories = '{socket}'\n"));
        pair.start("a");
        let from = format!("host=127.0.0.1 port={} user=postgres", pair.ports[0]);
        done(
            program("pg_basebackup")
                .args(["-R", "-X", "stream", "-C", "-S", "b", "-d", &from, "-D"])
                .arg(pair.path("b")),
        );
        pair.start("b");
        let user = if is_root() { "postgres".to_owned() } else { std::env::var("USER").unwrap() };
        let peer = format!("peer b host=127.0.0.1 port={} user=postgres replication=true", pair.ports[1]);
        pair.write("own/peers", &format!("psql {BIN}/psql\nuser {user}\n{peer}\nend 1\n"));
        pair.write("own/role", "primary\n");
        pair.write("a/pgstead.identity", "topology lab\nserver a\n");
        pair.streams();
        pair
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    fn pg_ctl(&self, name: &str, verb: &[&str]) -> bool {
        let mut command = program("pg_ctl");
        command.args(["-s", "-w", "-D"]).arg(self.path(name)).args(verb);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    /// Starts one; what a killed one left of shared memory may be in the way for a moment.
    fn start(&self, name: &str) {
        let log = self.path(&["log", name].concat());
        let port = format!("-p {}", self.ports[usize::from(name == "b")]);
        let until = Instant::now() + Duration::from_secs(30);
        while !self.pg_ctl(name, &["-l", log.to_str().unwrap(), "-o", &port, "start"]) {
            assert!(Instant::now() < until, "{}", std::fs::read_to_string(&log).unwrap());
        }
    }

    fn psql(&self, name: &str) -> Command {
        let mut psql = program("psql");
        let port = self.ports[usize::from(name == "b")].to_string();
        psql.args(["-XAtq", "-h", "127.0.0.1", "-U", "postgres", "-p", &port, "-d", "postgres"]);
        psql
    }

    fn sql(&self, name: &str, sql: &str) -> String {
        let output = self.psql(name).args(["-c", sql]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[track_caller]
    fn eventually(&self, name: &str, sql: &str, wanted: &str) {
        let until = Instant::now() + Duration::from_secs(30);
        let mut last = String::new();
        while last != wanted {
            assert!(Instant::now() < until, "{name}: {sql}: {last}");
            last = self.sql(name, sql);
        }
    }

    #[track_caller]
    fn streams(&self) {
        self.eventually("a", STREAMS, "1");
    }

    fn position(&self, name: &str) -> String {
        let sql = if name == "a" { "pg_current_wal_flush_lsn()" } else { "pg_last_wal_receive_lsn()" };
        self.sql(name, &format!("SELECT {sql} - '0/0'"))
    }

    /// Somebody who writes until the connection is lost.
    fn writer(&self) -> Child {
        let watched = format!("{WRITES} \\watch 0.001\n");
        self.write("writes.sql", &watched);
        let mut psql = self.psql("a");
        psql.arg("-f").arg(self.path("writes.sql")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// All its processes end at once, as by a power cut; what was written stays.
    fn kill(&self, name: &str) {
        let file = std::fs::read_to_string(self.path(name).join("postmaster.pid")).unwrap();
        let postmaster = file.lines().next().unwrap().to_owned();
        let kill = |signal: &str, ids: &[&str]| Command::new("kill").args(["-s", signal, "--"]).args(ids).status();
        // It forks nobody meanwhile.
        assert!(kill("STOP", &[&postmaster]).unwrap().success());
        let children = std::fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap();
        let ids: Vec<&str> = children.split_whitespace().chain([postmaster.as_str()]).collect();
        kill("KILL", &ids).unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while std::fs::read_to_string(format!("/proc/{postmaster}/cmdline")).is_ok_and(|line| !line.is_empty()) {
            assert!(Instant::now() < until, "{postmaster} is still there");
        }
        std::fs::remove_file(self.path(name).join("postmaster.pid")).unwrap();
    }

    fn guard(&self) -> (bool, String) {
        let mut guard = Command::new("sh");
        guard
            .args(["-c", START_GUARD, "start-guard"])
            .arg(self.path("a"))
            .arg(self.path("own/role"))
            .args(["lab", "a"]);
        let output = guard.output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    }

    fn copy(&self, from: &str, to: &str) {
        assert!(Command::new("cp").arg("-a").args([self.path(from), self.path(to)]).status().unwrap().success());
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in ["a", "b"] {
            self.pg_ctl(name, &["-m", "immediate", "stop"]);
        }
    }
}

/// Its standby has WAL from behind the checkpoint that its control file names, up to the middle of a record: and so has it.
#[test]
fn a_primary_that_crashed_under_load_has_what_its_standby_has() {
    let pair = Pair::new();
    let mut behind_a_checkpoint = 0;
    for round in 0..8 {
        let mut writers = [pair.writer(), pair.writer()];
        let (from, begun) = (pair.position("b"), Instant::now());
        // A crash at no chosen moment: another one in each round.
        while pair.position("b") == from || begun.elapsed() < Duration::from_millis(97 * (round % 5)) {
            assert!(begun.elapsed() < Duration::from_secs(30), "nothing arrives");
        }
        if round % 4 == 3 {
            pair.sql("a", "SELECT pg_switch_wal()");
        }
        pair.kill("a");
        writers.iter_mut().for_each(|writer| drop(writer.wait()));
        let control = program("pg_controldata").arg(pair.path("a")).output().unwrap();
        let control = String::from_utf8(control.stdout).unwrap();
        let checkpoint = control.lines().find_map(|line| line.strip_prefix("Latest checkpoint location:")).unwrap();
        let received = pair.sql("b", "SELECT pg_last_wal_receive_lsn()");
        let is_behind = format!("SELECT '{}'::pg_lsn < '{received}'", checkpoint.trim());
        behind_a_checkpoint += usize::from(pair.sql("b", &is_behind) == "t");
        // Segments that were only made ready, and which a directory may list first, hold nothing at all.
        let ready = |number: u32| pair.path(&format!("a/pg_wal/00000001000000FF000000{number:02X}"));
        (0..64).for_each(|number| std::fs::File::create_new(ready(number)).unwrap().set_len(1 << 20).unwrap());
        let (starts, said) = pair.guard();
        assert!(starts, "round {round}, received {received}, checkpoint {}: {said}", checkpoint.trim());
        (0..64).for_each(|number| std::fs::remove_file(ready(number)).unwrap());
        pair.start("a");
        pair.streams();
    }
    assert!(behind_a_checkpoint > 4, "{behind_a_checkpoint}");
}

/// A snapshot of a primary that was stopped, and one of a primary that ran: both lack what it has sent since.
#[test]
fn a_primary_that_was_put_back_to_an_older_state_does_not_start() {
    let pair = Pair::new();
    let arrives = || {
        pair.sql("a", "CREATE TABLE IF NOT EXISTS t (n int)");
        pair.sql("a", "INSERT INTO t VALUES (1)");
        let written = pair.sql("a", "SELECT count(*) FROM t");
        pair.eventually("b", "SELECT count(*) FROM t", &written);
    };
    arrives();
    assert!(pair.pg_ctl("a", &["-m", "fast", "stop"]));
    pair.copy("a", "stopped");
    // Nothing was written since: this is no older state.
    assert_eq!(pair.guard(), (true, String::new()));
    pair.start("a");
    pair.streams();
    arrives();
    pair.kill("a");
    pair.copy("a", "crashed");
    assert_eq!(pair.guard(), (true, String::new()));
    pair.start("a");
    pair.streams();
    arrives();
    assert!(pair.pg_ctl("a", &["-m", "fast", "stop"]));
    for snapshot in ["stopped", "crashed"] {
        std::fs::rename(pair.path("a"), pair.path("newest")).unwrap();
        std::fs::rename(pair.path(snapshot), pair.path("a")).unwrap();
        let (starts, said) = pair.guard();
        assert!(!starts && said.contains("it was put back to an older state"), "{snapshot}: {said}");
        std::fs::rename(pair.path("a"), pair.path(snapshot)).unwrap();
        std::fs::rename(pair.path("newest"), pair.path("a")).unwrap();
    }
    assert_eq!(pair.guard(), (true, String::new()));
}

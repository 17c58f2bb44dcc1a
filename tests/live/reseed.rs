//! A failed server comes back, by the cheapest safe way, and nothing that it held is gone: on real hosts.
//!
//! Every outcome is read on the hosts: each row on both sides, every index with pg_amcheck, every page with pg_checksums.

use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Release;
use serde_json::Value;
use serde_json::json;

use crate::refusals::refused;
use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::until;

/// How long a server may take to be read as it should be.
const SOON: Duration = Duration::from_secs(20);

/// A topology whose servers break.
struct Ward {
    lab: Scenario,
    major: u32,
}

impl Ward {
    /// Boots the servers and fills the primary with rows that are told apart.
    fn open(release: Release, names: &[&str]) -> Self {
        Self::of(Scenario::boot(release, names), release)
    }

    fn of(lab: Scenario, release: Release) -> Self {
        lab.bootstrap();
        lab.sql("a", "CREATE EXTENSION amcheck");
        lab.sql(
            "a",
            "CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 8) AS text FROM generate_series(1, 20000) i",
        );
        lab.sql("a", "CREATE UNIQUE INDEX ON t (id); CREATE INDEX ON t (text)");
        Self { lab, major: release.postgres_major() }
    }

    fn data(&self) -> String {
        format!("/var/lib/postgresql/{}/main", self.major)
    }

    fn unit(&self) -> String {
        format!("postgresql@{}-main.service", self.major)
    }

    fn program(&self, name: &str) -> String {
        format!("/usr/lib/postgresql/{}/bin/{name}", self.major)
    }

    fn systemctl(&self, host: &str, verb: &str) {
        self.lab.run(host, &["systemctl", verb, &self.unit()]);
    }

    fn write(&self, host: &str, from: u32, to: u32) {
        let sql = format!("INSERT INTO t SELECT i, repeat(md5(i::text), 8) FROM generate_series({from}, {to}) i");
        self.lab.sql(host, &sql);
    }

    /// Runs `reseed` and demands success by a method.
    #[track_caller]
    fn reseed(&self, server: &str, more: &[&str], method: &str) -> Ran {
        let ran = self.lab.pgstead(&[&["reseed", server, "--yes", "--format", "json"], more].concat()).expect(0);
        assert_eq!(ran.json()["method"], method, "{ran}");
        ran
    }

    /// Demands that a server streams, has every row of its primary, and that neither an index nor a page of it is broken.
    #[track_caller]
    fn is_whole(&self, primary: &str, server: &str) {
        const ROWS: &str = "SELECT count(*) || ' ' || md5(string_agg(id || text, ',' ORDER BY id)) FROM t";
        self.lab.streams(primary, &[server]);
        let rows = self.lab.sql(primary, ROWS);
        self.lab.eventually(server, ROWS, &rows);
        self.lab.eventually(server, "SELECT pg_is_in_recovery()", "t");
        let amcheck = self.program("pg_amcheck");
        self.lab.run(server, &["runuser", "-u", "postgres", "--", &amcheck, "--heapallindexed", "-d", "postgres"]);
        self.systemctl(server, "stop");
        let checksums = self.program("pg_checksums");
        self.lab.run(server, &["runuser", "-u", "postgres", "--", &checksums, "--check", "-D", &self.data()]);
        self.systemctl(server, "start");
        self.lab.eventually(server, "SELECT pg_is_in_recovery()", "t");
        self.is_attached(primary, server);
    }

    #[track_caller]
    fn is_attached(&self, primary: &str, server: &str) {
        let sql = format!("SELECT state FROM pg_stat_replication WHERE application_name = '{server}'");
        self.lab.eventually(primary, &sql, "streaming");
    }

    /// Promotes a standby past pgstead, as somebody did at night.
    fn promote(&self, server: &str) {
        self.lab.sql(server, "SELECT pg_promote()");
        self.lab.eventually(server, "SELECT pg_is_in_recovery()", "f");
    }
}

#[test]
fn a_standby_that_was_stopped_replays_what_it_missed_on_15() {
    replays(Release::Bookworm);
}

#[test]
fn a_standby_that_was_stopped_replays_what_it_missed_on_17() {
    replays(Release::Trixie);
}

fn replays(release: Release) {
    let ward = Ward::open(release, &["a", "b"]);
    let lab = &ward.lab;

    // Nothing is wrong: nothing is done.
    let ran = lab.pgstead(&["reseed", "b", "--yes", "--format", "json"]).expect(0).json();
    assert_eq!((&ran["changed"], &ran["method"]), (&json!(false), &Value::Null), "{ran}");
    assert_eq!(ran["diagnosis"]["condition"], "streaming");

    ward.systemctl("b", "stop");
    ward.write("a", 20_001, 30_000);
    let dry = lab.pgstead(&["reseed", "b", "--dry-run", "--format", "json"]).expect(0).json();
    assert_eq!((&dry["method"], &dry["diagnosis"]["condition"]), (&json!("replay"), &json!("behind")), "{dry}");
    assert!(lab.host("b").psql(5432, "postgres", "SELECT 1").is_err(), "a dry run started it");
    let ran = ward.reseed("b", &[], "replay").json();
    assert!(ran["seconds"].as_f64().unwrap() < 3.0, "{ran}");
    assert_eq!(ran["set_aside"], Value::Null);
    ward.is_whole("a", "b");

    // Its slot was dropped, and its replay paused: mended while it runs.
    lab.sql("b", "SELECT pg_wal_replay_pause()");
    ward.systemctl("b", "stop");
    lab.eventually("a", "SELECT active FROM pg_replication_slots WHERE slot_name = 'b'", "f");
    lab.sql("a", "SELECT pg_drop_replication_slot('b')");
    ward.systemctl("b", "start");
    lab.eventually("b", "SELECT pg_is_in_recovery()", "t");
    ward.reseed("b", &[], "replay");
    ward.is_whole("a", "b");
    lab.settled();
}

#[test]
fn what_cannot_be_replayed_is_copied_anew_on_15() {
    copied_anew(Release::Bookworm);
}

#[test]
fn what_cannot_be_replayed_is_copied_anew_on_17() {
    copied_anew(Release::Trixie);
}

fn copied_anew(release: Release) {
    let ward = Ward::open(release, &["a", "b"]);
    let lab = &ward.lab;

    // The slot is gone and the WAL recycled.
    ward.systemctl("b", "stop");
    lab.eventually("a", "SELECT active FROM pg_replication_slots WHERE slot_name = 'b'", "f");
    lab.sql("a", "SELECT pg_drop_replication_slot('b')");
    lab.sql("a", "ALTER SYSTEM SET wal_keep_size = 0");
    lab.sql("a", "SELECT pg_reload_conf()");
    for round in 0..4 {
        ward.write("a", 40_000 + round * 1_000, 40_999 + round * 1_000);
        lab.sql("a", "SELECT pg_switch_wal()");
    }
    lab.sql("a", "ALTER SYSTEM RESET wal_keep_size");
    lab.sql("a", "CHECKPOINT");
    lab.sql("a", "CHECKPOINT");
    lab.sql("a", "SELECT pg_reload_conf()");
    let dry = lab.pgstead(&["reseed", "b", "--dry-run"]).expect(0);
    println!("{dry}");
    let forced = ["reseed", "b", "--method", "replay", "--yes", "--format", "json"];
    refused(lab, "replay without WAL", &forced, 5, &[("method-refused", "b")]);
    let ran = ward.reseed("b", &[], "basebackup").json();
    assert!(ran["bytes_transferred"].as_u64().unwrap() > 10_000_000, "{ran}");
    let aside = ran["set_aside"].as_str().unwrap().to_owned();
    assert!(aside.ends_with(".replaced"), "{aside}");
    lab.run("b", &["test", "-s", &format!("{aside}/global/pg_control")]);
    ward.is_whole("a", "b");
    lab.settled();

    // The control file is lost.
    ward.systemctl("b", "stop");
    lab.run("b", &["mv", &format!("{}/global/pg_control", ward.data()), "/root/pg_control"]);
    let ran = ward.reseed("b", &[], "basebackup").json();
    assert_eq!(ran["diagnosis"]["condition"], "damaged");
    assert!(ran["set_aside"].as_str().unwrap().ends_with(".damaged"), "{ran}");
    ward.is_whole("a", "b");

    // The whole data directory is gone, which a missing disk looks like: only a named method goes on.
    ward.systemctl("b", "stop");
    lab.run("b", &["mv", &ward.data(), "/root/gone"]);
    refused(
        lab,
        "data directory gone",
        &["reseed", "b", "--yes", "--format", "json"],
        5,
        &[("data-directory-gone", "b")],
    );
    let ran = ward.reseed("b", &["--method", "basebackup"], "basebackup").json();
    assert_eq!(ran["set_aside"], Value::Null);
    ward.is_whole("a", "b");
    lab.settled();
    let status = lab.pgstead(&["status", "--format", "json"]).expect(0).json();
    assert_eq!(status["aside"].as_array().unwrap().len(), 2, "{status}");
}

#[test]
fn a_former_primary_is_rewound_and_its_own_writes_are_kept_on_15() {
    rewound(Release::Bookworm);
}

#[test]
fn a_former_primary_is_rewound_and_its_own_writes_are_kept_on_17() {
    rewound(Release::Trixie);
}

fn rewound(release: Release) {
    let ward = Ward::open(release, &["a", "b"]);
    let lab = &ward.lab;

    // a is cut off and goes on for a while; b is promoted; a is killed with what it had acknowledged.
    ward.systemctl("b", "stop");
    ward.write("a", 100_001, 100_500);
    lab.sql("a", "UPDATE t SET text = 'only on a' WHERE id % 100 = 0");
    lab.host("a").signal_postmaster(&ward.data(), "KILL").unwrap();
    until(Instant::now() + SOON, || lab.host("a").psql(5432, "postgres", "SELECT 1").is_err());
    ward.systemctl("b", "start");
    lab.eventually("b", "SELECT pg_is_in_recovery()", "t");
    ward.promote("b");
    ward.write("b", 200_001, 200_500);
    lab.sql("b", "UPDATE t SET text = 'only on b' WHERE id % 100 = 1");

    let without = ["reseed", "a", "--yes", "--format", "json"];
    refused(lab, "divergence without consent", &without, 5, &[("divergence-needs-consent", "a")]);
    let dry = lab.pgstead(&["reseed", "a", "--dry-run", "--accept-divergence"]).expect(0);
    println!("{dry}");
    // Of a database this small, everything is copied in less time than the source's WAL.
    let ran = ward.reseed("a", &["--accept-divergence", "--method", "rewind"], "rewind").json();
    assert_eq!(ran["diagnosis"]["condition"], "diverged");
    let aside = ran["set_aside"].as_str().unwrap().to_owned();
    assert!(aside.ends_with(".diverged"), "{aside}");
    assert!(ran["bytes_transferred"].as_u64().unwrap() > 0, "{ran}");
    ward.is_whole("b", "a");
    assert_eq!(lab.sql("a", "SELECT count(*) FROM t WHERE id BETWEEN 100001 AND 100500 OR text = 'only on a'"), "0");

    // What only a had is there still: its old data directory starts by hand, on another port, past every guard.
    let own = lab.run(
        "a",
        &[
            "runuser",
            "-u",
            "postgres",
            "--",
            "sh",
            "-c",
            "set -e; cp -a \"$1\" /var/lib/postgresql/look; \"$2\" -s -w -D /var/lib/postgresql/look -o \"-p 5499 -c listen_addresses='' -c config_file=$3 -c data_directory=/var/lib/postgresql/look -c external_pid_file='' -c archive_mode=off -c ssl=off\" -l /tmp/look.log start; psql -XAtq -p 5499 -c \"SELECT count(*) FROM t WHERE id BETWEEN 100001 AND 100500 OR text = 'only on a'\"; \"$2\" -s -w -m fast -D /var/lib/postgresql/look stop",
            "sh",
            &aside,
            &ward.program("pg_ctl"),
            &format!("/etc/postgresql/{}/main/postgresql.conf", ward.major),
        ],
    );
    assert_eq!(own.trim(), "700");

    // The rest of the topology is brought in line, and nothing is left to do.
    lab.bootstrap();
    lab.settled();
    let again = lab.pgstead(&["reseed", "b", "--yes", "--format", "json"]).expect(5);
    assert!(again.codes().contains(&"reseed-of-primary".to_owned()), "{again}");
}

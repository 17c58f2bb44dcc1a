//! A failed server comes back, by the cheapest safe way, and nothing that it held is gone: on real hosts.
//!
//! Every outcome is read on the hosts: each row on both sides, every index with pg_amcheck, every page with pg_checksums.

use std::time::Instant;

use pgstead::lab::hosts::Release;
use serde_json::Value;
use serde_json::json;

use crate::faults::at_rest;
use crate::refusals::refused;
use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::until;
use crate::switchover::SOON;

/// A topology whose servers break.
pub(crate) struct Ward {
    pub(crate) lab: Scenario,
    major: u32,
}

impl Ward {
    /// Boots the servers and fills the primary with rows that are told apart.
    pub(crate) fn open(release: Release, names: &[&str]) -> Self {
        let lab = Scenario::begun("rows", release, names, |lab| {
            lab.bootstrap();
            Self::fill(lab);
        });
        Self { lab, major: release.postgres_major() }
    }

    pub(crate) fn of(lab: Scenario, release: Release) -> Self {
        lab.bootstrap();
        Self::fill(&lab);
        Self { lab, major: release.postgres_major() }
    }

    fn fill(lab: &Scenario) {
        lab.sql("a", "CREATE EXTENSION amcheck");
        lab.sql(
            "a",
            "CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 8) AS text FROM generate_series(1, 20000) i",
        );
        lab.sql("a", "CREATE UNIQUE INDEX ON t (id); CREATE INDEX ON t (text)");
    }

    pub(crate) fn data(&self) -> String {
        format!("/var/lib/postgresql/{}/main", self.major)
    }

    pub(crate) fn unit(&self) -> String {
        format!("postgresql@{}-main.service", self.major)
    }

    pub(crate) fn program(&self, name: &str) -> String {
        format!("/usr/lib/postgresql/{}/bin/{name}", self.major)
    }

    pub(crate) fn systemctl(&self, host: &str, verb: &str) {
        // Nobody starts it as often within ten seconds as these tests do.
        let _ = self.lab.host(host).exec(&["systemctl", "reset-failed", &self.unit()]);
        self.lab.run(host, &["systemctl", verb, &self.unit()]);
    }

    pub(crate) fn write(&self, host: &str, from: u32, to: u32) {
        let sql = format!("INSERT INTO t SELECT i, repeat(md5(i::text), 8) FROM generate_series({from}, {to}) i");
        self.lab.sql(host, &sql);
    }

    /// Runs `reseed` and demands success by a method.
    #[track_caller]
    pub(crate) fn reseed(&self, server: &str, more: &[&str], method: &str) -> Ran {
        let ran = self.lab.pgstead(&[&["reseed", server, "--yes", "--format", "json"], more].concat()).expect(0);
        assert_eq!(ran.json()["method"], method, "{ran}");
        ran
    }

    /// Demands that a server streams, has every row of its primary, and that neither an index nor a page of it is broken.
    #[track_caller]
    pub(crate) fn is_whole(&self, primary: &str, server: &str) {
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

    /// Starts a copy of a data directory that was set aside by hand, on another port and past every guard, and asks it.
    pub(crate) fn sql_in_old_data(&self, host: &str, aside: &str, sql: &str) -> String {
        const LOOK: &str = "set -e; cp -a \"$1\" /var/lib/postgresql/look; \"$2\" -s -w -D /var/lib/postgresql/look \
            -o \"-p 5499 -c listen_addresses='' -c config_file=$3 -c data_directory=/var/lib/postgresql/look \
            -c external_pid_file='' -c archive_mode=off -c ssl=off\" -l /tmp/look.log start; \
            psql -XAtq -p 5499 -c \"$4\"; \"$2\" -s -w -m fast -D /var/lib/postgresql/look stop";
        let (program, conf) = (self.program("pg_ctl"), format!("/etc/postgresql/{}/main/postgresql.conf", self.major));
        let script = ["runuser", "-u", "postgres", "--", "sh", "-c", LOOK, "sh", aside, &program, &conf, sql];
        self.lab.run(host, &script)
    }

    #[track_caller]
    pub(crate) fn is_attached(&self, primary: &str, server: &str) {
        let sql = format!("SELECT state FROM pg_stat_replication WHERE application_name = '{server}'");
        self.lab.eventually(primary, &sql, "streaming");
    }

    /// Promotes a standby past pgstead, as somebody did at night.
    pub(crate) fn promote(&self, server: &str) {
        self.lab.sql(server, "SELECT pg_promote()");
        self.lab.eventually(server, "SELECT pg_is_in_recovery()", "f");
    }
}

#[test]
fn a_standby_that_was_stopped_replays_what_it_missed_on_15() {
    replays(Release::Bookworm);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn a_standby_that_was_stopped_replays_what_it_missed_on_17() {
    replays(Release::Trixie);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn a_standby_that_was_stopped_replays_what_it_missed_on_18() {
    replays(Release::Forky);
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
    assert!(ran["seconds"].as_f64().unwrap() < 20.0, "{ran}");
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

#[test]
fn what_cannot_be_replayed_is_copied_anew_on_18() {
    copied_anew(Release::Forky);
}

#[test]
#[ignore = "19 is in Debian's experimental suite alone: make soak"]
fn what_cannot_be_replayed_is_copied_anew_on_19() {
    copied_anew(Release::Experimental);
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

#[test]
fn a_former_primary_is_rewound_and_its_own_writes_are_kept_on_18() {
    rewound(Release::Forky);
}

#[test]
#[ignore = "19 is in Debian's experimental suite alone: make soak"]
fn a_former_primary_is_rewound_and_its_own_writes_are_kept_on_19() {
    rewound(Release::Experimental);
}

fn rewound(release: Release) {
    let mut lab = Scenario::boot(release, &["a", "b"]);
    // The archive is out of reach while a is the primary, so that what it wrote waits to be archived.
    lab.edit(|inventory| {
        inventory["postgres"]["parameters"]["archive_mode"] = json!("on");
        inventory["postgres"]["parameters"]["archive_command"] =
            json!("test ! -e /srv/archive/%f && cp %p /srv/archive/%f");
    });
    let ward = Ward::of(lab, release);
    let lab = &ward.lab;

    // a is cut off and goes on for a while; b is promoted; a is killed with what it had acknowledged.
    ward.systemctl("b", "stop");
    ward.write("a", 100_001, 100_500);
    lab.sql("a", "UPDATE t SET text = 'only on a' WHERE id % 100 = 0");
    lab.sql("a", "SELECT pg_switch_wal()");
    lab.sql("a", "INSERT INTO t VALUES (-2, 'last on a')");
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
    // On 17 the archive can be reached by now.
    let is_mended = release == Release::Trixie;
    if is_mended {
        lab.run("a", &["install", "--directory", "--owner=postgres", "--mode=0700", "/srv/archive"]);
    }
    // Of a database this small, everything is copied in less time than the source's WAL.
    let told = ward.reseed("a", &["--accept-divergence", "--method", "rewind"], "rewind");
    assert_eq!(told.stderr.contains("segments that waited to be archived could not be"), !is_mended, "{told}");
    let ran = told.json();
    assert_eq!(ran["diagnosis"]["condition"], "diverged");
    let only_here = &ran["only_here"];
    assert!(only_here["transactions"].as_u64().unwrap() >= 3, "{ran}");
    assert_eq!(only_here["tables"][0]["name"], "public.t", "{ran}");
    let aside = ran["set_aside"].as_str().unwrap().to_owned();
    assert!(aside.ends_with(".diverged"), "{aside}");
    // What waited to be archived of the history that both have is archived, and of that which only a had nothing.
    const PARTED: &str = "SELECT '00000001' || substr(pg_walfile_name(split_part(pg_read_file('pg_wal/00000002.history'), \
        E'\\t', 2)::pg_lsn), 9)";
    const ARCHIVED: &str = "cd \"$1\"/pg_wal/archive_status && for one in 00000001????????????????.ready; do \
        expr \"${one%.ready}\" '<' \"$2\" >/dev/null && echo \"${one%.ready}\"; done; cd /srv/archive || exit 0; \
        for one in *; do cmp -- \"$one\" \"$1/pg_wal/$one\" && echo \"$one\"; done";
    let lines = lab.run("a", &["sh", "-c", ARCHIVED, "sh", &aside, &lab.sql("b", PARTED)]);
    let lines: Vec<&str> = lines.lines().collect();
    let (waited, archived) = if is_mended { lines.split_at(lines.len() / 2) } else { (&lines[..], &[][..]) };
    assert!(!waited.is_empty(), "nothing waited to be archived");
    assert_eq!(archived, if is_mended { waited } else { &[] });
    // All of it is kept with the rest, and no new WAL of that history waits for the archive of the other.
    const READY: &str = "ls \"$1/pg_wal/archive_status\" | grep -c '^00000001[0-9A-F]*[.]ready' || true";
    assert_ne!(lab.run("a", &["sh", "-c", READY, "sh", &aside]).trim(), "0");
    assert_eq!(lab.run("a", &["sh", "-c", READY, "sh", &ward.data()]).trim(), "0");
    assert!(ran["bytes_transferred"].as_u64().unwrap() > 0, "{ran}");
    ward.is_whole("b", "a");
    assert_eq!(lab.sql("a", "SELECT count(*) FROM t WHERE id BETWEEN 100001 AND 100500 OR text LIKE '%on a'"), "0");

    // What only a had is there still.
    let sql = "SELECT count(*) FROM t WHERE id BETWEEN 100001 AND 100500 OR text = 'only on a'";
    let own = ward.sql_in_old_data("a", &aside, sql);
    assert_eq!(own.trim(), "700");

    // The archive is mended. The rest of the topology is brought in line, and nothing is left to do.
    for host in ["a", "b"] {
        lab.run(host, &["install", "--directory", "--owner=postgres", "--mode=0700", "/srv/archive"]);
    }
    lab.sql("b", "SELECT pg_switch_wal()");
    lab.eventually("b", "SELECT coalesce(last_archived_time > last_failed_time, false) FROM pg_stat_archiver", "t");
    lab.bootstrap();
    lab.settled();
    let archived = archived.join("\n");
    assert_eq!(lab.run("a", &["ls", "/srv/archive"]), archived, "a, which is a standby, has archived");
    let again = lab.pgstead(&["reseed", "b", "--yes", "--format", "json"]).expect(5);
    assert!(again.codes().contains(&"reseed-of-primary".to_owned()), "{again}");
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn damage_and_twins_are_found_and_replaced_on_15() {
    found_out(Release::Bookworm);
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn damage_and_twins_are_found_and_replaced_on_17() {
    found_out(Release::Trixie);
}

#[test]
fn damage_and_twins_are_found_and_replaced_on_18() {
    found_out(Release::Forky);
}

fn found_out(release: Release) {
    let mut ward = Ward::open(release, &["a", "b"]);
    let file = at_rest(&ward.lab, "a", &["b"], "t");
    let path = format!("{}/{file}", ward.data());

    // A hundred pages rot. Whoever reads them is told, and so is the diagnosis.
    assert_eq!(ward.lab.sql("b", "SELECT count(*) FROM t"), "20000");
    ward.systemctl("b", "stop");
    for page in 0..100_u64 {
        ward.lab.host("b").flip_byte(&path, page * 2 * 8192 + 4_000).unwrap();
    }
    ward.systemctl("b", "start");
    ward.lab.eventually("b", "SELECT pg_is_in_recovery()", "t");
    ward.lab.host("b").psql(5432, "postgres", "SELECT sum(length(text)) FROM t").unwrap_err();
    // What a backend counted is told when it ends.
    ward.lab.eventually("b", "SELECT checksum_failures > 0 FROM pg_stat_database WHERE datname = 'postgres'", "t");
    let ran = ward.reseed("b", &[], "basebackup").json();
    assert_eq!(ran["diagnosis"]["condition"], "damaged", "{ran}");
    ward.is_whole("a", "b");

    // A file is gone.
    ward.lab.run("b", &["mv", &path, "/root/segment"]);
    let ran = ward.reseed("b", &[], "basebackup").json();
    assert_eq!(ran["diagnosis"]["condition"], "damaged", "{ran}");
    assert!(ran["diagnosis"]["evidence"].to_string().contains(&file), "{ran}");
    ward.is_whole("a", "b");

    // Written to on the same timeline, past every guard, and made a standby again: a twin.
    ward.systemctl("b", "stop");
    const WRITE: &str = "set -e; rm \"$1/standby.signal\"; echo \"INSERT INTO t VALUES (-1, 'only on b')\" | \
        \"$2\" --single -D \"$1\" -c config_file=\"$3\" postgres >/dev/null 2>&1; touch \"$1/standby.signal\"";
    let config = format!("/etc/postgresql/{}/main/postgresql.conf", ward.major);
    let postgres = ward.program("postgres");
    let write = ["runuser", "-u", "postgres", "--", "sh", "-c", WRITE, "sh", &ward.data(), &postgres, &config];
    ward.lab.run("b", &write);
    ward.write("a", 30_001, 32_000);
    let without = ["reseed", "b", "--yes", "--format", "json"];
    refused(&ward.lab, "twin without consent", &without, 5, &[("divergence-needs-consent", "b")]);
    let by_rewind = ["reseed", "b", "--method", "rewind", "--accept-divergence", "--yes", "--format", "json"];
    refused(&ward.lab, "twin by rewind", &by_rewind, 5, &[("method-refused", "b")]);
    let ran = ward.reseed("b", &["--accept-divergence"], "basebackup").json();
    assert_eq!(ran["diagnosis"]["condition"], "twin", "{ran}");
    ward.is_whole("a", "b");
    assert_eq!(ward.lab.sql("b", "SELECT count(*) FROM t WHERE id = -1"), "0");

    // The primary is never re-seeded, nor is it under another's address, nor what is not ours.
    let primary = ["reseed", "a", "--accept-divergence", "--yes", "--format", "json"];
    refused(&ward.lab, "re-seed of the primary", &primary, 5, &[("reseed-of-primary", "a")]);
    let whole = ward.lab.inventory.clone();
    ward.lab.edit(|inventory| {
        let (a, b) = (inventory["servers"]["a"]["address"].clone(), inventory["servers"]["b"]["address"].clone());
        inventory["servers"]["a"]["address"] = b;
        inventory["servers"]["b"]["address"] = a;
    });
    let swapped = ward.lab.pgstead(&["reseed", "b", "--accept-divergence", "--yes", "--format", "json"]).expect(5);
    println!("{swapped}");
    let codes = swapped.codes();
    assert!(
        codes.iter().any(|code| ["data-directory-of-another-server", "reseed-of-primary"].contains(&code.as_str())),
        "{swapped}"
    );
    ward.lab.edit(|inventory| *inventory = whole);
    ward.systemctl("b", "stop");
    let (data, initdb) = (ward.data(), ward.program("initdb"));
    ward.lab.run("b", &["mv", "-T", &data, "/root/b"]);
    ward.lab.run("b", &["runuser", "-u", "postgres", "--", &initdb, "-N", "-D", &data]);
    let foreign = ["reseed", "b", "--method", "basebackup", "--accept-divergence", "--yes", "--format", "json"];
    refused(&ward.lab, "foreign data", &foreign, 5, &[("data-directory-not-ours", "b")]);
    ward.lab.run("b", &["mv", "-T", &data, "/root/foreign"]);
    ward.lab.run("b", &["mv", "-T", "/root/b", &data]);
    ward.reseed("b", &[], "replay");
    ward.is_whole("a", "b");
    ward.lab.settled();
}

/// The head of a cascade is copied anew; who follows it goes on from where it was.
#[test]
fn the_head_of_a_cascade_comes_back_with_those_that_follow_it() {
    let ward = Ward::open(Release::Bookworm, &["a", "b", "c"]);
    let lab = &ward.lab;
    lab.eventually("c", "SELECT count(*) FROM t", "20000");
    let since = lab.sql("c", "SELECT pg_postmaster_start_time()");
    ward.reseed("b", &["--method", "basebackup"], "basebackup");
    ward.write("a", 20_001, 20_100);
    lab.eventually("c", "SELECT count(*) FROM t", "20100");
    lab.streams("b", &["c"]);
    assert_eq!(lab.sql("c", "SELECT pg_postmaster_start_time()"), since, "c was restarted");
    ward.is_whole("a", "b");
    lab.eventually("b", "SELECT state FROM pg_stat_replication WHERE application_name = 'c'", "streaming");
    lab.settled();

    // c cannot be reached: b comes back all the same.
    ward.systemctl("b", "stop");
    lab.host("c")
        .block_arriving(pgstead::lab::hosts::Block::Reject, lab.host("c").operator_address(), Some(22))
        .unwrap();
    let ran = ward.reseed("b", &[], "replay");
    assert!(ran.stderr.contains("could not be looked at"), "{ran}");
    lab.host("c").unblock().unwrap();
    lab.settled();
}

/// A line of 100 Mbit/s: it is measured, and the base backup is compressed.
#[test]
#[ignore = "takes minutes: make soak"]
fn a_slow_line_is_measured_and_the_copy_compressed_on_15() {
    slow_line(Release::Bookworm);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn a_slow_line_is_measured_and_the_copy_compressed_on_17() {
    slow_line(Release::Trixie);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn a_slow_line_is_measured_and_the_copy_compressed_on_18() {
    slow_line(Release::Forky);
}

fn slow_line(release: Release) {
    let ward = Ward::open(release, &["a", "b"]);
    let lab = &ward.lab;
    lab.sql("a", "CREATE TABLE large AS SELECT i, repeat(md5(i::text), 8) AS text FROM generate_series(1, 1200000) i");
    lab.eventually("b", "SELECT count(*) FROM large", "1200000");
    ward.systemctl("b", "stop");
    lab.host("b").limit_rate(100).unwrap();
    let ran = ward.reseed("b", &["--method", "basebackup"], "basebackup").json();
    let rate = ran["bytes_per_second"].as_u64().unwrap();
    assert!((8_000_000..13_500_000).contains(&rate), "{rate} bytes a second are not 100 Mbit/s");
    let size: u64 = lab.sql("a", "SELECT sum(pg_database_size(oid)) FROM pg_database").parse().unwrap();
    let carried = ran["bytes_transferred"].as_u64().unwrap();
    println!("{size} bytes of databases, {carried} carried, {:.1} s", ran["seconds"].as_f64().unwrap());
    assert!(carried < size / 2, "{carried} of {size} bytes were carried: nothing was compressed");
    lab.host("b").unlimit().unwrap();
    ward.is_whole("a", "b");
}

/// The primary was restored to an earlier moment: all its standbys have what it lost, and come back in one command.
#[test]
fn all_standbys_come_back_after_a_restore_of_the_primary() {
    let release = Release::Trixie;
    let ward = Ward::open(release, &["a", "b", "c"]);
    let lab = &ward.lab;
    ward.systemctl("a", "stop");
    lab.run("a", &["cp", "-a", &ward.data(), "/var/lib/postgresql/backup"]);
    ward.systemctl("a", "start");
    lab.eventually("a", "SELECT pg_is_in_recovery()", "f");
    ward.write("a", 20_001, 30_000);
    lab.eventually("c", "SELECT count(*) FROM t", "30000");

    // Back to before that write, on a timeline of its own, as a restore to a point in time ends.
    ward.systemctl("a", "stop");
    lab.run("a", &["mv", "-T", &ward.data(), "/var/lib/postgresql/after"]);
    lab.run("a", &["mv", "-T", "/var/lib/postgresql/backup", &ward.data()]);
    lab.run("a", &["runuser", "-u", "postgres", "--", "touch", &format!("{}/recovery.signal", ward.data())]);
    let options = "-c restore_command=/bin/false";
    let start =
        ["runuser", "-u", "postgres", "--", "pg_ctlcluster", "--skip-systemctl-redirect", "17", "main", "start"];
    lab.run("a", &[&start[..], &["--", "-o", options]].concat());
    lab.eventually("a", "SELECT pg_is_in_recovery()", "f");
    let stop = ["runuser", "-u", "postgres", "--", "pg_ctlcluster", "--skip-systemctl-redirect", "17", "main", "stop"];
    lab.run("a", &stop);
    // Its standbys have never heard of its new timeline, so that none of them can say that nobody else took its place.
    lab.run("a", &["touch", "/var/lib/pgstead/lab/a/start-alone"]);
    ward.systemctl("a", "start");
    lab.eventually("a", "SELECT count(*) FROM t", "20000");

    let ran = lab.pgstead(&["reseed", "c", "b", "--accept-divergence", "--yes", "--format", "json"]).expect(0);
    let document = ran.json();
    let order: Vec<&str> =
        document["servers"].as_array().unwrap().iter().map(|one| one["server"].as_str().unwrap()).collect();
    assert_eq!(order, ["b", "c"], "upstreams first: {ran}");
    println!("{ran}");
    assert!(document["set_aside"]["b"].as_str().unwrap().ends_with(".diverged"), "{ran}");
    ward.write("a", 50_001, 50_010);
    ward.is_whole("a", "b");
    lab.eventually("c", "SELECT count(*) FROM t", "20010");
    ward.is_attached("b", "c");
    lab.streams("b", &["c"]);
    lab.settled();
}

/// Without room for a copy, and with that agreed to by name, the data directory itself is rewound; the WAL that only it has is
/// kept. Where that is interrupted, what it made is set aside, since there is nothing else.
#[test]
fn a_data_directory_is_rewound_itself_where_that_was_asked_for() {
    let release = Release::Trixie;
    let ward = Ward::open(release, &["a", "b"]);
    let lab = &ward.lab;
    let diverge = |number: i32, word: &str| {
        lab.eventually("b", "SELECT pg_is_in_recovery()", "t");
        ward.promote("b");
        lab.sql("b", &format!("INSERT INTO t VALUES (-3, '{word} on b')"));
        lab.sql("a", &format!("INSERT INTO t VALUES ({number}, '{word} on a')"));
        ward.systemctl("b", "stop");
    };
    diverge(-4, "once");
    let reuse = ["--space", "reuse", "--accept-divergence"];
    let ran = ward.reseed("b", &[&reuse[..], &["--method", "rewind"]].concat(), "rewind").json();
    let aside = ran["set_aside"].as_str().unwrap().to_owned();
    ward.is_whole("a", "b");
    assert_eq!(lab.sql("b", "SELECT count(*) FROM t WHERE id = -3"), "0");
    assert_eq!(lab.run("b", &["ls", &aside]), "pg_wal\npgstead.identity");
    let dump = [
        "sh",
        "-c",
        "\"$1\" --path \"$2/pg_wal\" --rmgr Transaction $(ls \"$2/pg_wal\" | head -n 1) | grep -c COMMIT",
        "sh",
    ];
    let waldump = ward.program("pg_waldump");
    assert_ne!(lab.run("b", &[&dump[..], &[&waldump, &aside]].concat()).trim(), "0", "nothing tells what only b had");

    // Killed in the middle of it: nothing starts, nothing is removed, and only a base backup goes on.
    diverge(-5, "twice");
    let rewind = ward.program("pg_rewind");
    let script = format!(
        "#!/bin/sh\nexec strace -D -f -qq -o /dev/null -e inject=pwrite64,write:signal=KILL:when=200 {rewind}.true \"$@\"\n"
    );
    lab.host("b").replace_program(&rewind, &script).unwrap();
    let killed = [&["reseed", "b", "--method", "rewind", "--yes", "--format", "json"][..], &reuse].concat();
    lab.pgstead(&killed).expect(6);
    lab.host("b").restore_program(&rewind).unwrap();
    lab.host("b").exec(&["systemctl", "start", &ward.unit()]).unwrap();
    assert_eq!(lab.run("b", &["sh", "-c", "pgrep -c -x postgres || true"]), "0", "half a rewind was started");
    let ran = ward.reseed("b", &["--accept-divergence"], "basebackup");
    let list = lab.run("b", &["sh", "-c", "ls -d /var/lib/postgresql/17/main.aside.*.interrupted"]);
    lab.run("b", &["test", "-s", &format!("{}/global/pg_control", list.trim())]);
    println!("{ran}");
    ward.is_whole("a", "b");
    lab.settled();
}

//! Same history, not same name: finding 1 of hazards.md rebuilt, and every honest standby that must not be refused.

use std::time::Instant;

use pgstead::lab::hosts::Release;

use crate::refusals::refused;
use crate::scenario::Scenario;

const BOOTSTRAP: &[&str] = &["bootstrap", "--yes", "--format", "json"];

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn a_green_link_with_other_data_is_refused_and_found_on_15() {
    green_link_other_data(Release::Bookworm);
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn a_green_link_with_other_data_is_refused_and_found_on_17() {
    green_link_other_data(Release::Trixie);
}

#[test]
fn a_green_link_with_other_data_is_refused_and_found_on_18() {
    green_link_other_data(Release::Forky);
}

/// What the tests do to b's instance, past pgstead.
struct Twin<'a> {
    lab: &'a Scenario,
    major: u32,
}

impl Twin<'_> {
    fn data(&self) -> String {
        format!("/var/lib/postgresql/{}/main", self.major)
    }

    fn unit(&self) -> String {
        format!("postgresql@{}-main.service", self.major)
    }

    fn systemctl(&self, verb: &str) {
        self.lab.run("b", &["systemctl", verb, &self.unit()]);
    }

    fn pg_ctl(&self, args: &[&str]) {
        let program = format!("/usr/lib/postgresql/{}/bin/pg_ctl", self.major);
        let data = self.data();
        self.lab.run("b", &[&["runuser", "-u", "postgres", "--", &program, "-s", "-w", "-D", &data], args].concat());
    }

    /// Starts b writable, as a lost signal file does, lets it write, and makes it look like a standby again.
    fn write(&self, sql: &str) {
        let signal = format!("{}/standby.signal", self.data());
        self.lab.run("b", &["rm", &signal]);
        let config = format!("-c config_file=/etc/postgresql/{}/main/postgresql.conf", self.major);
        self.pg_ctl(&["start", "-l", "/dev/null", "-o", &config]);
        assert_eq!(self.lab.sql("b", "SELECT pg_is_in_recovery()"), "f", "the twin is writable");
        self.lab.sql("b", sql);
        self.pg_ctl(&["stop", "-m", "fast"]);
        self.lab.run("b", &["runuser", "-u", "postgres", "--", "touch", &signal]);
    }

    /// The place of b's shutdown checkpoint, in bytes.
    fn checkpoint(&self) -> u64 {
        let program = format!("/usr/lib/postgresql/{}/bin/pg_controldata", self.major);
        let text = self.lab.run("b", &[&program, "-D", &self.data()]);
        let lsn = text.lines().find_map(|line| line.strip_prefix("Latest checkpoint location:")).unwrap();
        lsn.trim().parse::<pgstead::model::Lsn>().unwrap().0
    }
}

fn green_link_other_data(release: Release) {
    let lab = Scenario::bootstrapped(release, &["a", "b"]);
    lab.sql("a", "CREATE TABLE t (v text) WITH (autovacuum_enabled = false); CREATE TABLE w (v text)");
    let twin = Twin { lab: &lab, major: release.postgres_major() };
    honest(&twin);

    // (i) b is written to behind our back, a goes on, and cron checks meanwhile.
    twin.systemctl("stop");
    twin.write("INSERT INTO w VALUES ('BBBB')");
    lab.sql("a", "INSERT INTO w VALUES ('AAAA')");
    lab.sql("a", "SELECT pg_logical_emit_message(false, 'pad', repeat('x', 100000))");
    lab.pgstead(&["check"]).expect(7);
    refused(&lab, "a twin that was written to", BOOTSTRAP, 5, &[("history-diverged", "b")]);
    refused(&lab, "the same, planned", &["plan", "--format", "json"], 5, &[("history-diverged", "b")]);

    // It wrote more than a.
    twin.write("SELECT pg_logical_emit_message(false, 'pad', repeat('x', 400000))");
    refused(&lab, "a twin that is ahead", BOOTSTRAP, 5, &[("ahead-of-upstream", "b")]);

    // (ii) The worst case: the WAL of a has a record exactly where that of b ends. Nothing complains of b any more.
    let mut end = twin.checkpoint();
    // Room on the page for what must not cross its end.
    while !(4_096..7_000).contains(&(end % 8_192)) {
        twin.write("SELECT pg_logical_emit_message(false, 'pad', repeat('x', 1500))");
        end = twin.checkpoint();
    }
    lab.pgstead(&["check"]).expect(7);
    // Hint bits now, and a page image of whatever changes from here on.
    lab.sql("a", "SELECT v FROM w");
    lab.sql("a", "CHECKPOINT");
    let align = format!(
        "DO $do$
        DECLARE gap bigint;
        BEGIN
          LOOP
            gap := pg_lsn '{:X}/{:X}' - pg_current_wal_insert_lsn();
            EXIT WHEN gap <= 2000;
            PERFORM pg_logical_emit_message(false, 'p', repeat('x', 1000));
          END LOOP;
          -- A record's head is 24 bytes, the long head of its data 5, a message's 24 and its prefix 2.
          PERFORM pg_logical_emit_message(false, 'p', repeat('x', (gap - 55)::int));
          -- As long as a shutdown checkpoint.
          PERFORM pg_logical_emit_message(false, 'p', repeat('x', 68));
        END
        $do$",
        end >> 32,
        end & 0xffff_ffff
    );
    lab.sql("a", &align);
    let reached: u64 = lab.sql("a", "SELECT pg_current_wal_insert_lsn() - '0/0'").parse().unwrap();
    assert!((end + 120..end + 8_192).contains(&reached), "a went past b's end: {reached}, not {end}");
    refused(&lab, "a twin whose WAL ends where a's goes on", BOOTSTRAP, 5, &[("history-diverged", "b")]);

    // By hand, past pgstead: the link is green, and the rows differ.
    twin.systemctl("start");
    let link = "SELECT state, pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) FROM pg_stat_replication";
    lab.eventually("a", link, "streaming|0");
    assert_eq!(lab.sql("a", "SELECT v FROM w"), "AAAA");
    assert_eq!(lab.sql("b", "SELECT v FROM w"), "BBBB");
    assert_eq!(lab.sql("b", "SELECT pg_is_in_recovery()"), "t");
    let check = lab.pgstead(&["check", "--format", "json"]).expect(7);
    println!("{}", serde_json::to_string_pretty(&check.json()["findings"]).unwrap());
    assert!(check.codes().contains(&"canary-chain-differs".to_owned()), "{check}");
    assert_eq!(check.json()["links"][0]["verdict"], "unhealthy", "{check}");
    // Page images and snapshots of later checkpoints bring nothing back that b has missed.
    for _ in 0..2 {
        lab.sql("a", "CHECKPOINT");
        lab.eventually("a", link, "streaming|0");
        let again = lab.pgstead(&["check", "--format", "json"]).expect(7);
        assert!(again.codes().contains(&"canary-chain-differs".to_owned()), "{again}");
    }
    assert_eq!(lab.sql("a", link).split('|').next(), Some("streaming"), "the link is as green as before");
    assert_eq!(lab.sql("b", "SELECT v FROM w"), "BBBB");
}

/// (iii) However an honest standby went down, it is started again without a complaint.
fn honest(twin: &Twin<'_>) {
    let lab = twin.lab;
    let mut number = 0;
    let mut goes_on = |how: &str| {
        number += 1;
        lab.sql("a", "INSERT INTO t SELECT repeat('y', 2000) FROM generate_series(1, 500)");
        lab.sql("a", "SELECT pg_switch_wal(); CHECKPOINT");
        lab.sql("a", &format!("INSERT INTO t VALUES ('number {number}')"));
        let ran = lab.bootstrap();
        assert_eq!(ran.json()["changed"], true, "{how}: b was down, so there was something to do: {ran}");
        assert_eq!(lab.sql("b", &format!("SELECT v FROM t WHERE v = 'number {number}'")), format!("number {number}"));
        lab.settled();
    };
    twin.systemctl("stop");
    goes_on("stopped by systemctl");

    // Socket and postmaster.pid stay behind. The service manager must not be quicker than the operator.
    let kill = "kill -KILL $(head -n 1 \"$1/postmaster.pid\"); systemctl stop \"$2\"";
    lab.run("b", &["sh", "-c", kill, "sh", &twin.data(), &twin.unit()]);
    goes_on("killed");

    lab.run("b", &["systemctl", "disable", "--quiet", "postgresql.service"]);
    lab.host("b").power_cut().unwrap();
    lab.sql("a", "INSERT INTO t SELECT repeat('z', 2000) FROM generate_series(1, 500)");
    lab.host("b").boot().unwrap();
    goes_on("powered off");

    // Everything at once: no server can say how far its WAL reaches.
    lab.run("a", &["systemctl", "stop", &twin.unit()]);
    twin.systemctl("stop");
    assert_eq!(lab.bootstrap().json()["changed"], true);
    lab.settled();
}

/// The canary table of an earlier release, checks that write at the same time, and the end of the chain that is kept.
#[test]
fn the_chain_of_canaries_is_added_kept_and_cut() {
    let lab = Scenario::bootstrapped(Release::Bookworm, &["a", "b"]);
    lab.sql(
        "a",
        "ALTER TABLE pgstead.canary DROP COLUMN hash; ALTER TABLE pgstead.canary DROP COLUMN prev_hash, \
         DROP COLUMN filler; ALTER TABLE pgstead.canary RESET (fillfactor)",
    );
    let check = lab.pgstead(&["check", "--format", "json"]).expect(10);
    assert_eq!(check.json()["findings"].as_array().unwrap().len(), 1, "{check}");
    assert_eq!(check.json()["findings"][0]["code"], "canary-chain-unknown", "{check}");
    assert!(check.stdout.contains("pgstead bootstrap"), "{check}");
    assert_eq!(lab.bootstrap().json()["changed"], true);
    lab.settled();

    // Each row names the one before it, also when several checks write at once.
    let runs: Vec<_> = (0..4).map(|_| lab.start(&["check", "--format", "json"])).collect();
    for run in runs {
        run.end().expect(0);
    }
    let broken = "SELECT count(*) FROM (SELECT prev_hash, lag(hash) OVER (ORDER BY seq) AS before FROM pgstead.canary) c \
        WHERE prev_hash <> '' AND prev_hash <> before";
    let chained = "SELECT count(*) FROM pgstead.canary WHERE prev_hash <> ''";
    assert_eq!(lab.sql("a", broken), "0");
    assert!(lab.sql("a", chained).parse::<u32>().unwrap() >= 4);
    assert_eq!(
        lab.sql("a", "SELECT encode(sha256(decode(c.prev_hash, 'hex') || int8send(c.seq) || decode(c.nonce, 'hex')), 'hex') = c.hash \
            FROM pgstead.canary c ORDER BY seq DESC LIMIT 1"),
        "t"
    );
    // A page each.
    assert_eq!(
        lab.sql(
            "a",
            "SELECT count(*) = count(DISTINCT (ctid::text::point)[0]) FROM pgstead.canary WHERE prev_hash <> ''"
        ),
        "t"
    );
    // Nobody with the role of a check can make a hash up.
    let forged = "SET ROLE pgstead; INSERT INTO pgstead.canary (nonce, hash) VALUES ('00', '00')";
    assert!(lab.host("a").psql(5432, "postgres", forged).is_err());

    // Many checks later the beginning goes, the chain stays.
    let grow = |rows: u32, age: &str| {
        format!(
            "DO $do$ BEGIN FOR i IN 1..{rows} LOOP INSERT INTO pgstead.canary (nonce, prev_hash, written_at) \
             SELECT md5(i::text), coalesce((SELECT hash FROM pgstead.canary ORDER BY seq DESC LIMIT 1), ''), \
             now() - interval '{age}'; END LOOP; END $do$"
        )
    };
    lab.sql("a", &grow(1500, "30 days"));
    lab.pgstead(&["check"]).expect(0);
    assert_eq!(lab.sql("a", "SELECT count(*) FROM pgstead.canary"), "1001");
    lab.sql("a", &grow(6000, "1 day"));
    let begun = Instant::now();
    lab.pgstead(&["check"]).expect(0);
    println!("check with 5000 canaries: {:.2} s", begun.elapsed().as_secs_f64());
    assert_eq!(lab.sql("a", "SELECT count(*) FROM pgstead.canary"), "5001");
    assert_eq!(lab.sql("a", broken), "0");
    let same = lab.sql("a", "SELECT md5(string_agg(hash, '' ORDER BY seq)) FROM pgstead.canary");
    lab.eventually("b", "SELECT md5(string_agg(hash, '' ORDER BY seq)) FROM pgstead.canary", &same);
    lab.settled();
}

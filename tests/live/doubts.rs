//! What a failover takes for granted and must not: that a control file names what a standby replays, that who cannot be asked does
//! not run, that what is at an address is the server, that a configuration file says for what commits waited. On real hosts.
//!
//! Who is the primary, and which rows are where, is asked of psql on the hosts.

use std::process::Stdio;
use std::time::Instant;

use pgstead::lab::hosts::Block;
use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::until;
use crate::scenario::with_pause;
use crate::switchover::SOON;
use crate::switchover::hand_over;
use crate::switchover::is_primary;
use crate::switchover::with_clients;

fn data(release: Release) -> String {
    format!("/var/lib/postgresql/{}/main", release.postgres_major())
}

fn failover(to: &str) -> Vec<&str> {
    vec!["failover", "--to", to, "--accept-loss", "--yes", "--format", "json"]
}

/// Ends the primary as a crash does, and waits until nobody answers there.
fn kill(lab: &Scenario, name: &str, release: Release) {
    lab.host(name).signal_postmaster(&data(release), "KILL").unwrap();
    until(Instant::now() + SOON, || lab.host(name).psql(lab.port, "postgres", "SELECT 1").is_err());
}

#[track_caller]
fn refused(ran: Ran, code: &str) {
    let ran = ran.expect(5);
    assert!(ran.codes().contains(&code.to_owned()), "{code}: {ran}");
}

#[test]
fn a_standby_takes_over_that_was_switched_over_before_on_15() {
    switched_over_before(Release::Bookworm);
}

#[test]
fn a_standby_takes_over_that_was_switched_over_before_on_17() {
    switched_over_before(Release::Trixie);
}

/// After a switchover a standby's control file names its old timeline until its next restartpoint, whatever it replays.
fn switched_over_before(release: Release) {
    let mut lab = Scenario::boot(release, &["a", "b", "c"]);
    with_clients(&mut lab);
    hand_over(&lab, "a", "b");
    lab.host("b").psql(lab.port, "app", "INSERT INTO ledger SELECT FROM generate_series(1, 100)").unwrap();
    for name in ["a", "c"] {
        let there = || lab.host(name).psql(lab.port, "app", "SELECT count(*) FROM ledger").unwrap_or_default();
        until(Instant::now() + SOON, || there() == "100");
        assert_eq!(there(), "100", "{name}");
    }
    kill(&lab, "b", release);
    lab.eventually("c", "SELECT count(*) FROM pg_stat_wal_receiver", "0");
    let known =
        "SELECT greatest(timeline_id, min_recovery_end_timeline) FROM pg_control_checkpoint(), pg_control_recovery()";
    println!("the control file of c names timeline {}", lab.sql("c", known));
    let ran = lab.pgstead(&failover("c")).expect(0);
    assert!(!ran.codes().contains(&"bystander-left".to_owned()), "{ran}");
    is_primary(&lab, "c", &["a"]);
    lab.streams("c", &["a"]);
    assert_eq!(lab.host("c").psql(lab.port, "app", "SELECT count(*) FROM ledger").unwrap(), "100");
}

/// c was promoted behind pgstead's back, written to and turned into a standby again, and d follows it: nothing of that concerns a
/// and b.
#[test]
fn a_bystander_with_rows_of_its_own_holds_nothing_back_and_keeps_them() {
    let release = Release::Bookworm;
    let mut lab = Scenario::boot(release, &["a", "b", "c", "d"]);
    lab.edit(|inventory| {
        inventory["servers"]["c"].as_object_mut().unwrap().remove("upstream");
        inventory["servers"]["d"]["upstream"] = json!("c");
    });
    with_clients(&mut lab);
    lab.sql("c", "SELECT pg_promote()");
    lab.host("c").psql(lab.port, "app", "CREATE TABLE of_c AS SELECT 1 AS id").unwrap();
    let unit = format!("postgresql@{}-main.service", release.postgres_major());
    lab.run("c", &["systemctl", "stop", &unit]);
    let signal = [&data(release), "/standby.signal"].concat();
    lab.run("c", &["install", "-o", "postgres", "-m", "600", "/dev/null", &signal]);
    lab.run("c", &["systemctl", "start", &unit]);
    lab.eventually("c", "SELECT pg_is_in_recovery()", "t");
    let there = || lab.host("d").psql(lab.port, "app", "SELECT id FROM of_c").unwrap_or_default();
    until(Instant::now() + SOON, || there() == "1");
    assert_eq!(there(), "1");

    kill(&lab, "a", release);
    let ran = lab.pgstead(&failover("b")).expect(0);
    for name in ["c", "d"] {
        assert!(ran.stderr.contains(&format!("pgstead reseed {name} --dry-run")), "{ran}");
        assert_eq!(lab.host(name).psql(lab.port, "app", "SELECT id FROM of_c").unwrap(), "1");
    }
    is_primary(&lab, "b", &["c", "d"]);
    lab.pgstead(&["reseed", "c", "--yes", "--accept-divergence", "--format", "json"]).expect(0);
    lab.streams("b", &["c"]);
}

/// It serves whoever is connected: whoever promotes another one makes two primaries.
#[test]
fn a_primary_that_lets_nobody_ask_is_not_stopped_on_15() {
    lets_nobody_ask(Release::Bookworm);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn a_primary_that_lets_nobody_ask_is_not_stopped_on_18() {
    lets_nobody_ask(Release::Forky);
}

fn lets_nobody_ask(release: Release) {
    let mut lab = Scenario::boot(release, &["a", "b"]);
    lab.edit(|inventory| inventory["postgres"]["parameters"]["max_connections"] = json!(20));
    lab.bootstrap();
    let pid = lab.run("a", &["head", "-n", "1", &[&data(release), "/postmaster.pid"].concat()]);
    // More than there are: each takes one that is free, those of superusers too, and the last ones are turned away.
    const HOLD: &str = "for i in $(seq 30); do runuser -u postgres -- psql -XAtq <&9 & done; \
        while [ -e /run/hold ]; do echo $(jobs -pr | wc -l) >/run/holding; pause 0.1; done; kill $(jobs -p)";
    lab.run("a", &["touch", "/run/hold"]);
    let mut clients = lab.host("a").command(&["bash", "-c", &with_pause(HOLD)]).unwrap();
    let mut clients = clients.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Nobody else takes a place before all of theirs are taken, and those that found none have gone.
    until(Instant::now() + SOON, || lab.run("a", &["sh", "-c", "cat /run/holding || :"]).trim() == "20");
    until(Instant::now() + SOON, || lab.host("a").psql(lab.port, "postgres", "SELECT 1").is_err());
    let said = lab.host("a").psql(lab.port, "postgres", "SELECT 1").unwrap_err();
    println!("a says: {said:?}");
    refused(lab.pgstead(&failover("b")), "instance-unasked");
    refused(lab.pgstead(&["switchover", "--to", "b", "--yes", "--format", "json"]), "instance-unasked");
    refused(lab.pgstead(&["bootstrap", "--yes", "--format", "json"]), "instance-unasked");
    let check = lab.pgstead(&["check", "--quick", "--format", "json"]);
    assert!(check.codes().contains(&"instance-unasked".to_owned()), "{check}");
    assert_eq!(lab.sql("b", "SELECT pg_is_in_recovery()"), "t");
    assert_eq!(lab.run("a", &["head", "-n", "1", &[&data(release), "/postmaster.pid"].concat()]), pid);
    lab.run("a", &["rm", "/run/hold"]);
    clients.wait().unwrap();
    lab.eventually("a", "SELECT pg_is_in_recovery()", "f");

    // Its usual database is closed: another one tells what it is.
    lab.host("a").psql(lab.port, "template1", "ALTER DATABASE postgres ALLOW_CONNECTIONS false").unwrap();
    refused(lab.pgstead(&failover("b")), "primary-runs");
    refused(lab.pgstead(&["bootstrap", "--yes", "--format", "json"]), "instance-unasked");
    lab.host("a").psql(lab.port, "template1", "ALTER DATABASE postgres ALLOW_CONNECTIONS true").unwrap();
    lab.settled();
}

/// A copy of a, which does not run, stands at the address that the inventory has for a; a runs, and its standbys follow it.
#[test]
fn a_clone_at_the_primary_s_address_is_not_the_primary() {
    let release = Release::Bookworm;
    let mut lab = Scenario::boot(release, &["a", "b", "c", "d"]);
    lab.edit(|inventory| drop(inventory["servers"].as_object_mut().unwrap().remove("d")));
    with_clients(&mut lab);
    lab.sql("a", "CHECKPOINT");
    let cut = data(release);
    let parts = ["-C", "/", "-cf", "-", "--exclude", "postmaster.pid", "var/lib/pgstead", cut.trim_start_matches('/')];
    let copy = lab.host("a").exec(&[&["tar"], &parts[..]].concat()).unwrap().stdout;
    lab.run("d", &["systemctl", "stop", "postgresql.service"]);
    assert!(lab.host("d").exec_with_input(&["tar", "-C", "/", "-xf", "-"], &copy).unwrap().status.success());
    let address = lab.host("d").address().to_string();
    lab.edit(|inventory| inventory["servers"]["a"]["address"] = json!(address));
    refused(lab.pgstead(&failover("b")), "not-the-primary");
    is_primary(&lab, "a", &["b", "c"]);
    lab.host("a").psql(lab.port, "app", "INSERT INTO ledger DEFAULT VALUES").unwrap();
    let there = || lab.host("c").psql(lab.port, "app", "SELECT count(*) FROM ledger").unwrap();
    until(Instant::now() + SOON, || there() == "1");
    assert_eq!(there(), "1");
}

/// The file says that commits wait for a standby; a setting of the database let them pass.
#[test]
fn commits_that_waited_for_nobody_are_told_as_lost() {
    let release = Release::Bookworm;
    let mut lab = Scenario::boot(release, &["a", "b", "c"]);
    lab.edit(|inventory| {
        inventory["servers"]["c"].as_object_mut().unwrap().remove("upstream");
        inventory["replication"]["synchronous"] = json!({ "mode": "any", "count": 1, "standbys": ["b", "c"] });
    });
    with_clients(&mut lab);
    lab.host("a").psql(lab.port, "app", "ALTER DATABASE app SET synchronous_commit = local").unwrap();
    let here = lab.sql("a", "SELECT pg_current_wal_lsn()");
    for name in ["b", "c"] {
        lab.eventually(name, &format!("SELECT pg_last_wal_replay_lsn() >= '{here}'"), "t");
        lab.host(name).block_arriving(Block::Drop, lab.host("a").address(), None).unwrap();
    }
    for _ in 0..20 {
        lab.host("a").psql(lab.port, "app", "INSERT INTO ledger DEFAULT VALUES").unwrap();
    }
    // What a dead process still had to send, its kernel would send when the line is mended: it gives that up after one more try.
    lab.run("a", &["sysctl", "-q", "-w", "net.ipv4.tcp_orphan_retries=1"]);
    kill(&lab, "a", release);
    let mut left = String::new();
    until(Instant::now() + SOON, || {
        left = lab.run("a", &["ss", "-Htn", "state", "connected", "sport", "=", ":5432"]);
        left.is_empty()
    });
    assert_eq!(left, "", "connections that the dead primary still has");
    for name in ["b", "c"] {
        lab.host(name).unblock().unwrap();
    }
    let to_b = ["failover", "--to", "b", "--yes", "--format", "json"];
    let ran = lab.pgstead(&to_b).expect(5);
    assert!(ran.codes().contains(&"loss-needs-consent".to_owned()), "{ran}");
    assert!(ran.stdout.contains("20 transactions") && ran.stdout.contains("1 of 2 standbys"), "{ran}");
    let ran = lab.pgstead(&failover("b")).expect(0).json();
    assert!(ran["lost_lsn_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{ran:#}");
    assert_eq!(lab.host("b").psql(lab.port, "app", "SELECT count(*) FROM ledger").unwrap(), "0");
    is_primary(&lab, "b", &["c"]);
}

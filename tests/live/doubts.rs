//! What a failover takes for granted and must not: that a control file names what a standby replays, that who cannot be asked does
//! not run. On real hosts.
//!
//! Who is the primary, and which rows are where, is asked of psql on the hosts.

use std::process::Stdio;
use std::time::Instant;

use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::until;
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
    lab.pgstead(&failover("c")).expect(0);
    is_primary(&lab, "c", &["a"]);
    lab.streams("c", &["a"]);
    assert_eq!(lab.host("c").psql(lab.port, "app", "SELECT count(*) FROM ledger").unwrap(), "100");
}

/// It serves whoever is connected: whoever promotes another one makes two primaries.
#[test]
fn a_primary_that_lets_nobody_ask_is_not_stopped() {
    let release = Release::Bookworm;
    let mut lab = Scenario::boot(release, &["a", "b"]);
    lab.edit(|inventory| inventory["postgres"]["parameters"]["max_connections"] = json!(20));
    lab.bootstrap();
    let pid = lab.run("a", &["head", "-n", "1", &[&data(release), "/postmaster.pid"].concat()]);
    // More than there are: each takes one that is free, those of superusers too, and the last ones are turned away.
    const HOLD: &str =
        "for i in $(seq 30); do runuser -u postgres -- psql -XAtq -c 'SELECT pg_sleep(600)' & done; wait";
    let mut clients = lab.host("a").command(&["bash", "-c", HOLD]).unwrap();
    let mut clients = clients.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
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
    lab.run("a", &["pkill", "-u", "postgres", "-x", "psql"]);
    clients.wait().unwrap();
    lab.eventually("a", "SELECT pg_is_in_recovery()", "f");

    // Its usual database is closed: another one tells what it is.
    lab.host("a").psql(lab.port, "template1", "ALTER DATABASE postgres ALLOW_CONNECTIONS false").unwrap();
    refused(lab.pgstead(&failover("b")), "primary-runs");
    refused(lab.pgstead(&["bootstrap", "--yes", "--format", "json"]), "instance-unasked");
    lab.host("a").psql(lab.port, "template1", "ALTER DATABASE postgres ALLOW_CONNECTIONS true").unwrap();
    lab.settled();
}

//! The primary is dead, and a standby takes its place: on real hosts.
//!
//! Who is the primary, which rows are there and what starts is read on the hosts; samplers inside them would see two writers.

use std::collections::BTreeSet;
use std::time::Instant;

use pgstead::lab::hosts::Block;
use pgstead::lab::hosts::Release;
use serde_json::Value;
use serde_json::json;

use crate::faults::crash_points;
use crate::faults::until_it_comes_through;
use crate::invariants::never_two;
use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::until;
use crate::switchover::SOON;
use crate::switchover::Writer;
use crate::switchover::Written;
use crate::switchover::begun_with_clients;
use crate::switchover::is_primary;
use crate::switchover::nothing_is_lost;
use crate::switchover::one_at_a_time;
use crate::switchover::with_clients;
use crate::traces::Recorders;

const TO_B: &[&str] = &["failover", "--to", "b", "--yes", "--format", "json"];

fn data(release: Release) -> String {
    format!("/var/lib/postgresql/{}/main", release.postgres_major())
}

/// Ends the primary as a crash does, and waits until nobody answers there.
fn kill_primary(lab: &Scenario, release: Release) {
    lab.host("a").signal_postmaster(&data(release), "KILL").unwrap();
    until(Instant::now() + SOON, || lab.host("a").psql(lab.port, "postgres", "SELECT 1").is_err());
}

#[track_caller]
fn refused(ran: Ran, code: &str) {
    let ran = ran.expect(5);
    assert!(ran.codes().contains(&code.to_owned()), "{code}: {ran}");
}

/// Nothing starts it: not its service, and not a boot.
#[track_caller]
fn stays_down(lab: &Scenario, release: Release) {
    let is_down = |when: &str| {
        assert!(lab.host("a").psql(lab.port, "postgres", "SELECT 1").is_err(), "a runs {when}");
    };
    let unit = format!("postgresql@{}-main.service", release.postgres_major());
    let _ = lab.host("a").exec(&["systemctl", "start", &unit]);
    is_down("after systemctl start");
    lab.host("a").power_cut().unwrap();
    lab.host("a").boot().unwrap();
    is_down("after a boot");
}

/// Brings the former primary back as a standby, and everything in line.
fn comes_back(lab: &Scenario) {
    lab.pgstead(&["reseed", "a", "--yes", "--accept-divergence", "--format", "json"]).expect(0);
    lab.bootstrap();
    lab.settled();
}

#[test]
fn a_dead_primary_is_replaced_on_15() {
    replaced(Release::Bookworm);
}

#[test]
fn a_dead_primary_is_replaced_on_17() {
    replaced(Release::Trixie);
}

#[test]
fn a_dead_primary_is_replaced_on_18() {
    replaced(Release::Forky);
}

#[test]
#[ignore = "19 is in Debian's experimental suite alone: make soak"]
fn a_dead_primary_is_replaced_on_19() {
    replaced(Release::Experimental);
}

fn replaced(release: Release) {
    let lab = begun_with_clients(release, &["a", "b", "c"]);
    let recorders = Recorders::begin(&lab, None);
    let writer = Writer::start(&lab, "c");

    // The primary runs; or it is only out of reach.
    refused(lab.pgstead(TO_B), "primary-runs");
    lab.host("a").cut_link().unwrap();
    refused(lab.pgstead(TO_B), "not-fenced");
    refused(lab.pgstead(&[TO_B, &["--accept-loss"]].concat()), "not-fenced");
    lab.host("a").mend_link().unwrap();
    writer.goes_on();
    is_primary(&lab, "a", &["b", "c"]);

    // c has less than b.
    let b = lab.host("b").address();
    lab.eventually("b", "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", "1");
    // What a sends after its line was cut waits for the kernel to try again.
    const KEEPS_UP: &str =
        "SELECT bool_and(pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn) < 10000) FROM pg_stat_replication";
    lab.eventually("a", KEEPS_UP, "t");
    lab.host("c").block_arriving(Block::Drop, b, None).unwrap();
    writer.goes_on();
    kill_primary(&lab, release);
    refused(lab.pgstead(&["failover", "--to", "c", "--accept-loss", "--yes", "--format", "json"]), "successor-behind");
    lab.host("c").unblock().unwrap();

    let dry = lab.pgstead(&[TO_B, &["--dry-run", "--accept-loss"]].concat()).expect(0).json();
    assert_eq!((&dry["from"], &dry["to"]), (&json!("a"), &json!("b")), "{dry:#}");
    is_primary_missing(&lab);
    let begun = Instant::now();
    let ran = lab.pgstead(&[TO_B, &["--accept-loss"]].concat()).expect(0).json();
    writer.goes_on();
    println!("clients write {:.1} s after the command; told {}", begun.elapsed().as_secs_f64(), ran["lost_lsn_bytes"]);
    assert_eq!((&ran["from"], &ran["to"]), (&json!("a"), &json!("b")), "{ran:#}");
    is_primary(&lab, "b", &["c"]);
    lab.streams("b", &["c"]);
    // Once more: nothing is left to do.
    let again = lab.pgstead(TO_B).expect(0).json();
    assert_eq!(again["changed"], false, "{again:#}");

    stays_down(&lab, release);
    refused(lab.pgstead(&["bootstrap", "--yes", "--format", "json"]), "server-fenced");
    writer.goes_on();
    let Written { acknowledged, .. } = writer.end();
    one_at_a_time(&recorders.end(), &["a", "b"]);
    is_lost_as_told(&lab, &acknowledged, &ran);
    comes_back(&lab);
    is_primary(&lab, "b", &["a", "c"]);
}

fn is_primary_missing(lab: &Scenario) {
    for name in ["b", "c"] {
        assert_eq!(lab.sql(name, "SELECT pg_is_in_recovery()"), "t", "{name}");
    }
}

/// Where rows are missing, it was told that WAL is.
fn is_lost_as_told(lab: &Scenario, acknowledged: &[u64], ran: &Value) {
    let there = lab.host("b").psql(lab.port, "app", "SELECT string_agg(id::text, ' ') FROM ledger").unwrap();
    let there: BTreeSet<u64> = there.split(' ').filter_map(|id| id.parse().ok()).collect();
    let missing = acknowledged.iter().filter(|id| !there.contains(id)).count() as u64;
    println!("{missing} of {} acknowledged rows are missing", acknowledged.len());
    if let Some(bytes) = ran["lost_lsn_bytes"].as_u64() {
        assert!(missing == 0 || bytes > 0, "{missing} rows are missing, and {bytes} bytes were told");
    }
}

/// A failover whose proof fails behind the promotion is not called done by the next run, as long as the cause is there.
#[test]
fn a_proof_that_failed_is_made_again() {
    let lab = Scenario::bootstrapped(Release::Bookworm, &["a", "b", "c"]);
    lab.sql("a", "REVOKE USAGE ON SCHEMA pgstead FROM pgstead");
    lab.eventually("c", "SELECT has_schema_privilege('pgstead', 'pgstead', 'usage')", "f");
    kill_primary(&lab, Release::Bookworm);
    let command = [TO_B, &["--accept-loss"]].concat();
    let first = lab.pgstead(&command).expect(6);
    assert!(first.stdout.contains("permission denied for schema pgstead"), "{first}");
    is_primary(&lab, "b", &["c"]);
    let again = lab.pgstead(&command).expect(7);
    assert!(again.stdout.contains("permission denied for schema pgstead"), "{again}");
    lab.sql("b", "GRANT USAGE ON SCHEMA pgstead TO pgstead");
    let last = lab.pgstead(&command).expect(0);
    assert_eq!(last.json()["changed"], false, "{last}");
}

/// What commits waited for is on the successor: no acknowledged row is lost (hazard 51). A commit that was still waiting when the
/// primary died is in its WAL alone, and cannot be told from one that did not wait.
#[test]
fn what_commits_waited_for_is_not_lost() {
    let release = Release::Bookworm;
    let mut lab = Scenario::boot(release, &["a", "b", "c"]);
    lab.edit(|inventory| {
        inventory["servers"]["c"].as_object_mut().unwrap().remove("upstream");
        inventory["replication"]["synchronous"] = json!({ "mode": "any", "count": 1, "standbys": ["b", "c"] });
    });
    with_clients(&mut lab);
    let recorders = Recorders::begin(&lab, None);
    let writer = Writer::start(&lab, "c");
    for _ in 0..4 {
        writer.goes_on();
    }
    kill_primary(&lab, release);
    // Whichever of the two has received more.
    let mut ran = lab.pgstead(TO_B);
    let mut to = "b";
    if ran.codes().contains(&"successor-behind".to_owned()) {
        to = "c";
        ran = lab.pgstead(&["failover", "--to", "c", "--yes", "--format", "json"]);
    }
    if ran.codes().contains(&"loss-needs-consent".to_owned()) {
        assert!(ran.stdout.contains("1 transaction,") && ran.stdout.contains("1 of 2 standbys"), "{ran}");
        ran = lab.pgstead(&["failover", "--to", to, "--accept-loss", "--yes", "--format", "json"]);
    } else {
        assert_eq!(ran.json()["lost_lsn_bytes"], 0, "{ran}");
    }
    ran.expect(0);
    writer.goes_on();
    let other = if to == "b" { "c" } else { "b" };
    is_primary(&lab, to, &[other]);
    let Written { acknowledged, .. } = writer.end();
    assert_eq!(never_two(&recorders.end()), Vec::<String>::new());
    nothing_is_lost(&lab, &acknowledged, &[to, other]);
    comes_back(&lab);
    nothing_is_lost(&lab, &acknowledged, &["a"]);
}

/// Whatever moment pgstead is killed at, the same command finishes the work, and the former primary stays down.
#[test]
#[ignore = "takes minutes: make soak"]
fn pgstead_is_killed_at_every_step_of_a_failover() {
    let release = Release::Trixie;
    let lab = begun_with_clients(release, &["a", "b", "c"]);
    let command = [TO_B, &["--accept-loss"]].concat();
    let recorders = Recorders::begin(&lab, None);
    let mut left: Vec<String> = Vec::new();
    let (mut n_points, mut n_runs) = (0, 0);
    for round in 1..=9 {
        if round > 1 {
            if left.is_empty() {
                break;
            }
            // a is the primary again, as in the beginning.
            lab.pgstead(&["reseed", "a", "--yes", "--accept-divergence", "--format", "json"]).expect(0);
            lab.bootstrap();
            lab.pgstead(&["switchover", "--to", "a", "--yes", "--format", "json"]).expect(0);
        }
        kill_primary(&lab, release);
        if round == 1 {
            let plan = lab.pgstead(&[&command[..], &["--dry-run"]].concat()).expect(0).json();
            left = crash_points(&plan, &["locked", "unlocking", "unlocked"]);
            n_points = left.len();
        }
        until_it_comes_through(&lab, &command, &mut left, |_| n_runs += 1).expect(0);
        n_runs += 1;
        is_primary(&lab, "b", &["c"]);
        lab.streams("b", &["c"]);
    }
    println!("{n_points} crash points in {n_runs} runs");
    assert_eq!(left, Vec::<String>::new(), "crash points that no run came to");
    assert_eq!(never_two(&recorders.end()), Vec::<String>::new());
    comes_back(&lab);
}

//! pgstead stands still in the middle of its work, as on a laptop that was closed, while others go on: on real hosts.
//!
//! Its leases run out by the hosts' own clocks, which is brought about by ageing its locks there.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Release;

use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::Started;
use crate::scenario::until;
use crate::switchover::is_primary;
use crate::switchover::one_at_a_time;
use crate::traces::Recorders;

const TO_B: [&str; 6] = ["switchover", "--to", "b", "--yes", "--format", "json"];

/// Starts a command and waits until it has frozen at a moment.
fn frozen_at(lab: &Scenario, args: &[&str], moment: &str) -> Started {
    let log = lab.path().with_file_name("frozen");
    let _ = std::fs::remove_file(&log);
    let mut command = lab.command(args);
    command.env("PGSTEAD_CRASH", format!("freeze:{moment}")).env("PGSTEAD_CRASH_LOG", &log).process_group(0);
    let run = lab.spawn(command);
    let stat = format!("/proc/{}/stat", run.child.id());
    let mut state = String::new();
    until(Instant::now() + Duration::from_secs(60), || {
        state = std::fs::read_to_string(&stat).unwrap_or_default();
        state.contains(") T ")
    });
    assert!(state.contains(") T "), "it does not stand still: {state}: {}", run.said());
    assert_eq!(std::fs::read_to_string(&log).unwrap().trim(), moment);
    run
}

/// As if the leases had not been renewed for two minutes; the hosts' own clocks judge.
fn leases_run_out(lab: &Scenario, servers: &[&str]) {
    for server in servers {
        lab.run(server, &["touch", "-d", "2 minutes ago", &format!("/var/lib/pgstead/lab/{server}/lock")]);
    }
}

/// The state directory of somebody else in the team: the same secrets, on another machine.
fn colleague(lab: &Scenario) -> PathBuf {
    let theirs = lab.path().with_file_name("colleague");
    std::fs::create_dir(&theirs).unwrap();
    copy(&lab.state(), &theirs);
    theirs
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

fn of(lab: &Scenario, state: &std::path::Path, args: &[&str]) -> Ran {
    lab.pgstead(&[args, &["--state", &state.to_string_lossy()]].concat())
}

/// What it says when it wakes up: that it lost its lease, and that it promoted nobody.
#[track_caller]
fn woken(run: Started) -> Ran {
    run.signal("CONT", false);
    let woken = run.end().expect(9);
    assert_eq!(woken.json()["error"]["code"], "lease-lost", "{woken}");
    assert!(woken.stdout.contains("overtaken") && woken.stdout.contains("promoted nobody"), "{woken}");
    woken
}

#[test]
fn whoever_slept_through_the_lease_of_a_switchover_promotes_nobody_on_15() {
    slept_through(Release::Bookworm);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn whoever_slept_through_the_lease_of_a_switchover_promotes_nobody_on_17() {
    slept_through(Release::Trixie);
}

fn slept_through(release: Release) {
    let lab = Scenario::boot(release, &["a", "b"]);
    lab.bootstrap();
    let theirs = colleague(&lab);
    let recorders = Recorders::begin(&lab, None);

    // A colleague takes it back meanwhile.
    let first = frozen_at(&lab, &TO_B, "stopped");
    let early = of(&lab, &theirs, &["switchover", "--abort", "--yes", "--format", "json"]).expect(9);
    assert!(early.codes().contains(&"locked".to_owned()), "{early}");
    leases_run_out(&lab, &["a", "b"]);
    of(&lab, &theirs, &["switchover", "--abort", "--yes", "--format", "json"]).expect(0);
    is_primary(&lab, "a", &["b"]);
    lab.sql("a", "CREATE TABLE t AS SELECT 42 AS answer");
    woken(first);
    is_primary(&lab, "a", &["b"]);
    lab.eventually("b", "SELECT answer FROM t", "42");
    lab.settled();

    // Nobody came. It does nothing without a lease, and the same command goes on from there.
    let second = frozen_at(&lab, &TO_B, "stopped");
    leases_run_out(&lab, &["a", "b"]);
    let told = woken(second);
    assert!(told.stdout.contains("the same command again"), "{told}");
    assert_eq!(lab.sql("b", "SELECT pg_is_in_recovery()"), "t");
    assert!(lab.host("a").psql(lab.port, "postgres", "SELECT 1").is_err(), "it was started");
    lab.pgstead(&TO_B).expect(0);
    is_primary(&lab, "b", &["a"]);
    assert_eq!(lab.sql("b", "SELECT answer FROM t"), "42");
    lab.settled();

    // A moment of sleep is none of all that.
    let third = frozen_at(&lab, &["switchover", "--to", "a", "--yes", "--format", "json"], "stopped");
    third.signal("CONT", false);
    third.end().expect(0);
    is_primary(&lab, "a", &["b"]);
    lab.settled();
    one_at_a_time(&recorders.end(), &["a", "b"]);
}

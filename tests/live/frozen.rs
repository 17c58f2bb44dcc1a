//! pgstead stands still in the middle of its work, as on a laptop that was closed, while others go on: on real hosts.
//!
//! Its leases run out by the hosts' own clocks, which is brought about by ageing its locks there.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Release;

use crate::faults::crashing_with;
use crate::faults::cut_off_when_it_stops;
use crate::faults::no_longer_cut_off;
use crate::lease::in_the_middle;
use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::Started;
use crate::scenario::until;
use crate::switchover::is_primary;
use crate::switchover::one_at_a_time;
use crate::traces::Recorders;

const TO_B: [&str; 6] = ["switchover", "--to", "b", "--yes", "--format", "json"];

/// Starts a command and waits until it has frozen at a moment.
pub(crate) fn frozen_at(lab: &Scenario, args: &[&str], moment: &str) -> Started {
    let log = lab.path().with_file_name("frozen");
    let _ = std::fs::remove_file(&log);
    let mut command = lab.command(args);
    command.env("PGSTEAD_CRASH", format!("freeze:{moment}")).env("PGSTEAD_CRASH_LOG", &log).process_group(0);
    let run = lab.spawn(command);
    let stat = format!("/proc/{}/stat", run.child.id());
    let mut state = String::new();
    until(Instant::now() + Duration::from_secs(120), || {
        state = std::fs::read_to_string(&stat).unwrap_or_default();
        state.contains(") T ")
    });
    assert!(state.contains(") T "), "it does not stand still: {state}: {}", run.said());
    assert_eq!(std::fs::read_to_string(&log).unwrap().trim(), moment);
    run
}

/// As if the leases had not been renewed for two minutes; the hosts' own clocks judge.
pub(crate) fn leases_run_out(lab: &Scenario, servers: &[&str]) {
    for server in servers {
        lab.run(server, &["touch", "-c", "-d", "2 minutes ago", &format!("/var/lib/pgstead/lab/{server}/lock")]);
    }
}

/// The state directory of somebody else in the team: the same secrets, on another machine.
pub(crate) fn colleague(lab: &Scenario) -> PathBuf {
    let theirs = lab.path().with_file_name("colleague");
    std::fs::create_dir_all(&theirs).unwrap();
    copy(&lab.state(), &theirs);
    theirs
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

pub(crate) fn of(lab: &Scenario, state: &std::path::Path, args: &[&str]) -> Ran {
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

/// The undo of a handover is no way around: a run that slept before it starts nobody who was replaced meanwhile.
#[test]
fn whoever_slept_before_the_way_back_starts_nobody_who_was_replaced() {
    let lab = Scenario::boot(Release::Bookworm, &["a", "b"]);
    lab.bootstrap();
    let theirs = colleague(&lab);
    let recorders = Recorders::begin(&lab, None);
    // Its shutdown checkpoint does not arrive.
    cut_off_when_it_stops(&lab, "a", "b");
    let first = frozen_at(&lab, &TO_B, "undoing");
    no_longer_cut_off(&lab, "a", "b");
    leases_run_out(&lab, &["a", "b"]);
    of(&lab, &theirs, &["failover", "--to", "b", "--accept-loss", "--yes", "--format", "json"]).expect(0);
    lab.sql("b", "CREATE TABLE t AS SELECT 42 AS answer");
    woken(first);
    assert_eq!(lab.sql("b", "SELECT pg_is_in_recovery()"), "f");
    assert!(lab.host("a").psql(lab.port, "postgres", "SELECT 1").is_err(), "a was started");
    one_at_a_time(&recorders.end(), &["a", "b"]);
    lab.pgstead(&["reseed", "a", "--accept-divergence", "--yes", "--format", "json"]).expect(0);
    lab.eventually("a", "SELECT answer FROM t", "42");
    lab.settled();
}

/// Runs pgstead as in a container: the same user, host name and path, and a copy of the state directory.
fn in_a_container(lab: &Scenario, copy: &std::path::Path, args: &[&str]) -> Ran {
    let inner = lab.command(args);
    let mut outer = std::process::Command::new("unshare");
    let mount = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    outer.args(["--mount", "sh", "-c", mount, "sh"]).arg(copy).arg(lab.state());
    outer.arg(inner.get_program()).args(inner.get_args()).stdin(std::process::Stdio::null());
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    lab.spawn(outer).end()
}

/// Containers of one image share user, host name, path, and what is in the state directory. Neither takes the other's living
/// lease for its own dead one; whoever is proven dead is followed at once.
#[test]
fn a_living_lease_is_not_taken_over_by_the_same_name() {
    const YES: &[&str] = &["bootstrap", "--yes", "--format", "json"];
    let (lab, first, _) = in_the_middle();
    let theirs = colleague(&lab).join("lab");
    let refused = in_a_container(&lab, &theirs, YES).expect(9);
    assert!(refused.codes().contains(&"locked".to_owned()), "{refused}");
    assert!(refused.stderr.contains("its lease ends in "), "{refused}");
    let copies = "SELECT phase FROM pg_stat_progress_basebackup";
    assert_eq!(lab.sql("a", copies), "streaming database files", "the first one's job was ended");

    // It is dead, and only its own state directory can know that at once.
    first.signal("KILL", false);
    first.end();
    in_a_container(&lab, &theirs, YES).expect(9);
    lab.host("b").unlimit().unwrap();
    lab.bootstrap();
    lab.streams("a", &["b"]);

    // After a minute it is anybody's.
    let (ran, struck) = crashing_with(&lab, &["reseed", "b", "--method", "basebackup", "--yes"], "locked");
    assert_eq!(struck.as_deref(), Some("locked"), "{ran}");
    let reseed = ["reseed", "b", "--method", "basebackup", "--yes", "--format", "json"];
    in_a_container(&lab, &theirs, &reseed).expect(9);
    leases_run_out(&lab, &["a", "b"]);
    let taken = in_a_container(&lab, &theirs, &reseed).expect(0);
    assert!(taken.codes().contains(&"lease-taken-over".to_owned()), "{taken}");
    lab.settled();
}

/// A switchover is not taken back while its successor is not in the inventory: it may have been promoted.
#[test]
fn a_successor_that_left_the_inventory_is_not_forgotten() {
    let mut lab = Scenario::boot(Release::Trixie, &["a", "b", "c"]);
    lab.bootstrap();
    let recorders = Recorders::begin(&lab, None);
    let (ran, struck) = crashing_with(&lab, &TO_B, "promoted");
    assert_eq!(struck.as_deref(), Some("promoted"), "{ran}");
    let whole = lab.inventory.clone();
    lab.edit(|inventory| {
        let servers = inventory["servers"].as_object_mut().unwrap();
        servers.remove("b");
        servers["c"].as_object_mut().unwrap().remove("upstream");
    });
    let commands: [&[&str]; 2] = [
        &["switchover", "--abort", "--yes", "--format", "json"],
        &["switchover", "--to", "c", "--yes", "--format", "json"],
    ];
    for command in commands {
        let refused = lab.pgstead(command).expect(5);
        assert!(refused.codes().contains(&"successor-outside".to_owned()), "{refused}");
    }
    assert!(lab.host("a").psql(lab.port, "postgres", "SELECT 1").is_err(), "a was started");
    let check = lab.pgstead(&["check", "--format", "json"]).expect(7);
    for code in ["successor-outside", "upstream-outside"] {
        assert!(check.codes().contains(&code.to_owned()), "{code}: {check}");
    }
    lab.edit(|inventory| *inventory = whole);
    lab.pgstead(&TO_B).expect(0);
    is_primary(&lab, "b", &["a", "c"]);
    one_at_a_time(&recorders.end(), &["a", "b"]);
    lab.settled();
}

/// A disk that hangs: whoever reads this never comes back. SSH works.
pub(crate) fn hangs(lab: &Scenario, server: &str) {
    let job = format!("/var/lib/pgstead/lab/{server}/jobs/hangs");
    lab.run(server, &["sh", "-c", "mkdir -p \"$1\" && : >\"$1/record\" && mkfifo \"$1/status\"", "sh", &job]);
}

/// One read that never returns makes a server unknown, and holds nobody up.
#[test]
fn a_read_that_never_returns_holds_no_failover_up() {
    const SOON: Duration = Duration::from_secs(120);
    let lab = Scenario::boot(Release::Bookworm, &["a", "b", "c"]);
    // That c streams from b shows that it is a standby: nobody has to look at it.
    lab.bootstrap();
    hangs(&lab, "c");
    let begun = Instant::now();
    let check = lab.pgstead(&["check", "--format", "json"]).expect(10);
    assert!(check.codes().contains(&"server-unreachable".to_owned()), "{check}");
    assert!(check.stdout.contains("did not answer within"), "{check}");
    lab.pgstead(&["status"]);
    assert!(begun.elapsed() < SOON * 3, "{:?}", begun.elapsed());

    lab.host("a").signal_postmaster("/var/lib/postgresql/15/main", "KILL").unwrap();
    until(Instant::now() + SOON, || lab.host("a").psql(lab.port, "postgres", "SELECT 1").is_err());
    let begun = Instant::now();
    lab.pgstead(&["failover", "--to", "b", "--yes", "--format", "json"]).expect(0);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(lab.sql("b", "SELECT pg_is_in_recovery()"), "f");
    // Nothing is left behind there: a check runs every minute.
    let left = lab.run("c", &["sh", "-c", "ps -eo args | grep -c '^sh -s -- [v]ersion' || :"]);
    assert_eq!(left.trim(), "0");
    let scratch = lab.run("c", &["sh", "-c", "ls -d /tmp/tmp.* 2>/dev/null | wc -l"]);
    assert_eq!(scratch.trim(), "0", "directories of the probe are left");
    lab.run("c", &["rm", "-r", "/var/lib/pgstead/lab/c/jobs/hangs"]);
    lab.pgstead(&["reseed", "a", "--accept-divergence", "--yes", "--format", "json"]).expect(0);
    lab.bootstrap();
    is_primary(&lab, "b", &["a", "c"]);
    lab.settled();
}

/// A removal runs as every other change does: a lease that it took over is told, and what a dead run left locked is given back.
#[test]
fn a_removal_tells_whose_lease_it_took_and_gives_back_what_was_left() {
    let lab = Scenario::boot(Release::Bookworm, &["a", "b"]);
    lab.bootstrap();
    lab.pgstead(&["reseed", "b", "--method", "basebackup", "--yes", "--format", "json"]).expect(0);
    let status = lab.pgstead(&["status", "--format", "json"]).expect(0).json();
    let name = status["aside"][0]["name"].as_str().unwrap().to_owned();
    let (ran, struck) = crashing_with(&lab, &TO_B, "locked");
    assert_eq!(struck.as_deref(), Some("locked"), "{ran}");
    let foreign = br#"{"run":"r1","operation":"reseed","owner":"bob@far","since":"2026-01-02T03:04:05Z"}"#;
    lab.host("b").write_file("/var/lib/pgstead/lab/b/lock", foreign).unwrap();
    leases_run_out(&lab, &["b"]);
    let ran = lab.pgstead(&["forget-aside", "b", &name, "--yes", "--format", "json"]).expect(0);
    assert!(ran.codes().contains(&"lease-taken-over".to_owned()) && ran.stderr.contains("bob@far"), "{ran}");
    for server in ["a", "b"] {
        let lock = format!("/var/lib/pgstead/lab/{server}/lock");
        assert!(lab.host(server).run(&["test", "-e", &lock]).is_err(), "{lock} is left");
    }
    lab.settled();
}

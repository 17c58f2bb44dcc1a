//! The row *switchover* of the fault tables (hazards.md, section 5): a fault in the middle of handing over from a to b, the
//! same command again or `--abort`, and in the end everything is as it should be.
//!
//! In each cell b becomes the primary or a stays it, and there are never two. Adding a cell is adding a line to a table below.

use std::process::Child;
use std::time::Instant;

use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::Release;
use pgstead::lab::hosts::SmallDisk;

use crate::depth;
use crate::faults::crashing_with;
use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::until;
use crate::switchover::SOON;
use crate::switchover::Writer;
use crate::switchover::Written;
use crate::switchover::hand_over;
use crate::switchover::is_primary;
use crate::switchover::nothing_is_lost;
use crate::switchover::one_at_a_time;
use crate::switchover::slots;
use crate::switchover::with_clients;
use crate::traces::Recorders;

/// The command under test.
const TO_B: &[&str] = &["switchover", "--to", "b", "--yes", "--format", "json"];
const ABORT: &[&str] = &["switchover", "--abort", "--yes", "--format", "json"];

/// The moment from which on nothing starts a any more.
const MARKED: &str = "after:a: mark it as about to hand over to \"b\": nothing starts it from now on";

/// Where b has its data, on a disk of its own.
const DISK: &str = "/var/lib/postgresql";

/// A cell: its name, what happens in it, and who is the primary in the end. It returns with all faults mended.
type Cell = (&'static str, fn(&Scene), &'static str);

/// What a cell plays on: a is the primary, b follows a, c follows b, and a client on c writes.
struct Scene {
    lab: Scenario,
    release: Release,
}

impl Scene {
    fn data(&self) -> String {
        format!("/var/lib/postgresql/{}/main", self.release.postgres_major())
    }

    fn unit(&self) -> String {
        format!("postgresql@{}-main.service", self.release.postgres_major())
    }

    fn run(&self) -> Ran {
        self.lab.pgstead(TO_B)
    }

    /// Does something on a host at the very moment when a test on that host holds: whoever asks from outside asks too late.
    fn as_soon_as(&self, host: &str, holds: &str, then: &str) -> Child {
        let script = format!("until {holds}; do :; done; {then}");
        let data = self.data();
        let operator = self.lab.host(host).operator_address().to_string();
        self.lab.host(host).command(&["sh", "-c", &script, "sh", &data, &operator]).unwrap().spawn().unwrap()
    }

    /// Lets pgstead die at a moment.
    fn killed_at(&self, moment: &str) {
        let (ran, struck) = crashing_with(&self.lab, TO_B, moment);
        assert_eq!(struck.as_deref(), Some(moment), "{ran}");
    }

    #[track_caller]
    fn is_down(&self, host: &str) {
        assert!(self.lab.host(host).psql(self.lab.port, "postgres", "SELECT 1").is_err(), "{host} runs");
    }

    #[track_caller]
    fn accepts_no_writes(&self, host: &str) {
        let answer = self.lab.host(host).psql(self.lab.port, "postgres", "SELECT pg_is_in_recovery()");
        assert!(
            answer.is_err() || answer.as_deref().is_ok_and(|answer| answer == "t"),
            "{host} is a primary: {answer:?}"
        );
    }
}

/// Demands an end, and that it says why.
#[track_caller]
fn ended(ran: Ran, code: i32, diagnostic: &str) {
    let ran = ran.expect(code);
    assert!(ran.codes().contains(&diagnostic.to_owned()), "{diagnostic} is not in {ran}");
}

const A_IS_MARKED: &str = "grep -q demoted /var/lib/pgstead/lab/a/role";

const LINES_AND_DISKS: &[Cell] = &[
    ("the operator is cut off from the primary", operator_cut_off, "b"),
    ("the successor's disk is full", successor_full, "a"),
    ("the successor has another host key", other_host_key, "a"),
    ("another run holds the servers", another_run, "b"),
];

const SERVERS: &[Cell] = &[
    ("the primary is killed in its shutdown", primary_killed, "a"),
    ("the successor loses its power before its promotion", successor_without_power, "b"),
    ("the successor is killed right after its promotion", successor_killed, "b"),
    ("the primary loses its power before its shutdown", primary_without_power, "a"),
];

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn lines_and_disks_fail_in_a_switchover_on_15() {
    play(Release::Bookworm, LINES_AND_DISKS);
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn lines_and_disks_fail_in_a_switchover_on_17() {
    play(Release::Trixie, LINES_AND_DISKS);
}

#[test]
fn lines_and_disks_fail_in_a_switchover_on_18() {
    play(Release::Forky, LINES_AND_DISKS);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn servers_fail_in_a_switchover_on_15() {
    play(Release::Bookworm, SERVERS);
}

#[test]
fn servers_fail_in_a_switchover_on_17() {
    play(Release::Trixie, SERVERS);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn servers_fail_in_a_switchover_on_18() {
    play(Release::Forky, SERVERS);
}

/// Plays cells one after the other; a is the primary again before each.
fn play(release: Release, cells: &[Cell]) {
    let disk = SmallDisk { mount_point: DISK.into(), mebibytes: 1000 };
    let b = HostSpec { small_disk: Some(disk), ..HostSpec::new("b", release) };
    let mut lab = Scenario::of(vec![HostSpec::new("a", release), b, HostSpec::new("c", release)]);
    with_clients(&mut lab);
    let scene = Scene { lab, release };
    let lab = &scene.lab;
    let recorders = Recorders::begin(lab, None);
    let writer = Writer::start(lab, "c");
    let played = depth::cells(2, cells, |(name, ..)| name);
    let becomes = |server: &&str| *server == "a" || played.iter().any(|(.., primary)| primary == server);
    let primaries: Vec<&str> = ["a", "b"].into_iter().filter(becomes).collect();
    for &(name, cell, primary) in &played {
        let begun = Instant::now();
        println!("--- {name} on {}", release.postgres_major());
        cell(&scene);
        let standby = if primary == "a" { "b" } else { "a" };
        is_primary(lab, primary, &[standby, "c"]);
        writer.goes_on();
        assert_eq!(slots(lab, standby), if primary == "a" { "c true" } else { "" }, "{name}");
        lab.settled();
        if primary == "b" {
            hand_over(lab, "b", "a");
        }
        println!("{name} on {}: {:.1} s", release.postgres_major(), begun.elapsed().as_secs_f64());
    }
    let Written { acknowledged, .. } = writer.end();
    one_at_a_time(&recorders.end(), &primaries);
    nothing_is_lost(lab, &acknowledged, &["a", "b", "c"]);
}

/// Whether a has shut down is not known: nobody is promoted. When it can be looked at, the same command goes on.
fn operator_cut_off(scene: &Scene) {
    let mut cut = scene.as_soon_as("a", A_IS_MARKED, "ip route add blackhole \"$2\"");
    let ran = scene.run();
    assert!(matches!(ran.code, 4 | 6 | 10), "{ran}");
    assert!(cut.wait().unwrap().success());
    assert_eq!(scene.lab.sql("b", "SELECT pg_is_in_recovery()"), "t", "it was promoted without a proof: {ran}");
    let operator = scene.lab.host("a").operator_address().to_string();
    scene.lab.run("a", &["ip", "route", "del", "blackhole", &operator]);
    scene.run().expect(0);
}

fn successor_full(scene: &Scene) {
    let started = scene.lab.sql("a", "SELECT pg_postmaster_start_time()");
    scene.lab.host("b").fill_disk(DISK, 30 << 10).unwrap();
    ended(scene.run(), 5, "disk-nearly-full");
    scene.lab.host("b").free_disk(DISK).unwrap();
    assert_eq!(scene.lab.sql("a", "SELECT pg_postmaster_start_time()"), started);
}

fn other_host_key(scene: &Scene) {
    let started = scene.lab.sql("a", "SELECT pg_postmaster_start_time()");
    scene.lab.host("b").replace_host_key().unwrap();
    scene.run().expect(4);
    scene.lab.host("b").restore_host_key().unwrap();
    assert_eq!(scene.lab.sql("a", "SELECT pg_postmaster_start_time()"), started);
}

/// A run that died in between holds the servers for a minute, against everybody but its own operator.
fn another_run(scene: &Scene) {
    scene.killed_at("stopped");
    let since = Instant::now();
    let other = scene.lab.path().with_file_name("other-state");
    let state = scene.lab.state();
    let copied = std::process::Command::new("cp").arg("-r").arg(state.parent().unwrap()).arg(&other).status();
    assert!(copied.unwrap().success());
    let elsewhere = ["--state", &other.to_string_lossy()];
    ended(scene.lab.pgstead(&[TO_B, &elsewhere].concat()), 9, "locked");
    ended(scene.lab.pgstead(&[ABORT, &elsewhere].concat()), 9, "locked");
    std::fs::remove_dir_all(&other).unwrap();
    // Nobody could write since then, and the run that ends that says so.
    let least = since.elapsed();
    let ran = scene.run().expect(0).json();
    assert!(ran["write_downtime_ms"].as_f64().unwrap() > least.as_secs_f64() * 1000.0, "{least:?}: {ran}");
    assert_eq!(ran["write_downtime_is_least"], true, "{ran}");
}

/// It left no shutdown checkpoint, so that nobody knows where its WAL ends: it is the primary again.
fn primary_killed(scene: &Scene) {
    let mut kill = scene.as_soon_as("a", A_IS_MARKED, "kill -9 \"$(head -n 1 \"$1/postmaster.pid\")\"");
    ended(scene.run(), 6, "shutdown-unclean");
    assert!(kill.wait().unwrap().success());
}

/// What it accepted before it died is nowhere else: it must come back as the primary, and a must not.
fn successor_killed(scene: &Scene) {
    let then = "kill -9 \"$(head -n 1 \"$1/postmaster.pid\")\"";
    let mut kill = scene.as_soon_as("b", "[ ! -e \"$1/standby.signal\" ]", then);
    let ran = scene.run();
    assert!(matches!(ran.code, 6 | 10), "{ran}");
    assert!(kill.wait().unwrap().success());
    // Whatever the service manager made of it.
    let _ = scene.lab.host("b").exec(&["systemctl", "stop", &scene.unit()]);
    scene.is_down("b");
    scene.accepts_no_writes("a");
    // How far the rest of that run had come decides whether a is marked still, is down, or is a standby by now.
    let abort = scene.lab.pgstead(ABORT).expect(5);
    assert!(abort.codes().iter().any(|code| code == "already-promoted" || code == "nothing-to-abort"), "{abort}");
    scene.accepts_no_writes("a");
    scene.run().expect(0);
}

/// Nothing starts it by itself when the power is back, and where its WAL ends is not known: it is taken back.
fn primary_without_power(scene: &Scene) {
    scene.killed_at(MARKED);
    scene.lab.host("a").power_cut().unwrap();
    scene.run().expect(4);
    scene.lab.host("a").boot().unwrap();
    scene.is_down("a");
    ended(scene.run(), 5, "not-shut-down");
    scene.lab.pgstead(ABORT).expect(0);
}

fn successor_without_power(scene: &Scene) {
    scene.killed_at("stopped");
    scene.lab.host("b").power_cut().unwrap();
    scene.run().expect(4);
    scene.lab.pgstead(ABORT).expect(4);
    scene.is_down("a");
    scene.lab.host("b").boot().unwrap();
    let in_recovery = || scene.lab.host("b").psql(scene.lab.port, "postgres", "SELECT pg_is_in_recovery()");
    until(Instant::now() + SOON, || in_recovery().is_ok_and(|answer| answer == "t"));
    scene.run().expect(0);
}

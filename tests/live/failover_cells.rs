//! The row *failover* of the fault tables (hazards.md, section 5): a fault in the middle of replacing a dead primary, the same
//! command again, and in the end b is the primary and a comes back as a standby.
//!
//! Adding a cell is adding a line to a table below.

use std::time::Instant;

use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::Release;
use pgstead::lab::hosts::SmallDisk;

use crate::depth;
use crate::faults::crashing_with;
use crate::invariants::never_two;
use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::until;
use crate::switchover::SOON;
use crate::switchover::Writer;
use crate::switchover::is_primary;
use crate::switchover::with_clients;
use crate::traces::Recorders;

const TO_B: &[&str] = &["failover", "--to", "b", "--accept-loss", "--yes", "--format", "json"];

/// The moments from which on nothing starts a any more, and b is the primary.
const FENCED: &str = "after:a: fence it: nothing starts it from now on";
const PROMOTED: &str = "after:b: promote it";

/// Where b has its data, on a disk of its own.
const DISK: &str = "/var/lib/postgresql";

/// What a cell plays on: a was the primary and is dead, b follows a, c follows b.
struct Scene {
    lab: Scenario,
}

impl Scene {
    fn run(&self) -> Ran {
        self.lab.pgstead(TO_B)
    }

    /// Lets pgstead die at a moment.
    fn killed_at(&self, moment: &str) {
        let (ran, struck) = crashing_with(&self.lab, TO_B, moment);
        assert_eq!(struck.as_deref(), Some(moment), "{ran}");
    }

    fn reboot(&self, host: &str) {
        self.lab.host(host).power_cut().unwrap();
        self.lab.host(host).boot().unwrap();
    }

    #[track_caller]
    fn is_down(&self, host: &str) {
        assert!(self.lab.host(host).psql(self.lab.port, "postgres", "SELECT 1").is_err(), "{host} runs");
    }
}

type Cell = (&'static str, fn(&Scene));

const CELLS: &[Cell] = &[
    ("the successor's disk is full", successor_full),
    ("another run holds the servers", another_run),
    ("the former primary boots in the middle", former_boots),
    ("the successor boots right after its promotion", successor_boots),
];

#[test]
fn lines_disks_and_servers_fail_in_a_failover_on_15() {
    play(Release::Bookworm);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn lines_disks_and_servers_fail_in_a_failover_on_17() {
    play(Release::Trixie);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn lines_disks_and_servers_fail_in_a_failover_on_18() {
    play(Release::Forky);
}

/// Plays cells one after the other; a is the primary again before each, and is killed.
fn play(release: Release) {
    let disk = SmallDisk { mount_point: DISK.into(), mebibytes: 1000 };
    let b = HostSpec { small_disk: Some(disk), ..HostSpec::new("b", release) };
    let mut lab = Scenario::of(vec![HostSpec::new("a", release), b, HostSpec::new("c", release)]);
    with_clients(&mut lab);
    let data = format!("/var/lib/postgresql/{}/main", release.postgres_major());
    let scene = Scene { lab };
    let lab = &scene.lab;
    let recorders = Recorders::begin(lab, None);
    let writer = Writer::start(lab, "c");
    for (name, cell) in depth::cells(2, CELLS, |(name, _)| name) {
        let begun = Instant::now();
        println!("--- {name} on {}", release.postgres_major());
        lab.host("a").signal_postmaster(&data, "KILL").unwrap();
        until(Instant::now() + SOON, || lab.host("a").psql(lab.port, "postgres", "SELECT 1").is_err());
        cell(&scene);
        is_primary(lab, "b", &["c"]);
        scene.is_down("a");
        writer.goes_on();
        lab.streams("b", &["c"]);
        lab.pgstead(&["reseed", "a", "--yes", "--accept-divergence", "--format", "json"]).expect(0);
        lab.bootstrap();
        lab.settled();
        lab.pgstead(&["switchover", "--to", "a", "--yes", "--format", "json"]).expect(0);
        println!("{name} on {}: {:.1} s", release.postgres_major(), begun.elapsed().as_secs_f64());
    }
    writer.end();
    assert_eq!(never_two(&recorders.end()), Vec::<String>::new());
}

fn successor_full(scene: &Scene) {
    scene.lab.host("b").fill_disk(DISK, 30 << 10).unwrap();
    let ran = scene.run().expect(5);
    assert!(ran.codes().contains(&"successor-disk-full".to_owned()), "{ran}");
    assert_eq!(scene.lab.sql("b", "SELECT pg_is_in_recovery()"), "t");
    scene.lab.host("b").free_disk(DISK).unwrap();
    scene.run().expect(0);
}

/// A run that died in between holds the servers for a minute, against everybody but its own operator.
fn another_run(scene: &Scene) {
    scene.killed_at(FENCED);
    let other = scene.lab.path().with_file_name("other-state");
    let state = scene.lab.state();
    let copied = std::process::Command::new("cp").arg("-r").arg(state.parent().unwrap()).arg(&other).status();
    assert!(copied.unwrap().success());
    let ran = scene.lab.pgstead(&[TO_B, &["--state", &other.to_string_lossy()]].concat()).expect(9);
    assert!(ran.codes().contains(&"locked".to_owned()), "{ran}");
    std::fs::remove_dir_all(&other).unwrap();
    assert_eq!(scene.lab.sql("b", "SELECT pg_is_in_recovery()"), "t");
    scene.run().expect(0);
}

/// It is fenced: a boot does not bring it back.
fn former_boots(scene: &Scene) {
    scene.killed_at(FENCED);
    scene.reboot("a");
    scene.is_down("a");
    scene.run().expect(0);
}

/// What it accepted is nowhere else: it is finished as the primary.
fn successor_boots(scene: &Scene) {
    scene.killed_at(PROMOTED);
    scene.reboot("b");
    scene.is_down("a");
    scene.run().expect(0);
}

//! The other cells of the `bootstrap` row (hazards.md, section 5): a fault in the middle of the work, the invariants, the
//! same command again.
//!
//! Each cell begins with b as it first booted. Adding one is adding a line to a table below.

use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Block;
use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::Release;
use pgstead::lab::hosts::SmallDisk;

use crate::depth;
use crate::faults::BOOTSTRAP;
use crate::faults::at_rest;
use crate::invariants::invariants;
use crate::invariants::refusal_helps;
use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::Started;
use crate::scenario::until;
use crate::traces::Recorders;

/// A cell: its name, and what happens in it. It returns with all faults mended.
type Cell = (&'static str, fn(&mut Scene));

/// What a cell plays on: a is a primary with a ledger that goes on, b is bare and becomes its standby.
struct Scene {
    lab: Scenario,
    release: Release,
}

impl Scene {
    fn data(&self) -> String {
        format!("/var/lib/postgresql/{}/main", self.release.postgres_major())
    }

    fn program(&self, name: &str) -> String {
        format!("/usr/lib/postgresql/{}/bin/{name}", self.release.postgres_major())
    }

    /// Starts the bootstrap of b behind so slow a link that there is time for faults, and returns in the middle of the copy.
    fn middle(&self) -> Started {
        self.lab.host("b").limit_rate(32).unwrap();
        let run = self.lab.start(BOOTSTRAP);
        let phase = "SELECT phase FROM pg_stat_progress_basebackup WHERE backup_streamed > 0";
        let mut last = String::new();
        until(Instant::now() + Duration::from_secs(120), || {
            last = self.lab.host("a").psql(self.lab.port, "postgres", phase).unwrap_or_default();
            last == "streaming database files"
        });
        assert_eq!(last, "streaming database files", "the copy did not begin");
        run
    }

    /// Demands that b has no data directory, and that a is the very instance that it was.
    #[track_caller]
    fn nothing_happened(&self, a_since: &str) {
        let there = ["sh", "-c", "[ ! -e \"$1\" ] && echo absent", "sh", &self.data()];
        assert_eq!(self.lab.run("b", &there), "absent", "b has a data directory");
        assert_eq!(self.since("a"), a_since, "a is another instance");
    }

    fn since(&self, host: &str) -> String {
        self.lab.sql(host, "SELECT pg_postmaster_start_time()")
    }
}

/// Plays cells one after the other, and after each the same command again, and looks at the invariants.
fn play(release: Release, cells: &[Cell]) {
    let disk = SmallDisk { mount_point: "/var/lib/postgresql".into(), mebibytes: 700 };
    let specs = vec![HostSpec::new("a", release), HostSpec { small_disk: Some(disk), ..HostSpec::new("b", release) }];
    let mut scene = Scene { lab: Scenario::of(specs), release };
    let whole = scene.lab.inventory.clone();
    scene.lab.edit(|inventory| drop(inventory["servers"].as_object_mut().unwrap().remove("b")));
    scene.lab.bootstrap();
    // 20 MB and a bit, so that the copy has a middle.
    scene
        .lab
        .sql("a", "CREATE TABLE bulk AS SELECT i, repeat(md5(i::text), 8) AS text FROM generate_series(1, 20000) i");
    scene.lab.edit(|inventory| *inventory = whole);
    for (number, (name, cell)) in depth::cells(3, cells, |(name, _)| name).into_iter().enumerate() {
        let begun = Instant::now();
        if number > 0 {
            // As after a new installation: its slot, role and certificate are still known elsewhere.
            scene.lab.host("b").reset().unwrap();
        }
        let recorders = Recorders::begin(&scene.lab, Some("a"));
        println!("--- {name} on {}", release.postgres_major());
        cell(&mut scene);
        scene.lab.host("b").unlimit().unwrap();
        let last = scene.lab.pgstead(BOOTSTRAP).expect(0);
        let traces = recorders.end();
        invariants(&scene.lab, &traces, &last);
        assert!(!traces.acknowledged.is_empty(), "{name}: nobody wrote");
        assert_eq!(scene.lab.sql("b", "SELECT count(*) FROM bulk"), "20000", "{name}");
        let (rows, seconds) = (traces.acknowledged.len(), begun.elapsed().as_secs_f64());
        println!("{name} on {}: {seconds:.1} s, {rows} rows acknowledged and there", release.postgres_major());
    }
}

/// Demands the code of an outcome that is not known, of one that failed, or of a refusal that helps.
#[track_caller]
fn ended(ran: Ran, code: i32, diagnostic: &str) -> Ran {
    let ran = ran.expect(code);
    assert!(ran.stderr.contains(diagnostic) || ran.stdout.contains(diagnostic), "{diagnostic} is not in {ran}");
    ran
}

const WIRES_AND_DISKS: &[Cell] = &[
    ("SSH to the target is cut", |scene| {
        let run = scene.middle();
        let (b, operator) = (scene.lab.host("b"), scene.lab.host("b").operator_address());
        b.block_arriving(Block::Reject, operator, Some(22)).unwrap();
        // The connection breaks at the next packet: a renewal of the lease at the latest.
        ended(run.end(), 10, "outcome-unknown");
        b.unblock().unwrap();
    }),
    ("the upstream is cut off, and its packets rejected", |scene| {
        let since = scene.since("a");
        let run = scene.middle();
        let (a, b) = (scene.lab.host("a"), scene.lab.host("b"));
        a.block_arriving(Block::Reject, b.address(), Some(5432)).unwrap();
        ended(run.end(), 6, "could not take a base backup");
        a.unblock().unwrap();
        scene.nothing_happened(&since);
    }),
    ("the upstream falls silent for a while, one way", |scene| {
        let run = scene.middle();
        let (a, b) = (scene.lab.host("a"), scene.lab.host("b"));
        a.block_arriving(Block::Drop, b.address(), Some(5432)).unwrap();
        std::thread::park_timeout(Duration::from_secs(2));
        a.unblock().unwrap();
        scene.lab.host("b").unlimit().unwrap();
        // TCP sends again: the very same run comes to its end.
        run.end().expect(0);
    }),
    ("the upstream falls silent, and the operator stops", |scene| {
        let run = scene.middle();
        let (a, b) = (scene.lab.host("a"), scene.lab.host("b"));
        scene.lab.lab().drop_link(a, b).unwrap();
        run.signal("INT", true);
        ended(run.end(), 6, "stopped");
        scene.lab.lab().mend_drop(a, b).unwrap();
    }),
    ("the operator's line falls silent, and Ctrl-C is pressed twice", |scene| {
        let mut run = scene.middle();
        let (b, operator) = (scene.lab.host("b"), scene.lab.host("b").operator_address());
        b.block_arriving(Block::Drop, operator, Some(22)).unwrap();
        let asked = Instant::now();
        // Two at once are one to the kernel: pressed until it ends, but for a while between.
        until(asked + Duration::from_secs(5), || {
            run.signal("INT", true);
            std::thread::park_timeout(Duration::from_millis(300));
            run.child.try_wait().unwrap().is_some()
        });
        let left = ended(run.end(), 6, "locks-left");
        // At once, and not when SSH gives up.
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}: {left}", asked.elapsed());
        b.unblock().unwrap();
    }),
    ("the target's disk is full before", |scene| {
        scene.lab.host("b").fill_disk("/var/lib/postgresql", 40_000).unwrap();
        let since = scene.since("a");
        let refused = ended(scene.lab.pgstead(&["bootstrap", "--yes"]), 5, "disk-too-small");
        assert!(refused.stderr.contains("HINT"), "{refused}");
        scene.lab.host("b").free_disk("/var/lib/postgresql").unwrap();
        scene.nothing_happened(&since);
    }),
    ("the target's disk fills up", |scene| {
        let since = scene.since("a");
        let run = scene.middle();
        scene.lab.host("b").fill_disk("/var/lib/postgresql", 64).unwrap();
        ended(run.end(), 6, "No space left on device");
        scene.nothing_happened(&since);
        // Until somebody makes room, its slot would hold WAL back for nobody.
        assert_eq!(scene.lab.sql("a", "SELECT count(*) FROM pg_replication_slots"), "0");
        scene.lab.host("b").free_disk("/var/lib/postgresql").unwrap();
    }),
];

const SERVERS_AND_DATA: &[Cell] = &[
    ("the primary is killed", |scene| {
        let run = scene.middle();
        scene.lab.host("a").signal_postmaster(&scene.data(), "KILL").unwrap();
        ended(run.end(), 6, "could not take a base backup");
    }),
    ("the primary stands still for a while", |scene| {
        let run = scene.middle();
        let data = scene.data();
        scene.lab.host("a").signal_postmaster(&data, "STOP").unwrap();
        std::thread::park_timeout(Duration::from_secs(2));
        scene.lab.host("a").signal_postmaster(&data, "CONT").unwrap();
        scene.lab.host("b").unlimit().unwrap();
        run.end().expect(0);
    }),
    ("the new standby is killed", |scene| {
        scene.lab.bootstrap();
        scene.lab.host("b").signal_postmaster(&scene.data(), "KILL").unwrap();
    }),
    ("the primary loses its power", |scene| {
        let run = scene.middle();
        scene.lab.host("a").power_cut().unwrap();
        if scene.release == Release::Trixie {
            // It comes back when the copy has given up by itself.
            ended(run.end(), 6, "could not take a base backup");
            scene.lab.host("a").boot().unwrap();
        } else {
            scene.lab.host("a").boot().unwrap();
            ended(run.end(), 6, "could not take a base backup");
        }
        // Its only standby is on its way: nobody could answer it.
        scene.lab.run("a", &["touch", "/var/lib/pgstead/lab/a/start-alone"]);
        scene.lab.eventually("a", "SELECT pg_is_in_recovery()", "f");
    }),
    ("the target loses its power", |scene| {
        let since = scene.since("a");
        let run = scene.middle();
        scene.lab.host("b").power_cut().unwrap();
        ended(run.end(), 10, "outcome-unknown");
        scene.lab.host("b").boot().unwrap();
        scene.nothing_happened(&since);
        assert_eq!(scene.lab.run("b", &["sh", "-c", "pgrep -c postgres || true"]), "0", "half a copy was started");
    }),
    ("a page of the source is damaged", |scene| {
        let path = format!("{}/{}", scene.data(), at_rest(&scene.lab, "a", &[], "bulk"));
        scene.lab.host("a").flip_byte(&path, 8192 * 3 + 5000).unwrap();
        let since = scene.since("a");
        let failed = ended(scene.lab.pgstead(&["bootstrap", "--yes"]), 6, "checksum");
        assert!(failed.stderr.contains(path.rsplit('/').next().unwrap()), "{failed}");
        scene.nothing_happened(&since);
        scene.lab.host("a").flip_byte(&path, 8192 * 3 + 5000).unwrap();
    }),
    ("the target has another host key", |scene| {
        let since = scene.since("a");
        scene.lab.host("b").replace_host_key().unwrap();
        let refused = scene.lab.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(4);
        assert!(refused.to_string().contains("host-key-changed"), "{refused}");
        assert_eq!(refusal_helps(&refused), Vec::<String>::new());
        assert_eq!(scene.lab.run("b", &["sh", "-c", "ls /var/lib/pgstead 2>/dev/null || true"]), "");
        scene.nothing_happened(&since);
        scene.lab.host("b").restore_host_key().unwrap();
    }),
    ("a foreign instance stands where the data directory would be", |scene| {
        let since = scene.since("a");
        let (data, initdb) = (scene.data(), scene.program("initdb"));
        scene.lab.run("b", &["runuser", "-u", "postgres", "--", &initdb, "-N", "-D", &data]);
        let before =
            scene.lab.run("b", &["sh", "-c", "cd \"$1\" && find . -type f -exec cksum {} + | sort", "sh", &data]);
        ended(scene.lab.pgstead(&["bootstrap", "--yes"]), 5, "data-directory-not-ours");
        let after =
            scene.lab.run("b", &["sh", "-c", "cd \"$1\" && find . -type f -exec cksum {} + | sort", "sh", &data]);
        assert_eq!(before, after, "foreign data was touched");
        scene.lab.run("b", &["mv", "-T", &data, &(data.clone() + ".foreign")]);
        scene.nothing_happened(&since);
    }),
    ("a second run at the same time", |scene| {
        let run = scene.middle();
        let other = scene.lab.path().with_file_name("other");
        let _ = std::fs::create_dir_all(other.join("lab"));
        for name in ["ca.crt", "ca.key", "operator.crt", "operator.key", "known_hosts"] {
            let _ = std::fs::copy(scene.lab.state().join(name), other.join("lab").join(name));
        }
        use std::os::unix::fs::PermissionsExt;
        for path in [&other, &other.join("lab")] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        let state = other.to_string_lossy().into_owned();
        let second = scene.lab.pgstead(&["--state", &state, "bootstrap", "--yes"]).expect(9);
        assert!(second.stderr.contains("bootstrap by"), "it names the holder: {second}");
        scene.lab.host("b").unlimit().unwrap();
        run.end().expect(0);
    }),
];

/// A system call of pg_basebackup that goes wrong: which, how, and at which one.
const CALLS: [(&str, &str, u32); 9] = [
    ("openat", "signal=KILL", 60),
    ("openat", "error=ENOSPC", 90),
    ("openat", "error=EIO", 120),
    ("write", "signal=KILL", 200),
    ("write", "error=ENOSPC", 300),
    ("write", "error=EIO", 400),
    ("fsync", "signal=KILL", 3),
    ("fsync", "error=ENOSPC", 3),
    ("fsync", "error=EIO", 3),
];

/// pg_basebackup meets every one of these in a copy; each ends without a data directory, and the next run clears it away.
fn calls(scene: &mut Scene) {
    let (since, program) = (scene.since("a"), scene.program("pg_basebackup"));
    // One in four: every call and every way is among them.
    for (call, how, when) in depth::one_in(4, CALLS.to_vec()) {
        // One syncfs in place of many fsyncs, where the version has it.
        let call = if call == "fsync" && scene.release == Release::Trixie { "syncfs" } else { call };
        let when = if call == "syncfs" { 1 } else { when };
        let script = format!(
            "#!/bin/sh\nexec strace -D -f -qq -o /dev/null -e inject={call}:{how}:when={when} {program}.true \"$@\"\n"
        );
        scene.lab.host("b").replace_program(&program, &script).unwrap();
        let failed = scene.lab.pgstead(&["bootstrap", "--yes"]);
        assert_eq!(failed.code, 6, "{call} {how}: {failed}");
        scene.nothing_happened(&since);
        println!(
            "{call} {how} at {when}: {}",
            failed.stderr.lines().find(|line| line.contains("ERROR")).unwrap_or("?")
        );
        scene.lab.host("b").restore_program(&program).unwrap();
    }
}

#[test]
fn wires_and_disks_fail_on_15() {
    play(Release::Bookworm, WIRES_AND_DISKS);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn wires_and_disks_fail_on_17() {
    play(Release::Trixie, WIRES_AND_DISKS);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn wires_and_disks_fail_on_18() {
    play(Release::Forky, WIRES_AND_DISKS);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn servers_and_data_fail_on_15() {
    play(Release::Bookworm, SERVERS_AND_DATA);
}

#[test]
fn servers_and_data_fail_on_17() {
    play(Release::Trixie, SERVERS_AND_DATA);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn servers_and_data_fail_on_18() {
    play(Release::Forky, SERVERS_AND_DATA);
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn calls_of_the_copy_fail_on_15() {
    play(Release::Bookworm, &[("system calls of pg_basebackup", calls)]);
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn calls_of_the_copy_fail_on_17() {
    play(Release::Trixie, &[("system calls of pg_basebackup", calls)]);
}

#[test]
fn calls_of_the_copy_fail_on_18() {
    play(Release::Forky, &[("system calls of pg_basebackup", calls)]);
}

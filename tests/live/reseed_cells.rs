//! The rows *reseed full* and *reseed rewind* of the fault tables (hazards.md, section 5): a fault in the middle of the
//! work, the invariants, the same command again.
//!
//! In each cell b has to come back, and its old data directory stays whole until the new one is proven. Adding a cell is
//! adding a line to a table below.

use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Block;
use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::Release;
use pgstead::lab::hosts::SmallDisk;

use crate::depth;
use crate::faults::at_rest;
use crate::faults::crash_points;
use crate::invariants::invariants;
use crate::invariants::refusal_helps;
use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::Started;
use crate::scenario::until;
use crate::traces::Recorders;

/// A cell: its name, and what happens in it. It returns with all faults mended.
type Cell = (&'static str, fn(&mut Scene));

/// The command that leaves the choice to pgstead.
const AGAIN: &[&str] = &["reseed", "b", "--accept-divergence", "--yes", "--format", "json"];

/// How b has to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    /// By a base backup, beside a data directory that would start and stream.
    Full,
    /// By a rewind: it was promoted behind everybody's back, and written to.
    Rewind,
}

/// What a cell plays on: a is a primary with a ledger that goes on; b is stopped, and held by nobody yet.
struct Scene {
    lab: Scenario,
    release: Release,
    row: Row,
    /// The checksum over every file of b's old data directory that the new one must not change.
    old: String,
    /// Whether the run that the cell began came to its end: then the way is not wished for once more.
    is_done: bool,
}

impl Scene {
    fn data(&self) -> String {
        format!("/var/lib/postgresql/{}/main", self.release.postgres_major())
    }

    fn program(&self, name: &str) -> String {
        format!("/usr/lib/postgresql/{}/bin/{name}", self.release.postgres_major())
    }

    fn unit(&self) -> String {
        format!("postgresql@{}-main.service", self.release.postgres_major())
    }

    fn wish(&self) -> Vec<&'static str> {
        let method = match self.row {
            Row::Full => "basebackup",
            Row::Rewind => "rewind",
        };
        [AGAIN, &["--method", method]].concat()
    }

    /// The command that must come to its end after the fault: the same, unless a rewind is not to be had any more.
    fn again(&self) -> Vec<&'static str> {
        match self.row {
            Row::Full if !self.is_done => self.wish(),
            Row::Full | Row::Rewind => AGAIN.to_vec(),
        }
    }

    /// Leaves b stopped, in the state that its row is about.
    fn break_b(&mut self) {
        if self.row == Row::Rewind {
            self.lab.sql("b", "SELECT pg_promote()");
            self.lab.eventually("b", "SELECT pg_is_in_recovery()", "f");
            self.lab.sql("b", "CREATE TABLE only_on_b AS SELECT i FROM generate_series(1, 1000) i");
            self.lab.sql("b", "UPDATE bulk SET text = 'b' WHERE i % 100 = 0");
            self.lab.sql("a", "UPDATE bulk SET text = 'a' WHERE i % 100 = 1");
        }
        self.lab.run("b", &["systemctl", "stop", &self.unit()]);
        self.old = self.sums(&self.data());
    }

    /// Sums up the files below a directory. The files that say which role it has are not among them.
    fn sums(&self, directory: &str) -> String {
        const SUM: &str = "cd \"$1\" && find . -type f -exec cksum {} + | sort | cksum";
        self.lab.run("b", &["sh", "-c", SUM, "sh", directory])
    }

    /// Demands that the old data directory is what it was, wherever it is now, and that b does not run.
    #[track_caller]
    fn old_is_kept(&self) {
        let asides = self.asides();
        let place = asides.first().map_or(self.data(), Clone::clone);
        assert_eq!(self.sums(&place), self.old, "{place} was changed");
        assert_eq!(self.lab.run("b", &["sh", "-c", "pgrep -c -x postgres || true"]), "0", "something runs on b");
    }

    fn asides(&self) -> Vec<String> {
        let list = ["sh", "-c", "ls -d \"$1\".aside.* 2>/dev/null || true", "sh", &self.data()];
        self.lab.run("b", &list).lines().map(str::to_owned).collect()
    }

    /// Starts the re-seed behind so slow a link that there is time for faults, and returns in the middle of it.
    fn middle(&self) -> Started {
        self.lab.host("b").limit_rate(24).unwrap();
        let run = self.lab.start(&self.wish());
        let sql = match self.row {
            Row::Full => "SELECT count(*) FROM pg_stat_progress_basebackup WHERE backup_streamed > 0",
            Row::Rewind => {
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'pgstead_rewind' AND query LIKE '%read_binary%'"
            }
        };
        let mut last = String::new();
        until(Instant::now() + Duration::from_secs(40), || {
            last = self.lab.host("a").psql(self.lab.port, "postgres", sql).unwrap_or_default();
            last == "1"
        });
        assert_eq!(last, "1", "the copy did not begin");
        run
    }
}

/// Plays cells one after the other, and after each the same command again, and looks at the invariants.
fn play(release: Release, row: Row, cells: &[Cell]) {
    let disk = SmallDisk { mount_point: "/var/lib/postgresql".into(), mebibytes: 1_500 };
    let specs = vec![HostSpec::new("a", release), HostSpec { small_disk: Some(disk), ..HostSpec::new("b", release) }];
    let mut lab = Scenario::of(specs);
    lab.edit(|inventory| inventory["postgres"]["parameters"]["wal_keep_size"] = serde_json::json!("64MB"));
    lab.bootstrap();
    lab.sql("a", "CREATE TABLE bulk AS SELECT i, repeat(md5(i::text), 8) AS text FROM generate_series(1, 20000) i");
    let mut scene = Scene { lab, release, row, old: String::new(), is_done: false };
    // These rows are played in make soak alone, whole.
    for (name, cell) in depth::cells(1, cells, |(name, _)| name) {
        let begun = Instant::now();
        scene.break_b();
        scene.is_done = false;
        let recorders = Recorders::begin(&scene.lab, Some("a"));
        println!("--- {name} on {}", release.postgres_major());
        cell(&mut scene);
        scene.lab.host("b").unlimit().unwrap();
        let last = scene.lab.pgstead(&scene.again()).expect(0);
        let traces = recorders.end();
        let asides = scene.asides();
        assert_eq!(asides.len(), 1, "{name}: {asides:?}");
        for aside in asides {
            assert_eq!(scene.sums(&aside), scene.old, "{name}: {aside} was changed");
            let own_name = aside.rsplit('/').next().unwrap();
            scene.lab.pgstead(&["forget-aside", "b", own_name, "--yes"]).expect(0);
        }
        invariants(&scene.lab, &traces, &last);
        assert!(!traces.acknowledged.is_empty(), "{name}: nobody wrote");
        assert_eq!(scene.lab.sql("b", "SELECT count(*) FROM bulk"), "20000", "{name}");
        assert_eq!(
            scene
                .lab
                .sql("b", "SELECT to_regclass('only_on_b') IS NULL AND NOT EXISTS (SELECT FROM bulk WHERE text = 'b')"),
            "t",
            "{name}"
        );
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

/// What may happen to either way of copying.
const LINES_AND_SERVERS: &[Cell] = &[
    ("SSH to the server is cut", |scene| {
        let run = scene.middle();
        let (b, operator) = (scene.lab.host("b"), scene.lab.host("b").operator_address());
        b.block_arriving(Block::Reject, operator, Some(22)).unwrap();
        ended(run.end(), 10, "outcome-unknown");
        b.unblock().unwrap();
        scene.old_is_kept();
    }),
    ("the source is cut off", |scene| {
        let run = scene.middle();
        let (a, b) = (scene.lab.host("a"), scene.lab.host("b"));
        a.block_arriving(Block::Reject, b.address(), Some(5432)).unwrap();
        ended(run.end(), 6, "could not");
        a.unblock().unwrap();
        scene.old_is_kept();
    }),
    ("the operator presses Ctrl-C", |scene| {
        let run = scene.middle();
        run.signal("INT", true);
        ended(run.end(), 6, "Still running on the server");
        scene.old_is_kept();
    }),
    ("pgstead is killed", |scene| {
        let run = scene.middle();
        run.signal("KILL", false);
        run.end();
        scene.old_is_kept();
    }),
    ("the disk is full before", |scene| {
        scene.lab.host("b").fill_disk("/var/lib/postgresql", 40_000).unwrap();
        let refused = ended(scene.lab.pgstead(&scene.wish()), 5, "method-refused");
        assert_eq!(refusal_helps(&refused), Vec::<String>::new());
        scene.lab.host("b").free_disk("/var/lib/postgresql").unwrap();
        scene.old_is_kept();
    }),
    ("the disk fills up", |scene| {
        let run = scene.middle();
        scene.lab.host("b").fill_disk("/var/lib/postgresql", 64).unwrap();
        ended(run.end(), 6, "No space left on device");
        scene.old_is_kept();
        scene.lab.host("b").free_disk("/var/lib/postgresql").unwrap();
    }),
    ("the primary is killed", |scene| {
        let run = scene.middle();
        scene.lab.host("a").signal_postmaster(&scene.data(), "KILL").unwrap();
        ended(run.end(), 6, "could not");
        scene.old_is_kept();
        // Its only standby is what is brought back: nobody could answer it.
        scene.lab.run("a", &["touch", "/var/lib/pgstead/lab/a/start-alone"]);
        scene.lab.run("a", &["systemctl", "start", &scene.unit()]);
        scene.lab.eventually("a", "SELECT pg_is_in_recovery()", "f");
    }),
    ("the server loses its power", |scene| {
        let run = scene.middle();
        scene.lab.host("b").power_cut().unwrap();
        ended(run.end(), 10, "outcome-unknown");
        scene.lab.host("b").boot().unwrap();
        // Held: neither the old data directory nor half a new one starts with the machine.
        scene.lab.host("b").exec(&["systemctl", "start", &scene.unit()]).unwrap();
        scene.old_is_kept();
    }),
    ("the server has another host key", |scene| {
        scene.lab.host("b").replace_host_key().unwrap();
        let refused = scene.lab.pgstead(&scene.wish()).expect(4);
        assert!(refused.to_string().contains("host-key-changed"), "{refused}");
        scene.lab.host("b").restore_host_key().unwrap();
        scene.old_is_kept();
    }),
    ("a second run at the same time", |scene| {
        let run = scene.middle();
        let second = scene.lab.pgstead(AGAIN).expect(9);
        assert!(second.stderr.contains("reseed"), "it names the holder: {second}");
        scene.lab.host("b").unlimit().unwrap();
        run.end().expect(0);
        scene.is_done = true;
    }),
];

/// What only a base backup meets.
const OF_A_BASE_BACKUP: &[Cell] = &[("a page of the source is damaged", |scene| {
    let path = format!("{}/{}", scene.data(), at_rest(&scene.lab, "a", &[], "bulk"));
    scene.lab.host("a").flip_byte(&path, 8192 * 3 + 5000).unwrap();
    let failed = ended(scene.lab.pgstead(&scene.wish()), 6, "checksum");
    assert!(failed.to_string().contains(path.rsplit('/').next().unwrap()), "{failed}");
    scene.old_is_kept();
    scene.lab.host("a").flip_byte(&path, 8192 * 3 + 5000).unwrap();
})];

/// What only a rewind meets.
const OF_A_REWIND: &[Cell] = &[
    ("a page of the server itself is damaged", |scene| {
        let path = scene.lab.sql("a", "SELECT pg_relation_filepath('bulk')");
        let path = format!("{}/{}", scene.data(), path.trim());
        scene.lab.host("b").flip_byte(&path, 8192 * 3 + 5000).unwrap();
        scene.old = scene.sums(&scene.data());
        ended(scene.lab.pgstead(&scene.wish()), 6, "checksum");
        scene.old_is_kept();
    }),
    ("there is a link in the data directory", |scene| {
        let link = format!("{}/pg_stat_tmp", scene.data());
        scene.lab.run("b", &["sh", "-c", "rmdir \"$1\" && ln -s /run/elsewhere \"$1\"", "sh", &link]);
        ended(scene.lab.pgstead(&scene.wish()), 6, "neither a file nor a directory");
        scene.old_is_kept();
    }),
    ("pg_rewind is killed", |scene| {
        let run = scene.middle();
        scene.lab.run("b", &["sh", "-c", "for p in $(pgrep -x pg_rewind); do kill -s KILL \"$p\"; done"]);
        ended(run.end(), 6, "could not");
        scene.old_is_kept();
        // It is not tried again: everything is copied.
        let again = scene.lab.pgstead(&[AGAIN, &["--dry-run"]].concat()).expect(0);
        assert_eq!(again.json()["method"], "basebackup", "{again}");
    }),
];

/// A system call of a copying program that goes wrong: which, how, and at which one.
type Call = (&'static str, &'static str, u32);

const CALLS: [Call; 9] = [
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

/// The program meets every one of these; each leaves the old data directory as it was, and nothing that starts.
fn calls(scene: &mut Scene) {
    let program = match scene.row {
        Row::Full => scene.program("pg_basebackup"),
        Row::Rewind => scene.program("pg_rewind"),
    };
    // One in four: every call and every way is among them.
    for (call, how, when) in depth::one_in(4, CALLS.to_vec()) {
        // One syncfs in place of many fsyncs, where a base backup has it. pg_rewind makes fewer calls.
        let is_syncfs = call == "fsync" && scene.release == Release::Trixie && scene.row == Row::Full;
        let call = if is_syncfs { "syncfs" } else { call };
        let call = if scene.row == Row::Rewind && call == "write" { "pwrite64,write" } else { call };
        let when = if is_syncfs { 1 } else { when };
        let script = format!(
            "#!/bin/sh\nexec strace -D -f -qq -o /dev/null -e inject={call}:{how}:when={when} {program}.true \"$@\"\n"
        );
        scene.lab.host("b").replace_program(&program, &script).unwrap();
        let failed = scene.lab.pgstead(&scene.wish());
        assert_eq!(failed.code, 6, "{call} {how}: {failed}");
        scene.old_is_kept();
        println!(
            "{call} {how} at {when}: {}",
            failed.stderr.lines().find(|line| line.contains("ERROR")).unwrap_or("?")
        );
        scene.lab.host("b").restore_program(&program).unwrap();
        if scene.row == Row::Rewind {
            // A rewind that failed is not tried again; what it left is cleared away by hand for the next call.
            scene.lab.run(
                "b",
                &[
                    "sh",
                    "-c",
                    "find /var/lib/pgstead -path '*/jobs/seed/*' -delete; rm -rf \"$1\".seed.*",
                    "sh",
                    &scene.data(),
                ],
            );
        }
    }
}

#[test]
#[ignore = "takes minutes: make soak"]
fn a_base_backup_goes_wrong_on_15() {
    play(Release::Bookworm, Row::Full, &[LINES_AND_SERVERS, OF_A_BASE_BACKUP].concat());
}

#[test]
#[ignore = "takes minutes: make soak"]
fn a_base_backup_goes_wrong_on_17() {
    play(Release::Trixie, Row::Full, &[LINES_AND_SERVERS, OF_A_BASE_BACKUP].concat());
}

#[test]
#[ignore = "takes minutes: make soak"]
fn a_base_backup_goes_wrong_on_18() {
    play(Release::Forky, Row::Full, &[LINES_AND_SERVERS, OF_A_BASE_BACKUP].concat());
}

#[test]
#[ignore = "takes minutes: make soak"]
fn a_rewind_goes_wrong_on_15() {
    play(Release::Bookworm, Row::Rewind, &[LINES_AND_SERVERS, OF_A_REWIND].concat());
}

#[test]
#[ignore = "takes minutes: make soak"]
fn a_rewind_goes_wrong_on_17() {
    play(Release::Trixie, Row::Rewind, &[LINES_AND_SERVERS, OF_A_REWIND].concat());
}

#[test]
#[ignore = "takes minutes: make soak"]
fn a_rewind_goes_wrong_on_18() {
    play(Release::Forky, Row::Rewind, &[LINES_AND_SERVERS, OF_A_REWIND].concat());
}

#[test]
fn system_calls_of_a_base_backup_go_wrong_on_15() {
    play(Release::Bookworm, Row::Full, &[("system calls of pg_basebackup", calls)]);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn system_calls_of_a_base_backup_go_wrong_on_17() {
    play(Release::Trixie, Row::Full, &[("system calls of pg_basebackup", calls)]);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn system_calls_of_a_base_backup_go_wrong_on_18() {
    play(Release::Forky, Row::Full, &[("system calls of pg_basebackup", calls)]);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn system_calls_of_a_rewind_go_wrong_on_15() {
    play(Release::Bookworm, Row::Rewind, &[("system calls of pg_rewind", calls)]);
}

#[test]
fn system_calls_of_a_rewind_go_wrong_on_17() {
    play(Release::Trixie, Row::Rewind, &[("system calls of pg_rewind", calls)]);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn system_calls_of_a_rewind_go_wrong_on_18() {
    play(Release::Forky, Row::Rewind, &[("system calls of pg_rewind", calls)]);
}

/// Every step of a re-seed is a crash point once before and once after; then the same command finishes the work.
fn killed_at_every_step(release: Release, row: Row) {
    let lab = Scenario::bootstrapped(release, &["a", "b"]);
    lab.sql("a", "CREATE TABLE bulk AS SELECT i, repeat(md5(i::text), 8) AS text FROM generate_series(1, 20000) i");
    let mut scene = Scene { lab, release, row, old: String::new(), is_done: false };
    scene.break_b();
    let dry = scene.lab.pgstead(&[scene.wish(), vec!["--dry-run"]].concat()).expect(0).json();
    let mut left = depth::one_in(3, crash_points(&dry, &["locked", "unlocking", "unlocked"]));
    let (n_points, begun, mut n_runs) = (left.len(), Instant::now(), 0);
    for round in 1..=6 {
        if left.is_empty() {
            break;
        }
        if round > 1 {
            scene.break_b();
        }
        let recorders = Recorders::begin(&scene.lab, Some("a"));
        let last = loop {
            n_runs += 1;
            // Once its old data directory is set aside, what is begun is gone on with, and nothing is wished for any more.
            let args = if scene.asides().is_empty() { scene.wish() } else { AGAIN.to_vec() };
            let (ran, struck) = crate::faults::crashing_with(&scene.lab, &args, &left.join("\n"));
            let Some(point) = struck else { break ran };
            assert_eq!(ran.code, -1, "{point} did not end it: {ran}");
            left.retain(|moment| *moment != point);
        };
        let last = last.expect(0);
        let traces = recorders.end();
        for aside in scene.asides() {
            let own_name = aside.rsplit('/').next().unwrap();
            scene.lab.pgstead(&["forget-aside", "b", own_name, "--yes"]).expect(0);
        }
        invariants(&scene.lab, &traces, &last);
    }
    println!("{n_points} crash points in {n_runs} runs, {:.1} s", begun.elapsed().as_secs_f64());
    assert_eq!(left, Vec::<String>::new(), "crash points that no run came to");
}

#[test]
fn pgstead_is_killed_at_every_step_of_a_base_backup() {
    killed_at_every_step(Release::Bookworm, Row::Full);
}

#[test]
fn pgstead_is_killed_at_every_step_of_a_rewind() {
    killed_at_every_step(Release::Trixie, Row::Rewind);
}

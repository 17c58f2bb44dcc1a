//! Base backups that outlive who began them: adopted by the next run, or ended and cleared away whole.

use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::Release;
use pgstead::lab::hosts::SmallDisk;
use serde_json::Value;
use serde_json::json;

use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::Started;
use crate::scenario::until;

/// Slow enough for a base backup of an empty instance to take some ten seconds, in Mbit/s.
const SLOW: u32 = 12;

/// Hosts a and b, b behind so slow a link that its base backup takes its time.
fn in_the_middle_of_a_base_backup(release: Release) -> (Scenario, Started) {
    let lab = Scenario::boot(release, &["a", "b"]);
    lab.host("b").limit_rate(SLOW).unwrap();
    let run = lab.start(&["bootstrap", "--yes"]);
    lab.copies();
    (lab, run)
}

impl Scenario {
    /// Waits until the data of a base backup flow from a to b.
    fn copies(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut seen = (String::new(), String::new());
        until(deadline, || {
            let phase = "SELECT phase FROM pg_stat_progress_basebackup";
            let phase = self.host("a").psql(self.port, "postgres", phase).unwrap_or_default();
            seen = (phase, self.left("b"));
            seen.0 == "streaming database files" && seen.1.contains("seed")
        });
        assert!(seen.0 == "streaming database files" && seen.1.contains("seed"), "{seen:?}");
    }

    /// Everything on a host that only a copy under way may have: seeds, asides, records, units, processes, locks.
    fn left(&self, host: &str) -> String {
        const LOOK: &str =
            "find /var/lib/postgresql /srv -maxdepth 4 \\( -name '*.seed.*' -o -name '*.aside.*' \\) 2>/dev/null
            find /var/lib/pgstead -path '*/jobs/*' -o -name lock
            systemctl list-units --all --plain --no-legend 'pgstead-*'
            pgrep -a 'pg_basebackup|pg_verifybackup|initdb'
            true";
        self.run(host, &["sh", "-c", LOOK])
    }

    fn job(&self) -> String {
        let show = ["systemctl", "show", "--property=InvocationID", "--value", "pgstead-seed-lab-b.service"];
        self.run("b", &show)
    }

    /// Demands that the link is there and that nothing of any copy is left.
    #[track_caller]
    fn clean(&self) {
        self.streams("a", &["b"]);
        assert_eq!(self.sql("a", "SELECT slot_name, active FROM pg_replication_slots"), "b|t");
        for host in ["a", "b"] {
            assert_eq!(self.left(host), "", "left on {host}");
        }
        self.settled();
    }
}

fn titles(ran: &Ran) -> Vec<String> {
    let steps = ran.json()["steps"].as_array().cloned().unwrap_or_default();
    steps.iter().map(|step| step["title"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The first Ctrl-C leaves the copy to the server and says so; the next run takes it over.
fn ctrl_c(release: Release) {
    let (lab, run) = in_the_middle_of_a_base_backup(release);
    let job = lab.job();
    let begun = Instant::now();
    run.signal("INT", true);
    let stopped = run.end().expect(6);
    assert!(begun.elapsed() < Duration::from_secs(12), "stopping took {:?}", begun.elapsed());
    assert!(stopped.codes().contains(&"stopped".to_owned()), "{stopped}");
    assert!(stopped.stderr.contains("Still running on the server: b: take a base backup from \"a\""), "{stopped}");
    assert!(stopped.stderr.contains("same command again"), "{stopped}");
    assert!(stopped.stdout.contains("goes on"), "{stopped}");
    let find = ["find", "/var/lib/pgstead", "-name", "lock", "-not", "-path", "*/jobs/*"];
    assert_eq!(lab.run("b", &find), "");
    assert_eq!(
        (lab.job(), lab.sql("a", "SELECT count(*) FROM pg_stat_progress_basebackup")),
        (job.clone(), "1".into())
    );

    lab.host("b").unlimit().unwrap();
    let adopted = lab.bootstrap();
    let is_adoption = |title: &String| title.contains("the base backup from \"a\" that run");
    assert!(titles(&adopted).iter().any(is_adoption), "{adopted}");
    // pg_basebackup ran once: a's log says so for each.
    let log = lab.run(
        "a",
        &["sh", "-c", "grep -c 'received replication command: BASE_BACKUP' /var/log/postgresql/*.log || true"],
    );
    assert_eq!(log, "1", "base backups on a");
    lab.clean();
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn ctrl_c_leaves_the_copy_and_the_next_run_takes_it_over_on_15() {
    ctrl_c(Release::Bookworm);
}

#[test]
fn ctrl_c_leaves_the_copy_and_the_next_run_takes_it_over_on_17() {
    ctrl_c(Release::Trixie);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn ctrl_c_leaves_the_copy_and_the_next_run_takes_it_over_on_18() {
    ctrl_c(Release::Forky);
}

#[test]
fn a_killed_run_is_finished_by_the_next() {
    let (lab, run) = in_the_middle_of_a_base_backup(Release::Bookworm);
    let job = lab.job();
    assert_ne!(job, "");
    run.signal("KILL", false);
    run.end();
    // The next run waits for the very same copy, also after it has come to its end without anybody.
    let again = lab.start(&["bootstrap", "--yes", "--format", "json"]);
    lab.host("b").unlimit().unwrap();
    let again = again.end().expect(0);
    assert!(titles(&again).iter().any(|title| title.contains("that run")), "{again}");
    lab.clean();
}

/// A server that loses its power in the middle leaves a half copy, which is of no use to anybody.
#[test]
fn a_power_cut_in_the_middle_of_the_copy_leaves_nothing() {
    let (lab, run) = in_the_middle_of_a_base_backup(Release::Trixie);
    lab.host("b").power_cut().unwrap();
    let lost = run.end().expect(10);
    assert!(lost.codes().contains(&"outcome-unknown".to_owned()), "{lost}");
    lab.host("b").boot().unwrap();
    assert_eq!(lab.run("b", &["sh", "-c", "pgrep -c postgres || true"]), "0");
    let again = lab.bootstrap();
    assert!(titles(&again).join("\n").contains("clear away what the unfinished job of run"), "{again}");
    lab.clean();
}

/// The upstream of a copy that ended behind a cut link does not know: its walsenders are ended before the next copy.
#[test]
fn walsenders_of_a_dead_copy_are_ended() {
    let (lab, run) = in_the_middle_of_a_base_backup(Release::Bookworm);
    lab.lab().drop_link(lab.host("a"), lab.host("b")).unwrap();
    lab.run("b", &["systemctl", "kill", "--signal=KILL", "pgstead-seed-lab-b.service"]);
    let failed = run.end().expect(6);
    assert!(failed.stderr.contains("could not take a base backup"), "{failed}");
    let walsenders = "SELECT count(*) FROM pg_stat_replication";
    assert_ne!(lab.sql("a", walsenders), "0", "a has not noticed yet");
    let again = lab.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(6);
    let words = titles(&again).join("\n");
    assert!(words.contains("end the walsenders that \"b\" left"), "{again}");
    assert_eq!(lab.sql("a", walsenders), "0", "{again}");
    lab.lab().mend_drop(lab.host("a"), lab.host("b")).unwrap();
    lab.host("b").unlimit().unwrap();
    lab.bootstrap();
    lab.clean();
}

/// Data that flow while the disk of their source fills up: the source lives (hazard 23).
fn room_for_wal(release: Release) {
    let disk = SmallDisk { mount_point: "/var/lib/postgresql".into(), mebibytes: 900 };
    let of = |name: &str, small_disk| HostSpec { small_disk, ..HostSpec::new(name, release) };
    let mut lab = Scenario::of(vec![of("a", Some(disk)), of("b", None)]);
    let whole = lab.inventory.clone();
    lab.edit(|inventory| {
        inventory["servers"].as_object_mut().unwrap().remove("b");
        inventory["postgres"]["parameters"]["max_wal_size"] = json!("64MB");
        inventory["postgres"]["parameters"]["wal_keep_size"] = json!("0");
    });
    let parameters = lab.inventory["postgres"]["parameters"].clone();
    lab.bootstrap();
    // What compresses well fills no disk.
    lab.sql("a", "CREATE TABLE t (text text); ALTER TABLE t ALTER text SET STORAGE EXTERNAL");
    lab.edit(|inventory| {
        *inventory = whole;
        inventory["postgres"]["parameters"] = parameters;
    });
    lab.host("b").limit_rate(SLOW / 3).unwrap();
    let run = lab.start(&["bootstrap", "--yes"]);
    lab.copies();
    let fill = "INSERT INTO t SELECT repeat(md5(random()::text), 200) FROM generate_series(1, 500); TRUNCATE t";
    let mut ended = None;
    let deadline = Instant::now() + Duration::from_secs(240);
    let mut run = Some(run);
    until(deadline, || {
        lab.sql("a", fill);
        let has_ended = run.as_mut().is_some_and(|run| run.child.try_wait().unwrap().is_some());
        if has_ended {
            ended = run.take().map(Started::end);
        }
        has_ended
    });
    let given_up = ended.unwrap().expect(6);
    assert!(given_up.codes().contains(&"upstream-room-short".to_owned()), "{given_up}");
    assert_eq!(lab.sql("a", "SELECT count(*) FROM pg_replication_slots"), "0");
    assert_eq!(lab.left("b"), "", "{given_up}");
    // The primary was never out of room.
    assert_eq!(lab.run("a", &["sh", "-c", "grep -c 'No space left' /var/log/postgresql/*.log || true"]), "0");
    lab.sql("a", "CHECKPOINT");
    lab.host("b").unlimit().unwrap();
    lab.bootstrap();
    lab.clean();
}

#[test]
fn a_copy_is_given_up_before_the_primary_runs_out_of_room_on_15() {
    room_for_wal(Release::Bookworm);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn a_copy_is_given_up_before_the_primary_runs_out_of_room_on_17() {
    room_for_wal(Release::Trixie);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn a_copy_is_given_up_before_the_primary_runs_out_of_room_on_18() {
    room_for_wal(Release::Forky);
}

/// Tablespaces of a copy that was interrupted are cleared away with it, and those of one that ends get their places.
#[test]
fn tablespaces_are_cleared_away_and_settled_with_the_copy() {
    let mut lab = Scenario::boot(Release::Trixie, &["a", "b"]);
    let whole = lab.inventory.clone();
    lab.edit(|inventory| drop(inventory["servers"].as_object_mut().unwrap().remove("b")));
    lab.bootstrap();
    lab.run("a", &["install", "--directory", "--owner=postgres", "--mode=0700", "/srv/fast"]);
    lab.sql("a", "CREATE TABLESPACE fast LOCATION '/srv/fast'");
    lab.sql(
        "a",
        "CREATE TABLE t TABLESPACE fast AS SELECT repeat(md5(i::text), 20) AS text FROM generate_series(1, 20000) i",
    );
    lab.edit(|inventory: &mut Value| *inventory = whole);
    lab.host("b").limit_rate(SLOW).unwrap();
    let run = lab.start(&["bootstrap", "--yes"]);
    lab.copies();
    run.signal("INT", true);
    run.end().expect(6);
    assert!(lab.left("b").contains("/srv/fast/pgstead.seed."), "{}", lab.left("b"));
    lab.run("b", &["systemctl", "kill", "--signal=KILL", "pgstead-seed-lab-b.service"]);
    lab.host("b").unlimit().unwrap();
    lab.bootstrap();
    lab.eventually("b", "SELECT count(*) FROM t", "20000");
    assert_eq!(lab.run("b", &["ls", "/srv/fast"]), lab.run("a", &["ls", "/srv/fast"]));
    let links = "readlink /var/lib/postgresql/17/main/pg_tblspc/*";
    assert_eq!(lab.run("b", &["sh", "-c", links]), "/srv/fast");
    lab.clean();
}

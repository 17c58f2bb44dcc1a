//! What the start guard does where several servers were down together: after a failover on somebody's word the former primary
//! never starts, whoever boots first; in a healthy topology the primary comes by itself, as soon as a standby answers.
//!
//! Whether something runs is asked of systemd and psql on the hosts; samplers inside them would see two writers.

use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::attest::A_IS_OFF;
use crate::attest::TO_B;
use crate::attest::answers;
use crate::attest::comes_to;
use crate::attest::notices;
use crate::attest::refusal;
use crate::attest::state;
use crate::attest::unit;
use crate::invariants::never_two;
use crate::scenario::Scenario;
use crate::scenario::until;
use crate::switchover::SOON;
use crate::switchover::is_primary;
use crate::switchover::one_at_a_time;
use crate::traces::Recorders;

const RELEASE: Release = Release::Bookworm;
const WAITS: &str = "It starts when one of them answers";

/// What Debian's pg_ctlcluster says where the postmaster of before the power cut had the number of a process that runs by then and
/// has "postgres" in its command line, as the samplers' have, and gives up: whatever starts it again starts it.
pub(crate) const NUMBER_TAKEN: &str = "Cluster is already running.";

/// Starts again what did not start for that reason alone, once everything that boots has come to an end.
pub(crate) fn start_again_where_its_number_is_taken(lab: &Scenario, release: Release, names: &[&str]) {
    for name in names {
        until(Instant::now() + SOON, || !["activating", "inactive"].contains(&state(lab, name, release).as_str()));
        let has_given_up = state(lab, name, release) == "failed";
        if has_given_up && lab.journal(name, &["--boot", "--unit", &unit(release)]).contains(NUMBER_TAKEN) {
            println!("{name} did not come by itself: {NUMBER_TAKEN}");
            lab.run(name, &["systemctl", "start", &unit(release)]);
        }
    }
}

/// The power of some hosts fails at the same time.
fn power_cut(lab: &Scenario, names: &[&str]) {
    std::thread::scope(|scope| {
        for name in names {
            scope.spawn(|| lab.host(name).power_cut().unwrap());
        }
    });
}

/// It comes back at the same time.
fn boot(lab: &Scenario, names: &[&str]) {
    std::thread::scope(|scope| {
        for name in names {
            scope.spawn(|| lab.host(name).boot().unwrap());
        }
    });
}

#[track_caller]
fn waits(lab: &Scenario, release: Release, host: &str) {
    let journal = || lab.journal(host, &["--unit", &unit(release), "--boot"]);
    until(Instant::now() + SOON, || refusal(lab, host).contains(WAITS) && journal().contains(WAITS));
    let said = refusal(lab, host);
    assert!(said.contains(WAITS) && said.contains(&format!("touch /var/lib/pgstead/lab/{host}/start-alone")), "{said}");
    let journal = journal();
    assert!(journal.contains(WAITS), "{journal}");
    assert_eq!(state(lab, host, release), "activating");
    assert!(!answers(lab, host));
}

/// Demands that a server accepts writes, and says how long that took.
#[track_caller]
fn accepts_writes(lab: &Scenario, host: &str, since: Instant) -> Duration {
    lab.eventually(host, "SELECT pg_is_in_recovery()", "f");
    since.elapsed()
}

const STREAMING: &str = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";

/// All power fails, after the primary was replaced on somebody's word. Everybody refuses connections for a moment then.
#[test]
fn all_boot_together_after_a_failover_on_somebody_s_word() {
    let lab = Scenario::boot(RELEASE, &["a", "b", "c"]);
    lab.bootstrap();
    let recorders = Recorders::begin(&lab, None);
    lab.host("a").power_cut().unwrap();
    notices(&lab, "b");
    lab.pgstead(&[TO_B, A_IS_OFF].concat()).expect(0);
    lab.sql("b", "CREATE TABLE t AS SELECT 42 AS answer");
    lab.eventually("c", "SELECT answer FROM t", "42");
    assert_eq!(lab.host("b").run(&["cat", "/var/lib/pgstead/lab/b/role"]).unwrap(), "primary");

    for round in 0..2 {
        power_cut(&lab, if round == 0 { &["b", "c"] } else { &["a", "b", "c"] });
        boot(&lab, &["a", "b", "c"]);
        let begun = Instant::now();
        start_again_where_its_number_is_taken(&lab, RELEASE, &["b", "c"]);
        let took = accepts_writes(&lab, "b", begun);
        println!("after a common boot b accepts writes in {:.1} s", took.as_secs_f64());
        comes_to(&lab, "a", RELEASE, "failed");
        let said = refusal(&lab, "a");
        assert!(said.contains("timeline 2") && said.contains("pgstead reseed a"), "{said}");
        assert!(!answers(&lab, "a"));
        lab.eventually("b", STREAMING, "1");
        assert_eq!(lab.sql("b", "SELECT answer FROM t"), "42");
    }

    // b and c are stopped for maintenance, and a gets its power back: it waits for a word, and does not start on the old
    // timeline.
    lab.host("a").power_cut().unwrap();
    for name in ["c", "b"] {
        lab.run(name, &["systemctl", "stop", &unit(RELEASE)]);
    }
    boot(&lab, &["a"]);
    waits(&lab, RELEASE, "a");
    // The one that was promoted has nobody to ask either, until the standby is back; then it comes, and a is refused.
    lab.run("b", &["systemctl", "start", "--no-block", &unit(RELEASE)]);
    waits(&lab, RELEASE, "b");
    lab.run("c", &["systemctl", "start", &unit(RELEASE)]);
    accepts_writes(&lab, "b", Instant::now());
    comes_to(&lab, "a", RELEASE, "failed");
    assert!(!answers(&lab, "a"));
    lab.eventually("b", STREAMING, "1");
    assert_eq!(lab.sql("b", "SELECT answer FROM t"), "42");
    let traces = recorders.end();
    assert_eq!(never_two(&traces), Vec::<String>::new());
    let was_writable = |host: &str| {
        let mut samples = traces.samples.iter().filter(|(name, _)| name == host).flat_map(|(_, samples)| samples);
        samples.any(|sample| sample.writable)
    };
    assert!(was_writable("b") && !was_writable("c"));

    lab.pgstead(&["reseed", "a", "--yes", "--accept-divergence", "--format", "json"]).expect(0);
    lab.bootstrap();
    lab.settled();
    is_primary(&lab, "b", &["a", "c"]);
}

/// All power fails in a healthy topology: everything comes back by itself. Where the standbys are stopped, the primary waits for
/// the first of them, and says so.
#[test]
fn a_healthy_topology_boots_together_on_15() {
    boots_together(Release::Bookworm);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn a_healthy_topology_boots_together_on_17() {
    boots_together(Release::Trixie);
}

fn boots_together(release: Release) {
    let lab = Scenario::boot(release, &["a", "b", "c"]);
    lab.bootstrap();
    let recorders = Recorders::begin(&lab, Some("a"));
    for _ in 0..3 {
        power_cut(&lab, &["a", "b", "c"]);
        boot(&lab, &["a", "b", "c"]);
        let begun = Instant::now();
        start_again_where_its_number_is_taken(&lab, release, &["a", "b", "c"]);
        let took = accepts_writes(&lab, "a", begun);
        let standby = "SELECT extract(epoch FROM pg_postmaster_start_time())";
        let starts: Vec<f64> = ["a", "b", "c"].map(|name| lab.sql(name, standby).parse().unwrap()).to_vec();
        println!(
            "after a common boot a accepts writes in {:.1} s; it started {:.1} s after its first standby",
            took.as_secs_f64(),
            starts[0] - starts[1].min(starts[2])
        );
        assert!(took < Duration::from_secs(60), "{took:?}");
        assert_eq!(refusal(&lab, "a"), "");
        lab.eventually("a", STREAMING, "1");
        lab.eventually("b", STREAMING, "1");
    }

    for name in ["b", "c"] {
        lab.run(name, &["systemctl", "stop", &unit(release)]);
    }
    power_cut(&lab, &["a"]);
    boot(&lab, &["a"]);
    waits(&lab, release, "a");
    let check = lab.pgstead(&["check", "--quick"]).expect(7);
    assert!(check.stdout.contains("nobody can be asked"), "{check}");
    lab.run("b", &["systemctl", "start", &unit(release)]);
    start_again_where_its_number_is_taken(&lab, release, &["a"]);
    accepts_writes(&lab, "a", Instant::now());

    // pgstead has looked at all of them: it starts what is stopped, the primary as well, whoever comes first.
    lab.eventually("a", STREAMING, "1");
    for name in ["b", "c"] {
        lab.run(name, &["sh", "-c", "systemctl stop \"$1\"", "sh", &unit(release)]);
    }
    power_cut(&lab, &["a"]);
    boot(&lab, &["a"]);
    waits(&lab, release, "a");
    // pgstead starts it once, and the number of its postmaster must not be somebody else's just then.
    lab.run("a", &["rm", &format!("/var/lib/postgresql/{}/main/postmaster.pid", release.postgres_major())]);
    lab.bootstrap();
    lab.settled();
    one_at_a_time(&recorders.end(), &["a"]);
}

/// The machine of the primary is put back to an older snapshot: its standbys have more of its own timeline.
#[test]
fn a_primary_that_was_put_back_to_a_snapshot_does_not_start() {
    let lab = Scenario::boot(RELEASE, &["a", "b"]);
    lab.bootstrap();
    let data = "/var/lib/postgresql/15/main";
    let service = |verb: &str| lab.host("a").run(&["systemctl", verb, &unit(RELEASE)]);
    service("stop").unwrap();
    lab.run("a", &["cp", "-a", data, "/var/lib/postgresql/15/snapshot"]);
    service("start").unwrap();
    lab.sql("a", "CREATE TABLE t AS SELECT 42 AS answer");
    lab.eventually("b", "SELECT answer FROM t", "42");
    lab.host("a").power_cut().unwrap();
    lab.host("a").boot().unwrap();
    start_again_where_its_number_is_taken(&lab, RELEASE, &["a"]);
    lab.eventually("a", "SELECT answer FROM t", "42");
    lab.eventually("a", STREAMING, "1");

    service("stop").unwrap();
    lab.run("a", &["mv", "-T", data, "/var/lib/postgresql/15/newest"]);
    lab.run("a", &["mv", "-T", "/var/lib/postgresql/15/snapshot", data]);
    assert!(service("start").is_err());
    let said = refusal(&lab, "a");
    assert!(said.contains("server \"b\", its standby, has WAL up to") && said.contains("failover --to b"), "{said}");
    lab.host("a").power_cut().unwrap();
    lab.host("a").boot().unwrap();
    comes_to(&lab, "a", RELEASE, "failed");
    let check = lab.pgstead(&["check", "--quick"]).expect(7);
    assert!(check.stdout.contains("it was put back to an older state"), "{check}");

    // The newest state is there again: it starts.
    lab.run("a", &["mv", "-T", data, "/var/lib/postgresql/15/snapshot"]);
    lab.run("a", &["mv", "-T", "/var/lib/postgresql/15/newest", data]);
    service("start").unwrap();
    lab.eventually("a", "SELECT answer FROM t", "42");
    lab.eventually("a", STREAMING, "1");
    lab.settled();

    // Started past the guard the older state is named as well. Its standby streams from it, from the beginning of the segment.
    service("stop").unwrap();
    lab.run("a", &["mv", "-T", data, "/var/lib/postgresql/15/newest"]);
    lab.run("a", &["mv", "-T", "/var/lib/postgresql/15/snapshot", data]);
    let bin = "/usr/lib/postgresql/15/bin/pg_ctl";
    let config = "-c config_file=/etc/postgresql/15/main/postgresql.conf";
    let start =
        ["runuser", "-u", "postgres", "--", bin, "-s", "-w", "-D", data, "-l", "/tmp/log", "-o", config, "start"];
    lab.run("a", &start);
    let check = lab.pgstead(&["check", "--quick", "--format", "json"]).expect(7);
    for code in ["standby-ahead", "start-unguarded"] {
        assert!(check.codes().contains(&code.to_owned()), "{check}");
    }
}

/// Returns a topology whose primary does not end when it shuts down: its archiver hangs.
fn that_hangs_in_its_shutdown() -> Scenario {
    let mut lab = Scenario::boot(RELEASE, &["a", "b"]);
    lab.edit(|inventory| {
        inventory["postgres"]["parameters"]["archive_mode"] = json!("on");
        inventory["postgres"]["parameters"]["archive_command"] = json!("test ! -e /srv/hangs || sleep 600");
    });
    lab.bootstrap();
    lab.run("a", &["touch", "/srv/hangs"]);
    lab
}

/// A switchover hangs in the shutdown of the primary, and somebody promotes its successor by hand. That the run promoted nobody
/// is a word against silence: what the successor answers counts more.
#[test]
fn a_hung_switchover_does_not_bring_a_primary_back_beside_one_that_was_promoted_by_hand() {
    let lab = that_hangs_in_its_shutdown();
    let recorders = Recorders::begin(&lab, Some("a"));
    let run = lab.start(&["switchover", "--to", "b", "--yes", "--format", "json"]);
    until(Instant::now() + SOON, || !answers(&lab, "a"));
    assert!(lab.run("a", &["cat", "/var/lib/pgstead/lab/a/role"]).starts_with("demoted"));
    lab.sql("b", "SELECT pg_promote()");
    lab.eventually("b", "SELECT pg_is_in_recovery()", "f");
    let ran = run.end().expect(6);
    assert!(ran.stdout.contains("server \\\"b\\\" is a primary, on timeline 2"), "{ran}");
    assert!(!ran.stdout.contains("Nobody was promoted") && !ran.stdout.contains("was made the primary again"), "{ran}");
    assert!(!answers(&lab, "a"));
    assert_ne!(state(&lab, "a", RELEASE), "active", "what hung in its shutdown has not ended");

    // A person's word on the server does not count against the answer either.
    lab.run("a", &["touch", "/var/lib/pgstead/lab/a/start-alone"]);
    assert!(lab.host("a").run(&["systemctl", "start", &unit(RELEASE)]).is_err());
    assert!(!answers(&lab, "a"));
    let traces = recorders.end();
    assert_eq!(never_two(&traces), Vec::<String>::new());
    let of_b = traces.samples.iter().find(|(name, _)| name == "b").unwrap();
    assert!(of_b.1.iter().any(|sample| sample.writable));
}

/// The same where the former primary reaches nobody, so that its guard hears nothing: the run itself asks the successor.
#[test]
fn a_hung_switchover_asks_the_successor_where_the_former_primary_reaches_nobody() {
    let lab = that_hangs_in_its_shutdown();
    let recorders = Recorders::begin(&lab, Some("a"));
    let run = lab.start(&["switchover", "--to", "b", "--yes", "--format", "json"]);
    until(Instant::now() + SOON, || !answers(&lab, "a"));
    let b = lab.host("b").address().to_string();
    lab.run("a", &["ip", "route", "add", "blackhole", &b]);
    lab.sql("b", "SELECT pg_promote()");
    lab.eventually("b", "SELECT pg_is_in_recovery()", "f");
    let ran = run.end().expect(6);
    assert_eq!(ran.json()["error"]["code"], "successor-promoted", "{ran}");
    assert!(!ran.stdout.contains("was made the primary again"), "{ran}");
    assert!(!answers(&lab, "a"));
    assert!(lab.run("a", &["cat", "/var/lib/pgstead/lab/a/role"]).starts_with("demoted"));
    assert_eq!(never_two(&recorders.end()), Vec::<String>::new());

    // What a had more, if anything, is told, and given up with consent alone.
    lab.run("a", &["ip", "route", "del", "blackhole", &b]);
    lab.pgstead(&["reseed", "a", "--accept-divergence", "--yes", "--format", "json"]).expect(0);
    lab.bootstrap();
    lab.streams("b", &["a"]);
    lab.settled();
}

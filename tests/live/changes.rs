//! A topology that already runs: what changes, what stays, what heals, what is refused.

use std::time::Instant;

use pgstead::lab::hosts::Release;
use serde_json::Value;
use serde_json::json;

use crate::faults::BOOTSTRAP;
use crate::faults::crash_points;
use crate::faults::until_it_comes_through;
use crate::guard_boot::start_again_where_its_number_is_taken;
use crate::scenario::Scenario;
use crate::scenario::Watch;
use crate::scenario::until;
use crate::switchover::SOON;

/// When the postmaster started, as seconds of the epoch; the clock of all hosts is this machine's.
fn started(lab: &Scenario, host: &str) -> f64 {
    lab.sql(host, "SELECT extract(epoch FROM pg_postmaster_start_time())").parse().unwrap()
}

fn configuration(release: Release, file: &str) -> String {
    format!("/etc/postgresql/{}/main/{file}", release.postgres_major())
}

/// Everything of a server that a change elsewhere must leave alone: process, data directory, inode.
fn untouched(lab: &Scenario, release: Release, host: &str) -> (String, String) {
    let data = format!("/var/lib/postgresql/{}/main", release.postgres_major());
    (lab.sql(host, "SELECT pg_postmaster_start_time()"), lab.run(host, &["stat", "--format=%i %W", &data]))
}

fn parameter(lab: &mut Scenario, name: &str, value: Value) {
    lab.edit(|inventory| inventory["postgres"]["parameters"][name] = value);
}

#[test]
fn a_run_without_changes_takes_two_round_trips() {
    let lab = Scenario::bootstrapped(Release::Trixie, &["a", "b", "c"]);
    // sshd itself counts: commands and subsystems as sessions, and what is forwarded.
    for name in ["a", "b", "c"] {
        lab.sshd(name, "20-count", "LogLevel DEBUG1\n");
    }
    let now = |name: &str| {
        let text = lab.run(name, &["journalctl", "--lines=1", "--output=cat", "--show-cursor", "--quiet"]);
        text.lines().last().unwrap().trim_start_matches("-- cursor: ").to_owned()
    };
    let trips = |name: &str, cursor: &str| {
        let since = format!("--after-cursor={cursor}");
        let log = lab.journal(name, &["--unit=ssh", &since]);
        let with = |words: &str| log.lines().filter(|line| line.contains(words)).count();
        assert_eq!(with("Accepted publickey"), 1, "{name}: {log}");
        (with("Starting session:"), with("server_request_direct_tcpip:"))
    };
    for args in [&["bootstrap", "--yes", "--format", "json"][..], &["plan", "--exit-code"]] {
        let before = ["a", "b", "c"].map(now);
        let ran = lab.pgstead(args).expect(0);
        if args[0] == "bootstrap" {
            assert_eq!(ran.json()["changed"], false);
        }
        for (name, cursor) in ["a", "b", "c"].iter().zip(&before) {
            let (sessions, forwards) = trips(name, cursor);
            assert!(sessions >= 1, "sshd's log says nothing about {args:?} on {name}");
            assert!(sessions + forwards <= 2, "{args:?} on {name}: {sessions} sessions, {forwards} forwards");
        }
    }
}

#[test]
fn a_new_standby_touches_no_other() {
    let release = Release::Bookworm;
    let mut lab = Scenario::boot(release, &["a", "b", "c"]);
    let whole = lab.inventory.clone();
    lab.edit(|inventory| {
        inventory["servers"].as_object_mut().unwrap().remove("c");
    });
    lab.bootstrap();
    lab.sql("a", "CREATE TABLE t AS SELECT 42 AS answer");
    let before = ["a", "b"].map(|name| untouched(&lab, release, name));
    lab.edit(|inventory| *inventory = whole);
    let report = lab.bootstrap().json();
    assert_eq!(report["changed"], true);
    lab.eventually("c", "SELECT answer FROM t", "42");
    lab.streams("a", &["b"]);
    lab.streams("b", &["c"]);
    assert_eq!(["a", "b"].map(|name| untouched(&lab, release, name)), before);
    lab.settled();
}

#[test]
fn a_hot_standby_parameter_rises_and_falls_in_the_safe_order() {
    let mut lab = Scenario::bootstrapped(Release::Bookworm, &["a", "b", "c"]);
    lab.sql("a", "CREATE TABLE t (at timestamptz DEFAULT clock_timestamp())");
    let all = ["a", "b", "c"];
    let shown = |lab: &Scenario| all.map(|name| lab.sql(name, "SHOW max_connections"));
    let times = |lab: &Scenario| all.map(|name| started(lab, name));

    // Without consent nothing happens.
    let before = times(&lab);
    parameter(&mut lab, "max_connections", json!(200));
    let refused = lab.pgstead(&["bootstrap", "--yes"]).expect(5);
    assert!(refused.codes().contains(&"restart-needs-consent".to_owned()), "{refused}");
    assert_eq!((times(&lab), shown(&lab)), (before, ["100"; 3].map(str::to_owned)));
    let file = lab.run("a", &["cat", &configuration(Release::Bookworm, "postgresql.conf")]);
    assert!(!file.contains("max_connections"), "{file}");

    for (value, order) in [(200, ["c", "b", "a"]), (120, ["a", "b", "c"])] {
        parameter(&mut lab, "max_connections", json!(value));
        let writer = lab.watch("a", "INSERT INTO t DEFAULT VALUES RETURNING 'written'");
        let watches = ["b", "c"].map(|name| {
            lab.watch(name, "SELECT pg_get_wal_replay_pause_state() || ',' || current_setting('max_connections')")
        });
        lab.pgstead(&["bootstrap", "--yes", "--allow-restart", "--format", "json"]).expect(0);
        // Who watches dials again behind a restart, a moment after it at the earliest.
        let dialled = |watch: &Watch<'_>| watch.so_far().lines().any(|line| line.ends_with(&format!(",{value}")));
        until(Instant::now() + SOON, || watches.iter().all(dialled));
        for watch in watches {
            let lines = watch.end();
            let states: Vec<&str> = lines.lines().filter(|line| line.contains("paus")).collect();
            assert!(states.len() > 20, "{lines}");
            assert!(states.iter().all(|state| state.starts_with("not paused,")), "{lines}");
            assert!(states.iter().any(|state| state.ends_with(&format!(",{value}"))), "{lines}");
        }
        let written = writer.end();
        assert!(written.lines().filter(|line| *line == "written").count() > 20, "{written}");
        for name in ["b", "c"] {
            let log = lab.run(name, &["cat", "/var/log/postgresql/postgresql-15-main.log"]);
            assert!(!log.contains("insufficient parameter settings"), "{log}");
        }
        assert_eq!(shown(&lab), [value.to_string(), value.to_string(), value.to_string()]);
        let begun = order.map(|name| started(&lab, name));
        assert!(begun.is_sorted(), "{order:?} restarted at {begun:?}");
        lab.settled();
    }
}

#[test]
fn a_reload_is_enough_for_work_mem_and_a_bad_value_changes_nothing() {
    let release = Release::Trixie;
    let mut lab = Scenario::bootstrapped(release, &["a", "b"]);
    let before = ["a", "b"].map(|name| untouched(&lab, release, name));
    parameter(&mut lab, "work_mem", json!("7MB"));
    lab.bootstrap();
    for name in ["a", "b"] {
        lab.eventually(name, "SHOW work_mem", "7MB");
    }
    assert_eq!(["a", "b"].map(|name| untouched(&lab, release, name)), before);
    lab.settled();

    let files = |lab: &Scenario| {
        let path = configuration(release, "");
        ["a", "b"]
            .map(|name| lab.run(name, &["sh", "-c", "find \"$1\" -type f -exec sha256sum {} + | sort", "sh", &path]))
    };
    let before_files = files(&lab);
    parameter(&mut lab, "work_mem", json!("banana"));
    // Each server's own PostgreSQL is asked before anything is begun.
    let refused = lab.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(5);
    assert!(refused.codes().contains(&"value-not-accepted".to_owned()), "{refused}");
    assert!(refused.stdout.contains("work_mem") && refused.stdout.contains("banana"), "{refused}");
    // One that nobody is asked about is found by the step that installs it, before the file has its name.
    parameter(&mut lab, "work_mem", json!("7MB"));
    parameter(&mut lab, "max_stack_depth", json!("banana"));
    let failed = lab.pgstead(&["bootstrap", "--yes"]).expect(6);
    assert!(failed.stderr.contains("max_stack_depth") && failed.stderr.contains("banana"), "{failed}");
    assert_eq!(files(&lab), before_files);
    assert_eq!(["a", "b"].map(|name| untouched(&lab, release, name)), before);
    for name in ["a", "b"] {
        assert_eq!(lab.sql(name, "SHOW work_mem"), "7MB");
    }
    lab.edit(|inventory| {
        inventory["postgres"]["parameters"].as_object_mut().unwrap().remove("max_stack_depth");
    });
    lab.settled();
}

#[test]
fn hba_records_follow_the_inventory_and_hand_edits_stand() {
    let release = Release::Bookworm;
    let mut lab = Scenario::bootstrapped(release, &["a", "b"]);
    let record = |address: &str| json!([{ "database": "demo", "user": "crawler", "address": address }]);
    lab.edit(|inventory| inventory["postgres"]["hba"] = record("10.1.0.0/16"));
    lab.bootstrap();
    for name in ["a", "b"] {
        let served =
            "SELECT type, address, netmask, auth_method FROM pg_hba_file_rules WHERE 'crawler' = ANY (user_name)";
        assert_eq!(lab.sql(name, served), "hostssl|10.1.0.0|255.255.0.0|scram-sha-256");
        // Read after the file was last changed: it is served and not only there.
        let file = configuration(release, "pg_hba.conf");
        let loaded = "SELECT pg_conf_load_time() >= (pg_stat_file(current_setting('hba_file'))).modification";
        assert_eq!(lab.sql(name, loaded), "t", "{file}");
    }
    lab.settled();

    // A hand edit is shown, and neither overwritten nor taken for a change.
    let path = configuration(release, "pg_hba.conf");
    lab.run("b", &["sh", "-c", "echo 'hostssl demo guest 10.9.0.1/32 scram-sha-256' >> \"$1\"", "sh", &path]);
    let edited = lab.run("b", &["cat", &path]);
    let plan = lab.pgstead(&["plan", "--exit-code"]).expect(0);
    assert!(plan.to_string().contains("drift") && plan.to_string().contains(&path), "{plan}");
    lab.pgstead(&["bootstrap", "--yes"]).expect(0);
    assert_eq!(lab.run("b", &["cat", &path]), edited);

    // A wish that needs this very file is refused as a whole.
    lab.edit(|inventory| inventory["postgres"]["hba"] = record("10.2.0.0/16"));
    let on_a = lab.run("a", &["cat", &path]);
    let refused = lab.pgstead(&["bootstrap", "--yes"]).expect(5);
    assert!(refused.codes().contains(&"edited-by-hand".to_owned()), "{refused}");
    assert_eq!(lab.run("b", &["cat", &path]), edited);
    assert_eq!(lab.run("a", &["cat", &path]), on_a);

    // The same holds for the file that changes last of all, when commits begin to wait.
    lab.edit(|inventory| inventory["postgres"]["hba"] = record("10.1.0.0/16"));
    lab.pgstead(&["plan", "--exit-code"]).expect(0);
    let path = configuration(release, "postgresql.conf");
    lab.run("a", &["sh", "-c", "echo 'work_mem = 9MB' >> \"$1\"", "sh", &path]);
    let edited = lab.run("a", &["cat", &path]);
    lab.edit(|inventory| inventory["replication"]["synchronous"] = json!({ "standbys": ["b"] }));
    let refused = lab.pgstead(&["bootstrap", "--yes"]).expect(5);
    assert!(refused.codes().contains(&"edited-by-hand".to_owned()), "{refused}");
    assert_eq!(lab.run("a", &["cat", &path]), edited);
}

#[test]
fn what_stopped_starts_and_what_was_dropped_comes_back() {
    let release = Release::Trixie;
    let lab = Scenario::bootstrapped(release, &["a", "b"]);
    let unit = format!("postgresql@{}-main", release.postgres_major());
    lab.run("b", &["systemctl", "stop", &unit]);
    lab.eventually("a", "SELECT active FROM pg_replication_slots WHERE slot_name = 'b'", "f");
    lab.sql("a", "SELECT pg_drop_replication_slot('b')");
    lab.pgstead(&["check"]).expect(7);
    lab.bootstrap();
    lab.streams("a", &["b"]);
    lab.settled();

    // After a power cut of everything the servers come back by themselves, in their roles.
    for name in ["a", "b"] {
        lab.host(name).power_cut().unwrap();
    }
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            scope.spawn(|| lab.host(name).boot().unwrap());
        }
    });
    start_again_where_its_number_is_taken(&lab, release, &["a", "b"]);
    lab.eventually("a", "SELECT pg_is_in_recovery()", "f");
    lab.eventually("b", "SELECT pg_is_in_recovery()", "t");
    lab.eventually("a", "SELECT state FROM pg_stat_replication", "streaming");
    lab.settled();
}

/// A server that is down keeps nobody from working on the others, and the next whole run completes it.
#[test]
fn one_that_is_down_is_left_out_and_completed_later() {
    let mut lab = Scenario::boot(Release::Trixie, &["a", "b", "c", "d"]);
    let whole = lab.inventory.clone();
    lab.edit(|inventory| {
        inventory["servers"].as_object_mut().unwrap().remove("d");
    });
    lab.bootstrap();
    lab.host("c").power_cut().unwrap();
    lab.edit(|inventory| *inventory = whole);
    parameter(&mut lab, "work_mem", json!("8MB"));
    lab.sql("a", "CREATE TABLE t AS SELECT 42 AS answer");
    lab.pgstead(&["bootstrap", "--yes"]).expect(4);

    let without = |server| ["bootstrap", "--without", server, "--yes", "--format", "json"];
    let unknown = lab.pgstead(&without("x")).expect(5);
    assert!(unknown.codes().contains(&"server-unknown".to_owned()), "{unknown}");
    let primary = lab.pgstead(&[&without("c")[..], &["--without", "a"]].concat()).expect(5);
    assert!(primary.codes().contains(&"primary-missing".to_owned()), "{primary}");
    let ran = lab.pgstead(&without("c")).expect(0);
    assert!(ran.codes().contains(&"left-out".to_owned()), "{ran}");
    for name in ["a", "b", "d"] {
        lab.eventually(name, "SHOW work_mem", "8MB");
    }
    lab.eventually("d", "SELECT answer FROM t", "42");
    // The last packets of c may get lost with its power: then b finds out by its own time limit, half a minute.
    lab.eventually("b", "SELECT slot_name, active FROM pg_replication_slots WHERE slot_name = 'c'", "c|f");
    assert_eq!(lab.pgstead(&without("c")).expect(0).json()["changed"], false);

    // Back again, it is as it was, and goes on by itself.
    lab.host("c").boot().unwrap();
    lab.eventually("c", "SELECT answer FROM t", "42");
    assert_eq!(lab.sql("c", "SHOW work_mem"), "4MB");
    lab.pgstead(&["plan", "--exit-code"]).expect(8);
    lab.bootstrap();
    lab.eventually("c", "SHOW work_mem", "8MB");
    lab.streams("b", &["c"]);
    lab.settled();
}

/// A server that is taken out of the inventory is told for as long as it streams; where it does not, nobody keeps WAL for it.
#[test]
fn one_that_is_taken_out_of_the_inventory_is_told_and_then_forgotten() {
    let release = Release::Forky;
    let mut lab = Scenario::bootstrapped(release, &["a", "b", "c"]);
    let whole = lab.inventory.clone();
    let slot = |lab: &Scenario| lab.sql("b", "SELECT active FROM pg_replication_slots WHERE slot_name = 'c'");
    let without_c = |lab: &mut Scenario| {
        lab.edit(|inventory| drop(inventory["servers"].as_object_mut().unwrap().remove("c")));
    };
    without_c(&mut lab);
    let told = lab.bootstrap();
    assert!(told.codes().contains(&"server-removed".to_owned()), "{told}");
    assert_eq!(slot(&lab), "t", "a standby that streams lost its slot");
    let check = lab.pgstead(&["check", "--format", "json"]).expect(0);
    assert!(check.codes().contains(&"standby-not-in-inventory".to_owned()), "{check}");

    // Put back, it is as before.
    lab.edit(|inventory| *inventory = whole);
    lab.bootstrap();
    lab.streams("b", &["c"]);
    lab.settled();

    lab.run("c", &["systemctl", "stop", &format!("postgresql@{}-main.service", release.postgres_major())]);
    lab.eventually("b", "SELECT active FROM pg_replication_slots WHERE slot_name = 'c'", "f");
    without_c(&mut lab);
    // Whoever is killed on the way leaves behind what tells the next run whom to forget.
    let plan = lab.pgstead(&["plan", "--format", "json"]).expect(0).json();
    let mut left = crash_points(&plan, &[]);
    let n_points = left.len();
    until_it_comes_through(&lab, BOOTSTRAP, &mut left, |_| ()).expect(0);
    assert!(left.len() * 2 < n_points, "runs came to few of these moments: {left:?} of {n_points}");
    assert_eq!(slot(&lab), "", "b keeps WAL for a server that is gone");
    let hba = lab.run("b", &["cat", &configuration(release, "pg_hba.conf")]);
    assert!(!hba.contains(&lab.host("c").address().to_string()), "{hba}");
    lab.settled();
}

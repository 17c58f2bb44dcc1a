//! An instance that is about to be replaced ends, whatever it is doing, and one that ends or comes up by itself is waited for:
//! on real hosts.

use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Release;

use crate::reseed::Ward;
use crate::scenario::until;
use crate::scenario::with_pause;

/// A unit that is stopped before its start has ended signals every process of the instance. What a postmaster makes of that is a
/// fast shutdown, never one that waits for its clients or for processes that it started anew.
#[test]
fn a_stop_while_it_starts_is_a_fast_shutdown_on_15() {
    stops_while_it_starts(Release::Bookworm);
}

#[test]
#[ignore = "plays on 15 and 18 in every run, on all releases in make soak"]
fn a_stop_while_it_starts_is_a_fast_shutdown_on_17() {
    stops_while_it_starts(Release::Trixie);
}

#[test]
fn a_stop_while_it_starts_is_a_fast_shutdown_on_18() {
    stops_while_it_starts(Release::Forky);
}

fn stops_while_it_starts(release: Release) {
    let ward = Ward::open(release, &["a", "b"]);
    let lab = &ward.lab;
    ward.systemctl("b", "stop");
    // Its start takes longer than this test, as that of a standby with much to replay.
    let drop_in = format!("/etc/systemd/system/{}.d/slow.conf", ward.unit());
    lab.run("b", &["sh", "-c", "printf '[Service]\\nExecStartPost=/bin/sleep 600\\n' >\"$1\"", "sh", &drop_in]);
    lab.run("b", &["systemctl", "daemon-reload"]);
    let log = format!("/var/log/postgresql/postgresql-{}-main.log", release.postgres_major());
    let start = || {
        lab.run("b", &["systemctl", "start", "--no-block", &ward.unit()]);
        lab.eventually("b", "SELECT pg_is_in_recovery()", "t");
        lab.eventually("b", "SELECT status FROM pg_stat_wal_receiver", "streaming");
        let state = lab.run("b", &["systemctl", "show", "-p", "ActiveState", "--value", &ward.unit()]);
        assert_eq!(state.trim(), "activating");
        lab.run("b", &["truncate", "--size=0", &log]);
    };
    let requests = || lab.run("b", &["sed", "-n", "s/.*received \\(.*\\) shutdown request.*/\\1/p", &log]);

    // By an operator.
    start();
    lab.run("b", &["timeout", "60", "systemctl", "stop", &ward.unit()]);
    assert_eq!(requests(), "fast");
    // By pgstead.
    start();
    ward.reseed("b", &["--method", "basebackup"], "basebackup");
    assert_eq!(requests(), "fast");
    lab.run("b", &["rm", &drop_in]);
    lab.run("b", &["systemctl", "daemon-reload"]);
    ward.is_whole("a", "b");
    lab.settled();
}

/// An instance hangs in its shutdown: it is ended without a checkpoint, since its data are replaced.
#[test]
fn one_that_hangs_in_its_shutdown_is_replaced_all_the_same() {
    let ward = Ward::open(Release::Bookworm, &["a", "b"]);
    let lab = &ward.lab;
    let checkpointer = lab.sql("b", "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
    lab.run("b", &["kill", "-STOP", &checkpointer]);
    let ran = ward.reseed("b", &["--method", "basebackup"], "basebackup");
    let stop =
        ran.json()["steps"].as_array().unwrap().iter().find(|step| step["title"] == "stop the instance").cloned();
    assert!(stop.as_ref().is_some_and(|stop| stop["seconds"].as_f64().unwrap() > 55.0), "it did not hang: {stop:?}");
    ward.is_whole("a", "b");
    lab.settled();
}

/// One whose port is open and whose socket is not there is about to come up, or to end. A command that plans changes waits for
/// that, and not for ever.
#[test]
fn one_that_comes_up_meanwhile_is_waited_for() {
    let ward = Ward::open(Release::Trixie, &["a", "b"]);
    let lab = &ward.lab;
    let socket = format!("/var/run/postgresql/.s.PGSQL.{}", lab.port);
    let away = format!("{socket}.away");
    let bootstrap = ["bootstrap", "--yes", "--format", "json"];
    for command in [&bootstrap[..], &["switchover", "--to", "b", "--yes", "--format", "json"]] {
        lab.run("b", &["mv", &socket, &away]);
        let check = lab.pgstead(&["check", "--format", "json"]);
        assert!(check.codes().contains(&"instance-unreadable".to_owned()), "{check}");
        let run = lab.start(command);
        until(Instant::now() + Duration::from_secs(20), || run.said().contains("observe"));
        // It comes up a second after it was first looked at.
        lab.run("b", &["bash", "-c", &with_pause("pause 1; mv \"$1\" \"$2\""), "bash", &away, &socket]);
        run.end().expect(0);
    }
    assert_eq!(
        (lab.sql("b", "SELECT pg_is_in_recovery()"), lab.sql("a", "SELECT pg_is_in_recovery()")),
        ("f".into(), "t".into())
    );
    lab.run("b", &["mv", &socket, &away]);
    let refused = lab.pgstead(&bootstrap).expect(5);
    let errors = refused.json()["errors"].clone();
    assert_eq!((errors.as_array().unwrap().len(), &errors[0]["code"]), (1, &"instance-unreadable".into()), "{refused}");
    lab.run("b", &["mv", &away, &socket]);
    lab.settled();
}

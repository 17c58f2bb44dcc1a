//! Drills on real hosts: they go there and come back, and what they say they measured is what the hosts saw.
//!
//! Samplers inside the hosts, and a client of the test's own, say who could write when.

use std::path::PathBuf;

use pgstead::lab::hosts::Release;
use serde_json::Value;
use serde_json::json;

use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::switchover::Writer;
use crate::switchover::Written;
use crate::switchover::begun_with_clients;
use crate::switchover::is_primary;
use crate::switchover::nothing_is_lost;
use crate::switchover::one_at_a_time;
use crate::traces::Recorders;

#[track_caller]
fn drill(lab: &Scenario, words: &[&str]) -> Value {
    lab.pgstead(&[&["drill"], words, &["--yes", "--format", "json"]].concat()).expect(0).json()
}

#[track_caller]
fn refused(ran: Ran, code: &str) {
    let ran = ran.expect(5);
    assert!(ran.codes().contains(&code.to_owned()), "{code}: {ran}");
}

/// Record and report are there, and say the same; the report needs nothing from anywhere.
#[track_caller]
fn is_evidence(told: &Value) {
    let path = |name: &str| PathBuf::from(told["files"][name].as_str().unwrap());
    let record = std::fs::read_to_string(path("record")).unwrap();
    let mut wanted = told.clone();
    wanted.as_object_mut().unwrap().remove("files");
    assert_eq!(serde_json::from_str::<Value>(&record).unwrap(), wanted);
    let page = std::fs::read_to_string(path("report")).unwrap();
    assert!(page.contains("<svg") && page.contains("Passed: everything was done"), "{page}");
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn a_switchover_and_a_failover_are_rehearsed_on_17() {
    let mut lab = begun_with_clients(Release::Trixie, &["a", "b", "c"]);
    lab.edit(|inventory| inventory["objectives"] = json!({ "rto_s": 30, "rpo_s": 5 }));
    let recorders = Recorders::begin(&lab, None);
    let writer = Writer::start(&lab, "c");

    let told = drill(&lab, &["switchover"]);
    let servers = |told: &Value| -> Vec<String> {
        told["periods"].as_array().unwrap().iter().map(|period| period["server"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(servers(&told), ["a", "b", "a"], "{told:#}");
    assert_eq!((&told["measured"]["lost_writes"], &told["verdict"]["passed"]), (&json!(0), &json!(true)), "{told:#}");
    let downtime = told["measured"]["write_downtime_ms"].as_f64().unwrap();
    println!("switchover: nobody could write for {downtime:.0} ms");
    assert!((20.0..30_000.0).contains(&downtime), "{downtime}");
    is_evidence(&told);
    is_primary(&lab, "a", &["b", "c"]);
    let Written { acknowledged, longest_gap_ms } = writer.end();
    // Two clients of one pause: what one saw, the other saw.
    println!("a client of the test waited for {longest_gap_ms} ms at most");
    nothing_is_lost(&lab, &acknowledged, &["a", "b", "c"]);
    one_at_a_time(&recorders.end(), &["a", "b"]);

    let told = drill(&lab, &["failover", "--server", "b"]);
    assert_eq!(servers(&told), ["a", "b", "a"], "{told:#}");
    let measured = &told["measured"];
    println!("failover: {measured}");
    assert!(measured["recovery_time_ms"].as_f64().unwrap() < 30_000.0, "{told:#}");
    is_evidence(&told);
    is_primary(&lab, "a", &["b", "c"]);
    lab.settled();
}

#[test]
fn a_loss_and_the_way_back_are_rehearsed_on_15() {
    let lab = Scenario::bootstrapped(Release::Bookworm, &["a", "b", "c"]);
    let dir = lab.path().with_file_name("evidence");
    let told = drill(&lab, &["reseed", "--server", "c", "-o", dir.to_str().unwrap()]);
    println!("reseed: {}", told["measured"]);
    assert_eq!(told["stages"][1]["answer"]["method"], "basebackup", "{told:#}");
    assert!(told["files"]["report"].as_str().unwrap().starts_with(dir.to_str().unwrap()));
    is_evidence(&told);
    lab.streams("b", &["c"]);
    // What it broke is kept, in what was set aside.
    let kept = lab.run("c", &["sh", "-c", "ls /var/lib/postgresql/15/*.aside.*/global/pg_control.lost-in-a-drill"]);
    assert!(kept.contains("pg_control"), "{kept}");

    lab.pgstead(&["switchover", "--to", "b", "--yes"]).expect(0);
    let told = drill(&lab, &["restore-of-role"]);
    assert_eq!(told["stages"].as_array().unwrap().len(), 2, "{told:#}");
    is_evidence(&told);
    is_primary(&lab, "a", &["b", "c"]);
    lab.settled();
}

/// Drills with faults are for labs, and nothing interrupts production's clients unasked (hazard 67).
#[test]
fn a_production_topology_is_not_broken() {
    let mut lab = Scenario::bootstrapped(Release::Bookworm, &["a", "b"]);
    lab.edit(|inventory| inventory["purpose"] = json!("production"));
    let drill =
        |lab: &Scenario, words: &[&str]| lab.pgstead(&[&["drill"], words, &["--yes", "--format", "json"]].concat());
    for words in [&["failover"][..], &["reseed", "--server", "b"], &["failover", "--in-production"]] {
        refused(drill(&lab, words), "not-a-lab");
    }
    refused(drill(&lab, &["switchover"]), "drill-in-production");
    is_primary(&lab, "a", &["b"]);
    // Nobody can write while the table is not ours: nothing is begun.
    lab.sql("a", "REVOKE ALL ON pgstead.canary FROM pgstead");
    refused(drill(&lab, &["switchover", "--in-production"]), "drill-cannot-write");
    lab.sql("a", "GRANT SELECT, INSERT, DELETE ON pgstead.canary TO pgstead");
    is_primary(&lab, "a", &["b"]);
    let told = drill(&lab, &["switchover", "--in-production"]).expect(0).json();
    assert_eq!(told["purpose"], "production");
    is_primary(&lab, "a", &["b"]);

    // An objective that is missed is told, and is no success.
    lab.edit(|inventory| {
        inventory["purpose"] = json!("lab");
        inventory["objectives"] = json!({ "rto_s": 1 });
    });
    let ran = drill(&lab, &["reseed"]).expect(7);
    assert!(ran.stdout.contains("more than the objective of 1 s"), "{ran}");
    is_primary(&lab, "a", &["b"]);
}

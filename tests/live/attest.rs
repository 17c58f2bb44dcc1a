//! A site is lost with its primary, and somebody answers for it that it is off (hazards 54 and 55): on real hosts.
//!
//! What runs is asked of systemd and psql on the hosts; samplers inside them would see two writers.

use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Block;
use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::faults::crashing_with;
use crate::guard_boot::start_again_where_its_number_is_taken;
use crate::invariants::never_two;
use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::until;
use crate::switchover::SOON;
use crate::switchover::Writer;
use crate::switchover::begun_with_clients;
use crate::switchover::is_primary;
use crate::switchover::one_at_a_time;
use crate::traces::Recorders;

pub(crate) const TO_B: &[&str] = &["failover", "--to", "b", "--yes", "--format", "json"];
pub(crate) const A_IS_OFF: &[&str] = &["--attest-fenced", "a", "--reason", "the site burns", "--accept-loss"];

pub(crate) fn unit(release: Release) -> String {
    format!("postgresql@{}-main.service", release.postgres_major())
}

#[track_caller]
fn refused(ran: Ran, code: &str) {
    let ran = ran.expect(5);
    assert!(ran.codes().contains(&code.to_owned()), "{code}: {ran}");
}

/// What the service manager of a host says of the instance.
pub(crate) fn state(lab: &Scenario, host: &str, release: Release) -> String {
    lab.run(host, &["systemctl", "show", "--property=ActiveState", "--value", &unit(release)]).trim().to_owned()
}

#[track_caller]
pub(crate) fn comes_to(lab: &Scenario, host: &str, release: Release, wanted: &str) {
    let mut last = String::new();
    until(Instant::now() + SOON, || {
        last = state(lab, host, release);
        last == wanted
    });
    assert_eq!(last, wanted, "{host}");
}

/// What the start guard of a host said last.
pub(crate) fn refusal(lab: &Scenario, host: &str) -> String {
    lab.host(host).run(&["cat", &format!("/var/lib/pgstead/lab/{host}/start-refused")]).unwrap_or_default()
}

/// The last thing that a host sends may get lost: then who follows it finds out by its own time limit, and counts on it until
/// then.
pub(crate) fn notices(lab: &Scenario, standby: &str) {
    let streams = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'";
    until(Instant::now() + Duration::from_secs(45), || lab.sql(standby, streams) == "0");
}

pub(crate) fn answers(lab: &Scenario, host: &str) -> bool {
    lab.host(host).psql(lab.port, "postgres", "SELECT 1").is_ok()
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn a_lost_primary_is_replaced_on_somebody_s_word_on_15() {
    lost(Release::Bookworm);
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn a_lost_primary_is_replaced_on_somebody_s_word_on_17() {
    lost(Release::Trixie);
}

#[test]
fn a_lost_primary_is_replaced_on_somebody_s_word_on_18() {
    lost(Release::Forky);
}

fn lost(release: Release) {
    let lab = begun_with_clients(release, &["a", "b", "c"]);
    let recorders = Recorders::begin(&lab, None);
    let writer = Writer::start(&lab, "c");
    let attested = [TO_B, A_IS_OFF].concat();

    // Only this machine does not reach it: no word counts against what the others see.
    let a = lab.host("a");
    a.block_arriving(Block::Drop, a.operator_address(), Some(22)).unwrap();
    refused(lab.pgstead(&[TO_B, &["--accept-loss"]].concat()), "not-fenced");
    refused(lab.pgstead(&attested), "attestation-contradicted");
    a.unblock().unwrap();
    // Only the others do not reach it: it runs.
    for name in ["b", "c"] {
        lab.host(name).block_arriving(Block::Drop, a.address(), None).unwrap();
    }
    refused(lab.pgstead(&attested), "attestation-contradicted");
    refused(lab.pgstead(TO_B), "primary-runs");
    for name in ["b", "c"] {
        lab.host(name).unblock().unwrap();
    }
    writer.goes_on();
    is_primary(&lab, "a", &["b", "c"]);
    lab.streams("a", &["b"]);

    a.power_cut().unwrap();
    notices(&lab, "b");
    refused(lab.pgstead(&[TO_B, &["--accept-loss"]].concat()), "not-fenced");
    let consent = ["--attest-fenced", "a", "--reason", "the site burns"];
    refused(lab.pgstead(&[TO_B, &consent].concat()), "loss-needs-consent");
    lab.pgstead(&[TO_B, &["--attest-fenced", "a"]].concat()).expect(2);
    is_primary_nowhere(&lab);

    let begun = Instant::now();
    let ran = lab.pgstead(&attested).expect(0).json();
    writer.goes_on();
    println!(
        "clients write {:.1} s after the command, which took {:.1} s",
        begun.elapsed().as_secs_f64(),
        ran["seconds"].as_f64().unwrap()
    );
    assert_eq!((&ran["from"], &ran["to"]), (&json!("a"), &json!("b")), "{ran:#}");
    assert!(ran["lost_lsn_bytes"].is_null(), "{ran:#}");
    is_primary(&lab, "b", &["c"]);
    lab.streams("b", &["c"]);
    // It is written down, here and on the servers; and nothing is left to do.
    assert!(
        lab.pgstead(&["history", "--format", "json"]).expect(0).stdout.contains("a was said to be off: the site burns")
    );
    let told = lab.run("b", &["grep", "-rh", "--include=audit.jsonl", "attested", "/var/lib/pgstead"]);
    assert!(told.contains("\"server\":\"a\"") && told.contains("the site burns"), "{told}");
    let again = lab.pgstead(&attested).expect(0).json();
    assert_eq!(again["changed"], false, "{again:#}");

    // The power is back: the former primary starts with its machine, asks, and does not start (hazard 55).
    a.boot().unwrap();
    comes_to(&lab, "a", release, "failed");
    let said = refusal(&lab, "a");
    assert!(said.contains("server \"b\" is a primary, on timeline 2") || said.contains("is on timeline 2"), "{said}");
    assert!(!answers(&lab, "a"));
    writer.goes_on();
    // Now it answers: nobody has to answer for it.
    refused(lab.pgstead(&attested), "attestation-contradicted");
    refused(lab.pgstead(&["bootstrap", "--yes", "--format", "json"]), "former-primary-back");
    // The same command without that fences it, for which it was out of reach before; then even a host alone holds it.
    let role = ["cat", "/var/lib/pgstead/lab/a/role"];
    assert_eq!(lab.run("a", &role), "primary");
    let again = lab.pgstead(TO_B).expect(0).json();
    assert_eq!(again["changed"], true, "{again:#}");
    assert_eq!(lab.run("a", &role), "fenced");
    refused(lab.pgstead(&["bootstrap", "--yes", "--format", "json"]), "server-fenced");
    writer.goes_on();
    writer.end();
    one_at_a_time(&recorders.end(), &["a", "b"]);
    lab.pgstead(&["reseed", "a", "--yes", "--accept-divergence", "--format", "json"]).expect(0);
    lab.bootstrap();
    lab.settled();
    is_primary(&lab, "b", &["a", "c"]);
}

fn is_primary_nowhere(lab: &Scenario) {
    for name in ["b", "c"] {
        assert_eq!(lab.sql(name, "SELECT pg_is_in_recovery()"), "t", "{name}");
    }
}

/// Its successor dies behind its promotion, and the former primary's power comes back: what was promoted has the data that count,
/// and the refusal says how it starts.
#[test]
#[ignore = "takes minutes: make soak"]
fn a_successor_that_died_starts_before_a_former_primary_that_is_back() {
    let release = Release::Bookworm;
    let lab = begun_with_clients(release, &["a", "b", "c"]);
    let recorders = Recorders::begin(&lab, None);
    let data = format!("/var/lib/postgresql/{}/main", release.postgres_major());
    lab.host("a").power_cut().unwrap();
    notices(&lab, "b");
    let (ran, struck) = crashing_with(&lab, &[TO_B, A_IS_OFF].concat(), "after:b: promote it");
    assert!(struck.is_some(), "{ran}");
    lab.eventually("c", "SELECT received_tli FROM pg_stat_wal_receiver", "2");
    lab.host("b").signal_postmaster(&data, "KILL").unwrap();
    comes_to(&lab, "b", release, "failed");
    lab.host("a").boot().unwrap();
    comes_to(&lab, "a", release, "failed");
    let ran = lab.pgstead(&[TO_B, &["--accept-loss"]].concat()).expect(5);
    assert!(ran.codes().contains(&"former-primary-unknown".to_owned()), "{ran}");
    let role = "/var/lib/pgstead/lab/b/role";
    assert!(ran.stdout.contains(&format!("echo primary >{role}")), "{ran}");
    // It would have been refused until then.
    let start = ["systemctl", "start", &unit(release)];
    assert!(!lab.host("b").exec(&start).unwrap().status.success());
    lab.host("b").write_file(role, b"primary\n").unwrap();
    lab.run("b", &start);
    lab.pgstead(TO_B).expect(0);
    is_primary(&lab, "b", &["c"]);
    assert!(!answers(&lab, "a"));
    lab.pgstead(&["reseed", "a", "--yes", "--accept-divergence", "--format", "json"]).expect(0);
    lab.bootstrap();
    lab.settled();
    assert_eq!(never_two(&recorders.end()), Vec::<String>::new());
}

/// A primary that boots where it reaches nobody waits; it starts by itself when it may, and on a word that is said there.
#[test]
fn a_primary_that_reaches_nobody_waits_before_it_starts() {
    let release = Release::Bookworm;
    let mut lab = Scenario::bootstrapped(release, &["a", "b", "c"]);
    let cut_off = |lab: &Scenario| {
        for name in ["b", "c"] {
            lab.host(name).block_arriving(Block::Drop, lab.host("a").address(), None).unwrap();
        }
    };
    let reboot = |lab: &Scenario| {
        lab.host("a").power_cut().unwrap();
        lab.host("a").boot().unwrap();
    };
    // Its standby finds out by its own time limits that it is there again.
    let streams_again = |lab: &Scenario| {
        const STREAMS: &str = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        let count = || lab.host("a").psql(lab.port, "postgres", STREAMS).unwrap_or_default();
        until(Instant::now() + Duration::from_secs(90), || count() == "1");
        assert_eq!(count(), "1");
    };
    let waits = |lab: &Scenario| {
        until(Instant::now() + SOON, || refusal(lab, "a").contains("It starts when one of them answers"));
        let said = refusal(lab, "a");
        assert!(said.contains("nobody can be asked") && said.contains("start-alone"), "{said}");
        assert_eq!(state(lab, "a", release), "activating");
        assert!(!answers(lab, "a"));
        // Whoever asks is told.
        let check = lab.pgstead(&["check", "--quick"]);
        assert!(check.stdout.contains("nobody can be asked"), "{check}");
    };
    cut_off(&lab);
    reboot(&lab);
    waits(&lab);
    for name in ["b", "c"] {
        lab.host(name).unblock().unwrap();
    }
    start_again_where_its_number_is_taken(&lab, release, &["a"]);
    lab.eventually("a", "SELECT pg_is_in_recovery()", "f");
    assert_eq!(refusal(&lab, "a"), "");
    streams_again(&lab);

    cut_off(&lab);
    reboot(&lab);
    waits(&lab);
    lab.run("a", &["touch", "/var/lib/pgstead/lab/a/start-alone"]);
    start_again_where_its_number_is_taken(&lab, release, &["a"]);
    lab.eventually("a", "SELECT pg_is_in_recovery()", "f");
    for name in ["b", "c"] {
        lab.host(name).unblock().unwrap();
    }
    streams_again(&lab);

    lab.edit(|inventory| inventory["replication"]["start_alone"] = json!(true));
    lab.bootstrap();
    cut_off(&lab);
    reboot(&lab);
    let begun = Instant::now();
    start_again_where_its_number_is_taken(&lab, release, &["a"]);
    lab.eventually("a", "SELECT pg_is_in_recovery()", "f");
    println!("it starts alone after {:.1} s", begun.elapsed().as_secs_f64());
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    for name in ["b", "c"] {
        lab.host(name).unblock().unwrap();
    }
    streams_again(&lab);
    lab.settled();
}

//! The engineer on call has another laptop: only the inventory and SSH. On real hosts.
//!
//! What is asserted is read on the hosts: rows, fingerprints, who is the primary.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Release;
use serde_json::Value;

use crate::scenario::Scenario;
use crate::scenario::until;
use crate::switchover::is_primary;

/// How long the primary's clients may wait for what a command has begun.
const SOON: Duration = Duration::from_secs(60);

/// The operator changes the laptop: what the first one had is not there.
fn another_laptop(lab: &Scenario) {
    std::fs::rename(lab.state(), lab.state().with_extension("laptop1")).unwrap();
}

/// Everything that a host has of certificates and keys, and what it trusts, by fingerprint.
fn certificates(lab: &Scenario, host: &str) -> String {
    const LOOK: &str = "cd /var/lib/pgstead/lab/*/ && sha256sum ca.crt tls/server.crt tls/server.key tls/client.crt tls/client.key && readlink tls";
    lab.run(host, &["sh", "-c", LOOK])
}

/// The certificate that an instance serves, seen by another program.
fn served(lab: &Scenario, host: &str) -> String {
    let look = format!(
        "openssl s_client -starttls postgres -connect 127.0.0.1:{} </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256",
        lab.port
    );
    let fingerprint = lab.run(host, &["sh", "-c", &look]);
    assert!(fingerprint.contains("ingerprint="), "{fingerprint}");
    fingerprint
}

fn everywhere(lab: &Scenario, names: &[&str]) -> BTreeMap<String, (String, String)> {
    names.iter().map(|name| ((*name).to_owned(), (certificates(lab, name), served(lab, name)))).collect()
}

/// Sessions of pgstead that came over a local socket, on a host, as its own log of connections shows.
fn verdict(check: &Value) -> &str {
    check["verdict"].as_str().unwrap()
}

#[test]
fn every_command_works_from_another_laptop_on_15() {
    every_command_works(Release::Bookworm);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn every_command_works_from_another_laptop_on_17() {
    every_command_works(Release::Trixie);
}

fn every_command_works(release: Release) {
    let lab = Scenario::bootstrapped(release, &["a", "b", "c"]);
    another_laptop(&lab);
    let names = ["a", "b", "c"];
    let before = everywhere(&lab, &names);

    let ran = lab.pgstead(&["check", "--format", "json"]).expect(0);
    assert_eq!(verdict(&ran.json()), "healthy", "{ran}");
    assert!(ran.codes().contains(&"authority-elsewhere".to_owned()), "{ran}");
    assert!(ran.stdout.contains("does not hold the CA of topology lab"), "{ran}");
    for check in ran.json()["checks"].as_array().unwrap() {
        assert_ne!(check["verdict"], "unknown", "{check:#}");
    }
    lab.pgstead(&["status"]).expect(0);
    lab.pgstead(&["history", "--servers"]).expect(0);
    lab.pgstead(&["conninfo"]).expect(0);
    lab.pgstead(&["preflight", "--no-throughput"]).expect(0);
    lab.pgstead(&["plan", "--exit-code"]).expect(0);
    let bootstrap = lab.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(0);
    assert_eq!(bootstrap.json()["changed"], false, "{bootstrap}");

    // b loses its data, and gets them back.
    let data = format!("/var/lib/postgresql/{}/main", release.postgres_major());
    let unit = format!("postgresql@{}-main", release.postgres_major());
    lab.run("c", &["systemctl", "stop", &unit]);
    lab.run("c", &["sh", "-c", "mv \"$1\" \"$1\".gone", "sh", &[&data, "/global/pg_control"].concat()]);
    lab.pgstead(&["reseed", "c", "--yes", "--format", "json"]).expect(0);

    let ran = lab.pgstead(&["switchover", "--to", "b", "--yes", "--format", "json"]).expect(0);
    assert!(ran.stderr.contains("does not hold the CA"), "{ran}");
    is_primary(&lab, "b", &["a", "c"]);
    lab.pgstead(&["drill", "switchover", "--yes", "--in-production", "--format", "json"]).expect(0);
    is_primary(&lab, "b", &["a", "c"]);
    assert_eq!(everywhere(&lab, &names), before, "no certificate was touched by the way");

    // A server that needs certificates gets none from here, and nothing else is changed.
    lab.run("c", &["sh", "-c", "rm /var/lib/pgstead/lab/c/tls"]);
    let ran = lab.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(5);
    assert!(ran.codes().contains(&"authority-not-held".to_owned()), "{ran}");
    assert!(ran.stdout.contains("made by") && ran.stdout.contains(".pgstead/lab"), "{ran}");
    assert!(!lab.state().join("ca.key").exists(), "a refused run keeps no CA");
    for name in ["a", "b"] {
        assert_eq!((certificates(&lab, name), served(&lab, name)), before[name], "{name}");
    }

    // The first laptop is back.
    std::fs::remove_dir_all(lab.state()).unwrap();
    std::fs::rename(lab.state().with_extension("laptop1"), lab.state()).unwrap();
    lab.bootstrap();
    lab.settled();
}

#[test]
fn a_dead_primary_is_replaced_from_another_laptop_on_15() {
    replaced(Release::Bookworm);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn a_dead_primary_is_replaced_from_another_laptop_on_17() {
    replaced(Release::Trixie);
}

fn replaced(release: Release) {
    let lab = Scenario::bootstrapped(release, &["a", "b", "c"]);
    lab.sql("a", "CREATE TABLE kept AS SELECT 42 AS answer");
    for name in ["b", "c"] {
        lab.eventually(name, "SELECT answer FROM kept", "42");
    }
    another_laptop(&lab);
    let before = everywhere(&lab, &["b", "c"]);
    lab.host("a").power_cut().unwrap();

    let command = ["failover", "--to", "b", "--attest-fenced", "a", "--reason", "its power is cut", "--accept-loss"];
    lab.pgstead(&[&command[..], &["--yes", "--format", "json"]].concat()).expect(0);
    is_primary(&lab, "b", &["c"]);
    lab.sql("b", "INSERT INTO kept VALUES (43)");
    lab.eventually("c", "SELECT max(answer) FROM kept", "43");

    lab.host("a").boot().unwrap();
    lab.pgstead(&["reseed", "a", "--yes", "--accept-divergence", "--format", "json"]).expect(0);
    lab.sql("b", "INSERT INTO kept VALUES (44)");
    lab.eventually("a", "SELECT max(answer) FROM kept", "44");
    lab.streams("b", &["a", "c"]);
    assert_eq!(everywhere(&lab, &["b", "c"]), before);

    lab.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(0);
    let check = lab.pgstead(&["check", "--format", "json"]).expect(0);
    assert_eq!(verdict(&check.json()), "healthy", "{check}");
    assert_eq!(everywhere(&lab, &["b", "c"]), before);
    until(Instant::now() + SOON, || {
        lab.sql("b", "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgstead'") == "0"
    });
}

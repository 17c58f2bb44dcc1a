//! The engineer on call has another laptop: only the inventory and SSH. On real hosts.
//!
//! What is asserted is read on the hosts: rows, fingerprints, who is the primary.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use jiff::Span;
use jiff::Timestamp;
use pgstead::lab::hosts::Release;
use pgstead::model::address::Address;
use pgstead::model::lifetimes::Lifetimes;
use pgstead::model::name::ServerName;
use pgstead::pki::Authority;
use pgstead::pki::create_authority;
use pgstead::state::StateDir;
use serde_json::Value;

use crate::scenario::Scenario;
use crate::scenario::until;
use crate::switchover::is_primary;

/// How long the primary's clients may wait for what a command has begun.
const SOON: Duration = Duration::from_secs(60);

/// The operator changes the laptop: what the first one had is not there.
pub(crate) fn another_laptop(lab: &Scenario) {
    std::fs::rename(lab.state(), lab.state().with_extension("laptop1")).unwrap();
}

/// The first laptop is back.
pub(crate) fn first_laptop(lab: &Scenario) {
    let _ = std::fs::remove_dir_all(lab.state());
    std::fs::rename(lab.state().with_extension("laptop1"), lab.state()).unwrap();
}

/// Takes away what connects a session with an instance, for as long as something is tried.
fn without_programs<T>(lab: &Scenario, host: &str, tried: impl FnOnce() -> T) -> T {
    const HIDE: &str = "for program in perl python3; do [ ! -e /usr/bin/$program ] || mv /usr/bin/$program /usr/bin/$program.away; done";
    const SHOW: &str = "for program in perl python3; do [ ! -e /usr/bin/$program.away ] || mv /usr/bin/$program.away /usr/bin/$program; done";
    lab.run(host, &["sh", "-c", HIDE]);
    let result = tried();
    lab.run(host, &["sh", "-c", SHOW]);
    result
}

/// What was begun on a host, as its audit log tells.
fn steps_begun(lab: &Scenario, host: &str) -> usize {
    lab.run(host, &["sh", "-c", "cat /var/lib/pgstead/lab/*/audit.jsonl"]).matches("step_started").count()
}

/// Everything that a host has of certificates and keys, and what it trusts, by fingerprint.
pub(crate) fn certificates(lab: &Scenario, host: &str) -> String {
    const LOOK: &str = "cd /var/lib/pgstead/lab/*/ && sha256sum ca.crt tls/server.crt tls/server.key tls/client.crt tls/client.key && readlink tls";
    lab.run(host, &["sh", "-c", LOOK])
}

/// The certificate that an instance serves, seen by another program.
pub(crate) fn served(lab: &Scenario, host: &str) -> String {
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
    let conninfo = lab.pgstead(&["conninfo"]).expect(0);
    assert!(conninfo.stdout.contains("ca.crt of any server"), "{conninfo}");
    lab.pgstead(&["preflight", "--no-throughput"]).expect(0);
    lab.pgstead(&["plan", "--exit-code"]).expect(0);
    let bootstrap = lab.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(0);
    assert_eq!(bootstrap.json()["changed"], false, "{bootstrap}");

    // b loses its data, and gets them back.
    let data = format!("/var/lib/postgresql/{}/main", release.postgres_major());
    let unit = format!("postgresql@{}-main", release.postgres_major());
    lab.run("c", &["systemctl", "stop", &unit]);
    lab.run("c", &["sh", "-c", "mv \"$1\" \"$1\".gone", "sh", &[&data, "/global/pg_control"].concat()]);
    // What its last step needs is looked at before the first.
    let begun = steps_begun(&lab, "c");
    assert!(begun > 0, "the audit log tells no step");
    let reseed = ["reseed", "c", "--yes", "--format", "json"];
    let ran = without_programs(&lab, "b", || lab.pgstead(&reseed)).expect(5);
    assert!(ran.stdout.contains("relay-failed") && ran.stdout.contains("neither perl"), "{ran}");
    assert_eq!(steps_begun(&lab, "c"), begun, "a step was begun although the proof could not be had");
    lab.pgstead(&reseed).expect(0);

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
    first_laptop(&lab);
    lab.bootstrap();

    // That role pgstead may not log in keeps nobody with a certificate from helping, either.
    lab.sql("b", "ALTER ROLE pgstead NOLOGIN");
    let ran = lab.pgstead(&["check", "--format", "json"]).expect(0);
    assert!(ran.codes().contains(&"asked-by-socket".to_owned()), "{ran}");
    lab.pgstead(&["switchover", "--to", "a", "--yes", "--format", "json"]).expect(0);
    is_primary(&lab, "a", &["b", "c"]);
    lab.sql("a", "ALTER ROLE pgstead LOGIN");
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
    let command = [&command[..], &["--yes", "--format", "json"]].concat();
    // Whoever could not be promoted to the end is not begun with.
    let begun = steps_begun(&lab, "b");
    let ran = without_programs(&lab, "b", || lab.pgstead(&command)).expect(5);
    assert!(ran.stdout.contains("relay-failed"), "{ran}");
    assert_eq!((lab.sql("b", "SELECT pg_is_in_recovery()"), steps_begun(&lab, "b")), ("t".to_owned(), begun));
    lab.pgstead(&command).expect(0);
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

/// Gives a server certificates of a CA, made at some time, and lets its instance serve them.
pub(crate) fn install(lab: &Scenario, name: &str, authority: &Authority, at: Timestamp) {
    let server: ServerName = name.parse().unwrap();
    let address = Address::Ip(lab.host(name).address().into());
    let of_server = authority.issue_server(&server, &[address], at).unwrap();
    let of_client = authority.issue_client(&server, at).unwrap();
    for (file, pair) in [("server", of_server), ("client", of_client)] {
        let path = |suffix: &str| format!("/var/lib/pgstead/lab/{name}/tls/{file}.{suffix}");
        lab.host(name).write_file(&path("crt"), pair.certificate.as_bytes()).unwrap();
        lab.host(name).write_file(&path("key"), pair.key.expose().as_bytes()).unwrap();
    }
    lab.sql(name, "SELECT pg_reload_conf()");
    let file = format!("/var/lib/pgstead/lab/{name}/tls/server.crt");
    let wanted = lab.run(name, &["openssl", "x509", "-in", &file, "-noout", "-fingerprint", "-sha256"]);
    until(Instant::now() + SOON, || served(lab, name) == wanted);
    assert_eq!(served(lab, name), wanted, "{name} serves another certificate");
}

/// All certificates have expired, and then the primary dies: somebody writes again, and there is a way out of it.
#[test]
fn an_emergency_does_not_wait_for_certificates() {
    let lab = Scenario::bootstrapped(Release::Trixie, &["a", "b", "c"]);
    lab.sql("a", "CREATE TABLE kept AS SELECT 42 AS answer");
    let topology = "lab".parse().unwrap();
    // Somebody else's certificate is no reason not to ask, and no secret either.
    let foreign = create_authority(&topology, "somebody@elsewhere", Lifetimes::default(), Timestamp::now()).unwrap();
    install(&lab, "b", &Authority::open(&topology, &foreign, Lifetimes::default()).unwrap(), Timestamp::now());
    let check = lab.pgstead(&["check", "--format", "json"]).expect(7);
    for code in ["certificate-foreign", "asked-by-socket"] {
        assert!(check.codes().contains(&code.to_owned()), "{code}: {check}");
    }
    assert!(!check.codes().contains(&"canary-unknown".to_owned()), "{check}");

    let ca = StateDir::at(lab.state()).load_secrets().unwrap().ca.unwrap();
    let authority = Authority::open(&topology, &ca, Lifetimes::default()).unwrap();
    for name in ["a", "b", "c"] {
        install(&lab, name, &authority, Timestamp::now() - Span::new().hours(24 * 800));
    }
    let check = lab.pgstead(&["check", "--format", "json"]).expect(7);
    for code in ["certificate-expired", "asked-by-socket"] {
        assert!(check.codes().contains(&code.to_owned()), "{code}: {check}");
    }
    // The rows arrive: what is unhealthy is the certificates.
    assert!(!check.codes().contains(&"canary-unknown".to_owned()), "{check}");
    for name in ["b", "c"] {
        lab.eventually(name, "SELECT answer FROM kept", "42");
    }
    another_laptop(&lab);
    lab.host("a").power_cut().unwrap();
    let attested =
        ["--attest-fenced", "a", "--reason", "its power is cut", "--accept-loss", "--yes", "--format", "json"];
    let command = [&["failover", "--to", "b"][..], &attested].concat();
    let ran = lab.pgstead(&command);
    println!("from the laptop without the CA: {ran}");
    is_primary(&lab, "b", &["c"]);
    lab.sql("b", "INSERT INTO kept VALUES (43)");

    // Who holds the CA brings the rest in line.
    first_laptop(&lab);
    lab.pgstead(&command).expect(0);
    lab.eventually("c", "SELECT max(answer) FROM kept", "43");
    lab.host("a").boot().unwrap();
    lab.pgstead(&["reseed", "a", "--yes", "--accept-divergence", "--format", "json"]).expect(0);
    lab.eventually("a", "SELECT max(answer) FROM kept", "43");
    lab.bootstrap();
    lab.settled();
}

/// What sshd allows is not always what pgstead would use; with and without the CA.
#[test]
fn sshd_allows_little() {
    let lab = Scenario::bootstrapped(Release::Bookworm, &["a", "b"]);
    lab.sshd("b", "hardened", "MaxSessions 1\n");
    lab.sshd("a", "hardened", "DisableForwarding yes\n");
    lab.pgstead(&["check"]).expect(0);
    for to in ["b", "a"] {
        lab.pgstead(&["switchover", "--to", to, "--yes", "--format", "json"]).expect(0);
    }
    another_laptop(&lab);
    // A session through the local socket of b would hold the only one.
    let before = lab.sql("a", "SELECT pg_current_wal_lsn() > '0/0'");
    let ran = lab.pgstead(&["switchover", "--to", "b", "--yes", "--format", "json"]);
    assert_ne!(ran.code, 0, "{ran}");
    assert!(ran.stdout.contains("one session at a time") || ran.stderr.contains("one session at a time"), "{ran}");
    assert_eq!(lab.sql("a", "SELECT pg_current_wal_lsn() > '0/0'"), before, "a is the primary still");
    let ran = lab.pgstead(&["preflight", "--no-throughput", "--format", "json"]).expect(5);
    assert!(ran.codes().contains(&"ssh-one-session".to_owned()), "{ran}");
    lab.sshd("b", "hardened", "AllowTcpForwarding no\n");
    lab.pgstead(&["check"]).expect(0);
    for to in ["b", "a"] {
        lab.pgstead(&["switchover", "--to", to, "--yes", "--format", "json"]).expect(0);
        assert_eq!(lab.sql(to, "SELECT pg_is_in_recovery()"), "f");
    }
    lab.pgstead(&["preflight", "--no-throughput"]).expect(0);
}

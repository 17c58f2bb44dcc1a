//! The CA is lost for good, and another one takes its place. On real hosts.
//!
//! What is asserted is read on the hosts: who can connect with whom by psql, and whose certificates are served by openssl.

use std::time::Duration;
use std::time::Instant;

use jiff::Span;
use jiff::Timestamp;
use pgstead::lab::hosts::Release;
use pgstead::model::lifetimes::Lifetimes;
use pgstead::pki::Authority;
use pgstead::state::StateDir;

use crate::depth;
use crate::faults::crash_points;
use crate::faults::until_it_comes_through;
use crate::laptop::another_laptop;
use crate::laptop::certificates;
use crate::laptop::first_laptop;
use crate::laptop::install;
use crate::scenario::Scenario;
use crate::scenario::until;
use crate::switchover::is_primary;

pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];
const NEW_AUTHORITY: [&str; 5] = ["bootstrap", "--new-authority", "--yes", "--format", "json"];

/// How long what a run that was killed has told a server may go on there.
const SOON: Duration = Duration::from_secs(30);

/// Every server logs in to every other anew for replication, and each proves itself to the other; or who does not, and why.
fn strangers(lab: &Scenario) -> Vec<String> {
    const DIAL: &str = "cd / && own=/var/lib/pgstead/lab/$1 && exec runuser -u postgres -- psql -XAtqw -c IDENTIFY_SYSTEM \
        \"host=$2 port=$3 user=replicator dbname=replication replication=true sslmode=verify-full connect_timeout=5 \
        sslrootcert=$own/ca.crt sslcert=$own/tls/client.crt sslkey=$own/tls/client.key\"";
    let pairs = NAMES.iter().flat_map(|from| NAMES.iter().map(move |to| (*from, *to))).filter(|(from, to)| from != to);
    let dial = |(from, to): (&str, &str)| {
        let (address, port) = (lab.host(to).address().to_string(), lab.port.to_string());
        let said = lab.host(from).run(&["sh", "-c", DIAL, "sh", from, &address, &port]);
        said.err().map(|why| format!("{from} → {to}: {}", crate::scenario::chain(&why)))
    };
    pairs.filter_map(dial).collect()
}

/// Demands that whatever a run has left, a link that is opened anew comes about.
#[track_caller]
pub(crate) fn trust_each_other(lab: &Scenario, when: &str) {
    let mut last = Vec::new();
    until(Instant::now() + SOON, || {
        last = strangers(lab);
        last.is_empty()
    });
    assert_eq!(last, Vec::<String>::new(), "{when}");
}

/// A run that gives every server certificates of a new CA is killed before and behind each of its steps. No link is cut by it, and
/// the same command again finishes the work.
#[test]
fn a_new_authority_that_is_interrupted_cuts_no_link() {
    let lab = Scenario::bootstrapped(Release::Trixie, &NAMES);
    trust_each_other(&lab, "before");
    lab.run("c", &["sh", "-ec", &["cd /var/lib/pgstead/lab/c", KEEP].join(" && ")]);
    another_laptop(&lab);
    let plan = lab.pgstead(&["bootstrap", "--new-authority", "--dry-run", "--format", "json"]).expect(0).json();
    let mut left = depth::one_in(3, crash_points(&plan, &[]));
    // Steps that run side by side are done when one of them is the last thing that a run does: another CA for them.
    for round in 1..=6 {
        if left.is_empty() {
            break;
        }
        if round > 1 {
            std::fs::remove_dir_all(lab.state()).unwrap();
        }
        until_it_comes_through(&lab, &NEW_AUTHORITY, &mut left, |point| trust_each_other(&lab, point)).expect(0);
        trust_each_other(&lab, "at the end");
        lab.streams("a", &["b"]);
        lab.streams("b", &["c"]);
    }
    assert_eq!(left, Vec::<String>::new(), "moments that no run came to");
    lab.settled();

    // One has certificates of the first CA: whoever holds that, or the last one, does not replace the other's by the way.
    lab.run("c", &["sh", "-ec", &["cd /var/lib/pgstead/lab/c", PUT_BACK].join(" && ")]);
    lab.sql("c", "SELECT pg_reload_conf()");
    trust_each_other(&lab, "with certificates of two CAs");
    let mixed = NAMES.map(|name| certificates(&lab, name));
    let second = lab.state().with_extension("laptop2");
    std::fs::rename(lab.state(), &second).unwrap();
    first_laptop(&lab);
    differs(&lab, &["a", "b"]);
    another_laptop(&lab);
    std::fs::rename(&second, lab.state()).unwrap();
    differs(&lab, &["c"]);
    assert_eq!(NAMES.map(|name| certificates(&lab, name)), mixed);
    // A re-seed is about something else: it works from either machine, and leaves them as they are.
    std::fs::rename(lab.state(), &second).unwrap();
    first_laptop(&lab);
    lab.pgstead(&["reseed", "b", "--method", "basebackup", "--yes", "--format", "json"]).expect(0);
    let pair = |told: &str| told.lines().filter(|line| line.contains("tls")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(pair(&certificates(&lab, "b")), pair(&mixed[1]));
    another_laptop(&lab);
    std::fs::rename(&second, lab.state()).unwrap();
    lab.pgstead(&NEW_AUTHORITY).expect(0);
    trust_each_other(&lab, "with certificates of one CA");
    lab.settled();
}

/// Keeps the certificates that a server has, in its directory; and uses them again.
const KEEP: &str = "cp -a \"$(readlink tls)\" kept";
const PUT_BACK: &str = "mv kept tls.kept && ln -sfn tls.kept tls";

/// Demands that a bootstrap changes nothing, since these servers have certificates of another CA.
#[track_caller]
fn differs(lab: &Scenario, servers: &[&str]) {
    let ran = lab.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(5);
    let told: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("[authority-differs]")).collect();
    assert_eq!(told.len(), servers.len(), "{ran}");
    for server in servers {
        assert!(told.iter().any(|line| line.contains(&format!("server \"{server}\""))), "{server}: {ran}");
    }
}

/// The CA is lost, and the former primary is fenced, with certificates that have expired: it needs new ones to come back, and all
/// others are to have them first.
#[test]
fn a_fenced_server_does_not_keep_the_others_from_a_new_authority() {
    let release = Release::Trixie;
    let lab = Scenario::bootstrapped(release, &NAMES);
    lab.sql("a", "CREATE TABLE kept AS SELECT 42 AS answer");
    for name in ["b", "c"] {
        lab.eventually(name, "SELECT answer FROM kept", "42");
    }
    let topology = "lab".parse().unwrap();
    let ca = StateDir::at(lab.state()).load_secrets().unwrap().ca.unwrap();
    install(
        &lab,
        "a",
        &Authority::open(&topology, &ca, Lifetimes::default()).unwrap(),
        Timestamp::now() - Span::new().hours(24 * 800),
    );
    lab.run("a", &["systemctl", "stop", &format!("postgresql@{}-main", release.postgres_major())]);
    lab.pgstead(&["failover", "--to", "b", "--accept-loss", "--yes", "--format", "json"]).expect(0);
    is_primary(&lab, "b", &["c"]);
    assert_eq!(lab.run("a", &["cat", "/var/lib/pgstead/lab/a/role"]).trim(), "fenced");
    let check = lab.pgstead(&["check"]);
    assert!(check.stdout.contains("pgstead reseed a --dry-run"), "{check}");
    assert!(!check.stdout.contains("\"pgstead bootstrap\" starts it"), "nothing starts it: {check}");
    another_laptop(&lab);

    let reseed = ["reseed", "a", "--yes", "--accept-divergence", "--format", "json"];
    let ran = lab.pgstead(&reseed).expect(5);
    assert!(ran.codes().contains(&"authority-not-held".to_owned()), "{ran}");
    let fenced = certificates(&lab, "a");
    let of_others = ["b", "c"].map(|name| certificates(&lab, name));
    let ran = lab.pgstead(&NEW_AUTHORITY).expect(0);
    assert!(ran.codes().contains(&"fenced-passed-over".to_owned()), "{ran}");
    assert_eq!(certificates(&lab, "a"), fenced);
    for (name, before) in ["b", "c"].iter().zip(&of_others) {
        assert_ne!(certificates(&lab, name), *before, "{name}");
    }
    // Run again, it has nothing to do, and is not kept from saying so.
    let again = lab.pgstead(&NEW_AUTHORITY).expect(0);
    assert_eq!(again.json()["changed"], false, "{again}");
    lab.pgstead(&reseed).expect(0);
    lab.sql("b", "INSERT INTO kept VALUES (43)");
    lab.eventually("a", "SELECT max(answer) FROM kept", "43");
    lab.bootstrap();
    trust_each_other(&lab, "when it is back");
    lab.settled();

    // A key that cannot be used is named with its path.
    let key = lab.state().join("ca.key");
    std::fs::write(&key, "").unwrap();
    let ran = lab.pgstead(&["check", "--format", "json"]).expect(5);
    assert!(ran.stdout.contains(key.to_str().unwrap()), "{ran}");
}

//! A new CA takes the place of the one in use, while clients that have the old one's certificate write. On real hosts.
//!
//! What is asserted is read on the hosts: what psql and openssl accept, what is in the files, and that no session ended.

use pgstead::lab::hosts::Release;
use pgstead::model::lifetimes::Lifetimes;
use pgstead::pki::Authority;
use pgstead::pki::CertificatePair;
use pgstead::state::StateDir;
use serde_json::json;

use crate::authority::NAMES;
use crate::authority::trust_each_other;
use crate::faults::crashing_with;
use crate::laptop::served;
use crate::scenario::Scenario;
use crate::scenario::chain;
use crate::switchover::Writer;
use crate::switchover::Written;
use crate::switchover::begun_with_clients;
use crate::switchover::nothing_is_lost;

const ROTATE_CA: [&str; 6] = ["rotate", "certificates", "--ca", "--yes", "--format", "json"];

/// Moments of each kind: before anything is in force, between a file and its reload, between two servers, where all files are as they
/// should be and nobody has seen the last server refuse the former CA, at the very end.
const SOME_MOMENTS: [&str; 6] = [
    "after:c: trust the new CA as well",
    "before:b: install new certificates",
    "after:a: install new certificates",
    "after:c: trust the former CA no more",
    "before:a: prove that it refuses certificates of the former CA",
    "unlocked",
];

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn a_ca_is_replaced_and_no_session_ends_on_15() {
    a_ca_is_replaced(Release::Bookworm, Some(&SOME_MOMENTS));
}

#[test]
fn a_ca_is_replaced_and_no_session_ends_on_17() {
    a_ca_is_replaced(Release::Trixie, Some(&SOME_MOMENTS));
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn a_ca_is_replaced_and_no_session_ends_on_18() {
    a_ca_is_replaced(Release::Forky, Some(&SOME_MOMENTS));
}

#[test]
#[ignore = "takes minutes: make soak"]
fn a_replacement_of_the_ca_is_killed_at_every_step() {
    a_ca_is_replaced(Release::Bookworm, None);
}

/// Demands that a client that has just this file of CA certificates verifies every server, and logs in; openssl agrees.
#[track_caller]
fn clients_with(lab: &Scenario, file: &str, when: &str) {
    const DIAL: &str = "PGPASSFILE=/run/app.pass exec psql -XAtqw -c 'SELECT 1' \
        \"host=$1 port=$2 dbname=app user=app sslmode=verify-full sslrootcert=$3 sslcert=/nowhere sslkey=/nowhere connect_timeout=10\"";
    const LOOK: &str = "openssl s_client -starttls postgres -connect \"$1:$2\" -CAfile \"$3\" -verify_return_error </dev/null >/dev/null 2>&1";
    for name in NAMES {
        let (address, port) = (lab.host(name).address().to_string(), lab.port.to_string());
        for script in [DIAL, LOOK] {
            let tried = lab.host("c").run(&["sh", "-c", script, "sh", &address, &port, file]);
            tried.unwrap_or_else(|why| panic!("{when}: {file} for {name}: {}", chain(&why)));
        }
    }
}

/// What a server says to a standby whose certificate a CA issues now.
fn said_to_one_of(lab: &Scenario, ca: &CertificatePair, to: &str) -> String {
    const DIAL: &str = "cd / && exec runuser -u postgres -- psql -XAtqw -c IDENTIFY_SYSTEM \
        \"host=$1 port=$2 user=replicator dbname=replication replication=true sslmode=require connect_timeout=10 \
        sslcert=/run/former/client.crt sslkey=/run/former/client.key\"";
    let authority = Authority::open(&"lab".parse().unwrap(), ca, Lifetimes::default()).unwrap();
    let pair = authority.issue_client(&"c".parse().unwrap(), jiff::Timestamp::now()).unwrap();
    let host = lab.host("c");
    lab.run("c", &["install", "-d", "-o", "postgres", "-m", "0700", "/run/former"]);
    host.write_file("/run/former/client.crt", pair.certificate.as_bytes()).unwrap();
    host.write_file("/run/former/client.key", pair.key.expose().as_bytes()).unwrap();
    lab.run("c", &["sh", "-c", "chown postgres: /run/former/*; chmod 600 /run/former/*"]);
    let (address, port) = (lab.host(to).address().to_string(), lab.port.to_string());
    match host.run(&["sh", "-c", DIAL, "sh", &address, &port]) {
        Ok(said) => said,
        Err(why) => chain(&why),
    }
}

fn a_ca_is_replaced(release: Release, moments: Option<&[&str]>) {
    let mut lab = begun_with_clients(release, &NAMES);
    let unit = format!("postgresql@{}-main", release.postgres_major());
    let former = StateDir::at(lab.state()).load_secrets().unwrap().ca.unwrap();
    let state = lab.state();
    let file = |name: &str| std::fs::read_to_string(state.join(name)).ok();
    let bundles =
        |lab: &Scenario| NAMES.map(|name| lab.run(name, &["cat", &format!("/var/lib/pgstead/lab/{name}/ca.crt")]));
    assert!(said_to_one_of(&lab, &former, "a").contains('|'));

    // Nothing is begun while one does not run, or cannot be reached.
    lab.run("c", &["systemctl", "stop", &unit]);
    let ran = lab.pgstead(&ROTATE_CA).expect(5);
    assert!(
        ran.stderr.contains("server \"c\" does not run, and a CA is replaced only where every server does"),
        "{ran}"
    );
    lab.run("c", &["systemctl", "start", &unit]);
    lab.eventually("b", "SELECT state FROM pg_stat_replication WHERE application_name = 'c'", "streaming");
    lab.streams("b", &["c"]);
    lab.edit(|inventory| inventory["servers"]["c"]["ssh"] = json!({ "port": 9 }));
    let ran = lab.pgstead(&ROTATE_CA).expect(4);
    assert!(ran.stderr.contains("a CA is replaced only where every server can be reached"), "{ran}");
    lab.edit(|inventory| drop(inventory["servers"]["c"].as_object_mut().unwrap().remove("ssh")));
    assert_eq!((bundles(&lab), file("ca.new.crt")), (NAMES.map(|_| former.certificate.trim().to_owned()), None));

    let senders = |lab: &Scenario| {
        ["a", "b"]
            .map(|name| lab.sql(name, "SELECT string_agg(pid::text || backend_start, ',') FROM pg_stat_replication"))
    };
    let (links, before) = (senders(&lab), NAMES.map(|name| served(&lab, name)));
    let writer = Writer::start(&lab, "c");
    let mut left: Vec<String> = match moments {
        Some(some) => some.iter().map(|moment| (*moment).to_owned()).collect(),
        None => {
            let plan =
                lab.pgstead(&["rotate", "certificates", "--ca", "--dry-run", "--format", "json"]).expect(0).json();
            let steps = plan["steps"].as_array().unwrap().iter().flat_map(|step| {
                let (server, title) = (step["server"].as_str().unwrap_or("all"), step["title"].as_str().unwrap());
                ["before", "after"].map(|when| format!("{when}:{server}: {title}"))
            });
            steps.chain(["locked", "unlocking", "unlocked"].map(str::to_owned)).collect()
        }
    };
    let mut made: Option<String> = None;
    let last = loop {
        let (ran, struck) = crashing_with(&lab, &ROTATE_CA, &left.join("\n"));
        let Some(point) = struck else { break ran };
        assert_eq!(ran.code, -1, "{point} did not end it: {ran}");
        left.retain(|moment| *moment != point);
        // Whoever was killed goes on with the CA that it has made, and clients know nothing of either.
        let new = file("ca.new.crt").unwrap();
        lab.host("c").write_file("/run/both.ca", [former.certificate.as_str(), &new].concat().as_bytes()).unwrap();
        // No file waits for a reload here: nothing is wrong, and the work is not finished.
        if point == "before:b: install new certificates" {
            let ran = lab.pgstead(&["check", "--format", "json"]).expect(0);
            assert!(ran.codes().contains(&"authority-in-rotation".to_owned()), "{ran}");
            lab.pgstead(&["rotate", "certificates", "--yes"]).expect(5);
        }
        assert_eq!(*made.get_or_insert(new.clone()), new, "{point}: another CA was made");
        trust_each_other(&lab, &point);
        clients_with(&lab, "/run/app.ca", &point);
        clients_with(&lab, "/run/both.ca", &point);
    };
    last.expect(0);
    let new = file("ca.crt").unwrap();
    assert_eq!((Some(&new), file("ca.new.crt"), file("ca.new.key")), (made.as_ref(), None, None));
    // Steps that run side by side: one of them may be done when another is the last thing that a run does.
    let missed = left.iter().filter(|moment| moments.is_some() || moment.contains("install new")).collect::<Vec<_>>();
    assert_eq!(missed, Vec::<&String>::new(), "moments that no run came to");

    // The former CA has left, and whoever knows it alone is told what leads there.
    assert_eq!(bundles(&lab), NAMES.map(|_| new.trim().to_owned()));
    for (name, before) in NAMES.iter().zip(&before) {
        assert_ne!(served(&lab, name), *before, "{name}");
        let said = said_to_one_of(&lab, &former, name);
        assert!(said.contains("unknown ca"), "{name}: {said}");
    }
    lab.host("c").write_file("/run/new.ca", new.as_bytes()).unwrap();
    for file in ["/run/app.ca", "/run/both.ca", "/run/new.ca"] {
        clients_with(&lab, file, "at the end");
    }
    trust_each_other(&lab, "at the end");
    // So it stays with certificates that are issued later.
    lab.pgstead(&["rotate", "certificates", "a", "--yes", "--format", "json"]).expect(0);
    clients_with(&lab, "/run/app.ca", "after a later rotation");

    writer.goes_on();
    let Written { acknowledged, longest_gap_ms } = writer.end();
    assert_eq!(lab.run("c", &["cat", "/run/app.errors"]), "", "a session of a client ended");
    assert_eq!(senders(&lab), links, "a link was opened anew");
    nothing_is_lost(&lab, &acknowledged, &NAMES);
    println!("{} rows, longest gap {longest_gap_ms} ms", acknowledged.len());
    lab.settled();
}

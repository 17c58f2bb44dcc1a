//! New hardware takes the place of a standby, under its name: first at another address, while its former machine still lives; then at
//! the same one, with another host key, while another server is dead. On real hosts, under a writer; what is asserted is read on the
//! hosts and in known_hosts.

use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Release;

use crate::depth;
use crate::faults::crash_points;
use crate::faults::crashing_with;
use crate::faults::until_it_comes_through;
use crate::guard_boot::start_again_where_its_number_is_taken;
use crate::invariants::ledger;
use crate::invariants::never_two;
use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::until;
use crate::traces::Recorders;

const REPLACE: [&str; 5] = ["replace", "c", "--yes", "--format", "json"];

#[test]
fn new_hardware_takes_the_place_of_a_standby_on_17() {
    new_hardware(Release::Trixie);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn new_hardware_takes_the_place_of_a_standby_on_15() {
    new_hardware(Release::Bookworm);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn new_hardware_takes_the_place_of_a_standby_on_18() {
    new_hardware(Release::Forky);
}

/// The lines of the file in which the operator's machine keeps host keys.
fn known_hosts(lab: &Scenario) -> Vec<String> {
    let text = std::fs::read_to_string(lab.inventory["ssh"]["known_hosts"].as_str().unwrap()).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The lines of them that are about an address.
fn of_address(lines: &[String], address: &str) -> Vec<String> {
    lines.iter().filter(|line| line.split([' ', ',']).any(|word| word == address)).cloned().collect()
}

/// What its console shows.
fn fingerprint(lab: &Scenario, host: &str) -> String {
    let shown = lab.run(host, &["ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"]);
    shown.split_whitespace().nth(1).unwrap().to_owned()
}

/// Nothing but a fingerprint that is right is believed, and nothing changes in known_hosts for anything else.
fn nothing_else_is_believed(lab: &Scenario, code: &str) {
    let before = known_hosts(lab);
    let another = fingerprint(lab, "a");
    for words in [&REPLACE[..], &[&REPLACE[..], &["--host-key", &another]].concat()] {
        let refused = lab.pgstead(words).expect(5);
        assert!(refused.codes().contains(&code.to_owned()), "{refused}");
    }
    assert_eq!(known_hosts(lab), before);
}

/// On whom the others' files and connections of c are, read on their hosts; the former address is nobody's any more.
fn everybody_knows_it_there(
    lab: &Scenario,
    release: Release,
    upstream: &str,
    others: &[&str],
    now: &str,
    former: &str,
) {
    let sender = "SELECT string_agg(host(client_addr) || ' ' || state, ',') FROM pg_stat_replication WHERE application_name = 'c'";
    assert_eq!(lab.sql(upstream, sender), format!("{now} streaming"));
    let slot = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'c' AND active";
    assert_eq!(lab.sql(upstream, slot), "1");
    let hba = format!("/etc/postgresql/{}/main/pg_hba.conf", release.postgres_major());
    for name in others {
        for file in [hba.as_str(), &format!("/var/lib/pgstead/lab/{name}/peers")] {
            let text = lab.run(name, &["cat", file]);
            let words: BTreeSet<&str> = text.split([' ', '/', '=', '\'', '\n']).collect();
            assert!(words.contains(now) && !words.contains(former), "{name}: {file}\n{text}");
        }
    }
}

/// The rows that were acknowledged and are not on a host.
fn missing(lab: &Scenario, host: &str, acknowledged: &[u64]) -> Vec<String> {
    let mut missing = vec!["not asked".to_owned()];
    until(Instant::now() + Duration::from_secs(30), || {
        let there = lab.sql(host, "SELECT coalesce(string_agg(id::text, ' '), '') FROM ledger");
        let there: BTreeSet<&str> = there.split(' ').collect();
        missing = acknowledged.iter().map(u64::to_string).filter(|id| !there.contains(id.as_str())).collect();
        missing.is_empty()
    });
    missing
}

fn changed(ran: &Ran) -> bool {
    ran.json()["changed"].as_bool().unwrap()
}

fn new_hardware(release: Release) {
    let mut lab = Scenario::begun("one-host-beside", release, &["a", "b", "c", "d"], |lab| {
        lab.edit(|inventory| drop(inventory["servers"].as_object_mut().unwrap().remove("d")));
        lab.bootstrap();
    });
    let [former, now] = ["c", "d"].map(|name| lab.host(name).address().to_string());
    let mut recorders = Recorders::of(&lab, lab.lab().hosts().iter().filter(|host| host.name() != "d"));
    recorders.ledger(&lab, "a");

    // Whom others need is not replaced; and nobody is who is as it should be.
    let refused = lab.pgstead(&["replace", "a", "--yes"]).expect(5);
    assert!(refused.codes().contains(&"server-needed".to_owned()), "{refused}");
    assert!(!changed(&lab.pgstead(&["replace", "b", "--yes", "--format", "json"]).expect(0)));

    // The new machine has another address, and nobody knows its key.
    let file = lab.inventory["ssh"]["known_hosts"].as_str().unwrap().to_owned();
    let all = known_hosts(&lab);
    let others: Vec<String> =
        all.iter().filter(|line| of_address(&[(*line).clone()], &now).is_empty()).cloned().collect();
    std::fs::write(&file, others.join("\n") + "\n").unwrap();
    lab.edit(|inventory| inventory["servers"]["c"]["address"] = now.as_str().into());
    let key = fingerprint(&lab, "d");
    let with_key = [&REPLACE[..], &["--host-key", &key]].concat();

    // Its former machine still streams: two servers would have one name.
    let refused = lab.pgstead(&with_key).expect(5);
    assert!(refused.codes().contains(&"standby-elsewhere".to_owned()) && refused.stderr.contains(&former), "{refused}");
    assert_eq!(known_hosts(&lab), others);
    lab.host("c").power_cut().unwrap();
    lab.eventually("b", "SELECT count(*) FROM pg_stat_replication", "0");
    // A slot that is made anew has another directory.
    let slot = format!("/var/lib/postgresql/{}/main/pg_replslot/c", release.postgres_major());
    let slot = |lab: &Scenario| lab.run("b", &["stat", "--format=%i %W", &slot]);
    let kept = slot(&lab);
    nothing_else_is_believed(&lab, "host-key-unknown");
    let refused = lab.pgstead(&["replace", "c", "--dry-run", "--host-key", &key]).expect(5);
    assert!(refused.codes().contains(&"host-key-unknown".to_owned()), "{refused}");
    assert_eq!(known_hosts(&lab), others);

    // Killed at some of its steps, it is finished by the same command. The first of these runs takes the key.
    let (ran, struck) = crashing_with(&lab, &with_key, "locked");
    assert_eq!((ran.code, struck.as_deref()), (-1, Some("locked")), "{ran}");
    let plan = lab.pgstead(&["replace", "c", "--dry-run", "--format", "json"]).expect(0).json();
    let notes = plan["notes"].as_array().unwrap();
    assert!(notes.iter().any(|note| note["code"] == "server-replaced" && note["server"] == "c"), "{plan}");
    let mut left = depth::one_in(4, crash_points(&plan, &["unlocking", "unlocked"]));
    let mut n_killed = 0;
    until_it_comes_through(&lab, &with_key, &mut left, |_| {
        n_killed += 1;
        assert_eq!(slot(&lab), kept, "its slot was made anew");
    })
    .expect(0);
    assert!(n_killed > 2, "killed {n_killed} times, never at {left:?}");
    assert_eq!(slot(&lab), kept, "its slot was made anew");
    let after = known_hosts(&lab);
    assert_eq!(of_address(&after, &former), Vec::<String>::new(), "the key of the former machine is believed still");
    assert_eq!(of_address(&after, &now).len(), 1, "{after:#?}");
    let stays = |line: &&String| of_address(&[(**line).clone()], &former).is_empty();
    assert!(others.iter().filter(stays).all(|line| after.contains(line)), "others lost their keys: {after:#?}");
    assert_eq!(after.len(), others.len(), "{after:#?}");
    everybody_knows_it_there(&lab, release, "b", &["a", "b"], &now, &former);
    lab.settled();
    assert!(!changed(&lab.pgstead(&REPLACE).expect(0)));

    // The former machine is back: the others turn it away, and the new one goes on.
    lab.host("c").boot().unwrap();
    start_again_where_its_number_is_taken(&lab, release, &["c"]);
    lab.eventually("c", "SELECT pg_is_in_recovery()", "t");
    let log = format!("/var/log/postgresql/postgresql-{}-main.log", release.postgres_major());
    let refusal = format!("pg_hba.conf rejects replication connection for host \"{former}\", user \"replicator\"");
    let mut on_b = String::new();
    until(Instant::now() + Duration::from_secs(30), || {
        on_b = lab.run("b", &["cat", &log]);
        on_b.contains(&refusal)
    });
    assert!(on_b.contains(&refusal), "{on_b}");
    everybody_knows_it_there(&lab, release, "b", &["a", "b"], &now, &former);
    lab.host("c").power_cut().unwrap();

    // Installed anew at the same address, while its upstream is dead, too: it follows the primary.
    lab.host("d").reset().unwrap();
    lab.host("d").replace_host_key().unwrap();
    assert_eq!(
        lab.host("d").exec(&["test", "-e", "/var/lib/pgstead"]).unwrap().status.code(),
        Some(1),
        "it is not new"
    );
    nothing_else_is_believed(&lab, "host-key-changed");
    lab.edit(|inventory| inventory["servers"]["c"]["upstream"] = "a".into());
    lab.host("b").power_cut().unwrap();
    let key = fingerprint(&lab, "d");
    let again = [&REPLACE[..], &["--host-key", &key, "--without", "b"]].concat();
    lab.pgstead(&again[..again.len() - 2]).expect(4);
    assert_eq!(known_hosts(&lab), after);
    // What is there already is nobody's to overwrite.
    lab.run("d", &["pg_createcluster", &release.postgres_major().to_string(), "main"]);
    let data = format!("/var/lib/postgresql/{}/main", release.postgres_major());
    let inode = lab.run("d", &["stat", "--format=%i", &data]);
    let refused = lab.pgstead(&again).expect(5);
    assert!(refused.codes().contains(&"data-directory-not-ours".to_owned()), "{refused}");
    assert_eq!(lab.run("d", &["stat", "--format=%i", &data]), inode);
    lab.run("d", &["pg_dropcluster", &release.postgres_major().to_string(), "main"]);
    let (ran, struck) = crashing_with(&lab, &again, "unlocking");
    assert_eq!((ran.code, struck.as_deref()), (-1, Some("unlocking")), "{ran}");
    lab.pgstead(&again).expect(0);
    let last = known_hosts(&lab);
    assert_eq!((last.len(), of_address(&last, &now).len()), (after.len(), 1), "{last:#?}");
    assert_ne!(of_address(&last, &now), of_address(&after, &now));
    everybody_knows_it_there(&lab, release, "a", &["a"], &now, &former);

    // The other one is back.
    lab.host("b").boot().unwrap();
    start_again_where_its_number_is_taken(&lab, release, &["b"]);
    lab.eventually("b", "SELECT pg_is_in_recovery()", "t");
    lab.bootstrap();
    lab.settled();
    everybody_knows_it_there(&lab, release, "a", &["a", "b"], &now, &former);
    assert_eq!(lab.sql("b", "SELECT count(*) FROM pg_replication_slots"), "0", "nobody uses them");

    let traces = recorders.end();
    assert_eq!(never_two(&traces), Vec::<String>::new());
    assert!(traces.acknowledged.len() > 50, "{} rows", traces.acknowledged.len());
    for host in ["a", "b", "d"] {
        assert_eq!(missing(&lab, host, &traces.acknowledged), Vec::<String>::new(), "{host}");
    }
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn servers_move_to_other_addresses_on_15() {
    moves(Release::Bookworm);
}

#[test]
fn servers_move_to_other_addresses_on_17() {
    moves(Release::Trixie);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn servers_move_to_other_addresses_on_18() {
    moves(Release::Forky);
}

/// A host has another address from now on, and not the one that it had; its instance goes on. Returns both.
fn move_host(lab: &mut Scenario, name: &str, last: u8) -> (String, String) {
    let former = lab.inventory["servers"][name]["address"].as_str().unwrap().to_owned();
    let now = format!("{}.{last}", former.rsplit_once('.').unwrap().0);
    lab.run(name, &["ip", "address", "del", &format!("{former}/24"), "dev", "host0"]);
    lab.run(name, &["ip", "address", "add", &format!("{now}/24"), "dev", "host0"]);
    lab.edit(|inventory| inventory["servers"][name]["address"] = now.as_str().into());
    (former, now)
}

/// The same machine at another address, one after the other: a standby that is an upstream, and the primary. Nothing is copied.
fn moves(release: Release) {
    let mut lab = Scenario::bootstrapped(release, &["a", "b", "c"]);
    let data = format!("/var/lib/postgresql/{}/main", release.postgres_major());
    let inodes = |lab: &Scenario| ["a", "b", "c"].map(|name| lab.run(name, &["stat", "--format=%i", &data]));
    let before = inodes(&lab);
    let mut recorders = Recorders::begin(&lab, None);
    recorders.ledger(&lab, "a");

    for (name, last) in [("b", 72), ("a", 71)] {
        let (former, now) = move_host(&mut lab, name, last);
        // Its key is known, and not under this address.
        let refused = lab.pgstead(&["bootstrap", "--yes"]).expect(4);
        assert!(refused.codes().contains(&"host-key-unknown".to_owned()), "{refused}");
        lab.pgstead(&["trust", "--yes"]).expect(0);
        if name == "a" {
            let refused = lab.pgstead(&["bootstrap", "--yes"]).expect(5);
            assert!(refused.codes().contains(&"restart-needs-consent".to_owned()), "{refused}");
        }
        lab.pgstead(&["bootstrap", "--yes", "--allow-restart"]).expect(0);
        lab.settled();
        lab.streams("a", &["b"]);
        lab.streams("b", &["c"]);
        let hba = format!("/etc/postgresql/{}/main/pg_hba.conf", release.postgres_major());
        for other in ["a", "b", "c"].into_iter().filter(|other| *other != name) {
            for file in [hba.as_str(), &format!("/var/lib/pgstead/lab/{other}/peers")] {
                let text = lab.run(other, &["cat", file]);
                let words: BTreeSet<&str> = text.split([' ', '/', '=', '\'', '\n']).collect();
                assert!(words.contains(now.as_str()) && !words.contains(former.as_str()), "{other}: {file}\n{text}");
            }
        }
        let certificate = format!("/var/lib/pgstead/lab/{name}/tls/server.crt");
        let names = lab.run(name, &["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", &certificate]);
        assert!(names.contains(&now) && !names.contains(&former), "{names}");
    }
    assert_eq!(inodes(&lab), before, "something was copied");

    let traces = recorders.end();
    assert_eq!(never_two(&traces), Vec::<String>::new());
    assert!(traces.acknowledged.len() > 50, "{} rows", traces.acknowledged.len());
    assert_eq!(ledger(&lab, &traces), Vec::<String>::new());
}

//! A server leaves the topology: the others forget it, whether it still lives or not, and turn it away when it comes back. On real
//! hosts, under a writer; what is asserted is read on the hosts.

use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Release;

use crate::depth;
use crate::faults::crash_points;
use crate::faults::until_it_comes_through;
use crate::guard_boot::start_again_where_its_number_is_taken;
use crate::invariants::ledger;
use crate::invariants::never_two;
use crate::scenario::Scenario;
use crate::scenario::until;
use crate::traces::Recorders;

const REMOVE: [&str; 5] = ["remove", "c", "--yes", "--format", "json"];

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn a_standby_is_removed_and_so_is_a_dead_one_on_15() {
    a_standby_is_removed_and_so_is_a_dead_one(Release::Bookworm);
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn a_standby_is_removed_and_so_is_a_dead_one_on_17() {
    a_standby_is_removed_and_so_is_a_dead_one(Release::Trixie);
}

#[test]
fn a_standby_is_removed_and_so_is_a_dead_one_on_18() {
    a_standby_is_removed_and_so_is_a_dead_one(Release::Forky);
}

/// What the others know of c, read on their hosts: slots, connections, HBA records, and whom their start guards ask.
fn known_of_c(lab: &Scenario, release: Release) -> Vec<String> {
    let address = lab.host("c").address().to_string();
    let mut known = Vec::new();
    for name in ["a", "b"] {
        let of = |what: &str, from: &str| lab.sql(name, &["SELECT count(*) FROM ", from, " = '", what, "'"].concat());
        let slots = of("c", "pg_replication_slots WHERE slot_name");
        let connections = of("c", "pg_stat_replication WHERE application_name");
        let records = of(&address, "pg_hba_file_rules WHERE address");
        let hba = format!("/etc/postgresql/{}/main/pg_hba.conf", release.postgres_major());
        let files = [hba.as_str(), &format!("/var/lib/pgstead/lab/{name}/peers")]
            .map(|file| lab.run(name, &["cat", file]).matches(&address).count());
        if (slots.as_str(), connections.as_str(), records.as_str(), files) != ("0", "0", "0", [0, 0]) {
            known.push(format!("{name}: {slots} slots, {connections} connections, {records} records, {files:?} lines"));
        }
    }
    known
}

fn a_standby_is_removed_and_so_is_a_dead_one(release: Release) {
    let mut lab = Scenario::bootstrapped(release, &["a", "b", "c"]);
    let whole = lab.inventory.clone();
    let unit = format!("postgresql@{}-main", release.postgres_major());
    let data = format!("/var/lib/postgresql/{}/main", release.postgres_major());
    let directory = |lab: &Scenario| lab.run("c", &["stat", "--format=%i", &data]);
    let before = directory(&lab);
    let recorders = Recorders::begin(&lab, Some("a"));

    // Whom others need stays.
    for (server, why) in [("a", "is the primary"), ("b", "is the upstream of \"c\"")] {
        let refused = lab.pgstead(&["remove", server, "--yes"]).expect(5);
        assert!(refused.codes().contains(&"server-needed".to_owned()) && refused.stderr.contains(why), "{refused}");
    }

    // One that streams, with pgstead killed before and behind every step; the same command goes on.
    let plan = lab.pgstead(&["remove", "c", "--dry-run", "--format", "json"]).expect(0).json();
    let mut left = depth::one_in(3, crash_points(&plan, &["locked", "unlocking", "unlocked"]));
    for round in 1..=6 {
        if round > 1 {
            // Steps that run side by side are done when one of them is the last thing that a run does: it is put back for them.
            lab.bootstrap();
            lab.streams("b", &["c"]);
        }
        until_it_comes_through(&lab, &REMOVE, &mut left, |_| ()).expect(0);
        assert_eq!(known_of_c(&lab, release), Vec::<String>::new());
        let state = lab.host("c").exec(&["systemctl", "is-active", &unit]).unwrap();
        assert_ne!(String::from_utf8_lossy(&state.stdout).trim(), "active", "it was to be stopped");
        if left.is_empty() {
            break;
        }
    }
    assert_eq!(left, Vec::<String>::new(), "moments that no run came to");
    assert_eq!(lab.pgstead(&REMOVE).expect(0).json()["changed"], false);
    // Nothing starts it, and its data are where they were.
    lab.host("c").exec(&["systemctl", "start", &unit]).unwrap();
    let said = lab.run("c", &["cat", "/var/lib/pgstead/lab/c/start-refused"]);
    assert!(said.contains("removed from its topology"), "{said}");
    assert_eq!(directory(&lab), before);
    lab.edit(|inventory| drop(inventory["servers"].as_object_mut().unwrap().remove("c")));
    lab.settled();

    // Put back it is as it was, without a copy.
    lab.edit(|inventory| *inventory = whole);
    lab.bootstrap();
    lab.streams("b", &["c"]);
    assert_eq!(directory(&lab), before);
    lab.settled();

    // One that has lost its power: nothing is asked of it. When it is back, it is turned away.
    lab.host("c").power_cut().unwrap();
    let ran = lab.pgstead(&REMOVE).expect(0);
    assert!(ran.stderr.contains("could not be reached"), "{ran}");
    assert_eq!(known_of_c(&lab, release), Vec::<String>::new());
    lab.edit(|inventory| drop(inventory["servers"].as_object_mut().unwrap().remove("c")));
    lab.settled();
    lab.host("c").boot().unwrap();
    start_again_where_its_number_is_taken(&lab, release, &["c"]);
    lab.eventually("c", "SELECT pg_is_in_recovery()", "t");
    let log = format!("/var/log/postgresql/postgresql-{}-main.log", release.postgres_major());
    let refusal = format!(
        "pg_hba.conf rejects replication connection for host \"{}\", user \"replicator\"",
        lab.host("c").address()
    );
    let mut on_b = String::new();
    until(Instant::now() + Duration::from_secs(30), || {
        on_b = lab.run("b", &["cat", &log]);
        on_b.contains(&refusal)
    });
    assert!(on_b.contains(&refusal), "{on_b}");
    assert_eq!(known_of_c(&lab, release), Vec::<String>::new());
    lab.settled();

    let traces = recorders.end();
    assert_eq!(never_two(&traces), Vec::<String>::new());
    assert!(traces.acknowledged.len() > 50, "{} rows", traces.acknowledged.len());
    assert_eq!(ledger(&lab, &traces), Vec::<String>::new());
}

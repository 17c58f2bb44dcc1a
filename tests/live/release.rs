//! pgstead leaves: its parts go, replication goes on, and every server can be restarted, rebooted and promoted. On real hosts, under a
//! writer; what is asserted is read on the hosts.

use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::depth;
use crate::faults::crash_points;
use crate::faults::until_it_comes_through;
use crate::invariants::ledger;
use crate::invariants::never_two;
use crate::scenario::Scenario;
use crate::scenario::until;
use crate::traces::Recorders;

const RELEASE: [&str; 4] = ["release", "--yes", "--format", "json"];

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn a_topology_is_released_and_adopted_again_on_15() {
    a_topology_is_released_and_adopted_again(Release::Bookworm);
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn a_topology_is_released_and_adopted_again_on_17() {
    a_topology_is_released_and_adopted_again(Release::Trixie);
}

#[test]
fn a_topology_is_released_and_adopted_again_on_18() {
    a_topology_is_released_and_adopted_again(Release::Forky);
}

/// Where things are on a host of Debian's.
struct Places {
    data: String,
    home: String,
    unit: String,
}

impl Places {
    fn of(release: Release) -> Self {
        let major = release.postgres_major();
        Self {
            data: format!("/var/lib/postgresql/{major}/main"),
            home: format!("/etc/postgresql/{major}/main"),
            unit: format!("postgresql@{major}-main"),
        }
    }
}

fn a_topology_is_released_and_adopted_again(release: Release) {
    let mut lab = Scenario::bootstrapped(release, &["a", "b", "c"]);
    let at = Places::of(release);
    let before = directories(&lab, &at);
    let recorders = Recorders::begin(&lab, Some("a"));
    let since = || lab.sql("a", "SELECT pg_postmaster_start_time()");
    let started = since();

    // Killed before and behind steps; after each, whoever restarts a server finds it as it was. The second time the configuration is
    // the operator's, with pgstead's parts in it.
    let plan = lab.pgstead(&["release", "--dry-run", "--format", "json"]).expect(0).json();
    let mut left = depth::one_in(3, crash_points(&plan, &["locked", "unlocking", "unlocked"]));
    let mut others = ["c", "b"].into_iter().cycle();
    for round in 1..=6 {
        if round > 1 {
            lab.bootstrap();
        }
        if round == 2 {
            while_one_is_down(&lab, &at);
        }
        until_it_comes_through(&lab, &RELEASE, &mut left, |_| {
            let name = others.next().unwrap();
            lab.run(name, &["systemctl", "restart", &at.unit]);
            streams_on(&lab);
        })
        .expect(0);
        for name in ["a", "b", "c"] {
            is_released(&lab, &at, name);
        }
        if round > 1 && left.is_empty() {
            break;
        }
    }
    assert_eq!(left, Vec::<String>::new(), "moments that no run came to");
    assert_eq!(since(), started, "the primary was restarted");
    let again = lab.pgstead(&RELEASE).expect(0);
    assert_eq!(again.json()["changed"], false);
    assert!(again.stderr.contains("nothing of pgstead's is left to take"), "{again}");
    let stays = again.json()["stays"].to_string();
    assert_eq!(stays.matches("valid until 2").count(), 9, "{stays}");
    // To the other commands these are servers of somebody else's.
    for command in [&["check"][..], &["switchover", "--to", "b", "--yes"], &["reseed", "c", "--yes"]] {
        let ran = lab.pgstead(command);
        assert_ne!(ran.code, 0, "{ran}");
        assert!(ran.to_string().contains("pgstead bootstrap"), "{ran}");
    }
    streams_on(&lab);

    // Every host loses its power, and is as it was.
    for name in ["a", "b", "c"] {
        lab.host(name).power_cut().unwrap();
    }
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let lab = &lab;
            let unit = &at.unit;
            scope.spawn(move || {
                lab.host(name).boot().unwrap();
                // Debian's unit is the distribution's again: whoever stops it while it still starts ends all processes at once.
                lab.run(name, &["systemctl", "start", unit]);
            });
        }
    });
    streams_on(&lab);

    // One is promoted by hand, where the former primary was stopped in order, and that one follows it by hand.
    lab.run("a", &["systemctl", "stop", &at.unit]);
    lab.sql("b", "SELECT pg_promote()");
    lab.eventually("b", "SELECT state FROM pg_stat_replication WHERE application_name = 'c'", "streaming");
    lab.eventually("c", "SELECT received_tli FROM pg_stat_wal_receiver", "2");
    follow_by_hand(&lab, &at, "a", "b");

    // pgstead takes them over again, as they are.
    lab.edit(|inventory| {
        inventory["servers"]["b"]["kind"] = json!("primary");
        inventory["servers"]["a"]["kind"] = json!("standby");
    });
    lab.bootstrap();
    lab.streams("b", &["a", "c"]);
    assert_eq!(directories(&lab, &at), before, "nothing was copied");
    lab.settled();

    let traces = recorders.end();
    assert_eq!(never_two(&traces), Vec::<String>::new());
    assert!(traces.acknowledged.len() > 50, "{} rows", traces.acknowledged.len());
    assert_eq!(ledger(&lab, &traces), Vec::<String>::new());
}

/// Releases the others while c has no power. It keeps its start guard, is let in as before, and is released when it is back.
fn while_one_is_down(lab: &Scenario, at: &Places) {
    lab.host("c").power_cut().unwrap();
    let refused = lab.pgstead(&RELEASE).expect(4);
    assert!(refused.stderr.contains("pgstead release --without c"), "{refused}");
    lab.pgstead(&[&RELEASE[..], &["--without", "c"]].concat()).expect(0);
    for name in ["a", "b"] {
        is_released(lab, at, name);
    }
    lab.host("c").boot().unwrap();
    lab.run("c", &["systemctl", "start", &at.unit]);
    streams_on(lab);
    lab.run("c", &["test", "-e", &format!("{}/pgstead.identity", at.data)]);
}

/// The inodes of the data directories, and when each was made.
fn directories(lab: &Scenario, at: &Places) -> Vec<String> {
    let version = [&at.data, "/PG_VERSION"].concat();
    ["a", "b", "c"].map(|name| lab.run(name, &["stat", "--format=%n %i %W", &at.data, &version])).into()
}

/// Demands that c streams from b, and b from a, over TLS and their own slots, and that a row comes through.
fn streams_on(lab: &Scenario) {
    const WHO: &str = "SELECT concat_ws(' ', r.application_name, s.ssl, r.state, l.slot_name) FROM pg_stat_replication r \
        JOIN pg_stat_ssl s USING (pid) JOIN pg_replication_slots l ON l.active_pid = r.pid";
    lab.eventually("a", WHO, "b t streaming b");
    lab.eventually("b", WHO, "c t streaming c");
    let position = lab.sql("a", "SELECT pg_current_wal_flush_lsn()");
    lab.eventually("c", &format!("SELECT pg_last_wal_replay_lsn() >= '{position}'"), "t");
}

/// Demands that nothing of pgstead's is on a host but what its links need.
fn is_released(lab: &Scenario, at: &Places, name: &str) {
    let own = format!("/var/lib/pgstead/lab/{name}");
    let files = lab.run(name, &["sh", "-c", "ls -A \"$1\" | grep -v '^tls\\.'", "sh", &own]);
    assert_eq!(files, "audit.jsonl\nca.crt\ngeneration\ntls", "{name}");
    for gone in [
        format!("{}/pgstead.identity", at.data),
        format!("{}/pgstead.conf", at.home),
        format!("/etc/systemd/system/{}.service.d", at.unit),
    ] {
        let output = lab.host(name).exec(&["test", "-e", &gone]).unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {gone}");
    }
    let asked = lab.run(name, &["systemctl", "show", "-p", "ExecStartPre", "-p", "NeedDaemonReload", &at.unit]);
    assert!(!asked.contains("start-guard") && asked.contains("NeedDaemonReload=no"), "{name}: {asked}");
    assert_eq!(lab.sql(name, "SELECT coalesce(to_regnamespace('pgstead')::text, 'gone')"), "gone", "{name}");
    let roles = "SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolname ~ 'pgstead|replicator'";
    lab.eventually(name, roles, "replicator");
    let records = "SELECT count(*) FROM pg_hba_file_rules WHERE user_name && '{pgstead,pgstead_rewind}'";
    assert_eq!(lab.sql(name, records), "0", "{name}");
    let errors = "SELECT (SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL) + \
        (SELECT count(*) FROM pg_ident_file_mappings WHERE error IS NOT NULL) + (SELECT count(*) FROM pg_file_settings WHERE error IS NOT NULL)";
    assert_eq!(lab.sql(name, errors), "0", "{name}");
}

/// What a DBA does to make a server that was shut down in order the standby of its successor.
fn follow_by_hand(lab: &Scenario, at: &Places, name: &str, upstream: &str) {
    lab.sql(upstream, &format!("SELECT pg_create_physical_replication_slot('{name}', true)"));
    let own = format!("/var/lib/pgstead/lab/{name}");
    let conninfo = format!(
        "host={} port={} user=replicator application_name={name} sslmode=verify-full sslrootcert={own}/ca.crt \
         sslcert={own}/tls/client.crt sslkey={own}/tls/client.key",
        lab.host(upstream).address(),
        lab.port
    );
    let lines = format!("primary_conninfo = '{conninfo}'\nprimary_slot_name = '{name}'\n");
    lab.run(name, &["sh", "-c", "printf '%s' \"$2\" >>\"$1/postgresql.conf\"", "sh", &at.home, &lines]);
    lab.run(name, &["runuser", "-u", "postgres", "--", "touch", &format!("{}/standby.signal", at.data)]);
    lab.run(name, &["systemctl", "start", &at.unit]);
    lab.eventually(name, "SELECT status || ' ' || received_tli FROM pg_stat_wal_receiver", "streaming 2");
    // Nobody follows it any more.
    lab.sql(name, &format!("SELECT pg_drop_replication_slot('{upstream}')"));
}

/// Where `pg_ctl` runs the instances, of a user that is not root's, log and socket are in pgstead's directory. The configuration of the
/// one that was adopted stays the operator's.
#[test]
#[ignore = "takes minutes: make soak"]
fn instances_of_pg_ctl_are_released_on_15() {
    let mut lab = Scenario::boot(Release::Bookworm, &["a", "b"]);
    lab.edit(|inventory| {
        for name in ["a", "b"] {
            inventory["servers"][name]["service"] = json!("pg_ctl");
            inventory["servers"][name]["data_directory"] = json!("/srv/pg/data");
            inventory["servers"][name]["bin_directory"] = json!("/usr/lib/postgresql/15/bin");
        }
        inventory["replication"]["authentication"] = json!("scram-sha-256");
    });
    for name in ["a", "b"] {
        lab.run(name, &["install", "-d", "-o", "postgres", "/srv/pg"]);
    }
    lab.bootstrap();
    let socket = |lab: &Scenario, name: &str, sql: &str| {
        lab.run(name, &["runuser", "-u", "postgres", "--", "psql", "-XAtq", "-h", "/srv/pg/data.pgstead", "-c", sql])
    };
    let released = |lab: &Scenario| {
        lab.pgstead(&RELEASE).expect(0);
        assert_eq!(lab.pgstead(&RELEASE).expect(0).json()["changed"], false);
        for name in ["a", "b"] {
            let files = lab.run(name, &["sh", "-c", "ls -A /srv/pg/data.pgstead | grep -v '^tls\\.\\|^\\.s\\.'"]);
            assert_eq!(files, "audit.jsonl\nca.crt\ngeneration\npassfile\npostgresql.log\ntls", "{name}");
            let gone = "! ls /srv/pg/data/pgstead.* && ! grep -r pgstead_rewind /srv/pg/data/*.conf";
            lab.run(name, &["sh", "-c", gone]);
        }
        // Whoever starts them does so without pgstead.
        for name in ["b", "a"] {
            let pg_ctl = "/usr/lib/postgresql/15/bin/pg_ctl";
            let restart = ["restart", "-s", "-w", "-D", "/srv/pg/data", "-l", "/srv/pg/data.pgstead/postgresql.log"];
            lab.run(name, &[&["runuser", "-u", "postgres", "--", pg_ctl], &restart[..]].concat());
        }
        until(Instant::now() + Duration::from_secs(30), || {
            socket(lab, "b", "SELECT status FROM pg_stat_wal_receiver") == "streaming"
        });
        socket(lab, "a", "CREATE TABLE IF NOT EXISTS t AS SELECT 42 AS answer");
        until(Instant::now() + Duration::from_secs(30), || socket(lab, "b", "SELECT to_regclass('t')") == "t");
        assert_eq!(socket(lab, "b", "SELECT answer FROM t"), "42");
    };
    released(&lab);
    lab.bootstrap();
    lab.settled();
    released(&lab);
    lab.bootstrap();
    lab.settled();
}

//! Other servers, other inventories: everything that a first bootstrap may meet.

use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::scenario::Scenario;
use crate::scenario::until;

#[test]
fn an_ordinary_user_other_ports_and_another_data_directory_on_15() {
    unusual_places(Release::Bookworm);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn an_ordinary_user_other_ports_and_another_data_directory_on_17() {
    unusual_places(Release::Trixie);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn an_ordinary_user_other_ports_and_another_data_directory_on_18() {
    unusual_places(Release::Forky);
}

/// User `ops` with sudo, sshd on 2222, PostgreSQL on 5433, data below a directory that is not there.
fn unusual_places(release: Release) {
    let specs = ["a", "b", "c"].map(|name| HostSpec { ssh_port: 2222, ..HostSpec::new(name, release) });
    let mut lab = Scenario::of(specs.into());
    lab.edit(|inventory| {
        inventory["ssh"]["user"] = json!("ops");
        inventory["postgres"]["port"] = json!(5433);
        for name in ["a", "b", "c"] {
            inventory["servers"][name]["data_directory"] = json!("/srv/pg/data");
        }
    });
    // Root cannot log in at all, so that nothing can have come that way.
    for name in ["a", "b", "c"] {
        lab.run(name, &["rm", "/root/.ssh/authorized_keys"]);
    }
    lab.bootstrap();
    lab.sql("a", "CREATE TABLE t AS SELECT 42 AS answer");
    for standby in ["b", "c"] {
        lab.eventually(standby, "SELECT answer FROM t", "42");
    }
    for name in ["a", "b", "c"] {
        assert_eq!(lab.sql(name, "SHOW data_directory"), "/srv/pg/data");
        assert_eq!(lab.run(name, &["stat", "--format=%U:%G %a", "/srv/pg/data"]), "postgres:postgres 700");
    }
    lab.streams("a", &["b"]);
    lab.streams("b", &["c"]);
    lab.settled();
}

#[test]
fn servers_behind_a_jump_host() {
    let jump = HostSpec { ssh_port: 2222, ..HostSpec::new("j", Release::Bookworm) };
    let [a, b] = ["a", "b"].map(|name| HostSpec::new(name, Release::Bookworm));
    let mut lab = Scenario::of(vec![a, b, jump]);
    let address = lab.host("j").address();
    for name in ["a", "b"] {
        let host = lab.host(name);
        host.drop_arriving_from(host.operator_address()).unwrap();
    }
    lab.edit(|inventory| {
        inventory["servers"].as_object_mut().unwrap().remove("j");
        inventory["sites"].as_object_mut().unwrap().remove("remote");
        inventory["ssh"]["jump"] = json!(format!("ops@{address}:2222"));
    });
    lab.bootstrap();
    lab.sql("a", "CREATE TABLE t AS SELECT 42 AS answer");
    lab.eventually("b", "SELECT answer FROM t", "42");
    lab.streams("a", &["b"]);
    lab.settled();

    // It really was the only way.
    lab.edit(|inventory| inventory["ssh"]["jump"] = json!([]));
    let address = lab.host("a").address();
    let direct = std::net::TcpStream::connect_timeout(&(address, 22).into(), Duration::from_millis(300));
    assert!(direct.is_err());
}

#[test]
fn ten_standbys_in_a_mixed_cascade() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "k", "l"];
    // b, g, h, l follow a; c, d, k follow b; e, f follow c; i follows g.
    let upstreams = [("d", "b"), ("e", "c"), ("f", "c"), ("i", "g"), ("k", "b")];
    let mut lab = Scenario::boot(Release::Trixie, &names);
    lab.edit(|inventory| {
        for (standby, upstream) in upstreams {
            inventory["servers"][standby]["upstream"] = json!(upstream);
        }
    });
    let begun = Instant::now();
    let mut run = lab.start(&["bootstrap", "--yes", "--format", "json"]);
    let status = format!("/proc/{}/status", run.child.id());
    let mut peak_kilobytes = 0;
    until(begun + Duration::from_secs(240), || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak_kilobytes = peak.unwrap_or(peak_kilobytes);
        run.child.try_wait().unwrap().is_some()
    });
    let report = run.end().expect(0).json();
    println!("11 servers: {:.1} s, peak memory {peak_kilobytes} kB", begun.elapsed().as_secs_f64());
    assert_eq!(report["changed"], true);
    assert!((5_000..50_000).contains(&peak_kilobytes), "{peak_kilobytes} kB");

    lab.sql("a", "CREATE TABLE t AS SELECT 42 AS answer");
    for standby in &names[1..] {
        lab.eventually(standby, "SELECT answer FROM t", "42");
    }
    lab.streams("a", &["b", "g", "h", "l"]);
    lab.streams("b", &["c", "d", "k"]);
    lab.streams("c", &["e", "f"]);
    lab.streams("g", &["i"]);
    lab.settled();
}

#[test]
fn odd_but_usable_names() {
    let mut lab = Scenario::boot(Release::Bookworm, &["a", "b"]);
    lab.edit(|inventory| {
        inventory["topology"] = json!("img.crawler-2.Prod");
        let servers = inventory["servers"].as_object_mut().unwrap();
        let (a, b) = (servers.remove("a").unwrap(), servers.remove("b").unwrap());
        servers.insert("DB-0.west_1".to_owned(), a);
        servers.insert("Db-1.East".to_owned(), b);
    });
    lab.bootstrap();
    lab.sql("a", "CREATE TABLE t AS SELECT 42 AS answer");
    lab.eventually("b", "SELECT answer FROM t", "42");
    let link = lab.sql(
        "a",
        "SELECT r.application_name, s.client_dn, l.slot_name, r.state FROM pg_stat_replication r \
         JOIN pg_stat_ssl s USING (pid) JOIN pg_replication_slots l ON l.active_pid = r.pid",
    );
    assert_eq!(link, "Db-1.East|/CN=Db-1.East/O=img.crawler-2.Prod|db_1_east|streaming");
    assert_eq!(lab.sql("a", "SHOW cluster_name"), "DB-0.west_1");
    assert_eq!(lab.sql("b", "SHOW cluster_name"), "Db-1.East");
    lab.settled();
}

#[test]
fn a_synchronous_standby() {
    let mut lab = Scenario::boot(Release::Trixie, &["a", "b"]);
    lab.edit(|inventory| {
        inventory["replication"]["synchronous"] = json!({ "mode": "any", "count": 1, "standbys": ["b"] });
    });
    let report = lab.bootstrap().json();
    lab.eventually("a", "SELECT application_name, sync_state FROM pg_stat_replication", "b|quorum");
    assert_eq!(lab.sql("a", "SHOW synchronous_standby_names"), "ANY 1 (\"b\")");
    // It was turned on last, behind the proof.
    let titles: Vec<&str> =
        report["steps"].as_array().unwrap().iter().map(|step| step["title"].as_str().unwrap()).collect();
    let position = |word: &str| titles.iter().position(|title| title.contains(word)).unwrap();
    assert!(position("prove") < position("synchronous_standby_names"), "{titles:?}");
    assert!(position("synchronous_standby_names") >= titles.len() - 2, "{titles:?}");
    lab.settled();

    // A commit waits for b, and goes through when b is back.
    lab.sql("a", "CREATE TABLE t (answer int)");
    lab.host("b").cut_link().unwrap();
    let insert = ["runuser", "--user=postgres", "--", "psql", "--no-psqlrc", "--command=INSERT INTO t VALUES (42)"];
    let mut commit = lab.host("a").command(&insert).unwrap().spawn().unwrap();
    lab.eventually("a", "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'", "1");
    assert!(commit.try_wait().unwrap().is_none());
    assert_eq!(lab.sql("a", "SELECT count(*) FROM t"), "0");
    lab.host("b").mend_link().unwrap();
    assert!(commit.wait().unwrap().success());
    lab.eventually("b", "SELECT answer FROM t", "42");

    // Off again: commits no longer wait.
    lab.eventually("a", "SELECT state FROM pg_stat_replication", "streaming");
    lab.edit(|inventory| inventory["replication"]["synchronous"] = json!("off"));
    let started = lab.sql("a", "SELECT pg_postmaster_start_time()");
    lab.bootstrap();
    assert_eq!(lab.sql("a", "SHOW synchronous_standby_names"), "");
    lab.eventually("a", "SELECT sync_state FROM pg_stat_replication", "async");
    assert_eq!(lab.sql("a", "SELECT pg_postmaster_start_time()"), started);
    lab.settled();
}

/// Whoever logs in, or is the instance's user, may make files that nobody else reads: what pgstead makes is as the distribution
/// makes it all the same, and the tools of other users find the instance.
#[test]
fn modes_are_the_distributions_whatever_the_umask_is() {
    let lab = Scenario::boot(Release::Trixie, &["a", "b"]);
    const UMASK: &str = "for file in /root/.bashrc /root/.profile /var/lib/postgresql/.bashrc /var/lib/postgresql/.profile; do \
        [ ! -e \"$file\" ] || cp \"$file\" \"$file.before\"; { echo 'umask 077'; cat \"$file.before\" 2>/dev/null || :; } >\"$file\"; done; \
        sed -i 's/^UMASK.*/UMASK 077/; s/^USERGROUPS_ENAB.*/USERGROUPS_ENAB no/' /etc/login.defs; \
        for file in sshd runuser runuser-l sudo; do [ ! -e /etc/pam.d/$file ] || echo 'session optional pam_umask.so umask=0077' >>/etc/pam.d/$file; done";
    for server in ["a", "b"] {
        lab.run(server, &["sh", "-c", UMASK]);
        // Both whom pgstead is and as whom it acts; where a user has a group of its own, that may do what the user may.
        let umask = lab.run(server, &["runuser", "-u", "postgres", "--", "sh", "-c", "umask"]);
        assert!(["0077", "0007"].contains(&umask.trim()), "{umask}");
        let option = |name: &str, key: &str| format!("{name}={}", lab.inventory["ssh"][key].as_str().unwrap());
        let login = format!("root@{}", lab.host(server).address());
        let mut ssh = std::process::Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", &option("UserKnownHostsFile", "known_hosts")]);
        let said = ssh.args(["-o", &option("IdentityFile", "identity_file"), &login, "umask"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "0077", "{said:?}");
    }
    lab.bootstrap();
    lab.streams("a", &["b"]);
    for server in ["a", "b"] {
        for (mode, path) in [
            ("755", "/etc/postgresql"),
            ("755", "/etc/postgresql/17"),
            ("755", "/etc/postgresql/17/main"),
            ("644", "/etc/postgresql/17/main/postgresql.conf"),
            ("640", "/etc/postgresql/17/main/pg_hba.conf"),
            ("640", "/etc/postgresql/17/main/pg_ident.conf"),
            ("755", "/var/lib/postgresql/17"),
            ("700", "/var/lib/postgresql/17/main"),
        ] {
            assert_eq!(lab.run(server, &["stat", "-c", "%a", path]).trim(), mode, "{path} of {server}");
        }
        let clusters = lab.run(server, &["runuser", "-u", "nobody", "--", "pg_lsclusters", "--no-header"]);
        assert!(clusters.contains("17 main") && clusters.contains("online"), "{server}: {clusters}");
    }
    lab.settled();
}

//! The main job: bare servers become a proven topology.

use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::Release;
use pgstead::lab::hosts::SmallDisk;

use crate::scenario::Scenario;

#[test]
fn three_bare_servers_become_a_cascade_on_15() {
    cascade(Release::Bookworm);
}

#[test]
fn three_bare_servers_become_a_cascade_on_17() {
    cascade(Release::Trixie);
}

#[test]
fn three_bare_servers_become_a_cascade_on_18() {
    cascade(Release::Forky);
}

#[test]
#[ignore = "19 is in Debian's experimental suite alone: make soak"]
fn three_bare_servers_become_a_cascade_on_19() {
    cascade(Release::Experimental);
}

fn cascade(release: Release) {
    let lab = Scenario::boot(release, &["a", "b", "c"]);
    let report = lab.bootstrap().json();
    assert_eq!(report["changed"], true);

    // A row written on a appears on b and c.
    lab.sql("a", "CREATE TABLE t AS SELECT 42 AS answer");
    for standby in ["b", "c"] {
        lab.eventually(standby, "SELECT answer FROM t", "42");
        assert_eq!(lab.sql(standby, "SELECT pg_is_in_recovery()"), "t");
    }
    assert_eq!(lab.sql("a", "SHOW data_checksums"), "on");

    // Every replication connection is TLS, with the verified certificate of that standby, through its own slot.
    for (upstream, standby) in [("a", "b"), ("b", "c")] {
        let link = lab.sql(
            upstream,
            "SELECT r.application_name, s.ssl, s.version, s.client_dn, l.slot_name, r.state, r.usename \
             FROM pg_stat_replication r JOIN pg_stat_ssl s USING (pid) JOIN pg_replication_slots l ON l.active_pid = r.pid",
        );
        assert_eq!(
            link,
            format!("{standby}|t|TLSv1.3|/CN={standby}/O=lab|{standby}|streaming|replicator"),
            "on {upstream}"
        );
    }

    // The second run changes nothing.
    let again = lab.pgstead(&["bootstrap", "--format", "json"]).expect(0).json();
    assert_eq!(again["changed"], false);
    lab.pgstead(&["plan", "--exit-code"]).expect(0);
    let check = lab.pgstead(&["check", "--format", "json"]).expect(0).json();
    assert_eq!(check["verdict"], "healthy");
    assert_eq!(check["findings"].as_array().unwrap().len(), 0, "{check:#}");
}

/// The servers are the truth: the operator's machine can be lost (design, section 6).
#[test]
fn a_lost_state_directory_is_made_anew() {
    let mut lab = Scenario::boot(Release::Trixie, &["a", "b"]);
    lab.edit(|inventory| inventory["replication"]["authentication"] = "scram-sha-256".into());
    lab.bootstrap();
    let writes = lab.sql("a", "SELECT count(*) FROM pgstead.canary");
    let started = lab.sql("b", "SELECT pg_postmaster_start_time()");
    std::fs::rename(lab.state(), lab.state().with_extension("lost")).unwrap();

    // Nothing is replaced unasked, and nothing needs to be.
    let ca = lab.run("a", &["cat", "/var/lib/pgstead/lab/a/ca.crt"]);
    assert_eq!(lab.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(0).json()["changed"], false);
    assert_eq!(lab.run("a", &["cat", "/var/lib/pgstead/lab/a/ca.crt"]), ca);

    // A new CA, new certificates and a new password, without a restart and without a new copy.
    let ran = lab.pgstead(&["bootstrap", "--new-authority", "--yes", "--format", "json"]).expect(0);
    assert!(ran.stderr.contains("[authority-new]") && ran.stderr.contains("are refused"), "{ran}");
    assert!(lab.run("a", &["cat", "/var/lib/pgstead/lab/a/ca.crt"]).contains(ca.trim()), "both are trusted");
    let report = ran.json();
    assert_eq!(report["changed"], true);
    assert!(!report["steps"].to_string().contains("base backup"), "{report:#}");
    assert_eq!(lab.sql("b", "SELECT pg_postmaster_start_time()"), started);
    assert_ne!(lab.sql("a", "SELECT count(*) FROM pgstead.canary"), writes);

    // What is new serves, also for a link that connects afresh.
    lab.sql("a", "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_replication");
    lab.eventually("a", "SELECT state FROM pg_stat_replication", "streaming");
    assert_eq!(lab.pgstead(&["bootstrap", "--format", "json"]).expect(0).json()["changed"], false);
    lab.pgstead(&["check"]).expect(0);
    // The start guard of the primary gets its answer by the new password, under the new CA: without one it would not start.
    lab.run("a", &["systemctl", "restart", "postgresql@17-main"]);
    assert_eq!(lab.sql("a", "SELECT pg_is_in_recovery()"), "f");
}

/// Tablespaces exist on every server before the primary's WAL asks for them; a later standby copies them.
#[test]
fn tablespaces_are_created_and_copied() {
    let mut lab = Scenario::boot(Release::Bookworm, &["a", "b", "c"]);
    lab.edit(|inventory| {
        for name in ["a", "b", "c"] {
            inventory["servers"][name]["tablespaces"] = serde_json::json!({ "fast": "/srv/pg/fast" });
        }
    });
    let all = lab.inventory.clone();
    lab.edit(|inventory| drop(inventory["servers"].as_object_mut().unwrap().remove("c")));
    lab.bootstrap();
    lab.sql("a", "CREATE TABLE t TABLESPACE fast AS SELECT 42 AS answer");
    lab.eventually("b", "SELECT answer FROM t", "42");
    // And one that the inventory does not name.
    for name in ["a", "b"] {
        lab.run(name, &["install", "-d", "-o", "postgres", "-m", "700", "/srv/pg/more"]);
    }
    lab.sql("a", "CREATE TABLESPACE more LOCATION '/srv/pg/more'");
    lab.sql("a", "CREATE TABLE u TABLESPACE more AS SELECT 43 AS answer");
    lab.eventually("b", "SELECT t.answer + u.answer FROM t, u", "85");
    lab.edit(|inventory| *inventory = all);

    // Nobody can ask a primary that does not run which of them it has: it is started, they are in nobody's way, and a new standby
    // gets them.
    lab.run("a", &["systemctl", "kill", "--signal=SIGKILL", "postgresql@15-main"]);
    lab.run("a", &["systemctl", "stop", "postgresql@15-main"]);
    let planned = lab.pgstead(&["plan", "--format", "json"]).expect(0);
    let is_told = |note: &serde_json::Value| note["code"] == "tablespaces-unknown";
    assert!(planned.json()["notes"].as_array().unwrap().iter().any(is_told), "{planned}");
    lab.bootstrap();
    lab.streams("a", &["b"]);
    lab.eventually("c", "SELECT t.answer + u.answer FROM t, u", "85");
    let locations = "SELECT string_agg(pg_tablespace_location(oid), ' ' ORDER BY spcname) FROM pg_tablespace WHERE spcname IN ('fast', 'more')";
    for name in ["a", "c"] {
        assert_eq!(lab.sql(name, locations), "/srv/pg/fast /srv/pg/more", "{name}");
    }
    // Nothing of the copy is left beside them.
    assert_eq!(lab.run("c", &["sh", "-c", "ls /srv/pg/fast /srv/pg/more | grep -c seed || :"]).trim(), "0");
    assert_eq!(lab.pgstead(&["plan", "--exit-code"]).expect(0).code, 0);

    // What a bootstrap would change is not carried along by a switchover, which looks where settings lead as that does.
    lab.edit(|inventory| {
        let parameters = &mut inventory["postgres"]["parameters"];
        parameters["logging_collector"] = serde_json::json!("on");
        parameters["log_directory"] = serde_json::json!("/var/log/postgresql");
    });
    let refused = lab.pgstead(&["switchover", "--to", "b", "--yes"]).expect(5);
    assert_eq!(refused.codes(), ["changes-pending"], "{refused}");
}

/// A disk that is not mounted is no reason to make its data anew, below the mount point (hazard 6).
#[test]
fn a_disk_that_is_not_mounted_is_noticed() {
    let disk = SmallDisk { mount_point: "/var/lib/postgresql".into(), mebibytes: 700 };
    let of = |name: &str, small_disk| HostSpec { small_disk, ..HostSpec::new(name, Release::Bookworm) };
    let lab = Scenario::of(vec![of("a", None), of("b", Some(disk))]);
    lab.bootstrap();
    lab.run("b", &["systemctl", "stop", "postgresql@15-main"]);
    lab.run("b", &["umount", "/var/lib/postgresql"]);
    let refused = lab.pgstead(&["bootstrap", "--yes"]).expect(5);
    assert!(refused.codes().contains(&"data-directory-gone".to_owned()), "{refused}");
    assert_eq!(lab.run("b", &["find", "/var/lib/postgresql", "-name", "main*"]), "");

    // With the disk the instance is back as it was.
    lab.host("b").shut_down().unwrap();
    lab.host("b").boot().unwrap();
    lab.eventually("b", "SELECT pg_is_in_recovery()", "t");
    assert_eq!(lab.pgstead(&["bootstrap", "--format", "json"]).expect(0).json()["changed"], false);
}

//! The main job: bare servers become a proven topology.

use pgstead::lab::hosts::Release;

use crate::scenario::Scenario;

#[test]
fn three_bare_servers_become_a_cascade_on_15() {
    cascade(Release::Bookworm);
}

#[test]
fn three_bare_servers_become_a_cascade_on_17() {
    cascade(Release::Trixie);
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

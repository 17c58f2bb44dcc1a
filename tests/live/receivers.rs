//! What a dead primary had already sent arrives after it is dead: the successor is compared once more, right before it is promoted
//! (hazard 56). On real hosts, with walreceivers that stand still while WAL waits for them in the kernel.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::scenario::Scenario;
use crate::scenario::until;
use crate::switchover::SOON;
use crate::switchover::is_primary;

/// The walreceiver of a standby.
fn receiver(lab: &Scenario, name: &str) -> String {
    lab.sql(name, "SELECT pid FROM pg_stat_wal_receiver")
}

fn received(lab: &Scenario, name: &str) -> String {
    lab.sql(name, "SELECT pg_last_wal_receive_lsn()")
}

#[test]
fn what_arrives_after_the_plan_is_seen_before_the_promotion() {
    let mut lab = Scenario::boot(Release::Trixie, &["a", "b", "c"]);
    lab.edit(|inventory| {
        inventory["servers"]["c"]["upstream"] = json!("a");
        inventory["hooks"] = json!({ "before": "hook" });
    });
    // The moment between the plan and the promotion: the hook says that it has come, and waits to be let go on.
    let at = |name: &str| lab.path().with_file_name(name);
    std::fs::write(
        at("hook"),
        "#!/bin/sh\ncd \"${0%/*}\" && touch reached && while [ ! -e go ]; do sleep 0.05; done && rm go reached\n",
    )
    .unwrap();
    std::fs::set_permissions(at("hook"), std::fs::Permissions::from_mode(0o755)).unwrap();
    lab.bootstrap();
    lab.sql("a", "CREATE TABLE arrives (id int)");
    let here = lab.sql("a", "SELECT pg_current_wal_lsn()");
    for name in ["b", "c"] {
        lab.eventually(name, &format!("SELECT pg_last_wal_replay_lsn() >= '{here}'"), "t");
    }
    let [of_b, of_c] = ["b", "c"].map(|name| receiver(&lab, name));
    lab.run("b", &["kill", "-STOP", &of_b]);
    lab.run("c", &["kill", "-STOP", &of_c]);
    let before = received(&lab, "c");
    lab.sql("a", "INSERT INTO arrives VALUES (1)");
    let sent = "SELECT count(*) FROM pg_stat_replication WHERE sent_lsn >= pg_current_wal_lsn()";
    lab.eventually("a", sent, "2");
    lab.host("a").signal_postmaster("/var/lib/postgresql/17/main", "KILL").unwrap();
    until(Instant::now() + SOON, || lab.host("a").psql(lab.port, "postgres", "SELECT 1").is_err());

    let to_b = ["failover", "--to", "b", "--accept-loss", "--yes", "--format", "json"];
    let run = lab.start(&to_b);
    until(Instant::now() + SOON, || at("reached").exists());
    assert!(at("reached").exists(), "{}", run.said());
    lab.run("c", &["kill", "-CONT", &of_c]);
    lab.eventually("c", &format!("SELECT pg_last_wal_receive_lsn() > '{before}'"), "t");
    std::fs::write(at("go"), "").unwrap();
    let refused = run.end().expect(6);
    assert!(refused.codes().contains(&"successor-behind".to_owned()), "{refused}");
    is_primary_nowhere(&lab);

    // The one that has it loses nothing of it.
    std::fs::write(at("go"), "").unwrap();
    lab.run("b", &["kill", "-CONT", &of_b]);
    lab.pgstead(&["failover", "--to", "c", "--accept-loss", "--yes", "--format", "json"]).expect(0);
    is_primary(&lab, "c", &["b"]);
    assert_eq!(lab.sql("c", "SELECT id FROM arrives"), "1");
}

fn is_primary_nowhere(lab: &Scenario) {
    for name in ["b", "c"] {
        assert_eq!(lab.sql(name, "SELECT pg_is_in_recovery()"), "t", "{name}");
    }
}

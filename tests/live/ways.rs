//! Ways and places: links that the instance's user plants, clusters with a dash in their name, data directories behind a link,
//! files beside the configuration that are the operator's. On real hosts, read there past pgstead.

use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::scenario::Scenario;
use crate::scenario::until;

const BOOTSTRAP: &[&str] = &["bootstrap", "--yes", "--format", "json"];

/// All that root has in a directory, with owners and contents.
fn listing(lab: &Scenario, host: &str, at: &str) -> String {
    const LIST: &str = "cd \"$1\" && find . ! -path '*/postgresql@*' -printf '%p %u %m %l\\n' | sort; cat -- *.service 2>/dev/null | sha256sum";
    lab.run(host, &["sh", "-c", LIST, "sh", at])
}

/// Issue 17, D1 and D3: what postgres makes a link is no way to write or remove as root.
#[test]
fn links_of_postgres_lead_root_nowhere_on_15() {
    const UNITS: &str = "/etc/systemd/system";
    const MAIN: &str = "/etc/postgresql/15/main";
    let lab = Scenario::boot(Release::Bookworm, &["a", "b"]);
    let as_postgres = |script: &str| lab.run("a", &["runuser", "-u", "postgres", "--", "sh", "-ec", script]);
    lab.run("a", &["install", "-d", "-o", "postgres", "/etc/postgresql/15"]);
    as_postgres("ln -s /etc/systemd/system /etc/postgresql/15/main");
    let before = listing(&lab, "a", UNITS);
    let ran = lab.pgstead(BOOTSTRAP);
    assert_ne!(ran.code, 0, "{ran}");
    assert_eq!(listing(&lab, "a", UNITS), before, "root was led to its own units: {ran}");

    // Without the link the same command goes on.
    as_postgres("rm /etc/postgresql/15/main");
    lab.bootstrap();
    lab.streams("a", &["b"]);
    assert_eq!(
        lab.run("a", &["stat", "-c", "%U %a", MAIN, "/etc/postgresql/15", "/var/lib/postgresql/15"]).trim(),
        "postgres 755\npostgres 755\npostgres 755"
    );
    assert_eq!(lab.run("a", &["stat", "-c", "%U %a", &[MAIN, "/postgresql.conf"].concat()]).trim(), "postgres 644");
    assert!(lab.run("a", &["runuser", "-u", "nobody", "--", "pg_lsclusters"]).contains("online"));

    // A directory that is removed, swapped for a link as soon as its removal has begun.
    const NAME: &str = "main.aside.20260102T030405Z.r1.replaced";
    const PLANT: &str = "cd /var/lib/postgresql/15; mkdir -p $1/base; cp main/pgstead.identity $1; i=0
        while [ $i -lt 30000 ]; do i=$((i + 1)); : >$1/base/$i; done";
    lab.run("a", &["runuser", "-u", "postgres", "--", "sh", "-ec", PLANT, "sh", NAME]);
    lab.run("a", &["sh", "-ec", "mkdir -p /etc/victim/base; for i in 1 2 3000; do echo x >/etc/victim/base/$i; done"]);
    const SWAP: &str = "cd /var/lib/postgresql/15; until mv -T $1.forgotten stolen 2>/dev/null; do :; done
        ln -s /etc/victim $1.forgotten; while [ -e /run/swap ]; do :; done";
    lab.run("a", &["touch", "/run/swap"]);
    let mut swaps = lab
        .host("a")
        .command(&["runuser", "-u", "postgres", "--", "sh", "-c", SWAP, "sh", NAME])
        .unwrap()
        .spawn()
        .unwrap();
    let ran = lab.pgstead(&["forget-aside", "a", NAME, "--yes", "--format", "json"]);
    lab.run("a", &["rm", "/run/swap"]);
    swaps.wait().unwrap();
    assert!(lab.run("a", &["ls", "/var/lib/postgresql/15"]).contains("stolen"), "the attack did not happen: {ran}");
    assert_eq!(lab.run("a", &["sh", "-c", "cat /etc/victim/base/*"]).trim(), "x\nx\nx", "{ran}");
}

/// Issue 17, D2: pgstead's directory beside the data belongs to postgres, where no unit runs the instance.
#[test]
fn links_in_the_own_directory_lead_root_nowhere_on_15() {
    const OWN: &str = "/srv/pg/data.pgstead";
    let mut lab = Scenario::boot(Release::Bookworm, &["a", "b"]);
    lab.edit(|inventory| {
        for name in ["a", "b"] {
            inventory["servers"][name]["service"] = json!("pg_ctl");
            inventory["servers"][name]["data_directory"] = json!("/srv/pg/data");
            inventory["servers"][name]["bin_directory"] = json!("/usr/lib/postgresql/15/bin");
        }
    });
    lab.bootstrap();
    let owners = lab.run("a", &["find", "/srv/pg", "-maxdepth", "2", "!", "-user", "postgres"]);
    assert_eq!(owners, "", "what is beside the data is the user's");
    lab.run("a", &["sh", "-ec", "mkdir /etc/planted; echo root >/etc/planted/there"]);
    const PLANT: &str = "cd \"$1\"; mv audit.jsonl audit.old
        ln -s /etc/planted/made audit.jsonl; ln -s /etc/planted/there generation.new; ln -s /etc/planted/there lock.new
        ln -s /etc/planted/there role.pgstead-new";
    lab.run("a", &["runuser", "-u", "postgres", "--", "sh", "-ec", PLANT, "sh", OWN]);
    lab.edit(|inventory| inventory["postgres"]["parameters"]["log_checkpoints"] = json!("off"));
    let ran = lab.pgstead(BOOTSTRAP);
    assert_eq!(lab.run("a", &["sh", "-c", "ls /etc/planted; cat /etc/planted/there"]).trim(), "there\nroot", "{ran}");
    // Its owner takes the links away, and everything goes on.
    lab.run("a", &["rm", "-f", &[OWN, "/audit.jsonl"].concat(), &[OWN, "/generation.new"].concat()]);
    lab.bootstrap();
    // Its socket is there, too.
    let psql = ["runuser", "-u", "postgres", "--", "psql", "-XAtqh", OWN, "-c", "SHOW log_checkpoints"];
    assert_eq!(lab.run("a", &psql).trim(), "off");
}

/// Issue 18, kind 4: a primary that was adopted without checksums, and comes back after a change of the primary.
#[test]
fn an_adopted_former_primary_comes_back_on_15() {
    comes_back(Release::Bookworm);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn an_adopted_former_primary_comes_back_on_17() {
    comes_back(Release::Trixie);
}

fn comes_back(release: Release) {
    let version = release.postgres_major().to_string();
    let home = format!("/etc/postgresql/{version}/main");
    let mut lab = Scenario::boot(release, &["a", "b"]);
    lab.edit(|inventory| {
        let postgres = inventory["postgres"].as_object_mut().unwrap();
        postgres.remove("databases");
        postgres.remove("parameters");
    });
    lab.run("a", &["pg_createcluster", &version, "main"]);
    lab.run("a", &["sh", "-c", "echo '# the operator was here' >>\"$1/environment\"", "sh", &home]);
    lab.run("a", &["systemctl", "start", &format!("postgresql@{version}-main")]);
    lab.sql("a", "CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 1000) i");
    // What nobody may start is told before anything is changed.
    let unit = format!("postgresql@{version}-main.service");
    lab.run("b", &["systemctl", "mask", &unit]);
    let refused = lab.pgstead(&[BOOTSTRAP, &["--allow-restart"]].concat()).expect(5);
    assert!(refused.codes().contains(&"start-barred".to_owned()), "{refused}");
    lab.run("b", &["systemctl", "unmask", &unit]);
    lab.pgstead(&[BOOTSTRAP, &["--allow-restart"]].concat()).expect(0);
    assert_eq!((lab.sql("a", "SHOW data_checksums"), lab.sql("a", "SHOW wal_log_hints")), ("off".into(), "on".into()));

    const BESIDE: [&str; 3] = ["environment", "start.conf", "pg_ctl.conf"];
    let read = || BESIDE.map(|name| lab.run("a", &["cat", &format!("{home}/{name}")]));
    let before = read();
    lab.pgstead(&["switchover", "--to", "b", "--yes", "--format", "json"]).expect(0);
    let ran = lab.pgstead(&["reseed", "a", "--method", "basebackup", "--yes", "--format", "json"]).expect(0);
    assert_eq!(ran.json()["method"], "basebackup", "{ran}");
    lab.streams("b", &["a"]);
    assert_eq!(read(), before, "the operator's files");
    assert_eq!(lab.run("a", &["stat", "-c", "%a", &format!("{home}/postgresql.conf")]).trim(), "644");

    // Somebody promotes it by night. What adoption turned wal_log_hints on for is to be had.
    lab.sql("a", "SELECT pg_promote()");
    lab.eventually("a", "SELECT pg_is_in_recovery()", "f");
    lab.sql("a", "DELETE FROM t WHERE id > 500");
    lab.sql("b", "INSERT INTO t VALUES (1001)");
    lab.run("a", &["systemctl", "stop", &format!("postgresql@{version}-main")]);
    let ran = lab
        .pgstead(&["reseed", "a", "--method", "rewind", "--accept-divergence", "--yes", "--format", "json"])
        .expect(0);
    assert_eq!(ran.json()["method"], "rewind", "{ran}");
    lab.eventually("a", "SELECT count(*) FROM t", "1001");
    lab.streams("b", &["a"]);
    assert_eq!(read(), before, "the operator's files");
}

/// Issue 18, kind 5: a cluster with dashes in its name, and data behind a link on another disk.
#[test]
fn a_cluster_with_dashes_whose_data_are_behind_a_link_on_15() {
    with_dashes_behind_a_link(Release::Bookworm);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn a_cluster_with_dashes_whose_data_are_behind_a_link_on_17() {
    with_dashes_behind_a_link(Release::Trixie);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn a_cluster_with_dashes_whose_data_are_behind_a_link_on_18() {
    with_dashes_behind_a_link(Release::Forky);
}

fn with_dashes_behind_a_link(release: Release) {
    let version = release.postgres_major().to_string();
    let home = format!("/var/lib/postgresql/{version}");
    let data = format!("{home}/my-own-app");
    let mut lab = Scenario::boot(release, &["a", "b"]);
    lab.edit(|inventory| {
        for name in ["a", "b"] {
            inventory["servers"][name]["service"] = json!(format!("postgresql@{version}-my-own-app"));
        }
    });
    for name in ["a", "b"] {
        lab.run(name, &["install", "-d", "-o", "postgres", "/mnt/disk/pg", &home]);
        lab.run(name, &["ln", "-s", "/mnt/disk/pg/app", &data]);
    }
    // Where nothing may be executed, scripts are read.
    lab.run("b", &["sh", "-ec", "mount --bind /var/lib /var/lib; mount -o remount,bind,noexec /var/lib"]);
    lab.pgstead(&["preflight", "--no-throughput"]).expect(0);
    lab.bootstrap();
    lab.streams("a", &["b"]);
    lab.settled();
    for name in ["a", "b"] {
        assert_eq!(lab.run(name, &["readlink", &data]).trim(), "/mnt/disk/pg/app", "{name}");
        assert_eq!(lab.run(name, &["cat", "/mnt/disk/pg/app/PG_VERSION"]).trim(), version, "{name}");
        assert!(lab.run(name, &["pg_lsclusters"]).contains("my-own-app 5432 online"), "{name}");
        assert_eq!(lab.sql(name, "SHOW data_directory"), data, "{name}");
    }

    // Replaced where it is, and what was there stands beside it, on its disk.
    let ran = lab.pgstead(&["reseed", "b", "--method", "basebackup", "--yes", "--format", "json"]).expect(0);
    assert_eq!(ran.json()["method"], "basebackup", "{ran}");
    lab.streams("a", &["b"]);
    assert_eq!(lab.run("b", &["readlink", &data]).trim(), "/mnt/disk/pg/app");
    let beside = lab.run("b", &["ls", "/mnt/disk/pg"]);
    let aside = beside.lines().find(|name| name.starts_with("app.aside.")).unwrap_or_else(|| panic!("{beside}"));
    assert_eq!(lab.run("b", &["ls", &home]).trim(), "my-own-app");
    let status = lab.pgstead(&["status", "--format", "json"]).expect(0).json();
    assert_eq!(status["aside"][0]["name"], aside, "{status:#}");
    lab.pgstead(&["forget-aside", "b", aside, "--yes", "--format", "json"]).expect(0);
    assert_eq!(lab.run("b", &["ls", "/mnt/disk/pg"]).trim(), "app");
    let deadline = Instant::now() + Duration::from_secs(20);
    until(deadline, || lab.pgstead(&["check", "--format", "json"]).json()["verdict"] == "healthy");
    lab.settled();
}

//! Whom the data of a re-seed come from: on real hosts.

use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::reseed::Ward;
use crate::scenario::Scenario;

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn a_base_backup_comes_from_a_standby_at_the_same_site_on_15() {
    comes_from_the_site(Release::Bookworm);
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn a_base_backup_comes_from_a_standby_at_the_same_site_on_17() {
    comes_from_the_site(Release::Trixie);
}

#[test]
fn a_base_backup_comes_from_a_standby_at_the_same_site_on_18() {
    comes_from_the_site(Release::Forky);
}

fn comes_from_the_site(release: Release) {
    let mut lab = Scenario::boot(release, &["a", "b", "c"]);
    lab.edit(|inventory| inventory["servers"]["b"]["site"] = inventory["servers"]["c"]["site"].clone());
    assert_ne!(lab.inventory["servers"]["a"]["site"], lab.inventory["servers"]["c"]["site"]);
    lab.edit(|inventory| inventory["servers"]["c"]["upstream"] = json!("a"));
    let ward = Ward::of(lab, release);
    let lab = &ward.lab;
    lab.streams("a", &["b", "c"]);
    let log = format!("/var/log/postgresql/postgresql-{}-main.log", release.postgres_major());
    for host in ["a", "b"] {
        lab.run(host, &["truncate", "--size=0", &log]);
    }
    ward.reseed("c", &["--method", "basebackup"], "basebackup");
    let backups = |host: &str| lab.run(host, &["sh", "-c", "grep -c 'command: BASE_BACKUP' \"$1\" || :", "sh", &log]);
    assert_eq!([backups("a"), backups("b")].map(|count| count.trim().to_owned()), ["0", "1"]);
    // It follows the primary, with everything, and nothing is left on the one that sent.
    lab.streams("a", &["b", "c"]);
    ward.write("a", 20_001, 20_100);
    const ROWS: &str = "SELECT count(*) || ' ' || md5(string_agg(id || text, ',' ORDER BY id)) FROM t";
    lab.eventually("c", ROWS, &lab.sql("a", ROWS));
    assert_eq!(lab.sql("b", "SELECT count(*) FROM pg_replication_slots"), "0");
    lab.settled();

    // The one at the site does not run: the primary sends.
    ward.systemctl("b", "stop");
    ward.reseed("c", &["--method", "basebackup"], "basebackup");
    assert_eq!(backups("a").trim(), "1");
    ward.systemctl("b", "start");
    lab.eventually("a", "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", "2");
    lab.settled();
}

/// WAL that `pg_rewind` needs and that the server has recycled comes from the archive; without one the rewind fails, and nothing is
/// lost.
#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn wal_that_a_rewind_lacks_comes_from_the_archive_on_15() {
    comes_from_the_archive(Release::Bookworm);
}

#[test]
fn wal_that_a_rewind_lacks_comes_from_the_archive_on_17() {
    comes_from_the_archive(Release::Trixie);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn wal_that_a_rewind_lacks_comes_from_the_archive_on_18() {
    comes_from_the_archive(Release::Forky);
}

fn comes_from_the_archive(release: Release) {
    let mut lab = Scenario::boot(release, &["a", "b"]);
    lab.edit(|inventory| {
        inventory["postgres"]["parameters"]["restore_command"] = json!("cp '/srv/the archive/%f' \"%p\"");
    });
    let ward = Ward::of(lab, release);
    let lab = &ward.lab;
    for from in [30_001, 31_001, 32_001] {
        ward.write("a", from, from + 999);
        lab.sql("a", "SELECT pg_switch_wal()");
    }
    lab.eventually("b", "SELECT count(*) FROM t", "23000");
    ward.promote("b");
    ward.write("b", 40_001, 40_010);
    ward.write("a", 50_001, 50_010);
    ward.systemctl("b", "stop");
    // All but the newest of the timeline on which the two parted are gone from here.
    const RECYCLE: &str = "install --directory --owner=postgres \"$2\" && cd \"$1\"/pg_wal && \
        ls 00000001???????????????? | sort | head -n -1 | xargs mv --target-directory=\"$2\"";
    lab.run("b", &["sh", "-c", RECYCLE, "sh", &ward.data(), "/srv/elsewhere"]);
    let rewind = ["reseed", "b", "--yes", "--format", "json", "--method", "rewind", "--accept-divergence"];
    let ran = lab.pgstead(&rewind);
    assert_eq!(ran.code, 6, "it did without the WAL: {ran}");
    assert!(ran.stdout.contains("pg_rewind: error: could not restore file"), "{ran}");
    lab.run("b", &["mv", "/srv/elsewhere", "/srv/the archive"]);
    ward.reseed("b", &rewind[5..], "rewind");
    ward.is_whole("a", "b");
}

//! A re-seed takes tablespaces along: on real hosts.

use pgstead::lab::hosts::Release;

use crate::reseed::Ward;
use crate::scenario::Scenario;

/// What lies in a tablespace goes with its data directory, and its successor's takes the place.
#[test]
fn tablespaces_are_set_aside_and_copied_too() {
    let ward = Ward::open(Release::Trixie, &["a", "b"]);
    let lab = &ward.lab;
    // On a disk of its own.
    lab.run("b", &["mkdir", "/srv/fast"]);
    lab.run("b", &["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/srv/fast"]);
    has_a_tablespace(lab);
    ward.systemctl("b", "stop");
    let planned =
        lab.pgstead(&["reseed", "b", "--method", "basebackup", "--dry-run", "--format", "json"]).expect(0).json();
    let room = &planned["ways"].as_array().unwrap().iter().find(|way| way["method"] == "basebackup").unwrap()["room"];
    let of_mount = room.as_array().unwrap().iter().find(|need| need["mount"] == "/srv/fast").unwrap();
    assert!((200_000..1_000_000).contains(&of_mount["needed_bytes"].as_u64().unwrap()), "{room}");
    assert!((1_000_000..67_000_000).contains(&of_mount["free_bytes"].as_u64().unwrap()), "{room}");
    let ran = ward.reseed("b", &["--method", "basebackup"], "basebackup").json();
    ward.is_whole("a", "b");
    assert_eq!(lab.sql("b", "SELECT count(*) FROM f"), "5000");
    // The old data directory has its own still, under another name.
    let aside = ran["set_aside"].as_str().unwrap();
    let place = lab.run("b", &["sh", "-c", "readlink \"$1\"/pg_tblspc/*", "sh", aside]);
    assert!(place.starts_with("/srv/fast/pgstead.aside."), "{place}");
    assert_ne!(lab.run("b", &["sh", "-c", "ls \"$1\"/PG_17_*/*", "sh", place.trim()]), "");
    assert_eq!(lab.run("b", &["sh", "-c", "readlink \"$1\"/pg_tblspc/*", "sh", &ward.data()]).trim(), "/srv/fast");
    lab.settled();
}

/// Puts table f of 5000 rows into a tablespace of a, and waits until b has it.
fn has_a_tablespace(lab: &Scenario) {
    for host in ["a", "b"] {
        lab.run(host, &["install", "--directory", "--owner=postgres", "--mode=0700", "/srv/fast"]);
    }
    lab.sql("a", "CREATE TABLESPACE fast LOCATION '/srv/fast'");
    lab.sql("a", "CREATE TABLE f TABLESPACE fast AS SELECT i FROM generate_series(1, 5000) i");
    lab.eventually("b", "SELECT count(*) FROM f", "5000");
}

/// The disk of the data is lost, and that of a tablespace is not: what is left there, and what else a standby would trip over, is named
/// before anything is copied.
#[test]
fn what_is_left_or_lacking_is_named_before_the_copy() {
    let mut ward = Ward::open(Release::Bookworm, &["a", "b"]);
    has_a_tablespace(&ward.lab);
    const PROGRAM: &str = "printf '#!/bin/sh\nexit 1\n' >/usr/local/bin/fetch-wal; chmod 755 /usr/local/bin/fetch-wal";
    for host in ["a", "b"] {
        ward.lab.run(host, &["sh", "-ec", PROGRAM]);
    }
    ward.lab.edit(|inventory| inventory["postgres"]["parameters"]["restore_command"] = "fetch-wal %f %p".into());
    ward.lab.bootstrap();
    let lab = &ward.lab;
    ward.systemctl("b", "stop");
    lab.run("b", &["mv", &ward.data(), "/var/lib/postgresql/lost"]);
    lab.run("b", &["rm", "/usr/local/bin/fetch-wal"]);
    let ran = lab.pgstead(&["reseed", "b", "--method", "basebackup", "--yes", "--format", "json"]).expect(5);
    let codes = ran.codes();
    assert!(["tablespace-taken", "path-unfit"].iter().all(|code| codes.iter().any(|one| one == code)), "{ran}");
    assert!(ran.stdout.contains("restore_command names fetch-wal, which is not there"), "{ran}");
    assert_eq!(lab.run("b", &["find", "/var/lib/postgresql/15", "-mindepth", "1"]), "", "nothing was begun");
    lab.run("b", &["sh", "-c", "mv /srv/fast/PG_15_* /srv/fast/of-before"]);
    lab.run("b", &["sh", "-ec", PROGRAM]);
    ward.reseed("b", &["--method", "basebackup"], "basebackup");
    ward.is_whole("a", "b");
    assert_eq!(lab.sql("b", "SELECT count(*) FROM f"), "5000");
    assert_ne!(lab.run("b", &["find", "/srv/fast/of-before", "-type", "f"]), "");
    lab.settled();
}

/// A rewound copy has copies of its tablespaces, and what only the server had stays in the originals.
#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn tablespaces_are_rewound_beside_the_originals_on_15() {
    rewinds_tablespaces(Release::Bookworm);
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn tablespaces_are_rewound_beside_the_originals_on_17() {
    rewinds_tablespaces(Release::Trixie);
}

#[test]
fn tablespaces_are_rewound_beside_the_originals_on_18() {
    rewinds_tablespaces(Release::Forky);
}

fn rewinds_tablespaces(release: Release) {
    let ward = Ward::open(release, &["a", "b"]);
    let lab = &ward.lab;
    has_a_tablespace(lab);
    ward.promote("b");
    lab.sql("b", "INSERT INTO f SELECT i FROM generate_series(6001, 6010) i");
    lab.sql("a", "INSERT INTO f SELECT i FROM generate_series(7001, 7100) i; CHECKPOINT");
    ward.systemctl("b", "stop");
    let ran = ward.reseed("b", &["--method", "rewind", "--accept-divergence"], "rewind").json();
    ward.is_whole("a", "b");
    assert_eq!(
        lab.sql("b", "SELECT count(*), max(i), count(*) FILTER (WHERE i BETWEEN 6001 AND 6010) FROM f"),
        "5100|7100|0"
    );
    assert_eq!(lab.run("b", &["sh", "-c", "readlink \"$1\"/pg_tblspc/*", "sh", &ward.data()]).trim(), "/srv/fast");
    let aside = ran["set_aside"].as_str().unwrap();
    let place = lab.run("b", &["sh", "-c", "readlink \"$1\"/pg_tblspc/*", "sh", aside]);
    assert!(place.starts_with("/srv/fast/pgstead.aside."), "{place}");
    let own = lab.run("b", &["sh", "-c", "ls -d /srv/fast/*; ls -d /srv/fast/pgstead.aside.*/PG_*", "sh"]);
    assert_eq!(own.lines().count(), 3, "{own}");
    let lost = "SELECT count(*), count(*) FILTER (WHERE i BETWEEN 6001 AND 6010) FROM f";
    assert_eq!(ward.sql_in_old_data("b", aside, lost).trim(), "5010|10");
    lab.settled();
}

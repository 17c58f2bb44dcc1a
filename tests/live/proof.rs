//! How long a link is waited for, and what is said of a link or a copy that stands still: on real hosts.

use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Block;
use pgstead::lab::hosts::Release;

use crate::reseed::Ward;
use crate::scenario::Scenario;
use crate::scenario::until;

/// A standby may stand still for fifteen seconds; one that is far behind and moves is waited for.
#[test]
fn a_standby_that_is_far_behind_is_waited_for() {
    let lab = Scenario::bootstrapped(Release::Trixie, &["a", "b"]);
    // 6 Mbit/s: what is written below takes more than half a minute.
    lab.host("b").limit_rate(6).unwrap();
    lab.sql(
        "a",
        "CREATE TABLE far AS SELECT i, encode(sha256(i::text::bytea), 'hex') FROM generate_series(1, 250000) i",
    );
    let begun = Instant::now();
    lab.pgstead(&["bootstrap", "--yes"]).expect(0);
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(17), "it was never behind for longer than it may stand still: {took:?}");
    assert_eq!(lab.sql("b", "SELECT count(*) FROM far"), "250000");
}

/// A standby that does not move is not waited for, and what keeps it is named.
#[test]
fn what_keeps_a_standby_is_named() {
    let lab = Scenario::bootstrapped(Release::Bookworm, &["a", "b"]);
    lab.sql("b", "SELECT pg_wal_replay_pause()");
    let ran = lab.pgstead(&["bootstrap", "--yes", "--format", "json"]);
    assert_eq!(ran.code, 7, "{ran}");
    assert!(ran.stdout.contains("Replay is paused on it."), "{ran}");
    assert!(ran.stdout.contains("pg_wal_replay_resume() on \\\"b\\\""), "{ran}");
    lab.sql("b", "SELECT pg_wal_replay_resume()");
    lab.settled();
}

/// A base backup whose line is cut stands still: that is told while it lasts, with what keeps it, and the copy goes on behind it.
#[test]
fn a_copy_that_stands_still_says_what_keeps_it() {
    let ward = Ward::open(Release::Bookworm, &["a", "b"]);
    let lab = &ward.lab;
    let reseed = lab.start(&["reseed", "b", "--yes", "--method", "basebackup", "--max-rate", "1M"]);
    let streamed = "SELECT coalesce(sum(backup_streamed), 0) > 2000000 FROM pg_stat_progress_basebackup";
    lab.eventually("a", streamed, "t");
    lab.host("b").block_arriving(Block::Drop, lab.host("a").address(), None).unwrap();
    let is_told = || reseed.said().contains("nothing has moved for 10 s: \"a\" cannot send: the line is down or full");
    until(Instant::now() + Duration::from_secs(25), is_told);
    assert!(is_told(), "{}", reseed.said());
    lab.host("b").unblock().unwrap();
    let ran = reseed.end().expect(0);
    // How far it is, how quick, and how long it takes still.
    let told = ran.stderr.lines().any(|line| line.contains("streaming database files: ") && line.ends_with(" left"));
    assert!(told, "{ran}");
    ward.is_whole("a", "b");
}

/// A rewind says how far its copy is, and how far it is itself.
#[test]
fn a_rewind_says_how_far_it_is() {
    let ward = Ward::open(Release::Trixie, &["a", "b"]);
    let lab = &ward.lab;
    ward.promote("b");
    ward.write("b", 30_001, 30_010);
    ward.write("a", 40_001, 40_010);
    // A line of 50 Mbit/s: the WAL alone takes a quarter of a minute.
    lab.sql("a", "CREATE TABLE more AS SELECT repeat(md5(i::text), 8) FROM generate_series(1, 100000) i");
    ward.systemctl("b", "stop");
    lab.host("b").limit_rate(50).unwrap();
    let ran = lab.pgstead(&["reseed", "b", "--yes", "--method", "rewind", "--accept-divergence"]).expect(0);
    let told = ran.stderr.lines().any(|line| line.contains("rewinding: ") && line.ends_with(" left"));
    assert!(told, "{ran}");
    lab.host("b").unlimit().unwrap();
    ward.is_whole("a", "b");
}

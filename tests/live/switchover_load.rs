//! Switchovers, many of them, of many servers, under load and over a slow line: on real hosts. They take minutes: make soak.
//!
//! What clients saw is measured by the clients, and told.

use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::scenario::Scenario;
use crate::switchover::Writer;
use crate::switchover::Written;
use crate::switchover::begun_with_clients;
use crate::switchover::hand_over;
use crate::switchover::is_primary;
use crate::switchover::nothing_is_lost;
use crate::switchover::one_at_a_time;
use crate::switchover::with_clients;
use crate::traces::Recorders;

/// Hands over there and back, so many times, while a client writes; tells the longest gap of all.
fn play(lab: &Scenario, what: &str, times: usize, client: &str) {
    let others: Vec<String> = lab.inventory["servers"].as_object().unwrap().keys().cloned().collect();
    let names: Vec<&str> = others.iter().map(String::as_str).collect();
    let recorders = Recorders::begin(lab, None);
    let writer = Writer::start(lab, client);
    let mut seconds: Vec<f64> = Vec::new();
    let mut downtimes: Vec<f64> = Vec::new();
    for _ in 0..times {
        for (from, to) in [("a", "b"), ("b", "a")] {
            let ran = hand_over(lab, from, to);
            seconds.push(ran["seconds"].as_f64().unwrap());
            downtimes.push(ran["write_downtime_ms"].as_f64().unwrap());
            let standbys: Vec<&str> = names.iter().copied().filter(|name| *name != to).collect();
            is_primary(lab, to, &standbys);
            writer.goes_on();
        }
    }
    let Written { acknowledged, longest_gap_ms } = writer.end();
    one_at_a_time(&recorders.end(), &["a", "b"]);
    nothing_is_lost(lab, &acknowledged, &names);
    let longest = |all: &[f64]| all.iter().copied().fold(0.0, f64::max);
    println!(
        "{what}: {} switchovers, {} rows, longest gap {longest_gap_ms} ms, told {:.0} ms at most, {:.1} s at most",
        2 * times,
        acknowledged.len(),
        longest(&downtimes),
        longest(&seconds)
    );
    lab.settled();
}

#[test]
#[ignore = "takes minutes: make soak"]
fn twenty_times_there_and_back_on_15() {
    twenty_times(Release::Bookworm);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn twenty_times_there_and_back_on_17() {
    twenty_times(Release::Trixie);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn twenty_times_there_and_back_on_18() {
    twenty_times(Release::Forky);
}

fn twenty_times(release: Release) {
    let lab = begun_with_clients(release, &["a", "b", "c"]);
    play(&lab, &format!("a cascade on {}", release.postgres_major()), 20, "c");
}

#[test]
#[ignore = "takes minutes: make soak"]
fn twenty_times_with_synchronous_commits_on_15() {
    twenty_times_synchronous(Release::Bookworm);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn twenty_times_with_synchronous_commits_on_17() {
    twenty_times_synchronous(Release::Trixie);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn twenty_times_with_synchronous_commits_on_18() {
    twenty_times_synchronous(Release::Forky);
}

fn twenty_times_synchronous(release: Release) {
    let mut lab = Scenario::boot(release, &["a", "b", "c"]);
    lab.edit(|inventory| {
        inventory["servers"]["c"].as_object_mut().unwrap().remove("upstream");
        inventory["replication"]["synchronous"] = json!({ "mode": "any", "count": 1, "standbys": ["b", "c"] });
    });
    with_clients(&mut lab);
    play(&lab, &format!("synchronous commits on {}", release.postgres_major()), 20, "c");
}

#[test]
#[ignore = "takes minutes: make soak"]
fn ten_standbys_follow_on_15() {
    ten_standbys(Release::Bookworm);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn ten_standbys_follow_on_17() {
    ten_standbys(Release::Trixie);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn ten_standbys_follow_on_18() {
    ten_standbys(Release::Forky);
}

fn ten_standbys(release: Release) {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
    let mut lab = Scenario::boot(release, &names);
    lab.edit(|inventory| {
        for name in &names[2..] {
            inventory["servers"][name].as_object_mut().unwrap().remove("upstream");
        }
    });
    with_clients(&mut lab);
    play(&lab, &format!("ten standbys on {}", release.postgres_major()), 2, "k");
}

#[test]
#[ignore = "takes minutes: make soak"]
fn under_load_on_15() {
    under_load(Release::Bookworm);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn under_load_on_17() {
    under_load(Release::Trixie);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn under_load_on_18() {
    under_load(Release::Forky);
}

fn under_load(release: Release) {
    let lab = begun_with_clients(release, &["a", "b", "c"]);
    let pgbench = format!("/usr/lib/postgresql/{}/bin/pgbench", release.postgres_major());
    lab.run("a", &["runuser", "-u", "postgres", "--", &pgbench, "-i", "-q", "-s", "20", "app"]);
    lab.host("a").psql(lab.port, "app", "GRANT ALL ON ALL TABLES IN SCHEMA public TO app").unwrap();
    // It connects again whenever it is thrown out.
    const LOAD: &str =
        "printf '*:*:*:app:app of the test\\n' >/run/load.pass; chmod 600 /run/load.pass; touch /run/load
        export PGPASSFILE=/run/load.pass PGCONNECT_TIMEOUT=2
        while [ -e /run/load ]; do \"$1\" -n -c 4 -T 2 \"$2\" >/dev/null 2>&1; done";
    let hosts = ["a", "b"].map(|name| lab.host(name).address().to_string()).join(",");
    let conninfo = format!("host={hosts} user=app dbname=app sslmode=require target_session_attrs=read-write");
    let mut load = lab.host("c").command(&["sh", "-c", LOAD, "sh", &pgbench, &conninfo]).unwrap().spawn().unwrap();
    play(&lab, &format!("under pgbench on {}", release.postgres_major()), 5, "c");
    lab.run("c", &["rm", "/run/load"]);
    assert!(load.wait().unwrap().success());
}

#[test]
#[ignore = "takes minutes: make soak"]
fn with_a_standby_behind_a_slow_line_on_15() {
    with_a_slow_line(Release::Bookworm);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn with_a_standby_behind_a_slow_line_on_17() {
    with_a_slow_line(Release::Trixie);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn with_a_standby_behind_a_slow_line_on_18() {
    with_a_slow_line(Release::Forky);
}

fn with_a_slow_line(release: Release) {
    let mut lab = Scenario::boot(release, &["a", "b", "c"]);
    lab.edit(|inventory| {
        inventory["servers"]["c"].as_object_mut().unwrap().remove("upstream");
        inventory["postgres"]["parameters"] = json!({ "wal_compression": "on" });
    });
    with_clients(&mut lab);
    lab.host("c").limit_rate(100).unwrap();
    play(&lab, &format!("c behind 100 Mbit/s on {}", release.postgres_major()), 3, "b");
}

//! `preflight` on real hosts: what is ready is called so, what is in the way is named with its server or pair, and
//! nothing changes or is left running.

use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::Release;
use pgstead::lab::hosts::SmallDisk;
use serde_json::Value;

use crate::capture;
use crate::refusals::everything;
use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::until;

const PREFLIGHT: &[&str] = &["preflight", "--format", "json"];
const QUIET: &[&str] = &["preflight", "--no-throughput", "--format", "json"];

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn bare_and_finished_servers_are_ready_on_15() {
    ready(Release::Bookworm);
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn bare_and_finished_servers_are_ready_on_17() {
    ready(Release::Trixie);
}

#[test]
fn bare_and_finished_servers_are_ready_on_18() {
    ready(Release::Forky);
}

/// Returns the errors and warnings as (severity, code, server or pair).
fn grave(ran: &Ran) -> Vec<(String, String, String)> {
    let document = ran.json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = document["findings"].as_array().unwrap();
    findings
        .iter()
        .filter(|finding| finding["severity"] != "note")
        .map(|finding| {
            let pair = &finding["pair"];
            let place = match pair.is_null() {
                true => text(&finding["server"]),
                false => format!("{} {}", text(&pair["from"]), text(&pair["to"])),
            };
            assert!(finding["detail"].is_string() || finding["hint"].is_string(), "{finding} says too little");
            (text(&finding["severity"]), text(&finding["code"]), place)
        })
        .collect()
}

#[track_caller]
fn says(ran: &Ran, severity: &str, code: &str, place: &str) {
    let wanted = (severity.to_owned(), code.to_owned(), place.to_owned());
    assert!(grave(ran).contains(&wanted), "no {wanted:?} in\n{ran}");
}

/// Returns the detail of the first finding of a code.
fn detail(ran: &Ran, code: &str) -> String {
    let document = ran.json();
    let findings = document["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["code"] == code);
    finding.unwrap_or_else(|| panic!("no {code}: {ran}"))["detail"].as_str().unwrap().to_owned()
}

/// Runs a preflight and demands that it changed nothing on any server and left nothing there.
#[track_caller]
fn untouched(lab: &Scenario, args: &[&str], exit: i32) -> Ran {
    let before = everything(lab);
    let ran = lab.pgstead(args).expect(exit);
    let after = everything(lab);
    let changed: Vec<_> = before.iter().chain(&after).filter(|l| !before.contains(l) || !after.contains(l)).collect();
    assert!(changed.is_empty(), "it changed servers: {changed:#?}\n{ran}");
    for host in lab.lab().hosts().iter().filter(|host| host.is_running()) {
        let processes = host.run(&["ps", "-eo", "pid,args"]).unwrap();
        // Debian's own start of an instance is a perl program, too.
        assert!(!processes.contains("perl -e"), "{}: {processes}", host.name());
        let listening = host.run(&["ss", "-Hltn"]).unwrap();
        let ours = |port: u16| (20_000..32_000).contains(&port) || port == lab.port;
        let instance = host.exec(&["test", "-S", "/var/run/postgresql/.s.PGSQL.5432"]).unwrap().status.success();
        for line in listening.lines() {
            let port: u16 = line.split_whitespace().nth(3).unwrap().rsplit(':').next().unwrap().parse().unwrap();
            assert!(!ours(port) || instance && port == lab.port, "{} still listens: {line}", host.name());
        }
        let left = host.run(&["sh", "-c", "ls -d /tmp/tmp.* 2>/dev/null || true"]).unwrap();
        assert_eq!(left, "", "{}", host.name());
    }
    ran
}

fn ready(release: Release) {
    let mut lab = Scenario::boot(release, &["a", "b", "c"]);
    let major = release.postgres_major();
    let bare = untouched(&lab, PREFLIGHT, 0);
    println!("{}", lab.pgstead(&["preflight"]).expect(0));
    assert_eq!(bare.json()["version"], 1);
    assert_eq!(bare.json()["ready"], true);
    assert_eq!(grave(&bare), [], "{bare}");
    // Every ordered pair was measured, on the instance's port, and at a speed that a bridge has.
    let document = bare.json();
    let ways = document["ways"].as_array().unwrap();
    assert_eq!(ways.len(), 6, "{bare}");
    for way in ways {
        let measured = &way["measured"];
        assert_eq!((&measured["port"], &measured["answer"]), (&"open".into(), &"listener".into()), "{way}");
        assert!(measured["bytes_per_second"].as_f64().unwrap() > 5e6, "{way}");
        assert!(measured["echo_ms"][1].as_f64().unwrap() < 150.0, "{way}");
        let from = lab.host(way["from"].as_str().unwrap()).address().to_string();
        assert_eq!(measured["source_there"], from, "{way}");
    }
    capture::keep_preflight(&lab, "bare", major);
    // One round trip per server, one more per bare one, whose PostgreSQL is asked whether it accepts what the inventory sets, and one
    // per ordered pair.
    let told = lab.pgstead(&["preflight", "-v", "--no-throughput"]).expect(0);
    assert_eq!(told.stderr.matches("$ sh -s").count(), 3 + 3 + 6, "{told}");
    // Without root less can be seen, which is said, and what is open is measured all the same.
    lab.edit(|inventory| inventory["ssh"]["user"] = "guest".into());
    let guest = untouched(&lab, QUIET, 5);
    says(&guest, "error", "no-root", "a");
    assert!(guest.json()["ways"].as_array().unwrap().iter().all(|way| way["measured"]["port"] == "open"), "{guest}");
    lab.edit(|inventory| inventory["ssh"]["user"] = "root".into());

    lab.bootstrap();
    lab.sql("a", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n");
    let finished = untouched(&lab, QUIET, 0);
    assert_eq!(grave(&finished), [], "{finished}");
    let document = finished.json();
    for way in document["ways"].as_array().unwrap() {
        assert_eq!(way["measured"]["answer"], "tls", "{way}");
        assert!(way["measured"]["bytes_per_second"].is_null(), "{way}");
    }
    capture::keep_preflight(&lab, "finished", major);
    lab.settled();

    // What is skipped is shown and kept; nothing else is written.
    let skipped = lab.pgstead(&[QUIET, &["--skip", "same-subnet=one room, known"]].concat()).expect(0);
    let wanted = serde_json::json!([{ "code": "same-subnet", "reason": "one room, known" }]);
    assert_eq!(skipped.json()["skipped"], wanted);
    assert!(!skipped.codes().contains(&"same-subnet".to_owned()), "{skipped}");
    let history = lab.pgstead(&["history", "--format", "json"]).expect(0).json();
    let last = history["runs"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&last["command"], &last["message"]),
        (&"preflight".into(), &"skipped same-subnet: one room, known".into())
    );
}

/// A firewall that drops in one direction is named with its pair; the other direction stays good.
#[test]
fn a_port_blocked_one_way_is_named() {
    let lab = Scenario::boot(Release::Bookworm, &["a", "b", "c"]);
    let (a, b) = (lab.host("a"), lab.host("b"));
    // b may not connect to a's port; what is established, and SSH, go on.
    let rule = format!("tcp dport 5432 ip saddr {} drop", b.address());
    a.run(&["nft", "add", "table", "inet", "guard"]).unwrap();
    a.run(&["nft", "add", "chain", "inet", "guard", "entry", "{ type filter hook input priority 0; }"]).unwrap();
    a.run(&["sh", "-c", "nft add rule inet guard entry $1", "sh", &rule]).unwrap();
    let blocked = untouched(&lab, QUIET, 5);
    says(&blocked, "error", "port-blocked", "b a");
    assert!(
        detail(&blocked, "port-blocked").contains("On \"a\": nftables: table inet guard, chain entry"),
        "{blocked}"
    );
    let of_port = grave(&blocked).into_iter().filter(|(_, code, _)| code == "port-blocked").count();
    assert_eq!(of_port, 1, "{blocked}");
    assert_eq!(blocked.json()["ready"], false);

    // A firewall that rejects, between two servers without a link today: a warning.
    a.run(&["nft", "flush", "table", "inet", "guard"]).unwrap();
    let rule = format!("tcp dport 5432 ip saddr {} reject with tcp reset", lab.host("c").address());
    a.run(&["sh", "-c", "nft add rule inet guard entry $1", "sh", &rule]).unwrap();
    let rejected = untouched(&lab, QUIET, 0);
    says(&rejected, "warning", "port-refused", "c a");
    a.run(&["nft", "delete", "table", "inet", "guard"]).unwrap();
    assert_eq!(grave(&lab.pgstead(QUIET).expect(0)), []);

    // Everything that c sends to b vanishes.
    b.drop_arriving_from(lab.host("c").address()).unwrap();
    let silent = untouched(&lab, QUIET, 5);
    says(&silent, "error", "port-blocked", "c b");
    b.accept_arriving_from(lab.host("c").address()).unwrap();

    // A server that is down: what can be said of the others is said, and the end is another.
    lab.host("c").power_cut().unwrap();
    let down = lab.pgstead(QUIET).expect(4);
    assert_eq!(down.json()["ready"], false, "{down}");
    let of_c: Vec<_> = grave(&down).into_iter().filter(|(_, _, place)| place == "c").collect();
    assert_eq!(of_c.len(), 1, "{down}");
    assert!(grave(&down).iter().all(|(_, code, _)| code != "way-not-measured"), "{down}");
    assert_eq!(down.json()["ways"].as_array().unwrap().iter().filter(|way| !way["measured"].is_null()).count(), 2);
}

/// However pgstead ends, what it left listening ends by itself.
#[test]
fn nothing_outlives_a_preflight_that_is_killed() {
    let lab = Scenario::boot(Release::Trixie, &["a", "b"]);
    // Nothing comes through, so that everybody waits.
    lab.host("a").drop_arriving_from(lab.host("b").address()).unwrap();
    lab.host("b").drop_arriving_from(lab.host("a").address()).unwrap();
    let measures = |name: &str| lab.run(name, &["ps", "-eo", "args"]).contains("perl -e");
    let started = lab.start(QUIET);
    until(Instant::now() + Duration::from_secs(20), || measures("a") && measures("b"));
    assert!(measures("a") && measures("b"), "nothing is measured");
    started.signal("KILL", false);
    started.end();
    let killed = Instant::now();
    until(killed + Duration::from_secs(20), || !measures("a") && !measures("b"));
    assert!(!measures("a") && !measures("b"), "a measurement goes on");
    println!("the last ended {:.1} s after the kill", killed.elapsed().as_secs_f64());
    for name in ["a", "b"] {
        let listening = lab.run(name, &["ss", "-Hltn", "sport ge :5432"]);
        assert_eq!(listening, "", "{name}");
    }
}

/// A slow line is measured as it is, in both directions, and says how long a base backup takes.
#[test]
fn a_slow_line_is_measured() {
    let mut lab = Scenario::boot(Release::Trixie, &["a", "b"]);
    let all = lab.inventory.clone();
    lab.edit(|inventory| drop(inventory["servers"].as_object_mut().unwrap().remove("b")));
    lab.bootstrap();
    lab.edit(|inventory| *inventory = all);
    lab.sql("a", "CREATE TABLE t AS SELECT repeat('x', 100) FROM generate_series(1, 100000)");
    lab.host("b").limit_rate(20).unwrap();
    let ran = untouched(&lab, PREFLIGHT, 0);
    let document = ran.json();
    for way in document["ways"].as_array().unwrap() {
        let megabits = way["measured"]["bytes_per_second"].as_f64().unwrap() * 8.0 / 1e6;
        println!("{} → {}: {megabits:.1} Mbit/s", way["from"], way["to"]);
        // A second is short: other work on this machine takes some of it, and what waits in queues counts as sent.
        assert!((2.0..=40.0).contains(&megabits), "{way}");
    }
    let seed = &document["base_backups"][0];
    assert_eq!((&seed["upstream"], &seed["standby"], &seed["measured"]), (&"a".into(), &"b".into(), &true.into()));
    let wanted: u64 = lab.sql("a", "SELECT sum(pg_database_size(oid)) FROM pg_database").parse().unwrap();
    let bytes = seed["bytes"].as_u64().unwrap();
    assert!((wanted..wanted + (4 << 20)).contains(&bytes), "{bytes} of {wanted}");
    let seconds = bytes as f64 / seed["bytes_per_second"].as_f64().unwrap();
    assert!((seed["seconds"].as_f64().unwrap() - seconds).abs() < 0.1, "{seed}");
    capture::keep_preflight(&lab, "seed", 17);
}

/// A disk that is too small for the primary's data is an error with its numbers.
#[test]
fn a_disk_too_small_for_the_data_is_an_error() {
    let disk = SmallDisk { mount_point: "/var/lib/postgresql".into(), mebibytes: 400 };
    let of = |name: &str, small_disk| HostSpec { small_disk, ..HostSpec::new(name, Release::Bookworm) };
    let mut empty = of("c", None);
    empty.postgres_installed = false;
    let mut lab = Scenario::of(vec![of("a", None), of("b", Some(disk)), empty]);
    let all = lab.inventory.clone();
    lab.edit(|inventory| inventory["servers"].as_object_mut().unwrap().retain(|name, _| name == "a"));
    lab.bootstrap();
    lab.edit(|inventory| *inventory = all);
    // More data than fit with what is needed besides, in a database of its own.
    lab.sql("a", "CREATE TABLE t AS SELECT repeat(md5(n::text), 30) AS text FROM generate_series(1, 150000) n");
    let ran = untouched(&lab, QUIET, 5);
    says(&ran, "error", "space-short", "b");
    says(&ran, "error", "postgresql-not-installed", "c");
    let numbers = detail(&ran, "space-short");
    println!("{numbers}");
    for word in ["MB free", "of data", "of WAL", "to spare", "per second (presumed)"] {
        assert!(numbers.contains(word), "{numbers}");
    }
    assert_eq!(ran.json()["ready"], false);
    let refused = lab.pgstead(&["plan", "--format", "json"]);
    assert_eq!(refused.code, 5, "a preflight and a plan agree\n{refused}");
}

/// A primary that runs already, not made by pgstead: what would stand in the way of its adoption, read from itself.
#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn a_foreign_primary_is_looked_through_on_15() {
    foreign(Release::Bookworm);
}

#[test]
fn a_foreign_primary_is_looked_through_on_17() {
    foreign(Release::Trixie);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn a_foreign_primary_is_looked_through_on_18() {
    foreign(Release::Forky);
}

fn foreign(release: Release) {
    let mut lab = Scenario::boot(release, &["a", "b"]);
    let major = release.postgres_major().to_string();
    lab.run("a", &["pg_createcluster", "--start", &major, "main", "--", "--locale", "C.UTF-8"]);
    lab.run("a", &["install", "-d", "-o", "postgres", "/srv/fast"]);
    lab.sql("a", "CREATE TABLESPACE fast LOCATION '/srv/fast'");
    lab.sql("a", "CREATE UNLOGGED TABLE u AS SELECT 1 AS n");
    lab.sql(
        "a",
        "CREATE TABLE t WITH (autovacuum_enabled = off) TABLESPACE fast AS SELECT repeat(md5(n::text), 30) AS text FROM generate_series(1, 20000) n",
    );
    lab.sql("a", "CREATE EXTENSION hstore");
    lab.sql("a", "SELECT pg_create_physical_replication_slot('forgotten', true)");
    lab.sql("a", "CREATE ROLE app");
    lab.sql("a", "ALTER ROLE app SET synchronous_commit = off");
    // What the standby lacks.
    lab.run("b", &["sh", "-c", "rm /usr/share/postgresql/*/extension/hstore* /usr/lib/postgresql/*/lib/hstore.so"]);
    lab.run(
        "b",
        &["install", "-D", "-m", "644", "/dev/null", &format!("/etc/postgresql/{major}/main/conf.d/old.conf")],
    );
    lab.run("b", &["install", "-D", "/dev/null", "/srv/fast/not-ours"]);
    let ran = untouched(&lab, QUIET, 5);
    println!("{ran}");
    for (severity, code, server) in [
        ("warning", "instance-listens-locally", "a"),
        ("warning", "checksums-off", "a"),
        ("warning", "inactive-slot", "a"),
        ("warning", "tablespace-undeclared", "a"),
        ("error", "extension-missing", "b"),
        ("error", "function-library-missing", "b"),
        ("warning", "left-by-earlier-installation", "b"),
    ] {
        says(&ran, severity, code, server);
    }
    for note in ["unlogged-tables", "synchronous-commit-overridden"] {
        assert!(ran.codes().contains(&note.to_owned()), "no {note}: {ran}");
    }
    assert!(detail(&ran, "extension-missing").contains("hstore of \"postgres\""), "{ran}");
    let seed = &ran.json()["base_backups"][0];
    let wanted: u64 = lab.sql("a", "SELECT pg_tablespace_size('fast')").parse().unwrap();
    assert_eq!(seed["tablespaces"][0]["bytes"].as_u64(), Some(wanted), "{seed}");

    // Named in the inventory, its place is looked at.
    lab.edit(|inventory| {
        for name in ["a", "b"] {
            inventory["servers"][name]["tablespaces"] = serde_json::json!({ "fast": "/srv/fast" });
        }
    });
    let named = untouched(&lab, QUIET, 5);
    says(&named, "warning", "tablespace-not-empty", "b");
    assert!(!named.codes().contains(&"tablespace-undeclared".to_owned()), "{named}");
}

//! A planned change of the primary, there and back, while clients write: on real hosts.
//!
//! Who is the primary, which rows are there and who streams is read with psql on the hosts; two writers would be seen by
//! samplers inside them; the gap is measured by the client that writes.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Child;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Host;
use pgstead::lab::hosts::Release;
use serde_json::Value;
use serde_json::json;

use crate::depth;
use crate::faults::crash_points;
use crate::faults::crashing_with;
use crate::faults::cut_off_when_it_stops;
use crate::faults::no_longer_cut_off;
use crate::invariants::never_two;
use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::chain;
use crate::scenario::until;
use crate::scenario::with_pause;
use crate::traces::Recorders;
use crate::traces::Traces;

/// How long a client may take to write again.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A client on one of the hosts that writes a row every 10 ms, through a connection string that names every server.
pub(crate) struct Writer {
    host: Host,
    child: Child,
}

/// What a client saw.
pub(crate) struct Written {
    /// The rows whose commit was acknowledged to it.
    pub(crate) acknowledged: Vec<u64>,
    /// The longest time between two of them, in milliseconds.
    pub(crate) longest_gap_ms: u64,
}

impl Writer {
    /// Starts a client, with the connection string that pgstead gives it.
    pub(crate) fn start(lab: &Scenario, host: &str) -> Self {
        let authority = std::fs::read(lab.state().join("ca.crt")).unwrap();
        lab.host(host).write_file("/run/app.ca", &authority).unwrap();
        lab.run(host, &["sh", "-c", "umask 077; printf '*:*:*:app:app of the test\\n' >/run/app.pass"]);
        let ask = ["conninfo", "--user", "app", "--sslrootcert", "/run/app.ca", "--format", "json"];
        let told = lab.pgstead(&ask).expect(0).json();
        Self::with(lab, host, told["databases"][0]["uri"].as_str().unwrap())
    }

    /// The same with a connection string that the host can use as it is; it has its password in /run/app.pass.
    pub(crate) fn with(lab: &Scenario, host: &str, string: &str) -> Self {
        const RUN: &str = "touch /run/app
            export PGPASSFILE=/run/app.pass PGCONNECT_TIMEOUT=2
            while [ -e /run/app ]; do
              while [ -e /run/app ]; do
                printf 'INSERT INTO ledger DEFAULT VALUES RETURNING id, (extract(epoch FROM clock_timestamp()) * 1000)::bigint;\\n'
                pause 0.01
              done | psql \"$1\" -XAtq -v ON_ERROR_STOP=1 >>/run/app.written 2>>/run/app.errors
            done
            # Whoever was turned away at the very end is no failure.
            exit 0";
        let mut command = lab.host(host).command(&["bash", "-c", &with_pause(RUN), "bash", string]).unwrap();
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let writer = Self { host: lab.host(host).clone(), child };
        writer.goes_on();
        writer
    }

    fn n_written(&self) -> u64 {
        self.look("cat /run/app.written 2>/dev/null | wc -l").trim().parse().unwrap()
    }

    fn look(&self, script: &str) -> String {
        self.host.run(&["sh", "-c", script]).unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    /// Demands that rows are acknowledged from now on.
    #[track_caller]
    pub(crate) fn goes_on(&self) {
        let errors = self.stalls();
        assert!(errors.is_none(), "nobody can write any more: {}", errors.unwrap_or_default());
    }

    /// Waits until rows are acknowledged from now on; if none are, returns what the client was told last.
    pub(crate) fn stalls(&self) -> Option<String> {
        let before = self.n_written();
        until(Instant::now() + SOON, || self.n_written() > before + 20);
        let errors = || self.look("tail -n 5 /run/app.errors");
        (self.n_written() <= before + 20).then(errors)
    }

    pub(crate) fn end(mut self) -> Written {
        self.look("rm /run/app");
        assert!(self.child.wait().unwrap().success());
        self.so_far()
    }

    /// What was acknowledged until now, while it goes on.
    pub(crate) fn so_far(&self) -> Written {
        let text = self.look("cat /run/app.written");
        // What was cut off in the middle of a line was not acknowledged.
        let rows: Vec<(u64, u64)> = text
            .lines()
            .filter_map(|line| {
                let (id, at) = line.split_once('|')?;
                Some((id.parse().ok()?, at.parse().ok().filter(|_| at.len() == 13)?))
            })
            .collect();
        let gap = |pair: &[(u64, u64)]| pair[1].1.saturating_sub(pair[0].1);
        let longest_gap_ms = rows.windows(2).map(gap).max().unwrap();
        Written { acknowledged: rows.into_iter().map(|(id, _)| id).collect(), longest_gap_ms }
    }
}

/// Begins with a topology that clients write to.
pub(crate) fn begun_with_clients(release: Release, names: &[&str]) -> Scenario {
    Scenario::begun("clients", release, names, with_clients)
}

/// Gives a topology a database and a role that clients may use from everywhere.
pub(crate) fn with_clients(lab: &mut Scenario) {
    lab.edit(|inventory| {
        inventory["postgres"]["databases"] = json!(["app"]);
        inventory["postgres"]["hba"] = json!([
            { "type": "hostssl", "database": "app", "user": "app", "address": "10.213.0.0/16", "method": "scram-sha-256" }
        ]);
    });
    lab.bootstrap();
    lab.sql("a", "CREATE ROLE app LOGIN PASSWORD 'app of the test'");
    lab.host("a").psql(lab.port, "app", "CREATE TABLE ledger (id bigserial PRIMARY KEY)").unwrap();
    lab.host("a").psql(lab.port, "app", "GRANT ALL ON ledger, ledger_id_seq TO app").unwrap();
}

/// Every acknowledged row is on every server.
#[track_caller]
pub(crate) fn nothing_is_lost(lab: &Scenario, acknowledged: &[u64], names: &[&str]) {
    assert!(acknowledged.len() > 100, "{} rows were written", acknowledged.len());
    for name in names {
        let mut missing = vec![0];
        until(Instant::now() + SOON, || {
            let there = lab
                .host(name)
                .psql(lab.port, "app", "SELECT string_agg(id::text, ' ') FROM ledger")
                .unwrap_or_default();
            let there: BTreeSet<u64> = there.split(' ').filter_map(|id| id.parse().ok()).collect();
            missing = acknowledged.iter().copied().filter(|id| !there.contains(id)).collect();
            missing.is_empty()
        });
        assert!(missing.is_empty(), "{} of {} acknowledged rows are not on {name}", missing.len(), acknowledged.len());
    }
}

/// There never were two writers, and everybody who became the primary was seen to be one.
#[track_caller]
pub(crate) fn one_at_a_time(traces: &Traces, primaries: &[&str]) {
    assert_eq!(never_two(traces), Vec::<String>::new());
    for (host, samples) in &traces.samples {
        let was_writable = samples.iter().any(|sample| sample.writable);
        assert_eq!(was_writable, primaries.contains(&host.as_str()), "{host}: {} samples", samples.len());
    }
}

/// Hands over and demands success; returns what was said.
#[track_caller]
pub(crate) fn hand_over(lab: &Scenario, from: &str, to: &str) -> Value {
    let ran = lab.pgstead(&["switchover", "--to", to, "--yes", "--format", "json"]).expect(0);
    let json = ran.json();
    assert_eq!((&json["from"], &json["to"], &json["lost_lsn_bytes"]), (&json!(from), &json!(to), &json!(0)), "{ran}");
    assert!(json["write_downtime_ms"].as_f64().unwrap() > 1.0, "{ran}");
    assert_eq!(json["write_downtime_is_least"], false, "{ran}");
    json
}

#[track_caller]
pub(crate) fn is_primary(lab: &Scenario, primary: &str, standbys: &[&str]) {
    assert_eq!(lab.sql(primary, "SELECT pg_is_in_recovery()"), "f", "{primary}");
    for name in standbys {
        assert_eq!(lab.sql(name, "SELECT pg_is_in_recovery()"), "t", "{name}");
    }
}

/// The slots of a server, each with whether it is in use.
pub(crate) fn slots(lab: &Scenario, name: &str) -> String {
    lab.sql(
        name,
        "SELECT coalesce(string_agg(slot_name || ' ' || active, ', ' ORDER BY 1), '') FROM pg_replication_slots",
    )
}

/// Hands over from a to b and back, whatever the servers are like, and demands that nothing is left to do after each.
#[track_caller]
pub(crate) fn there_and_back_again(lab: &Scenario) {
    for (from, to) in [("a", "b"), ("b", "a")] {
        hand_over(lab, from, to);
        is_primary(lab, to, &[from]);
        lab.eventually(
            to,
            &format!("SELECT state FROM pg_stat_replication WHERE application_name = '{from}'"),
            "streaming",
        );
        let left = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{to}'");
        assert_eq!(lab.sql(from, &left), "0");
        lab.settled();
    }
}

#[test]
fn a_cascade_is_switched_over_and_back_while_clients_write_on_15() {
    there_and_back(Release::Bookworm);
}

#[test]
fn a_cascade_is_switched_over_and_back_while_clients_write_on_17() {
    there_and_back(Release::Trixie);
}

#[test]
fn a_cascade_is_switched_over_and_back_while_clients_write_on_18() {
    there_and_back(Release::Forky);
}

#[test]
#[ignore = "19 is in Debian's experimental suite alone: make soak"]
fn a_cascade_is_switched_over_and_back_while_clients_write_on_19() {
    there_and_back(Release::Experimental);
}

fn there_and_back(release: Release) {
    let lab = begun_with_clients(release, &["a", "b", "c"]);
    let names = ["a", "b", "c"];
    let recorders = Recorders::begin(&lab, None);
    let writer = Writer::start(&lab, "c");
    let mut seconds = Vec::new();

    // A dry run says what would be done, and does nothing.
    let dry = lab.pgstead(&["switchover", "--to", "b", "--dry-run", "--format", "json"]).expect(0).json();
    assert_eq!((&dry["changes"], &dry["from"], &dry["to"]), (&json!(true), &json!("a"), &json!("b")), "{dry:#}");
    assert_eq!(slots(&lab, "b"), "c true");
    is_primary(&lab, "a", &["b", "c"]);

    // c goes on following b, which becomes the primary; a follows b.
    let started = lab.sql("c", "SELECT pg_postmaster_start_time()");
    seconds.push(hand_over(&lab, "a", "b"));
    is_primary(&lab, "b", &["a", "c"]);
    lab.streams("b", &["a", "c"]);
    assert_eq!(slots(&lab, "a"), "");
    writer.goes_on();
    lab.settled();

    // And back.
    seconds.push(hand_over(&lab, "b", "a"));
    is_primary(&lab, "a", &["b", "c"]);
    lab.streams("a", &["b"]);
    lab.streams("b", &["c"]);
    assert_eq!((slots(&lab, "a").as_str(), slots(&lab, "b").as_str()), ("b true", "c true"));
    writer.goes_on();

    // To the end of the cascade: both others follow c. None of them was started anew for that.
    seconds.push(hand_over(&lab, "a", "c"));
    is_primary(&lab, "c", &["a", "b"]);
    lab.streams("c", &["a", "b"]);
    assert_eq!((slots(&lab, "a").as_str(), slots(&lab, "b").as_str()), ("", ""));
    writer.goes_on();
    lab.settled();
    assert_eq!(lab.sql("c", "SELECT pg_postmaster_start_time()"), started);

    // Of a site; and one that is the primary already stays it.
    let site = lab.inventory["servers"]["a"]["site"].as_str().unwrap().to_owned();
    let back = lab.pgstead(&["switchover", "--to-site", &site, "--yes", "--format", "json"]).expect(0).json();
    assert_eq!(back["to"], "a", "{back:#}");
    seconds.push(back);
    let again = lab.pgstead(&["switchover", "--to", "a", "--yes", "--format", "json"]).expect(0).json();
    assert_eq!(again["changed"], false, "{again:#}");
    writer.goes_on();
    is_primary(&lab, "a", &["b", "c"]);

    let Written { acknowledged, longest_gap_ms } = writer.end();
    one_at_a_time(&recorders.end(), &names);
    nothing_is_lost(&lab, &acknowledged, &names);
    let told: Vec<String> = seconds
        .iter()
        .map(|ran| {
            format!("{:.0} ms in {:.1} s", ran["write_downtime_ms"].as_f64().unwrap(), ran["seconds"].as_f64().unwrap())
        })
        .collect();
    println!("{} rows, longest gap {longest_gap_ms} ms; told: {}", acknowledged.len(), told.join(", "));
    lab.settled();
}

/// Commits wait for b; when b is the primary they wait for a, which takes its place.
#[test]
fn the_promise_of_synchronous_commits_moves_along() {
    let mut lab = Scenario::boot(Release::Bookworm, &["a", "b"]);
    lab.edit(|inventory| {
        inventory["replication"]["synchronous"] = json!({ "mode": "any", "count": 1, "standbys": ["b"] });
    });
    with_clients(&mut lab);
    let writer = Writer::start(&lab, "b");
    let names = |host: &str| lab.sql(host, "SHOW synchronous_standby_names");
    assert_eq!((names("a").as_str(), names("b").as_str()), ("ANY 1 (\"b\")", ""));
    for (from, to) in [("a", "b"), ("b", "a")] {
        hand_over(&lab, from, to);
        assert_eq!((names(to), names(from)), (format!("ANY 1 (\"{from}\")"), String::new()));
        lab.eventually(to, "SELECT sync_state FROM pg_stat_replication", "quorum");
        writer.goes_on();
        lab.settled();
    }
    let Written { acknowledged, .. } = writer.end();
    nothing_is_lost(&lab, &acknowledged, &["a", "b"]);
}

/// Whatever moment pgstead is killed at, the same command finishes the work, and there is one writer throughout.
#[test]
fn pgstead_is_killed_at_every_step_of_a_switchover_on_15() {
    killed_at_every_step(Release::Bookworm);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn pgstead_is_killed_at_every_step_of_a_switchover_on_17() {
    killed_at_every_step(Release::Trixie);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn pgstead_is_killed_at_every_step_of_a_switchover_on_18() {
    killed_at_every_step(Release::Forky);
}

fn killed_at_every_step(release: Release) {
    let lab = begun_with_clients(release, &["a", "b", "c"]);
    let command = |to: &'static str| ["switchover", "--to", to, "--yes", "--format", "json"];
    let moments = |to: &'static str| {
        let plan = lab.pgstead(&["switchover", "--to", to, "--dry-run", "--format", "json"]).expect(0).json();
        // The two at which most can go wrong are played each time.
        let mut left = ["stopped", "promoted"].map(str::to_owned).to_vec();
        left.extend(depth::one_in(3, crash_points(&plan, &["locked", "unlocking", "unlocked"])));
        left
    };
    let recorders = Recorders::begin(&lab, None);
    let writer = Writer::start(&lab, "c");
    let mut left = moments("b");
    let (n_points, mut n_runs) = (left.len(), 0);
    for round in 1..=8 {
        if left.is_empty() {
            break;
        }
        if round > 1 {
            hand_over(&lab, "b", "a");
        }
        let last: Ran = loop {
            n_runs += 1;
            let (ran, struck) = crashing_with(&lab, &command("b"), &left.join("\n"));
            let Some(point) = struck else { break ran };
            assert_eq!(ran.code, -1, "{point} did not end it: {ran}");
            left.retain(|moment| *moment != point);
            if point == "stopped" {
                // In between everything says what is the matter, and nothing starts it.
                let plan = lab.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(5);
                assert!(plan.codes().contains(&"switchover-unfinished".to_owned()), "{plan}");
                let check = lab.pgstead(&["check", "--format", "json"]);
                assert!(check.codes().contains(&"switchover-unfinished".to_owned()), "{check}");
                let unit = format!("postgresql@{}-main.service", release.postgres_major());
                let _ = lab.host("a").exec(&["systemctl", "start", &unit]);
                assert!(lab.host("a").psql(lab.port, "postgres", "SELECT 1").is_err(), "it was started");
            }
        };
        last.expect(0);
        writer.goes_on();
        is_primary(&lab, "b", &["a", "c"]);
        lab.streams("b", &["a", "c"]);
        lab.settled();
    }
    let Written { acknowledged, .. } = writer.end();
    println!("{n_points} crash points in {n_runs} runs");
    assert_eq!(left, Vec::<String>::new(), "crash points that no run came to");
    one_at_a_time(&recorders.end(), &["a", "b"]);
    nothing_is_lost(&lab, &acknowledged, &["a", "b", "c"]);
}

/// Until somebody is promoted it can be taken back, whether the primary runs or not; after that it only goes forward.
#[test]
fn an_interrupted_switchover_is_taken_back() {
    let lab = begun_with_clients(Release::Trixie, &["a", "b", "c"]);
    let to_b = ["switchover", "--to", "b", "--yes", "--format", "json"];
    let abort = ["switchover", "--abort", "--yes", "--format", "json"];
    let nothing = lab.pgstead(&abort).expect(5);
    assert!(nothing.codes().contains(&"nothing-to-abort".to_owned()), "{nothing}");
    let mark = "after:a: mark it as about to hand over to \"b\": nothing starts it from now on";
    let recorders = Recorders::begin(&lab, None);
    let writer = Writer::start(&lab, "c");
    for moment in [mark, "stopped"] {
        let (ran, struck) = crashing_with(&lab, &to_b, moment);
        assert_eq!(struck.as_deref(), Some(moment), "{ran}");
        lab.pgstead(&abort).expect(0);
        writer.goes_on();
        is_primary(&lab, "a", &["b", "c"]);
        assert_eq!((slots(&lab, "a").as_str(), slots(&lab, "b").as_str()), ("b true", "c true"));
        lab.settled();
    }
    let (ran, struck) = crashing_with(&lab, &to_b, "promoted");
    assert_eq!(struck.as_deref(), Some("promoted"), "{ran}");
    let refused = lab.pgstead(&abort).expect(5);
    assert!(refused.codes().contains(&"already-promoted".to_owned()), "{refused}");
    let elsewhere = lab.pgstead(&["switchover", "--to", "c", "--yes", "--format", "json"]).expect(5);
    assert!(elsewhere.codes().contains(&"switchover-unfinished".to_owned()), "{elsewhere}");
    lab.pgstead(&to_b).expect(0);
    writer.goes_on();
    let Written { acknowledged, .. } = writer.end();
    one_at_a_time(&recorders.end(), &["a", "b"]);
    nothing_is_lost(&lab, &acknowledged, &["a", "b", "c"]);
    lab.settled();
}

/// The line breaks while the primary shuts down: its checkpoint does not arrive, nobody is promoted, and the primary is the
/// primary again (hazard 62).
#[test]
fn a_checkpoint_that_does_not_arrive_is_no_switchover() {
    let mut lab = begun_with_clients(Release::Bookworm, &["a", "b"]);
    let hooks = Hooks::of(&mut lab);
    cut_off_when_it_stops(&lab, "a", "b");
    let recorders = Recorders::begin(&lab, None);
    let writer = Writer::start(&lab, "a");
    let failed = lab.pgstead(&["switchover", "--to", "b", "--yes", "--format", "json"]).expect(6);
    assert!(failed.codes().contains(&"checkpoint-not-arrived".to_owned()), "{failed}");
    assert_eq!(hooks.told(), "before a b, after a b, ");
    assert!(failed.stdout.contains("\\\"a\\\" was made the primary again"), "{failed}");
    no_longer_cut_off(&lab, "a", "b");
    is_primary(&lab, "a", &["b"]);
    writer.goes_on();
    let Written { acknowledged, longest_gap_ms } = writer.end();
    println!("longest gap {longest_gap_ms} ms");
    one_at_a_time(&recorders.end(), &["a"]);
    lab.eventually(
        "a",
        "SELECT string_agg(application_name || ' ' || state, ',') FROM pg_stat_replication",
        "b streaming",
    );
    nothing_is_lost(&lab, &acknowledged, &["a", "b"]);
    assert_eq!(slots(&lab, "b"), "");
    lab.settled();
    // What was in the way is gone.
    hand_over(&lab, "a", "b");
    assert_eq!(hooks.told(), "before a b, after b b, ");
    lab.settled();
    hooks.decide(&lab);
}

/// The operator's own programs: they note what they are told.
struct Hooks(PathBuf);

impl Hooks {
    fn of(lab: &mut Scenario) -> Self {
        let hooks = Self(lab.path().with_file_name("hooks"));
        std::fs::create_dir(&hooks.0).unwrap();
        for name in ["before", "after"] {
            hooks.write(name, "exit 0");
        }
        lab.edit(|inventory| inventory["hooks"] = json!({ "before": "hooks/before", "after": "hooks/after" }));
        hooks
    }

    fn write(&self, name: &str, end: &str) {
        const NOTE: &str = "echo \"$PGSTEAD_MOMENT $PGSTEAD_PRIMARY $PGSTEAD_TO\" >>\"${0%/*}/told\"";
        let path = self.0.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{NOTE}\n{end}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What they were told since somebody asked.
    fn told(&self) -> String {
        let told = std::fs::read_to_string(self.0.join("told")).unwrap();
        std::fs::remove_file(self.0.join("told")).unwrap();
        told.replace('\n', ", ")
    }

    /// One that fails before ends it, and one that fails behind is told: there is no way back.
    fn decide(&self, lab: &Scenario) {
        let to_a = || lab.pgstead(&["switchover", "--to", "a", "--yes", "--format", "json"]);
        let started = lab.sql("b", "SELECT pg_postmaster_start_time()");
        self.write("before", "echo the address is held >&2; exit 1");
        let ran = to_a().expect(6);
        assert!(ran.codes().contains(&"hook-failed".to_owned()) && ran.stdout.contains("the address is held"), "{ran}");
        assert_eq!(self.told(), "before b a, after b a, ");
        is_primary(lab, "b", &["a"]);
        assert_eq!(lab.sql("b", "SELECT pg_postmaster_start_time()"), started);
        std::fs::remove_file(self.0.join("after")).unwrap();
        let ran = to_a().expect(5);
        assert!(ran.codes().contains(&"hook-missing".to_owned()), "{ran}");
        self.write("before", "exit 0");
        self.write("after", "exit 7");
        let ran = to_a().expect(6);
        assert!(ran.codes().contains(&"hook-failed".to_owned()), "{ran}");
        assert_eq!(self.told(), "before b a, after a a, ");
        is_primary(lab, "a", &["b"]);
        lab.settled();
    }
}

/// An archive that takes nothing would hold the shutdown up for as long as it hangs (hazard 61): it is refused where this can
/// be seen, and given up after a minute where it cannot.
#[test]
#[ignore = "takes minutes: make soak"]
fn an_archive_that_hangs_is_given_up() {
    let mut lab = Scenario::boot(Release::Bookworm, &["a", "b"]);
    lab.edit(|inventory| {
        inventory["postgres"]["parameters"]["archive_mode"] = json!("on");
        inventory["postgres"]["parameters"]["archive_command"] = json!("/srv/archive %p");
    });
    let archive = |text: &str| {
        for host in ["a", "b"] {
            let script = "printf '#!/bin/sh\\n%s\\n' \"$1\" >/srv/archive.new; chmod 755 /srv/archive.new; mv /srv/archive.new /srv/archive";
            lab.run(host, &["sh", "-c", script, "sh", text]);
        }
    };
    archive("true");
    lab.bootstrap();
    let switch = ["switchover", "--to", "b", "--yes", "--format", "json"];

    archive("false");
    lab.sql("a", "SELECT pg_switch_wal()");
    lab.eventually("a", "SELECT failed_count > 0 FROM pg_stat_archiver", "t");
    let refused = lab.pgstead(&switch).expect(5);
    assert!(refused.codes().contains(&"archive-failing".to_owned()), "{refused}");
    archive("true");
    lab.sql("a", "SELECT pg_switch_wal()");
    lab.eventually("a", "SELECT last_archived_time > last_failed_time FROM pg_stat_archiver", "t");

    archive("sleep 600");
    let failed = lab.pgstead(&switch).expect(6);
    assert!(failed.codes().contains(&"shutdown-failed".to_owned()), "{failed}");
    assert!(failed.stdout.contains("archiver archiving"), "it does not say what held it up: {failed}");
    is_primary(&lab, "a", &["b"]);
    archive("true");
    lab.run("a", &["sh", "-c", "for p in $(pgrep -f '^sleep 600$'); do kill $p; done"]);
    lab.eventually("a", "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", "1");
    lab.sql("a", "SELECT pg_switch_wal()");
    lab.eventually(
        "a",
        "SELECT coalesce(last_archived_time > last_failed_time, failed_count = 0) FROM pg_stat_archiver",
        "t",
    );
    hand_over(&lab, "a", "b");
    lab.settled();
}

/// What would not go through, or not back, is refused before anything is begun.
#[test]
fn what_stands_in_the_way_is_said_before() {
    let lab = begun_with_clients(Release::Trixie, &["a", "b", "c"]);
    let to = |to: &str| lab.pgstead(&["switchover", "--to", to, "--yes", "--format", "json"]);
    let refused = |ran: Ran, code: &str| assert!(ran.codes().contains(&code.to_owned()), "{code}: {ran}");
    let unit = "postgresql@17-main.service";
    refused(to("d").expect(5), "server-unknown");
    refused(
        lab.pgstead(&["switchover", "--to-site", "nowhere", "--yes", "--format", "json"]).expect(5),
        "site-unknown",
    );

    lab.sql("b", "SELECT pg_wal_replay_pause()");
    refused(to("b").expect(5), "replay-paused");
    lab.sql("b", "SELECT pg_wal_replay_resume()");

    // The way back: b does not let a in.
    let a = lab.host("a").address();
    lab.host("b").block_arriving(pgstead::lab::hosts::Block::Reject, a, Some(lab.port)).unwrap();
    refused(to("b").expect(5), "dial-failed");
    lab.host("b").unblock().unwrap();

    // A server that is out of reach may be anything.
    lab.host("c").cut_link().unwrap();
    to("b").expect(4);
    lab.host("c").mend_link().unwrap();

    // What a bootstrap would change is not carried along.
    lab.run("c", &["systemctl", "stop", unit]);
    refused(to("b").expect(5), "changes-pending");
    lab.bootstrap();

    // The primary itself is stopped, and nobody marked it.
    lab.run("a", &["systemctl", "stop", unit]);
    refused(to("b").expect(5), "primary-missing");
    lab.bootstrap();
    is_primary(&lab, "a", &["b", "c"]);
    lab.settled();
}

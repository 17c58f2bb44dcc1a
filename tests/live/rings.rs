//! Each of the invariants I1 to I8 is broken on purpose once, and must be heard: a bell that never rings proves nothing.

use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::faults::BOOTSTRAP;
use crate::invariants;
use crate::invariants::broken;
use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::traces::Recorders;
use crate::traces::Traces;

/// Demands that something is said, that all of it is about one invariant, and that it names what was done.
#[track_caller]
fn rings(broken: &[String], number: &str, about: &str) {
    assert!(!broken.is_empty(), "{number} is silent");
    assert!(broken.iter().all(|line| line.starts_with(number)), "{broken:?}");
    assert!(broken.iter().any(|line| line.contains(about)), "{about} is not in {broken:?}");
}

#[test]
fn every_invariant_rings_when_it_is_broken() {
    let release = Release::Trixie;
    let mut lab = Scenario::boot(release, &["a", "b"]);
    let recorders = Recorders::begin(&lab, Some("a"));
    let good = lab.pgstead(BOOTSTRAP).expect(0);
    lab.eventually("b", "SELECT count(*) > 10 FROM ledger", "t");
    let mut traces = recorders.end();
    assert_eq!(broken(&lab, &traces, &good), Vec::<String>::new());

    // I2: a row that was acknowledged is gone.
    lab.sql("a", "DELETE FROM ledger WHERE id = (SELECT max(id) FROM ledger)");
    rings(&invariants::ledger(&lab, &traces), "I2", "1 of");
    traces.acknowledged.clear();

    // I3: an instance runs out of a directory that nobody marked.
    let program = |name: &str| format!("/usr/lib/postgresql/17/bin/{name}");
    let stray = "/var/lib/postgresql/stray";
    lab.run("b", &["runuser", "-u", "postgres", "--", &program("initdb"), "-N", "-D", stray]);
    let start = [&program("pg_ctl"), "-s", "-w", "-D", stray, "-l", "/dev/null", "-o", "-p 5499", "start"];
    lab.run("b", &[&["runuser", "-u", "postgres", "--"][..], &start].concat());
    rings(&invariants::incomplete_runs(&lab), "I3", "stray unmarked");
    lab.run("b", &["runuser", "-u", "postgres", "--", &program("pg_ctl"), "-s", "-w", "-D", stray, "stop"]);

    // I4: a job, a file, a slot.
    lab.run("b", &["systemd-run", "--quiet", "--unit", "pgstead-seed-leak", "sleep", "60"]);
    rings(&invariants::leaked(&lab), "I4", "unit pgstead-seed-leak");
    lab.run("b", &["systemctl", "stop", "pgstead-seed-leak"]);
    lab.run("b", &["touch", "/var/lib/postgresql/17/main.seed.1"]);
    rings(&invariants::leaked(&lab), "I4", "main.seed.1");
    lab.run("b", &["rm", "/var/lib/postgresql/17/main.seed.1"]);
    lab.sql("a", "SELECT pg_create_physical_replication_slot('leak')");
    rings(&invariants::leaked(&lab), "I4", "leak false");
    lab.sql("a", "SELECT pg_drop_replication_slot('leak')");

    // I6: a secret where it does not belong.
    let key = std::fs::read_to_string(lab.state().join("operator.key")).unwrap();
    lab.host("b").write_file("/var/log/chatty.log", key.as_bytes()).unwrap();
    rings(&invariants::secrets(&lab), "I6", "/var/log/chatty.log");
    lab.run("b", &["rm", "/var/log/chatty.log"]);

    // I7: success was said of a link over which nothing arrives; and failure of links that all work.
    lab.sql("b", "SELECT pg_wal_replay_pause()");
    rings(&invariants::works_or_says_why(&lab, &good), "I7", "paused");
    lab.sql("b", "SELECT pg_wal_replay_resume()");
    lab.eventually("b", "SELECT pg_get_wal_replay_pause_state()", "not paused");
    let failed = Ran { code: 6, stdout: String::new(), stderr: String::new(), preflight: None };
    rings(&invariants::works_or_says_why(&lab, &failed), "I7", "every link works");

    // I8: a file says what the server does not do.
    let conf = "/etc/postgresql/17/main/postgresql.conf";
    let before = lab.host("a").read_file(conf).unwrap();
    let changed = [&before[..], b"\nwork_mem = '7MB'\n"].concat();
    lab.host("a").write_file(conf, &changed).unwrap();
    rings(&invariants::effective(&lab), "I8", "work_mem");
    lab.host("a").write_file(conf, &before).unwrap();

    // I5: the same command again has something to do, and a refusal that does not help.
    lab.edit(|inventory| inventory["postgres"]["parameters"]["work_mem"] = json!("8MB"));
    rings(&invariants::again(&lab), "I5", "\"changed\": true");
    let silent = json!({ "refusals": [{ "code": "no", "hint": null }] }).to_string();
    let refused = Ran { code: 5, stdout: silent, stderr: String::new(), preflight: None };
    rings(&invariants::refusal_helps(&refused), "I5", "no next command");

    // I1: two that would take writes.
    let recorders = Recorders::begin(&lab, None);
    lab.sql("b", "SELECT pg_promote()");
    lab.sql("b", "SELECT pg_sleep(0.5)");
    rings(&invariants::one_writer(&lab, &recorders.end()), "I1", "were both writable");
    rings(&invariants::one_writer(&lab, &blind()), "I1", "nothing is known");
}

/// What is recorded where nobody could look.
fn blind() -> Traces {
    Traces { samples: vec![("a".to_owned(), Vec::new()), ("b".to_owned(), Vec::new())], acknowledged: Vec::new() }
}

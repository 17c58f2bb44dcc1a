//! PgBouncer beside the servers: its clients wait for a change of the primary, and never notice more. On real hosts, with the
//! release's own PgBouncer.
//!
//! Where its pools lead, and whether they wait, is read with psql on its console; what clients notice is what one session saw
//! that was open throughout.

use std::process::Child;
use std::process::Stdio;
use std::time::Instant;

use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::faults::crashing_with;
use crate::scenario::Scenario;
use crate::scenario::until;
use crate::scenario::with_pause;
use crate::switchover::SOON;
use crate::switchover::begun_with_clients;
use crate::switchover::hand_over;
use crate::switchover::is_primary;
use crate::switchover::nothing_is_lost;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// A client of the PgBouncer on its own host: one session, which writes a row every 5 ms and ends at the first error.
struct Session<'a> {
    lab: &'a Scenario,
    child: Child,
    host: &'a str,
}

impl<'a> Session<'a> {
    fn start(lab: &'a Scenario, host: &'a str) -> Self {
        const RUN: &str = "umask 077; printf '*:*:*:app:app of the test\\n' >/run/pool.pass; touch /run/pool
            export PGPASSFILE=/run/pool.pass
            while [ -e /run/pool ]; do
              printf 'INSERT INTO ledger DEFAULT VALUES RETURNING id, (extract(epoch FROM clock_timestamp()) * 1000)::bigint;\\n'
              pause 0.005
            done | psql 'host=127.0.0.1 port=6432 dbname=app user=app' -XAtq -v ON_ERROR_STOP=1 >>/run/pool.written 2>>/run/pool.errors";
        let mut command = lab.host(host).command(&["bash", "-c", &with_pause(RUN)]).unwrap();
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let session = Self { lab, child, host };
        session.goes_on();
        session
    }

    fn rows(&self) -> Vec<(u64, u64)> {
        let text = self.lab.run(self.host, &["sh", "-c", "cat /run/pool.written 2>/dev/null || true"]);
        let row = |line: &str| {
            let (id, at) = line.split_once('|')?;
            Some((id.parse().ok()?, at.parse().ok().filter(|_| at.len() == 13)?))
        };
        text.lines().filter_map(row).collect()
    }

    #[track_caller]
    fn goes_on(&self) {
        let before = self.rows().len();
        until(Instant::now() + SOON, || self.rows().len() > before + 20);
        let errors = || self.lab.run(self.host, &["sh", "-c", "cat /run/pool.errors"]);
        assert!(self.rows().len() > before + 20, "it does not write any more: {}", errors());
    }

    /// Ends it, and demands that it never saw an error; returns the rows it wrote and the longest pause between two, in
    /// milliseconds.
    #[track_caller]
    fn end_unharmed(mut self) -> (Vec<u64>, u64) {
        self.lab.run(self.host, &["rm", "/run/pool"]);
        assert!(self.child.wait().unwrap().success());
        // Newer versions of PgBouncer tell a client that it waits (query_wait_notify).
        let errors = self.lab.run(self.host, &["cat", "/run/pool.errors"]);
        let errors: Vec<_> = errors.lines().filter(|line| !line.ends_with("client being queued")).collect();
        assert_eq!(errors, Vec::<&str>::new());
        let rows = self.rows();
        let longest = rows.windows(2).map(|pair| pair[1].1.saturating_sub(pair[0].1)).max().unwrap();
        self.lab.run(self.host, &["rm", "/run/pool.written"]);
        (rows.into_iter().map(|(id, _)| id).collect(), longest)
    }
}

/// Writes the operator's own configuration of PgBouncer, on every host, and starts it.
fn start_poolers(lab: &Scenario, includes: bool) {
    let topology = lab.inventory["topology"].as_str().unwrap();
    let text = |own: &str| {
        format!(
            "[databases]\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = 6432\nunix_socket_dir = /var/run/postgresql\n\
         auth_type = scram-sha-256\nauth_file = /etc/pgbouncer/userlist.txt\npool_mode = transaction\n\
         logfile = /var/log/postgresql/pgbouncer.log\npidfile = /var/run/postgresql/pgbouncer.pid\n\
         server_tls_sslmode = verify-full\nserver_tls_ca_file = {own}/ca.crt\n"
        )
    };
    for name in NAMES {
        let own = format!("/var/lib/pgstead/{topology}/{name}");
        let include = if includes { format!("%include {own}/pgbouncer.ini\n") } else { String::new() };
        let text = [text(&own), include].concat();
        lab.host(name).write_file("/etc/pgbouncer/pgbouncer.ini", text.as_bytes()).unwrap();
        lab.host(name).write_file("/etc/pgbouncer/userlist.txt", b"\"app\" \"app of the test\"\n").unwrap();
        let owned = ["chown", "postgres:", "/etc/pgbouncer/pgbouncer.ini", "/etc/pgbouncer/userlist.txt"];
        lab.run(name, &owned);
        lab.run(name, &["systemctl", "restart", "pgbouncer.service"]);
    }
}

/// What the console of a host's PgBouncer says of a database: where it leads, and whether it is paused.
fn pool(lab: &Scenario, name: &str) -> (String, String) {
    let ask = "runuser -u postgres -- psql -XAq -P footer=off -h /var/run/postgresql -p 6432 -U pgbouncer pgbouncer -c 'SHOW DATABASES'";
    let answer = lab.run(name, &["sh", "-c", ask]);
    let mut lines = answer.lines().map(|line| line.split('|').collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let row = lines.find(|row| row[0] == "app").unwrap_or_else(|| panic!("{name}: {answer}"));
    let field = |name: &str| row[names.iter().position(|other| *other == name).unwrap()].to_owned();
    (field("host"), field("paused"))
}

#[track_caller]
fn all_lead_to(lab: &Scenario, primary: &str) {
    let address = lab.host(primary).address().to_string();
    for name in NAMES {
        assert_eq!(pool(lab, name), (address.clone(), "0".to_owned()), "the PgBouncer of {name}");
    }
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn clients_of_pgbouncer_wait_and_notice_nothing_else_on_15() {
    clients_wait(Release::Bookworm);
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn clients_of_pgbouncer_wait_and_notice_nothing_else_on_17() {
    clients_wait(Release::Trixie);
}

#[test]
fn clients_of_pgbouncer_wait_and_notice_nothing_else_on_18() {
    clients_wait(Release::Forky);
}

fn clients_wait(release: Release) {
    let mut lab = begun_with_clients(release, &NAMES);
    lab.edit(|inventory| {
        inventory["pooler"] = json!({});
        // Every character that a name may have.
        inventory["postgres"]["databases"] = json!(["app", "image-crawler.2_x"]);
        inventory["clients"] = json!({ "drain_timeout_s": 1 });
    });
    lab.bootstrap();
    includes_are_asked_for(&lab);
    start_poolers(&lab, true);
    lab.settled();
    all_lead_to(&lab, "a");

    // There and back: the session never sees an error, and everybody's pool leads to the primary.
    let session = Session::start(&lab, "c");
    let mut downtime = Vec::new();
    for (from, to) in [("a", "b"), ("b", "a")] {
        let told = hand_over(&lab, from, to);
        downtime.push(told["write_downtime_ms"].as_f64().unwrap());
        is_primary(&lab, to, &[from]);
        all_lead_to(&lab, to);
        session.goes_on();
        lab.settled();
    }
    let (written, longest_ms) = session.end_unharmed();
    nothing_is_lost(&lab, &written, &NAMES);
    println!("a session through PgBouncer waited for {longest_ms} ms at most; told: {downtime:?} ms");
    // Many times what is usual here; less than the minute after which a client would be told.
    assert!(longest_ms < 30_000, "{longest_ms} ms");

    a_transaction_that_does_not_end_is_waited_for_and_then_nothing_is_begun(&lab);
    what_is_interrupted_leaves_nobody_waiting(&lab);
    a_failover_leads_them_to_the_new_primary(&lab);
}

/// Before it runs, and before it includes the file, that is said.
fn includes_are_asked_for(lab: &Scenario) {
    let check = lab.pgstead(&["check", "--format", "json"]).expect(0);
    assert_eq!(check.codes().iter().filter(|code| *code == "pooler-absent").count(), 3, "{check}");
    start_poolers(lab, false);
    let check = lab.pgstead(&["check", "--format", "json"]).expect(7);
    assert_eq!(check.codes().iter().filter(|code| *code == "pooler-not-included").count(), 6, "{check}");
}

fn a_transaction_that_does_not_end_is_waited_for_and_then_nothing_is_begun(lab: &Scenario) {
    const HOLD: &str = "export PGPASSFILE=/run/pool.pass; touch /run/held
        { echo 'BEGIN; INSERT INTO ledger DEFAULT VALUES;'; while [ -e /run/held ]; do sleep 0.05; done; echo 'COMMIT;'; } |
        psql 'host=127.0.0.1 port=6432 dbname=app user=app' -Xq -v ON_ERROR_STOP=1";
    let mut command = lab.host("c").command(&["sh", "-c", HOLD]).unwrap();
    let mut held = command.stdin(Stdio::null()).spawn().unwrap();
    let in_transaction =
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'idle in transaction'";
    lab.eventually("a", in_transaction, "1");
    let started = lab.sql("a", "SELECT pg_postmaster_start_time()");
    let ran = lab.pgstead(&["switchover", "--to", "b", "--yes", "--format", "json"]).expect(6);
    assert!(ran.codes().contains(&"pooler-not-paused".to_owned()), "{ran}");
    // The transaction was named, and is let go on; everybody else, too.
    assert!(ran.stderr.contains("of \"app\""), "{ran}");
    is_primary(lab, "a", &["b", "c"]);
    assert_eq!(lab.sql("a", "SELECT pg_postmaster_start_time()"), started);
    all_lead_to(lab, "a");
    lab.run("c", &["rm", "/run/held"]);
    assert!(held.wait().unwrap().success(), "its transaction was ended");
    lab.settled();
}

fn what_is_interrupted_leaves_nobody_waiting(lab: &Scenario) {
    let to_b = ["switchover", "--to", "b", "--yes", "--format", "json"];
    let session = Session::start(lab, "c");
    let (ran, struck) = crashing_with(lab, &to_b, "stopped");
    assert_eq!(struck.as_deref(), Some("stopped"), "{ran}");
    assert_eq!(pool(lab, "c").1, "1");
    let check = lab.pgstead(&["check", "--format", "json"]);
    assert!(check.codes().contains(&"pooler-paused".to_owned()), "{check}");
    lab.pgstead(&["switchover", "--abort", "--yes"]).expect(0);
    all_lead_to(lab, "a");
    session.goes_on();
    // Interrupted when somebody was promoted, the same command goes on.
    let (ran, struck) = crashing_with(lab, &to_b, "promoted");
    assert_eq!(struck.as_deref(), Some("promoted"), "{ran}");
    assert_eq!(pool(lab, "c").1, "1");
    lab.pgstead(&to_b).expect(0);
    all_lead_to(lab, "b");
    session.goes_on();
    session.end_unharmed();
    lab.settled();
}

fn a_failover_leads_them_to_the_new_primary(lab: &Scenario) {
    let unit = lab.run("b", &["sh", "-c", "systemctl list-units --plain --no-legend 'postgresql@*' | cut -d ' ' -f 1"]);
    lab.run("b", &["systemctl", "kill", "-s", "KILL", unit.trim()]);
    until(Instant::now() + SOON, || lab.host("b").psql(lab.port, "postgres", "SELECT 1").is_err());
    lab.pgstead(&["failover", "--to", "a", "--accept-loss", "--yes", "--format", "json"]).expect(0);
    all_lead_to(lab, "a");
    Session::start(lab, "c").end_unharmed();
    lab.pgstead(&["reseed", "b", "--yes", "--accept-divergence"]).expect(0);
    lab.bootstrap();
    lab.settled();
}

/// What began before a switchover may end first, while everybody works on; what does not end in time is named, and ended.
#[test]
fn transactions_that_are_under_way_may_end_first() {
    let mut lab = Scenario::boot(Release::Trixie, &["a", "b"]);
    lab.edit(|inventory| inventory["clients"] = json!({ "drain_timeout_s": 6 }));
    lab.bootstrap();
    lab.sql("a", "CREATE TABLE batch (id int)");
    let batch = |id: u32, seconds: &str| {
        let sql = format!("BEGIN; INSERT INTO batch VALUES ({id}); SELECT pg_sleep({seconds}); COMMIT");
        let port = lab.port.to_string();
        let argv = ["runuser", "-u", "postgres", "--", "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-p", &port, "-c", &sql];
        let mut command = lab.host("a").command(&argv).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        lab.eventually("a", waits, "1");
        child
    };
    let mut short = batch(1, "4");
    let told = hand_over(&lab, "a", "b");
    assert!(short.wait().unwrap().success(), "{told}");
    assert_eq!(lab.sql("b", "SELECT id FROM batch"), "1");
    // Nobody had to wait meanwhile.
    assert!(told["write_downtime_ms"].as_f64().unwrap() < 3_500.0, "{told}");
    hand_over(&lab, "b", "a");
    let mut long = batch(2, "600");
    let ran = lab.pgstead(&["switchover", "--to", "b", "--yes", "--format", "json"]).expect(0);
    assert!(ran.stderr.contains("not ended after 6 s, and ended by the shutdown: process"), "{ran}");
    assert!(!long.wait().unwrap().success());
    assert_eq!(lab.sql("b", "SELECT id FROM batch"), "1");
    lab.settled();
}

//! `pgstead switchover` against the bare commands, on real hosts: for how long nobody can write.
//!
//! A client on a third host writes a row every millisecond or two, through a connection string that names both servers, and
//! notes when each was committed; the longest gap between two is the write downtime, for both alike. The bare commands are
//! what a DBA would overlap by hand: a checkpoint on both, SIGINT to the postmaster, its end watched, `pg_promote` without
//! waiting as soon as the shutdown checkpoint is replayed; all over connections that are open. Ends with 1 when a budget is
//! missed: the median at most 1.25 times the bare one, nineteen of twenty under half a second, the command under three.
//! Needs root. Options, behind `--`: `--release bookworm|trixie`, `--pairs N`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark tells its result by printing")]

mod common;
#[path = "common/servers.rs"]
mod servers;

use std::process::Child;
use std::process::ExitCode;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Host;
use pgstead::lab::hosts::Release;
use serde_json::Value;
use serde_json::json;

use crate::common::Result;
use crate::servers::Servers;

/// Whoever cannot write by then never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// The budgets (issue "switch over"): a ratio of medians, milliseconds, seconds.
const RATIO: f64 = 1.25;
const P95_MS: u64 = 500;
const COMMAND_S: f64 = 3.0;

const NAMES: [&str; 3] = ["a", "b", "c"];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    common::end("switchover", Options::parse(&words).and_then(|options| run(&options)))
}

struct Options {
    release: Release,
    pairs: usize,
}

impl Options {
    fn parse(words: &[String]) -> Result<Self> {
        let mut options = Self { release: Release::Bookworm, pairs: 20 };
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word {
                "--release" => options.release = common::release(value()?)?,
                "--pairs" => options.pairs = value()?.parse()?,
                "--bench" => {} // cargo says so to every benchmark.
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        Ok(options)
    }
}

fn run(options: &Options) -> Result<bool> {
    let bench = Bench::boot(options)?;
    let (mut bare, mut ours, mut told, mut seconds) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for number in 0..=options.pairs {
        let by_hand = bench.gap(|| bench.bare("a", "b"))?.0;
        bench.mend()?;
        let (by_us, ran) = bench.gap(|| {
            let begun = Instant::now();
            let output = bench.0.command(&["switchover", "--to", "a", "--yes", "--format", "json"])?;
            Ok((serde_json::from_slice::<Value>(&output.stdout)?, begun.elapsed().as_secs_f64()))
        })?;
        let downtime = ran.0["write_downtime_ms"].as_f64().unwrap_or_default();
        eprintln!("bare {by_hand} ms, pgstead {by_us} ms, of which it tells {downtime:.0}, in {:.1} s", ran.1);
        // The first of each does not count.
        if number > 0 {
            bare.push(by_hand);
            ours.push(by_us);
            told.push(downtime as u64);
            seconds.push(ran.1);
        }
    }
    for all in [&mut bare, &mut ours, &mut told] {
        all.sort_unstable();
    }
    seconds.sort_by(f64::total_cmp);
    let ratio = middle(&ours) as f64 / middle(&bare) as f64;
    let p95 = ours[(ours.len() * 19).div_ceil(20).max(1) - 1];
    let slowest = seconds.last().copied().unwrap_or_default();
    let word = |kept: bool| if kept { "kept" } else { "**missed**" };
    let span = |all: &[u64]| format!("{} ms | {} – {} ms", middle(all), all[0], all[all.len() - 1]);
    println!(
        "{} with PostgreSQL {}, {} pairs; the longest gap between two commits of a client\n",
        options.release,
        options.release.postgres_major(),
        options.pairs
    );
    println!("| what | median | min – max | budget | |\n|---|---|---|---|---|");
    println!("| bare commands | {} | | |", span(&bare));
    println!("| `pgstead switchover` | {} | | |", span(&ours));
    println!("| ratio of the medians | {ratio:.2} | | ≤ {RATIO} | {} |", word(ratio <= RATIO));
    println!("| nineteen of twenty are under | {p95} ms | | < {P95_MS} ms | {} |", word(p95 < P95_MS));
    println!("| what it tells itself (`write_downtime_ms`) | {} | | |", span(&told));
    println!(
        "| the whole command | {:.1} s | {:.1} – {slowest:.1} s | < {COMMAND_S} s | {} |",
        seconds[seconds.len() / 2],
        seconds[0],
        word(slowest < COMMAND_S)
    );
    Ok(ratio <= RATIO && p95 < P95_MS && slowest < COMMAND_S)
}

fn middle(sorted: &[u64]) -> u64 {
    sorted[sorted.len() / 2]
}

/// a and b hand over to each other; the client is on c.
struct Bench(Servers);

impl Bench {
    fn boot(options: &Options) -> Result<Self> {
        let servers = Servers::boot(options.release, &NAMES, |inventory| {
            inventory["servers"].as_object_mut().map(|servers| servers.remove("c"));
            inventory["postgres"]["databases"] = json!(["app"]);
            inventory["postgres"]["hba"] = json!([
                { "type": "hostssl", "database": "app", "user": "app", "address": "10.213.0.0/16", "method": "scram-sha-256" }
            ]);
        })?;
        let bench = Self(servers);
        let a = bench.host("a");
        a.psql(5432, "postgres", "CREATE ROLE app LOGIN PASSWORD 'app of the bench'")?;
        a.psql(5432, "app", "CREATE TABLE ledger (id bigserial PRIMARY KEY)")?;
        a.psql(5432, "app", "GRANT ALL ON ledger, ledger_id_seq TO app")?;
        Ok(bench)
    }

    fn host(&self, name: &str) -> &Host {
        self.0.host(NAMES.iter().position(|known| *known == name).unwrap_or_default())
    }

    /// Lets the client write while something is done, and returns the longest gap between two commits, in milliseconds.
    fn gap<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(u64, T)> {
        const RUN: &str = "umask 077; printf '*:*:*:app:app of the bench\\n' >/run/app.pass; touch /run/app; : >/run/app.written
            export PGPASSFILE=/run/app.pass PGCONNECT_TIMEOUT=2
            while [ -e /run/app ]; do
              while [ -e /run/app ]; do
                printf 'INSERT INTO ledger DEFAULT VALUES RETURNING (extract(epoch FROM clock_timestamp()) * 1000)::bigint;\\n'
                sleep 0.002
              done | psql \"$1\" -XAtq -v ON_ERROR_STOP=1 >>/run/app.written 2>/dev/null
            done";
        let hosts = ["a", "b"].map(|name| self.host(name).address().to_string()).join(",");
        let conninfo = format!("host={hosts} user=app dbname=app sslmode=require target_session_attrs=read-write");
        let client = self.host("c");
        let mut writer: Child = client.command(&["sh", "-c", RUN, "sh", &conninfo])?.stdin(Stdio::null()).spawn()?;
        self.writes()?;
        let done = work();
        self.writes()?;
        client.run(&["rm", "/run/app"])?;
        writer.wait()?;
        let at: Vec<u64> = client
            .run(&["cat", "/run/app.written"])?
            .lines()
            .filter(|line| line.len() == 13)
            .filter_map(|line| line.parse().ok())
            .collect();
        let gap = at.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().ok_or("nothing was written")?;
        Ok((gap, done?))
    }

    /// Waits until the client has written a few rows more.
    fn writes(&self) -> Result<()> {
        let count = || -> Result<u64> {
            let count = self.host("c").run(&["sh", "-c", "cat /run/app.written 2>/dev/null | wc -l"])?;
            Ok(count.trim().parse()?)
        };
        let (before, deadline) = (count()?, Instant::now() + PATIENCE);
        while count()? < before + 20 {
            if Instant::now() >= deadline {
                return Err("the client cannot write any more".into());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Hands over by hand, as far as clients notice.
    fn bare(&self, from: &str, to: &str) -> Result<()> {
        // The session on the successor is open before; it gets the position on its standard input.
        const PROMOTE: &str = "printf 'CHECKPOINT;\\n'; read lsn; printf \"%s;\\n\" \"DO \\$do\\$ BEGIN \
            WHILE pg_last_wal_replay_lsn() <= '$lsn' LOOP PERFORM pg_sleep(0.001); END LOOP; END \\$do\\$\" 'SELECT pg_promote(false)'";
        const PIPE: &str = "cd /; sh -c \"$1\" | runuser -u postgres -- psql -XAtq";
        const STOP: &str = "pid=$(head -n 1 \"$1/postmaster.pid\"); kill -INT $pid; \
            tail --sleep-interval=0.003 --pid=$pid -f /dev/null; \
            \"$2\" \"$1\" | sed -n 's/^Latest checkpoint location: *//p'";
        let mut promote = self.host(to).command(&["sh", "-c", PIPE, "sh", PROMOTE])?;
        let mut promote = promote.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        self.host(from).psql(5432, "postgres", "CHECKPOINT")?;
        let end = self.host(from).run(&["sh", "-c", STOP, "sh", &self.0.data(), &self.0.program("pg_controldata")])?;
        let mut input = promote.stdin.take().ok_or("no standard input")?;
        std::io::Write::write_all(&mut input, format!("{}\n", end.trim()).as_bytes())?;
        drop(input);
        if !promote.wait()?.success() {
            return Err("the bare commands did not promote".into());
        }
        until(self.host(to), "SELECT pg_is_in_recovery()", "f")
    }

    /// Makes the topology whole after the bare commands, which leave the former primary stopped.
    fn mend(&self) -> Result<()> {
        self.host("a").exec(&["systemctl", "stop", &self.0.unit()])?;
        self.0.command(&["reseed", "a", "--yes"])?;
        self.0.command(&["bootstrap", "--yes"])?;
        // Slots of the former primary are its standby's no more.
        let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active";
        self.host("a").psql(5432, "postgres", sql)?;
        Ok(())
    }
}

/// Waits until SQL on a host answers what is expected.
fn until(host: &Host, sql: &str, expected: &str) -> Result<()> {
    common::until(PATIENCE, host, sql, expected)
}

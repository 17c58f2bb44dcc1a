//! `pgstead reseed` against the bare commands, on real hosts: every way that it has, on an open line and on one of 100 Mbit/s.
//!
//! Both begin with the very same broken data directory, put back before every run, and end when psql on the hosts sees the
//! standby streaming and a row that was written on the primary. Bytes are what the standby's network card received. Ends
//! with 1 when a way takes more than 1.1 times its bare command and two seconds . Needs root. Options, behind
//! `--`: `--release bookworm|trixie`, `--scale N` (of pgbench; 130 is 2 GB), `--pairs N` on the open line, `--no-slow`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark tells its result by printing")]

mod common;
#[path = "common/servers.rs"]
mod servers;

use std::fs;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Host;
use pgstead::lab::hosts::Release;
use serde_json::Value;
use serde_json::json;

use crate::common::Result;
use crate::servers::Servers;

/// A standby that does not stream by then never will.
const PATIENCE: Duration = Duration::from_secs(600);

/// The line that counts as slow, in Mbit/s.
const SLOW: u32 = 100;

/// What a way may take beside 1.1 times its bare command, in seconds.
const ALLOWANCE: f64 = 2.0;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    common::end("reseed", Options::parse(&words).and_then(|options| run(&options)))
}

struct Options {
    release: Release,
    scale: u32,
    pairs: usize,
    is_slow_too: bool,
}

impl Options {
    fn parse(words: &[String]) -> Result<Self> {
        let mut options = Self { release: Release::Bookworm, scale: 130, pairs: 3, is_slow_too: true };
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word {
                "--release" => options.release = common::release(value()?)?,
                "--scale" => options.scale = value()?.parse()?,
                "--pairs" => options.pairs = value()?.parse()?,
                "--no-slow" => options.is_slow_too = false,
                "--bench" => {} // cargo says so to every benchmark.
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        Ok(options)
    }
}

/// What is wrong with the standby.
#[derive(Debug, Clone, Copy)]
enum Broken {
    /// It was stopped for a while.
    Behind,
    /// It was promoted, and one in a hundred pages was changed on either side since.
    Diverged,
}

/// One run: seconds until a row has arrived, and bytes that were received until then.
#[derive(Debug, Clone, Copy)]
struct Took {
    seconds: f64,
    received: u64,
}

fn run(options: &Options) -> Result<bool> {
    let bench = Bench::boot(options)?;
    let mut rows = Rows::default();
    for number in 0..=options.pairs {
        // The first of each does not count: the caches of this machine are warm for both alike.
        let is_counted = number > 0;
        for (what, broken, bare, ours) in [
            ("replay", Broken::Behind, Bare::Start, &[][..]),
            ("rewind", Broken::Diverged, Bare::Rewind, &["--method", "rewind"]),
            ("base backup", Broken::Diverged, Bare::BaseBackup(None), &["--method", "basebackup"]),
        ] {
            let bare = bench.bare(broken, bare)?;
            let (ours, _) = bench.pgstead(broken, ours)?;
            eprintln!("{what}: bare {:.1} s, pgstead {:.1} s", bare.seconds, ours.seconds);
            if is_counted {
                rows.add(&format!("{what}, open line"), bare, ours);
            }
        }
    }
    if options.is_slow_too {
        bench.b().limit_rate(SLOW)?;
        let start = bench.bare(Broken::Behind, Bare::Start)?;
        let (ours, _) = bench.pgstead(Broken::Behind, &[])?;
        rows.add("replay, 100 Mbit/s", start, ours);
        let rewind = bench.bare(Broken::Diverged, Bare::Rewind)?;
        let (ours, _) = bench.pgstead(Broken::Diverged, &["--method", "rewind"])?;
        rows.add("rewind, 100 Mbit/s", rewind, ours);
        let plain = bench.bare(Broken::Diverged, Bare::BaseBackup(None))?;
        let zstd = bench.bare(Broken::Diverged, Bare::BaseBackup(Some("server-zstd:1")))?;
        let (ours, _) = bench.pgstead(Broken::Diverged, &["--method", "basebackup"])?;
        rows.add("base backup, 100 Mbit/s, against zstd", zstd, ours);
        let (auto, method) = bench.pgstead(Broken::Diverged, &[])?;
        rows.tell("base backup without compression, 100 Mbit/s, bare", plain);
        rows.tell(&format!("`reseed` left to itself, 100 Mbit/s: {method}"), auto);
        bench.b().unlimit()?;
    }
    let (auto, method) = bench.pgstead(Broken::Diverged, &[])?;
    rows.tell(&format!("`reseed` left to itself, open line: {method}"), auto);
    println!(
        "{} with PostgreSQL {}, pgbench at scale {}, {:.2} GB; medians of {} on the open line, once on the slow one\n",
        options.release,
        options.release.postgres_major(),
        options.scale,
        bench.size as f64 / 1e9,
        options.pairs
    );
    println!("{}", rows.table());
    Ok(rows.are_kept())
}

/// How the bare command brings the standby back.
#[derive(Debug, Clone, Copy)]
enum Bare {
    Start,
    Rewind,
    BaseBackup(Option<&'static str>),
}

/// Server a is the primary, b the standby that breaks.
struct Bench {
    servers: Servers,
    /// Bytes of all databases.
    size: u64,
    /// `primary_conninfo` of b.
    conninfo: String,
}

impl Bench {
    fn boot(options: &Options) -> Result<Self> {
        let servers = Servers::boot(options.release, &["a", "b"], |inventory| {
            inventory["postgres"]["parameters"] = json!({ "shared_buffers": "256MB", "max_wal_size": "2GB" });
        })?;
        let mut bench = Self { servers, size: 0, conninfo: String::new() };
        bench.conninfo = bench.b().psql(5432, "postgres", "SHOW primary_conninfo")?;
        let scale = options.scale.to_string();
        bench.as_postgres(bench.a(), &[&bench.servers.program("pgbench"), "-i", "-q", "-s", &scale, "postgres"])?;
        bench.size = bench.a().psql(5432, "postgres", "SELECT sum(pg_database_size(oid)) FROM pg_database")?.parse()?;
        bench.arrives("everything is there")?;
        // The last checkpoint before the two part must be in WAL that the standby still has, or there is no rewind.
        bench.a().psql(5432, "postgres", "CHECKPOINT")?;
        bench.arrives("a checkpoint was written before it")?;
        bench.b().psql(5432, "postgres", "CHECKPOINT")?;
        // The state that was not diverged yet, then the diverged one: each kept, and put back before a run.
        bench.stop_b()?;
        bench.keep("behind")?;
        bench.b().run(&["systemctl", "start", &bench.servers.unit()])?;
        bench.arrives("it is back")?;
        bench.b().psql(5432, "postgres", "SELECT pg_promote()")?;
        until(bench.b(), "SELECT pg_is_in_recovery()", "f")?;
        bench.change(bench.b(), 0)?;
        bench.change(bench.a(), 50)?;
        bench.stop_b()?;
        bench.keep("diverged")?;
        Ok(bench)
    }

    fn a(&self) -> &Host {
        self.servers.host(0)
    }

    fn b(&self) -> &Host {
        self.servers.host(1)
    }

    fn as_postgres(&self, host: &Host, argv: &[&str]) -> Result<String> {
        Ok(host.run(&[&["runuser", "-u", "postgres", "--"], argv].concat())?)
    }

    fn stop_b(&self) -> Result<()> {
        self.b().run(&["systemctl", "stop", &self.servers.unit()])?;
        Ok(())
    }

    /// Changes one row on one page in a hundred.
    fn change(&self, host: &Host, offset: u32) -> Result<()> {
        let sql = format!(
            "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE (ctid::text::point)[1] = 1 \
             AND ((ctid::text::point)[0])::int % 100 = {offset}; CHECKPOINT"
        );
        host.psql(5432, "postgres", &sql)?;
        Ok(())
    }

    fn keep(&self, name: &str) -> Result<()> {
        self.b().run(&["cp", "-a", &self.servers.data(), &format!("/var/lib/postgresql/{name}")])?;
        Ok(())
    }

    /// Puts a broken state back, with nothing beside it, as before every run.
    fn put_back(&self, broken: Broken) -> Result<()> {
        let name = match broken {
            Broken::Behind => "behind",
            Broken::Diverged => "diverged",
        };
        self.b().exec(&["systemctl", "stop", &self.servers.unit()])?;
        const PUT: &str = "rm -rf \"$1\" \"$1\".aside.* && cp -a \"/var/lib/postgresql/$2\" \"$1\" && sync";
        self.b().run(&["sh", "-c", PUT, "sh", &self.servers.data(), name])?;
        fs::write("/proc/sys/vm/drop_caches", "3")?;
        // The record names what was set aside, which is gone with it.
        let own = "/var/lib/pgstead/lab/b/data-directory";
        self.b().write_file(own, [&self.servers.data(), "\n"].concat().as_bytes())?;
        let slot =
            "SELECT pg_create_physical_replication_slot('b', true) WHERE NOT EXISTS (SELECT FROM pg_replication_slots)";
        self.a().psql(5432, "postgres", slot)?;
        Ok(())
    }

    fn received(&self) -> Result<u64> {
        Ok(self.b().run(&["cat", "/sys/class/net/host0/statistics/rx_bytes"])?.trim().parse()?)
    }

    /// Measures something that brings b back, until a row has arrived.
    fn measure<T>(&self, broken: Broken, work: impl FnOnce() -> Result<T>) -> Result<(Took, T)> {
        self.put_back(broken)?;
        let (before, begun) = (self.received()?, Instant::now());
        let result = work()?;
        self.arrives("it is back")?;
        let took = Took { seconds: begun.elapsed().as_secs_f64(), received: self.received()? - before };
        self.stop_b()?;
        Ok((took, result))
    }

    fn bare(&self, broken: Broken, bare: Bare) -> Result<Took> {
        let conninfo = |user: &str, more: &str| {
            let rest: Vec<&str> = self.conninfo.split(' ').filter(|pair| !pair.starts_with("user=")).collect();
            format!("{} user={user}{more}", rest.join(" "))
        };
        let data = self.servers.data();
        let work = || {
            match bare {
                Bare::Start => {}
                Bare::Rewind => {
                    // As the manual says: a checkpoint on a source that was promoted is not needed, since a never was.
                    let source = conninfo("pgstead_rewind", " dbname=postgres");
                    self.as_postgres(
                        self.b(),
                        &[&self.servers.program("pg_rewind"), "-D", &data, "--source-server", &source],
                    )?;
                }
                Bare::BaseBackup(compression) => {
                    let fresh = format!("{data}.fresh");
                    let (from, program) = (conninfo("replicator", ""), self.servers.program("pg_basebackup"));
                    let mut argv =
                        vec![program.as_str(), "-D", &fresh, "-d", &from, "-X", "stream", "-S", "b", "-c", "fast"];
                    argv.extend(compression.iter().flat_map(|compression| ["--compress", compression]));
                    self.as_postgres(self.b(), &argv)?;
                    self.as_postgres(self.b(), &[&self.servers.program("pg_verifybackup"), "-q", &fresh])?;
                    self.b().run(&["mv", &data, &format!("{data}.aside.bare")])?;
                    self.b().run(&["mv", &fresh, &data])?;
                }
            }
            // What either left of a's is b's again, so that the start guard lets it start.
            const MARK: &str =
                "printf 'topology lab\\nserver b\\n' >\"$1/pgstead.identity\"; touch \"$1/standby.signal\"";
            self.as_postgres(self.b(), &["sh", "-c", MARK, "sh", &data])?;
            self.b().run(&["systemctl", "start", "--no-block", &self.servers.unit()])?;
            Ok(())
        };
        Ok(self.measure(broken, work)?.0)
    }

    /// Returns what a re-seed took, and by which way it was.
    fn pgstead(&self, broken: Broken, args: &[&str]) -> Result<(Took, String)> {
        self.measure(broken, || {
            let all = [&["reseed", "b", "--accept-divergence", "--yes", "--format", "json"], args].concat();
            let document: Value = serde_json::from_slice(&self.servers.command(&all)?.stdout)?;
            Ok(document["method"].as_str().unwrap_or("nothing").to_owned())
        })
    }

    /// Writes a row on a and waits, past SSH, until it is on b, which streams.
    fn arrives(&self, word: &str) -> Result<()> {
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS probe (at bigserial, word text); INSERT INTO probe (word) VALUES ('{word}') RETURNING at"
        );
        let at = self.a().psql(5432, "postgres", &sql)?;
        until(self.b(), &format!("SELECT count(*) FROM probe WHERE at = {}", at.trim()), "1")?;
        until(self.a(), "SELECT state FROM pg_stat_replication WHERE application_name = 'b'", "streaming")
    }
}

/// Waits until SQL on a host answers what is expected.
fn until(host: &Host, sql: &str, expected: &str) -> Result<()> {
    common::until(PATIENCE, host, sql, expected)
}

/// Pairs of runs by what they do.
#[derive(Default)]
struct Rows {
    pairs: Vec<(String, Vec<(Took, Took)>)>,
    told: Vec<(String, Took)>,
}

impl Rows {
    fn add(&mut self, what: &str, bare: Took, ours: Took) {
        match self.pairs.iter_mut().find(|(known, _)| known == what) {
            Some((_, all)) => all.push((bare, ours)),
            None => self.pairs.push((what.to_owned(), vec![(bare, ours)])),
        }
    }

    fn tell(&mut self, what: &str, took: Took) {
        self.told.push((what.to_owned(), took));
    }

    fn are_kept(&self) -> bool {
        self.pairs.iter().all(|(_, all)| {
            let (bare, ours) = medians(all);
            ours.seconds <= limit(bare)
        })
    }

    /// Returns the results in Markdown.
    fn table(&self) -> String {
        let head = "| what | bare | MB | pgstead | MB | budget | |\n|---|---|---|---|---|---|---|\n";
        let mut text = head.to_owned();
        let megabytes = |took: Took| format!("{:.0}", took.received as f64 / 1e6);
        for (what, all) in &self.pairs {
            let (bare, ours) = medians(all);
            let verdict = if ours.seconds <= limit(bare) { "kept" } else { "**missed**" };
            text.push_str(&format!(
                "| {what} | {:.1} s | {} | {:.1} s | {} | ≤ {:.1} s | {verdict} |\n",
                bare.seconds,
                megabytes(bare),
                ours.seconds,
                megabytes(ours),
                limit(bare)
            ));
        }
        for (what, took) in &self.told {
            text.push_str(&format!("| {what} | {:.1} s | {} | | | | |\n", took.seconds, megabytes(*took)));
        }
        text
    }
}

fn limit(bare: Took) -> f64 {
    1.1 * bare.seconds + ALLOWANCE
}

fn medians(all: &[(Took, Took)]) -> (Took, Took) {
    let median = |of: fn(&(Took, Took)) -> Took| {
        let mut took: Vec<Took> = all.iter().map(of).collect();
        took.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
        took[took.len() / 2]
    };
    (median(|pair| pair.0), median(|pair| pair.1))
}

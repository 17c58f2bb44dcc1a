//! `pgstead bootstrap` against the bare commands, on real hosts, in interleaved pairs of one run.
//!
//! Both begin on freshly booted hosts with PostgreSQL's packages and nothing else; both end when psql on the hosts sees
//! every standby streaming and a row that was written on the primary. Ends with 1 when a budget of the design's section
//! 11 is missed. Needs root. Options, behind `--`: `--release bookworm|trixie`, `--pairs N`, `--many N` (standbys of the
//! large topology; 0 leaves it out), `--verbose` (pgstead's own words of every run).
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark tells its result by printing")]

mod common;

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use nix::sys::resource::UsageWho;
use nix::sys::resource::getrusage;
use pgstead::lab::hosts;
use pgstead::lab::hosts::Guard;
use pgstead::lab::hosts::Host;
use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::LabSpec;
use pgstead::lab::hosts::Release;
use serde_json::Value;
use serde_json::json;

use crate::common::PGSTEAD;
use crate::common::Result;

const BARE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/bare-bootstrap");
/// The word that makes this program run another one and tell its peak of memory, instead of measuring.
const MEASURE: &str = "--measure-memory";

/// How often a no-change command is measured.
const REPEATS: usize = 9;

/// A standby that does not stream by then never will.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.split_first() {
        Some((first, rest)) if first == MEASURE => return measure_memory(rest),
        _ => Options::parse(&words).and_then(|options| run(&options)),
    };
    common::end("bootstrap", result)
}

struct Options {
    release: Release,
    pairs: usize,
    many: usize,
    verbose: bool,
}

impl Options {
    fn parse(words: &[String]) -> Result<Self> {
        let mut options = Self { release: Release::Bookworm, pairs: 5, many: 10, verbose: false };
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word {
                "--release" => options.release = common::release(value()?)?,
                "--pairs" => options.pairs = value()?.parse()?,
                "--many" => options.many = value()?.parse()?,
                "--verbose" => options.verbose = true,
                "--bench" => {} // cargo says so to every benchmark.
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        Ok(options)
    }
}

/// Measures everything, prints the table, and says whether all budgets were kept.
fn run(options: &Options) -> Result<bool> {
    let mut table = Table::default();
    let bench = Bench::boot(options, 3)?;
    // One pair that does not count: the caches of this machine are warm for both alike.
    bench.pair()?;
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    let mut peak = 0;
    for number in 1..=options.pairs {
        let (one, other, kilobytes) = bench.pair()?;
        eprintln!("pair {number}: bare {one:.2} s, pgstead {other:.2} s, {:.1} MB", megabytes(kilobytes));
        bare.push(one);
        ours.push(other);
        peak = peak.max(kilobytes);
    }
    let ratio = median(&ours) / median(&bare);
    let ratios: Vec<f64> = ours.iter().zip(&bare).map(|(ours, bare)| ours / bare).collect();
    table.seconds("bare commands, three servers", &bare, None);
    table.seconds("`pgstead bootstrap --yes`, three servers", &ours, None);
    table.row(
        "ratio of the medians (of the pairs)",
        &format!("{ratio:.2}"),
        &range(&ratios),
        Some((ratio <= 1.1, "≤ 1.1")),
    );
    table.memory("peak memory of that", peak, Some(50.0));
    bench.without_change(&mut table, "three servers", true)?;
    drop(bench);
    if options.many > 0 {
        let bench = Bench::boot(options, 1 + options.many)?;
        let what = format!("{} servers", 1 + options.many);
        let (seconds, many_peak) = bench.pgstead()?;
        table.seconds(&format!("`pgstead bootstrap --yes`, {what} (once)"), &[seconds], None);
        table.memory("peak memory of that", many_peak, Some(50.0));
        let more = megabytes(many_peak.saturating_sub(peak)) / (options.many as f64 - 2.0);
        table.row("memory per additional server", &format!("{more:.2} MB"), "", Some((more < 1.0, "< 1 MB")));
        bench.without_change(&mut table, &what, false)?;
    }
    println!("{} with PostgreSQL {}, {} pairs\n", options.release, options.release.postgres_major(), options.pairs);
    println!("{}", table.text);
    Ok(table.kept)
}

/// Hosts, the first one the primary and all others its standbys.
struct Bench {
    lab: Guard,
    dir: tempfile::TempDir,
    verbose: bool,
}

impl Bench {
    fn boot(options: &Options, servers: usize) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("pgstead-bench-").tempdir_in("/var/tmp")?;
        let hosts = (0..servers).map(|index| HostSpec::new(&name(index), options.release)).collect();
        let lab = hosts::up(LabSpec::new(dir.path().join("lab"), hosts))?.guard();
        let bench = Self { lab, dir, verbose: options.verbose };
        let mut inventory = hosts::inventory::value(&bench.lab);
        for host in bench.lab.hosts().iter().skip(1) {
            inventory["servers"][host.name()]["upstream"] = json!(bench.lab.hosts()[0].name());
        }
        // A database of the users' own is no part of the bare commands.
        inventory["postgres"]["databases"] = json!([]);
        fs::write(bench.inventory(), serde_json::to_string_pretty(&inventory)?)?;
        bench.settle()?;
        Ok(bench)
    }

    fn inventory(&self) -> PathBuf {
        self.dir.path().join("pgstead.yaml")
    }

    /// One run of each on reset hosts; returns both times and the peak of memory of pgstead in kB.
    fn pair(&self) -> Result<(f64, f64, u64)> {
        self.reset()?;
        let bare = self.bare()?;
        self.reset()?;
        let (ours, peak) = self.pgstead()?;
        Ok((bare, ours, peak))
    }

    fn bare(&self) -> Result<f64> {
        let work = self.dir.path().join("bare");
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        let mut command = Command::new(BARE);
        command.arg(&work).arg(self.lab.identity_file()).arg(self.lab.known_hosts());
        command.arg(self.lab.hosts()[0].spec().release.postgres_major().to_string());
        command.args(self.lab.hosts().iter().map(|host| format!("{}={}", host.name(), host.address())));
        let begun = Instant::now();
        succeed(&mut command)?;
        self.probe()?;
        let seconds = begun.elapsed().as_secs_f64();
        self.same_outcome()?;
        Ok(seconds)
    }

    fn pgstead(&self) -> Result<(f64, u64)> {
        let state = self.dir.path().join(".pgstead");
        if state.exists() {
            fs::remove_dir_all(&state)?;
        }
        let begun = Instant::now();
        let (output, peak) = self.command(&["bootstrap", "--yes", "--format", "json"])?;
        self.probe()?;
        let seconds = begun.elapsed().as_secs_f64();
        if self.verbose {
            let report: Value = serde_json::from_slice(&output.stdout)?;
            for step in report["steps"].as_array().into_iter().flatten() {
                let word = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
                let title: String = word("title").chars().take(60).collect();
                eprintln!("  {:6.3} {:2} {title}", step["seconds"].as_f64().unwrap_or_default(), word("server"));
            }
            eprintln!("  {:6.3} in all", report["seconds"].as_f64().unwrap_or_default());
        }
        self.same_outcome()?;
        Ok((seconds, peak))
    }

    /// Runs pgstead; returns its output and its peak of memory in kB.
    fn command(&self, args: &[&str]) -> Result<(Output, u64)> {
        let peak_file = self.dir.path().join("peak");
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(MEASURE).arg(&peak_file).arg(PGSTEAD).arg("-i").arg(self.inventory()).args(args);
        let output = succeed(command.env("NO_COLOR", "1"))?;
        Ok((output, fs::read_to_string(&peak_file)?.trim().parse()?))
    }

    /// Waits, with psql on the hosts and past SSH, until all standbys stream and have a row of the primary.
    fn probe(&self) -> Result<()> {
        let (primary, standbys) = self.lab.hosts().split_first().ok_or("no hosts")?;
        let streaming = standbys.len().to_string();
        until(primary, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", &streaming)?;
        primary.psql(5432, "postgres", "CREATE TABLE bench_probe AS SELECT 42 AS answer")?;
        on_all(standbys, |host| until(host, "SELECT answer FROM bench_probe", "42"))
    }

    /// Checks, after the clock was stopped, that what is there is what was asked for.
    fn same_outcome(&self) -> Result<()> {
        let (primary, standbys) = self.lab.hosts().split_first().ok_or("no hosts")?;
        let tls = "SELECT count(*) FROM pg_stat_replication r JOIN pg_stat_ssl s USING (pid) JOIN pg_replication_slots l \
                   ON l.active_pid = r.pid WHERE s.ssl AND s.client_dn LIKE '%CN=' || l.slot_name || '%'";
        until(primary, tls, &standbys.len().to_string())?;
        for (sql, expected) in [
            ("SHOW data_checksums", "on"),
            ("SHOW fsync", "on"),
            ("SHOW shared_buffers", "32MB"),
            ("SHOW wal_keep_size", "512MB"),
            ("SHOW wal_log_hints", "on"),
        ] {
            on_all(self.lab.hosts(), |host| until(host, sql, expected))?;
        }
        let verified = "SELECT setting LIKE '%sslmode=verify-full%' AND setting LIKE '%sslcert=%' FROM pg_settings \
                        WHERE name = 'primary_conninfo'";
        on_all(standbys, |host| until(host, verified, "t"))
    }

    /// Measures commands that find nothing to do.
    fn without_change(&self, table: &mut Table, what: &str, strict: bool) -> Result<()> {
        for args in [&["bootstrap", "--yes"][..], &["plan"], &["check"]] {
            let mut seconds = Vec::new();
            let mut peak = 0;
            for _ in 0..REPEATS {
                let begun = Instant::now();
                let (_, kilobytes) = self.command(args)?;
                seconds.push(begun.elapsed().as_secs_f64());
                peak = peak.max(kilobytes);
            }
            let line = format!("`pgstead {}`, nothing to do, {what}", args.join(" "));
            table.seconds(&line, &seconds, strict.then_some(1.0));
            table.memory("peak memory of that", peak, Some(50.0));
        }
        Ok(())
    }

    fn reset(&self) -> Result<()> {
        on_all(self.lab.hosts(), |host| Ok(host.reset()?))?;
        self.settle()
    }

    /// Waits until the hosts have booted to the end and nothing of it is left to be written.
    fn settle(&self) -> Result<()> {
        on_all(self.lab.hosts(), |host| {
            // "degraded" is as much an end as "running" is.
            host.exec(&["systemctl", "is-system-running", "--wait"])?;
            Ok(())
        })?;
        succeed(&mut Command::new("sync"))?;
        Ok(())
    }
}

fn name(index: usize) -> String {
    char::from(b'a' + u8::try_from(index).unwrap_or(25).min(25)).to_string()
}

/// Does something on all hosts at once.
fn on_all(hosts: &[Host], work: impl Fn(&Host) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = hosts.iter().map(|host| scope.spawn(|| work(host))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })
}

/// Waits until SQL on a host answers what is expected.
fn until(host: &Host, sql: &str, expected: &str) -> Result<()> {
    common::until(PATIENCE, host, sql, expected)
}

fn succeed(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {}{said}", output.status, String::from_utf8_lossy(&output.stdout)).into())
}

/// Runs a command to its end and writes the largest resident set among it and its own children, in kB, to a file.
fn measure_memory(words: &[String]) -> ExitCode {
    let [file, program, args @ ..] = words else { return ExitCode::FAILURE };
    let Ok(status) = Command::new(program).args(args).status() else { return ExitCode::FAILURE };
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).map(|usage| usage.max_rss());
    let written = peak.map(|kilobytes| fs::write(Path::new(file), kilobytes.to_string()));
    match (written, status.code().and_then(|code| u8::try_from(code).ok())) {
        (Ok(Ok(())), Some(code)) => ExitCode::from(code),
        _ => ExitCode::FAILURE,
    }
}

/// The table of results, in Markdown.
struct Table {
    text: String,
    kept: bool,
}

impl Default for Table {
    fn default() -> Self {
        let head = "| what | median | min – max | budget | |\n|---|---|---|---|---|\n";
        Self { text: head.to_owned(), kept: true }
    }
}

impl Table {
    fn row(&mut self, what: &str, median: &str, range: &str, budget: Option<(bool, &str)>) {
        let (budget, verdict) = match budget {
            None => ("", ""),
            Some((true, budget)) => (budget, "kept"),
            Some((false, budget)) => (budget, "**missed**"),
        };
        self.kept &= verdict != "**missed**";
        self.text.push_str(&format!("| {what} | {median} | {range} | {budget} | {verdict} |\n"));
    }

    fn seconds(&mut self, what: &str, seconds: &[f64], budget: Option<f64>) {
        let middle = median(seconds);
        let text = budget.map(|budget| format!("< {budget} s"));
        let budget = budget.zip(text.as_deref()).map(|(budget, text)| (middle < budget, text));
        self.row(what, &format!("{middle:.2} s"), &range(seconds), budget);
    }

    fn memory(&mut self, what: &str, kilobytes: u64, budget: Option<f64>) {
        let text = budget.map(|budget| format!("< {budget} MB"));
        let budget = budget.zip(text.as_deref()).map(|(budget, text)| (megabytes(kilobytes) < budget, text));
        self.row(what, &format!("{:.1} MB", megabytes(kilobytes)), "", budget);
    }
}

fn megabytes(kilobytes: u64) -> f64 {
    kilobytes as f64 * 1024.0 / 1e6
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

fn median(values: &[f64]) -> f64 {
    let values = sorted(values);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

fn range(values: &[f64]) -> String {
    let values = sorted(values);
    match (values.first(), values.last()) {
        (Some(least), Some(most)) if values.len() > 1 => format!("{least:.2} – {most:.2}"),
        _ => String::new(),
    }
}

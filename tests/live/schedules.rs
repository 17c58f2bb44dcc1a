//! Random schedules: an operation, the faults that strike it, and the moments, all of them made of one number.
//!
//! Every schedule prints its number. `PGSTEAD_SCHEDULE_SEED=N PGSTEAD_SCHEDULES=1` plays it again; without these, the same
//! schedules are played each time. `make soak` plays many, and others each day.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;
use std::time::Instant;

use fastrand::Rng;
use pgstead::lab::hosts::Block;
use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::HostsLabError;
use pgstead::lab::hosts::Release;
use pgstead::lab::hosts::SmallDisk;
use serde_json::json;

use crate::invariants::broken_among;
use crate::invariants::refusal_helps;
use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::Started;
use crate::scenario::chain;
use crate::scenario::until;
use crate::traces::Recorders;

/// The command of most operations: whoever changes a parameter that needs a restart consents to it.
const RUN: &[&str] = &["bootstrap", "--yes", "--allow-restart", "--format", "json"];

const NAMES: [&str; 3] = ["a", "b", "c"];

/// How many schedules each version plays unless told otherwise.
const SCHEDULES: u64 = 10;

/// How often the same command may be needed until the work is done, once nothing strikes any more.
const RUNS_MAX: usize = 3;

/// What is under way when the faults strike. a is the primary, and c follows a, or b.
#[derive(Debug, Clone, Copy)]
enum Operation {
    /// Three bare servers become a primary and two standbys.
    Everything,
    /// A primary is there, with data; two standbys are added.
    Standbys,
    /// A primary and a standby are there; one more is added.
    OneMore,
    /// All are there; a parameter that needs restarts everywhere is changed.
    Restarts,
    /// All are there; commits begin to wait for a standby.
    Synchronous,
    /// All are there; b becomes the primary.
    Switchover,
}

impl Operation {
    /// The command under test.
    fn command(self) -> &'static [&'static str] {
        match self {
            Operation::Switchover => &["switchover", "--to", "b", "--yes", "--format", "json"],
            _ => RUN,
        }
    }
}

/// What strikes.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// pgstead is killed.
    ToolKilled,
    /// The operator presses Ctrl-C.
    ToolInterrupted,
    /// A second run is started.
    SecondRun,
    /// A copy is killed on the server that takes it.
    CopyKilled(&'static str),
    /// A postmaster is killed.
    PostmasterKilled(&'static str),
    /// A postmaster stands still.
    PostmasterStill(&'static str),
    /// A host loses its power.
    PowerCut(&'static str),
    /// What passes between two hosts vanishes.
    LinkDropped(&'static str, &'static str),
    /// What one host sends to another vanishes.
    OneWayDropped(&'static str, &'static str),
    /// What one host sends to another is rejected.
    LinkRejected(&'static str, &'static str),
    /// What the operator sends to a host vanishes.
    OperatorDropped(&'static str),
    /// What the operator sends to a host's sshd is rejected.
    OperatorRejected(&'static str),
    /// The disk of b is full.
    DiskFull,
}

/// A fault with its moment, counted from the beginning of the run, and how long it lasts.
struct Strike {
    fault: Fault,
    at: Duration,
    lasts: Duration,
}

/// Everything that a number says.
struct Schedule {
    seed: u64,
    operation: Operation,
    /// Whether c follows b.
    is_cascade: bool,
    /// Mbit/s of the lines of b and c, where they are slow.
    line: Option<u32>,
    strikes: Vec<Strike>,
}

/// Operations of which a schedule takes one; what is there twice comes twice as often.
const BOOTSTRAPS: &[Operation] = &[
    Operation::Everything,
    Operation::Standbys,
    Operation::Standbys,
    Operation::OneMore,
    Operation::OneMore,
    Operation::Restarts,
    Operation::Synchronous,
];
const SWITCHOVERS: &[Operation] = &[Operation::Switchover];

impl Schedule {
    fn of(seed: u64, operations: &[Operation]) -> Self {
        let mut rng = Rng::with_seed(seed);
        let operation = *rng.choice(operations).unwrap();
        let is_cascade = rng.bool();
        let line = rng.choice([None, Some(32), Some(64)]).unwrap();
        let strikes = (0..rng.usize(1..=3)).map(|_| Strike::of(&mut rng)).collect();
        Self { seed, operation, is_cascade, line, strikes }
    }
}

impl Strike {
    fn of(rng: &mut Rng) -> Self {
        let one = rng.choice(NAMES).unwrap();
        let others: Vec<&str> = NAMES.into_iter().filter(|name| *name != one).collect();
        let other = rng.choice(others).unwrap();
        let fault = match rng.u32(0..13) {
            0 => Fault::ToolKilled,
            1 => Fault::ToolInterrupted,
            2 => Fault::SecondRun,
            3 => Fault::CopyKilled(one),
            4 => Fault::PostmasterKilled(one),
            5 => Fault::PostmasterStill(one),
            6 => Fault::PowerCut(one),
            7 => Fault::LinkDropped(one, other),
            8 => Fault::OneWayDropped(one, other),
            9 => Fault::LinkRejected(one, other),
            10 => Fault::OperatorDropped(one),
            11 => Fault::OperatorRejected(one),
            _ => Fault::DiskFull,
        };
        Self { fault, at: Duration::from_millis(rng.u64(0..4_000)), lasts: Duration::from_millis(rng.u64(50..3_000)) }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.operation)?;
        f.write_str(if self.is_cascade { ", c behind b" } else { "" })?;
        if let Some(megabits) = self.line {
            write!(f, ", {megabits} Mbit/s")?;
        }
        for Strike { fault, at, lasts } in &self.strikes {
            write!(f, "; {fault:?} at {} ms for {} ms", at.as_millis(), lasts.as_millis())?;
        }
        Ok(())
    }
}

/// The hosts that schedules are played on, one after the other.
struct Stage {
    lab: Scenario,
    release: Release,
}

impl Stage {
    fn data(&self) -> String {
        format!("/var/lib/postgresql/{}/main", self.release.postgres_major())
    }

    /// Makes what the operation begins with, and leaves the inventory as the operation wants it.
    fn prepare(&mut self, schedule: &Schedule) {
        let upstream = if schedule.is_cascade { "b" } else { "a" };
        self.lab.edit(|inventory| inventory["servers"]["c"]["upstream"] = json!(upstream));
        let whole = self.lab.inventory.clone();
        let absent: &[&str] = match schedule.operation {
            Operation::Everything => return,
            Operation::Standbys => &["b", "c"],
            Operation::OneMore => &["c"],
            Operation::Restarts | Operation::Synchronous | Operation::Switchover => &[],
        };
        self.lab.edit(|inventory| {
            inventory["servers"].as_object_mut().unwrap().retain(|name, _| !absent.contains(&name.as_str()));
        });
        self.lab.bootstrap();
        self.lab.sql(
            "a",
            "CREATE TABLE bulk AS SELECT i, repeat(md5(i::text), 8) AS text FROM generate_series(1, 20000) i",
        );
        self.lab.edit(|inventory| {
            *inventory = whole;
            match schedule.operation {
                Operation::Restarts => inventory["postgres"]["parameters"]["max_connections"] = json!(120),
                Operation::Synchronous => {
                    // A commit waits only for those that stream from the primary itself.
                    let standbys: &[&str] = if schedule.is_cascade { &["b"] } else { &["b", "c"] };
                    inventory["replication"]["synchronous"] = json!({ "standbys": standbys });
                }
                _ => {}
            }
        });
    }

    fn strike(&self, fault: Fault, operation: Operation, run: &Started) -> Result<(), HostsLabError> {
        // By id, and inside the host alone.
        const KILL_COPY: &str = "for p in $(pgrep -x pg_basebackup); do kill -s KILL \"$p\"; done";
        let host = |name: &str| self.lab.host(name);
        match fault {
            Fault::ToolKilled => run.signal("KILL", false),
            Fault::ToolInterrupted => run.signal("INT", true),
            Fault::SecondRun => {
                let ran = self.lab.pgstead(operation.command());
                assert!([0, 4, 5, 6, 9, 10].contains(&ran.code), "{ran}");
            }
            Fault::CopyKilled(on) => drop(host(on).run(&["sh", "-c", KILL_COPY])?),
            Fault::PostmasterKilled(on) => host(on).signal_postmaster(&self.data(), "KILL")?,
            Fault::PostmasterStill(on) => host(on).signal_postmaster(&self.data(), "STOP")?,
            Fault::PowerCut(on) => host(on).power_cut()?,
            Fault::LinkDropped(one, other) => {
                host(one).block_arriving(Block::Drop, host(other).address(), None)?;
                host(other).block_arriving(Block::Drop, host(one).address(), None)?;
            }
            Fault::OneWayDropped(from, to) => host(to).block_arriving(Block::Drop, host(from).address(), None)?,
            Fault::LinkRejected(from, to) => host(to).block_arriving(Block::Reject, host(from).address(), None)?,
            Fault::OperatorDropped(on) => {
                host(on).block_arriving(Block::Drop, host(on).operator_address(), Some(22))?
            }
            Fault::OperatorRejected(on) => {
                host(on).block_arriving(Block::Reject, host(on).operator_address(), Some(22))?;
            }
            Fault::DiskFull => host("b").fill_disk("/var/lib/postgresql", 64)?,
        }
        Ok(())
    }

    fn mend(&self, fault: Fault) -> Result<(), HostsLabError> {
        let host = |name: &str| self.lab.host(name);
        match fault {
            Fault::ToolKilled | Fault::ToolInterrupted | Fault::SecondRun => Ok(()),
            Fault::CopyKilled(_) | Fault::PostmasterKilled(_) => Ok(()),
            Fault::PostmasterStill(on) => host(on).signal_postmaster(&self.data(), "CONT"),
            Fault::PowerCut(on) => host(on).boot(),
            Fault::LinkDropped(one, other) => host(one).unblock().and_then(|()| host(other).unblock()),
            Fault::OneWayDropped(_, on) | Fault::LinkRejected(_, on) => host(on).unblock(),
            Fault::OperatorDropped(on) | Fault::OperatorRejected(on) => host(on).unblock(),
            Fault::DiskFull => host("b").free_disk("/var/lib/postgresql"),
        }
    }

    /// Mends whatever may be broken still: two faults may have met on one host.
    fn mend_all(&self) {
        for host in self.lab.lab().hosts() {
            if !host.is_running() {
                host.boot().unwrap_or_else(|error| panic!("{}", chain(&error)));
            }
            host.unblock().unwrap();
            host.free_disk("/var/lib/postgresql").unwrap();
            host.unlimit().unwrap();
            // Where none runs, nobody stands still.
            let _ = host.signal_postmaster(&self.data(), "CONT");
        }
    }

    /// Two versions may be at it side by side.
    fn say(&self, schedule: &Schedule, what: fmt::Arguments<'_>) {
        println!("{} on {}: {what}", schedule.seed, self.release.postgres_major());
    }

    /// Ends a switchover that was struck, and makes a the primary again: one that cannot go on is taken back, what died is
    /// started, and then everything is as the inventory says.
    fn back(&self, mut last: Ran, codes: &mut Vec<i32>) -> Ran {
        let mut also = |words: &[&str]| {
            let ran = self.lab.pgstead(&[words, &["--yes", "--format", "json"]].concat());
            codes.push(ran.code);
            ran
        };
        if last.code != 0 {
            also(&["switchover", "--abort"]);
        }
        // A primary that was killed is started by this, and a standby too.
        also(&["bootstrap"]);
        if self
            .lab
            .host("b")
            .psql(self.lab.port, "postgres", "SELECT pg_is_in_recovery()")
            .is_ok_and(|answer| answer == "f")
        {
            last = also(&["switchover", "--to", "a"]);
            if last.code != 0 {
                return last;
            }
        }
        let settled = also(&["bootstrap"]);
        if settled.code == 0 { settled } else { last }
    }

    /// Plays one schedule and returns what is broken afterwards.
    fn play(&mut self, schedule: &Schedule) -> Vec<String> {
        let mut troubles = Vec::new();
        self.prepare(schedule);
        let recorders = Recorders::begin(&self.lab, Some("a"));
        for name in ["b", "c"] {
            if let Some(megabits) = schedule.line {
                self.lab.host(name).limit_rate(megabits).unwrap();
            }
        }
        let begun = Instant::now();
        let command = schedule.operation.command();
        let run = self.lab.start(command);
        let mut events: Vec<(Duration, &Strike, bool)> = Vec::new();
        for strike in &schedule.strikes {
            events.push((strike.at, strike, true));
            events.push((strike.at + strike.lasts, strike, false));
        }
        events.sort_by_key(|(at, ..)| *at);
        for (at, strike, strikes) in events {
            until(begun + at, || false);
            let done =
                if strikes { self.strike(strike.fault, schedule.operation, &run) } else { self.mend(strike.fault) };
            if let Err(error) = done {
                // Such as no postmaster to kill yet.
                let what = if strikes { "did not strike" } else { "was not mended in its time" };
                let why = chain(&error).lines().next().unwrap_or_default().to_owned();
                self.say(schedule, format_args!("{:?} {what}: {why}", strike.fault));
            }
        }
        for name in NAMES {
            // Where the power is gone, a boot makes the line whole.
            let _ = self.lab.host(name).unlimit();
        }
        let mut last = run.end();
        self.mend_all();
        let mut codes = vec![last.code];
        for _ in 0..RUNS_MAX {
            // A killed run says nothing.
            if ![0, -1].contains(&last.code) {
                troubles.extend(refusal_helps(&last));
            }
            last = self.lab.pgstead(command);
            codes.push(last.code);
            if last.code == 0 {
                break;
            }
        }
        if let Operation::Switchover = schedule.operation {
            last = self.back(last, &mut codes);
        }
        let traces = recorders.end();
        let settled = begun.elapsed().as_secs_f64();
        if last.code != 0 {
            troubles.push(format!("I5: {RUNS_MAX} runs did not finish it: {last}"));
        }
        let primaries: &[&str] = match schedule.operation {
            Operation::Switchover => &["a", "b"],
            _ => &["a"],
        };
        troubles.extend(broken_among(&self.lab, &traces, &last, primaries));
        let (rows, seconds) = (traces.acknowledged.len(), begun.elapsed().as_secs_f64());
        self.say(
            schedule,
            format_args!(
                "exit codes {codes:?}, {rows} rows acknowledged, {settled:.1} s and {:.1} s",
                seconds - settled
            ),
        );
        troubles
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn play(release: Release, first_seed: u64, operations: &[Operation]) {
    let first = number("PGSTEAD_SCHEDULE_SEED").unwrap_or(first_seed);
    let n = number("PGSTEAD_SCHEDULES").unwrap_or(SCHEDULES);
    let disk = SmallDisk { mount_point: "/var/lib/postgresql".into(), mebibytes: 700 };
    let specs =
        NAMES.map(|name| HostSpec { small_disk: (name == "b").then(|| disk.clone()), ..HostSpec::new(name, release) });
    let mut stage = Stage { lab: Scenario::of(specs.to_vec()), release };
    let mut failed = BTreeSet::new();
    for seed in first..first + n {
        let schedule = Schedule::of(seed, operations);
        stage.say(&schedule, format_args!("{schedule}"));
        for trouble in stage.play(&schedule) {
            stage.say(&schedule, format_args!("BROKEN {trouble}"));
            failed.insert(seed);
        }
        if seed + 1 < first + n {
            stage.lab.reset();
        }
    }
    println!("{n} schedules on {}, of which failed: {}", release.postgres_major(), failed.len());
    assert!(failed.is_empty(), "play again with PGSTEAD_SCHEDULES=1 PGSTEAD_SCHEDULE_SEED= and one of {failed:?}");
}

#[test]
fn random_schedules_on_15() {
    play(Release::Bookworm, 1_000, BOOTSTRAPS);
}

#[test]
fn random_schedules_on_17() {
    play(Release::Trixie, 2_000, BOOTSTRAPS);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn random_switchovers_on_15() {
    play(Release::Bookworm, 3_000, SWITCHOVERS);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn random_switchovers_on_17() {
    play(Release::Trixie, 4_000, SWITCHOVERS);
}

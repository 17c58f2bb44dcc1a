//! Random schedules: an operation, the faults that strike it, and the moments, all of them made of one number.
//!
//! Every schedule prints its number. `PGSTEAD_SCHEDULE_SEED=N PGSTEAD_SCHEDULES=1` plays it again; without these, the same
//! schedules are played each time. `make soak` plays many, and others each day.

mod bootstrap;
mod deaths;
mod failover;
mod life;
mod operator;
mod rings;
mod strikes;
mod switchover;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::Release;
use pgstead::lab::hosts::SmallDisk;

use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::chain;
use crate::scenario::until;
use crate::schedules::strikes::Strike;

/// The servers. a is the primary in the beginning.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// What has the data of a server, where that is a disk of its own.
const DISK: &str = "/var/lib/postgresql";

/// Everything that a number says of one kind of operation.
trait Schedule: fmt::Display {
    /// What the number says.
    fn of(seed: u64) -> Self;

    /// Hosts on which such schedules are played, one after the other.
    fn hosts(release: Release) -> Vec<HostSpec>;

    /// Plays it, on hosts that are as they first booted, and returns what is broken afterwards.
    fn play(&self, stage: &mut Stage) -> Vec<String>;
}

/// Servers of which these have a disk that can be filled.
fn servers(release: Release, with_disk: &[&str]) -> Vec<HostSpec> {
    let disk = SmallDisk { mount_point: DISK.into(), mebibytes: 700 };
    let spec = |name: &str| HostSpec {
        small_disk: with_disk.contains(&name).then(|| disk.clone()),
        ..HostSpec::new(name, release)
    };
    NAMES.into_iter().map(spec).collect()
}

/// The hosts that schedules are played on.
struct Stage {
    lab: Scenario,
    release: Release,
    seed: u64,
}

impl Stage {
    fn data(&self) -> String {
        format!("/var/lib/postgresql/{}/main", self.release.postgres_major())
    }

    fn unit(&self) -> String {
        format!("postgresql@{}-main.service", self.release.postgres_major())
    }

    /// Two versions may be at it side by side.
    fn say(&self, what: fmt::Arguments<'_>) {
        println!("{} on {}: {what}", self.seed, self.release.postgres_major());
    }

    /// Runs a command while faults strike it, until the last of them is mended, and returns what it said.
    fn under_fire(&self, command: &[&str], strikes: &[Strike]) -> Ran {
        let begun = Instant::now();
        let run = self.lab.start(command);
        let mut events: Vec<(Duration, &Strike, bool)> = Vec::new();
        for strike in strikes {
            events.push((strike.at, strike, true));
            events.push((strike.at + strike.lasts, strike, false));
        }
        events.sort_by_key(|(at, ..)| *at);
        for (at, strike, strikes) in events {
            until(begun + at, || false);
            let done = if strikes { self.strike(strike.fault, command, &run) } else { self.mend(strike.fault) };
            if let Err(error) = done {
                // Such as no postmaster to kill yet.
                let what = if strikes { "did not strike" } else { "was not mended in its time" };
                let why = chain(&error).lines().next().unwrap_or_default().to_owned();
                self.say(format_args!("{:?} {what}: {why}", strike.fault));
            }
        }
        for name in NAMES {
            // Where the power is gone, a boot makes the line whole.
            let _ = self.lab.host(name).unlimit();
        }
        run.end()
    }

    /// Limits the lines of b and c to so many Mbit/s.
    fn slow(&self, line: Option<u32>) {
        for (name, megabits) in ["b", "c"].into_iter().zip(line.into_iter().cycle()) {
            self.lab.host(name).limit_rate(megabits).unwrap();
        }
    }

    /// Gives a primary some megabytes of data.
    fn fill(&self) {
        const BULK: &str =
            "CREATE TABLE bulk AS SELECT i, repeat(md5(i::text), 8) AS text FROM generate_series(1, 20000) i";
        self.lab.sql("a", BULK);
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Plays so many schedules unless told otherwise.
fn play<S: Schedule>(release: Release, first_seed: u64, usual: u64) {
    let first = number("PGSTEAD_SCHEDULE_SEED").unwrap_or(first_seed);
    let n = number("PGSTEAD_SCHEDULES").unwrap_or(usual);
    let mut stage = Stage { lab: Scenario::of(S::hosts(release)), release, seed: first };
    let mut failed = BTreeSet::new();
    for seed in first..first + n {
        let schedule = S::of(seed);
        stage.seed = seed;
        stage.say(format_args!("{schedule}"));
        for trouble in schedule.play(&mut stage) {
            stage.say(format_args!("BROKEN {trouble}"));
            failed.insert(seed);
        }
        if seed + 1 < first + n {
            stage.lab.reset();
        }
    }
    println!("{n} schedules on {}, of which failed: {}", release.postgres_major(), failed.len());
    assert!(failed.is_empty(), "play again with PGSTEAD_SCHEDULES=1 PGSTEAD_SCHEDULE_SEED= and one of {failed:?}");
}

//! Random schedules of bootstraps: servers come to be, and change.

use std::fmt;
use std::time::Instant;

use fastrand::Rng;
use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::invariants::broken_among;
use crate::invariants::refusal_helps;
use crate::schedules;
use crate::schedules::NAMES;
use crate::schedules::Stage;
use crate::schedules::strikes::Strike;
use crate::traces::Recorders;

/// Whoever changes a parameter that needs a restart consents to it.
const RUN: &[&str] = &["bootstrap", "--yes", "--allow-restart", "--format", "json"];

/// How many schedules each version plays unless told otherwise.
const SCHEDULES: u64 = 4;

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
}

/// A schedule takes one; what is there twice comes twice as often.
const OPERATIONS: [Operation; 7] = [
    Operation::Everything,
    Operation::Standbys,
    Operation::Standbys,
    Operation::OneMore,
    Operation::OneMore,
    Operation::Restarts,
    Operation::Synchronous,
];

/// A bootstrap under fire.
struct Bootstrap {
    operation: Operation,
    /// Whether c follows b.
    is_cascade: bool,
    /// Mbit/s of the lines of b and c, where they are slow.
    line: Option<u32>,
    strikes: Vec<Strike>,
}

impl fmt::Display for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.operation)?;
        f.write_str(if self.is_cascade { ", c behind b" } else { "" })?;
        if let Some(megabits) = self.line {
            write!(f, ", {megabits} Mbit/s")?;
        }
        self.strikes.iter().try_for_each(|strike| strike.fmt(f))
    }
}

impl Bootstrap {
    /// Makes what the operation begins with, and leaves the inventory as the operation wants it.
    fn prepare(&self, stage: &mut Stage) {
        let lab = &mut stage.lab;
        let upstream = if self.is_cascade { "b" } else { "a" };
        lab.edit(|inventory| inventory["servers"]["c"]["upstream"] = json!(upstream));
        let whole = lab.inventory.clone();
        let absent: &[&str] = match self.operation {
            Operation::Everything => return,
            Operation::Standbys => &["b", "c"],
            Operation::OneMore => &["c"],
            Operation::Restarts | Operation::Synchronous => &[],
        };
        lab.edit(|inventory| {
            inventory["servers"].as_object_mut().unwrap().retain(|name, _| !absent.contains(&name.as_str()));
        });
        lab.bootstrap();
        stage.fill();
        stage.lab.edit(|inventory| {
            *inventory = whole;
            match self.operation {
                Operation::Restarts => inventory["postgres"]["parameters"]["max_connections"] = json!(120),
                Operation::Synchronous => {
                    // A commit waits only for those that stream from the primary itself.
                    let standbys: &[&str] = if self.is_cascade { &["b"] } else { &["b", "c"] };
                    inventory["replication"]["synchronous"] = json!({ "standbys": standbys });
                }
                _ => {}
            }
        });
    }
}

impl schedules::Schedule for Bootstrap {
    fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let operation = *rng.choice(&OPERATIONS).unwrap();
        let is_cascade = rng.bool();
        let line = rng.choice([None, Some(32), Some(64)]).unwrap();
        let strikes = (0..rng.usize(1..=3)).map(|_| Strike::of(&mut rng)).collect();
        Self { operation, is_cascade, line, strikes }
    }

    fn hosts(release: Release) -> Vec<HostSpec> {
        schedules::servers(release, &["b"])
    }

    fn play(&self, stage: &mut Stage) -> Vec<String> {
        let mut troubles = Vec::new();
        self.prepare(stage);
        let stage: &Stage = stage;
        let recorders = Recorders::begin(&stage.lab, Some("a"));
        stage.slow(self.line);
        let begun = Instant::now();
        let mut last = stage.under_fire(RUN, &self.strikes);
        stage.mend_all(&NAMES);
        let mut codes = vec![last.code];
        for _ in 0..RUNS_MAX {
            // A killed run says nothing.
            if ![0, -1].contains(&last.code) {
                troubles.extend(refusal_helps(&last));
            }
            last = stage.lab.pgstead(RUN);
            codes.push(last.code);
            if last.code == 0 {
                break;
            }
        }
        let traces = recorders.end();
        let settled = begun.elapsed().as_secs_f64();
        if last.code != 0 {
            troubles.push(format!("I5: {RUNS_MAX} runs did not finish it: {last}"));
        }
        troubles.extend(broken_among(&stage.lab, &traces, &last, &["a"]));
        let (rows, seconds) = (traces.acknowledged.len(), begun.elapsed().as_secs_f64());
        stage.say(format_args!(
            "exit codes {codes:?}, {rows} rows acknowledged, {settled:.1} s and {:.1} s",
            seconds - settled
        ));
        troubles
    }
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn random_schedules_on_15() {
    schedules::play::<Bootstrap>(Release::Bookworm, 1_000, SCHEDULES);
}

#[test]
fn random_schedules_on_17() {
    schedules::play::<Bootstrap>(Release::Trixie, 2_000, SCHEDULES);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn random_schedules_on_18() {
    schedules::play::<Bootstrap>(Release::Forky, 6_000, SCHEDULES);
}

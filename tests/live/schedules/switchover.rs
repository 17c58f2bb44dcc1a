//! Random schedules of switchovers: a hands over to b, and in the end a is the primary again.

use std::fmt;
use std::time::Instant;

use fastrand::Rng;
use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::invariants::broken_among;
use crate::invariants::refusal_helps;
use crate::scenario::Ran;
use crate::schedules;
use crate::schedules::NAMES;
use crate::schedules::Stage;
use crate::schedules::strikes::Strike;
use crate::traces::Recorders;

const TO_B: &[&str] = &["switchover", "--to", "b", "--yes", "--format", "json"];

/// How many schedules each version plays unless told otherwise.
const SCHEDULES: u64 = 10;

/// How often the same command may be needed until the work is done, once nothing strikes any more.
const RUNS_MAX: usize = 3;

/// A switchover under fire.
struct Switchover {
    /// Whether c follows b.
    is_cascade: bool,
    /// Mbit/s of the lines of b and c, where they are slow.
    line: Option<u32>,
    strikes: Vec<Strike>,
}

impl fmt::Display for Switchover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Switchover{}", if self.is_cascade { ", c behind b" } else { "" })?;
        if let Some(megabits) = self.line {
            write!(f, ", {megabits} Mbit/s")?;
        }
        self.strikes.iter().try_for_each(|strike| strike.fmt(f))
    }
}

impl Switchover {
    fn prepare(&self, stage: &mut Stage) {
        let upstream = if self.is_cascade { "b" } else { "a" };
        stage.lab.edit(|inventory| inventory["servers"]["c"]["upstream"] = json!(upstream));
        stage.lab.bootstrap();
        stage.fill();
    }

    /// Ends a switchover that was struck, and makes a the primary again: one that cannot go on is taken back, what died is
    /// started, and then everything is as the inventory says.
    fn back(&self, stage: &Stage, mut last: Ran, codes: &mut Vec<i32>) -> Ran {
        let mut also = |words: &[&str]| {
            let ran = stage.lab.pgstead(&[words, &["--yes", "--format", "json"]].concat());
            codes.push(ran.code);
            ran
        };
        if last.code != 0 {
            also(&["switchover", "--abort"]);
        }
        // A primary that was killed is started by this, and a standby too.
        also(&["bootstrap"]);
        if stage
            .lab
            .host("b")
            .psql(stage.lab.port, "postgres", "SELECT pg_is_in_recovery()")
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
}

impl schedules::Schedule for Switchover {
    fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let is_cascade = rng.bool();
        let line = rng.choice([None, Some(32), Some(64)]).unwrap();
        let strikes = (0..rng.usize(1..=3)).map(|_| Strike::of(&mut rng)).collect();
        Self { is_cascade, line, strikes }
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
        let mut last = stage.under_fire(TO_B, &self.strikes);
        stage.mend_all(&NAMES);
        let mut codes = vec![last.code];
        for _ in 0..RUNS_MAX {
            // A killed run says nothing.
            if ![0, -1].contains(&last.code) {
                troubles.extend(refusal_helps(&last));
            }
            last = stage.lab.pgstead(TO_B);
            codes.push(last.code);
            if last.code == 0 {
                break;
            }
        }
        last = self.back(stage, last, &mut codes);
        let traces = recorders.end();
        let settled = begun.elapsed().as_secs_f64();
        if last.code != 0 {
            troubles.push(format!("I5: it was neither finished nor taken back: {last}"));
        }
        troubles.extend(broken_among(&stage.lab, &traces, &last, &["a", "b"]));
        let (rows, seconds) = (traces.acknowledged.len(), begun.elapsed().as_secs_f64());
        stage.say(format_args!(
            "exit codes {codes:?}, {rows} rows acknowledged, {settled:.1} s and {:.1} s",
            seconds - settled
        ));
        troubles
    }
}

#[test]
#[ignore = "takes minutes: make soak"]
fn random_switchovers_on_15() {
    schedules::play::<Switchover>(Release::Bookworm, 3_000, SCHEDULES);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn random_switchovers_on_17() {
    schedules::play::<Switchover>(Release::Trixie, 4_000, SCHEDULES);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn random_switchovers_on_18() {
    schedules::play::<Switchover>(Release::Forky, 7_000, SCHEDULES);
}

//! Random lives: one topology on which every command and every fault follow each other, wherever the primary is by then.
//!
//! After each round whoever commands does what the refusals say, until everything is as it should be; then it is judged.

mod events;
mod hints;
mod judge;
mod rounds;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Instant;

use fastrand::Rng;
use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::invariants;
use crate::schedules;
use crate::schedules::NAMES;
use crate::schedules::Stage;
use crate::schedules::failover::CLIENT;
use crate::schedules::failover::IMPATIENT;
use crate::schedules::failover::LEDGER;
use crate::schedules::life::events::Event;
use crate::schedules::life::rounds::Play;
use crate::schedules::operator::Told;
use crate::switchover::Writer;
use crate::switchover::with_clients;
use crate::traces::Recorders;

/// How many schedules each version plays unless told otherwise.
const SCHEDULES: u64 = 1;

/// How many rounds one has, unless `PGSTEAD_ROUNDS` says otherwise; and where nobody asked for certain ones.
const ROUNDS: u64 = 15;
const USUAL_ROUNDS: u64 = 4;

struct Life {
    seed: u64,
    /// Whether c follows b, while neither is the primary.
    is_cascade: bool,
    rounds: Vec<Event>,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Life of {} rounds{}", self.rounds.len(), if self.is_cascade { ", c behind b" } else { "" })
    }
}

impl schedules::Schedule for Life {
    fn of(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let is_cascade = rng.bool();
        // The first rounds are the same, however many there are.
        let usual = if schedules::number("PGSTEAD_SCHEDULES").is_some() { ROUNDS } else { USUAL_ROUNDS };
        let n = schedules::number("PGSTEAD_ROUNDS").unwrap_or(usual);
        Self { seed, is_cascade, rounds: (0..n).map(|_| Event::of(rng)).collect() }
    }

    fn hosts(release: Release) -> Vec<HostSpec> {
        NAMES.into_iter().chain([CLIENT]).map(|name| HostSpec::new(name, release)).collect()
    }

    fn play(&self, stage: &mut Stage) -> Vec<String> {
        self.prepare(stage);
        let recorders = Recorders::of(&stage.lab, NAMES.map(|name| stage.lab.host(name)));
        let writer = Writer::start(&stage.lab, CLIENT);
        let mut play = Play::new(stage, self.seed);
        let mut lost = BTreeSet::new();
        for (index, event) in self.rounds.iter().enumerate() {
            let begun = Instant::now();
            play.stage.say(format_args!("round {}, {} is the primary: {event}", index + 1, play.primary));
            play.round(event);
            let mut troubles = std::mem::take(&mut play.troubles);
            if troubles.iter().any(|trouble| trouble.starts_with("I5: it does not settle")) {
                let _ = (writer.end(), recorders.end());
                return troubles;
            }
            if let Some(errors) = writer.stalls() {
                troubles.push(format!("nobody can write any more: {errors}"));
            }
            troubles.extend(judge::settled(&play.stage.lab));
            troubles.extend(judge::one_writer(recorders.so_far(), &play.excused));
            let told = if play.told.is_empty() { vec![Told::Nothing] } else { play.told.clone() };
            let acknowledged = writer.so_far().acknowledged;
            troubles.extend(judge::rows(&play.stage.lab, play.primary, &acknowledged, &told, &mut lost));
            play.stage.say(format_args!(
                "round {} took {:.1} s; told {:?}; {} of {} acknowledged rows are lost by now",
                index + 1,
                begun.elapsed().as_secs_f64(),
                play.told,
                lost.len(),
                acknowledged.len(),
            ));
            if !troubles.is_empty() {
                // What comes after it would be judged by what it left.
                let _ = (writer.end(), recorders.end());
                return troubles.into_iter().map(|trouble| format!("round {}: {trouble}", index + 1)).collect();
            }
        }
        let written = writer.end();
        let excused = std::mem::take(&mut play.excused);
        let mut troubles = judge::one_writer(recorders.end(), &excused);
        troubles.extend(invariants::secrets(&stage.lab));
        stage.say(format_args!("{} rows, longest gap {} ms", written.acknowledged.len(), written.longest_gap_ms));
        troubles
    }
}

impl Life {
    fn prepare(&self, stage: &mut Stage) {
        let upstream = if self.is_cascade { "b" } else { "a" };
        stage.lab.edit(|inventory| {
            inventory["servers"].as_object_mut().unwrap().remove(CLIENT);
            inventory["servers"]["c"]["upstream"] = json!(upstream);
        });
        with_clients(&mut stage.lab);
        stage.lab.host("a").psql(stage.lab.port, "app", LEDGER).unwrap();
        stage.lab.run(CLIENT, &["sh", "-c", IMPATIENT]);
    }
}

#[test]
fn life_on_15() {
    schedules::play::<Life>(Release::Bookworm, 8_000, SCHEDULES);
}

#[test]
fn life_on_17() {
    schedules::play::<Life>(Release::Trixie, 8_100, SCHEDULES);
}

#[test]
fn life_on_18() {
    schedules::play::<Life>(Release::Forky, 8_206, SCHEDULES);
}

#[test]
fn another_life_on_18() {
    schedules::play::<Life>(Release::Forky, 8_306, SCHEDULES);
}

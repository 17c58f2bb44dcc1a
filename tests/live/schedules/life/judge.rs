//! What must hold after every round.

use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use crate::invariants;
use crate::scenario::Scenario;
use crate::scenario::until;
use crate::schedules::NAMES;
use crate::schedules::operator::Told;
use crate::schedules::operator::beyond_told;
use crate::schedules::operator::holes;
use crate::switchover::SOON;
use crate::traces::Traces;

/// A line that was cut is noticed by whoever waits at its other end; then everything must be well.
const HEALTHY_AGAIN: Duration = Duration::from_secs(60);

/// A time in which somebody made a second primary by hand, past pgstead.
#[derive(Debug)]
pub(super) struct Excused {
    pub(super) server: &'static str,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// Everything is as it should be, whoever is the primary.
pub(super) fn settled(lab: &Scenario) -> Vec<String> {
    let mut broken = Vec::new();
    let mut check = None;
    until(Instant::now() + HEALTHY_AGAIN, || {
        let ran = lab.pgstead(&["check", "--format", "json"]);
        let verdict = serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap_or_default()["verdict"].clone();
        let is_healthy = ran.code == 0 && verdict == "healthy";
        check = Some(ran);
        is_healthy
    });
    let check = check.unwrap();
    if check.code != 0 {
        broken.push(format!("check is not healthy: {check}"));
    }
    let plan = lab.pgstead(&["plan", "--exit-code"]);
    if plan.code != 0 {
        broken.push(format!("the plan is not empty: {plan}"));
    }
    broken.extend(invariants::again(lab));
    broken.extend(invariants::incomplete_runs(lab));
    broken.extend(invariants::works_or_says_why(lab, &check));
    broken.extend(invariants::effective(lab));
    broken.extend(invariants::leaked(lab));
    broken
}

/// I1, but for what a person made on purpose.
pub(super) fn one_writer(mut traces: Traces, excused: &[Excused]) -> Vec<String> {
    for (host, samples) in &mut traces.samples {
        let is_excused =
            |at: u64| excused.iter().any(|time| time.server == host && (time.from..=time.to).contains(&at));
        samples.retain(|sample| !is_excused(sample.at));
    }
    let few = traces.samples.iter().filter(|(_, samples)| samples.len() < 3);
    let few: Vec<String> = few.map(|(host, _)| format!("I1: nothing is known of {host}")).collect();
    [invariants::never_two(&traces), few].concat()
}

/// I2: every acknowledged row is on every server, but for those that were lost before, and for as many as were told.
pub(super) fn rows(
    lab: &Scenario,
    primary: &str,
    acknowledged: &[u64],
    told: &[Told],
    lost: &mut BTreeSet<u64>,
) -> Vec<String> {
    let standing: Vec<u64> = acknowledged.iter().copied().filter(|id| !lost.contains(id)).collect();
    let missing_on = |name: &str| -> Vec<u64> {
        let asked = lab.host(name).psql(lab.port, "app", "SELECT string_agg(id::text, ' ') FROM ledger");
        let there: BTreeSet<u64> = asked.unwrap_or_default().split(' ').filter_map(|id| id.parse().ok()).collect();
        standing.iter().copied().filter(|id| !there.contains(id)).collect()
    };
    let missing = missing_on(primary);
    let mut broken = Vec::new();
    for name in NAMES.into_iter().filter(|name| *name != primary) {
        let mut of_standby = Vec::new();
        until(Instant::now() + SOON, || {
            of_standby = missing_on(name);
            of_standby == missing
        });
        if of_standby != missing {
            broken.push(format!("I2: {name} lacks {} rows, and {primary} {}", of_standby.len(), missing.len()));
        }
    }
    broken.extend(beyond_told(&missing, told));
    broken.extend(holes(&standing, &missing));
    lost.extend(missing);
    broken
}

#[test]
fn two_writers_are_heard_unless_a_person_made_them() {
    use crate::traces::Sample;
    let samples = |at: &[u64]| at.iter().map(|at| Sample { at: *at, writable: true }).collect::<Vec<_>>();
    let traces = || Traces {
        samples: vec![("a".to_owned(), samples(&[1, 2, 3, 9])), ("b".to_owned(), samples(&[2, 3, 4, 20, 21, 22]))],
        acknowledged: Vec::new(),
    };
    assert_eq!(one_writer(traces(), &[]).len(), 1);
    assert_eq!(one_writer(traces(), &[Excused { server: "b", from: 2, to: 3 }]).len(), 1);
    assert!(one_writer(traces(), &[Excused { server: "b", from: 2, to: 19 }]).is_empty());
    assert_eq!(one_writer(traces(), &[Excused { server: "b", from: 0, to: 99 }]).len(), 1);
}

//! The `bootstrap` row of the fault tables (hazards.md, section 5), cell by cell.

use std::time::Instant;

use pgstead::lab::hosts::Release;
use serde_json::Value;

use crate::depth;
use crate::invariants::invariants;
use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::traces::Recorders;

pub(crate) const BOOTSTRAP: &[&str] = &["bootstrap", "--yes", "--format", "json"];

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn pgstead_is_killed_at_every_step_on_15() {
    killed_at_every_step(Release::Bookworm);
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn pgstead_is_killed_at_every_step_on_17() {
    killed_at_every_step(Release::Trixie);
}

#[test]
fn pgstead_is_killed_at_every_step_on_18() {
    killed_at_every_step(Release::Forky);
}

/// Every step of a whole bootstrap is a crash point once before and once after; then the same command finishes the work.
fn killed_at_every_step(release: Release) {
    let mut lab = Scenario::boot(release, &["a", "b", "c"]);
    let plan = lab.pgstead(&["plan", "--format", "json"]).expect(0).json();
    let mut left = depth::one_in(3, crash_points(&plan, &["locked", "unlocking", "unlocked"]));
    let (n_points, begun, mut n_runs) = (left.len(), Instant::now(), 0);
    // Steps that run side by side are done when one of them is the last thing that a run does: another round for them.
    for round in 1..=6 {
        if left.is_empty() {
            break;
        }
        if round > 1 {
            lab.reset();
        }
        let recorders = Recorders::begin(&lab, Some("a"));
        let last = until_it_comes_through(&lab, BOOTSTRAP, &mut left, |_| n_runs += 1).expect(0);
        n_runs += 1;
        let traces = recorders.end();
        invariants(&lab, &traces, &last);
    }
    println!("{n_points} crash points in {n_runs} runs, {:.1} s", begun.elapsed().as_secs_f64());
    assert_eq!(left, Vec::<String>::new(), "crash points that no run came to");
}

/// The moments of a run that have names of their own, and those before and after every step of its plan.
pub(crate) fn crash_points(plan: &Value, named: &[&str]) -> Vec<String> {
    let mut points: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
    for step in plan["steps"].as_array().unwrap() {
        let (server, title) = (step["server"].as_str().unwrap_or("all"), step["title"].as_str().unwrap());
        points.extend(["before", "after"].map(|when| format!("{when}:{server}: {title}")));
    }
    points
}

/// Runs a command that kills itself at each of these moments, one run for each, and returns the run that came through. The moments to
/// which no run came are left. `killed` looks at what each of the others left behind.
pub(crate) fn until_it_comes_through(
    lab: &Scenario,
    args: &[&str],
    left: &mut Vec<String>,
    mut killed: impl FnMut(&str),
) -> Ran {
    loop {
        let (ran, struck) = crashing_with(lab, args, &left.join("\n"));
        let Some(point) = struck else { return ran };
        assert_eq!(ran.code, -1, "{point} did not end it: {ran}");
        left.retain(|moment| *moment != point);
        killed(&point);
    }
}

/// Runs a bootstrap that kills itself at the first of these moments, and says which one it was.
pub(crate) fn crashing(lab: &Scenario, moments: &str) -> (Ran, Option<String>) {
    crashing_with(lab, BOOTSTRAP, moments)
}

/// The same of any command.
pub(crate) fn crashing_with(lab: &Scenario, args: &[&str], moments: &str) -> (Ran, Option<String>) {
    let log = lab.path().with_file_name("crashed");
    let _ = std::fs::remove_file(&log);
    let mut command = lab.command(args);
    command.env("PGSTEAD_CRASH", moments).env("PGSTEAD_CRASH_LOG", &log);
    (lab.spawn(command).end(), std::fs::read_to_string(&log).ok().map(|text| text.trim().to_owned()))
}

/// What a primary writes while it is shut down for a handover does not arrive on another server: its way there ends just before. The
/// step that shuts it down does that itself, since it asks what time it is before it sends its signal: whoever is asked from outside
/// is asked too late, and whoever looks out for the step may be.
pub(crate) fn cut_off_when_it_stops(lab: &Scenario, primary: &str, from: &str) {
    const SCRIPT: &str = "#!/bin/sh\n! grep -q demoted /var/lib/pgstead/*/*/role || ip route add blackhole \"$(cat /run/cut-off-from)\" 2>/dev/null\n\
        exec \"$0.true\" \"$@\"\n";
    let host = lab.host(primary);
    host.write_file("/run/cut-off-from", lab.host(from).address().to_string().as_bytes()).unwrap();
    host.replace_program(CLOCK, SCRIPT).unwrap();
}

/// Undoes [`cut_off_when_it_stops`], and demands that it has come about.
pub(crate) fn no_longer_cut_off(lab: &Scenario, primary: &str, from: &str) {
    lab.host(primary).restore_program(CLOCK).unwrap();
    lab.run(primary, &["ip", "route", "del", "blackhole", &lab.host(from).address().to_string()]);
}

/// What a shell asks for the time.
const CLOCK: &str = "/usr/bin/date";

/// Returns the file of a table whose pages stay as they are on every disk from now on, so that damage to one lasts: nobody changes
/// them, as autovacuum and the first reader would, and neither a buffer nor a whole page in the WAL is written over the damage.
pub(crate) fn at_rest(lab: &Scenario, primary: &str, standbys: &[&str], table: &str) -> String {
    lab.sql(primary, &format!("ALTER TABLE {table} SET (autovacuum_enabled = off)"));
    lab.sql(primary, &format!("SELECT count(*) FROM {table}"));
    lab.sql(primary, "CHECKPOINT");
    let position = lab.sql(primary, "SELECT pg_current_wal_lsn()");
    for standby in standbys {
        lab.eventually(standby, &format!("SELECT pg_last_wal_replay_lsn() >= '{position}'"), "t");
        lab.sql(standby, "CHECKPOINT");
    }
    lab.sql(primary, &format!("SELECT pg_relation_filepath('{table}')")).trim().to_owned()
}

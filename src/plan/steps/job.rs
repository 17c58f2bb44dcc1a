//! Detached jobs: the commands that start, await and clear one, and what becomes of one that an earlier run began.
//!
//! A job outlives the connection, and whatever it makes stands in its record before it makes it (hazards 17, 21).

use crate::model::argv::{Argv, RunAs};
use crate::model::job::{Job, JobKind, JobState, SEED};
use crate::model::layout::LayoutKind;
use crate::model::topology::Topology;
use crate::plan::seen::Seen;
use crate::plan::{files, scripts};

/// What stands for "none" among the arguments of the scripts.
const NONE: &str = "-";

/// A job to start.
#[derive(Debug)]
pub struct NewJob<'a> {
    /// The run that starts it.
    pub run: &'a str,
    /// The directories it makes, the data directory to be first.
    pub seeds: &'a [String],
    /// The server that it copies from.
    pub upstream: Option<&'a str>,
    /// How it makes them.
    pub kind: JobKind,
    /// The program that checks the first seed afterwards.
    pub verifier: Option<String>,
    /// The command itself, as the instance's OS user.
    pub command: Argv,
}

/// What becomes of the job that an earlier run left on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier<'a> {
    /// There is none.
    None,
    /// What it makes, or made, is what is wanted: it is awaited and its work is used.
    Adopt(&'a Job),
    /// It is ended whole and cleared away.
    Clear(&'a Job),
}

/// Says what becomes of an earlier job where a data directory is to be made: with the upstream that it would have now,
/// and whether everything that a copy needs afterwards is still there. A rewound copy is as good as one made anew.
pub fn earlier<'a>(seen: Seen<'a>, upstream: Option<&str>, is_usable: bool) -> Earlier<'a> {
    let Some(job) = seen.seen.jobs.iter().find(|job| job.name == SEED) else { return Earlier::None };
    let fits = job.upstream.as_ref().map(|name| name.as_str()) == upstream
        && job.seed() == Some(&seen.layout.seed_directory(&job.run))
        && matches!(job.state, JobState::Running | JobState::Ended(0));
    // A new instance is made in a second; one that is half made is not waited for.
    let is_ripe = upstream.is_some() || job.state == JobState::Ended(0);
    if fits && is_usable && is_ripe { Earlier::Adopt(job) } else { Earlier::Clear(job) }
}

/// Returns the transient unit of a server's seed job, where a service manager runs jobs. Several topologies may share a
/// machine.
pub fn unit(topology: &Topology, seen: Seen<'_>) -> Option<String> {
    (seen.layout.kind != LayoutKind::Plain)
        .then(|| ["pgstead-seed-", topology.name().as_str(), "-", seen.server.name.as_str()].concat())
}

/// Returns the commands that start a job and wait for its end.
pub fn run(topology: &Topology, seen: Seen<'_>, job: NewJob<'_>) -> Vec<Argv> {
    let unit = unit(topology, seen);
    let mut start = Argv::new(identity(seen), "sh").args(["-c", &scripts::START_JOB, "pgstead-start-job"]).args([
        directory(seen),
        seen.layout.os_user.clone(),
        unit.clone().unwrap_or_else(|| NONE.to_owned()),
        job.verifier.unwrap_or_else(|| NONE.to_owned()),
    ]);
    start = start.args(["run", job.run]);
    for seed in job.seeds {
        start = start.args(["seed", seed]);
    }
    if let Some(upstream) = job.upstream {
        start = start.args(["upstream", upstream]);
    }
    if job.kind != JobKind::New {
        start = start.args(["kind", job.kind.word()]);
    }
    start = start.arg("--").arg(job.command.program).args(job.command.args);
    vec![start, wait(topology, seen)]
}

/// Returns the command that waits until a job has ended, and ends as it did.
pub fn wait(topology: &Topology, seen: Seen<'_>) -> Argv {
    let unit = unit(topology, seen).unwrap_or_else(|| NONE.to_owned());
    Argv::new(identity(seen), "sh").args(["-c", scripts::WAIT_JOB, "pgstead-wait-job"]).args([directory(seen), unit])
}

/// Returns the command that says how far a rewind is whose copy is `seed`: phase, bytes done and bytes in all between tabs.
pub fn progress(seen: Seen<'_>, seed: &str) -> Argv {
    Argv::new(identity(seen), "sh").args(["-c", scripts::REWIND_PROGRESS, "pgstead-rewind-progress"]).args([
        directory(seen).as_str(),
        seen.layout.place(),
        seed,
    ])
}

/// Returns the command that ends a job whole, with its processes and what it did not finish. One that is not there is fine.
pub fn clear(topology: &Topology, seen: Seen<'_>) -> Argv {
    let unit = unit(topology, seen).unwrap_or_else(|| NONE.to_owned());
    Argv::new(identity(seen), "sh").args(["-c", scripts::CLEAR_JOB, "pgstead-clear-job"]).args([
        directory(seen),
        unit,
        seen.layout.place().to_owned(),
        seen.server.name.to_string(),
        seen.layout.os_user.clone(),
    ])
}

/// Who keeps jobs: root where a service manager runs them, and the owner of the instance elsewhere.
fn identity(seen: Seen<'_>) -> RunAs {
    match seen.layout.kind {
        LayoutKind::Plain => RunAs::User(seen.layout.os_user.clone()),
        _ => files::administrator(seen.seen),
    }
}

fn directory(seen: Seen<'_>) -> String {
    seen.layout.own(&["jobs/", SEED].concat())
}

//! Crash points for the fault tests: this very process kills or freezes itself at a named moment of a run.
//!
//! Debug builds alone have it. `PGSTEAD_CRASH` lists moments, one a line; the first that is reached strikes, and is
//! noted in the file `PGSTEAD_CRASH_LOG` before. SIGKILL it is: nothing is tidied up, as when a laptop loses power. Behind
//! `freeze:` it is SIGSTOP, as when a laptop is closed, until somebody sends SIGCONT.

use std::io::Write;

use crate::apply::executor::{End, Leave, Work};
use crate::plan::{Step, StepId};

const MOMENTS: &str = "PGSTEAD_CRASH";
const LOG: &str = "PGSTEAD_CRASH_LOG";
/// What stands before a moment at which it freezes, and does not end.
const FREEZE: &str = "freeze:";

/// The moment when all locks are taken and no step is begun.
pub(super) const LOCKED: &str = "locked";
/// The moment when all steps are ended and the locks still stand.
pub(super) const UNLOCKING: &str = "unlocking";
/// The moment when the locks are given back and the journal does not know it.
pub(super) const UNLOCKED: &str = "unlocked";

/// The moment when the former primary has shut down and its successor is not promoted.
pub(super) const STOPPED: &str = "stopped";
/// The moment when the former primary is about to be made the primary again.
pub(super) const UNDOING: &str = "undoing";
/// The moment when the successor accepts writes and nobody has written that down.
pub(super) const PROMOTED: &str = "promoted";

/// Lets a run crash before and after its steps.
#[derive(Debug)]
pub(super) struct Crashing<W>(pub(super) W);

impl<W: Work> Work for Crashing<W> {
    async fn work(&self, id: StepId, step: &Step, leave: Leave) -> End {
        at_step("before", id, step);
        let end = self.0.work(id, step, leave).await;
        at_step("after", id, step);
        end
    }
}

/// A step goes by its number, or by its server and title.
fn at_step(when: &str, id: StepId, step: &Step) {
    let server = step.server.as_ref().map_or("all", |name| name.as_str());
    at(&[when, ":", &id.0.to_string()].concat());
    at(&[when, ":", server, ": ", &step.title].concat());
}

/// Ends or freezes this process where that was wished at `moment`.
pub(super) fn at(moment: &str) {
    let wished = std::env::var(MOMENTS).unwrap_or_default();
    let is_wished = |word: &str| wished.lines().any(|line| line.strip_prefix(word) == Some(moment));
    let signal = match (is_wished(""), is_wished(FREEZE)) {
        (true, _) => rustix::process::Signal::KILL,
        (false, true) => rustix::process::Signal::STOP,
        (false, false) => return,
    };
    if let Some(path) = std::env::var_os(LOG)
        && let Ok(mut file) = std::fs::File::options().create(true).append(true).open(path)
    {
        // Should it not be written, the test that reads it fails.
        let _ = writeln!(file, "{moment}");
    }
    let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
}

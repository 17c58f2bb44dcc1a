//! A server leaves: what it does itself, and what makes the others forget it. That comes last of all in a plan, and the lists of
//! peers last of that: by them a later run knows whom an interrupted one was about to forget.

use crate::model::name::ServerName;
use crate::model::topology::Topology;
use crate::plan::files::decided::Decided;
use crate::plan::files::{Entry, guard};
use crate::plan::seen::Seen;
use crate::plan::step::Step;
use crate::plan::steps::slots;
use crate::plan::survey::removed::Removed;
use crate::plan::{PlanBuilder, StepId, files};

/// The server that an operator removes.
#[derive(Debug)]
pub struct Leaving<'a> {
    /// Its name.
    pub server: &'a ServerName,
    /// What happens on the server itself.
    pub steps: Vec<Step>,
}

/// Returns what is installed last: the list of peers without those who leave, where it has one of them.
pub(in crate::plan) fn last_files(topology: &Topology, seen: Seen<'_>, now: &[Entry], removed: &Removed) -> Vec<Entry> {
    if !guard::listed_peers(seen).any(|name| removed.names.contains(&name) && !removed.stay.contains(&name)) {
        return Vec::new();
    }
    let peers = guard::peers_with(topology, seen, |name| removed.stay.contains(name));
    let then: Vec<Entry> =
        now.iter().map(|entry| if entry.path() == peers.path() { &peers } else { entry }).cloned().collect();
    let manifest = seen.layout.own("manifest");
    let mut changes = files::compare(&seen.server.name, seen.seen, seen.layout, &then).changes;
    changes.retain(|entry| entry.path() == peers.path() || entry.path() == manifest);
    changes
}

/// Adds the steps by which the others forget who leaves, behind all others.
pub(in crate::plan) fn steps(
    plan: &mut PlanBuilder,
    leaving: Option<&Leaving<'_>>,
    removed: &Removed,
    others: &[&Decided<'_>],
) {
    let mut before: Vec<StepId> = plan.last();
    for step in leaving.into_iter().flat_map(|leaving| &leaving.steps) {
        before = vec![plan.add(step.clone(), before)];
    }
    let mut forgotten = Vec::new();
    for other in others {
        for name in removed.names.iter().filter(|name| !removed.stay.contains(name)) {
            let step = match leaving {
                Some(leaving) if leaving.server == name => slots::expel(other.seen, name),
                _ => slots::forget(other.seen, name),
            };
            forgotten.extend(step.map(|step| plan.add(step, before.iter().copied())));
        }
    }
    if !forgotten.is_empty() {
        before = forgotten;
    }
    for other in others.iter().filter(|other| !other.last.is_empty()) {
        let Seen { server, seen, layout, .. } = other.seen;
        let title = "forget who left: install peers";
        plan.add(files::install(&server.name, seen, layout, title, &other.last, None), before.iter().copied());
    }
}

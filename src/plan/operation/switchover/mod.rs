//! The plan of `switchover`: a standby becomes the primary, and the primary a standby, with nothing lost.
//!
//! In the safe order of hazards.md, section 3.13: slots and checkpoints, the former primary's role, its shutdown, the shutdown
//! checkpoint on its successor, and only then the promotion. Whatever interrupts that, the same command goes on from where
//! things are, and until the promotion `--abort` takes it back (docs/adr/0012-a-handover-is-one-step.md). Reads no clock.

mod abort;
mod poolers;
pub(super) mod stage;
pub(super) mod steps;

use std::borrow::Cow;

use crate::diagnostic::{Code, Diagnostic};
use crate::judge;
use crate::judge::State;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::topology::Topology;
use crate::model::wal::WalQuestion;
use crate::plan::operation::bootstrap::plan_bootstrap;
use crate::plan::seen::Seen;
use crate::plan::step::Step;
use crate::plan::steps::slots;
use crate::plan::survey::{Survey, Unsaid, history, survey, survey_of};
use crate::plan::{Consent, Material, Plan};
use stage::Stage;

pub use abort::plan_abort;

/// A change of the primary that may be made, or that there is nothing left to do for.
#[derive(Debug, Clone, PartialEq)]
pub struct Switchover {
    /// The primary until now, where that is known.
    pub from: Option<ServerName>,
    /// The primary from then on.
    pub to: ServerName,
    /// The steps.
    pub plan: Plan,
}

/// The bootstrap that must have nothing left to do.
pub const OF_BOOTSTRAP: Consent = Consent { allow_restart: true, new_authority: false };

/// How many pending changes are named.
const CHANGES_SHOWN: usize = 3;

/// Returns the server that a switchover to a site makes the primary: a standby there, the nearest to the primary by links, and
/// of these the one that has replayed most.
///
/// # Errors
/// There is no such site, or no standby at it.
pub fn at_site<'a>(
    topology: &'a Topology,
    observation: &Observation,
    site: &str,
) -> Result<&'a ServerName, Box<Diagnostic>> {
    if !topology.common().sites.keys().any(|name| name.as_str() == site) {
        let sites: Vec<&str> = topology.common().sites.keys().map(|name| name.as_str()).collect();
        return Err(Box::new(
            Diagnostic::error(Code::SiteUnknown, format!("topology \"{}\" has no site \"{site}\"", topology.name()))
                .detail(format!("It has {}.", sites.join(", "))),
        ));
    }
    let state = State::of(topology, observation);
    let primary = judge::primary_or_preferred(topology, observation);
    let is_there = |name: &ServerName| topology.server(name).is_some_and(|server| server.site.as_str() == site);
    // It was switched over already, or was about to be.
    if is_there(primary) {
        return topology.server(primary).map(|server| &server.name).ok_or_else(|| Box::new(nobody_at(site)));
    }
    let replayed = |name: &ServerName| state.instance(name).and_then(|instance| instance.positions.replay);
    let links = topology.links(primary);
    let depth = |name: &ServerName| {
        let upstream = |name: &ServerName| links.iter().find(|link| link.standby == *name).map(|link| &link.upstream);
        std::iter::successors(upstream(name), |name| upstream(name)).count()
    };
    let here = topology.servers().map(|server| &server.name).filter(|name| is_there(name));
    here.min_by_key(|name| (depth(name), std::cmp::Reverse(replayed(name)))).ok_or_else(|| Box::new(nobody_at(site)))
}

fn nobody_at(site: &str) -> Diagnostic {
    Diagnostic::error(Code::SiteWithoutStandby, format!("no server stands at site \"{site}\""))
}

/// Returns the observation as the rest of a switchover has to see it: what was the primary, and was replaced, is a standby
/// that lacks its signal file still.
fn as_meant<'a>(observation: &'a Observation, stage: Stage<'_>) -> Cow<'a, Observation> {
    let Stage::Promoted { from: Some(from) } = stage else { return Cow::Borrowed(observation) };
    Cow::Owned(judge::as_standby(observation, from))
}

/// Returns what must be read of servers that follow nobody, before somebody is the primary that they may follow.
pub fn questions(topology: &Topology, observation: &Observation, to: &ServerName) -> Vec<WalQuestion> {
    match stage::stage(&State::of(topology, observation), to) {
        Ok(stage @ (Stage::Promoted { .. } | Stage::Whole { .. })) => {
            history::questions(topology, &as_meant(observation, stage))
        }
        _ => Vec::new(),
    }
}

/// Plans to make a server the primary.
///
/// # Errors
/// Every reason to refuse. Nothing was changed.
pub fn plan_switchover(
    topology: &Topology,
    observation: &Observation,
    material: &Material,
    to: &ServerName,
) -> Result<Switchover, Vec<Diagnostic>> {
    let state = State::of(topology, observation);
    let found = stage::stage(&state, to);
    let unseen = unseen(&state);
    let stage = match found {
        Ok(stage) if unseen.is_empty() => stage,
        Ok(_) => return Err(unseen),
        // That nobody is the primary may be due to a server that could not be looked at.
        Err(refusal) => return Err(std::iter::once(*refusal).chain(unseen).collect()),
    };
    if let Stage::Whole { is_demoted: false, .. } = stage {
        nothing_pending(topology, observation, material)?;
    }
    let meant = as_meant(observation, stage);
    // Whom the inventory prefers is no matter of a change that is asked for.
    let unsaid = Unsaid { preference: true, ..Unsaid::default() };
    let Survey { servers, mut refusals, mut notes, .. } = survey_of(topology, &meant, unsaid, |_| true);
    let links = topology.links(to);
    if let Stage::Promoted { .. } = stage {
        refusals.extend(history::refusals(topology, &meant, &servers, &links));
    }
    if refusals.is_empty() && servers.get(to).is_none_or(|seen| seen.data.is_none()) {
        let message = format!("server \"{to}\" has no data directory of this topology");
        refusals.push(Diagnostic::error(Code::NoData, message).server(to).hint("First: pgstead bootstrap"));
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let (observation, servers, links, opening) = (&*meant, &servers, links.as_slice(), Vec::new());
    let steps = steps::Steps { topology, observation, material, servers, links, stage, to, opening, departed: None };
    let steps::Listed { plan, notes: told } = steps.list()?;
    notes.extend(told);
    let from = match stage {
        Stage::Whole { from, .. } | Stage::Stopped { from } => Some(from),
        Stage::Promoted { from } => from,
    };
    let plan = Plan { topology: topology.name().clone(), steps: plan.finish(), settings: Vec::new(), notes };
    Ok(Switchover { from: from.cloned(), to: to.clone(), plan })
}

/// Every server must have been looked at: one that was not may be another primary.
fn unseen(state: &State<'_>) -> Vec<Diagnostic> {
    let unseen = state.servers().filter_map(|(name, server)| Some((name, server.unreached?)));
    unseen
        .map(|(name, why)| {
            Diagnostic::error(Code::Unreachable, format!("server \"{name}\" could not be observed"))
                .server(name)
                .detail(why)
                .hint("Nothing was begun. A planned change needs every server: an unreachable server might be a second primary.")
        })
        .collect()
}

/// A change of the primary carries no other change along.
fn nothing_pending(topology: &Topology, observation: &Observation, material: &Material) -> Result<(), Vec<Diagnostic>> {
    let mut plan = plan_bootstrap(topology, observation, material, OF_BOOTSTRAP)?;
    // Slots that an interrupted change has left are no other change: this one needs them, or drops them at its end.
    let servers = survey(topology, observation).servers;
    let drops = |seen: &Seen<'_>, step: &Step| topology.servers().any(|other| slots::drop(*seen, &other.name) == *step);
    plan.steps.retain(|planned| !servers.values().any(|seen| drops(seen, &planned.step)));
    if !plan.changes() {
        return Ok(());
    }
    let title = |planned: &crate::plan::PlannedStep| match &planned.step.server {
        Some(server) => format!("{server}: {}", planned.step.title),
        None => planned.step.title.clone(),
    };
    let mut titles: Vec<String> = plan.steps.iter().take(CHANGES_SHOWN).map(title).collect();
    if plan.steps.len() > CHANGES_SHOWN {
        titles.push(format!("and {} more", plan.steps.len() - CHANGES_SHOWN));
    }
    Err(vec![
        Diagnostic::error(Code::ChangesPending, "the servers are not as the inventory says")
            .detail(format!("A bootstrap would: {}.", titles.join("; ")))
            .hint("First: pgstead bootstrap. A change of the primary carries no other change along."),
    ])
}

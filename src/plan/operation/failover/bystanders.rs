//! The servers beside the two that a failover is about. What is doubtful about one of them never holds the failover back: it
//! stays as it is, follows nobody new, and its next command is named. Only the successor's state and the former primary's may
//! be in the way.
//!
//! Such a server is fenced against writing by what it is already: a standby that runs is in recovery, and the start guard of one
//! that does not run starts it as a standby or not at all (hazard 34). Who might be a primary is `place`'s business.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::judge::{Role, ServerState, State};
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::topology::{Link, Topology};
use crate::plan::operation::failover::{Request, place};
use crate::plan::survey::{Survey, Unsaid, history, survey_of};

/// Bystanders that stay as they are, with what is doubtful about each.
pub(super) type Left = BTreeMap<ServerName, Vec<Diagnostic>>;

/// What their data are no copy of: how far such a server has come says nothing.
const FOREIGN: &[Code] = &[
    Code::HistoryDiverged,
    Code::SystemIdentifierDiffers,
    Code::DataDirectoryNotOurs,
    Code::DataDirectoryOfAnotherServer,
    Code::SecondPrimary,
    Code::UnmanagedStandby,
];

/// What is left to plan with.
pub(super) struct Sorted<'a> {
    pub(super) survey: Survey<'a>,
    pub(super) links: Vec<Link>,
    /// What of the two that it is about, or of nobody in particular, is in the way.
    pub(super) refusals: Vec<Diagnostic>,
}

/// Sorts the servers until nothing is doubtful about those that are planned with. Where the histories are yet to be compared,
/// they are not judged.
pub(super) fn sort<'a>(
    state: &State<'a>,
    request: Request<'_>,
    from: Option<&ServerName>,
    left: &mut Left,
    are_compared: bool,
) -> Sorted<'a> {
    let State { topology, observation, .. } = *state;
    loop {
        let is_there =
            |name: &ServerName| observation.server(name).is_some() && Some(name) != from && !left.contains_key(name);
        // That none of them is the primary is why this is done.
        let unsaid = Unsaid { no_primary: true, preference: true, ..Unsaid::default() };
        let mut survey = survey_of(topology, observation, unsaid, is_there);
        let links = links(topology, request, from, left);
        let mut refusals = std::mem::take(&mut survey.refusals);
        let empty = survey.servers.iter().filter(|(name, seen)| seen.data.is_none() && *name != request.to);
        refusals.extend(empty.map(|(name, _)| {
            Diagnostic::error(Code::NoData, format!("server \"{name}\" has no data directory of this topology"))
                .server(name)
        }));
        let of_histories = history::refusals(topology, observation, &survey.servers, &links);
        let is_asked = |refusal: &Diagnostic| {
            are_compared || refusal.server.as_deref().is_some_and(|name| is_compared(observation, name))
        };
        refusals.extend(of_histories.into_iter().filter(is_asked));
        let is_unmarked = |server: ServerState<'_>| {
            matches!(server.role, Role::StoppedPrimary(_)) && !server.is_fenced() && !place::would_be_primary(server)
        };
        let unmarked = survey.servers.keys().filter(|name| is_unmarked(state.server(name)) && *name != request.to);
        refusals.extend(unmarked.map(|name| {
            Diagnostic::error(
                Code::StandbySignalMissing,
                format!("server \"{name}\" does not run, and has no standby.signal"),
            )
            .server(name)
        }));
        match leave(state, request, from, left, refusals) {
            Ok(()) => {}
            Err(refusals) => return Sorted { survey, links, refusals },
        }
    }
}

fn is_compared(observation: &Observation, name: &str) -> bool {
    observation.histories.keys().any(|joining| joining.as_str() == name)
}

/// Leaves the bystanders out of which something is doubtful.
///
/// # Errors
/// There is none. Returns what is in the way besides.
pub(super) fn leave(
    state: &State<'_>,
    request: Request<'_>,
    from: Option<&ServerName>,
    left: &mut Left,
    refusals: Vec<Diagnostic>,
) -> Result<(), Vec<Diagnostic>> {
    let before: BTreeSet<ServerName> = left.keys().cloned().collect();
    let bystander = |refusal: &Diagnostic| {
        let (name, server) = state.servers().find(|(name, _)| Some(name.as_str()) == refusal.server.as_deref())?;
        let is_primary = place::would_be_primary(server);
        (name != request.to && Some(name) != from && !is_primary && !before.contains(name)).then(|| name.clone())
    };
    let mut others = Vec::new();
    for refusal in refusals {
        match bystander(&refusal) {
            Some(name) => left.entry(name).or_default().push(refusal),
            None => others.push(refusal),
        }
    }
    if left.len() > before.len() { Ok(()) } else { Err(others) }
}

/// The links below the new primary; who followed one that is gone, or is left as it is, follows the new primary.
fn links(topology: &Topology, request: Request<'_>, from: Option<&ServerName>, left: &Left) -> Vec<Link> {
    let mut links = topology.links(request.to);
    for link in &mut links {
        let upstream = &link.upstream;
        if Some(upstream) == from || request.attested.contains(upstream) || left.contains_key(upstream) {
            link.upstream = request.to.clone();
        }
    }
    links
}

/// Returns those whose data are no copy of the successor's.
pub(super) fn foreign(left: &Left) -> BTreeSet<&ServerName> {
    let is_foreign = |refusals: &Vec<Diagnostic>| refusals.iter().any(|refusal| FOREIGN.contains(&refusal.code));
    left.iter().filter(|(_, refusals)| is_foreign(refusals)).map(|(name, _)| name).collect()
}

/// Says of each why it stays as it is, and what comes next.
pub(super) fn notes<'a>(left: &'a Left, to: &'a ServerName) -> impl Iterator<Item = Diagnostic> + 'a {
    left.iter().filter_map(move |(name, refusals)| {
        let first = refusals.first()?;
        let detail = [Some(first.message.as_str()), first.detail.as_deref()];
        let detail: Vec<&str> = detail.into_iter().flatten().map(|text| text.trim_end_matches('.')).collect();
        let next = match first.code {
            Code::HistoryDiverged | Code::AheadOfUpstream | Code::ServerFenced | Code::FormerPrimaryBack => {
                format!("When \"{to}\" is the primary, look what only \"{name}\" has: pgstead reseed {name} --dry-run")
            }
            Code::HistoryNotProvable
            | Code::DataDirectoryGone
            | Code::DataDirectoryDamaged
            | Code::NoData
            | Code::StandbySignalMissing => {
                format!("When \"{to}\" is the primary: pgstead reseed {name}")
            }
            _ => format!(
                "{} Then: pgstead bootstrap, or pgstead reseed {name}",
                first.hint.as_deref().unwrap_or_default()
            )
            .trim_start()
            .to_owned(),
        };
        let message = format!("server \"{name}\" stays as it is: it does not follow \"{to}\" yet");
        let told = Diagnostic::warning(Code::BystanderLeft, message).server(name);
        Some(Diagnostic { severity: Severity::Warning, ..told.detail([&detail.join(". "), "."].concat()).hint(next) })
    })
}

//! The plan of `reseed`: a server that fell behind, diverged, was damaged or lost comes back as a standby, by the cheapest
//! safe way.
//!
//! First the diagnosis with its evidence, then the ladder of ways with their costs, then the steps of the one that is
//! taken. Whatever a new data directory replaces is set aside by a rename, never changed: `pg_rewind` works on a copy too
//! (docs/adr/0011-a-rewind-works-on-a-copy.md). Nothing here reads a clock.

mod case;
mod diagnosis;
mod ladder;
pub mod room;
mod source;
mod steps;

use std::collections::BTreeSet;

use jiff::Timestamp;

pub use diagnosis::{Condition, Diagnosis, Divergence};
pub use ladder::{Cost, Rung};

use crate::diagnostic::{Code, Diagnostic};
use crate::model::method::{Method, Space};
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::topology::Topology;
use crate::model::wal::WalQuestion;
use crate::plan::adoption::elsewhere::Inquiry;
use crate::plan::adoption::{elsewhere, places};
use crate::plan::files::brought;
use crate::plan::steps::service;
use crate::plan::survey::{authority, password};
use crate::plan::{Material, Plan};

/// What the operator asks for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The server to bring back.
    pub server: &'a ServerName,
    /// The way that must be taken; none leaves the choice to the plan.
    pub method: Option<Method>,
    /// Where the room for new data comes from.
    pub space: Space,
    /// Whether writes that only this server has may be left out of its new data. They are set aside with the old ones.
    pub accept_divergence: bool,
    /// What the line from its upstream carries, in bytes a second, where it was measured.
    pub rate: Option<u64>,
    /// What a base backup may carry a second, in the words of `pg_basebackup --max-rate`.
    pub max_rate: Option<&'a str>,
    /// When it is planned; what is set aside is named after it.
    pub now: Timestamp,
}

/// A re-seed that may be done, or that there is nothing to do for.
#[derive(Debug, Clone, PartialEq)]
pub struct Reseed {
    /// What is wrong.
    pub diagnosis: Diagnosis,
    /// The ways to mend it.
    pub rungs: Vec<Rung>,
    /// The way that is taken; none where nothing is wrong.
    pub method: Option<Method>,
    /// The steps.
    pub plan: Plan,
    /// Where the old data directory goes, where it goes.
    pub set_aside: Option<String>,
}

/// Why a re-seed is refused, with what was found out before.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// What is wrong with the server, where that could be told.
    pub diagnosis: Option<Diagnosis>,
    /// The ways that were judged.
    pub rungs: Vec<Rung>,
    /// Every reason, at once.
    pub refusals: Vec<Diagnostic>,
}

/// Finds a server by the name that the operator gave.
///
/// # Errors
/// The topology has none of that name.
pub fn find<'a>(topology: &'a Topology, name: &str) -> Result<&'a ServerName, Box<Diagnostic>> {
    let server = topology.servers().map(|server| &server.name).find(|server| server.as_str() == name);
    server.ok_or_else(|| Box::new(case::unknown(topology, name)))
}

/// Returns what must be read of the server's WAL, and of its upstream's, before a re-seed can be planned.
pub fn questions(topology: &Topology, observation: &Observation, server: &ServerName) -> Vec<WalQuestion> {
    let bare = case::without(observation, server);
    let Ok(case) = case::case(topology, observation, &bare, server) else { return Vec::new() };
    diagnosis::question(&case).and_then(Result::ok).into_iter().collect()
}

/// Returns what must be looked at on the server: a copy comes with the primary's settings and tablespaces, and a tablespace of a data
/// directory that is gone is set aside by nobody.
pub fn inquiry(topology: &Topology, observation: &Observation, server: &ServerName) -> Option<Inquiry> {
    let bare = case::without(observation, server);
    let case = case::case(topology, observation, &bare, server).ok()?;
    elsewhere::inquiry(topology, &[case.bare, case.seen()], Some(case.primary))
}

/// Plans to bring a server back.
///
/// # Errors
/// Every reason to refuse, with the diagnosis where there is one. Nothing was changed.
pub fn plan_reseed(
    topology: &Topology,
    observation: &Observation,
    material: &Material,
    request: Request<'_>,
) -> Result<Reseed, Box<Refused>> {
    let bare = case::without(observation, request.server);
    let refuse = |diagnosis, rungs, refusals| Box::new(Refused { diagnosis, rungs, refusals });
    let case = case::case(topology, observation, &bare, request.server)
        .map_err(|refusals| refuse(None, Vec::new(), refusals))?;
    let diagnosis = diagnosis::diagnose(&case);
    let rungs = ladder::rungs(&case, &diagnosis, request);
    let mut refusals = Vec::new();
    let method = ladder::choose(&case, &rungs, request.method, &diagnosis);
    let name = &case.server.name;
    let of_method = method.and_then(|method| rungs.iter().find(|rung| rung.method == method));
    match (method, of_method.and_then(|rung| rung.refused.as_ref())) {
        (Some(method), Some(why)) => refusals.push(
            Diagnostic::error(Code::MethodRefused, format!("server \"{name}\" cannot be brought back by {method}"))
                .server(name)
                .detail(format!("It {}; {why}.", diagnosis.condition.words()))
                .hint(other_ways(&rungs)),
        ),
        (None, _) if diagnosis.condition != Condition::Streaming => refusals.push(
            Diagnostic::error(Code::NoMethod, format!("server \"{name}\" cannot be brought back as things are"))
                .server(name)
                .detail(reasons(&rungs))
                .hint(match (diagnosis.condition, request.space) {
                    (Condition::Diverged, Space::Keep) => "Make room, or see what --dry-run --space reuse would do: it rewinds the data directory itself, after which there is no old one.",
                    _ => "Free disk space, or fix the problems listed.",
                }),
        ),
        _ => {}
    }
    if method == Some(Method::Basebackup) && diagnosis.condition == Condition::Gone && request.method.is_none() {
        refusals.push(
            Diagnostic::error(
                Code::DataDirectoryGone,
                format!("server \"{name}\": its data directory is not there any more"),
            )
            .server(name)
            .detail(format!(
                "{} was complete once. A disk that is not mounted looks like this.",
                case.layout.data_directory
            ))
            .hint(format!("Mount it. If the data are really gone: pgstead reseed {name} --method basebackup")),
        );
    }
    let is_copied = matches!(method, Some(Method::Rewind | Method::Basebackup));
    if is_copied {
        // A rewind takes the files of the primary, a base backup those of whoever sends it.
        let source = if method == Some(Method::Rewind) { case.primary } else { case.sender() };
        refusals.extend(brought::travels(topology, source, &BTreeSet::new()));
    }
    if is_copied && diagnosis.condition.may_lose_writes() && !request.accept_divergence {
        let loss = diagnosis::loss(&diagnosis)
            .unwrap_or_else(|| format!("What \"{name}\" wrote on its own is on \"{name}\" alone."));
        let kept = match request.space {
            Space::Keep => "its old data directory is set aside whole, and can be read there.",
            Space::Reuse => "with --space reuse no old data directory stays, and its WAL alone tells what it was.",
        };
        // How far its WAL goes is known, or that it goes on somewhere; what is in it may be nothing that anybody committed.
        let has = match diagnosis.divergence.as_ref().map(|divergence| divergence.end) {
            Some(Some(_)) | None => "has WAL of its own",
            Some(None) => "may have WAL of its own",
        };
        refusals.push(
            Diagnostic::error(
                Code::DivergenceNeedsConsent,
                format!("server \"{name}\" {has}, which \"{}\" does not have", case.link.upstream),
            )
            .server(name)
            .detail(format!("{loss} What was written there will not be among its data afterwards; {kept}"))
            .hint(format!(
                "Check whether you need them. When they may go: pgstead reseed {name}{} --accept-divergence",
                if request.space == Space::Reuse { " --space reuse" } else { "" }
            )),
        );
    }
    let mut lacking = Vec::new();
    if let Some(method) = method {
        refusals.extend(authority::refusals(topology.name(), material, [name]));
        refusals.extend(password::refusals(topology, observation, material, [name]));
        refusals.extend(service::barred(case.bare));
        let way = steps::way(&case, method);
        let is_adopting = case.ripe_job().is_some();
        let own = case.state().data.map(|data| &data.tablespaces);
        let may_hold = |path: &str| is_adopting || own.is_some_and(|own| own.iter().any(|one| one == path));
        let judged = elsewhere::judge(topology, observation, way, Some(case.primary), may_hold);
        refusals.extend(judged.refusals);
        lacking = judged.notes;
        refusals.extend(steps::short(&case, material, method));
        if is_copied {
            refusals.extend(places::refusals(case.primary));
        }
    }
    if !refusals.is_empty() {
        return Err(refuse(Some(diagnosis), rungs, refusals));
    }
    match steps::list(&case, &diagnosis, material, &bare, of_method, request) {
        Ok(steps::Listed { mut steps, set_aside, notes }) => {
            let mut all = case.notes.clone();
            all.extend(authority::notes(topology.name(), material));
            all.extend(password::note(material));
            all.extend(lacking);
            all.extend(notes);
            all.extend(followers_left(&case, &diagnosis));
            let plan = Plan {
                topology: topology.name().clone(),
                steps: std::mem::take(&mut steps).finish(),
                settings: Vec::new(),
                notes: all,
            };
            Ok(Reseed { diagnosis, rungs, method, plan, set_aside })
        }
        Err(refusals) => Err(refuse(Some(diagnosis), rungs, refusals)),
    }
}

/// What is to be done about those that follow a server that diverged: they have what it had.
fn followers_left(case: &case::Case<'_>, diagnosis: &Diagnosis) -> Option<Diagnostic> {
    let names: Vec<&str> = case.followers.iter().map(|follower| follower.server.name.as_str()).collect();
    (diagnosis.condition.may_lose_writes() && !names.is_empty()).then(|| {
        let message =
            format!("{} may have diverged as \"{}\" has, which they follow", names.join(", "), diagnosis.server);
        Diagnostic::warning(Code::FollowersDiverged, message)
            .server(&diagnosis.server)
            .hint(format!("Look next: pgstead reseed {} --dry-run", names.join(" ")))
    })
}

fn other_ways(rungs: &[Rung]) -> String {
    let ways: Vec<&str> = rungs.iter().filter(|rung| rung.refused.is_none()).map(|rung| rung.method.word()).collect();
    match ways.as_slice() {
        [] => "No other method is possible; --dry-run says why.".to_owned(),
        some => format!("To be had: {}.", some.join(", ")),
    }
}

fn reasons(rungs: &[Rung]) -> String {
    let each = rungs.iter().filter_map(|rung| Some(format!("{}: {}.", rung.method, rung.refused.as_ref()?)));
    each.collect::<Vec<_>>().join(" ")
}

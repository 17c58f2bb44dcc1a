//! The diagnosis: what is wrong with a server that is to be re-seeded, with the evidence.
//!
//! It says nothing of what is to be done. Whatever was not seen is said to be unknown, and unknown is never "fine".

use std::collections::BTreeMap;

use serde::Serialize;

use crate::judge::link::streams_from;
use crate::judge::{Role, ServerState, StartsAs, wal};
use crate::model::job::{JobState, SEED};
use crate::model::lsn::Lsn;
use crate::model::name::ServerName;
use crate::model::observation::{DataDirectory, Instance};
use crate::model::observed::Observed;
use crate::model::quantity::bytes;
use crate::model::wal::WalQuestion;
use crate::plan::operation::reseed::case::{Case, Data};
use crate::plan::seen::Seen;
use crate::plan::survey::history;
use crate::plan::survey::history::Problem;

/// How many missing files are named.
const MISSING_SHOWN: usize = 5;

/// What is wrong with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Nothing: it streams from its upstream.
    Streaming,
    /// Its data are an earlier state of its upstream's, and the WAL between the two is there.
    Behind,
    /// Nothing shows that its data are an earlier state of its upstream's: the WAL that would is gone.
    WalMissing,
    /// It wrote, or received, WAL that its upstream never had, on a timeline that its upstream left.
    Diverged,
    /// It wrote WAL of its own on the very timeline that its upstream is on, or on another of the same number.
    Twin,
    /// It has more WAL than its upstream, on the same timeline.
    Ahead,
    /// Its data directory cannot be relied on.
    Damaged,
    /// It has no data directory.
    Missing,
    /// It has none any more, although one was complete there.
    Gone,
}

impl Condition {
    /// Says whether the server may hold writes that its upstream does not have.
    pub fn may_lose_writes(self) -> bool {
        matches!(self, Condition::Diverged | Condition::Twin | Condition::Ahead)
    }

    /// Says what it means, as a short phrase behind "is" or "has".
    pub fn words(self) -> &'static str {
        match self {
            Condition::Streaming => "streams from its upstream",
            Condition::Behind => "is behind its upstream, and the WAL that it missed is there",
            Condition::WalMissing => "is behind its upstream, and the WAL that would bring it up is gone",
            Condition::Diverged => "has diverged from its upstream",
            Condition::Twin => "has diverged from its upstream on the same timeline",
            Condition::Ahead => "is ahead of its upstream",
            Condition::Damaged => "is damaged",
            Condition::Missing => "has no data directory",
            Condition::Gone => "has lost its data directory",
        }
    }
}

/// Where a server left the history that counts, and how far it went on its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// The timeline on which it went on.
    pub timeline: u32,
    /// Where the other side left that timeline.
    pub left_at: Lsn,
    /// How far its own WAL reaches at the least; none where it was not shut down and nobody can tell.
    pub end: Option<Lsn>,
}

impl Divergence {
    /// Returns the bytes of WAL that only this server has, where they are known.
    pub fn bytes(&self) -> Option<u64> {
        self.end.map(|end| end.0.saturating_sub(self.left_at.0))
    }
}

/// What was found out about a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    pub server: ServerName,
    /// The server that accepts writes.
    pub primary: ServerName,
    /// The server that it is to follow.
    pub upstream: ServerName,
    /// What is wrong.
    pub condition: Condition,
    /// How that is known, in sentences.
    pub evidence: Vec<String>,
    /// Where it left the history that counts.
    pub divergence: Option<Divergence>,
    /// Bytes of WAL that it has yet to replay, where they are known.
    pub behind_bytes: Option<u64>,
}

/// Returns what must be read of the server's WAL and of its upstream's before a diagnosis can be made.
pub(super) fn question(case: &Case<'_>) -> Option<Result<WalQuestion, String>> {
    let Data::Ours(_) = case.data else { return None };
    // A server that accepts writes is never brought back by replay; its timelines tell the rest.
    if case.accepts_writes() {
        return None;
    }
    if streams(case) { None } else { history::question_about(&pair(case), &case.link) }
}

/// Whether it receives WAL from its upstream, on the timeline that this is on; on another one it says so and gets nowhere.
fn streams(case: &Case<'_>) -> bool {
    let is_on = |timeline| case.upstream.instance.is_none_or(|upstream| upstream.timeline == timeline);
    let streams = |instance: &&Instance| streams_from(case.topology, instance, &case.link.upstream);
    case.instance.filter(streams).is_some_and(|instance| is_on(instance.timeline))
}

/// Makes the diagnosis.
pub(super) fn diagnose(case: &Case<'_>) -> Diagnosis {
    let mut evidence = Vec::new();
    let mut divergence = None;
    let condition = match case.data {
        Data::Missing => {
            evidence.push(format!("{} is empty or not there.", case.layout.data_directory));
            Condition::Missing
        }
        Data::Gone => {
            evidence.push(format!(
                "{} was complete once, and is not there any more. A disk that is not mounted looks like this.",
                case.layout.data_directory
            ));
            Condition::Gone
        }
        Data::Damaged(why) => {
            evidence.push(format!("Its control file cannot be read: {}", sentence(why)));
            Condition::Damaged
        }
        Data::Ours(_) => {
            evidence.push(told(case.state()));
            of_ours(case, &mut evidence, &mut divergence)
        }
    };
    evidence.extend(slot(case));
    evidence.extend(job(case));
    let upstream_at = history::position(&pair(case), &case.link);
    let own_at = own_end(case);
    let behind_bytes = match (condition, upstream_at, own_at) {
        (Condition::Behind, Some(upstream), Some(own)) => Some(upstream.0.saturating_sub(own.0)),
        _ => None,
    };
    if let Some(behind) = behind_bytes.filter(|behind| *behind > 0) {
        evidence.push(format!("It has {} of WAL to replay.", bytes(behind)));
    }
    Diagnosis {
        server: case.server.name.clone(),
        primary: case.primary.server.name.clone(),
        upstream: case.link.upstream.clone(),
        condition,
        evidence,
        divergence,
        behind_bytes,
    }
}

fn of_ours(case: &Case<'_>, evidence: &mut Vec<String>, divergence: &mut Option<Divergence>) -> Condition {
    let failures = case.instance.map(|instance| &instance.health.checksum_failures);
    if let Some(failed) = failures.and_then(|failures| failures.first()) {
        evidence
            .push(format!("Database \"{}\" has {} pages whose checksums failed.", failed.database, failed.failures));
        return Condition::Damaged;
    }
    match case.observation.damage.get(&case.server.name) {
        Some(Observed::Known(missing)) if !missing.is_empty() => {
            let more = missing.len().saturating_sub(MISSING_SHOWN);
            evidence.extend(missing.iter().take(MISSING_SHOWN).cloned());
            evidence.extend((more > 0).then(|| format!("{more} more files are missing.")));
            return Condition::Damaged;
        }
        Some(Observed::Unreadable(why)) => {
            evidence.push(format!("Whether files of it are missing could not be seen: {}", sentence(why)));
        }
        _ => {}
    }
    if streams(case) {
        evidence.push(format!("It receives WAL from \"{}\".", case.link.upstream));
        return Condition::Streaming;
    }
    let (own_timeline, end) = match case.instance {
        Some(instance) => (instance.timeline, wal::position(instance)),
        None => (case.state().timeline().unwrap_or_default(), own_end(case)),
    };
    let was_not_shut_down = matches!(case.state().role, Role::StoppedPrimary(_)) && own_end(case).is_none();
    let fork = fork(case, own_timeline);
    if case.accepts_writes() || was_not_shut_down {
        return match fork {
            Some(left_at) => {
                evidence.push(left(case, own_timeline, left_at, end));
                *divergence = Some(Divergence { timeline: own_timeline, left_at, end });
                Condition::Diverged
            }
            None => {
                evidence.push(format!(
                    "It accepted writes on timeline {own_timeline}, which \"{}\" never left.",
                    case.link.upstream
                ));
                Condition::Twin
            }
        };
    }
    let problem = match question(case) {
        Some(Ok(question)) => history::judge(
            &question,
            case.observation.histories.get(&case.server.name),
            history::position(&pair(case), &case.link),
        ),
        Some(Err(why)) => Some(Problem::NotProvable(why)),
        // Its upstream has no data, which the case has refused.
        None => None,
    };
    match problem {
        None => {
            evidence.push(format!(
                "Its data are an earlier state of those of \"{}\": the timelines' histories agree, and so does the WAL where its own ends.",
                case.link.upstream
            ));
            Condition::Behind
        }
        Some(Problem::Diverged(why)) => {
            evidence.push(why);
            match fork.filter(|left_at| end.is_some_and(|end| end > *left_at)).or_else(|| own_fork(case, own_timeline))
            {
                Some(left_at) => {
                    *divergence = Some(Divergence { timeline: own_timeline, left_at, end });
                    Condition::Diverged
                }
                None => Condition::Twin,
            }
        }
        Some(Problem::Ahead(why)) => {
            evidence.push(why);
            Condition::Ahead
        }
        Some(Problem::NotProvable(why)) => {
            evidence.push(why);
            Condition::WalMissing
        }
    }
}

/// The two servers that are compared.
pub(super) fn pair<'a>(case: &Case<'a>) -> BTreeMap<ServerName, Seen<'a>> {
    BTreeMap::from([(case.server.name.clone(), case.seen()), (case.link.upstream.clone(), case.upstream)])
}

/// Where the upstream left the timeline that the server is on; none where it is on it still, or never was.
fn fork(case: &Case<'_>, timeline: u32) -> Option<Lsn> {
    wal::left(case.upstream.instance.filter(|instance| instance.timeline != timeline)?, timeline)
}

/// Where the server itself left the timeline that the upstream is on: it was promoted, and the upstream was not.
fn own_fork(case: &Case<'_>, timeline: u32) -> Option<Lsn> {
    let upstream = case.upstream.instance?;
    let compared = case.observation.histories.get(&case.server.name)?.joining.known()?;
    let text = match case.instance {
        Some(instance) => instance.history.known()?,
        None => compared.histories.get(&timeline)?.known()?,
    };
    wal::left_in(text, upstream.timeline)
}

fn own_end(case: &Case<'_>) -> Option<Lsn> {
    let Data::Ours(_) = case.data else { return None };
    match case.instance {
        Some(instance) => wal::position(instance),
        None => case.state().stopped_end().ok().map(|end| end.at),
    }
}

fn told(server: ServerState<'_>) -> String {
    let timeline = server.timeline().unwrap_or_default();
    match server.role {
        Role::Primary(instance) => format!("It runs, and accepts writes on timeline {}.", instance.timeline),
        Role::Standby(instance) => match &instance.receiver {
            Some(receiver) => {
                format!("It runs on timeline {}, and its WAL receiver is {}.", instance.timeline, receiver.status)
            }
            None => format!("It runs on timeline {}, and receives no WAL.", instance.timeline),
        },
        _ => format!(
            "It does not run; its database cluster state is \"{}\", on timeline {timeline}{}.",
            server.control.map_or("unknown".to_owned(), |control| control.state.to_string()),
            if server.starts_as == Some(StartsAs::Standby) { "" } else { ", and it has no standby.signal" }
        ),
    }
}

fn left(case: &Case<'_>, timeline: u32, left_at: Lsn, end: Option<Lsn>) -> String {
    let upstream = &case.link.upstream;
    match end {
        Some(end) => {
            format!("\"{upstream}\" left timeline {timeline} at {left_at}; it has WAL of that timeline up to {end}.")
        }
        None => format!(
            "\"{upstream}\" left timeline {timeline} at {left_at}; it was not shut down, so that nobody can tell how far its own WAL of that timeline reaches."
        ),
    }
}

fn slot(case: &Case<'_>) -> Option<String> {
    let name = case.server.name.slot_name();
    let upstream = &case.link.upstream;
    match case.upstream.instance?.slots.get(&name) {
        None => Some(format!("\"{upstream}\" has no slot \"{name}\".")),
        Some(slot) if slot.wal_status.as_deref() == Some("lost") => {
            Some(format!("Slot \"{name}\" of \"{upstream}\" is lost: it held more WAL back than it may."))
        }
        Some(_) => None,
    }
}

fn job(case: &Case<'_>) -> Option<String> {
    let job = case.raw.jobs.iter().find(|job| job.name == SEED)?;
    let run = &job.run;
    Some(match job.state {
        JobState::Running => format!("The job of run {run} is at work there."),
        JobState::Ended(0) if case.ripe_job().is_none() => return None,
        JobState::Ended(0) => format!("The job of run {run} has ended well, and its work is not used yet."),
        JobState::Ended(status) => format!("The job of run {run} failed with status {status}."),
        JobState::Died => format!("The job of run {run} was killed, or its machine was restarted."),
    })
}

fn sentence(text: &str) -> String {
    let text = text.trim();
    if text.ends_with('.') { text.to_owned() } else { [text, "."].concat() }
}

/// What the operator should know of what only this server has: it is shown before consent is asked for (hazard 73).
pub(super) fn loss(diagnosis: &Diagnosis) -> Option<String> {
    let Divergence { timeline, left_at, end } = diagnosis.divergence.as_ref()?;
    Some(match end {
        Some(end) => format!(
            "WAL of timeline {timeline} from {left_at} to {end} ({}) is on \"{}\" alone.",
            bytes(end.0.saturating_sub(left_at.0)),
            diagnosis.server
        ),
        None => format!(
            "Where its WAL of timeline {timeline} ends is not known; whatever is in it from {left_at} on is on \"{}\" alone.",
            diagnosis.server
        ),
    })
}

/// Says whether `pg_rewind` can find every page that changed since the two parted, as it demands itself (manual, `pg_rewind`):
/// a change of hint bits alone is in the WAL where pages have checksums, or `wal_log_hints` is on. That setting takes a restart,
/// and the control file has it from the last one. Where pages have no checksums, adoption turns it on, restarts the primary for
/// it, and only then makes standbys: every divergence of a topology of ours is younger.
pub(super) fn logs_every_page(data: &DataDirectory) -> Option<bool> {
    match &data.control {
        Observed::Known(control) => Some(control.checksum_version != 0 || control.logs_hints),
        _ => None,
    }
}

//! Same history, not same name: whether a server that is to follow another has that server's data.
//!
//! System identifier and timeline number are equal on a twin that was written to behind our back, and once it streams
//! nothing shows it (hazards.md, findings 1 and 2; hazards 59 and 60). So before anything is started or attached, the
//! timelines' histories and the WAL itself are compared, as far as the joining server surely has it. What must be read
//! is decided here from the first observation; what was read is judged here too. Reads nothing itself.

use std::collections::BTreeMap;

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::link::streams_from;
use crate::judge::wal::{End, NoEnd};
use crate::judge::{Role, Writes};
use crate::model::lsn::Lsn;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::topology::{Link, Topology};
use crate::model::wal::{DEFAULT_SEGMENT_BYTES, WalComparison, WalQuestion, WalSeen, parse_history};
use crate::plan::seen::Seen;
use crate::plan::survey::{OF_BOOTSTRAP, Survey, survey_of};

/// Returns what must be read of servers and their upstreams before a bootstrap can be planned. Whoever the survey refuses is asked
/// nothing; the others are, so that all is told at once.
pub fn questions(topology: &Topology, observation: &Observation) -> Vec<WalQuestion> {
    let Survey { servers, primary, .. } = survey_of(topology, observation, OF_BOOTSTRAP, |_| true);
    let Some(primary) = primary else { return Vec::new() };
    let links = topology.links(&primary);
    links.iter().filter_map(|link| question(topology, &servers, link)?.ok()).collect()
}

/// Returns why servers must not be attached.
pub fn refusals(
    topology: &Topology,
    observation: &Observation,
    servers: &BTreeMap<ServerName, Seen<'_>>,
    links: &[Link],
) -> Vec<Diagnostic> {
    let judge_link = |link: &Link| {
        let mut link = link.clone();
        // What joins is compared with the primary, whomever it is to follow.
        let joining = servers.get(&link.standby).filter(|seen| seen.joins());
        let problem = match question(topology, servers, &link)? {
            Ok(question) => {
                let compared = Link { upstream: question.upstream.clone(), standby: link.standby.clone() };
                let problem = judge(&question, observation.histories.get(&link.standby), position(servers, &compared));
                if joining.is_some() {
                    link = compared;
                }
                problem
            }
            Err(why) => Some(Problem::NotProvable(why)),
        }?;
        let diagnostic = problem.diagnostic(&link);
        Some(match joining {
            Some(seen) => diagnostic.hint(format!(
                "It is not adopted. Find out which of the two has the data that counts. To copy it anew: stop its instance and rename {}.",
                seen.layout.data_directory
            )),
            None => diagnostic,
        })
    };
    links.iter().filter_map(judge_link).collect()
}

/// Returns what must be asked about a link: nothing where it streams already, or where its standby is yet to be copied.
pub(in crate::plan) fn question(
    topology: &Topology,
    servers: &BTreeMap<ServerName, Seen<'_>>,
    link: &Link,
) -> Option<Result<WalQuestion, String>> {
    let standby = servers.get(&link.standby)?;
    if standby.joins() {
        // Streaming proves nothing: a twin that was written to streams as well, and keeps its own rows. One that has streamed more
        // since than is compared here looks the same: `adoption::lost` warns of that.
        let primary = servers.values().find(|seen| seen.state().writes() == Writes::Now);
        let asked = primary.and_then(|primary| {
            question_about(servers, &Link { upstream: primary.server.name.clone(), standby: link.standby.clone() })
        });
        return Some(asked.unwrap_or_else(|| Err("No primary runs with which it could be compared.".to_owned())));
    }
    let instance = standby.instance;
    if instance.is_some_and(|instance| streams_from(topology, instance, &link.upstream)) {
        return None;
    }
    let question = question_about(servers, link)?;
    match question.as_ref().ok().and_then(|question| unknown_to_stopped(servers, link, question)) {
        Some(primary) => question_about(servers, &Link { upstream: primary.clone(), standby: link.standby.clone() }),
        None => Some(question),
    }
}

/// Returns with whom a running standby is compared whose upstream is a stopped standby on an earlier timeline, as far as that one's
/// control file says. A standby writes the timeline that it follows there at a restartpoint, which may be minutes late: that the
/// other one is further proves no promotion. The primary knows what is its own.
fn unknown_to_stopped<'a>(
    servers: &'a BTreeMap<ServerName, Seen<'_>>,
    link: &Link,
    question: &WalQuestion,
) -> Option<&'a ServerName> {
    let [upstream, standby] = [&link.upstream, &link.standby].map(|name| servers.get(name).map(Seen::state));
    let is_stopped_standby = matches!(upstream?.role, Role::StoppedStandby(_));
    let is_asked = standby?.standby().is_some() && is_stopped_standby && question.timeline > question.upstream_timeline;
    let writer = |seen: &&Seen<'_>| seen.state().writes() == Writes::Now;
    servers.values().find(writer).map(|seen| &seen.server.name).filter(|_| is_asked)
}

/// Returns what must be asked about a link, whatever the standby says of itself; nothing where it is yet to be copied.
pub(in crate::plan) fn question_about(
    servers: &BTreeMap<ServerName, Seen<'_>>,
    link: &Link,
) -> Option<Result<WalQuestion, String>> {
    let (joining, upstream) = (servers.get(&link.standby)?, servers.get(&link.upstream)?);
    joining.data?;
    // An upstream that is yet to be copied has the history of its own upstream; its standby is judged in the next run.
    upstream.data?;
    let (joining, upstream) = (joining.state(), upstream.state());
    let upstream_timeline = upstream.timeline()?;
    let end = joining.end_below(upstream_timeline).map_err(|why| match why {
        NoEnd::NoControlFile => "Its control file could not be read.".to_owned(),
        NoEnd::NotShutDown(state) => format!(
            "Its database cluster state is \"{state}\": it accepted writes and was not shut down, so its control file does not say how far its WAL reaches."
        ),
    });
    let segment_bytes = joining.control.and_then(|control| control.segment_bytes);
    Some(end.map(|End { timeline, at: end }| WalQuestion {
        joining: link.standby.clone(),
        upstream: link.upstream.clone(),
        timeline,
        end,
        upstream_timeline,
        segment_bytes: segment_bytes.filter(|bytes| *bytes > 0).unwrap_or(DEFAULT_SEGMENT_BYTES),
    }))
}

/// Returns how far the upstream's WAL reaches, where it runs and says so.
pub(in crate::plan) fn position(servers: &BTreeMap<ServerName, Seen<'_>>, link: &Link) -> Option<Lsn> {
    servers.get(&link.upstream)?.state().position()
}

/// Why a server must not follow another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::plan) enum Problem {
    /// Both wrote WAL of their own after they parted; the evidence.
    Diverged(String),
    /// The joining server has more WAL than its upstream; the evidence.
    Ahead(String),
    /// It cannot be shown; why.
    NotProvable(String),
}

pub(in crate::plan) fn judge(
    question: &WalQuestion,
    comparison: Option<&WalComparison>,
    position: Option<Lsn>,
) -> Option<Problem> {
    // What was asked of another moment answers nothing.
    let Some(comparison) = comparison.filter(|comparison| comparison.question == *question) else {
        return Some(Problem::NotProvable("Its WAL was not compared.".to_owned()));
    };
    let not_seen = |server: &ServerName, why: &str| {
        Some(Problem::NotProvable(format!("The WAL of \"{server}\" could not be read: {}", why.trim())))
    };
    let (joining, upstream) = match (&comparison.joining, &comparison.upstream) {
        (Observed::Known(joining), Observed::Known(upstream)) => (joining, upstream),
        (Observed::Known(_), other) => return not_seen(&question.upstream, other.unreadable().unwrap_or("not there")),
        (other, _) => return not_seen(&question.joining, other.unreadable().unwrap_or("not there")),
    };
    judge_timelines(question, joining, upstream)
        .or_else(|| judge_last_segment(question, joining, upstream, position))
        .or_else(|| judge_earlier_segment(question, joining, upstream))
}

/// A timeline's number says nothing: two servers that were promoted apart have the same (hazard 59, finding 16).
fn judge_timelines(question: &WalQuestion, joining: &WalSeen, upstream: &WalSeen) -> Option<Problem> {
    let WalQuestion { joining: name, upstream: other, timeline, end, upstream_timeline, .. } = question;
    if timeline > upstream_timeline {
        return Some(Problem::Diverged(format!(
            "\"{name}\" is on timeline {timeline}, \"{other}\" on timeline {upstream_timeline}: \"{name}\" was promoted, or has followed a server that was."
        )));
    }
    let history = |server: &ServerName, seen: &WalSeen, timeline: u32| match seen.histories.get(&timeline) {
        _ if timeline <= 1 => Ok(Vec::new()),
        Some(Observed::Known(text)) => Ok(parse_history(text)),
        other => Err(Problem::NotProvable(format!(
            "The history of timeline {timeline} could not be read on \"{server}\": {}.",
            match other {
                Some(Observed::Unreadable(why)) => why.trim(),
                _ => "its file is not there",
            }
        ))),
    };
    let ancestors = match history(other, upstream, *upstream_timeline) {
        Ok(ancestors) => ancestors,
        Err(problem) => return Some(problem),
    };
    let own = match history(name, joining, *timeline) {
        Ok(own) => own,
        Err(problem) => return Some(problem),
    };
    let text = |history: &[(u32, Lsn)]| match history {
        [] => "begins with it".to_owned(),
        some => {
            some.iter().map(|(timeline, at)| format!("left timeline {timeline} at {at}")).collect::<Vec<_>>().join(", ")
        }
    };
    let shared: Vec<_> = ancestors.iter().copied().take_while(|(ancestor, _)| ancestor != timeline).collect();
    if own != shared {
        return Some(Problem::Diverged(format!(
            "Both know a timeline {timeline}, but not the same: the history of \"{name}\" {}, that of \"{other}\" {}.",
            text(&own),
            text(&shared)
        )));
    }
    if timeline == upstream_timeline {
        return None;
    }
    match ancestors.iter().find(|(ancestor, _)| ancestor == timeline) {
        None => Some(Problem::Diverged(format!(
            "\"{name}\" is on timeline {timeline}, which is no ancestor of timeline {upstream_timeline} of \"{other}\"."
        ))),
        Some((_, left)) if end > left => Some(Problem::Diverged(format!(
            "\"{other}\" left timeline {timeline} at {left} for timeline {upstream_timeline}; \"{name}\" has WAL of timeline {timeline} up to {end}."
        ))),
        Some(_) => None,
    }
}

fn judge_last_segment(
    question: &WalQuestion,
    joining: &WalSeen,
    upstream: &WalSeen,
    position: Option<Lsn>,
) -> Option<Problem> {
    let WalQuestion { joining: name, upstream: other, timeline, end, .. } = question;
    let (segment, bytes) = question.last();
    let file = segment.file(*timeline);
    let is_ahead = position.is_some_and(|position| *end > position);
    let reaches = |position: Option<Lsn>| {
        position.map_or(String::new(), |position| {
            format!(" The WAL of \"{other}\" reached {position} when it was looked at.")
        })
    };
    match (&joining.last, &upstream.last) {
        (Observed::Known(own), Observed::Known(others)) if any_equal(own, others) => None,
        (Observed::Known(own), Observed::Known(others)) => {
            let evidence = format!(
                "The first {bytes} bytes of WAL segment {file}, up to {end}, have the SHA-256 {} on \"{name}\" and {} on \"{other}\".{}",
                first(own),
                first(others),
                reaches(position)
            );
            Some(if is_ahead { Problem::Ahead(evidence) } else { Problem::Diverged(evidence) })
        }
        (Observed::Known(_), Observed::Absent) if is_ahead => Some(Problem::Ahead(format!(
            "\"{name}\" has WAL up to {end}, in segment {file}, which is not on \"{other}\".{}",
            reaches(position)
        ))),
        (own, others) => {
            let (server, why) = if own.known().is_some() { (other, others) } else { (name, own) };
            let why = why.unreadable().map_or("it is not there any more".to_owned(), |why| why.trim().to_owned());
            Some(Problem::NotProvable(format!(
                "\"{name}\" has WAL up to {end}; segment {file}, which holds that, could not be read on \"{server}\": {why}."
            )))
        }
    }
}

/// The segment before: a difference older than the last one shows here, where both still have it.
fn judge_earlier_segment(question: &WalQuestion, joining: &WalSeen, upstream: &WalSeen) -> Option<Problem> {
    let (Observed::Known(own), Observed::Known(others)) = (&joining.earlier, &upstream.earlier) else { return None };
    let file = question.last().0.previous()?.file(question.timeline);
    let (name, other) = (&question.joining, &question.upstream);
    (!any_equal(own, others)).then(|| {
        Problem::Diverged(format!(
            "WAL segment {file} has the SHA-256 {} on \"{name}\" and {} on \"{other}\".",
            first(own),
            first(others)
        ))
    })
}

/// The same bytes stand in more than one file around a promotion. One that is equal proves them equal.
fn any_equal(own: &BTreeMap<String, String>, others: &BTreeMap<String, String>) -> bool {
    own.values().any(|hash| others.values().any(|other| other == hash))
}

fn first(hashes: &BTreeMap<String, String>) -> &str {
    hashes.values().next().map_or("none", String::as_str)
}

impl Problem {
    fn diagnostic(self, link: &Link) -> Diagnostic {
        let Link { upstream, standby } = link;
        let diagnostic = match self {
            Problem::Diverged(evidence) => Diagnostic::error(
                Code::HistoryDiverged,
                format!("server \"{standby}\": its data are not a copy of those of \"{upstream}\", although both have the same system identifier"),
            )
            .detail(evidence)
            .hint(format!("\"{standby}\" holds writes that \"{upstream}\" never had. Check whether you need them; then: pgstead reseed {standby} --accept-divergence. Do not start it as it is: it would stream, and keep its own rows.")),
            Problem::Ahead(evidence) => Diagnostic::error(
                Code::AheadOfUpstream,
                format!("server \"{standby}\": it has WAL that its upstream \"{upstream}\" does not have"),
            )
            .detail(evidence)
            .hint(format!("Find out which of the two has the data that counts. To let \"{standby}\" follow \"{upstream}\": pgstead reseed {standby} --accept-divergence")),
            Problem::NotProvable(why) => Diagnostic::error(
                Code::HistoryNotProvable,
                format!("server \"{standby}\": it cannot be shown that its data are a copy of those of \"{upstream}\""),
            )
            .detail(why)
            .hint(format!("Where the WAL is gone: pgstead reseed {standby}. Do not start it as it is.")),
        };
        diagnostic.server(standby)
    }
}

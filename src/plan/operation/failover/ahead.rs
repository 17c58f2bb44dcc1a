//! Whether another standby has received more than the successor (hazard 56). Of two that have the same the operator chooses;
//! one that lacks less than the recovery point objective allows may be chosen with consent.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::State;
use crate::judge::wal::received;
use crate::model::lsn::Lsn;
use crate::model::name::ServerName;
use crate::model::observation::Instance;
use crate::model::quantity::duration;
use crate::plan::operation::failover::{Request, attest};
use crate::plan::seen::Seen;

/// What a primary may write while one standby after the other is looked at, in bytes.
const MAY_HAVE_MOVED: u64 = 16 << 20;

/// How the standbys compare.
#[derive(Debug)]
pub(super) struct Ahead<'a> {
    /// Those that have received more than the successor.
    others: Vec<Other<'a>>,
    /// Every standby whose data are a copy, with what it has received.
    seen: Vec<(&'a ServerName, Option<Lsn>)>,
    own: Option<(u32, Lsn)>,
}

/// A standby that has received more.
#[derive(Debug)]
struct Other<'a> {
    name: &'a ServerName,
    position: (u32, Lsn),
    /// The milliseconds between the successor's last commit and its own, where that is no more than the objective allows.
    within_ms: Option<u64>,
}

/// Compares the successor with the others. Those whose data are no copy of the primary's are not compared.
pub(super) fn ahead<'a>(
    state: &State<'a>,
    from: &ServerName,
    successor: Seen<'_>,
    foreign: &BTreeSet<&ServerName>,
) -> Ahead<'a> {
    let to = &successor.server.name;
    let standby = |name: &ServerName| state.server(name).standby();
    let position = |name: &ServerName| {
        let instance = standby(name)?;
        Some((instance.timeline, received(instance)?))
    };
    let own = position(to);
    // Where the former primary is yet to be ended its sessions may go on writing, and whoever was looked at last has more. When
    // it has ended, and before anybody is promoted, they are compared once more, to the byte.
    let may_move = state.seen(from).is_some() && !state.server(from).is_stopped();
    let is_ahead = |(timeline, lsn): (u32, Lsn)| match own {
        Some((on, own)) if may_move && on == timeline => lsn.0.saturating_sub(own.0) > MAY_HAVE_MOVED,
        own => Some((timeline, lsn)) > own,
    };
    let names = || {
        let names = state.servers().map(|(name, _)| name);
        names.filter(|name| *name != to && *name != from && !foreign.contains(name))
    };
    let rpo_ms = state.topology.common().objectives.rpo_s.saturating_mul(1000);
    let within = |name: &ServerName, timeline: u32| {
        let (own_instance, other) = (successor.instance?, standby(name)?);
        let is_comparable = !may_move && own.is_some_and(|(on, _)| on == timeline);
        lacks_ms(own_instance, other).filter(|ms| is_comparable && *ms <= rpo_ms && rpo_ms > 0)
    };
    // One that does not run is refused for that.
    let others = names().filter(|_| successor.instance.is_some()).filter_map(|name| {
        let position = position(name).filter(|position| is_ahead(*position))?;
        Some(Other { name, position, within_ms: within(name, position.0) })
    });
    let seen = names().filter_map(|name| Some((name, received(state.instance(name)?))));
    Ahead { others: others.collect(), seen: seen.collect(), own }
}

/// The time between the last commits of two standbys, by the clock of the server that made them: what only the other one has was
/// committed in it. None where the other one has yet to replay some, or one of them has replayed no commit.
fn lacks_ms(own: &Instance, other: &Instance) -> Option<u64> {
    let has_replayed = other.positions.replay.is_some() && other.positions.replay == received(other);
    let at = |instance: &Instance| instance.positions.replayed_commit.as_deref()?.parse::<Timestamp>().ok();
    let span = at(other).filter(|_| has_replayed)?.duration_since(at(own)?);
    u64::try_from(span.as_millis()).ok()
}

impl Ahead<'_> {
    /// Why the successor may not be the one.
    pub(super) fn refusals(&self, request: Request<'_>) -> Vec<Diagnostic> {
        let to = request.to;
        let most = self.others.iter().filter(|other| other.within_ms.is_none()).max_by_key(|other| other.position);
        let own = self.own.map_or("none".to_owned(), |(timeline, lsn)| format!("up to {lsn} on timeline {timeline}"));
        let behind = most.map(|Other { name, position: (timeline, lsn), .. }| {
            Diagnostic::error(Code::SuccessorBehind, format!("server \"{to}\" has received less than \"{name}\""))
                .server(to)
                .detail(format!("\"{name}\" has WAL up to {lsn} on timeline {timeline}, \"{to}\" {own}."))
                .hint(format!("What \"{name}\" has more would be lost. Take it instead: pgstead failover --to {name}"))
        });
        let consent = self.within().filter(|_| !request.accept_loss).map(|(name, ms)| {
            Diagnostic::error(
                Code::LossNeedsConsent,
                format!("what only \"{name}\" has would not be on the new primary"),
            )
            .server(to)
            .detail(lacks(to, name, ms))
            .hint(format!(
                "Take \"{name}\" instead: pgstead failover --to {name}. Or: {} --accept-loss",
                attest::command(to, request.attested)
            ))
        });
        behind.into_iter().chain(consent).collect()
    }

    /// The others that have more than the successor, and no more than the objective allows.
    fn within(&self) -> impl Iterator<Item = (&ServerName, u64)> {
        self.others.iter().filter_map(|other| Some((other.name, other.within_ms?)))
    }

    /// What is to be known of it by whoever consented.
    pub(super) fn notes(&self, to: &ServerName) -> Vec<Diagnostic> {
        let note = |(name, ms): (&ServerName, u64)| {
            Diagnostic::warning(Code::FailoverLoss, format!("what only \"{name}\" has will not be on the new primary"))
                .server(name)
                .detail(lacks(to, name, ms))
        };
        self.within().map(note).collect()
    }

    /// Whom the successor is compared with once more before it is promoted: nobody who may have more, as was consented to.
    pub(super) fn to_compare(&self) -> Vec<(ServerName, Option<Lsn>)> {
        let may_have_more = |name: &ServerName| self.within().any(|(other, _)| other == name);
        let compared = self.seen.iter().filter(|(name, _)| !may_have_more(name));
        compared.map(|(name, lsn)| ((*name).clone(), *lsn)).collect()
    }
}

fn lacks(to: &ServerName, name: &ServerName, ms: u64) -> String {
    format!(
        "\"{name}\" has commits that \"{to}\" has not, made within {}, which objectives.rpo_s allows. They stay in its data directory.",
        duration(ms as f64)
    )
}

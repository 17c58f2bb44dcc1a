//! What a failover loses, as the former primary's own WAL tells (hazards 56, 73).
//!
//! That its commits waited for standbys rules nothing out: a role, a database or a session may have let them pass, and no file
//! says so of a session (hazard 51). Its data must be its last ones: WAL of its timeline behind them shows that they are not.

use jiff::civil::DateTime;

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::State;
use crate::model::control::ClusterState;
use crate::model::lost::Lost;
use crate::model::lsn::Lsn;
use crate::model::name::ServerName;
use crate::model::observed::Observed;
use crate::model::quantity::{count, duration};
use crate::model::topology::Objectives;
use crate::plan::operation::failover::{Request, attest};
use crate::plan::seen::Seen;

/// How far behind its position the shutdown checkpoint ends at the most: the longest of all versions, and the head of a page in
/// it. Whatever was written behind it is longer than the difference to the shortest.
const SHUTDOWN_CHECKPOINT_BYTES: u64 = 128;

/// The size of a page of WAL, and of the head of the first one of a segment (`xlog_internal.h`).
const WAL_PAGE_BYTES: u64 = 8192;
const LONG_HEAD_BYTES: u64 = 40;

/// What the successor lacks of what the former primary acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// Nothing, and why that is sure.
    Nothing(String),
    /// So many bytes of WAL, with so many transactions, as the former primary's own WAL tells.
    Known {
        /// Bytes of WAL.
        bytes: u64,
        /// Transactions in them.
        transactions: u64,
        /// The milliseconds between the first and the last of these commits, where both say when they were made.
        span_ms: Option<u64>,
        /// For how many standbys its commits waited, in words, where they did as far as its configuration says.
        waited: Option<String>,
    },
    /// Nobody can tell; why.
    Unknown(String),
}

impl Loss {
    /// Says it in a sentence.
    pub fn words(&self) -> String {
        match self {
            Loss::Nothing(why) => format!("Nothing is lost: {why}."),
            Loss::Known { bytes, transactions, span_ms, waited } => {
                let waited = waited.as_ref().map(|waited| {
                    format!(" As far as its configuration says, its commits waited for {waited}: then nobody was told that these succeeded. A role, a database or a session may have its own synchronous_commit.")
                });
                let span = span_ms.map(|ms| format!(", committed within {}", duration(ms as f64)));
                let transactions = count(usize::try_from(*transactions).unwrap_or(usize::MAX), "transaction");
                let bytes = count(usize::try_from(*bytes).unwrap_or(usize::MAX), "byte");
                format!(
                    "On the former primary alone: {transactions}, in {bytes} of WAL{}.{}",
                    span.unwrap_or_default(),
                    waited.unwrap_or_default()
                )
            }
            Loss::Unknown(why) => format!("What is on the former primary alone is not known: {why}."),
        }
    }

    /// Says whether nobody has to consent to it: nothing is lost, or no more than the recovery point objective allows.
    pub fn is_within(&self, objectives: Objectives) -> bool {
        match self {
            Loss::Nothing(_) => true,
            Loss::Known { span_ms: Some(span_ms), .. } => {
                objectives.rpo_s > 0 && *span_ms <= objectives.rpo_s.saturating_mul(1000)
            }
            Loss::Known { span_ms: None, .. } | Loss::Unknown(_) => false,
        }
    }

    /// Returns the bytes of WAL that are lost, where that is known.
    pub fn bytes(&self) -> Option<u64> {
        match self {
            Loss::Nothing(_) => Some(0),
            Loss::Known { bytes, .. } => Some(*bytes),
            Loss::Unknown(_) => None,
        }
    }
}

/// Says what the successor lacks.
pub(super) fn of(state: &State<'_>, from: &ServerName, successor: Seen<'_>, lost: Option<&Observed<Lost>>) -> Loss {
    let former = state.server(from);
    if former.seen.is_none() {
        return Loss::Unknown(format!("its server cannot be reached{}", last_seen(successor)));
    }
    if !former.is_stopped() {
        return Loss::Unknown("its instance runs and does not answer, so that it may still accept writes".to_owned());
    }
    let control = former.control;
    let timelines = control.zip(successor.instance).map(|(control, instance)| (control.timeline, instance.timeline));
    if let Some((one, other)) = timelines.filter(|(one, other)| one != other) {
        return Loss::Unknown(format!("its control file is on timeline {one}, and its successor on {other}"));
    }
    let replayed = successor.instance.and_then(|instance| instance.positions.replay);
    if let (Some(control), Some(replayed)) = (control, replayed)
        && control.state == ClusterState::ShutDown
        && replayed > control.checkpoint
    {
        if replayed.0 > shutdown_end(control.checkpoint) {
            return Loss::Unknown(format!(
                "its control file says that it shut down in order at {}, and \"{}\" has WAL of the same timeline up to {replayed}: these are not its last data, but those of an earlier moment",
                control.checkpoint, successor.server.name
            ));
        }
        return Loss::Nothing(format!("\"{from}\" shut down in order, and its shutdown checkpoint was replayed"));
    }
    match (lost, replayed) {
        (Some(Observed::Known(Lost { transactions: 0, .. })), _) => {
            Loss::Nothing(format!("\"{from}\" committed nothing that \"{}\" does not have", successor.server.name))
        }
        (Some(Observed::Known(Lost { transactions, end: Some(end), first, last, .. })), Some(left_at)) => {
            let span_ms = first.as_deref().zip(last.as_deref()).and_then(|(first, last)| span_ms(first, last));
            let waited = waited(state, from);
            Loss::Known { bytes: end.0.saturating_sub(left_at.0), transactions: *transactions, span_ms, waited }
        }
        (Some(Observed::Unreadable(why)), _) => Loss::Unknown(format!("its WAL could not be read: {}", why.trim())),
        _ => Loss::Unknown("its WAL could not be read".to_owned()),
    }
}

/// The end of a shutdown checkpoint at a position, at the most.
fn shutdown_end(checkpoint: Lsn) -> u64 {
    let page_end = (checkpoint.0 / WAL_PAGE_BYTES + 1) * WAL_PAGE_BYTES;
    let end = checkpoint.0 + SHUTDOWN_CHECKPOINT_BYTES;
    if end > page_end { end + LONG_HEAD_BYTES } else { end }
}

/// The time between two commits, as `pg_waldump` writes it; none where a clock was set back between them.
fn span_ms(first: &str, last: &str) -> Option<u64> {
    // Both were written by one server; its zone does not matter.
    let at = |text: &str| text.rsplit_once(' ')?.0.parse::<DateTime>().ok();
    let span = at(last)?.duration_since(at(first)?);
    u64::try_from(span.as_millis()).ok()
}

/// What its successor has last of it.
fn last_seen(successor: Seen<'_>) -> String {
    let name = &successor.server.name;
    let commit = successor.instance.and_then(|instance| instance.positions.replayed_commit.as_deref());
    commit.map(|at| format!("; the last commit that \"{name}\" has is of {at}")).unwrap_or_default()
}

/// For how many standbys commits waited, as far as the former primary's files say.
fn waited(state: &State<'_>, from: &ServerName) -> Option<String> {
    let wish = state.topology.synchronous(from)?;
    let names = crate::plan::files::parameters::synchronous_standby_names(&wish);
    let files = &state.seen(from)?.files;
    let in_force = files.iter().any(|(path, fact)| {
        let text = fact.known().and_then(|fact| fact.content.as_deref()).unwrap_or_default();
        path.ends_with(".conf") && text.contains(&names)
    });
    in_force.then(|| format!("{} of {}", wish.count, count(wish.standbys.len(), "standby")))
}

/// What is lost, for whoever is asked in a moment.
pub(super) fn told_of(from: &ServerName, loss: &Loss) -> Diagnostic {
    let diagnostic = match loss {
        Loss::Nothing(_) => Diagnostic::note(Code::FailoverLoss, "nothing is lost by this failover"),
        Loss::Known { .. } | Loss::Unknown(_) => {
            Diagnostic::warning(Code::FailoverLoss, "commits may be lost by this failover")
        }
    };
    diagnostic.server(from).detail(loss.words())
}

/// Asks for the operator's word.
pub(super) fn needs_consent(from: &ServerName, request: Request<'_>, loss: &Loss) -> Diagnostic {
    let Request { to, attested, .. } = request;
    let detail = loss.words();
    let again = attest::command(to, attested);
    Diagnostic::error(Code::LossNeedsConsent, format!("what only \"{from}\" has would not be on the new primary"))
        .server(from)
        .detail(format!("{detail} They stay in its data directory, which nothing changes."))
        .hint(format!(
            "If \"{from}\" can be started again with its last data, nothing is lost. Otherwise: {again} --accept-loss"
        ))
}

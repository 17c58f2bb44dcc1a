//! The plan of `failover`: the primary is dead, and a standby takes its place.
//!
//! Fence first (hazards 54, 55): the former primary's server answers, its instance does not run, and before anybody is promoted
//! its role file says `fenced`, so that nothing starts it again. Where its server does not answer, nothing proves that it is
//! dead: the plan refuses and says what would, unless a person answers for it. The successor is the one that has received
//! most (hazard 56). What it lacks is read from the former primary's own WAL, and needs consent (hazard 73). Reads no clock.

mod ahead;
mod attest;
mod bystanders;
mod elsewhere;
mod loss;
mod place;
mod unseen;

use std::collections::BTreeSet;

use self::ahead::Ahead;
use self::bystanders::{Left, Sorted, sort};
pub use self::loss::Loss;
use self::place::{Where, place};
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::judge::State;
use crate::model::lost::Lost;
use crate::model::lsn::Lsn;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::quantity::bytes;
use crate::model::topology::Topology;
use crate::model::wal::WalQuestion;
use crate::plan::files::guard;
use crate::plan::operation::switchover::stage::Stage;
use crate::plan::operation::switchover::{stage, steps};
use crate::plan::seen::Seen;
use crate::plan::step::{Action, Promotion, Risk, Step};
use crate::plan::steps::{service, sql};
use crate::plan::survey::{Survey, history};
use crate::plan::{Material, Plan};

/// What must be free on the successor's disk, in bytes: four segments of WAL as they are by default.
const ROOM_TO_PROMOTE: u64 = 64 << 20;

/// What the operator asks for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The server that becomes the primary.
    pub to: &'a ServerName,
    /// Whether what only the former primary has may be missing from then on.
    pub accept_loss: bool,
    /// The servers of which a person says that they are off and stay off.
    pub attested: &'a BTreeSet<ServerName>,
}

/// Where the former primary and its successor part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parting {
    /// The former primary.
    pub from: ServerName,
    pub timeline: u32,
    /// How far its successor has replayed: the end of a whole record. Of what it has received the last record may be torn.
    pub left_at: Lsn,
}

/// A failover that may be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Failover {
    /// The former primary, where that is known.
    pub from: Option<ServerName>,
    /// The primary from then on.
    pub to: ServerName,
    /// What is lost; none where somebody was promoted already.
    pub loss: Option<Loss>,
    /// The steps.
    pub plan: Plan,
}

/// Says who was the primary, and how far its successor has come: where it must be asked what only it has. None where nobody
/// would be promoted.
pub fn parting(topology: &Topology, observation: &Observation, request: Request<'_>) -> Option<Parting> {
    let state = State::of(topology, observation);
    let Ok(Where::Dead(from)) = place(&state, request) else { return None };
    let control = state.server(from).control?;
    let instance = state.instance(request.to)?;
    let left_at = instance.positions.replay?;
    (instance.timeline == control.timeline).then(|| Parting { from: from.clone(), timeline: control.timeline, left_at })
}

/// Returns what must be read of servers that are to follow the new primary, and was not yet. An answer may lead to the next
/// question: who followed one that stays behind follows the new primary.
pub fn questions(topology: &Topology, observation: &Observation, request: Request<'_>) -> Vec<WalQuestion> {
    let state = State::of(topology, observation);
    let Ok(place) = place(&state, request) else { return Vec::new() };
    let mut left = Left::new();
    let Sorted { survey, links, .. } = sort(&state, request, place.former(), &mut left, false);
    let asked = links.iter().filter_map(|link| history::question(topology, &survey.servers, link)?.ok());
    let is_new = |question: &WalQuestion| {
        observation.histories.get(&question.joining).is_none_or(|answered| answered.question != *question)
    };
    asked.filter(is_new).collect()
}

/// Plans to make a standby the primary whose primary is dead. `lost` is what the former primary's WAL tells of [`parting`].
///
/// # Errors
/// Every reason to refuse. Nothing was changed.
pub fn plan_failover(
    topology: &Topology,
    observation: &Observation,
    material: &Material,
    request: Request<'_>,
    lost: Option<&Observed<Lost>>,
) -> Result<Failover, Vec<Diagnostic>> {
    let state = &State::of(topology, observation);
    let place = place(state, request)?;
    let given = Given { state, material, request, lost, place };
    with_left(given, &mut Left::new())
}

/// What is planned with.
#[derive(Clone, Copy)]
struct Given<'a> {
    state: &'a State<'a>,
    material: &'a Material,
    request: Request<'a>,
    lost: Option<&'a Observed<Lost>>,
    place: Where<'a>,
}

/// Plans with those that are not left as they are.
fn with_left(given: Given<'_>, left: &mut Left) -> Result<Failover, Vec<Diagnostic>> {
    let Given { state, material, request, lost, place } = given;
    let State { topology, observation, .. } = *state;
    let (to, from) = (request.to, place.former());
    let Sorted { survey, links, mut refusals } = sort(state, request, from, left, true);
    let Survey { servers, mut notes, .. } = survey;
    let foreign = bystanders::foreign(left);
    for told in unseen::told(state, request, from) {
        match (told.severity, place) {
            (Severity::Error, Where::Dead(_)) => refusals.push(told),
            // Somebody is the primary already; what is left to do opens nothing.
            _ => notes.push(Diagnostic { severity: Severity::Warning, ..told }),
        }
    }
    let mut opening = Vec::new();
    let mut loss = None;
    if let Where::Dead(from) = place {
        // It was about to hand over, perhaps to one that nobody looks at any more.
        refusals.extend(stage::successor_outside(state, from));
        match servers.get(to) {
            Some(successor) => {
                refusals.extend(unfit(state, from, *successor));
                let ahead = ahead::ahead(state, from, *successor, &foreign);
                refusals.extend(ahead.refusals(request));
                let told = loss::of(state, from, *successor, lost);
                if !told.is_within(topology.common().objectives) && !request.accept_loss {
                    refusals.push(loss::needs_consent(from, request, &told));
                }
                notes.push(loss::told_of(from, &told));
                loss = Some(told);
                opening = open(topology, observation, from, *successor, &ahead);
                notes.extend(ahead.notes(to));
            }
            None if refusals.is_empty() => {
                let message = format!("server \"{to}\" has no data directory of this topology");
                let hint = "Choose a standby that has: pgstead status shows them.";
                refusals.push(Diagnostic::error(Code::NoData, message).server(to).hint(hint));
            }
            None => {}
        }
    }
    let back = from.filter(|_| matches!(place, Where::Promoted(_)));
    let back = back.filter(|from| state.seen(from).is_some() && !state.server(from).is_fenced());
    if let Some(back) = back {
        opening = fence(topology, observation, back).unwrap_or_default();
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let stage = Stage::Promoted { from: None };
    let departed = from;
    let (servers, links) = (&servers, links.as_slice());
    let steps = steps::Steps { topology, observation, material, servers, links, stage, to, opening, departed };
    let steps::Listed { plan, notes: told } = match steps.list() {
        Ok(listed) => listed,
        // What is wrong with the files of a bystander shows when its steps are listed.
        Err(refusals) => {
            bystanders::leave(state, request, from, left, refusals)?;
            return with_left(given, left);
        }
    };
    notes.extend(told);
    if let Some(from) = from.filter(|from| observation.server(from).is_some()) {
        let told = match back {
            Some(_) => {
                Diagnostic::note(Code::FormerPrimaryBack, format!("server \"{from}\" was replaced while it was away"))
                    .detail("Nobody could fence it then; this command does.")
            }
            None => Diagnostic::note(Code::FormerPrimaryFenced, format!("server \"{from}\" stays fenced")),
        };
        notes.push(told.server(from).hint(format!("Once its server is repaired: pgstead reseed {from}")));
    }
    notes.extend(attest::notes(request));
    notes.extend(bystanders::notes(left, to));
    let plan = Plan { topology: topology.name().clone(), steps: plan.finish(), settings: Vec::new(), notes };
    Ok(Failover { from: from.cloned(), to: to.clone(), loss, plan })
}

/// Why a server cannot be the successor (hazards 56, 57, 59).
fn unfit(state: &State<'_>, from: &ServerName, successor: Seen<'_>) -> Vec<Diagnostic> {
    let to = &successor.server.name;
    let Some(instance) = successor.instance else {
        return vec![
            Diagnostic::error(Code::SuccessorStopped, format!("server \"{to}\": its instance does not run"))
                .server(to)
                .hint(format!("Start it, or see what is wrong with it: pgstead reseed {to} --dry-run")),
        ];
    };
    let mut refusals = Vec::new();
    if let Some(control) =
        state.server(from).control.filter(|control| control.system_identifier != instance.system_identifier)
    {
        let message = format!("server \"{to}\" is not a copy of \"{from}\"");
        let detail =
            format!("Their system identifiers are {} and {}.", instance.system_identifier, control.system_identifier);
        let hint = "Correct the addresses in the inventory, or choose another server.";
        refusals.push(Diagnostic::error(Code::SystemIdentifierDiffers, message).server(to).detail(detail).hint(hint));
    }
    if instance.settings.get("recovery_min_apply_delay").is_some_and(|setting| setting.setting != "0") {
        refusals.push(
            Diagnostic::error(Code::SuccessorDelayed, format!("server \"{to}\" replays later on purpose"))
                .server(to)
                .hint("Choose another server, or reset recovery_min_apply_delay there."),
        );
    }
    let room = successor.seen.disks.get(&successor.layout.data_directory).and_then(Observed::known);
    if let Some(room) = room.filter(|room| room.free_bytes < ROOM_TO_PROMOTE) {
        refusals.push(
            Diagnostic::error(
                Code::SuccessorDiskFull,
                format!("server \"{to}\": its disk has no room to become the primary"),
            )
            .server(to)
            .detail(format!(
                "{} are free at {}; a promotion alone writes new segments of WAL.",
                bytes(room.free_bytes),
                room.mount
            ))
            .hint("Free some space there, or choose another server."),
        );
    }
    refusals
}

/// Fences the former primary, sees that it has ended, and promotes its successor. One that a person answers for is out of reach.
fn open(
    topology: &Topology,
    observation: &Observation,
    from: &ServerName,
    successor: Seen<'_>,
    ahead: &Ahead<'_>,
) -> Vec<Step> {
    let to = &successor.server.name;
    let mut steps = fence(topology, observation, from).unwrap_or_default();
    let instance = successor.instance;
    if instance.and_then(|instance| instance.replay_pause_state.as_deref()).is_some_and(|state| state != "not paused") {
        let command = sql::psql(successor.layout, successor.server, sql::resume_replay());
        steps.push(Step::run(to, Risk::Reversible, "resume replay", vec![command]));
    }
    let others = ahead.to_compare();
    let (promote, timeline) = (service::promote(successor), instance.map_or(0, |instance| instance.timeline));
    let promotion = Promotion { server: to.clone(), promote, timeline, others };
    steps.push(Step {
        title: "promote it".to_owned(),
        server: Some(to.clone()),
        risk: Risk::Disruptive,
        action: Action::Promote(promotion),
        files: Vec::new(),
    });
    steps
}

fn fence(topology: &Topology, observation: &Observation, from: &ServerName) -> Option<Vec<Step>> {
    let seen = Seen::of_stopped(topology, observation, from)?;
    Some(vec![guard::fence(seen), service::stop_silent(seen)])
}

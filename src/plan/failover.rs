//! The plan of `failover`: the primary is dead, and a standby takes its place.
//!
//! Fence first (hazards 54, 55): the former primary's server answers, its instance does not run, and before anybody is promoted
//! its role file says `fenced`, so that nothing starts it again. Where its server does not answer, nothing proves that it is
//! dead, and the plan refuses and says what would. The successor is the one that has received most (hazard 56). What it lacks
//! is read from the former primary's own WAL, and needs consent (hazard 73). Reads no clock.

use crate::diagnostic::Diagnostic;
use crate::diagnostic::Severity;
use crate::model::lost::Lost;
use crate::model::lsn::Lsn;
use crate::model::name::ServerName;
use crate::model::observation::Instance;
use crate::model::observation::Observation;
use crate::model::observation::ServerObservation;
use crate::model::observed::Observed;
use crate::model::quantity::count;
use crate::model::topology::Link;
use crate::model::topology::Topology;
use crate::model::wal::WalQuestion;
use crate::plan::Material;
use crate::plan::Plan;
use crate::plan::guard;
use crate::plan::history;
use crate::plan::identity;
use crate::plan::service;
use crate::plan::sql;
use crate::plan::step::Action;
use crate::plan::step::Promotion;
use crate::plan::step::Risk;
use crate::plan::step::Step;
use crate::plan::survey::Seen;
use crate::plan::survey::Survey;
use crate::plan::survey::survey_of;
use crate::plan::switchover::stage::Stage;
use crate::plan::switchover::steps;

/// The state of a primary that shut down in order.
const SHUT_DOWN: &str = "shut down";

/// What `pg_waldump` says where WAL ends at the position from which it should read.
const END_OF_WAL: &str = "could not find a valid record after";

/// What the operator asks for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The server that becomes the primary.
    pub to: &'a ServerName,
    /// Whether what only the former primary has may be missing from then on.
    pub accept_loss: bool,
}

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
    },
    /// Nobody can tell; why.
    Unknown(String),
}

impl Loss {
    /// Says it in a sentence.
    pub fn words(&self) -> String {
        match self {
            Loss::Nothing(why) => format!("Nothing is lost: {why}."),
            Loss::Known { bytes, transactions } => {
                let transactions = count(usize::try_from(*transactions).unwrap_or(usize::MAX), "transaction");
                let bytes = count(usize::try_from(*bytes).unwrap_or(usize::MAX), "byte");
                format!("On the former primary alone: {transactions}, in {bytes} of WAL.")
            }
            Loss::Unknown(why) => format!("What is on the former primary alone is not known: {why}."),
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

/// Where the former primary and its successor part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parting {
    /// The former primary.
    pub from: ServerName,
    /// Its timeline.
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
pub fn parting(topology: &Topology, observation: &Observation, to: &ServerName) -> Option<Parting> {
    let Ok(Where::Dead(from)) = place(topology, observation, to) else { return None };
    let control = observation.server(from)?.data_directory.known()?.control.known()?;
    let instance = observation.server(to)?.instance.known()?;
    let left_at = instance.positions.replay?;
    (instance.timeline == control.timeline).then(|| Parting { from: from.clone(), timeline: control.timeline, left_at })
}

/// Returns what must be read of servers that are to follow the new primary.
pub fn questions(topology: &Topology, observation: &Observation, to: &ServerName) -> Vec<WalQuestion> {
    let Ok(place) = place(topology, observation, to) else { return Vec::new() };
    let from = place.former();
    let links = links(topology, to, from);
    let Survey { servers, .. } = surveyed(topology, observation, from);
    links.iter().filter_map(|link| history::question(topology, &servers, link)?.ok()).collect()
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
    let to = request.to;
    let place = place(topology, observation, to)?;
    let from = place.former();
    let links = links(topology, to, from);
    let Survey { servers, mut refusals, mut notes, .. } = surveyed(topology, observation, from);
    refusals.extend(history::refusals(topology, observation, &servers, &links));
    notes.retain(|note| note.code != "primary-elsewhere");
    for told in unseen(topology, observation, from) {
        match (told.severity, place) {
            (Severity::Error, Where::Dead(_)) => refusals.push(told),
            // Somebody is the primary already; what is left to do opens nothing.
            _ => notes.push(Diagnostic { severity: Severity::Warning, ..told }),
        }
    }
    let mut opening = Vec::new();
    let mut loss = None;
    if let Where::Dead(from) = place {
        match (observation.server(from), servers.get(to)) {
            (Some(former), Some(successor)) => {
                refusals.extend(unfit(topology, observation, from, *successor));
                let told = loss_of(topology, observation, from, *successor, lost);
                if !matches!(told, Loss::Nothing(_)) && !request.accept_loss {
                    refusals.push(needs_consent(from, to, &told));
                }
                notes.push(told_of(from, &told));
                loss = Some(told);
                opening = open(topology, former, from, *successor);
            }
            _ if refusals.is_empty() => {
                let message = format!("server \"{to}\" has no data directory of this topology");
                let hint = "Choose a standby that has: pgstead status shows them.";
                refusals.push(Diagnostic::error("no-data", message).server(to).hint(hint));
            }
            _ => {}
        }
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let stage = Stage::Promoted { from: None };
    let steps = steps::Steps { topology, observation, material, servers: &servers, links: &links, stage, to, opening };
    let steps::Listed { plan, notes: told } = steps.list()?;
    notes.extend(told);
    if let Some(from) = from {
        notes.push(
            Diagnostic::note("former-primary-fenced", format!("server \"{from}\" stays fenced"))
                .server(from)
                .hint(format!("When its server is well again: pgstead reseed {from}")),
        );
    }
    let plan = Plan { topology: topology.name().clone(), steps: plan.finish(), settings: Vec::new(), notes };
    Ok(Failover { from: from.cloned(), to: to.clone(), loss, plan })
}

/// How things are.
#[derive(Debug, Clone, Copy)]
enum Where<'a> {
    /// The former primary does not run, and nobody was promoted.
    Dead(&'a ServerName),
    /// The successor is the primary already; the former primary, where it is known.
    Promoted(Option<&'a ServerName>),
}

impl<'a> Where<'a> {
    fn former(self) -> Option<&'a ServerName> {
        match self {
            Where::Dead(from) => Some(from),
            Where::Promoted(from) => from,
        }
    }
}

/// Finds out who was the primary, with the evidence that it is dead.
fn place<'a>(topology: &'a Topology, observation: &Observation, to: &ServerName) -> Result<Where<'a>, Vec<Diagnostic>> {
    let names = || topology.servers().map(|server| &server.name);
    let instance = |name: &ServerName| observation.server(name).and_then(|seen| seen.instance.known());
    let writers: Vec<&ServerName> = names().filter(|name| instance(name).is_some_and(|i| !i.in_recovery)).collect();
    let fenced = names().find(|name| observation.server(name).is_some_and(is_fenced));
    // Its role file says that it was the primary, and no signal file says otherwise. A standby that lost its signal file was
    // none, whatever it would start as (hazard 34).
    let is_former = |name: &&ServerName| {
        let Some(seen) = observation.server(name).filter(|seen| seen.instance.known().is_none()) else { return false };
        let data = seen.data_directory.known().filter(|data| data.entries > 0);
        let has_signal = data.is_some_and(|data| data.standby_signal || data.recovery_signal);
        let was_primary = role(seen).is_some_and(|role| role.trim() == "primary" || role == guard::FENCED)
            || seen.layout.known().and_then(|layout| guard::successor(seen, layout)).is_some();
        **name != *to && was_primary && !has_signal
    };
    let former: Vec<&ServerName> = names().filter(is_former).collect();
    // One that has no signal file, and does not run, lost it or was promoted: then nobody else has what it accepted.
    let is_unclear = |name: &&ServerName| {
        let Some(seen) = observation.server(name).filter(|seen| seen.instance.known().is_none()) else { return false };
        let data = seen.data_directory.known().filter(|data| data.entries > 0);
        !former.contains(name) && data.is_some_and(|data| !data.standby_signal && !data.recovery_signal)
    };
    if let (true, Some(unclear)) = (writers.is_empty(), names().find(is_unclear)) {
        return Err(vec![
            Diagnostic::error("former-primary-unknown", format!("server \"{unclear}\" does not run, and is no standby as far as its data say"))
                .server(unclear)
                .detail("It lost its standby.signal, or was promoted past pgstead. Then what it accepted is on no other server.")
                .hint(format!("Look which it is: pgstead status, and the log of its instance. One that only lost the file gets it back; one that was promoted has the data that count. Then: pgstead failover --to {to}")),
        ]);
    }
    match (writers.as_slice(), former.as_slice()) {
        ([writer], _) if *writer == to => Ok(Where::Promoted(fenced.filter(|name| *name != to))),
        ([writer, ..], _) => Err(vec![
            Diagnostic::error("primary-runs", format!("server \"{writer}\" is the primary, and runs"))
                .server(writer)
                .detail("A failover is for a primary that is dead. Two servers would accept writes.")
                .hint(format!("To change the primary with nothing lost: pgstead switchover --to {to}. If it is broken, stop its instance first.")),
        ]),
        ([], [from]) => Ok(Where::Dead(from)),
        ([], []) => Err(not_proven(topology, observation, to)),
        ([], several) => {
            let all: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
            Err(vec![
                Diagnostic::error("former-primary-unknown", format!("{} were all primaries, as far as their data say", all.join(" and ")))
                    .hint("Find out which one has the data that counts, and set the data directories of the others aside."),
            ])
        }
    }
}

fn role(seen: &ServerObservation) -> Option<&str> {
    let role = seen.layout.known().and_then(|layout| seen.files.get(&layout.own("role"))).and_then(Observed::known);
    role.and_then(|fact| fact.content.as_deref())
}

fn is_fenced(seen: &ServerObservation) -> bool {
    role(seen) == Some(guard::FENCED)
}

/// Says why nobody may be promoted where the primary is only out of reach, and what would prove that it is dead (hazard 54).
fn not_proven(topology: &Topology, observation: &Observation, to: &ServerName) -> Vec<Diagnostic> {
    let seen = |name: &ServerName| observation.servers.get(name).and_then(Observed::known);
    let missing: Vec<&ServerName> =
        topology.servers().map(|server| &server.name).filter(|name| seen(name).is_none()).collect();
    if missing.is_empty() {
        return vec![
            Diagnostic::error("primary-missing", "no server has the data of a primary")
                .detail("Every server is a standby, as far as its data say.")
                .hint("Look for the primary's data directory: where one is not mounted, mount it."),
        ];
    }
    let of_server = |name: &&ServerName| {
        // What the others see of it: two places to look from are more than one.
        let views: Vec<String> = topology
            .servers()
            .filter_map(|server| Some((server, seen(&server.name)?)))
            .map(|(server, other)| {
                let receives =
                    other.instance.known().and_then(|instance| instance.receiver.as_ref()).is_some_and(|receiver| {
                        let address = topology.server(name).map(|server| server.address.to_string());
                        receiver.status == "streaming" && receiver.sender_host == address
                    });
                match receives {
                    true => format!("\"{}\" receives WAL from it", server.name),
                    false => format!("\"{}\" receives nothing from it", server.name),
                }
            })
            .collect();
        let why = observation.servers.get(*name).and_then(Observed::unreadable).unwrap_or("It was not looked at.");
        Diagnostic::error("not-fenced", format!("server \"{name}\" cannot be reached, and nothing proves that its instance is dead"))
            .server(name)
            .detail(format!("{} {}. Clients may reach it all the same, and two servers would accept writes.", why.trim(), views.join("; ")))
            .hint(format!("What would prove it: its server answers over SSH and its instance does not run. Bring the server back, or its network, then: pgstead failover --to {to}"))
    };
    missing.iter().map(of_server).collect()
}

/// The servers that are there, but for the former primary.
fn surveyed<'a>(topology: &'a Topology, observation: &'a Observation, from: Option<&ServerName>) -> Survey<'a> {
    let is_there = |name: &ServerName| observation.server(name).is_some() && Some(name) != from;
    let mut survey = survey_of(topology, observation, is_there);
    // That none of them is the primary is why this is done.
    survey.refusals.retain(|refusal| refusal.code != "primary-missing");
    survey
}

/// The links below the new primary; who followed the former one follows the new one until it is back.
fn links(topology: &Topology, to: &ServerName, from: Option<&ServerName>) -> Vec<Link> {
    let mut links = topology.links(to);
    for link in &mut links {
        if Some(&link.upstream) == from {
            link.upstream = to.clone();
        }
    }
    links
}

/// Those that nobody could look at. One that streams from a server that was looked at is a standby, and may have more than the
/// successor; any other may have been promoted itself.
fn unseen(topology: &Topology, observation: &Observation, from: Option<&ServerName>) -> Vec<Diagnostic> {
    let streams = |name: &ServerName| {
        let seen = topology.servers().filter_map(|server| observation.server(&server.name)?.instance.known());
        let mut senders = seen.flat_map(|instance| &instance.senders);
        senders.any(|sender| sender.application_name == name.as_str() && sender.state == "streaming")
    };
    let unseen = topology.servers().map(|server| &server.name);
    let unseen = unseen.filter(|name| Some(*name) != from && observation.server(name).is_none());
    let told = |name: &ServerName| {
        match streams(name) {
        true => Diagnostic::warning("not-looked-at", format!("\"{name}\" could not be looked at"))
            .detail("It receives WAL, so that it is a standby. Whether it has received more than the successor is not known.")
            .hint("It follows when it is back: pgstead bootstrap, or pgstead reseed."),
        false => Diagnostic::error("not-fenced", format!("server \"{name}\" cannot be reached, and nothing shows that it is a standby"))
            .detail("It may have been promoted. Two servers would accept writes.")
            .hint(format!("Bring it back, and run the same command again. When you know that it is off or a standby, take \"{name}\" out of the inventory for this.")),
    }
    };
    unseen.map(|name| told(name).server(name)).collect()
}

/// How far a standby has come: what it has received it replays before it is promoted.
fn received(instance: &Instance) -> Option<Lsn> {
    instance.positions.receive.max(instance.positions.replay)
}

/// Why a server cannot be the successor (hazards 56, 57, 59).
fn unfit(topology: &Topology, observation: &Observation, from: &ServerName, successor: Seen<'_>) -> Vec<Diagnostic> {
    let to = &successor.server.name;
    let Some(instance) = successor.instance else {
        return vec![
            Diagnostic::error("successor-stopped", format!("server \"{to}\": its instance does not run"))
                .server(to)
                .hint(format!("Start it, or see what is wrong with it: pgstead reseed {to} --dry-run")),
        ];
    };
    let mut refusals = Vec::new();
    let control = observation.server(from).and_then(|seen| seen.data_directory.known()?.control.known());
    if let Some(control) = control.filter(|control| control.system_identifier != instance.system_identifier) {
        let message = format!("server \"{to}\" is not a copy of \"{from}\"");
        let detail =
            format!("Their system identifiers are {} and {}.", instance.system_identifier, control.system_identifier);
        let hint = "Correct the addresses in the inventory, or choose another server.";
        refusals.push(Diagnostic::error("system-identifier-differs", message).server(to).detail(detail).hint(hint));
    }
    if instance.settings.get("recovery_min_apply_delay").is_some_and(|setting| setting.setting != "0") {
        refusals.push(
            Diagnostic::error("successor-delayed", format!("server \"{to}\" replays later on purpose"))
                .server(to)
                .hint("Choose another server, or reset recovery_min_apply_delay there."),
        );
    }
    let position = |name: &ServerName| {
        let instance = observation.server(name)?.instance.known().filter(|instance| instance.in_recovery)?;
        Some((instance.timeline, received(instance)?))
    };
    let own = position(to);
    let others = topology.servers().map(|server| &server.name).filter(|name| *name != to && *name != from);
    let ahead = others.filter_map(|name| Some((name, position(name)?))).max_by_key(|(_, position)| *position);
    if let Some((other, (timeline, lsn))) = ahead.filter(|(_, position)| Some(*position) > own) {
        refusals.push(
            Diagnostic::error("successor-behind", format!("server \"{to}\" has received less than \"{other}\""))
                .server(to)
                .detail(format!(
                    "\"{other}\" has WAL up to {lsn} on timeline {timeline}, \"{to}\" {}.",
                    own.map_or("none".to_owned(), |(timeline, lsn)| format!("up to {lsn} on timeline {timeline}"))
                ))
                .hint(format!(
                    "What \"{other}\" has more would be lost. Take it instead: pgstead failover --to {other}"
                )),
        );
    }
    refusals
}

fn loss_of(
    topology: &Topology,
    observation: &Observation,
    from: &ServerName,
    successor: Seen<'_>,
    lost: Option<&Observed<Lost>>,
) -> Loss {
    let former = observation.server(from);
    if !former.is_some_and(|seen| seen.instance.is_absent()) {
        return Loss::Unknown("its instance runs and does not answer, so that it may still accept writes".to_owned());
    }
    let control = former.and_then(|seen| seen.data_directory.known()?.control.known());
    let timelines = control.zip(successor.instance).map(|(control, instance)| (control.timeline, instance.timeline));
    if let Some((one, other)) = timelines.filter(|(one, other)| one != other) {
        return Loss::Unknown(format!("its control file is on timeline {one}, and its successor on {other}"));
    }
    let replayed = successor.instance.and_then(|instance| instance.positions.replay);
    if let (Some(control), Some(replayed)) = (control, replayed)
        && control.state == SHUT_DOWN
        && replayed > control.checkpoint
    {
        return Loss::Nothing(format!("\"{from}\" shut down in order, and its shutdown checkpoint was replayed"));
    }
    if let Some(why) = promised(topology, observation, from, successor) {
        return Loss::Nothing(why);
    }
    match (lost, replayed) {
        (Some(Observed::Known(Lost { transactions: 0, .. })), _) => {
            Loss::Nothing(format!("\"{from}\" committed nothing that \"{}\" does not have", successor.server.name))
        }
        (Some(Observed::Known(Lost { transactions, end: Some(end), .. })), Some(left_at)) => {
            Loss::Known { bytes: end.0.saturating_sub(left_at.0), transactions: *transactions }
        }
        // Its own recovery would end there, too: what is behind was never on its disk, and so never acknowledged.
        (Some(Observed::Unreadable(why)), Some(left_at)) if why.contains(END_OF_WAL) => Loss::Nothing(format!(
            "the WAL of \"{from}\" ends at {left_at}, and \"{}\" has that",
            successor.server.name
        )),
        (Some(Observed::Unreadable(why)), _) => Loss::Unknown(format!("its WAL could not be read: {}", why.trim())),
        _ => Loss::Unknown("its WAL could not be read".to_owned()),
    }
}

/// Every acknowledged commit is on one of the standbys that were looked at, where together with those that it waited for
/// they are more than all there are (hazard 51). The successor has most of them.
fn promised(topology: &Topology, observation: &Observation, from: &ServerName, successor: Seen<'_>) -> Option<String> {
    let wish = topology.synchronous(from)?;
    // The promise that was in force stands in the former primary's own file.
    let names = crate::plan::parameters::synchronous_standby_names(&wish);
    let files = &observation.server(from)?.files;
    let in_force = files.iter().any(|(path, fact)| {
        let text = fact.known().and_then(|fact| fact.content.as_deref()).unwrap_or_default();
        path.ends_with(".conf") && text.contains(&names)
    });
    let is_seen = |name: &&ServerName| {
        observation.server(name).and_then(|seen| seen.instance.known()).is_some_and(|instance| instance.in_recovery)
    };
    let n_seen = wish.standbys.iter().filter(is_seen).count();
    let is_one = wish.standbys.contains(&successor.server.name);
    (in_force && is_one && n_seen + wish.count > wish.standbys.len()).then(|| {
        format!(
            "commits on \"{from}\" waited for {} of {}, and {n_seen} of these were looked at",
            wish.count,
            wish.standbys.len()
        )
    })
}

/// What is lost, for whoever is asked in a moment.
fn told_of(from: &ServerName, loss: &Loss) -> Diagnostic {
    let diagnostic = match loss {
        Loss::Nothing(_) => Diagnostic::note("failover-loss", "nothing is lost by this failover"),
        Loss::Known { .. } | Loss::Unknown(_) => {
            Diagnostic::warning("failover-loss", "commits may be lost by this failover")
        }
    };
    diagnostic.server(from).detail(loss.words())
}

fn needs_consent(from: &ServerName, to: &ServerName, loss: &Loss) -> Diagnostic {
    let detail = loss.words();
    Diagnostic::error("loss-needs-consent", format!("what only \"{from}\" has would not be on the new primary"))
        .server(from)
        .detail(format!("{detail} They stay in its data directory, which nothing changes."))
        .hint(format!(
            "If \"{from}\" can be started again, nothing is lost. Otherwise: pgstead failover --to {to} --accept-loss"
        ))
}

/// Fences the former primary, sees that it has ended, and promotes its successor.
fn open(topology: &Topology, former: &ServerObservation, from: &ServerName, successor: Seen<'_>) -> Vec<Step> {
    let (Some(server), Observed::Known(layout)) = (topology.server(from), &former.layout) else { return Vec::new() };
    let seen = Seen {
        topology: topology.name(),
        version: topology.common().version,
        server,
        seen: former,
        layout,
        data: former.data_directory.known(),
        instance: None,
        configuration: identity::configuration(former),
        adopted: false,
    };
    let to = &successor.server.name;
    let mut steps = vec![guard::fence(seen), service::stop_replaced(seen)];
    let instance = successor.instance;
    if instance.and_then(|instance| instance.replay_pause_state.as_deref()).is_some_and(|state| state != "not paused") {
        let command = sql::psql(successor.layout, successor.server, sql::resume_replay());
        steps.push(Step::run(to, Risk::Reversible, "resume replay", vec![command]));
    }
    let promotion = Promotion { server: to.clone(), timeline: instance.map_or(0, |instance| instance.timeline) };
    steps.push(Step {
        title: "promote it".to_owned(),
        server: Some(to.clone()),
        risk: Risk::Disruptive,
        action: Action::Promote(promotion),
        files: Vec::new(),
    });
    steps
}

//! Who was the primary, and what shows that it is dead (hazard 54).

use crate::diagnostic::Diagnostic;
use crate::model::name::ServerName;
use crate::model::observation::DataDirectory;
use crate::model::observation::Observation;
use crate::model::observation::ServerObservation;
use crate::model::observed::Observed;
use crate::model::topology::Topology;
use crate::plan::failover::Request;
use crate::plan::failover::attest;
use crate::plan::failover::elsewhere;
use crate::plan::failover::unseen;
use crate::plan::guard;
use crate::plan::unasked;

/// How things are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Where<'a> {
    /// The former primary does not run, and nobody was promoted.
    Dead(&'a ServerName),
    /// The successor is the primary already; the former primary, where it is known.
    Promoted(Option<&'a ServerName>),
}

impl<'a> Where<'a> {
    /// The former primary.
    pub(super) fn former(self) -> Option<&'a ServerName> {
        match self {
            Where::Dead(from) => Some(from),
            Where::Promoted(from) => from,
        }
    }
}

/// Finds out who was the primary, with the evidence that it is dead.
///
/// # Errors
/// A primary runs; or nothing shows that the former one is dead; or who it was is not known; or what a person answers for
/// is contradicted.
pub(super) fn place<'a>(
    topology: &'a Topology,
    observation: &Observation,
    request: Request<'_>,
) -> Result<Where<'a>, Vec<Diagnostic>> {
    let to = request.to;
    let contradicted = attest::contradicted(topology, observation, request);
    if !contradicted.is_empty() {
        return Err(contradicted);
    }
    if let Some(unasked) = unasked::primary(topology, observation) {
        return Err(vec![unasked]);
    }
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
        **name != *to && (was_primary(seen) || is_fenced(seen)) && !has_signal
    };
    let former: Vec<&ServerName> = names().filter(is_former).collect();
    // One that has no signal file, and does not run, lost it or was promoted: then nobody else has what it accepted. A bystander
    // that only lost it is left as it is: its start guard holds it to its role.
    let is_unclear = |name: &&ServerName| {
        let Some(seen) = observation.server(name).filter(|seen| seen.instance.known().is_none()) else { return false };
        let data = seen.data_directory.known().filter(|data| data.entries > 0);
        !former.contains(name)
            && data.is_some_and(|data| {
                !data.standby_signal && !data.recovery_signal && (*name == to || data.is_of_a_primary())
            })
    };
    let unclear: Vec<&ServerName> = names().filter(is_unclear).collect();
    let former = last_of(observation, former);
    // A failover to this one was begun, whose mark is the fence or a person's word: it was promoted, and died behind that.
    // One that only lost its signal file was not, and would start as a primary without a timeline of its own (hazard 58).
    let begun = fenced.filter(|name| *name != to).or_else(|| attest::former(topology, observation, request));
    let was_promoted =
        observation.server(to).and_then(|seen| seen.data_directory.known()).is_some_and(DataDirectory::is_of_a_primary);
    if let (true, [one], Some(from)) = (writers.is_empty(), unclear.as_slice(), begun)
        && *one == to
        && was_promoted
    {
        return Ok(Where::Promoted(Some(from)));
    }
    if let (true, Some(unclear)) = (writers.is_empty(), unclear.first()) {
        let layout = observation.server(unclear).and_then(|seen| seen.layout.known());
        let own = |name: &str| layout.map_or_else(|| name.to_owned(), |layout| layout.own(name));
        let (role, alone) = (own("role"), own(guard::START_ALONE));
        return Err(vec![
            Diagnostic::error("former-primary-unknown", format!("server \"{unclear}\" does not run, and is no standby as far as its data say"))
                .server(unclear)
                .detail("It lost its standby.signal, or was promoted past pgstead. Then what it accepted is on no other server.")
                .hint(format!("Look which it is: pgstead status, and the log of its instance. One that only lost the file gets it back; then: pgstead failover --to {to}. One that was promoted has the data that count: on its server, echo primary >{role}, and start its instance, which its start guard refuses while another primary runs, and which waits while nobody answers (touch {alone} lets it start alone, once, within a minute); then: pgstead failover --to {unclear}")),
        ]);
    }
    match (writers.as_slice(), former.as_slice()) {
        ([writer], former) if *writer == to => {
            // One that nobody could fence came back behind its successor's promotion: it does not know of it.
            let replaced = || former.iter().copied().find(|name| is_replaced(observation, name, to));
            Ok(Where::Promoted(fenced.filter(|name| *name != to).or_else(replaced)))
        }
        ([writer, ..], _) => Err(vec![
            Diagnostic::error("primary-runs", format!("server \"{writer}\" is the primary, and runs"))
                .server(writer)
                .detail("A failover is for a primary that is dead. Two servers would accept writes.")
                .hint(format!("To change the primary with nothing lost: pgstead switchover --to {to}. If it is broken, stop its instance first.")),
        ]),
        ([], [from]) => dead(topology, observation, from),
        ([], []) => match attest::former(topology, observation, request) {
            Some(from) => dead(topology, observation, from),
            None => Err(not_proven(topology, observation, request)),
        },
        ([], several) => {
            let all: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
            let words: Vec<String> = several
                .iter()
                .filter_map(|name| Some((name, observation.server(name)?.layout.known()?)))
                .map(|(name, layout)| format!("on \"{name}\", touch {}", layout.own(guard::START_ALONE)))
                .collect();
            Err(vec![
                Diagnostic::error("former-primary-unknown", format!("{} were all primaries, as far as their data say", all.join(" and ")))
                    .detail("None of them runs.")
                    .hint(format!("Find out which one has the data that counts, and start its instance. Its start guard lets it start when another server answers that it was not replaced; where none can answer, this lets it start alone, once, within a minute: {}. Then bring the others back: pgstead reseed SERVER", words.join("; or "))),
            ])
        }
    }
}

/// It is dead, unless it lives elsewhere.
fn dead<'a>(
    topology: &Topology,
    observation: &Observation,
    from: &'a ServerName,
) -> Result<Where<'a>, Vec<Diagnostic>> {
    elsewhere::contradicted(topology, observation, from)
        .map_or(Ok(Where::Dead(from)), |contradicted| Err(vec![contradicted]))
}

/// Leaves of several former primaries the one that was the primary last: what was fenced before is none any more, and of those
/// that all are the one of the latest timeline was fenced last.
fn last_of<'a>(observation: &Observation, former: Vec<&'a ServerName>) -> Vec<&'a ServerName> {
    let is_fenced = |name: &&ServerName| observation.server(name).is_some_and(is_fenced);
    let (fenced, unfenced): (Vec<&ServerName>, Vec<&ServerName>) = former.iter().partition(|name| is_fenced(name));
    let timeline = |name: &&ServerName| {
        let control = observation.server(name).and_then(|seen| seen.data_directory.known()?.control.known());
        control.map(|control| control.timeline)
    };
    let latest = fenced.iter().map(timeline).max().flatten();
    let last: Vec<&ServerName> = fenced.iter().copied().filter(|name| timeline(name) == latest).collect();
    match (unfenced.as_slice(), last.as_slice()) {
        ([_], _) => unfenced,
        ([], [_]) if latest.is_some() => last,
        _ => former,
    }
}

/// Says whether a role file says that a server was the primary, and was not fenced since.
fn was_primary(seen: &ServerObservation) -> bool {
    role(seen).is_some_and(|role| role.trim() == "primary")
        || seen.layout.known().and_then(|layout| guard::successor(seen, layout)).is_some()
}

/// Says whether a server that does not run would start as the primary that it was: what it accepted counts, and nothing holds it.
pub(super) fn would_be_primary(seen: &ServerObservation) -> bool {
    let data = seen.data_directory.known().filter(|data| data.entries > 0);
    let has_signal = data.is_some_and(|data| data.standby_signal || data.recovery_signal);
    seen.instance.known().is_none() && data.is_some() && !has_signal && was_primary(seen)
}

fn role(seen: &ServerObservation) -> Option<&str> {
    let role = seen.layout.known().and_then(|layout| seen.files.get(&layout.own("role"))).and_then(Observed::known);
    role.and_then(|fact| fact.content.as_deref())
}

/// Says whether a primary that does not run was replaced while it was away.
fn is_replaced(observation: &Observation, name: &ServerName, by: &ServerName) -> bool {
    let data = observation.server(name).and_then(|seen| seen.data_directory.known());
    let successor = observation.server(by).and_then(|seen| seen.instance.known());
    data.zip(successor).is_some_and(|(data, successor)| guard::is_replaced(data, successor))
}

/// Says whether nothing starts a former primary any more.
pub(super) fn is_fenced(seen: &ServerObservation) -> bool {
    role(seen) == Some(guard::FENCED)
}

/// Says why nobody may be promoted where the primary is only out of reach, and what would prove that it is dead (hazard 54).
fn not_proven(topology: &Topology, observation: &Observation, request: Request<'_>) -> Vec<Diagnostic> {
    let seen = |name: &ServerName| observation.servers.get(name).and_then(Observed::known);
    let is_missing = |name: &&ServerName| seen(name).is_none() && !request.attested.contains(*name);
    let missing = || topology.servers().map(|server| &server.name).filter(is_missing);
    // Beside the one that the successor follows, those alone that may be a primary themselves have to be answered for.
    let followed = missing().find(|name| unseen::follows(topology, observation, request.to, name));
    let counts = |name: &&ServerName| {
        followed == Some(*name) || unseen::may_be_primary(topology, observation, request, followed, name)
    };
    let missing: Vec<&ServerName> = missing().filter(counts).collect();
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
        let (what, proof) = match observation.hanging.contains(*name) {
            true => (
                "answers over SSH and hangs",
                format!(
                    "A look at it does not end: a disk may hang there. Nothing can be fenced through it. Where its instance is to be given up, cut its power, or detach it from the network for good, then: pgstead failover --to {}",
                    request.to
                ),
            ),
            false => (
                "cannot be reached",
                format!(
                    "What would prove it: its server answers over SSH and its instance does not run. Bring the server back, or its network, then: pgstead failover --to {}",
                    request.to
                ),
            ),
        };
        Diagnostic::error(
            "not-fenced",
            format!("server \"{name}\" {what}, and nothing proves that its instance is dead"),
        )
        .server(name)
        .detail(format!(
            "{}. {}. Clients may reach it all the same, and two servers would accept writes.",
            why.trim().trim_end_matches('.'),
            views.join("; ")
        ))
        .hint(format!("{proof}. {}", attest::hint(request.to, &missing)))
    };
    missing.iter().map(of_server).collect()
}

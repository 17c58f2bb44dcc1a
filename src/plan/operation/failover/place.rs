//! Who was the primary, and what shows that it is dead (hazard 54).

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::{ServerState, State};
use crate::model::name::ServerName;
use crate::model::role_file::RoleFile;
use crate::plan::files::guard;
use crate::plan::operation::failover::{Request, attest, elsewhere, unseen};
use crate::plan::survey::unasked;

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
pub(super) fn place<'a>(state: &State<'a>, request: Request<'_>) -> Result<Where<'a>, Vec<Diagnostic>> {
    let to = request.to;
    let contradicted = attest::contradicted(state, request);
    if !contradicted.is_empty() {
        return Err(contradicted);
    }
    if let Some(unasked) = unasked::primary(state) {
        return Err(vec![unasked]);
    }
    let writers = state.writers();
    let fenced = state.names(ServerState::is_fenced).first().copied();
    // Its role file says that it was the primary, and no signal file says otherwise. A standby that lost its signal file was
    // none, whatever it would start as (hazard 34).
    let is_former = |server: ServerState<'_>| {
        server.instance().is_none()
            && (was_called_primary(server) || server.is_fenced())
            && (server.data.is_none() || server.has_no_signal())
    };
    let mut former = state.names(is_former);
    former.retain(|name| *name != to);
    // One that has no signal file, and does not run, lost it or was promoted: then nobody else has what it accepted. A bystander
    // that only lost it is left as it is: its start guard holds it to its role.
    let mut unclear = state.names(|server| server.instance().is_none() && server.has_no_signal());
    unclear.retain(|name| !former.contains(name) && (*name == to || state.server(name).was_primary()));
    let former = last_of(state, former);
    // A failover to this one was begun, whose mark is the fence or a person's word: it was promoted, and died behind that.
    // One that only lost its signal file was not, and would start as a primary without a timeline of its own (hazard 58).
    let begun = fenced.filter(|name| *name != to).or_else(|| attest::former(state, request));
    if let (true, [one], Some(from)) = (writers.is_empty(), unclear.as_slice(), begun)
        && *one == to
        && state.server(to).was_primary()
    {
        return Ok(Where::Promoted(Some(from)));
    }
    if let (true, Some(unclear)) = (writers.is_empty(), unclear.first()) {
        let layout = state.seen(unclear).and_then(|seen| seen.layout.known());
        let role = layout.map_or_else(|| "its role file".to_owned(), |layout| layout.role_file());
        let alone = layout.map_or_else(|| guard::START_ALONE.to_owned(), |layout| layout.own(guard::START_ALONE));
        return Err(vec![
            Diagnostic::error(Code::FormerPrimaryUnknown, format!("server \"{unclear}\" is stopped, and its data directory is not a standby's"))
                .server(unclear)
                .detail("It lost its standby.signal, or was promoted past pgstead. Then what it accepted is on no other server.")
                .hint(format!("Look which it is: pgstead status, and the log of its instance. One that only lost the file gets it back; then: pgstead failover --to {to}. One that was promoted has the data that count: on its server, echo primary >{role}, and start its instance, which its start guard refuses while another primary runs, and which waits while nobody answers (touch {alone} lets it start alone, once, within a minute); then: pgstead failover --to {unclear}")),
        ]);
    }
    match (writers.as_slice(), former.as_slice()) {
        ([writer], former) if *writer == to => {
            // One that nobody could fence came back behind its successor's promotion: it does not know of it.
            let replaced = || former.iter().copied().find(|name| is_replaced(state, name, to));
            Ok(Where::Promoted(fenced.filter(|name| *name != to).or_else(replaced)))
        }
        ([writer, ..], _) => Err(vec![
            Diagnostic::error(Code::PrimaryRuns, format!("server \"{writer}\" is the primary, and runs"))
                .server(writer)
                .detail("A failover is for a primary that is dead. Two servers would accept writes.")
                .hint(format!("To change the primary with nothing lost: pgstead switchover --to {to}. If it is broken, stop its instance first.")),
        ]),
        ([], [from]) => dead(state, from),
        ([], []) => match attest::former(state, request) {
            Some(from) => dead(state, from),
            None => Err(not_proven(state, request)),
        },
        ([], several) => {
            let all: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
            let words: Vec<String> = several
                .iter()
                .filter_map(|name| Some((name, state.seen(name)?.layout.known()?)))
                .map(|(name, layout)| format!("on \"{name}\", touch {}", layout.own(guard::START_ALONE)))
                .collect();
            Err(vec![
                Diagnostic::error(Code::FormerPrimaryUnknown, format!("{} were all primaries, as far as their data say", all.join(" and ")))
                    .detail("None of them runs.")
                    .hint(format!("Find out which one has the data that counts, and start its instance. Its start guard lets it start when another server answers that it was not replaced; where none can answer, this lets it start alone, once, within a minute: {}. Then bring the others back: pgstead reseed SERVER", words.join("; or "))),
            ])
        }
    }
}

/// It is dead, unless it lives elsewhere.
fn dead<'a>(state: &State<'_>, from: &'a ServerName) -> Result<Where<'a>, Vec<Diagnostic>> {
    elsewhere::contradicted(state, from).map_or(Ok(Where::Dead(from)), |contradicted| Err(vec![contradicted]))
}

/// Leaves of several former primaries the one that was the primary last: what was fenced before is none any more, and of those
/// that all are the one of the latest timeline was fenced last.
fn last_of<'a>(state: &State<'_>, former: Vec<&'a ServerName>) -> Vec<&'a ServerName> {
    let (fenced, unfenced): (Vec<&ServerName>, Vec<&ServerName>) =
        former.iter().partition(|name| state.server(name).is_fenced());
    let timeline = |name: &&ServerName| state.server(name).control.map(|control| control.timeline);
    let latest = fenced.iter().map(timeline).max().flatten();
    let last: Vec<&ServerName> = fenced.iter().copied().filter(|name| timeline(name) == latest).collect();
    match (unfenced.as_slice(), last.as_slice()) {
        ([_], _) => unfenced,
        ([], [_]) if latest.is_some() => last,
        _ => former,
    }
}

/// Says whether a role file says that a server was the primary, and was not fenced since.
fn was_called_primary(server: ServerState<'_>) -> bool {
    matches!(server.role_file, Some(RoleFile::Primary | RoleFile::Demoted { .. }))
}

/// Says whether a server that does not run would start as the primary that it was: what it accepted counts, and nothing holds it.
pub(super) fn would_be_primary(server: ServerState<'_>) -> bool {
    server.instance().is_none() && server.has_no_signal() && was_called_primary(server)
}

/// Says whether a primary that does not run was replaced while it was away.
fn is_replaced(state: &State<'_>, name: &ServerName, by: &ServerName) -> bool {
    state.instance(by).is_some_and(|successor| state.server(name).is_replaced_by(successor))
}

/// Says why nobody may be promoted where the primary is only out of reach, and what would prove that it is dead (hazard 54).
fn not_proven(state: &State<'_>, request: Request<'_>) -> Vec<Diagnostic> {
    let mut missing = state.names(|server| server.seen.is_none());
    missing.retain(|name| !request.attested.contains(*name));
    // Beside the one that the successor follows, those alone that may be a primary themselves have to be answered for.
    let followed = missing.iter().copied().find(|name| state.is_to_follow(request.to, name));
    missing.retain(|name| followed == Some(*name) || unseen::may_be_primary(state, request, followed, name));
    if missing.is_empty() {
        return vec![
            Diagnostic::error(Code::PrimaryMissing, "no server has the data of a primary")
                .detail("Every server is a standby, as far as its data say.")
                .hint("Look for the primary's data directory: where one is not mounted, mount it."),
        ];
    }
    let of_server = |name: &&ServerName| {
        // What the others see of it: two places to look from are more than one.
        let view = |other: &ServerName| match state.receives_from(other).is_some_and(|from| from.is_at(name)) {
            true => format!("\"{other}\" receives WAL from it"),
            false => format!("\"{other}\" receives nothing from it"),
        };
        let views: Vec<String> = state.names(|server| server.seen.is_some()).into_iter().map(view).collect();
        let why = state.server(name).unreached.unwrap_or("It was not looked at.");
        let (what, proof) = match state.observation.hanging.contains(*name) {
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
            Code::NotFenced,
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

//! How far a switchover is: not begun, interrupted before the promotion, or interrupted after it.
//!
//! Told from what the servers are and from the role file of a primary that was about to hand over. Judges nothing else.

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::{Role, ServerState, StartsAs, State};
use crate::model::control::ClusterState;
use crate::model::name::ServerName;
use crate::plan::survey::unasked;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plan) enum Stage<'a> {
    /// The primary runs. Whether an earlier run has marked it already makes no difference.
    Whole {
        /// The primary.
        from: &'a ServerName,
        /// Whether it is marked as about to hand over.
        is_demoted: bool,
    },
    /// The primary has shut down in order, and nobody was promoted: it goes on, or is taken back.
    Stopped {
        /// The primary until then.
        from: &'a ServerName,
    },
    /// The successor accepts writes: from here on it only goes forward.
    Promoted {
        /// The former primary, where its role file still says that it was about to hand over.
        from: Option<&'a ServerName>,
    },
}

/// Returns every server whose role file says that it was about to hand over.
pub(super) fn demoted<'a>(state: &State<'a>) -> Vec<&'a ServerName> {
    state.names(|server| server.successor().is_some())
}

/// Returns every server that was promoted and does not run: it has no signal file any more, or a later timeline. What it
/// accepted in between is nowhere else, so that it counts as one that accepts writes.
fn promoted_and_stopped<'a>(state: &State<'a>, former: Option<&ServerName>) -> Vec<&'a ServerName> {
    let before = former.and_then(|name| state.server(name).control).map(|control| control.timeline);
    let was_promoted = |server: ServerState<'_>| {
        let is_later = server.control.zip(before).is_some_and(|(control, before)| control.timeline > before);
        server.is_stopped() && server.data.is_some() && (is_later || server.was_primary())
    };
    let mut promoted = state.names(was_promoted);
    promoted.retain(|name| Some(*name) != former);
    promoted
}

/// Finds out how far a switchover to a server is.
///
/// # Errors
/// Nobody knows who the primary is, or another switchover is not finished.
pub(super) fn stage<'a>(state: &State<'a>, to: &ServerName) -> Result<Stage<'a>, Box<Diagnostic>> {
    let demoted = demoted(state);
    let mut writers = state.writers();
    let mut died = promoted_and_stopped(state, demoted.first().copied());
    // A standby that stopped behind the promotion is on the later timeline, too: it has followed the one that was promoted.
    let has_followed = |server: ServerState<'_>| {
        let writes =
            |timeline| writers.iter().any(|name| state.instance(name).is_some_and(|one| one.timeline >= timeline));
        server.starts_as == Some(StartsAs::Standby) && server.control.is_some_and(|control| writes(control.timeline))
    };
    died.retain(|name| !has_followed(state.server(name)));
    match (demoted.as_slice(), died.as_slice()) {
        // Where nobody is marked any more, it counts only as the one that was asked for, beside standbys alone.
        ([], [one]) if writers.is_empty() && *one == to => writers.push(one),
        ([], _) => {}
        (_, died) => writers.extend(died),
    }
    match (writers.as_slice(), demoted.as_slice()) {
        ([writer], []) if *writer == to => Ok(Stage::Promoted { from: None }),
        ([writer], [from]) if *writer == to && from != writer => Ok(Stage::Promoted { from: Some(from) }),
        ([writer], []) => Ok(Stage::Whole { from: writer, is_demoted: false }),
        ([writer], [from]) if from == writer && *writer != to => Ok(Stage::Whole { from: writer, is_demoted: true }),
        ([writer], [from]) if from == writer => Err(Box::new(
            Diagnostic::error(
                Code::SwitchoverUnfinished,
                format!("server \"{to}\" is the primary, and was about to hand over"),
            )
            .server(to)
            .detail("A switchover was begun and did not come to its end. Nobody was promoted.")
            .hint("To leave it the primary: pgstead switchover --abort"),
        )),
        ([writer], [from, ..]) => Err(Box::new(
            Diagnostic::error(
                Code::SwitchoverUnfinished,
                format!("the switchover from \"{from}\" to \"{writer}\" is not finished"),
            )
            .server(from)
            .hint(format!("Finish it first: pgstead switchover --to {writer}")),
        )),
        ([], [from]) => {
            named_successor(state, from)?;
            stopped(state, from, to)
        }
        ([], _) => Err(Box::new(unasked::primary(state).unwrap_or_else(no_primary))),
        (several, _) => {
            let names: Vec<String> = several.iter().map(|name| format!("\"{name}\"")).collect();
            Err(Box::new(
                Diagnostic::error(Code::TwoPrimaries, format!("servers {} all accept writes", names.join(" and ")))
                    .hint("Find out which one has the data that counts and stop the others; nothing was changed."),
            ))
        }
    }
}

fn no_primary() -> Diagnostic {
    Diagnostic::error(Code::PrimaryMissing, "no server accepts writes")
        .detail("A switchover is planned, and needs the primary.")
        .hint("Bring the primary back: pgstead check says what is wrong with it.")
}

fn stopped<'a>(state: &State<'_>, from: &'a ServerName, to: &ServerName) -> Result<Stage<'a>, Box<Diagnostic>> {
    let refuse = |detail: String| {
        Err(Box::new(
            Diagnostic::error(
                Code::NotShutDown,
                format!("server \"{from}\" was about to hand over, and has not shut down in order"),
            )
            .server(from)
            .detail(detail)
            .hint("Where its WAL ends is not known, so that nobody is promoted. To make it the primary again: pgstead switchover --abort"),
        ))
    };
    if from == to {
        return Err(Box::new(
            Diagnostic::error(
                Code::SwitchoverUnfinished,
                format!("server \"{from}\" was about to hand over, and is stopped"),
            )
            .server(from)
            .hint("To make it the primary again: pgstead switchover --abort"),
        ));
    }
    let server = state.server(from);
    let timeline = server.control.map(|control| control.timeline);
    let successor = state.instance(to).map(|instance| instance.timeline);
    if let Some((one, other)) = timeline.zip(successor).filter(|(one, other)| one != other) {
        return Err(Box::new(
            Diagnostic::error(Code::HistoryDiverged, format!("server \"{to}\" does not replay what \"{from}\" wrote"))
                .server(to)
                .detail(format!("\"{from}\" ended on timeline {one}, \"{to}\" is on timeline {other}."))
                .hint("Take another server, or make the former primary the primary again: pgstead switchover --abort"),
        ));
    }
    match (server.role, server.control.map(|control| &control.state)) {
        (Role::Unknown(why), _) if !server.is_stopped() => {
            refuse(format!("It runs and does not answer: {}.", why.trim()))
        }
        (Role::Standby(_), _) => refuse("It runs, and is in recovery.".to_owned()),
        (_, Some(ClusterState::ShutDown)) => Ok(Stage::Stopped { from }),
        (_, Some(state)) => refuse(format!("Its database cluster state is \"{state}\".")),
        (_, None) => refuse("Its control file could not be read.".to_owned()),
    }
}

/// Returns the server to which another one was about to hand over, by its role file.
///
/// # Errors
/// It is not in the inventory: nobody looked whether it was promoted, and it may accept writes (hazard 54).
fn named_successor<'a>(state: &State<'a>, from: &ServerName) -> Result<&'a ServerName, Box<Diagnostic>> {
    let named = state.server(from).successor().unwrap_or_default();
    let known = state.topology.servers().map(|server| &server.name).find(|name| name.as_str() == named);
    known.ok_or_else(|| {
        let message = format!("server \"{from}\" was about to hand over to \"{named}\", which is not in the inventory");
        Box::new(
            Diagnostic::error(Code::SuccessorOutside, message)
                .server(from)
                .detail(format!("Whether \"{named}\" was promoted, and accepts writes, nobody has looked at."))
                .hint(format!("Put \"{named}\" back into the inventory, and run the same command again. It may be taken out when the switchover is finished or taken back.")),
        )
    })
}

/// Says that the server to which another one was about to hand over is not in the inventory, where it is so.
pub(in crate::plan) fn successor_outside(state: &State<'_>, from: &ServerName) -> Option<Diagnostic> {
    state.server(from).successor()?;
    named_successor(state, from).err().map(|diagnostic| *diagnostic)
}

/// Returns the one server of which a switchover is to be taken back, and the one to which it was about to hand over.
///
/// # Errors
/// There is none, somebody was promoted already, or the successor is not in the inventory.
pub(super) fn to_take_back<'a>(state: &State<'a>) -> Result<(&'a ServerName, &'a ServerName), Box<Diagnostic>> {
    let demoted = demoted(state);
    let [from] = demoted.as_slice() else {
        return Err(Box::new(match demoted.as_slice() {
            [] => Diagnostic::error(Code::NothingToAbort, "no switchover was begun that is not finished")
                .detail("No server is marked as about to hand over.")
                .hint("Where a server was promoted and does not run, finish it: pgstead switchover --to SERVER. pgstead status shows what runs."),
            several => {
                let names: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
                Diagnostic::error(
                    Code::SwitchoverUnfinished,
                    format!("{} are all marked as about to hand over", names.join(" and ")),
                )
                .hint("Find out which one has the data that counts, and re-seed the others.")
            }
        }));
    };
    let mut promoted: Vec<&ServerName> = state.writers().into_iter().filter(|name| name != from).collect();
    promoted.extend(promoted_and_stopped(state, Some(from)));
    match promoted.first() {
        None => Ok((*from, named_successor(state, from)?)),
        Some(promoted) => Err(Box::new(
            Diagnostic::error(
                Code::AlreadyPromoted,
                format!("server \"{promoted}\" was promoted: the switchover only goes forward"),
            )
            .server(promoted)
            .hint(format!("Finish it: pgstead switchover --to {promoted}")),
        )),
    }
}

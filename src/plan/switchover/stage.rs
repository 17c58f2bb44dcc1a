//! How far a switchover is: not begun, interrupted before the promotion, or interrupted after it.
//!
//! Told from what the servers are and from the role file of a primary that was about to hand over. Judges nothing else.

use crate::diagnostic::Diagnostic;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observation::ServerObservation;
use crate::model::observed::Observed;
use crate::model::topology::Topology;
use crate::plan::guard;
use crate::plan::unasked;

/// The state in which a primary's shutdown checkpoint is the end of its WAL.
const SHUT_DOWN: &str = "shut down";

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
pub(super) fn demoted<'a>(topology: &'a Topology, observation: &Observation) -> Vec<&'a ServerName> {
    let is_demoted = |name: &&ServerName| {
        let seen = observation.server(name);
        seen.and_then(|seen| guard::successor(seen, seen.layout.known()?)).is_some()
    };
    topology.servers().map(|server| &server.name).filter(is_demoted).collect()
}

/// Returns every server that accepts writes.
fn writers<'a>(topology: &'a Topology, observation: &Observation) -> Vec<&'a ServerName> {
    let accepts_writes = |name: &&ServerName| {
        let instance = observation.server(name).and_then(|seen| seen.instance.known());
        instance.is_some_and(|instance| !instance.in_recovery)
    };
    topology.servers().map(|server| &server.name).filter(accepts_writes).collect()
}

/// Returns every server that was promoted and does not run: it has no signal file any more, or a later timeline. What it
/// accepted in between is nowhere else, so that it counts as one that accepts writes.
fn promoted_and_stopped<'a>(
    topology: &'a Topology,
    observation: &Observation,
    former: Option<&ServerName>,
) -> Vec<&'a ServerName> {
    let control = |name: &ServerName| observation.server(name)?.data_directory.known()?.control.known();
    let before = former.and_then(control).map(|control| control.timeline);
    let was_promoted = |name: &&ServerName| {
        let Some(seen) = observation.server(name).filter(|seen| seen.instance.is_absent()) else { return false };
        let Some(data) = seen.data_directory.known().filter(|data| data.entries > 0) else { return false };
        let is_later = control(name).zip(before).is_some_and(|(control, before)| control.timeline > before);
        is_later || data.is_of_a_primary()
    };
    topology.servers().map(|server| &server.name).filter(|name| Some(*name) != former).filter(was_promoted).collect()
}

/// Finds out how far a switchover to a server is.
///
/// # Errors
/// Nobody knows who the primary is, or another switchover is not finished.
pub(super) fn stage<'a>(
    topology: &'a Topology,
    observation: &Observation,
    to: &ServerName,
) -> Result<Stage<'a>, Box<Diagnostic>> {
    let demoted = demoted(topology, observation);
    let mut writers = writers(topology, observation);
    let died = promoted_and_stopped(topology, observation, demoted.first().copied());
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
                "switchover-unfinished",
                format!("server \"{to}\" is the primary, and was about to hand over"),
            )
            .server(to)
            .detail("A switchover was begun and did not come to its end. Nobody was promoted.")
            .hint("To leave it the primary: pgstead switchover --abort"),
        )),
        ([writer], [from, ..]) => Err(Box::new(
            Diagnostic::error(
                "switchover-unfinished",
                format!("the switchover from \"{from}\" to \"{writer}\" is not finished"),
            )
            .server(from)
            .hint(format!("Finish it first: pgstead switchover --to {writer}")),
        )),
        ([], [from]) => {
            named_successor(topology, observation, from)?;
            stopped(observation, from, to)
        }
        ([], _) => Err(Box::new(unasked::primary(topology, observation).unwrap_or_else(no_primary))),
        (several, _) => {
            let names: Vec<String> = several.iter().map(|name| format!("\"{name}\"")).collect();
            Err(Box::new(
                Diagnostic::error("two-primaries", format!("servers {} all accept writes", names.join(" and ")))
                    .hint("Find out which one has the data that counts and stop the others; nothing was changed."),
            ))
        }
    }
}

fn no_primary() -> Diagnostic {
    Diagnostic::error("primary-missing", "no server accepts writes")
        .detail("A switchover is planned, and needs the primary.")
        .hint("Bring the primary back: pgstead check says what is wrong with it.")
}

fn stopped<'a>(observation: &Observation, from: &'a ServerName, to: &ServerName) -> Result<Stage<'a>, Box<Diagnostic>> {
    let refuse = |detail: String| {
        Err(Box::new(
            Diagnostic::error(
                "not-shut-down",
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
                "switchover-unfinished",
                format!("server \"{from}\" was about to hand over, and is stopped"),
            )
            .server(from)
            .hint("To make it the primary again: pgstead switchover --abort"),
        ));
    }
    let Some(seen) = observation.server(from) else { return refuse("It was not observed.".to_owned()) };
    let timeline = seen.data_directory.known().and_then(|data| data.control.known()).map(|control| control.timeline);
    let successor = observation.server(to).and_then(|seen| seen.instance.known()).map(|instance| instance.timeline);
    if let Some((one, other)) = timeline.zip(successor).filter(|(one, other)| one != other) {
        return Err(Box::new(
            Diagnostic::error("history-diverged", format!("server \"{to}\" does not replay what \"{from}\" wrote"))
                .server(to)
                .detail(format!("\"{from}\" ended on timeline {one}, \"{to}\" is on timeline {other}."))
                .hint("Take another server, or make the former primary the primary again: pgstead switchover --abort"),
        ));
    }
    match (&seen.instance, state(seen)) {
        (Observed::Absent, Some(SHUT_DOWN)) => Ok(Stage::Stopped { from }),
        (Observed::Absent, Some(state)) => refuse(format!("Its database cluster state is \"{state}\".")),
        (Observed::Absent, None) => refuse("Its control file could not be read.".to_owned()),
        (other, _) => {
            refuse(format!("It runs and does not answer: {}.", other.unreadable().unwrap_or_default().trim()))
        }
    }
}

fn state(seen: &ServerObservation) -> Option<&str> {
    Some(&seen.data_directory.known()?.control.known()?.state)
}

/// Returns the server to which another one was about to hand over, by its role file.
///
/// # Errors
/// It is not in the inventory: nobody looked whether it was promoted, and it may accept writes (hazard 54).
fn named_successor<'a>(
    topology: &'a Topology,
    observation: &Observation,
    from: &ServerName,
) -> Result<&'a ServerName, Box<Diagnostic>> {
    let named = observation.server(from).and_then(|seen| guard::successor(seen, seen.layout.known()?));
    let named = named.unwrap_or_default();
    let known = topology.servers().map(|server| &server.name).find(|name| name.as_str() == named);
    known.ok_or_else(|| {
        let message = format!("server \"{from}\" was about to hand over to \"{named}\", which is not in the inventory");
        Box::new(
            Diagnostic::error("successor-outside", message)
                .server(from)
                .detail(format!("Whether \"{named}\" was promoted, and accepts writes, nobody has looked at."))
                .hint(format!("Put \"{named}\" back into the inventory, and run the same command again. It may be taken out when the switchover is finished or taken back.")),
        )
    })
}

/// Says that the server to which another one was about to hand over is not in the inventory, where it is so.
pub(in crate::plan) fn successor_outside(
    topology: &Topology,
    observation: &Observation,
    from: &ServerName,
) -> Option<Diagnostic> {
    let is_demoted = demoted(topology, observation).contains(&from);
    is_demoted.then(|| named_successor(topology, observation, from).err()).flatten().map(|diagnostic| *diagnostic)
}

/// Returns the one server of which a switchover is to be taken back, and the one to which it was about to hand over.
///
/// # Errors
/// There is none, somebody was promoted already, or the successor is not in the inventory.
pub(super) fn to_take_back<'a>(
    topology: &'a Topology,
    observation: &Observation,
) -> Result<(&'a ServerName, &'a ServerName), Box<Diagnostic>> {
    let demoted = demoted(topology, observation);
    let [from] = demoted.as_slice() else {
        return Err(Box::new(match demoted.as_slice() {
            [] => Diagnostic::error("nothing-to-abort", "no switchover was begun that is not finished")
                .detail("No server is marked as about to hand over.")
                .hint("Where a server was promoted and does not run, finish it: pgstead switchover --to SERVER. pgstead status shows what runs."),
            several => {
                let names: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
                Diagnostic::error(
                    "switchover-unfinished",
                    format!("{} are all marked as about to hand over", names.join(" and ")),
                )
                .hint("Find out which one has the data that counts, and re-seed the others.")
            }
        }));
    };
    let mut promoted: Vec<&ServerName> =
        writers(topology, observation).into_iter().filter(|name| name != from).collect();
    promoted.extend(promoted_and_stopped(topology, observation, Some(from)));
    match promoted.first() {
        None => Ok((*from, named_successor(topology, observation, from)?)),
        Some(promoted) => Err(Box::new(
            Diagnostic::error(
                "already-promoted",
                format!("server \"{promoted}\" was promoted: the switchover only goes forward"),
            )
            .server(promoted)
            .hint(format!("Finish it: pgstead switchover --to {promoted}")),
        )),
    }
}

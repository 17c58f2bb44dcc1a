//! The case: which server is to be re-seeded, whom it is to follow, and whose data it has. What must not be re-seeded at
//! all is refused here: the primary itself, foreign data, a server behind another's address (hazards 1, 2, 54, 75).
//!
//! Judges no history and chooses no method.

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::ownership::Ownership;
use crate::judge::{Role, ServerState, State, Writes, wal};
use crate::model::job::{Job, JobKind, JobState, SEED};
use crate::model::layout::{DATA_DIRECTORY_RECORD, Layout};
use crate::model::name::ServerName;
use crate::model::observation::{Instance, Observation, ServerObservation};
use crate::model::observed::Observed;
use crate::model::topology::{Link, Server, Topology};
use crate::plan::operation::reseed::source;
use crate::plan::seen::Seen;
use crate::plan::steps::orphans;
use crate::plan::survey::ownership::Owned;
use crate::plan::survey::{Survey, Unsaid, ownership, survey_of, unasked};

/// What stands in the place of the server's data directory.
#[derive(Debug, Clone, Copy)]
pub(super) enum Data<'a> {
    /// A data directory that is this server's.
    Ours(Owned<'a>),
    /// One that is this server's and cannot be read as a database system any more.
    Damaged(&'a str),
    /// Nothing, and nothing was ever finished there.
    Missing,
    /// Nothing, although there was one. A disk that is not mounted looks the same (hazard 6).
    Gone,
}

/// A server that may be re-seeded.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) topology: &'a Topology,
    pub(super) observation: &'a Observation,
    pub(super) server: &'a Server,
    /// What was seen on it.
    pub(super) raw: &'a ServerObservation,
    pub(super) layout: &'a Layout,
    pub(super) data: Data<'a>,
    /// The running instance in that data directory.
    pub(super) instance: Option<&'a Instance>,
    pub(super) primary: Seen<'a>,
    /// The link by which it is to follow.
    pub(super) link: Link,
    pub(super) upstream: Seen<'a>,
    /// A standby at its site that sends a base backup instead of an upstream at another.
    pub(super) nearer: Option<Seen<'a>>,
    /// The server as if it had no data directory: what a new one is made for.
    pub(super) bare: Seen<'a>,
    /// Those that follow it, run and could be looked at.
    pub(super) followers: Vec<Seen<'a>>,
    /// What the operator should know besides.
    pub(super) notes: Vec<Diagnostic>,
}

impl<'a> Case<'a> {
    /// Returns the server with the data directory that it has.
    pub(super) fn seen(&self) -> Seen<'a> {
        match self.data {
            Data::Ours(owned) => Seen {
                data: Some(owned.data),
                instance: self.instance,
                configuration: owned.configuration,
                ..self.bare_over(self.raw)
            },
            _ => self.bare_over(self.raw),
        }
    }

    fn bare_over(&self, raw: &'a ServerObservation) -> Seen<'a> {
        Seen { seen: raw, ..self.bare }
    }

    /// Returns the job whose work can be used: it goes on, or has ended well and what it made is there. What has its place
    /// already is no seed any more.
    pub(super) fn ripe_job(&self) -> Option<&'a Job> {
        self.raw.jobs.iter().filter(|job| job.name == SEED).find(|job| match job.state {
            JobState::Running => true,
            JobState::Ended(0) => self.raw.beside.iter().any(|path| Some(path.as_str()) == job.seed()),
            JobState::Ended(_) | JobState::Died => false,
        })
    }

    /// Returns the server that sends a base backup: the one from which a copy comes already, or the nearest.
    pub(super) fn sender(&self) -> Seen<'a> {
        let begun = self.ripe_job().and_then(|job| job.upstream.as_ref());
        match self.nearer {
            Some(nearer) if begun.is_none_or(|from| *from == nearer.server.name) => nearer,
            _ => self.upstream,
        }
    }

    /// Says whether its instance accepts writes now.
    pub(super) fn accepts_writes(&self) -> bool {
        self.state().writes() == Writes::Now
    }

    /// Returns what the server is.
    pub(super) fn state(&self) -> ServerState<'a> {
        ServerState::of_seen(self.raw)
    }
}

/// Returns the observation as it would be if the server had no data directory. The plan for a new one is made over this.
pub(super) fn without(observation: &Observation, server: &ServerName) -> Observation {
    let mut bare = observation.clone();
    if let Some(Observed::Known(seen)) = bare.servers.get_mut(server) {
        let is_its_own = !ServerState::of_seen(seen).is_stopped();
        seen.data_directory = Observed::Absent;
        seen.instance = Observed::Absent;
        if is_its_own {
            seen.listener = Observed::Absent;
        }
        // The record of what was there; that it is known is this operation's business.
        if let Observed::Known(layout) = &seen.layout {
            seen.files.remove(&layout.own(DATA_DIRECTORY_RECORD));
        }
    }
    bare
}

/// Finds out what the case is. `bare` is what [`without`] made of the observation.
///
/// # Errors
/// Every reason for which the server must not be re-seeded, at once.
pub(super) fn case<'a>(
    topology: &'a Topology,
    observation: &'a Observation,
    bare: &'a Observation,
    name: &ServerName,
) -> Result<Case<'a>, Vec<Diagnostic>> {
    let server = topology.server(name).ok_or_else(|| vec![unknown(topology, name.as_str())])?;
    let name = &server.name;
    let state = State::of(topology, observation);
    let Some(raw) = state.seen(name) else {
        let message = format!("server \"{name}\" could not be observed");
        let why = state.server(name).unreached.unwrap_or_default();
        return Err(vec![Diagnostic::error(Code::Unreachable, message).server(name).detail(why)]);
    };
    let primary = primary(&state, name).map_err(|refusal| vec![*refusal])?;
    let link = topology.links(primary).into_iter().find(|link| link.standby == *name);
    let Some(link) = link else { return Err(vec![is_the_primary(name, "It is the only server that accepts writes.")]) };
    let is_concerned = |one: &ServerName| [name, primary, &link.upstream].contains(&one);
    // Each method judges the room for itself.
    let unsaid = Unsaid { room_of: Some(name), ..Unsaid::default() };
    let Survey { servers, mut refusals, notes, .. } = survey_of(topology, bare, unsaid, is_concerned);
    refusals.extend(orphans::refusals(topology, bare, &servers, std::slice::from_ref(&link)));
    let parts = (servers.get(name), servers.get(primary), servers.get(&link.upstream));
    let (Some(of_server), Some(of_primary), Some(of_upstream)) = parts else { return Err(refusals) };
    if of_upstream.instance.is_none() {
        refusals.push(upstream_stopped(&link));
    }
    let layout = of_server.layout;
    let data = match data(&state, server, raw, layout) {
        Ok(data) => data,
        Err(refusal) => {
            refusals.push(*refusal);
            return Err(refusals);
        }
    };
    refusals.extend(foreign_system(&data, of_primary, name));
    let instance = match (state.server(name).answer, &data) {
        (Err(why), _) => {
            let message = format!("server \"{name}\": the instance runs and does not answer");
            refusals.push(unasked::refusal(name, raw).unwrap_or_else(|| {
                Diagnostic::error(Code::InstanceUnreadable, message)
                    .server(name)
                    .detail(why)
                    .hint("Nothing was changed. If it is starting, run the same command again shortly. If it hangs, end it yourself.")
            }));
            None
        }
        (Ok(Some(instance)), Data::Ours(_)) => Some(instance),
        _ => None,
    };
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let mut notes = notes;
    notes.retain(|note| note.server.as_deref() == Some(name.as_str()));
    notes.extend(unseen(&state, name));
    let followers = followers(topology, observation, primary, name);
    let nearer = source::nearer(topology, observation, primary, &link);
    Ok(Case {
        topology,
        observation,
        server,
        raw,
        layout,
        data,
        instance,
        primary: *of_primary,
        upstream: *of_upstream,
        nearer,
        link,
        bare: Seen { configuration: of_primary.configuration, ..*of_server },
        followers,
        notes,
    })
}

/// Returns the running standbys that follow a server. One that the survey has something against is left as it is.
fn followers<'a>(
    topology: &'a Topology,
    observation: &'a Observation,
    primary: &ServerName,
    server: &ServerName,
) -> Vec<Seen<'a>> {
    let links = topology.links(primary);
    let follows = |one: &ServerName| links.iter().any(|link| link.upstream == *server && link.standby == *one);
    let Survey { servers, .. } =
        survey_of(topology, observation, Unsaid::default(), |one| one == primary || follows(one));
    let runs = |seen: &Seen<'_>| seen.state().standby().is_some();
    servers.into_iter().filter(|(name, seen)| follows(name) && runs(seen)).map(|(_, seen)| seen).collect()
}

/// Returns the refusal of a name that the topology does not have.
pub(super) fn unknown(topology: &Topology, name: &str) -> Diagnostic {
    let known: Vec<&str> = topology.servers().map(|server| server.name.as_str()).collect();
    Diagnostic::error(Code::ServerUnknown, format!("topology \"{}\" has no server \"{name}\"", topology.name()))
        .detail(format!("It has {}.", known.join(", ")))
}

/// Finds the server that accepts writes, which must be one, and another than the server to be re-seeded.
fn primary<'a>(state: &State<'a>, name: &ServerName) -> Result<&'a ServerName, Box<Diagnostic>> {
    let mut writers = state.writers();
    writers.retain(|one| *one != name);
    let own = match state.server(name).role {
        Role::Primary(own) => Some(own),
        _ => None,
    };
    match (writers.as_slice(), own) {
        ([], Some(_)) => Err(Box::new(is_the_primary(name, "It is the only server that accepts writes."))),
        ([], None) => Err(Box::new(unasked::primary(state).unwrap_or_else(|| no_primary(state, name)))),
        ([one], None) => Ok(one),
        ([one], Some(own)) => {
            let follows = own.senders.iter().find(|sender| {
                state.servers().any(|(other, _)| other != name && other.as_str() == sender.application_name)
            });
            if let Some(sender) = follows {
                let why =
                    format!("Server \"{}\" follows it, and \"{one}\" accepts writes as well.", sender.application_name);
                return Err(Box::new(is_the_primary(name, &why)));
            }
            match state.instance(one) {
                // It was promoted from the timeline that this one still writes.
                Some(other) if other.timeline > own.timeline && wal::left(other, own.timeline).is_some() => Ok(one),
                _ => Err(Box::new(
                    Diagnostic::error(Code::TwoPrimaries, format!("servers \"{one}\" and \"{name}\" both accept writes"))
                        .server(name)
                        .detail(format!(
                            "\"{one}\" was not promoted from the timeline of \"{name}\", as far as its history says, so that nothing tells which of the two counts."
                        ))
                        .hint(format!("Find out which one has the data that counts. If that is \"{one}\", stop \"{name}\" and run again.")),
                )),
            }
        }
        (several, _) => {
            let names: Vec<String> = several.iter().map(|one| format!("\"{one}\"")).collect();
            let message = format!("servers {} all accept writes", names.join(" and "));
            Err(Box::new(
                Diagnostic::error(Code::TwoPrimaries, message)
                    .hint("Find out which one has the data that counts and stop the others; nothing was changed."),
            ))
        }
    }
}

fn is_the_primary(name: &ServerName, why: &str) -> Diagnostic {
    Diagnostic::error(Code::ReseedOfPrimary, format!("server \"{name}\" is the primary, and a primary is not re-seeded"))
        .server(name)
        .detail(why.to_owned())
        .hint("A re-seed copies another server's data over. If this one is broken, promote a standby first; then re-seed this one from it.")
}

fn no_primary(state: &State<'_>, name: &ServerName) -> Diagnostic {
    let unreachable = unreached(state, name);
    let is_stopped_primary = state.server(name).has_no_signal();
    let message = format!("no server accepts writes from which \"{name}\" could be re-seeded");
    let diagnostic = match unreachable.as_slice() {
        [] => Diagnostic::error(Code::PrimaryMissing, message),
        some => Diagnostic::error(Code::PrimaryMissing, message)
            .detail(format!("{} could not be reached.", some.join(", "))),
    };
    let diagnostic = match is_stopped_primary {
        true => diagnostic.hint(format!(
            "\"{name}\" may be the primary itself, stopped: then start it. A standby is never promoted by reseed."
        )),
        false => diagnostic.hint("Bring the primary back first. A standby is never promoted by reseed."),
    };
    diagnostic.server(name)
}

fn upstream_stopped(link: &Link) -> Diagnostic {
    let Link { upstream, standby } = link;
    Diagnostic::error(
        Code::UpstreamStopped,
        format!("server \"{upstream}\", which \"{standby}\" follows, does not run"),
    )
    .server(upstream)
    .hint(format!(
        "Bring it back first: pgstead reseed {upstream}. Or give \"{standby}\" another upstream in the inventory."
    ))
}

/// Says what stands in the server's place.
fn data<'a>(
    state: &State<'a>,
    server: &Server,
    raw: &'a ServerObservation,
    layout: &Layout,
) -> Result<Data<'a>, Box<Diagnostic>> {
    let name = &server.name;
    match state.ownership(name) {
        Ownership::Missing => Ok(Data::Missing),
        Ownership::Ours(data, configuration) => Ok(Data::Ours(Owned { data, configuration, adopted: false })),
        Ownership::Damaged(why) => Ok(Data::Damaged(why)),
        // What was being rewound in its own place is where its job left it.
        Ownership::Gone(_) if raw.jobs.iter().any(|job| job.kind == JobKind::Reuse) => Ok(Data::Missing),
        Ownership::Gone(_) => Ok(Data::Gone),
        Ownership::Adoptable(_) => {
            Err(Box::new(is_the_primary(name, "It is an existing primary that no run has adopted.")))
        }
        Ownership::AdoptableStandby(_) => Err(Box::new(ownership::not_adopted(name))),
        // What bootstrap says of it holds here as well; nothing foreign is ever set aside.
        Ownership::Unknown(_) | Ownership::MountPoint | Ownership::OfAnotherServer(_) | Ownership::Foreign(_) => {
            ownership::owned(state, server, raw, layout)
                .map(|_| Data::Missing)
                .map_err(|refusal| Box::new(refusal.server(name)))
        }
    }
}

fn foreign_system(data: &Data<'_>, primary: &Seen<'_>, name: &ServerName) -> Option<Diagnostic> {
    let Data::Ours(owned) = data else { return None };
    let found = owned.data.control.known()?.system_identifier;
    let expected = primary.system_identifier()?;
    (found != expected).then(|| {
        Diagnostic::error(Code::SystemIdentifierDiffers, format!("server \"{name}\": its data is not a copy of the primary's"))
            .server(name)
            .detail(format!("Its system identifier is {found}; that of \"{}\" is {expected}.", primary.server.name))
            .hint("It holds another database system, which may be the last of its kind. Look at it; if it is not needed, stop its instance and rename the directory, then run again.")
    })
}

/// Those that nobody could look at, and that are not needed.
fn unseen(state: &State<'_>, name: &ServerName) -> Option<Diagnostic> {
    let names = unreached(state, name);
    (!names.is_empty()).then(|| {
        Diagnostic::warning(Code::NotLookedAt, format!("{} could not be looked at", names.join(", ")))
            .detail("They are not needed for this. That none of them accepts writes is not known.")
    })
}

fn unreached(state: &State<'_>, but: &ServerName) -> Vec<String> {
    let names = state.names(|server| server.seen.is_none());
    names.into_iter().filter(|name| *name != but).map(|name| format!("\"{name}\"")).collect()
}

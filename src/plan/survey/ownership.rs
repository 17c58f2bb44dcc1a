//! Says whose a data directory is: this topology's, nobody's, one that may be adopted, or one that must not be touched.
//!
//! Only a mark in a complete directory makes it ours. Only a running primary without a mark, on the server that is to be the
//! primary, is adopted, and standbys of it (hazards 1, 2). Decides nothing about what is done with it.

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::ownership::Ownership;
use crate::judge::{ServerState, StartsAs, State, Writes, link};
use crate::model::identity::{self, Configuration};
use crate::model::layout::{DATA_DIRECTORY_RECORD, Layout};
use crate::model::name::ServerName;
use crate::model::observation::{DataDirectory, Instance, ServerObservation};
use crate::model::observed::Observed;
use crate::model::topology::{Server, Topology};
use crate::plan::survey::unasked;

/// A data directory that may be planned for.
#[derive(Debug, Clone, Copy)]
pub struct Owned<'a> {
    /// The directory.
    pub data: &'a DataDirectory,
    /// Who keeps its configuration.
    pub configuration: Configuration,
    /// Whether it has no mark yet: it becomes this topology's in this run.
    pub adopted: bool,
}

/// Says whose a server's data directory is; `None` where there is none.
///
/// # Errors
/// It must not be touched, and why.
pub fn owned<'a>(
    state: &State<'a>,
    server: &Server,
    seen: &ServerObservation,
    layout: &Layout,
) -> Result<Option<Owned<'a>>, Diagnostic> {
    let (name, path) = (&server.name, &layout.data_directory);
    Err(match state.ownership(name) {
        Ownership::Missing => return Ok(None),
        Ownership::Ours(data, configuration) => return Ok(Some(Owned { data, configuration, adopted: false })),
        // Whether a standby is a copy of that primary is for `history`.
        Ownership::Adoptable(data) | Ownership::AdoptableStandby(data) => {
            return Ok(Some(Owned { data, configuration: Configuration::Kept, adopted: true }));
        }
        Ownership::Unknown(why) => Diagnostic::error(
            Code::DataDirectoryUnreadable,
            format!("server \"{name}\": could not look at data directory \"{path}\""),
        )
        .detail(why),
        Ownership::MountPoint => mount_point(name, path),
        Ownership::Gone(recorded) => Diagnostic::error(
            Code::DataDirectoryGone,
            format!("server \"{name}\": its data directory is not there any more"),
        )
        .detail(format!("{recorded} was complete once. A disk that is not mounted looks like this."))
        .hint(format!(
            "Mount it. If the data is really gone and is to be copied anew, remove {} there and run again.",
            layout.own(DATA_DIRECTORY_RECORD)
        )),
        Ownership::OfAnotherServer(other) if is_copy_with_mark(state, name, other) => Diagnostic::error(
            Code::DataDirectoryOfAnotherServer,
            format!("server \"{name}\": data directory \"{path}\" has the mark of server \"{other}\""),
        )
        .detail(format!("It runs as a standby, and \"{other}\" is there and accepts writes: it is a copy of that one's directory, and the mark, {}, came along.", identity::FILE))
        .hint(match state.adopted_primary() {
            Some(_) => format!("To adopt it as it is, remove {path}/{} on \"{name}\" and run pgstead bootstrap again. To copy it anew instead, stop its instance and rename {path}.", identity::FILE),
            None => format!("It is taken over by copying it anew: stop its instance and rename {path}."),
        }),
        Ownership::OfAnotherServer(other) => Diagnostic::error(
            Code::DataDirectoryOfAnotherServer,
            format!("server \"{name}\": data directory \"{path}\" is that of server \"{other}\""),
        )
        .detail(format!("{} leads to server \"{other}\" of topology \"{}\".", server.address, state.topology.name()))
        .hint(format!("Correct the addresses of \"{name}\" and \"{other}\" in the inventory.")),
        Ownership::Damaged(why) => Diagnostic::error(
            Code::DataDirectoryDamaged,
            format!("server \"{name}\": data directory \"{path}\" has no readable control file"),
        )
        .detail(why),
        // What it is is read from the running instance, which may let nobody ask.
        Ownership::Foreign(data) => {
            unasked::refusal(name, seen).unwrap_or_else(|| not_ours(state, server, layout, data))
        }
    })
}

/// Says whether a standby runs on a copy of another server's directory: that one has its own, and accepts writes.
fn is_copy_with_mark(state: &State<'_>, name: &ServerName, other: &str) -> bool {
    let is_other = |server: ServerState<'_>| {
        server.writes() == Writes::Now && server.mark.is_some_and(|mark| mark.server == other)
    };
    state.server(name).standby().is_some() && state.names(is_other).iter().any(|writer| writer.as_str() == other)
}

/// A place that is no data directory yet, and that a finished one cannot be given.
fn mount_point(name: &ServerName, path: &str) -> Diagnostic {
    Diagnostic::error(
        Code::DataDirectoryIsMountPoint,
        format!("server \"{name}\": data directory \"{path}\" is itself a mount point"),
    )
    .detail("A directory is finished beside its place and then renamed, which a mount point forbids.")
    .hint(format!("Use a directory below it: servers.{name}.data_directory: {path}/data"))
}

/// What a data directory without our mark is, with the evidence (hazards 1, 2, 9, 59, 60).
fn not_ours(state: &State<'_>, server: &Server, layout: &Layout, data: &DataDirectory) -> Diagnostic {
    let (name, path) = (&server.name, &layout.data_directory);
    let (topology, of_server) = (state.topology, state.server(name));
    let instance = of_server.instance();
    let Observed::Known(control) = &data.control else {
        // A file system of its own begins with "lost+found".
        if data.is_mount_point && data.pg_version.is_absent() {
            return mount_point(name, path);
        }
        return refuse(topology, server, path).detail("It holds no control file. Nothing was changed.").hint(LOOK);
    };
    let preferred = topology.preferred_primary();
    let primary_control =
        Some(preferred).filter(|preferred| *preferred != name).and_then(|name| state.server(name).control);
    let is_copy = primary_control.is_some_and(|primary| primary.system_identifier == control.system_identifier);
    let accepts_writes = of_server.is_primary_like() || instance.is_none() && of_server.has_no_signal();
    let mut detail = format!(
        "Its system identifier is {}; its state is \"{}\", on timeline {}",
        control.system_identifier, control.state, control.timeline
    );
    detail.push_str(&match instance {
        Some(instance) => running(of_server, instance),
        None if of_server.answer.is_err() => "; it runs and does not answer".to_owned(),
        None if accepts_writes => "; it does not run, and would accept writes when started".to_owned(),
        None => "; it does not run, and would be a standby when started".to_owned(),
    });
    if let Some(primary) = primary_control {
        detail.push_str(&if is_copy {
            format!(
                ". Server \"{preferred}\" has the same identifier, on timeline {}: one is a copy of the other",
                primary.timeline
            )
        } else {
            format!(". Server \"{preferred}\" has another identifier, {}", primary.system_identifier)
        });
    }
    if let Some(identity) = of_server.mark {
        detail.push_str(&format!(
            ". Its mark says: server \"{}\" of topology \"{}\"",
            identity.server, identity.topology
        ));
    }
    detail.push_str(". Nothing was changed.");
    if preferred == name {
        return match instance {
            // It cannot be adopted since standbys of this topology are there, or since it follows another server.
            Some(_) => refuse(topology, server, path).detail(detail).hint(LOOK),
            None if of_server.answer.is_err() => refuse(topology, server, path).detail(detail).hint(SILENT),
            None => refuse(topology, server, path).detail(detail).hint(
                "To adopt it, start its instance: what it is and how it is set is read from the running instance. If it is not needed, rename it; pgstead never deletes or overwrites a data directory.",
            ),
        };
    }
    if is_copy && accepts_writes {
        let message =
            format!("server \"{name}\" is a second primary: a copy of the data of \"{preferred}\" that accepts writes");
        let hint = format!(
            "Find out which of the two has the data that counts. Then stop the other and rename {path}; its data is copied anew."
        );
        return Diagnostic::error(Code::SecondPrimary, message).detail(detail).hint(hint);
    }
    let is_primary_unseen = state.server(preferred).unreached.is_some();
    // Where a standby of this topology is there, a failover has somebody to promote.
    let is_ours = |other: ServerState<'_>| {
        other.starts_as == Some(StartsAs::Standby)
            && other.mark.is_some_and(|mark| mark.topology == topology.name().as_str())
    };
    let is_alone = state.writers().is_empty() && state.names(is_ours).is_empty();
    let is_last = (is_copy || is_primary_unseen) && !accepts_writes && is_alone;
    if is_last && of_server.starts_as == Some(StartsAs::Standby) {
        return Diagnostic::error(
            Code::UnmanagedStandby,
            format!("server \"{name}\": data directory \"{path}\" was not made for topology \"{}\", and may be the last copy of the data", topology.name()),
        )
        .detail(detail)
        .hint(format!("No server that accepts writes was seen. Do not stop its instance, and do not rename {path}. Bring \"{preferred}\" back, if that is possible. Otherwise make this one the primary by hand: SELECT pg_promote(); or pg_ctl promote."));
    }
    if is_copy {
        let message = format!(
            "server \"{name}\": data directory \"{path}\" is a copy of that of \"{preferred}\" and was not made for topology \"{}\"",
            topology.name()
        );
        let is_stopped = of_server.is_stopped();
        let hint = match is_stopped && of_server.mark.is_none() && state.adopted_primary().is_some() {
            true => format!(
                "To adopt it as it is, start its instance: what it is and how it is set is read from the running instance. To copy it anew instead, rename {path}."
            ),
            false => format!(
                "It is taken over by copying it anew: stop its instance and rename {path}. Only beside a primary that was adopted itself is a running standby taken over as it is."
            ),
        };
        return Diagnostic::error(Code::UnmanagedStandby, message).detail(detail).hint(hint);
    }
    refuse(topology, server, path).detail(detail).hint(LOOK)
}

/// A standby that somebody made by hand, and that no bootstrap has adopted yet.
pub fn not_adopted(name: &ServerName) -> Diagnostic {
    Diagnostic::error(Code::UnmanagedStandby, format!("server \"{name}\" has a standby that no run has adopted yet"))
        .server(name)
        .detail("It was not made by pgstead, and has no mark. Nothing was changed.")
        .hint("Adopt it first: pgstead bootstrap")
}

const SILENT: &str = "If it is starting, run the same command again shortly. Otherwise check its log.";

const LOOK: &str = "Look at what it holds. If it is not needed, stop its instance and rename it; pgstead never deletes or overwrites a data directory.";

fn refuse(topology: &Topology, server: &Server, path: &str) -> Diagnostic {
    let name = &server.name;
    let topology = topology.name();
    Diagnostic::error(
        Code::DataDirectoryNotOurs,
        format!(
            "server \"{name}\": data directory \"{path}\" is not empty and was not made for topology \"{topology}\""
        ),
    )
}

fn running(server: ServerState<'_>, instance: &Instance) -> String {
    if server.standby().is_none() {
        let at = instance.positions.current.map_or(String::new(), |lsn| format!(" at {lsn}"));
        return format!("; it runs and accepts writes{at}");
    }
    let from = instance.receiver.as_ref().and_then(link::host);
    format!("; it runs and follows {}", from.unwrap_or("nobody"))
}

//! Says whose a data directory is: this topology's, nobody's, one that may be adopted, or one that must not be touched.
//!
//! Only a mark in a complete directory makes it ours, and only a running primary without a mark, on the server that is to
//! be the primary, is adopted (hazards 1, 2). Decides nothing about what is done with it.

use crate::diagnostic::Diagnostic;
use crate::model::layout::Layout;
use crate::model::name::ServerName;
use crate::model::observation::DataDirectory;
use crate::model::observation::Instance;
use crate::model::observation::Observation;
use crate::model::observation::ServerObservation;
use crate::model::observed::Observed;
use crate::model::topology::Server;
use crate::model::topology::Topology;
use crate::plan::aside;
use crate::plan::identity::Configuration;
use crate::plan::identity::Identity;
use crate::plan::seed::DATA_DIRECTORY_RECORD;
use crate::plan::unasked;

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

/// Returns the server whose existing primary is to be adopted, where there is one: the preferred primary runs and accepts
/// writes, its data directory has no mark at all, and no other server has data of this topology.
pub fn adoptable<'a>(topology: &'a Topology, observation: &Observation) -> Option<&'a ServerName> {
    let name = topology.preferred_primary();
    let seen = observation.server(name)?;
    let data = seen.data_directory.known()?;
    let instance = seen.instance.known()?;
    let is_this_one = data.control.known()?.system_identifier == instance.system_identifier;
    let has_our_data = |server: &Server| {
        let data = observation.server(&server.name).and_then(|seen| seen.data_directory.known());
        data.and_then(|data| data.identity.known())
            .and_then(|text| Identity::parse(text))
            .is_some_and(|identity| identity.topology == topology.name().as_str())
    };
    let adoptable = data.identity.is_absent() && is_this_one && !instance.in_recovery;
    (adoptable && !topology.servers().any(has_our_data)).then_some(name)
}

/// Says whose a server's data directory is; `None` where there is none.
///
/// # Errors
/// It must not be touched, and why.
pub fn judge<'a>(
    topology: &Topology,
    observation: &Observation,
    server: &Server,
    seen: &'a ServerObservation,
    layout: &Layout,
) -> Result<Option<Owned<'a>>, Diagnostic> {
    let (name, path) = (&server.name, &layout.data_directory);
    let data = match &seen.data_directory {
        Observed::Absent => return nothing_there(server, seen, layout),
        Observed::Unreadable(why) => {
            return Err(Diagnostic::error(
                "data-directory-unreadable",
                format!("server \"{name}\": could not look at data directory \"{path}\""),
            )
            .detail(why.clone()));
        }
        Observed::Known(data) => data,
    };
    if data.entries == 0 {
        if data.is_mount_point {
            return Err(Diagnostic::error(
                "data-directory-is-mount-point",
                format!("server \"{name}\": data directory \"{path}\" is itself a mount point"),
            )
            .detail("A directory is finished beside its place and then renamed, which a mount point forbids.")
            .hint(format!("Use a directory below it: servers.{name}.data_directory: {path}/data")));
        }
        return nothing_there(server, seen, layout);
    }
    let identity = data.identity.known().and_then(|text| Identity::parse(text));
    let Some(identity) = identity.filter(|identity| identity.topology == topology.name().as_str()) else {
        if adoptable(topology, observation) == Some(name) {
            return Ok(Some(Owned { data, configuration: Configuration::Kept, adopted: true }));
        }
        // What it is is read from the running instance, which lets nobody ask.
        if let Some(refusal) = unasked::refusal(name, seen) {
            return Err(refusal);
        }
        return Err(not_ours(topology, observation, server, seen, layout, data));
    };
    if identity.server != name.as_str() {
        // The right command on the wrong server: addresses of the inventory are mixed up (hazards 1, 2).
        let other = identity.server;
        return Err(Diagnostic::error(
            "data-directory-of-another-server",
            format!("server \"{name}\": data directory \"{path}\" is that of server \"{other}\""),
        )
        .detail(format!("{} leads to server \"{other}\" of topology \"{}\".", server.address, topology.name()))
        .hint(format!("Correct the addresses of \"{name}\" and \"{other}\" in the inventory.")));
    }
    if data.control.known().is_none() {
        return Err(Diagnostic::error(
            "data-directory-damaged",
            format!("server \"{name}\": data directory \"{path}\" has no readable control file"),
        )
        .detail(data.control.unreadable().unwrap_or("global/pg_control is missing.").to_owned()));
    }
    Ok(Some(Owned { data, configuration: identity.configuration, adopted: false }))
}

/// An empty place is free only where no data directory was: a disk that is not mounted looks the same (hazard 6).
fn nothing_there<'a>(
    server: &Server,
    seen: &ServerObservation,
    layout: &Layout,
) -> Result<Option<Owned<'a>>, Diagnostic> {
    let record = layout.own(DATA_DIRECTORY_RECORD);
    let recorded = seen.files.get(&record).and_then(Observed::known).and_then(|fact| fact.content.as_deref());
    let recorded = recorded.map(str::trim).unwrap_or_default();
    // What was set aside, and is there, shows that its disk is mounted: the place beside it is free.
    if recorded != layout.data_directory && aside::recorded_aside(seen, layout, recorded) != Some(false) {
        return Ok(None);
    }
    Err(Diagnostic::error(
        "data-directory-gone",
        format!("server \"{}\": its data directory is not there any more", server.name),
    )
    .detail(format!("{recorded} was complete once. A disk that is not mounted looks like this."))
    .hint(format!(
        "Mount it. If the data is really gone and is to be copied anew, remove {record} there and run again."
    )))
}

/// What a data directory without our mark is, with the evidence (hazards 1, 2, 9, 59, 60).
fn not_ours(
    topology: &Topology,
    observation: &Observation,
    server: &Server,
    seen: &ServerObservation,
    layout: &Layout,
    data: &DataDirectory,
) -> Diagnostic {
    let (name, path) = (&server.name, &layout.data_directory);
    let instance = seen.instance.known();
    let Observed::Known(control) = &data.control else {
        return refuse(topology, server, path).detail("It holds no control file. Nothing was changed.").hint(LOOK);
    };
    let preferred = topology.preferred_primary();
    let primary = observation.server(preferred).filter(|_| preferred != name);
    let primary_control = primary.and_then(|seen| seen.data_directory.known()).and_then(|data| data.control.known());
    let is_copy = primary_control.is_some_and(|primary| primary.system_identifier == control.system_identifier);
    let accepts_writes =
        instance.map_or(!data.standby_signal && !data.recovery_signal, |instance| !instance.in_recovery);
    let mut detail = format!(
        "Its system identifier is {}; its state is \"{}\", on timeline {}",
        control.system_identifier, control.state, control.timeline
    );
    detail.push_str(&match instance {
        Some(instance) => running(instance),
        None if seen.instance.unreadable().is_some() => "; it runs and does not answer".to_owned(),
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
    if let Some(identity) = data.identity.known().and_then(|text| Identity::parse(text)) {
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
            None if seen.instance.unreadable().is_some() => refuse(topology, server, path).detail(detail).hint(SILENT),
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
        return Diagnostic::error("second-primary", message).detail(detail).hint(hint);
    }
    if is_copy {
        let message = format!(
            "server \"{name}\": data directory \"{path}\" is a copy of that of \"{preferred}\" and was not made for topology \"{}\"",
            topology.name()
        );
        let hint = format!(
            "A standby is taken over by copying it anew: stop its instance and rename {path}. That its data is the primary's cannot be proven otherwise."
        );
        return Diagnostic::error("unmanaged-standby", message).detail(detail).hint(hint);
    }
    refuse(topology, server, path).detail(detail).hint(LOOK)
}

const SILENT: &str =
    "One that starts up answers soon: run the same command again. Where it stays so, its log says why.";

const LOOK: &str = "Look at what it holds. If it is not needed, stop its instance and rename it; pgstead never deletes or overwrites a data directory.";

fn refuse(topology: &Topology, server: &Server, path: &str) -> Diagnostic {
    let name = &server.name;
    let topology = topology.name();
    Diagnostic::error(
        "data-directory-not-ours",
        format!(
            "server \"{name}\": data directory \"{path}\" is not empty and was not made for topology \"{topology}\""
        ),
    )
}

fn running(instance: &Instance) -> String {
    if !instance.in_recovery {
        let at = instance.positions.current.map_or(String::new(), |lsn| format!(" at {lsn}"));
        return format!("; it runs and accepts writes{at}");
    }
    let from = instance.receiver.as_ref().and_then(|receiver| receiver.sender_host.as_deref());
    format!("; it runs and follows {}", from.unwrap_or("nobody"))
}

//! Whose a data directory is. Only a mark in a complete directory makes it ours. Only a running primary without a mark, on the
//! server that is to be the primary, may be adopted, and running standbys of the same data behind it (hazards 1, 2).

use crate::judge::{Role, ServerState, StartsAs, State};
use crate::model::aside;
use crate::model::aside::Beside;
use crate::model::identity::{Configuration, Identity};
use crate::model::layout::{DATA_DIRECTORY_RECORD, Layout};
use crate::model::name::ServerName;
use crate::model::observation::{DataDirectory, Instance, ServerObservation};
use crate::model::observed::Observed;

/// Whose a server's data directory is.
#[derive(Debug, Clone, PartialEq)]
pub enum Ownership<'a> {
    /// Nobody knows: the server was not reached, or its data directory could not be looked at; why.
    Unknown(&'a str),
    /// There is none, and none was finished there.
    Missing,
    /// There is none, although this one was complete. A disk that is not mounted looks the same (hazard 6).
    Gone(&'a str),
    /// The place is empty and cannot be renamed, since a file system is mounted there.
    MountPoint,
    /// This server's.
    Ours(&'a DataDirectory, Configuration),
    /// This server's, and it cannot be read as a database system any more; why.
    Damaged(&'a str),
    /// An existing primary's that has no mark yet, and may become this topology's.
    Adoptable(&'a DataDirectory),
    /// A running standby's that has no mark yet and the system identifier of the adopted primary. Whether it is a copy of that, its
    /// WAL alone can tell.
    AdoptableStandby(&'a DataDirectory),
    /// Another server's of this topology: addresses of the inventory are mixed up (hazards 1, 2).
    OfAnotherServer(&'a str),
    /// It was not made for this topology.
    Foreign(&'a DataDirectory),
}

impl<'a> State<'a> {
    /// Says whose a server's data directory is.
    pub fn ownership(&self, name: &ServerName) -> Ownership<'a> {
        let server = self.server(name);
        let Some((seen, layout)) = server.seen.and_then(|seen| Some((seen, seen.layout.known()?))) else {
            return Ownership::Unknown(server.unreached.unwrap_or("Where it would be is not known."));
        };
        let data = match seen.data_directory.look() {
            Err(why) => return Ownership::Unknown(why),
            Ok(Some(data)) if data.entries == 0 && data.is_mount_point => return Ownership::MountPoint,
            Ok(Some(data)) if data.entries > 0 => data,
            Ok(_) => return nothing_there(seen, layout),
        };
        let ours = server.mark.filter(|mark| mark.topology == self.topology.name().as_str());
        match (ours, &data.control) {
            (None, _) if self.adoptable() == Some(name) => Ownership::Adoptable(data),
            (None, _) if self.is_adoptable_standby(server) => Ownership::AdoptableStandby(data),
            (None, _) => Ownership::Foreign(data),
            (Some(mark), _) if mark.server != name.as_str() => Ownership::OfAnotherServer(mark.server),
            (Some(mark), Observed::Known(_)) => Ownership::Ours(data, mark.configuration),
            (Some(_), control) => Ownership::Damaged(control.unreadable().unwrap_or("global/pg_control is missing.")),
        }
    }

    /// Returns the server whose existing primary is to be adopted, where there is one: the preferred primary runs and accepts
    /// writes, its data directory has no mark at all, and no other server has data of this topology.
    fn adoptable(&self) -> Option<&'a ServerName> {
        let name = self.topology.preferred_primary();
        let server = self.server(name);
        let Role::Primary(instance) = server.role else { return None };
        let is_this_one = server.control?.system_identifier == instance.system_identifier;
        let is_ours =
            |server: ServerState<'_>| server.mark.is_some_and(|mark| mark.topology == self.topology.name().as_str());
        let has_no_mark = server.data?.identity.is_absent();
        (has_no_mark && is_this_one && self.names(is_ours).is_empty()).then_some(name)
    }
}

impl<'a> State<'a> {
    /// Returns the primary whose configuration is the operator's: the one that is to be adopted, or one that was. Standbys that
    /// somebody made of it may join it.
    pub fn adopted_primary(&self) -> Option<&'a Instance> {
        let adoptable = self.adoptable();
        let is_kept = |mark: Identity<'_>, name: &ServerName| {
            mark.topology == self.topology.name().as_str()
                && mark.server == name.as_str()
                && mark.configuration == Configuration::Kept
        };
        let of_server = |(name, server): (&'a ServerName, ServerState<'a>)| match server.role {
            Role::Primary(instance)
                if adoptable == Some(name) || server.mark.is_some_and(|mark| is_kept(mark, name)) =>
            {
                Some(instance)
            }
            _ => None,
        };
        self.servers().find_map(of_server)
    }

    fn is_adoptable_standby(&self, server: ServerState<'_>) -> bool {
        let (Role::Standby(instance), Some(control)) = (server.role, server.control) else { return false };
        let has_no_mark = server.data.is_some_and(|data| data.identity.is_absent());
        let is_same = |primary: &Instance| {
            [instance.system_identifier, control.system_identifier] == [primary.system_identifier; 2]
        };
        has_no_mark && server.starts_as == Some(StartsAs::Standby) && self.adopted_primary().is_some_and(is_same)
    }
}

/// An empty place is free only where no data directory was.
fn nothing_there<'a>(seen: &'a ServerObservation, layout: &Layout) -> Ownership<'a> {
    let record = seen.files.get(&layout.own(DATA_DIRECTORY_RECORD)).and_then(Observed::known);
    let recorded = record.and_then(|fact| fact.content.as_deref()).map(str::trim).unwrap_or_default();
    // What was set aside, and is there, shows that its disk is mounted: the place beside it is free.
    if recorded == layout.data_directory || recorded_aside(seen, layout, recorded) == Some(false) {
        Ownership::Gone(recorded)
    } else {
        Ownership::Missing
    }
}

/// Says whether the record of a data directory names one that was set aside, and that is in its place. `None` where the record
/// is about something else.
fn recorded_aside(seen: &ServerObservation, layout: &Layout, recorded: &str) -> Option<bool> {
    let Beside::Aside(_) = aside::read(layout.place(), recorded) else { return None };
    Some(seen.beside.iter().any(|path| path.strip_suffix(aside::FORGOTTEN).unwrap_or(path) == recorded))
}

/// Reads the mark in a data directory.
pub(super) fn mark(data: &DataDirectory) -> Option<Identity<'_>> {
    data.identity.known().and_then(|text| Identity::parse(text))
}

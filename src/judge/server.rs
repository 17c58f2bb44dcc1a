//! What one server is: its role, whether it accepts writes, what its files say that it was and would start as.

use crate::judge::ownership;
use crate::model::control::ControlFile;
use crate::model::identity::{Configuration, Identity};
use crate::model::observation::{DataDirectory, Instance, ServerObservation};
use crate::model::observed::Observed;
use crate::model::role_file::RoleFile;

/// Why nothing is known of what nobody looked at.
const NOT_ASKED: &str = "It was not looked at.";

/// What an instance is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Role<'a> {
    /// It runs and accepts writes.
    Primary(&'a Instance),
    /// It runs in recovery.
    Standby(&'a Instance),
    /// It does not run, and would accept writes when started.
    StoppedPrimary(&'a DataDirectory),
    /// It does not run, and would be in recovery when started.
    StoppedStandby(&'a DataDirectory),
    /// There is no instance.
    None,
    /// Nobody can tell, and why.
    Unknown(&'a str),
}

/// Whether a server accepts writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes<'a> {
    /// It does.
    Now,
    /// It would, were it started.
    WhenStarted,
    /// It does not, and would not.
    No,
    /// Nobody can tell, and why.
    Unknown(&'a str),
}

/// What an instance would start as, by its signal files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartsAs {
    /// There is none: as a primary.
    Primary,
    /// `standby.signal` wins over `recovery.signal`.
    Standby,
    /// `recovery.signal`: it would recover from an archive, and accept writes at the end.
    Recovery,
}

/// What one server is.
#[derive(Debug, Clone, Copy)]
pub struct ServerState<'a> {
    /// What was seen there; none where it was not reached.
    pub seen: Option<&'a ServerObservation>,
    /// Why it was not reached.
    pub unreached: Option<&'a str>,
    /// Its instance, where one answers; none where none runs; or why nobody can tell.
    pub answer: Result<Option<&'a Instance>, &'a str>,
    /// What its instance is.
    pub role: Role<'a>,
    /// Its data directory, where that is there and not empty.
    pub data: Option<&'a DataDirectory>,
    /// The control file in it.
    pub control: Option<&'a ControlFile>,
    /// What its signal files make of it; none where there is no data directory.
    pub starts_as: Option<StartsAs>,
    /// The mark in it: whose it is.
    pub mark: Option<Identity<'a>>,
    /// What its role file says; none where there is none, or it could not be read.
    pub role_file: Option<RoleFile<'a>>,
    /// Whether it was looked for its role file, and that is not there.
    pub lacks_role_file: bool,
}

fn role<'a>(seen: &'a ServerObservation, data: Option<&'a DataDirectory>) -> Role<'a> {
    match (seen.instance.look(), seen.data_directory.look()) {
        (Ok(Some(instance)), _) if instance.in_recovery => Role::Standby(instance),
        (Ok(Some(instance)), _) => Role::Primary(instance),
        (Err(why), _) | (Ok(None), Err(why)) => Role::Unknown(why),
        (Ok(None), _) => match data.map(|data| (data, starts_as(data))) {
            Some((data, StartsAs::Primary)) => Role::StoppedPrimary(data),
            Some((data, StartsAs::Standby | StartsAs::Recovery)) => Role::StoppedStandby(data),
            None => Role::None,
        },
    }
}

fn starts_as(data: &DataDirectory) -> StartsAs {
    match (data.standby_signal, data.recovery_signal) {
        (true, _) => StartsAs::Standby,
        (false, true) => StartsAs::Recovery,
        (false, false) => StartsAs::Primary,
    }
}

impl<'a> ServerState<'a> {
    /// Judges one server by what was seen there, or not.
    pub fn of(observed: Option<&'a Observed<ServerObservation>>) -> Self {
        match observed {
            Some(Observed::Known(seen)) => Self::of_seen(seen),
            other => {
                let why = other.and_then(Observed::unreadable).unwrap_or(NOT_ASKED);
                Self {
                    seen: None,
                    unreached: Some(why),
                    answer: Err(why),
                    role: Role::Unknown(why),
                    data: None,
                    control: None,
                    starts_as: None,
                    mark: None,
                    role_file: None,
                    lacks_role_file: false,
                }
            }
        }
    }

    /// Judges a server that was reached.
    pub fn of_seen(seen: &'a ServerObservation) -> Self {
        let data = seen.data_directory.known().filter(|data| data.entries > 0);
        let role_file = seen.layout.known().and_then(|layout| seen.files.get(&layout.role_file()));
        let text = role_file.and_then(Observed::known).and_then(|fact| fact.content.as_deref());
        Self {
            seen: Some(seen),
            unreached: None,
            answer: seen.instance.look(),
            role: role(seen, data),
            data,
            control: data.and_then(|data| data.control.known()),
            starts_as: data.map(starts_as),
            mark: data.and_then(ownership::mark),
            role_file: text.map(RoleFile::parse),
            lacks_role_file: role_file.is_some_and(Observed::is_absent),
        }
    }

    /// Returns the instance, where it answers.
    pub fn instance(self) -> Option<&'a Instance> {
        self.answer.ok().flatten()
    }

    /// Returns the instance of a standby that runs.
    pub fn standby(self) -> Option<&'a Instance> {
        match self.role {
            Role::Standby(instance) => Some(instance),
            _ => None,
        }
    }

    /// Says whether it accepts writes.
    pub fn writes(self) -> Writes<'a> {
        match self.role {
            Role::Primary(_) => Writes::Now,
            Role::StoppedPrimary(_) => Writes::WhenStarted,
            Role::Standby(_) | Role::StoppedStandby(_) | Role::None => Writes::No,
            Role::Unknown(why) => Writes::Unknown(why),
        }
    }

    /// Says whether it accepts writes, or would when started.
    pub fn is_primary_like(self) -> bool {
        matches!(self.writes(), Writes::Now | Writes::WhenStarted)
    }

    /// Says whether it was looked at and no instance runs there.
    pub fn is_stopped(self) -> bool {
        self.answer == Ok(None)
    }

    /// Says whether no signal file keeps its data directory from accepting writes, whatever runs over it.
    pub fn has_no_signal(self) -> bool {
        self.starts_as == Some(StartsAs::Primary)
    }

    /// Says who keeps its configuration files; one without a mark is not ours to keep.
    pub fn configuration(self) -> Configuration {
        self.mark.map(|mark| mark.configuration).unwrap_or_default()
    }

    /// Returns the settings that wait for a restart.
    pub fn waits_for_restart(self) -> Vec<&'a str> {
        let settings = self.instance().into_iter().flat_map(|instance| &instance.settings);
        settings.filter(|(_, setting)| setting.pending_restart).map(|(name, _)| name.as_str()).collect()
    }

    /// Returns the configuration files that changed after the instance last read them: they wait for a reload.
    pub fn waits_for_reload(self) -> &'a [String] {
        self.instance().map_or(&[], |instance| &instance.stale_files)
    }

    /// Says whether a `recovery.signal` is there, whatever else is.
    pub fn has_recovery_signal(self) -> bool {
        self.data.is_some_and(|data| data.recovery_signal)
    }

    /// Says whether nothing starts its instance any more, since another server took its place.
    pub fn is_fenced(self) -> bool {
        self.role_file == Some(RoleFile::Fenced)
    }

    /// Says whether it is the primary that another server took the place of: it has to be re-seeded.
    pub fn lost_its_place(self) -> bool {
        matches!(self.role, Role::StoppedPrimary(_)) && self.is_fenced()
    }

    /// Returns the successor that its role file names: a switchover was begun, and its end is not written down yet.
    pub fn successor(self) -> Option<&'a str> {
        self.role_file.and_then(RoleFile::successor)
    }

    /// Says whether its data directory was a primary's, as far as its files say: it has no signal file, and either its control
    /// file says so, or it had begun a timeline that the control file does not know yet. One that only lost its signal file
    /// shows neither (hazards 34, 58).
    pub fn was_primary(self) -> bool {
        let Some((data, control)) = self.data.zip(self.control) else { return false };
        let known = control.minimum_recovery_timeline.unwrap_or_default().max(control.timeline);
        let began_another = data.newest_history.is_some_and(|history| history > known);
        self.has_no_signal() && (control.state.is_of_a_primary() || began_another)
    }
}

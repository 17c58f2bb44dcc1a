//! How far a server's WAL reaches, on which timeline, and which timelines it has left.

use crate::judge::ServerState;
use crate::model::control::{ClusterState, ControlFile};
use crate::model::lsn::Lsn;
use crate::model::observation::Instance;
use crate::model::wal::parse_history;

/// The head of a WAL record, which holds the checksum of the rest: it is never split over pages (`xlogrecord.h`).
const RECORD_HEAD_BYTES: u64 = 24;

/// Where WAL ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    pub timeline: u32,
    /// The position.
    pub at: Lsn,
}

/// Why nobody can tell how far the WAL of a stopped server reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoEnd<'a> {
    /// Its control file could not be read.
    NoControlFile,
    /// It accepted writes and was not shut down.
    NotShutDown(&'a ClusterState),
}

impl<'a> ServerState<'a> {
    /// Returns the timeline that it writes or replays. The control file of a standby that does not run names that of its last
    /// restartpoint, which may be an earlier one. One that was promoted and ended before its first checkpoint goes on where it has
    /// to recover to (`xlogrecovery.c`, `recoveryTargetTLI`).
    pub fn timeline(self) -> Option<u32> {
        match self.instance() {
            Some(instance) => Some(instance.timeline),
            None => self.stopped_end().ok().map(|end| end.timeline).or(self.control.map(|control| {
                control.minimum_recovery_timeline.map_or(control.timeline, |to| to.max(control.timeline))
            })),
        }
    }

    /// Returns up to where it surely has WAL that is the upstream's if it is a copy of that. The upstream's timeline is what it
    /// writes or replays.
    pub fn end_below(self, upstream_timeline: u32) -> Result<End, NoEnd<'a>> {
        let knows = |instance: &&Instance| {
            instance.timeline == upstream_timeline
                // It said itself what it replayed last, or has no WAL of a later timeline: all that it replayed is of its own.
                || [instance.replayed_timeline, instance.wal_timeline].contains(&Some(instance.timeline))
        };
        // A standby that lost its upstream may have replayed another timeline than the last that it wrote down.
        let running = self.instance().filter(knows);
        let said = running.and_then(|instance| Some(End { timeline: instance.timeline, at: received(instance)? }));
        said.map_or_else(|| self.stopped_end(), Ok)
    }

    /// Returns how far the WAL of its data directory reaches by its control file, which tells less than there is, never more: a
    /// killed standby has received WAL that it does not know of.
    pub fn stopped_end(self) -> Result<End, NoEnd<'a>> {
        let control = self.control.ok_or(NoEnd::NoControlFile)?;
        let ControlFile { timeline, minimum_recovery_timeline, minimum_recovery_end, .. } = *control;
        let checkpoint = End { timeline, at: Lsn(control.checkpoint.0 + RECORD_HEAD_BYTES) };
        match &control.state {
            // A base backup that was never started: its control file is the upstream's, and its WAL reaches that far.
            _ if self.data.is_some_and(|data| data.backup_label) => Ok(checkpoint),
            ClusterState::ShutDown => Ok(checkpoint),
            ClusterState::ShutDownInRecovery | ClusterState::InArchiveRecovery => Ok(match minimum_recovery_end {
                Some(at) if at > checkpoint.at => End { timeline: minimum_recovery_timeline.unwrap_or(timeline), at },
                _ => checkpoint,
            }),
            state => Err(NoEnd::NotShutDown(state)),
        }
    }

    /// Returns how far its WAL reaches, where it runs and says so.
    pub fn position(self) -> Option<Lsn> {
        self.instance().and_then(position)
    }

    /// Says whether its data, which nothing runs over, are of a timeline that another server has left: that one was promoted
    /// while this one was away.
    pub fn is_replaced_by(self, other: &Instance) -> bool {
        self.instance().is_none()
            && self.control.is_some_and(|control| {
                control.system_identifier == other.system_identifier && left(other, control.timeline).is_some()
            })
    }
}

/// Returns how far a standby has come: what it has received it replays before it is promoted.
pub fn received(instance: &Instance) -> Option<Lsn> {
    instance.positions.receive.max(instance.positions.replay)
}

/// Returns how far the WAL of an instance reaches: what a primary has written, or a standby received.
pub fn position(instance: &Instance) -> Option<Lsn> {
    instance.positions.current.or(received(instance))
}

/// Returns where an instance left an earlier timeline; none where it never was on that, or is on it still.
pub fn left(instance: &Instance, timeline: u32) -> Option<Lsn> {
    instance.history.known().and_then(|text| left_in(text, timeline))
}

/// Returns where a timeline was left by the text of a later one's history.
pub fn left_in(history: &str, timeline: u32) -> Option<Lsn> {
    parse_history(history).into_iter().find(|(ancestor, _)| *ancestor == timeline).map(|(_, left)| left)
}

//! The ladder: the ways to bring a server back, cheapest first, each with what it costs or why it is not to be had.
//!
//! Costs are estimates from what was observed, for a decision and for a person; nothing waits on them.

use serde::Serialize;

use crate::model::job::{Job, JobKind, JobState, SEED};
use crate::model::layout::{Layout, LayoutKind};
use crate::model::method::{Method, Space};
use crate::plan::operation::reseed::case::{Case, Data};
use crate::plan::operation::reseed::diagnosis::{Condition, Diagnosis, logs_every_page};
use crate::plan::operation::reseed::room::Need;
use crate::plan::operation::reseed::{Request, room};
use crate::render::hba::roles;

/// What a link is presumed to carry, in bytes a second, where nobody has measured it: a gigabit.
const LINK_BYTES_PER_SECOND: u64 = 110_000_000;
/// What a disk is presumed to copy, in bytes a second.
const DISK_BYTES_PER_SECOND: u64 = 400_000_000;
/// What one core of the sending server is presumed to compress with zstd at level 1, in bytes of data a second
/// (performance.md, section 0a).
const ZSTD_BYTES_PER_SECOND: u64 = 180_000_000;
/// Into how many parts of itself such data is presumed to shrink.
const ZSTD_RATIO: u64 = 4;
/// WAL that a base backup brings along at the least: two segments.
const BACKUP_WAL_BYTES: u64 = 32 << 20;
/// Room for template databases and the first WAL of a new data directory.
const MINIMUM_BYTES: u64 = 256 << 20;

/// What a way costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Bytes that pass between servers, estimated.
    pub transfer_bytes: u64,
    /// How long it takes, in seconds, estimated.
    pub seconds: u64,
    /// Bytes that it needs on the disk of the data directory at its peak, beside what is there.
    pub peak_bytes: u64,
    /// Whether the sending server compresses.
    pub is_compressed: bool,
}

/// A way to bring the server back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rung {
    /// The way.
    pub method: Method,
    /// What it costs; none where it is not to be had, or costs nothing worth naming.
    pub cost: Option<Cost>,
    /// What it needs of each mount; empty where it is not to be had, or copies nothing.
    pub room: Vec<Need>,
    /// Why it is not to be had.
    pub refused: Option<String>,
}

/// Returns all ways, cheapest first.
pub(super) fn rungs(case: &Case<'_>, diagnosis: &Diagnosis, request: Request<'_>) -> Vec<Rung> {
    let Request { rate, space, .. } = request;
    let rung = |method: Method, judged: Result<Cost, String>| match judged {
        Ok(cost) => {
            let room = if cost.peak_bytes > 0 { room::needs(case, cost.peak_bytes) } else { Vec::new() };
            match room::suffices(case, &room) {
                Ok(()) => Rung { method, cost: Some(cost), room, refused: None },
                Err(why) => Rung { method, cost: None, room: Vec::new(), refused: Some(why) },
            }
        }
        Err(why) => Rung { method, cost: None, room: Vec::new(), refused: Some(why) },
    };
    vec![
        rung(Method::Replay, replay(case, diagnosis, rate)),
        rung(Method::Rewind, rewind(case, diagnosis, request)),
        rung(Method::Basebackup, base_backup(case, rate, space)),
    ]
}

/// Returns the way that is taken: the wished one, or the cheapest that is to be had. None where nothing is wrong.
pub(super) fn choose(case: &Case<'_>, rungs: &[Rung], wish: Option<Method>, diagnosis: &Diagnosis) -> Option<Method> {
    if wish.is_some() {
        return wish;
    }
    if diagnosis.condition == Condition::Streaming {
        return None;
    }
    let is_to_be_had = |method: &Method| rungs.iter().any(|rung| rung.method == *method && rung.refused.is_none());
    // What an earlier run began is gone on with: it is nearer to its end than anything else.
    let begun = begun(case).filter(|_| !is_to_be_had(&Method::Replay));
    if let Some(method) = begun.filter(is_to_be_had) {
        return Some(method);
    }
    let cost = |rung: &Rung| rung.cost.map_or(u64::MAX, |cost| cost.seconds);
    let to_be_had = rungs.iter().filter(|rung| rung.refused.is_none());
    // Replay costs what must be replayed in any case; the others are compared.
    let replay = rungs.iter().find(|rung| rung.method == Method::Replay && rung.refused.is_none());
    replay.or(to_be_had.min_by_key(|rung| (cost(rung), rung.method))).map(|rung| rung.method)
}

/// Returns the way whose job is at work on the server, or has ended well.
fn begun(case: &Case<'_>) -> Option<Method> {
    case.ripe_job().map(|job| match job.kind {
        JobKind::New => Method::Basebackup,
        JobKind::Rewind | JobKind::Reuse => Method::Rewind,
    })
}

fn replay(case: &Case<'_>, diagnosis: &Diagnosis, rate: Option<u64>) -> Result<Cost, String> {
    match diagnosis.condition {
        Condition::Streaming | Condition::Behind => {
            let transfer_bytes = diagnosis.behind_bytes.unwrap_or_default();
            Ok(Cost {
                transfer_bytes,
                seconds: seconds_over(transfer_bytes, rate),
                peak_bytes: 0,
                is_compressed: false,
            })
        }
        Condition::WalMissing => Err("nothing shows that the WAL it missed would bring it up".to_owned()),
        Condition::Diverged | Condition::Twin | Condition::Ahead => Err(format!(
            "it holds WAL that \"{}\" does not have: it would stream, and keep its own rows",
            case.link.upstream
        )),
        Condition::Damaged => Err("its data directory is damaged".to_owned()),
        Condition::Missing | Condition::Gone => Err("there is no data directory".to_owned()),
    }
}

fn rewind(case: &Case<'_>, diagnosis: &Diagnosis, request: Request<'_>) -> Result<Cost, String> {
    let Request { rate, space, method, .. } = request;
    let Data::Ours(owned) = case.data else { return taken_over(case) };
    match diagnosis.condition {
        Condition::Diverged => {}
        Condition::Twin => {
            return Err("both sides are on one timeline: pg_rewind would find nothing to do, and be wrong".to_owned());
        }
        Condition::Damaged => {
            return Err("its data directory is damaged, and pg_rewind copies only what changed".to_owned());
        }
        Condition::Ahead => return Err("its upstream has less WAL than it has, on the same timeline".to_owned()),
        Condition::WalMissing => return Err("where it left the other's history cannot be shown".to_owned()),
        Condition::Streaming | Condition::Behind => return Err("it has not diverged".to_owned()),
        Condition::Missing | Condition::Gone => return Err("there is no data directory".to_owned()),
    }
    if logs_every_page(owned.data) != Some(true) {
        return Err(
            "its data pages have no checksums, and wal_log_hints is off, so that what hint bits changed would be missed"
                .to_owned(),
        );
    }
    let primary = case.primary.instance;
    if !primary.is_some_and(|instance| instance.roles.contains_key(roles::REWIND)) {
        return Err(format!("\"{}\" has no role \"{}\"; bootstrap makes it", case.primary.server.name, roles::REWIND));
    }
    if space == Space::Reuse && primary.is_some_and(|instance| !instance.tablespaces.is_empty()) {
        return Err("there are tablespaces: what pg_rewind changes in them could not be kept".to_owned());
    }
    // Left to itself it is not tried again: what failed it is likely to be there still.
    if let Some(Job { run, .. }) = failed_rewind(case).filter(|_| method != Some(Method::Rewind)) {
        return Err(format!("that of run {run} came to nothing; --method rewind tries it again"));
    }
    let size = primary.map_or(0, |instance| instance.database_bytes);
    let wal = source_wal_bytes(case);
    // It carries the whole of the source's pg_wal, recycled segments included (performance.md, section 0a).
    let transfer_bytes = wal + diagnosis.divergence.as_ref().and_then(|one| one.bytes()).unwrap_or_default();
    let (peak_bytes, reads) = match space {
        // Copied once and read once more for its checksums.
        Space::Keep => (size + wal, 2),
        Space::Reuse => (2 * wal, 1),
    };
    let cost = Cost {
        transfer_bytes,
        seconds: seconds_over(transfer_bytes, rate) + reads * size / DISK_BYTES_PER_SECOND,
        peak_bytes,
        is_compressed: false,
    };
    Ok(cost)
}

/// The original was set aside already, and the rewound copy of it waits for its place: the run between was interrupted.
fn taken_over(case: &Case<'_>) -> Result<Cost, String> {
    let slots = case.primary.instance.map(|instance| &instance.slots);
    let slot = slots.and_then(|slots| slots.get(&case.server.name.slot_name()));
    let keeps_wal = slot.is_some_and(|slot| slot.wal_status.as_deref() != Some("lost"));
    match (case.data, begun(case)) {
        (Data::Missing, Some(Method::Rewind)) if keeps_wal => {
            Ok(Cost { transfer_bytes: 0, seconds: 0, peak_bytes: 0, is_compressed: false })
        }
        _ => Err("there is no data directory that could be rewound".to_owned()),
    }
}

/// Returns the job of a rewind that did not come to a good end.
fn failed_rewind<'a>(case: &Case<'a>) -> Option<&'a Job> {
    let is_rewind = |job: &&Job| job.name == SEED && job.kind != JobKind::New;
    case.raw.jobs.iter().filter(is_rewind).find(|job| !matches!(job.state, JobState::Running | JobState::Ended(0)))
}

fn base_backup(case: &Case<'_>, rate: Option<u64>, space: Space) -> Result<Cost, String> {
    // The measured line is that from its upstream; within a site it is presumed to be what such lines are.
    let rate = rate.filter(|_| case.sender().server.name == case.link.upstream);
    if space == Space::Reuse && matches!(case.data, Data::Ours(_) | Data::Damaged(_)) {
        return Err("it needs free space next to the old data directory, which cannot be reused; move that to another disk by hand".to_owned());
    }
    let owned = match case.data {
        Data::Ours(owned) => Some(owned.data),
        _ => case.state().data,
    };
    if owned.is_some_and(|data| data.is_mount_point) {
        return Err(format!(
            "{} is a mount point, which cannot be set aside by a rename; use a directory below it",
            case.layout.data_directory
        ));
    }
    let size = case.primary.instance.map_or(0, |instance| instance.database_bytes);
    let transfer_bytes = size + BACKUP_WAL_BYTES;
    let peak_bytes = MINIMUM_BYTES.max(MINIMUM_BYTES + size / 5 * 6);
    let plain = Cost {
        transfer_bytes,
        seconds: seconds_over(transfer_bytes, rate).max(size / DISK_BYTES_PER_SECOND),
        peak_bytes,
        is_compressed: false,
    };
    let small = transfer_bytes / ZSTD_RATIO;
    let compressed = Cost {
        transfer_bytes: small,
        seconds: seconds_over(small, rate).max(size / ZSTD_BYTES_PER_SECOND),
        peak_bytes,
        is_compressed: true,
    };
    // A core of the primary's is worth something: it is spent where a measured line is slow enough.
    let cost =
        if rate.is_some() && can_compress(case) && 2 * compressed.seconds < plain.seconds { compressed } else { plain };
    Ok(cost)
}

fn seconds_over(transfer_bytes: u64, rate: Option<u64>) -> u64 {
    transfer_bytes / rate.unwrap_or(LINK_BYTES_PER_SECOND).max(1)
}

/// Says whether the source compresses, and the server's programs can undo it. Those of the distributions can, from 15 on.
fn can_compress(case: &Case<'_>) -> bool {
    let is_packaged = |layout: &Layout| layout.kind != LayoutKind::Plain;
    is_packaged(case.layout) && is_packaged(case.sender().layout)
}

/// How much WAL the source holds.
fn source_wal_bytes(case: &Case<'_>) -> u64 {
    case.primary.instance.and_then(|instance| instance.wal_directory_bytes).unwrap_or(BACKUP_WAL_BYTES)
}

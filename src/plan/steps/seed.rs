//! New data directories: `initdb` on the first primary, base backups on standbys.
//!
//! Everything is put together in a seed directory beside the data directory's place, marked complete, and only then
//! renamed (hazards 17 to 20, 29, 32). What is interrupted leaves a seed directory that nothing starts.

use crate::model::argv::{Argv, RunAs};
use crate::model::job::{Job, JobKind, JobState};
use crate::model::layout::{DATA_DIRECTORY_RECORD, Layout, LayoutKind};
use crate::model::observed::Observed;
use crate::model::topology::Topology;
use crate::plan::files::Entry;
use crate::plan::files::desired::Wanted;
use crate::plan::links::conninfo::copy_conninfo;
use crate::plan::seen::Seen;
use crate::plan::step::{Action, Copying, Risk, Room, Step};
use crate::plan::steps::job::NewJob;
use crate::plan::steps::{job, service, sql, tablespaces};
use crate::plan::{Material, files, scripts};
use crate::render::hba::roles;

/// A copy is given up when less than this is left for the WAL of its upstream: eight segments.
const ROOM_FLOOR_BYTES: u64 = 128 << 20;
/// The same in hundredths of a larger disk.
const ROOM_FLOOR_PERCENT: u64 = 5;

/// The compression that pays on a slow line: the upstream's zstd at its quickest level.
pub const ZSTD: &str = "server-zstd:1";

/// How a base backup is to come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner<'a> {
    /// What the upstream does to the data before it sends them.
    pub compression: Option<&'a str>,
    /// What may be carried a second, in the words of `pg_basebackup --max-rate`.
    pub max_rate: Option<&'a str>,
    /// The job of an earlier run that is taken over; the rest was decided then.
    pub adopted: Option<&'a Job>,
    /// The server whose slot keeps WAL for the standby, where another one sends the copy.
    pub keeper: Option<Seen<'a>>,
}

/// The steps that make a data directory and start it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seed {
    /// Makes its content in the seed directory.
    pub make: Step,
    /// Marks it complete and gives it its name.
    pub complete: Step,
    /// Starts the instance and waits until it accepts connections.
    pub start: Step,
}

/// Returns the steps of a new instance; an earlier run may have made it already.
pub fn new_instance(
    topology: &Topology,
    material: &Material,
    seen: Seen<'_>,
    wanted: &Wanted,
    adopted: Option<&Job>,
) -> Seed {
    let (server, layout) = (seen.server, seen.layout);
    let run = adopted.map_or(&material.run, |job| &job.run);
    let seed = layout.seed_directory(run);
    let version = topology.common().version;
    let make = match adopted {
        Some(_) => Step::run(
            &server.name,
            Risk::Reversible,
            format!("take over the new instance that run {run} initialized"),
            vec![job::wait(topology, seen)],
        ),
        None => {
            let mut initdb = Argv::new(RunAs::User(layout.os_user.clone()), layout.program("initdb"))
                .args(["--pgdata", &seed, "--data-checksums", "--encoding", "UTF8", "--locale", "C.UTF-8"])
                .args(["--username", roles::SUPERUSER, "--auth-local", "peer", "--auth-host", "reject"])
                .arg("--no-instructions");
            sync_at_once(topology, &mut initdb);
            let seeds = [seed.clone()];
            let new =
                NewJob { run, seeds: &seeds, upstream: None, kind: JobKind::New, verifier: None, command: initdb };
            let commands = std::iter::once(ensure_parent(seen)).chain(job::run(topology, seen, new)).collect();
            let title = format!("initialize a new instance of PostgreSQL {version} with data checksums");
            Step::run(&server.name, Risk::Reversible, title, commands)
        }
    };
    Seed {
        make,
        complete: complete(seen, wanted, &seed, Vec::new(), "make it the data directory"),
        // The first of its topology: there is nobody yet who could know of it.
        start: start_cleared(topology, seen, service::start_alone_commands(seen)),
    }
}

/// Returns the steps that copy a standby from its upstream; an earlier run may have begun or finished the copy.
///
/// `upstream` is who sends it, `primary` the one whose tablespaces a base backup brings along.
pub fn base_backup(
    topology: &Topology,
    material: &Material,
    seen: Seen<'_>,
    wanted: &Wanted,
    upstream: Seen<'_>,
    primary: Seen<'_>,
    manner: Manner<'_>,
) -> Seed {
    let adopted = manner.adopted;
    let (server, layout) = (seen.server, seen.layout);
    let run = adopted.map_or(&material.run, |job| &job.run);
    let seed = layout.seed_directory(run);
    let from = &upstream.server.name;
    let (title, mut commands, moves) = match adopted {
        Some(job) => {
            let title = match job.state {
                JobState::Running => format!("wait for the base backup from \"{from}\" that run {run} began"),
                _ => format!("take over the base backup from \"{from}\" that run {run} finished"),
            };
            (title, vec![job::wait(topology, seen)], tablespaces::moves(&job.seeds[1..], run))
        }
        None => {
            let conninfo = copy_conninfo(topology, server, layout, upstream.server);
            let moves = tablespaces::all_to_come(primary, run);
            let mut copy = Argv::new(RunAs::User(layout.os_user.clone()), layout.program("pg_basebackup"))
                .args(["--pgdata", &seed, "--dbname", &conninfo, "--no-password"])
                .args(["--wal-method", "stream", "--checkpoint", "fast"])
                .args(["--label", &["pgstead ", run].concat(), "--progress"])
                // Without a name the sender keeps WAL for as long as the copy takes.
                .args(manner.keeper.is_none().then(|| ["--slot=", &server.name.slot_name()].concat()))
                .args(manner.compression.map(|compression| ["--compress=", compression].concat()))
                .args(manner.max_rate.map(|rate| ["--max-rate=", rate].concat()))
                .args(moves.iter().map(tablespaces::Move::mapping));
            sync_at_once(topology, &mut copy);
            let seeds = tablespaces::seeds(&seed, &moves);
            let new = NewJob {
                run,
                seeds: &seeds,
                upstream: Some(from.as_str()),
                kind: JobKind::New,
                verifier: Some(layout.program("pg_verifybackup")),
                command: copy,
            };
            let commands = std::iter::once(ensure_parent(seen)).chain(job::run(topology, seen, new)).collect();
            (format!("take a base backup from \"{from}\" and verify it"), commands, moves)
        }
    };
    // What an earlier run copied may be of another instance: the primary may have been made anew since (hazards 1, 9).
    if let (Some(_), Some(identifier)) = (adopted, upstream.system_identifier()) {
        commands.push(same_system(layout, &seed, identifier));
    }
    let settle = tablespaces::settle(seen, &seed, &moves);
    Seed {
        make: Step {
            title,
            server: Some(server.name.clone()),
            risk: Risk::Reversible,
            action: Action::Copy(Box::new(Copying {
                commands,
                sender: from.clone(),
                room: room(topology, seen, manner.keeper.unwrap_or(upstream)),
                progress: None,
            })),
            files: Vec::new(),
        },
        complete: complete(seen, wanted, &seed, settle.into_iter().collect(), "make it the data directory"),
        start: start_new(topology, seen),
    }
}

/// Returns the command that fails where a copy is of another database system.
pub(in crate::plan) fn same_system(layout: &Layout, seed: &str, identifier: u64) -> Argv {
    Argv::new(RunAs::User(layout.os_user.clone()), "sh").args([
        "-c",
        scripts::SAME_SYSTEM,
        "pgstead-same-system",
        &layout.program("pg_controldata"),
        seed,
        &identifier.to_string(),
    ])
}

/// Says when a copy is given up so that its upstream keeps room for WAL (hazard 23).
pub(in crate::plan) fn room(topology: &Topology, seen: Seen<'_>, upstream: Seen<'_>) -> Room {
    let layout = upstream.layout;
    let wal = [&layout.data_directory, "/pg_wal"].concat();
    let disks = &upstream.seen.disks;
    let disk = disks.get(&wal).or(disks.get(&layout.data_directory)).and_then(Observed::known);
    let look = Argv::new(files::administrator(upstream.seen), "df").args(["--block-size=1", "--output=avail", &wal]);
    Room {
        server: upstream.server.name.clone(),
        look,
        floor_bytes: ROOM_FLOOR_BYTES.max(disk.map_or(0, |disk| disk.total_bytes / 100 * ROOM_FLOOR_PERCENT)),
        cancel: vec![job::clear(topology, seen)],
        release: vec![sql::psql(layout, upstream.server, sql::drop_slot(&seen.server.name))],
    }
}

/// Makes everything durable with one `syncfs` instead of an fsync for each of a thousand files, where the version can
/// (performance.md, technique 10). Never without sync (hazard 32).
fn sync_at_once(topology: &Topology, command: &mut Argv) {
    if topology.common().version.has_sync_method() {
        command.args.push("--sync-method=syncfs".to_owned());
    }
}

/// Returns the step that ends what an earlier run left on a server, with all its processes.
pub fn clear_job(topology: &Topology, seen: Seen<'_>, job: &Job) -> Step {
    let run = &job.run;
    let title = match job.state {
        JobState::Running => format!("end the job of run {run} and clear away what it made"),
        JobState::Ended(0) if seen.data.is_some() => format!("clear away the record of run {run}'s finished job"),
        _ => format!("clear away what the unfinished job of run {run} made"),
    };
    Step::run(&seen.server.name, Risk::Reversible, title, vec![job::clear(topology, seen)])
}

/// Returns the step that starts a standby which was just made, after its job's record has done its service.
pub(in crate::plan) fn start_new(topology: &Topology, seen: Seen<'_>) -> Step {
    start_cleared(topology, seen, service::start_commands(seen))
}

fn start_cleared(topology: &Topology, seen: Seen<'_>, start: Vec<Argv>) -> Step {
    let commands = std::iter::once(job::clear(topology, seen)).chain(start).collect();
    Step::run(&seen.server.name, Risk::Reversible, "start the instance", commands)
}

pub(in crate::plan) fn ensure_parent(seen: Seen<'_>) -> Argv {
    let parent = seen.layout.data_directory.rsplit_once('/').map_or("/", |(parent, _)| parent);
    // As postgresql-common makes it: pg_lsclusters of other users looks into it.
    let mode = if seen.layout.kind == LayoutKind::Debian { "0755" } else { "0700" };
    files::make_directory(seen.seen, seen.layout, parent, mode)
}

pub(in crate::plan) fn complete(
    seen: Seen<'_>,
    wanted: &Wanted,
    seed: &str,
    mut before: Vec<Argv>,
    title: &str,
) -> Step {
    let (server, layout) = (seen.server, seen.layout);
    let in_seed = |path: &str| match path.strip_prefix(&layout.data_directory) {
        Some(rest) => [seed, rest].concat(),
        None => path.to_owned(),
    };
    let mut entries: Vec<Entry> = Vec::new();
    for entry in &wanted.inside {
        let mut entry = entry.clone();
        if let Entry::File { path, .. } = &mut entry {
            *path = in_seed(path);
            entries.push(entry);
        }
    }
    entries.extend(marks(seen, wanted, seed));
    // The manifest names the files by their final places.
    if !wanted.inside.is_empty() {
        let owned: Vec<Entry> = wanted.outside.iter().chain(&wanted.inside).cloned().collect();
        entries.extend(files::manifest(layout, &owned));
    }
    let mut step = files::install(&server.name, seen.seen, layout, title, &entries, Some((seed, layout.place())));
    step.files.retain(|file| file.after.as_deref().is_some_and(|text| !text.is_empty()));
    if let Action::Run(commands) = &mut step.action {
        before.append(commands);
        *commands = before;
    }
    step
}

/// Returns what says that a directory is a complete data directory of this server, and that there is one.
pub fn marks(seen: Seen<'_>, wanted: &Wanted, directory: &str) -> Vec<Entry> {
    let layout = seen.layout;
    let group = [&layout.os_user, ":"].concat();
    let mark = |(name, text): &(&str, String)| Entry::text([directory, "/", name].concat(), &group, "0600", text);
    let mut entries: Vec<Entry> = wanted.marks.iter().map(mark).collect();
    entries.push(record(seen));
    entries
}

/// Says that there is a data directory: outside of it, so that it is still said when a disk is not mounted.
fn record(seen: Seen<'_>) -> Entry {
    let layout = seen.layout;
    let owner = files::own_directory_owner(seen.seen, layout);
    Entry::text(layout.own(DATA_DIRECTORY_RECORD), &owner, "0644", [&layout.data_directory, "\n"].concat())
}

/// Returns the record of a data directory whose run was cut off between the rename and the record.
pub fn missing_record(seen: Seen<'_>) -> Option<Entry> {
    let found = seen.seen.files.get(&seen.layout.own(DATA_DIRECTORY_RECORD))?;
    (seen.data.is_some() && found.is_absent()).then(|| record(seen))
}

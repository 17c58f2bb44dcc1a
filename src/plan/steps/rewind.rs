//! A rewound data directory: a copy of the server's own, made beside it, on which `pg_rewind` works.
//!
//! pg_rewind changes its target in place, and one that was killed starts as a primary with another's blocks (hazards.md,
//! finding 3; hazard 68). Its target is a seed directory here, which nothing starts; what was written on the other side of
//! the fork stays whole in the original (hazard 73).

use crate::model::argv::{Argv, RunAs};
use crate::model::job::{Job, JobKind, JobState};
use crate::model::topology::Topology;
use crate::plan::files::desired::Wanted;
use crate::plan::links::conninfo::rewind_conninfo;
use crate::plan::seen::Seen;
use crate::plan::step::{Action, Copying, Risk, Step};
use crate::plan::steps::job::NewJob;
use crate::plan::steps::seed::Seed;
use crate::plan::steps::{job, seed, tablespaces};
use crate::plan::{Material, scripts};

/// Says whether WAL that is missing can be asked of an archive: the servers' configuration is one.
fn has_archive(source: Seen<'_>) -> bool {
    let setting = source.instance.and_then(|instance| instance.settings.get("restore_command"));
    setting.is_some_and(|setting| !setting.setting.is_empty())
}

/// The place for the WAL that tells what only the server had, where its data directory itself is rewound.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The directory, named as one that is set aside.
    pub aside: String,
    /// The first segment that is kept.
    pub first: String,
}

/// Returns the steps that rewind a copy of a server's data directory, or that directory itself, to where the source left its
/// history; an earlier run may have begun or finished it. `seen` is the server as if it had no data directory.
pub fn rewound_copy(
    topology: &Topology,
    material: &Material,
    seen: Seen<'_>,
    wanted: &Wanted,
    source: Seen<'_>,
    kept: Option<&Kept>,
    adopted: Option<&Job>,
) -> Seed {
    let (server, layout) = (seen.server, seen.layout);
    let run = adopted.map_or(&material.run, |job| &job.run);
    let directory = layout.seed_directory(run);
    let from = &source.server.name;
    let (title, mut commands, moves) = match adopted {
        Some(job) => {
            let title = match job.state {
                JobState::Running => format!("wait for the rewind towards \"{from}\" that run {run} began"),
                _ => format!("take over the rewind towards \"{from}\" that run {run} finished"),
            };
            (title, vec![job::wait(topology, seen)], tablespaces::moves(job.seeds.get(1..).unwrap_or_default(), run))
        }
        None => {
            let moves = tablespaces::all_to_come(source, run);
            let config = layout.config_file();
            let mut command = Argv::new(RunAs::User(layout.os_user.clone()), "sh").args([
                "-c",
                scripts::REWIND_COPY,
                "pgstead-rewind-copy",
                layout.place(),
                &directory,
                &layout.bin_directory,
                config.as_deref().unwrap_or("-"),
                &rewind_conninfo(topology, server, layout, source.server),
                if has_archive(source) { "archive" } else { "-" },
                kept.map_or("-", |kept| kept.aside.as_str()),
                kept.map_or("-", |kept| kept.first.as_str()),
            ]);
            command = command.args(moves.iter().flat_map(|one| [&one.to, &one.from]));
            let seeds = tablespaces::seeds(&directory, &moves);
            let new = NewJob {
                run,
                seeds: &seeds,
                upstream: Some(from.as_str()),
                kind: if kept.is_some() { JobKind::Reuse } else { JobKind::Rewind },
                verifier: None,
                command,
            };
            let title = match kept {
                None => format!("copy the data directory and rewind the copy towards \"{from}\""),
                Some(_) => {
                    format!("keep the WAL that only it has, and rewind the data directory itself towards \"{from}\"")
                }
            };
            (title, job::run(topology, seen, new), moves)
        }
    };
    if let Some(identifier) = source.system_identifier() {
        commands.push(seed::same_system(layout, &directory, identifier));
    }
    let settle = tablespaces::settle(seen, &directory, &moves);
    Seed {
        make: Step {
            title,
            server: Some(server.name.clone()),
            risk: if kept.is_some() { Risk::Destructive } else { Risk::Reversible },
            action: Action::Copy(Box::new(Copying {
                commands,
                sender: from.clone(),
                room: seed::room(topology, seen, source),
                progress: Some(job::progress(seen, &directory)),
            })),
            files: Vec::new(),
        },
        complete: seed::complete(
            seen,
            wanted,
            &directory,
            settle.into_iter().collect(),
            "make what was rewound the data directory",
        ),
        start: seed::start_new(topology, seen),
    }
}

//! New data directories: `initdb` on the first primary, base backups on standbys.
//!
//! Everything is put together in a seed directory beside the data directory's place, marked complete, and only then
//! renamed (hazards 17 to 20, 29, 32). What is interrupted leaves a seed directory that nothing starts.

use crate::model::argv::Argv;
use crate::model::argv::RootAccess;
use crate::model::argv::RunAs;
use crate::model::layout::Layout;
use crate::model::layout::LayoutKind;
use crate::model::observed::Observed;
use crate::model::topology::Topology;
use crate::plan::Material;
use crate::plan::conninfo::primary_conninfo;
use crate::plan::desired::Wanted;
use crate::plan::files;
use crate::plan::files::Entry;
use crate::plan::guard;
use crate::plan::scripts;
use crate::plan::step::Action;
use crate::plan::step::Risk;
use crate::plan::step::Step;
use crate::plan::survey::Seen;
use crate::render::hba::roles;

/// How long an instance may take to accept connections, in seconds. Recovery after a base backup replays its WAL.
const START_SECONDS: u32 = 300;

/// The file in pgstead's own directory that says: here was a complete data directory.
pub const DATA_DIRECTORY_RECORD: &str = "data-directory";

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

/// Returns the steps of a new instance.
pub fn new_instance(topology: &Topology, material: &Material, seen: Seen<'_>, wanted: &Wanted) -> Seed {
    let (server, layout) = (seen.server, seen.layout);
    let seed = layout.seed_directory(&material.run);
    let mut initdb = Argv::new(RunAs::User(layout.os_user.clone()), layout.program("initdb"))
        .args(["--pgdata", &seed, "--data-checksums", "--encoding", "UTF8", "--locale", "C.UTF-8"])
        .args(["--username", roles::SUPERUSER, "--auth-local", "peer", "--auth-host", "reject", "--no-instructions"]);
    sync_at_once(topology, &mut initdb);
    Seed {
        make: Step::run(
            &server.name,
            Risk::Reversible,
            format!("initialize a new instance of PostgreSQL {} with data checksums", topology.common().version),
            vec![ensure_parent(seen), initdb],
        ),
        complete: complete(seen, wanted, &seed, Vec::new(), "make it the data directory"),
        start: start(seen),
    }
}

/// Returns the steps that copy a standby from its upstream.
pub fn base_backup(
    topology: &Topology,
    material: &Material,
    seen: Seen<'_>,
    wanted: &Wanted,
    upstream: Seen<'_>,
) -> Seed {
    let (server, layout) = (seen.server, seen.layout);
    let seed = layout.seed_directory(&material.run);
    let conninfo = primary_conninfo(topology, server, layout, upstream.server);
    let mut copy = Argv::new(RunAs::User(layout.os_user.clone()), layout.program("pg_basebackup"))
        .args(["--pgdata", &seed, "--dbname", &conninfo, "--no-password"])
        .args(["--wal-method", "stream", "--slot", &server.name.slot_name(), "--checkpoint", "fast"])
        .args(["--label", &["pgstead ", &material.run].concat()]);
    sync_at_once(topology, &mut copy);
    let command = job(seen, topology, copy);
    let verify =
        Argv::new(RunAs::User(layout.os_user.clone()), layout.program("pg_verifybackup")).arg("--quiet").arg(&seed);
    Seed {
        make: Step {
            title: format!("take a base backup from \"{}\"", upstream.server.name),
            server: Some(server.name.clone()),
            risk: Risk::Reversible,
            action: Action::BaseBackup {
                commands: vec![ensure_parent(seen), command],
                upstream: upstream.server.name.clone(),
            },
            files: Vec::new(),
        },
        complete: complete(seen, wanted, &seed, vec![verify], "verify the base backup and make it the data directory"),
        start: start(seen),
    }
}

/// Makes everything durable with one `syncfs` instead of an fsync for each of a thousand files, where the version can
/// (performance.md, technique 10). Never without sync (hazard 32).
fn sync_at_once(topology: &Topology, command: &mut Argv) {
    if topology.common().version.has_sync_method() {
        command.args.push("--sync-method=syncfs".to_owned());
    }
}

/// Runs a long command detached: it outlives the connection, and can be found and cancelled whole (hazards 17, 21).
fn job(seen: Seen<'_>, topology: &Topology, command: Argv) -> Argv {
    let layout = seen.layout;
    let mut argv = if layout.unit.is_some() {
        let unit = ["pgstead-seed-", topology.name().as_str(), "-", seen.server.name.as_str()].concat();
        Argv::new(files::administrator(seen.seen), "systemd-run")
            .args(["--quiet", "--wait", "--pipe", "--collect", "--service-type=exec"])
            .arg(["--unit=", &unit].concat())
            .arg(["--uid=", &layout.os_user].concat())
            .args(["--property=KillMode=control-group", "--property=TimeoutStopSec=10"])
    } else {
        Argv::new(command.run_as.clone(), "setsid").args([
            "--wait",
            "sh",
            "-c",
            scripts::JOB,
            "pgstead-job",
            &layout.own("job.seed"),
        ])
    };
    argv.args.push(command.program);
    argv.args.extend(command.args);
    argv
}

/// Returns the step that ends jobs which an earlier run left, with all their processes.
pub fn cancel_jobs(seen: Seen<'_>) -> Step {
    let commands = seen
        .seen
        .jobs
        .iter()
        .map(|job| {
            if seen.layout.unit.is_some() {
                Argv::new(files::administrator(seen.seen), "systemctl").arg("stop").arg(job)
            } else {
                Argv::new(RunAs::User(seen.layout.os_user.clone()), "sh").args([
                    "-c",
                    scripts::CANCEL_JOB,
                    "pgstead-cancel-job",
                    job,
                ])
            }
        })
        .collect();
    Step::run(&seen.server.name, Risk::Reversible, "cancel the unfinished job of an earlier run", commands)
}

fn ensure_parent(seen: Seen<'_>) -> Argv {
    let parent = seen.layout.data_directory.rsplit_once('/').map_or("/", |(parent, _)| parent);
    Argv::new(files::administrator(seen.seen), "sh").args([
        "-c",
        scripts::ENSURE_DIRECTORY,
        "pgstead-ensure-directory",
        parent,
        &seen.layout.os_user,
    ])
}

fn complete(seen: Seen<'_>, wanted: &Wanted, seed: &str, mut before: Vec<Argv>, title: &str) -> Step {
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
    let mut step =
        files::install(&server.name, seen.seen, layout, title, &entries, Some((seed, &layout.data_directory)));
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
    // Outside, so that it is still there when a disk is not mounted.
    entries.push(Entry::text(
        layout.own(DATA_DIRECTORY_RECORD),
        &files::own_directory_owner(seen.seen, layout),
        "0644",
        [&layout.data_directory, "\n"].concat(),
    ));
    entries
}

/// Returns the step that makes the instance start with the machine, where its service is not enabled yet.
pub fn enable_service(seen: Seen<'_>) -> Option<Step> {
    let Observed::Known(service) = &seen.seen.service else { return None };
    let unit = match (seen.layout.kind, &seen.layout.unit) {
        // Debian's generator starts every instance whose start.conf says so with this one.
        (LayoutKind::Debian, Some(_)) => "postgresql.service",
        (_, Some(unit)) => unit,
        (_, None) => return None,
    };
    let enable = Argv::new(files::administrator(seen.seen), "systemctl").args(["--quiet", "enable", unit]);
    (!service.enabled)
        .then(|| Step::run(&seen.server.name, Risk::Reversible, "start the service with the machine", vec![enable]))
}

/// Returns the step that starts an instance and waits for it.
///
/// The service manager is not waited for: `pg_ctlcluster` sleeps two seconds after the server answers (performance.md, 0a).
pub fn start(seen: Seen<'_>) -> Step {
    Step::run(&seen.server.name, Risk::Reversible, "start the instance", start_commands(seen))
}

/// Returns the commands of [`start`].
pub fn start_commands(seen: Seen<'_>) -> Vec<Argv> {
    let layout = seen.layout;
    let administrator = files::administrator(seen.seen);
    let mut commands = Vec::new();
    if let Some(unit) = &layout.unit {
        commands.push(Argv::new(administrator, "systemctl").args(["start", "--no-block", unit]));
    } else {
        commands.push(guard::ask(seen));
        commands.push(
            Argv::new(RunAs::User(layout.os_user.clone()), layout.program("pg_ctl"))
                .args(["start", "--silent", "--no-wait", "--pgdata", &layout.data_directory])
                .args(["--log", &log_file(layout)]),
        );
    }
    commands.push(wait_ready(seen));
    commands
}

/// Returns the command that waits until the instance accepts connections.
pub fn wait_ready(seen: Seen<'_>) -> Argv {
    let layout = seen.layout;
    let run_as =
        if seen.seen.login.root == RootAccess::None { RunAs::User(layout.os_user.clone()) } else { RunAs::Root };
    Argv::new(run_as, layout.own("wait-ready"))
        .args([&layout.data_directory, &START_SECONDS.to_string(), &log_file(layout)])
        .args(layout.unit.clone())
}

fn log_file(layout: &Layout) -> String {
    match (&layout.config_directory, layout.kind) {
        (Some(directory), LayoutKind::Debian) => {
            let cluster = directory.trim_start_matches("/etc/postgresql/").replace('/', "-");
            ["/var/log/postgresql/postgresql-", &cluster, ".log"].concat()
        }
        (_, LayoutKind::Rhel) => [&layout.data_directory, "/log/postgresql.log"].concat(),
        _ => layout.own("postgresql.log"),
    }
}

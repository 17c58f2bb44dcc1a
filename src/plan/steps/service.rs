//! An instance is started, stopped, restarted and told to read its files again: through the unit that runs it, where there is
//! one, and through `pg_ctl` where there is none.

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::Writes;
use crate::model::argv::{Argv, RunAs};
use crate::model::layout::LayoutKind;
use crate::model::observed::Observed;
use crate::model::topology::{Server, Topology};
use crate::plan::files::guard;
use crate::plan::links::conninfo;
use crate::plan::seen::Seen;
use crate::plan::step::{Risk, Step};
use crate::plan::steps::sql;
use crate::plan::{files, scripts};

/// How long an instance may take to write its shutdown checkpoint, in seconds: as long as to start.
const STOP_SECONDS: u32 = 300;

/// The same for one whose data are about to be replaced, before it is ended without a checkpoint: what `pg_ctl stop` waits.
const REPLACED_STOP_SECONDS: u32 = 60;

/// The same of one that does not answer, and whose place is another's already: nobody can write until it has ended.
const SILENT_STOP_SECONDS: u32 = 10;

/// The same for one that was told to end before, and was waited for.
const TOLD_STOP_SECONDS: u32 = 5;

/// How long a login may take.
const LOGIN_SECONDS: &str = "30";

/// Returns the command by which a server logs in to another anew, as a standby of it would. Nothing of the environment counts.
pub fn log_in(topology: &Topology, from: Seen<'_>, other: &Server) -> Argv {
    let layout = from.layout;
    // A server that accepts the connection and says nothing would be waited for without end.
    Argv::new(RunAs::User(layout.os_user.clone()), "env")
        .args(["-i", "LC_ALL=C", "timeout", LOGIN_SECONDS, &layout.program("psql"), "-X", "-A", "-t", "-q", "-w"])
        .args(["-d", &conninfo::dial_conninfo(topology, layout, other), "-c", "IDENTIFY_SYSTEM"])
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
    // What somebody masked is not to start at boot; a check says that it does not.
    (!service.enabled && !service.is_boot_masked)
        .then(|| Step::run(&seen.server.name, Risk::Reversible, "start the service with the machine", vec![enable]))
}

/// Returns why a server's instance could not be started, where its administrator barred that: nothing is begun then.
pub fn barred(seen: Seen<'_>) -> Option<Diagnostic> {
    let why = seen.seen.service.known()?.barred.as_deref()?;
    let (name, unit) = (&seen.server.name, seen.layout.unit.as_deref()?);
    let home = seen.layout.config_home();
    Some(
        Diagnostic::error(Code::StartBarred, format!("server \"{name}\": its instance may not be started: {why}"))
            .server(name)
            .hint(match why.contains("start.conf") {
                true => format!("If it may be: write auto or manual into {home}/start.conf, then run again."),
                false => format!("If it may be: systemctl unmask {unit}, then run again."),
            }),
    )
}

/// Returns the step that starts an instance and waits for it.
///
/// The service manager is not waited for where it need not be: `pg_ctlcluster` sleeps two seconds after the server answers
/// (performance.md, 0a).
pub fn start(seen: Seen<'_>) -> Step {
    Step::run(&seen.server.name, Risk::Reversible, "start the instance", start_commands(seen))
}

/// Returns the step that starts a primary of which it is known that nobody took its place, whether or not the others answer;
/// see [`guard::may_start_alone`].
pub fn start_alone(seen: Seen<'_>) -> Step {
    Step::run(&seen.server.name, Risk::Reversible, "start the instance", start_alone_commands(seen))
}

/// Returns the commands of [`start_alone`].
pub fn start_alone_commands(seen: Seen<'_>) -> Vec<Argv> {
    commands(seen, Some(guard::may_start_alone(seen)))
}

/// Returns the commands of [`start`].
pub fn start_commands(seen: Seen<'_>) -> Vec<Argv> {
    commands(seen, None)
}

/// The word counts once: it comes right before the start that it is for, behind the end of one that still waits.
fn commands(seen: Seen<'_>, word: Option<Argv>) -> Vec<Argv> {
    let layout = seen.layout;
    let administrator = files::administrator(seen.seen);
    let mut commands = Vec::new();
    if let Some(unit) = &layout.unit {
        // A start that hangs without a process swallows every further one (see wait-ready.sh).
        let service = seen.seen.service.known();
        if service.is_some_and(|service| service.active == "activating") && seen.state().is_stopped() {
            commands.push(Argv::new(administrator.clone(), "systemctl").args(["stop", unit]));
        }
        // One that failed several times in a row is not started any more until it is told so (systemd.unit, StartLimitBurst).
        if service.is_some_and(|service| service.active == "failed") {
            commands.push(Argv::new(administrator.clone(), "systemctl").args(["reset-failed", unit]));
        }
        commands.extend(word);
        commands.push(Argv::new(administrator, "systemctl").args(["start", "--no-block", unit]));
    } else {
        commands.extend(word);
        commands.push(guard::ask(seen));
        commands.push(await_reaped(seen));
        commands.push(
            Argv::new(RunAs::User(layout.os_user.clone()), layout.program("pg_ctl"))
                .args(["start", "--silent", "--no-wait", "--pgdata", &layout.data_directory])
                .args(["--log", &layout.log_file()]),
        );
    }
    commands.push(wait_ready(seen));
    commands
}

/// How long a process that has ended may stay one, in seconds.
const REAPED_SECONDS: u32 = 30;

/// Returns the command that waits until a postmaster that was killed is gone: its socket's lock file names it.
fn await_reaped(seen: Seen<'_>) -> Argv {
    let lock = [&seen.layout.socket_directory, "/.s.PGSQL.", &seen.server.port.to_string(), ".lock"].concat();
    Argv::new(RunAs::User(seen.layout.os_user.clone()), "sh").args([
        "-c",
        scripts::AWAIT_REAPED,
        "pgstead-await-reaped",
        &lock,
        &REAPED_SECONDS.to_string(),
    ])
}

/// Returns the command that waits until the instance accepts connections.
pub fn wait_ready(seen: Seen<'_>) -> Argv {
    let layout = seen.layout;
    // As the instance's user: what stands in place of its log is nothing that root should read. By the shell: the file system may
    // be mounted without permission to execute.
    Argv::new(RunAs::User(layout.os_user.clone()), "sh")
        .arg(layout.own("wait-ready"))
        .args([&layout.data_directory, &guard::START_SECONDS.to_string(), &layout.log_file()])
        .args(layout.unit.clone())
}

/// Returns the step that stops an instance whose data are about to be replaced. Nothing is lost by that: what it served is
/// what is broken, and recovery makes up for the checkpoint that one which hangs does not write (hazard 61).
pub fn stop_replaced(seen: Seen<'_>) -> Step {
    let command = stop(seen, REPLACED_STOP_SECONDS, "immediate");
    Step::run(&seen.server.name, Risk::Disruptive, "stop the instance", vec![command])
}

/// Returns the step that stops the instance of a server that leaves the topology.
pub fn stop_removed(seen: Seen<'_>) -> Step {
    Step::run(&seen.server.name, Risk::Disruptive, "stop the instance", vec![settle(seen)])
}

/// The same where it does not answer.
pub fn stop_silent(seen: Seen<'_>) -> Step {
    let command = stop(seen, SILENT_STOP_SECONDS, "immediate");
    Step::run(&seen.server.name, Risk::Disruptive, "stop the instance", vec![command])
}

/// Returns the command after which an instance has ended that was told to before: where it hangs, without a checkpoint. Recovery
/// makes up for that, and nothing else is started from its data.
pub fn ended(seen: Seen<'_>) -> Argv {
    stop(seen, TOLD_STOP_SECONDS, "immediate")
}

/// Returns the command that lets the service manager see that an instance has ended which it did not end itself.
pub fn settle(seen: Seen<'_>) -> Argv {
    stop(seen, STOP_SECONDS, "fast")
}

/// Returns the command that stops an instance as fast mode does, within a time; `last` is the last mode that it may use.
fn stop(seen: Seen<'_>, seconds: u32, last: &str) -> Argv {
    let layout = seen.layout;
    let run_as = match layout.unit {
        Some(_) => files::administrator(seen.seen),
        None => RunAs::User(layout.os_user.clone()),
    };
    Argv::new(run_as, "sh")
        .args(["-c", scripts::STOP_INSTANCE, "pgstead-stop-instance"])
        .args([&layout.data_directory, &seconds.to_string(), last, &layout.os_user])
        .args(layout.unit.clone())
}

/// Returns the command that tells a standby to be the primary. It runs under the lock of a run, as the one who takes locks.
pub fn promote(seen: Seen<'_>) -> Argv {
    let layout = seen.layout;
    Argv::new(files::administrator(seen.seen), "sh").args(["-c", scripts::PROMOTE, "pgstead-promote"]).args([
        &layout.data_directory,
        &layout.program("pg_ctl"),
        &layout.os_user,
    ])
}

/// Returns the step that sees that a server is a standby still. It takes the server's lock as well: whoever was about to promote
/// it, and sleeps, cannot do so any more.
pub fn is_standby(seen: Seen<'_>) -> Step {
    let command = Argv::new(files::administrator(seen.seen), "sh").args([
        "-c",
        scripts::IS_STANDBY,
        "pgstead-is-standby",
        &seen.layout.data_directory,
    ]);
    Step::run(&seen.server.name, Risk::Read, "see that it was not promoted meanwhile", vec![command])
}

/// Returns the step that makes an instance read its files again, after it found no error in them.
pub fn reload(seen: Seen<'_>) -> Step {
    let command = sql::psql(seen.layout, seen.server, sql::reload());
    Step::run(&seen.server.name, Risk::Reversible, "reload the configuration", vec![command])
}

/// Returns the step that stops an instance and starts it again.
pub fn restart(seen: Seen<'_>) -> Step {
    let is_primary = seen.state().writes() == Writes::Now;
    let word = is_primary.then(|| guard::may_start_alone(seen));
    // What would refuse the start refuses while the instance still runs.
    let mut commands: Vec<Argv> =
        word.into_iter().chain([guard::ask(seen), stop(seen, STOP_SECONDS, "fast")]).collect();
    commands.extend(if is_primary { start_alone_commands(seen) } else { start_commands(seen) });
    Step::run(&seen.server.name, Risk::Disruptive, "restart the instance", commands)
}

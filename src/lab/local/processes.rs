//! The processes of a lab: found by what the kernel says of them, stopped by id.
//!
//! A process is held by a file descriptor before it is looked at, so the one that is signalled is the one that was looked
//! at, whatever happens to its id in between. No process is ever picked by its name alone.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::error::LocalLabError;
use super::{LocalLab, LocalServer};
use crate::lab::Failure;

/// A process of a lab.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: i32,
    parent: i32,
    name: String,
    /// Where it works; known for instances.
    pub(super) directory: Option<PathBuf>,
    /// The configuration it was started with; known for listening sshds.
    pub(super) config: Option<PathBuf>,
    held: OwnedFd,
}

/// All processes of a lab, by what they are.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// The sshds that listen.
    pub(super) listeners: Vec<Process>,
    /// The sshds of connections.
    sessions: Vec<Process>,
    /// What was started in such a connection and is no instance: shells, base backups, whatever was left behind.
    started: Vec<Process>,
    pub(super) postmasters: Vec<Process>,
    /// What the postmasters have started.
    backends: Vec<Process>,
}

/// The ways to stop a process, each with the time it is given.
type Ways = [(Signal, Duration)];

const KILL: &Ways = &[(Signal::KILL, Duration::from_secs(5))];
const STOP: &Ways = &[(Signal::TERM, Duration::from_secs(5)), (Signal::KILL, Duration::from_secs(5))];
/// Fast shutdown, then immediate shutdown (manual, 19.5); an instance under load writes its shutdown checkpoint first.
const STOP_POSTGRES: &Ways = &[
    (Signal::INT, Duration::from_secs(60)),
    (Signal::QUIT, Duration::from_secs(10)),
    (Signal::KILL, Duration::from_secs(5)),
];

/// How often to look again for processes that were started while others were stopped.
const ROUNDS: usize = 5;

/// Finds the processes of a lab.
pub(super) fn find(lab: &LocalLab) -> Result<Processes, LocalLabError> {
    let real = lab.directory.canonicalize();
    let real = real.map_err(Failure::file("read", lab.directory.clone()))?;
    let servers = real.join("servers");
    let table = Path::new("/proc");
    let pids = fs::read_dir(table).map_err(Failure::file("read", table.to_owned()))?;
    let mut all: Vec<(Process, Facts)> = pids
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| hold(pid, lab.login_uid))
        .collect();
    let us = ancestors(&all, i32::try_from(std::process::id()).unwrap_or_default());
    all.retain(|(process, _)| !us.contains(&process.pid));

    let mut found = Processes::default();
    let mut postgres = Vec::new();
    let mut others = Vec::new();
    for (mut process, facts) in all {
        let config = lab.servers.iter().map(|s| s.directory.join("sshd_config")).find(|c| facts.listens_with(c));
        let directory = facts.directory.as_ref().filter(|directory| directory.starts_with(&servers));
        if config.is_some() {
            process.config = config;
            found.listeners.push(process);
        } else if let (Some(directory), true) = (directory, facts.runs("postgres")) {
            process.directory = directory.strip_prefix(&real).ok().map(|inner| lab.directory.join(inner));
            postgres.push(process);
        } else {
            others.push((process, facts));
        }
    }
    // A connection's sshd is the child of the listener, and has a child of its own that runs as the user.
    let mut parents: Vec<i32> = found.listeners.iter().map(|listener| listener.pid).collect();
    for _ in 0..2 {
        let (sessions, rest): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|(process, facts)| facts.runs("sshd") && parents.contains(&process.parent));
        parents.extend(sessions.iter().map(|(process, _)| process.pid));
        found.sessions.extend(sessions.into_iter().map(|(process, _)| process));
        others = rest;
    }
    let places: Vec<(Ipv4Addr, u16)> = lab.servers.iter().map(|server| (server.address, lab.ssh_port)).collect();
    found.started.extend(others.into_iter().filter(|(_, facts)| facts.came_over_ssh(&places)).map(|(p, _)| p));
    let instances: Vec<i32> = postgres.iter().map(|process| process.pid).collect();
    (found.backends, found.postmasters) = postgres.into_iter().partition(|process| instances.contains(&process.parent));
    Ok(found)
}

/// Stops every process of a lab: first what lets new ones in, last the instances, with a fast shutdown.
pub(super) fn stop_all(lab: &LocalLab) -> Result<(), LocalLabError> {
    for _ in 0..ROUNDS {
        let found = find(lab)?;
        let groups = [
            (found.listeners, STOP),
            (found.sessions, STOP),
            (found.started, STOP),
            (found.postmasters, STOP_POSTGRES),
        ];
        if groups.iter().all(|(processes, _)| processes.is_empty()) {
            return Ok(());
        }
        for (processes, ways) in groups {
            stop(processes, ways)?;
        }
    }
    match find(lab)?.into_any() {
        Some(Process { pid, name, .. }) => Err(LocalLabError::StillRunning { pid, name, seconds: 0 }),
        None => Ok(()),
    }
}

/// Kills every process of one server at once: its sshd, what came in over it, and its instance with all it started.
pub(super) fn kill_all(lab: &LocalLab, server: &LocalServer) -> Result<(), LocalLabError> {
    // Sessions and what they started are told by the server's address, instances by its directory.
    let alone = LocalLab { servers: vec![server.clone()], ..lab.clone() };
    for _ in 0..ROUNDS {
        let mut found = find(&alone)?;
        for instances in [&mut found.postmasters, &mut found.backends] {
            let here = |at: &Option<PathBuf>| at.as_ref().is_some_and(|at| at.starts_with(&server.directory));
            instances.retain(|process| here(&process.directory));
        }
        let doomed: Vec<_> = [found.listeners, found.postmasters, found.backends, found.sessions, found.started]
            .into_iter()
            .flatten()
            .collect();
        if doomed.is_empty() {
            return Ok(());
        }
        stop(doomed, KILL)?;
    }
    Ok(())
}

impl Processes {
    fn into_any(self) -> Option<Process> {
        [self.listeners, self.sessions, self.started, self.postmasters].into_iter().flatten().next()
    }
}

/// Stops processes together: the next way is tried on those that the one before left running.
fn stop(mut processes: Vec<Process>, ways: &Ways) -> Result<(), LocalLabError> {
    let mut given = 0;
    for (signal, limit) in ways {
        for process in &processes {
            match rustix::process::pidfd_send_signal(&process.held, *signal) {
                Err(rustix::io::Errno::SRCH) | Ok(()) => {}
                Err(error) => {
                    return Err(process.cannot_be_stopped(error));
                }
            }
        }
        let deadline = Instant::now() + *limit;
        given += limit.as_secs();
        let mut left = Vec::new();
        for process in processes {
            if !has_ended(&process, deadline)? {
                left.push(process);
            }
        }
        processes = left;
    }
    match processes.into_iter().next() {
        Some(Process { pid, name, .. }) => Err(LocalLabError::StillRunning { pid, name, seconds: given }),
        None => Ok(()),
    }
}

impl Process {
    fn cannot_be_stopped(&self, error: rustix::io::Errno) -> LocalLabError {
        Failure::Observed(format!("process {} ({}) could not be stopped: {error}", self.pid, self.name)).into()
    }
}

/// Waits for the end of a process; the kernel tells, nothing is polled.
fn has_ended(process: &Process, deadline: Instant) -> Result<bool, LocalLabError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left =
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        match rustix::event::poll(&mut [PollFd::new(&process.held, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(process.cannot_be_stopped(error));
            }
        }
    }
}

/// What `/proc` says of a process.
#[derive(Debug)]
struct Facts {
    command_line: String,
    program: Option<PathBuf>,
    directory: Option<PathBuf>,
    environment: Vec<u8>,
}

impl Facts {
    /// Says whether it is the sshd that listens for this configuration. Its title holds its command line.
    fn listens_with(&self, config: &Path) -> bool {
        let named = format!(" -f {} ", config.display());
        self.command_line.contains(&named) && (self.runs("sshd") || self.command_line.starts_with("sshd: "))
    }

    /// Says whether its program file has this name. An upgraded program reads as "… (deleted)".
    fn runs(&self, name: &str) -> bool {
        let file = self.program.as_ref().and_then(|program| program.file_name()?.to_str());
        file.is_some_and(|file| file.trim_end_matches(" (deleted)") == name)
    }

    /// Says whether it was started in an SSH session to one of these places (sshd(8), `SSH_CONNECTION`).
    fn came_over_ssh(&self, places: &[(Ipv4Addr, u16)]) -> bool {
        self.environment
            .split(|&byte| byte == 0)
            .filter_map(|entry| entry.strip_prefix(b"SSH_CONNECTION="))
            .any(|entry| places.iter().any(|(address, port)| entry.ends_with(format!(" {address} {port}").as_bytes())))
    }
}

/// Takes hold of a process and reads what `/proc` says of it. Nothing for one that is gone, or is another user's.
fn hold(pid: i32, uid: u32) -> Option<(Process, Facts)> {
    let held = rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let status = fs::read_to_string(proc.join("status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next())
    };
    let is_us = u32::try_from(pid).ok() == Some(std::process::id());
    if field("State")?.starts_with('Z') || (field("Uid")?.parse() != Ok(uid) && !is_us) {
        return None;
    }
    let parent = field("PPid")?.parse().ok()?;
    let name = field("Name")?.to_owned();
    let words = fs::read(proc.join("cmdline")).ok()?;
    let facts = Facts {
        command_line: words.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" "),
        // These may be closed to us; such a process is none of ours.
        program: readable(fs::read_link(proc.join("exe"))),
        directory: readable(fs::read_link(proc.join("cwd"))),
        environment: readable(fs::read(proc.join("environ"))).unwrap_or_default(),
    };
    Some((Process { pid, parent, name, directory: None, config: None, held }, facts))
}

fn readable<T>(read: io::Result<T>) -> Option<T> {
    read.ok()
}

/// Returns a process and all above it: a lab is taken down from a session in that lab without cutting the own branch.
fn ancestors(all: &[(Process, Facts)], of: i32) -> Vec<i32> {
    let mut chain = vec![of];
    while let Some((process, _)) = all.iter().find(|(process, _)| Some(&process.pid) == chain.last()) {
        if chain.contains(&process.parent) {
            break;
        }
        chain.push(process.parent);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(command_line: &str, program: &str, environment: &[u8]) -> Facts {
        Facts {
            command_line: command_line.to_owned(),
            program: Some(program.into()),
            directory: None,
            environment: environment.to_owned(),
        }
    }

    #[test]
    fn an_editor_of_the_configuration_is_no_sshd() {
        let config = Path::new("/lab/servers/a/sshd_config");
        let title = "sshd: /usr/sbin/sshd -f /lab/servers/a/sshd_config -E /l [listener] 0 of 10-100 startups";
        assert!(facts(title, "/usr/sbin/sshd", b"").listens_with(config));
        assert!(!facts("vim -f /lab/servers/a/sshd_config ", "/usr/bin/vim", b"").listens_with(config));
        assert!(!facts(title, "/usr/sbin/sshd", b"").listens_with(Path::new("/lab/servers/a/sshd")));
    }

    #[test]
    fn the_address_and_port_of_a_session_are_matched_whole() {
        let job = facts("sleep", "/bin/sleep", b"A=1\0SSH_CONNECTION=127.0.0.1 4711 127.0.0.11 22022\0B=2");
        assert!(job.came_over_ssh(&[(Ipv4Addr::new(127, 0, 0, 11), 22022)]));
        assert!(!job.came_over_ssh(&[(Ipv4Addr::new(127, 0, 0, 1), 22022)]));
        assert!(!job.came_over_ssh(&[(Ipv4Addr::new(127, 0, 0, 11), 2202)]));
    }

    #[test]
    fn a_process_is_stopped_and_its_end_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let (process, _) = hold(i32::try_from(child.id()).unwrap(), uid).unwrap();
        stop(vec![process], STOP).unwrap();
        assert!(!child.wait().unwrap().success());
    }
}

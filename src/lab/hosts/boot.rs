//! Starts a host, sees it come up, and stops it: cleanly, or as a power cut does.
//!
//! A host is a supervisor (`lab/hosts/boot-host`), the `systemd-nspawn` it runs, and the init that this started. All are
//! found through the supervisor's record; the others are never remembered, since a reboot from inside changes them.

use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::error::HostsLabError;
use super::host::Host;
use super::process::ProcessId;
use super::{network, tree};
use crate::lab::Failure;
use crate::lab::command::succeed;
use crate::lab::wait::{Look, until};

/// The supervisor's program.
const BOOT_HOST: &str = include_str!("../../../lab/hosts/boot-host");

/// Where a host's control groups may be: cgroup2 alone, or beside cgroup v1, and systemd's own of the latter.
const HIERARCHIES: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];

const BOOT_LIMIT: Duration = Duration::from_secs(60);
const RECORD_LIMIT: Duration = Duration::from_secs(10);
const SHUT_DOWN_LIMIT: Duration = Duration::from_secs(120);
const KILL_LIMIT: Duration = Duration::from_secs(20);

/// A connection attempt is short: one begun before the host has its address would wait for a second ARP request.
const CONNECT_LIMIT: Duration = Duration::from_millis(200);
const BANNER_LIMIT: Duration = Duration::from_secs(5);

/// A listening socket's state in `/proc/PID/net/tcp`.
const LISTENING: &str = "0A";

/// Starts the supervisor, which outlives this process.
pub(super) fn start(host: &Host) -> Result<(), Failure> {
    let (paths, machine) = (host.paths(), host.machine());
    let record = paths.supervisor();
    let log_path = paths.boot_log();
    let log = File::options().create(true).append(true).open(&log_path).map_err(Failure::file("open", &log_path))?;
    let errors = log.try_clone().map_err(Failure::file("open", &log_path))?;
    for old in [&record, &paths.stop_mark()] {
        if old.exists() {
            fs::remove_file(old).map_err(Failure::file("remove", old))?;
        }
    }

    let mut command = Command::new("setsid");
    command
        .args(["--fork", "sh", "-c", BOOT_HOST, "boot-host", &machine])
        .arg(&record)
        .args(["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--settings=no", "--boot"])
        .args(["--link-journal=no", "--resolv-conf=off", "--timezone=off", "--console=read-only"])
        .arg(format!("--directory={}", paths.root().display()))
        .arg(format!("--machine={machine}"))
        .arg(format!("--hostname={}", host.spec().name))
        .arg(format!("--network-bridge={}", host.bridge()));
    if let Some(disk) = &host.spec().small_disk {
        command.arg(format!("--bind={}:{}", paths.disk().display(), disk.mount_point));
    }
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        // Its own cgroup2 tree, whatever this machine has: systemd 256 and later boots with nothing else.
        .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
        // And with that tree as the machine sees it: in a control group namespace of its own systemd 262 finds none.
        .env("SYSTEMD_NSPAWN_USE_CGNS", "0")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    let status = command.status().map_err(|source| Failure::Start {
        command: format!("setsid --fork systemd-nspawn --machine={machine}"),
        source,
    })?;
    if !status.success() {
        return Err(Failure::Observed(format!("setsid ended with {status}")));
    }
    until("the supervisor's record", RECORD_LIMIT, || {
        Ok(if record.exists() { Look::Ready(()) } else { Look::NotYet(format!("no \"{}\"", record.display())) })
    })
}

/// Returns when the host's sshd answers on its address.
pub(super) fn wait_for_ssh(host: &Host) -> Result<(), HostsLabError> {
    until("sshd", BOOT_LIMIT, || {
        let Some(supervisor) = supervisor(host) else {
            return Err(Failure::Observed("the host stopped while it booted".to_owned()));
        };
        let Some(init) = init_under(supervisor) else {
            return Ok(Look::NotYet("the host has no init".to_owned()));
        };
        Ok(match look_for_ssh(init.pid, host.address(), host.spec().ssh_port) {
            Ok(()) => Look::Ready(()),
            Err(seen) => Look::NotYet(seen),
        })
    })
    .map_err(|source| HostsLabError::Boot {
        host: host.spec().name.clone(),
        log_tail: tree::tail(&host.paths().boot_log(), 20),
        source,
    })
}

fn look_for_ssh(init: u32, address: Ipv4Addr, port: u16) -> Result<(), String> {
    let net = Path::new("/proc").join(init.to_string()).join("net");
    let addresses = fs::read_to_string(net.join("fib_trie")).unwrap_or_default();
    if !addresses.lines().any(|line| line.ends_with(&format!(" {address}"))) {
        return Err(format!("the host does not have address {address}"));
    }
    if !listens(&net, port) {
        return Err(format!("nothing listens on port {port}"));
    }
    let answer = || -> std::io::Result<[u8; 4]> {
        let mut connection = TcpStream::connect_timeout(&SocketAddr::from((address, port)), CONNECT_LIMIT)?;
        connection.set_read_timeout(Some(BANNER_LIMIT))?;
        let mut banner = [0; 4];
        connection.read_exact(&mut banner)?;
        Ok(banner)
    };
    match answer() {
        Ok(banner) if &banner == b"SSH-" => Ok(()),
        Ok(banner) => Err(format!("port {port} says {:?}", String::from_utf8_lossy(&banner))),
        Err(error) => Err(format!("{address}:{port}: {error}")),
    }
}

fn listens(net: &Path, port: u16) -> bool {
    let suffix = format!(":{port:04X}");
    ["tcp", "tcp6"].iter().any(|table| {
        fs::read_to_string(net.join(table)).is_ok_and(|text| {
            text.lines().any(|line| {
                let mut fields = line.split_whitespace().skip(1);
                let local = fields.next();
                local.is_some_and(|local| local.ends_with(&suffix)) && fields.nth(1) == Some(LISTENING)
            })
        })
    })
}

/// Returns the host's supervisor, when that is alive.
pub(super) fn supervisor(host: &Host) -> Option<ProcessId> {
    ProcessId::from_record(&host.paths().supervisor()).filter(|process| process.is_alive())
}

/// Returns the host's init, when there is one.
pub(super) fn init(host: &Host) -> Option<ProcessId> {
    init_under(supervisor(host)?)
}

fn init_under(supervisor: ProcessId) -> Option<ProcessId> {
    supervisor.children().into_iter().flat_map(ProcessId::children).find(|child| child.is_init())
}

/// Kills the host's init, and everything with it, and what supervises it. Returns what to wait for.
pub(super) fn kill(host: &Host) -> Result<Vec<ProcessId>, Failure> {
    let mark = host.paths().stop_mark();
    match File::create(&mark) {
        Ok(_) => {}
        // Without its directory the supervisor cannot write its record, and ends.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Failure::file("create", &mark)(error)),
    }
    let mut killed = Vec::new();
    if let Some(supervisor) = supervisor(host) {
        // The upper ones are stopped first, so that they can neither tidy up nor start the host again in between.
        supervisor.signal("STOP")?;
        let machines = supervisor.children();
        for machine in &machines {
            machine.signal("STOP")?;
        }
        killed.extend(machines.iter().copied().flat_map(ProcessId::children));
        killed.extend(machines);
        killed.push(supervisor);
    }
    for process in &killed {
        process.signal("KILL")?;
    }
    // Only a crash in the middle of something leaves more than that.
    wait_until_gone(&killed)?;
    for process in HIERARCHIES.iter().flat_map(|dir| group_members(&Path::new(dir).join(host.machine()))) {
        process.signal("KILL")?;
        killed.push(process);
    }
    Ok(killed)
}

/// Returns the living processes in a control group and those below it.
fn group_members(group: &Path) -> Vec<ProcessId> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut members: Vec<_> = text.split_whitespace().filter_map(|pid| ProcessId::of(pid.parse().ok()?)).collect();
    members.retain(|process| process.is_alive());
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            members.extend(group_members(&entry.path()));
        }
    }
    members
}

/// Waits until killed processes are gone.
pub(super) fn wait_until_gone(processes: &[ProcessId]) -> Result<(), Failure> {
    wait_for_end("killed processes to end", KILL_LIMIT, processes)
}

/// Shuts the host down as its own `systemctl poweroff` would, and waits for the end of it.
pub(super) fn shut_down(host: &Host) -> Result<(), Failure> {
    let Some(supervisor) = supervisor(host) else {
        return Ok(());
    };
    for machine in supervisor.children() {
        machine.signal("TERM")?;
    }
    wait_for_end("the host to shut down", SHUT_DOWN_LIMIT, &[supervisor])
}

fn wait_for_end(awaited: &'static str, limit: Duration, processes: &[ProcessId]) -> Result<(), Failure> {
    until(awaited, limit, || {
        let alive: Vec<_> = processes.iter().filter(|process| process.is_alive()).collect();
        Ok(if alive.is_empty() { Look::Ready(()) } else { Look::NotYet(format!("{alive:?} still runs")) })
    })
}

/// Removes what a stopped host leaves on this machine: its link, its control groups, nspawn's directory for it.
pub(super) fn clear_remains(host: &Host) -> Result<(), Failure> {
    network::remove_interface(&host.link())?;
    let machine = host.machine();
    for hierarchy in HIERARCHIES {
        let group = Path::new(hierarchy).join(&machine);
        until("the host's control groups to be empty", KILL_LIMIT, || {
            Ok(match remove_groups(&group) {
                Ok(()) => Look::Ready(()),
                Err(failure) => Look::NotYet(failure.to_string()),
            })
        })?;
    }
    let propagated = Path::new("/run/systemd/nspawn/propagate").join(&machine);
    if propagated.exists() {
        fs::remove_dir(&propagated).map_err(Failure::file("remove", &propagated))?;
    }
    let record = host.paths().supervisor();
    if record.exists() {
        fs::remove_file(&record).map_err(Failure::file("remove", &record))?;
    }
    Ok(())
}

/// Control groups are directories that go only when no process is in them; their files are the kernel's.
fn remove_groups(group: &Path) -> Result<(), Failure> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Failure::file("read", group))?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path())?;
        }
    }
    fs::remove_dir(group).map_err(Failure::file("remove", group))
}

/// Runs `argv` in the host's namespaces, past its sshd.
pub(super) fn enter(init: ProcessId, argv: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--target={}", init.pid))
        .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"])
        .args(argv)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8");
    command
}

/// Runs a program of this machine in the host's network namespace alone.
pub(super) fn in_network_of(init: ProcessId, argv: &[&str]) -> Result<String, Failure> {
    succeed(Command::new("nsenter").arg(format!("--target={}", init.pid)).args(["--net", "--"]).args(argv))
}

//! The hosts lab keeps its promises: hosts boot, faults are faults, and nothing stays behind.
//!
//! Needs root and the packages of `lab/hosts/install-packages`; fails, and says so, without them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "these tests watch other processes come and go")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use pgstead::lab::hosts::{self, Guard, Host, HostSpec, HostsLab, HostsLabError, LabSpec, Release, SmallDisk};
use pgstead::lab::{self, BackendKind, Fault, LabError};

/// A fresh place for a lab. It is not below the target directory: a lab outlives `cargo clean` badly.
fn lab_dir(name: &str) -> PathBuf {
    Path::new("/var/tmp").join(format!("pgstead-lab-test-{name}-{}", std::process::id()))
}

fn up(name: &str, hosts: Vec<HostSpec>) -> Guard {
    let spec = LabSpec { in_memory: true, ..LabSpec::new(lab_dir(name), hosts) };
    match hosts::up(spec) {
        Ok(lab) => lab.guard(),
        Err(error) => panic!("{}", with_sources(&error)),
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(&format!("\n  caused by: {source}"));
        next = source.source();
    }
    text
}

fn three() -> Vec<HostSpec> {
    vec![
        HostSpec::new("a", Release::Bookworm),
        HostSpec::new("b", Release::Trixie),
        HostSpec { ssh_port: 2222, ..HostSpec::new("c", Release::Bookworm) },
    ]
}

fn ssh(lab: &HostsLab, user: &str, host: &Host, command: &str) -> Output {
    Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=3"])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", lab.known_hosts().display()))
        .args(["-o", "GlobalKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-i"])
        .arg(lab.identity_file())
        .args(["-p", &host.spec().ssh_port.to_string()])
        .arg(format!("{user}@{}", host.address()))
        .arg(command)
        .output()
        .unwrap()
}

fn ssh_says(lab: &HostsLab, user: &str, host: &Host, command: &str) -> String {
    let output = ssh(lab, user, host, command);
    assert!(output.status.success(), "{user}@{}: {command}: {output:?}", host.name());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Whether a ping comes back within a second, up to five times: a busy machine answers late, and a cut link never.
fn pings(from: &Host, to: &Host) -> bool {
    let to = to.address().to_string();
    (0..5).any(|_| from.exec(&["ping", "-n", "-q", "-c", "1", "-W", "1", &to]).unwrap().status.success())
}

/// Demands that none comes back.
fn is_silent(from: &Host, to: &Host) -> bool {
    let to = to.address().to_string();
    !from.exec(&["ping", "-n", "-q", "-c", "1", "-W", "1", &to]).unwrap().status.success()
}

fn answers_operator(host: &Host) -> bool {
    let address = SocketAddr::from((host.address(), host.spec().ssh_port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

fn wait_for_operator(host: &Host) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !answers_operator(host) {
        assert!(Instant::now() < deadline, "the mended link does not carry anything");
    }
}

/// Everything of labs that this machine has: mounts, interfaces, processes, control groups.
fn remains(of: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(of)).map(str::to_owned));
    for dir in [
        "/sys/class/net",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup/systemd",
        "/run/systemd/nspawn/propagate",
    ] {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path().display().to_string();
            found.extend(path.contains(of).then_some(path));
        }
    }
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.starts_with("systemd-nspawn") && line.contains(of) {
            found.push(line);
        }
    }
    found
}

#[test]
fn three_hosts_boot_and_are_what_they_say() {
    // What Debian's experimental suite has today it may not have tomorrow: no run of the tests depends on it.
    for release in Release::ALL.into_iter().filter(|release| *release != Release::Experimental) {
        hosts::build_tree(release).unwrap_or_else(|error| panic!("{}", with_sources(&error)));
    }
    let begun = Instant::now();
    let lab = up("three", three());
    eprintln!("three hosts answered after {:?}", begun.elapsed());

    for host in lab.hosts() {
        assert_eq!(ssh_says(&lab, "root", host, "hostname"), host.name());
        assert_eq!(ssh_says(&lab, "ops", host, "echo $LANG"), "C.UTF-8");
        assert_eq!(ssh_says(&lab, "ops", host, "sudo -n id -un"), "root");
        let refused = ssh(&lab, "guest", host, "sudo -n id -un");
        assert!(!refused.status.success(), "guest must not have sudo");
        assert_eq!(ssh_says(&lab, "guest", host, "id -un"), "guest");

        let binary = format!("/usr/lib/postgresql/{}/bin/postgres", host.spec().release.postgres_major());
        host.run(&["test", "-x", &binary]).unwrap();
        assert_eq!(host.run(&["systemctl", "is-enabled", "postgresql.service"]).unwrap(), "enabled");
        assert_eq!(host.run(&["pg_lsclusters", "--no-header"]).unwrap(), "", "no cluster exists");
        assert!(!host.exec(&["pgrep", "-x", "postgres"]).unwrap().status.success(), "PostgreSQL does not run");
        assert_eq!(host.run(&["ip", "-4", "route", "show", "default"]).unwrap(), "", "no way out");
        assert_eq!(host.run(&["systemctl", "--failed", "--plain", "--no-legend"]).unwrap(), "");
        for other in lab.hosts() {
            let found = host.run(&["getent", "ahostsv4", other.name()]).unwrap();
            assert!(found.starts_with(&other.address().to_string()), "{found}");
            assert!(pings(host, other));
        }
    }
    let ids: Vec<_> = lab.hosts().iter().map(|host| host.run(&["cat", "/etc/machine-id"]).unwrap()).collect();
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
}

#[test]
fn services_of_two_hosts_do_not_mix() {
    let lab = up("services", vec![HostSpec::new("a", Release::Bookworm), HostSpec::new("b", Release::Bookworm)]);
    let [a, b] = [&lab.hosts()[0], &lab.hosts()[1]];
    for host in [a, b] {
        host.run(&["systemd-run", "--quiet", "--unit=probe", "sleep", "1000"]).unwrap();
    }
    a.run(&["systemctl", "stop", "probe"]).unwrap();
    assert_eq!(b.run(&["systemctl", "is-active", "probe"]).unwrap(), "active");
    assert_eq!(b.run(&["pgrep", "-c", "-x", "sleep"]).unwrap(), "1");
}

fn wait_for_postgres(host: &Host) {
    // Debian's start gives up where the number of the former postmaster belongs to a process with "postgres" in its command line,
    // as who asks has one: the boot comes to its end first.
    let _ = host.exec(&["systemctl", "is-system-running", "--wait"]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = host.psql(5432, "postgres", "select 1") {
        assert!(Instant::now() < deadline, "PostgreSQL does not answer: {}", with_sources(&error));
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn postgres_runs_as_debian_runs_it() {
    let lab = up("postgres", vec![HostSpec::new("a", Release::Bookworm), HostSpec::new("b", Release::Trixie)]);
    for host in lab.hosts() {
        let major = host.spec().release.postgres_major().to_string();
        host.run(&["pg_createcluster", &major, "main"]).unwrap();
        host.run(&["systemctl", "start", &format!("postgresql@{major}-main")]).unwrap();
        host.shut_down().unwrap();
        host.boot().unwrap();
        wait_for_postgres(host);
        let log = format!("/var/log/postgresql/postgresql-{major}-main.log");
        let log_says = |text: &str| String::from_utf8(host.read_file(&log).unwrap()).unwrap().contains(text);
        assert!(log_says("database system was shut down at") && !log_says("was not properly shut down"));
        let version = host.psql(5432, "postgres", "show server_version").unwrap();
        assert!(version.starts_with(&major), "{version}");
        host.power_cut().unwrap();
        host.boot().unwrap();
        wait_for_postgres(host);
        assert!(log_says("was not properly shut down"), "a power cut is no shutdown");
    }
}

#[test]
fn a_power_cut_keeps_files_and_a_reset_does_not() {
    let lab = up("power", vec![HostSpec::new("a", Release::Bookworm)]);
    let host = lab.host("a").unwrap();
    let boot_id = |host: &Host| host.run(&["cat", "/proc/sys/kernel/random/boot_id"]).unwrap();
    let first = boot_id(host);
    host.write_file("/srv/kept", b"written before").unwrap();

    let begun = Instant::now();
    host.power_cut().unwrap();
    eprintln!("power cut after {:?}", begun.elapsed());
    assert!(!host.is_running() && !answers_operator(host));
    assert!(matches!(host.exec(&["true"]), Err(HostsLabError::WrongState { .. })));
    assert_eq!(host.read_file("/srv/kept").unwrap(), b"written before");
    host.write_file("/srv/while-off", b"x").unwrap();

    let begun = Instant::now();
    host.boot().unwrap();
    eprintln!("one host booted again after {:?}", begun.elapsed());
    assert_ne!(boot_id(host), first);
    assert_eq!(host.read_file("/srv/kept").unwrap(), b"written before");
    assert_eq!(host.read_file("/srv/while-off").unwrap(), b"x");
    assert_eq!(ssh_says(&lab, "ops", host, "hostname"), "a");

    let begun = Instant::now();
    host.shut_down().unwrap();
    eprintln!("clean shutdown after {:?}", begun.elapsed());
    host.boot().unwrap();
    assert_eq!(host.read_file("/srv/kept").unwrap(), b"written before");

    host.reset().unwrap();
    assert!(host.read_file("/srv/kept").is_err());
    assert_eq!(ssh_says(&lab, "ops", host, "hostname"), "a", "the host key is still the known one");
}

#[test]
fn what_a_lab_kept_is_what_another_begins_with() {
    let kept = lab_dir("kept");
    let hosts = || vec![HostSpec::new("a", Release::Bookworm)];
    // Nobody else asks for a number like this.
    let spec = |name: &str| LabSpec { in_memory: true, number: Some(250), ..LabSpec::new(lab_dir(name), hosts()) };
    let lab = hosts::up(spec("keeps")).unwrap().guard();
    let host = lab.host("a").unwrap();
    host.run(&["rm", "/etc/issue"]).unwrap();
    host.write_file("/srv/kept", b"written before").unwrap();
    let (machine, address) = (host.run(&["cat", "/etc/machine-id"]).unwrap(), host.address());
    let key = fs::read_to_string(lab.known_hosts()).unwrap();
    lab.keep(&kept).unwrap();
    let taken = hosts::up(spec("taken"));
    assert!(taken.is_err_and(|error| with_sources(&error).contains("10.213.250.0/24 is in use")));
    assert!(!lab_dir("taken").exists(), "what was refused left a directory");
    drop(lab);

    let begins = || LabSpec { begins_with: Some(kept.clone()), ..spec("begins") };
    for round in 0..2 {
        let lab = hosts::up(begins()).unwrap().guard();
        let host = lab.host("a").unwrap();
        assert_eq!(host.read_file("/srv/kept").unwrap(), b"written before", "round {round}");
        assert!(host.read_file("/etc/issue").is_err(), "what was removed is gone");
        assert_eq!(host.run(&["cat", "/etc/machine-id"]).unwrap(), machine);
        assert_eq!((host.address(), fs::read_to_string(lab.known_hosts()).unwrap()), (address, key.clone()));
        assert_eq!(ssh_says(&lab, "ops", host, "hostname"), "a");
        // What it writes is its own.
        host.write_file("/srv/kept", b"written by another").unwrap();
        host.reset().unwrap();
        assert_eq!(host.read_file("/srv/kept").unwrap(), b"written before");
    }
    let other = LabSpec { hosts: vec![HostSpec::new("b", Release::Bookworm)], ..begins() };
    assert!(hosts::up(other).is_err_and(|error| with_sources(&error).contains("was kept of other hosts")));
    fs::remove_dir_all(&kept).unwrap();
}

#[test]
fn a_reboot_from_inside_is_a_reboot() {
    let lab = up("reboot", vec![HostSpec::new("a", Release::Trixie)]);
    let host = lab.host("a").unwrap();
    let first = host.init_pid().unwrap();
    host.exec(&["systemctl", "reboot"]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while host.init_pid().is_none_or(|pid| pid == first) || !answers_operator(host) {
        assert!(Instant::now() < deadline, "the host does not come back: {:?}", host.init_pid());
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_cut_link_cuts_off_everyone_and_is_mended() {
    let lab = up("cut", three());
    let [a, b, c] = [0, 1, 2].map(|i| &lab.hosts()[i]);
    b.cut_link().unwrap();
    assert!(is_silent(a, b) && is_silent(b, a) && !answers_operator(b));
    assert!(pings(a, c));
    assert!(b.run(&["ip", "-4", "-o", "address", "show", "host0"]).unwrap().contains(&b.address().to_string()));
    b.mend_link().unwrap();
    wait_for_operator(b);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !(pings(a, b) && answers_operator(b)) {
        assert!(Instant::now() < deadline, "the mended link does not carry anything");
    }
}

#[test]
fn a_dropped_link_is_silent_between_two_hosts_only() {
    let lab = up("drop", three());
    let [a, b, c] = [0, 1, 2].map(|i| &lab.hosts()[i]);
    assert!(pings(a, b));
    lab.drop_link(a, b).unwrap();
    lab.drop_link(a, b).unwrap();
    assert!(is_silent(a, b) && is_silent(b, a));
    assert!(pings(a, c) && pings(c, b) && answers_operator(a) && answers_operator(b));
    let attempt = a
        .exec(&["timeout", "2", "bash", "-c", "exec 3<>\"/dev/tcp/$1/22\"", "bash", &b.address().to_string()])
        .unwrap();
    assert_eq!(attempt.status.code(), Some(124), "a silent drop refuses nothing: {attempt:?}");
    lab.mend_drop(a, b).unwrap();
    lab.mend_drop(a, b).unwrap();
    assert!(pings(a, b) && pings(b, a));

    // One way: b hears nothing of the operator, so no connection comes about, and a is not affected.
    b.drop_arriving_from(lab.bridge_address()).unwrap();
    assert!(!answers_operator(b) && answers_operator(a) && pings(a, b));
    b.accept_arriving_from(lab.bridge_address()).unwrap();
    assert!(answers_operator(b));
}

/// Sends `n_bytes` from this machine to a host and back again, and returns the rate of each in megabits per second.
fn rates(lab: &HostsLab, host: &Host, n_bytes: usize) -> [f64; 2] {
    let listener = TcpListener::bind((lab.bridge_address(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let operator = lab.bridge_address().to_string();
    let script =
        "exec 3<>\"/dev/tcp/$1/$2\"; head -c \"$3\" <&3 >/dev/null; echo got >&3; head -c \"$3\" /dev/zero >&3";
    thread::scope(|scope| {
        let size = n_bytes.to_string();
        scope.spawn(move || host.run(&["bash", "-c", script, "bash", &operator, &port, &size]).unwrap());
        let (mut connection, _) = listener.accept().unwrap();
        let megabits = |begun: Instant| n_bytes as f64 * 8.0 / 1e6 / begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        connection.write_all(&vec![0; n_bytes]).unwrap();
        connection.read_exact(&mut [0; 4]).unwrap();
        let there = megabits(begun);
        let begun = Instant::now();
        connection.read_exact(&mut vec![0; n_bytes]).unwrap();
        [there, megabits(begun)]
    })
}

#[test]
fn a_limited_link_is_as_slow_as_wished_both_ways() {
    let lab = up("rate", vec![HostSpec::new("a", Release::Bookworm)]);
    let host = lab.host("a").unwrap();
    let free = rates(&lab, host, 50_000_000);
    host.limit_rate(40).unwrap();
    let limited = rates(&lab, host, 10_000_000);
    host.limit_rate(80).unwrap();
    let wider = rates(&lab, host, 10_000_000);
    host.unlimit().unwrap();
    host.unlimit().unwrap();
    let again = rates(&lab, host, 50_000_000);
    eprintln!("Mbit/s there and back: {free:.0?}, limited to 40 {limited:.1?}, to 80 {wider:.1?}, then {again:.0?}");
    assert!(limited.iter().all(|rate| (8.0..45.0).contains(rate)), "{limited:?}");
    assert!(wider.iter().all(|rate| (16.0..90.0).contains(rate)), "{wider:?}");
    assert!(free.iter().chain(&again).all(|rate| *rate > 200.0), "{free:?} {again:?}");
}

#[test]
fn a_small_disk_fills_up_and_outlives_a_power_cut() {
    let disk = SmallDisk { mount_point: "/var/lib/postgresql".to_owned(), mebibytes: 32 };
    let spec = HostSpec { small_disk: Some(disk), ..HostSpec::new("a", Release::Bookworm) };
    let lab = up("disk", vec![spec]);
    let host = lab.host("a").unwrap();
    assert_eq!(host.run(&["stat", "-c", "%U:%G", "/var/lib/postgresql"]).unwrap(), "postgres:postgres");
    host.write_file("/var/lib/postgresql/kept", b"kept").unwrap();
    let fill = host.exec(&["dd", "if=/dev/zero", "of=/var/lib/postgresql/filler", "bs=1M", "count=100"]).unwrap();
    let reason = String::from_utf8_lossy(&fill.stderr).into_owned();
    assert!(!fill.status.success() && reason.contains("No space left on device"), "{reason}");
    host.write_file("/srv/elsewhere", b"there is room").unwrap();
    host.power_cut().unwrap();
    host.boot().unwrap();
    assert_eq!(host.read_file("/var/lib/postgresql/kept").unwrap(), b"kept");
}

#[test]
fn a_clone_has_the_machine_id_of_its_original_and_a_bare_host_no_postgres() {
    let lab = up(
        "variants",
        vec![
            HostSpec::new("a", Release::Bookworm),
            HostSpec { machine_id_of: Some("a".to_owned()), ..HostSpec::new("b", Release::Trixie) },
            HostSpec { postgres_installed: false, ..HostSpec::new("c", Release::Bookworm) },
            HostSpec { postgres_installed: false, ..HostSpec::new("d", Release::Trixie) },
        ],
    );
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| &lab.hosts()[i]);
    let id = |host: &Host| host.run(&["cat", "/etc/machine-id"]).unwrap();
    assert_eq!(id(a), id(b));
    assert_ne!(id(a), id(c));
    for bare in [c, d] {
        for absent in ["pg_lsclusters", "psql", "pg_createcluster"] {
            let found = bare.exec(&["sh", "-c", "command -v \"$1\"", "sh", absent]).unwrap();
            assert!(!found.status.success(), "{absent}");
        }
        assert!(bare.exec(&["ls", "/usr/lib/postgresql"]).unwrap().stdout.is_empty());
        let package = format!("postgresql-{}", bare.spec().release.postgres_major());
        assert!(!bare.exec(&["dpkg-query", "-W", &package]).unwrap().status.success());
        assert_eq!(ssh_says(&lab, "ops", bare, "sudo -n id -un"), "root");
    }
}

#[test]
fn the_vocabulary_of_all_labs_breaks_and_mends_a_host() {
    let disk = SmallDisk { mount_point: "/var/lib/postgresql".to_owned(), mebibytes: 32 };
    let hosts = vec![
        HostSpec { small_disk: Some(disk), ..HostSpec::new("a", Release::Bookworm) },
        HostSpec::new("b", Release::Bookworm),
    ];
    let lab = up("vocabulary", hosts);
    let backend = BackendKind::Hosts.backend();
    let fault = |server: &str, fault| lab::backend::fault(backend, lab.dir(), server, fault);
    let running = || backend.status(lab.dir()).unwrap().servers.iter().map(|server| server.running).collect::<Vec<_>>();
    let host = lab.host("a").unwrap();

    fault("a", Fault::PowerOff).unwrap();
    assert_eq!((running(), answers_operator(host)), (vec![false, true], false));
    assert!(matches!(fault("a", Fault::LinkOff), Err(LabError::WrongState { running: false, .. })));
    fault("a", Fault::PowerOn).unwrap();
    assert_eq!((running(), answers_operator(host)), (vec![true, true], true));
    assert!(matches!(fault("a", Fault::PowerOn), Err(LabError::WrongState { running: true, .. })));

    fault("a", Fault::LinkOff).unwrap();
    assert!(!answers_operator(host));
    fault("a", Fault::LinkOn).unwrap();
    wait_for_operator(host);

    let write = || host.exec(&["dd", "if=/dev/zero", "of=/var/lib/postgresql/x", "bs=1M", "count=1"]).unwrap().status;
    fault("a", Fault::DiskFull).unwrap();
    assert!(!write().success());
    fault("a", Fault::DiskFree).unwrap();
    assert!(write().success());
    // The machine's own disk is nobody's to fill.
    assert!(matches!(fault("b", Fault::DiskFull), Err(LabError::NoDisk { .. })));

    let limited = || host.run(&["tc", "qdisc", "show", "dev", "host0"]).unwrap().contains("rate 40Mbit");
    fault("a", Fault::RateLimited { megabits: NonZeroU32::new(40).unwrap() }).unwrap();
    assert!(limited());
    fault("a", Fault::RateFree).unwrap();
    assert!(!limited());

    assert!(matches!(fault("a", Fault::ClockAhead { seconds: 90 }), Err(LabError::CannotFault { .. })));
    assert!(matches!(fault("c", Fault::PowerOff), Err(LabError::NoServer { .. })));
    let output = backend.ssh(lab.dir(), "b").unwrap().command(&["hostname".to_owned()]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "b\n", "{output:?}");
}

#[test]
fn two_labs_run_at_once_and_down_leaves_nothing() {
    let one = up("one", vec![HostSpec::new("a", Release::Bookworm)]);
    let other = up("other", vec![HostSpec::new("a", Release::Bookworm)]);
    assert_ne!(one.bridge(), other.bridge());
    let (dir, bridge) = (one.dir().to_owned(), one.bridge());

    // Another process finds the lab by its directory.
    let found = HostsLab::load(&dir).unwrap();
    assert_eq!(found.host("a").unwrap().run(&["hostname"]).unwrap(), "a");
    assert!(!remains(&bridge).is_empty(), "the search for remains finds what is there");

    let begun = Instant::now();
    found.down().unwrap();
    eprintln!("down after {:?}", begun.elapsed());
    let with_end = |found: Vec<String>| -> Vec<_> {
        // pgst-1 is neither pgst-12 nor pgst-128.
        let is_whole = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_digit());
        let ours = |text: &String| text.split(&bridge).skip(1).any(is_whole);
        found.into_iter().filter(ours).collect()
    };
    assert_eq!(with_end(remains(&bridge)), Vec::<String>::new());
    assert_eq!(remains(&dir.display().to_string()), Vec::<String>::new());
    assert!(!dir.exists());
    hosts::down(&dir).unwrap();
    assert_eq!(other.host("a").unwrap().run(&["hostname"]).unwrap(), "a", "the other lab is not affected");
}

#[test]
fn a_directory_that_is_no_lab_is_not_taken_away() {
    let dir = lab_dir("mine");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("precious"), "x").unwrap();
    assert!(hosts::down(&dir).is_err());
    let spec = LabSpec::new(dir.clone(), vec![HostSpec::new("a", Release::Bookworm)]);
    assert!(hosts::up(spec).is_err_and(|error| with_sources(&error).contains("is not empty")));
    assert_eq!(fs::read_to_string(dir.join("precious")).unwrap(), "x");
    fs::remove_dir_all(&dir).unwrap();
}

/// Not a test of its own: the process that [`labs_of_killed_owners_are_swept`] kills, with the lab's directory in this.
const VICTIM: &str = "PGSTEAD_TEST_VICTIM";

#[test]
fn victim() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        let _lab = hosts::up(LabSpec { in_memory: true, ..LabSpec::new(PathBuf::from(dir), three()) }).unwrap();
        thread::sleep(Duration::from_secs(60));
    }
}

/// The directories of all labs that this machine knows of.
fn registered() -> Vec<PathBuf> {
    let links = fs::read_dir("/run/pgstead/labs").unwrap();
    links.filter_map(|link| fs::read_link(link.ok()?.path()).ok()).collect()
}

#[test]
fn labs_of_killed_owners_are_swept() {
    let unowned = vec![HostSpec::new("a", Release::Bookworm)];
    let unowned = LabSpec { owned: false, ..LabSpec::new(lab_dir("unowned"), unowned) };
    let unowned = hosts::up(unowned).unwrap().guard();
    // From before the first record, through every stage of coming up, to a lab that is up.
    for milliseconds in [5, 40, 80, 120, 180, 250, 350, 500, 800, 2000] {
        let dir = lab_dir(&format!("victim-{milliseconds}"));
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim"])
            .env(VICTIM, &dir)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(milliseconds));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let text = dir.display().to_string();
        let number = fs::read_to_string(dir.join("lab.json")).unwrap_or_default();
        // Nobody can find one that was killed before it was registered.
        let is_registered = registered().contains(&dir);
        hosts::sweep().unwrap_or_else(|error| panic!("after {milliseconds} ms: {}", with_sources(&error)));
        assert!(!is_registered || !dir.exists(), "after {milliseconds} ms the sweep missed it: {number}");
        hosts::down(&dir).unwrap_or_else(|error| panic!("after {milliseconds} ms: {}", with_sources(&error)));
        assert_eq!(remains(&text), Vec::<String>::new(), "after {milliseconds} ms: {number}");
        assert!(!dir.exists());
    }
    assert!(unowned.hosts()[0].is_running(), "a lab without an owner stays");
}

#[test]
fn a_panic_brings_the_lab_down() {
    let dir = lab_dir("panic");
    let panicked = std::panic::catch_unwind(|| {
        let lab = up("panic", vec![HostSpec::new("a", Release::Bookworm)]);
        assert!(!lab.hosts()[0].is_running(), "a test that fails");
    });
    assert!(panicked.is_err());
    assert!(!dir.exists());
    assert_eq!(remains(&dir.display().to_string()), Vec::<String>::new());
}

//! The local lab, up and down for real: sshds on 127.0.0.x, keys, an inventory, and nothing left afterwards.
//!
//! Every case has a directory of its own; ports and addresses are chosen free, and one case runs at a time.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and tells what it left")]

use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;
use std::time::Instant;

use pgstead::lab;
use pgstead::lab::BackendKind;
use pgstead::lab::Fault;
use pgstead::lab::LabError;
use pgstead::lab::local;
use pgstead::lab::local::LocalLab;
use pgstead::lab::local::LocalLabError;
use pgstead::lab::local::LocalLabSpec;
use pgstead::lab::local::LocalServer;

/// Tells the test that it runs as the OS user that [`everybody_can_run_a_lab`] has chosen.
const AS_USER: &str = "PGSTEAD_TEST_AS_USER";

/// Labs look for free ports, and a test sees that a lab gives its own back: another one must not take them just then.
static LAB: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    LAB.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A lab directory that is taken down and removed whatever happens.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        // Not the default temporary directory, which may be one that OS user "postgres" cannot enter.
        let directory = tempfile::Builder::new().prefix("pgstead-test-").tempdir_in("/var/tmp").unwrap();
        fn open(path: &Path) {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        open(directory.path());
        Self(directory)
    }

    fn lab(&self) -> PathBuf {
        self.0.path().join("lab")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = local::down(&self.lab()) {
            eprintln!("could not take down {}: {error}", self.lab().display());
        }
    }
}

fn ssh(lab: &LocalLab, server: &LocalServer, command: &str) -> Output {
    Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", lab.known_hosts.display()))
        .args(["-o", "GlobalKnownHostsFile=/dev/null", "-p", &lab.ssh_port.to_string(), "-i"])
        .arg(&lab.identity_file)
        .arg(format!("{}@{}", lab.login_user, server.address))
        .arg(command)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

fn user() -> String {
    stdout(&Command::new("id").arg("-un").output().unwrap())
}

/// Returns the processes that name a directory in their command line or work in it.
fn processes_in(directory: &Path) -> Vec<String> {
    let text = directory.to_str().unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let works_there = std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory));
        if works_there || command.contains(text) {
            found.push(format!("{}: {command}", entry.file_name().display()));
        }
    }
    found
}

fn all_there_is_to_a_lab(expected_user: &str) {
    let scratch = Scratch::new();
    let spec = LocalLabSpec::new(scratch.lab());
    let lab = local::up(&spec).unwrap();
    assert_eq!(lab.login_user, expected_user);

    // SSH logs in as the right OS user, with strict host keys, on every server.
    for server in &lab.servers {
        let output = ssh(&lab, server, "id -un; echo \"$SSH_CONNECTION\"; test -w \"$0\" || command -v sh");
        let answer = stdout(&output);
        assert!(answer.starts_with(&format!("{expected_user}\n127.0.0.1 ")), "{answer}");
        let log = std::fs::read_to_string(&server.sshd_log).unwrap();
        assert_eq!(log.matches("Starting session").count(), 1, "{log}");
    }
    // A key that is not the operator's does not get in, and neither does a password.
    let stranger = scratch.0.path().join("stranger");
    stdout(&Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&stranger).output().unwrap());
    let refused = ssh(&LocalLab { identity_file: stranger, ..lab.clone() }, &lab.servers[0], "true");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Permission denied (publickey)"), "{refused:?}");

    // The operator's key is the operator's only.
    use std::os::unix::fs::MetadataExt;
    let key = std::fs::metadata(&lab.identity_file).unwrap();
    let mine = std::fs::metadata("/proc/self").unwrap().uid();
    assert_eq!((key.mode() & 0o777, key.uid()), (0o600, mine));

    // Once more changes nothing; an sshd that ended comes back.
    let status = local::status(&scratch.lab()).unwrap().unwrap();
    assert!(status.complete && status.servers.iter().all(|server| server.sshd.is_some()), "{status:?}");
    assert_eq!(local::up(&spec).unwrap(), lab);
    assert_eq!(local::status(&scratch.lab()).unwrap().unwrap(), status);
    let sshd = status.servers[1].sshd.unwrap().to_string();
    stdout(&Command::new("kill").arg(&sshd).output().unwrap());
    // Its port is free while the process still ends: whoever looked just then would take it for one that serves.
    let is_gone = || {
        local::status(&scratch.lab()).unwrap().unwrap().servers[1].sshd.is_none()
            && TcpListener::bind((lab.servers[1].address, lab.ssh_port)).is_ok()
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_gone() {
        assert!(Instant::now() < deadline, "sshd {sshd} does not end: {:?}", local::status(&scratch.lab()));
        std::thread::park_timeout(Duration::from_millis(10));
    }
    assert_eq!(local::up(&spec).unwrap(), lab);
    assert_eq!(stdout(&ssh(&lab, &lab.servers[1], "id -un")), expected_user);

    // Other servers than asked for are not silently accepted.
    let other = LocalLabSpec { servers: vec!["a".parse().unwrap()], ..spec.clone() };
    assert!(matches!(local::up(&other), Err(LocalLabError::OtherServers { .. })));

    // An instance, a session and a job that were left running do not outlive the lab.
    let a = &lab.servers[0];
    let (bin, data, port) = (&lab.bin_directory, &a.data_directory, lab.postgres_port);
    stdout(&ssh(&lab, a, &format!("{bin}/initdb --no-sync -A trust -D {data} >/dev/null")));
    let options = format!("-c listen_addresses={} -c port={port} -k {}", a.address, a.directory.display());
    stdout(&ssh(&lab, a, &format!("{bin}/pg_ctl -w -s -l {data}.log -o '{options}' -D {data} start")));
    // Two of these tests run at once: the sleep of each is its own.
    let sleep = format!("sleep 4711.{}", std::process::id());
    stdout(&ssh(&lab, a, &format!("setsid {sleep} >/dev/null 2>&1 </dev/null & echo started")));
    let status = local::status(&scratch.lab()).unwrap().unwrap();
    assert_eq!(status.servers.iter().map(|s| s.postmasters.len()).collect::<Vec<_>>(), [1, 0, 0]);

    let log = PathBuf::from(format!("{data}.log"));
    let kept = scratch.0.path().join("kept.log");
    std::fs::hard_link(&log, &kept).or_else(|_| std::fs::copy(&log, &kept).map(drop)).unwrap();
    assert!(local::down(&scratch.lab()).unwrap());
    let text = std::fs::read_to_string(&kept).unwrap();
    assert!(text.contains("received fast shutdown request") && text.contains("database system is shut down"), "{text}");

    // Nothing is left: no process, no directory, no port. And once more is no error.
    assert!(!scratch.lab().exists());
    assert_eq!(processes_in(&scratch.lab()), Vec::<String>::new());
    let sleeping = Command::new("pgrep").args(["-f", &format!("^{sleep}$"), "-u", expected_user]).output().unwrap();
    assert!(sleeping.stdout.is_empty(), "{sleeping:?}");
    for server in &lab.servers {
        for port in [lab.ssh_port, lab.postgres_port] {
            TcpListener::bind((server.address, port)).unwrap();
        }
    }
    assert!(!local::down(&scratch.lab()).unwrap());
    assert!(local::status(&scratch.lab()).unwrap().is_none());
}

#[test]
fn the_operator_can_run_a_lab() {
    let _alone = alone();
    if std::env::var_os(AS_USER).is_some() {
        return;
    }
    let user = user();
    all_there_is_to_a_lab(if user == "root" { "postgres" } else { &user });
}

/// root runs the same case again as an ordinary OS user: this very program, started by `runuser`.
#[test]
fn everybody_can_run_a_lab() {
    let _alone = alone();
    if let Some(user) = std::env::var_os(AS_USER) {
        return all_there_is_to_a_lab(user.to_str().unwrap());
    }
    if user() != "root" {
        return all_there_is_to_a_lab(&user());
    }
    let scratch = Scratch::new();
    let program = scratch.0.path().join("lab_local");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = Command::new("runuser")
        .args(["-u", "postgres", "--", "env"])
        .arg(format!("{AS_USER}=postgres"))
        .arg(&program)
        .args(["--exact", "everybody_can_run_a_lab", "--nocapture"])
        .current_dir("/")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

#[test]
fn a_taken_port_is_an_error_and_nothing_is_made() {
    let _alone = alone();
    let scratch = Scratch::new();
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let spec = LocalLabSpec { ssh_port: Some(port), ..LocalLabSpec::new(scratch.lab()) };
    let error = local::up(&spec).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("port {port} on 127.0.0.11 is in use; name another port, or take down what listens there")
    );
    assert!(!scratch.lab().exists());
}

#[test]
fn a_directory_that_is_no_lab_is_left_alone() {
    let _alone = alone();
    let scratch = Scratch::new();
    let foreign = scratch.0.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("precious"), "data").unwrap();
    assert!(matches!(local::up(&LocalLabSpec::new(&foreign)), Err(LocalLabError::NotALab { .. })));
    assert!(matches!(local::down(&foreign), Err(LocalLabError::NotALab { .. })));

    // Not through a symbolic link, and not a lab that was copied: its processes are those of the original.
    let lab = local::up(&LocalLabSpec::new(scratch.lab())).unwrap();
    let link = scratch.0.path().join("link");
    std::os::unix::fs::symlink(&lab.directory, &link).unwrap();
    assert!(matches!(local::down(&link), Err(LocalLabError::Symlink { .. })));
    let marker = "pgstead-lab.json";
    std::fs::copy(lab.directory.join(marker), foreign.join(marker)).unwrap();
    assert!(matches!(local::down(&foreign), Err(LocalLabError::BadState { .. })));

    assert_eq!(std::fs::read_to_string(foreign.join("precious")).unwrap(), "data");
    assert!(local::status(&lab.directory).unwrap().unwrap().servers.iter().all(|server| server.sshd.is_some()));
}

#[test]
fn two_labs_stand_side_by_side_and_a_half_made_one_goes_away() {
    let _alone = alone();
    let (first, second) = (Scratch::new(), Scratch::new());
    let one = local::up(&LocalLabSpec::new(first.lab())).unwrap();
    let two = local::up(&LocalLabSpec::new(second.lab())).unwrap();
    assert!(one.servers.iter().all(|server| two.servers.iter().all(|other| other.address != server.address)));

    // What an interrupted `up` leaves: a marker that says so, some files, some sshds.
    let marker = second.lab().join("pgstead-lab.json");
    let text = std::fs::read_to_string(&marker).unwrap().replace("\"complete\": true", "\"complete\": false");
    std::fs::write(&marker, text).unwrap();
    std::fs::remove_file(second.lab().join("pgstead.yaml")).unwrap();
    assert!(matches!(local::up(&LocalLabSpec::new(second.lab())), Err(LocalLabError::HalfMade { .. })));
    assert!(local::down(&second.lab()).unwrap());
    assert!(!second.lab().exists());
    assert_eq!(stdout(&ssh(&one, &one.servers[2], "id -un")), one.login_user);
}

#[test]
fn a_power_cut_ends_one_server_and_no_other() {
    let _alone = alone();
    let scratch = Scratch::new();
    let lab = local::up(&LocalLabSpec::new(scratch.lab())).unwrap();
    let backend = BackendKind::Local.backend();
    let fault = |server: &str, fault| lab::backend::fault(backend, &lab.directory, server, fault);
    let running = || backend.status(&lab.directory).unwrap().servers.iter().map(|s| s.running).collect::<Vec<_>>();
    for server in &lab.servers[..2] {
        let (bin, data, port) = (&lab.bin_directory, &server.data_directory, lab.postgres_port);
        stdout(&ssh(&lab, server, &format!("{bin}/initdb --no-sync -A trust -D {data} >/dev/null")));
        let options =
            format!("-c listen_addresses={} -c port={port} -k {}", server.address, server.directory.display());
        stdout(&ssh(&lab, server, &format!("{bin}/pg_ctl -w -s -l {data}.log -o '{options}' -D {data} start")));
    }
    let postmasters = || {
        let status = local::status(&lab.directory).unwrap().unwrap();
        status.servers.iter().map(|server| server.postmasters.len()).collect::<Vec<_>>()
    };
    assert_eq!((running(), postmasters()), (vec![true; 3], vec![1, 1, 0]));

    fault("b", Fault::PowerOff).unwrap();
    assert_eq!((running(), postmasters()), (vec![true, false, true], vec![1, 0, 0]));
    let left = processes_in(&lab.servers[1].directory);
    assert_eq!(left, Vec::<String>::new());
    let log = std::fs::read_to_string(format!("{}.log", lab.servers[1].data_directory)).unwrap();
    assert!(!log.contains("received ") && !log.contains("shutting down"), "somebody was told: {log}");

    fault("b", Fault::PowerOn).unwrap();
    assert_eq!((running(), postmasters()), (vec![true; 3], vec![1, 0, 0]));
    let output = backend.ssh(&lab.directory, "b").unwrap().command(&["id -un".to_owned()]).output().unwrap();
    assert_eq!(stdout(&output), lab.login_user);
    assert!(matches!(fault("b", Fault::PowerOn), Err(LabError::WrongState { running: true, .. })));
    assert!(matches!(fault("d", Fault::PowerOff), Err(LabError::NoServer { .. })));
    for cannot in [Fault::LinkOff, Fault::DiskFull, Fault::RateFree, Fault::ClockRight] {
        assert!(matches!(fault("b", cannot), Err(LabError::CannotFault { .. })), "{cannot:?}");
    }
}

#[test]
fn the_inventory_says_what_the_lab_is() {
    let _alone = alone();
    let scratch = Scratch::new();
    let lab = local::up(&LocalLabSpec::new(scratch.lab())).unwrap();
    let text = std::fs::read_to_string(&lab.inventory).unwrap();
    let inventory: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(inventory["purpose"], "lab");
    assert_eq!(inventory["sites"]["remote"]["location"], "异地备份中心");
    assert_eq!(inventory["servers"]["a"]["kind"], "primary");
    assert_eq!(inventory["servers"]["b"]["upstream"], serde_json::Value::Null);
    assert_eq!(inventory["servers"]["c"]["upstream"], "b");
    assert_eq!(inventory["servers"]["c"]["address"], lab.servers[2].address.to_string());
    assert_eq!(inventory["servers"]["c"]["service"], "pg_ctl");
    assert_eq!(inventory["ssh"]["identity_file"], "client/id_ed25519");
    assert_eq!(inventory["postgres"]["port"], lab.postgres_port);
    assert_eq!(inventory["postgres"]["version"], lab.version.number());
}

//! Every refusal: bad input, a clear error, the documented exit code, and nothing changed on any server.
//!
//! What a server keeps is listed and hashed before and after. Hosts are shared where nothing may change anyway.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::Release;
use pgstead::lab::hosts::SmallDisk;
use serde_json::Value;

use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::until;

const BOOTSTRAP: &[&str] = &["bootstrap", "--yes", "--format", "json"];

/// Bare servers with something in the way, one thing after the other.
#[test]
fn bare_servers_are_refused_untouched() {
    let mut lab = Scenario::boot(Release::Bookworm, &["a", "b", "c"]);
    nobody_to_ask(&lab);
    other_major_version(&mut lab);
    login_without_root(&mut lab);
    host_keys(&mut lab);
    port_taken(&lab);
    clock_ahead(&lab);
    data_directory_is_mount_point(&lab);
    full_disk(&lab);
    foreign_cluster(&lab);
    locked_by_another(&lab);
    server_down(&lab);
}

/// All refusals of all servers at once.
#[test]
fn peculiar_servers_are_refused_at_once() {
    let mut small = HostSpec::new("b", Release::Trixie);
    small.small_disk = Some(SmallDisk { mount_point: "/var/lib/postgresql".to_owned(), mebibytes: 64 });
    let mut clone = HostSpec::new("c", Release::Trixie);
    clone.machine_id_of = Some("a".to_owned());
    let mut bare = HostSpec::new("d", Release::Trixie);
    bare.postgres_installed = false;
    let lab = Scenario::of(vec![HostSpec::new("a", Release::Trixie), small, clone, bare]);
    let expected = [("disk-too-small", "b"), ("same-machine-id", "c"), ("postgresql-not-installed", "d")];
    refused(&lab, "peculiar servers", BOOTSTRAP, 5, &expected);
    // A plan says the same, and is no error of the command line.
    refused(&lab, "peculiar servers, plan", &["plan", "--format", "json"], 5, &expected);
}

/// Two runs at once, then an inventory that mixes up two servers of the finished topology.
#[test]
fn a_second_run_and_mixed_up_servers_are_refused() {
    let mut lab = Scenario::boot(Release::Bookworm, &["a", "b", "c"]);
    let mut first = lab.command(BOOTSTRAP).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lock = lab.state().join("lock");
    wait_until("the first run holds its lock", || std::fs::metadata(&lock).is_ok_and(|file| file.len() > 0));
    let same_state = lab.pgstead(BOOTSTRAP);
    let other_state = lab.path().with_file_name("other-state");
    wait_until("the first run holds the servers", || {
        ["a", "b", "c"].iter().all(|name| {
            let lock = format!("/var/lib/pgstead/lab/{name}/lock");
            lab.host(name).exec(&["test", "-s", &lock]).unwrap().status.success()
        })
    });
    let other = lab.pgstead(&[BOOTSTRAP, &["--state", &other_state.to_string_lossy()]].concat());
    assert!(first.try_wait().unwrap().is_none(), "the first run ended too early to be met");
    told("second run, same state directory", &same_state, 9, &[("locked", None)]);
    told("second run, another state directory", &other, 9, &["a", "b", "c"].map(|server| ("locked", Some(server))));
    let mut said = String::new();
    first.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(first.wait().unwrap().success(), "the first run was disturbed: {said}");
    lab.pgstead(&["check"]).expect(0);

    swapped_addresses(&mut lab);
}

fn nobody_to_ask(lab: &Scenario) {
    refused(lab, "nobody to ask", &["bootstrap", "--format", "json"], 5, &[("consent-missing", "")]);
    let usage = lab.pgstead(&["bootstrap", "--format", "json", "--force"]);
    told("usage", &usage, 2, &[("usage", None)]);
}

fn other_major_version(lab: &mut Scenario) {
    lab.edit(|inventory| inventory["postgres"]["version"] = 17.into());
    let everywhere = ["a", "b", "c"].map(|server| ("wrong-major-version", server));
    refused(lab, "another major version", BOOTSTRAP, 5, &everywhere);
    lab.edit(|inventory| inventory["postgres"]["version"] = 15.into());
}

fn login_without_root(lab: &mut Scenario) {
    lab.edit(|inventory| inventory["ssh"]["user"] = "guest".into());
    let everywhere = ["a", "b", "c"].map(|server| ("no-root", server));
    refused(lab, "no sudo", BOOTSTRAP, 5, &everywhere);
    // Rules that are half of what is needed: the other half is named.
    const SET: &str =
        "printf 'guest ALL=(%s) NOPASSWD: ALL\\n' \"$1\" >/etc/sudoers.d/guest && chmod 0440 /etc/sudoers.d/guest";
    for (has, code, lacks) in [("root", "no-instance-user", "postgres"), ("postgres", "no-root", "root")] {
        for server in ["a", "b", "c"] {
            lab.run(server, &["sh", "-c", SET, "sh", has]);
        }
        let half = ["a", "b", "c"].map(|server| (code, server));
        let ran = refused(lab, &format!("sudo as {has} alone"), BOOTSTRAP, 5, &half);
        assert!(ran.stdout.contains(&format!("guest ALL=({lacks}) NOPASSWD: ALL")), "{ran}");
    }
    for server in ["a", "b", "c"] {
        lab.run(server, &["rm", "/etc/sudoers.d/guest"]);
    }
    lab.edit(|inventory| inventory["ssh"]["user"] = "root".into());
}

fn host_keys(lab: &mut Scenario) {
    let recorded = lab.inventory["ssh"]["known_hosts"].clone();
    let text = std::fs::read_to_string(recorded.as_str().unwrap()).unwrap();
    let (b, c) = (lab.host("b").address().to_string(), lab.host("c").address().to_string());
    // What is recorded for b is the key of c, and nothing is recorded for c.
    let mixed: String =
        text.lines().filter(|line| !line.contains(&b)).map(|line| line.replace(&c, &b) + "\n").collect();
    assert_ne!(mixed, text);
    let path = lab.path().with_file_name("known_hosts");
    std::fs::write(&path, mixed).unwrap();
    lab.edit(|inventory| inventory["ssh"]["known_hosts"] = path.to_string_lossy().as_ref().into());
    refused(lab, "host keys", BOOTSTRAP, 4, &[("host-key-changed", "b"), ("host-key-unknown", "c")]);
    lab.edit(|inventory| inventory["ssh"]["known_hosts"] = recorded);
}

fn port_taken(lab: &Scenario) {
    take_port(lab, "b");
    refused(lab, "port taken", BOOTSTRAP, 5, &[("port-taken", "b")]);
    free_port(lab, "b");
}

/// Lets another program listen on the port of an instance to come.
pub(crate) fn take_port(lab: &Scenario, server: &str) {
    // ReuseAddr, as every server has it: a connection that the look at translated addresses closed may linger there.
    let listen = "use IO::Socket::INET; use POSIX; \
        my $s = IO::Socket::INET->new(LocalPort => 5432, Listen => 1, ReuseAddr => 1) or die; POSIX::pause();";
    lab.run(server, &["systemd-run", "--quiet", "--unit=taker", "perl", "-e", listen]);
    wait_until("the port is taken", || !lab.run(server, &["sh", "-c", "ss -Hltn sport = :5432"]).is_empty());
}

pub(crate) fn free_port(lab: &Scenario, server: &str) {
    lab.run(server, &["systemctl", "stop", "taker"]);
}

fn clock_ahead(lab: &Scenario) {
    // What comes first in the PATH of a login is believed.
    let date = b"#!/bin/sh\nexec /usr/bin/date --date='+60 seconds' \"$@\"\n";
    lab.host("c").write_file("/usr/local/bin/date", date).unwrap();
    lab.run("c", &["chmod", "755", "/usr/local/bin/date"]);
    refused(lab, "clock skew", BOOTSTRAP, 5, &[("clock-skew", "c")]);
    lab.run("c", &["rm", "/usr/local/bin/date"]);
}

fn data_directory_is_mount_point(lab: &Scenario) {
    let data = "/var/lib/postgresql/15/main";
    lab.run("b", &["mkdir", "-p", data]);
    lab.run("b", &["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", data]);
    refused(lab, "mount point", BOOTSTRAP, 5, &[("data-directory-is-mount-point", "b")]);
    lab.run("b", &["mkdir", "-m", "700", &[data, "/lost+found"].concat()]);
    refused(lab, "mount point of a new file system", BOOTSTRAP, 5, &[("data-directory-is-mount-point", "b")]);
    lab.run("b", &["umount", data]);
    lab.run("b", &["rm", "-r", "/var/lib/postgresql/15"]);
}

fn full_disk(lab: &Scenario) {
    lab.run("c", &["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", "/var/lib/postgresql"]);
    lab.run("c", &["fallocate", "--length", "299M", "/var/lib/postgresql/full"]);
    refused(lab, "full disk", BOOTSTRAP, 5, &[("disk-too-small", "c")]);
    lab.run("c", &["umount", "/var/lib/postgresql"]);
}

/// Whose it is, is proven by its mark: a cluster of someone else is never touched, running or not.
fn foreign_cluster(lab: &Scenario) {
    lab.run("b", &["pg_createcluster", "15", "main"]);
    refused(lab, "foreign cluster, stopped", BOOTSTRAP, 5, &[("data-directory-not-ours", "b")]);
    lab.run("b", &["pg_ctlcluster", "15", "main", "start"]);
    refused(lab, "foreign cluster, running", BOOTSTRAP, 5, &[("data-directory-not-ours", "b")]);
    let serves = lab.sql("b", "SELECT 1");
    assert_eq!(serves, "1", "the foreign instance still serves");
    lab.run("b", &["pg_ctlcluster", "15", "main", "stop"]);
    // A careless removal leaves the configuration behind.
    lab.run("b", &["rm", "-r", "/var/lib/postgresql/15/main"]);
    refused(lab, "leftover configuration", BOOTSTRAP, 5, &[("file-not-ours", "b")]);
    lab.run("b", &["rm", "-r", "/etc/postgresql/15"]);
}

fn locked_by_another(lab: &Scenario) {
    let lock = "/var/lib/pgstead/lab/b/lock";
    let text = br#"{"run":"20260101T000000-abc","operation":"bootstrap","owner":"eve@elsewhere","pid":1,"since":"2026-01-01T00:00:00Z","state":"eve@elsewhere:/home/eve/.pgstead/lab"}"#;
    lab.run("b", &["mkdir", "-p", "/var/lib/pgstead/lab/b"]);
    lab.host("b").write_file(lock, text).unwrap();
    let ran = refused(lab, "locked by another", BOOTSTRAP, 9, &[("locked", "b")]);
    assert!(ran.stdout.contains("eve@elsewhere"), "{ran}");
    lab.run("b", &["rm", lock]);
}

fn server_down(lab: &Scenario) {
    lab.host("c").shut_down().unwrap();
    // Whether the network says that nobody is there, or says nothing, is its own affair, each time anew.
    const SAID: [&str; 2] = ["ssh-unreachable", "ssh-timed-out"];
    let address = lab.host("c").address().to_string();
    for command in [BOOTSTRAP, &["preflight", "--format", "json"]] {
        let ran = lab.pgstead(command).expect(4);
        assert!(ran.codes().iter().any(|code| SAID.contains(&code.as_str())), "{ran}");
        assert!(ran.stdout.contains(&address), "it says where it looked: {ran}");
    }
}

/// GitLab, 2017: the right command on the wrong server.
fn swapped_addresses(lab: &mut Scenario) {
    let swap = |inventory: &mut Value| {
        let (a, b) = (inventory["servers"]["a"]["address"].clone(), inventory["servers"]["b"]["address"].clone());
        inventory["servers"]["a"]["address"] = b;
        inventory["servers"]["b"]["address"] = a;
    };
    lab.edit(swap);
    let ran = lab.pgstead(BOOTSTRAP);
    told(
        "swapped addresses",
        &ran,
        5,
        &[("data-directory-of-another-server", Some("a")), ("data-directory-of-another-server", Some("b"))],
    );
    lab.edit(swap);
    let again = lab.pgstead(BOOTSTRAP).expect(0).json();
    assert_eq!(again["changed"], false, "the refusal changed something");
    lab.pgstead(&["check"]).expect(0);
}

/// Runs pgstead, demands what it must say, and that no server changed.
#[track_caller]
pub(crate) fn refused(lab: &Scenario, what: &str, args: &[&str], exit: i32, expected: &[(&str, &str)]) -> Ran {
    let before = everything(lab);
    let ran = lab.pgstead(args);
    let after = everything(lab);
    let changed: Vec<&String> =
        before.iter().chain(&after).filter(|l| !before.contains(l) || !after.contains(l)).collect();
    assert!(changed.is_empty(), "{what} changed servers: {changed:#?}\n{ran}");
    let expected: Vec<_> =
        expected.iter().map(|(code, server)| (*code, Some(*server).filter(|server| !server.is_empty()))).collect();
    told(what, &ran, exit, &expected);
    ran.preflight_tells();
    ran
}

/// Demands an exit code, the codes with their servers and no others, and a document as promised.
#[track_caller]
fn told(what: &str, ran: &Ran, exit: i32, expected: &[(&str, Option<&str>)]) {
    let document = ran.json();
    let list =
        ["refusals", "errors"].into_iter().find_map(|key| document[key].as_array().filter(|list| !list.is_empty()));
    let errors = list.cloned().unwrap_or_default();
    for error in &errors {
        let text = |key: &str| error[key].as_str().unwrap_or_default();
        println!(
            "{what}: exit {}, {} [{}]: {}\n    DETAIL: {}\n    HINT: {}",
            ran.code,
            text("server"),
            text("code"),
            text("message"),
            text("detail"),
            text("hint")
        );
    }
    assert_eq!(ran.code, exit, "{what}\n{ran}");
    let mut found: Vec<(&str, Option<&str>)> =
        errors.iter().map(|error| (error["code"].as_str().unwrap(), error["server"].as_str())).collect();
    let mut expected = expected.to_vec();
    found.sort_unstable();
    found.dedup();
    expected.sort_unstable();
    assert_eq!(found, expected, "{what}\n{ran}");
    assert_eq!(document["version"], 1, "{what}\n{ran}");
    for key in ["code", "message", "detail", "hint", "server", "command"] {
        assert!(document["error"].get(key).is_some(), "{what}: no error.{key}\n{ran}");
    }
    for error in &errors {
        let explains = error["detail"].is_string() || error["hint"].is_string();
        assert!(explains && error["severity"] == "error", "{what}: it says too little: {error}");
    }
    assert!(!ran.stderr.contains("panicked"), "{what}\n{ran}");
}

/// Everything that pgstead could change on the servers that run: every path with owner, mode, time and hash. What a
/// running instance writes by itself is left out.
pub(crate) fn everything(lab: &Scenario) -> Vec<String> {
    let list = "cd / && for top in etc/postgresql var/lib/postgresql var/lib/pgstead etc/systemd; do [ -e $top ] || continue; \
        running=$(find $top -name postmaster.pid -printf '%h\\n' | head -n 1); \
        find $top -path \"${running:-none}/*\" -prune -o -printf '%p %y %m %U:%G %T@ %l\\n'; \
        find $top -path \"${running:-none}/*\" -prune -o -type f -size -100M -exec sha256sum {} +; done";
    let running = lab.lab().hosts().iter().filter(|host| host.is_running());
    let of = |host: &pgstead::lab::hosts::Host| {
        let text = host.run(&["sh", "-c", list]).unwrap();
        text.lines().map(|line| format!("{}: {line}", host.name())).collect::<Vec<_>>()
    };
    running.flat_map(of).collect()
}

#[track_caller]
fn wait_until(what: &str, holds: impl FnMut() -> bool) {
    let mut holds = holds;
    let mut held = false;
    until(Instant::now() + Duration::from_secs(20), || {
        held = holds();
        held
    });
    assert!(held, "waited in vain: {what}");
}

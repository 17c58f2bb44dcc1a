//! Secrets stay secret, and passwords authenticate.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::faults::crashing_with;
use crate::scenario::Scenario;

/// Two servers whose replication authenticates by password.
fn by_password(release: Release) -> Scenario {
    let mut lab = Scenario::boot(release, &["a", "b"]);
    lab.edit(|inventory| {
        inventory["replication"]["authentication"] = json!("scram-sha-256");
        inventory["postgres"]["parameters"]["log_connections"] = json!("on");
        inventory["postgres"]["parameters"]["log_statement"] = json!("all");
    });
    lab
}

const PASSWORD: &str = "replication.password";
const VERIFIER: &str = "replication.verifier";
const ROTATE: [&str; 5] = ["rotate", "passwords", "--yes", "--format", "json"];

fn password(lab: &Scenario) -> String {
    std::fs::read_to_string(lab.state().join(PASSWORD)).unwrap().trim().to_owned()
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn replication_by_password_on_15() {
    replication_by_password(Release::Bookworm);
}

#[test]
fn replication_by_password_on_17() {
    replication_by_password(Release::Trixie);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn replication_by_password_on_18() {
    replication_by_password(Release::Forky);
}

fn replication_by_password(release: Release) {
    let lab = by_password(release);
    lab.bootstrap();
    lab.sql("a", "CREATE TABLE t AS SELECT 42 AS answer");
    lab.eventually("b", "SELECT answer FROM t", "42");
    lab.streams("a", &["b"]);
    let conninfo = lab.sql("b", "SHOW primary_conninfo");
    assert!(conninfo.contains("channel_binding=require") && conninfo.contains("sslmode=verify-full"), "{conninfo}");
    assert!(!conninfo.contains("password"), "{conninfo}");
    let passfile = "/var/lib/pgstead/lab/b/passfile";
    assert!(conninfo.contains(&format!("passfile={passfile}")), "{conninfo}");
    assert_eq!(lab.run("b", &["stat", "--format=%U %a", passfile]), "postgres 600");

    // The server itself says how b came in.
    let log = format!("/var/log/postgresql/postgresql-{}-main.log", release.postgres_major());
    let log = lab.run("a", &["cat", &log]);
    let authenticated =
        log.lines().any(|line| line.contains("identity=\"replicator\"") && line.contains("method=scram-sha-256"));
    assert!(authenticated, "{log}");

    // The certificate alone is not enough, nor is another password; b's own passfile is.
    let own = "/var/lib/pgstead/lab/b";
    let dial = |extra: &str| {
        let address = lab.host("a").address();
        let conninfo = format!(
            "host={address} user=replicator replication=true sslmode=verify-full sslrootcert={own}/ca.crt \
             sslcert={own}/tls/client.crt sslkey={own}/tls/client.key channel_binding=require {extra}"
        );
        let argv = ["runuser", "-u", "postgres", "--", "psql", "-XAtqw", "-d", &conninfo, "-c", "IDENTIFY_SYSTEM"];
        let output = lab.host("b").exec(&argv).unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let wrong = dial("password=wrong");
    assert!(!wrong.0 && wrong.1.contains("password authentication failed for user \"replicator\""), "{wrong:?}");
    assert!(!dial("passfile=/dev/null").0);
    let own_passfile = format!("passfile={passfile}");
    let right = dial(&own_passfile);
    assert!(right.0, "{right:?}");

    // Another one takes its place, whenever a run is killed: no session ends, and the former one opens no more.
    let sender = || lab.sql("a", "SELECT pid FROM pg_stat_replication WHERE application_name = 'b'");
    let (former, link) = (password(&lab), sender());
    let of_former = [PASSWORD, VERIFIER].map(|file| std::fs::read(lab.state().join(file)).unwrap());
    for moment in [
        "before:a: give role replicator another password",
        "after:a: give role replicator another password",
        "before:b: install passfile",
    ] {
        let (ran, struck) = crashing_with(&lab, &ROTATE, moment);
        assert_eq!((struck.as_deref(), ran.code), (Some(moment), -1), "{ran}");
        assert_eq!(sender(), link, "{moment}: the link was opened anew");
        // Whatever comes next knows which of the two is in use, and brings every server that one.
        lab.bootstrap();
        assert!(dial(&own_passfile).0, "{moment}");
        assert_eq!(dial(&format!("password={former}")).0, moment.contains("before:a"), "{moment}");
    }
    lab.pgstead(&ROTATE).expect(0);
    assert!(!lab.state().join("replication.former.password").exists());
    assert_eq!(sender(), link, "the link was opened anew");
    assert_ne!(password(&lab), former);
    let refused = dial(&format!("password={former}"));
    assert!(!refused.0 && refused.1.contains("password authentication failed"), "{refused:?}");
    assert!(dial(&own_passfile).0);
    lab.settled();
    // The link comes back with it.
    lab.sql("a", "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_replication");
    lab.eventually("a", "SELECT state FROM pg_stat_replication WHERE application_name = 'b'", "streaming");

    // A colleague whose copy of the state directory is older brings nobody the former one back.
    let of_now = [PASSWORD, VERIFIER].map(|file| std::fs::read(lab.state().join(file)).unwrap());
    let keep = |texts: &[Vec<u8>; 2]| {
        for (file, text) in [PASSWORD, VERIFIER].iter().zip(texts) {
            std::fs::write(lab.state().join(file), text).unwrap();
        }
    };
    keep(&of_former);
    let verifier = || lab.sql("a", "SELECT rolpassword FROM pg_authid WHERE rolname = 'replicator'");
    let before = verifier();
    let ran = lab.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(0);
    assert!(ran.json()["changed"] == false && ran.codes().contains(&"password-elsewhere".to_owned()), "{ran}");
    assert_eq!(verifier(), before);
    assert!(dial(&own_passfile).0);
    keep(&of_now);
    lab.settled();
}

/// Ends a watch when it goes away, so that whoever fails beside one does not wait for it for ever.
pub(crate) struct EndsWatch<'a>(pub(crate) &'a AtomicBool);

impl Drop for EndsWatch<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Collects what every process on this machine shows of itself: the operator's and those of all hosts.
pub(crate) fn watch_processes(seen: &mut BTreeSet<Vec<u8>>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            if !entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) {
                continue;
            }
            for file in ["cmdline", "environ"] {
                // A process may be gone by now.
                if let Ok(text) = std::fs::read(entry.path().join(file)) {
                    seen.insert(text);
                }
            }
        }
        std::thread::park_timeout(std::time::Duration::from_millis(2));
    }
}

pub(crate) fn contains(text: &[u8], word: &str) -> bool {
    text.windows(word.len()).any(|window| window == word.as_bytes())
}

/// Where a secret shows on a host. It goes to grep by standard input, so that looking does not leak it.
pub(crate) fn found_on(lab: &Scenario, host: &str, canaries: &str) -> String {
    const LOOK: &str = "cat >/dev/shm/canaries; cd /; \
        journalctl --output=export --no-pager | grep -aFqf /dev/shm/canaries && echo journal; \
        journalctl --output=cat --no-pager | grep -aFqf /dev/shm/canaries && echo journal; \
        grep -arlFf /dev/shm/canaries /var/log /var/lib/postgresql /etc /tmp /var/tmp /root /run/systemd 2>/dev/null; \
        find /var/lib/pgstead -type f ! -name passfile ! -path '*/tls.*/*.key' -exec grep -alFf /dev/shm/canaries {} +; \
        rm /dev/shm/canaries";
    let output = lab.host(host).exec_with_input(&["sh", "-c", LOOK], canaries.as_bytes()).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap()
}

/// A line from the middle of a private key.
fn key_line(pem: &str) -> String {
    let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with("-----") && line.len() >= 40).collect();
    (*lines.last().unwrap()).to_owned()
}

#[test]
fn no_secret_shows_anywhere() {
    let lab = by_password(Release::Trixie);
    let (mut seen, stop) = (BTreeSet::new(), AtomicBool::new(false));
    let (mut said, mut former) = (Vec::new(), None);
    let leak = "leaked-in-an-argument";
    std::thread::scope(|scope| {
        scope.spawn(|| watch_processes(&mut seen, &stop));
        let _ends = EndsWatch(&stop);
        let mut run = |args: &[&str], code| said.push(lab.pgstead(args).expect(code).to_string());
        run(&["plan", "-v"], 0);
        run(&["bootstrap", "--yes", "-v"], 0);
        run(&["bootstrap", "--yes", "-v", "--format", "json"], 0);
        former = Some(password(&lab));
        run(&["rotate", "passwords", "--yes", "-v"], 0);
        run(&["plan", "-v", "--format", "json"], 0);
        run(&["check", "-v"], 0);
        // The watch sees what is there for so short a time as any of our commands, at one of some times.
        for _ in 0..10 {
            lab.run("b", &["sh", "-c", "exec psql --version", leak]);
        }
    });
    assert!(seen.iter().any(|text| contains(text, leak)), "processes were not watched closely enough");

    let mut canaries = vec![password(&lab), former.unwrap()];
    for entry in std::fs::read_dir(lab.state()).unwrap().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "key") {
            canaries.push(key_line(&std::fs::read_to_string(entry.path()).unwrap()));
        }
    }
    for host in ["a", "b"] {
        for key in ["server.key", "client.key"] {
            canaries.push(key_line(&lab.run(host, &["cat", &format!("/var/lib/pgstead/lab/{host}/tls/{key}")])));
        }
    }
    assert_eq!(canaries.len(), 8, "two passwords, CA, operator, two keys on each host");
    let lines: String = canaries.iter().map(|canary| format!("{canary}\n")).collect();

    for canary in &canaries {
        assert!(!seen.iter().any(|text| contains(text, canary)), "in a process list");
        assert!(!said.iter().any(|text| text.contains(canary)), "in what pgstead said");
        for file in ["journal.jsonl", "known_hosts"] {
            let text = std::fs::read_to_string(lab.state().join(file)).unwrap_or_default();
            assert!(!text.contains(canary), "in {file}");
        }
    }
    assert!(lab.state().join("journal.jsonl").exists());
    for host in ["a", "b"] {
        assert_eq!(found_on(&lab, host, &lines), "", "on {host}");
        assert_ne!(lab.run(host, &["cat", &format!("/var/lib/pgstead/lab/{host}/audit.jsonl")]), "");
    }
    private(&lab.state());

    // The same look finds what does leak.
    lab.run("b", &["sh", "-c", "logger \"$(cut -d: -f5 /var/lib/pgstead/lab/b/passfile)\"; journalctl --sync"]);
    assert!(found_on(&lab, "b", &lines).contains("journal"));
    let server_key = "cp /var/lib/pgstead/lab/a/tls/server.key /var/lib/postgresql/17/main/copy";
    lab.run("a", &["sh", "-c", server_key]);
    assert!(found_on(&lab, "a", &lines).contains("/17/main/copy"));
}

/// Demands that nobody else may read what the operator keeps.
fn private(state: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(state), 0o700);
    for entry in std::fs::read_dir(state).unwrap().flatten() {
        assert_eq!(mode(&entry.path()) & 0o077, 0, "{}", entry.path().display());
    }
}

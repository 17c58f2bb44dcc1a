//! How an alarm of `check` is tried: something is broken, the code that names it, and health again.
//!
//! What is restored must be healthy again, or the next alarm would prove nothing. With `PGSTEAD_CAPTURE=DIR` what was
//! seen is kept there as cases for `tests/check.rs`.

use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Release;
use serde_json::Value;

use crate::capture;
use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::until;

/// What `check` must say.
pub(crate) struct Expected {
    /// The exit code.
    pub(crate) exit: i32,
    /// Codes with their servers; others may stand beside them.
    pub(crate) findings: &'static [(&'static str, Option<&'static str>)],
    /// The verdicts of a → b and b → c.
    pub(crate) links: [&'static str; 2],
    /// The time that it may take.
    pub(crate) seconds: f64,
}

/// Nothing is waited for. All three are several times what it takes on a quiet machine: what they exclude is a wait without a
/// limit of its own.
pub(crate) const AT_ONCE: f64 = 20.0;
/// A canary is waited for, 2 s.
pub(crate) const CANARY: f64 = 25.0;
/// A dial is waited for, 5 s, then a canary; or an SSH login, 10 s.
pub(crate) const SILENCE: f64 = 35.0;

/// A lab and what went wrong with its alarms so far.
pub(crate) struct Alarms {
    /// The lab.
    pub(crate) lab: Scenario,
    /// The major version.
    pub(crate) major: u32,
    wrong: Vec<String>,
}

impl Alarms {
    /// Begins with a topology that is bootstrapped.
    pub(crate) fn new(lab: Scenario, release: Release) -> Self {
        Self { lab, major: release.postgres_major(), wrong: Vec::new() }
    }

    /// Demands that every alarm was as expected.
    pub(crate) fn end(self) {
        assert!(self.wrong.is_empty(), "{} alarms are wrong:\n{}", self.wrong.len(), self.wrong.join("\n"));
    }

    /// Checks, and notes everything that is not as expected.
    pub(crate) fn alarm(&mut self, name: &str, expected: &Expected) {
        self.alarm_with(name, expected, &[]);
    }

    /// The same with further options of `check`.
    pub(crate) fn alarm_with(&mut self, name: &str, expected: &Expected, options: &[&str]) {
        let begun = Instant::now();
        let ran = self.lab.pgstead(&[&["check", "--format", "json"], options].concat());
        let seconds = begun.elapsed().as_secs_f64();
        capture::keep(&self.lab, name, self.major);
        let mut wrong = Vec::new();
        if ran.code != expected.exit {
            wrong.push(format!("exit code {}, not {}", ran.code, expected.exit));
        }
        if seconds > expected.seconds {
            wrong.push(format!("took {seconds:.1} s, not at most {:.1}", expected.seconds));
        }
        let document = ran.json();
        let findings = document["findings"].as_array().cloned().unwrap_or_default();
        for (code, server) in expected.findings {
            let is_it = |finding: &Value| finding["code"] == *code && finding["server"].as_str() == *server;
            if !findings.iter().any(is_it) {
                wrong.push(format!("no finding {code} on {server:?}"));
            }
        }
        wrong.extend(against_contract(&document, expected));
        println!("{name} on {}: exit {}, {seconds:.1} s, {}", self.major, ran.code, summary(&findings));
        if !wrong.is_empty() {
            self.wrong.push(format!("--- {name}: {}\n{ran}", wrong.join("; ")));
        }
    }

    /// Waits for health, which must be without a finding.
    pub(crate) fn quiet(&mut self, after: &str) {
        let begun = Instant::now();
        let mut last: Option<Ran> = None;
        until(Instant::now() + Duration::from_secs(60), || {
            let ran = self.lab.pgstead(&["check", "--format", "json"]);
            let is_quiet = ran.code == 0 && ran.json()["findings"].as_array().is_some_and(Vec::is_empty);
            last = Some(ran);
            is_quiet
        });
        let last = last.unwrap();
        println!("{after} on {}: healthy after {:.1} s", self.major, begun.elapsed().as_secs_f64());
        assert!(
            last.code == 0 && last.json()["findings"] == Value::Array(Vec::new()),
            "not healthy again after {after}: {last}\nalarms so far:\n{}",
            self.wrong.join("\n")
        );
        if after == "healthy" {
            capture::keep(&self.lab, after, self.major);
        }
    }

    /// Returns the path of a configuration file.
    pub(crate) fn config(&self, file: &str) -> String {
        format!("/etc/postgresql/{}/main/{file}", self.major)
    }

    /// Starts or stops an instance.
    pub(crate) fn systemctl(&self, host: &str, verb: &str) {
        self.lab.run(host, &["systemctl", verb, &format!("postgresql@{}-main", self.major)]);
    }

    /// Lets an instance read its files again. Debian's own programs read them, too, and give up on garbage.
    pub(crate) fn hang_up(&self, host: &str) {
        let pid = format!("kill -HUP \"$(head -n 1 /var/lib/postgresql/{}/main/postmaster.pid)\"", self.major);
        self.lab.run(host, &["sh", "-c", &pid]);
    }

    /// Ends the stream that an upstream sends, so that the standby has to log in again.
    pub(crate) fn disconnect(&self, upstream: &str, standby: &str) {
        let end = format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_replication WHERE application_name = '{standby}'"
        );
        assert_eq!(self.lab.sql(upstream, &end), "t");
    }

    /// Keeps a file of a host.
    pub(crate) fn keep(&self, host: &str, path: &str) {
        self.lab.run(host, &["cp", "-p", path, "/root/kept"]);
    }

    /// Puts back the file that was kept.
    pub(crate) fn restore(&self, host: &str, path: &str) {
        self.lab.run(host, &["cp", "-p", "/root/kept", path]);
    }
}

/// The promises about the document itself (design, section 5).
fn against_contract(document: &Value, expected: &Expected) -> Vec<String> {
    let mut wrong = Vec::new();
    let verdict = match expected.exit {
        7 => "unhealthy",
        10 => "unknown",
        _ => "healthy",
    };
    if document["version"] != 1 || document["verdict"] != verdict {
        wrong.push(format!("version {}, verdict {}", document["version"], document["verdict"]));
    }
    let links = document["links"].as_array().cloned().unwrap_or_default();
    let verdicts: Vec<&str> = links.iter().filter_map(|link| link["verdict"].as_str()).collect();
    if verdicts != expected.links {
        wrong.push(format!("links are {verdicts:?}, not {:?}", expected.links));
    }
    for key in ["upstream", "standby", "state", "sync_state", "slot", "tls", "canary_ms", "lag_bytes"] {
        if links.iter().any(|link| link.get(key).is_none()) {
            wrong.push(format!("a link without {key}"));
        }
    }
    for key in ["name", "reachable", "in_recovery", "timeline", "system_identifier"] {
        if document["servers"].as_array().is_none_or(|servers| servers.iter().any(|server| server.get(key).is_none())) {
            wrong.push(format!("a server without {key}"));
        }
    }
    if document["checked_at"].as_str().is_none_or(|text| text.parse::<jiff::Timestamp>().is_err()) {
        wrong.push(format!("checked_at {}", document["checked_at"]));
    }
    if document["checks"].as_array().map_or(0, Vec::len) != 23 {
        wrong.push(format!("checks {}", document["checks"]));
    }
    for finding in document["findings"].as_array().into_iter().flatten() {
        let is_told = |key: &str| finding[key].as_str().is_some_and(|text| !text.is_empty());
        let explains = is_told("hint") || is_told("detail");
        if !is_told("code")
            || !is_told("severity")
            || !is_told("message")
            || !explains
            || !is_told("check")
            || !is_told("verdict")
            || finding.get("server").is_none()
        {
            wrong.push(format!("a finding that does not explain itself: {finding}"));
        }
    }
    wrong
}

fn summary(findings: &[Value]) -> String {
    let words = |finding: &Value| {
        let server = finding["server"].as_str().unwrap_or("-").to_owned();
        format!("{}@{server}", finding["code"].as_str().unwrap_or("?"))
    };
    findings.iter().map(words).collect::<Vec<_>>().join(" ")
}

/// Runs a command here and returns what it wrote.
pub(crate) fn on_this_machine(command: &str) -> String {
    let output = std::process::Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

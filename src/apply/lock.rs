//! The lock that a run holds on every server it touches (hazard 4).
//!
//! It is taken on all servers before the first step and given back with the lines for the servers' audit logs. The
//! same round trip checks that no server changed between the observation and the lock.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde::Serialize;

use crate::diagnostic::Diagnostic;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::model::argv::Argv;
use crate::model::argv::Login;
use crate::model::layout::Layout;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observation::ServerObservation;
use crate::plan::files::administrator;
use crate::plan::files::own_directory_owner;
use crate::remote::Host;
use crate::remote::RemoteError;

const LOCK: &str = include_str!("scripts/lock.sh");
const UNLOCK: &str = include_str!("scripts/unlock.sh");
const BREAK: &str = include_str!("scripts/break-lock.sh");

/// Exit status of the script: another run holds the lock.
const HELD: i32 = 9;
/// Exit status of the script: the server changed since it was observed.
const MOVED: i32 = 10;

/// Who holds the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// The run.
    pub run: String,
    /// What it does, such as `bootstrap`.
    pub operation: String,
    /// Who started it, as `user@host`.
    pub owner: String,
    /// The process on that host.
    pub pid: u32,
    /// Since when, RFC 3339.
    pub since: String,
    /// The state directory of the run, as `host:path`. A living run holds that directory's own lock.
    pub state: String,
}

/// One server on which a lock is taken.
#[derive(Debug)]
pub struct Locked<'a, H> {
    /// The connection.
    pub host: &'a H,
    /// Where its files are.
    pub layout: &'a Layout,
    /// What was seen there.
    pub seen: &'a ServerObservation,
}

impl<H: Host> Locked<'_, H> {
    fn login(&self) -> &Login {
        &self.seen.login
    }

    /// Takes the lock.
    ///
    /// # Errors
    /// Another run holds it; the server changed since the observation; the command failed.
    pub async fn take(&self, holder: &Holder) -> Result<(), Failure> {
        let text = serde_json::to_string(holder).unwrap_or_default();
        let argv = Argv::new(administrator(self.seen), "sh")
            .args([
                "-c",
                LOCK,
                "pgstead-lock",
                &self.layout.pgstead_directory,
                &own_directory_owner(self.seen, self.layout),
            ])
            .args([self.seen.generation.to_string(), serde_json::to_string(&holder.state).unwrap_or_default()])
            .stdin_text(text);
        match self.host.run(&[argv], self.login()).await {
            Ok(_) => Ok(()),
            Err(RemoteError::Command { status: Some(HELD), stdout, .. }) => {
                Err(held(self.host.name(), &String::from_utf8_lossy(&stdout)))
            }
            Err(RemoteError::Command { status: Some(MOVED), stdout, .. }) => Err(Failure::one(
                FailureKind::Refused,
                Diagnostic::error(
                    "changed-meanwhile",
                    format!("server \"{}\" was changed by another run since it was observed", self.host.name()),
                )
                .server(self.host.name())
                .detail(String::from_utf8_lossy(&stdout).trim().to_owned())
                .hint("Run the same command again: it observes anew."),
            )),
            Err(error) => Err(Failure::one(FailureKind::StepFailed, error.diagnostic())),
        }
    }

    /// Writes the audit lines and gives the lock back.
    ///
    /// # Errors
    /// The command failed; the lock may still stand and belongs to this state directory's next run.
    pub async fn release(&self, run: &str, audit: &str) -> Result<(), RemoteError> {
        let argv = Argv::new(administrator(self.seen), "sh")
            .args(["-c", UNLOCK, "pgstead-unlock", &self.layout.pgstead_directory, run])
            .stdin_text(audit);
        self.host.run(&[argv], self.login()).await.map(|_| ())
    }
}

/// Ends a run before it plans when it was seen that another one works on a server: what such a server shows is half done.
///
/// # Errors
/// Another run holds a lock.
pub fn refuse_held(observation: &Observation, state: &str) -> Result<(), Failure> {
    let locks = observation.servers.iter().filter_map(|(name, seen)| Some((name, seen.known()?.lock.known()?)));
    // A lock of the same state directory belongs to a dead run: the living one holds that directory's own lock.
    let is_ours = |text: &str| {
        let holder: serde_json::Value = serde_json::from_str(text.trim()).unwrap_or_default();
        holder["state"] == state
    };
    let mut failures = locks.filter(|(_, text)| !is_ours(text)).map(|(name, text)| held(name, text));
    let Some(first) = failures.next() else { return Ok(()) };
    let all = std::iter::once(first).chain(failures).flat_map(|failure| failure.diagnostics).collect();
    Err(Failure::all(FailureKind::Locked, all))
}

impl<H: Host> Locked<'_, H> {
    /// Breaks a lock that somebody was shown, where it still is that one. `who` and the time go into the audit log.
    ///
    /// # Errors
    /// The lock changed hands meanwhile, or the command failed.
    pub async fn break_lock(&self, shown: &str, who: &str, time: &str) -> Result<(), RemoteError> {
        let audit = serde_json::json!({ "event": "lock_broken", "time": time, "operator": who, "lock": shown.trim() });
        let argv = Argv::new(administrator(self.seen), "sh")
            .args(["-c", BREAK, "pgstead-break-lock", &self.layout.pgstead_directory, &audit.to_string()])
            .stdin_text(shown.trim_end());
        self.host.run(&[argv], self.login()).await.map(|_| ())
    }
}

/// Gives back the locks that a dead run of the same state directory left on servers this run does not lock itself.
///
/// Only a run that holds the state directory's own lock may do this: then no other run with that name lives.
pub async fn release_left<H: Host>(
    hosts: &BTreeMap<ServerName, Result<H, String>>,
    observation: &Observation,
    state: &str,
    is_locked_anyway: impl Fn(&ServerName) -> bool,
) {
    let left = observation.servers.iter().filter_map(|(name, seen)| {
        let (seen, host) = (seen.known()?, hosts.get(name)?.as_ref().ok()?);
        let run = run_of(seen.lock.known()?, state).filter(|_| !is_locked_anyway(name))?;
        Some((Locked { host, layout: seen.layout.known()?, seen }, run))
    });
    // One that stays is taken over, or given back, by the next run.
    join_all(left.map(async |(server, run)| server.release(&run, "").await)).await;
}

/// Returns the run that holds a lock, where it is one of this state directory.
fn run_of(lock: &str, state: &str) -> Option<String> {
    let holder: serde_json::Value = serde_json::from_str(lock).ok()?;
    (holder["state"].as_str() == Some(state)).then(|| holder["run"].as_str().map(str::to_owned))?
}

/// Returns who holds a lock, from its text, as a sentence.
pub fn holder_sentence(text: &str) -> String {
    let holder: serde_json::Value = serde_json::from_str(text.trim()).unwrap_or_default();
    let field = |name: &str| holder.get(name).and_then(|value| value.as_str()).unwrap_or("unknown").to_owned();
    format!("{} by {} since {}, run {}.", field("operation"), field("owner"), field("since"), field("run"))
}

/// Returns the failure that names the holder of a lock.
pub fn held(server: &ServerName, text: &str) -> Failure {
    Failure::one(
        FailureKind::Locked,
        Diagnostic::error("locked", format!("server \"{server}\" is locked by another run"))
            .server(server)
            .detail(holder_sentence(text))
            .hint("Wait until it ends. If it is dead, \"pgstead unlock\" shows and breaks the lock."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lock_of_the_very_same_state_directory_is_ours() {
        let lock = r#"{"run":"r1","operation":"bootstrap","state":"ops@desk:/inv/.pgstead/lab"}"#;
        assert_eq!(run_of(lock, "ops@desk:/inv/.pgstead/lab"), Some("r1".to_owned()));
        for state in ["ops@desk:/inv/.pgstead/la", "ops@desk:/inv/.pgstead/lab2", ""] {
            assert_eq!(run_of(lock, state), None, "{state}");
        }
        assert_eq!(run_of("half a li", "ops@desk:/inv/.pgstead/lab"), None);
    }
}

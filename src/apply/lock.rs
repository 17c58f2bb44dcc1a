//! The lock that a run holds on every server it touches (hazard 4).
//!
//! It is taken on all servers before the first step and given back with the lines for the servers' audit logs. The
//! same round trip checks that no server changed between the observation and the lock. It is a lease: [`super::lease`]
//! renews it, and one that was not renewed for [`LEASE`] may be taken over. How old it is says the server's clock alone.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;

use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::model::argv::{Argv, Login};
use crate::model::layout::Layout;
use crate::model::name::ServerName;
use crate::model::observation::{Observation, ServerObservation};
use crate::plan::files::{keeper, make_own_directory, own_directory_owner};
use crate::remote::{Host, RemoteError};
use crate::state::journal::Entry;

/// How long a lock lives without being renewed.
///
/// Three times what ssh takes to notice a dead connection (5 s, four times): whose connection only stutters keeps its
/// lock. And short enough that an operator waits for a dead run's lease rather than break it.
pub const LEASE: Duration = Duration::from_secs(60);

/// How long an act on a lock may take: the scripts wait twenty seconds for whoever else looks at it.
pub(super) const ACT: Duration = Duration::from_secs(40);

const LOCK: &str = include_str!("scripts/lock.sh");
const UNLOCK: &str = include_str!("scripts/unlock.sh");
const BREAK: &str = include_str!("scripts/break-lock.sh");
const READ_AUDIT: &str = include_str!("scripts/read-audit.sh");

/// Exit status of the scripts: another run holds the lock.
pub(super) const HELD: i32 = 9;
/// Exit status of the script: the server changed since it was observed.
const MOVED: i32 = 10;

/// Who holds the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    pub run: String,
    /// What it does, such as `bootstrap`.
    pub operation: String,
    /// Who started it, as `user@host`.
    pub owner: String,
    /// The process on that host.
    pub pid: u32,
    /// Since when, RFC 3339.
    pub since: String,
    /// The mark of the run's state directory ([`crate::state::StateDir::mark`]). A living run holds that directory's own lock.
    pub state: String,
}

/// A lock as it was seen on a server. What its text does not say is unknown; a torn text says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    pub run: Option<String>,
    /// What it does.
    pub operation: Option<String>,
    /// Who started it.
    pub owner: Option<String>,
    /// Since when.
    pub since: Option<String>,
    /// The state directory of the run.
    pub state: Option<String>,
    /// How long ago it was renewed, by the server's clock.
    pub age_seconds: Option<i64>,
}

impl Standing {
    /// Reads a lock's text.
    pub fn new(text: &str, age_seconds: Option<i64>) -> Self {
        let holder: serde_json::Value = serde_json::from_str(text.trim()).unwrap_or_default();
        let field = |name: &str| holder.get(name).and_then(|value| value.as_str()).map(str::to_owned);
        Self {
            run: field("run"),
            operation: field("operation"),
            owner: field("owner"),
            since: field("since"),
            state: field("state"),
            age_seconds,
        }
    }

    /// Returns the lock of a server, where one stands.
    pub fn of(seen: &ServerObservation) -> Option<Self> {
        Some(Self::new(seen.lock.known()?, seen.lock_age_seconds))
    }

    /// Returns the seconds until the lease ends; at most 0 when it has ended. An age that is not known has no end, and one
    /// from the future counts as just renewed: the server's clock was set back.
    pub fn ends_in_seconds(&self) -> Option<i64> {
        let lease = i64::try_from(LEASE.as_secs()).unwrap_or(i64::MAX);
        self.age_seconds.map(|age| lease.saturating_sub(age))
    }

    /// Says whether the lease lives. What could not be looked at counts as living.
    pub fn is_living(&self) -> bool {
        self.ends_in_seconds().is_none_or(|seconds| seconds > 0)
    }

    /// Says whether the run is one of a state directory. Such a run is dead: the living one holds that directory's lock.
    pub fn is_of(&self, state: &str) -> bool {
        !state.is_empty() && self.state.as_deref() == Some(state)
    }

    /// Returns who holds it, since when, and how long still, as a sentence.
    pub fn sentence(&self) -> String {
        let or_unknown = |field: &Option<String>| field.clone().unwrap_or_else(|| "unknown".to_owned());
        let mut sentence = format!(
            "{} by {} since {}, run {}",
            or_unknown(&self.operation),
            or_unknown(&self.owner),
            or_unknown(&self.since),
            or_unknown(&self.run),
        );
        if let (Some(age), Some(ends)) = (self.age_seconds, self.ends_in_seconds()) {
            sentence.push_str(&format!(", renewed {} s ago; its lease ", age.max(0)));
            sentence.push_str(&match ends {
                1.. => format!("ends in {ends} s unless it is renewed"),
                _ => format!("ended {} s ago", -ends),
            });
        }
        sentence.push('.');
        sentence
    }
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

    /// Returns the command that runs one of the fixed scripts in pgstead's directory of this server.
    pub(super) fn script(&self, name: &str, script: &str) -> Argv {
        Argv::new(keeper(self.seen, self.layout), "sh").args(["-c", script, name, &self.layout.pgstead_directory])
    }

    /// Takes the lock, and writes the run's first line into the audit log. Where an expired lease of another run was taken
    /// over, that one is returned.
    ///
    /// # Errors
    /// Another run holds it; the server changed since the observation; the command failed.
    pub async fn take(&self, holder: &Holder, started: &Entry) -> Result<Option<Standing>, Failure> {
        let text = serde_json::to_string(holder).unwrap_or_default();
        let expired = serde_json::json!({
            "event": "lease_expired", "run": holder.run, "time": holder.since, "operator": holder.owner,
        });
        let argv = self
            .script("pgstead-lock", LOCK)
            .args([own_directory_owner(self.seen, self.layout), self.seen.generation.to_string()])
            .args([serde_json::to_string(&holder.state).unwrap_or_default(), LEASE.as_secs().to_string()])
            .args([started.line(), expired.to_string()])
            .stdin_text(text);
        let mut commands = make_own_directory(self.seen, self.layout);
        commands.push(argv);
        match self.host.run_within(ACT, &commands, self.login()).await {
            Ok(output) if output.stdout.is_empty() => Ok(None),
            Ok(output) => Ok(Some(aged(&output.stdout))),
            Err(RemoteError::Command { status: Some(HELD), stdout, .. }) => {
                Err(Failure::one(FailureKind::Locked, held(self.host.name(), &aged(&stdout))))
            }
            Err(RemoteError::Command { status: Some(MOVED), stdout, .. }) => Err(Failure::one(
                FailureKind::Refused,
                Diagnostic::error(
                    Code::ChangedMeanwhile,
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
    /// The command failed; the lock may still stand and belongs to this state directory's next run. With status 9 the run
    /// did not hold the lock any more, and the lines are written.
    pub async fn release(&self, run: &str, audit: &str) -> Result<(), RemoteError> {
        let argv = self.script("pgstead-unlock", UNLOCK).arg(run_mark(run)).stdin_text(audit);
        self.host.run_within(ACT, &[argv], self.login()).await.map(|_| ())
    }

    /// Breaks a lock that somebody was shown, where it still is that one. `who` and the time go into the audit log.
    ///
    /// # Errors
    /// The lock changed hands meanwhile, or the command failed.
    pub async fn break_lock(&self, shown: &str, who: &str, time: &str) -> Result<(), RemoteError> {
        let audit = serde_json::json!({ "event": "lock_broken", "time": time, "operator": who, "lock": shown.trim() });
        let argv = self.script("pgstead-break-lock", BREAK).arg(audit.to_string()).stdin_text(shown.trim_end());
        self.host.run_within(ACT, &[argv], self.login()).await.map(|_| ())
    }

    /// Reads the audit log.
    ///
    /// # Errors
    /// The command failed.
    pub async fn read_audit(&self) -> Result<Vec<u8>, RemoteError> {
        let argv = self.script("pgstead-read-audit", READ_AUDIT);
        self.host.run_within(ACT, &[argv], self.login()).await.map(|output| output.stdout)
    }
}

/// Returns how the scripts know a lock's text for that of a run.
pub(super) fn run_mark(run: &str) -> String {
    [r#""run":"#, &serde_json::to_string(run).unwrap_or_default()].concat()
}

/// Reads what the scripts print of another run's lock: its age, and on the next line its text.
pub(super) fn aged(stdout: &[u8]) -> Standing {
    let said = String::from_utf8_lossy(stdout);
    let (age, text) = said.split_once('\n').unwrap_or((&said, ""));
    Standing::new(text, age.trim().parse().ok())
}

/// Ends a run before it plans when it was seen that another one works on a server: what such a server shows is half done.
///
/// # Errors
/// Another run holds a lock, and its lease lives.
pub fn refuse_held(observation: &Observation, state: &str) -> Result<(), Failure> {
    let locks = observation.servers.iter().filter_map(|(name, seen)| Some((name, Standing::of(seen.known()?)?)));
    let held: Vec<Diagnostic> = locks
        .filter(|(_, lock)| !lock.is_of(state) && lock.is_living())
        .map(|(name, lock)| held(name, &lock))
        .collect();
    if held.is_empty() { Ok(()) } else { Err(Failure::all(FailureKind::Locked, held)) }
}

/// Names the holder of a living lease.
fn held(server: &ServerName, lock: &Standing) -> Diagnostic {
    let wait = match lock.ends_in_seconds() {
        Some(seconds) => format!("Wait until it ends. If it is dead, its lease ends by itself in {seconds} s"),
        None => "Wait until it ends. If it is dead, its lease ends by itself within a minute".to_owned(),
    };
    Diagnostic::error(Code::Locked, format!("server \"{server}\" is locked by another run"))
        .server(server)
        .detail(lock.sentence())
        .hint(wait + "; \"pgstead unlock\" shows it.")
}

/// Tells whose lease was taken over.
pub(super) fn taken_over(server: &ServerName, lock: &Standing) -> Diagnostic {
    Diagnostic::warning(
        Code::LeaseTakenOver,
        format!("server \"{server}\": an expired lease of another run was taken over"),
    )
    .server(server)
    .detail(lock.sentence())
    .hint("If that run resumes, it will change nothing more, and it will say who took its lease.")
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
    let lock = Standing::new(lock, None);
    if lock.is_of(state) { lock.run } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lock_of_the_very_same_state_directory_is_ours() {
        let lock = r#"{"run":"r1","operation":"bootstrap","state":"1f on 2e in 8:77"}"#;
        assert_eq!(run_of(lock, "1f on 2e in 8:77"), Some("r1".to_owned()));
        for state in ["1f on 2e in 8:7", "1f on 2e in 8:777", "1f on 2f in 8:77", "1a on 2e in 8:77", ""] {
            assert_eq!(run_of(lock, state), None, "{state}");
        }
        assert_eq!(run_of("half a li", "1f on 2e in 8:77"), None);
    }
}

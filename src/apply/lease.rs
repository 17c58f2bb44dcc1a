//! The lease while a run works: renewed in the background, asked again before every step, and noticed when it is lost.
//!
//! Every script that touches the lock names the run that it is for, and looks at the server's own clock. So a run whose lock was
//! taken over, or broken, or whose lease has ended, cannot act on that server any more, however long its machine slept (hazard 4,
//! docs/adr/0021-a-promotion-asks-the-lease.md). It decides nothing else.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::apply::lock::{ACT, HELD, LEASE, Locked, Standing, aged, run_mark};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::argv::{Argv, Login};
use crate::model::name::ServerName;
use crate::remote::{Host, Output, RemoteError};

/// How often a lease is renewed: three renewals in a row may get lost before it expires.
pub const RENEW_EVERY: Duration = Duration::from_secs(LEASE.as_secs() / 4);

/// How many bytes of audit lines go along with a step. The rest waits for the next renewal, which has no such limit: all
/// words of an execution share one argument of the server's kernel.
const LINES_MAX_BYTES: usize = 8 * 1024;

const BEGIN_STEP: &str = concat!(include_str!("scripts/holds.sh"), include_str!("scripts/begin-step.sh"));
const RENEW: &str = concat!(include_str!("scripts/holds.sh"), include_str!("scripts/renew.sh"));
const WHILE_HELD: &str = concat!(include_str!("scripts/holds.sh"), include_str!("scripts/while-held.sh"));

/// The leases of a run on all servers it locked.
#[derive(Debug)]
pub struct Lease<'a, H> {
    locked: &'a [Locked<'a, H>],
    run: String,
    state: Mutex<State>,
    lost: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The audit lines that no server confirmed yet, by the order in which they were written.
    lines: BTreeMap<(ServerName, u64), String>,
    written: u64,
    lost: BTreeMap<ServerName, Diagnostic>,
}

/// Why the commands of a step did not succeed.
#[derive(Debug)]
pub(super) enum NotDone {
    /// They were not begun: this run does not hold the server's lock.
    Lost(Box<Diagnostic>),
    /// They were, or the way to the server is broken.
    Failed(RemoteError),
}

impl<'a, H: Host> Lease<'a, H> {
    /// Makes the leases of a run whose locks are taken.
    pub fn new(locked: &'a [Locked<'a, H>], run: &str) -> Self {
        Self { locked, run: run.to_owned(), state: Mutex::default(), lost: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a command that first looks whether this run holds the lock.
    fn held(&self, locked: &Locked<'_, H>, name: &str, script: &str) -> Argv {
        locked.script(name, script).args([run_mark(&self.run), LEASE.as_secs().to_string()])
    }

    fn of(&self, server: &ServerName) -> Option<&'a Locked<'a, H>> {
        self.locked.iter().find(|locked| locked.host.name() == server)
    }

    /// Adds a line to the audit log of a server, or of all of them where it is about none alone. It goes there with the
    /// next thing that does, and at the latest when the lock is given back.
    pub(super) fn note(&self, server: Option<&ServerName>, line: &str) {
        let mut state = self.state();
        for locked in self.locked.iter().filter(|locked| server.is_none_or(|server| server == locked.host.name())) {
            state.written += 1;
            let key = (locked.host.name().clone(), state.written);
            state.lines.insert(key, line.to_owned());
        }
    }

    /// Returns the lines that a server did not confirm yet, oldest first.
    fn unconfirmed(&self, server: &ServerName) -> Vec<(u64, String)> {
        let state = self.state();
        let of_server = state.lines.range((server.clone(), 0)..=(server.clone(), u64::MAX));
        of_server.map(|((_, number), line)| (*number, line.clone())).collect()
    }

    fn confirm(&self, server: &ServerName, lines: &[(u64, String)]) {
        let mut state = self.state();
        for (number, _) in lines {
            state.lines.remove(&(server.clone(), *number));
        }
    }

    /// Returns the lines that a server did not confirm yet as one text, for the release of its lock.
    pub(super) fn last_lines(&self, server: &ServerName) -> String {
        text(&self.unconfirmed(server))
    }

    /// Runs the commands of a step, behind one that lets them run only while this run holds the lock, and that writes the
    /// server's audit lines. All is one execution.
    pub(super) async fn run(&self, host: &H, commands: &[Argv], login: &Login) -> Result<Output, NotDone> {
        let server = host.name();
        let Some(locked) = self.of(server) else {
            // Every server that a step names was locked; a defect must not be the way around.
            return Err(NotDone::Lost(Box::new(self.lose(server, &Standing::default()))));
        };
        let mut lines = self.unconfirmed(server);
        let mut bytes = 0;
        // The newest one says that this step begins.
        let kept = lines.iter().rev().take_while(|(_, line)| {
            bytes += line.len();
            bytes <= LINES_MAX_BYTES
        });
        let left = lines.len() - kept.count().max(1).min(lines.len());
        lines.drain(..left);
        let guard =
            self.held(locked, "pgstead-begin-step", BEGIN_STEP).args(lines.iter().map(|(_, line)| line.as_str()));
        let mut batch = vec![guard];
        batch.extend_from_slice(commands);
        let error = match host.run(&batch, login).await {
            Ok(output) => {
                self.confirm(server, &lines);
                return Ok(output);
            }
            Err(error) => error,
        };
        // The operator is shown the step's own commands.
        let own_line = || commands.iter().map(|argv| argv.line(login)).collect::<Vec<_>>().join(" && ");
        Err(match error {
            RemoteError::Command { index: 0, status: Some(HELD), stdout, .. } => {
                NotDone::Lost(Box::new(self.lose(server, &aged(&stdout))))
            }
            RemoteError::Command { server, line, index, status, stdout, stderr } if index > 0 => {
                self.confirm(&server, &lines);
                NotDone::Failed(RemoteError::Command { server, line, index: index - 1, status, stdout, stderr })
            }
            RemoteError::Disconnected { server, detail, .. } => {
                NotDone::Failed(RemoteError::Disconnected { server, line: own_line(), detail })
            }
            RemoteError::OutcomeUnknown { server, detail, .. } => {
                NotDone::Failed(RemoteError::OutcomeUnknown { server, line: own_line(), detail })
            }
            other => NotDone::Failed(other),
        })
    }

    /// Runs one command under the identity that takes locks, while nobody can take the server's lock over: that this run holds
    /// it, with a lease that lives by the server's clock, and what the command does are one act.
    pub(super) async fn run_held(&self, host: &H, command: &Argv, login: &Login) -> Result<Output, NotDone> {
        let server = host.name();
        let Some(locked) = self.of(server) else {
            return Err(NotDone::Lost(Box::new(self.lose(server, &Standing::default()))));
        };
        let argv = self.held(locked, "pgstead-while-held", WHILE_HELD).arg(&command.program).args(&command.args);
        host.run(&[argv], login).await.map_err(|error| match error {
            RemoteError::Command { status: Some(HELD), stdout, .. } => {
                NotDone::Lost(Box::new(self.lose(server, &aged(&stdout))))
            }
            error => NotDone::Failed(error),
        })
    }

    /// Renews all leases until it is dropped. A server that does not answer is left to its steps, which fail by themselves.
    pub async fn keep(&self, every: Duration) -> Infallible {
        join_all(self.locked.iter().map(async |locked| {
            let mut ticks = tokio::time::interval(every);
            // A machine that slept renews once, and not as often as it should have.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks.tick().await;
            loop {
                ticks.tick().await;
                self.renew(locked).await;
            }
        }))
        .await;
        std::future::pending().await
    }

    async fn renew(&self, locked: &Locked<'_, H>) {
        let server = locked.host.name();
        let lines = self.unconfirmed(server);
        let argv = self.held(locked, "pgstead-renew", RENEW).stdin_text(text(&lines));
        match locked.host.run_within(ACT, &[argv], &locked.seen.login).await {
            Ok(_) => self.confirm(server, &lines),
            Err(RemoteError::Command { status: Some(HELD), stdout, .. }) => {
                self.confirm(server, &lines);
                self.lose(server, &aged(&stdout));
            }
            Err(_) => {}
        }
    }

    /// Remembers that the lock of a server is lost, and says so. `now` is what stands there.
    pub(super) fn lose(&self, server: &ServerName, now: &Standing) -> Diagnostic {
        let mut state = self.state();
        let told = state.lost.entry(server.clone()).or_insert_with(|| {
            let detail = match &now.run {
                None => "The lock is gone: it was broken, or taken over by a run that has ended.".to_owned(),
                Some(run) if *run == self.run => format!(
                    "By the clock of \"{server}\" it was not renewed for {} s, and a lease ends after {}: this machine slept, this program was stopped, or the line stood still. Nobody has taken the lock over yet.",
                    now.age_seconds.unwrap_or_default(),
                    LEASE.as_secs(),
                ),
                Some(_) => ["Now it is held by: ", &now.sentence()].concat(),
            };
            Diagnostic::error(Code::LeaseLost, format!("server \"{server}\": this run does not hold the lock any more"))
                .server(server)
                .detail(detail)
                .hint("No further step was begun. When no other run works there, run the same command again: it looks at what is there.")
        });
        let told = told.clone();
        drop(state);
        self.lost.notify_one();
        told
    }

    /// Returns what was lost, a diagnostic per server.
    pub fn all_lost(&self) -> Vec<Diagnostic> {
        self.state().lost.values().cloned().collect()
    }

    /// Waits until a lock is lost.
    pub async fn lost(&self) {
        while self.state().lost.is_empty() {
            self.lost.notified().await;
        }
    }
}

fn text(lines: &[(u64, String)]) -> String {
    lines.iter().flat_map(|(_, line)| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::future::{Either, select};

    use super::*;
    use crate::apply::run::tests::{Here, Place, age, holder, take};
    use crate::model::argv::{RootAccess, RunAs};
    use crate::wait::{LOOK_AGAIN, Look, until};

    /// Keeps a lease until something holds.
    async fn kept_until(lease: &Lease<'_, Here>, every: Duration, mut holds: impl FnMut() -> bool) {
        let keep = pin!(lease.keep(every));
        let look = async || if holds() { Look::Ready(()) } else { Look::NotYet("it does not hold".to_owned()) };
        let limit = Duration::from_secs(30);
        match select(keep, pin!(until(limit, LOOK_AGAIN, look))).await {
            Either::Left(_) => panic!("a lease is kept until nobody waits for it"),
            Either::Right((held, _)) => held.unwrap(),
        }
    }

    #[tokio::test]
    async fn a_renewal_keeps_the_lease_and_notices_its_loss() {
        let mut place = Place::new();
        take(&mut place, "r1", "s1").await.unwrap();
        age(&place.own("lock"), 50);
        let locked = [place.locked()];
        let lease = Lease::new(&locked, "r1");
        let every = std::time::Duration::from_millis(20);
        lease.note(None, r#"{"event":"later","x":1}"#);
        let (lock, audit) = (place.own("lock"), place.own("audit.jsonl"));
        let text = || std::fs::read_to_string(&audit).unwrap_or_default();
        // It was 50 s old, and is younger than any time that this takes.
        let is_young = || std::fs::metadata(&lock).unwrap().modified().unwrap().elapsed().unwrap().as_secs() < 30;
        kept_until(&lease, every, || is_young() && text().contains("later")).await;
        assert!(lease.all_lost().is_empty());
        assert_eq!(text().matches("later").count(), 1);
        std::fs::write(place.own("lock"), serde_json::to_string(&holder("r2", "s2")).unwrap()).unwrap();
        let keep = lease.keep(every);
        assert!(matches!(select(pin!(lease.lost()), pin!(keep)).await, Either::Left(_)));
        assert!(lease.all_lost()[0].detail.clone().unwrap().contains("run r2"));
    }

    /// The lease of run "r1" on a place, and the way there.
    fn leased<'a>(locked: &'a [Locked<'a, Here>]) -> (Lease<'a, Here>, &'a Here, Login) {
        (Lease::new(locked, "r1"), locked[0].host, Login { user: "ops".into(), root: RootAccess::None })
    }

    #[tokio::test]
    async fn a_lease_that_has_ended_is_not_even_its_holders() {
        let mut place = Place::new();
        take(&mut place, "r1", "s1").await.unwrap();
        let make = |name: &str| Argv::new(RunAs::Login, "touch").arg(place.own(name).to_string_lossy());
        let locked = [place.locked()];
        let (lease, host, login) = leased(&locked);
        age(&place.own("lock"), LEASE.as_secs() - 30);
        lease.run_held(host, &make("made"), &login).await.unwrap();
        assert!(place.own("made").exists() && lease.all_lost().is_empty());

        age(&place.own("lock"), LEASE.as_secs() + 1);
        // Whatever comes first when a machine wakes up, a renewal or a step.
        let every = Duration::from_millis(20);
        kept_until(&lease, every, || !lease.all_lost().is_empty()).await;
        let detail = lease.all_lost()[0].detail.clone().unwrap();
        let seconds = detail.split_once("was not renewed for ").unwrap().1.split_once(" s").unwrap().0;
        assert!(seconds.parse::<u64>().unwrap() > LEASE.as_secs(), "{detail}");
        for _ in 0..2 {
            assert!(matches!(lease.run_held(host, &make("held"), &login).await, Err(NotDone::Lost(_))));
            assert!(matches!(lease.run(host, &[make("step")], &login).await, Err(NotDone::Lost(_))));
        }
        assert!(!place.own("held").exists() && !place.own("step").exists());
        assert!(std::fs::metadata(place.own("lock")).unwrap().modified().unwrap().elapsed().unwrap() > LEASE);
    }

    #[tokio::test]
    async fn nobody_takes_the_lock_while_a_command_runs_under_it() {
        let mut place = Place::new();
        take(&mut place, "r1", "s1").await.unwrap();
        let locked = [place.locked()];
        let (lease, host, login) = leased(&locked);
        let script = "if flock -n \"$1\" true; then echo free; else echo held; fi";
        let own = place.own("");
        let look = Argv::new(RunAs::Login, "sh").args(["-c", script, "look", &own.to_string_lossy()]);
        assert_eq!(lease.run_held(host, &look, &login).await.unwrap().text(), "held\n");
        assert_eq!(lease.run(host, &[look], &login).await.unwrap().text(), "free\n");
    }
}

//! The lease while a run works: renewed in the background, asked again before every step, and noticed when it is lost.
//!
//! Every script that touches the lock names the run that it is for. So a run whose lock was taken over, or broken, cannot
//! act on that server any more, however long its machine slept (hazard 4). It decides nothing else.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::apply::lock::HELD;
use crate::apply::lock::LEASE;
use crate::apply::lock::Locked;
use crate::apply::lock::Standing;
use crate::apply::lock::run_mark;
use crate::diagnostic::Diagnostic;
use crate::model::argv::Argv;
use crate::model::argv::Login;
use crate::model::name::ServerName;
use crate::remote::Host;
use crate::remote::Output;
use crate::remote::RemoteError;

/// How often a lease is renewed: three renewals in a row may get lost before it expires.
pub const RENEW_EVERY: Duration = Duration::from_secs(LEASE.as_secs() / 4);

/// How many bytes of audit lines go along with a step. The rest waits for the next renewal, which has no such limit: all
/// words of an execution share one argument of the server's kernel.
const LINES_MAX_BYTES: usize = 8 * 1024;

const BEGIN_STEP: &str = include_str!("scripts/begin-step.sh");
const RENEW: &str = include_str!("scripts/renew.sh");

/// The code of a lease that is lost.
pub(super) const LOST: &str = "lease-lost";

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
            return Err(NotDone::Lost(Box::new(self.lose(server, None))));
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
        let guard = locked
            .script("pgstead-begin-step", BEGIN_STEP)
            .arg(run_mark(&self.run))
            .args(lines.iter().map(|(_, line)| line.as_str()));
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
                NotDone::Lost(Box::new(self.lose(server, Some(&stdout))))
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
        let argv = locked.script("pgstead-renew", RENEW).arg(run_mark(&self.run)).stdin_text(text(&lines));
        match locked.host.run(&[argv], &locked.seen.login).await {
            Ok(_) => self.confirm(server, &lines),
            Err(RemoteError::Command { status: Some(HELD), stdout, .. }) => {
                self.confirm(server, &lines);
                self.lose(server, Some(&stdout));
            }
            Err(_) => {}
        }
    }

    /// Remembers that the lock of a server is lost, and says so. `text` is what stands there now.
    pub(super) fn lose(&self, server: &ServerName, text: Option<&[u8]>) -> Diagnostic {
        let mut state = self.state();
        let told = state.lost.entry(server.clone()).or_insert_with(|| {
            let text = String::from_utf8_lossy(text.unwrap_or_default());
            let detail = match text.trim() {
                "" => "No lock stands there any more: somebody broke it, or another run took it over and has ended.".to_owned(),
                text => ["Now it is held by: ", &Standing::new(text, None).sentence()].concat(),
            };
            Diagnostic::error("lease-lost", format!("server \"{server}\": this run does not hold the lock any more"))
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

//! A whole run: lock everywhere, steps under a lease that is renewed, journal, audit, unlock.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::{Either, join_all, select};
use jiff::Timestamp;

#[cfg(debug_assertions)]
use crate::apply::crash;
use crate::apply::executor::run_steps;
use crate::apply::lease::{Lease, RENEW_EVERY};
use crate::apply::lock::{Holder, Locked, Standing};
use crate::apply::record::{Journal, Recorded};
use crate::apply::report::{Downtime, RunReport, StepReport};
use crate::apply::wishes::Wishes;
use crate::apply::worker::{Tally, Worker};
use crate::apply::{lock, record};
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind, Severity};
use crate::event::Events;
use crate::model::argv::Login;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::plan::Plan;
use crate::prove::Sessions;
use crate::remote::{Host, RemoteError};
use crate::state::StateDir;
use crate::state::journal::{Entry, Outcome, RunResult};

/// How long locks are given back where the operator wants to be gone.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Locks name their state directory, and its next run takes them over (hazard 4).
const LOCKS_LEFT: &str = "Run the same command again: it takes its own locks over at once. Other operators' runs wait a minute, or use \"pgstead unlock\".";

/// Everything a run needs.
#[derive(Debug)]
pub struct Run<'a, H> {
    /// What is to be done.
    pub plan: &'a Plan,
    /// What was seen.
    pub observation: &'a Observation,
    /// The connections.
    pub hosts: &'a BTreeMap<ServerName, Result<H, String>>,
    /// Who each connection is.
    pub logins: &'a BTreeMap<ServerName, Login>,
    /// The sessions to the instances.
    pub sessions: &'a Sessions<'a, H>,
    /// The state directory, for the journal.
    pub state: &'a StateDir,
    /// Who this run is.
    pub holder: Holder,
    /// What the operator answers for: by server, how the operator knows.
    pub attested: Vec<(ServerName, String)>,
    /// Where progress goes.
    pub events: &'a Events,
    /// When the command began.
    pub begun: Instant,
}

impl<H: Host> Run<'_, H> {
    /// Carries the plan out. What ends it early stands in the report.
    ///
    /// # Errors
    /// A lock could not be taken; nothing was changed.
    pub async fn carry_out(self, stop: impl AsyncFnMut()) -> Result<RunReport, Failure> {
        let run = self.holder.run.clone();
        let started = Entry::RunStarted {
            run: run.clone(),
            time: Timestamp::now(),
            operator: self.holder.owner.clone(),
            operation: self.holder.operation.clone(),
            state: Some(self.holder.state.clone()),
        };
        let locked: Vec<Locked<'_, H>> = self.servers().filter_map(|name| self.locked(name)).collect();
        let mut wishes = Wishes::new(stop);
        let warnings =
            wishes.unless_urgent(self.lock_all(&locked, &started)).await.unwrap_or_else(|| Err(left_early()))?;
        let journal = Journal::open(self.state);
        journal.write(&started, false);
        let lease = Lease::new(&locked, &run);
        record::attest(&run, &self.attested, &journal, &lease);
        #[cfg(debug_assertions)]
        crash::at(crash::LOCKED);
        let tally = Tally::default();
        let (steps, failure) = self.work(&lease, &journal, &tally, async || wishes.next().await).await;
        #[cfg(debug_assertions)]
        crash::at(crash::UNLOCKING);
        let failure = with_lost(failure, lease.all_lost());
        let failure = tally.with_hooks(failure);
        let ended = |failure: Option<&Failure>| Entry::RunEnded {
            run: run.clone(),
            time: Timestamp::now(),
            result: record::result_of(failure),
            seconds: self.begun.elapsed().as_secs_f64(),
            message: failure.map(ToString::to_string),
        };
        lease.note(None, &ended(failure.as_ref()).line());
        let mut troubles = self.release_unless_urgent(&locked, &lease, &mut wishes).await;
        #[cfg(debug_assertions)]
        crash::at(crash::UNLOCKED);
        // That a lock was lost while the last step ran shows only where it should be given back.
        let failure = with_lost(failure, lease.all_lost());
        journal.write(&ended(failure.as_ref()), true);
        troubles.extend(journal.trouble());
        let failure = match (failure, troubles.is_empty()) {
            (Some(mut failure), _) => {
                failure.diagnostics.extend(troubles);
                Some(failure)
            }
            (None, true) => None,
            // The work is done; that it could not be written down is told, and does not undo it.
            (None, false) => Some(Failure::all(FailureKind::StepFailed, troubles)),
        };
        let changed = steps.iter().any(|step| step.outcome != Outcome::NotStarted);
        let seconds = self.begun.elapsed().as_secs_f64();
        let topology = self.plan.topology.clone();
        let bytes_transferred = tally.transferred_bytes.load(Ordering::Relaxed);
        let write_downtime = Some(tally.write_downtime_us.load(Ordering::Relaxed)).filter(|us| *us > 0);
        let is_least = tally.is_downtime_least.load(Ordering::Relaxed);
        let write_downtime = write_downtime.map(|us| Downtime { took: Duration::from_micros(us), is_least });
        Ok(RunReport { topology, changed, steps, seconds, bytes_transferred, write_downtime, warnings, failure })
    }

    /// Takes the lock on all servers, or on none, and returns whose expired leases were taken over.
    async fn lock_all(&self, locked: &[Locked<'_, H>], started: &Entry) -> Result<Vec<Diagnostic>, Failure> {
        let taken = join_all(locked.iter().map(|server| server.take(&self.holder, started))).await;
        if taken.iter().any(Result::is_err) {
            let ours: Vec<_> = locked.iter().zip(&taken).filter(|(_, taken)| taken.is_ok()).collect();
            let failures: Vec<Failure> = taken.iter().filter_map(|taken| taken.as_ref().err().cloned()).collect();
            let failure =
                Failure::all(failures[0].kind, failures.into_iter().flat_map(|one| one.diagnostics).collect());
            let ended = Entry::RunEnded {
                run: self.holder.run.clone(),
                time: Timestamp::now(),
                result: RunResult::Refused,
                seconds: self.begun.elapsed().as_secs_f64(),
                message: Some(failure.to_string()),
            };
            let line = ended.line() + "\n";
            join_all(ours.into_iter().map(|(server, _)| server.release(&self.holder.run, &line))).await;
            return Err(failure);
        }
        let named = locked.iter().zip(taken).filter_map(|(server, taken)| Some((server.host.name(), taken.ok()??)));
        Ok(named.map(|(name, lock)| lock::taken_over(name, &lock)).collect())
    }

    /// Carries the steps out while the leases are renewed. Once a lock is lost no step begins.
    async fn work(
        &self,
        lease: &Lease<'_, H>,
        journal: &Journal,
        tally: &Tally,
        mut stop: impl AsyncFnMut(),
    ) -> (Vec<StepReport>, Option<Failure>) {
        let (hosts, logins, sessions) = (self.hosts, self.logins, self.sessions);
        let worker = Worker { hosts, logins, sessions, lease, tally, events: self.events };
        #[cfg(debug_assertions)]
        let worker = crash::Crashing(worker);
        let work = Recorded { work: worker, run: &self.holder.run, logins: self.logins, journal, lease };
        let mut is_told = false;
        let stop = async || {
            if is_told {
                return stop().await;
            }
            let lost = pin!(lease.lost());
            if let Either::Right(_) = select(pin!(stop()), lost).await {
                is_told = true;
            }
        };
        let steps = Box::pin(run_steps(self.plan, &work, self.events, stop));
        match select(steps, pin!(lease.keep(RENEW_EVERY))).await {
            Either::Left((ended, _)) => ended,
            Either::Right((never, _)) => match never {},
        }
    }

    /// Gives all locks back; where the operator wants to be gone, to those servers that answer at once.
    async fn release_unless_urgent(
        &self,
        locked: &[Locked<'_, H>],
        lease: &Lease<'_, H>,
        wishes: &mut Wishes<impl AsyncFnMut()>,
    ) -> Vec<Diagnostic> {
        let release = self.release_all(locked, lease);
        let released = match wishes.is_urgent() {
            true => tokio::time::timeout(AT_ONCE, release).await.ok(),
            false => wishes.unless_urgent(release).await,
        };
        released.unwrap_or_else(|| {
            let message = "left before all locks were given back";
            vec![Diagnostic::warning(Code::LocksLeft, message).hint(LOCKS_LEFT)]
        })
    }

    /// Gives all locks back, with the lines that the audit logs still lack, and returns what did not work.
    async fn release_all(&self, locked: &[Locked<'_, H>], lease: &Lease<'_, H>) -> Vec<Diagnostic> {
        let released = locked.iter().map(async |server| {
            let name = server.host.name();
            match server.release(&self.holder.run, &lease.last_lines(name)).await {
                Ok(()) => None,
                Err(RemoteError::Command { status: Some(lock::HELD), stdout, .. }) => {
                    lease.lose(name, &Standing::new(&String::from_utf8_lossy(&stdout), None));
                    None
                }
                Err(error) => Some(Diagnostic { severity: Severity::Warning, ..error.diagnostic() }),
            }
        });
        join_all(released).await.into_iter().flatten().collect()
    }

    /// The servers that the plan touches, each once.
    fn servers(&self) -> impl Iterator<Item = &ServerName> {
        self.observation.servers.keys().filter(|name| self.plan.touches(name))
    }

    fn locked<'b>(&'b self, name: &ServerName) -> Option<Locked<'b, H>> {
        let host = self.hosts.get(name)?.as_ref().ok()?;
        let seen = self.observation.server(name)?;
        let Observed::Known(layout) = &seen.layout else { return None };
        Some(Locked { host, layout, seen })
    }
}

/// Returns how a run ended that the operator left while locks were being taken.
fn left_early() -> Failure {
    let message = "left while the servers were being locked; nothing was changed";
    Failure::one(FailureKind::StepFailed, Diagnostic::error(Code::Stopped, message).hint(LOCKS_LEFT))
}

/// Puts lost locks in front of what else ended a run: whatever failed besides may be the other run's work.
fn with_lost(failure: Option<Failure>, lost: Vec<Diagnostic>) -> Option<Failure> {
    if lost.is_empty() {
        return failure;
    }
    let besides = failure.into_iter().flat_map(|failure| failure.diagnostics);
    let besides = besides.filter(|diagnostic| ![Code::LeaseLost, Code::Stopped].contains(&diagnostic.code));
    Some(Failure::all(FailureKind::Locked, lost.into_iter().chain(besides).collect()))
}

#[cfg(test)]
pub(super) mod tests {
    //! The fixed scripts in a real shell, in a directory of this machine, and whole runs over them.

    use std::io::Write;
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::sync::Mutex;

    use super::*;
    use crate::apply::lock::LEASE;
    use crate::model::argv::{Argv, RootAccess, RunAs};
    use crate::model::layout::Layout;
    use crate::pki::{OperatorSecrets, StoredSecrets};
    use crate::plan::survey::offline;
    use crate::plan::{PlanBuilder, Risk, Step};
    use crate::postgres::Tls;
    use crate::remote::{Output, Relay};
    use crate::ui::samples;

    /// A server whose commands run here; its batches are counted.
    #[derive(Debug)]
    pub(in crate::apply) struct Here {
        name: ServerName,
        batches: Mutex<usize>,
    }

    #[async_trait::async_trait]
    impl Host for Here {
        fn name(&self) -> &ServerName {
            &self.name
        }

        async fn run(&self, batch: &[Argv], login: &Login) -> Result<Output, RemoteError> {
            *self.batches.lock().unwrap() += 1;
            let mut all = Output::default();
            for (index, argv) in batch.iter().enumerate() {
                let words = argv.words(login);
                let mut child = Command::new(&words[0])
                    .args(&words[1..])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap();
                child.stdin.take().unwrap().write_all(&argv.stdin_bytes()).unwrap();
                let output = child.wait_with_output().unwrap();
                all.stdout.extend(output.stdout);
                all.stderr.extend(output.stderr);
                if !output.status.success() {
                    let (server, line, status) = (self.name.clone(), argv.line(login), output.status.code());
                    let Output { stdout, stderr } = all;
                    return Err(RemoteError::Command { server, line, index, status, stdout, stderr });
                }
            }
            Ok(all)
        }

        async fn probe_within(&self, _: Duration, _: &str, _: &[String]) -> Result<Output, RemoteError> {
            Ok(Output::default())
        }

        async fn forward(&self, target: &str, _: u16) -> Result<std::path::PathBuf, RemoteError> {
            let (server, target) = (self.name.clone(), target.to_owned());
            Err(RemoteError::Forward { server, target, detail: String::new() })
        }

        async fn relay(&self, command: &Argv, login: &Login) -> Result<Relay, RemoteError> {
            let (server, line) = (self.name.clone(), command.line(login));
            Err(RemoteError::Disconnected { server, line, detail: String::new() })
        }
    }

    /// One server "a" with a directory of its own.
    pub(in crate::apply) struct Place {
        dir: tempfile::TempDir,
        observation: Observation,
        hosts: BTreeMap<ServerName, Result<Here, String>>,
    }

    impl Place {
        pub(in crate::apply) fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let mut observation = offline::presume(&samples::topology());
            let name: ServerName = "a".parse().unwrap();
            observation.servers.retain(|server, _| *server == name);
            let Some(Observed::Known(seen)) = observation.servers.get_mut(&name) else { unreachable!() };
            let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
            seen.login = Login { user: "ops".into(), root: RootAccess::None };
            let Observed::Known(layout) = seen.layout.clone() else { unreachable!() };
            let own = dir.path().join("deep/own").to_string_lossy().into_owned();
            seen.layout = Observed::Known(Layout { pgstead_directory: own, os_user: user.trim().to_owned(), ..layout });
            let host = Here { name: name.clone(), batches: Mutex::default() };
            Self { dir, observation, hosts: BTreeMap::from([(name, Ok(host))]) }
        }

        pub(in crate::apply) fn own(&self, name: &str) -> std::path::PathBuf {
            self.dir.path().join("deep/own").join(name)
        }

        pub(in crate::apply) fn text(&self, name: &str) -> String {
            std::fs::read_to_string(self.own(name)).unwrap_or_default()
        }

        pub(in crate::apply) fn locked(&self) -> Locked<'_, Here> {
            let seen = self.observation.servers.values().next().unwrap().known().unwrap();
            let host = self.hosts.values().next().unwrap().as_ref().unwrap();
            Locked { host, layout: seen.layout.known().unwrap(), seen }
        }

        /// The generation that a look at this moment would see.
        fn look(&mut self) {
            let generation = self.text("generation").trim().parse().unwrap_or(0);
            let Some(Observed::Known(seen)) = self.observation.servers.values_mut().next() else { unreachable!() };
            seen.generation = generation;
        }
    }

    pub(in crate::apply) fn holder(run: &str, state: &str) -> Holder {
        Holder {
            run: run.into(),
            operation: "bootstrap".into(),
            owner: "ann@desk".into(),
            pid: 1,
            since: "2026-11-25T10:00:00Z".into(),
            state: state.into(),
        }
    }

    fn started(run: &str) -> Entry {
        let (operator, operation) = ("ann@desk".into(), "bootstrap".into());
        Entry::RunStarted { run: run.into(), time: Timestamp::now(), operator, operation, state: None }
    }

    pub(in crate::apply) fn age(path: &Path, seconds: u64) {
        let when = format!("@{}", Timestamp::now().as_second() - i64::try_from(seconds).unwrap());
        assert!(Command::new("touch").arg("-d").arg(when).arg(path).status().unwrap().success());
    }

    pub(in crate::apply) async fn take(
        place: &mut Place,
        run: &str,
        state: &str,
    ) -> Result<Option<lock::Standing>, Failure> {
        place.look();
        place.locked().take(&holder(run, state), &started(run)).await
    }

    #[tokio::test]
    async fn a_lock_is_free_ours_living_or_expired() {
        let mut place = Place::new();
        assert_eq!(take(&mut place, "r1", "s1").await, Ok(None));
        let refused = take(&mut place, "r2", "s2").await.unwrap_err();
        assert_eq!((refused.kind, refused.diagnostics[0].code), (FailureKind::Locked, Code::Locked));
        let detail = refused.diagnostics[0].detail.clone().unwrap();
        assert!(
            detail.contains("ann@desk") && detail.contains("run r1") && detail.contains("its lease ends in"),
            "{detail}"
        );
        // The same state directory takes over at once.
        assert_eq!(take(&mut place, "r3", "s1").await, Ok(None));
        age(&place.own("lock"), LEASE.as_secs() - 5);
        assert!(take(&mut place, "r4", "s2").await.is_err());
        age(&place.own("lock"), LEASE.as_secs() + 1);
        let old = take(&mut place, "r4", "s2").await.unwrap().unwrap();
        assert_eq!((old.run.as_deref(), old.owner.as_deref()), (Some("r3"), Some("ann@desk")));
        assert!(place.text("lock").contains("\"r4\"") && !place.own("lock.new").exists());
        let told = lock::taken_over(&"a".parse().unwrap(), &old);
        assert!(told.detail.unwrap().contains("run r3"));
        // The audit log has the old holder's text, as one JSON line that the journal's reader understands.
        let audit = crate::state::journal::Journal::parse(place.text("audit.jsonl").as_bytes());
        assert_eq!(audit.unreadable_lines, 0);
        let taken: Vec<_> = audit.entries.iter().filter(|entry| matches!(entry, Entry::LeaseExpired { .. })).collect();
        assert!(matches!(taken[..], [Entry::LeaseExpired { run, lock, age_seconds, .. }]
            if run == "r4" && lock.contains(r#""run":"r3""#) && *age_seconds >= 60));
        assert!(audit.runs().iter().any(|run| run.run == "r3" && !run.locks.is_empty()));
    }

    #[tokio::test]
    async fn whoever_looked_before_another_run_worked_is_turned_away() {
        let mut place = Place::new();
        place.look();
        let before = place.observation.clone();
        take(&mut place, "r1", "s1").await.unwrap();
        age(&place.own("lock"), 100);
        place.observation = before;
        let late = place.locked().take(&holder("r2", "s2"), &started("r2")).await.unwrap_err();
        assert_eq!(late.diagnostics[0].code, Code::ChangedMeanwhile);
        assert!(place.text("lock").contains("\"r1\""), "the lock of the dead run stays for the next look");
    }

    #[test]
    fn of_twenty_at_once_one_wins() {
        for expired in [false, true] {
            let mut place = Place::new();
            let runtime = tokio::runtime::Runtime::new().unwrap();
            if expired {
                runtime.block_on(take(&mut place, "r0", "s0")).unwrap();
                age(&place.own("lock"), 100);
            }
            place.look();
            let won: Vec<bool> = std::thread::scope(|scope| {
                let threads: Vec<_> = (1..=20)
                    .map(|number| {
                        let place = &place;
                        scope.spawn(move || {
                            let run = format!("r{number}");
                            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                            let holder = holder(&run, &format!("s{number}."));
                            runtime.block_on(place.locked().take(&holder, &started(&run))).is_ok()
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
            let winner = won.iter().position(|won| *won).unwrap() + 1;
            assert!(place.text("lock").contains(&format!("\"r{winner}\"")), "{}", place.text("lock"));
        }
    }

    #[tokio::test]
    async fn a_torn_audit_line_costs_no_other() {
        let mut place = Place::new();
        take(&mut place, "r1", "s1").await.unwrap();
        let torn = place.text("audit.jsonl") + r#"{"event":"step","ru"#;
        std::fs::write(place.own("audit.jsonl"), torn).unwrap();
        take(&mut place, "r2", "s1").await.unwrap();
        let audit = crate::state::journal::Journal::parse(place.text("audit.jsonl").as_bytes());
        assert_eq!((audit.unreadable_lines, audit.entries.len()), (1, 2));
    }

    #[tokio::test]
    async fn a_lock_that_changed_hands_is_neither_broken_nor_released() {
        let mut place = Place::new();
        take(&mut place, "r1", "s1").await.unwrap();
        let shown = place.text("lock");
        take(&mut place, "r2", "s1").await.unwrap();
        assert!(place.locked().break_lock(&shown, "bob@desk", "now").await.is_err());
        assert!(matches!(place.locked().release("r1", "").await, Err(RemoteError::Command { status: Some(9), .. })));
        let shown = place.text("lock");
        assert!(shown.contains("\"r2\""));
        place.locked().break_lock(&shown, "bob@desk", "2026-11-25T10:00:00Z").await.unwrap();
        assert!(!place.own("lock").exists() && place.text("audit.jsonl").contains("lock_broken"));
    }

    /// Carries out steps on "a", each a shell script, under the run "r1".
    async fn carry_out(place: &Place, scripts: &[&str]) -> RunReport {
        let name: ServerName = "a".parse().unwrap();
        let mut builder = PlanBuilder::default();
        let mut last = None;
        for script in scripts {
            let argv = Argv::new(RunAs::Login, "sh").args(["-c", *script, "step", &place.own("").to_string_lossy()]);
            last = Some(builder.add(Step::run(&name, Risk::Reversible, *script, vec![argv]), last));
        }
        let topology = samples::topology();
        let plan = Plan { topology: topology.name().clone(), steps: builder.finish(), settings: vec![], notes: vec![] };
        let secrets = OperatorSecrets::complete(
            StoredSecrets::default(),
            topology.name(),
            "ops@laptop",
            topology.common().lifetimes,
            Timestamp::now(),
        )
        .unwrap()
        .0;
        let tls = Tls::new(&secrets.ca.certificate, &secrets.operator).unwrap();
        let logins = BTreeMap::from([(name, Login { user: "ops".into(), root: RootAccess::None })]);
        let run = Run {
            plan: &plan,
            observation: &place.observation,
            hosts: &place.hosts,
            logins: &logins,
            sessions: &Sessions::new(&topology, &place.observation, &place.hosts, Some(tls)),
            state: &StateDir::at(place.dir.path().join("state")),
            holder: holder("r1", "s1"),
            attested: vec![],
            events: &Events::silent(),
            begun: Instant::now(),
        };
        run.carry_out(async || std::future::pending().await).await.unwrap()
    }

    fn journal(place: &Place) -> crate::state::journal::Journal {
        StateDir::at(place.dir.path().join("state")).read_journal().unwrap()
    }

    #[tokio::test]
    async fn both_sides_tell_the_same_story_and_no_step_costs_a_round_trip() {
        let place = Place::new();
        let report = carry_out(&place, &["true", "echo x >\"$1/made\""]).await;
        assert_eq!((report.failure, report.steps[1].outcome), (None, Outcome::Done));
        assert!(place.own("made").exists() && !place.own("lock").exists());
        // Lock, two steps, release.
        assert_eq!(*place.hosts.values().next().unwrap().as_ref().unwrap().batches.lock().unwrap(), 4);
        let audit = crate::state::journal::Journal::parse(place.text("audit.jsonl").as_bytes());
        assert_eq!((audit.runs()[0].steps_done, audit.runs()[0].result), (2, Some(RunResult::Done)));
        let events: Vec<_> =
            audit.entries.iter().map(|entry| serde_json::to_value(entry).unwrap()["event"].clone()).collect();
        assert_eq!(events, ["run_started", "step_started", "step", "step_started", "step", "run_ended"]);
        assert_eq!(journal(&place).entries.len(), audit.entries.len());
        // Before a step's command runs, the server has the line that says that it begins.
        let place = Place::new();
        carry_out(&place, &["tail -n 1 \"$1/audit.jsonl\" >\"$1/seen\""]).await;
        assert!(place.text("seen").contains("step_started"), "{}", place.text("seen"));
    }

    #[tokio::test]
    async fn a_lost_lease_starts_no_further_step() {
        let place = Place::new();
        let thief =
            "echo '{\"run\":\"r2\",\"operation\":\"bootstrap\",\"owner\":\"bob@far\",\"since\":\"now\"}' >\"$1/lock\"";
        let report = carry_out(&place, &[thief, "echo x >\"$1/made\"", "true"]).await;
        let failure = report.failure.unwrap();
        assert_eq!((failure.kind, failure.diagnostics[0].code), (FailureKind::Locked, Code::LeaseLost));
        assert!(failure.diagnostics[0].detail.clone().unwrap().contains("bob@far"), "{failure:?}");
        assert!(!place.own("made").exists());
        let outcomes: Vec<Outcome> = report.steps.iter().map(|step| step.outcome).collect();
        assert_eq!(outcomes, [Outcome::Done, Outcome::NotStarted, Outcome::NotStarted]);
        assert!(place.text("lock").contains("r2"), "the other run's lock is left alone");
        let runs = journal(&place).runs();
        assert_eq!((runs[0].result, runs[0].steps_done), (Some(RunResult::Failed), 1));
        // It may also show as late as when the last step is done.
        let place = Place::new();
        assert_eq!(carry_out(&place, &["rm \"$1/lock\""]).await.failure.unwrap().diagnostics[0].code, Code::LeaseLost);
    }
}

//! What every command that changes something has in common: look, judge, propose, show, ask, do, tell. It decides nothing:
//! what there is to decide is in the task.
//!
//! Most of it is a plan that is carried out ([`planned`]); `drill` plays stages, and `unlock` breaks locks.

mod planned;

use std::time::Instant;

pub(super) use planned::{Operation, Proposal, Told, refused, run};

use super::exit::Exit;
use super::interrupts::Interrupts;
use super::inventory::Inventory;
use super::session::{Away, Session, hold, state_identity, to_plan};
use super::{block_on, exit};
use crate::apply::lock;
use crate::diagnostic::{Diagnostic, Failure};
use crate::observe::probe::Wish;
use crate::ui::ask::Question;
use crate::ui::{Progress, Ui, ask};

/// One kind of work on servers, from its first look to its answer.
pub(super) trait Task {
    /// Its name in locks and journal.
    const NAME: &'static str;
    /// What it would do.
    type Proposal;
    /// What it did.
    type Report;

    /// Says whether it shows what it would do, and changes nothing.
    fn is_dry_run(&self) -> bool;

    /// Says whether the state directory stays its own. Where the programs that it starts need that themselves, it makes sure alone
    /// that no other run has it.
    fn keeps_state(&self) -> bool {
        true
    }

    /// Says whether a living lease of another run ends it.
    fn heeds_leases(&self) -> bool {
        !self.is_dry_run()
    }

    /// What comes before the first look, such as a question that decides whom to believe. It holds the state directory.
    ///
    /// # Errors
    /// What ended it before there was a first look.
    async fn prepare(&self, inventory: &Inventory, ui: &Ui) -> Result<(), Failure> {
        let _ = (inventory, ui);
        Ok(())
    }

    /// What it looks at first.
    fn wish(&self) -> Wish {
        to_plan()
    }

    /// The servers that are not there for it as the others are.
    fn away(&self) -> Away {
        Away::default()
    }

    /// Ends it where a server that it needs could not be reached.
    ///
    /// # Errors
    /// Unreachable.
    fn require(&self, session: &Session<'_>) -> Result<(), Failure> {
        session.require_all()
    }

    /// Looks at what it must know besides, judges, and says what it would do.
    ///
    /// # Errors
    /// What ended it before there was anything to show.
    async fn propose(&self, session: &mut Session<'_>) -> Result<Self::Proposal, Failure>;

    /// Shows what it would do, and says what is asked. `begun` is when the command began.
    ///
    /// # Errors
    /// It must not be begun; nothing has to be changed, and it is not as it should be all the same.
    async fn next(
        &self,
        proposal: &Self::Proposal,
        session: &Session<'_>,
        ui: &Ui,
        begun: Instant,
    ) -> Result<Next<Self::Report>, Failure>;

    /// Carries it out, after consent. The result says what ended it early.
    ///
    /// # Errors
    /// It could not be begun.
    async fn carry_out(
        &self,
        proposal: &Self::Proposal,
        session: &mut Session<'_>,
        at: At<'_>,
    ) -> Result<Done<Self::Report>, Failure>;
}

/// How a task goes on when it is known what it would do.
pub(super) enum Next<R> {
    /// It ends: it is refused, or was only to be shown.
    Tell(Option<Failure>),
    /// Nothing has to be changed.
    Unchanged(R),
    /// It is begun with consent.
    Ask(Question),
}

/// What is at hand while something is carried out.
pub(super) struct At<'a> {
    pub(super) ui: &'a Ui,
    /// The operator's wishes to stop.
    pub(super) interrupts: &'a mut Interrupts,
    /// When the command began.
    pub(super) begun: Instant,
}

/// What was carried out.
pub(super) struct Done<R> {
    pub(super) report: R,
    /// What the operator should know besides.
    pub(super) warnings: Vec<Diagnostic>,
    /// Why it is not done. Without diagnostics where the report says it.
    pub(super) failure: Option<Failure>,
}

/// What became of a task.
#[derive(Debug)]
pub(super) struct Outcome<P, R> {
    pub(super) proposal: P,
    /// None where nothing was begun: it was refused, or only to be shown.
    pub(super) report: Option<R>,
    /// Why it is not done.
    pub(super) failure: Option<Failure>,
}

impl<P, R> Outcome<P, R> {
    /// Tells why it is not done.
    pub(super) fn tell_failure(&self, ui: &Ui) {
        if let Some(failure) = &self.failure {
            ui.diagnostics(&failure.diagnostics);
        }
    }

    /// Returns how the process ends.
    pub(super) fn exit(&self) -> Exit {
        self.failure.as_ref().map_or(exit::DONE, |failure| failure.kind.into())
    }
}

/// Performs a task from its first look to its answer, which `tell` writes: what would be done, or why not, where it only shows, and
/// else what was done.
pub(super) fn perform<T: Task>(
    task: &T,
    inventory: &Inventory,
    ui: &Ui,
    tell: impl FnOnce(&Outcome<T::Proposal, T::Report>) -> Result<(), Failure>,
) -> Result<Outcome<T::Proposal, T::Report>, Failure> {
    let begun = Instant::now();
    let outcome = opened(task, inventory, ui, async |session: &mut Session<'_>, progress: Progress| {
        let proposal = propose(task, session).await;
        progress.finish();
        carry_out(task, session, proposal?, ui, begun).await
    })?;
    match (&outcome.failure, &outcome.report) {
        (Some(refusal), None) if !task.is_dry_run() => return Err(refusal.clone()),
        _ => tell(&outcome)?,
    }
    outcome.tell_failure(ui);
    Ok(outcome)
}

/// Takes the state directory and connects for a task, lets it happen, and gives both back in any case.
pub(super) fn opened<T: Task, R>(
    task: &T,
    inventory: &Inventory,
    ui: &Ui,
    happen: impl AsyncFnOnce(&mut Session<'_>, Progress) -> Result<R, Failure>,
) -> Result<R, Failure> {
    block_on(async {
        let local = hold(inventory, T::NAME, task.is_dry_run())?.filter(|_| task.keeps_state());
        task.prepare(inventory, ui).await?;
        let progress = Progress::start(ui);
        let mut session = Session::open_despite(inventory, task.wish(), progress.events(), task.away()).await?;
        let result = happen(&mut session, progress).await;
        session.close().await;
        drop(local);
        result
    })
}

/// Judges, and says what would be done. It changes nothing.
pub(super) async fn propose<T: Task>(task: &T, session: &mut Session<'_>) -> Result<T::Proposal, Failure> {
    task.require(session)?;
    if task.heeds_leases() {
        lock::refuse_held(&session.observation, &state_identity(&session.state))?;
    }
    task.propose(session).await
}

/// Shows what was proposed, asks, and does it; nothing of that where it was refused, or is only to be shown.
pub(super) async fn carry_out<T: Task>(
    task: &T,
    session: &mut Session<'_>,
    proposal: T::Proposal,
    ui: &Ui,
    begun: Instant,
) -> Result<Outcome<T::Proposal, T::Report>, Failure> {
    let (report, failure) = match task.next(&proposal, session, ui, begun).await? {
        Next::Tell(failure) => (None, failure),
        Next::Unchanged(report) => (Some(report), None),
        Next::Ask(question) => {
            ask::consent(ui, &question)?;
            let mut interrupts = Interrupts::listen()?;
            let done = task.carry_out(&proposal, session, At { ui, interrupts: &mut interrupts, begun }).await?;
            ui.diagnostics(&done.warnings);
            (Some(done.report), done.failure)
        }
    };
    Ok(Outcome { proposal, report, failure })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::diagnostic::{Code, FailureKind};
    use crate::state::{Holder, StateDir};
    use crate::ui::{Options, Verbosity};

    /// Task whose end is known beforehand, on a server that nobody reaches.
    struct Fake {
        next: fn() -> Result<Next<&'static str>, Failure>,
        failure: Option<Failure>,
        keeps_state: bool,
        begun: Cell<bool>,
        state_is_held: Cell<bool>,
    }

    impl Fake {
        fn new(next: fn() -> Result<Next<&'static str>, Failure>) -> Self {
            let (begun, state_is_held) = (Cell::new(false), Cell::new(false));
            Self { next, failure: None, keeps_state: true, begun, state_is_held }
        }

        /// Returns how the process ends, and what is told as done.
        fn end(&self, yes: bool) -> (Exit, Option<&'static str>) {
            let state = tempfile::tempdir().unwrap();
            self.end_in(&inventory(state.path()), yes)
        }

        fn end_in(&self, inventory: &Inventory, yes: bool) -> (Exit, Option<&'static str>) {
            let options = Options { yes, verbosity: Verbosity::Quiet, ..Options::default() };
            let ui = Ui { can_ask: false, ..Ui::new(options) };
            let mut told = None;
            let done = perform(self, inventory, &ui, |outcome| {
                told = outcome.report;
                Ok(())
            });
            (done.map_or_else(|failure| failure.kind.into(), |outcome| outcome.exit()), told)
        }
    }

    impl Task for Fake {
        const NAME: &'static str = "fake";
        type Proposal = ();
        type Report = &'static str;

        fn is_dry_run(&self) -> bool {
            false
        }

        fn keeps_state(&self) -> bool {
            self.keeps_state
        }

        fn require(&self, _: &Session<'_>) -> Result<(), Failure> {
            Ok(())
        }

        async fn propose(&self, session: &mut Session<'_>) -> Result<(), Failure> {
            self.state_is_held.set(session.state.lock_holder().unwrap().is_some());
            Ok(())
        }

        async fn next(&self, (): &(), _: &Session<'_>, _: &Ui, _: Instant) -> Result<Next<&'static str>, Failure> {
            (self.next)()
        }

        async fn carry_out(&self, (): &(), _: &mut Session<'_>, _: At<'_>) -> Result<Done<&'static str>, Failure> {
            self.begun.set(true);
            Ok(Done { report: "done", warnings: Vec::new(), failure: self.failure.clone() })
        }
    }

    /// One server at a port of this machine where nobody listens.
    fn inventory(state: &std::path::Path) -> Inventory {
        let text = "topology: lab\npostgres: { version: 17 }\nservers:\n  a: { address: 127.0.0.1, kind: primary, ssh: { port: 1 } }\n";
        let (topology, _) = crate::inventory::read(text, "lab.yaml").unwrap();
        Inventory { path: "lab.yaml".into(), topology, state_dir: state.to_owned() }
    }

    fn ask() -> Result<Next<&'static str>, Failure> {
        Ok(Next::Ask(Question { gravity: ask::Gravity::Ordinary, change: "Do it".to_owned() }))
    }

    fn failure(kind: FailureKind) -> Failure {
        Failure::one(kind, Diagnostic::error(Code::Bug, "this test"))
    }

    #[test]
    fn nothing_is_begun_without_consent() {
        let task = Fake::new(ask);
        assert_eq!((task.end(false), task.begun.get()), ((exit::REFUSED, None), false));
        assert_eq!((task.end(true), task.begun.get()), ((exit::DONE, Some("done")), true));
        for (next, end) in [
            ((|| Ok(Next::Unchanged("as it was"))) as fn() -> _, (exit::DONE, Some("as it was"))),
            (|| Ok(Next::Tell(Some(failure(FailureKind::Refused)))), (exit::REFUSED, None)),
            (|| Err(failure(FailureKind::Unreachable)), (exit::UNREACHABLE, None)),
        ] {
            let task = Fake::new(next);
            assert_eq!((task.end(true), task.begun.get()), (end, false));
        }
    }

    #[test]
    fn what_ended_it_early_is_told_with_what_was_done() {
        let task = Fake { failure: Some(failure(FailureKind::Unhealthy)), ..Fake::new(ask) };
        assert_eq!(task.end(true), (exit::UNHEALTHY, Some("done")));
    }

    #[test]
    fn no_other_run_has_the_state_directory() {
        let state = tempfile::tempdir().unwrap();
        let inventory = inventory(state.path());
        let keeps = Fake::new(ask);
        let lets_go = Fake { keeps_state: false, ..Fake::new(ask) };
        for (task, is_held) in [(&keeps, true), (&lets_go, false)] {
            assert_eq!(task.end_in(&inventory, true), (exit::DONE, Some("done")));
            assert_eq!(task.state_is_held.get(), is_held);
        }
        let holder = Holder::this_process("ann@desk", "bootstrap", jiff::Timestamp::now());
        let _other = StateDir::at(state.path()).lock(&holder).unwrap();
        assert_eq!([&keeps, &lets_go].map(|task| task.end_in(&inventory, true)), [(exit::LOCKED, None); 2]);
    }
}

//! Runs the steps of a plan: each as soon as those it waits for are done, all of a failure's rest not at all.
//!
//! It decides nothing. The first Ctrl-C lets running steps finish and starts no new one; the second leaves at once.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use crate::apply::report::StepReport;
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::event::{Event, Events, StepOutcome};
use crate::plan::{Plan, PlannedStep, Step, StepId};
use crate::state::journal::Outcome;

/// How the work on a step came to an end.
#[derive(Debug)]
pub enum End {
    /// It is done.
    Done,
    /// What it started goes on without this run, on the server, where the next run takes it over.
    LeftRunning,
    /// It did not begin: this run does not hold the server's lock any more.
    NotBegun(Box<Diagnostic>),
    /// It failed: with server, command and hint.
    Failed(Box<Diagnostic>),
    /// The connection broke while it ran: it may be done, or not, or go on (hazard 92).
    Unknown(Box<Diagnostic>),
}

impl End {
    /// Returns it as it is told and written down.
    pub fn outcome(&self) -> Outcome {
        match self {
            End::Done => Outcome::Done,
            End::LeftRunning => Outcome::LeftRunning,
            End::NotBegun(_) => Outcome::NotStarted,
            End::Failed(_) => Outcome::Failed,
            End::Unknown(_) => Outcome::Unknown,
        }
    }
}

/// Becomes true when the operator asks to stop.
pub type Leave = watch::Receiver<bool>;

/// Carries out one step. The real one is [`crate::apply::Worker`]; tests have scripted ones.
pub trait Work {
    /// Does what a step says. What outlives this run need not be waited for once `leave` is true.
    fn work(&self, id: StepId, step: &Step, leave: Leave) -> impl Future<Output = End>;
}

/// Runs all steps of a plan.
///
/// `stop` resolves at each wish of the operator to stop (Ctrl-C): after the first, detached jobs are left to themselves,
/// other running steps are finished, and none is started; after the second, nothing is waited for.
pub async fn run_steps<W: Work>(
    plan: &Plan,
    work: &W,
    events: &Events,
    mut stop: impl AsyncFnMut(),
) -> (Vec<StepReport>, Option<Failure>) {
    events.send(Event::RunStarted { steps: plan.steps.len() });
    let mut waiting: Vec<&PlannedStep> = plan.steps.iter().collect();
    let mut done: BTreeSet<StepId> = BTreeSet::new();
    let mut ended: BTreeMap<StepId, (Outcome, f64)> = BTreeMap::new();
    let mut running: BTreeMap<StepId, &Step> = BTreeMap::new();
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    let mut stopped = false;
    let mut futures = FuturesUnordered::new();
    let mut left: Vec<String> = Vec::new();
    let mut detached: Vec<String> = Vec::new();
    let (ask_to_leave, leave) = watch::channel(false);
    loop {
        if !stopped && diagnostics.is_empty() {
            let (ready, rest): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|planned| planned.after.iter().all(|id| done.contains(id)));
            waiting = rest;
            for planned in ready {
                let (id, step) = (planned.id, &planned.step);
                events.send(Event::StepStarted { id: id.0, title: step.title.clone(), server: step.server.clone() });
                running.insert(id, step);
                let leave = leave.clone();
                futures.push(async move {
                    let begun = Instant::now();
                    let result = work.work(id, step, leave).await;
                    (id, result, begun.elapsed().as_secs_f64())
                });
            }
        }
        // The wish to stop is looked at first: it counts even where a step ends at the same moment.
        let next = match select(pin!(stop()), futures.next()).await {
            Either::Left(_) => None,
            Either::Right((ended, _)) => Some(ended),
        };
        let (id, result, seconds) = match next {
            Some(Some(ended)) => ended,
            Some(None) => break,
            None if stopped => {
                left = running.values().map(|step| titled(step)).collect();
                break;
            }
            None => {
                stopped = true;
                ask_to_leave.send_replace(true);
                events.send(Event::Stopping { running: running.values().map(|step| titled(step)).collect() });
                continue;
            }
        };
        running.remove(&id);
        let outcome = match result {
            End::Done => StepOutcome::Done,
            End::LeftRunning => StepOutcome::GoesOn,
            End::NotBegun(_) | End::Failed(_) | End::Unknown(_) => StepOutcome::Failed,
        };
        events.send(Event::StepFinished { id: id.0, outcome, seconds });
        ended.insert(id, (result.outcome(), seconds));
        match result {
            End::Done => _ = done.insert(id),
            End::LeftRunning => detached
                .extend(plan.steps.iter().filter(|planned| planned.id == id).map(|planned| titled(&planned.step))),
            End::NotBegun(diagnostic) | End::Failed(diagnostic) | End::Unknown(diagnostic) => {
                diagnostics.push(in_step(*diagnostic, id, plan.steps.len()));
            }
        }
    }
    let reports = plan
        .steps
        .iter()
        .map(|planned| {
            let (outcome, seconds) = ended.get(&planned.id).copied().unwrap_or((Outcome::NotStarted, 0.0));
            StepReport {
                id: planned.id,
                title: planned.step.title.clone(),
                server: planned.step.server.clone(),
                outcome,
                seconds,
            }
        })
        .collect();
    if !left.is_empty() {
        diagnostics.push(
            Diagnostic::error(Code::LeftRunning, "left before running steps ended; they may go on, on the servers")
                .detail(format!("Running when left: {}.", left.join("; ")))
                .hint("Run the same command again: it looks at what is there, cancels what is half done and goes on."),
        );
    } else if stopped && diagnostics.is_empty() && done.len() < plan.steps.len() {
        let goes_on = match detached.as_slice() {
            [] => String::new(),
            steps => format!(" Still running on the server: {}.", steps.join("; ")),
        };
        let next = match detached.as_slice() {
            [] => "Run the same command again to finish the work.",
            _ => "Run the same command again: it waits for what goes on, takes it over and finishes the work.",
        };
        diagnostics.push(
            Diagnostic::error(Code::Stopped, format!("stopped after {} of {} steps", done.len(), plan.steps.len()))
                .detail(format!("Nothing half-built can start.{goes_on}"))
                .hint(next),
        );
    }
    let is_unknown = ended.values().any(|(outcome, _)| *outcome == Outcome::Unknown)
        && !ended.values().any(|(outcome, _)| *outcome == Outcome::Failed);
    let kind = if is_unknown && left.is_empty() { FailureKind::Unknown } else { FailureKind::StepFailed };
    let failure = (!diagnostics.is_empty()).then(|| Failure::all(kind, diagnostics));
    (reports, failure)
}

fn titled(step: &Step) -> String {
    match &step.server {
        Some(server) => format!("{server}: {}", step.title),
        None => step.title.clone(),
    }
}

fn in_step(mut diagnostic: Diagnostic, id: StepId, steps: usize) -> Diagnostic {
    let place = format!(" (step {} of {steps})", id.0);
    diagnostic.message.push_str(&place);
    if diagnostic.hint.is_none() {
        diagnostic.hint = Some("Completed steps are kept. Fix the cause and run the same command again.".to_owned());
    }
    diagnostic
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::plan::{PlanBuilder, Risk};

    struct Scripted {
        fail: Option<u32>,
        order: RefCell<Vec<u32>>,
    }

    impl Work for Scripted {
        async fn work(&self, id: StepId, _: &Step, _: Leave) -> End {
            self.order.borrow_mut().push(id.0);
            match self.fail == Some(id.0) {
                true => End::Failed(Box::new(Diagnostic::error(Code::CommandFailed, "no"))),
                false => End::Done,
            }
        }
    }

    fn plan() -> Plan {
        let name = "a".parse().unwrap();
        let mut builder = PlanBuilder::default();
        let step = |title: &str| Step::run(&name, Risk::Reversible, title, vec![]);
        let one = builder.add(step("one"), []);
        let two = builder.add(step("two"), []);
        let three = builder.add(step("three"), [one, two]);
        builder.add(step("four"), [three]);
        Plan { topology: "t".parse().unwrap(), steps: builder.finish(), settings: vec![], notes: vec![] }
    }

    async fn run(fail: Option<u32>, stop: impl AsyncFnMut()) -> (Vec<Outcome>, Vec<u32>, Option<Failure>) {
        let work = Scripted { fail, order: RefCell::default() };
        let (reports, failure) = run_steps(&plan(), &work, &Events::silent(), stop).await;
        (reports.iter().map(|report| report.outcome).collect(), work.order.into_inner(), failure)
    }

    #[tokio::test]
    async fn every_step_runs_once_behind_those_it_waits_for() {
        let (outcomes, order, failure) = run(None, async || std::future::pending().await).await;
        assert_eq!((outcomes, failure), (vec![Outcome::Done; 4], None));
        assert_eq!(order[2..], [3, 4]);
    }

    #[tokio::test]
    async fn what_waits_for_a_failed_step_is_never_started() {
        for fail in 1..=4 {
            let (outcomes, order, failure) = run(Some(fail), async || std::future::pending().await).await;
            assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Failed).count(), 1);
            assert!(!order.iter().any(|id| *id > fail.max(2)), "step {fail} failed, and {order:?} ran");
            assert_eq!(failure.unwrap().kind, FailureKind::StepFailed);
        }
    }

    #[tokio::test]
    async fn a_wish_to_stop_starts_nothing_new() {
        let mut wishes = 0;
        let stop = async || {
            wishes += 1;
            if wishes > 1 {
                std::future::pending().await
            }
        };
        let (outcomes, order, failure) = run(None, stop).await;
        assert!(outcomes.contains(&Outcome::NotStarted), "{outcomes:?}");
        assert!(!order.contains(&4));
        assert_eq!(failure.unwrap().diagnostics[0].code, Code::Stopped);
    }

    #[tokio::test]
    async fn a_second_wish_leaves_at_once_and_names_what_runs() {
        struct Endless;
        impl Work for Endless {
            async fn work(&self, _: StepId, _: &Step, _: Leave) -> End {
                std::future::pending().await
            }
        }
        let (_, failure) = run_steps(&plan(), &Endless, &Events::silent(), async || {}).await;
        let diagnostic = &failure.unwrap().diagnostics[0];
        assert_eq!(diagnostic.code, Code::LeftRunning);
        assert_eq!(diagnostic.detail.as_deref(), Some("Running when left: a: one; a: two."));
    }

    #[tokio::test]
    async fn a_detached_job_is_left_at_the_first_wish_and_told() {
        struct Detached;
        impl Work for Detached {
            async fn work(&self, _: StepId, _: &Step, mut leave: Leave) -> End {
                let _ = leave.wait_for(|leave| *leave).await;
                End::LeftRunning
            }
        }
        let mut wishes = 0;
        let stop = async || {
            wishes += 1;
            if wishes > 1 {
                std::future::pending().await
            }
        };
        let (reports, failure) = run_steps(&plan(), &Detached, &Events::silent(), stop).await;
        assert_eq!((reports[0].outcome, reports[2].outcome), (Outcome::LeftRunning, Outcome::NotStarted));
        let diagnostic = &failure.unwrap().diagnostics[0];
        assert_eq!(diagnostic.code, Code::Stopped);
        assert!(diagnostic.detail.as_deref().unwrap().contains("a: one; a: two"), "{diagnostic:?}");
    }

    #[tokio::test]
    async fn an_unknown_outcome_is_not_called_a_failure() {
        struct Lost;
        impl Work for Lost {
            async fn work(&self, _: StepId, _: &Step, _: Leave) -> End {
                End::Unknown(Box::new(Diagnostic::error(Code::OutcomeUnknown, "the connection broke")))
            }
        }
        let (reports, failure) =
            run_steps(&plan(), &Lost, &Events::silent(), async || std::future::pending().await).await;
        assert_eq!((reports[0].outcome, reports[2].outcome), (Outcome::Unknown, Outcome::NotStarted));
        assert_eq!(failure.unwrap().kind, FailureKind::Unknown);
    }
}

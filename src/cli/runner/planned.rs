//! Task that is a plan: keys and sessions, the plan or every reason against it, its steps under leases.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use jiff::Timestamp;

use super::{At, Done, Next, Outcome};
use crate::apply::{Run, RunReport, lock};
use crate::cli::inventory::Inventory;
use crate::cli::session::{Away, Session, state_identity, to_plan};
use crate::cli::ways;
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::judge::State;
use crate::model::argv::Login;
use crate::model::name::ServerName;
use crate::model::topology::Link;
use crate::observe::probe::Wish;
use crate::plan::survey::authority::Keys;
use crate::plan::{Action, Hook, Plan};
use crate::prove;
use crate::state::journal::operator;
use crate::state::{StateDir, StateError};
use crate::ui::ask::Question;
use crate::ui::plan::PlanView;
use crate::ui::{Progress, Ui, plan};

/// One kind of change: what it looks at, plans and asks.
pub(in crate::cli) trait Operation {
    /// Its name in locks and journal.
    const NAME: &'static str;
    /// What it found out beside its plan.
    type Facts;

    /// Says whether it shows what it would do, and changes nothing.
    fn is_dry_run(&self) -> bool;

    /// What comes before the first look, such as a question that decides whom to believe.
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

    /// What the operator answers for: by server that is said to be off, how the operator knows.
    fn attested(&self) -> BTreeMap<ServerName, String> {
        BTreeMap::new()
    }

    /// The servers that it neither looks at nor changes, since the operator leaves them out.
    fn left_out(&self) -> BTreeSet<ServerName> {
        BTreeSet::new()
    }

    /// What this machine signs with, and logs in with.
    ///
    /// # Errors
    /// What is stored cannot be read.
    fn keys(&self, session: &Session<'_>) -> Result<Keys, Failure> {
        session.keys()
    }

    /// Ends it where a server that it needs could not be reached.
    ///
    /// # Errors
    /// Unreachable.
    fn require(&self, session: &Session<'_>) -> Result<(), Failure> {
        session.require_all()
    }

    /// Keeps what it made and a server is about to know, before anything is begun.
    ///
    /// # Errors
    /// It cannot be written.
    fn keep(&self, facts: &Self::Facts, state: &StateDir) -> Result<(), StateError> {
        let _ = (facts, state);
        Ok(())
    }

    /// Looks at what it must know besides, judges, and plans.
    ///
    /// # Errors
    /// What ended it before there was anything to show. A refusal is no error: it is a part of the proposal.
    async fn propose(&self, session: &mut Session<'_>, keys: &Keys) -> Result<Proposal<Self::Facts>, Failure>;

    /// What is shown before the question.
    fn explanation(&self, proposal: &Proposal<Self::Facts>, view: &PlanView<'_>, ui: &Ui) -> Option<String> {
        let _ = proposal;
        (!ui.options.yes || ui.err.whole).then(|| plan::render_steps(view, ui.err))
    }

    /// What is asked.
    fn question(&self, plan: &Plan, facts: &Self::Facts) -> Question;

    /// What is written down on this machine when all is done.
    ///
    /// # Errors
    /// It could not be written.
    fn done(&self, session: &Session<'_>, keys: &Keys) -> Result<(), Failure> {
        let _ = (session, keys);
        Ok(())
    }

    /// Says whether a link is proven where nothing has to be changed: that an earlier run could not prove it is no reason to call it
    /// well. One that does not stream is told by whoever judges servers.
    fn confirms(&self, state: &State<'_>, link: &Link) -> bool {
        state.sends_to(&link.upstream, &link.standby)
    }
}

/// What an operation would do.
#[derive(Debug)]
pub(in crate::cli) struct Proposal<F> {
    /// The plan, or every reason against it.
    pub(in crate::cli) plan: Result<Plan, Failure>,
    /// What was found out beside it.
    pub(in crate::cli) facts: F,
    /// The run's name.
    pub(in crate::cli) run: String,
}

/// What became of an operation.
pub(in crate::cli) type Told<F> = Outcome<Planned<F>, RunReport>;

/// What an operation would do, and what it is done with.
#[derive(Debug)]
pub(in crate::cli) struct Planned<F> {
    proposal: Proposal<F>,
    keys: Keys,
    logins: BTreeMap<ServerName, Login>,
}

impl<F> Planned<F> {
    fn view<'a>(&'a self, inventory: &'a Inventory) -> PlanView<'a> {
        let plan = self.proposal.plan.as_ref().map_err(|refused| refused.diagnostics.as_slice());
        PlanView { topology: inventory.topology.name(), plan, logins: &self.logins }
    }
}

impl<F> Told<F> {
    /// Returns the plan, or what refused it.
    pub(in crate::cli) fn plan(&self) -> Result<&Plan, &Failure> {
        self.proposal.proposal.plan.as_ref()
    }

    /// Returns what was found out beside the plan.
    pub(in crate::cli) fn facts(&self) -> &F {
        &self.proposal.proposal.facts
    }

    /// Returns the plan as it is shown.
    pub(in crate::cli) fn view<'a>(&'a self, inventory: &'a Inventory) -> PlanView<'a> {
        self.proposal.view(inventory)
    }
}

/// Returns the end that refusals mean: a server that could not be looked at is unreachable, not refused.
pub(in crate::cli) fn refused(refusals: Vec<Diagnostic>) -> Failure {
    let unreachable = refusals.iter().any(|refusal| refusal.code == Code::Unreachable);
    let kind = if unreachable { FailureKind::Unreachable } else { FailureKind::Refused };
    Failure::all(kind, refusals)
}

/// Runs an operation from its first look to its answer, which `tell` writes: the plan or why there is none where it only shows,
/// and else what was done.
pub(in crate::cli) fn run<O: Operation>(
    operation: &O,
    inventory: &Inventory,
    ui: &Ui,
    tell: impl FnOnce(&PlanView<'_>, &Told<O::Facts>) -> Result<(), Failure>,
) -> Result<Told<O::Facts>, Failure> {
    super::perform(operation, inventory, ui, |told| tell(&told.view(inventory), told))
}

impl<O: Operation> super::Task for O {
    const NAME: &'static str = O::NAME;
    type Proposal = Planned<O::Facts>;
    type Report = RunReport;

    fn is_dry_run(&self) -> bool {
        self.is_dry_run()
    }

    async fn prepare(&self, inventory: &Inventory, ui: &Ui) -> Result<(), Failure> {
        Operation::prepare(self, inventory, ui).await
    }

    fn wish(&self) -> Wish {
        self.wish()
    }

    fn away(&self) -> Away {
        Away { off: self.attested().into_keys().collect(), left_out: self.left_out() }
    }

    fn require(&self, session: &Session<'_>) -> Result<(), Failure> {
        self.require(session)
    }

    async fn propose(&self, session: &mut Session<'_>) -> Result<Planned<O::Facts>, Failure> {
        let keys = self.keys(session)?;
        let proposal = self.propose(session, &keys).await?;
        Ok(Planned { proposal, keys, logins: session.logins() })
    }

    async fn next(
        &self,
        planned: &Planned<O::Facts>,
        session: &Session<'_>,
        ui: &Ui,
        begun: Instant,
    ) -> Result<Next<RunReport>, Failure> {
        let plan = match &planned.proposal.plan {
            Err(refused) => return Ok(Next::Tell(Some(refused.clone()))),
            Ok(_) if self.is_dry_run() => return Ok(Next::Tell(None)),
            Ok(plan) => plan,
        };
        ui.diagnostics(&plan.notes);
        let missing: Vec<Diagnostic> = hooks(plan).filter_map(not_executable).collect();
        if !missing.is_empty() {
            return Err(Failure::all(FailureKind::Refused, missing));
        }
        if !plan.changes() {
            give_back(session, plan).await;
            confirm(self, session, &planned.keys).await?;
            self.done(session, &planned.keys)?;
            let topology = session.inventory.topology.name();
            return Ok(Next::Unchanged(RunReport::unchanged(topology, begun.elapsed().as_secs_f64())));
        }
        if let Some(text) = self.explanation(&planned.proposal, &planned.view(session.inventory), ui) {
            ui.explain(&text);
        }
        Ok(Next::Ask(self.question(plan, &planned.proposal.facts)))
    }

    async fn carry_out(
        &self,
        planned: &Planned<O::Facts>,
        session: &mut Session<'_>,
        at: At<'_>,
    ) -> Result<Done<RunReport>, Failure> {
        let report = apply(self, session, planned, at).await?;
        // What was done is told, even where it cannot be written down.
        let written = if report.failure.is_none() { self.done(session, &planned.keys) } else { Ok(()) };
        let (warnings, failure) = (report.warnings.clone(), report.failure.clone().or(written.err()));
        Ok(Done { report, warnings, failure })
    }
}

/// Carries a plan out. What ended it early stands in the report.
async fn apply<O: Operation>(
    operation: &O,
    session: &Session<'_>,
    planned: &Planned<O::Facts>,
    at: At<'_>,
) -> Result<RunReport, Failure> {
    let At { ui, interrupts, begun } = at;
    let Planned { proposal, keys, logins } = planned;
    let plan = proposal.plan.as_ref().map_err(Clone::clone)?;
    let sessions = session.sessions(keys)?;
    let ways = ways::require(&sessions, plan, &session.observation);
    ui.diagnostics(&interrupts.unless_stopped("left before the first step; nothing was changed", ways).await?);
    // Before anything is done with them: servers that got a certificate of an authority that was lost would be nobody's.
    let saved = match keys {
        Keys::Held(secrets) => session.state.save_secrets(secrets),
        Keys::Elsewhere(_) => Ok(()),
    };
    saved
        .and_then(|()| operation.keep(&proposal.facts, &session.state))
        .map_err(|error| Failure::one(FailureKind::StepFailed, error.diagnostic()))?;
    give_back(session, plan).await;
    let progress = Progress::start(ui);
    let events = progress.events();
    let run = Run {
        plan,
        observation: &session.observation,
        hosts: &session.hosts,
        logins,
        sessions: &sessions,
        state: &session.state,
        holder: lock::Holder {
            run: proposal.run.clone(),
            operation: O::NAME.to_owned(),
            owner: operator(),
            pid: std::process::id(),
            since: format!("{:.0}", Timestamp::now()),
            state: state_identity(&session.state),
        },
        attested: operation.attested().into_iter().collect(),
        events: &events,
        begun,
    };
    let report = run.carry_out(async || interrupts.next().await).await;
    drop(events);
    progress.finish();
    report
}

/// Gives back what a dead run of this state directory left locked, where the plan does not lock it itself.
async fn give_back(session: &Session<'_>, plan: &Plan) {
    let state = state_identity(&session.state);
    lock::release_left(&session.hosts, &session.observation, &state, |server| plan.touches(server)).await;
}

/// Proves links although nothing was changed: the second and last round trip.
async fn confirm<O: Operation>(operation: &O, session: &Session<'_>, keys: &Keys) -> Result<(), Failure> {
    let state = State::of(&session.inventory.topology, &session.observation);
    let Some(primary) = state.primary() else { return Ok(()) };
    let mut links = state.topology.links(primary);
    let has_links = !links.is_empty();
    links.retain(|link| operation.confirms(&state, link));
    // Whoever confirms none of them may have no role any more to write a row with.
    if has_links && links.is_empty() {
        return Ok(());
    }
    let sessions = session.sessions(keys)?;
    prove::prove_links(&sessions, primary, &links, prove::OLD_LINK, |_| ())
        .await
        .map_err(|diagnostic| Failure::one(FailureKind::Unhealthy, *diagnostic))
}

/// The operator's programs that a plan may run.
fn hooks(plan: &Plan) -> impl Iterator<Item = &Hook> {
    plan.steps.iter().flat_map(|planned| match &planned.step.action {
        Action::Hook(hook) => vec![hook],
        Action::HandOver(hand_over) => hand_over.before.iter().chain(&hand_over.undone).collect(),
        _ => Vec::new(),
    })
}

/// Says why a hook could not be run, before anything is begun: behind a promotion it would be too late.
fn not_executable(hook: &Hook) -> Option<Diagnostic> {
    let why = match std::fs::metadata(&hook.program) {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => return None,
        Ok(_) => "It is no file that may be executed.".to_owned(),
        Err(error) => format!("{error}."),
    };
    let message = format!("hook {} cannot be run", hook.program.display());
    Some(
        Diagnostic::error(Code::HookMissing, message)
            .detail(why)
            .hint("Correct hooks in the inventory, or leave it out."),
    )
}

//! What every command that changes servers has in common: look, judge, plan, show, ask, carry out. It decides nothing:
//! what there is to decide is in the operation.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use jiff::Timestamp;

use super::block_on;
use super::exit;
use super::exit::Exit;
use super::interrupts::Interrupts;
use super::inventory::Inventory;
use super::session::Away;
use super::session::Session;
use super::session::hold;
use super::session::state_identity;
use super::session::to_plan;
use super::ways;
use crate::apply::Run;
use crate::apply::RunReport;
use crate::apply::lock;
use crate::diagnostic::Code;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::judge::State;
use crate::model::argv::Login;
use crate::model::name::ServerName;
use crate::model::topology::Link;
use crate::observe::probe::Wish;
use crate::plan::Action;
use crate::plan::Hook;
use crate::plan::Plan;
use crate::plan::survey::authority::Keys;
use crate::prove;
use crate::state::StateDir;
use crate::state::StateError;
use crate::state::journal::operator;
use crate::ui::Progress;
use crate::ui::Ui;
use crate::ui::ask;
use crate::ui::ask::Question;
use crate::ui::plan;
use crate::ui::plan::PlanView;

/// One kind of change: what it looks at, plans and asks.
pub(super) trait Operation {
    /// Its name in locks and journal.
    const NAME: &'static str;
    /// What it found out beside its plan.
    type Facts;

    /// Says whether it shows what it would do, and changes nothing.
    fn is_dry_run(&self) -> bool;

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

    /// Says whether a link is proven where nothing has to be changed: that an earlier run could not prove it is no reason to call it
    /// well. One that does not stream is told by whoever judges servers.
    fn confirms(&self, state: &State<'_>, link: &Link) -> bool {
        state.sends_to(&link.upstream, &link.standby)
    }
}

/// What an operation would do.
#[derive(Debug)]
pub(super) struct Proposal<F> {
    /// The plan, or every reason against it.
    pub(super) plan: Result<Plan, Failure>,
    /// What was found out beside it.
    pub(super) facts: F,
    /// The run's name.
    pub(super) run: String,
}

/// What became of an operation.
#[derive(Debug)]
pub(super) struct Told<F> {
    pub(super) proposal: Proposal<F>,
    pub(super) logins: BTreeMap<ServerName, Login>,
    /// None where nothing was begun: it was refused, or only to be shown.
    pub(super) report: Option<RunReport>,
    /// Why it is not done.
    pub(super) failure: Option<Failure>,
}

impl<F> Told<F> {
    /// Returns the plan as it is shown.
    pub(super) fn view<'a>(&'a self, inventory: &'a Inventory) -> PlanView<'a> {
        let plan = self.proposal.plan.as_ref().map_err(|refused| refused.diagnostics.as_slice());
        PlanView { topology: inventory.topology.name(), plan, logins: &self.logins }
    }

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

/// Returns the end that refusals mean: a server that could not be looked at is unreachable, not refused.
pub(super) fn refused(refusals: Vec<Diagnostic>) -> Failure {
    let unreachable = refusals.iter().any(|refusal| refusal.code == Code::Unreachable);
    let kind = if unreachable { FailureKind::Unreachable } else { FailureKind::Refused };
    Failure::all(kind, refusals)
}

/// Runs an operation from its first look to its answer, which `tell` writes: the plan or why there is none where it only shows,
/// and else what was done.
pub(super) fn run<O: Operation>(
    operation: &O,
    inventory: &Inventory,
    ui: &Ui,
    tell: impl FnOnce(&PlanView<'_>, &Told<O::Facts>) -> Result<(), Failure>,
) -> Result<Told<O::Facts>, Failure> {
    let begun = Instant::now();
    let told = opened(operation, inventory, ui, async |session: &mut Session<'_>, progress: Progress| {
        let keys = operation.keys(session)?;
        let proposed = propose(operation, session, &keys).await;
        progress.finish();
        carry_out(operation, session, &keys, proposed?, ui, begun).await
    })?;
    match (&told.failure, &told.report) {
        (Some(refusal), None) if !operation.is_dry_run() => return Err(refusal.clone()),
        _ => tell(&told.view(inventory), &told)?,
    }
    told.tell_failure(ui);
    Ok(told)
}

/// Takes the state directory and connects for an operation, lets it work, and gives both back in any case.
pub(super) fn opened<O: Operation, T>(
    operation: &O,
    inventory: &Inventory,
    ui: &Ui,
    work: impl AsyncFnOnce(&mut Session<'_>, Progress) -> Result<T, Failure>,
) -> Result<T, Failure> {
    block_on(async {
        let progress = Progress::start(ui);
        let local = hold(inventory, O::NAME, operation.is_dry_run())?;
        let away = Away { off: operation.attested().into_keys().collect(), left_out: operation.left_out() };
        let mut session = Session::open_despite(inventory, operation.wish(), progress.events(), away).await?;
        let result = work(&mut session, progress).await;
        session.close().await;
        drop(local);
        result
    })
}

/// Judges and plans. It changes nothing.
pub(super) async fn propose<O: Operation>(
    operation: &O,
    session: &mut Session<'_>,
    keys: &Keys,
) -> Result<Proposal<O::Facts>, Failure> {
    operation.require(session)?;
    if !operation.is_dry_run() {
        lock::refuse_held(&session.observation, &state_identity(&session.state))?;
    }
    operation.propose(session, keys).await
}

/// Shows what was proposed, asks, and does it; nothing of that where it was refused, or is only to be shown.
pub(super) async fn carry_out<O: Operation>(
    operation: &O,
    session: &Session<'_>,
    keys: &Keys,
    proposal: Proposal<O::Facts>,
    ui: &Ui,
    begun: Instant,
) -> Result<Told<O::Facts>, Failure> {
    let failure = proposal.plan.as_ref().err().cloned();
    let mut told = Told { proposal, logins: session.logins(), report: None, failure };
    let (Ok(plan), false) = (&told.proposal.plan, operation.is_dry_run()) else { return Ok(told) };
    ui.diagnostics(&plan.notes);
    let missing: Vec<Diagnostic> = hooks(plan).filter_map(not_executable).collect();
    if !missing.is_empty() {
        return Err(Failure::all(FailureKind::Refused, missing));
    }
    if !plan.changes() {
        give_back(session, plan).await;
        confirm(operation, session, keys).await?;
        let topology = session.inventory.topology.name();
        told.report = Some(RunReport::unchanged(topology, begun.elapsed().as_secs_f64()));
        return Ok(told);
    }
    if let Some(text) = operation.explanation(&told.proposal, &told.view(session.inventory), ui) {
        ui.explain(&text);
    }
    ask::consent(ui, &operation.question(plan, &told.proposal.facts))?;
    let report = apply(operation, session, keys, &told, plan, ui, begun).await?;
    ui.diagnostics(&report.warnings);
    told.failure = report.failure.clone();
    told.report = Some(report);
    Ok(told)
}

/// Proves links although nothing was changed: the second and last round trip.
async fn confirm<O: Operation>(operation: &O, session: &Session<'_>, keys: &Keys) -> Result<(), Failure> {
    let state = State::of(&session.inventory.topology, &session.observation);
    let Some(primary) = state.primary() else { return Ok(()) };
    let mut links = state.topology.links(primary);
    links.retain(|link| operation.confirms(&state, link));
    let sessions = session.sessions(keys)?;
    prove::prove_links(&sessions, primary, &links, prove::OLD_LINK, |_| ())
        .await
        .map_err(|diagnostic| Failure::one(FailureKind::Unhealthy, *diagnostic))
}

/// Carries a plan out. What ended it early stands in the report.
async fn apply<O: Operation>(
    operation: &O,
    session: &Session<'_>,
    keys: &Keys,
    told: &Told<O::Facts>,
    plan: &Plan,
    ui: &Ui,
    begun: Instant,
) -> Result<RunReport, Failure> {
    let sessions = session.sessions(keys)?;
    ui.diagnostics(&ways::require(&sessions, plan, &session.observation).await?);
    // Before anything is done with them: servers that got a certificate of an authority that was lost would be nobody's.
    let saved = match keys {
        Keys::Held(secrets) => session.state.save_secrets(secrets),
        Keys::Elsewhere(_) => Ok(()),
    };
    saved
        .and_then(|()| operation.keep(&told.proposal.facts, &session.state))
        .map_err(|error| Failure::one(FailureKind::StepFailed, error.diagnostic()))?;
    give_back(session, plan).await;
    let progress = Progress::start(ui);
    let events = progress.events();
    let run = Run {
        plan,
        observation: &session.observation,
        hosts: &session.hosts,
        logins: &told.logins,
        sessions: &sessions,
        state: &session.state,
        holder: lock::Holder {
            run: told.proposal.run.clone(),
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
    let mut interrupts = Interrupts::listen()?;
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

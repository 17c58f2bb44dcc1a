//! `bootstrap`: observe, plan, show, ask, apply.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;

use super::exit::Exit;
use super::globals::Globals;
use super::plan::tell_plan;
use super::runner::{Operation, Proposal, Told};
use super::session::Session;
use super::{inventory, runner};
use crate::apply::passwords::Passwords;
use crate::diagnostic::{Diagnostic, Failure, FailureKind};
use crate::judge::State;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::secret::Secret;
use crate::model::topology::{Link, Topology};
use crate::plan::operation::reseed;
use crate::plan::survey::authority;
use crate::plan::survey::authority::Keys;
use crate::plan::survey::consent::passed_over;
use crate::plan::{Consent, Material, Plan, plan_bootstrap};
use crate::state::{StateDir, StateError};
use crate::ui::ask::{Gravity, Question};
use crate::ui::json::RunDocument;
use crate::ui::plan::PlanView;
use crate::ui::{Ui, plan, report};

/// Make the servers as the inventory says
///
/// Sets up the primary, takes base backups, starts the standbys. Also adopts an existing primary, adds a standby, applies
/// changed settings, and finishes a run that was interrupted. A second run changes nothing. No data directory is ever
/// deleted.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead bootstrap                        show the plan, ask, carry it out
  pgstead bootstrap --dry-run              show the plan alone
  pgstead bootstrap --yes --allow-restart  also restart a serving primary
  pgstead bootstrap --without c            server c is down for now: work on the others")]
pub(super) struct BootstrapArgs {
    /// Consent to the restart of a primary that serves clients; --yes does not cover it
    #[arg(long)]
    allow_restart: bool,
    /// Make a new CA although servers use one that this machine does not hold: where that is lost for good
    #[arg(long)]
    new_authority: bool,
    #[command(flatten)]
    without: WithoutArgs,
    /// Show the plan and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// The servers that are left out.
#[derive(Debug, Args)]
pub(super) struct WithoutArgs {
    /// Leave a server out that is down for now: neither look at it nor change it (repeatable)
    #[arg(long, value_name = "SERVER")]
    without: Vec<String>,
}

impl WithoutArgs {
    /// Finds them in the inventory.
    ///
    /// # Errors
    /// There is no such server.
    pub(super) fn find(&self, topology: &Topology) -> Result<BTreeSet<ServerName>, Failure> {
        let refused = |diagnostic: Box<_>| Failure::one(FailureKind::Refused, *diagnostic);
        self.without.iter().map(|word| reseed::find(topology, word).cloned().map_err(refused)).collect()
    }
}

pub(super) fn run(globals: &Globals, args: &BootstrapArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let consent = Consent { allow_restart: args.allow_restart, new_authority: args.new_authority };
    let left_out = args.without.find(&inventory.topology)?;
    let bootstrap = Bootstrap { is_dry_run: args.dry_run, consent, left_out };
    Ok(runner::run(&bootstrap, &inventory, ui, |view, told| tell(view, told, ui))?.exit())
}

/// The servers become as the inventory says.
pub(super) struct Bootstrap {
    pub(super) is_dry_run: bool,
    pub(super) consent: Consent,
    /// The servers that are neither looked at nor changed.
    pub(super) left_out: BTreeSet<ServerName>,
}

impl Operation for Bootstrap {
    const NAME: &'static str = "bootstrap";
    /// The passwords that were made for roles of applications.
    type Facts = BTreeMap<String, Secret>;

    fn is_dry_run(&self) -> bool {
        self.is_dry_run
    }

    fn left_out(&self) -> BTreeSet<ServerName> {
        self.left_out.clone()
    }

    fn keys(&self, session: &Session<'_>) -> Result<Keys, Failure> {
        if self.consent.new_authority { session.keys_of_new_authority() } else { session.keys() }
    }

    fn keep(&self, made: &BTreeMap<String, Secret>, state: &StateDir) -> Result<(), StateError> {
        save_passwords(made, state)
    }

    async fn propose(&self, session: &mut Session<'_>, keys: &Keys) -> Result<Proposal<Self::Facts>, Failure> {
        let mut authorities: Vec<String> = Vec::new();
        let mut proposal = propose_with(session, keys, self.consent, |topology, observation, material| {
            authorities = material.authorities().into_iter().map(str::to_owned).collect();
            plan_bootstrap(topology, observation, material, self.consent)
        })
        .await?;
        let topology = &session.inventory.topology;
        if let (Ok(plan), true) = (&mut proposal.plan, self.consent.new_authority) {
            let before = match (session.keys()?, keys) {
                (Keys::Elsewhere(before), _) => Some(before),
                // A run that was interrupted is finished: some servers have certificates of the former CA still.
                (Keys::Held(_), Keys::Held(_)) => {
                    let authorities: Vec<&str> = authorities.iter().map(String::as_str).collect();
                    authority::beside(topology, &session.observation, &authorities)
                }
                (Keys::Held(_), Keys::Elsewhere(_)) => None,
            };
            if let Some(before) = before {
                plan.notes.push(authority::replaced(topology.name(), &before, session.held_authority()?.as_deref()));
            }
        }
        Ok(proposal)
    }

    fn explanation(&self, _: &Proposal<Self::Facts>, view: &PlanView<'_>, ui: &Ui) -> Option<String> {
        // With --yes the progress names every step, and "plan" has shown the rest.
        match (ui.options.yes, ui.can_ask) {
            (true, _) if !ui.err.whole => None,
            (false, false) if !ui.err.whole => Some(plan::render_steps(view, ui.err)),
            _ => Some(plan::render(view, ui.err)),
        }
    }

    fn question(&self, plan: &Plan, _: &Self::Facts) -> Question {
        let servers: BTreeSet<_> = plan.steps.iter().filter_map(|p| p.step.server.as_ref()).collect();
        let change = format!("Carry out {} steps on {} servers", plan.steps.len(), servers.len());
        Question { gravity: Gravity::of(plan), change }
    }

    /// Every link is to stream, but for those of a server that is passed over.
    fn confirms(&self, state: &State<'_>, link: &Link) -> bool {
        let passed_over = passed_over(state.topology, state.observation, self.consent);
        ![&link.upstream, &link.standby].iter().any(|end| passed_over.contains(end))
    }
}

/// Looks at what a bootstrap must know besides, and plans it.
///
/// # Errors
/// What ended it before there was anything to show.
pub(super) async fn propose_with(
    session: &mut Session<'_>,
    keys: &Keys,
    consent: Consent,
    plan: impl FnOnce(&Topology, &Observation, &Material) -> Result<Plan, Vec<Diagnostic>>,
) -> Result<Proposal<BTreeMap<String, Secret>>, Failure> {
    session.compare_histories().await;
    session.look_elsewhere(consent).await;
    let passwords = session.passwords().await;
    let unread = passwords.as_ref().err().cloned().unwrap_or_default();
    let Passwords { known, made, notes } = passwords.unwrap_or_default();
    let material = Material { passwords: known, ..session.material(keys)? };
    let mut plan = plan(&session.inventory.topology, &session.observation, &material);
    if !unread.is_empty() {
        plan = Err(plan.err().unwrap_or_default().into_iter().chain(unread).collect());
    }
    if let Ok(plan) = &mut plan {
        plan.notes.extend(notes);
    }
    Ok(Proposal { plan: plan.map_err(runner::refused), facts: made, run: material.run })
}

/// Keeps passwords that were made for roles of applications.
///
/// # Errors
/// They cannot be written.
pub(super) fn save_passwords(made: &BTreeMap<String, Secret>, state: &StateDir) -> Result<(), StateError> {
    made.iter().try_for_each(|(role, password)| state.save_role_password(role, password))
}

/// Tells the plan, or what was done.
pub(super) fn tell(view: &PlanView<'_>, told: &Told<BTreeMap<String, Secret>>, ui: &Ui) -> Result<(), Failure> {
    match &told.report {
        None => tell_plan(view, ui),
        Some(report) => ui.answer(|look| report::render_run(report, look), || RunDocument::new(report)).map(drop),
    }
}

//! `failover`: look, fence, ask, promote.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::exit::Exit;
use super::globals::Globals;
use super::runner::{Operation, Proposal};
use super::session::Session;
use super::{inventory, role_change, runner};
use crate::diagnostic::Failure;
use crate::model::name::ServerName;
use crate::observe::probe::Wish;
use crate::plan::operation::failover;
use crate::plan::operation::failover::Request;
use crate::plan::survey::authority::Keys;
use crate::plan::{Plan, plan_failover};
use crate::ui::Ui;
use crate::ui::ask::{Gravity, Question};
use crate::ui::role_change::View;

/// How long an instance that starts or stops is waited for, as after an interrupted run. Not long: clients wait, and a former
/// primary that is still about to come up is ended by the fence in any case.
const SETTLE: Duration = Duration::from_secs(1);

/// Promote a standby after its primary has died
///
/// The former primary is fenced first: its server must answer over SSH, its instance must not run, and before anybody is
/// promoted nothing starts it any more. Where its server cannot be reached, nothing proves that it is dead: that is refused,
/// and what would prove it is said. Where you know that it is off and stays off, say so with --attest-fenced: it is written
/// down, and taken only where no other server reaches it either. The successor must be the standby that has received most. What it lacks is read from the
/// former primary's WAL and shown; unless that is nothing, it needs --accept-loss. The other standbys follow, and the former
/// primary comes back by "pgstead reseed". A primary that runs is changed by "pgstead switchover".
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead failover --to b --dry-run       say what would be lost, and what would be done
  pgstead failover --to b                 show it, ask, promote b
  pgstead failover --to b --accept-loss   what only the former primary has may be missing
  pgstead failover --to b --attest-fenced a --reason 'the site burns' --accept-loss
                                          its server cannot be reached, and you answer for it that it is off")]
pub(super) struct FailoverArgs {
    /// The standby that becomes the primary
    #[arg(long, value_name = "SERVER")]
    to: String,
    /// Accept losing transactions that exist only on the old primary; not implied by --yes
    #[arg(long)]
    accept_loss: bool,
    /// Confirm that this unreachable server is off and stays off; may be given for several
    #[arg(long, value_name = "SERVER", requires = "reason")]
    attest_fenced: Vec<String>,
    /// How you know that; it is written into the journal
    #[arg(long, value_name = "TEXT", requires = "attest_fenced", value_parser = NonEmptyStringValueParser::new())]
    reason: Option<String>,
    /// Show the plan and what would be lost, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(globals: &Globals, args: &FailoverArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let find = |word: &String| inventory.server(word).cloned();
    let failover = Failover {
        to: find(&args.to)?,
        accept_loss: args.accept_loss,
        attested: args.attest_fenced.iter().map(find).collect::<Result<_, _>>()?,
        reason: args.reason.clone().unwrap_or_default(),
        is_dry_run: args.dry_run,
    };
    let told = runner::run(&failover, &inventory, ui, |view, told| role_change::tell(view, told, ui))?;
    Ok(told.exit())
}

/// Somebody takes the place of a dead primary.
struct Failover {
    to: ServerName,
    accept_loss: bool,
    /// The servers for which the operator answers that they are off.
    attested: BTreeSet<ServerName>,
    /// How the operator knows.
    reason: String,
    is_dry_run: bool,
}

impl Operation for Failover {
    const NAME: &'static str = "failover";
    type Facts = Option<View>;

    fn is_dry_run(&self) -> bool {
        self.is_dry_run
    }

    /// What others see of a server that is dead, or is said to be off, is looked at before that is believed.
    fn wish(&self) -> Wish {
        Wish { dials: true, settle: SETTLE, ..Wish::default() }
    }

    fn attested(&self) -> BTreeMap<ServerName, String> {
        self.attested.iter().map(|name| (name.clone(), self.reason.clone())).collect()
    }

    /// A server that cannot be reached is a fact to be judged.
    fn require(&self, _: &Session<'_>) -> Result<(), Failure> {
        Ok(())
    }

    async fn propose(&self, session: &mut Session<'_>, keys: &Keys) -> Result<Proposal<Option<View>>, Failure> {
        let request = Request { to: &self.to, accept_loss: self.accept_loss, attested: &self.attested };
        let topology = &session.inventory.topology;
        let parting = failover::parting(topology, &session.observation, request);
        session.compare_for_failover(request).await;
        let lost = match &parting {
            Some(parting) => session.lost_by_failover(parting, &self.to).await,
            None => None,
        };
        let material = session.material_of_role_change(keys)?;
        let planned = plan_failover(topology, &session.observation, &material, request, lost.as_ref());
        let run = material.run;
        Ok(match planned {
            Ok(failover::Failover { from, to, loss, plan }) => {
                Proposal { plan: Ok(plan), facts: Some(View { from, to, lost: loss }), run }
            }
            Err(refusals) => Proposal { plan: Err(runner::refused(refusals)), facts: None, run },
        })
    }

    fn question(&self, plan: &Plan, view: &Option<View>) -> Question {
        let to = &self.to;
        let change = match view.as_ref().and_then(|view| view.from.as_ref()) {
            Some(from) if self.attested.contains(from) => format!("Promote \"{to}\" in place of \"{from}\""),
            Some(from) => format!("Fence \"{from}\" and promote \"{to}\""),
            None => format!("Finish the failover to \"{to}\""),
        };
        Question { gravity: Gravity::of(plan), change }
    }
}

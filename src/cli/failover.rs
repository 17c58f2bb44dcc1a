//! `failover`: look, fence, ask, promote.

use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::block_on;
use super::exit::Exit;
use super::globals::Globals;
use super::inventory;
use super::role_change::How;
use super::role_change::RoleChange;
use super::role_change::carry_out;
use super::session::Session;
use super::session::hold;
use super::session::state_identity;
use crate::apply::lock;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::observe::probe::Wish;
use crate::plan::failover;
use crate::plan::failover::Failover;
use crate::plan::failover::Request;
use crate::plan::plan_failover;
use crate::plan::reseed;
use crate::ui::Progress;
use crate::ui::Ui;
use crate::ui::ask::Gravity;
use crate::ui::ask::Question;
use crate::ui::role_change::View;

/// How long an instance that starts or stops is waited for, as after an interrupted run. Not long: clients wait, and a former
/// primary that is still about to come up is ended by the fence in any case.
const SETTLE: Duration = Duration::from_secs(1);

/// The name of this operation in locks and journal.
const OPERATION: &str = "failover";

/// Make a standby the primary whose primary is dead
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
    /// What only the former primary has may be missing from then on; --yes does not cover it
    #[arg(long)]
    accept_loss: bool,
    /// You answer for it that this server, which cannot be reached, is off and stays off; may be given for several
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
    let find = |name: &str| {
        reseed::find(&inventory.topology, name).map_err(|diagnostic| Failure::one(FailureKind::Refused, *diagnostic))
    };
    let to = find(&args.to)?;
    let attested = args.attest_fenced.iter().map(|name| find(name).cloned()).collect::<Result<BTreeSet<_>, _>>()?;
    let request = Request { to, accept_loss: args.accept_loss, attested: &attested };
    // What others see of a server that is dead, or is said to be off, is looked at before that is believed.
    let wish = Wish { dials: true, settle: SETTLE, ..Wish::default() };
    let begun = Instant::now();
    block_on(async {
        let progress = Progress::start(ui);
        let events = progress.events();
        let local = hold(&inventory, OPERATION, args.dry_run)?;
        let mut session = Session::open_despite(&inventory, wish, events.clone(), &attested).await?;
        progress.finish();
        let result = over(&mut session, request, args, ui, begun).await;
        session.close().await;
        drop(local);
        result
    })
}

/// Plans over open connections, and carries out. A server that cannot be reached is a fact to be judged.
async fn over(
    session: &mut Session<'_>,
    request: Request<'_>,
    args: &FailoverArgs,
    ui: &Ui,
    begun: Instant,
) -> Result<Exit, Failure> {
    if !args.dry_run {
        lock::refuse_held(&session.observation, &state_identity(&session.state))?;
    }
    let topology = &session.inventory.topology;
    let parting = failover::parting(topology, &session.observation, request);
    session.compare_for_failover(request).await;
    let lost = match &parting {
        Some(parting) => session.lost_by_failover(parting, request.to).await,
        None => None,
    };
    let keys = session.keys()?;
    let material = session.material(&keys)?;
    let attested = request.attested;
    let planned = plan_failover(topology, &session.observation, &material, request, lost.as_ref());
    let planned = planned.map(|Failover { from, to, loss, plan }| {
        let change = match &from {
            Some(from) if attested.contains(from) => format!("Promote \"{to}\" in place of \"{from}\""),
            Some(from) => format!("Fence \"{from}\" and promote \"{to}\""),
            None => format!("Finish the failover to \"{to}\""),
        };
        let question = Question { gravity: Gravity::of(&plan), change };
        RoleChange { view: View { from, to, lost: loss }, plan, material, question }
    });
    let reason = args.reason.clone().unwrap_or_default();
    let attested = attested.iter().map(|name| (name.clone(), reason.clone())).collect();
    let how = How { operation: OPERATION, is_dry_run: args.dry_run, begun, attested };
    carry_out(session, &keys, planned, how, ui).await
}

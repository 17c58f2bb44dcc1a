//! `switchover`: look, judge, show, ask, hand over; or take it back.

use std::time::Instant;

use clap::ArgGroup;
use clap::Args;

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
use super::session::to_plan;
use crate::apply::lock;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::diagnostic::Severity;
use crate::model::name::ServerName;
use crate::plan::Action;
use crate::plan::Material;
use crate::plan::Plan;
use crate::plan::authority::Keys;
use crate::plan::plan_abort;
use crate::plan::plan_switchover;
use crate::plan::reseed;
use crate::plan::switchover;
use crate::plan::switchover::Switchover;
use crate::role_change::judge;
use crate::role_change::selection;
use crate::ui::Progress;
use crate::ui::Ui;
use crate::ui::ask::Gravity;
use crate::ui::ask::Question;
use crate::ui::role_change::View;

/// The name of this operation in locks and journal.
const OPERATION: &str = "switchover";

/// Make a standby the primary, and the primary a standby, with nothing lost
///
/// The primary shuts down in order, and its successor is promoted when it has replayed the shutdown checkpoint, and not before.
/// The former primary then follows it, and so do the other standbys; none of them is copied anew. Nobody can write for a
/// moment, which is measured. What would stand in the way is looked for first: a link that does not stream, a way back that is
/// closed, an archive that is behind. Where the shutdown checkpoint does not arrive, the primary is started again. An
/// interrupted switchover is finished by the same command; until somebody is promoted, --abort takes it back.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead switchover --to b --dry-run    show what would be done, and what stands in the way
  pgstead switchover --to b              show it, ask, hand over from the primary to b
  pgstead switchover --to a              the way back is the same
  pgstead switchover --to-site remote    the standby there that is best placed becomes the primary
  pgstead switchover --abort             take back one that was interrupted before the promotion")]
#[command(group = ArgGroup::new("target").required(true))]
pub(super) struct SwitchoverArgs {
    /// The server that becomes the primary
    #[arg(long, value_name = "SERVER", group = "target")]
    to: Option<String>,
    /// The site of which a standby becomes the primary
    #[arg(long, value_name = "SITE", group = "target")]
    to_site: Option<String>,
    /// Take back a switchover that was interrupted before the promotion
    #[arg(long, group = "target")]
    abort: bool,
    /// Show the plan and what stands in its way, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(globals: &Globals, args: &SwitchoverArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    if let Some(word) = &args.to {
        reseed::find(&inventory.topology, word)
            .map_err(|diagnostic| Failure::one(FailureKind::Refused, *diagnostic))?;
    }
    let begun = Instant::now();
    block_on(async {
        let progress = Progress::start(ui);
        let events = progress.events();
        let local = hold(&inventory, OPERATION, args.dry_run)?;
        let mut session = Session::open(&inventory, to_plan(), events.clone()).await?;
        let result = over(&mut session, args, ui, progress, begun).await;
        session.close().await;
        drop(local);
        result
    })
}

/// Plans over open connections, shows, asks, carries out.
async fn over(
    session: &mut Session<'_>,
    args: &SwitchoverArgs,
    ui: &Ui,
    progress: Progress,
    begun: Instant,
) -> Result<Exit, Failure> {
    // A planned change needs every server: one that was not looked at may be a second primary.
    session.require_all()?;
    if !args.dry_run {
        lock::refuse_held(&session.observation, &state_identity(&session.state))?;
    }
    let keys = session.keys()?;
    let planned = planned(session, &keys, args).await?;
    progress.finish();
    let planned = planned.map(|(Switchover { from, to, plan }, material)| {
        let view = View { from, to, lost: None };
        RoleChange { question: question(&view, &plan, args.abort), view, plan, material }
    });
    let how = How { operation: OPERATION, is_dry_run: args.dry_run, begun, attested: Vec::new() };
    carry_out(session, &keys, planned, how, ui).await
}

/// What may be done, with the material that it takes; or every reason against it.
type Planned = Result<(Switchover, Material), Vec<Diagnostic>>;

/// Plans, and judges whether what is planned would go through.
async fn planned(session: &mut Session<'_>, keys: &Keys, args: &SwitchoverArgs) -> Result<Planned, Failure> {
    let topology = &session.inventory.topology;
    if args.abort {
        let material = session.material(keys)?;
        let planned = plan_abort(topology, &session.observation, &material);
        return Ok(planned.map(|planned| (planned, material)));
    }
    let to = match (&args.to, &args.to_site) {
        (_, Some(site)) => switchover::at_site(topology, &session.observation, site),
        (word, None) => reseed::find(topology, word.as_deref().unwrap_or_default()),
    };
    let to: &ServerName = to.map_err(|diagnostic| Failure::one(FailureKind::Refused, *diagnostic))?;
    session.compare_for_switchover(to).await;
    let material = session.material(keys)?;
    let mut planned = match plan_switchover(topology, &session.observation, &material, to) {
        Ok(planned) => planned,
        Err(refusals) => return Ok(Err(refusals)),
    };
    let begins = planned.plan.steps.iter().any(|planned| match &planned.step.action {
        Action::HandOver(hand_over) => {
            session.observation.server(&hand_over.from).is_some_and(|seen| seen.instance.known().is_some())
        }
        _ => false,
    });
    if let (Some(from), true) = (&planned.from, begins) {
        let report = session.check(Some(&selection(args.dry_run))).await?;
        let mut told = judge(report.findings, &session.observation, from, to);
        // An earlier run marked the primary; this one goes on from there.
        told.retain(|diagnostic| diagnostic.code != "switchover-unfinished");
        if told.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
            return Ok(Err(told));
        }
        planned.plan.notes.extend(told);
    }
    Ok(Ok((planned, material)))
}

fn question(view: &View, plan: &Plan, is_abort: bool) -> Question {
    let to = &view.to;
    let change = match &view.from {
        Some(_) if is_abort => format!("Take the switchover back and leave \"{to}\" the primary"),
        Some(from) => format!("Hand over from \"{from}\" to \"{to}\""),
        None => format!("Finish the switchover to \"{to}\""),
    };
    Question { gravity: Gravity::of(plan), change }
}

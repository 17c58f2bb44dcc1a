//! `switchover`: look, judge, show, ask, hand over; or take it back.

use clap::{ArgGroup, Args};

use super::exit::Exit;
use super::globals::Globals;
use super::runner::{Operation, Proposal};
use super::session::Session;
use super::{inventory, role_change, runner};
use crate::diagnostic::{Code, Failure, FailureKind, Severity};
use crate::judge::State;
use crate::model::name::ServerName;
use crate::plan::operation::switchover::Switchover;
use crate::plan::operation::{reseed, switchover};
use crate::plan::survey::authority::Keys;
use crate::plan::{Action, Plan, plan_abort, plan_switchover};
use crate::role_change::{judge, selection};
use crate::ui::Ui;
use crate::ui::ask::{Gravity, Question};
use crate::ui::role_change::View;

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
        inventory.server(word)?;
    }
    let told = runner::run(args, &inventory, ui, |view, told| role_change::tell(view, told, ui))?;
    Ok(told.exit())
}

/// A planned change needs every server: one that was not looked at may be a second primary.
impl Operation for SwitchoverArgs {
    const NAME: &'static str = "switchover";
    type Facts = Option<View>;

    fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Plans, and judges whether what is planned would go through.
    async fn propose(&self, session: &mut Session<'_>, keys: &Keys) -> Result<Proposal<Option<View>>, Failure> {
        let topology = &session.inventory.topology;
        let to = match (&self.to, &self.to_site) {
            _ if self.abort => None,
            (_, Some(site)) => Some(switchover::at_site(topology, &session.observation, site)),
            (word, None) => Some(reseed::find(topology, word.as_deref().unwrap_or_default())),
        };
        let to: Option<&ServerName> =
            to.transpose().map_err(|diagnostic| Failure::one(FailureKind::Refused, *diagnostic))?;
        if let Some(to) = to {
            session.compare_for_switchover(to).await;
        }
        let material = session.material_of_role_change(keys)?;
        let planned = match to {
            Some(to) => plan_switchover(topology, &session.observation, &material, to),
            None => plan_abort(topology, &session.observation, &material),
        };
        let run = material.run;
        let Switchover { from, to, mut plan } = match planned {
            Ok(planned) => planned,
            Err(refusals) => return Ok(Proposal { plan: Err(runner::refused(refusals)), facts: None, run }),
        };
        let view = View { from, to, lost: None };
        let state = State::of(topology, &session.observation);
        if let (Some(from), false) = (&view.from, self.abort || !begins(&state, &plan)) {
            let report = session.check(Some(&selection(self.dry_run))).await?;
            let mut told = judge(report.findings, &state, from, &view.to);
            // An earlier run marked the primary; this one goes on from there.
            told.retain(|diagnostic| diagnostic.code != Code::SwitchoverUnfinished);
            if told.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
                return Ok(Proposal { plan: Err(runner::refused(told)), facts: None, run });
            }
            plan.notes.extend(told);
        }
        Ok(Proposal { plan: Ok(plan), facts: Some(view), run })
    }

    fn question(&self, plan: &Plan, view: &Option<View>) -> Question {
        let change = match view {
            Some(View { from: Some(_), to, .. }) if self.abort => {
                format!("Take the switchover back and leave \"{to}\" the primary")
            }
            Some(View { from: Some(from), to, .. }) => format!("Hand over from \"{from}\" to \"{to}\""),
            Some(View { from: None, to, .. }) => format!("Finish the switchover to \"{to}\""),
            None => String::new(),
        };
        Question { gravity: Gravity::of(plan), change }
    }
}

/// Says whether a plan begins with the primary that serves, and does not finish what was begun before.
fn begins(state: &State<'_>, plan: &Plan) -> bool {
    plan.steps.iter().any(|planned| match &planned.step.action {
        Action::HandOver(hand_over) => state.instance(&hand_over.from).is_some(),
        _ => false,
    })
}

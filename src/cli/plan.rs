//! `plan`: what `bootstrap` would do. It changes nothing.

use clap::Args;

use super::bootstrap::{Bootstrap, WithoutArgs};
use super::exit::Exit;
use super::globals::Globals;
use super::{exit, inventory, runner};
use crate::diagnostic::Failure;
use crate::plan::{Consent, Plan};
use crate::ui::json::PlanDocument;
use crate::ui::plan::PlanView;
use crate::ui::{Ui, Verbosity, plan};

/// Show the steps and file changes that bootstrap would take
///
/// Observes the servers and changes nothing. With refusals it ends with code 5.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead plan                                     steps, diffs and commands
  pgstead plan -v | less                           every line of every file, script and command
  pgstead plan -q                                  one line per step
  pgstead plan --exit-code && echo nothing to do   end with code 8 when changes are pending
  pgstead plan --format json | jq .changes")]
pub(super) struct PlanArgs {
    /// End with code 8 when changes are pending
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    without: WithoutArgs,
}

pub(super) fn run(globals: &Globals, args: &PlanArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    // Consent changes nothing but whether a restart is refused; a plan shows the restart.
    let consent = Consent { allow_restart: true, new_authority: false };
    let left_out = args.without.find(&inventory.topology)?;
    let bootstrap = Bootstrap { is_dry_run: true, consent, left_out };
    let told = runner::run(&bootstrap, &inventory, ui, |view, _| tell_plan(view, ui))?;
    let is_pending = told.plan().is_ok_and(Plan::changes);
    Ok(if args.exit_code && is_pending { exit::CHANGES_PENDING } else { told.exit() })
}

/// Writes a plan, or why there is none.
pub(super) fn tell_plan(view: &PlanView<'_>, ui: &Ui) -> Result<(), Failure> {
    let steps_alone = ui.options.verbosity == Verbosity::Quiet;
    let text = |look| if steps_alone { plan::render_steps(view, look) } else { plan::render(view, look) };
    ui.answer(text, || PlanDocument::new(view)).map(drop)
}

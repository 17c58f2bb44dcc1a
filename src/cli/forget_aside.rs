//! `forget-aside`: removes one directory that was set aside, after proof that its successor streams.

use clap::Args;
use jiff::Timestamp;

use super::exit::Exit;
use super::globals::Globals;
use super::plan::tell_plan;
use super::runner::{Operation, Proposal, Told};
use super::session::Session;
use super::{inventory, runner};
use crate::apply::material::run_name;
use crate::check::{Selection, Verdict};
use crate::diagnostic::Failure;
use crate::model::quantity::bytes;
use crate::observe::probe::Wish;
use crate::plan::operation::forget::{Forget, LinkProof};
use crate::plan::survey::authority::Keys;
use crate::plan::{Plan, plan_forget};
use crate::ui::ask::{Gravity, Question};
use crate::ui::json::ForgetDocument;
use crate::ui::plan::PlanView;
use crate::ui::{Ui, plan, report};

/// Remove a data directory that was set aside, after proof that its successor streams
///
/// pgstead never deletes a data directory: what another one replaces is renamed, and kept until this command. It removes
/// the one directory that is named, for good, and only when a row written on the primary has just arrived on the server (on
/// the primary: when every link from it is healthy). A removal that was interrupted is finished by the same command.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead status                           lists what was set aside, with the commands
  pgstead forget-aside b main.aside.20260102T030405Z.202601020304051a2b.replaced --dry-run")]
pub(super) struct ForgetAsideArgs {
    /// The server
    server: String,
    /// The directory's own name, as status prints it
    name: String,
    /// Show the steps and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(globals: &Globals, args: &ForgetAsideArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    Ok(runner::run(args, &inventory, ui, |view, told| tell(view, told, args, ui))?.exit())
}

/// The directory that is removed.
#[derive(Debug)]
pub(super) struct Forgotten {
    /// Its own name.
    name: String,
    /// What it occupies; none where that could not be counted.
    bytes: Option<u64>,
    /// Directories of tablespaces and WAL elsewhere, which stay.
    leads_to: Vec<String>,
}

impl Operation for ForgetAsideArgs {
    const NAME: &'static str = "forget-aside";
    type Facts = Option<Forgotten>;

    fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    fn wish(&self) -> Wish {
        Wish { beside_size: true, ..Wish::default() }
    }

    fn require(&self, session: &Session<'_>) -> Result<(), Failure> {
        session.require(&self.server)
    }

    /// Proves, and plans.
    async fn propose(&self, session: &mut Session<'_>, _: &Keys) -> Result<Proposal<Option<Forgotten>>, Failure> {
        let topology = &session.inventory.topology;
        let report = session.check(Some(&Selection::default())).await?;
        let links: Vec<LinkProof> = report
            .links
            .iter()
            .map(|link| LinkProof {
                standby: link.standby.clone(),
                is_proven: link.verdict == Verdict::Healthy && link.canary_ms.is_some(),
                verdict: match link.verdict {
                    Verdict::Healthy => "healthy, but no row was seen to arrive".to_owned(),
                    other => report::verdict_word(other).to_owned(),
                },
            })
            .collect();
        let run = run_name(Timestamp::now());
        let planned = plan_forget(topology, &session.observation, &links, &self.server, &self.name, &run);
        Ok(match planned {
            Ok(Forget { plan, name, bytes, leads_to }) => {
                Proposal { plan: Ok(plan), facts: Some(Forgotten { name, bytes, leads_to }), run }
            }
            Err(refusals) => Proposal { plan: Err(runner::refused(refusals)), facts: None, run },
        })
    }

    fn explanation(&self, proposal: &Proposal<Option<Forgotten>>, view: &PlanView<'_>, ui: &Ui) -> Option<String> {
        let steps = (!ui.options.yes || ui.err.whole).then(|| plan::render_steps(view, ui.err));
        let leads_to = proposal.facts.as_ref().map_or(&[][..], |forgotten| &forgotten.leads_to);
        let stays =
            (!leads_to.is_empty()).then(|| format!("Not removed, although it leads there: {}\n", leads_to.join(", ")));
        (steps.is_some() || stays.is_some()).then(|| [steps, stays].into_iter().flatten().collect())
    }

    fn question(&self, _: &Plan, forgotten: &Option<Forgotten>) -> Question {
        let size = forgotten.as_ref().and_then(|forgotten| forgotten.bytes);
        let holds = size.map_or(String::new(), |size| format!(", {}", bytes(size)));
        let change = format!("Remove {} of server \"{}\"{holds}", self.name, self.server);
        Question { gravity: Gravity::Irreversible, change }
    }
}

fn tell(view: &PlanView<'_>, told: &Told<Option<Forgotten>>, args: &ForgetAsideArgs, ui: &Ui) -> Result<(), Failure> {
    let (Some(report), Some(Forgotten { name, bytes, leads_to })) = (&told.report, told.facts()) else {
        return tell_plan(view, ui);
    };
    let delivered = ui.answer(
        |look| report::render_forget(report, name, *bytes, leads_to, look),
        || ForgetDocument::new(report, &args.server, name, *bytes, leads_to),
    );
    delivered.map(drop)
}

//! `forget-aside`: removes one directory that was set aside, after proof that its successor streams.

use std::time::Instant;

use clap::Args;
use jiff::Timestamp;

use super::block_on;
use super::carry_out::Agreed;
use super::carry_out::carry_out;
use super::carry_out::end;
use super::exit;
use super::exit::Exit;
use super::globals::Globals;
use super::inventory;
use super::plan;
use super::plan::Planned;
use super::session::Session;
use super::session::hold;
use super::session::state_identity;
use crate::apply::lock;
use crate::apply::material::run_name;
use crate::check::Selection;
use crate::check::Verdict;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::model::quantity::bytes;
use crate::observe::probe::Wish;
use crate::plan::forget::Forget;
use crate::plan::forget::LinkProof;
use crate::plan::plan_forget;
use crate::ui::Progress;
use crate::ui::Ui;
use crate::ui::ask;
use crate::ui::ask::Gravity;
use crate::ui::ask::Question;
use crate::ui::json::ForgetDocument;
use crate::ui::plan::PlanView;
use crate::ui::report;

/// The name of this operation in locks and journal.
const OPERATION: &str = "forget-aside";

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
    let begun = Instant::now();
    block_on(async {
        let progress = Progress::start(ui);
        let events = progress.events();
        let local = hold(&inventory, OPERATION, args.dry_run)?;
        let session = Session::open(&inventory, Wish { beside_size: true, ..Wish::default() }, events.clone()).await?;
        let result = over(&session, args, ui, progress, begun).await;
        session.close().await;
        drop(local);
        result
    })
}

/// Proves, plans, shows, asks, carries out.
async fn over(
    session: &Session<'_>,
    args: &ForgetAsideArgs,
    ui: &Ui,
    progress: Progress,
    begun: Instant,
) -> Result<Exit, Failure> {
    let topology = &session.inventory.topology;
    if !args.dry_run {
        lock::refuse_held(&session.observation, &state_identity(&session.state))?;
    }
    // A server that could not be reached says why itself, in better words than its absence.
    let unreachable: Vec<Diagnostic> = session.unreachable.iter().filter(|why| is_about(why, args)).cloned().collect();
    if !unreachable.is_empty() {
        return Err(Failure::all(FailureKind::Unreachable, unreachable));
    }
    let report = session.check(Some(&Selection::default())).await?;
    progress.finish();
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
    let forget = plan_forget(topology, &session.observation, &links, &args.server, &args.name, &run);
    let Forget { plan, name, bytes: size, leads_to } = match forget {
        Ok(forget) => forget,
        Err(refusals) if args.dry_run => {
            let planned = Planned { plan: Err(refusals), logins: session.logins() };
            plan::show(topology.name(), &planned, ui)?;
            return Ok(plan::exit_of(&planned, false));
        }
        Err(refusals) => return Err(plan::refused(&refusals)),
    };
    let planned = Planned { plan: Ok(plan), logins: session.logins() };
    if args.dry_run {
        plan::show(topology.name(), &planned, ui)?;
        return Ok(plan::exit_of(&planned, false));
    }
    let Ok(plan) = &planned.plan else { return Ok(exit::BUG) };
    let keys = session.keys()?;
    let view = PlanView { topology: topology.name(), plan: Ok(plan), logins: &planned.logins };
    if !ui.options.yes || ui.err.whole {
        ui.explain(&crate::ui::plan::render_steps(&view, ui.err));
    }
    if !leads_to.is_empty() {
        ui.explain(&format!("Not removed, although it leads there: {}\n", leads_to.join(", ")));
    }
    let holds = size.map_or(String::new(), |size| format!(", {}", bytes(size)));
    let change = format!("Remove {name} of server \"{}\"{holds}", args.server);
    ask::consent(ui, &Question { gravity: Gravity::Irreversible, change })?;
    let agreed = Agreed {
        operation: OPERATION,
        run: &run,
        plan,
        logins: &planned.logins,
        keys: &keys,
        attested: Vec::new(),
        begun,
    };
    let report = carry_out(session, agreed, ui).await?;
    ui.answer(
        |look| report::render_forget(&report, &name, size, &leads_to, look),
        || ForgetDocument::new(&report, &args.server, &name, size, &leads_to),
    )?;
    Ok(end(report.failure.as_ref(), ui))
}

fn is_about(diagnostic: &Diagnostic, args: &ForgetAsideArgs) -> bool {
    diagnostic.server.as_deref() == Some(args.server.as_str())
}

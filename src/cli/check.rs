//! `check`: proves every link.

use clap::Args;

use super::block_on;
use super::exit::Exit;
use super::globals::Globals;
use super::inventory;
use super::inventory::Inventory;
use super::session::Session;
use crate::check::CheckReport;
use crate::diagnostic::Failure;
use crate::event::Events;
use crate::observe::probe::Wish;
use crate::ui::Progress;
use crate::ui::Ui;
use crate::ui::json::CheckDocument;
use crate::ui::report;

/// Prove every link
///
/// A link is healthy when a write on the primary was replayed on the standby, over TLS with a verified certificate, through
/// the slot and on the timeline that the plan names. Ends with code 7 when unhealthy, and 10 when it could not look.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead check
  pgstead -q check || page-someone          in a cron job
  pgstead check --format json | jq '.links[] | {standby, verdict}'")]
pub(super) struct CheckArgs {}

pub(super) fn run(globals: &Globals, _args: &CheckArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let progress = Progress::start(ui);
    let report = block_on(check(&inventory, progress.events()));
    progress.finish();
    let report = report?;
    ui.answer(|look| report::render_check(&report, look), || CheckDocument::new(&report))?;
    Ok(report.verdict.into())
}

async fn check(inventory: &Inventory, events: Events) -> Result<CheckReport, Failure> {
    let session = Session::open(inventory, Wish { dials: true, size: false, ..Wish::default() }, events).await?;
    let report = session.check(true).await;
    session.close().await;
    report
}

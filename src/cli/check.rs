//! `check`: proves every link, once or again and again.

use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::Zoned;

use super::exit::Exit;
use super::globals::Globals;
use super::inventory::Inventory;
use super::session::Session;
use super::{block_on, exit, inventory};
use crate::check::{CheckReport, Selection, Verdict, catalog};
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::event::Events;
use crate::observe::probe::Wish;
use crate::ui::json::CheckDocument;
use crate::ui::{Delivery, Format, Progress, Ui, nagios, report, topology};

/// Prove every link
///
/// A link is healthy when a write on the primary was replayed on the standby, over TLS with a verified certificate, through
/// the slot and on the timeline that the plan names. Ends with code 7 when unhealthy, and 10 when it could not look.
/// How much is too much stands in the inventory, under thresholds.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead check
  pgstead -q check || page-someone          in a cron job; prints nothing while healthy
  pgstead check --format nagios             one line; 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN
  pgstead check --only L16                  certificates alone; L1, who is there, is always among it
  pgstead check --deep                      at night: pages, indexes and the archive
  pgstead check --format json | jq '.links[] | {standby, verdict}'")]
pub(super) struct CheckArgs {
    /// Look at these alone: codes such as slot-inactive, or checks L1 to L23
    #[arg(long, value_name = "CODE|CHECK", num_args = 1.., value_delimiter = ',', hide_possible_values = true, value_parser = words())]
    only: Vec<String>,
    /// Leave out samples that need time
    #[arg(long, conflicts_with = "deep")]
    quick: bool,
    /// Also read every page and index on the standbys (pg_amcheck), and send a segment through the archive
    #[arg(long, conflicts_with = "watch")]
    deep: bool,
    /// Check again every SECONDS, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "10", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
}

/// Every code and every check, as they may be named.
fn words() -> impl TypedValueParser<Value = String> {
    let checks = catalog::CHECKS.into_iter().map(|(check, _)| check);
    PossibleValuesParser::new(checks.chain(catalog::CODES.iter().map(|(code, _)| code.as_str())))
}

pub(super) fn run(globals: &Globals, args: &CheckArgs, ui: &Ui) -> Result<Exit, Failure> {
    if args.watch.is_some() && ui.options.format != Format::Human {
        return Err(Failure::one(
            FailureKind::Usage,
            Diagnostic::error(Code::Usage, "--watch draws again and again, and the format is for one result")
                .hint("Leave out --watch or --format."),
        ));
    }
    let (inventory, warnings) = inventory::load_with_warnings(globals)?;
    // What the inventory leaves open is no news of the servers.
    if !globals.quiet {
        ui.diagnostics(&warnings);
    }
    let selection = Selection { only: args.only.clone(), quick: args.quick, deep: args.deep };
    if let Some(every) = args.watch {
        return block_on(async {
            tokio::select! {
                result = watch(&inventory, &selection, every, ui) => result,
                _ = tokio::signal::ctrl_c() => Ok(exit::DONE),
            }
        });
    }
    let progress = Progress::start(ui);
    let report = block_on(check(&inventory, &selection, progress.events()));
    progress.finish();
    let report = report?;
    if ui.options.format == Format::Nagios {
        ui.result(&nagios::render(&report))?;
        return Ok(exit::of_nagios(nagios::State::of(&report)));
    }
    // A cron job mails whatever is printed, every minute.
    if globals.quiet && ui.options.format == Format::Human && report.verdict == Verdict::Healthy {
        return Ok(exit::DONE);
    }
    ui.answer(|look| report::render_check(&report, look), || CheckDocument::new(&report))?;
    Ok(report.verdict.into())
}

async fn check(inventory: &Inventory, selection: &Selection, events: Events) -> Result<CheckReport, Failure> {
    let session = Session::open(inventory, Wish::default(), events).await?;
    let report = session.check(Some(selection)).await;
    session.close().await;
    report
}

/// Checks again and again over the same SSH connections; one that is lost is opened anew.
async fn watch(inventory: &Inventory, selection: &Selection, every: u64, ui: &Ui) -> Result<Exit, Failure> {
    let mut session = Session::open(inventory, Wish::default(), Events::silent()).await?;
    let mut ticks = tokio::time::interval(Duration::from_secs(every));
    // A slow look must not be followed by a burst of them.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        let report = session.check(Some(selection)).await?;
        let picture = report::render_check(&report, ui.out);
        if ui.result(&topology::frame(&picture, Zoned::now().time(), every, ui.out))? == Delivery::ReaderGone {
            return Ok(exit::DONE);
        }
        ticks.tick().await;
        session.observe(Wish::default()).await;
        if session.lost_one() {
            session.close().await;
            session = Session::open(inventory, Wish::default(), Events::silent()).await?;
        }
    }
}

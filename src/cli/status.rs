//! `status`: the topology as a picture, once or again and again.

use std::time::Duration;

use clap::Args;
use jiff::Zoned;

use super::block_on;
use super::exit;
use super::exit::Exit;
use super::globals::Globals;
use super::inventory;
use super::inventory::Inventory;
use super::not_wired;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::ui::Delivery;
use crate::ui::Ui;
use crate::ui::json::StatusDocument;
use crate::ui::topology;
use crate::ui::topology::StatusView;

/// Show the topology: sites, roles, links, lag
///
/// It shows what is there and proves nothing: use check to prove links. It ends with code 0 whatever the picture shows.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead status
  pgstead status --watch      every 2 seconds, until Ctrl-C
  pgstead status --watch 10")]
pub(super) struct StatusArgs {
    /// Draw again every SECONDS, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
}

pub(super) fn run(globals: &Globals, args: &StatusArgs, ui: &Ui) -> Result<Exit, Failure> {
    if args.watch.is_some() && ui.is_json() {
        return Err(Failure::one(
            FailureKind::Usage,
            Diagnostic::error("usage", "--watch draws again and again, and JSON is exactly one document")
                .hint("Leave out --watch or --format json."),
        ));
    }
    let inventory = inventory::load(globals, ui)?;
    block_on(async {
        let mut source = Source::connect(&inventory).await?;
        let Some(every) = args.watch else {
            let view = source.look().await?;
            ui.answer(|look| topology::render(&view, look), || StatusDocument::new(&view))?;
            return Ok(exit::DONE);
        };
        tokio::select! {
            result = watch(&mut source, every, ui) => result,
            _ = tokio::signal::ctrl_c() => Ok(exit::DONE),
        }
    })
}

async fn watch(source: &mut Source, every: u64, ui: &Ui) -> Result<Exit, Failure> {
    let mut ticks = tokio::time::interval(Duration::from_secs(every));
    // A slow look must not be followed by a burst of them.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let view = source.look().await?;
        let frame = topology::render_frame(&view, Zoned::now().time(), every, ui.out);
        if ui.result(&frame)? == Delivery::ReaderGone {
            return Ok(exit::DONE);
        }
    }
}

/// The servers, connected once and looked at as often as wanted.
#[derive(Debug)]
struct Source {}

impl Source {
    // SEAM: connects to the servers; one that cannot be reached is kept as unreachable.
    async fn connect(_inventory: &Inventory) -> Result<Self, Failure> {
        not_wired("status")
    }

    // SEAM: observes the servers and fills the view.
    async fn look(&mut self) -> Result<StatusView, Failure> {
        not_wired("status")
    }
}

//! `preflight`: every check on and between the servers. It changes nothing on them; skipped codes go into the journal.

use std::time::Instant;

use clap::Args;
use jiff::Timestamp;

use super::exit::Exit;
use super::globals::Globals;
use super::inventory::Inventory;
use super::session::Session;
use super::{block_on, exit, inventory, ways};
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::event::Events;
use crate::observe::pairs;
use crate::observe::probe::Wish;
use crate::plan::steps::change;
use crate::plan::survey::survey;
use crate::plan::{Consent, Material, plan_bootstrap};
use crate::preflight;
use crate::preflight::{PreflightReport, Skipped, Thresholds, Told, codes};
use crate::state::StateDir;
use crate::state::journal::{Entry, RunResult, operator};
use crate::ui::json::PreflightDocument;
use crate::ui::{Progress, Ui};

/// How long each line is filled, in seconds.
const THROUGHPUT_SECONDS: f64 = 1.0;

/// Check the servers, and the lines between them, before anything is begun
///
/// Looks at machines, disks, installations and running instances, and measures the way between every two servers in both
/// directions: ports, latency, loss, throughput. Changes nothing. Exits with 5 if any error is found, and with 4 if a
/// server could not be reached. What a bootstrap would refuse is always among the findings.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead preflight
  pgstead preflight --no-throughput                        leave busy lines alone
  pgstead preflight --only port-blocked --only space-short
  pgstead preflight --skip libc-differs=\"C.UTF-8 everywhere, ticket 812\"
  pgstead preflight --format json | jq '.findings[] | {code, severity, server, pair}'")]
pub(super) struct PreflightArgs {
    /// Judge this code alone; may be repeated
    #[arg(long, value_name = "CODE", value_parser = parse_code)]
    only: Vec<Code>,
    /// Leave this code out, for a reason that is shown and recorded in the journal; may be repeated
    #[arg(long, value_name = "CODE=REASON", value_parser = parse_skip, conflicts_with = "only")]
    skip: Vec<Skipped>,
    /// Measure no throughput; every line is filled for a second otherwise
    #[arg(long)]
    no_throughput: bool,
}

fn parse_code(text: &str) -> Result<Code, String> {
    codes::find(text).ok_or_else(|| {
        let near = codes::CODES.iter().map(|code| (strsim::damerau_levenshtein(code.as_str(), text), *code)).min();
        match near.filter(|(distance, _)| *distance <= 4) {
            Some((_, code)) => format!("no finding of a preflight has this code; did you mean \"{code}\"?"),
            None => "no finding of a preflight has this code; the refusals of a bootstrap are always told".to_owned(),
        }
    })
}

fn parse_skip(text: &str) -> Result<Skipped, String> {
    let (code, reason) = text.split_once('=').unwrap_or((text, ""));
    let code = parse_code(code)?;
    match reason.trim() {
        "" => Err(format!("a reason is needed: {code}=REASON")),
        reason => Ok(Skipped { code, reason: reason.to_owned() }),
    }
}

pub(super) fn run(globals: &Globals, args: &PreflightArgs, ui: &Ui) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let inventory = inventory::load(globals, ui)?;
    let progress = Progress::start(ui);
    let looked = block_on(look(&inventory, args, progress.events()));
    progress.finish();
    let (report, all_reached) = looked?;
    record(&inventory, &report, begun)?;
    ui.answer(|look| crate::ui::preflight::render(&report, look), || PreflightDocument::new(&report))?;
    Ok(match (all_reached, report.ready) {
        (false, _) => exit::UNREACHABLE,
        (true, false) => exit::REFUSED,
        (true, true) => exit::DONE,
    })
}

async fn look(inventory: &Inventory, args: &PreflightArgs, events: Events) -> Result<(PreflightReport, bool), Failure> {
    let mut session =
        Session::open(inventory, Wish { readiness: true, beside_size: true, ..Wish::default() }, events).await?;
    session.compare_histories().await;
    session.look_elsewhere(Consent::default()).await;
    let topology = &inventory.topology;
    let throughput_seconds = if args.no_throughput { 0.0 } else { THROUGHPUT_SECONDS };
    let measured =
        pairs::measure(topology, &session.observation, &session.hosts, throughput_seconds, &session.events).await;
    let mut told = told(&session).await;
    // Where the keys are wrong that is told already.
    if let Ok(sessions) = session.keys().and_then(|keys| session.sessions(&keys)) {
        told.refusals.extend(ways::missing(&sessions, topology).await);
    }
    let choice = preflight::Choice { only: args.only.iter().copied().collect(), skipped: args.skip.clone() };
    let report =
        preflight::preflight(topology, &session.observation, &measured, &told, &choice, &Thresholds::default());
    let all_reached = topology.servers().all(|server| session.observation.server(&server.name).is_some());
    session.close().await;
    Ok((report, all_reached))
}

/// Asks the plan of a bootstrap, with every consent given: what stands in its way and what it remarks.
async fn told(session: &Session<'_>) -> Told {
    let consent = Consent { allow_restart: true, new_authority: false };
    let topology = &session.inventory.topology;
    let material = session.keys().and_then(|keys| session.material(&keys));
    let plan = |material: &Material, consent| plan_bootstrap(topology, &session.observation, material, consent);
    let (planned, mut notes) = match material.map(|material| (plan(&material, consent), material)) {
        Ok((Ok(plan), _)) => (Vec::new(), plan.notes),
        // A plan that is refused has no notes; what was seen of each server is remarked all the same, and that a restart will be due.
        Ok((Err(refusals), material)) => {
            let mut notes = survey(topology, &session.observation).notes;
            let unconsented = plan(&material, Consent::default()).err().unwrap_or_default();
            notes.extend(unconsented.into_iter().filter_map(change::remark));
            (refusals, notes)
        }
        Err(failure) => (failure.diagnostics, Vec::new()),
    };
    // The reason why a server could not be reached says more than that it was not observed.
    let is_told = |refusal: &Diagnostic| {
        refusal.code == Code::Unreachable && session.unreachable.iter().any(|reason| reason.server == refusal.server)
    };
    let mut refusals = session.unreachable.clone();
    match session.passwords().await {
        Ok(passwords) => notes.extend(passwords.notes),
        Err(unread) => refusals.extend(unread),
    }
    refusals.extend(planned.into_iter().filter(|refusal| !is_told(refusal)));
    Told { refusals, notes }
}

/// Records what was left out, and why. Without a skip there is nothing to record.
fn record(inventory: &Inventory, report: &PreflightReport, begun: Instant) -> Result<(), Failure> {
    if report.skipped.is_empty() {
        return Ok(());
    }
    let time = Timestamp::now();
    let run = time.strftime("%Y%m%d%H%M%S%f").to_string();
    let mut entries = vec![Entry::RunStarted {
        run: run.clone(),
        time,
        operator: operator(),
        operation: "preflight".to_owned(),
        state: None,
    }];
    entries.extend(report.skipped.iter().map(|skip| Entry::Skipped {
        run: run.clone(),
        time,
        code: skip.code.to_string(),
        reason: skip.reason.clone(),
    }));
    let first_error = report.findings.first().filter(|_| !report.ready);
    entries.push(Entry::RunEnded {
        run,
        time,
        result: if report.ready { RunResult::NoChanges } else { RunResult::Refused },
        seconds: begun.elapsed().as_secs_f64(),
        message: first_error.map(|finding| finding.diagnostic.message.clone()),
    });
    StateDir::at(&inventory.state_dir).append_journal(&entries).map_err(|error| {
        let diagnostic: Diagnostic = error.diagnostic();
        Failure::one(FailureKind::Refused, diagnostic)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_needs_a_known_code_and_a_reason() {
        let skip = parse_skip("libc-differs=C.UTF-8 = everywhere").unwrap();
        assert_eq!((skip.code, skip.reason.as_str()), (Code::LibcDiffers, "C.UTF-8 = everywhere"));
        assert!(parse_skip("libc-differs").unwrap_err().contains("a reason is needed"));
        assert!(parse_skip("libc-differs= ").unwrap_err().contains("a reason is needed"));
        assert!(parse_skip("libc-difers=x").unwrap_err().contains("did you mean \"libc-differs\""));
        // What a bootstrap refuses is refused, whatever was skipped.
        assert!(parse_skip("two-primaries=x").unwrap_err().contains("always told"));
    }
}

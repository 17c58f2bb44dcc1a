//! Judges whether a planned change of the primary would go through, and back again, before anything is begun (hazards 57, 61,
//! 62, 66): what a check finds wrong now, and what is wrong for a successor alone.

use crate::check::catalog::CHECKS;
use crate::check::{Finding, Selection, Verdict};
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::judge::{State, link};
use crate::model::name::ServerName;
use crate::model::observation::{Instance, Sender};

/// What a change of the primary neither meets nor makes worse.
const EXCUSED: &[Code] = &[
    Code::CertificateExpiring,
    Code::ClockSkew,
    Code::CrlExpiring,
    Code::DiskNearlyFull,
    Code::KeyExposed,
    Code::SlotInactive,
];

/// Nothing is written while the last of the WAL goes to the successor: a second on a line of 100 Mbit/s.
const BEHIND_BYTES: i64 = 12 << 20;

/// Returns what is looked at before a change of the primary; a dry run writes no row.
pub fn selection(is_dry_run: bool) -> Selection {
    let writes = ["L6", "L7", "L11"];
    let only = match is_dry_run {
        true => CHECKS.iter().map(|(id, _)| *id).filter(|id| !writes.contains(id)).map(str::to_owned).collect(),
        false => Vec::new(),
    };
    Selection { only, quick: true, deep: false }
}

/// Judges a change of the primary by what a check found. Errors stand in its way; warnings do not.
pub fn judge(findings: Vec<Finding>, state: &State<'_>, from: &ServerName, to: &ServerName) -> Vec<Diagnostic> {
    let wrong = findings.into_iter().filter(|finding| finding.verdict != Verdict::Healthy);
    let mut told: Vec<Diagnostic> = wrong
        .map(|Finding { diagnostic, .. }| {
            // A full disk of the former primary may be its very reason; one of its successor stands in the way.
            let is_successors =
                diagnostic.code == Code::DiskNearlyFull && diagnostic.server.as_deref() == Some(to.as_str());
            let is_excused = EXCUSED.contains(&diagnostic.code) && !is_successors;
            let severity = if is_excused { Severity::Warning } else { Severity::Error };
            Diagnostic { severity, ..diagnostic }
        })
        .collect();
    if let Some((primary, successor)) = state.instance(from).zip(state.instance(to)) {
        told.extend(behind(from, to, primary, successor));
        told.extend(held_up(from, to, primary));
        told.extend(delayed(to, successor));
        told.extend(logical_slots(from, to, primary, successor));
    }
    told
}

fn behind(from: &ServerName, to: &ServerName, primary: &Instance, successor: &Instance) -> Option<Diagnostic> {
    let behind = link::behind_bytes(primary, successor)?;
    (behind > BEHIND_BYTES).then(|| {
        Diagnostic::error(Code::SuccessorBehind, format!("server \"{to}\" is {} MB behind \"{from}\"", behind >> 20))
            .server(to)
            .detail("Nobody could write until it has caught up.")
            .hint("Run the same command again when it has: pgstead status --watch")
    })
}

/// A shutdown waits until every standby that streams has what there is, whoever is to be the primary (manual, 19.5).
fn held_up(from: &ServerName, to: &ServerName, primary: &Instance) -> Option<Diagnostic> {
    let behind = |sender: &Sender| Some(primary.positions.current?.bytes_ahead_of(sender.flush_lsn?));
    let others = primary.senders.iter().filter(|sender| sender.application_name != to.as_str());
    let (sender, bytes) =
        others.filter_map(|sender| Some((sender, behind(sender)?))).max_by_key(|(_, bytes)| *bytes)?;
    let name = &sender.application_name;
    (bytes > BEHIND_BYTES).then(|| {
        let message = format!("standby \"{name}\" is {} MB behind \"{from}\"", bytes >> 20);
        Diagnostic::error(Code::ShutdownHeldUp, message)
            .server(name)
            .detail(format!(
                "The shutdown of \"{from}\" waits until it has everything, and writes would be blocked until then."
            ))
            .hint("Run the same command again when it has caught up: pgstead status --watch")
    })
}

fn delayed(to: &ServerName, successor: &Instance) -> Option<Diagnostic> {
    let delay = successor.settings.get("recovery_min_apply_delay").filter(|setting| setting.setting != "0")?;
    let unit = delay.unit.as_deref().unwrap_or("ms");
    Some(
        Diagnostic::error(Code::SuccessorDelayed, format!("server \"{to}\" replays later on purpose"))
            .server(to)
            .detail(format!(
                "Its recovery_min_apply_delay is {} {unit}. Writes would be blocked for as long.",
                delay.setting
            ))
            .hint("Choose another server, or reset the parameter in the inventory and bootstrap."),
    )
}

/// A logical slot stays on the server that has it, unless it is a failover slot with a copy on the successor.
fn logical_slots(from: &ServerName, to: &ServerName, primary: &Instance, successor: &Instance) -> Option<Diagnostic> {
    let copied = |name: &String| successor.slots.get(name).is_some_and(|slot| slot.synced);
    let left = primary.slots.iter().filter(|(_, slot)| slot.slot_type == "logical" && !slot.temporary);
    let names: Vec<String> = left.filter(|(name, _)| !copied(name)).map(|(name, _)| format!("\"{name}\"")).collect();
    (!names.is_empty()).then(|| {
        Diagnostic::warning(
            Code::LogicalSlotsLeft,
            format!("server \"{from}\": its logical slots are not on \"{to}\": {}", names.join(", ")),
        )
        .server(from)
        .detail("Who subscribes through them finds none on the new primary, and has to copy its tables anew.")
        .hint("From PostgreSQL 17 on, failover slots go along: failover = true of the subscription, sync_replication_slots on the standby.")
    })
}

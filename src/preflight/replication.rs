//! Judges running instances: room for links, what holds WAL back, what would surprise after a role change.

use std::collections::BTreeSet;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::parameter::{HOT_STANDBY_PARAMETERS, UNSAFE_SETTINGS};
use crate::model::quantity::{bytes, seconds};
use crate::model::readiness::InstanceReadiness;
use crate::preflight::Finding;
use crate::preflight::facts::{Facts, Seen, list};
use crate::render::hba::roles;

pub(super) fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for seen in facts.servers() {
        let Some(ready) = seen.instance_readiness() else { continue };
        found.extend(room(facts, seen, ready));
        found.extend(holds_back(facts, seen, ready));
        found.extend(surprises(facts, seen, ready));
        found.extend(unsafe_settings(seen));
    }
    if let Some(source) = facts.source() {
        for standby in facts.standbys() {
            found.extend(hot_standby(source, standby));
        }
    }
    found.into_iter().map(Finding::from).collect()
}

/// A running standby with less than its primary pauses its replay, or does not start again (hazard 38). What one that is
/// yet to be made would have is for the plan, which takes the primary's values.
fn hot_standby(source: Seen<'_>, standby: Seen<'_>) -> Option<Diagnostic> {
    let name = standby.name;
    let lower: Vec<String> = HOT_STANDBY_PARAMETERS
        .iter()
        .filter_map(|parameter| {
            let (its, own) = (source.number(parameter)?, standby.number(parameter)?);
            (own < its).then(|| format!("{parameter} is {own}, \"{}\" has {its}", source.name))
        })
        .collect();
    if lower.is_empty() {
        return None;
    }
    Some(
        Diagnostic::error(Code::HotStandbyParameterLower, format!("server \"{name}\" has less than its primary"))
            .server(name)
            .detail(format!("{}. A standby with less pauses its replay, and does not start again.", lower.join("; ")))
            .hint("\"pgstead plan\" shows what would change; else raise them on the standby and restart it."),
    )
}

/// Free walsenders and slots: for base backups on the source, and for a role change everywhere (hazard 25).
fn room(facts: &Facts<'_>, seen: Seen<'_>, ready: &InstanceReadiness) -> Vec<Diagnostic> {
    let name = seen.name;
    let mut found = Vec::new();
    let seeds = facts.standbys().filter(|standby| !standby.has_data()).count() as u64;
    let is_source = seen.name == facts.primary;
    // A base backup streams WAL beside the files; each link needs a slot.
    let needed = facts.thresholds.headroom + if is_source { 2 * seeds } else { 0 };
    if let Some(all) = seen.number("max_wal_senders").and_then(|all| u64::try_from(all).ok()) {
        let free = all.saturating_sub(ready.walsenders);
        if free < needed {
            found.push(
                Diagnostic::warning(Code::WalsendersShort, format!("server \"{name}\" has too few free walsenders"))
                    .server(name)
                    .detail(format!("max_wal_senders is {all}; {} are in use, and {needed} should be free.", ready.walsenders))
                    .hint("Raise max_wal_senders; it needs a restart. A bootstrap of pgstead sets it from the number of servers."),
            );
        }
    }
    if let (Some(all), Some(instance)) =
        (seen.number("max_replication_slots").and_then(|all| u64::try_from(all).ok()), seen.instance())
    {
        let used = instance.slots.len() as u64;
        let needed = facts.thresholds.headroom + if is_source { seeds } else { 0 };
        if all.saturating_sub(used) < needed {
            found.push(
                Diagnostic::warning(Code::SlotsShort, format!("server \"{name}\" has too few free replication slots"))
                    .server(name)
                    .detail(format!("max_replication_slots is {all}; {used} are there, and {needed} should be free."))
                    .hint("Drop slots that nobody needs, or raise max_replication_slots; it needs a restart."),
            );
        }
    }
    if seen.setting("wal_level") == Some("minimal") {
        found.push(
            Diagnostic::warning(Code::WalLevelMinimal, format!("server \"{name}\": wal_level is minimal"))
                .server(name)
                .detail("Its WAL is not enough for a standby.")
                .hint("A bootstrap sets it to replica, which needs a restart: --allow-restart."),
        );
    }
    if let Some(lacks @ [_, ..]) = ready.rewind_lacks.known().map(Vec::as_slice) {
        found.push(
            Diagnostic::warning(
                Code::RewindGrantsMissing,
                format!("server \"{name}\": role \"{}\" may not do what pg_rewind needs", roles::REWIND),
            )
            .server(name)
            .detail(format!("It may not execute {}.", list(lacks)))
            .hint("\"pgstead bootstrap\" grants it again."),
        );
    }
    found
}

/// Settings with which committed data do not survive, or damage goes on unnoticed.
fn unsafe_settings(seen: Seen<'_>) -> Vec<Diagnostic> {
    let name = seen.name;
    let mut found = Vec::new();
    for one in UNSAFE_SETTINGS {
        let Some(setting) = seen.instance().and_then(|instance| instance.settings.get(one.name)) else { continue };
        if setting.setting == one.safe {
            continue;
        }
        let message = format!("server \"{name}\": {} is {}", one.name, setting.setting);
        let diagnostic = if one.loses {
            Diagnostic::error(Code::UnsafeSetting, message)
        } else {
            Diagnostic::warning(Code::UnsafeSetting, message)
        };
        let from = setting.sourcefile.as_deref().unwrap_or(&setting.source);
        found.push(diagnostic.server(name).detail(format!("With it, {}. It comes from: {from}.", one.what)).hint(
            format!("Set {} = {}, and look at the data before they are copied: pg_amcheck --all.", one.name, one.safe),
        ));
    }
    found
}

/// What keeps WAL or dead rows from going away.
fn holds_back(facts: &Facts<'_>, seen: Seen<'_>, ready: &InstanceReadiness) -> Vec<Diagnostic> {
    let name = seen.name;
    let mut found = Vec::new();
    let ours: BTreeSet<String> = facts.topology.servers().map(|server| server.name.slot_name()).collect();
    for (slot, held) in ready.inactive_slots.iter().filter(|(slot, _)| !ours.contains(*slot)) {
        found.push(
            Diagnostic::warning(Code::InactiveSlot, format!("server \"{name}\": nobody uses slot \"{slot}\""))
                .server(name)
                .detail(format!("It holds back {} of WAL.", bytes(held.unsigned_abs())))
                .hint("When its consumer is gone for good: SELECT pg_drop_replication_slot(…)."),
        );
    }
    if !ready.long_transactions.is_empty() {
        let all: Vec<String> =
            ready.long_transactions.iter().map(|(who, age)| format!("{who}: {}", seconds(*age))).collect();
        found.push(
            Diagnostic::warning(Code::LongTransaction, format!("server \"{name}\": transactions are open for long"))
                .server(name)
                .detail(format!("{}.", all.join("; ")))
                .hint("A base backup does not wait for them, but a restart does, and dead rows stay."),
        );
    }
    if !ready.prepared_transactions.is_empty() {
        let all: Vec<String> =
            ready.prepared_transactions.iter().map(|(gid, age)| format!("\"{gid}\": {}", seconds(*age))).collect();
        found.push(
            Diagnostic::warning(
                Code::PreparedTransaction,
                format!("server \"{name}\": prepared transactions wait for their end"),
            )
            .server(name)
            .detail(format!("{}. They survive restarts and role changes, with their locks.", all.join("; ")))
            .hint("COMMIT PREPARED or ROLLBACK PREPARED, once it is known whose they are."),
        );
    }
    if let Some(wal) = &ready.archiver_failing {
        found.push(
            Diagnostic::warning(Code::ArchiverFailing, format!("server \"{name}\": archiving of WAL fails"))
                .server(name)
                .detail(format!(
                    "{wal} could not be archived, and nothing has been since (pg_stat_archiver). WAL piles up."
                ))
                .hint("The server's log has the words of archive_command."),
        );
    }
    found
}

fn surprises(facts: &Facts<'_>, seen: Seen<'_>, ready: &InstanceReadiness) -> Vec<Diagnostic> {
    let name = seen.name;
    let mut found = Vec::new();
    if let Some(instance) = seen.instance()
        && instance.replay_pause_state.as_deref().is_some_and(|state| state != "not paused")
    {
        found.push(
            Diagnostic::warning(Code::ReplayPaused, format!("server \"{name}\": replay is paused"))
                .server(name)
                .detail(format!(
                    "pg_get_wal_replay_pause_state() says {}.",
                    instance.replay_pause_state.as_deref().unwrap_or_default()
                ))
                .hint("SELECT pg_wal_replay_resume(); once it is known why."),
        );
    }
    if !ready.backups.is_empty() {
        found.push(
            Diagnostic::note(Code::BackupRunning, format!("server \"{name}\": a base backup runs"))
                .server(name)
                .detail(format!("{}.", ready.backups.join("; ")))
                .hint("Another one beside it is slower than measured here."),
        );
    }
    let unlogged: Vec<String> = ready
        .databases
        .iter()
        .filter_map(|(database, facts)| Some((database, facts.known()?.unlogged_tables)))
        .filter(|(_, tables)| *tables > 0)
        .map(|(database, tables)| format!("{tables} in \"{database}\""))
        .collect();
    // A standby has the same catalog, and has said it once already.
    if !unlogged.is_empty() && seen.name == facts.primary {
        found.push(
            Diagnostic::note(Code::UnloggedTables, format!("server \"{name}\" has unlogged tables"))
                .server(name)
                .detail(format!(
                    "{}. They are empty on a standby, and after a role change (hazard 44).",
                    unlogged.join(", ")
                ))
                .hint("ALTER TABLE … SET LOGGED for what must survive."),
        );
    }
    if !ready.synchronous_commit_overrides.is_empty() && seen.name == facts.primary {
        let message = format!("server \"{name}\": roles or databases decide synchronous_commit for themselves");
        let diagnostic = match facts.topology.common().replication.synchronous {
            Some(_) => Diagnostic::warning(Code::SynchronousCommitOverridden, message),
            None => Diagnostic::note(Code::SynchronousCommitOverridden, message),
        };
        found.push(
            diagnostic
                .server(name)
                .detail(format!(
                    "{}. Their commits are not waited for, or longer than others (hazard 52).",
                    ready.synchronous_commit_overrides.join("; ")
                ))
                .hint("ALTER ROLE … RESET synchronous_commit where it is not meant."),
        );
    }
    found
}

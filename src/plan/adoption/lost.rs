//! What would be lost when a standby joins as it is: its WAL on the way, the wait of logical consumers for it, the state in which it
//! is kept on purpose. Whatever of that would happen is refused.

use crate::diagnostic::{Code, Diagnostic};
use crate::model::observation::{Instance, Setting};
use crate::model::observed::Observed;
use crate::model::parameter::in_units;
use crate::model::topology::Link;
use crate::model::wal::WalSeen;
use crate::plan::adoption::standby::Others;
use crate::plan::files::{brought, parameters};
use crate::plan::seen::Seen;

/// Returns why a standby would lose something, or others would by it.
pub(super) fn refusals(others: Others<'_>, standby: Seen<'_>, instance: &Instance, link: &Link) -> Vec<Diagnostic> {
    let mut refusals = held_back(others, standby, instance);
    refusals.extend(slot_sync(standby, instance));
    for upstream in others.servers.values() {
        let slots = slots_of(others, standby, instance, *upstream);
        refusals.extend(slots.iter().filter_map(|slot| cap(others, standby, *upstream, slot)));
        refusals.extend(slots.iter().filter_map(|slot| waited_for(others, standby, *upstream, slot, link)));
    }
    refusals
}

/// Only the latest WAL is compared. A copy that was written to longer ago, and has streamed since, has the same.
pub(super) fn shown_in_part(others: Others<'_>, standby: Seen<'_>) -> Option<Diagnostic> {
    let name = &standby.server.name;
    let comparison = others.observation.histories.get(name)?;
    let question = &comparison.question;
    let last = question.last().0;
    let has_earlier = |seen: &Observed<WalSeen>| seen.known().is_some_and(|seen| seen.earlier.known().is_some());
    let earlier = last.previous().filter(|_| has_earlier(&comparison.joining) && has_earlier(&comparison.upstream));
    let files: Vec<String> = earlier.into_iter().chain([last]).map(|one| one.file(question.timeline)).collect();
    let message = format!(
        "server \"{name}\": that its data are a copy of those of \"{}\" is shown by its latest WAL only",
        question.upstream
    );
    Some(
        Diagnostic::warning(Code::HistoryShownInPart, message)
            .detail(format!("Compared are the system identifier, the histories of the timelines, and WAL up to {} in {}. One that was started without standby.signal once, written to, and has streamed for long since, looks the same.", question.end, files.join(" and ")))
            .hint(format!("Where that may have been, compare rows on both, such as the counts of tables, and look at it with pg_amcheck; or copy it anew: stop its instance and rename {}.", standby.layout.data_directory)),
    )
}

/// The slots of one server by which a standby that joins gets its WAL now, or names to get it.
fn slots_of(others: Others<'_>, standby: Seen<'_>, instance: &Instance, upstream: Seen<'_>) -> Vec<String> {
    let senders: Vec<_> = others.senders_to(standby, upstream).collect();
    let mut slots: Vec<String> = senders.iter().filter_map(|sender| sender.slot_name.clone()).collect();
    let named = instance.settings.get("primary_slot_name").map(|setting| setting.setting.clone());
    // One that streams from nobody now names a slot of whoever has one of that name.
    let is_here = |slot: &String| upstream.instance.is_some_and(|instance| instance.slots.contains_key(slot));
    if instance.receiver.is_none() || !senders.is_empty() {
        slots.extend(named.filter(|slot| !slot.is_empty() && is_here(slot)));
    }
    slots.sort();
    slots.dedup();
    slots
}

/// The cap on WAL comes into force before the standby goes over to its new slot: a slot that holds more is lost then, and the standby
/// with it.
fn cap(others: Others<'_>, standby: Seen<'_>, upstream: Seen<'_>, slot: &str) -> Option<Diagnostic> {
    let positions = &upstream.instance?.positions;
    let from = upstream.instance?.slots.get(slot)?.restart_lsn?;
    let now = positions.current.or(positions.replay)?;
    let held = now.bytes_ahead_of(from);
    let cap = &others.topology.common().replication.max_slot_wal_keep_size;
    // -1 is no cap.
    let bytes = in_units(cap, "MB").filter(|megabytes| *megabytes >= 0)? * (1 << 20);
    if i128::from(held) * 2 <= bytes {
        return None;
    }
    let (name, of) = (&standby.server.name, &upstream.server.name);
    Some(
        Diagnostic::error(
            Code::SlotNearCap,
            format!("server \"{of}\": slot \"{slot}\" of standby \"{name}\" holds more than half of the WAL that a slot may hold"),
        )
        .server(of)
        .detail(format!("It holds {held} bytes, from {from} up to {now}. The adoption brings max_slot_wal_keep_size = {cap} into force before the standby has its new slot: a slot that holds more loses its WAL, and the standby would have to be copied anew."))
        .hint("Wait until the standby has caught up and run again; or raise replication.max_slot_wal_keep_size in the inventory."),
    )
}

/// Logical walsenders wait for the slots that are named there. One that is gone, or that nobody uses, stops them all.
fn waited_for(
    others: Others<'_>,
    standby: Seen<'_>,
    upstream: Seen<'_>,
    slot: &str,
    link: &Link,
) -> Option<Diagnostic> {
    let parameter = "synchronized_standby_slots";
    let (name, of) = (&standby.server.name, &upstream.server.name);
    let new = standby.server.name.slot_name();
    if link.upstream == *of && slot == new {
        return None;
    }
    let wished = parameters::of_inventory(others.topology, upstream.server).get(parameter).map(|value| value.as_str());
    let value = wished.or_else(|| Some(upstream.instance?.settings.get(parameter)?.setting.as_str()))?;
    let is_named = value.split(',').any(|one| one.trim().trim_matches('"') == slot);
    is_named.then(|| {
        Diagnostic::error(
            Code::StandbyWouldLose,
            format!("server \"{of}\": logical consumers wait for slot \"{slot}\", which standby \"{name}\" would leave"),
        )
        .server(of)
        .detail(format!("{parameter} is '{value}'. An adopted standby streams through slot \"{new}\" of \"{}\"; logical replication would stop for want of the other.", link.upstream))
        .hint(format!("Take \"{slot}\" out of {parameter} for the adoption, then SELECT pg_reload_conf(); afterwards name slot \"{new}\" there."))
    })
}

/// A standby keeps copies of failover slots only while its connection names a database.
fn slot_sync(standby: Seen<'_>, instance: &Instance) -> Option<Diagnostic> {
    let parameter = "sync_replication_slots";
    let name = &standby.server.name;
    instance.settings.get(parameter).is_some_and(|setting| setting.setting == "on").then(|| {
        Diagnostic::error(
            Code::StandbyWouldLose,
            format!("server \"{name}\": {parameter} is on"),
        )
        .server(name)
        .detail("It needs dbname in primary_conninfo, which pgstead's connection does not have: the standby would keep no copies of failover slots any more, and after a failover their consumers would find none.")
        .hint(format!("If no consumer needs that: set {parameter} = off on it, then SELECT pg_reload_conf(). Otherwise take \"{name}\" out of the inventory."))
    })
}

/// A standby that replays late, or stopped at a target, is kept like that on purpose: our file would end it.
fn held_back(others: Others<'_>, standby: Seen<'_>, instance: &Instance) -> Vec<Diagnostic> {
    let wished = parameters::of_inventory(others.topology, standby.server);
    let name = &standby.server.name;
    let holds = |one: &&brought::Brought| {
        one.name == "recovery_min_apply_delay" || one.ends_recovery && one.name != "promote_trigger_file"
    };
    // What ALTER SYSTEM has set is refused with the other settings of it.
    let is_of_auto =
        |set: &Setting| set.sourcefile.as_deref().is_some_and(|file| file.ends_with("/postgresql.auto.conf"));
    let judge = |one: &brought::Brought| {
        let setting = instance.settings.get(one.name).filter(|set| !one.is_neutral(set) && !is_of_auto(set))?;
        (!wished.contains_key(one.name)).then(|| {
            let unit = setting.unit.as_deref().unwrap_or_default();
            Diagnostic::error(
                Code::StandbyWouldLose,
                format!("server \"{name}\": {} is {}{unit}", one.name, setting.setting),
            )
            .server(name)
            .detail("That keeps it behind its primary. An adopted standby replays everything at once: whatever you keep it back for would be gone.")
            .hint(match one.ends_recovery {
                true => format!("If it need not be kept back any more, take {} out of its configuration and restart it; otherwise take \"{name}\" out of the inventory.", one.name),
                false => format!("If it is meant, put it into the inventory: servers.{name}.parameters. Otherwise take it out of its configuration, then SELECT pg_reload_conf()."),
            })
        })
    };
    brought::TABLE.iter().filter(holds).filter_map(judge).collect()
}

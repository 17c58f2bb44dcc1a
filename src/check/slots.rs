//! Judges slots: with their WAL, used by whom they are for, none left over, and failover slots copied.

use crate::check::Finding;
use crate::diagnostic::{Code, Diagnostic};
use crate::judge::State;
use crate::model::name::ServerName;
use crate::model::observation::{Instance, Sender, Slot};
use crate::model::thresholds::Thresholds;
use crate::model::topology::{Link, Topology};
use crate::render::hba::roles;

/// L10: the slot of a link, on its upstream. `rate` is the primary's WAL in bytes per second, where it is known.
pub(super) fn check_own_slot(
    seen: &Instance,
    link: &Link,
    sender: Option<&Sender>,
    rate: Option<u64>,
    thresholds: &Thresholds,
) -> Vec<Finding> {
    let Link { upstream, standby } = link;
    let name = standby.slot_name();
    let about = |what: &str| format!("link {upstream} → {standby}: slot \"{name}\" {what}");
    let Some(slot) = seen.slots.get(&name) else {
        return vec![Finding::unhealthy(
            Diagnostic::error(Code::SlotMissing, about(&format!("does not exist on \"{upstream}\"")))
                .server(upstream)
                .hint("\"pgstead bootstrap\" creates it; whether the standby can catch up depends on the WAL that is still there."),
        )];
    };
    let mut findings = Vec::new();
    match slot.wal_status.as_deref() {
        Some("lost") => findings.push(Finding::unhealthy(
            Diagnostic::error(Code::SlotLost, about("has lost WAL that the standby needs"))
                .server(upstream)
                .hint(format!("Look first: pgstead reseed {standby} --dry-run")),
        )),
        Some("unreserved") => findings.push(Finding::unhealthy(
            Diagnostic::error(Code::SlotUnreserved, about("is about to lose WAL that the standby needs"))
                .server(upstream)
                .detail("pg_replication_slots says wal_status = unreserved: the next checkpoint may remove the WAL.")
                .hint("Bring the standby back now, or raise max_slot_wal_keep_size and reload."),
        )),
        _ => {}
    }
    if let (Some(pid), Some(sender)) = (slot.active_pid, sender)
        && pid != sender.pid
    {
        findings.push(Finding::unhealthy(
            Diagnostic::error(Code::SlotTaken, about("is used by another process"))
                .server(upstream)
                .detail(format!("Process {pid} uses it; the standby's walsender is process {}.", sender.pid)),
        ));
    }
    if let (Some(rate), Some(safe)) = (rate.filter(|rate| *rate > 0), slot.safe_wal_size) {
        let seconds = u64::try_from(safe).unwrap_or(0) / rate;
        if seconds < thresholds.slot_outage_s {
            findings.push(Finding::remark(
                Diagnostic::warning(Code::SlotOutageShort, about("would not outlast an outage of the standby"))
                    .server(upstream)
                    .detail(format!(
                        "{} MB may still be written, {} kB per second are: enough for {} minutes, not for {}.",
                        safe >> 20,
                        rate >> 10,
                        seconds / 60,
                        thresholds.slot_outage_s / 60
                    ))
                    .hint("Raise replication.max_slot_wal_keep_size in the inventory, where the disk has room."),
            ));
        }
    }
    findings
}

/// L10: slots of one server that nobody uses. Each holds WAL back until a cap, and vacuum perhaps.
pub(super) fn check_left_over(
    topology: &Topology,
    name: &ServerName,
    links: &[Link],
    instance: &Instance,
    thresholds: &Thresholds,
) -> Vec<Finding> {
    let is_ours = |slot: &String| links.iter().any(|link| link.upstream == *name && link.standby.slot_name() == *slot);
    let idle = |slot: &Slot| {
        let long_enough = slot.inactive_s.is_none_or(|seconds| seconds >= thresholds.slot_inactive_s);
        !slot.active && !slot.temporary && !slot.synced && long_enough
    };
    let left_over = instance.slots.iter().filter(|(slot, row)| !is_ours(slot) && idle(row));
    left_over
        .map(|(slot, row)| {
            let owner = topology.servers().find(|server| server.name.slot_name() == *slot);
            let whose = owner.map_or(String::new(), |server| {
                format!(" It is named like server \"{}\", which does not stream from here.", server.name)
            });
            let held = row.restart_lsn.map_or("no WAL".to_owned(), |lsn| format!("WAL from {lsn} on"));
            Finding::unhealthy(
                Diagnostic::error(Code::SlotInactive, format!("server \"{name}\": nobody uses slot \"{slot}\""))
                    .server(name)
                    .detail(format!("It is a {} slot and holds {held}.{whose}", row.slot_type))
                    .hint(format!("When it is needed no more: SELECT pg_drop_replication_slot('{slot}'); there.")),
            )
            .with(owner.map(|server| server.name.clone()))
            .of_topology()
        })
        .collect()
}

/// L10: slots of one server through which somebody receives WAL as pgstead's standbys do, and the inventory has no such standby.
pub(super) fn check_strangers(topology: &Topology, name: &ServerName, instance: &Instance) -> Vec<Finding> {
    let is_known = |slot: &String| topology.servers().any(|server| server.name.slot_name() == *slot);
    let used = instance.slots.iter().filter(|(slot, row)| row.active && !row.temporary && !is_known(slot));
    let by_ours = used.filter_map(|(slot, row)| {
        let mut senders = instance.senders.iter();
        let sender =
            senders.find(|sender| Some(sender.pid) == row.active_pid && sender.usename == roles::REPLICATOR)?;
        Some((slot, sender))
    });
    by_ours
        .map(|(slot, sender)| {
            let from = sender.client_addr.as_deref().unwrap_or("a local socket");
            let message = format!("server \"{name}\": a standby uses slot \"{slot}\", and the inventory has none of that name");
            Finding::remark(
                Diagnostic::warning(Code::StandbyNotInInventory, message)
                    .server(name)
                    .detail(format!("\"{}\" at {from} receives WAL with the role {}. When it stops, its slot keeps WAL for it, up to max_slot_wal_keep_size.", sender.application_name, roles::REPLICATOR))
                    .hint(format!("Put it into the inventory, or stop its instance, and then: SELECT pg_drop_replication_slot('{slot}') on \"{name}\".")),
            )
            .of_topology()
        })
        .collect()
}

/// Says whether there is anything that L23 could judge.
pub(super) fn has_failover_slots(instance: &Instance) -> bool {
    instance.slots.values().any(|slot| slot.failover) || !synchronized_names(instance).is_empty()
}

fn synchronized_names(instance: &Instance) -> Vec<&str> {
    let text = instance.settings.get("synchronized_standby_slots").map_or("", |setting| setting.setting.as_str());
    text.split(',').map(|name| name.trim().trim_matches('"')).filter(|name| !name.is_empty()).collect()
}

/// L23: every failover slot of the primary is on every standby that copies slots, and on one at least.
pub(super) fn check_failover_slots(state: &State<'_>, primary: &ServerName, reference: &Instance) -> Vec<Finding> {
    let mut findings = Vec::new();
    let others = state.servers().filter(|(name, _)| *name != primary);
    let standbys: Vec<(&ServerName, &Instance)> =
        others.filter_map(|(name, server)| Some((name, server.instance()?))).collect();
    let copies = |instance: &Instance| {
        instance.settings.get("sync_replication_slots").is_some_and(|setting| setting.setting == "on")
    };
    for slot in reference.slots.iter().filter(|(_, row)| row.failover && !row.synced).map(|(name, _)| name) {
        let mut copied = 0;
        for (standby, instance) in standbys.iter().filter(|(_, instance)| copies(instance)) {
            copied += 1;
            let wrong = match instance.slots.get(slot) {
                None => "it is not there".to_owned(),
                Some(row) => match &row.invalidation_reason {
                    Some(reason) => format!("it is invalidated: {reason}"),
                    None if !row.synced => "a slot of that name is there which is no copy".to_owned(),
                    None if row.temporary => "it is not yet complete (temporary)".to_owned(),
                    None => continue,
                },
            };
            findings.push(
                Finding::unhealthy(
                    Diagnostic::error(
                        Code::FailoverSlotNotSynced,
                        format!("server \"{standby}\" has no copy of failover slot \"{slot}\""),
                    )
                    .server(standby)
                    .detail(format!("pg_replication_slots on \"{standby}\": {wrong}."))
                    .hint("Its log says why the slot sync worker cannot: it needs dbname in primary_conninfo and hot_standby_feedback = on."),
                )
                .of_topology(),
            );
        }
        if copied == 0 && state.all_answer() {
            findings.push(
                Finding::unhealthy(
                    Diagnostic::error(
                        Code::FailoverSlotNotSynced,
                        format!("no standby copies failover slot \"{slot}\" of \"{primary}\""),
                    )
                    .server(primary)
                    .detail("sync_replication_slots is off on every standby: after a failover its consumer finds no slot.")
                    .hint("Set sync_replication_slots and hot_standby_feedback in the inventory's parameters, or make the slot without failover."),
                )
                .of_topology(),
            );
        }
    }
    for name in synchronized_names(reference) {
        let problem = match reference.slots.get(name) {
            None => "does not exist",
            Some(slot) if !slot.active => "is used by nobody",
            Some(_) => continue,
        };
        findings.push(
            Finding::unhealthy(
                Diagnostic::error(
                    Code::SynchronizedSlotMissing,
                    format!("server \"{primary}\": slot \"{name}\" of synchronized_standby_slots {problem}"),
                )
                .server(primary)
                .detail("Logical consumers of failover slots wait until it confirms.")
                .hint("Bring its standby back, or take the name out of synchronized_standby_slots."),
            )
            .of_topology(),
        );
    }
    findings
}

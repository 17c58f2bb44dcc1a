//! Physical slots, by which an upstream keeps WAL for each of its standbys: whether one is there, and the steps that make and
//! drop them (hazards 18, 22, 47).

use crate::model::name::ServerName;
use crate::model::topology::{Link, Topology};
use crate::plan::seen::Seen;
use crate::plan::step::{Risk, Step};
use crate::plan::steps::sql;
use crate::render::hba::roles;

/// Says whether an upstream keeps WAL for a standby. Of one that does not run nobody knows it, and a lost slot keeps nothing.
pub fn has(upstream: Seen<'_>, standby: &ServerName) -> bool {
    let slot = upstream.instance.and_then(|instance| instance.slots.get(&standby.slot_name()));
    slot.is_some_and(|slot| slot.wal_status.as_deref() != Some("lost"))
}

/// Returns the step that makes an upstream keep WAL for standbys from now on, unless it does already.
pub fn create<'a>(upstream: Seen<'_>, standbys: impl IntoIterator<Item = &'a ServerName>) -> Step {
    let slots: Vec<String> = standbys.into_iter().map(ServerName::slot_name).collect();
    let names: Vec<String> = slots.iter().map(|slot| format!("\"{slot}\"")).collect();
    let title = format!("create slot{} {}", if slots.len() == 1 { "" } else { "s" }, names.join(", "));
    let command = sql::psql(upstream.layout, upstream.server, sql::create_slots(&slots));
    Step::run(&upstream.server.name, Risk::Reversible, title, vec![command])
}

/// Returns the standbys for which a server that runs keeps WAL although no link needs that: those that follow another, and those
/// that somebody was about to move here. One whose slot is in use is told apart. Slots of others are theirs.
pub fn left_over<'a>(
    topology: &'a Topology,
    links: &'a [Link],
    seen: Seen<'a>,
) -> impl Iterator<Item = (&'a ServerName, bool)> {
    let name = &seen.server.name;
    let is_needed =
        move |standby: &ServerName| links.iter().any(|link| link.upstream == *name && link.standby == *standby);
    let slot = move |standby: &ServerName| {
        let slot = seen.instance?.slots.get(&standby.slot_name())?;
        (slot.slot_type == "physical").then_some(slot.active)
    };
    let others = topology.servers().map(|server| &server.name);
    others.filter(move |other| *other != name && !is_needed(other)).filter_map(move |other| Some((other, slot(other)?)))
}

/// Returns the step that makes a server keep WAL no longer for one that was taken out of the inventory and does not stream; none where
/// it keeps none. If that was an error, the standby may have to be re-seeded.
pub fn forget(seen: Seen<'_>, removed: &ServerName) -> Option<Step> {
    let slot = removed.slot_name();
    let there = match seen.instance {
        Some(instance) => {
            instance.slots.get(&slot).filter(|slot| slot.slot_type == "physical" && !slot.active)?;
            ""
        }
        None => unasked(seen)?,
    };
    let title = format!("drop slot \"{slot}\"{there}: its server is not in the inventory any more");
    let command = sql::psql(seen.layout, seen.server, sql::drop_idle_slot(removed));
    Some(Step::run(&seen.server.name, Risk::Destructive, title, vec![command]))
}

/// Of an instance that runs by the end of a plan and did not when it was looked at, nobody knows which slots it has.
fn unasked(seen: Seen<'_>) -> Option<&'static str> {
    seen.data.map(|_| ", where it is there")
}

/// Returns the step that ends what a server that is removed receives from another, and its slot there; none where it has neither.
pub fn expel(upstream: Seen<'_>, removed: &ServerName) -> Option<Step> {
    let Some(instance) = upstream.instance else {
        let there = unasked(upstream)?;
        let title = format!("drop slot \"{}\"{there}: its server is removed", removed.slot_name());
        return Some(expulsion(upstream, removed, title));
    };
    let slot = instance.slots.get(&removed.slot_name()).filter(|slot| slot.slot_type == "physical");
    // Who receives under that name with another role is somebody else.
    let receives = instance
        .senders
        .iter()
        .any(|sender| sender.application_name == removed.as_str() && sender.usename == roles::REPLICATOR);
    let title = match slot {
        Some(_) => format!("drop slot \"{}\": its server is removed", removed.slot_name()),
        None if receives => format!("end the connection of \"{removed}\", which is removed"),
        None => return None,
    };
    Some(expulsion(upstream, removed, title))
}

fn expulsion(upstream: Seen<'_>, removed: &ServerName, title: String) -> Step {
    let command = sql::psql(upstream.layout, upstream.server, sql::drop_slot(removed));
    Step::run(&upstream.server.name, Risk::Destructive, title, vec![command])
}

/// Returns the step that makes a server keep WAL for a standby no longer, which streams from another.
pub fn drop(upstream: Seen<'_>, standby: &ServerName) -> Step {
    let command = sql::psql(upstream.layout, upstream.server, sql::drop_slot(standby));
    let title = format!("drop slot \"{}\", which is not needed there any more", standby.slot_name());
    Step::run(&upstream.server.name, Risk::Reversible, title, vec![command])
}

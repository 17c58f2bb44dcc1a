//! Physical slots, by which an upstream keeps WAL for each of its standbys: whether one is there, and the steps that make and
//! drop them (hazards 18, 22, 47).

use crate::model::name::ServerName;
use crate::plan::sql;
use crate::plan::step::Risk;
use crate::plan::step::Step;
use crate::plan::survey::Seen;

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

/// Returns the step that makes a server keep WAL for a standby no longer, which streams from another.
pub fn drop(upstream: Seen<'_>, standby: &ServerName) -> Step {
    let command = sql::psql(upstream.layout, upstream.server, sql::drop_slot(standby));
    let title = format!("drop slot \"{}\", which is not needed there any more", standby.slot_name());
    Step::run(&upstream.server.name, Risk::Reversible, title, vec![command])
}

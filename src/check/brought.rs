//! Judges settings that act on standbys alone (hazard 36): in force on one, or lying in wait on a primary for the day on which
//! it is a standby itself.

use crate::check::Finding;
use crate::diagnostic::{Code, Diagnostic};
use crate::judge::{ServerState, Writes};
use crate::model::identity::Configuration;
use crate::model::observation::{Instance, ServerObservation};
use crate::model::topology::{Server, Topology};
use crate::plan::files::brought::TABLE;
use crate::plan::files::parameters;

/// L14: nothing ends, delays or leads astray the replay of one server, now or once it is a standby.
pub(super) fn check_brought(
    topology: &Topology,
    server: &Server,
    seen: &ServerObservation,
    instance: &Instance,
) -> Vec<Finding> {
    let name = &server.name;
    let state = ServerState::of_seen(seen);
    let is_kept = state.configuration() == Configuration::Kept;
    let is_primary = state.writes() == Writes::Now;
    let wanted = parameters::of_inventory(topology, server);
    let mut findings = Vec::new();
    // Whom a standby dials, and by which slot, is judged with its link.
    let of_link = ["primary_conninfo", "primary_slot_name"];
    for one in TABLE.iter().filter(|one| !of_link.contains(&one.name) && !wanted.contains_key(one.name)) {
        let Some(setting) = instance.settings.get(one.name).filter(|setting| !one.is_neutral(setting)) else {
            continue;
        };
        let from = setting.sourcefile.as_deref().unwrap_or(&setting.source);
        // The operator's own files may say so: our file takes it back as soon as this is a standby.
        let is_undone = is_kept && is_primary && !from.ends_with("/postgresql.auto.conf") && from != "command line";
        let stops = one.ends_recovery || one.name == "recovery_target_timeline";
        let message = if one.name == "recovery_target_timeline" {
            format!("server \"{name}\": recovery_target_timeline is not latest")
        } else {
            format!("server \"{name}\": {} is set", one.name)
        };
        let detail = format!("It is {}, from: {from}. On a standby {}.", setting.setting, one.acts);
        findings.push(if stops && !is_undone {
            Finding::unhealthy(
                Diagnostic::error(Code::RecoveryTarget, message).server(name).detail(detail).hint("Reset it."),
            )
        } else {
            Finding::remark(
                Diagnostic::warning(Code::StandbySetting, message)
                    .server(name)
                    .detail(detail)
                    .hint("Take it out of where it is set. A delay that is meant belongs into the inventory."),
            )
        });
    }
    findings
}

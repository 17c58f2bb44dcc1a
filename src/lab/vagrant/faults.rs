//! Breaks a machine of a Vagrant lab, and mends it: its power by Vagrant, the rest by a script that runs in it.
//!
//! Vagrant's own way in is another interface than the servers' network, so that a cut link can be mended.

use super::command::vagrant;
use super::error::VagrantLabError;
use super::place::{Place, State};
use crate::lab::fault::Fault;
use crate::quote::sh;

/// Runs as root in a machine.
const SCRIPT: &str = include_str!("fault.sh");

/// Returns why a container, which is no machine of its own, can't have a fault.
pub(super) fn container_cannot(fault: Fault) -> Option<&'static str> {
    match fault {
        Fault::DiskFull | Fault::DiskFree => Some("its containers share this machine's file system"),
        Fault::ClockAhead { .. } | Fault::ClockRight => Some("its containers share this machine's clock"),
        Fault::LinkOff | Fault::LinkOn => Some("its containers have no other way in by which it could be mended"),
        _ => None,
    }
}

/// Makes a fault, or ends it.
pub(super) fn make(place: &Place, state: &State, server: &str, fault: Fault) -> Result<(), VagrantLabError> {
    let address = state.servers.iter().find(|(name, _)| name == server).map_or("", |(_, address)| address);
    let (word, number) = match fault {
        Fault::PowerOff => return vagrant(place, state.provider, &["halt", "--force", server]).map(drop),
        // Its lines to other sites are made again, since they went with the power.
        Fault::PowerOn => return vagrant(place, state.provider, &["up", server]).map(drop),
        Fault::LinkOff => ("link-off", None),
        Fault::LinkOn => ("link-on", None),
        Fault::DiskFull => ("disk-full", None),
        Fault::DiskFree => ("disk-free", None),
        Fault::RateLimited { megabits } => ("rate-limited", Some(megabits.to_string())),
        Fault::RateFree => ("rate-free", None),
        Fault::ClockAhead { seconds } => ("clock-ahead", Some(seconds.to_string())),
        Fault::ClockRight => ("clock-right", None),
    };
    let mut words = vec!["sudo", "sh", "-c", SCRIPT, "fault.sh", word, address];
    words.extend(number.as_deref());
    vagrant(place, state.provider, &["ssh", server, "--command", &sh::join(&words)]).map(drop)
}

//! Whether what stands at the former primary's address is the former primary. A clone, a restored snapshot or another machine
//! there does not run either, and says nothing of the primary: it runs elsewhere, and promoting would make two (hazard 54).

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::State;
use crate::judge::link::Upstream;
use crate::model::name::ServerName;
use crate::model::observation::ServerObservation;

/// How a server says that it exists: PostgreSQL's own word, in any language but a few.
const SERVER_SPEAKS: &str = "FATAL:";

/// Returns why the instance at the former primary's address, which does not run or cannot be reached, is not the one that is to
/// be replaced.
pub(super) fn contradicted(state: &State<'_>, from: &ServerName) -> Option<Diagnostic> {
    let State { topology, .. } = state;
    let seen = state.seen(from);
    if seen.is_some() && !state.server(from).is_stopped() {
        return None;
    }
    let others = || {
        let others = state.servers().filter(|(name, _)| *name != from);
        others.filter_map(|(name, server)| Some((name, server.seen?)))
    };
    let received = others().filter_map(|(name, _)| receives_from_elsewhere(state, name));
    // What others see of one that cannot be reached is judged with the word for it.
    let answered = others().filter(|_| seen.is_some()).filter_map(|(name, seen)| is_answered(name, seen, from));
    let signs: Vec<String> = received.chain(answered).collect();
    let address = topology.server(from).map(|server| server.address.to_string()).unwrap_or_default();
    let message = format!("what is at the address of \"{from}\" is not the primary that is to be replaced");
    if !signs.is_empty() {
        return Some(
            Diagnostic::error(Code::NotThePrimary, message)
                .server(from)
                .detail(format!("No instance runs at {address}, as far as can be seen, and yet {}.", signs.join("; ")))
                .hint(format!("A clone or a restored snapshot may stand there. Find out where the primary runs, and correct the address of \"{from}\" in the inventory. Where it only just went off, a standby notices after half a minute: run the same command again.")),
        );
    }
    let identity = state.server(from).mark?;
    let is_its_own = identity.server == from.as_str() && identity.topology == topology.name().as_str();
    (!is_its_own).then(|| {
        Diagnostic::error(Code::DataDirectoryOfAnotherServer, message)
            .server(from)
            .detail(format!(
                "{address} leads to the data directory of server \"{}\" of topology \"{}\".",
                identity.server, identity.topology
            ))
            .hint(format!("Correct the address of \"{from}\" in the inventory, and run the same command again."))
    })
}

/// A standby that receives WAL does so from somebody. Who sends is another server of the topology, or elsewhere. That it receives
/// from the former primary's own address may be a moment old, and a login there says more.
fn receives_from_elsewhere(state: &State<'_>, name: &ServerName) -> Option<String> {
    state.server(name).standby()?;
    let from = match state.receives_from(name)? {
        Upstream::Server(_) => return None,
        Upstream::OtherPort(other) => state.topology.server(other).map(|other| other.address.to_string()),
        Upstream::Elsewhere(host) => host.map(str::to_owned),
    };
    let is_sent = state.servers().any(|(other, _)| other != name && state.sends_to(other, name));
    (!is_sent).then(|| format!("\"{name}\" receives WAL from {}", from.as_deref().unwrap_or("somebody")))
}

/// Another server can log in to the instance, or is turned away by it.
fn is_answered(name: &ServerName, seen: &ServerObservation, from: &ServerName) -> Option<String> {
    match seen.peers.get(from)?.dial.look() {
        Ok(Some(_)) => Some(format!("\"{name}\" can log in to it")),
        Err(why) if why.contains(SERVER_SPEAKS) => {
            Some(format!("an instance answers \"{name}\" there: {}", why.trim()))
        }
        Err(_) | Ok(None) => None,
    }
}

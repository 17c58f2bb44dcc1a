//! The plan of `replace`: new hardware under the name of a server. What the others say of that server is judged before its host key is
//! believed; then it is a bootstrap, in which that server has no data yet.

use std::collections::BTreeSet;

use crate::diagnostic::{Code, Diagnostic};
use crate::judge;
use crate::judge::State;
use crate::model::address::Address;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::topology::Topology;
use crate::plan::files::guard;
use crate::plan::operation::bootstrap::plan_bootstrap;
use crate::plan::seen::Seen;
use crate::plan::steps::orphans;
use crate::plan::{Consent, Material, Plan};

/// Judges what the other servers say of a server before anybody connects to it. Returns the addresses under which they know it and
/// the inventory does not.
///
/// # Errors
/// Every reason why its machine must not be another one now.
pub fn judge_before(
    topology: &Topology,
    observation: &Observation,
    server: &ServerName,
) -> Result<BTreeSet<Address>, Vec<Diagnostic>> {
    let state = State::of(topology, observation);
    let mut refusals = Vec::new();
    if state.writers().is_empty() {
        refusals.push(no_primary(server));
    }
    let former = former_addresses(topology, observation, server);
    refusals.extend(former_streams(&state, server, &former));
    if refusals.is_empty() { Ok(former) } else { Err(refusals) }
}

/// Whoever takes the place of a primary has its data from nobody.
fn no_primary(server: &ServerName) -> Diagnostic {
    Diagnostic::error(Code::ServerNeeded, format!("no other server than \"{server}\" accepts writes"))
        .server(server)
        .detail(format!("Its data are copied from the primary. \"{server}\" may be the primary itself."))
        .hint(format!(
            "Was \"{server}\" the primary? Then make another server the primary first: pgstead switchover --to SERVER, or pgstead failover --to SERVER where it is dead. Otherwise start the primary's instance: pgstead bootstrap --without {server}. Then run the same command again."
        ))
}

/// Returns under which addresses the others know a server; not that of the inventory, and none that another server has there.
fn former_addresses(topology: &Topology, observation: &Observation, server: &ServerName) -> BTreeSet<Address> {
    let others = observation.servers.iter().filter_map(|(name, seen)| {
        let seen = seen.known().filter(|_| name != server)?;
        Seen::of_observed(topology, name, seen)
    });
    let known = others.filter_map(|seen| guard::listed_address(seen, server));
    let is_former = |address: &Address| topology.servers().all(|other| other.address != *address);
    known.filter(is_former).collect()
}

/// The former machine still streams, from an address that only it has.
fn former_streams(state: &State<'_>, server: &ServerName, former: &BTreeSet<Address>) -> Option<Diagnostic> {
    let senders = state.servers().filter_map(|(name, _)| Some((name, &state.instance(name)?.senders)));
    let mut all = senders.flat_map(|(name, senders)| senders.iter().map(move |sender| (name, sender)));
    let is_its = |from: &str| former.iter().any(|address| address.to_string() == from);
    let (upstream, from) = all.find_map(|(upstream, sender)| {
        let from = sender.client_addr.as_deref().filter(|from| is_its(from))?;
        (sender.application_name == server.as_str()).then_some((upstream, from))
    })?;
    let message = format!("server \"{upstream}\": somebody else streams under the name of \"{server}\"");
    Some(
        Diagnostic::error(Code::StandbyElsewhere, message)
            .server(upstream)
            .detail(format!("The connection comes from {from}, where \"{server}\" was until now."))
            .hint(former_machine(server)),
    )
}

fn former_machine(server: &ServerName) -> String {
    format!(
        "Stop the instance on the former machine of \"{server}\", and see to it that nothing starts it again. Is it no new machine, but the same one at another address? Then: pgstead bootstrap. Two servers must not have one name."
    )
}

/// Plans a replacement.
///
/// # Errors
/// Every reason to refuse, at once. Nothing was changed.
pub fn plan_replacement(
    topology: &Topology,
    observation: &Observation,
    material: &Material,
    server: &ServerName,
) -> Result<Plan, Vec<Diagnostic>> {
    let state = State::of(topology, observation);
    let mut refusals: Vec<Diagnostic> = Vec::new();
    if state.writers().iter().all(|writer| *writer == server) {
        refusals.push(no_primary(server));
    }
    refusals.extend(is_upstream(&state, server));
    let planned = plan_bootstrap(topology, observation, material, Consent::default());
    let refused = planned.as_ref().err().into_iter().flatten();
    refusals.extend(refused.cloned().map(|refusal| of_bootstrap(refusal, server)));
    // A bootstrap does not mind it where a copy is complete already.
    if !refusals.iter().any(|refusal| refusal.code == Code::StandbyElsewhere) {
        let foreign = orphans::foreign(&state, server);
        refusals.extend(foreign.map(|refusal| of_bootstrap(refusal, server)));
    }
    match planned {
        Ok(mut plan) if refusals.is_empty() => {
            plan.notes.push(told(&state, server));
            Ok(plan)
        }
        _ => Err(refusals),
    }
}

/// What follows the server has no way to go on from its copy.
fn is_upstream(state: &State<'_>, server: &ServerName) -> Option<Diagnostic> {
    if state.server(server).data.is_some() {
        return None;
    }
    let primary = judge::primary_or_preferred(state.topology, state.observation);
    let links = state.topology.links(primary);
    let upstream = links.iter().find(|link| link.standby == *server).map(|link| &link.upstream)?;
    let below: Vec<&ServerName> =
        links.iter().filter(|link| link.upstream == *server).map(|link| &link.standby).collect();
    let below: Vec<&ServerName> = below.into_iter().filter(|name| state.server(name).data.is_some()).collect();
    if below.is_empty() {
        return None;
    }
    let names = below.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let ways = below.iter().map(|name| format!("servers.{name}.upstream: {upstream}")).collect::<Vec<_>>().join(", ");
    Some(
        Diagnostic::error(Code::ServerNeeded, format!("server \"{server}\" is the upstream of {names}"))
            .server(server)
            .detail(format!("What was written since it went away is not in the WAL of a copy: {names} could not go on from there. \"{upstream}\" keeps that WAL in the slot of \"{server}\"."))
            .hint(format!("Let them follow \"{upstream}\" meanwhile ({ways}), then: pgstead bootstrap --without {server}. Then run the same command again, and give \"{server}\" back to them afterwards.")),
    )
}

/// Words what a bootstrap refuses as what it is for a replacement.
fn of_bootstrap(refusal: Diagnostic, server: &ServerName) -> Diagnostic {
    match refusal.code {
        Code::StandbyElsewhere => refusal.hint(former_machine(server)),
        Code::RestartNeedsConsent => refusal.hint(format!(
            "Make that change first: pgstead bootstrap --without {server} --allow-restart. Then replace the server."
        )),
        _ => refusal,
    }
}

/// Says where its data come from, and what is kept for it meanwhile; or that it is no new server.
fn told(state: &State<'_>, server: &ServerName) -> Diagnostic {
    let note = |message: String| Diagnostic::note(Code::ServerReplaced, message).server(server);
    if state.server(server).data.is_some() {
        return note(format!("server \"{server}\" has its data already"))
            .detail("Nothing is copied. What an interrupted run left is finished.");
    }
    let primary = judge::primary_or_preferred(state.topology, state.observation);
    let links = state.topology.links(primary);
    let upstream = links.iter().find(|link| link.standby == *server).map_or(primary, |link| &link.upstream);
    let slot = state.instance(upstream).and_then(|instance| instance.slots.get(&server.slot_name()));
    let kept = match slot.and_then(|slot| slot.wal_status.as_deref()) {
        Some("lost") => "Its slot has lost WAL: it is made anew before the copy begins.",
        Some(_) => "Its slot keeps the WAL that is written during the copy, up to max_slot_wal_keep_size.",
        None => "A slot is made for it before the copy begins.",
    };
    note(format!("server \"{server}\" is new: its data are copied from \"{upstream}\""))
        .detail(format!("{kept} Its former machine must stay off: it has the keys and certificates of \"{server}\"."))
}

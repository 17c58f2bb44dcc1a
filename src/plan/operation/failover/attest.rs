//! What a person answers for: that servers which cannot be reached are off, and stay off (hazard 54 c).
//!
//! It is taken for a primary and for bystanders alike, and only where nothing contradicts it: the server is out of reach from
//! the operator's machine, and nobody else reaches its instance either. What holds it when the server gets its power back is
//! its start guard, which asks the others first (hazard 55).

use std::collections::BTreeSet;

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::State;
use crate::model::name::ServerName;
use crate::model::observation::ServerObservation;
use crate::model::observed::Observed;
use crate::plan::operation::failover::{Request, unseen};

/// What libpq says where nobody answers: nothing else is silence (`fe-connect.c`, and the C library's words for errors).
const SILENCE: &[&str] = &[
    "Connection refused",
    "timeout expired",
    "Connection timed out",
    "No route to host",
    "Network is unreachable",
    "Host is down",
];

/// What libpq says where a name has no address: nobody was looked for.
const NO_ADDRESS: &str = "could not translate host name";

/// Returns why what is answered for cannot be so.
pub(super) fn contradicted(state: &State<'_>, request: Request<'_>) -> Vec<Diagnostic> {
    let judge = |name: &ServerName| {
        state.topology.server(name)?;
        if name == request.to {
            return Some(
                contradicts(name, "and is to become the primary")
                    .hint("Name the servers that are off; the successor must run."),
            );
        }
        if state.seen(name).is_some() {
            return Some(
                contradicts(name, "and answers over SSH")
                    .detail("A server that answers is fenced directly; no attestation is needed.")
                    .hint(format!("Leave it out: {}", command(request.to, &without(request.attested, name)))),
            );
        }
        let others = || state.servers().filter_map(|(other, server)| Some((other, server.seen?)));
        let signs: Vec<String> = others().filter_map(|(other, seen)| sign_of_life(state, name, other, seen)).collect();
        if !signs.is_empty() {
            return Some(
                contradicts(name, "and another server sees that it runs")
                    .detail(format!("{}.", signs.join("; ")))
                    .hint("It is only out of reach of this machine. Stop its instance where it runs, or cut it off from its clients and from the other servers; then run the same command again. Where it just went off, a standby that received from it notices after half a minute at most: run the same command again then."),
            );
        }
        let was_dialled = |seen: &ServerObservation| {
            let dial = seen.peers.get(name).map(|peer| &peer.dial);
            dial.is_some_and(|dial| match dial {
                Observed::Known(_) => true,
                Observed::Unreadable(why) => !why.contains(NO_ADDRESS),
                Observed::Absent | Observed::NotAsked => false,
            })
        };
        (!others().any(|(_, seen)| was_dialled(seen))).then(|| {
            contradicts(name, "and no other server has looked for it")
                .detail("A server that one machine cannot reach may still run; a second server must confirm that it is off (hazard 54).")
                .hint("A server that can log in to the others must be among those that answer: pgstead check --only L15")
        })
    };
    request.attested.iter().filter_map(judge).collect()
}

fn contradicts(name: &ServerName, what: &str) -> Diagnostic {
    Diagnostic::error(Code::AttestationContradicted, format!("server \"{name}\" is said to be off, {what}"))
        .server(name)
}

/// Says how another server sees that the instance of this one runs.
fn sign_of_life(state: &State<'_>, name: &ServerName, other: &ServerName, seen: &ServerObservation) -> Option<String> {
    if state.receives_from(other).is_some_and(|from| from.is_at(name)) {
        return Some(format!("\"{other}\" receives WAL from it"));
    }
    if state.sends_to(other, name) {
        return Some(format!("\"{other}\" sends WAL to it"));
    }
    match &seen.peers.get(name)?.dial {
        Observed::Known(_) => Some(format!("\"{other}\" can log in to it")),
        Observed::Unreadable(why) if why.contains(NO_ADDRESS) => None,
        Observed::Unreadable(why) if !SILENCE.iter().any(|words| why.contains(words)) => {
            Some(format!("something answers \"{other}\" there: {}", why.trim()))
        }
        // Who was not made to dial has not looked.
        Observed::Unreadable(_) | Observed::Absent | Observed::NotAsked => None,
    }
}

/// Returns the former primary, where every server that could not be looked at is answered for, or is none: each other one is a
/// standby.
pub(super) fn former<'a>(state: &State<'a>, request: Request<'_>) -> Option<&'a ServerName> {
    let names = || state.servers().map(|(name, _)| name);
    let is_gone = |name: &&ServerName| request.attested.contains(*name);
    // Whom a standby follows says more than the wish of the first day; the head of a cascade is none.
    let followed = |name: &&ServerName| names().any(|other| state.is_to_follow(other, name));
    let of_successor = names().filter(is_gone).find(|name| state.is_to_follow(request.to, name));
    let is_unseen = |name: &&ServerName| state.seen(name).is_none() && !is_gone(name);
    if names().filter(is_unseen).any(|name| unseen::may_be_primary(state, request, of_successor, name)) {
        return None;
    }
    let preferred = state.topology.preferred_primary();
    names().filter(is_gone).find(followed).or_else(|| Some(preferred).filter(is_gone)).or_else(|| names().find(is_gone))
}

/// What is to be known of servers that nobody fenced.
pub(super) fn notes(request: Request<'_>) -> impl Iterator<Item = Diagnostic> + '_ {
    request.attested.iter().map(|name| {
        Diagnostic::warning(Code::FenceAttested, format!("server \"{name}\" is not fenced by pgstead; you answer for it"))
            .server(name)
            .detail("When it gets its power back, its start guard asks the other servers and refuses to start a primary that was replaced; where it reaches none of them, it waits.")
            .hint(format!("When it is back: pgstead reseed {name}"))
    })
}

fn without(attested: &BTreeSet<ServerName>, name: &ServerName) -> BTreeSet<ServerName> {
    attested.iter().filter(|other| *other != name).cloned().collect()
}

/// Returns the command with what is answered for.
pub(super) fn command(to: &ServerName, attested: &BTreeSet<ServerName>) -> String {
    let attested: Vec<&ServerName> = attested.iter().collect();
    let words = match attested.is_empty() {
        true => String::new(),
        false => [" ", &words(&attested)].concat(),
    };
    format!("pgstead failover --to {to}{words}")
}

fn words(attested: &[&ServerName]) -> String {
    let servers: Vec<String> = attested.iter().map(|name| format!("--attest-fenced {name}")).collect();
    format!("{} --reason \"how you know\"", servers.join(" "))
}

/// Says what a person may answer for.
pub(super) fn hint(to: &ServerName, missing: &[&ServerName]) -> String {
    let words = words(missing);
    format!("Or, where you know that it is off and stays off, and answer for that: pgstead failover --to {to} {words}")
}

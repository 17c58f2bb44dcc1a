//! Servers that the operator leaves out (`--without`): nobody looks at them, nothing on them is changed, and everything that others
//! keep for them stays: their slots, their records in pg_hba.conf, their place among the peers of the start guard.

use std::collections::BTreeMap;

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::link;
use crate::model::name::ServerName;
use crate::model::observation::{Instance, Observation};
use crate::model::observed::Observed;
use crate::model::parameter::HOT_STANDBY_PARAMETERS;
use crate::model::topology::{Link, Topology};
use crate::plan::files::decided::{Change, Decided, Direction};
use crate::plan::seen::Seen;
use crate::plan::survey::consent::Consent;

/// Returns the servers that were left out: nobody was to look at them.
pub fn left_out(observation: &Observation) -> Vec<&ServerName> {
    let servers = observation.servers.iter();
    servers.filter(|(_, seen)| matches!(seen, Observed::NotAsked)).map(|(name, _)| name).collect()
}

/// Says that a server is left out.
pub fn told(server: &ServerName) -> Diagnostic {
    Diagnostic::note(Code::LeftOut, format!("server \"{server}\" is left out: pgstead neither looks at it nor changes it"))
        .server(server)
        .detail("Its slot, its records in pg_hba.conf and its certificates stay as they are. While it is away, its slot may keep WAL on its upstream, up to max_slot_wal_keep_size.")
        .hint("When it answers again, run the same command without --without: that completes it.")
}

/// Says why nobody may be left out at all: one of them may be the primary.
pub(in crate::plan) fn barred(
    topology: &Topology,
    observation: &Observation,
    primary: &ServerName,
    servers: &BTreeMap<ServerName, Seen<'_>>,
    consent: Consent,
) -> Vec<Diagnostic> {
    let left_out = left_out(observation);
    if left_out.is_empty() {
        return Vec::new();
    }
    if consent.new_authority {
        return vec![no_new_authority(&left_out)];
    }
    let Some(seen) = servers.get(primary) else { return vec![no_new_primary(primary, &left_out)] };
    if seen.data.is_none() || seen.adopted {
        return vec![no_new_primary(primary, &left_out)];
    }
    let Some(instance) = seen.instance else { return vec![does_not_run(primary, &left_out)] };
    let standbys = servers.values();
    standbys
        .filter_map(|standby| {
            follows(topology, *standby, primary, &left_out).or_else(|| is_later(*standby, primary, instance))
        })
        .collect()
}

/// Says why the others cannot be planned for without those that are left out. `new_tablespace` is one that would be created.
pub(in crate::plan) fn refusals(
    observation: &Observation,
    primary: &ServerName,
    links: &[Link],
    decided: &BTreeMap<&ServerName, Decided<'_>>,
    new_tablespace: Option<&str>,
) -> Vec<Diagnostic> {
    let left_out = left_out(observation);
    let mut refusals = Vec::new();
    if left_out.is_empty() {
        return refusals;
    }
    let seen_primary = decided.get(primary);
    for link in links.iter().filter(|link| left_out.contains(&&link.upstream)) {
        let Some(standby) = decided.get(&link.standby) else { continue };
        let is_new = standby.seen.data.is_none();
        if is_new || matches!(standby.change, Change::Restart { .. }) {
            refusals.push(upstream_is_missing(link, primary, is_new));
        }
    }
    // A standby that has less than its primary stops replaying, or does not start (hazard 38).
    if let Some(Decided { change: Change::Restart { parameters }, .. }) = seen_primary {
        let rises = |(name, way): &&(String, Direction)| {
            *way == Direction::Rises && HOT_STANDBY_PARAMETERS.contains(&name.as_str())
        };
        refusals.extend(parameters.iter().find(rises).map(|(name, _)| would_stop(name, primary, &left_out)));
    }
    refusals.extend(new_tablespace.map(|tablespace| no_tablespace(tablespace, primary, &left_out)));
    refusals
}

fn names(servers: &[&ServerName]) -> String {
    servers.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

fn no_new_primary(primary: &ServerName, left_out: &[&ServerName]) -> Diagnostic {
    Diagnostic::error(Code::LeftOutNeeded, "a new primary is made only where every server was looked at")
        .server(primary)
        .detail(format!("Server \"{primary}\" has no data of this topology yet. {} may have them, and is left out.", names(left_out)))
        .hint("Run the command without --without. Is it a server that does not exist yet? Take it out of the inventory until it does.")
}

fn follows(topology: &Topology, seen: Seen<'_>, primary: &ServerName, left_out: &[&ServerName]) -> Option<Diagnostic> {
    let instance = seen.instance?;
    let from = left_out.iter().find(|name| link::streams_from(topology, instance, name))?;
    let name = &seen.server.name;
    let is_wished = topology.links(primary).iter().any(|link| link.standby == *name && link.upstream == **from);
    (!is_wished).then(|| {
        Diagnostic::error(
            Code::LeftOutNeeded,
            format!("server \"{name}\" receives WAL from \"{from}\", which is left out"),
        )
        .server(name)
        .detail(format!("So \"{from}\" runs, and may accept writes. The plan would take \"{name}\" away from it."))
        .hint(format!("Make \"{from}\" reachable over SSH, and run the command without --without."))
    })
}

/// A start of pgstead's ends the wait of the start guard, which asks whoever is left out.
fn does_not_run(primary: &ServerName, left_out: &[&ServerName]) -> Diagnostic {
    Diagnostic::error(Code::LeftOutNeeded, format!("the primary \"{primary}\" does not run, and is started only where every server was looked at"))
        .server(primary)
        .detail(format!("{} may have been promoted in its place, and is left out.", names(left_out)))
        .hint("Start its instance on the server itself: its start guard asks the others whether it was replaced. Then run the same command again.")
}

fn is_later(standby: Seen<'_>, primary: &ServerName, instance: &Instance) -> Option<Diagnostic> {
    let (of_standby, of_primary) = (standby.instance?.timeline, instance.timeline);
    let name = &standby.server.name;
    (of_standby > of_primary).then(|| {
        Diagnostic::error(Code::LeftOutNeeded, format!("server \"{name}\" is on a later timeline than the primary \"{primary}\""))
            .server(name)
            .detail(format!("It is on timeline {of_standby}, the primary on timeline {of_primary}: somebody was promoted who is left out."))
            .hint("Make every server reachable over SSH, and run the command without --without.")
    })
}

fn no_new_authority(left_out: &[&ServerName]) -> Diagnostic {
    Diagnostic::error(Code::LeftOutNeeded, format!("{} would not trust a new CA", names(left_out)))
        .detail("A server that is left out trusts the former CA alone: it would refuse the others, and they could not reach it.")
        .hint("Make a new CA when every server answers.")
}

fn no_tablespace(tablespace: &str, primary: &ServerName, left_out: &[&ServerName]) -> Diagnostic {
    Diagnostic::error(
        Code::LeftOutNeeded,
        format!(
            "tablespace \"{tablespace}\" would be created on \"{primary}\", and {} has no directory for it",
            names(left_out)
        ),
    )
    .server(primary)
    .detail("A standby that replays its creation and has no such directory stops.")
    .hint("Create it when every server answers: take it out of the inventory until then.")
}

fn upstream_is_missing(link: &Link, primary: &ServerName, is_new: bool) -> Diagnostic {
    let Link { standby, upstream } = link;
    let why = if is_new {
        "It would be copied, and could not be proven."
    } else {
        "It would be restarted, and could not be proven."
    };
    Diagnostic::error(Code::LeftOutNeeded, format!("server \"{standby}\" gets its WAL from \"{upstream}\", which is left out"))
        .server(standby)
        .detail(why)
        .hint(format!("Leave \"{standby}\" out, too (--without {standby}), or let it follow the primary: servers.{standby}.upstream: {primary}."))
}

fn would_stop(parameter: &str, primary: &ServerName, left_out: &[&ServerName]) -> Diagnostic {
    Diagnostic::error(
        Code::LeftOutNeeded,
        format!("{parameter} would rise on \"{primary}\", and not on {}", names(left_out)),
    )
    .server(primary)
    .detail("A standby that has less of it than its primary stops replaying, and does not start.")
    .hint("Change it when every server answers: take it back in the inventory until then.")
}

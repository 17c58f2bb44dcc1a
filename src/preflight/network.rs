//! Judges whether every server reaches every other: names, ports, addresses, and what stands in the way.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::name::ServerName;
use crate::model::observed::Observed;
use crate::model::pair::{Answer, Pair, Reach, Way};
use crate::preflight::Finding;
use crate::preflight::facts::{Facts, list};

pub(super) fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = names(facts).into_iter().chain(local_instances(facts)).map(Finding::from).collect();
    for (from, others) in facts.pairs {
        for (to, way) in others {
            let pair = Pair::new(from, to);
            let diagnostics = match way.look() {
                Ok(Some(way)) => of_way(facts, from, to, way),
                Ok(None) => Vec::new(),
                // That a server could not be reached is told once.
                Err(_) if facts.server(from).is_none() || facts.server(to).is_none() => Vec::new(),
                Err(why) => vec![
                    Diagnostic::warning(
                        Code::WayNotMeasured,
                        format!("the way from \"{from}\" to \"{to}\" was not measured"),
                    )
                    .detail(format!("{}.", why.trim_end_matches('.')))
                    .hint("Whether ports are open and lines fast enough there is unknown."),
                ],
            };
            found.extend(diagnostics.into_iter().map(|diagnostic| Finding { diagnostic, pair: Some(pair.clone()) }));
        }
    }
    found
}

/// A name that leads elsewhere on another server.
fn names(facts: &Facts<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for server in facts.topology.servers().filter(|server| server.address.ip().is_none()) {
        let views: Vec<(&ServerName, BTreeSet<IpAddr>)> = facts
            .servers()
            .filter_map(|seen| Some((seen.name, seen.seen.peers.get(&server.name)?.resolved.iter().copied().collect())))
            .collect();
        let Some((first, addresses)) = views.iter().find(|(_, addresses)| !addresses.is_empty()) else { continue };
        let others = views.iter().filter(|(_, other)| !other.is_empty() && other != addresses);
        let text =
            |addresses: &BTreeSet<IpAddr>| addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
        if let Some((other, differ)) = others.into_iter().next() {
            found.push(
                Diagnostic::warning(
                    Code::NameResolvesDifferently,
                    format!("the name \"{}\" has other addresses on \"{other}\" than on \"{first}\"", server.address),
                )
                .server(&server.name)
                .detail(format!("On \"{first}\": {}; on \"{other}\": {}.", text(addresses), text(differ)))
                .hint("Meant, where a server has a private and a public address; else correct /etc/hosts or the name service."),
            );
        }
    }
    found
}

fn of_way(facts: &Facts<'_>, from: &ServerName, to: &ServerName, way: &Way) -> Vec<Diagnostic> {
    let port = facts.topology.server(to).map_or(0, |server| server.port);
    // What streams today must work now, and the way back after a role change; other ways are for later role changes.
    let needed = facts.is_link(from, to);
    let grave = |code: Code, message: String| match needed {
        true => Diagnostic::error(code, message),
        false => Diagnostic::warning(code, message),
    };
    let mut found = Vec::new();
    match &way.port {
        Reach::Open => {}
        Reach::TimedOut => found.push(
            grave(Code::PortBlocked, format!("\"{from}\" gets no answer from \"{to}\" on port {port}"))
                .detail(format!("Packets vanish on the way. {}", firewalls(facts, from, to)))
                .hint(format!("Let \"{from}\" connect to port {port} of \"{to}\", in the firewall that drops it.")),
        ),
        Reach::Refused => found.push(
            grave(Code::PortRefused, format!("\"{from}\" is refused by \"{to}\" on port {port}"))
                .detail(format!("A firewall rejects it, or nothing listens there. {}", firewalls(facts, from, to)))
                .hint(format!("Let \"{from}\" connect to port {port} of \"{to}\".")),
        ),
        Reach::NotResolved => {
            let address = facts.topology.server(to).map(|server| server.address.to_string()).unwrap_or_default();
            found.push(
                grave(Code::NameNotResolved, format!("\"{from}\" finds no address of \"{to}\""))
                    .detail(format!("The name \"{address}\" has none there."))
                    .hint("Add it to the name service or to /etc/hosts there, or use an IP address in the inventory."),
            );
        }
        Reach::Failed(why) => found.push(
            grave(Code::ConnectFailed, format!("\"{from}\" cannot connect to \"{to}\" on port {port}"))
                .detail(format!("The kernel says: {why}. {}", firewalls(facts, from, to)))
                .hint("Look at routes and firewalls on the way."),
        ),
    }
    if way.port == Reach::Open && way.answer == Some(Answer::Other) {
        found.push(
            Diagnostic::error(
                Code::AnotherService,
                format!("something other than PostgreSQL answers \"{from}\" on port {port} of \"{to}\""),
            )
            .detail("It did not answer as PostgreSQL does: a proxy, a port forward, or another program.")
            .hint("Find out what it is; streams through it would not work."),
        );
    }
    if way.answer == Some(Answer::Plain) {
        found.push(
            Diagnostic::note(Code::InstanceWithoutTls, format!("the instance of \"{to}\" offers no TLS today"))
                .detail(format!("It told \"{from}\" so on port {port}."))
                .hint("A bootstrap turns ssl on; clients that use none go on as the HBA records say."),
        );
    }
    if let (Some(here), Some(there)) = (way.source_here, way.source_there)
        && here != there
    {
        found.push(
            Diagnostic::warning(
                Code::AddressTranslated,
                format!("\"{to}\" sees \"{from}\" at another address than its own"),
            )
            .detail(format!(
                "\"{from}\" connects from {here}; \"{to}\" sees {there}: an address translation is on the way."
            ))
            .hint(format!("The HBA records of \"{to}\" must admit {there}.")),
        );
    }
    if way.port == Reach::Open
        && let Some(side) = way.side_port.as_ref().filter(|side| **side != Reach::Open)
    {
        let why = match side {
            Reach::TimedOut => "no answer".to_owned(),
            Reach::Refused => "refused".to_owned(),
            Reach::Failed(why) => why.clone(),
            Reach::NotResolved | Reach::Open => "no address".to_owned(),
        };
        found.push(
            Diagnostic::note(Code::LineNotMeasured, format!("latency, loss and throughput from \"{from}\" to \"{to}\" are unknown"))
                .detail(format!("They are measured on a port between 20000 and 32000, which was closed: {why}. The instance's own port is open."))
                .hint("That is as it should be behind a strict firewall; measure by hand where it matters."),
        );
    }
    found
}

/// Instances that nobody reaches yet, whatever the network lets through: the listener of the measurement stands beside
/// them on the other addresses.
fn local_instances(facts: &Facts<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for seen in facts.servers().filter(|_| !facts.is_loopback()) {
        let Observed::Known(listener) = &seen.seen.listener else { continue };
        if listener.process != "postgres" || !listener.addresses.iter().all(|address| is_local(address)) {
            continue;
        }
        let name = seen.name;
        found.push(
            Diagnostic::warning(
                Code::InstanceListensLocally,
                format!("server \"{name}\": the instance listens on local addresses alone"),
            )
            .server(name)
            .detail(format!("It listens on {}; no other server reaches it.", listener.addresses.join(", ")))
            .hint("A bootstrap sets listen_addresses, which needs a restart of that instance: --allow-restart."),
        );
    }
    found
}

fn is_local(address: &str) -> bool {
    address.starts_with("127.") || address.starts_with("[::1]")
}

/// Names the packet filters at both ends, where they can be seen.
fn firewalls(facts: &Facts<'_>, from: &ServerName, to: &ServerName) -> String {
    let mut said = Vec::new();
    for name in [to, from] {
        if let Some(seen) = facts.server(name)
            && !seen.ready.firewalls.is_empty()
        {
            said.push(format!("On \"{name}\": {}.", seen.ready.firewalls.join("; ")));
        }
    }
    match said.as_slice() {
        [] => format!(
            "No packet filter that drops or rejects was seen on {}: it is between them.",
            list(&[to.as_str(), from.as_str()])
        ),
        _ => said.join(" "),
    }
}

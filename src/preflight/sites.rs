//! Judges whether servers are as separate as the inventory says: machines, keys, networks (hazards 5, 9).

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Code, Diagnostic};
use crate::preflight::Finding;
use crate::preflight::facts::{Facts, Seen, list};

pub(super) fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    // A local lab is one machine, and its addresses say so.
    if facts.is_loopback() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (key, names) in shared(facts, |seen| seen.ready.identity.ssh_host_keys.clone()) {
        found.push(
            Diagnostic::error(Code::SameHostKey, format!("servers {} have the same SSH host key", list(&names)))
                .server(&names[0])
                .detail(format!("{key} is on each: one is a clone of the other, and either can pose as the other."))
                .hint(
                    "Make new keys on the clone (ssh-keygen -A after removing the old ones), then \"pgstead trust\".",
                ),
        );
    }
    for (name, names) in shared(facts, |seen| vec![seen.seen.os.host_name.clone()]) {
        found.push(
            Diagnostic::warning(Code::SameHostName, format!("servers {} have the same host name", list(&names)))
                .server(&names[0])
                .detail(format!("Each calls itself \"{name}\"; logs and monitoring cannot tell them apart."))
                .hint("Set another with hostnamectl."),
        );
    }
    let containers = shared(facts, |seen| seen.ready.identity.boot_id.known().cloned().into_iter().collect());
    for (boot, names) in &containers {
        let message = format!("servers {} run on one machine", list(names));
        let diagnostic = match facts.is_lab() {
            true => Diagnostic::note(Code::SameMachine, message),
            false => Diagnostic::warning(Code::SameMachine, message),
        };
        found.push(
            diagnostic
                .server(&names[0])
                .detail(format!("They are containers of one kernel (boot id {boot}). One power supply ends them all."))
                .hint("Disaster recovery needs servers on machines of their own."),
        );
    }
    let of_machine = |seen: Seen<'_>| match seen.is_container() {
        true => Vec::new(),
        false => seen.ready.identity.product_uuid.known().cloned().into_iter().collect(),
    };
    for (uuid, names) in shared(facts, of_machine) {
        let product = facts.servers().find_map(|seen| {
            let is_it = seen.ready.identity.product_uuid.known() == Some(&uuid);
            seen.ready.identity.product.known().filter(|_| is_it).cloned()
        });
        let product = product.unwrap_or("unknown product".to_owned());
        found.push(
            Diagnostic::warning(Code::SameProductUuid, format!("servers {} have the same product UUID", list(&names)))
                .server(&names[0])
                .detail(format!(
                    "The firmware of each says {uuid} ({}): one is a clone of the other's virtual machine.",
                    product.trim()
                ))
                .hint("Give the clone a UUID of its own, and check its machine id and host keys."),
        );
    }
    found.extend(networks(facts));
    found.into_iter().map(Finding::from).collect()
}

/// Returns the values that several servers have, with their names.
fn shared(facts: &Facts<'_>, values: impl Fn(Seen<'_>) -> Vec<String>) -> Vec<(String, Vec<String>)> {
    let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for seen in facts.servers() {
        for value in values(seen).into_iter().filter(|value| !value.is_empty()) {
            owners.entry(value).or_default().push(seen.name.to_string());
        }
    }
    let mut shared: Vec<_> = owners.into_iter().filter(|(_, names)| names.len() > 1).collect();
    // Several keys of the same servers are one finding.
    let mut told = BTreeSet::new();
    shared.retain(|(_, names)| told.insert(names.clone()));
    shared
}

/// One network over several sites: a router or a cable that ends one may end the other.
fn networks(facts: &Facts<'_>) -> Vec<Diagnostic> {
    let mut members: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for seen in facts.servers() {
        for network in seen.ready.identity.networks.iter().filter_map(|text| network_of(text)) {
            members.entry(network).or_default().insert(seen.name.to_string(), seen.server.site.to_string());
        }
    }
    let mut found = Vec::new();
    for (network, servers) in members {
        let sites: BTreeSet<&String> = servers.values().collect();
        if sites.len() < 2 {
            continue;
        }
        let names: Vec<&String> = servers.keys().collect();
        let message = format!("servers {} of different sites are in one network", list(&names));
        let diagnostic = match facts.is_lab() {
            true => Diagnostic::note(Code::SameSubnet, message),
            false => Diagnostic::warning(Code::SameSubnet, message),
        };
        found.push(
            diagnostic
                .server(names[0])
                .detail(format!(
                    "{network} holds servers of {}.",
                    sites.iter().map(|site| format!("\"{site}\"")).collect::<Vec<_>>().join(", ")
                ))
                .hint("Are they really at different sites? A stretched network can fail as one."),
        );
    }
    found
}

/// Returns the network of an address such as `10.0.0.11/24`, for IPv4 and IPv6 alike.
fn network_of(text: &str) -> Option<String> {
    let (address, length) = text.split_once('/')?;
    let (ip, length): (std::net::IpAddr, u32) = (address.parse().ok()?, length.parse().ok()?);
    let network = match ip {
        std::net::IpAddr::V4(ip) => {
            let bits = u32::from(ip) & u32::MAX.checked_shl(32 - length.min(32)).unwrap_or(0);
            std::net::IpAddr::from(bits.to_be_bytes())
        }
        std::net::IpAddr::V6(ip) => {
            let bits = u128::from(ip) & u128::MAX.checked_shl(128 - length.min(128)).unwrap_or(0);
            std::net::IpAddr::from(bits.to_be_bytes())
        }
    };
    Some(format!("{network}/{length}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_addresses() {
        assert_eq!(network_of("10.213.4.11/24").as_deref(), Some("10.213.4.0/24"));
        assert_eq!(network_of("10.0.0.1/32").as_deref(), Some("10.0.0.1/32"));
        assert_eq!(network_of("10.0.0.1/0").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(network_of("2001:db8::11/64").as_deref(), Some("2001:db8::/64"));
        assert_eq!(network_of("nonsense"), None);
    }
}

//! Says what works today and will hurt. Only valid topologies come here; nothing here is an error.

use std::collections::BTreeSet;

use crate::diagnostic::{Code, Diagnostic};
use crate::inventory::problems::{Path, Problems, list, shown};
use crate::inventory::tree::Node;
use crate::model::hba::{HbaMethod, HbaRecord};
use crate::model::topology::Purpose;
use crate::model::{Server, ServerName, SiteName, Topology};

/// Adds the warnings about a topology.
pub(super) fn add(topology: &Topology, tree: &Node, problems: &mut Problems<'_>) {
    disasters(topology, tree, problems);
    synchronous_standbys(topology, problems);
    machines(topology, problems);
    hba(topology, problems);
    roles(topology, problems);
    parameters(topology, problems);
    unused_sites(topology, problems);
}

fn region<'t>(topology: &'t Topology, site: &SiteName) -> Option<&'t str> {
    topology.common().sites.get(site).and_then(|site| site.region.as_deref())
}

fn standbys(topology: &Topology) -> impl Iterator<Item = &Server> {
    topology.servers().filter(|server| server.name != *topology.preferred_primary())
}

fn server_path(name: &ServerName) -> Path {
    Path::of(&["servers", name.as_str()])
}

/// One disaster must not reach every copy.
fn disasters(topology: &Topology, tree: &Node, problems: &mut Problems<'_>) {
    let Some(primary) = topology.server(topology.preferred_primary()) else { return };
    if standbys(topology).next().is_none() {
        let warning = Diagnostic::warning(Code::NoStandby, "the topology has no standby")
            .detail("There is one copy of the data, and nothing to fail over to.");
        problems.add(&Path::of(&["servers"]), warning);
        return;
    }
    if tree.get("sites").is_none()
        && tree.get("servers").is_some_and(|all| all.entries().iter().all(|s| s.node.get("site").is_none()))
    {
        let note = Diagnostic::note(Code::NoSites, "the inventory does not say at which site a server stands")
            .detail("Each is taken for a site of its own; servers that share a disaster cannot be warned about.")
            .hint("Add \"sites\", and a \"site\" to each server.");
        problems.add(&Path::of(&["servers"]), note);
        return;
    }
    if standbys(topology).all(|standby| standby.site == primary.site) {
        let warning = Diagnostic::warning(
            Code::NoStandbyOffSite,
            format!("every standby stands at the primary's site \"{}\"", primary.site),
        )
        .detail("A fire or a power cut there takes every copy.");
        problems.add(&server_path(&primary.name).key("site"), warning);
        return;
    }
    let Some(home) = region(topology, &primary.site) else { return };
    if standbys(topology).all(|standby| region(topology, &standby.site) == Some(home)) {
        let warning = Diagnostic::warning(
            Code::NoStandbyOutOfRegion,
            format!("every standby stands in the primary's region {}", shown(home)),
        )
        .detail("A flood or a regional power cut takes every copy.");
        problems.add(&server_path(&primary.name).key("site"), warning);
    }
}

/// A commit waits for the round trip to its synchronous standby.
fn synchronous_standbys(topology: &Topology, problems: &mut Problems<'_>) {
    let Some(wish) = &topology.common().replication.synchronous else { return };
    let Some(primary) = topology.server(topology.preferred_primary()) else { return };
    for (index, standby) in wish.standbys.iter().filter_map(|name| topology.server(name)).enumerate() {
        let regions = (region(topology, &primary.site), region(topology, &standby.site));
        if let (Some(home), Some(away)) = regions
            && home != away
        {
            let warning = Diagnostic::warning(
                Code::DistantSynchronousStandby,
                format!("synchronous standby \"{}\" is far from the primary", standby.name),
            )
            .detail(format!(
                "The primary \"{}\" stands in region {}, the standby in {}. Every commit may wait for that round trip.",
                primary.name,
                shown(home),
                shown(away)
            ))
            .server(&standby.name);
            problems.add(&Path::of(&["replication", "synchronous", "standbys"]).index(index), warning);
        }
    }
}

fn machines(topology: &Topology, problems: &mut Problems<'_>) {
    if topology.common().purpose != Purpose::Production {
        return;
    }
    let mut seen: Vec<&Server> = Vec::new();
    for server in topology.servers() {
        let loopback = server.address.ip().map_or(server.address.to_string() == "localhost", |ip| ip.is_loopback());
        let path = server_path(&server.name).key("address");
        if loopback {
            let warning = Diagnostic::warning(
                Code::LoopbackInProduction,
                format!("{} is the operator's own machine", server.address),
            )
            .detail("Other servers cannot reach it there.")
            .hint("Write \"purpose: lab\" if this is a lab.");
            problems.add(&path, warning);
        } else if let Some(other) = seen.iter().find(|other| other.address == server.address) {
            let warning = Diagnostic::warning(
                Code::SharedMachine,
                format!("servers \"{}\" and \"{}\" are on one machine", other.name, server.name),
            )
            .detail("When it fails, both fail.");
            problems.add(&path, warning);
        }
        seen.push(server);
    }
}

fn hba(topology: &Topology, problems: &mut Problems<'_>) {
    let common = topology.common();
    for (index, record) in common.hba.iter().enumerate().filter(|(_, record)| record.method != HbaMethod::Reject) {
        let path = Path::of(&["postgres", "hba"]).index(index);
        let text = record.address.to_string();
        let narrowest = if text.contains(':') { 48 } else { 16 };
        if record.address.prefix() < narrowest {
            let warning =
                Diagnostic::warning(Code::WideHba, format!("address range {text:?} is wider than /{narrowest}"))
                    .hint("Name the networks of the clients.");
            problems.add(&path.key("address"), warning);
        }
        if record.user == "postgres" {
            let warning =
                Diagnostic::warning(Code::HbaSuperuser, "the superuser \"postgres\" may log in over the network")
                    .hint("Use roles with fewer rights; administer over SSH and the local socket.");
            problems.add(&path.key("user"), warning);
        }
        if record.database != "all" && record.database != "postgres" && !common.databases.contains(&record.database) {
            let warning = Diagnostic::warning(
                Code::HbaDatabaseNotListed,
                format!("database {:?} is not among postgres.databases", record.database),
            )
            .detail(format!(
                "Those are {}. The record is of use only if the database exists already.",
                list(&common.databases)
            ));
            problems.add(&path.key("database"), warning);
        }
    }
}

/// Whoever has to log in must be let in.
fn roles(topology: &Topology, problems: &mut Problems<'_>) {
    let common = topology.common();
    for (name, role) in common.roles.iter().filter(|(_, role)| role.login && role.password.is_some()) {
        let admits = |record: &&HbaRecord| {
            record.method == HbaMethod::ScramSha256
                && (record.user == "all" || record.user == *name)
                && (record.database == "all"
                    || role.works_in(&record.database)
                    || !common.databases.iter().any(|name| role.works_in(name)))
        };
        if common.hba.iter().find(admits).is_none() {
            let note = Diagnostic::note(
                Code::RoleNotAdmitted,
                format!("no record of postgres.hba lets role {} in", shown(name)),
            )
            .hint("Add one with the addresses of its clients, unless pg_hba.conf stays yours and has one.");
            problems.add(&Path::of(&["postgres", "roles", name]), note);
        }
    }
}

fn parameters(topology: &Topology, problems: &mut Problems<'_>) {
    let common = topology.common();
    let everywhere = (Path::of(&["postgres", "parameters"]), &common.parameters);
    let own = topology.servers().map(|server| (server_path(&server.name).key("parameters"), &server.parameters));
    for (path, parameters) in std::iter::once(everywhere).chain(own) {
        for name in ["fsync", "full_page_writes"] {
            let found = parameters.iter().find(|(key, _)| key.as_str() == name);
            if let Some((_, value)) = found
                && ["off", "false", "no", "0", "of", "f", "n"].contains(&value.to_ascii_lowercase().as_str())
            {
                let warning = Diagnostic::warning(Code::UnsafeParameter, format!("parameter {name:?} is off"))
                    .detail("After a power cut the data may be damaged, and the damage is replicated.");
                problems.add(&path.key(name), warning);
            }
        }
    }
}

fn unused_sites(topology: &Topology, problems: &mut Problems<'_>) {
    let used: BTreeSet<&SiteName> = topology.servers().map(|server| &server.site).collect();
    for site in topology.common().sites.keys().filter(|site| !used.contains(site)) {
        let warning = Diagnostic::warning(Code::UnusedSite, format!("no server stands at site \"{site}\""));
        problems.add(&Path::of(&["sites", site.as_str()]), warning);
    }
}

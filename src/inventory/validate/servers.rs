//! Judges the servers one by one, and what two of them must not share.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::diagnostic::{Code, Diagnostic};
use crate::inventory::problems::{Path, list, shown};
use crate::inventory::validate::{DEFAULT_PORT, Judge};
use crate::inventory::{raw, words};
use crate::model::parameter::HOT_STANDBY_PARAMETERS;
use crate::model::topology::{Kind, Site};
use crate::model::{Address, Server, ServerName, SiteName};
use crate::render::hba::roles;

impl Judge<'_, '_> {
    /// Returns the servers and their kinds; what is wrong with any is added to the problems.
    pub(super) fn servers(&mut self, sites: &BTreeMap<SiteName, Site>) -> Vec<(Server, Kind)> {
        if let Some(ssh) = &self.raw.ssh {
            self.judge_ssh(ssh, &Path::of(&["ssh"]));
        }
        let mut servers = Vec::new();
        for (key, raw) in self.raw.servers.iter().flatten() {
            let path = Path::of(&["servers", key]);
            let name = self.name::<ServerName>(&path, "server name", key);
            let address = raw.address.as_deref().and_then(|text| self.address(text, &path.key("address")));
            let site = self.site(raw, name.as_ref(), sites, &path);
            let kind = self.kind(key, raw, &path);
            let parameters = self.parameters(&path.key("parameters"), raw.parameters.as_ref());
            self.server_words(raw, &path);
            let (Some(name), Some(address), Some(site), Some(kind)) = (name, address, site, kind) else { continue };
            let server = Server {
                name,
                address,
                site,
                port: self.port(raw),
                parameters,
                data_directory: raw.data_directory.clone(),
                tablespaces: raw.tablespaces.clone().unwrap_or_default(),
                bin_directory: raw.bin_directory.clone(),
                service: raw.service.clone(),
                ssh: self.ssh(raw.ssh.as_ref()),
            };
            servers.push((server, kind));
        }
        self.topology_of_servers();
        self.reserved_names();
        self.shared_slots();
        self.shared_addresses(&servers);
        self.shared_directories(&servers);
        self.tablespaces_everywhere();
        self.equal_parameters();
        servers
    }

    fn port(&self, raw: &raw::Server) -> u16 {
        let own = raw.postgres.as_ref().and_then(|postgres| postgres.port);
        own.or(self.postgres(|postgres| &postgres.port).copied()).unwrap_or(DEFAULT_PORT)
    }

    fn address(&mut self, text: &str, path: &Path) -> Option<Address> {
        let one_server = |address: &Address| {
            address.ip().is_none_or(|ip| {
                !(ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST))
            })
        };
        let problem = match text.parse::<Address>() {
            Ok(address) if one_server(&address) => return Some(address),
            Ok(_) => {
                Diagnostic::error(Code::InvalidAddress, format!("{} is not the address of one server", shown(text)))
            }
            Err(_) => {
                let problem = Diagnostic::error(
                    Code::InvalidAddress,
                    format!("{} is neither an IP address nor a host name", shown(text)),
                );
                match text.rsplit_once(':') {
                    Some((host, port)) if port.parse::<u16>().is_ok() && host.parse::<Address>().is_ok() => problem
                        .hint(format!("Write \"{host}\", and the port as postgres.port or ssh.port of the server.")),
                    _ => problem,
                }
            }
        };
        self.problems.add(path, problem);
        None
    }

    fn site(
        &mut self,
        raw: &raw::Server,
        name: Option<&ServerName>,
        sites: &BTreeMap<SiteName, Site>,
        path: &Path,
    ) -> Option<SiteName> {
        match (&raw.site, &self.raw.sites) {
            (Some(text), Some(known)) if !known.contains_key(text) => {
                let problem = Self::unknown_name(
                    Code::UnknownSite,
                    format!("site {} is not in the inventory", shown(text)),
                    "sites",
                    text,
                    known.keys().map(String::as_str),
                );
                self.problems.add(&path.key("site"), problem);
                None
            }
            (Some(text), Some(_)) => sites.keys().find(|name| name.as_str() == text).cloned(),
            (Some(text), None) => self.name(&path.key("site"), "site name", text),
            (None, Some(known)) => {
                let problem = Diagnostic::error(Code::MissingKey, "key \"site\" is missing")
                    .detail(format!("The inventory has sites: {}.", list(known.keys())));
                self.problems.add(path, problem);
                None
            }
            (None, None) => name.and_then(|name| name.as_str().parse().ok()),
        }
    }

    fn kind(&mut self, key: &str, raw: &raw::Server, path: &Path) -> Option<Kind> {
        match raw.kind? {
            raw::Kind::Standby => Some(Kind::Standby { upstream: raw.upstream.clone() }),
            raw::Kind::Primary => {
                if raw.upstream.is_some() {
                    let problem = Diagnostic::error(
                        Code::PrimaryWithUpstream,
                        format!("primary {} names an upstream", shown(key)),
                    )
                    .detail(
                        "A primary streams from nobody. After a switchover it follows whichever server is the primary.",
                    )
                    .hint("Remove the key.");
                    self.problems.add(&path.key("upstream"), problem);
                }
                Some(Kind::Primary)
            }
        }
    }

    fn server_words(&mut self, raw: &raw::Server, path: &Path) {
        for (key, text) in [("data_directory", &raw.data_directory), ("bin_directory", &raw.bin_directory)] {
            if let Some(text) = text {
                self.word(&path.key(key), Code::InvalidPath, key, text, words::server_directory);
            }
        }
        if let Some(service) = &raw.service {
            self.word(&path.key("service"), Code::InvalidService, "service", service, words::service);
        }
        for (name, directory) in raw.tablespaces.iter().flatten() {
            let own = path.key("tablespaces").key(name);
            self.word(&own, Code::InvalidTablespace, "tablespace", name, words::tablespace);
            self.word(&own, Code::InvalidPath, "directory of a tablespace", directory, words::server_directory);
        }
        if let Some(ssh) = &raw.ssh {
            self.judge_ssh(ssh, &path.key("ssh"));
        }
    }

    /// A server's name is the name in its certificates, and a role is whom a certificate of its name admits.
    fn reserved_names(&mut self) {
        let reserved = [roles::SUPERUSER, roles::OPERATOR, roles::REPLICATOR, roles::REWIND];
        for key in self.raw.servers.iter().flatten().map(|(key, _)| key) {
            if let Some(role) = reserved.into_iter().find(|role| key.eq_ignore_ascii_case(role)) {
                let problem = Diagnostic::error(Code::ReservedName, format!("server {key:?} has the name of a role"))
                    .detail(format!("Its certificate would prove whoever has it to be {role:?}."))
                    .hint("Choose another name.");
                self.problems.add(&Path::of(&["servers", key]), problem);
            }
        }
    }

    /// Two servers whose names make one slot name would steal each other's slot (manual, 27.2.6).
    fn shared_slots(&mut self) {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for key in self.raw.servers.iter().flatten().map(|(key, _)| key) {
            let Ok(name) = key.parse::<ServerName>() else { continue };
            let slot = name.slot_name();
            if let Some(other) = seen.get(&slot) {
                let problem = Diagnostic::error(
                    Code::DuplicateSlot,
                    format!("servers {other:?} and {key:?} would share the replication slot {slot:?}"),
                )
                .detail("Slot names have only lower-case letters, digits and \"_\".")
                .hint("Choose names that differ in more than case and punctuation.");
                self.problems.add(&Path::of(&["servers", key]), problem);
            } else {
                seen.insert(slot, key);
            }
        }
    }

    fn shared_addresses(&mut self, servers: &[(Server, Kind)]) {
        for (position, (server, _)) in servers.iter().enumerate() {
            let same = |other: &Server| is_same_machine(&server.address, &other.address) && server.port == other.port;
            if let Some((other, _)) = servers.iter().take(position).find(|(other, _)| same(other)) {
                let problem = Diagnostic::error(
                    Code::DuplicateAddress,
                    format!(
                        "servers \"{}\" and \"{}\" are one: both are {} port {}",
                        other.name, server.name, server.address, server.port
                    ),
                )
                .hint("Two instances on one machine need two ports: set postgres.port of one of the servers.");
                self.problems.add(&Path::of(&["servers", server.name.as_str(), "address"]), problem);
            }
        }
    }

    /// No data directory or tablespace lies within another one of the same machine.
    fn shared_directories(&mut self, servers: &[(Server, Kind)]) {
        let mut directories: Vec<(&Server, String, &str, Path)> = Vec::new();
        for (server, _) in servers {
            let path = Path::of(&["servers", server.name.as_str()]);
            if let Some(directory) = &server.data_directory {
                directories.push((server, "data directory".to_owned(), directory, path.key("data_directory")));
            }
            for (name, directory) in &server.tablespaces {
                let what = format!("directory of tablespace {}", shown(name));
                directories.push((server, what, directory, path.key("tablespaces").key(name)));
            }
        }
        for (position, (server, what, directory, path)) in directories.iter().enumerate() {
            for (other_server, other_what, other, other_path) in directories.iter().take(position) {
                if !is_same_machine(&server.address, &other_server.address) {
                    continue;
                }
                // The inner one is what has to move.
                let (inner, outer) = if words::is_within(directory, other) {
                    ((server, what, directory, path), (other_server, other_what, other))
                } else if words::is_within(other, directory) {
                    ((other_server, other_what, other, other_path), (server, what, directory))
                } else {
                    continue;
                };
                let problem = Diagnostic::error(
                    Code::NestedDirectory,
                    format!(
                        "{} {} of server \"{}\" lies within {} {} of server \"{}\"",
                        inner.1,
                        shown(inner.2),
                        inner.0.name,
                        outer.1,
                        shown(outer.2),
                        outer.0.name
                    ),
                )
                .detail("A base backup, and setting a data directory aside, would take both.");
                self.problems.add(inner.3, problem);
            }
        }
    }

    /// A tablespace of the primary exists on every standby, and any server may become the primary.
    fn tablespaces_everywhere(&mut self) {
        let servers = self.raw.servers.clone().unwrap_or_default();
        let mut names: Vec<&String> =
            servers.values().flat_map(|raw| raw.tablespaces.iter().flatten()).map(|(n, _)| n).collect();
        names.sort();
        names.dedup();
        for name in names {
            let has = |raw: &raw::Server| raw.tablespaces.as_ref().is_some_and(|all| all.contains_key(name));
            for (key, _) in servers.iter().filter(|(_, raw)| !has(raw)) {
                let owners = servers.iter().filter(|(_, raw)| has(raw)).map(|(key, _)| key);
                let problem = Diagnostic::error(
                    Code::MissingTablespace,
                    format!("tablespace {} has no directory on server {}", shown(name), shown(key)),
                )
                .detail(format!("It has one on {}; a physical copy has the tablespaces of its primary.", list(owners)));
                self.problems.add(&Path::of(&["servers", key, "tablespaces"]), problem);
            }
        }
    }

    /// These five must be as high on a standby as on its primary (hazard 38), and any server may become the primary.
    fn equal_parameters(&mut self) {
        for (key, raw) in self.raw.servers.iter().flatten() {
            for name in raw.parameters.iter().flatten().map(|(name, _)| name) {
                if HOT_STANDBY_PARAMETERS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                    let problem = Diagnostic::error(
                        Code::HotStandbyParameter,
                        format!("parameter {name:?} must be the same on every server"),
                    )
                    .detail("A standby with a lower value than its primary stops replaying.")
                    .hint(format!("Set postgres.parameters.{} instead.", name.to_ascii_lowercase()));
                    self.problems.add(&Path::of(&["servers", key, "parameters", name]), problem);
                }
            }
        }
    }
}

/// Says whether two addresses are surely one machine. Two names of one machine cannot be told apart here.
fn is_same_machine(one: &Address, other: &Address) -> bool {
    match (one.ip(), other.ip()) {
        (Some(one), Some(other)) => one.to_canonical() == other.to_canonical(),
        _ => one == other,
    }
}

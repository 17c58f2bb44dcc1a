//! What `pgstead init` writes: the annotated example, or the inventory that an older file amounts to.
//!
//! Nothing is read or written here. What cannot be taken over from an older file is named, never its value: it may be a
//! password.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::diagnostic::{Code, Diagnostic};
use crate::inventory::problems::{Path, Problems, shown};
use crate::inventory::tree::{Entry, Node, Value};
use crate::inventory::validate::{DEFAULT_PORT, refused, tree};
use crate::inventory::words;
use crate::model::{Address, ServerName, SiteName, TopologyName};

/// The annotated inventory: documentation, schema test and example in one.
pub const EXAMPLE: &str = include_str!("../../inventories/example.yaml");

/// An inventory made of an older file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversion {
    /// The text of the inventory; [`super::read`] accepts it.
    pub inventory: String,
    /// What was chosen, and what could not be taken over.
    pub notes: Vec<Diagnostic>,
}

/// One entry of the older file's `databases`.
struct Older {
    name: String,
    is_primary: bool,
    address: String,
    /// The host name, where the address is the IP address beside it.
    host: Option<String>,
    port: u16,
    place: (Option<String>, Option<String>),
}

/// Converts the older form, `disaster_recovery: {databases: {primary: {host, port, database, server_info}, …}}`.
///
/// The keys of `databases` become the names of the servers. The IP address of `server_info` is preferred to a host name,
/// which a disaster may take along. Sites are made of location and region.
///
/// # Errors
/// Every problem of the older file, in the order of the text.
pub fn convert(text: &str, file_name: &str) -> Result<Conversion, Vec<Diagnostic>> {
    let tree = tree(text, file_name)?;
    let mut problems = Problems::new(file_name, &tree);
    let mut notes = Problems::new(file_name, &tree);
    let path = Path::of(&["disaster_recovery", "databases"]);
    let Some(older) = tree.get("disaster_recovery").and_then(|older| older.get("databases")) else {
        let problem = Diagnostic::error(Code::NotAnOlderFile, "the file has no \"disaster_recovery.databases\"")
            .hint("\"pgstead init\" without --from writes an annotated inventory to begin with.");
        problems.add(&Path::default(), problem);
        return Err(problems.into_diagnostics());
    };
    not_converted(tree.entries(), &["disaster_recovery"], &Path::default(), &mut notes);
    let beside = tree.get("disaster_recovery").map_or(&[][..], Node::entries);
    not_converted(beside, &["databases"], &Path::of(&["disaster_recovery"]), &mut notes);

    let mut servers = Vec::new();
    let mut databases: Vec<String> = Vec::new();
    for (position, entry) in older.entries().iter().enumerate() {
        let own = path.key(&entry.key);
        if older.entries().iter().take(position).any(|earlier| earlier.key == entry.key) {
            let message = format!("key {} is given twice", shown(&entry.key));
            problems.add_at(entry.place, &own, Diagnostic::error(Code::DuplicateKey, message));
            continue;
        }
        servers.extend(server(entry, &own, &mut problems, &mut notes));
        if let Some(database) = text_of(&entry.node, "database", &own, &mut problems) {
            match words::database(database) {
                Err(refusal) => {
                    problems.add(&own.key("database"), refused(Code::InvalidDatabase, "database", database, refusal));
                }
                Ok(()) if !databases.iter().any(|known| known == database) => databases.push(database.to_owned()),
                Ok(()) => {}
            }
        }
    }
    primaries(&servers, &path, &mut problems);
    if !problems.is_empty() {
        return Err(problems.into_diagnostics());
    }
    let note =
        Diagnostic::note(Code::VersionNotGiven, "the older file does not say which PostgreSQL version is installed")
            .detail("The inventory says 15.")
            .hint("Set postgres.version to what is installed on the servers.");
    notes.add(&path, note);
    let notes = notes.into_diagnostics();
    let inventory = write(file_name, &servers, &databases, &notes);
    // Whatever has slipped through above is told by the reader itself, with its places in the inventory.
    super::read(&inventory, "the converted inventory")?;
    Ok(Conversion { inventory, notes })
}

fn not_converted(entries: &[Entry], known: &[&str], path: &Path, notes: &mut Problems<'_>) {
    for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
        let lower = entry.key.to_lowercase();
        let secret = ["pass", "secret", "token", "key"].iter().any(|part| lower.contains(part));
        let note = Diagnostic::note(Code::NotConverted, format!("key {} is not taken over", shown(&entry.key)));
        let note = match lower.as_str() {
            _ if secret => {
                note.detail("An inventory has no secrets; pgstead makes its own passwords and certificates.")
            }
            "user" | "username" => note.detail("pgstead makes its own roles; clients are given in postgres.hba."),
            _ => note,
        };
        notes.add_at(entry.place, &path.key(&entry.key), note);
    }
}

/// Returns the text of a key, where it is given.
fn text_of<'n>(node: &'n Node, key: &str, path: &Path, problems: &mut Problems<'_>) -> Option<&'n str> {
    let value = node.get(key)?;
    if matches!(value.value, Value::Null) {
        return None;
    }
    if value.text().is_none() {
        let message = format!("expected text, found {}", value.describe());
        problems.add(&path.key(key), Diagnostic::error(Code::WrongType, message));
    }
    value.text()
}

fn server(entry: &Entry, path: &Path, problems: &mut Problems<'_>, notes: &mut Problems<'_>) -> Option<Older> {
    let node = &entry.node;
    if !matches!(node.value, Value::Map(_)) {
        let message = format!("expected a mapping, found {}", node.describe());
        problems.add(path, Diagnostic::error(Code::WrongType, message));
        return None;
    }
    not_converted(node.entries(), &["host", "port", "database", "server_info"], path, notes);
    if let Err(error) = entry.key.parse::<ServerName>() {
        let message = format!("invalid server name {}: {error}", shown(&entry.key));
        problems.add_at(entry.place, path, Diagnostic::error(Code::InvalidName, message));
    }
    let info_path = path.key("server_info");
    let info = node.get("server_info");
    if let Some(info) = info {
        not_converted(info.entries(), &["location", "ip", "region"], &info_path, notes);
    }
    let mut remark = |key: &str| {
        let text = text_of(info?, key, &info_path, problems)?;
        if let Err(refusal) = words::remark(text) {
            problems.add(&info_path.key(key), refused(Code::InvalidText, key, text, refusal));
        }
        Some(text.to_owned())
    };
    let place = (remark("location"), remark("region"));
    let port = match text_of(node, "port", path, problems) {
        None => DEFAULT_PORT,
        Some(text) => text.parse().ok().filter(|port| *port > 0).unwrap_or_else(|| {
            let message = format!("expected a number from 1 to 65535, found {}", shown(text));
            problems.add(&path.key("port"), Diagnostic::error(Code::OutOfRange, message));
            DEFAULT_PORT
        }),
    };
    let (address, host) = address(node, info, path, problems, notes)?;
    let lower = entry.key.to_lowercase();
    let is_primary = lower.starts_with("primary") || lower.starts_with("master");
    Some(Older { name: entry.key.clone(), is_primary, address, host, port, place })
}

/// Returns the address of a server, and its host name where that is not the address.
fn address(
    node: &Node,
    info: Option<&Node>,
    path: &Path,
    problems: &mut Problems<'_>,
    notes: &mut Problems<'_>,
) -> Option<(String, Option<String>)> {
    let info_path = path.key("server_info");
    let mut checked = |text: Option<&str>, path: Path| {
        let text = text?;
        match text.parse::<Address>() {
            Ok(address) => Some(address),
            Err(error) => {
                problems.add(&path, Diagnostic::error(Code::InvalidAddress, error.to_string()));
                None
            }
        }
    };
    let host_node = node.get("host").filter(|host| !matches!(host.value, Value::Null));
    let ip_node = info.and_then(|info| info.get("ip")).filter(|ip| !matches!(ip.value, Value::Null));
    let host = checked(host_node.map(|host| host.text().unwrap_or_default()), path.key("host"));
    let ip = checked(ip_node.map(|ip| ip.text().unwrap_or_default()), info_path.key("ip"));
    match (host, ip) {
        (Some(Address::Name(name)), Some(ip)) => Some((ip.to_string(), Some(name))),
        (Some(host), Some(ip)) => {
            if host != ip {
                let note =
                    Diagnostic::note(Code::TwoAddresses, format!("the server has two addresses, {host} and {ip}"))
                        .detail(format!("The inventory has {host}, which clients use."))
                        .hint("Take the one where the other servers reach it.");
                notes.add(&info_path.key("ip"), note);
            }
            Some((host.to_string(), None))
        }
        (Some(one), None) | (None, Some(one)) => Some((one.to_string(), None)),
        (None, None) => {
            if host_node.is_none() && ip_node.is_none() {
                problems.add(path, Diagnostic::error(Code::MissingKey, "key \"host\" is missing"));
            }
            None
        }
    }
}

fn primaries(servers: &[Older], path: &Path, problems: &mut Problems<'_>) {
    let mut primaries = servers.iter().filter(|server| server.is_primary);
    match (primaries.next(), primaries.next()) {
        (None, _) if problems.is_empty() => {
            let problem = Diagnostic::error(Code::NoPrimary, "no server is called \"primary\"");
            problems.add(path, problem);
        }
        (Some(first), Some(second)) => {
            let message = format!("two servers are primaries: {} and {}", shown(&first.name), shown(&second.name));
            problems.add(&path.key(&second.name), Diagnostic::error(Code::SeveralPrimaries, message));
        }
        _ => {}
    }
}

/// Returns a name for each place: its own where that can be a name, else what it is to the primary.
fn site_names(servers: &[Older]) -> BTreeMap<(Option<String>, Option<String>), String> {
    let home = servers.iter().find(|server| server.is_primary).map(|server| server.place.clone()).unwrap_or_default();
    let mut names: BTreeMap<(Option<String>, Option<String>), String> = BTreeMap::new();
    let primary_first = servers.iter().filter(|s| s.is_primary).chain(servers.iter().filter(|s| !s.is_primary));
    for server in primary_first.filter(|server| server.place != (None, None)) {
        if names.contains_key(&server.place) {
            continue;
        }
        let own = server.place.0.clone().filter(|location| location.parse::<SiteName>().is_ok());
        let relation = match &server.place {
            place if *place == home => "main",
            (_, region) if region.is_some() && *region == home.1 => "metro",
            _ => "remote",
        };
        let wish = own.unwrap_or_else(|| relation.to_owned());
        let mut name = wish.clone();
        let mut number = 2;
        while names.values().any(|taken| *taken == name) {
            name = format!("{wish}-{number}");
            number += 1;
        }
        names.insert(server.place.clone(), name);
    }
    names
}

fn write(file_name: &str, servers: &[Older], databases: &[String], notes: &[Diagnostic]) -> String {
    let port = servers.iter().find(|server| server.is_primary).map_or(DEFAULT_PORT, |server| server.port);
    let sites = site_names(servers);
    let name = databases.first().map(|name| name.replace('_', "-"));
    let topology = name.filter(|name| name.parse::<TopologyName>().is_ok()).unwrap_or_else(|| "topology".to_owned());
    let mut text = String::new();
    let file: String = file_name.chars().filter(|c| !c.is_control()).collect();
    let _ =
        writeln!(text, "# Made by \"pgstead init\" from {file}. \"pgstead init\" without --from documents every key.");
    for note in notes {
        let _ = writeln!(text, "# {}: {}", note.at.as_deref().unwrap_or_default(), note.message);
    }
    let _ = writeln!(text, "\ntopology: {}", yaml(&topology));
    let _ = writeln!(text, "purpose: production # or lab\n");
    let _ = writeln!(text, "postgres:\n  version: 15 # the older file does not say: set what is installed");
    let _ = writeln!(text, "  port: {port}");
    if !databases.is_empty() {
        let names: Vec<String> = databases.iter().map(|name| yaml(name)).collect();
        let _ = writeln!(text, "  databases: [{}]", names.join(", "));
    }
    let _ = writeln!(text, "  # hba: [{{ database: NAME, user: NAME, address: 192.168.0.0/16 }}] # the clients");
    let all_placed = !sites.is_empty();
    if all_placed {
        let _ = writeln!(text, "\nsites:");
        for ((location, region), name) in &sites {
            let fields = [("location", location), ("region", region)];
            let given: Vec<String> =
                fields.iter().filter_map(|(key, text)| Some(format!("{key}: {}", quoted(text.as_ref()?)))).collect();
            let _ = writeln!(text, "  {}: {{ {} }}", yaml(name), given.join(", "));
        }
        if servers.iter().any(|server| !sites.contains_key(&server.place)) {
            let _ = writeln!(text, "  elsewhere: {{}} # the older file does not say where");
        }
    }
    let _ = writeln!(text, "\nservers:");
    for server in servers {
        let _ = writeln!(text, "  {}:", yaml(&server.name));
        let host = server.host.as_ref().map(|host| format!(" # {host}")).unwrap_or_default();
        let _ = writeln!(text, "    address: {}{host}", quoted_if_needed(&server.address));
        if all_placed {
            let _ =
                writeln!(text, "    site: {}", sites.get(&server.place).map_or("elsewhere".to_owned(), |s| yaml(s)));
        }
        let _ = writeln!(text, "    kind: {}", if server.is_primary { "primary" } else { "standby" });
        if server.port != port {
            let _ = writeln!(text, "    postgres: {{ port: {} }}", server.port);
        }
    }
    let _ = writeln!(
        text,
        "\n# ssh: {{ user: ops, identity_file: ~/.ssh/ops }} # what is not given is left to ~/.ssh/config"
    );
    text
}

/// Returns a word as YAML: plain where it is surely text to every reader.
fn yaml(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        && !["null", "true", "false", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { quoted(text) }
}

/// IPv4 addresses and host names are plain; an IPv6 address looks like a mapping to some readers.
fn quoted_if_needed(address: &str) -> String {
    if address.contains(':') { quoted(address) } else { address.to_owned() }
}

/// A JSON string is a double-quoted YAML scalar.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLDER: &str = r#"
disaster_recovery:
  databases:
    primary:
      host: db1.example.com
      port: 5432
      database: image_crawler
      user: crawler
      password: hunter2
      server_info: { location: 主数据中心, ip: 192.168.1.100, region: 华东 }
    secondary1:
      host: 192.168.1.101
      port: 5433
      database: image_crawler
      server_info: { location: 同城备份中心, ip: 192.168.1.101, region: 华东, rack: 7 }
    secondary2:
      host: 192.168.2.100
      database: image_crawler
      server_info: { location: 异地备份中心, ip: 10.0.0.9, region: 华南 }
  retention: { days: 7 }
logging: debug
"#;

    #[test]
    fn the_example_is_valid_and_has_nothing_to_warn_about() {
        let (topology, warnings) = crate::inventory::read(EXAMPLE, "example.yaml").unwrap();
        assert_eq!(warnings, []);
        assert_eq!(topology.servers().count(), 3);
        assert_eq!(topology.common().parameters.values().collect::<Vec<_>>(), ["on", "200", "4GB"]);
    }

    #[test]
    fn the_ten_lines_of_the_example_are_an_inventory() {
        let lines: Vec<&str> = EXAMPLE
            .lines()
            .skip_while(|line| !line.contains("ten lines"))
            .filter_map(|line| line.strip_prefix("#   "))
            .collect();
        assert_eq!(lines.len(), 10);
        let (topology, _) = crate::inventory::read(&lines.join("\n"), "ten.yaml").unwrap();
        assert_eq!(topology.links(topology.preferred_primary()).len(), 2);
        let common = topology.common();
        assert_eq!(common.purpose, crate::model::topology::Purpose::Production);
        assert_eq!(common.replication.authentication, crate::model::topology::Authentication::Certificate);
        assert_eq!(common.replication.synchronous, None);
        assert_eq!(common.replication.max_slot_wal_keep_size, "64GB");
        let mut servers = topology.servers();
        assert!(servers.all(|server| server.port == 5432 && server.site.as_str() == server.name.as_str()));
    }

    #[test]
    fn an_older_file_becomes_an_inventory() {
        let conversion = convert(OLDER, "older.yaml").unwrap();
        let (topology, warnings) = crate::inventory::read(&conversion.inventory, "new.yaml").unwrap();
        assert_eq!(warnings, []);
        let shown: Vec<String> = topology
            .servers()
            .map(|server| format!("{} {}:{} at {}", server.name, server.address, server.port, server.site))
            .collect();
        assert_eq!(
            shown,
            [
                "primary 192.168.1.100:5432 at main",
                "secondary1 192.168.1.101:5433 at metro",
                "secondary2 192.168.2.100:5432 at remote"
            ]
        );
        assert_eq!(topology.name().as_str(), "image-crawler");
        assert_eq!(topology.common().databases, ["image_crawler"]);
        assert!(conversion.inventory.contains("# db1.example.com"), "{}", conversion.inventory);
        let notes: Vec<String> =
            conversion.notes.iter().map(|note| format!("{} {}", note.code, note.message)).collect();
        assert_eq!(
            notes,
            [
                "version-not-given the older file does not say which PostgreSQL version is installed",
                "not-converted key \"user\" is not taken over",
                "not-converted key \"password\" is not taken over",
                "not-converted key \"rack\" is not taken over",
                "two-addresses the server has two addresses, 192.168.2.100 and 10.0.0.9",
                "not-converted key \"retention\" is not taken over",
                "not-converted key \"logging\" is not taken over",
            ]
        );
        assert!(!format!("{conversion:?}").contains("hunter2"));
    }

    #[test]
    fn problems_of_an_older_file_come_all_at_once() {
        let older = "
disaster_recovery:
  databases:
    master: { host: $(reboot), port: 0, database: template1 }
    primary: { host: 10.0.0.1, server_info: { location: \"a\\nb\" } }
    second one: { server_info: { ip: 10.0.0.2 } }
    third: [10.0.0.3]
    fourth: { port: 5432 }
    fourth: { host: 10.0.0.4 }
";
        let codes: Vec<&str> =
            convert(older, "older.yaml").unwrap_err().iter().map(|problem| problem.code.as_str()).collect();
        assert_eq!(
            codes,
            [
                "invalid-address",
                "out-of-range",
                "invalid-database",
                "invalid-text",
                "invalid-name",
                "wrong-type",
                "missing-key",
                "duplicate-key"
            ]
        );
        let two = "disaster_recovery: { databases: { primary: { host: a }, master: { host: b } } }";
        assert_eq!(convert(two, "x").unwrap_err()[0].code, Code::SeveralPrimaries);
        let none = "disaster_recovery: { databases: { second: { host: a } } }";
        assert_eq!(convert(none, "x").unwrap_err()[0].code, Code::NoPrimary);
        assert_eq!(convert(EXAMPLE, "x").unwrap_err()[0].code, Code::NotAnOlderFile);
        assert_eq!(convert("", "x").unwrap_err()[0].code, Code::EmptyInventory);
        let same = "disaster_recovery: { databases: { primary: { host: a }, second: { host: a } } }";
        assert_eq!(convert(same, "x").unwrap_err()[0].code, Code::DuplicateAddress);
    }
}

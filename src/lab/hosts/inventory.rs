//! The inventory of a hosts lab, as an operator would have written it.
//!
//! Written with a serializer, never pieced together. Tests change it before it is written; it is not read here.

use std::path::PathBuf;
use std::{fs, io};

use serde_json::{Map, Value, json};

use crate::lab::Failure;
use crate::lab::hosts::{HostsLab, HostsLabError};

/// The three sites of the example, the nearest first.
const SITES: [(&str, &str, &str); 3] =
    [("main", "主数据中心", "华东"), ("metro", "同城备份中心", "华东"), ("remote", "异地备份中心", "华南")];

/// Returns where a lab's inventory is.
pub fn path(lab: &HostsLab) -> PathBuf {
    lab.dir().join("pgstead.yaml")
}

/// Returns the inventory as a value: the first host is the primary, the second follows it, the third the second, and
/// all others the primary.
pub fn value(lab: &HostsLab) -> Value {
    let mut servers = Map::new();
    let mut second = None;
    for (index, host) in lab.hosts().iter().enumerate() {
        let mut server = json!({
            "address": host.address().to_string(),
            "site": SITES[index.min(2)].0,
            "kind": if index == 0 { "primary" } else { "standby" },
        });
        if index == 2 {
            server["upstream"] = json!(second);
        }
        if host.spec().ssh_port != 22 {
            server["ssh"] = json!({ "port": host.spec().ssh_port });
        }
        if index == 1 {
            second = Some(host.name());
        }
        servers.insert(host.name().to_owned(), server);
    }
    let sites: Map<String, Value> = SITES
        .iter()
        .take(lab.hosts().len())
        .map(|(name, location, region)| ((*name).to_owned(), json!({ "location": location, "region": region })))
        .collect();
    let version = lab.hosts().first().map_or(15, |host| host.spec().release.postgres_major());
    json!({
        "topology": "lab",
        "purpose": "lab",
        "postgres": { "version": version, "databases": ["demo"], "parameters": { "shared_buffers": "32MB" } },
        "sites": sites,
        "servers": servers,
        "replication": { "max_slot_wal_keep_size": "1GB" },
        "ssh": {
            "user": "root",
            "identity_file": lab.identity_file(),
            "known_hosts": lab.known_hosts(),
        },
    })
}

/// Writes the inventory beside the lab's other files.
///
/// # Errors
/// The file cannot be written.
pub fn write(lab: &HostsLab) -> Result<PathBuf, HostsLabError> {
    let path = path(lab);
    let text = serde_saphyr::to_string(&value(lab)).map_err(io::Error::other);
    let written = text.and_then(|text| fs::write(&path, text)).map_err(Failure::file("write", &path));
    written.map_err(|source| HostsLabError::PrepareLab { dir: lab.dir().to_owned(), source })?;
    Ok(path)
}

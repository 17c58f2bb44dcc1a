//! The inventory of a local lab, as an operator would have written it.
//!
//! Written with a serializer, never pieced together: a value cannot become syntax. It is not read here.

use std::collections::BTreeMap;

use serde::Serialize;

use super::LocalLab;
use super::error::LocalLabError;
use crate::model::layout::NO_SERVICE;

/// What an operator reads first.
const OPENING: &str = "\
# The inventory of a local lab: every server is an sshd of its own on 127.0.0.x, and a data directory.
# Written by \"pgstead lab up\"; paths are relative to this file. Try: plan, bootstrap, check, status.
";

#[derive(Serialize)]
struct Inventory<'a> {
    topology: &'a str,
    purpose: &'a str,
    postgres: Postgres,
    sites: BTreeMap<&'a str, Site<'a>>,
    servers: BTreeMap<&'a str, Server<'a>>,
    replication: Replication<'a>,
    ssh: Ssh<'a>,
}

#[derive(Serialize)]
struct Postgres {
    version: u32,
    port: u16,
    databases: [&'static str; 1],
    parameters: BTreeMap<&'static str, &'static str>,
}

#[derive(Serialize)]
struct Site<'a> {
    location: &'a str,
    region: &'a str,
}

#[derive(Serialize)]
struct Server<'a> {
    address: String,
    site: &'a str,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    bin_directory: &'a str,
    data_directory: &'a str,
    service: &'a str,
}

#[derive(Serialize)]
struct Replication<'a> {
    max_slot_wal_keep_size: &'a str,
}

#[derive(Serialize)]
struct Ssh<'a> {
    user: &'a str,
    port: u16,
    identity_file: &'a str,
    known_hosts: &'a str,
}

/// The three sites of the example, the nearest first.
const SITES: [(&str, &str, &str); 3] =
    [("main", "主数据中心", "华东"), ("metro", "同城备份中心", "华东"), ("remote", "异地备份中心", "华南")];

/// Returns the text of the inventory: the first server is the primary, the second follows it, the third the second.
pub(super) fn text(lab: &LocalLab) -> Result<String, LocalLabError> {
    let servers = lab.servers.iter().enumerate().map(|(index, server)| {
        let entry = Server {
            address: server.address.to_string(),
            site: SITES[index % SITES.len()].0,
            kind: if index == 0 { "primary" } else { "standby" },
            upstream: (index == 2).then(|| lab.servers[1].name.as_str()),
            bin_directory: &lab.bin_directory,
            data_directory: &server.data_directory,
            service: NO_SERVICE,
        };
        (server.name.as_str(), entry)
    });
    let sites = SITES.iter().take(lab.servers.len());
    let inventory = Inventory {
        topology: "lab",
        purpose: "lab",
        postgres: Postgres {
            version: lab.version.number(),
            port: lab.postgres_port,
            databases: ["demo"],
            parameters: BTreeMap::from([("shared_buffers", "32MB"), ("max_wal_size", "256MB")]),
        },
        sites: sites.map(|(name, location, region)| (*name, Site { location, region })).collect(),
        servers: servers.collect(),
        replication: Replication { max_slot_wal_keep_size: "1GB" },
        ssh: Ssh {
            user: &lab.login_user,
            port: lab.ssh_port,
            identity_file: super::IDENTITY_FILE,
            known_hosts: super::KNOWN_HOSTS,
        },
    };
    let yaml =
        serde_saphyr::to_string(&inventory).map_err(|error| LocalLabError::Inventory { reason: error.to_string() })?;
    Ok(format!("{OPENING}{yaml}"))
}

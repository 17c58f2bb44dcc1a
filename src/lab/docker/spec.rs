//! What an inventory says of a Docker lab: which servers, on which networks. Pure; it starts nothing.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::error::DockerLabError;
use crate::inventory;
use crate::lab::hosts::Release;
use crate::model::topology::{Purpose, Topology};

/// The host number of the engine in each network of a site.
const GATEWAY: u8 = 1;
/// The host number of the router in each network of a site.
const ROUTER: u8 = 2;
/// The users into which SSH may log in.
const USERS: [&str; 2] = ["ops", "root"];

/// The name of the container between the sites, which no server may have.
pub(super) const ROUTER_NAME: &str = "router";
/// Where the lab's directory has the operator's private key.
pub(super) const IDENTITY_FILE: &str = "client/id_ed25519";
/// Where the lab's directory has the host keys.
pub(super) const KNOWN_HOSTS: &str = "client/known_hosts";

/// A lab as an inventory wishes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spec {
    /// Which Debian brings the wished PostgreSQL.
    pub(super) release: Release,
    /// The login user.
    pub(super) user: String,
    /// The servers, in the order of their names.
    pub(super) servers: Vec<Server>,
    /// The sites that have servers, in the order of their networks.
    pub(super) sites: Vec<Site>,
    /// The inventory itself.
    inventory: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    pub(super) site: String,
}

/// One site, which is a /24.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) name: String,
    network: [u8; 3],
}

impl Site {
    /// Returns the network in the form that Docker takes.
    pub(super) fn subnet(&self) -> String {
        format!("{}/24", self.host(0))
    }

    /// Returns where the engine is in it.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        self.host(GATEWAY)
    }

    /// Returns where the router is in it.
    pub(super) fn router(&self) -> Ipv4Addr {
        self.host(ROUTER)
    }

    fn host(&self, number: u8) -> Ipv4Addr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, number)
    }
}

impl Spec {
    /// Reads an inventory.
    pub(super) fn read(text: &str, name: &str) -> Result<Self, DockerLabError> {
        let (topology, _) = inventory::read(text, name).map_err(DockerLabError::InvalidInventory)?;
        let unfit = |problem: String| DockerLabError::UnfitInventory { name: name.to_owned(), problem };
        if topology.common().purpose != Purpose::Lab {
            return Err(unfit("its purpose is not lab".to_owned()));
        }
        let version = topology.common().version;
        let release = Release::with_postgres_major(version.number())
            .ok_or_else(|| unfit(format!("no Debian release that pgstead knows brings PostgreSQL {version}")))?;
        let user = login_user(&topology).map_err(unfit)?;
        let servers = servers(&topology).map_err(unfit)?;
        let sites = sites(&servers).map_err(unfit)?;
        let inventory = serde_saphyr::from_str(text).map_err(|error| unfit(error.to_string()))?;
        Ok(Self { release, user, servers, sites, inventory })
    }

    /// Returns the site of a server.
    pub(super) fn site_of(&self, server: &Server) -> Option<&Site> {
        self.sites.iter().find(|site| site.name == server.site)
    }

    /// Returns the lab's inventory: the one it was made from, with the way in over the router.
    pub(super) fn inventory(&self, port: u16) -> Value {
        let mut inventory = self.inventory.clone();
        inventory["ssh"] = json!({
            "user": self.user,
            "port": 22,
            "jump": format!("{}@127.0.0.1:{port}", self.user),
            "identity_file": IDENTITY_FILE,
            "known_hosts": KNOWN_HOSTS,
        });
        if let Some(servers) = inventory["servers"].as_object_mut() {
            for server in servers.values_mut().filter_map(Value::as_object_mut) {
                server.remove("ssh");
            }
        }
        inventory
    }
}

fn login_user(topology: &Topology) -> Result<String, String> {
    let wished = topology.servers().find_map(|server| server.ssh.user.clone()).unwrap_or_else(|| USERS[0].to_owned());
    match USERS.contains(&wished.as_str()) {
        true => Ok(wished),
        false => Err(format!("its containers have users {}, and no \"{wished}\"", USERS.join(" and "))),
    }
}

fn servers(topology: &Topology) -> Result<Vec<Server>, String> {
    let server = |server: &crate::model::topology::Server| {
        let name = server.name.to_string();
        let Some(std::net::IpAddr::V4(address)) = server.address.ip() else {
            return Err(format!("server \"{name}\" needs an IPv4 address, and has \"{}\"", server.address));
        };
        if !address.is_private() {
            return Err(format!("server \"{name}\" needs a private address, and has {address}"));
        }
        if name == ROUTER_NAME {
            return Err("a server cannot be named \"router\": that is the container between the sites".to_owned());
        }
        if matches!(address.octets()[3], 0 | GATEWAY | ROUTER | 255) {
            return Err(format!("{address} of server \"{name}\" is not free: 1 is the engine, 2 the router"));
        }
        Ok(Server { name, address, site: server.site.to_string() })
    };
    topology.servers().map(server).collect()
}

fn sites(servers: &[Server]) -> Result<Vec<Site>, String> {
    let mut sites: Vec<Site> = Vec::new();
    for server in servers {
        let [a, b, c, _] = server.address.octets();
        let site = Site { name: server.site.clone(), network: [a, b, c] };
        for other in &sites {
            if (other.name == site.name) != (other.network == site.network) {
                return Err(format!(
                    "server \"{}\" at site \"{}\" is in {}, and site \"{}\" in {}: each site needs a /24 of its own",
                    server.name,
                    site.name,
                    site.subnet(),
                    other.name,
                    other.subnet()
                ));
            }
        }
        if !sites.contains(&site) {
            sites.push(site);
        }
    }
    sites.sort_by_key(|site| site.network);
    Ok(sites)
}

#[cfg(test)]
mod tests {
    use super::super::INVENTORY;
    use super::*;

    fn problem_of(from: &str, to: &str) -> String {
        let text = INVENTORY.replace(from, to);
        assert_ne!(text, INVENTORY, "nothing was changed");
        Spec::read(&text, "x.yaml").map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn the_inventory_of_the_house_is_a_lab() {
        let spec = Spec::read(INVENTORY, "docker.yaml").unwrap();
        assert_eq!(
            spec.sites.iter().map(Site::subnet).collect::<Vec<_>>(),
            ["10.214.1.0/24", "10.214.2.0/24", "10.214.3.0/24"]
        );
        // What is written for the lab is an inventory of its own.
        let text = serde_saphyr::to_string(&spec.inventory(22014)).unwrap();
        let (topology, _) = inventory::read(&text, "pgstead.yaml").unwrap();
        assert!(topology.servers().all(|server| server.ssh.jump == ["ops@127.0.0.1:22014"]));
    }

    #[test]
    fn what_no_lab_can_be_made_of_is_refused() {
        assert!(problem_of("purpose: lab", "purpose: production").contains("purpose is not lab"));
        assert!(problem_of("version: 15", "version: 16").contains("no Debian release"));
        assert!(problem_of("10.214.2.11", "b.example.com").contains("needs an IPv4 address"));
        assert!(problem_of("10.214.2.11", "192.0.2.11").contains("needs a private address"));
        assert!(problem_of("10.214.2.11", "10.214.2.2").contains("2 the router"));
        assert!(problem_of("10.214.2.11", "10.214.1.12").contains("each site needs a /24"));
        assert!(problem_of("site: metro", "site: main").contains("each site needs a /24"));
        assert!(problem_of("user: ops", "user: me").contains("no \"me\""));
        assert!(problem_of("kind: primary", "kind: standby").contains("primary"));
    }
}

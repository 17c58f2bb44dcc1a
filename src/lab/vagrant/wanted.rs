//! The inventory of a Vagrant lab: the one that is given, or the project's own, with the lab's keys in it.
//!
//! Reads and checks; makes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::Provider;
use super::error::VagrantLabError;
use super::place::{Place, State};
use crate::inventory;
use crate::inventory::Places;
use crate::lab::Failure;
use crate::lab::backend::{Wish, server_name};
use crate::lab::hosts::Release;
use crate::model::topology::{Purpose, Server};
use crate::model::version::Major;

/// The project's own, for a lab of which nothing else is known.
const OWN: &str = include_str!("../../../inventories/vagrant.yaml");

/// How the project's own is called in messages.
const OWN_NAME: &str = "inventories/vagrant.yaml";

/// The login user, where an inventory names none.
const USER: &str = "ops";

/// The last part of the first server's address in the project's own inventory, less one.
const BEFORE_FIRST: u8 = 10;

/// A lab as it is to be.
#[derive(Debug)]
pub(super) struct Wanted {
    /// What its directory will say about it.
    pub(super) state: State,
    pub(super) inventory: String,
}

impl Wanted {
    /// Works out the lab that is wished for.
    pub(super) fn new(place: &Place, wish: &Wish, provider: Provider) -> Result<Self, VagrantLabError> {
        let (path, text, places) = match &wish.inventory {
            Some(path) => {
                let path = std::path::absolute(path).map_err(Failure::file("find", path))?;
                let text = fs::read_to_string(&path).map_err(Failure::file("read", &path))?;
                let base = path.parent().unwrap_or(Path::new("/")).to_owned();
                (path, text, Places { base, home: home() })
            }
            None => (PathBuf::from(OWN_NAME), OWN.to_owned(), Places { base: place.dir().to_owned(), home: home() }),
        };
        let no_lab = |problem: &str| VagrantLabError::NoLabOf { inventory: path.clone(), problem: problem.to_owned() };
        let invalid = |problems| VagrantLabError::Inventory { problems };
        let (topology, _) = inventory::read_at(&text, &path.display().to_string(), &places).map_err(invalid)?;
        if topology.common().purpose != Purpose::Lab {
            return Err(no_lab("its purpose is not \"lab\"; machines would get the addresses of real servers"));
        }
        if let Some(server) = topology.servers().find(|server| goes_another_way(server)) {
            return Err(no_lab(&format!(
                "server \"{}\" has an ssh port or a jump host; machines are reached directly, on port 22",
                server.name
            )));
        }
        let mut value: Value = serde_saphyr::from_str(&text).map_err(|error| no_lab(&error.to_string()))?;
        if wish.inventory.is_none() {
            as_wished(&mut value, wish);
        }

        let ssh = topology.servers().next().map(|server| server.ssh.clone()).unwrap_or_default();
        let identity_file = ssh.identity_file.unwrap_or_else(|| place.key());
        let user = ssh.user.unwrap_or_else(|| USER.to_owned());
        value["ssh"] = json!({ "user": user, "identity_file": identity_file, "known_hosts": place.known_hosts() });
        for server in value["servers"].as_object_mut().into_iter().flat_map(|servers| servers.values_mut()) {
            if let Some(server) = server.as_object_mut() {
                server.remove("ssh");
                if provider == Provider::Docker {
                    without_service_manager(server, topology.common().version);
                }
            }
        }
        for hook in ["before", "after"] {
            if let Some(written) = value["hooks"].get(hook).and_then(Value::as_str) {
                value["hooks"][hook] = json!(places.resolve(written));
            }
        }
        let servers = value["servers"].as_object().into_iter().flatten();
        let servers = servers.map(|(name, server)| (name.clone(), server["address"].as_str().unwrap_or("").to_owned()));
        let state =
            State { provider, topology: topology.name().to_string(), user, identity_file, servers: servers.collect() };
        let written = serde_saphyr::to_string(&value).map_err(std::io::Error::other);
        Ok(Self { state, inventory: written.map_err(|source| VagrantLabError::WriteInventory { source })? })
    }
}

/// Says for a server in a container what nothing in it says: no unit runs the instance. What is said already stays.
fn without_service_manager(server: &mut Map<String, Value>, version: Major) {
    for (key, value) in [
        ("service", "pg_ctl".to_owned()),
        ("bin_directory", format!("/usr/lib/postgresql/{version}/bin")),
        ("data_directory", format!("/var/lib/postgresql/{version}/main")),
    ] {
        server.entry(key).or_insert_with(|| json!(value));
    }
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}

fn goes_another_way(server: &Server) -> bool {
    server.ssh.port.is_some_and(|port| port != 22) || !server.ssh.jump.is_empty()
}

/// Makes of the project's own inventory one with as many servers, and of the release, as are wished for.
fn as_wished(value: &mut Value, wish: &Wish) {
    if let Some(release) = wish.release {
        value["postgres"]["version"] = json!(Release::postgres_major(release));
    }
    let Some(wished) = wish.servers else { return };
    let Some(servers) = value["servers"].as_object_mut() else { return };
    let names: Vec<String> = (0..wished).map(server_name).collect();
    servers.retain(|name, _| names.contains(name));
    for (index, name) in names.iter().enumerate().skip(servers.len()) {
        // As many as an address has room for: the command line takes up to fifty.
        let address = format!("192.168.56.{}", usize::from(BEFORE_FIRST) + 1 + index);
        servers.insert(name.clone(), json!({ "address": address, "site": "remote", "kind": "standby" }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(wish: &Wish) -> Result<Wanted, VagrantLabError> {
        Wanted::new(&Place::new(Path::new("/lab")), wish, Provider::Libvirt)
    }

    fn problem(inventory: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.yaml");
        fs::write(&path, inventory).unwrap();
        let error = wanted(&Wish { inventory: Some(path), ..Wish::default() }).unwrap_err();
        error.to_string().replace(&dir.path().display().to_string(), "DIR")
    }

    #[test]
    fn the_projects_own_inventory_gets_the_labs_keys_and_as_many_servers_as_are_wished_for() {
        let lab = wanted(&Wish { servers: Some(5), release: Some(Release::Trixie), ..Wish::default() }).unwrap();
        let (topology, _) = inventory::read(&lab.inventory, "lab").unwrap();
        assert_eq!(topology.servers().count(), 5);
        assert_eq!(lab.state.servers[0], ("a".to_owned(), "192.168.56.11".to_owned()));
        assert_eq!(lab.state.servers[4], ("e".to_owned(), "192.168.56.15".to_owned()));
        assert_eq!(topology.common().version.to_string(), "17");
        for server in topology.servers() {
            assert_eq!(server.ssh.identity_file.as_deref(), Some(Path::new("/lab/client/id_ed25519")));
            assert_eq!(server.ssh.known_hosts.as_deref(), Some(Path::new("/lab/known_hosts")));
            assert_eq!(server.ssh.user.as_deref(), Some("ops"));
        }
        let two = wanted(&Wish { servers: Some(2), ..Wish::default() }).unwrap();
        assert_eq!(inventory::read(&two.inventory, "lab").unwrap().0.servers().count(), 2);
    }

    #[test]
    fn an_instance_in_a_container_is_run_by_pg_ctl() {
        let lab = Wanted::new(&Place::new(Path::new("/lab")), &Wish::default(), Provider::Docker).unwrap();
        let (topology, _) = inventory::read(&lab.inventory, "lab").unwrap();
        for server in topology.servers() {
            assert_eq!(server.service.as_deref(), Some("pg_ctl"));
            assert_eq!(server.bin_directory.as_deref(), Some("/usr/lib/postgresql/15/bin"));
            assert_eq!(server.data_directory.as_deref(), Some("/var/lib/postgresql/15/main"));
        }
    }

    #[test]
    fn a_given_inventory_keeps_its_key_and_loses_its_way_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.yaml");
        fs::write(&path, "topology: t\npurpose: lab\npostgres: { version: 15 }\nservers:\n  a: { address: 10.0.0.11, kind: primary }\nssh: { user: me, identity_file: keys/id }\n").unwrap();
        let lab = wanted(&Wish { inventory: Some(path), ..Wish::default() }).unwrap();
        assert_eq!(lab.state.identity_file, dir.path().join("keys/id"));
        assert_eq!((lab.state.user.as_str(), lab.state.topology.as_str()), ("me", "t"));
        assert_eq!(lab.state.servers, [("a".to_owned(), "10.0.0.11".to_owned())]);
    }

    #[test]
    fn an_inventory_of_real_servers_or_with_another_way_in_is_no_lab() {
        let text = "topology: t\npostgres: { version: 15 }\nservers: { a: { address: 10.0.0.11, kind: primary } }\n";
        assert_eq!(
            problem(text),
            "no lab can be made of \"DIR/x.yaml\": its purpose is not \"lab\"; machines would get the addresses of real servers"
        );
        let jump = [text, "purpose: lab\nssh: { jump: bastion }\n"].concat();
        assert!(problem(&jump).contains("server \"a\" has an ssh port or a jump host"), "{}", problem(&jump));
        assert_eq!(problem("topology: t\n"), "the inventory is not valid");
    }
}

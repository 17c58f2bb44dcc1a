//! The file that Compose is driven by, made from the lab's inventory. Pure.
//!
//! Written with a serializer, never pieced together. `docker/compose.yaml` is what comes out for `inventories/docker.yaml`;
//! a test compares them. Only keys that Compose 1.29 knows as well are used.

use serde_json::{Map, Value, json};

use super::spec::{ROUTER_NAME, Server, Site, Spec};

/// What an operator reads first.
const OPENING: &str = "\
# The Docker lab for Compose: a network per site, a container per server, and a router between the sites that is also the
# way in over SSH. \"pgstead lab up --backend docker\" makes this file of an inventory and fills in the variables. By hand:
#   PGSTEAD_LAB_KEY=\"$(cat ~/.ssh/id_ed25519.pub)\" docker compose -f docker/compose.yaml up -d --build
";

/// How much memory a server may share between its processes; Docker's 64 MiB are too few for parallel queries.
const SHARED_MEMORY: &str = "256m";

/// Where a server keeps what its disk of its own holds.
pub(super) const DATA: &str = "/var/lib/postgresql";

/// Returns the text of the file.
pub(super) fn text(spec: &Spec, disk_mib: Option<u32>) -> Result<String, String> {
    let mut services = Map::new();
    services.insert(ROUTER_NAME.to_owned(), router(spec, disk_mib));
    for server in &spec.servers {
        if let Some(site) = spec.site_of(server) {
            services.insert(server.name.clone(), service(spec, server, site, disk_mib));
        }
    }
    let networks: Map<String, Value> = spec.sites.iter().map(|site| (network(site), definition(site))).collect();
    let mut file = json!({ "services": services, "networks": networks });
    if let Some(mib) = disk_mib {
        let volumes: Map<String, Value> = spec.servers.iter().map(|server| (disk(server), volume(mib))).collect();
        file["volumes"] = json!(volumes);
    }
    serde_saphyr::to_string(&file).map(|yaml| [OPENING, &yaml].concat()).map_err(|error| error.to_string())
}

/// What all containers have in common.
fn container(spec: &Spec, name: &str) -> Value {
    json!({
        "image": format!("${{PGSTEAD_LAB_IMAGE:-pgstead-lab:{}}}", spec.release),
        "build": { "context": ".", "args": {
            "BASE": format!("debian:{}", spec.release),
            "POSTGRES": spec.release.postgres_major().to_string(),
        } },
        "container_name": format!("${{PGSTEAD_LAB:-pgstead-lab}}-{name}"),
        "hostname": name,
        // PostgreSQL takes what nobody has waited for to be alive.
        "init": true,
        // For routes and faults of the line; and root sees where another user's process works, as root of a server does.
        "cap_add": ["NET_ADMIN", "SYS_PTRACE"],
        "shm_size": SHARED_MEMORY,
        "environment": { "PGSTEAD_LAB_KEY": "${PGSTEAD_LAB_KEY:?the public key of the operator}" },
    })
}

fn service(spec: &Spec, server: &Server, site: &Site, disk_mib: Option<u32>) -> Value {
    let mut service = container(spec, &server.name);
    let others: Vec<String> = spec.sites.iter().filter(|other| *other != site).map(Site::subnet).collect();
    service["depends_on"] = json!([ROUTER_NAME]);
    service["environment"]["PGSTEAD_LAB_GATEWAY"] = json!(site.gateway().to_string());
    service["environment"]["PGSTEAD_LAB_ROUTER"] = json!(site.router().to_string());
    service["environment"]["PGSTEAD_LAB_SITES"] = json!(others.join(" "));
    service["networks"] = json!({ network(site): { "ipv4_address": server.address.to_string() } });
    if disk_mib.is_some() {
        service["volumes"] = json!([format!("{}:{DATA}", disk(server))]);
    }
    service
}

fn router(spec: &Spec, disk_mib: Option<u32>) -> Value {
    let mut router = container(spec, ROUTER_NAME);
    let networks: Map<String, Value> =
        spec.sites.iter().map(|site| (network(site), json!({ "ipv4_address": site.router().to_string() }))).collect();
    router["networks"] = json!(networks);
    router["sysctls"] = json!({ "net.ipv4.ip_forward": "1" });
    router["ports"] = json!(["127.0.0.1:${PGSTEAD_LAB_PORT:-22014}:22"]);
    if disk_mib.is_some() {
        // A disk in memory lasts as long as somebody has it mounted: a server whose power is cut does not.
        let volumes: Vec<String> = spec.servers.iter().map(|server| format!("{0}:/disks/{0}", disk(server))).collect();
        router["volumes"] = json!(volumes);
    }
    router
}

fn definition(site: &Site) -> Value {
    let config = json!({ "subnet": site.subnet(), "gateway": site.gateway().to_string() });
    json!({ "driver": "bridge", "ipam": { "config": [config] } })
}

fn volume(mib: u32) -> Value {
    let options = json!({ "type": "tmpfs", "device": "tmpfs", "o": format!("size={mib}m,mode=0755") });
    json!({ "driver": "local", "driver_opts": options })
}

fn network(site: &Site) -> String {
    ["site-", &site.name].concat()
}

fn disk(server: &Server) -> String {
    ["disk-", &server.name].concat()
}

#[cfg(test)]
mod tests {
    use super::super::INVENTORY;
    use super::*;

    #[test]
    fn the_file_in_docker_is_made_of_the_inventory() {
        let spec = Spec::read(INVENTORY, "docker.yaml").unwrap();
        let made = text(&spec, None).unwrap();
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/compose.yaml");
        if std::env::var_os("PGSTEAD_BLESS").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), made, "bless it with PGSTEAD_BLESS=1");
    }

    #[test]
    fn a_disk_of_a_server_is_kept_by_the_router_while_the_power_is_cut() {
        let spec = Spec::read(INVENTORY, "docker.yaml").unwrap();
        let file: Value = serde_saphyr::from_str(&text(&spec, Some(256)).unwrap()).unwrap();
        assert_eq!(file["services"]["b"]["volumes"], json!(["disk-b:/var/lib/postgresql"]));
        assert_eq!(file["services"]["router"]["volumes"][1], "disk-b:/disks/disk-b");
        assert_eq!(file["volumes"]["disk-b"]["driver_opts"]["o"], "size=256m,mode=0755");
    }
}

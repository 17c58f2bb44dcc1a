//! Whether what a lab needs is there and free: its networks, its port, memory, room. It looks and changes nothing.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use super::engine::Engine;
use super::error::DockerLabError;
use super::spec::Spec;

/// The port of this machine that is tried first for the way in.
const FIRST_PORT: u16 = 22014;
const LAST_PORT: u16 = 22063;

/// What a server takes when it is busy: shared buffers, a base backup, its sessions.
const SERVER_MEMORY_MIB: u64 = 192;
/// What an image takes that is yet to be built, its base included.
const IMAGE_ROOM_MIB: u64 = 1024;
/// What a server writes: data, WAL that a slot keeps, a base backup beside them.
const SERVER_ROOM_MIB: u64 = 512;

/// The routes of this machine. The engine of another one has its own, which nothing here can see.
const ROUTES: &str = "/proc/net/route";

/// An IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    first: u32,
    mask: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let bits: u32 = bits.parse().ok().filter(|bits| *bits <= 32)?;
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        Some(Self { first: u32::from(address.parse::<Ipv4Addr>().ok()?) & mask, mask })
    }

    fn overlaps(self, other: Self) -> bool {
        let common = self.mask & other.mask;
        self.first & common == other.first & common
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.first), self.mask.count_ones())
    }
}

/// Refuses networks that this machine or the engine has already.
pub(super) fn networks(engine: &Engine, spec: &Spec, project: &str) -> Result<(), DockerLabError> {
    let look = |source| DockerLabError::Look { source };
    let mut taken = Vec::new();
    for (name, subnets) in engine.networks(project).map_err(look)? {
        let subnets = subnets.iter().filter_map(|subnet| Network::parse(subnet));
        taken.extend(subnets.map(|subnet| (subnet, format!("{subnet} of Docker network \"{name}\""))));
    }
    let routes = routes(&fs::read_to_string(ROUTES).unwrap_or_default());
    taken.extend(routes.into_iter().map(|(route, device)| (route, format!("{route}, a route over \"{device}\""))));
    refuse(spec, &taken)
}

fn refuse(spec: &Spec, taken: &[(Network, String)]) -> Result<(), DockerLabError> {
    for site in &spec.sites {
        let Some(wanted) = Network::parse(&site.subnet()) else { continue };
        if let Some((_, other)) = taken.iter().find(|(network, _)| network.overlaps(wanted)) {
            return Err(DockerLabError::NetworkTaken {
                network: site.subnet(),
                site: site.name.clone(),
                other: other.clone(),
            });
        }
    }
    Ok(())
}

/// Parses the kernel's table (proc_net(5)): device, destination, and the mask in column 8, each as it lies in memory. The
/// default route is in nobody's way.
fn routes(table: &str) -> Vec<(Network, String)> {
    let route = |line: &str| {
        let mut words = line.split_whitespace();
        let device = words.next()?;
        let number = |word: Option<&str>| Some(u32::from_str_radix(word?, 16).ok()?.swap_bytes());
        let first = number(words.next())?;
        let mask = number(words.nth(5))?;
        (mask != 0).then(|| (Network { first, mask }, device.to_owned()))
    };
    table.lines().skip(1).filter_map(route).collect()
}

/// Returns a port of the loopback interface that nobody listens on.
pub(super) fn free_port() -> Result<u16, DockerLabError> {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let port = (FIRST_PORT..=LAST_PORT).find(free);
    port.ok_or(DockerLabError::NoFreePort { first: FIRST_PORT, last: LAST_PORT })
}

/// Refuses an engine with too little memory, or too little room where that can be seen.
pub(super) fn resources(
    engine: &Engine,
    servers: usize,
    builds: bool,
    disk_mib: Option<u32>,
) -> Result<(), DockerLabError> {
    let count = u64::try_from(servers).unwrap_or(u64::MAX);
    // A disk of a server's own is in memory.
    let need_mib = count.saturating_mul(SERVER_MEMORY_MIB + u64::from(disk_mib.unwrap_or(0)));
    if engine.memory_mib < need_mib {
        return Err(DockerLabError::TooLittleMemory { has_mib: engine.memory_mib, servers, need_mib });
    }
    let need_mib = count.saturating_mul(SERVER_ROOM_MIB) + if builds { IMAGE_ROOM_MIB } else { 0 };
    match room_mib(&engine.directory) {
        Some(has_mib) if has_mib < need_mib => {
            Err(DockerLabError::TooLittleRoom { path: engine.directory.clone(), has_mib, need_mib })
        }
        _ => Ok(()),
    }
}

/// Returns what is free at a path of this machine; nothing where the engine is on another one.
fn room_mib(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize) >> 20)
}

#[cfg(test)]
mod tests {
    use super::super::INVENTORY;
    use super::*;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap()
    }

    #[test]
    fn networks_overlap_when_one_holds_the_other() {
        assert!(network("10.214.1.0/24").overlaps(network("10.0.0.0/8")));
        assert!(network("10.0.0.0/8").overlaps(network("10.214.1.0/24")));
        assert!(network("10.214.1.11/32").overlaps(network("10.214.1.0/24")));
        assert!(!network("10.214.1.0/24").overlaps(network("10.214.2.0/24")));
    }

    #[test]
    fn routes_are_read_as_the_kernel_writes_them() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     br-x\t0002D60A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(routes(table), [(network("10.214.2.0/24"), "br-x".to_owned())]);
        let spec = Spec::read(INVENTORY, "docker.yaml").unwrap();
        let taken = [(network("10.214.2.0/24"), "10.214.2.0/24, a route over \"br-x\"".to_owned())];
        let error = refuse(&spec, &taken).map_or_else(|error| error.to_string(), |()| String::new());
        assert_eq!(error, "network 10.214.2.0/24 of site \"metro\" overlaps 10.214.2.0/24, a route over \"br-x\"");
        assert!(refuse(&spec, &[]).is_ok());
    }

    #[test]
    fn too_little_is_told_with_what_there_is() {
        let small = Engine { memory_mib: 512, directory: "/nonexistent".into() };
        let error = resources(&small, 3, true, None).map_or_else(|error| error.to_string(), |()| String::new());
        assert_eq!(error, "the Docker engine has 512 MiB of memory, and 3 servers need 576");
        let large = Engine { memory_mib: 4096, directory: "/".into() };
        assert!(resources(&large, 3, true, Some(4096)).is_err());
        let error = resources(&Engine { memory_mib: u64::MAX, ..large }, 1 << 40, true, None);
        assert!(error.is_err_and(|error| error.to_string().contains("MiB of room")));
    }
}

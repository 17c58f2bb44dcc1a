//! One bridge per lab, with a /24 of its own below 10.213.0.0/16.
//!
//! The number of the /24 is the lab's number on this machine and names everything the machine shares: bridge, links,
//! control groups. It is taken through a registry in `/run`, one link per lab, which also tells a sweep what labs there are.
//! No route leads out of a lab: its hosts reach each other and this machine's end of the bridge.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::lab::Failure;
use crate::lab::command::succeed;

const RUN_DIR: &str = "/run/pgstead";
const REGISTRY: &str = "/run/pgstead/labs";

/// The first host's last octet; this machine is 1.
const FIRST_HOST: u8 = 11;

/// A lab's number on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct LabNumber(u8);

impl From<LabNumber> for u8 {
    fn from(number: LabNumber) -> Self {
        number.0
    }
}

impl LabNumber {
    /// The bridge's name.
    pub(super) fn bridge(self) -> String {
        format!("pgst-{}", self.0)
    }

    /// The name of host `index` among this machine's control groups and nspawn machines.
    pub(super) fn machine(self, index: u8) -> String {
        format!("pgst-{}-{index}", self.0)
    }

    /// This machine's end of the link to host `index`: at most 14 characters, where the kernel allows 15.
    pub(super) fn link(self, index: u8) -> String {
        format!("vb-{}", self.machine(index))
    }

    /// This machine's address on the bridge.
    pub(super) fn bridge_address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.0, 1)
    }

    /// The address of host `index`.
    pub(super) fn host_address(self, index: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.0, FIRST_HOST.saturating_add(index))
    }

    fn registration(self) -> PathBuf {
        Path::new(REGISTRY).join(self.0.to_string())
    }

    /// Tells whether a lab, an interface or a route of this machine has the number; `routes` are the machine's.
    fn is_in_use(self, routes: &str) -> bool {
        let address = self.bridge_address().to_string();
        let network = address.trim_end_matches('1');
        fs::read_link(self.registration()).is_ok_and(|dir| dir.exists())
            || interface_exists(&self.bridge())
            || routes.contains(&format!(" {network}"))
            || routes.starts_with(network)
    }

    /// Tells whether this number is registered for the lab in `dir`, and so the bridge is that lab's.
    pub(super) fn belongs_to(self, dir: &Path) -> bool {
        fs::read_link(self.registration()).is_ok_and(|registered| registered == dir)
    }

    /// Registers the number for the lab in `dir`.
    pub(super) fn register(self, dir: &Path) -> Result<(), Failure> {
        let registration = self.registration();
        std::os::unix::fs::symlink(dir, &registration).map_err(Failure::file("make", &registration))
    }

    /// Gives the number back.
    pub(super) fn release(self, dir: &Path) -> Result<(), Failure> {
        if !self.belongs_to(dir) {
            return Ok(());
        }
        let registration = self.registration();
        fs::remove_file(&registration).map_err(Failure::file("remove", &registration))
    }
}

/// Waits for the lock on the registry, which is held as long as the value lives.
pub(super) fn lock_registry() -> Result<File, Failure> {
    lock("labs.lock")
}

/// Waits for the lock that lets only one process sweep.
pub(super) fn lock_sweep() -> Result<File, Failure> {
    lock("sweep.lock")
}

fn lock(name: &str) -> Result<File, Failure> {
    fs::create_dir_all(REGISTRY).map_err(Failure::file("make", REGISTRY))?;
    let path = Path::new(RUN_DIR).join(name);
    let lock = File::create(&path).map_err(Failure::file("open", &path))?;
    lock.lock().map_err(Failure::file("lock", &path))?;
    Ok(lock)
}

/// Returns the directories of all registered labs.
pub(super) fn registered_labs() -> Result<Vec<PathBuf>, Failure> {
    let entries = match fs::read_dir(REGISTRY) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Failure::file("read", REGISTRY))?,
    };
    Ok(entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect())
}

/// The number of labs that take any; those above are taken by who asks for one.
const ANY: std::ops::Range<u8> = 1..128;

/// Returns the wanted number, or one of those for everybody, that nothing on this machine uses; the caller holds the lock and
/// registers it.
pub(super) fn free_number(wanted: Option<u8>) -> Result<LabNumber, Failure> {
    let routes = succeed(Command::new("ip").args(["-o", "-4", "route", "show", "table", "all"]))?;
    let is_free = |number: &LabNumber| !number.is_in_use(&routes);
    let (number, none) = match wanted {
        Some(number) => {
            (Some(LabNumber(number)).filter(is_free), format!("10.213.{number}.0/24 is in use on this machine"))
        }
        None => (ANY.map(LabNumber).find(is_free), "10.213.1.0/24 to 10.213.127.0/24 are all in use".to_owned()),
    };
    let number = number.ok_or(Failure::Observed(none))?;
    // A registration whose lab and bridge are both gone is left from a lab that was removed by hand.
    let _ = fs::remove_file(number.registration());
    Ok(number)
}

/// Makes the bridge with this machine's address on it.
pub(super) fn add_bridge(number: LabNumber) -> Result<(), Failure> {
    let bridge = number.bridge();
    succeed(Command::new("ip").args(["link", "add", "name", &bridge, "type", "bridge"]))?;
    // Where Docker has been, frames on a bridge would go through the machine's IPv4 forwarding rules, and be dropped.
    let filtered = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if filtered.exists() {
        fs::write(filtered, "0").map_err(Failure::file("write", filtered))?;
    }
    let quiet = PathBuf::from(format!("/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6"));
    if quiet.exists() {
        fs::write(&quiet, "1").map_err(Failure::file("write", &quiet))?;
    }
    let address = format!("{}/24", number.bridge_address());
    succeed(Command::new("ip").args(["address", "add", &address, "dev", &bridge]))?;
    succeed(Command::new("ip").args(["link", "set", "dev", &bridge, "up"]))?;
    Ok(())
}

/// Removes an interface; an absent one is fine.
pub(super) fn remove_interface(name: &str) -> Result<(), Failure> {
    if !interface_exists(name) {
        return Ok(());
    }
    match succeed(Command::new("ip").args(["link", "delete", "dev", name])) {
        // A link goes by itself when its host's namespace does.
        Err(failure) if interface_exists(name) => Err(failure),
        _ => Ok(()),
    }
}

/// Tells whether this machine has an interface of that name.
pub(super) fn interface_exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_what_the_kernel_allows() {
        let number = LabNumber(255);
        assert!(number.bridge().len() <= 15);
        assert!(number.link(199).len() <= 15, "{}", number.link(199));
        assert_eq!(number.host_address(0), Ipv4Addr::new(10, 213, 255, 11));
        assert_eq!(number.host_address(199), Ipv4Addr::new(10, 213, 255, 210));
    }
}

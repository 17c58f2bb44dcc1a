//! What a lab is wished to be: its hosts and their peculiarities.
//!
//! Pure values and their validation; touches no file and starts nothing.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::HostsLabError;

/// A Debian release that a host can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Release {
    /// Debian 12, with PostgreSQL 15.
    Bookworm,
    /// Debian 13, with PostgreSQL 17.
    Trixie,
    /// Debian 14 in the making, with PostgreSQL 18.
    Forky,
    /// The same with PostgreSQL 19 of Debian's experimental suite.
    Experimental,
}

impl Release {
    /// All releases, the oldest first.
    pub const ALL: [Self; 4] = [Self::Bookworm, Self::Trixie, Self::Forky, Self::Experimental];

    /// Returns the suite name that Debian's archive uses.
    #[must_use]
    pub fn suite(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Forky => "forky",
            Self::Experimental => "experimental",
        }
    }

    /// Returns the major version of the PostgreSQL that this release brings.
    #[must_use]
    pub fn postgres_major(self) -> u32 {
        match self {
            Self::Bookworm => 15,
            Self::Trixie => 17,
            Self::Forky => 18,
            Self::Experimental => 19,
        }
    }

    /// Returns the release that brings PostgreSQL `major`, where there is one.
    #[must_use]
    pub fn with_postgres_major(major: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|release| release.postgres_major() == major)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.suite())
    }
}

/// A small ext4 file system on a path of a host, to be filled up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmallDisk {
    /// Where the host sees it, such as `/var/lib/postgresql`. Its root directory gets the owner and mode that the
    /// release's tree has there.
    pub mount_point: String,
    /// Its size in MiB, at least 8.
    pub mebibytes: u32,
}

/// One host of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSpec {
    /// Its host name.
    pub name: String,
    /// What it runs.
    pub release: Release,
    /// Where its sshd listens.
    pub ssh_port: u16,
    /// Another host whose machine id it shares, as a careless clone of a virtual machine does.
    pub machine_id_of: Option<String>,
    /// A small disk for one of its paths.
    pub small_disk: Option<SmallDisk>,
    /// Whether Debian's PostgreSQL packages are installed.
    pub postgres_installed: bool,
}

impl HostSpec {
    /// Returns an ordinary host: sshd on port 22, PostgreSQL installed, everything on one disk.
    #[must_use]
    pub fn new(name: &str, release: Release) -> Self {
        Self {
            name: name.to_owned(),
            release,
            ssh_port: 22,
            machine_id_of: None,
            small_disk: None,
            postgres_installed: true,
        }
    }
}

/// A lab to bring up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabSpec {
    /// Where it keeps everything; absent or empty before.
    pub dir: PathBuf,
    /// Its hosts, in the order of their addresses.
    pub hosts: Vec<HostSpec>,
    /// Whether it must not outlive this process: when the process is gone, the next sweep brings the lab down.
    pub owned: bool,
    /// Whether what the hosts write is kept in memory, where this machine has enough of it: faster, and gone with the machine.
    pub in_memory: bool,
    /// Its number on this machine, which its addresses contain; one that is free by default.
    pub number: Option<u8>,
    /// What a lab of the same hosts and number has kept ([`HostsLab::keep`](super::HostsLab::keep)): its hosts begin with that.
    pub begins_with: Option<PathBuf>,
}

impl LabSpec {
    /// Returns an ordinary lab in `dir` that ends with this process.
    #[must_use]
    pub fn new(dir: PathBuf, hosts: Vec<HostSpec>) -> Self {
        Self { dir, hosts, owned: true, in_memory: false, number: None, begins_with: None }
    }
}

/// The last address of a /24 goes to host number 200; that is more than one machine boots.
const MAX_HOSTS: usize = 200;

impl LabSpec {
    /// Checks what can be checked without touching anything.
    pub(super) fn validate(&self) -> Result<(), HostsLabError> {
        let invalid = |problem: String| Err(HostsLabError::InvalidSpec { problem });
        let dir = self.dir.to_string_lossy();
        if !self.dir.is_absolute() || dir.contains([':', ',', '\\', ' ', '\n', '\t']) {
            return invalid(format!(
                "directory \"{dir}\" must be absolute, without spaces, colons, commas and backslashes"
            ));
        }
        if self.hosts.is_empty() || self.hosts.len() > MAX_HOSTS {
            return invalid(format!("a lab has 1 to {MAX_HOSTS} hosts, not {}", self.hosts.len()));
        }
        for (index, host) in self.hosts.iter().enumerate() {
            let name = &host.name;
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if name.is_empty() || name.len() > 32 || !name.chars().all(fits) || name.starts_with('-') {
                return invalid(format!("\"{name}\" is no host name of lower-case letters, digits and hyphens"));
            }
            if self.hosts[..index].iter().any(|other| other.name == *name) {
                return invalid(format!("two hosts are named \"{name}\""));
            }
            if let Some(original) = &host.machine_id_of
                && !self.hosts[..index].iter().any(|other| other.name == *original)
            {
                return invalid(format!(
                    "host \"{name}\" shares the machine id of \"{original}\", which is no earlier host"
                ));
            }
            if let Some(disk) = &host.small_disk {
                let path = &disk.mount_point;
                if !path.starts_with('/') || path.len() < 2 || path.contains([':', '"', '\\']) || disk.mebibytes < 8 {
                    return invalid(format!("host \"{name}\": a small disk needs an absolute path and at least 8 MiB"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem_of(change: impl FnOnce(&mut LabSpec)) -> String {
        let hosts = vec![HostSpec::new("a", Release::Bookworm), HostSpec::new("b", Release::Trixie)];
        let mut spec = LabSpec::new(PathBuf::from("/var/tmp/lab"), hosts);
        change(&mut spec);
        spec.validate().map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn an_ordinary_lab_is_valid() {
        assert_eq!(problem_of(|_| {}), "");
    }

    #[test]
    fn wishes_that_can_not_be_met_are_refused() {
        assert!(problem_of(|spec| spec.dir = PathBuf::from("lab")).contains("must be absolute"));
        assert!(problem_of(|spec| spec.dir = PathBuf::from("/a:b")).contains("must be absolute"));
        assert!(problem_of(|spec| spec.hosts.clear()).contains("1 to 200 hosts"));
        assert!(problem_of(|spec| spec.hosts[1].name = "a".to_owned()).contains("two hosts"));
        assert!(problem_of(|spec| spec.hosts[1].name = "B b".to_owned()).contains("no host name"));
        assert!(problem_of(|spec| spec.hosts[0].machine_id_of = Some("b".to_owned())).contains("no earlier host"));
    }

    #[test]
    fn a_postgres_version_finds_its_release() {
        assert_eq!(Release::with_postgres_major(17), Some(Release::Trixie));
        assert_eq!(Release::with_postgres_major(16), None);
    }
}

//! What a preflight wants to know of a server besides what every command looks at.
//!
//! Plain facts, serialisable, so that every judgement can be tested with a file. Nothing here decides anything. A fact
//! that was not asked for is `Unreadable`, as everywhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::lsn::Lsn;
use crate::model::observed::Observed;

/// What one server says of itself, beyond [`crate::model::observation::ServerObservation`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Readiness {
    /// The machine and its kernel.
    pub machine: Machine,
    /// What tells one machine from another.
    pub identity: Identity,
    /// Every file system that is mounted from a device or over a network, by mount point.
    pub mounts: BTreeMap<String, Mount>,
    /// Places that the instance will use, by path as asked.
    pub places: BTreeMap<String, Observed<Place>>,
    /// Where the instance's WAL is, links followed; none where there is no data directory.
    pub wal_directory: Option<String>,
    /// What stands where the new instance would: left by an earlier installation.
    pub leftovers: Vec<String>,
    /// Programs that pgstead runs there and that are missing.
    pub missing_programs: Vec<String>,
    /// Packet filters that are active, with what they drop or reject.
    pub firewalls: Vec<String>,
    /// What is installed of PostgreSQL.
    pub installed: Installed,
    /// What the running instance says. Absent where none runs.
    pub instance: Observed<InstanceReadiness>,
}

/// The machine and its kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// `ID` of os-release, such as `debian`.
    pub os_family: String,
    /// Processors that are online.
    pub processors: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Swap in bytes.
    pub swap_bytes: u64,
    /// `vm.overcommit_memory`: 0 guesses, 1 always, 2 never.
    pub overcommit_memory: Option<u32>,
    /// The chosen word of transparent huge pages: `always`, `madvise` or `never`.
    pub transparent_huge_pages: Option<String>,
    /// Bytes of reserved huge pages, free ones included.
    pub huge_page_bytes: u64,
    /// How many files the instance's service may open; none means no limit.
    pub open_files: Observed<u64>,
    /// Whether logind removes the shared memory of ordinary users when they log out, and the instance's user is one.
    pub removes_ipc: bool,
    /// What upgrades or restarts PostgreSQL by itself: `unattended-upgrades`, `needrestart`.
    pub automatic_restarts: Vec<String>,
    /// SELinux: `Enforcing`, `Permissive`; absent where there is none.
    pub selinux: Observed<String>,
    /// The active service that keeps the clock right; absent where none is.
    pub time_service: Observed<String>,
    /// The time zone's name, as `/etc/localtime` leads to it.
    pub time_zone: Observed<String>,
}

/// What tells one machine from another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// The fingerprints of the SSH host keys, as `ssh-keygen -l` names them.
    pub ssh_host_keys: Vec<String>,
    /// The product UUID of the firmware.
    pub product_uuid: Observed<String>,
    /// The boot id of the kernel: containers of one machine share it.
    pub boot_id: Observed<String>,
    /// What `systemd-detect-virt` says, such as `kvm`, `systemd-nspawn` or `none`.
    pub virtualisation: Observed<String>,
    /// Vendor and product of the firmware.
    pub product: Observed<String>,
    /// The networks of its own addresses, such as `10.0.0.11/24`.
    pub networks: Vec<String>,
}

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Its type, such as `ext4`.
    pub kind: String,
    pub options: String,
    /// What is mounted.
    pub source: String,
    /// Bytes that a user other than root may still write.
    pub free_bytes: u64,
    /// Its size in bytes.
    pub total_bytes: u64,
    /// Inodes still free; none where the file system does not count them.
    pub free_inodes: Option<u64>,
}

/// A directory that the instance will use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The mount point below which it is, or would be made.
    pub mount: String,
    /// How many entries it has; none where it is not there.
    pub entries: Option<u64>,
    /// Its owner, where it is there.
    pub owner: Option<String>,
}

/// What is installed of PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Installed {
    /// What `locale -a` lists.
    pub locales: Observed<Vec<String>>,
    /// Shared libraries of the package library directory, without `.so`.
    pub libraries: Observed<Vec<String>>,
    /// Extensions with the versions that their scripts lead to.
    pub extensions: Observed<BTreeMap<String, Vec<String>>>,
    /// The version of the ICU library that `postgres` is linked with, such as `72`; absent where it is linked with none.
    pub icu: Observed<String>,
    /// Programs of PostgreSQL that are missing beside `postgres`.
    pub missing_programs: Vec<String>,
}

/// What a running instance says, beyond [`crate::model::observation::Instance`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceReadiness {
    /// `wal_segment_size`, `block_size`, `data_checksums` and the like, from `pg_control_init()` and `pg_settings`.
    pub control: BTreeMap<String, String>,
    /// Seconds that it runs.
    pub uptime_seconds: f64,
    /// Bytes of WAL that `pg_stat_wal` counted, and the seconds since its reset; a standby writes none.
    pub wal_bytes: u64,
    /// Seconds since the statistics of WAL were reset.
    pub wal_seconds: f64,
    /// The WAL position at the beginning of the look, and the seconds until the second.
    pub wal_first: Option<Lsn>,
    /// The WAL position at the end of the look.
    pub wal_second: Option<Lsn>,
    /// Seconds between the two.
    pub wal_sample_seconds: f64,
    /// Bytes below `pg_wal`.
    pub wal_directory_bytes: u64,
    /// Bytes of the tablespaces by name; those of `pg_default` and `pg_global` lie in the data directory.
    pub tablespace_bytes: BTreeMap<String, u64>,
    /// Walsenders in use.
    pub walsenders: u64,
    /// Which of the functions that `pg_rewind` needs its role may not execute; absent where the role is not there.
    pub rewind_lacks: Observed<Vec<String>>,
    /// Base backups that run now, by what started them.
    pub backups: Vec<String>,
    /// `role in database: value` of overrides of `synchronous_commit`.
    pub synchronous_commit_overrides: Vec<String>,
    /// `last_failed_wal`, where archiving failed more recently than it succeeded.
    pub archiver_failing: Option<String>,
    /// Slots that nobody uses: name and bytes of WAL held back.
    pub inactive_slots: BTreeMap<String, i64>,
    /// Transactions that are open for long: who, and seconds.
    pub long_transactions: BTreeMap<String, f64>,
    /// Prepared transactions: identifier and seconds.
    pub prepared_transactions: BTreeMap<String, f64>,
    /// Databases that accept connections.
    pub databases: BTreeMap<String, Observed<Database>>,
}

/// What one database says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Database {
    /// `c` for libc, `i` for ICU, `b` for builtin.
    pub provider: String,
    /// The collation: `datcollate` or the locale of the provider.
    pub collation: String,
    /// `datctype`.
    pub ctype: String,
    /// The version recorded when it was created.
    pub collation_version: Option<String>,
    /// The version that the libraries have now.
    pub actual_version: Option<String>,
    /// Other collations in use by columns or indexes, with provider: those that a library decides.
    pub collations: Vec<String>,
    /// Collations whose recorded version is not the libraries': `name: recorded, actual`.
    pub stale_collations: Vec<String>,
    /// Extensions with their versions.
    pub extensions: BTreeMap<String, String>,
    /// Libraries that its functions name, as in `pg_proc.probin`.
    pub libraries: Vec<String>,
    /// How many tables are unlogged.
    pub unlogged_tables: u64,
    /// How many files it has at the least.
    pub files: u64,
}

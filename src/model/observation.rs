//! What was seen on the servers at one moment.
//!
//! Plain facts, serialisable, so that every decision can be tested with a file. Nothing here decides anything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::argv::Login;
use crate::model::beside::BesideFact;
use crate::model::control::ControlFile;
use crate::model::health::Health;
use crate::model::job::Job;
use crate::model::layout::Layout;
use crate::model::lsn::Lsn;
use crate::model::name::ServerName;
use crate::model::observed::Observed;
use crate::model::place::Place;
use crate::model::pooler::Pools;
use crate::model::readiness::Readiness;
use crate::model::version::ServerVersion;
use crate::model::wal::WalComparison;

/// What was seen on every server. A server that could not be reached is `Unreadable` with the reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// By server name.
    pub servers: BTreeMap<ServerName, Observed<ServerObservation>>,
    /// What was read of the WAL of servers that are to join, and of their upstreams; by joining server.
    #[serde(default)]
    pub histories: BTreeMap<ServerName, WalComparison>,
    /// Files that are missing in data directories, in sentences; of servers where they were looked for.
    #[serde(default)]
    pub damage: BTreeMap<ServerName, Observed<Vec<String>>>,
    /// What servers have where settings and tablespaces of others lead; by server, and by what was asked.
    #[serde(default)]
    pub places: BTreeMap<ServerName, BTreeMap<String, Observed<Place>>>,
    /// The unreadable ones that answer over SSH, and where the look itself did not end in time: something there hangs.
    #[serde(default)]
    pub hanging: BTreeSet<ServerName>,
}

impl Observation {
    /// Returns what was seen on a server, where it was reached.
    pub fn server(&self, name: &ServerName) -> Option<&ServerObservation> {
        self.servers.get(name).and_then(Observed::known)
    }
}

/// What one compound probe saw on one server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerObservation {
    /// Who the SSH login is, and how it becomes root.
    pub login: Login,
    /// The operating system.
    pub os: Os,
    /// The layout found, with its places. Absent where PostgreSQL of the wanted major version is not installed.
    pub layout: Observed<Layout>,
    /// Directories of other installed major versions' programs, for the message when the wanted one is absent.
    pub other_installations: Vec<String>,
    /// The version that `postgres --version` prints.
    pub version: Observed<ServerVersion>,
    /// The data directory.
    pub data_directory: Observed<DataDirectory>,
    /// Directories beside the data directory that interrupted or earlier runs left (`….seed.RUN`, `….aside.…`).
    pub beside: Vec<String>,
    /// What those directories are.
    #[serde(default)]
    pub beside_facts: Vec<BesideFact>,
    /// The file systems that matter, by the path asked about.
    pub disks: BTreeMap<String, Observed<Disk>>,
    /// Which process listens on the instance's port. Absent means the port is free.
    pub listener: Observed<Listener>,
    /// The service, where the layout has one.
    pub service: Observed<Service>,
    /// Files that pgstead may own, by path.
    pub files: BTreeMap<String, Observed<FileFact>>,
    /// Detached jobs of pgstead, running or ended.
    pub jobs: Vec<Job>,
    /// The lock that a run of pgstead holds on this server, as its holder wrote it.
    pub lock: Observed<String>,
    /// How long ago that lock was renewed, by this server's clock alone; none where that could not be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_age_seconds: Option<i64>,
    /// Counts the runs that changed this server; a lock is refused when it moved since the observation.
    pub generation: u64,
    /// This server's own addresses.
    pub addresses: Vec<IpAddr>,
    /// What this server knows about each other server, by its name.
    pub peers: BTreeMap<ServerName, Peer>,
    /// What the instance says of itself over its local socket. Absent when it does not run.
    pub instance: Observed<Instance>,
    /// Whether it started or stopped while it was looked at: it will answer, or be gone, without anybody's doing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub starts_or_stops: bool,
    /// Whether it answers, where what it said is not what it was asked: it runs, whatever else is known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answers: bool,
    /// Why it could not be asked as the superuser that pgstead is, in the database that it works in, where it was asked as another
    /// one or in another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_otherwise: Option<String>,
    /// The loadable libraries of this installation, without `.so`; a preload library must be among them (hazard 14).
    #[serde(default)]
    pub libraries: Observed<Vec<String>>,
    /// What PgBouncer's console says. Absent where it does not answer, and where the inventory has none.
    #[serde(default = "not_there", skip_serializing_if = "Observed::is_absent")]
    pub pooler: Observed<Pools>,
    /// What a preflight looks at besides.
    #[serde(default)]
    pub readiness: Observed<Readiness>,
}

impl ServerObservation {
    /// Returns why an instance that runs could not be asked. One that only hangs, starts or stops is none of these: it does not
    /// answer at all, or is about to.
    pub fn unasked(&self) -> Option<&str> {
        self.instance.unreadable().filter(|_| self.answers)
    }
}

/// An observation that was kept before there was anything to look at says nothing of it.
fn not_there() -> Observed<Pools> {
    Observed::Absent
}

/// The operating system of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Os {
    /// `PRETTY_NAME` of os-release.
    pub name: String,
    /// `uname -m`.
    pub architecture: String,
    /// The host name it gives itself.
    pub host_name: String,
    /// `/etc/machine-id`; two servers must not share it (hazard 9).
    pub machine_id: Observed<String>,
    /// The C library, as `getconf GNU_LIBC_VERSION` prints it (hazard 11).
    pub libc: Observed<String>,
    /// Whether systemd runs the machine.
    pub systemd: bool,
    /// The server's clock less the operator's, in milliseconds, as close as the round trip allows (hazard 15).
    pub clock_skew_ms: i64,
    /// Half the round trip in which the clock was read: the error of `clock_skew_ms`, in milliseconds.
    pub clock_error_ms: i64,
    /// Whether the OS user that should own the instance exists.
    pub os_user_exists: bool,
    /// What sudo said where it let the login do nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo_refused: Option<String>,
    /// Whether sudo lets the login act as the instance's user; none where it is not needed, or nobody asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo_as_instance: Option<bool>,
}

/// A data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataDirectory {
    /// How many entries it has; zero means empty.
    pub entries: u64,
    /// Its owner.
    pub owner: String,
    /// Its mode, octal, such as `700`.
    pub mode: String,
    /// Whether a file system is mounted exactly there; such a directory cannot be renamed (field.md, row 18).
    pub is_mount_point: bool,
    /// The text of `PG_VERSION`.
    pub pg_version: Observed<String>,
    /// What `pg_controldata` prints.
    pub control: Observed<ControlFile>,
    /// Whether `standby.signal` is there.
    pub standby_signal: bool,
    /// Whether `recovery.signal` is there.
    pub recovery_signal: bool,
    /// Whether `backup_label` is there.
    pub backup_label: bool,
    /// The text of `pgstead.identity`: whose data directory it is. Only complete ones have it (hazard 19).
    pub identity: Observed<String>,
    /// Bytes it occupies, where the probe was asked to count.
    pub bytes: Observed<u64>,
    /// The highest timeline of which there is a history file in `pg_wal`.
    #[serde(default)]
    pub newest_history: Option<u32>,
    /// Where its tablespaces are, by the links in `pg_tblspc`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tablespaces: Vec<String>,
}

/// Free space of a file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Where it is mounted.
    pub mount: String,
    /// Bytes that a user other than root may still write.
    pub free_bytes: u64,
    /// Its size in bytes.
    pub total_bytes: u64,
    /// Inodes still free; 0 where the file system does not count them.
    pub free_inodes: u64,
    /// Whether the path that was asked about is not there: then this is the nearest directory above it.
    #[serde(default)]
    pub absent: bool,
}

/// A process that listens on the instance's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The addresses it listens on.
    pub addresses: Vec<String>,
    /// Its name, where the probe may see it.
    pub process: String,
    /// Its process id, where the probe may see it.
    pub pid: Option<u32>,
}

/// A systemd unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// `ActiveState`.
    pub active: String,
    /// Whether the service manager starts it, or all instances of its kind, at boot.
    pub enabled: bool,
    /// Whether this instance starts when the machine boots: enabled, and not excepted (`start.conf`).
    pub starts_at_boot: bool,
    /// The commands that the unit as it is loaded runs before the instance starts, as the service manager shows them.
    #[serde(default)]
    pub before_start: Option<Vec<String>>,
    /// What keeps the service manager from starting it, whoever asks; none where nothing does.
    #[serde(default)]
    pub barred: Option<String>,
    /// Whether it cannot be enabled: what starts all instances at boot is masked.
    #[serde(default)]
    pub is_boot_masked: bool,
}

impl Service {
    /// Says whether the loaded unit runs a command before every start; `None` where nobody asked.
    pub fn runs_before_start(&self, command: &[String]) -> Option<bool> {
        // Service managers differ in how they show quotes.
        let bare = |text: &str| text.replace(['"', '\'', '\\'], "");
        let wanted = bare(&command.join(" "));
        Some(self.before_start.as_ref()?.iter().any(|shown| bare(shown) == wanted))
    }
}

/// A file that pgstead may own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFact {
    /// Its owner, `user:group`.
    pub owner: String,
    /// Its mode, octal, such as `600`.
    pub mode: String,
    /// Its content; withheld for files that hold secrets.
    pub content: Option<String>,
    /// The SHA-256 of its content, hexadecimal.
    pub sha256: String,
    /// Whether the path is a symbolic link to it; a rename onto it would replace the link.
    #[serde(default)]
    pub is_link: bool,
}

/// What a server knows about another server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Peer {
    /// The addresses that the other server's name has here.
    pub resolved: Vec<IpAddr>,
    /// The source address that a connection from here to there has, before any translation on the way.
    pub source: Option<IpAddr>,
    /// The way to each of those addresses.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// The address that the other server sees connections from here come from, where it was asked.
    #[serde(default)]
    pub seen_as: Observed<IpAddr>,
    /// What a fresh replication-protocol login from here, with the production certificate, answered (L15).
    pub dial: Observed<Dial>,
}

/// The way from a server to an address, as its kernel chooses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The address.
    pub to: IpAddr,
    /// The gateway, where the address is not on a network of the server's own.
    pub via: Option<IpAddr>,
    /// The source address that a connection has when it leaves the server.
    pub source: IpAddr,
}

/// The answer to `IDENTIFY_SYSTEM`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dial {
    /// The system identifier.
    pub system_identifier: u64,
    /// The timeline.
    pub timeline: u32,
}

/// What a running instance says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// `pg_control_system()`.
    pub system_identifier: u64,
    /// The timeline it writes or replays.
    pub timeline: u32,
    /// The timeline of the last record that it replayed, by its own word; asked of a standby that receives nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed_timeline: Option<u32>,
    /// The text of its timeline history file; empty on timeline 1 (L3).
    pub history: Observed<String>,
    /// Write, receive and replay positions.
    pub positions: Positions,
    /// `pg_get_wal_replay_pause_state()`, on a standby.
    pub replay_pause_state: Option<String>,
    /// Every row of `pg_settings` that decisions need, by name.
    pub settings: BTreeMap<String, Setting>,
    /// Roles, by name.
    pub roles: BTreeMap<String, Role>,
    /// Databases that accept connections.
    pub databases: Vec<String>,
    /// Who owns each database.
    #[serde(default)]
    pub owners: BTreeMap<String, String>,
    /// By database that roles of the inventory visit, the roles that may connect by a right of their own and read what its owner makes
    /// in schema public, and whether they write it, too.
    #[serde(default)]
    pub visitors: BTreeMap<String, BTreeMap<String, bool>>,
    /// Physical and logical slots, by name.
    pub slots: BTreeMap<String, Slot>,
    /// `pg_stat_replication` with `pg_stat_ssl` and the slot.
    pub senders: Vec<Sender>,
    /// `pg_stat_wal_receiver`.
    pub receiver: Option<Receiver>,
    /// Errors of `pg_file_settings`, `pg_hba_file_rules` and `pg_ident_file_mappings` (L13).
    pub file_errors: Vec<FileError>,
    /// Configuration files that changed after the instance last read its configuration.
    pub stale_files: Vec<String>,
    /// Bytes of all databases.
    pub database_bytes: u64,
    /// The highest timeline of which there is a segment in `pg_wal`.
    #[serde(default)]
    pub wal_timeline: Option<u32>,
    /// Bytes of the files in `pg_wal`, recycled ones included; `pg_rewind` carries them all.
    #[serde(default)]
    pub wal_directory_bytes: Option<u64>,
    /// Whether the canary table is there.
    pub canary: bool,
    /// Whether its rows form a chain; those of earlier releases do not (L11).
    #[serde(default)]
    pub canary_chain: bool,
    /// Tablespaces outside the data directory: name to location.
    pub tablespaces: BTreeMap<String, String>,
    /// What is in each of them, in bytes (`pg_tablespace_size`); counted in `database_bytes`, too.
    #[serde(default)]
    pub tablespace_bytes: BTreeMap<String, u64>,
    /// Every setting that a configuration file holds, in the order in which they are read; the last of a name counts.
    #[serde(default)]
    pub file_settings: Vec<FileSetting>,
    /// Configuration files that others include, by path: neither the main one, nor `postgresql.auto.conf`, nor ours.
    #[serde(default)]
    pub included_files: BTreeMap<String, String>,
    /// The text of `ssl_cert_file`, where it is there.
    #[serde(default)]
    pub certificate: Option<String>,
    /// The text of `ssl_ca_file`, where one is set and there.
    #[serde(default)]
    pub authorities: Option<String>,
    /// What only `check` judges.
    #[serde(default)]
    pub health: Health,
}

/// A row of `pg_file_settings` without an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSetting {
    /// The file.
    pub file: String,
    /// The parameter.
    pub name: String,
    /// The value as it is written, unquoted.
    pub setting: String,
    /// The line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// Positions in the write-ahead log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Positions {
    /// `pg_current_wal_lsn()`, on a primary.
    pub current: Option<Lsn>,
    /// `pg_last_wal_receive_lsn()`, on a standby.
    pub receive: Option<Lsn>,
    /// `pg_last_wal_replay_lsn()`, on a standby.
    pub replay: Option<Lsn>,
    /// `pg_last_xact_replay_timestamp()`, on a standby: when the last commit that it has replayed was made, by the clock of
    /// the server that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed_commit: Option<String>,
}

/// A row of `pg_settings`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// `setting`, in base units.
    pub setting: String,
    /// `unit`.
    pub unit: Option<String>,
    /// `context`: who may change it and when; `postmaster` needs a restart.
    pub context: String,
    /// `sourcefile`.
    pub sourcefile: Option<String>,
    /// `pending_restart`.
    pub pending_restart: bool,
    /// `source`, such as `default`, `configuration file` or `command line`.
    #[serde(default)]
    pub source: String,
    /// `boot_val`, in base units: the value where no file sets one.
    #[serde(default)]
    pub boot: Option<String>,
}

/// A row of `pg_roles`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// `rolsuper`.
    pub superuser: bool,
    /// `rolreplication`.
    pub replication: bool,
    /// `rolcanlogin`.
    pub login: bool,
    /// The SHA-256 of the stored SCRAM verifier, hexadecimal; absent when the role has no password.
    pub verifier_sha256: Option<String>,
    /// With what that verifier was made, which any client is told: iterations and salt, `4096:MDEy…`.
    #[serde(default)]
    pub salted: Option<String>,
    /// How many connections it may have at a time; -1 for any number.
    #[serde(default)]
    pub connection_limit: Option<i32>,
    /// `rolcreaterole`.
    #[serde(default)]
    pub createrole: bool,
    /// The roles whose rights it has.
    #[serde(default)]
    pub member_of: Vec<String>,
    /// Those among them, directly or by others, that may do more than an application is to.
    #[serde(default)]
    pub powers: Vec<String>,
    /// Its comment; roles that pgstead made for an adopted primary say so there.
    #[serde(default)]
    pub comment: Option<String>,
    /// Whether one of pgstead's has the grants and the settings that this version gives it; absent for any other.
    #[serde(default)]
    pub complete: Option<bool>,
}

/// A row of `pg_replication_slots`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// `slot_type`.
    pub slot_type: String,
    /// `active`.
    pub active: bool,
    /// `active_pid`.
    pub active_pid: Option<i32>,
    /// `wal_status`.
    pub wal_status: Option<String>,
    /// `restart_lsn`.
    pub restart_lsn: Option<Lsn>,
    /// `safe_wal_size`, in bytes.
    pub safe_wal_size: Option<i64>,
    /// `temporary`: it goes away with its session.
    #[serde(default)]
    pub temporary: bool,
    /// `failover`: standbys are to keep a copy (17 and later).
    #[serde(default)]
    pub failover: bool,
    /// `synced`: it is such a copy.
    #[serde(default)]
    pub synced: bool,
    /// `invalidation_reason` (17 and later).
    #[serde(default)]
    pub invalidation_reason: Option<String>,
    /// Seconds since `inactive_since` (17 and later).
    #[serde(default)]
    pub inactive_s: Option<u64>,
}

/// A row of `pg_stat_replication`, joined with `pg_stat_ssl` and the slot it uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// `pid`.
    pub pid: i32,
    /// `usename`.
    pub usename: String,
    /// `application_name`.
    pub application_name: String,
    /// `client_addr`.
    pub client_addr: Option<String>,
    /// `state`.
    pub state: String,
    /// `sync_state`.
    pub sync_state: String,
    /// `sent_lsn`.
    pub sent_lsn: Option<Lsn>,
    /// `flush_lsn`.
    pub flush_lsn: Option<Lsn>,
    /// `replay_lsn`.
    pub replay_lsn: Option<Lsn>,
    /// `reply_time`, by the standby's clock, in microseconds since the epoch.
    pub reply_time_us: Option<i64>,
    /// Whether the connection is encrypted.
    pub ssl: bool,
    /// The TLS version, such as `TLSv1.3`.
    pub tls_version: Option<String>,
    /// The subject of the verified client certificate.
    pub client_dn: Option<String>,
    /// The slot it streams from.
    pub slot_name: Option<String>,
}

/// The row of `pg_stat_wal_receiver`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    /// `status`.
    pub status: String,
    /// `sender_host`.
    pub sender_host: Option<String>,
    /// `sender_port`.
    pub sender_port: Option<u16>,
    /// `slot_name`.
    pub slot_name: Option<String>,
    /// `conninfo`, in which the server itself masks passwords.
    pub conninfo: String,
    /// `received_tli`.
    pub received_timeline: Option<u32>,
    /// `latest_end_lsn`.
    pub latest_end_lsn: Option<Lsn>,
}

/// An error that a configuration file has, although the server may still run with its old state (finding 9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileError {
    /// The file.
    pub file: String,
    /// The line.
    pub line: Option<u32>,
    /// PostgreSQL's own words.
    pub error: String,
}

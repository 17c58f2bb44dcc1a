//! The inventory as it is written: the keys, their types and what they mean.
//!
//! These types are the one source of the key set: the JSON Schema is derived from them, the reader checks the text
//! against that schema, and the doc comments here are what an editor shows. They judge nothing: an address is any text
//! here, and whether a value makes sense is for [`super::validate`].
//!
//! Every field is an `Option`, so that a text with problems can be looked at as a whole; what must be given is marked
//! `required` for the schema.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

/// An inventory: the servers of one topology, and how they replicate.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// The name of the topology.
    #[schemars(required)]
    pub topology: Option<String>,
    /// What the topology is for; `production` unless said otherwise.
    pub purpose: Option<Purpose>,
    /// What all instances have in common.
    #[schemars(required)]
    pub postgres: Option<Postgres>,
    /// The sites by name. Where none are given, a server without a `site` stands at a site of its own name.
    pub sites: Option<BTreeMap<String, Option<Site>>>,
    /// The servers by name.
    #[schemars(required)]
    pub servers: Option<BTreeMap<String, Server>>,
    /// How the servers replicate.
    pub replication: Option<Replication>,
    /// How the servers are reached.
    pub ssh: Option<Ssh>,
    /// What runs around a change of the primary.
    pub hooks: Option<Hooks>,
    /// What clients may expect of a planned change of the primary.
    pub clients: Option<Clients>,
    /// PgBouncer on every server.
    pub pooler: Option<Pooler>,
    /// What the loss of the primary may cost at most.
    pub objectives: Option<Objectives>,
    /// How long certificates are valid, and when they are renewed.
    pub certificates: Option<Certificates>,
    /// How much is too much for `check`.
    pub thresholds: Option<Thresholds>,
    /// What a server is given where a lab makes a machine of it; real servers are as they are.
    pub lab: Option<LabMachine>,
}

/// What a topology is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Real users, real data.
    Production,
    /// A rehearsal that may be broken on purpose.
    Lab,
}

/// What all instances have in common.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// The major version: 15, 16, 17 or 18.
    #[schemars(required, extend("enum" = [15, 16, 17, 18]))]
    pub version: Option<u32>,
    /// The port of every instance; 5432 unless said otherwise.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Databases that must exist.
    pub databases: Option<Vec<String>>,
    /// Roles of applications, by name. They are created and altered, never dropped.
    pub roles: Option<BTreeMap<String, Option<Role>>>,
    /// Parameters of every server, as in `postgresql.conf`.
    pub parameters: Option<BTreeMap<String, ParameterValue>>,
    /// HBA records for the clients; pgstead adds those that replication needs.
    pub hba: Option<Vec<Hba>>,
    /// Consent for adopting a primary: its certificate, issued by another CA, is replaced. Clients that verify it must trust
    /// the topology's CA first.
    pub replace_certificate: Option<bool>,
}

/// A role that applications log in as, or share rights through.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Whether somebody may log in as it; true unless said otherwise.
    pub login: Option<bool>,
    /// The databases that belong to it, of `postgres.databases`.
    pub owns: Option<Vec<String>>,
    /// Databases of other roles that it reads and writes: the tables and sequences in their schema `public`, those to come included.
    pub uses: Option<Vec<String>>,
    /// Databases of other roles that it reads, likewise.
    pub reads: Option<Vec<String>>,
    /// The roles whose rights it has: others of `postgres.roles`, and those of PostgreSQL itself that only read, write or look.
    pub member_of: Option<Vec<String>>,
    /// How many connections it may have at a time, -1 for any number. Where it is not given, it stays as it is.
    #[schemars(range(min = -1, max = 262_143))]
    pub connection_limit: Option<i32>,
    /// Where its password comes from. Where it is not given, the password stays as it is.
    pub password: Option<PasswordChoice>,
}

/// A password that the operator keeps. One of both.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Password {
    /// The file on your machine that holds it, and that nobody else may read. Relative to the inventory; `~/` is your home directory.
    pub file: Option<String>,
    /// The program on your machine that prints it, and its arguments.
    pub command: Option<Vec<String>>,
}

/// One HBA record. The order of the list is the order of the file: the first record that matches a client decides.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hba {
    /// The type of connection; only `hostssl`, which is also what is meant where nothing is said.
    #[serde(rename = "type")]
    #[schemars(extend("pattern" = "^hostssl$"))]
    pub kind: Option<String>,
    /// The database, or `all`.
    #[schemars(required)]
    pub database: Option<String>,
    /// The role, or `all`.
    #[schemars(required)]
    pub user: Option<String>,
    /// The client addresses, such as 192.168.0.0/16.
    #[schemars(required)]
    pub address: Option<String>,
    /// How such a client authenticates: `scram-sha-256` (unless said otherwise), `cert` or `reject`.
    #[schemars(extend("pattern" = "^(scram-sha-256|cert|reject)$"))]
    pub method: Option<String>,
}

/// A place with servers.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Where it is, in your words.
    pub location: Option<String>,
    /// The region it lies in; two sites of one region can share a disaster.
    pub region: Option<String>,
    /// Its line to the other sites, where a lab makes one; real lines are as they are.
    pub lab: Option<LabLine>,
}

/// The line of a site in a lab. Between two sites the slower rate counts, and the sum of both delays.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabLine {
    /// Megabits per second of each server to another site, in each direction; unlimited unless said otherwise.
    #[schemars(range(min = 1, max = 100_000))]
    pub rate_mbit: Option<u32>,
    /// Milliseconds that a packet takes longer on its way out or in, where the lab's kernel has netem; 0 unless said otherwise.
    #[schemars(range(max = 10_000))]
    pub delay_ms: Option<u32>,
}

/// What a machine of a lab is given. A server's own keys come on top of those of the inventory.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabMachine {
    /// Megabytes of memory; 512 unless said otherwise.
    #[schemars(range(min = 256))]
    pub memory_mb: Option<u32>,
    /// Gigabytes of disk; 8 unless said otherwise.
    #[schemars(range(min = 4))]
    pub disk_gb: Option<u32>,
}

/// A server.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The IP address or host name where SSH and PostgreSQL reach it.
    #[schemars(required)]
    pub address: Option<String>,
    /// The site it stands at.
    pub site: Option<String>,
    /// Whether it is to be the primary or a standby.
    #[schemars(required)]
    pub kind: Option<Kind>,
    /// The server that a standby streams from; the primary unless said otherwise.
    pub upstream: Option<String>,
    /// Its own parameters on top of `postgres.parameters`.
    pub parameters: Option<BTreeMap<String, ParameterValue>>,
    /// Its data directory; the layout's own unless said otherwise.
    pub data_directory: Option<String>,
    /// Its tablespaces: name to directory. Every server has the same names.
    pub tablespaces: Option<BTreeMap<String, String>>,
    /// The directory of the PostgreSQL programs; the layout's own unless said otherwise.
    pub bin_directory: Option<String>,
    /// The systemd unit of the instance, or `pg_ctl` where no service manager runs it.
    pub service: Option<String>,
    /// How SSH reaches it, key by key on top of the inventory's `ssh`.
    pub ssh: Option<Ssh>,
    /// What differs from the inventory's `postgres`.
    pub postgres: Option<ServerPostgres>,
    /// What differs from the inventory's `lab`.
    pub lab: Option<LabMachine>,
}

/// Whether a server is to be the primary or a standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The primary of the first day, and the preferred one afterwards.
    Primary,
    /// A standby.
    Standby,
}

/// What differs from the inventory's `postgres` on one server.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerPostgres {
    /// The port of its instance.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
}

/// How the servers replicate.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replication {
    /// How a standby authenticates to its upstream; `certificate` unless said otherwise.
    pub authentication: Option<Authentication>,
    /// Synchronous replication; `off` unless said otherwise.
    pub synchronous: Option<SynchronousChoice>,
    /// How much WAL a slot may hold back; 64GB unless said otherwise.
    #[schemars(extend("pattern" = "^[0-9]+(MB|GB|TB|kB)$"))]
    pub max_slot_wal_keep_size: Option<String>,
    /// Whether a primary starts that gets no answer from any other server; false unless said otherwise.
    pub start_alone: Option<bool>,
}

/// How a standby authenticates to its upstream. Both ways go over TLS with `verify-full`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Authentication {
    /// By its client certificate.
    Certificate,
    /// By password, with channel binding.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
}

/// Synchronous replication.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Synchronous {
    /// Whether any of the standbys will do, or the first in the order of the list; `any` unless said otherwise.
    pub mode: Option<SynchronousMode>,
    /// How many standbys a commit waits for; 1 unless said otherwise.
    #[schemars(range(min = 1))]
    pub count: Option<u32>,
    /// The standbys that count.
    #[schemars(required)]
    pub standbys: Option<Vec<String>>,
}

/// The method word of `synchronous_standby_names`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SynchronousMode {
    /// Any of the standbys.
    Any,
    /// The first of the standbys, by priority.
    First,
}

/// Programs on the operator's machine that run around a change of the primary. Each is optional.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    /// Runs before clients are interrupted. Where it fails, nothing is begun.
    pub before: Option<String>,
    /// Runs when another server accepts writes, or the same one again.
    pub after: Option<String>,
    /// Seconds that each may take; 30 unless said otherwise.
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_s: Option<u64>,
}

/// What clients may expect of a planned change of the primary. Each is optional.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clients {
    /// Seconds that a switchover waits for the end of transactions that began before it, while clients work on; 5 unless said
    /// otherwise, 0 for not at all. What is under way then is ended by the shutdown.
    #[schemars(range(max = 3600))]
    pub drain_timeout_s: Option<u64>,
}

/// PgBouncer on every server, beside its instance. pgstead writes which server is the primary into a file that PgBouncer
/// includes. Each is optional.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pooler {
    /// The port that it listens on; 6432 unless said otherwise.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// The directory of its socket; `/var/run/postgresql` unless said otherwise.
    pub socket_directory: Option<String>,
    /// The OS user that it runs as; `postgres` unless said otherwise.
    pub os_user: Option<String>,
    /// Seconds that a switchover waits for transactions that are under way; 2 unless said otherwise.
    #[schemars(range(min = 1, max = 3600))]
    pub pause_timeout_s: Option<u64>,
}

/// What the loss of the primary may cost at most. Each is optional.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Objectives {
    /// The recovery time objective: seconds until clients can write again.
    #[schemars(range(min = 1))]
    pub rto_s: Option<u64>,
    /// The recovery point objective: seconds of commits that a failover may lose without asking; 0 unless said otherwise.
    pub rpo_s: Option<u64>,
}

/// How long certificates are valid, in days. Each is optional. What was issued keeps its end.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificates {
    /// Days for which a server's or client's certificate is valid; 730 unless said otherwise.
    #[schemars(range(min = 2, max = 36_525))]
    pub valid_days: Option<u32>,
    /// Days before its end from which on `check` warns of a certificate, and `bootstrap` renews it; 30 unless said otherwise.
    #[schemars(range(min = 1, max = 36_525))]
    pub renew_before_days: Option<u32>,
    /// Days for which a CA is valid; 3653 unless said otherwise.
    #[schemars(range(min = 2, max = 36_525))]
    pub ca_valid_days: Option<u32>,
}

/// The limits of `check`. Each is optional.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Milliseconds within which a canary must arrive at a standby of the primary's region; 2000 unless said otherwise.
    #[schemars(range(min = 1))]
    pub canary_near_ms: Option<u64>,
    /// The same for a standby of another region; 10000 unless said otherwise.
    #[schemars(range(min = 1))]
    pub canary_far_ms: Option<u64>,
    /// Bytes that replay may be behind before it is a warning; 67108864 unless said otherwise.
    #[schemars(range(min = 1, max = 1_000_000_000_000_000u64))]
    pub lag_warning_bytes: Option<u64>,
    /// Bytes that replay may be behind before the link is unhealthy; 1073741824 unless said otherwise.
    #[schemars(range(min = 1, max = 1_000_000_000_000_000u64))]
    pub lag_error_bytes: Option<u64>,
    /// Bytes from which on a standby is watched over three samples, to see whether it falls further behind; 16777216 unless said otherwise.
    #[schemars(range(min = 1, max = 1_000_000_000_000_000u64))]
    pub lag_growth_bytes: Option<u64>,
    /// Milliseconds between two samples; 1000 unless said otherwise.
    #[schemars(range(min = 100, max = 60_000))]
    pub sample_interval_ms: Option<u64>,
    /// Free walsenders and slots that every server keeps for the next standby and a base backup; 2 unless said otherwise.
    pub headroom: Option<u64>,
    /// Seconds that a standby must be able to stay away without losing its slot's WAL. Also the shortest time over which WAL is counted before a rate is told from it; 3600 unless said otherwise.
    pub slot_outage_s: Option<u64>,
    /// Seconds that a slot of somebody else may be inactive, where the server counts them (17 and later); 60 unless said otherwise.
    pub slot_inactive_s: Option<u64>,
    /// The former name of `certificates.renew_before_days`, which counts where both are given.
    #[schemars(skip)]
    pub certificate_warning_days: Option<u32>,
    /// Days before the end of a certificate or CRL from which on the server is unhealthy; 7 unless said otherwise.
    /// From `certificates.renew_before_days` on it is a warning.
    pub certificate_error_days: Option<u64>,
    /// Percent of a file system that should stay free; less is unhealthy when it would fill up within `disk_full_hours`; 20 unless said otherwise.
    #[schemars(range(max = 100))]
    pub disk_free_percent: Option<u64>,
    /// Percent of a file system that must stay free, however slowly it fills; 5 unless said otherwise.
    #[schemars(range(max = 100))]
    pub disk_free_error_percent: Option<u64>,
    /// Hours for which free space must last at the rate at which WAL is written; 24 unless said otherwise.
    pub disk_full_hours: Option<u64>,
    /// Milliseconds by which a server's clock may differ from the primary's; 1000 unless said otherwise.
    pub clock_skew_ms: Option<u64>,
    /// Milliseconds that a commit may wait for a synchronous standby; 5000 unless said otherwise.
    pub sync_wait_ms: Option<u64>,
    /// WAL segments that may wait for the archiver; 32 unless said otherwise.
    pub archive_backlog_segments: Option<u64>,
    /// Milliseconds within which a segment must be archived (`check --deep`); 60000 unless said otherwise.
    #[schemars(range(min = 1))]
    pub archive_wait_ms: Option<u64>,
    /// Seconds that `pg_amcheck` may take on one database (`check --deep`); 3600 unless said otherwise.
    #[schemars(range(min = 1))]
    pub amcheck_timeout_s: Option<u64>,
}

/// How a server is reached over SSH. What is not given is left to `~/.ssh/config`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ssh {
    /// The login user: root, or one that may use sudo without a password.
    pub user: Option<String>,
    /// The port of sshd.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The jump host to go through, `[user@]host[:port]`, or several in order; `[]` for none.
    pub jump: Option<Jump>,
    /// The private key to offer. Relative to the inventory; `~/` is your home directory.
    pub identity_file: Option<String>,
    /// The file of known host keys. Relative to the inventory; `~/` is your home directory.
    pub known_hosts: Option<String>,
}

/// The value of a parameter, with its text as written: `off` stays `off` and `1.10` stays `1.10`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterValue(pub String);

impl<'de> Deserialize<'de> for ParameterValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for ParameterValue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ParameterValue".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "The value of a parameter, as in postgresql.conf but without quotes.",
            "type": ["string", "number", "boolean"],
        })
    }
}

/// `off`, or how.
#[derive(Debug, Clone)]
pub enum SynchronousChoice {
    /// Asynchronous replication only.
    Off,
    /// Synchronous replication.
    On(Synchronous),
}

impl<'de> Deserialize<'de> for SynchronousChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = SynchronousChoice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("off or a mapping")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<SynchronousChoice, E> {
                if text == "off" { Ok(SynchronousChoice::Off) } else { Err(E::unknown_variant(text, &["off"])) }
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<SynchronousChoice, A::Error> {
                Synchronous::deserialize(de::value::MapAccessDeserializer::new(map)).map(SynchronousChoice::On)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for SynchronousChoice {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SynchronousChoice".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let how = generator.subschema_for::<Synchronous>();
        // Editors that follow YAML 1.1 read an unquoted `off` as the boolean false.
        schemars::json_schema!({
            "description": "`off`, or the standbys that a commit waits for.",
            "anyOf": [{ "type": ["string", "boolean"], "enum": ["off", false] }, how],
        })
    }
}

/// `generated`, or where it is.
#[derive(Debug, Clone)]
pub enum PasswordChoice {
    /// pgstead makes it.
    Generated,
    /// The operator keeps it.
    Kept(Password),
}

impl<'de> Deserialize<'de> for PasswordChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = PasswordChoice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("generated or a mapping")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<PasswordChoice, E> {
                match text {
                    "generated" => Ok(PasswordChoice::Generated),
                    // Somebody may have written the password itself: it is not repeated.
                    _ => Err(E::custom("the word is not \"generated\"")),
                }
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<PasswordChoice, A::Error> {
                Password::deserialize(de::value::MapAccessDeserializer::new(map)).map(PasswordChoice::Kept)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for PasswordChoice {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PasswordChoice".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let kept = generator.subschema_for::<Password>();
        schemars::json_schema!({
            "description": "`generated`: pgstead makes one and keeps it in the state directory; or where it is. Never the password itself.",
            "anyOf": [{ "type": "string", "enum": ["generated"], "writeOnly": true }, kept],
        })
    }
}

/// One jump host or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jump(pub Vec<String>);

impl<'de> Deserialize<'de> for Jump {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Jump;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a jump host or a list of jump hosts")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Jump, E> {
                Ok(Jump(vec![text.to_owned()]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, access: A) -> Result<Jump, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(access)).map(Jump)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Jump {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Jump".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A jump host, `[user@]host[:port]`, or several in order.",
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
        })
    }
}

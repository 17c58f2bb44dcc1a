//! The words of the domain: servers, links, versions, commands, facts.
//!
//! Layer 0. No I/O, no clock, no randomness: a value made here is the same on every machine and in every test.

pub mod address;
pub mod archive;
pub mod argv;
pub mod aside;
pub mod beside;
pub mod bytes;
pub mod control;
pub mod hba;
pub mod health;
pub mod host_key;
pub mod identity;
pub mod job;
pub mod layout;
pub mod lifetimes;
pub mod lost;
pub mod lsn;
pub mod method;
pub mod name;
pub mod observation;
pub mod observed;
pub mod pair;
pub mod parameter;
pub mod place;
pub mod pooler;
pub mod quantity;
pub mod readiness;
pub mod role;
pub mod role_file;
pub mod secret;
pub mod session;
pub mod thresholds;
pub mod topology;
pub mod version;
pub mod wal;

pub use address::Address;
pub use argv::{Argv, RunAs};
pub use lsn::Lsn;
pub use method::Method;
pub use name::{ServerName, SiteName, TopologyName};
pub use observed::Observed;
pub use secret::Secret;
pub use topology::{Link, Server, Topology};
pub use version::Major;

//! The hosts lab: real Debian hosts, booted by `systemd-nspawn`, for tests, faults and benchmarks.
//!
//! A lab is a directory, a bridge and some hosts. [`up`] returns when every host's sshd answers; whoever knows the
//! directory can [`load`](HostsLab::load) the lab from another process and bring it [`down`](HostsLab::down), also after a
//! crash half way. A lab with an owner goes with it: by [`Guard`], or by the next [`sweep`] when the owner was killed.
//!
//! Root on these hosts is root on this machine, and their memory is this machine's: a lab is for faults, not for
//! strangers. Nothing here speaks SSH, and nothing changes what lies at or above a mount.

mod backend;
mod boot;
mod error;
mod faults;
mod host;
pub mod inventory;
mod kept;
mod lab;
mod mounts;
mod network;
mod prepare;
mod process;
mod spec;
mod state;
mod tree;

pub use backend::Hosts;
pub use error::HostsLabError;
pub use faults::Block;
pub(in crate::lab) use faults::FILL;
pub use host::Host;
pub use lab::{Guard, HostsLab, down, sweep, up};
pub use spec::{HostSpec, LabSpec, Release, SmallDisk};
pub use tree::{build as build_tree, cache_dir, is_built, tree_path as tree_of};

//! Proves that data moves: writes a row on the primary and watches it arrive on every standby.
//!
//! Beside it everything else that has to be tried and not only looked at: certificates that are served, samples over
//! time, pages and indexes, the archive.
//!
//! Sessions go as role `pgstead` over TLS through the SSH connection of each server, or through its local socket. What the result means is judged by
//! `check/`; nothing here decides.

mod amcheck;
mod archive;
mod canary;
mod chain;
mod client;
mod gather;
mod proof;
mod samples;
mod sessions;
mod stuck;
mod way;

pub use canary::watch_canaries;
pub use client::{missing, write_all_the_time};
pub use gather::gather;
pub use proof::{NEW_LINK, OLD_LINK, Replayed, prove_links};
pub(crate) use sessions::explain;
pub use sessions::{OfRotation, Sessions, Taken};

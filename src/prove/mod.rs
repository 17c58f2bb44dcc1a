//! Proves that data moves: writes a row on the primary and watches it arrive on every standby.
//!
//! Sessions go as role `pgstead` over TLS through the SSH connection of each server. What the result means is judged by
//! `check/`; nothing here decides.

mod canary;
mod chain;
mod sessions;

pub use canary::NEW_LINK;
pub use canary::OLD_LINK;
pub use canary::prove_links;
pub use canary::watch_canaries;
pub use sessions::Sessions;

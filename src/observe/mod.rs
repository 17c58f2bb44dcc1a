//! Looks at servers: one compound probe per server and phase, parsed purely. It has no way to change anything.

pub mod parse;
pub mod probe;
pub mod records;

//! The inventory: from YAML text to a [`Topology`](crate::model::Topology), with every problem told at once.
//!
//! Layer 1. Text in, values out: no file is read here, no name resolved, no server asked. Nothing is repaired or
//! guessed: a value is taken as written or refused with its place in the text.
//!
//! 1. `tree` reads YAML and remembers where everything stands.
//! 2. `shape` compares the tree with the JSON Schema of [`raw`] and leaves out what does not fit.
//! 3. [`validate`] judges what the values mean and makes the topology.

pub mod init;
mod problems;
pub mod raw;
pub mod schema;
mod shape;
mod tree;
pub mod validate;
mod words;

pub use validate::{Places, read, read_at};

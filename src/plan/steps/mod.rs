//! The steps that operations are made of, each with its exact commands.

pub mod change;
pub mod faults;
pub mod hooks;
pub mod job;
pub mod orphans;
pub mod rewind;
pub mod roles;
pub mod seed;
pub mod service;
pub mod slots;
pub mod sql;
pub mod tablespaces;
pub mod trust;
mod visits;

//! Labs: real servers on this machine, to try pgstead on and to test it with.
//!
//! A lab makes servers and takes them away again; it is the only code that removes directories. It never prints, and it
//! never bootstraps: what makes a topology of the servers is the same code that works on real ones.
//!
//! [`Backend`] is the vocabulary of all labs, and each of the other modules one way to make servers.

pub mod backend;
mod command;
pub mod docker;
mod error;
mod failure;
pub mod fault;
pub mod hosts;
mod key;
pub mod local;
pub mod ssh;
pub mod vagrant;
mod wait;

pub use backend::{Backend, BackendKind, LabServer, LabStatus, Wish};
pub use error::LabError;
pub use failure::Failure;
pub use fault::{Fault, FaultKind};

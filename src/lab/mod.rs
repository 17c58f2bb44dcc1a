//! Labs: real servers on this machine, to try pgstead on and to test it with.
//!
//! A lab makes machines and takes them away again. It knows nothing of inventories, plans or replication, and nothing
//! outside the tests and the `lab` command may use it.

pub mod hosts;

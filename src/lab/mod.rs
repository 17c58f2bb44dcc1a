//! Labs: real servers on this machine, to try pgstead on and to test it with.
//!
//! A lab makes servers and takes them away again; it is the only code that removes directories. It never prints, and it
//! never bootstraps: what makes a topology of the servers is the same code that works on real ones.

pub mod hosts;
pub mod local;
mod wait;

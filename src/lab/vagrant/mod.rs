//! The Vagrant lab: a virtual machine for each server of an inventory, made by the project's own Vagrantfile.
//!
//! What a machine is like is decided by `vagrant/` and the inventory; this module puts both into the lab's directory, runs
//! Vagrant there and reads what it says. It opens no connection of its own, and no private key goes into a machine.

mod backend;
mod command;
mod error;
mod faults;
mod place;
mod provider;
mod wanted;

pub use backend::Vagrant;
pub use error::VagrantLabError;
pub use provider::Provider;

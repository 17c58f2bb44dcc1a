//! How servers and clients reach each other: under which addresses, with which connection strings and certificates.

pub mod certificates;
pub mod clients;
pub mod conninfo;
pub mod network;

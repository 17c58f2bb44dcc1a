//! The document of `conninfo`.

use serde::Serialize;

use super::VERSION;
use crate::model::name::TopologyName;
use crate::plan::links::clients::Strings;

/// The connection strings of every database.
#[derive(Debug, Serialize)]
pub struct ConninfoDocument<'a> {
    version: u32,
    topology: &'a TopologyName,
    databases: &'a [Strings],
}

impl<'a> ConninfoDocument<'a> {
    /// Makes the document.
    pub fn new(topology: &'a TopologyName, databases: &'a [Strings]) -> Self {
        Self { version: VERSION, topology, databases }
    }
}

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
    /// What the strings of the driver that was asked for do not say.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    notes: &'a [&'static str],
}

impl<'a> ConninfoDocument<'a> {
    /// Makes the document.
    pub fn new(topology: &'a TopologyName, databases: &'a [Strings], notes: &'a [&'static str]) -> Self {
        Self { version: VERSION, topology, databases, notes }
    }
}

//! The result of `validate`: the topology that a valid inventory describes, in a few lines.

use serde::Serialize;

use crate::diagnostic::Diagnostic;
use crate::model::name::TopologyName;
use crate::model::topology::Topology;
use crate::ui::json::DiagnosticJson;
use crate::ui::json::VERSION;
use crate::ui::json::diagnostics;
use crate::ui::look::Look;
use crate::ui::quantity::count;

/// Renders the result.
pub fn render(topology: &Topology, file: &str, look: Look) -> String {
    let arrow = look.or_ascii("→", "->");
    let mut out = format!(
        "{file} is valid: topology {}, PostgreSQL {}, {} on {}\n",
        topology.name(),
        topology.common().version,
        count(topology.servers().count(), "server"),
        count(topology.common().sites.len(), "site"),
    );
    for link in topology.links(topology.preferred_primary()) {
        out.push_str(&format!("  {} {arrow} {}\n", link.upstream, link.standby));
    }
    out
}

/// The document.
#[derive(Debug, Serialize)]
pub struct ValidateDocument<'a> {
    version: u32,
    topology: &'a TopologyName,
    valid: bool,
    servers: usize,
    sites: usize,
    warnings: Vec<DiagnosticJson<'a>>,
}

impl<'a> ValidateDocument<'a> {
    /// Makes the document of a valid inventory; an invalid one is an error document.
    pub fn new(topology: &'a Topology, warnings: &'a [Diagnostic]) -> Self {
        Self {
            version: VERSION,
            topology: &topology.name(),
            valid: true,
            servers: topology.servers().count(),
            sites: topology.common().sites.len(),
            warnings: diagnostics(warnings),
        }
    }
}

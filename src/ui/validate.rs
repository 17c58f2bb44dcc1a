//! The result of `validate`: the topology that a valid inventory describes, in a few lines.

use crate::model::quantity::count;
use crate::model::topology::Topology;
use crate::ui::look::Look;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples;

    #[test]
    fn valid() {
        insta::assert_snapshot!(render(&samples::topology(), "dr.yaml", Look::PLAIN), @r"
        dr.yaml is valid: topology crawler, PostgreSQL 15, 3 servers on 2 sites
          a → b
          b → c
        ");
    }
}

//! The mark in a complete data directory: whose it is, and who keeps its configuration (hazards 1, 2, 19).
//!
//! A text and its meaning. What follows from a mark, or from its absence, is for `survey`.

use crate::model::name::{ServerName, TopologyName};

/// The mark's name in a data directory.
pub const FILE: &str = "pgstead.identity";

/// The line of a server whose configuration files are the operator's own.
const KEPT: &str = "configuration kept";

/// Who keeps the configuration files of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Configuration {
    /// pgstead writes them whole.
    #[default]
    Written,
    /// The operator does; pgstead has an included file and marked parts. So it is with an adopted primary and its standbys.
    Kept,
}

/// What a mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    pub topology: &'a str,
    pub server: &'a str,
    /// Who keeps its configuration.
    pub configuration: Configuration,
}

impl<'a> Identity<'a> {
    /// Reads a mark; `None` where it is not understood.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut lines = text.lines();
        let topology = lines.next()?.strip_prefix("topology ")?;
        let server = lines.next()?.strip_prefix("server ")?;
        let configuration = match lines.next() {
            None => Configuration::Written,
            Some(KEPT) => Configuration::Kept,
            Some(_) => return None,
        };
        Some(Self { topology, server, configuration })
    }
}

/// Returns the text of a mark.
pub fn text(topology: &TopologyName, server: &ServerName, configuration: Configuration) -> String {
    let kept = match configuration {
        Configuration::Written => String::new(),
        Configuration::Kept => [KEPT, "\n"].concat(),
    };
    ["topology ", topology.as_str(), "\nserver ", server.as_str(), "\n", &kept].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for configuration in [Configuration::Written, Configuration::Kept] {
            let text = text(&"t".parse().unwrap(), &"a".parse().unwrap(), configuration);
            assert_eq!(Identity::parse(&text), Some(Identity { topology: "t", server: "a", configuration }));
        }
        for text in ["", "topology t", "topology t\nserver a\nof another time\n"] {
            assert_eq!(Identity::parse(text), None, "{text:?}");
        }
    }
}

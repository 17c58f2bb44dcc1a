//! What `lab` shows: the servers of a lab and how to go on. It starts and stops nothing.

use std::path::PathBuf;

use serde::Serialize;

use crate::ui::columns::cell;
use crate::ui::columns::styled;
use crate::ui::columns::table;
use crate::ui::look::Look;
use crate::ui::look::Style;

/// A lab as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabView {
    /// Where it lives.
    pub dir: PathBuf,
    /// Its inventory; absent when the lab is down or half made.
    pub inventory: Option<PathBuf>,
    /// Its servers; empty when the lab is down.
    pub servers: Vec<LabServer>,
}

/// One server of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabServer {
    /// Its name.
    pub name: String,
    /// Where SSH reaches it, as `address:port`.
    pub ssh: String,
    /// Whether it runs.
    pub running: bool,
}

/// Renders a lab.
pub fn render(lab: &LabView, look: Look) -> String {
    if lab.servers.is_empty() {
        return format!("No lab is up in {}.\n", lab.dir.display());
    }
    let rows: Vec<_> = lab
        .servers
        .iter()
        .map(|server| {
            let state = if server.running { ("running", Style::Good) } else { ("stopped", Style::Bad) };
            vec![cell(&server.name), cell(&server.ssh), styled(state.0, state.1)]
        })
        .collect();
    let next = match &lab.inventory {
        Some(inventory) => {
            let words =
                ["pgstead".to_owned(), "-i".to_owned(), inventory.display().to_string(), "bootstrap".to_owned()];
            format!("Next: {}\n", crate::quote::sh::join(&words))
        }
        None => "The lab is half made. Next: take it down, then bring it up again.\n".to_owned(),
    };
    format!("{}\n{next}", table(&["SERVER", "SSH", "STATE"], &rows, look))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lab() {
        let server = |name: &str, running| LabServer { name: name.into(), ssh: "127.0.0.11:2211".into(), running };
        let lab = LabView {
            dir: "lab".into(),
            inventory: Some("lab/pgstead.yaml".into()),
            servers: vec![server("a", true), server("b", false)],
        };
        insta::assert_snapshot!(render(&lab, Look::PLAIN), @r"
        SERVER  SSH              STATE
        a       127.0.0.11:2211  running
        b       127.0.0.11:2211  stopped

        Next: pgstead -i lab/pgstead.yaml bootstrap
        ");
        assert_eq!(render(&LabView { servers: Vec::new(), ..lab }, Look::PLAIN), "No lab is up in lab.\n");
    }
}

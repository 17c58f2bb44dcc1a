//! What `lab` shows: the servers of a lab and how to go on. It starts and stops nothing.

use crate::lab::LabStatus;
use crate::ui::columns::{cell, styled, table};
use crate::ui::look::{Look, Style};

/// Renders a lab.
pub fn render(lab: &LabStatus, look: Look) -> String {
    if lab.servers.is_empty() {
        return format!("No lab is up in {}.\n{}", lab.dir.display(), kept(lab));
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

/// Renders a lab that was taken down just now.
pub fn render_down(lab: &LabStatus) -> String {
    format!("The lab in {} is down.\n{}", lab.dir.display(), kept(lab))
}

fn kept(lab: &LabStatus) -> String {
    match lab.kept.as_slice() {
        [] => String::new(),
        kept => format!("Kept for the next one: {}\n", kept.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{BackendKind, LabServer};

    #[test]
    fn lab() {
        let server = |name: &str, running| LabServer { name: name.into(), ssh: "127.0.0.11:2211".into(), running };
        let lab = LabStatus {
            backend: BackendKind::Local,
            dir: "lab".into(),
            inventory: Some("lab/pgstead.yaml".into()),
            servers: vec![server("a", true), server("b", false)],
            kept: Vec::new(),
        };
        insta::assert_snapshot!(render(&lab, Look::PLAIN), @r"
        SERVER  SSH              STATE
        a       127.0.0.11:2211  running
        b       127.0.0.11:2211  stopped

        Next: pgstead -i lab/pgstead.yaml bootstrap
        ");
        let json = serde_json::to_string(&lab).unwrap();
        assert!(
            json.starts_with(r#"{"backend":"local","dir":"lab","inventory":"lab/pgstead.yaml","servers":["#),
            "{json}"
        );
        let down = LabStatus { servers: Vec::new(), ..lab };
        assert_eq!(render(&down, Look::PLAIN), "No lab is up in lab.\n");
        assert_eq!(render_down(&down), "The lab in lab is down.\n");
        let down = LabStatus { kept: vec!["image x".to_owned()], ..down };
        assert_eq!(render(&down, Look::PLAIN), "No lab is up in lab.\nKept for the next one: image x\n");
    }
}

//! Connection strings as text, each on a line of its own, so that it can be copied whole.

use std::path::Path;

use crate::plan::links::clients::{Driver, Strings};
use crate::ui::look::{Look, Style, visible, wrap};

/// What is shown.
#[derive(Debug)]
pub struct Shown<'a> {
    /// The strings.
    pub strings: &'a [Strings],
    /// The certificate that clients need, and whether this machine has it, where the strings do not say where clients have it.
    pub authority: Option<(&'a Path, bool)>,
    /// What the strings of one driver do not say.
    pub notes: &'a [&'static str],
    /// Where passwords are that pgstead made for the roles that are named.
    pub passwords: &'a [&'a Path],
}

/// Renders the strings.
pub fn render(shown: &Shown<'_>, look: Look) -> String {
    let mut out = String::new();
    for Strings { database, uri, keyword, jdbc, driver } in shown.strings {
        out.push_str(&format!("{}\n", look.paint(Style::Bold, &visible(database))));
        match driver {
            Some(of) => {
                for (what, text) in [("read-write", &of.read_write), ("read-only", &of.read_only)] {
                    out.push_str(&format!("  {what:<10}  {}\n", visible(text)));
                }
            }
            None => {
                for (what, text) in [("URI", uri), ("libpq", keyword), ("JDBC", jdbc)] {
                    out.push_str(&format!("  {what:<6}{}\n", visible(text)));
                }
            }
        }
        out.push('\n');
    }
    for note in shown.notes {
        out.push_str(&format!("{}\n", wrap(note, look.width, "", "")));
    }
    for file in shown.passwords {
        out.push_str(&format!(
            "pgstead made the password, and keeps it in {}.\n",
            visible(&file.display().to_string())
        ));
    }
    if let Some((authority, is_here)) = shown.authority {
        let path = authority.display().to_string();
        let place = match is_here {
            true => visible(&path),
            false => "ca.crt of any server, in pgstead's directory there".into(),
        };
        // Node.js knows no such place; its notes say how it gets the file.
        let is_node = |strings: &Strings| strings.driver.as_ref().is_some_and(|of| of.driver == Driver::Node);
        if shown.strings.iter().any(is_node) {
            out.push_str(&format!("Clients verify the servers with {place}.\n"));
        } else {
            out.push_str(&format!("Clients verify the servers with {place}: copy it to their\n"));
            out.push_str("~/.postgresql/root.crt, or name its place with --sslrootcert.\n");
        }
    }
    out
}

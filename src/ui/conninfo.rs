//! Connection strings as text, each on a line of its own, so that it can be copied whole.

use std::path::Path;

use crate::plan::links::clients::Strings;
use crate::ui::look::Look;
use crate::ui::look::Style;
use crate::ui::look::visible;

/// Renders the strings; `authority` is the certificate that clients need, and whether this machine has it, where the strings do not
/// say where clients have it.
pub fn render(strings: &[Strings], authority: Option<(impl AsRef<Path>, bool)>, look: Look) -> String {
    let mut out = String::new();
    for Strings { database, uri, keyword, jdbc } in strings {
        out.push_str(&format!("{}\n", look.paint(Style::Bold, &visible(database))));
        for (what, text) in [("URI", uri), ("libpq", keyword), ("JDBC", jdbc)] {
            out.push_str(&format!("  {what:<6}{}\n", visible(text)));
        }
        out.push('\n');
    }
    if let Some((authority, is_here)) = authority {
        let path = authority.as_ref().display().to_string();
        let place = match is_here {
            true => visible(&path),
            false => "ca.crt of any server, in pgstead's directory there".into(),
        };
        out.push_str(&format!("Clients verify the servers with {place}: copy it to their\n"));
        out.push_str("~/.postgresql/root.crt, or name its place with --sslrootcert.\n");
    }
    out
}

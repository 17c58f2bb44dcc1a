//! Connection strings as text, each on a line of its own, so that it can be copied whole.

use std::path::Path;

use crate::plan::clients::Strings;
use crate::ui::look::Look;
use crate::ui::look::Style;
use crate::ui::look::visible;

/// Renders the strings; `authority` is the certificate that clients need, where the strings do not say where they have it.
pub fn render(strings: &[Strings], authority: Option<impl AsRef<Path>>, look: Look) -> String {
    let mut out = String::new();
    for Strings { database, uri, keyword, jdbc } in strings {
        out.push_str(&format!("{}\n", look.paint(Style::Bold, &visible(database))));
        for (what, text) in [("URI", uri), ("libpq", keyword), ("JDBC", jdbc)] {
            out.push_str(&format!("  {what:<6}{}\n", visible(text)));
        }
        out.push('\n');
    }
    if let Some(authority) = authority {
        let path = authority.as_ref().display().to_string();
        out.push_str(&format!("Clients verify the servers with {}: copy it to their\n", visible(&path)));
        out.push_str("~/.postgresql/root.crt, or name its place with --sslrootcert.\n");
    }
    out
}

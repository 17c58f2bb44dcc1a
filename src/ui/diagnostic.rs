//! Diagnostics as text, in the form of PostgreSQL's own messages.
//!
//! `ERROR [code]: message`, then `at`, `DETAIL`, `COMMAND` and `HINT`, each where there is one. The command stays on
//! one line and as it is, so that it can be copied; a script in it is shown with `-v` alone. Foreign text never reaches the terminal raw.

use crate::diagnostic::{Diagnostic, Severity};
use crate::ui::changes;
use crate::ui::look::{Look, Style, one_line, visible, wrap};

/// Renders one diagnostic, with a line break at its end.
pub fn render(diagnostic: &Diagnostic, look: Look) -> String {
    let (word, style) = match diagnostic.severity {
        Severity::Error => ("ERROR", Style::Bad),
        Severity::Warning => ("WARNING", Style::Warn),
        Severity::Note => ("NOTE", Style::Accent),
    };
    let message = one_line(&diagnostic.message);
    let mut out = format!("{} [{}]: ", look.paint(style, word), diagnostic.code);
    // Most messages name the server themselves.
    if let Some(server) = &diagnostic.server
        && !message.contains(&format!("\"{server}\""))
    {
        out.push_str(&format!("server \"{}\": ", one_line(server)));
    }
    out.push_str(&look.paint(Style::Bold, &message));
    out.push('\n');
    if let Some(at) = &diagnostic.at {
        out.push_str(&format!("  at {}\n", look.paint(Style::Accent, &one_line(at))));
    }
    if let Some(detail) = &diagnostic.detail {
        out.push_str(&field("DETAIL", detail, look));
    }
    if let Some(command) = &diagnostic.command {
        let command = changes::command(command.trim_end(), look);
        out.push_str(&format!("{} {command}\n", look.paint(Style::Bold, "COMMAND:")));
    }
    if let Some(hint) = &diagnostic.hint {
        out.push_str(&field("HINT", hint, look));
    }
    out
}

/// Renders a labelled text; every line after the first is indented.
fn field(label: &str, text: &str, look: Look) -> String {
    let text = visible(text.trim_end());
    let wrapped = wrap(&format!("{label}: {text}"), look.width, "", "  ");
    let (_, rest) = wrapped.split_at(label.len() + 1);
    format!("{}{rest}\n", look.paint(Style::Bold, &format!("{label}:")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Code;

    fn upstream() -> Diagnostic {
        Diagnostic::error(Code::UnknownUpstream, "standby \"c\" names upstream \"d\", which is not in the inventory")
            .at("inventories/lab.yaml:12:7: servers.c.upstream")
            .detail("Known servers are \"a\" (primary), \"b\" (standby) and \"c\" (standby).")
            .hint("Did you mean \"b\"?")
    }

    fn base_backup() -> Diagnostic {
        Diagnostic::error(Code::TakeBaseBackup, "could not take a base backup from \"a\" (step 7 of 11)")
            .server("c")
            .detail(
                "pg_basebackup exited with status 1: FATAL: no pg_hba.conf entry for replication connection from \
                 host \"10.0.0.13\", user \"replicator\", SSL encryption\nThe second line came with \x1b[31mcolour.",
            )
            .command("sudo -n -u postgres -- pg_basebackup --pgdata=/srv/pg/main.seed.1 --dbname='host=a user=replicator sslmode=verify-full' --slot=c")
            .hint("Server \"a\" sees \"c\" as 10.0.0.13, but the inventory says 10.0.1.13.")
    }

    #[test]
    fn short_and_long_diagnostics() {
        insta::assert_snapshot!(render(&upstream(), Look::PLAIN), @r#"
        ERROR [unknown-upstream]: standby "c" names upstream "d", which is not in the inventory
          at inventories/lab.yaml:12:7: servers.c.upstream
        DETAIL: Known servers are "a" (primary), "b" (standby) and "c" (standby).
        HINT: Did you mean "b"?
        "#);
        insta::assert_snapshot!(render(&base_backup(), Look::PLAIN));
    }

    #[test]
    fn colour_changes_no_words() {
        let coloured = render(&base_backup(), Look { colour: true, ..Look::PLAIN });
        let mut plain = coloured.clone();
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[1;31m", "\x1b[36m"] {
            plain = plain.replace(code, "");
        }
        assert_ne!(coloured, plain);
        assert_eq!(plain, render(&base_backup(), Look::PLAIN));
    }
}

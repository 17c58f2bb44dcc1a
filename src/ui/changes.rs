//! File changes and commands as an operator reads them: what decides is shown, what repeats or is opaque is named.
//!
//! It hides nothing for good: with `-v` every line is there, and a JSON plan has every command. Secrets are never shown.

use similar::{ChangeTag, TextDiff};

use crate::model::quantity::count;
use crate::plan::FileChange;
use crate::quote::mask;
use crate::ui::look::{Look, Style, one_line, visible};

/// New files that were shown already, by base name: another server's is shown as what differs.
#[derive(Debug, Default)]
pub(super) struct Shown<'a>(Vec<(&'a str, &'a str, Vec<&'a str>)>);

/// Renders the change of one file.
pub(super) fn render<'a>(
    out: &mut String,
    change: &'a FileChange,
    server: &'a str,
    shown: &mut Shown<'a>,
    indent: &str,
    look: Look,
) {
    let path = look.paint(Style::Bold, &one_line(&change.path));
    let Some(after) = change.after.as_deref() else {
        // Whether a secret file is there already is not shown either.
        out.push_str(&format!("{indent}* {path} (secret, not shown)\n"));
        return;
    };
    let sign = if change.before.is_none() { "+" } else { "~" };
    if let Some(what) = opaque(after).filter(|_| !look.whole) {
        out.push_str(&format!("{indent}{sign} {path} ({what})\n"));
        return;
    }
    let (heading, lines) = match &change.before {
        None if !look.whole => new_file(&change.path, after, server, shown),
        _ => (String::new(), unified_diff(change).unwrap_or_default()),
    };
    out.push_str(&format!("{indent}{sign} {path}{heading}\n"));
    for line in lines.lines() {
        let style = match line.as_bytes().first() {
            Some(b'+') => Style::Good,
            Some(b'-') => Style::Bad,
            Some(b'@') => Style::Accent,
            _ => Style::Plain,
        };
        out.push_str(&format!("{indent}  {}\n", look.paint(style, &visible(line))));
    }
}

/// Returns the unified diff of a file without its file header; `None` when the file is secret.
pub(crate) fn unified_diff(change: &FileChange) -> Option<String> {
    let after = change.after.as_deref()?;
    let Some(before) = change.before.as_deref() else { return Some(added(after.lines())) };
    // What stands there may be somebody else's.
    let (before, after) = (mask::passwords(before), mask::passwords(after));
    let diff = TextDiff::from_lines(&before, &after);
    Some(diff.unified_diff().context_radius(3).to_string())
}

/// Names what nobody reads line by line.
fn opaque(text: &str) -> Option<String> {
    let lines = || count(text.lines().count(), "line");
    let is_record = |line: &str| line.split_once("  ").is_some_and(|(hash, _)| hash.len() == 64);
    match text.matches("-----BEGIN CERTIFICATE-----").count() {
        0 if text.starts_with("#!") => Some(format!("script, {}", lines())),
        0 if !text.is_empty() && text.lines().all(is_record) => {
            Some(format!("hashes of {}", count(text.lines().count(), "file")))
        }
        0 => None,
        1 => Some(format!("certificate, {}", lines())),
        several => Some(format!("{several} certificates, {}", lines())),
    }
}

/// Renders a new file without its comments, or as what differs from another server's.
fn new_file<'a>(path: &'a str, text: &'a str, server: &'a str, shown: &mut Shown<'a>) -> (String, String) {
    let name = path.rsplit('/').next().unwrap_or(path);
    let configuration = name.ends_with(".conf");
    let decides = |line: &&str| !configuration || !(line.is_empty() || line.starts_with('#'));
    let lines: Vec<&str> = text.lines().filter(decides).collect();
    let closest = shown
        .0
        .iter()
        .filter(|(other, ..)| *other == name)
        .map(|(_, owner, theirs)| (*owner, difference(theirs, &lines)))
        .min_by_key(|(_, difference)| difference.lines().count());
    let rendered = match closest {
        Some((owner, difference)) if difference.is_empty() => (format!(" (as on \"{owner}\")"), difference),
        // Where most lines differ, the file itself is easier to read.
        Some((owner, difference)) if difference.lines().count() * 2 < lines.len() => {
            (format!(" (as on \"{owner}\" except)"), difference)
        }
        _ => (String::new(), added(lines.iter().copied())),
    };
    shown.0.push((name, server, lines));
    rendered
}

fn added<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.map(|line| format!("+{line}\n")).collect()
}

/// Returns this server's lines where they differ from another's, and that one's where this server has none.
fn difference(theirs: &[&str], ours: &[&str]) -> String {
    let (theirs, ours) = (theirs.join("\n") + "\n", ours.join("\n") + "\n");
    let diff = TextDiff::from_lines(theirs.as_str(), ours.as_str());
    let mut out = String::new();
    for hunk in diff.unified_diff().context_radius(0).iter_hunks() {
        let changes: Vec<_> = hunk.iter_changes().collect();
        let replaced = changes.iter().any(|change| change.tag() == ChangeTag::Insert);
        for change in changes {
            match change.tag() {
                ChangeTag::Insert => out.push_str(&format!("+{}\n", change.value().trim_end())),
                ChangeTag::Delete if !replaced => out.push_str(&format!("-{}\n", change.value().trim_end())),
                ChangeTag::Delete | ChangeTag::Equal => {}
            }
        }
    }
    out
}

/// Returns a shell line as it is shown: scripts, which are quoted words of several lines, become a mark.
pub(super) fn command(line: &str, look: Look) -> String {
    if look.whole || !line.contains('\n') {
        return visible(line).into_owned();
    }
    let mut out = String::new();
    let mut rest = line;
    while let Some(start) = rest.find('\'') {
        let (before, quoted) = rest.split_at(start);
        let end = end_of_quoted(quoted);
        out.push_str(before);
        match quoted.get(..end).filter(|word| !word.contains('\n')) {
            Some(word) => out.push_str(word),
            None => out.push_str(look.or_ascii("'…'", "'...'")),
        }
        rest = quoted.get(end..).unwrap_or_default();
    }
    out.push_str(rest);
    one_line(&out)
}

/// Returns the length of the quoted word at the beginning, in the form of [`crate::quote::sh::quote`].
fn end_of_quoted(text: &str) -> usize {
    const ESCAPED: &str = r"'\''";
    let mut at = 1;
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('\'')) {
        at += found;
        if !text.get(at..).is_some_and(|rest| rest.starts_with(ESCAPED)) {
            return at + 1;
        }
        at += ESCAPED.len();
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(changes: &[(&str, FileChange)], look: Look) -> String {
        let (mut out, mut shown) = (String::new(), Shown::default());
        for (server, change) in changes {
            render(&mut out, change, server, &mut shown, "", look);
        }
        out
    }

    fn new(path: &str, text: &str) -> FileChange {
        FileChange { path: path.into(), before: None, after: Some(text.into()) }
    }

    #[test]
    fn scripts_in_commands_become_a_mark_and_v_shows_them() {
        let line = crate::quote::sh::join(&["sudo", "sh", "-c", "echo 'a'\nexit 3\n", "name", "it's", "/x y"]);
        assert_eq!(command(&line, Look::PLAIN), r"sudo sh -c '…' name 'it'\''s' '/x y'");
        assert_eq!(command(&line, Look { whole: true, ..Look::PLAIN }), line);
        assert_eq!(command(&line, Look { unicode: false, ..Look::PLAIN }).matches("'...'").count(), 1);
        assert_eq!(command("psql -c 'one line, x'", Look::PLAIN), "psql -c 'one line, x'");
    }

    #[test]
    fn what_nobody_reads_is_named_and_v_shows_it() {
        let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        let changes = [
            ("a", new("/o/ca.crt", pem)),
            ("a", new("/o/bundle.crt", &pem.repeat(2))),
            ("a", new("/o/wait-ready", "#!/bin/sh\nexit 0\n")),
            ("a", new("/o/manifest", &format!("{}  /o/role\n", "0".repeat(64)))),
            ("a", FileChange { before: Some("#!/bin/sh\n".into()), ..new("/o/wait-ready", "#!/bin/sh\nexit 0\n") }),
        ];
        insta::assert_snapshot!(rendered(&changes, Look::PLAIN), @r"
        + /o/ca.crt (certificate, 3 lines)
        + /o/bundle.crt (2 certificates, 6 lines)
        + /o/wait-ready (script, 2 lines)
        + /o/manifest (hashes of 1 file)
        ~ /o/wait-ready (script, 2 lines)
        ");
        let whole = rendered(&changes, Look { whole: true, ..Look::PLAIN });
        assert!(whole.contains("+MIIB") && whole.contains("+exit 0"), "{whole}");
    }

    #[test]
    fn another_servers_file_is_shown_as_what_differs() {
        let conf = |name: &str, more: &str| format!("# of {name}\nname = '{name}'\na = 1\nb = 2\nc = 3\nd = 4\n{more}");
        let changes = [
            ("a", new("/a/x.conf", &conf("a", "e = 5\n"))),
            ("b", new("/b/x.conf", &conf("b", ""))),
            ("c", new("/c/x.conf", &conf("b", ""))),
            ("d", new("/d/x.conf", "nothing = alike\n")),
        ];
        insta::assert_snapshot!(rendered(&changes, Look::PLAIN), @r#"
        + /a/x.conf
          +name = 'a'
          +a = 1
          +b = 2
          +c = 3
          +d = 4
          +e = 5
        + /b/x.conf (as on "a" except)
          +name = 'b'
          -e = 5
        + /c/x.conf (as on "b")
        + /d/x.conf
          +nothing = alike
        "#);
    }
}

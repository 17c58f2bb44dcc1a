//! The inventory's cases: one folder each, `inventory.yaml` and what `pgstead validate` would say about it.
//!
//! To add a case, add a folder with an `inventory.yaml` and run with `PGSTEAD_BLESS=1`; then read what it wrote.

use std::fmt::Write as _;
use std::path::Path;

use pgstead::diagnostic::Diagnostic;
use pgstead::diagnostic::Severity;

fn render(diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        let word = match diagnostic.severity {
            Severity::Error => "ERROR",
            Severity::Warning => "WARNING",
            Severity::Note => "NOTE",
        };
        let _ = writeln!(text, "{word} [{}]: {}", diagnostic.code, diagnostic.message);
        let lines = [("  at ", &diagnostic.at), ("DETAIL: ", &diagnostic.detail), ("HINT: ", &diagnostic.hint)];
        for (label, line) in lines {
            if let Some(line) = line {
                let _ = writeln!(text, "{label}{line}");
            }
        }
    }
    text
}

#[test]
fn cases() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inventory/cases");
    let bless = std::env::var_os("PGSTEAD_BLESS").is_some();
    let mut wrong = Vec::new();
    let mut names: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert!(names.len() > 30, "only {} cases were found", names.len());
    for name in names {
        let folder = root.join(&name);
        let text = std::fs::read_to_string(folder.join("inventory.yaml")).unwrap();
        let found = match pgstead::inventory::read(&text, "inventory.yaml") {
            Ok((_, warnings)) => format!("{}valid\n", render(&warnings)),
            Err(problems) => {
                assert!(!problems.is_empty(), "{name:?}: refused without a reason");
                assert!(problems.iter().all(|problem| problem.at.is_some()), "{name:?}: a problem without a place");
                render(&problems)
            }
        };
        let expected_file = folder.join("expected.txt");
        if bless {
            std::fs::write(&expected_file, &found).unwrap();
        } else if std::fs::read_to_string(&expected_file).unwrap_or_default() != found {
            wrong.push(format!("--- {name:?} says now\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "PGSTEAD_BLESS=1 accepts these:\n{}", wrong.join("\n"));
}

//! The rules of the house, checked on every file: what imports what, who prints, who waits, how a module opens.
//!
//! The rules are a table in `tests/tidy/rules.rs`, each with its reason and with snippets that must be caught: an alarm
//! that never rang is no alarm. What clippy can check stands in `clippy.toml` and `Cargo.toml`, not here.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::path::Path;

use rules::LINES_MAX;
use rules::RULES;
use source::Source;

/// Returns the Rust files below a directory of the project, as (path from there, text).
fn files(directory: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut open = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                files.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn the_source_keeps_every_rule() {
    let sources: Vec<Source> = files("src").iter().map(|(path, text)| Source::new(path, text)).collect();
    assert!(sources.len() > 10, "only {} files were looked at", sources.len());
    let mut report = String::new();
    for rule in RULES {
        for (path, line, what) in (rule.find)(&sources) {
            report.push_str(&format!("src/{path}:{line}: {what}\n  rule: {}\n  why: {}\n", rule.name, rule.why));
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn every_rule_catches_what_breaks_it() {
    for rule in RULES {
        assert!(!rule.broken_by.is_empty(), "rule \"{}\" has never rung", rule.name);
        for (path, text) in rule.broken_by {
            let mut sources = vec![Source::new(path, text)];
            // The other halves of the circles.
            sources.push(Source::new("apply/y.rs", "//! The other half.\nuse crate::observe::B;"));
            sources.push(Source::new("quote/sh.rs", "//! The other half.\nuse crate::model::argv::B;"));
            assert!(!(rule.find)(&sources).is_empty(), "rule \"{}\" let pass: {text}", rule.name);
        }
        for (path, text) in rule.kept_by {
            let breaches = (rule.find)(&[Source::new(path, text)]);
            assert!(breaches.is_empty(), "rule \"{}\" forbids {text}: {breaches:?}", rule.name);
        }
    }
}

#[test]
fn no_file_is_longer_than_one_can_read() {
    for directory in ["src", "tests"] {
        for (path, text) in files(directory) {
            let lines = text.lines().count();
            assert!(lines <= LINES_MAX, "{directory}/{path} has {lines} lines, at most {LINES_MAX}: split it by duty");
        }
    }
}

#[test]
fn no_test_is_switched_off() {
    // Put together here, so that this file does not find itself.
    let switched_off = ["#[ign", "ore"].concat();
    for (path, text) in files("tests").into_iter().filter(|(path, _)| path != "tidy/rules.rs") {
        assert!(!text.contains(&switched_off), "tests/{path} has a test that never runs");
    }
}

#[test]
fn the_alarm_names_the_line() {
    let rule = RULES.iter().find(|rule| rule.name == "nobody sleeps").unwrap();
    let source = Source::new("apply/x.rs", "//! Does.\n/// Doc.\nfn f() {\n    std::thread::sleep(D);\n}\n");
    assert_eq!((rule.find)(&[source]), [("apply/x.rs".to_owned(), 4, "sleep".to_owned())]);
}

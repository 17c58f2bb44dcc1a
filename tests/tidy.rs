//! The rules of the house, checked on every file: what imports what, who prints, who waits, how a module opens.
//!
//! The rules are a table in `tests/tidy/rules.rs`, each with its reason and with snippets that must be caught: an alarm
//! that never rang is no alarm. What clippy can check stands in `clippy.toml` and `Cargo.toml`, not here.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "tidy/judged.rs"]
mod judged;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::path::Path;

use rules::CLEARS;
use rules::FORGETS;
use rules::LINES_MAX;
use rules::RULES;
use rules::removals;
use source::Source;

/// Returns the Rust files below a directory of the project, as (path from there, text).
fn files(directory: &str) -> Vec<(String, String)> {
    files_of(directory, "rs")
}

/// Returns the files of a kind below a directory of the project, as (path from there, text).
fn files_of(directory: &str, ending: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut open = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|its| its == ending) {
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
fn no_script_removes_recursively_but_two() {
    let scripts = files_of("src", "sh");
    assert!(scripts.len() > 10, "only {} scripts were looked at", scripts.len());
    let mut removing = Vec::new();
    for (path, text) in &scripts {
        let lines = removals(text);
        if !lines.is_empty() {
            removing.push((path.as_str(), lines.len()));
        }
    }
    removing.sort_unstable();
    assert_eq!(removing, [(CLEARS, 1), (FORGETS, 1)], "data is set aside by rename, never deleted (promise 1)");
}

#[test]
fn a_script_that_reads_fractions_sets_the_locale() {
    for (path, text) in files_of("src", "sh") {
        let first = |word: &str| text.lines().position(|line| line.contains(word));
        let reads = ["stat -c %.", "stat -c '%.", "df -B1"].iter().filter_map(|word| first(word)).min();
        // What is run as a part of the probe has its locale.
        if let (Some(reads), false) = (reads, path.ends_with("readiness.sh")) {
            let sets = first("export LC_ALL=C");
            assert!(sets.is_some_and(|sets| sets < reads), "src/{path}: a locale may write a comma for the point");
        }
    }
}

#[test]
fn every_way_to_remove_recursively_in_a_script_is_caught() {
    for text in [
        "rm -rf -- \"$1\"",
        "rm -fr \"$1\"",
        "rm -f -r \"$1\"",
        "rm --force --recursive \"$1\"",
        "[ -e x ] && rm -R x",
        "find . -exec rm -rf {} +",
        "printf x | xargs -0 rm -rf --",
        "find \"$1\" -delete",
        "rsync --delete a b",
        "command /bin/rm -r x",
    ] {
        assert_eq!(removals(text), [1], "{text}");
    }
    for text in ["rm -f -- \"$1\"", "# rm -rf is not done", "mv -fT -- a b", "rmdir -- \"$1\"", "sort -r | rm -f x"] {
        assert!(removals(text).is_empty(), "{text}");
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
    for (path, text) in files("tests").into_iter().filter(|(path, _)| path != "tidy/rules.rs" && path != "tidy.rs") {
        assert_eq!(switched_off(&text), Vec::<&str>::new(), "tests/{path} has a test that never runs");
    }
    let soak = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/soak")).unwrap();
    assert!(soak.contains("--test live -- --ignored"), "nothing runs what is left to the soak");
}

/// Why a test is left to the soak, besides that it plays on another release in every run.
const SOAK: [&str; 2] = ["takes minutes: make soak", "19 is in Debian's experimental suite alone: make soak"];

/// Returns the lines by which a test is left out of every run, without being left to the soak.
fn switched_off(text: &str) -> Vec<&str> {
    let plays = |reason: &str, function: &str| {
        let (stem, _) = function.strip_prefix("fn ")?.rsplit_once("_on_")?;
        let releases = reason.strip_prefix("plays on ")?.strip_suffix(" in every run, on all releases in make soak")?;
        Some(releases.split(" and ").all(|release| text.contains(&format!("#[test]\nfn {stem}_on_{release}()"))))
    };
    let lines: Vec<&str> = text.lines().collect();
    let is_left_out = |at: &usize| {
        let reason = lines[*at].strip_prefix("#[ignore = \"").and_then(|rest| rest.strip_suffix("\"]"));
        let function = lines.get(at + 1).copied().unwrap_or_default();
        !reason.is_some_and(|reason| SOAK.contains(&reason) || plays(reason, function) == Some(true))
    };
    (0..lines.len())
        .filter(|at| lines[*at].trim_start().starts_with("#[ignore"))
        .filter(is_left_out)
        .map(|at| lines[at])
        .collect()
}

#[test]
fn a_test_that_never_runs_is_found() {
    let reason = "#[ignore = \"plays on 17 in every run, on all releases in make soak\"]";
    let pair = |other: &str| format!("#[test]\n{reason}\nfn x_on_15() {{}}\n{other}");
    assert!(switched_off(&pair("#[test]\nfn x_on_17() {}\n")).is_empty());
    assert_eq!(switched_off(&pair("")), [reason]);
    assert_eq!(switched_off(&pair("#[test]\n#[ignore = \"takes minutes: make soak\"]\nfn x_on_17() {}\n")), [reason]);
    assert_eq!(switched_off("#[test]\n#[ignore]\nfn x() {}\n"), ["#[ignore]"]);
    assert_eq!(switched_off("#[test]\n#[ignore = \"later\"]\nfn x() {}\n"), ["#[ignore = \"later\"]"]);
}

#[test]
fn the_alarm_names_the_line() {
    let rule = RULES.iter().find(|rule| rule.name == "nobody sleeps").unwrap();
    let source = Source::new("apply/x.rs", "//! Does.\n/// Doc.\nfn f() {\n    std::thread::sleep(D);\n}\n");
    assert_eq!((rule.find)(&[source]), [("apply/x.rs".to_owned(), 4, "sleep".to_owned())]);
}

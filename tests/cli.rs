//! Transcripts of the command line: what an operator types and sees, word for word.
//!
//! `TRYCMD=overwrite cargo test --test cli` writes them anew; a change of wording then shows up in review.

use std::fs::OpenOptions;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

#[test]
fn transcripts() {
    trycmd::TestCases::new()
        .env("COLUMNS", "100")
        .env("LC_ALL", "C.UTF-8")
        .env("NO_COLOR", "1")
        .env("PGSTEAD_INVENTORY", "")
        .case("tests/cli/*.trycmd");
}

fn pgstead(args: &[&str], stdout: Stdio) -> Output {
    let child = Command::new(env!("CARGO_BIN_EXE_pgstead"))
        .args(args)
        .env_remove("PGSTEAD_INVENTORY")
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn();
    child
        .and_then(std::process::Child::wait_with_output)
        .unwrap_or_else(|error| panic!("pgstead does not run: {error}"))
}

#[test]
fn stdout_is_exactly_one_document_also_for_errors() {
    let cases: [(&[&str], i32, &str); 5] = [
        (&["--format", "json", "-i", "nowhere.yaml", "check"], 3, "inventory-unreadable"),
        (&["plan", "--format=json", "--no-such-option"], 2, "usage"),
        (&["--format", "json"], 2, "usage"),
        (&["--format", "json", "status", "--watch"], 2, "usage"),
        (&["lab", "up", "--release", "trixie", "--format", "json"], 2, "usage"),
    ];
    for (args, code, error) in cases {
        let output = pgstead(args, Stdio::piped());
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
        assert_eq!(document["version"], 1);
        assert_eq!(document["error"]["code"], error, "{args:?}");
        assert_eq!(document["errors"][0], document["error"]);
        for key in ["message", "detail", "hint", "server", "command"] {
            assert!(document["error"].get(key).is_some(), "{key}");
        }
        assert!(!output.stderr.is_empty(), "people read stderr: {args:?}");
    }
}

#[test]
fn stdout_is_exactly_one_document_also_for_text() {
    for (args, key) in [(["completions", "zsh"].as_slice(), "script"), (["man"].as_slice(), "page")] {
        let output = pgstead(&[&["--format", "json"], args].concat(), Stdio::piped());
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
        assert_eq!(document["version"], 1);
        assert!(document[key].is_string(), "{key}");
    }
}

/// A monitoring system knows 0 to 3 and one line; what ends a check early is unknown to it, never critical.
#[test]
fn a_monitoring_system_is_answered_in_its_own_words() {
    let cases: [&[&str]; 3] = [
        &["check", "--format", "nagios", "-i", "nowhere.yaml"],
        &["check", "--format=nagios", "--no-such-option"],
        &["check", "--format", "nagios", "--watch"],
    ];
    for args in cases {
        let output = pgstead(args, Stdio::piped());
        let line = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {line}");
        assert!(line.starts_with("PGSTEAD UNKNOWN - ") && line.lines().count() == 1, "{args:?}: {line}");
    }
    for command in ["plan", "status", "bootstrap", "validate", "history"] {
        let output = pgstead(&["--format", "nagios", command], Stdio::piped());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert!(said.starts_with("ERROR [usage]: --format nagios is for check alone\n"), "{command}: {said}");
        assert!(output.stdout.is_empty(), "{command}");
    }
}

#[test]
fn only_what_exists_can_be_asked_for() {
    for word in ["L10", "slot-inactive", "L1,lag"] {
        let output = pgstead(&["check", "--only", word, "-i", "nowhere.yaml"], Stdio::piped());
        assert_eq!(output.status.code(), Some(3), "{word}: {output:?}");
    }
    for word in ["L24", "slot-inactiv", "l10"] {
        let output = pgstead(&["check", "--only", word, "-i", "nowhere.yaml"], Stdio::piped());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{word}: {said}");
        assert!(said.contains("similar value"), "{word}: {said}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = pgstead(&["completions", "bash"], writer.into());
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_full_disk_is_an_error() {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let output = pgstead(&["man"], full.into());
    assert_eq!(output.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("ERROR [write-output]: "));
}

#[test]
fn one_manual_page_per_command_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = pgstead(&["man", "-o", &dir.path().display().to_string()], Stdio::piped());
    assert_eq!(output.status.code(), Some(0));
    for name in ["pgstead.1", "pgstead-bootstrap.1", "pgstead-lab-up.1"] {
        let page = std::fs::read_to_string(dir.path().join(name)).expect(name);
        assert!(page.contains(".SH \"EXIT STATUS\""), "{name}");
    }
}

/// Every inventory that is wrong ends every command the same way, before any server is asked.
#[test]
fn an_invalid_inventory_is_exit_code_3() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inventory/cases");
    let mut invalid = 0;
    for case in std::fs::read_dir(root).expect("there are cases") {
        let folder = case.expect("a case").path();
        let expected = std::fs::read_to_string(folder.join("expected.txt")).expect("it was blessed");
        let Some(first) = expected.strip_prefix("ERROR [") else { continue };
        let code = first.split(']').next().expect("a code");
        invalid += 1;
        let inventory = folder.join("inventory.yaml");
        let inventory = inventory.to_str().expect("a path");
        for command in ["validate", "bootstrap"] {
            let output = pgstead(&["-i", inventory, "--format", "json", command], Stdio::piped());
            assert_eq!(output.status.code(), Some(3), "{inventory}: {output:?}");
            let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one document");
            assert_eq!(document["version"], 1, "{document:#}");
            assert_eq!(document["error"]["code"], code, "{document:#}");
            for key in ["message", "detail", "hint", "server", "command", "at"] {
                assert!(document["error"].get(key).is_some(), "no {key}: {document:#}");
            }
            assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{output:?}");
        }
    }
    assert!(invalid > 20, "only {invalid} cases are invalid");
}

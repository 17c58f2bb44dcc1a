//! The cases of a preflight: what was seen, and what it must say.
//!
//! A folder of `tests/preflight/cases` is either a base (`inventory.yaml`, `observation.json`, `pairs.json`, captured from
//! real servers with `PGSTEAD_CAPTURE`, see `tests/live/capture.rs`) or has one `patch.json`: the name of a base, and what
//! differs from it in `inventory`, `observation` and `pairs` (RFC 7396; a null takes a fact away). A folder with the name
//! of a code must make it said, and has beside it `quiet`: another patch of the same base, near the first, that must not.
//!
//! To add a case, add a folder and run with `PGSTEAD_BLESS=1`; then read what it wrote.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::path::PathBuf;

use pgstead::model::pair::Pairs;
use pgstead::plan::survey::survey;
use pgstead::preflight::Choice;
use pgstead::preflight::PreflightReport;
use pgstead::preflight::Thresholds;
use pgstead::preflight::Told;
use pgstead::preflight::codes::CODES;
use pgstead::preflight::preflight;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/preflight/cases")
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&text(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        if !patch.is_null() {
            *target = patch.clone();
        }
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let target = target.as_object_mut().unwrap();
    for (key, change) in changes {
        match change {
            Value::Null => drop(target.remove(key)),
            _ => merge(target.entry(key).or_insert(Value::Null), change),
        }
    }
}

/// What a preflight is given.
struct Seen {
    inventory: Value,
    observation: Value,
    pairs: Value,
}

impl Seen {
    fn base(name: &str) -> Self {
        let folder = root().join(name);
        Self {
            inventory: serde_saphyr::from_str(&text(&folder.join("inventory.yaml"))).unwrap(),
            observation: json(&folder.join("observation.json")),
            pairs: json(&folder.join("pairs.json")),
        }
    }

    fn patched(mut self, patch: &Value) -> Self {
        merge(&mut self.inventory, &patch["inventory"]);
        merge(&mut self.observation, &patch["observation"]);
        merge(&mut self.pairs, &patch["pairs"]);
        self
    }

    fn judge(&self, name: &str, choice: &Choice) -> PreflightReport {
        let (topology, _) = pgstead::inventory::read(&self.inventory.to_string(), "inventory.yaml")
            .unwrap_or_else(|problems| panic!("{name}: {problems:#?}"));
        let observation =
            serde_json::from_value(self.observation.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let pairs: Pairs = serde_json::from_value(self.pairs.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let survey = survey(&topology, &observation);
        let told = Told { refusals: survey.refusals, notes: survey.notes };
        preflight(&topology, &observation, &pairs, &told, choice, &Thresholds::default())
    }
}

/// A case: its name, what it sees, and what its quiet neighbour sees.
fn load(name: &str) -> (Seen, Option<Seen>) {
    let path = root().join(name).join("patch.json");
    if !path.exists() {
        return (Seen::base(name), None);
    }
    let patch = json(&path);
    let base = || Seen::base(patch["base"].as_str().unwrap_or_else(|| panic!("{name} names no base")));
    let quiet = patch.get("quiet").map(|quiet| base().patched(quiet));
    (base().patched(&patch), quiet)
}

fn names() -> Vec<String> {
    let entries = std::fs::read_dir(root()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn said(report: &PreflightReport) -> BTreeSet<&'static str> {
    report.findings.iter().map(|finding| finding.diagnostic.code).collect()
}

fn render(report: &PreflightReport) -> String {
    let mut text = String::from(if report.ready { "ready\n" } else { "not ready\n" });
    for finding in &report.findings {
        let diagnostic = &finding.diagnostic;
        let severity = format!("{:?}", diagnostic.severity).to_uppercase();
        let place = match &finding.pair {
            Some(pair) => format!("{} → {}", pair.from, pair.to),
            None => diagnostic.server.clone().unwrap_or("-".to_owned()),
        };
        let _ = writeln!(text, "\n{severity} [{}] {place}: {}", diagnostic.code, diagnostic.message);
        for (label, line) in [("DETAIL: ", &diagnostic.detail), ("HINT: ", &diagnostic.hint)] {
            if let Some(line) = line {
                let _ = writeln!(text, "{label}{line}");
            }
        }
    }
    text
}

#[test]
fn cases() {
    let bless = std::env::var_os("PGSTEAD_BLESS").is_some();
    let mut wrong = Vec::new();
    for name in names() {
        let report = load(&name).0.judge(&name, &Choice::default());
        for finding in &report.findings {
            let diagnostic = &finding.diagnostic;
            let place = diagnostic.server.is_some() || finding.pair.is_some();
            let is_whole = place && diagnostic.detail.is_some() && diagnostic.hint.is_some();
            // Refusals and notes of the survey have their own tests.
            if CODES.contains(&diagnostic.code) && !is_whole {
                wrong.push(format!("--- {name}: it says too little: {finding:?}"));
            }
        }
        let found = render(&report);
        let expected_file = root().join(&name).join("expected.txt");
        if bless {
            std::fs::write(&expected_file, &found).unwrap();
        } else if std::fs::read_to_string(&expected_file).unwrap_or_default() != found {
            wrong.push(format!("--- {name} says now\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "PGSTEAD_BLESS=1 accepts new texts:\n{}", wrong.join("\n"));
}

/// For every code there is a case that makes it fire, and one near it that keeps it quiet.
#[test]
fn every_code_fires_and_keeps_quiet() {
    let mut wrong = Vec::new();
    for code in CODES {
        if !root().join(code).join("patch.json").exists() {
            wrong.push(format!("{code}: there is no case"));
            continue;
        }
        let (fires, quiet) = load(code);
        let fired = fires.judge(code, &Choice::default());
        if !said(&fired).contains(code) {
            wrong.push(format!("{code}: its case does not say it, but {:?}", said(&fired)));
        }
        match quiet {
            None => wrong.push(format!("{code}: its case has no quiet neighbour")),
            Some(quiet) => {
                let report = quiet.judge(code, &Choice::default());
                if said(&report).contains(code) {
                    wrong.push(format!("{code}: its quiet neighbour says it\n{}", render(&report)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The list of codes is what the sources say.
#[test]
fn the_list_of_codes_is_whole() {
    let mut used = BTreeSet::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/preflight")).unwrap() {
        let text = text(&entry.unwrap().path());
        let text = text.split("#[cfg(test)]").next().unwrap();
        for constructor in ["error(", "warning(", "note("] {
            for (at, _) in text.match_indices(&["Diagnostic::", constructor].concat()) {
                let rest = text[at..].split_once('(').unwrap().1.trim_start();
                let code = rest.strip_prefix('"').and_then(|rest| rest.split('"').next());
                used.insert(
                    code.unwrap_or_else(|| panic!("a code that is no literal: {}", &text[at..at + 60])).to_owned(),
                );
            }
        }
    }
    let listed: BTreeSet<String> = CODES.iter().map(|code| (*code).to_owned()).collect();
    assert_eq!(listed, used);
    assert!(CODES.is_sorted());
}

/// Real servers that are well have nothing to say but what a lab is.
#[test]
fn what_is_well_is_ready() {
    for base in ["bare-15", "bare-17", "finished-15", "finished-17"] {
        let report = load(base).0.judge(base, &Choice::default());
        assert!(report.ready, "{base}");
        assert_eq!(said(&report), BTreeSet::from(["same-subnet"]), "{base}");
    }
}

#[test]
fn only_and_skip_leave_out_judgements_but_never_a_refusal() {
    let code = "port-blocked";
    let skip = |code| Choice {
        skipped: vec![pgstead::preflight::Skipped { code, reason: "known".to_owned() }],
        ..Choice::default()
    };
    let seen = load(code).0;
    assert!(!seen.judge(code, &Choice::default()).ready);
    let skipped = seen.judge(code, &skip(code));
    assert!(skipped.ready && !said(&skipped).contains(code));
    assert_eq!(skipped.skipped[0].reason, "known");
    let only = |code| Choice { only: BTreeSet::from([code]), ..Choice::default() };
    assert_eq!(said(&seen.judge(code, &only(code))), BTreeSet::from([code]));
    let other = seen.judge(code, &only("same-subnet"));
    assert!(other.ready && other.only == ["same-subnet"]);

    // What a bootstrap refuses is told all the same.
    let refused = load("refused").0;
    for choice in [Choice::default(), only("same-subnet"), skip("same-subnet")] {
        let report = refused.judge("refused", &choice);
        assert!(!report.ready && said(&report).contains("architecture-differs"), "{choice:?}");
    }
}

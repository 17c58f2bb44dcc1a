//! The cases of a preflight: what was seen, and what it must say.
//!
//! A folder of `tests/preflight/cases` is either a base (`inventory.yaml`, `observation.json`, `pairs.json`, captured from
//! real servers with `PGSTEAD_CAPTURE`, see `tests/live/capture.rs`) or has one `patch.json`: the name of a base, and what
//! differs from it in `inventory`, `observation` and `pairs` (RFC 7396; a null takes a fact away). A folder with the name
//! of a code must make it said, and has beside it `quiet`: another patch of the same base, near the first, that must not.
//!
//! To add a case, add a folder and run with `PGSTEAD_BLESS=1`; then read what it wrote.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod codes;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::path::PathBuf;

use pgstead::diagnostic::Code;
use pgstead::diagnostic::Diagnostic;
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
        self.judge_beside(name, choice, &Told::default())
    }

    /// Judges where more is told already than the survey says.
    fn judge_beside(&self, name: &str, choice: &Choice, more: &Told) -> PreflightReport {
        let (topology, _) = pgstead::inventory::read(&self.inventory.to_string(), "inventory.yaml")
            .unwrap_or_else(|problems| panic!("{name}: {problems:#?}"));
        let observation =
            serde_json::from_value(self.observation.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let pairs: Pairs = serde_json::from_value(self.pairs.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let survey = survey(&topology, &observation);
        let told = Told {
            refusals: [survey.refusals, more.refusals.clone()].concat(),
            notes: [survey.notes, more.notes.clone()].concat(),
        };
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
    report.findings.iter().map(|finding| finding.diagnostic.code.as_str()).collect()
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
    for code in CODES.iter().map(|code| code.as_str()) {
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
    assert_eq!(CODES.iter().copied().collect::<BTreeSet<_>>(), codes::told("preflight"));
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
    let skipped = seen.judge(code, &skip(code.parse().unwrap()));
    assert!(skipped.ready && !said(&skipped).contains(code));
    assert_eq!(skipped.skipped[0].reason, "known");
    let only = |code| Choice { only: BTreeSet::from([code]), ..Choice::default() };
    assert_eq!(said(&seen.judge(code, &only(code.parse().unwrap()))), BTreeSet::from([code]));
    let other = seen.judge(code, &only(Code::SameSubnet));
    assert!(other.ready && other.only == [Code::SameSubnet]);

    // What a bootstrap refuses is told all the same.
    let refused = load("refused").0;
    for choice in [Choice::default(), only(Code::SameSubnet), skip(Code::SameSubnet)] {
        let report = refused.judge("refused", &choice);
        assert!(!report.ready && said(&report).contains("architecture-differs"), "{choice:?}");
    }
}

#[test]
fn of_two_findings_about_the_same_the_bootstraps_stays() {
    let count = |report: &PreflightReport, code: &str| {
        report.findings.iter().filter(|finding| finding.diagnostic.code.as_str() == code).count()
    };
    let (fires, _) = load("checksums-off");
    let own = count(&fires.judge("checksums-off", &Choice::default()), "checksums-off");
    let note = Diagnostic::warning(Code::ChecksumsOff, "its data has no page checksums").server("a");
    let told = Told { notes: vec![note], ..Told::default() };
    let beside = fires.judge_beside("checksums-off", &Choice::default(), &told);
    assert_eq!(count(&beside, "checksums-off"), own, "one of \"a\" was told twice");
    let message = |finding: &&pgstead::preflight::Finding| finding.diagnostic.server.as_deref() == Some("a");
    let of_a = beside.findings.iter().filter(|finding| finding.diagnostic.code == Code::ChecksumsOff).find(message);
    assert_eq!(of_a.unwrap().diagnostic.message, "its data has no page checksums");

    // A library that is loaded at the start has another code there, and there it is a refusal.
    let code = "preload-library-missing";
    let refusal = Diagnostic::error(Code::LibraryMissing, "library \"timescaledb\" is not installed").server("b");
    let told = Told { refusals: vec![refusal], ..Told::default() };
    let beside = load(code).0.judge_beside(code, &Choice::default(), &told);
    let of_b = beside.findings.iter().filter(|finding| finding.diagnostic.server.as_deref() == Some("b"));
    assert!(of_b.clone().all(|finding| finding.diagnostic.code.as_str() != code) && of_b.count() == 1);
}

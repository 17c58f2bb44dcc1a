//! The judgement of `check` as cases: one folder each, what was seen and what `pgstead check` says about it.
//!
//! `inventory.yaml`, `observation.json` and `canaries.json` are text from real servers, kept by a live scenario with
//! `PGSTEAD_CAPTURE`. A case with a `patch.json` is another case with a few facts changed: `base` names that case, and
//! `observation` and `canaries` are merged into what it has (RFC 7396; a null takes a fact away).
//!
//! To add a case, add a folder and run with `PGSTEAD_BLESS=1`; then read what it wrote.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::path::PathBuf;

use pgstead::check::CheckReport;
use pgstead::check::Thresholds;
use pgstead::check::check;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check/cases")
}

/// The inventory, the observation and the canaries of a case.
fn load(name: &str) -> (String, Value, Value) {
    let folder = root().join(name);
    let json = |file: &str| -> Option<Value> {
        let text = std::fs::read_to_string(folder.join(file)).ok()?;
        Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}/{file}: {error}")))
    };
    if let Some(patch) = json("patch.json") {
        let (inventory, mut observation, mut canaries) = load(patch["base"].as_str().unwrap());
        merge(&mut observation, &patch["observation"]);
        merge(&mut canaries, &patch["canaries"]);
        return (inventory, observation, canaries);
    }
    let inventory =
        std::fs::read_to_string(folder.join("inventory.yaml")).unwrap_or_else(|error| panic!("{name}: {error}"));
    (inventory, json("observation.json").unwrap(), json("canaries.json").unwrap())
}

/// Merges as RFC 7396 says, except that a patch which is no object at the top changes nothing.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else { return };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let target = target.as_object_mut().unwrap();
    for (key, change) in changes {
        match change {
            Value::Null => drop(target.remove(key)),
            Value::Object(_) => merge(target.entry(key).or_insert(Value::Null), change),
            _ => drop(target.insert(key.clone(), change.clone())),
        }
    }
}

fn judge(name: &str) -> CheckReport {
    let (inventory, observation, canaries) = load(name);
    let (topology, _) = pgstead::inventory::read(&inventory, "inventory.yaml").unwrap();
    let observation = serde_json::from_value(observation).unwrap_or_else(|error| panic!("{name}: {error}"));
    let canaries = serde_json::from_value(canaries).unwrap_or_else(|error| panic!("{name}: {error}"));
    check(&topology, &observation, Some(&canaries), &Thresholds::default())
}

fn render(report: &CheckReport) -> String {
    let word = |verdict: &pgstead::check::Verdict| format!("{verdict:?}").to_lowercase();
    let mut text = format!("{}\n", word(&report.verdict));
    for link in &report.links {
        let _ = writeln!(text, "{} → {}: {}", link.upstream, link.standby, word(&link.verdict));
    }
    for finding in &report.findings {
        let severity = format!("{:?}", finding.severity).to_uppercase();
        let server = finding.server.as_deref().unwrap_or("-");
        let _ = writeln!(text, "\n{severity} [{}] {server}: {}", finding.code, finding.message);
        for (label, line) in [("DETAIL: ", &finding.detail), ("HINT: ", &finding.hint)] {
            if let Some(line) = line {
                let _ = writeln!(text, "{label}{line}");
            }
        }
    }
    text
}

fn names() -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() > 40, "only {} cases were found", names.len());
    names
}

#[test]
fn cases() {
    let bless = std::env::var_os("PGSTEAD_BLESS").is_some();
    let mut wrong = Vec::new();
    for name in names() {
        let report = judge(&name);
        for finding in &report.findings {
            let explains = finding.detail.is_some() || finding.hint.is_some();
            if !explains || finding.message.is_empty() {
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
    assert!(wrong.is_empty(), "PGSTEAD_BLESS=1 accepts these:\n{}", wrong.join("\n"));
}

#[test]
fn a_healthy_topology_has_no_finding() {
    for major in [15, 17] {
        assert_eq!(render(&judge(&format!("healthy-{major}"))), "healthy\na → b: healthy\nb → c: healthy\n");
    }
}

/// Every code that the judgement can say is said in a case. Codes are the literals of the source in kebab-case.
#[test]
fn every_code_fires_in_a_case() {
    let said: BTreeSet<String> = names()
        .iter()
        .flat_map(|name| judge(name).findings.into_iter().map(|finding| finding.code.to_owned()).collect::<Vec<_>>())
        .collect();
    let mut known = BTreeSet::from(["drift".to_owned(), "lag".to_owned()]);
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/check")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let is_code = |word: &&str| {
            word.contains('-') && word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
        };
        known.extend(text.split('"').filter(is_code).map(str::to_owned));
    }
    assert!(known.len() > 30, "{known:?}");
    let silent: Vec<_> = known.difference(&said).collect();
    assert!(silent.is_empty(), "no case says {silent:?}");
}

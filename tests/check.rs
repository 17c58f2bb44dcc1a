//! The judgement of `check` as cases: one folder each, what was seen and what `pgstead check` says about it.
//!
//! `inventory.yaml`, `observation.json` and `canaries.json` are text from real servers, kept by a live scenario with
//! `PGSTEAD_CAPTURE`. A case with a `patch.json` is another case with a few facts changed: `base` names that case, and
//! `observation`, `canaries`, `evidence` and `inventory` are merged into what it has (RFC 7396; a null takes a fact
//! away). Cases named `quiet-CODE…` come close to a code and do not fire it.
//!
//! To add a case, add a folder and run with `PGSTEAD_BLESS=1`; then read what it wrote.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod codes;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::path::PathBuf;

use pgstead::check::CheckReport;
use pgstead::check::Selection;
use pgstead::check::Verdict;
use pgstead::check::catalog::CHECKS;
use pgstead::check::catalog::CODES;
use pgstead::check::check;
use pgstead::judge::State;
use pgstead::role_change;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check/cases")
}

/// When the cases were looked at, unless one says otherwise.
const AT: &str = "2026-11-23T12:00:00Z";

/// What a case consists of.
struct Case {
    inventory: Value,
    observation: Value,
    /// With the canaries in it.
    evidence: Value,
}

fn load(name: &str) -> Case {
    let folder = root().join(name);
    let json = |file: &str| -> Option<Value> {
        let text = std::fs::read_to_string(folder.join(file)).ok()?;
        Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}/{file}: {error}")))
    };
    if let Some(patch) = json("patch.json") {
        let mut case = load(patch["base"].as_str().unwrap());
        merge(&mut case.inventory, &patch["inventory"]);
        merge(&mut case.observation, &patch["observation"]);
        merge(&mut case.evidence["canaries"], &patch["canaries"]);
        merge(&mut case.evidence, &patch["evidence"]);
        return case;
    }
    let text = std::fs::read_to_string(folder.join("inventory.yaml")).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut evidence = serde_json::json!({ "at": AT, "dialled": true });
    merge(&mut evidence, &json("evidence.json").unwrap_or_default());
    evidence["canaries"] = json("canaries.json").unwrap();
    let inventory: Value = serde_saphyr::from_str(&text).unwrap();
    let observation = of_this_version(&inventory, json("observation.json").unwrap());
    Case { inventory, observation, evidence }
}

/// What was captured from hosts has the start guard of that day; it is taken for the one of today.
fn of_this_version(inventory: &Value, mut observation: Value) -> Value {
    let (topology, _) = pgstead::inventory::read(&inventory.to_string(), "inventory.yaml").unwrap();
    let seen: pgstead::model::observation::Observation = serde_json::from_value(observation.clone()).unwrap();
    for name in topology.servers().map(|server| &server.name) {
        let Some(seen) = seen.server(name) else { continue };
        let files = &mut observation["servers"][name.as_str()]["known"]["files"];
        for (path, hash) in pgstead::plan::files::guard::current(&topology, name, seen) {
            let Some(before) = files[&path]["known"]["sha256"].as_str().map(str::to_owned) else { continue };
            files[&path]["known"]["sha256"] = Value::String(hash.clone());
            for manifest in files.as_object_mut().unwrap().values_mut() {
                if let Some(text) = manifest["known"]["content"].as_str() {
                    manifest["known"]["content"] = Value::String(text.replace(&before, &hash));
                }
            }
        }
    }
    observation
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
    judge_some(name, &Selection::default())
}

fn judge_some(name: &str, selection: &Selection) -> CheckReport {
    let Case { inventory, observation, evidence } = load(name);
    let (topology, _) = pgstead::inventory::read(&inventory.to_string(), "inventory.yaml")
        .unwrap_or_else(|problems| panic!("{name}: {problems:?}"));
    let observation = serde_json::from_value(observation).unwrap_or_else(|error| panic!("{name}: {error}"));
    let evidence = serde_json::from_value(evidence).unwrap_or_else(|error| panic!("{name}: {error}"));
    check(&topology, &observation, &evidence, selection)
}

fn render(report: &CheckReport) -> String {
    let word = |verdict: &pgstead::check::Verdict| format!("{verdict:?}").to_lowercase();
    let mut text = format!("{}\n", word(&report.verdict));
    for link in &report.links {
        let _ = writeln!(text, "{} → {}: {}", link.upstream, link.standby, word(&link.verdict));
    }
    for (finding, follows) in report.findings.iter().map(|finding| (&finding.diagnostic, &finding.follows)) {
        let severity = format!("{:?}", finding.severity).to_uppercase();
        let server = finding.server.as_deref().unwrap_or("-");
        let _ = writeln!(text, "\n{severity} [{}] {server}: {}", finding.code, finding.message);
        if let Some(cause) = follows {
            let _ = writeln!(text, "FOLLOWS FROM: [{}] {}", cause.code, cause.server.as_deref().unwrap_or("-"));
        }
        for (label, line) in [("DETAIL: ", &finding.detail), ("HINT: ", &finding.hint)] {
            if let Some(line) = line {
                let _ = writeln!(text, "{label}{line}");
            }
        }
    }
    if let Some(next) = report.next() {
        let _ = writeln!(text, "\nNEXT: {next}");
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
            let diagnostic = &finding.diagnostic;
            let explains = diagnostic.detail.is_some() || diagnostic.hint.is_some();
            if !explains || diagnostic.message.is_empty() || finding.check().is_empty() {
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

fn codes(name: &str) -> BTreeSet<&'static str> {
    judge(name).findings.iter().map(|finding| finding.diagnostic.code.as_str()).collect()
}

/// Every code of the catalog has a case that says it and one that comes close and does not.
#[test]
fn every_code_has_a_case_that_fires_it_and_one_that_keeps_it_quiet() {
    let names = names();
    let said: BTreeSet<&str> = names.iter().flat_map(|name| codes(name)).collect();
    let silent: Vec<_> = CODES.iter().map(|(code, _)| code.as_str()).filter(|code| !said.contains(code)).collect();
    assert!(silent.is_empty(), "no case says {silent:?}");
    let mut missing = Vec::new();
    for (code, _) in CODES {
        let quiet = ["quiet-", code.as_str()].concat();
        let is_its = |name: &&String| **name == quiet || name.starts_with(&[&quiet, "--"].concat());
        let its: Vec<&String> = names.iter().filter(is_its).collect();
        for name in &its {
            assert!(!codes(name).contains(code.as_str()), "{name} fires");
        }
        if its.is_empty() {
            missing.push(*code);
        }
    }
    assert!(missing.is_empty(), "no case comes close to {missing:?}");
}

/// A code is in the catalog, or nobody could ask for it and nobody knows its check.
#[test]
fn every_code_of_the_source_is_in_the_catalog() {
    let found = codes::told("check");
    assert!(found.len() > 80, "the search lost its words: {found:?}");
    let unknown: Vec<_> = found.iter().filter(|code| !CODES.iter().any(|(known, _)| known == *code)).collect();
    assert!(unknown.is_empty(), "src/check/catalog.rs lacks {unknown:?}");
}

/// What stands in the way of handing over from a to b, and what is only told.
fn in_the_way(case: &Case) -> Vec<String> {
    let (topology, _) = pgstead::inventory::read(&case.inventory.to_string(), "inventory.yaml").unwrap();
    let observation = serde_json::from_value(case.observation.clone()).unwrap();
    let evidence = serde_json::from_value(case.evidence.clone()).unwrap();
    let findings = check(&topology, &observation, &evidence, &role_change::selection(false)).findings;
    let state = State::of(&topology, &observation);
    let told = role_change::judge(findings, &state, &"a".parse().unwrap(), &"b".parse().unwrap());
    told.iter().map(|one| format!("{:?} {}", one.severity, one.code).to_lowercase()).collect()
}

/// Whatever is unhealthy stands in the way of a change of the primary, but for what that neither meets nor makes worse.
#[test]
fn what_stands_in_the_way_of_a_change_of_the_primary() {
    for (name, wanted) in [
        ("healthy-15", &[][..]),
        ("healthy-17", &[]),
        ("replay-paused-15", &["error replay-paused"]),
        ("archive-failing", &["error archive-failing"]),
        ("checksum-failures", &["error checksum-failures"]),
        ("dial-wrong-server", &["error dial-wrong-server"]),
        ("certificate-expiring", &["warning certificate-expiring"]),
        ("slot-inactive", &["warning slot-inactive"]),
    ] {
        let found = in_the_way(&load(name));
        assert!(wanted.iter().all(|one| found.contains(&(*one).to_owned())), "{name}: {found:?}");
        assert_eq!(
            found.iter().any(|one| one.starts_with("error")),
            wanted.iter().any(|one| one.starts_with("error")),
            "{name}: {found:?}"
        );
    }
    let b = |patch: Value| {
        let mut case = load("healthy-17");
        merge(&mut case.observation["servers"]["b"]["known"]["instance"]["known"], &patch);
        in_the_way(&case)
    };
    let delayed = |setting: &str| {
        serde_json::json!({ "settings": { "recovery_min_apply_delay":
            { "setting": setting, "unit": "ms", "context": "sighup", "sourcefile": null, "pending_restart": false } } })
    };
    assert_eq!(b(delayed("60000")), ["error successor-delayed"]);
    assert_eq!(b(delayed("0")), Vec::<String>::new());
    let a = |patch: &Value, of_b: &Value| {
        let mut case = load("healthy-17");
        merge(&mut case.observation["servers"]["a"]["known"]["instance"]["known"], patch);
        merge(&mut case.observation["servers"]["b"]["known"]["instance"]["known"], of_b);
        in_the_way(&case)
    };
    // Thirteen megabytes, and eleven.
    let at = |server: &str, key: &str, more: u64| {
        let case = load("healthy-17");
        let text = &case.observation["servers"][server]["known"]["instance"]["known"]["positions"][key];
        let lsn: pgstead::model::lsn::Lsn = serde_json::from_value(text.clone()).unwrap();
        serde_json::to_value(pgstead::model::lsn::Lsn(lsn.0 + more)).unwrap()
    };
    let current = |more: u64| serde_json::json!({ "positions": { "current": at("a", "current", more) } });
    let nothing = serde_json::json!({});
    assert_eq!(a(&current(13 << 20), &nothing), ["error successor-behind"]);
    assert_eq!(a(&current(11 << 20), &nothing), Vec::<String>::new());
    let sender = |name: &str| {
        let case = load("healthy-17");
        let mut sender = case.observation["servers"]["a"]["known"]["instance"]["known"]["senders"][0].clone();
        sender["application_name"] = name.into();
        serde_json::json!({ "positions": { "current": at("a", "current", 13 << 20) }, "senders": [sender] })
    };
    let caught_up = serde_json::json!({ "positions": { "replay": at("a", "current", 13 << 20) } });
    assert!(a(&sender("d"), &caught_up).contains(&"error shutdown-held-up".to_owned()));
    assert_eq!(a(&sender("b"), &caught_up), Vec::<String>::new());
    let slot = |synced: bool| {
        serde_json::json!({ "slots": { "sub": { "slot_type": "logical", "active": true, "active_pid": 7,
            "wal_status": "reserved", "restart_lsn": "0/3000000", "safe_wal_size": null, "synced": synced } } })
    };
    assert!(a(&slot(false), &nothing).contains(&"warning logical-slots-left".to_owned()));
    assert!(!a(&slot(false), &slot(true)).contains(&"warning logical-slots-left".to_owned()));
}

#[test]
fn only_what_was_asked_for_is_judged_and_the_rest_says_so() {
    let only =
        |words: &[&str]| Selection { only: words.iter().map(|w| (*w).to_owned()).collect(), ..Selection::default() };
    let report = judge_some("lag-error", &only(&["L9", "slot-lost"]));
    assert_eq!(report.verdict, Verdict::Healthy, "the lag was not asked for: {:?}", report.findings);
    assert_eq!(report.checks.len(), CHECKS.len());
    for entry in &report.checks {
        let asked = ["L1", "L9", "L10"].contains(&entry.id);
        assert_eq!(entry.verdict.is_some(), asked, "{entry:?}");
        assert_eq!(entry.skipped.is_none(), asked, "{entry:?}");
    }
    assert_eq!(judge_some("lag-error", &only(&["lag"])).verdict, Verdict::Unhealthy);
    // Who could not be looked at is told whatever was asked for, and nothing is called healthy.
    let report = judge_some("standby-unreachable-15", &only(&["L9"]));
    assert_eq!(report.verdict, Verdict::Unknown);
    let of = |id: &str| report.checks.iter().find(|entry| entry.id == id).unwrap().verdict;
    assert_eq!((of("L1"), of("L9")), (Some(Verdict::Unknown), Some(Verdict::Unknown)));
}

#[test]
fn what_was_left_out_is_told() {
    let of = |selection: &Selection, id: &str| {
        let report = judge_some("healthy-17", selection);
        let entry = report.checks.into_iter().find(|entry| entry.id == id).unwrap();
        (entry.verdict, entry.skipped.unwrap_or_default())
    };
    let quick = Selection { quick: true, ..Selection::default() };
    assert_eq!(of(&Selection::default(), "L8"), (Some(Verdict::Healthy), ""));
    assert!(of(&quick, "L8").1.contains("--quick"));
    assert!(of(&quick, "L12").1.contains("--deep"));
    assert_eq!(of(&quick, "L19"), (None, "replication is asynchronous"));
    assert_eq!(of(&quick, "L22").0, None);
}

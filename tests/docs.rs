//! The documents say what the program says: every code, every exit code, every command, the smallest inventory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod codes;

use std::collections::BTreeSet;
use std::path::Path;

use pgstead::diagnostic::Code;
use pgstead::diagnostic::Severity;
use pgstead::lab::BackendKind;
use pgstead::lab::FaultKind;
use pgstead::plan::files::footprint;
use strum::IntoEnumIterator;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Returns the text from a heading to the next of its rank.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let start = document.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading:?}"));
    let body = &document[start + heading.len() + 2..];
    &body[..body.find("\n## ").unwrap_or(body.len())]
}

/// Returns the codes in the first column of a section's table.
fn listed(document: &str, heading: &str) -> BTreeSet<String> {
    let rows = section(document, heading).lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(str::to_owned).collect()
}

/// Returns the codes that a part of the program tells.
fn codes(place: &str) -> BTreeSet<String> {
    codes::told(place).iter().map(Code::to_string).collect()
}

#[track_caller]
fn same(heading: &str, listed: &BTreeSet<String>, used: &BTreeSet<String>) {
    let missing: Vec<_> = used.difference(listed).collect();
    let stale: Vec<_> = listed.difference(used).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "{heading:?}: rows are missing for {missing:?}; no source knows {stale:?}"
    );
}

#[test]
fn every_code_has_a_row() {
    let document = read("docs/operations.md");
    let check = codes("check");
    assert!(check.len() > 40 && check.contains("drift"), "the search lost its words: {check:?}");
    same("## Findings of check", &listed(&document, "## Findings of check"), &check);

    same("## Findings of preflight", &listed(&document, "## Findings of preflight"), &codes("preflight"));

    let (refusals, failures) = (listed(&document, "## Refusals"), listed(&document, "## Failures of a step"));
    let used: BTreeSet<String> =
        ["plan", "role_change", "apply", "prove", "remote", "postgres", "state"].into_iter().flat_map(codes).collect();
    same("## Refusals and ## Failures of a step", &refusals.union(&failures).cloned().collect(), &used);
}

/// What is refused of a primary to be adopted, and what is told of it: the page lists what the code says, and nothing else.
#[test]
fn the_page_about_adoption_lists_what_is_judged() {
    let document = read("docs/adoption.md");
    let (refused, told) = (listed(&document, "## What is refused"), listed(&document, "## What is told"));
    let both: Vec<&String> = refused.intersection(&told).collect();
    assert!(both.is_empty(), "refused and told: {both:?}");
    const JUDGE: [&str; 9] = [
        "adoption/mod",
        "files/brought",
        "adoption/elsewhere",
        "adoption/encryption",
        "adoption/lost",
        "adoption/places",
        "adoption/standby",
        "files/kept",
        "survey/history",
    ];
    let judged = JUDGE.iter().flat_map(|module| codes(&format!("plan/{module}.rs")));
    same("the page about adoption", &refused.union(&told).cloned().collect(), &judged.collect());
    let sources = JUDGE.map(|module| read(&format!("src/plan/{module}.rs")));
    let text = sources.concat().split_whitespace().collect::<String>();
    let refuses = |code: &str| {
        let code: Code = code.parse().unwrap();
        text.contains(&format!("Diagnostic::error(Code::{code:?},"))
    };
    let silent: Vec<&String> = refused.iter().filter(|code| !refuses(code)).collect();
    assert!(silent.is_empty(), "refuse nothing: {silent:?}");
    let loud: Vec<&String> = told.iter().filter(|code| refuses(code)).collect();
    assert!(loud.is_empty(), "refuse: {loud:?}");
}

#[test]
fn every_code_of_a_lab_has_a_row() {
    let document = read("docs/operations.md");
    let used = codes("lab");
    same("## Refusals of labs", &listed(&document, "## Refusals of labs"), &used);
}

#[test]
fn every_finding_stands_with_its_check() {
    let document = read("docs/operations.md");
    let rows = section(&document, "## Findings of check");
    for (code, check) in pgstead::check::catalog::CODES {
        let row = rows.lines().find(|line| line.starts_with(&format!("| `{code}` |")));
        let columns: Vec<&str> = row.unwrap_or_else(|| panic!("no row of {code}")).split(" | ").collect();
        assert_eq!((columns.len(), columns[1]), (5, *check), "{code}");
    }
}

#[test]
fn what_labs_can_break_is_what_the_backends_say() {
    let document = read("docs/operations.md");
    let labs = section(&document, "## Labs");
    let kinds = BackendKind::ALL.map(|kind| format!("`{kind}`"));
    assert!(labs.contains(&format!("| fault | is | {} |", kinds.join(" | "))), "{labs}");
    for fault in FaultKind::ALL {
        let row = labs.lines().find(|line| line.starts_with(&format!("| `{} ", fault.word()))).unwrap();
        let said: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").skip(2).collect();
        let can = BackendKind::ALL.map(|kind| if kind.backend().cannot(fault).is_none() { "yes" } else { "no" });
        assert_eq!(said, can, "{row}");
    }
}

#[test]
fn what_a_release_takes_and_leaves_is_the_list_of_the_program() {
    let document = read("docs/operations.md");
    let rows: Vec<String> = section(&document, "## Leaving pgstead")
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | ").map(|(_, rest)| rest.to_owned()))
        .skip(1)
        .take(footprint::LIST.len())
        .collect();
    let listed: Vec<String> =
        footprint::LIST.iter().map(|left| format!("{} | {} |", left.what, left.fate.words())).collect();
    assert_eq!(rows, listed);
}

#[test]
fn exit_codes_are_those_of_the_program() {
    let rows: Vec<String> =
        pgstead::cli::exit::TABLE.iter().map(|(exit, meaning)| format!("| {} | {meaning} |", exit.0)).collect();
    for document in ["docs/operations.md", "README.md"] {
        let text = read(document);
        for row in &rows {
            assert!(text.contains(row), "{document} lacks: {row}");
        }
    }
}

/// Returns the fenced blocks of a document with their first words (the language).
fn blocks(document: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = document.split("```").collect();
    parts.iter().skip(1).step_by(2).map(|part| part.split_once('\n').unwrap()).collect()
}

#[test]
fn every_command_that_is_shown_exists() {
    let command = pgstead::cli::command();
    let mut shown = 0;
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/operations.md", "docs/demo.txt"] {
        let text = read(document);
        // Command lines stand in code spans, and begin lines of blocks.
        let spans = text.match_indices("`pgstead ").map(|(at, _)| &text[at + 1..]);
        let of_blocks = blocks(&text).into_iter().flat_map(|(_, block)| block.lines());
        let plain = if document.ends_with(".txt") { text.as_str() } else { "" };
        let lines = of_blocks.chain(plain.lines()).map(|line| line.strip_prefix("$ ").unwrap_or(line));
        for line in spans.chain(lines.filter(|line| line.starts_with("pgstead "))) {
            let line = line.split(['\n', '`', '|', '#', '&']).next().unwrap();
            let words = line.split_whitespace().map(|word| word.trim_end_matches([',', '.']));
            // A place-holder stands for something that is there.
            let words: Vec<String> = words
                .map(|word| if word == "COMMAND" { "plan" } else { word })
                .filter(|word| !word.starts_with('['))
                .map(str::to_owned)
                .collect();
            if words.len() < 2 {
                continue;
            }
            shown += 1;
            if let Err(error) = command.clone().try_get_matches_from(&words) {
                use clap::error::ErrorKind::*;
                let fine = matches!(error.kind(), DisplayHelp | DisplayVersion | MissingSubcommand)
                    || matches!(error.kind(), DisplayHelpOnMissingArgumentOrSubcommand);
                assert!(fine, "{document} shows {words:?}, which the program refuses: {error}");
            }
        }
    }
    assert!(shown > 20, "only {shown} commands were found");
}

#[test]
fn the_smallest_inventory_of_the_readme_is_valid() {
    let readme = read("README.md");
    let (_, yaml) = *blocks(&readme).iter().find(|(language, _)| *language == "yaml").unwrap();
    assert!(yaml.lines().count() <= 10, "it is said to have ten lines");
    let (topology, warnings) = pgstead::inventory::read(yaml, "pgstead.yaml").unwrap();
    assert_eq!(topology.servers().count(), 3);
    assert!(warnings.iter().all(|warning| warning.severity == Severity::Note), "{warnings:?}");
}

#[test]
fn the_transcript_of_the_readme_is_the_demos() {
    let (readme, demo) = (read("README.md"), read("docs/demo.txt"));
    let (_, transcript) = *blocks(&readme).iter().find(|(language, _)| *language == "console").unwrap();
    // Every line of it stands in the demo, in the same order; what was left out is marked.
    let mut rest = demo.lines();
    for line in transcript.lines().filter(|line| !line.is_empty() && *line != "…") {
        assert!(rest.any(|other| other == line), "docs/demo.txt has no such line, or not in this order: {line}");
    }
}

/// Every hazard's tests exist, and only a row that says that nothing is touched has none.
#[test]
fn every_hazard_names_tests_that_are_there() {
    let document = read("docs/hazards.md");
    let rows: Vec<&str> = document.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| #")).collect();
    assert!(rows.len() > 30, "only {} rows", rows.len());
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let tests: Vec<&str> = cells[3].split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty() || cells[2].contains("not touched"), "{row}");
        for test in tests {
            assert!(is_there(test), "there is no {test}: {row}");
        }
    }
}

/// Says whether a test of that name exists: `FILE::NAME`, `live/FILE::NAME`, or `KIND/CASE`.
fn is_there(test: &str) -> bool {
    if let Some((file, name)) = test.split_once("::") {
        return read(&format!("tests/{file}.rs")).contains(&format!("\nfn {name}()"));
    }
    let (kind, case) = test.split_once('/').unwrap();
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/{kind}/cases/{case}")).is_dir()
}

#[test]
fn every_test_that_the_reliability_page_names_is_there() {
    let document = read("docs/reliability.md");
    let tests: Vec<&str> = document.split('`').filter(|word| word.starts_with("live/")).collect();
    assert!(tests.len() > 20, "only {} tests", tests.len());
    for test in tests {
        assert!(is_there(test), "there is no {test}");
    }
    // What is promised is what is judged.
    let judged = read("tests/live/invariants.rs");
    for number in 1..=8 {
        let name = format!("I{number}");
        assert!(document.contains(&format!("| **{name}** |")), "{name} is not promised");
        assert!(judged.contains(&format!("/// {name}: ")), "{name} is not judged");
    }
}

/// A code that nothing tells is one that was forgotten when its last place went.
#[test]
fn every_code_is_told_somewhere() {
    let (all, named): (BTreeSet<Code>, _) = (Code::iter().collect(), codes::found("", |_| true));
    let silent: Vec<_> = all.difference(&named).collect();
    assert!(silent.is_empty(), "src/diagnostic/code.rs has {silent:?}, and no source names them");
}

/// A newcomer's walks stay true: every file is there, and they are as long as they say.
#[test]
fn the_walks_lead_through_files_that_are_there() {
    let document = read("ARCHITECTURE.md");
    let walks: Vec<&str> = section(&document, "## Three walks")
        .split("\n\n")
        .map(str::trim)
        .filter(|walk| walk.starts_with("**"))
        .collect();
    assert_eq!(walks.len(), 3);
    for walk in walks {
        let files = walk.split('`').skip(1).step_by(2).filter(|word| word.contains('/'));
        for file in files {
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file).exists(), "{file} is not there");
        }
        let said = [("Seven files:", 7), ("Nine files:", 9), ("Ten files:", 10)].into_iter();
        let said = said.filter(|(words, _)| walk.contains(words)).map(|(_, count)| count);
        assert_eq!(said.collect::<Vec<_>>(), [walk.matches('→').count() + 1], "{walk}");
    }
}

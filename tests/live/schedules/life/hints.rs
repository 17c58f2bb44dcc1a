//! The next commands that a refusal names, as whoever reads it would give them.

use serde_json::Value;

use crate::scenario::Ran;

/// The commands that change something.
const VERBS: [&str; 4] = ["bootstrap", "reseed", "switchover", "failover"];

/// Returns for each diagnostic the commands that its hint names.
pub(super) fn next(ran: &Ran) -> Vec<Vec<Vec<String>>> {
    let document: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    let of_list = ["refusals", "errors"].iter().filter_map(|key| document[*key].as_array()).flatten();
    let hints = of_list.filter_map(|told| told["hint"].as_str());
    let mut all: Vec<Vec<Vec<String>>> = hints.map(commands).filter(|commands| !commands.is_empty()).collect();
    all.dedup();
    all
}

/// What a run that did not succeed said, a line each.
pub(super) fn told(ran: &Ran) -> Vec<String> {
    let document: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    let of_list = ["refusals", "errors"].iter().filter_map(|key| document[*key].as_array()).flatten();
    let all = of_list.chain(document.get("error")).map(|told| {
        let words = ["code", "message", "detail"].map(|key| told[key].as_str().unwrap_or_default());
        words.join(": ")
    });
    // The first of several stands in a place of its own, too.
    let mut all: Vec<String> = all.collect();
    all.sort();
    all.dedup();
    all
}

/// Finds the commands in a hint. One that only looks is given in earnest: its reader has looked.
fn commands(hint: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for rest in hint.split("pgstead ").skip(1) {
        let mut words: Vec<String> = Vec::new();
        for word in rest.split(' ') {
            let bare = word.trim_end_matches(['.', ',', ':', ';', '"', ')']);
            let is_word = !bare.is_empty() && bare.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            let is_first = words.is_empty();
            // A name is one letter here: what comes else is the rest of the sentence.
            let is_known = is_first
                || bare.len() == 1
                || bare.starts_with("--")
                || words.last().is_some_and(|last| last == "--method");
            if !is_word || !is_known {
                break;
            }
            if bare != "--dry-run" {
                words.push(bare.to_owned());
            }
            if bare.len() < word.len() {
                break;
            }
        }
        let is_whole = words.first().is_some_and(|verb| VERBS.contains(&verb.as_str()))
            && (words[0] == "bootstrap" || words.len() > 1)
            && words.last().is_some_and(|last| last != "--to");
        if is_whole && !found.contains(&words) {
            found.push(words);
        }
    }
    found
}

#[test]
fn a_hint_is_read_as_a_person_would() {
    for (hint, wanted) in [
        ("First: pgstead bootstrap. A change of the primary carries no other change along.", &["bootstrap"][..]),
        (
            "Finish it: pgstead switchover --to b. To leave it: pgstead switchover --abort",
            &["switchover --to b", "switchover --abort"],
        ),
        ("Look next: pgstead reseed b c --dry-run", &["reseed b c"]),
        ("Mount it. If the data are gone: pgstead reseed c --method basebackup", &["reseed c --method basebackup"]),
        ("finish it: pgstead switchover --to SERVER. pgstead status shows what runs.", &[]),
        ("It follows when it is back: pgstead bootstrap, or pgstead reseed.", &["bootstrap"]),
        ("\"pgstead bootstrap\" creates it", &["bootstrap"]),
        ("Run it again with --allow-restart.", &[]),
    ] {
        let found: Vec<String> = commands(hint).iter().map(|words| words.join(" ")).collect();
        assert_eq!(found, wanted, "{hint}");
    }
}

//! What `judge` says of servers, and nobody else derives from what was seen.

use crate::rules::Breach;
use crate::rules::at;
use crate::source::Source;

/// The modules that decide or show what a server is. They ask `judge`, which alone derives it from what was seen.
const ASK_THE_STATE: &[&str] = &["plan", "check", "preflight", "role_change", "drill", "ui", "cli"];

/// Facts of an observation that mean nothing alone.
const JUDGED_FACTS: &[&str] = &[
    "in_recovery",
    "standby_signal",
    "recovery_signal",
    "newest_history",
    "minimum_recovery_end",
    "minimum_recovery_timeline",
    "replayed_timeline",
    "wal_timeline",
    "sender_host",
    "sender_port",
    "pending_restart",
    "stale_files",
];

/// Looks at an instance and at a data directory: whether one answers, or is there, `judge` says for all (`ServerState::answer`,
/// `data`). `preflight` looks at machines before there is either, and asks for itself.
const JUDGED_LOOKS: &[[&str; 4]] = &[
    [".", "instance", ".", "known"],
    [".", "instance", ".", "look"],
    [".", "instance", ".", "is_absent"],
    [".", "instance", ".", "unreadable"],
    [".", "data_directory", ".", "known"],
    [".", "data_directory", ".", "look"],
    [".", "data_directory", ".", "is_absent"],
    [".", "data_directory", ".", "unreadable"],
];

/// Words by which PostgreSQL says what an instance or a connection does; each has a type or a question in `model` or `judge`.
const JUDGED_WORDS: &[&str] = &[
    "starting up",
    "shut down",
    "shut down in recovery",
    "shutting down",
    "in crash recovery",
    "in archive recovery",
    "in production",
    "streaming",
];

/// Finds where a fact is judged again.
pub(crate) fn again(sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for source in sources.iter().filter(|source| ASK_THE_STATE.contains(&source.module())) {
        for fact in JUDGED_FACTS {
            let written = source.lines_with(&[fact, "("]);
            let read = source.lines_with(&[".", fact]);
            let read = read.into_iter().filter(|line| !written.contains(line)).collect();
            breaches.extend(at(source, read, fact));
        }
        for look in JUDGED_LOOKS.iter().filter(|_| source.module() != "preflight") {
            breaches.extend(at(source, source.lines_with(look), look[1]));
        }
        for path in [["ClusterState", ":", ":", "from"], ["RoleFile", ":", ":", "parse"]] {
            breaches.extend(at(source, source.lines_with(&path), path[0]));
        }
        let role_file = (0..source.words.len()).filter(|index| source.reads(*index, &["own", "("]));
        let role_file =
            role_file.filter(|index| source.words.get(index + 2).is_some_and(|word| word.text == "\"role\""));
        breaches.extend(at(source, role_file.map(|index| source.words[index].line).collect(), "role file"));
        let is_state = |text: &str| JUDGED_WORDS.contains(&text.trim_matches('"'));
        let words = if source.path == "ui/samples.rs" { Vec::new() } else { source.lines_quoting(is_state) };
        breaches.extend(at(source, words, "a state's word"));
    }
    breaches
}

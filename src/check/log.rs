//! What the lines of a standby's log say about its stream, and whether that may pass by itself. It reads no file.

/// Whether what a standby complains of may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    /// Only when somebody changes something: a login is refused, WAL is gone, a slot is missing.
    Not,
    /// Its upstream does not answer at the address that it dials: it may be starting.
    WhenReached,
    /// By itself: its upstream starts up, or an old walsender holds the slot.
    ByItself,
}

/// What a standby complains of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The newest message with its DETAIL, in one line.
    pub message: String,
    /// How often it came, as far as the text goes back.
    pub times: usize,
    /// Whether it may pass.
    pub passes: Passes,
}

/// How long a quoted message may be.
const MESSAGE: usize = 400;

/// How many lines of a log are shown where none of them is a complaint.
const LINES: usize = 2;

/// What begins a message that ends something. PostgreSQL writes these words in English where `lc_messages` is C or English.
const SEVERITIES: [&str; 3] = ["PANIC:", "FATAL:", "ERROR:"];

/// Messages of the WAL receiver and of the startup process (walreceiver.c, libpqwalreceiver.c, xlogrecovery.c).
const OF_STREAM: [&str; 14] = [
    "could not connect to the primary server",
    "could not receive data from WAL stream",
    "could not start WAL streaming",
    "could not receive database system identifier",
    "could not receive timeline history file",
    "could not identify system",
    "database system identifier differs",
    "highest timeline",
    "primary server did not",
    "terminating walreceiver",
    "is not a child of",
    "recovery aborted because of",
    "recovery ended before configured recovery target",
    "could not locate a valid checkpoint record",
];

/// What passes by itself: the upstream starts, stops or recovers, an old walsender lingers, another standby leaves a place.
const PASSING: [&str; 12] = [
    "is starting up",
    "is shutting down",
    "is not yet accepting connections",
    "is in recovery mode",
    "is active for PID",
    "ahead of the WAL flush position",
    "too many clients",
    "remaining connection slots",
    "exceeds \"max_wal_senders\"",
    "exceeds max_wal_senders",
    "terminating walreceiver",
    "due to administrator command",
];

/// What is said where nobody answers, or a connection breaks.
const UNREACHED: [&str; 8] = [
    "Connection refused",
    "timeout expired",
    "timed out",
    "No route to host",
    "Network is unreachable",
    "Temporary failure in name resolution",
    "closed the connection unexpectedly",
    "Connection reset",
];

/// Returns the messages of a text, each with the lines that continue it and its DETAIL, from the severity on.
fn messages(text: &str) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    let mut continues = false;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix('\t') {
            if continues && let Some(last) = messages.last_mut() {
                last.push(' ');
                last.push_str(rest.trim());
            }
            continue;
        }
        let begin = SEVERITIES.iter().filter_map(|severity| line.find(severity)).min();
        continues = true;
        match (begin, line.find("DETAIL:"), messages.last_mut()) {
            (Some(begin), _, _) => messages.push(line[begin..].trim_end().to_owned()),
            (None, Some(detail), Some(last)) => {
                last.push(' ');
                last.push_str(line[detail..].trim_end());
            }
            _ => continues = false,
        }
    }
    messages
}

/// Returns what a standby's log says that keeps it from streaming: the newest complaint.
pub fn complaint(text: &str) -> Option<Complaint> {
    let of_stream = |message: &str| OF_STREAM.iter().find(|words| message.contains(**words)).copied();
    let messages = messages(text);
    let (newest, words) = messages.iter().rev().find_map(|message| Some((message, of_stream(message)?)))?;
    let times = messages.iter().filter(|message| of_stream(message) == Some(words)).count();
    let says = |known: &[&str]| known.iter().any(|words| newest.contains(words));
    let passes = match (says(&PASSING), says(&UNREACHED)) {
        (true, _) => Passes::ByItself,
        (_, true) => Passes::WhenReached,
        _ => Passes::Not,
    };
    Some(Complaint { message: bounded(newest), times, passes })
}

/// Says whether a log ends with the end of its instance.
pub fn has_ended(text: &str) -> bool {
    text.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .is_some_and(|line| line.contains("database system is shut down"))
}

/// Returns what an instance that has ended said last: why, where its log has that, and otherwise its last lines.
pub fn last_words(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    // Only the end counts: an error of last week has nothing to do with it.
    let end = &lines[lines.len().saturating_sub(12)..];
    let ends = |message: &String| message.starts_with("FATAL:") || message.starts_with("PANIC:");
    // Whoever knocked while it started up or shut down was told so, and is no reason.
    let of_clients = ["the database system is", "terminating connection", "terminating walreceiver"];
    let why = messages(&end.join("\n"))
        .into_iter()
        .rev()
        .filter(ends)
        .find(|message| !of_clients.iter().any(|words| message.contains(words)));
    let last = || end[end.len().saturating_sub(LINES)..].join(" / ");
    why.or_else(|| (!end.is_empty()).then(last)).map(|said| bounded(&said))
}

fn bounded(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(MESSAGE) {
        Some((end, _)) => [&text[..end], "…"].concat(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_standby_from_streaming() {
        let of = |said: &str| complaint(said).map(|complaint| (complaint.times, complaint.passes));
        for (said, expected) in [
            ("LOG:  started streaming WAL from primary at 0/3000000 on timeline 1", None),
            ("FATAL:  role \"app\" does not exist", None),
            (
                "2026-11-30 09:00:00.000 UTC [7] FATAL:  could not connect to the primary server: connection to server at \"10.0.0.9\", port 5432 failed: FATAL:  password authentication failed for user \"replicator\"\n\
                 2026-11-30 09:00:00.500 UTC [8] FATAL:  streaming replication receiver \"b\" could not connect to the primary server: connection to server at \"10.0.0.9\", port 5432 failed: FATAL:  password authentication failed for user \"replicator\"\n",
                Some((2, Passes::Not)),
            ),
            (
                "x FATAL:  could not connect to the primary server: connection to server at \"10.0.0.9\", port 5432 failed: Connection refused\n\t\tIs the server running on that host and accepting TCP/IP connections?\n",
                Some((1, Passes::WhenReached)),
            ),
            (
                "x FATAL:  could not start WAL streaming: ERROR:  replication slot \"b\" is active for PID 12\n",
                Some((1, Passes::ByItself)),
            ),
            (
                "x FATAL:  could not start WAL streaming: ERROR:  replication slot \"b\" does not exist\n",
                Some((1, Passes::Not)),
            ),
            (
                "x FATAL:  could not receive data from WAL stream: ERROR:  requested WAL segment 000000010000000000000003 has already been removed\n",
                Some((1, Passes::Not)),
            ),
            (
                "x FATAL:  could not connect to the primary server: could not translate host name \"old.example\" to address: Name or service not known\n",
                Some((1, Passes::Not)),
            ),
            (
                "x FATAL:  could not connect to the primary server: FATAL:  the database system is starting up\n",
                Some((1, Passes::ByItself)),
            ),
        ] {
            assert_eq!(of(said), expected, "{said}");
        }
        let differs = "x FATAL:  database system identifier differs between the primary and standby\nx DETAIL:  The primary's identifier is 7, the standby's identifier is 8.\nx LOG:  waiting";
        assert_eq!(
            complaint(differs).unwrap().message,
            "FATAL: database system identifier differs between the primary and standby DETAIL: The primary's identifier is 7, the standby's identifier is 8."
        );
        let long = ["FATAL:  could not connect to the primary server: ", &"ä".repeat(900)].concat();
        assert!(complaint(&long).unwrap().message.chars().count() <= MESSAGE + 1);
    }

    #[test]
    fn what_an_instance_said_last() {
        assert_eq!(last_words("\n"), None);
        let stopped = "x FATAL:  terminating walreceiver process due to administrator command\nx LOG:  shutting down\nx LOG:  database system is shut down\n";
        assert_eq!(last_words(stopped).unwrap(), "x LOG: shutting down / x LOG: database system is shut down");
        let aborted = "x FATAL:  recovery aborted because of insufficient parameter settings\nx DETAIL:  max_connections = 50 is a lower setting than on the primary server, where its value was 100.\nx HINT:  You can restart\nx LOG:  startup process (PID 9) exited with exit code 1\nx LOG:  database system is shut down\n";
        assert!(
            has_ended(aborted)
                && has_ended(stopped)
                && !has_ended(&[stopped, "x LOG:  starting PostgreSQL\n"].concat())
        );
        assert!(last_words(aborted).unwrap().starts_with(
            "FATAL: recovery aborted because of insufficient parameter settings DETAIL: max_connections = 50"
        ));
    }
}

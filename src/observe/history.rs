//! Reads the WAL of joining servers and of their upstreams, where a plan must compare them: one more round trip to just
//! those servers. It has no way to change anything; what the answers mean is judged by `plan/history.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;

use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::wal::{WalComparison, WalQuestion, WalSeen, history_file};
use crate::observe::records::Records;
use crate::remote::Host;

/// How long that may take: it reads files of any size.
const LIMIT: Duration = Duration::from_secs(60);

/// The text of the script.
pub const SCRIPT: &str = include_str!("history.sh");

/// Asks all servers at once what must be compared. The answers become part of the observation.
pub async fn compare_histories<H: Host>(
    questions: Vec<WalQuestion>,
    hosts: &BTreeMap<ServerName, Result<H, String>>,
    observation: &mut Observation,
) {
    let asked = &*observation;
    let comparisons = join_all(questions.into_iter().map(async |question| {
        let (joining, upstream) = futures_util::future::join(
            ask(&question, &question.joining, hosts, asked),
            ask(&question, &question.upstream, hosts, asked),
        )
        .await;
        (question.joining.clone(), WalComparison { question, joining, upstream })
    }))
    .await;
    observation.histories.extend(comparisons);
}

async fn ask<H: Host>(
    question: &WalQuestion,
    server: &ServerName,
    hosts: &BTreeMap<ServerName, Result<H, String>>,
    observation: &Observation,
) -> Observed<WalSeen> {
    let host = match hosts.get(server) {
        Some(Ok(host)) => host,
        Some(Err(why)) => return Observed::Unreadable(why.clone()),
        None => return Observed::Unreadable("there is no connection to it".to_owned()),
    };
    let Some(layout) = observation.server(server).and_then(|seen| seen.layout.known()) else {
        return Observed::Unreadable("its layout is not known".to_owned());
    };
    let place = [layout.os_user.clone(), layout.data_directory.clone()];
    match host.probe_within(LIMIT, SCRIPT, &[&place[..], &arguments(question)].concat()).await {
        Err(error) => Observed::Unreadable(error.to_string()),
        Ok(output) => match Records::parse(&output.stdout) {
            Ok(records) => Observed::Known(parse(question, &records)),
            Err(error) => Observed::Unreadable(
                [&error.to_string(), ": ", String::from_utf8_lossy(&output.stderr).trim()].concat(),
            ),
        },
    }
}

/// Returns the script's words for a question.
pub fn arguments(question: &WalQuestion) -> Vec<String> {
    let mut words = Vec::new();
    for timeline in question.timelines() {
        words.extend(["history".to_owned(), timeline.to_string(), history_file(timeline)]);
    }
    let (last, bytes) = question.last();
    let earlier = last.previous().map(|segment| ("earlier", segment, segment.bytes));
    for (label, segment, bytes) in [Some(("last", last, bytes)), earlier].into_iter().flatten() {
        for file in question.files(segment) {
            words.extend(["hash".to_owned(), label.to_owned(), bytes.to_string(), file]);
        }
    }
    words
}

fn parse(question: &WalQuestion, records: &Records) -> WalSeen {
    let history = |timeline: u32| (timeline, records.get(&["history.", &timeline.to_string()].concat()));
    WalSeen {
        histories: question.timelines().into_iter().map(history).collect(),
        last: hashes(records, "hash.last."),
        earlier: hashes(records, "hash.earlier."),
    }
}

/// Returns the hashes of the files that are there. One that is there and could not be read may be the one that counts.
fn hashes(records: &Records, prefix: &str) -> Observed<BTreeMap<String, String>> {
    let mut known = BTreeMap::new();
    let mut unreadable = None;
    for (file, value) in records.with_prefix(prefix) {
        match value {
            Observed::Known(hash) if hash.len() == 64 => drop(known.insert(file.to_owned(), hash.clone())),
            Observed::Known(other) => unreadable = Some(other.clone()),
            Observed::Unreadable(why) => unreadable = Some(why.clone()),
            Observed::Absent | Observed::NotAsked => {}
        }
    }
    match unreadable {
        Some(why) if known.is_empty() => Observed::Unreadable(why),
        _ if known.is_empty() => Observed::Absent,
        _ => Observed::Known(known),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::model::lsn::Lsn;

    fn run(data: &std::path::Path, question: &WalQuestion) -> WalSeen {
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        let output = Command::new("sh")
            .args(["-c", SCRIPT, "pgstead-probe", user.trim()])
            .arg(data)
            .args(arguments(question))
            .output()
            .unwrap();
        parse(question, &Records::parse(&output.stdout).unwrap())
    }

    /// The script is run for real, on files that look like WAL.
    #[test]
    fn prefixes_and_whole_segments_are_hashed() {
        let data = tempfile::tempdir().unwrap();
        let wal = data.path().join("pg_wal");
        std::fs::create_dir(&wal).unwrap();
        let name = |text: &str| text.parse().unwrap();
        let question = WalQuestion {
            joining: name("b"),
            upstream: name("a"),
            timeline: 1,
            end: Lsn(5 * 1024 + 3),
            upstream_timeline: 2,
            segment_bytes: 1024,
        };
        let nothing = run(data.path(), &question);
        assert_eq!((nothing.last, nothing.earlier), (Observed::Absent, Observed::Absent));
        assert_eq!(nothing.histories[&2], Observed::Absent);

        let (last, _) = question.last();
        let earlier = last.previous().unwrap();
        std::fs::write(wal.join(last.file(1)), "abcdef".repeat(200)).unwrap();
        std::fs::write(wal.join(earlier.file(2)), "x".repeat(1024)).unwrap();
        std::fs::write(wal.join("00000002.history"), "1\t0/1403\twhy\n").unwrap();
        let seen = run(data.path(), &question);
        let only = |file: String, text: &str| {
            Observed::Known(BTreeMap::from([(file, crate::plan::files::hash::sha256(text))]))
        };
        assert_eq!(seen.last, only(last.file(1), "abc"));
        assert_eq!(seen.earlier, only(earlier.file(2), &"x".repeat(1024)));
        assert_eq!(seen.histories[&2], Observed::Known("1\t0/1403\twhy".to_owned()));

        // A file that is too short does not hold what was asked about.
        std::fs::write(wal.join(last.file(1)), "ab").unwrap();
        assert_eq!(run(data.path(), &question).last, Observed::Absent);

        // Nobody may look: that is not the same as "is not there".
        std::fs::remove_dir_all(&wal).unwrap();
        assert!(run(data.path(), &question).last.unreadable().is_some_and(|why| why.contains("pg_wal")));
    }
}

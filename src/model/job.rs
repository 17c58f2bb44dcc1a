//! A long command that runs detached on a server: what its record says, and how it stands.
//!
//! Words only. What follows from a job is for `plan/`.

use serde::{Deserialize, Serialize};

use crate::model::name::ServerName;

/// The name of the job that makes a new data directory.
pub const SEED: &str = "seed";

/// How a job makes a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// Everything anew: `initdb`, or a base backup.
    #[default]
    New,
    /// A copy of the server's own data directory, rewound.
    Rewind,
    /// The server's own data directory itself, rewound. There is no other.
    Reuse,
}

impl JobKind {
    fn of(word: &str) -> Self {
        [JobKind::Rewind, JobKind::Reuse].into_iter().find(|kind| kind.word() == word).unwrap_or_default()
    }

    /// Returns its word in a record.
    pub fn word(self) -> &'static str {
        match self {
            JobKind::New => "new",
            JobKind::Rewind => "rewind",
            JobKind::Reuse => "reuse",
        }
    }
}

/// A detached job, as its server remembers it (hazards 17, 21).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What it is for, such as `seed`; a server has one of a name at a time.
    pub name: String,
    /// The run that began it.
    pub run: String,
    /// The directories it makes, the data directory to be first. Each has a name that ends in `.seed.RUN`.
    pub seeds: Vec<String>,
    /// The server that it copies from; none where it makes a new instance.
    pub upstream: Option<ServerName>,
    /// How it makes them.
    #[serde(default)]
    pub kind: JobKind,
    /// How it stands.
    pub state: JobState,
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Processes of it live.
    Running,
    /// It ended by itself, with this status.
    Ended(i32),
    /// It is gone and left no status: it was killed, or its machine was.
    Died,
}

impl Job {
    /// Returns the directory that is to become the data directory.
    pub fn seed(&self) -> Option<&str> {
        self.seeds.first().map(String::as_str)
    }

    /// Reads a record, and what was found of the job: whether it holds its lock, and its own last word.
    ///
    /// `None` where the record is torn: it was being written when its machine went down, and nothing was started.
    pub fn parse(name: &str, record: &str, is_alive: bool, word: &str) -> Option<Self> {
        let mut job = Self {
            name: name.to_owned(),
            run: String::new(),
            seeds: vec![],
            upstream: None,
            kind: JobKind::default(),
            state: JobState::Died,
        };
        for line in record.lines() {
            match line.split_once(' ')? {
                ("run", run) => job.run = run.to_owned(),
                ("seed", path) => job.seeds.push(path.to_owned()),
                ("upstream", server) => job.upstream = Some(server.parse().ok()?),
                ("kind", word) => job.kind = JobKind::of(word),
                _ => {}
            }
        }
        let ended = word.trim().strip_prefix("ended ").and_then(|status| status.parse().ok());
        job.state = match (is_alive, ended) {
            (true, _) => JobState::Running,
            (false, Some(status)) => JobState::Ended(status),
            (false, None) => JobState::Died,
        };
        (!job.run.is_empty()).then_some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_with_what_became_of_it() {
        let record = "run r1\nseed /d/main.seed.r1\nseed /t/pgstead.seed.r1\nupstream a\n";
        let job = Job::parse(SEED, record, true, "running 42\n").unwrap();
        assert_eq!((job.seed(), job.seeds.len()), (Some("/d/main.seed.r1"), 2));
        assert_eq!((job.upstream.unwrap().as_str(), job.state), ("a", JobState::Running));
        let state = |alive, word| Job::parse(SEED, record, alive, word).unwrap().state;
        assert_eq!(state(false, "ended 0\n"), JobState::Ended(0));
        assert_eq!(state(false, "ended 137"), JobState::Ended(137));
        // The last of it still goes away.
        assert_eq!(state(true, "ended 0"), JobState::Running);
        for word in ["", "running 42", "verifying 42", "ended", "ended x"] {
            assert_eq!(state(false, word), JobState::Died, "{word}");
        }
    }

    #[test]
    fn a_torn_record_is_none() {
        assert_eq!(Job::parse(SEED, "", false, ""), None);
        assert_eq!(Job::parse(SEED, "ru", false, ""), None);
    }
}

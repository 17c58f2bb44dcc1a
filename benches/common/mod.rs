//! What the benchmarks on real hosts have in common.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Host;
use pgstead::lab::hosts::Release;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

pub(crate) const PGSTEAD: &str = env!("CARGO_BIN_EXE_pgstead");

/// Returns how a benchmark ends: well only where all budgets were kept.
pub(crate) fn end(bench: &str, are_kept: Result<bool>) -> ExitCode {
    match are_kept {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            eprintln!("bench {bench}: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the release of a suite.
pub(crate) fn release(suite: &str) -> Result<Release> {
    let found = Release::ALL.into_iter().find(|release| release.suite() == suite);
    Ok(found.ok_or_else(|| format!("no release \"{suite}\""))?)
}

/// Waits until SQL on a host answers what is expected.
pub(crate) fn until(patience: Duration, host: &Host, sql: &str, expected: &str) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        match host.psql(5432, "postgres", sql) {
            Ok(answer) if answer == expected => return Ok(()),
            other if Instant::now() >= deadline => {
                return Err(format!("{}: {sql}: {other:?}, expected {expected}", host.name()).into());
            }
            _ => std::thread::park_timeout(Duration::from_millis(5)),
        }
    }
}

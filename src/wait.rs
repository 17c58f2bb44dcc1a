//! The one place that waits by looking again, with a deadline (no sleeps elsewhere).
//!
//! Used only where PostgreSQL offers no event. The pause between two looks is far below what a person notices.

use std::time::Duration;
use std::time::Instant;

/// How long to pause between two looks.
pub const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// One look.
#[derive(Debug)]
pub enum Look<T> {
    /// What was waited for is there.
    Ready(T),
    /// It is not there yet, and what was seen instead.
    NotYet(String),
}

/// Looks until `look` finds what is waited for, at least once.
///
/// # Errors
/// The deadline passed; the last observation is returned.
#[expect(clippy::disallowed_methods, reason = "this is the wait helper that everybody else is sent to")]
pub async fn until<T>(limit: Duration, every: Duration, mut look: impl AsyncFnMut() -> Look<T>) -> Result<T, String> {
    let deadline = Instant::now() + limit;
    loop {
        match look().await {
            Look::Ready(found) => return Ok(found),
            Look::NotYet(seen) if Instant::now() >= deadline => return Err(seen),
            Look::NotYet(_) => tokio::time::sleep(every).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_observation_comes_back() {
        let mut looks = 0;
        let ended: Result<(), String> = until(Duration::from_millis(20), Duration::from_millis(5), async || {
            looks += 1;
            Look::NotYet(looks.to_string())
        })
        .await;
        assert!(ended.unwrap_err().parse::<u32>().unwrap() >= 2);
    }
}

//! The one place that waits by looking again, with a deadline (no sleeps elsewhere).
//!
//! Used only where PostgreSQL offers no event. The pause between two looks is far below what a person notices.

use std::time::{Duration, Instant};

/// How long to pause between two looks.
pub const LOOK_AGAIN: Duration = Duration::from_millis(5);

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
pub async fn until<T>(limit: Duration, every: Duration, mut look: impl AsyncFnMut() -> Look<T>) -> Result<T, String> {
    while_it_moves(limit, every, async || (look().await, None)).await
}

/// Looks until `look` finds what is waited for, at least once, and as long as it moves towards it: with each look comes what
/// grows meanwhile, where that could be seen.
///
/// # Errors
/// It has not grown for `limit`; the last observation is returned.
#[expect(clippy::disallowed_methods, reason = "this is the wait helper that everybody else is sent to")]
pub async fn while_it_moves<T>(
    limit: Duration,
    every: Duration,
    mut look: impl AsyncFnMut() -> (Look<T>, Option<u64>),
) -> Result<T, String> {
    let mut deadline = Instant::now() + limit;
    let mut furthest = None;
    loop {
        let (seen, at) = look().await;
        if at > furthest {
            furthest = at;
            deadline = Instant::now() + limit;
        }
        match seen {
            Look::Ready(found) => return Ok(found),
            Look::NotYet(seen) if Instant::now() >= deadline => return Err(seen),
            Look::NotYet(_) => tokio::time::sleep(every).await,
        }
    }
}

/// Tries until `attempt` yields something, at least once; none where the time is up. What it awaits may move between threads.
#[expect(clippy::disallowed_methods, reason = "this is the wait helper that everybody else is sent to")]
pub async fn until_some<T, F: Future<Output = Option<T>>>(
    limit: Duration,
    every: Duration,
    mut attempt: impl FnMut() -> F,
) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt().await {
            Some(found) => return Some(found),
            None if Instant::now() >= deadline => return None,
            None => tokio::time::sleep(every).await,
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

    #[tokio::test]
    async fn what_moves_is_waited_for_and_what_stands_still_is_not() {
        let began = Instant::now();
        let mut looks = 0;
        let ended: Result<(), String> =
            while_it_moves(Duration::from_millis(40), Duration::from_millis(10), async || {
                looks += 1;
                // It moves for ten looks, and then falls back.
                (Look::NotYet(looks.to_string()), Some(if looks <= 10 { looks } else { 3 }))
            })
            .await;
        assert!(ended.unwrap_err().parse::<u32>().unwrap() >= 12);
        assert!(began.elapsed() >= Duration::from_millis(130), "{:?}", began.elapsed());
    }
}

//! The one place of the labs that waits by looking again.
//!
//! Used only where the kernel offers no event to wait for. Nothing here waits without a deadline.

use std::time::{Duration, Instant};

use super::Failure;

/// How long to pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) enum Look<T> {
    /// What was waited for is there.
    Ready(T),
    /// It is not; this was seen instead.
    NotYet(String),
}

/// Looks until `look` finds what is waited for.
///
/// # Errors
/// The look failed, or the time is up: the last observation is told.
#[expect(clippy::disallowed_methods, reason = "this is the wait helper that everybody else is sent to")]
pub(super) fn until<T, E: From<Failure>>(
    awaited: &'static str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Look<T>, E>,
) -> Result<T, E> {
    let deadline = Instant::now() + limit;
    loop {
        match look()? {
            Look::Ready(found) => return Ok(found),
            Look::NotYet(last) if Instant::now() >= deadline => {
                return Err(Failure::Deadline { seconds: limit.as_secs(), awaited, last }.into());
            }
            Look::NotYet(_) => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_runs_out_tells_the_last_observation() {
        let ended: Result<(), Failure> = until("rain", Duration::ZERO, || Ok(Look::NotYet("sun".to_owned())));
        let text = ended.map_or_else(|failure| failure.to_string(), |()| String::new());
        assert_eq!(text, "waited 0 s for rain; last seen: sun");
    }
}

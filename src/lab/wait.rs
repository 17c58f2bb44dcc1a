//! The one place of the labs that waits by looking again.
//!
//! Used only where the kernel offers no event to wait for. Nothing here waits without a deadline.

use std::time::Duration;
use std::time::Instant;

/// How long to pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// One look.
#[derive(Debug)]
pub(crate) enum Look<T> {
    /// What was waited for is there.
    Ready(T),
    /// It is not there yet.
    NotYet,
}

/// Looks until `look` finds what is waited for. Returns nothing when the time is up.
#[expect(clippy::disallowed_methods, reason = "this is the wait helper that everybody else is sent to")]
pub(crate) fn until<T, E>(limit: Duration, mut look: impl FnMut() -> Result<Look<T>, E>) -> Result<Option<T>, E> {
    let deadline = Instant::now() + limit;
    loop {
        match look()? {
            Look::Ready(found) => return Ok(Some(found)),
            Look::NotYet if Instant::now() >= deadline => return Ok(None),
            Look::NotYet => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

//! The operator's wishes to stop, counted: the first ends a run at a safe point, the second at once, whatever it waits for.

use std::pin::pin;

use futures_util::future::{Either, select};

/// Counts wishes, over all phases of a run.
#[derive(Debug)]
pub(super) struct Wishes<F> {
    stop: F,
    n: u32,
    /// Wishes that came while nobody could heed them.
    pending: u32,
}

impl<F: AsyncFnMut()> Wishes<F> {
    /// `stop` resolves at each wish.
    pub(super) fn new(stop: F) -> Self {
        Self { stop, n: 0, pending: 0 }
    }

    /// Whether the operator wants to be gone.
    pub(super) fn is_urgent(&self) -> bool {
        self.n >= 2
    }

    /// Waits for the next wish; one that came before, and was not heeded, counts now.
    pub(super) async fn next(&mut self) {
        if self.pending > 0 {
            self.pending -= 1;
            return;
        }
        (self.stop)().await;
        self.n += 1;
    }

    /// Does work that is short where nothing is wrong. `None`: the operator asked to stop for the second time, or oftener.
    pub(super) async fn unless_urgent<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            if let Either::Left((done, _)) = select(work.as_mut(), pin!((self.stop)())).await {
                return Some(done);
            }
            self.n += 1;
            self.pending += 1;
            if self.is_urgent() {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_goes_on_after_the_first_wish_and_not_after_the_second() {
        let mut left = 1;
        let mut one = Wishes::new(async || match left {
            0 => std::future::pending().await,
            _ => left -= 1,
        });
        let yields = async {
            tokio::task::yield_now().await;
            42
        };
        assert_eq!(one.unless_urgent(yields).await, Some(42));
        assert!(!one.is_urgent());
        // It is heeded later, once.
        one.next().await;
        let mut endless = Wishes::new(async || {});
        assert_eq!(endless.unless_urgent(std::future::pending::<()>()).await, None);
        assert!(endless.is_urgent());
    }
}

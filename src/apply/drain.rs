//! Waits for clients' transactions, before a shutdown ends those that are left.

use std::time::Duration;

use crate::apply::Worker;
use crate::apply::executor::End;
use crate::event::Event;
use crate::plan::{Step, StepId};
use crate::remote::Host;
use crate::wait;
use crate::wait::Look;

/// How often to look who is left: the view is read whole each time.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How many of those that are left are named.
const NAMED: usize = 3;

impl<H: Host> Worker<'_, H> {
    /// Waits until the transactions are ended that were under way when it began. Whoever begins one later is not waited for, or
    /// there would be no end of it. When the time is up those that are left are named, and the run goes on.
    pub(super) async fn drain(&self, id: StepId, step: &Step, timeout_s: u64) -> End {
        let Some(server) = &step.server else { return End::Done };
        let session = match self.sessions.session(server).await {
            Ok(session) => session,
            Err(diagnostic) => return End::Failed(diagnostic),
        };
        let begun = match session.clock().await {
            Ok(begun) => begun,
            Err(error) => return End::Failed(Box::new(error.diagnostic())),
        };
        let limit = Duration::from_secs(timeout_s);
        let ended = wait::until(limit, LOOK_AGAIN, async || match session.transactions_before(&begun).await {
            Ok(left) if left.is_empty() => Look::Ready(()),
            Ok(left) => Look::NotYet(told(&left)),
            Err(error) => Look::NotYet(error.to_string()),
        });
        if let Err(left) = ended.await {
            let text = format!("not ended after {timeout_s} s, and ended by the shutdown: {left}");
            self.events.send(Event::StepWarned { id: id.0, text });
        }
        End::Done
    }
}

fn told(left: &[String]) -> String {
    let named = left.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    match left.len() {
        0..=NAMED => named,
        all => format!("{named}; and {} more", all - NAMED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_named_and_the_rest_are_counted() {
        let all: Vec<String> = (1..=5).map(|n| n.to_string()).collect();
        assert_eq!(told(&all[..2]), "1; 2");
        assert_eq!(told(&all), "1; 2; 3; and 2 more");
    }
}

//! Wishes to stop: Ctrl-C in the terminal, SIGTERM from a service manager. It only listens.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};

/// A listener. From its making on these signals no longer end the process.
#[derive(Debug)]
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// Begins to listen.
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                let diagnostic =
                    Diagnostic::error(Code::Signals, "could not listen for Ctrl-C").detail(format!("{error}."));
                Failure::one(FailureKind::Bug, diagnostic)
            })
        };
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for the next wish.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
    /// Does work that may be left at any moment: the first wish ends it, of which `left` tells.
    ///
    /// # Errors
    /// Those of the work; that it was left.
    pub(super) async fn unless_stopped<T>(
        &mut self,
        left: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            result = work => result,
            () = self.next() => {
                Err(Failure::one(FailureKind::StepFailed, Diagnostic::error(Code::Stopped, left)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_may_be_left_is_left_at_the_first_wish() {
        let mut interrupts = Interrupts::listen().unwrap();
        assert_eq!(interrupts.unless_stopped("left", async { Ok(1) }).await, Ok(1));
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
        let left = interrupts.unless_stopped("left", std::future::pending::<Result<(), Failure>>()).await.unwrap_err();
        assert_eq!((left.kind, left.diagnostics[0].code), (FailureKind::StepFailed, Code::Stopped));
    }
}

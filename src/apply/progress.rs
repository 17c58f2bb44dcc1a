//! How far a copy is, and what keeps one that stands still.

use std::time::{Duration, Instant};

use crate::apply::worker::Worker;
use crate::event::Event;
use crate::model::argv::Argv;
use crate::model::name::ServerName;
use crate::plan::{Step, StepId};
use crate::postgres::Client;
use crate::postgres::queries::Sending;
use crate::remote::{Host, LOOK};
use crate::wait;
use crate::wait::Look;

/// How often the upstream is asked how far a base backup is.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// How often the standby is asked how far a rewind is: it measures directories for that.
const MEASURE_EVERY: Duration = Duration::from_secs(2);

/// A copy that has not moved for this long is looked into.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// How far a copy is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Far {
    phase: String,
    done_bytes: u64,
    total_bytes: Option<u64>,
}

/// What a script says: phase, bytes done and bytes in all between tabs.
fn parse(text: &str) -> Option<Far> {
    let mut parts = text.lines().last()?.split('\t');
    let (phase, done, total) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.trim().parse().ok()?);
    Some(Far { phase: phase.to_owned(), done_bytes: done, total_bytes: Some(total) })
}

/// What keeps a copy, from what its upstream does for it.
fn cause(far: &Far, sending: &[Sending], upstream: &ServerName, standby: &ServerName) -> String {
    match far.phase.as_str() {
        "waiting for checkpoint to finish" => return format!("\"{upstream}\" writes its checkpoint"),
        "waiting for wal archiving to finish" => {
            return format!("\"{upstream}\" waits until its WAL is archived: see pg_stat_archiver there");
        }
        _ => {}
    }
    match sending.iter().find(|one| one.is_active).or(sending.first()) {
        None => format!("\"{standby}\" has no connection to \"{upstream}\" now"),
        Some(Sending { wait_event: Some(event), .. }) if event == "Client/ClientWrite" => {
            format!("\"{upstream}\" cannot send: the line is down or full, or the disk of \"{standby}\" is slow")
        }
        Some(Sending { wait_event: Some(event), .. }) if event.starts_with("Client/") => {
            format!("\"{upstream}\" waits for \"{standby}\" ({event})")
        }
        Some(Sending { wait_event: Some(event), .. }) => format!("\"{upstream}\" waits ({event})"),
        Some(Sending { wait_event: None, .. }) => format!("\"{upstream}\" works on it"),
    }
}

impl<H: Host> Worker<'_, H> {
    /// Tells how far a copy is until it ends and this is dropped. What cannot be asked is not told.
    pub(super) async fn report_progress(&self, id: StepId, step: &Step, upstream: &ServerName, measure: Option<&Argv>) {
        let Some(standby) = &step.server else { return };
        let Ok(session) = self.sessions.session(upstream).await else { return };
        let forever = Duration::from_secs(u64::from(u32::MAX));
        let every = if measure.is_some() { MEASURE_EVERY } else { ASK_EVERY };
        let mut last = Far::default();
        let mut moved = Instant::now();
        let _: Result<(), String> = wait::until(forever, every, async || {
            let far = match measure {
                Some(measure) => self.measured(standby, measure).await,
                None => match backed_up(&session, standby).await {
                    Ok(far) => far,
                    Err(()) => return Look::Ready(()),
                },
            };
            let Some(far) = far else { return Look::NotYet("not begun".to_owned()) };
            if far != last {
                last = far.clone();
                moved = Instant::now();
            }
            let stalled = match moved.elapsed() {
                still if still >= STALLED_AFTER => {
                    let sending = session.sending(standby.as_str()).await.unwrap_or_default();
                    let cause = cause(&far, &sending, upstream, standby);
                    Some(format!("nothing has moved for {} s: {cause}", still.as_secs()))
                }
                _ => None,
            };
            let Far { phase, done_bytes, total_bytes } = far;
            self.events.send(Event::StepProgress { id: id.0, phase, done_bytes, total_bytes, stalled });
            Look::NotYet("under way".to_owned())
        })
        .await;
    }

    async fn measured(&self, standby: &ServerName, measure: &Argv) -> Option<Far> {
        let (host, login) = (self.hosts.get(standby)?.as_ref().ok()?, self.logins.get(standby)?);
        parse(&host.run_within(LOOK, std::slice::from_ref(measure), login).await.ok()?.text())
    }
}

/// How far a base backup is, where one is under way. An error says that it cannot be asked any more.
async fn backed_up(session: &Client, standby: &ServerName) -> Result<Option<Far>, ()> {
    let progress = session.basebackup_progress(standby.as_str()).await.map_err(|_| ())?;
    Ok(progress.map(|progress| Far {
        phase: progress.phase,
        done_bytes: progress.streamed_bytes.max(0).unsigned_abs(),
        total_bytes: progress.total_bytes.map(|bytes| bytes.max(0).unsigned_abs()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServerName {
        text.parse().unwrap()
    }

    #[test]
    fn what_a_script_says_is_read() {
        let far =
            |phase: &str, done_bytes, total| Far { phase: phase.to_owned(), done_bytes, total_bytes: Some(total) };
        assert_eq!(parse("rewinding\t1024\t2048\n"), Some(far("rewinding", 1024, 2048)));
        assert_eq!(parse("# 1\ncopying the data directory\t0\t7\n"), Some(far("copying the data directory", 0, 7)));
        assert_eq!(parse(""), None);
        assert_eq!(parse("rewinding\t1024"), None);
    }

    #[test]
    fn what_keeps_a_copy_is_named() {
        let told = |phase: &str, sending: &[Sending]| {
            cause(&Far { phase: phase.to_owned(), ..Far::default() }, sending, &name("a"), &name("b"))
        };
        let waits = |event: Option<&str>| Sending { is_active: true, wait_event: event.map(str::to_owned) };
        assert_eq!(told("waiting for checkpoint to finish", &[]), "\"a\" writes its checkpoint");
        assert!(told("waiting for wal archiving to finish", &[]).contains("pg_stat_archiver"));
        let streaming = "streaming database files";
        assert_eq!(told(streaming, &[]), "\"b\" has no connection to \"a\" now");
        assert!(told(streaming, &[waits(Some("Client/ClientWrite"))]).contains("cannot send"));
        assert_eq!(told("rewinding", &[waits(Some("Client/ClientRead"))]), "\"a\" waits for \"b\" (Client/ClientRead)");
        assert_eq!(told(streaming, &[waits(Some("IO/DataFileRead"))]), "\"a\" waits (IO/DataFileRead)");
        assert_eq!(told(streaming, &[waits(None)]), "\"a\" works on it");
    }
}

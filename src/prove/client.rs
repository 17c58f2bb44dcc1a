//! A client that writes all the time, wherever it may: what a drill measures is what it sees.
//!
//! It waits for synchronous standbys as any client does. A server that does not answer costs it no more than a moment; each
//! row is a canary, so that afterwards each one can be looked for.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::drill::Write;
use crate::model::name::ServerName;
use crate::postgres::Client;
use crate::prove::{Sessions, canary};
use crate::remote::Host;

/// How often it writes.
const REST: Duration = Duration::from_millis(20);
/// How often it goes round when nobody takes a write: the next server may accept one any moment.
const RETRY: Duration = Duration::from_millis(5);
/// How long a write may take before another server is tried.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it tries to open a session to a server that has none.
const REOPEN: Duration = Duration::from_millis(250);
/// How many writes are looked for afterwards: what the canary table keeps at least.
const LOOKED_FOR: usize = 1000;

/// One server, as the client knows it.
struct Place<'a> {
    server: &'a ServerName,
    session: Option<Arc<Client>>,
    tried: Option<Instant>,
}

impl Place<'_> {
    async fn session<H: Host>(&mut self, sessions: &Sessions<'_, H>) -> Option<Arc<Client>> {
        if self.session.as_ref().is_some_and(|session| session.is_closed()) {
            self.session = None;
        }
        if self.session.is_none() && self.tried.is_none_or(|tried| tried.elapsed() >= REOPEN) {
            self.tried = Some(Instant::now());
            let opened = tokio::time::timeout(PATIENCE, sessions.session(self.server)).await;
            let session = opened.ok()?.ok()?;
            session.wait_as_clients_do().await.ok()?;
            self.session = Some(session);
        }
        self.session.clone()
    }
}

/// Writes until `enough` says so, on whichever server takes it, and returns what was acknowledged; times count from `begun`.
/// `n_written` counts along.
pub async fn write_all_the_time<H: Host>(
    sessions: &Sessions<'_, H>,
    servers: &[ServerName],
    begun: std::time::Instant,
    n_written: &Cell<usize>,
    enough: impl Fn() -> bool,
) -> Vec<Write> {
    let mut places: Vec<Place<'_>> =
        servers.iter().map(|server| Place { server, session: None, tried: None }).collect();
    // The sessions to those that will be asked next are open before they are needed.
    for place in &mut places {
        place.session(sessions).await;
    }
    let mut writes: Vec<Write> = Vec::new();
    let mut current = 0;
    let beat = |every: Duration| {
        let mut beat = tokio::time::interval(every);
        // After a pause it goes on as before, and makes up for nothing.
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        beat
    };
    let (mut rest, mut retry) = (beat(REST), beat(RETRY));
    while !enough() {
        let place = &mut places[current];
        let written = match place.session(sessions).await {
            Some(session) => match tokio::time::timeout(PATIENCE, canary::write(&session)).await {
                Ok(written) => written.ok(),
                Err(_) => {
                    place.session = None;
                    None
                }
            },
            None => None,
        };
        match written {
            Some(written) => {
                n_written.set(n_written.get() + 1);
                let at_ms = begun.elapsed().as_secs_f64() * 1000.0;
                writes.push(Write { server: place.server.clone(), seq: written.seq, nonce: written.nonce, at_ms });
                rest.tick().await;
            }
            None => {
                current = (current + 1) % places.len();
                if current == 0 {
                    retry.tick().await;
                }
            }
        }
    }
    writes
}

/// Returns which of the newest writes are not on a server: by number and content.
///
/// # Errors
/// The server could not be asked; why.
pub async fn missing<H: Host>(
    sessions: &Sessions<'_, H>,
    server: &ServerName,
    writes: &[Write],
) -> Result<BTreeSet<(i64, String)>, String> {
    let session = sessions.session(server).await.map_err(|diagnostic| diagnostic.message.clone())?;
    // All questions are on the way before the first answer is waited for.
    let looks = writes.iter().rev().take(LOOKED_FOR).map(async |Write { seq, nonce, .. }| {
        let found = session.canary_state(*seq).await.map_err(|error| error.to_string())?;
        Ok((found.nonce.as_ref() != Some(nonce)).then(|| (*seq, nonce.clone())))
    });
    let looked: Result<Vec<_>, String> = join_all(looks).await.into_iter().collect();
    Ok(looked?.into_iter().flatten().collect())
}

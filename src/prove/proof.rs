//! The proof of a link: a row written on the primary arrives on the standby. It is waited for as long as the standby moves towards
//! it, which may be hours of replay, and what keeps a standby that stands still is looked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::lsn::Lsn;
use crate::model::name::ServerName;
use crate::model::topology::Link;
use crate::postgres::Client;
use crate::postgres::queries::{CanaryState, SenderState};
use crate::prove::canary::Written;
use crate::prove::sessions::explain;
use crate::prove::stuck::Stuck;
use crate::prove::{Sessions, canary};
use crate::remote::Host;
use crate::wait;
use crate::wait::Look;

/// How long a new link may stand still until it moves data. A standby first replays the WAL of its base backup.
pub const NEW_LINK: Duration = Duration::from_secs(120);

/// How long a link may stand still that should have been streaming all along.
pub const OLD_LINK: Duration = Duration::from_secs(15);

/// How often a session that was closed is opened again.
const REOPEN_EVERY: Duration = Duration::from_millis(250);

/// How often it is told how far replay is.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// How far the standbys are on their way to the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Bytes of WAL that were replayed since the proof began.
    pub done_bytes: u64,
    /// Bytes of WAL that there were to replay then.
    pub total_bytes: u64,
}

/// Writes a canary and waits until it arrives over every link. `limit` is how long a standby may stand still on its way;
/// `tell` is told twice a second how far all of them are.
///
/// # Errors
/// A link moved no data for that long; the last observation and what keeps it are in the detail.
pub async fn prove_links<H: Host>(
    sessions: &Sessions<'_, H>,
    primary: &ServerName,
    links: &[Link],
    limit: Duration,
    tell: impl Fn(Replayed),
) -> Result<(), Box<Diagnostic>> {
    // All sessions are opened at once; whoever needs one below says why it is not there.
    let names: BTreeSet<&ServerName> =
        std::iter::once(primary).chain(links.iter().flat_map(|link| [&link.upstream, &link.standby])).collect();
    join_all(names.into_iter().map(|name| sessions.session(name))).await;
    let writer = sessions.session(primary).await?;
    let written = canary::write(&writer).await.map_err(|why| {
        Box::new(
            Diagnostic::error(Code::CanaryUnwritable, format!("server \"{primary}\": no row could be written"))
                .server(primary)
                .detail(why),
        )
    })?;
    let way = Way { all: Mutex::default(), tell: &tell };
    for proof in join_all(links.iter().map(|link| prove_link(sessions, link, &written, limit, &way))).await {
        proof?;
    }
    Ok(())
}

/// A session that is opened again where it was closed: an instance may come back while it is waited for.
struct Kept<'a> {
    server: &'a ServerName,
    client: Arc<Client>,
    tried: Instant,
}

impl<'a> Kept<'a> {
    async fn of<H: Host>(sessions: &Sessions<'_, H>, server: &'a ServerName) -> Result<Self, Box<Diagnostic>> {
        Ok(Self { server, client: sessions.session(server).await?, tried: Instant::now() })
    }

    async fn reopen<H: Host>(&mut self, sessions: &Sessions<'_, H>) -> Result<(), Box<Diagnostic>> {
        if self.client.is_closed() && self.tried.elapsed() >= REOPEN_EVERY {
            self.tried = Instant::now();
            self.client = sessions.session(self.server).await?;
        }
        Ok(())
    }
}

/// How far each standby is.
struct Way<'a, T> {
    all: Mutex<BTreeMap<ServerName, Replayed>>,
    tell: &'a T,
}

impl<T: Fn(Replayed)> Way<'_, T> {
    fn told(&self, standby: &ServerName, replayed: Replayed) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(standby.clone(), replayed);
        let mut sum = Replayed::default();
        for one in all.values() {
            sum.done_bytes += one.done_bytes;
            sum.total_bytes += one.total_bytes;
        }
        drop(all);
        (self.tell)(sum);
    }
}

/// Where one standby is on its way.
struct Position {
    from: Option<u64>,
    told: Instant,
}

impl Position {
    /// Takes note of where a standby is, and returns what grows while it moves: never beyond what leads to the row, so that
    /// a standby that only receives does not move for ever.
    fn note<T: Fn(Replayed)>(&mut self, state: &CanaryState, standby: &ServerName, to: Lsn, way: &Way<'_, T>) -> u64 {
        let bounded = |lsn: Option<Lsn>| lsn.map_or(0, |lsn| lsn.0.min(to.0));
        let replayed = bounded(state.replay_lsn);
        let from = *self.from.get_or_insert(replayed);
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            let done_bytes = replayed.saturating_sub(from);
            way.told(standby, Replayed { done_bytes, total_bytes: to.0.saturating_sub(from) });
        }
        replayed.saturating_add(bounded(state.receive_lsn))
    }
}

async fn prove_link<H: Host, T: Fn(Replayed)>(
    sessions: &Sessions<'_, H>,
    link: &Link,
    written: &Written,
    limit: Duration,
    way: &Way<'_, T>,
) -> Result<(), Box<Diagnostic>> {
    let Link { upstream, standby } = link;
    let mut sender = Kept::of(sessions, upstream).await?;
    let mut receiver = Kept::of(sessions, standby).await?;
    let mut position = Position { from: None, told: Instant::now() };
    let mut stuck = Stuck::new();
    let proof = wait::while_it_moves(limit, wait::LOOK_AGAIN, async || {
        for kept in [&mut sender, &mut receiver] {
            match kept.reopen(sessions).await {
                Ok(()) => {}
                // Nobody comes back over that connection.
                Err(diagnostic) if diagnostic.code == Code::PostgresSocket => {
                    return (Look::Ready(Err(diagnostic)), None);
                }
                Err(diagnostic) if kept.server == standby => {
                    let ended = stuck.look_closed(sessions, link).await;
                    return (
                        ended.map_or_else(|| Look::NotYet(explain(&diagnostic)), |ended| Look::Ready(Err(ended))),
                        None,
                    );
                }
                Err(diagnostic) => return (Look::NotYet(explain(&diagnostic)), None),
            }
        }
        let (seen, moved) = look(&sender.client, &receiver.client, standby, written, &mut position, way).await;
        stuck.note(moved);
        let Err(seen) = seen else { return (Look::Ready(Ok(())), moved) };
        match stuck.look(sessions, link, &sender.client, &receiver.client).await {
            Some(lasting) => (Look::Ready(Err(lasting)), moved),
            None => (Look::NotYet(seen), moved),
        }
    });
    let seen = match proof.await {
        Ok(end) => return end,
        Err(seen) => format!("Nothing moved for {} s. Last seen: {seen}.", limit.as_secs()),
    };
    Err(stuck.end(sessions, link, &sender.client, &receiver.client, &seen).await)
}

/// Looks whether the row has arrived and the standby streams; returns what was seen instead, and how far the standby is.
async fn look<T: Fn(Replayed)>(
    sender: &Client,
    receiver: &Client,
    standby: &ServerName,
    written: &Written,
    position: &mut Position,
    way: &Way<'_, T>,
) -> (Result<(), String>, Option<u64>) {
    // Until the canary table itself has arrived there is nothing to read, but there is a position.
    let state = match receiver.canary_state(written.seq).await {
        Err(error) if error.is_undefined_table() => receiver.replayed().await,
        state => state,
    };
    let state = match state {
        Ok(state) => state,
        Err(error) => return (Err(explain(&error.diagnostic())), None),
    };
    match &state.nonce {
        Some(nonce) if *nonce != written.nonce => (Err("another row stands in its place".to_owned()), None),
        Some(_) => match sender.sender_states(standby.as_str()).await {
            Ok(states) if matches!(states.as_slice(), [state] if state.state == "streaming") => (Ok(()), None),
            other => (Err(senders_text(&other)), None),
        },
        None => {
            let moved = position.note(&state, standby, written.lsn, way);
            (Err(senders_text(&sender.sender_states(standby.as_str()).await)), Some(moved))
        }
    }
}

fn senders_text(states: &Result<Vec<SenderState>, crate::postgres::PostgresError>) -> String {
    match states {
        Ok(states) => match states.as_slice() {
            [] => "the standby is not connected to its upstream".to_owned(),
            [one] => format!("the upstream's walsender is in state {}", one.state),
            several => format!("{} walsenders carry the standby's name", several.len()),
        },
        Err(error) => explain(&error.diagnostic()),
    }
}

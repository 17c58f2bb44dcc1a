//! One row, written once, and its way to every standby.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::join;
use futures_util::future::join_all;

use crate::check::Canaries;
use crate::check::Canary;
use crate::diagnostic::Diagnostic;
use crate::model::name::ServerName;
use crate::model::observed::Observed;
use crate::model::topology::Link;
use crate::postgres::Client;
use crate::postgres::queries::SenderState;
use crate::prove::Sessions;
use crate::prove::chain;
use crate::prove::sessions::explain;
use crate::remote::Host;
use crate::wait;
use crate::wait::Look;

/// How long a new link may take until it moves data. A standby first replays the WAL of its base backup.
pub const NEW_LINK: Duration = Duration::from_secs(120);

/// How long a link may take that should have been streaming all along.
pub const OLD_LINK: Duration = Duration::from_secs(15);

/// A row that was written.
struct Written {
    seq: i64,
    nonce: String,
    at: Instant,
}

/// Writes a canary and watches it on every link, each for its own time.
pub async fn watch_canaries<H: Host>(
    sessions: &Sessions<'_, H>,
    primary: &ServerName,
    links: &[Link],
    limit: impl Fn(&Link) -> Duration,
) -> Canaries {
    let names: Vec<&ServerName> = std::iter::once(primary).chain(links.iter().map(|link| &link.standby)).collect();
    let opened: BTreeMap<&ServerName, Result<Arc<Client>, Box<Diagnostic>>> =
        join_all(names.into_iter().map(async |name| (name, sessions.session(name).await))).await.into_iter().collect();
    let session = |name: &ServerName| match opened.get(name) {
        Some(Ok(client)) => Ok(Arc::clone(client)),
        Some(Err(diagnostic)) => Err(explain(diagnostic)),
        None => Err("there is no session".to_owned()),
    };
    let everywhere = |why: &str| {
        links.iter().map(|link| (link.standby.clone(), Observed::Unreadable(why.to_owned()))).collect::<Canaries>()
    };
    let writer = match session(primary) {
        Ok(writer) => writer,
        Err(why) => return everywhere(&why),
    };
    // What each upstream heard before: a reply after the write is a new one (L6).
    let heard = join_all(links.iter().map(async |link| match session(&link.upstream) {
        Ok(upstream) => newest_reply(&upstream, &link.standby).await,
        Err(_) => None,
    }))
    .await;
    let written = match write(&writer).await {
        Ok(written) => written,
        Err(why) => return everywhere(&why),
    };
    let watches = join_all(links.iter().zip(heard).map(async |(link, before)| match session(&link.standby) {
        Ok(standby) => {
            let upstream = session(&link.upstream).ok();
            Observed::Known(watch(&standby, upstream, link, before, &written, limit(link)).await)
        }
        Err(why) => Observed::Unreadable(why),
    }));
    let (digest, seen) = join(writer.chain_digest(written.seq), watches).await;
    let chains = links.iter().zip(seen).map(async |(link, mut seen)| {
        if let (Observed::Known(canary), Ok(standby)) = (&mut seen, session(&link.standby))
            && canary.arrived_ms.is_some()
        {
            canary.chain = chain::compare(&writer, &standby, written.seq, &digest).await;
        }
        (link.standby.clone(), seen)
    });
    join_all(chains).await.into_iter().collect()
}

/// Writes a canary and waits until it arrives over every link.
///
/// # Errors
/// A link moves no data before the deadline; the last observation is in the detail.
pub async fn prove_links<H: Host>(
    sessions: &Sessions<'_, H>,
    primary: &ServerName,
    links: &[Link],
    limit: Duration,
) -> Result<(), Box<Diagnostic>> {
    // All sessions are opened at once; whoever needs one below says why it is not there.
    let names: BTreeSet<&ServerName> =
        std::iter::once(primary).chain(links.iter().flat_map(|link| [&link.upstream, &link.standby])).collect();
    join_all(names.into_iter().map(|name| sessions.session(name))).await;
    let writer = sessions.session(primary).await?;
    let written = write(&writer).await.map_err(|why| {
        Box::new(
            Diagnostic::error("canary-unwritable", format!("server \"{primary}\": no row could be written"))
                .server(primary)
                .detail(why),
        )
    })?;
    for proof in join_all(links.iter().map(|link| prove_link(sessions, link, &written, limit))).await {
        proof?;
    }
    Ok(())
}

async fn prove_link<H: Host>(
    sessions: &Sessions<'_, H>,
    link: &Link,
    written: &Written,
    limit: Duration,
) -> Result<(), Box<Diagnostic>> {
    let Link { upstream, standby } = link;
    let (sender, receiver) = (sessions.session(upstream).await?, sessions.session(standby).await?);
    let proof = wait::until(limit, wait::LOOK_AGAIN, async || {
        match receiver.canary_state(written.seq).await {
            Ok(state) if state.nonce.as_ref() == Some(&written.nonce) => {}
            Ok(state) if state.nonce.is_some() => return Look::NotYet("another row stands in its place".to_owned()),
            // Until the canary table itself has arrived there is nothing to read.
            Ok(_) => return Look::NotYet(senders_text(&sender.sender_states(standby.as_str()).await)),
            Err(error) => return Look::NotYet(explain(&error.diagnostic())),
        }
        match sender.sender_states(standby.as_str()).await {
            Ok(states) if matches!(states.as_slice(), [state] if state.state == "streaming") => Look::Ready(()),
            other => Look::NotYet(senders_text(&other)),
        }
    });
    proof.await.map_err(|seen| {
        Box::new(
            Diagnostic::error("link-not-proven", format!("link {upstream} → {standby} moves no data"))
                .server(standby)
                .detail(format!("Waited {} s. Last seen: {seen}.", limit.as_secs()))
                .hint(format!("The log of \"{standby}\" says why it cannot stream.")),
        )
    })
}

async fn write(writer: &Client) -> Result<Written, String> {
    let nonce = uuid_like();
    let at = Instant::now();
    let canary = writer.write_canary(&nonce).await.map_err(|error| explain(&error.diagnostic()))?;
    Ok(Written { seq: canary.seq, nonce, at })
}

/// A nonce: 128 random bits in hexadecimal.
fn uuid_like() -> String {
    rand::random::<[u8; 16]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn newest_reply(upstream: &Client, standby: &ServerName) -> Option<i64> {
    upstream.sender_states(standby.as_str()).await.ok()?.first()?.reply_time_us
}

async fn watch(
    standby: &Client,
    upstream: Option<Arc<Client>>,
    link: &Link,
    before: Option<i64>,
    written: &Written,
    limit: Duration,
) -> Canary {
    let elapsed = || written.at.elapsed().as_secs_f64() * 1000.0;
    let arrival = wait::until(limit, wait::LOOK_AGAIN, async || match standby.canary_state(written.seq).await {
        Ok(state) => state.nonce.map_or(Look::NotYet("not there".to_owned()), Look::Ready),
        Err(error) => Look::NotYet(error.to_string()),
    })
    .await;
    let Ok(nonce) = arrival else {
        return Canary {
            arrived_ms: None,
            waited_ms: elapsed(),
            same_row: false,
            replied: false,
            chain: Observed::default(),
        };
    };
    let arrived_ms = elapsed();
    let replied = match upstream {
        Some(upstream) => {
            wait::until(limit, wait::LOOK_AGAIN, async || match newest_reply(&upstream, &link.standby).await {
                Some(reply) if before.is_none_or(|before| reply > before) => Look::Ready(()),
                _ => Look::NotYet("no reply".to_owned()),
            })
            .await
            .is_ok()
        }
        None => false,
    };
    let same_row = nonce == written.nonce;
    Canary { arrived_ms: Some(arrived_ms), waited_ms: elapsed(), same_row, replied, chain: Observed::default() }
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

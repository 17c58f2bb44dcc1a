//! One row, written once, and its way to every standby.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};

use crate::check::{Canaries, Canary};
use crate::diagnostic::Diagnostic;
use crate::model::lsn::Lsn;
use crate::model::name::ServerName;
use crate::model::observed::Observed;
use crate::model::topology::Link;
use crate::postgres::Client;
use crate::prove::sessions::explain;
use crate::prove::{Sessions, chain};
use crate::remote::Host;
use crate::wait;
use crate::wait::Look;

/// A row that was written.
pub(super) struct Written {
    pub(super) seq: i64,
    pub(super) nonce: String,
    /// A position behind its commit.
    pub(super) lsn: Lsn,
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

pub(super) async fn write(writer: &Client) -> Result<Written, String> {
    let nonce = uuid_like();
    let at = Instant::now();
    let canary = writer.write_canary(&nonce).await.map_err(|error| explain(&error.diagnostic()))?;
    Ok(Written { seq: canary.seq, nonce, lsn: canary.lsn, at })
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
            replied: Some(false),
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
            .map_or(Some(false), |()| Some(true))
        }
        None => None,
    };
    let same_row = nonce == written.nonce;
    Canary { arrived_ms: Some(arrived_ms), waited_ms: elapsed(), same_row, replied, chain: Observed::default() }
}

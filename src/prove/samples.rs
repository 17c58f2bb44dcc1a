//! Looks at links several times, where one look says too little: does lag grow, does the upstream still hear anything?

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::check::evidence::Sample;
use crate::model::lsn::Lsn;
use crate::model::name::ServerName;
use crate::model::observed::Observed;
use crate::model::topology::Link;
use crate::prove::Sessions;
use crate::prove::sessions::explain;
use crate::remote::Host;

/// How often a link is looked at: growth shows in three.
const SAMPLES: usize = 3;

/// Samples links, each with its own pause between two looks.
pub(super) async fn sample_links<H: Host>(
    sessions: &Sessions<'_, H>,
    primary: Option<&ServerName>,
    links: &[(Link, Duration)],
) -> BTreeMap<ServerName, Observed<Vec<Sample>>> {
    let of_links = links.iter().map(async |(link, pause)| {
        (link.standby.clone(), sample(sessions, primary, link, *pause).await.unwrap_or_else(Observed::Unreadable))
    });
    join_all(of_links).await.into_iter().collect()
}

async fn sample<H: Host>(
    sessions: &Sessions<'_, H>,
    primary: Option<&ServerName>,
    link: &Link,
    pause: Duration,
) -> Result<Observed<Vec<Sample>>, String> {
    let upstream = sessions.session(&link.upstream).await.map_err(|why| explain(&why))?;
    let mut ticks = tokio::time::interval(pause);
    let mut samples = Vec::new();
    let begun = Instant::now();
    for _ in 0..SAMPLES {
        ticks.tick().await;
        let after_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let position = async |name: Option<&ServerName>| -> Option<Lsn> {
            sessions.session(name?).await.ok()?.position().await.ok()?
        };
        let (senders, ahead, replayed) = tokio::join!(
            upstream.sender_states(link.standby.as_str()),
            position(primary),
            position(Some(&link.standby))
        );
        let senders = senders.map_err(|error| explain(&error.diagnostic()))?;
        samples.push(Sample {
            after_ms,
            behind_bytes: ahead.zip(replayed).map(|(ahead, replayed)| ahead.bytes_ahead_of(replayed)),
            reply_time_us: senders.first().and_then(|sender| sender.reply_time_us),
        });
    }
    Ok(Observed::Known(samples))
}

//! The chain of canaries on a standby, beside that on the primary. Reads both; what it means is judged by `check/`.

use std::time::Duration;

use crate::check::{Chain, first_difference};
use crate::model::observed::Observed;
use crate::postgres::queries::ChainDigest;
use crate::postgres::{Client, PostgresError};
use crate::wait;
use crate::wait::Look;

/// How long two chains may differ because another check is at work. A real difference stays.
const SETTLES: Duration = Duration::from_secs(1);

/// What the primary's chain comes to.
pub(super) type Digest = Result<Option<ChainDigest>, PostgresError>;

/// Compares the chains up to a canary that has arrived. `digest` is that of the primary.
///
/// One hash settles it. Where the hashes differ, another check may have removed the beginning of the chain in between:
/// then the rows themselves are compared, until they are equal or the time is up.
pub(super) async fn compare(primary: &Client, standby: &Client, seq: i64, digest: &Digest) -> Observed<Chain> {
    let digest = match digest {
        Ok(Some(digest)) => digest,
        Ok(None) => return Observed::Absent,
        Err(error) => return unreadable(error),
    };
    match standby.chain_digest(seq).await {
        Ok(Some(own)) if own == *digest => {
            return Observed::Known(Chain::Equal { rows: own.rows.max(0).unsigned_abs() });
        }
        Ok(Some(_)) => {}
        Ok(None) => return Observed::Absent,
        Err(error) => return unreadable(&error),
    }
    let mut last = Observed::default();
    let equal = wait::until(SETTLES, wait::LOOK_AGAIN, async || {
        last = match rows(primary, standby, seq).await {
            Ok((None, rows)) => return Look::Ready(Chain::Equal { rows }),
            Ok((Some(seq), _)) => Observed::Known(Chain::Differs { seq }),
            Err(error) => unreadable(&error),
        };
        Look::NotYet(String::new())
    })
    .await;
    equal.map_or(last, Observed::Known)
}

async fn rows(primary: &Client, standby: &Client, seq: i64) -> Result<(Option<i64>, u64), PostgresError> {
    // In this order: what the primary removes meanwhile is known to have been there.
    let own = standby.chain(seq).await?;
    let other = primary.chain(seq).await?;
    Ok((first_difference(&own, &other), other.len() as u64))
}

fn unreadable(error: &PostgresError) -> Observed<Chain> {
    let diagnostic = error.diagnostic();
    Observed::Unreadable(diagnostic.detail.unwrap_or(diagnostic.message))
}

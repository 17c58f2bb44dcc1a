//! Tries and samples, all at once, what a check was asked for. It judges nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;

use crate::check::{Canaries, Evidence, Selection, canary_limit_ms};
use crate::judge;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::topology::{Link, Topology};
use crate::prove::{Sessions, amcheck, archive, canary, samples};
use crate::remote::Host;

/// Gathers evidence; `at` is when the servers were observed.
pub async fn gather<H: Host>(
    sessions: &Sessions<'_, H>,
    hosts: &BTreeMap<ServerName, Result<H, String>>,
    topology: &Topology,
    observation: &Observation,
    selection: &Selection,
    at: Timestamp,
) -> Evidence {
    let primary = judge::primary(topology, observation);
    let links = topology.links(primary.unwrap_or_else(|| topology.preferred_primary()));
    let (canaries, served, samples, amcheck, archive) = tokio::join!(
        async {
            let wanted = ["L6", "L7", "L11"].iter().any(|check| selection.wants(check));
            if wanted { Some(canaries(sessions, topology, primary, &links).await) } else { None }
        },
        async { if selection.wants("L16") { Some(served(sessions, topology, observation).await) } else { None } },
        async {
            let worth = worth_sampling(topology, observation, primary, &links, selection);
            samples::sample_links(sessions, primary, &worth).await
        },
        async {
            if !(selection.deep && selection.wants("L12")) {
                return None;
            }
            let standbys: Vec<&ServerName> = links.iter().map(|link| &link.standby).collect();
            Some(amcheck::run_amcheck(topology, observation, hosts, &standbys).await)
        },
        async {
            let (primary, host) = match (primary, selection.deep && selection.wants("L20")) {
                (Some(primary), true) => (primary, hosts.get(primary)?.as_ref().ok()?),
                _ => return None,
            };
            Some(archive::archive_trip(sessions, host, topology, observation, primary).await)
        },
    );
    let by_socket = sessions.by_socket();
    Evidence { at, canaries, samples, served, by_socket, amcheck, archive, ..Evidence::default() }
}

async fn canaries<H: Host>(
    sessions: &Sessions<'_, H>,
    topology: &Topology,
    primary: Option<&ServerName>,
    links: &[Link],
) -> Canaries {
    match primary {
        Some(primary) => {
            let limit = |link: &Link| Duration::from_millis(canary_limit_ms(topology, primary, &link.standby));
            canary::watch_canaries(sessions, primary, links, limit).await
        }
        None => topology.servers().map(|server| (server.name.clone(), Observed::Absent)).collect(),
    }
}

/// Returns the certificate of every instance that was seen to run.
async fn served<H: Host>(
    sessions: &Sessions<'_, H>,
    topology: &Topology,
    observation: &Observation,
) -> BTreeMap<ServerName, Observed<String>> {
    let runs = |name: &ServerName| observation.server(name).is_some_and(|seen| seen.instance.known().is_some());
    let looks = topology
        .servers()
        .filter(|server| runs(&server.name))
        .map(async |server| (server.name.clone(), sessions.served(&server.name).await));
    join_all(looks).await.into_iter().collect()
}

/// Returns the links of which one look says too little, with the pause between two looks: those that lag, and all where
/// no row can be written, since nothing else shows then whether the upstream still hears from the standby.
fn worth_sampling(
    topology: &Topology,
    observation: &Observation,
    primary: Option<&ServerName>,
    links: &[Link],
    selection: &Selection,
) -> Vec<(Link, Duration)> {
    if selection.quick || !(selection.wants("L6") || selection.wants("L8")) {
        return Vec::new();
    }
    let thresholds = &topology.common().thresholds;
    let instance = |name: &ServerName| observation.server(name).and_then(|seen| seen.instance.known());
    let position = primary.and_then(instance).and_then(|instance| instance.positions.current);
    links
        .iter()
        .filter_map(|link| {
            let (Some(standby), Some(_)) = (instance(&link.standby), instance(&link.upstream)) else { return None };
            let behind =
                position.zip(standby.positions.replay).map(|(position, replay)| position.bytes_ahead_of(replay));
            let lags = behind.is_some_and(|bytes| u64::try_from(bytes).is_ok_and(|b| b >= thresholds.lag_growth_bytes));
            // Twice the standby's own interval must fit between the first and the last look (L6).
            let interval_ms = standby
                .settings
                .get("wal_receiver_status_interval")
                .and_then(|setting| setting.setting.parse::<u64>().ok())
                .map_or(10_000, |seconds| seconds.saturating_mul(1_050));
            let pause_ms = thresholds.sample_interval_ms.max(if primary.is_none() { interval_ms } else { 0 });
            (lags || primary.is_none()).then(|| (link.clone(), Duration::from_millis(pause_ms)))
        })
        .collect()
}

//! Looks at servers: one compound probe per server and phase, parsed purely. It has no way to change anything.

pub mod beside;
pub mod damage;
pub mod history;
pub mod log;
pub mod lost;
pub mod meet;
pub mod pairs;
pub mod parse;
pub mod places;
pub mod pooler;
pub mod probe;
pub mod readiness;
pub mod records;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;

use crate::event::{Event, Events};
use crate::model::archive::copy_directory;
use crate::model::name::ServerName;
use crate::model::observation::{Observation, ServerObservation};
use crate::model::observed::Observed;
use crate::model::topology::{Server, Topology};
use crate::observe::parse::Asked;
use crate::observe::probe::Wish;
use crate::observe::records::Records;
use crate::remote::{Host, LOOK, RemoteError};
use crate::wait;
use crate::wait::Look;

/// The name of this phase in events.
const PHASE: &str = "observe";

/// Observes all servers at once. A server without a connection is unreadable, with the reason that came instead of one.
pub async fn observe<H: Host>(
    topology: &Topology,
    hosts: &BTreeMap<ServerName, Result<H, String>>,
    wish: Wish,
    events: &Events,
) -> Observation {
    let asked = || topology.servers().filter_map(|server| Some((server, hosts.get(&server.name)?)));
    let names = asked().map(|(server, _)| server.name.clone()).collect();
    events.send(Event::PhaseStarted { phase: PHASE, servers: names });
    let looks = asked().map(async |(server, host)| {
        let mut hangs = false;
        let seen = match host {
            Ok(host) => {
                settled(wish.settle, async || {
                    let seen = observe_server(topology, server, host, wish).await;
                    hangs = matches!(seen, Err(RemoteError::TimedOut { .. }));
                    seen.unwrap_or_else(|error| Observed::Unreadable(error.to_string()))
                })
                .await
            }
            Err(why) => Observed::Unreadable(why.clone()),
        };
        let error = seen.unreadable().map(str::to_owned);
        events.send(Event::PhaseDone { phase: PHASE, server: server.name.clone(), error });
        (server.name.clone(), seen, hangs)
    });
    // To whom nobody is to connect, nobody looks.
    let servers = topology.servers().map(|server| (server.name.clone(), Observed::NotAsked)).collect();
    let mut observation = Observation { servers, ..Observation::default() };
    for (name, seen, hangs) in join_all(looks).await {
        if hangs {
            observation.hanging.insert(name.clone());
        }
        observation.servers.insert(name, seen);
    }
    observation
}

/// Looks a second time: at what other servers answer to a fresh connection, and at places that the first look named.
/// What could not be looked at stays as it was. It runs beside other work: a silent network costs the dials' own limit.
pub async fn look_again<H: Host>(
    topology: &Topology,
    hosts: &BTreeMap<ServerName, Result<H, String>>,
    observation: &Observation,
) -> BTreeMap<ServerName, Records> {
    let looks = topology.servers().map(async |server| {
        let host = hosts.get(&server.name)?.as_ref().ok()?;
        // One that did not answer is not waited for a second time.
        let instance = observation.server(&server.name)?.instance.known();
        let command = instance.and_then(|instance| instance.settings.get("archive_command"));
        let archive = command.and_then(|command| copy_directory(&command.setting)).map(str::to_owned);
        let paths: Vec<String> = archive.into_iter().collect();
        let output = host.probe(&probe::SCRIPT, &probe::second_look(topology, server, &paths)).await.ok()?;
        Some((server.name.clone(), Records::parse(&output.stdout).ok()?))
    });
    join_all(looks).await.into_iter().flatten().collect()
}

/// Looks at a server, and again as long as its instance starts or stops: a plan for what it was a moment ago helps nobody.
async fn settled(
    limit: Duration,
    mut look: impl AsyncFnMut() -> Observed<ServerObservation>,
) -> Observed<ServerObservation> {
    let mut last = Observed::Absent;
    // When the time is over, what was seen last says why.
    let _ = wait::until(limit, wait::LOOK_AGAIN, async || {
        last = look().await;
        match last.known() {
            Some(seen) if seen.starts_or_stops => Look::NotYet(String::new()),
            _ => Look::Ready(()),
        }
    })
    .await;
    last
}

/// How long a look may take: whoever wishes more waits longer.
fn patience(wish: Wish) -> Duration {
    const DATABASES: Duration = Duration::from_secs(60);
    const BESIDE: Duration = Duration::from_secs(15);
    const TREE: Duration = Duration::from_secs(600);
    let more = [(wish.readiness, DATABASES), (wish.beside_size, BESIDE), (wish.size, TREE)];
    more.into_iter().filter(|(is_wished, _)| *is_wished).map(|(_, more)| more).sum::<Duration>() + LOOK
}

async fn observe_server<H: Host>(
    topology: &Topology,
    server: &Server,
    host: &H,
    wish: Wish,
) -> Result<Observed<ServerObservation>, RemoteError> {
    let sent_ms = Timestamp::now().as_millisecond();
    let answer =
        host.probe_within(patience(wish), probe::script(wish), &probe::arguments(topology, server, wish)).await;
    let asked = Asked { sent_ms, answered_ms: Timestamp::now().as_millisecond() };
    let output = answer?;
    Ok(match Records::parse(&output.stdout) {
        Ok(records) => Observed::Known(parse::parse_server(&records, &probe::layouts(topology, server), asked)),
        Err(error) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Observed::Unreadable([&error.to_string(), ": ", said.trim()].concat())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTS: &[u8] = b"#starts_or_stops 1\n1\n#instance ! process 7 works\n#end 2\nok\n";
    const GONE: &[u8] = b"#instance -\n#end 2\nok\n";

    /// Looks at one that has stopped at the third look.
    async fn looked(limit: Duration) -> ServerObservation {
        let mut answers = [STARTS, STARTS, GONE].into_iter();
        let seen = settled(limit, async || {
            let records = Records::parse(answers.next().unwrap()).unwrap();
            Observed::Known(parse::parse_server(&records, &[], Asked { sent_ms: 0, answered_ms: 0 }))
        });
        seen.await.known().unwrap().clone()
    }

    #[tokio::test]
    async fn one_that_stops_is_looked_at_until_it_has() {
        let seen = looked(Duration::from_secs(60)).await;
        assert!(seen.instance.is_absent() && !seen.starts_or_stops);
    }

    #[tokio::test]
    async fn whoever_does_not_wait_is_told_what_it_does() {
        let seen = looked(Duration::ZERO).await;
        assert_eq!((seen.instance.unreadable(), seen.starts_or_stops), (Some("process 7 works"), true));
    }
}

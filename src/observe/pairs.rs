//! Measures the way between every two servers: one execution on each server per round, in which it answers one other
//! and asks one other, so that nobody's measurement disturbs another's at the same end.
//!
//! The servers listen for seconds at the most and end by themselves. Nothing is judged here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use rand::RngExt;

use crate::event::{Event, Events};
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::pair::{Answer, Pairs, Reach, Way};
use crate::model::topology::{Server, Topology};
use crate::plan::links::network;
use crate::remote::Host;

/// How long a measurement may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The text of the measurement.
pub const SCRIPT: &str = include_str!("pair.sh");

/// How long a line is filled where only its rate is asked for, in seconds.
const RATE_SECONDS: f64 = 0.5;

/// The name of this phase in events.
const PHASE: &str = "measure";

/// Ports for what cannot go through the instance's own: below those that kernels hand out (`ip_local_port_range`).
const SIDE_PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How many of them are tried: somebody else may have one.
const SIDE_PORTS_TRIED: usize = 3;

/// What a server has ready for those who ask it.
struct Door {
    token: String,
    side_ports: String,
    listen: String,
}

impl Door {
    fn new(topology: &Topology, observation: &Observation, server: &Server) -> Self {
        let mut random = rand::rng();
        let all = network::listen(topology, observation, server);
        let own = observation.server(&server.name).map(|seen| seen.addresses.as_slice()).unwrap_or_default();
        // Local addresses are nobody's way here, except on a loopback lab, which has no others.
        let wide: Vec<IpAddr> = all.iter().copied().filter(|ip| !ip.is_loopback() && own.contains(ip)).collect();
        let listen = if wide.is_empty() { all } else { wide };
        let ports: Vec<String> = (0..SIDE_PORTS_TRIED).map(|_| random.random_range(SIDE_PORTS).to_string()).collect();
        Self {
            token: format!("{:032x}", random.random::<u128>()),
            side_ports: ports.join(","),
            listen: listen.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(","),
        }
    }
}

/// Measures every ordered pair. A pair whose ends are not both connected is unreadable, with the reason.
pub async fn measure<H: Host>(
    topology: &Topology,
    observation: &Observation,
    hosts: &BTreeMap<ServerName, Result<H, String>>,
    throughput_seconds: f64,
    events: &Events,
) -> Pairs {
    let servers: Vec<&Server> = topology.servers().collect();
    measure_among(&servers, topology, observation, hosts, throughput_seconds, events).await
}

/// Measures what one server can send to another, in bytes a second; none where that could not be measured.
pub async fn measure_rate<H: Host>(
    topology: &Topology,
    observation: &Observation,
    hosts: &BTreeMap<ServerName, Result<H, String>>,
    [from, to]: [&ServerName; 2],
    events: &Events,
) -> Option<f64> {
    let servers = [topology.server(from)?, topology.server(to)?];
    let pairs = measure_among(&servers, topology, observation, hosts, RATE_SECONDS, events).await;
    pairs.get(from)?.get(to)?.known()?.bytes_per_second
}

async fn measure_among<H: Host>(
    servers: &[&Server],
    topology: &Topology,
    observation: &Observation,
    hosts: &BTreeMap<ServerName, Result<H, String>>,
    throughput_seconds: f64,
    events: &Events,
) -> Pairs {
    let names = servers.iter().map(|server| server.name.clone()).collect();
    events.send(Event::PhaseStarted { phase: PHASE, servers: names });
    let mut pairs = Pairs::new();
    for distance in 1..servers.len() {
        let doors: Vec<Door> = servers.iter().map(|server| Door::new(topology, observation, server)).collect();
        let round = servers.iter().copied().enumerate().map(async |(index, from)| {
            let target = (index + distance) % servers.len();
            let to = servers[target];
            let host = match ends(hosts, observation, &from.name, &to.name) {
                Ok(host) => host,
                Err(why) => return (from, to, Observed::Unreadable(why)),
            };
            let way = ask(host, from, &doors[index], to, &doors[target], throughput_seconds).await;
            (from, to, way)
        });
        for (from, to, way) in join_all(round).await {
            pairs.entry(from.name.clone()).or_default().insert(to.name.clone(), way);
        }
    }
    for server in servers {
        let of_server = pairs.get(&server.name).into_iter().flatten();
        let error = of_server.filter_map(|(_, way)| way.unreadable()).next().map(str::to_owned);
        events.send(Event::PhaseDone { phase: PHASE, server: server.name.clone(), error });
    }
    pairs
}

/// Returns the connection to the server that asks, where both are connected and were seen.
fn ends<'a, H>(
    hosts: &'a BTreeMap<ServerName, Result<H, String>>,
    observation: &Observation,
    from: &ServerName,
    to: &ServerName,
) -> Result<&'a H, String> {
    for name in [to, from] {
        if !matches!(hosts.get(name), Some(Ok(_))) || observation.server(name).is_none() {
            return Err(["server \"", name.as_str(), "\" could not be looked at"].concat());
        }
    }
    match hosts.get(from) {
        Some(Ok(host)) => Ok(host),
        _ => Err("there is no connection".to_owned()),
    }
}

async fn ask<H: Host>(
    host: &H,
    from: &Server,
    own: &Door,
    to: &Server,
    other: &Door,
    throughput_seconds: f64,
) -> Observed<Way> {
    let words = [
        own.token.clone(),
        throughput_seconds.to_string(),
        from.port.to_string(),
        own.side_ports.clone(),
        own.listen.clone(),
        other.token.clone(),
        to.address.to_string(),
        to.port.to_string(),
        other.side_ports.clone(),
    ];
    match host.probe_within(LIMIT, SCRIPT, &words).await {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            parse(&output.text()).unwrap_or_else(|why| Observed::Unreadable([&why, ": ", &said].concat()))
        }
        Err(error) => Observed::Unreadable(error.to_string()),
    }
}

/// Parses what the script prints: a word and its values per line.
fn parse(text: &str) -> Result<Observed<Way>, String> {
    if !text.lines().any(|line| line == "end") {
        return Err("the measurement was cut off".to_owned());
    }
    let value = |name: &str| {
        text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).next_back().map(str::trim)
    };
    if let Some(why) = value("error") {
        return Ok(Observed::Unreadable(why.to_owned()));
    }
    let numbers = |name: &str| -> Vec<f64> {
        value(name).map(|words| words.split(' ').filter_map(|word| word.parse().ok()).collect()).unwrap_or_default()
    };
    let reach = |word: &str| match word {
        "open" => Reach::Open,
        "refused" => Reach::Refused,
        "timed_out" => Reach::TimedOut,
        "not_resolved" => Reach::NotResolved,
        other => Reach::Failed(other.strip_prefix("failed ").unwrap_or(other).to_owned()),
    };
    let segments = numbers("segments");
    let way = Way {
        port: reach(value("port").ok_or("the measurement says nothing of the port")?),
        answer: value("answer").map(|word| match word {
            "tls" => Answer::Tls,
            "plain" => Answer::Plain,
            "listener" => Answer::Listener,
            _ => Answer::Other,
        }),
        side_port: value("side").map(reach),
        listen_error: value("listen").map(str::to_owned),
        source_here: value("source").and_then(|text| text.parse().ok()),
        source_there: value("seen").and_then(|text| text.parse().ok()),
        echo_ms: <[f64; 3]>::try_from(numbers("echo").as_slice()).ok(),
        echo_segments: segments.first().map_or(0, |number| *number as u64),
        echo_retransmits: segments.get(1).map_or(0, |number| *number as u64),
        bytes_per_second: numbers("throughput").get(1).copied().filter(|rate| *rate > 0.0),
        path_mtu: numbers("mtu").first().map(|number| *number as u32),
    };
    Ok(Observed::Known(way))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measured_way() {
        let text = "port open\nanswer listener\nsource 10.0.0.11\nseen 10.0.0.11\nside open\necho 0.041 0.052 0.110\n\
                    segments 24 1\nmtu 1500\nthroughput 2621440 2500000\nend\n";
        let way = parse(text).unwrap().known().unwrap().clone();
        assert_eq!((way.port, way.answer), (Reach::Open, Some(Answer::Listener)));
        assert_eq!(way.echo_ms, Some([0.041, 0.052, 0.11]));
        assert_eq!((way.echo_segments, way.echo_retransmits), (24, 1));
        assert_eq!((way.bytes_per_second, way.path_mtu), (Some(2_500_000.0), Some(1500)));
        assert_eq!(way.source_there, "10.0.0.11".parse().ok());
    }

    #[test]
    fn what_could_not_be_measured_says_why() {
        assert!(parse("port open\n").is_err());
        assert_eq!(parse("error there is no perl\nend\n").unwrap().unreadable(), Some("there is no perl"));
        let way = parse("port timed_out\nside failed No route to host\nend\n").unwrap();
        let way = way.known().unwrap();
        assert_eq!(way.port, Reach::TimedOut);
        assert_eq!(way.side_port, Some(Reach::Failed("No route to host".to_owned())));
        assert_eq!(way.bytes_per_second, None);
    }
}

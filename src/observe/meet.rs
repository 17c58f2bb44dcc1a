//! Asks servers under which address they see each other, where a plan cannot know it: one more round trip, to just the
//! servers concerned. It changes nothing; who must be asked is decided by `plan/network.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures_util::future::join_all;

use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::topology::Topology;
use crate::observe::records::Records;
use crate::plan::links::network;
use crate::plan::links::network::Meeting;
use crate::remote::Host;

/// The text of the script.
pub const SCRIPT: &str = include_str!("meet.sh");

/// What the callers heard, by caller and called server.
type Heard = BTreeMap<Meeting, Observed<IpAddr>>;

/// Lets servers meet and puts what they heard into the observation.
pub async fn meet<H: Host>(
    topology: &Topology,
    meetings: &BTreeSet<Meeting>,
    hosts: &BTreeMap<ServerName, Result<H, String>>,
    observation: &mut Observation,
) {
    let servers: BTreeSet<&ServerName> =
        meetings.iter().flat_map(|meeting| [&meeting.caller, &meeting.called]).collect();
    let seen = &*observation;
    let heard: Heard = join_all(servers.into_iter().map(async |server| {
        let calls: Vec<&Meeting> = meetings.iter().filter(|meeting| meeting.caller == *server).collect();
        let answer = match hosts.get(server) {
            Some(Ok(host)) => match host.probe(SCRIPT, &arguments(topology, seen, meetings, server)).await {
                Ok(output) => Records::parse(&output.stdout).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            },
            Some(Err(why)) => Err(why.clone()),
            None => Err("there is no connection to it".to_owned()),
        };
        calls.into_iter().map(|meeting| (meeting.clone(), heard(&answer, &meeting.called))).collect::<Vec<_>>()
    }))
    .await
    .into_iter()
    .flatten()
    .collect();
    for (meeting, address) in heard {
        let caller = observation.servers.get_mut(&meeting.caller);
        if let Some(Observed::Known(caller)) = caller
            && let Some(peer) = caller.peers.get_mut(&meeting.called)
        {
            peer.seen_as = address;
        }
    }
}

fn heard(answer: &Result<Records, String>, called: &ServerName) -> Observed<IpAddr> {
    match answer {
        Err(why) => Observed::Unreadable(why.clone()),
        Ok(records) => match records.get(&["seen.", called.as_str()].concat()) {
            Observed::Known(text) => text.trim().parse().map_or(Observed::Unreadable(text), Observed::Known),
            other => Observed::Unreadable(other.unreadable().unwrap_or("it was not called").to_owned()),
        },
    }
}

/// Returns the script's words for one server: it listens where its instance will, unless that runs.
fn arguments(
    topology: &Topology,
    observation: &Observation,
    meetings: &BTreeSet<Meeting>,
    name: &ServerName,
) -> Vec<String> {
    let Some(server) = topology.server(name) else { return Vec::new() };
    let expected = meetings.iter().filter(|meeting| meeting.called == *name).count();
    let mut words = vec![server.port.to_string(), expected.to_string()];
    if expected > 0 && observation.server(name).is_some_and(|seen| seen.listener.is_absent()) {
        for ip in network::listen(topology, observation, server) {
            words.extend(["listen".to_owned(), ip.to_string()]);
        }
    }
    for called in meetings.iter().filter(|meeting| meeting.caller == *name) {
        let Some(called) = topology.server(&called.called) else { continue };
        let call = ["call".to_owned(), called.name.to_string(), called.address.to_string(), called.port.to_string()];
        words.extend(call);
    }
    words
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn run(args: &[&str]) -> std::process::Child {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "pgstead-probe"]).args(args);
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        command.spawn().unwrap()
    }

    fn records(child: std::process::Child) -> Records {
        Records::parse(&child.wait_with_output().unwrap().stdout).unwrap()
    }

    /// The script is run for real: two servers on loopback addresses, and an instance that turns the caller away.
    #[test]
    fn servers_tell_each_other_what_they_see() {
        let begun = std::time::Instant::now();
        let a = run(&["45432", "1", "listen", "127.0.0.1", "call", "b", "127.0.0.2", "45432"]);
        let b = run(&["45432", "1", "listen", "127.0.0.2", "call", "a", "127.0.0.1", "45432"]);
        let seen = |records: &Records, name: &str| heard(&Ok(records.clone()), &name.parse().unwrap());
        let known = Observed::Known("127.0.0.1".parse().unwrap());
        assert_eq!(seen(&records(a), "b"), known);
        assert_eq!(seen(&records(b), "a"), known);
        assert!(begun.elapsed().as_secs_f64() < 1.9, "nobody waited for the deadline: {:?}", begun.elapsed());
    }

    #[test]
    fn an_instance_says_it_in_its_error() {
        use std::io::{Read as _, Write as _};
        let said = "E\0\0\0\u{7f}SFATAL\0VFATAL\0C28000\0Mno pg_hba.conf entry for host \"10.0.0.7\", user \"pgstead_meet\", database \"pgstead_meet\", no encryption\0\0";
        for (said, expected) in [
            (said, Observed::Known("10.0.0.7".parse().unwrap())),
            (&said.replace("10.0.0.7", "fd00::7"), Observed::Known("fd00::7".parse().unwrap())),
            ("R\0\0\0\u{17}", Observed::Unreadable("it listens and does not say whom it sees".to_owned())),
        ] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port().to_string();
            let caller = run(&["45433", "0", "call", "b", "127.0.0.1", &port]);
            let (mut instance, _) = listener.accept().unwrap();
            let mut startup = [0; 16];
            instance.read_exact(&mut startup).unwrap();
            instance.write_all(said.as_bytes()).unwrap();
            drop(instance);
            assert_eq!(heard(&Ok(records(caller)), &"b".parse().unwrap()), expected);
        }
    }

    #[test]
    fn nobody_there_is_said_after_two_seconds() {
        let found = heard(&Ok(records(run(&["45434", "0", "call", "b", "127.0.0.1", "45435"]))), &"b".parse().unwrap());
        assert!(found.unreadable().is_some_and(|why| why.contains("refused")), "{found:?}");
    }
}

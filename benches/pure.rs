//! The pure core alone: inventory, parsing, planning, rendering, checking. No server is touched.
//!
//! The answers in `data/` are what the probe printed on three Debian 12 hosts: one fresh, then a primary and its standby.
#![expect(clippy::unwrap_used, reason = "the data is in this directory")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hint::black_box;
use std::net::IpAddr;
use std::path::Path;

use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use jiff::Timestamp;
use pgstead::apply::material;
use pgstead::check;
use pgstead::check::Evidence;
use pgstead::check::Selection;
use pgstead::inventory;
use pgstead::model::observation::Observation;
use pgstead::model::observation::ServerObservation;
use pgstead::model::observed::Observed;
use pgstead::model::topology::Server;
use pgstead::model::topology::Topology;
use pgstead::observe::parse::Asked;
use pgstead::observe::parse::parse_server;
use pgstead::observe::probe;
use pgstead::observe::records::Records;
use pgstead::pki::OperatorSecrets;
use pgstead::plan::Consent;
use pgstead::plan::operation::rotate::Renewal;
use pgstead::plan::plan_bootstrap;
use pgstead::plan::survey::authority::Keys;
use pgstead::state::StateDir;
use pgstead::ui::look::Look;
use pgstead::ui::plan::PlanView;

const FRESH: &[u8] = include_bytes!("data/fresh.answer");
const PRIMARY: &[u8] = include_bytes!("data/primary.answer");
const STANDBY: &[u8] = include_bytes!("data/standby.answer");

fn inventory_text(servers: usize) -> String {
    let mut text = String::from(
        "topology: lab\npostgres: { version: 15 }\nsites: { main: {}, metro: {}, remote: {} }\nservers:\n",
    );
    for index in 0..servers {
        let (kind, site) = if index == 0 { ("primary", "main") } else { ("standby", ["metro", "remote"][index % 2]) };
        writeln!(text, "  s{index}: {{ address: 10.0.0.{}, site: {site}, kind: {kind} }}", index + 1).unwrap();
    }
    text
}

fn topology(servers: usize) -> Topology {
    let problems = |problems| panic!("{problems:#?}");
    inventory::read(&inventory_text(servers), "bench.yaml").unwrap_or_else(problems).0
}

fn parse(answer: &[u8], topology: &Topology, server: &Server) -> ServerObservation {
    let clock = Records::parse(answer).unwrap();
    let now: i64 = clock.text("clock").trim().parse::<i64>().unwrap() / 1_000_000;
    parse_server(&clock, &probe::layouts(topology, server), Asked { sent_ms: now - 5, answered_ms: now + 5 })
}

/// Every server as it was captured, but for what tells servers apart.
fn observation(topology: &Topology, primary: &[u8], standby: &[u8]) -> Observation {
    let mut servers = BTreeMap::new();
    for (index, server) in topology.servers().enumerate() {
        let mut seen = parse(if index == 0 { primary } else { standby }, topology, server);
        seen.os.host_name = server.name.to_string();
        seen.os.machine_id = Observed::Known(format!("{index:032x}"));
        let address: IpAddr = server.address.to_string().parse().unwrap();
        seen.addresses = vec![address];
        let peer = seen.peers.values().next().cloned().unwrap();
        seen.peers = topology
            .servers()
            .filter(|other| other.name != server.name)
            .map(|other| {
                let mut peer = peer.clone();
                peer.resolved = vec![other.address.to_string().parse().unwrap()];
                peer.source = Some(address);
                (other.name.clone(), peer)
            })
            .collect();
        servers.insert(server.name.clone(), Observed::Known(seen));
    }
    Observation { servers, ..Observation::default() }
}

fn keys(topology: &Topology, directory: &Path) -> Keys {
    let stored = StateDir::at(directory).load_secrets().unwrap();
    let (secrets, _) =
        OperatorSecrets::complete(stored, topology.name(), "ops@laptop", topology.common().lifetimes, Timestamp::now())
            .unwrap();
    Keys::Held(Box::new(secrets))
}

fn pure(criterion: &mut Criterion) {
    let fifty = inventory_text(50);
    criterion.bench_function("read an inventory of 50 servers", |b| {
        b.iter(|| inventory::read(black_box(&fifty), "bench.yaml").unwrap());
    });
    let three = topology(3);
    let server = three.servers().next().unwrap();
    for (name, answer) in [("a fresh server", FRESH), ("a primary", PRIMARY), ("a standby", STANDBY)] {
        criterion.bench_function(&format!("parse the answer of {name}, {} bytes", answer.len()), |b| {
            b.iter(|| parse(black_box(answer), &three, server));
        });
    }
    let nowhere = tempfile::tempdir().unwrap();
    for servers in [3, 50] {
        let topology = topology(servers);
        let fresh = observation(&topology, FRESH, FRESH);
        let keys = keys(&topology, nowhere.path());
        let prepare = || material::prepare(&topology, &fresh, &keys, Renewal::OfNone, Timestamp::now()).unwrap();
        let material = prepare();
        let plan =
            || plan_bootstrap(&topology, &fresh, &material, Consent::default()).unwrap_or_else(|no| panic!("{no:#?}"));
        criterion.bench_function(&format!("make the certificates of {servers} servers"), |b| b.iter(prepare));
        criterion.bench_function(&format!("plan a bootstrap of {servers} servers, files rendered"), |b| b.iter(plan));
        let plan = plan();
        let logins =
            fresh.servers.iter().map(|(name, seen)| (name.clone(), seen.known().unwrap().login.clone())).collect();
        criterion.bench_function(&format!("print the plan of {servers} servers"), |b| {
            let look = Look { terminal: false, colour: false, redraw: false, unicode: true, whole: true, width: 120 };
            b.iter(|| {
                pgstead::ui::plan::render(
                    &PlanView { topology: topology.name(), plan: Ok(&plan), logins: &logins },
                    look,
                )
            });
        });
        let running = observation(&topology, PRIMARY, STANDBY);
        let evidence = Evidence::default();
        criterion.bench_function(&format!("check {servers} servers"), |b| {
            b.iter(|| check::check(&topology, black_box(&running), &evidence, &Selection::default()));
        });
    }
}

criterion_group!(benches, pure);
criterion_main!(benches);

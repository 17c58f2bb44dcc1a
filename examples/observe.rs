//! Prints what pgstead observes on the servers of an inventory, as JSON: the input of plan and check cases.
//!
//! `cargo run --example observe -- pgstead.yaml > tests/plan/base/running.json`

use std::collections::BTreeMap;
use std::io::Write;

use pgstead::event::Events;
use pgstead::inventory::Places;
use pgstead::observe::observe;
use pgstead::observe::probe::Wish;
use pgstead::remote::ConnectOptions;
use pgstead::remote::Connector;

type AnyError = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let path = std::env::args().nth(1).ok_or("usage: observe INVENTORY")?;
    let base = std::path::absolute(std::path::Path::new(&path).parent().ok_or("no directory")?)?;
    let places = Places { base, home: std::env::home_dir() };
    let (topology, _) = pgstead::inventory::read_at(&std::fs::read_to_string(&path)?, &path, &places)
        .map_err(|problems| format!("{problems:?}"))?;
    let connector = Connector::new(ConnectOptions::new("known_hosts".into()), Events::silent())?;
    let connected = connector.connect_all(topology.servers()).await;
    let hosts: BTreeMap<_, _> = connected
        .into_iter()
        .map(|(server, host)| (server.name.clone(), host.map_err(|error| error.to_string())))
        .collect();
    let observation = observe(&topology, &hosts, Wish { dials: true, ..Wish::default() }, &Events::silent()).await;
    serde_json::to_writer_pretty(std::io::stdout().lock(), &observation)?;
    writeln!(std::io::stdout())?;
    Ok(())
}

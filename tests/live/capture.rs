//! Keeps what was seen on a live topology as cases for `tests/check.rs`: with `PGSTEAD_CAPTURE=DIR`, and not otherwise.
//!
//! The texts are the servers' own. Only what no judgement reads is left out: settings that nobody set, and the content
//! of files other than the role, the manifest and certificates.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use pgstead::check::Evidence;
use pgstead::check::Selection;
use pgstead::event::Events;
use pgstead::inventory;
use pgstead::model::ServerName;
use pgstead::model::lifetimes::Lifetimes;
use pgstead::model::observation::Observation;
use pgstead::model::observed::Observed;
use pgstead::model::parameter::HOT_STANDBY_PARAMETERS;
use pgstead::model::topology::Topology;
use pgstead::observe;
use pgstead::observe::parse::add_second_look;
use pgstead::observe::probe::Wish;
use pgstead::pki::OperatorSecrets;
use pgstead::postgres::Tls;
use pgstead::prove;
use pgstead::prove::Sessions;
use pgstead::remote::ConnectOptions;
use pgstead::remote::Connector;
use pgstead::remote::Ssh;
use pgstead::remote::close_all;
use pgstead::state::StateDir;

use crate::scenario::Scenario;

/// Keeps what is seen now as case `NAME-MAJOR`.
pub(crate) fn keep(lab: &Scenario, name: &str, major: u32) {
    let Some(directory) = std::env::var_os("PGSTEAD_CAPTURE") else { return };
    let text = serde_json::to_string_pretty(&lab.inventory).unwrap();
    let (topology, _) = inventory::read(&text, "inventory.yaml").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (observation, mut evidence) = runtime.block_on(look(lab, &topology));
    let folder = PathBuf::from(directory).join(format!("{name}-{major}"));
    std::fs::create_dir_all(&folder).unwrap();
    let mut inventory = lab.inventory.clone();
    inventory["ssh"] = serde_json::json!({ "user": "root" });
    std::fs::write(folder.join("inventory.yaml"), serde_saphyr::to_string(&inventory).unwrap()).unwrap();
    let write = |file: &str, text: String| std::fs::write(folder.join(file), text + "\n").unwrap();
    write("observation.json", serde_json::to_string_pretty(&observation).unwrap());
    write("canaries.json", serde_json::to_string_pretty(&evidence.canaries.take()).unwrap());
    write("evidence.json", serde_json::to_string_pretty(&evidence).unwrap());
}

/// Keeps what a preflight sees now as case `NAME-MAJOR` of `tests/preflight.rs`.
pub(crate) fn keep_preflight(lab: &Scenario, name: &str, major: u32) {
    let Some(directory) = std::env::var_os("PGSTEAD_CAPTURE") else { return };
    let text = serde_json::to_string_pretty(&lab.inventory).unwrap();
    let (topology, _) = inventory::read(&text, "inventory.yaml").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut observation, pairs) = runtime.block_on(async {
        let hosts = connect(lab, &topology).await;
        let wish = Wish { readiness: true, ..Wish::default() };
        let observation = observe::observe(&topology, &hosts, wish, &Events::silent()).await;
        let pairs = observe::pairs::measure(&topology, &observation, &hosts, 0.3, &Events::silent()).await;
        close_all(hosts.into_values().filter_map(Result::ok)).await;
        (observation, pairs)
    });
    leave_out(&mut observation);
    let folder = PathBuf::from(directory).join(format!("{name}-{major}"));
    std::fs::create_dir_all(&folder).unwrap();
    let mut inventory = lab.inventory.clone();
    inventory["ssh"] = serde_json::json!({ "user": "root" });
    std::fs::write(folder.join("inventory.yaml"), serde_saphyr::to_string(&inventory).unwrap()).unwrap();
    let write = |file: &str, text: String| std::fs::write(folder.join(file), text + "\n").unwrap();
    write("observation.json", serde_json::to_string_pretty(&observation).unwrap());
    write("pairs.json", serde_json::to_string_pretty(&pairs).unwrap());
}

async fn connect(lab: &Scenario, topology: &Topology) -> BTreeMap<ServerName, Result<Ssh, String>> {
    let known_hosts = StateDir::at(lab.state()).known_hosts();
    let connector = Connector::new(ConnectOptions::new(known_hosts), Events::silent()).unwrap();
    let connected = connector.connect_all(topology.servers()).await;
    connected
        .into_iter()
        .map(|(server, result)| {
            let why = |error: pgstead::remote::RemoteError| {
                let diagnostic = error.diagnostic();
                diagnostic.detail.unwrap_or(diagnostic.message)
            };
            (server.name.clone(), result.map_err(why))
        })
        .collect()
}

async fn look(lab: &Scenario, topology: &Topology) -> (Observation, Evidence) {
    let state = StateDir::at(lab.state());
    let hosts = connect(lab, topology).await;
    let mut observation = observe::observe(topology, &hosts, Wish::default(), &Events::silent()).await;
    let stored = state.load_secrets().unwrap();
    let (secrets, _) =
        OperatorSecrets::complete(stored, topology.name(), "ops@laptop", Lifetimes::default(), Timestamp::now())
            .unwrap();
    let tls = Tls::new(&secrets.ca.certificate, &secrets.operator).unwrap();
    let sessions = Sessions::new(topology, &observation, &hosts, Some(tls));
    let selection = Selection::default();
    let mut evidence = prove::gather(&sessions, &hosts, topology, &observation, &selection, Timestamp::now()).await;
    for (name, records) in observe::look_again(topology, &hosts, &observation).await {
        if let Some(Observed::Known(seen)) = observation.servers.get_mut(&name) {
            add_second_look(seen, &records);
        }
    }
    evidence.dialled = true;
    close_all(hosts.into_values().filter_map(Result::ok)).await;
    leave_out(&mut observation);
    (observation, evidence)
}

/// Extensions and libraries that cases name; a package brings a hundred more.
const NAMED: [&str; 4] = ["hstore", "libpqwalreceiver", "pg_stat_statements", "plpgsql"];

fn leave_out(observation: &mut Observation) {
    for seen in observation.servers.values_mut() {
        let Observed::Known(seen) = seen else { continue };
        if let Observed::Known(ready) = &mut seen.readiness {
            ready.mounts.retain(|mount, _| !["/dev", "/run", "/sys"].iter().any(|other| mount.starts_with(other)));
            for mount in ready.mounts.values_mut() {
                // Where this machine keeps the layers of an overlay is nobody's business.
                mount.options = mount.options.split(',').filter(|o| !o.contains('=')).collect::<Vec<_>>().join(",");
            }
            let installed = &mut ready.installed;
            if let Observed::Known(libraries) = &mut installed.libraries {
                libraries.retain(|name| NAMED.contains(&name.as_str()));
            }
            if let Observed::Known(extensions) = &mut installed.extensions {
                extensions.retain(|name, _| NAMED.contains(&name.as_str()));
            }
        }
        for (path, fact) in &mut seen.files {
            if let Observed::Known(fact) = fact
                && !path.ends_with("/role")
                && !path.ends_with("/manifest")
                && !path.ends_with(".crt")
            {
                fact.content = None;
            }
        }
        if let Observed::Known(instance) = &mut seen.instance {
            let is_judged = |name: &str| {
                HOT_STANDBY_PARAMETERS.contains(&name)
                    || matches!(name, "max_replication_slots" | "archive_mode" | "wal_receiver_status_interval")
                    || matches!(name, "shared_buffers" | "huge_pages" | "wal_level" | "wal_log_hints")
                    || name.ends_with("_preload_libraries")
                    || name.starts_with("recovery_target")
            };
            instance
                .settings
                .retain(|name, setting| setting.sourcefile.is_some() || setting.pending_restart || is_judged(name));
            for role in instance.roles.values_mut() {
                role.verifier_sha256 = None;
            }
        }
    }
}

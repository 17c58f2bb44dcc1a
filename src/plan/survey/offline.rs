//! What a server is presumed to be when nobody looks: for rendering files without servers.
//!
//! The layout is the first candidate, the addresses are those of the inventory. What is found on a server decides later.

use std::collections::BTreeMap;

use crate::model::argv::{Login, RootAccess};
use crate::model::layout::Layout;
use crate::model::observation::{Observation, Os, ServerObservation};
use crate::model::observed::Observed;
use crate::model::topology::{Server, Topology};

/// Returns an observation that nobody made, of servers as the inventory describes them.
pub fn presume(topology: &Topology) -> Observation {
    let servers = topology.servers().map(|server| {
        let layouts = Layout::candidates(topology.name().as_str(), server, topology.common().version);
        let layout = layouts.into_iter().next().map_or(Observed::Absent, |layout| Observed::Known(owned(layout)));
        (server.name.clone(), Observed::Known(presume_server(server, layout)))
    });
    Observation { servers: servers.collect(), ..Observation::default() }
}

fn owned(layout: Layout) -> Layout {
    let os_user = if layout.os_user.is_empty() { "postgres".to_owned() } else { layout.os_user.clone() };
    Layout { os_user, ..layout }
}

fn presume_server(server: &Server, layout: Observed<Layout>) -> ServerObservation {
    ServerObservation {
        login: Login { user: server.ssh.user.clone().unwrap_or_default(), root: RootAccess::Sudo },
        os: Os {
            name: String::new(),
            architecture: String::new(),
            host_name: String::new(),
            machine_id: Observed::Absent,
            libc: Observed::Absent,
            systemd: true,
            clock_skew_ms: 0,
            clock_error_ms: 0,
            os_user_exists: true,
            sudo_refused: None,
            sudo_as_instance: None,
        },
        layout,
        other_installations: Vec::new(),
        version: Observed::Absent,
        data_directory: Observed::Absent,
        beside: Vec::new(),
        beside_facts: Vec::new(),
        disks: BTreeMap::new(),
        listener: Observed::Absent,
        service: Observed::Absent,
        files: BTreeMap::new(),
        jobs: Vec::new(),
        lock: Observed::Absent,
        lock_age_seconds: None,
        generation: 0,
        addresses: server.address.ip().into_iter().collect(),
        peers: BTreeMap::new(),
        instance: Observed::Absent,
        libraries: Observed::Absent,
        starts_or_stops: false,
        answers: false,
        asked_otherwise: None,
        pooler: Observed::Absent,
        readiness: Observed::default(),
    }
}

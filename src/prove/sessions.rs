//! Sessions to the instances of a topology, opened when first needed and kept for the run.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::diagnostic::Diagnostic;
use crate::model::layout::Layout;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::topology::Topology;
use crate::model::version::Major;
use crate::observe::log;
use crate::observe::log::LogEnd;
use crate::pki::pem_of;
use crate::plan::network;
use crate::postgres::Client;
use crate::postgres::ConnectWish;
use crate::postgres::Tls;
use crate::remote::Host;

/// The sessions of one run.
#[derive(Debug)]
pub struct Sessions<'a, H> {
    hosts: &'a BTreeMap<ServerName, Result<H, String>>,
    doors: BTreeMap<ServerName, Door>,
    version: Major,
    tls: Tls,
}

/// How one instance is reached, and the session once it is open.
#[derive(Debug)]
struct Door {
    target: Option<IpAddr>,
    port: u16,
    verify_name: String,
    layout: Option<Layout>,
    client: Mutex<Option<Arc<Client>>>,
}

impl<'a, H: Host> Sessions<'a, H> {
    /// Prepares sessions; opens none.
    pub fn new(
        topology: &Topology,
        observation: &Observation,
        hosts: &'a BTreeMap<ServerName, Result<H, String>>,
        tls: Tls,
    ) -> Self {
        let doors = topology
            .servers()
            .map(|server| {
                let door = Door {
                    target: network::forward_target(topology, observation, &server.name),
                    port: server.port,
                    verify_name: server.address.to_string(),
                    layout: observation.server(&server.name).and_then(|seen| seen.layout.known().cloned()),
                    client: Mutex::new(None),
                };
                (server.name.clone(), door)
            })
            .collect();
        Self { hosts, doors, version: topology.common().version, tls }
    }

    /// Returns the session to a server, opening it where none is open.
    ///
    /// # Errors
    /// There is no connection, or PostgreSQL does not let us in.
    pub async fn session(&self, name: &ServerName) -> Result<Arc<Client>, Box<Diagnostic>> {
        let missing =
            |what: &str| Box::new(Diagnostic::error("no-session", format!("server \"{name}\": {what}")).server(name));
        let door = self.doors.get(name).ok_or_else(|| missing("it is not in the inventory"))?;
        let mut client = door.client.lock().await;
        if let Some(open) = client.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(open));
        }
        let host = match self.hosts.get(name) {
            Some(Ok(host)) => host,
            Some(Err(why)) => return Err(missing(why)),
            None => return Err(missing("there is no connection to it")),
        };
        let target = door.target.ok_or_else(|| missing("no address of its instance is known"))?;
        let socket =
            host.forward(&target.to_string(), door.port).await.map_err(|error| Box::new(error.diagnostic()))?;
        let mut wish = ConnectWish::new(name.clone(), socket, &door.verify_name);
        wish.version = Some(self.version);
        let open = match Client::connect(&wish, &self.tls).await {
            Ok(open) => open,
            Err(error) => {
                // A server that forwards nothing closes what was opened, as an instance does that does not run.
                host.may_forward(&target.to_string(), door.port).await.map_err(|error| Box::new(error.diagnostic()))?;
                return Err(Box::new(error.diagnostic()));
            }
        };
        let open = Arc::new(open);
        *client = Some(Arc::clone(&open));
        Ok(open)
    }

    /// Returns the end of a server's log, and what came since `before`; none where it could not be read.
    pub(super) async fn log_end(&self, name: &ServerName, before: Option<&LogEnd>) -> Option<LogEnd> {
        let host = self.hosts.get(name)?.as_ref().ok()?;
        let layout = self.doors.get(name)?.layout.as_ref()?;
        log::look(host, layout, before).await.known().cloned()
    }

    /// Returns where standbys dial a server: host and port.
    pub(super) fn dialled_at(&self, name: &ServerName) -> Option<(String, u16)> {
        let door = self.doors.get(name)?;
        Some((door.verify_name.clone(), door.port))
    }

    /// Returns the certificate that a server serves, from the handshake of its session; PEM.
    pub async fn served(&self, name: &ServerName) -> Observed<String> {
        let opened = self.session(name).await;
        match (self.tls.shown_by(name), opened) {
            (Some(der), _) => Observed::Known(pem_of(&der)),
            (None, Ok(_)) => Observed::Unreadable("the session was opened without showing one".to_owned()),
            (None, Err(diagnostic)) => Observed::Unreadable(explain(&diagnostic)),
        }
    }
}

/// Says in one line what a diagnostic says.
pub(super) fn explain(diagnostic: &Diagnostic) -> String {
    match &diagnostic.detail {
        Some(detail) => [&diagnostic.message, ": ", detail].concat(),
        None => diagnostic.message.clone(),
    }
}

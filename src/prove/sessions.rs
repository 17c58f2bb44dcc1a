//! Sessions to the instances of a topology, opened when first needed and kept for the run.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use tokio::sync::Mutex;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::argv::Login;
use crate::model::layout::Layout;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::topology::Topology;
use crate::model::version::Major;
use crate::observe::log;
use crate::observe::log::LogEnd;
use crate::pki::pem_of;
use crate::plan::Trust;
use crate::plan::links::network;
use crate::postgres::{Client, ConnectWish, PostgresError, Tls};
use crate::prove::way;
use crate::prove::way::End;
use crate::remote::Host;
use crate::render::hba::roles;

/// The sessions of one run.
#[derive(Debug)]
pub struct Sessions<'a, H> {
    hosts: &'a BTreeMap<ServerName, Result<H, String>>,
    doors: BTreeMap<ServerName, Door>,
    version: Major,
    /// None where nobody knows the CA of the servers.
    tls: Option<Tls>,
    of_rotation: Option<OfRotation>,
    by_socket: std::sync::Mutex<BTreeMap<ServerName, String>>,
}

/// Why a server is asked through its local socket, and not over TLS.
enum BySocket {
    /// This machine has no certificate to log in with.
    NoCertificate,
    /// TLS came to nothing, in the words of its diagnostic.
    Refused(Box<Diagnostic>),
}

/// Why no session came about over TLS.
enum Shut {
    /// It is a matter of certificates, or of the role: the local socket of the server over SSH proves as much.
    Login(BySocket),
    /// Whatever it is, it would be the same on another way.
    Otherwise(Box<Diagnostic>),
}

/// What shows which of two CAs a server trusts, while one takes the place of the other.
#[derive(Debug, Clone)]
pub struct OfRotation {
    /// Logs in with a certificate of the new CA, and nothing that leads to another.
    pub new: Tls,
    /// Logs in with one of the former CA.
    pub former: Option<Tls>,
}

/// Whether a server takes a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It does.
    Yes,
    /// It does not; its TLS alert.
    No(String),
}

/// How one instance is reached, and the session once it is open.
#[derive(Debug)]
struct Door {
    target: Option<IpAddr>,
    port: u16,
    verify_name: String,
    layout: Option<Layout>,
    login: Option<Login>,
    client: Mutex<Option<Arc<Client>>>,
}

impl<'a, H: Host> Sessions<'a, H> {
    /// Prepares sessions; opens none.
    pub fn new(
        topology: &Topology,
        observation: &Observation,
        hosts: &'a BTreeMap<ServerName, Result<H, String>>,
        tls: Option<Tls>,
    ) -> Self {
        let doors = topology
            .servers()
            .map(|server| {
                let seen = observation.server(&server.name);
                let door = Door {
                    target: network::forward_target(topology, observation, &server.name),
                    port: server.port,
                    verify_name: server.address.to_string(),
                    layout: seen.and_then(|seen| seen.layout.known().cloned()),
                    login: seen.map(|seen| seen.login.clone()),
                    client: Mutex::new(None),
                };
                (server.name.clone(), door)
            })
            .collect();
        Self {
            hosts,
            doors,
            version: topology.common().version,
            tls,
            of_rotation: None,
            by_socket: std::sync::Mutex::default(),
        }
    }

    /// Lets it be seen which of two CAs servers trust.
    pub fn with_rotation(self, of_rotation: Option<OfRotation>) -> Self {
        Self { of_rotation, ..self }
    }

    /// Sees whether a server takes a certificate that a CA issues now, from a connection that is opened anew.
    ///
    /// # Errors
    /// Nobody knows: it could not be tried.
    pub async fn takes(&self, name: &ServerName, trust: Trust) -> Result<Taken, Box<Diagnostic>> {
        let missing = || {
            let message = format!("server \"{name}\": there is nothing to see it with");
            Box::new(Diagnostic::error(Code::NoSession, message).server(name))
        };
        let of_rotation = self.of_rotation.as_ref().ok_or_else(missing)?;
        let tls = match trust {
            Trust::Gained => Some(&of_rotation.new),
            Trust::Lost => of_rotation.former.as_ref(),
        };
        let (Some(tls), Some(door), Some(Ok(host))) = (tls, self.doors.get(name), self.hosts.get(name)) else {
            return Err(missing());
        };
        match self.connect_over_tls(name, door, host, tls).await? {
            Ok(_) => Ok(Taken::Yes),
            Err(PostgresError::NotTrusted { detail, .. }) => Ok(Taken::No(detail)),
            // That comes behind the handshake.
            Err(error) if error.is_not_admitted() => Ok(Taken::Yes),
            Err(error) => Err(Box::new(error.diagnostic())),
        }
    }

    /// Returns the session to a server, opening it where none is open.
    ///
    /// # Errors
    /// There is no connection, or PostgreSQL does not let us in.
    pub async fn session(&self, name: &ServerName) -> Result<Arc<Client>, Box<Diagnostic>> {
        let missing = |what: &str| {
            Box::new(Diagnostic::error(Code::NoSession, format!("server \"{name}\": {what}")).server(name))
        };
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
        let open = match self.over_tls(name, door, host).await {
            Ok(open) => open,
            Err(Shut::Otherwise(diagnostic)) => return Err(diagnostic),
            Err(Shut::Login(why)) => {
                let open = self.over_socket(name, door, host).await.map_err(|told| also(told, &why))?;
                if let BySocket::Refused(why) = why {
                    let mut by_socket = self.by_socket.lock().unwrap_or_else(PoisonError::into_inner);
                    by_socket.insert(name.clone(), explain(&why));
                }
                open
            }
        };
        let open = Arc::new(open);
        *client = Some(Arc::clone(&open));
        Ok(open)
    }

    /// Returns the servers that are asked through their local sockets although this machine has a certificate, and why.
    pub fn by_socket(&self) -> BTreeMap<ServerName, String> {
        self.by_socket.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sees whether a session to a server could be had, as far as its machine is concerned; its instance need not run.
    ///
    /// # Errors
    /// No way leads there.
    pub async fn may_reach(&self, name: &ServerName) -> Result<(), Box<Diagnostic>> {
        let (Some(door), Some(Ok(host))) = (self.doors.get(name), self.hosts.get(name)) else { return Ok(()) };
        let (Some(login), Some(layout)) = (&door.login, &door.layout) else { return Ok(()) };
        if !self.tls.as_ref().is_some_and(Tls::has_certificate) {
            return way::open(host, login, End::Nowhere(Some(layout))).await.map(drop);
        }
        // Where nobody knows its address, that is told in other words.
        if door.target.is_none() {
            return Ok(());
        }
        let (target, _) = self.wish(name, door, host).await?;
        match host.may_forward(&target, door.port).await {
            Ok(()) => Ok(()),
            Err(told) => match way::open(host, login, End::Nowhere(None)).await {
                Ok(_) => Ok(()),
                Err(failed) => Err(Box::new(told.diagnostic().detail(explain(&failed)))),
            },
        }
    }

    /// Opens a session as role `pgstead` by certificate, through a port that SSH forwards, or past one where it forwards nothing.
    async fn over_tls(&self, name: &ServerName, door: &Door, host: &H) -> Result<Client, Shut> {
        let Some(tls) = self.tls.as_ref().filter(|tls| tls.has_certificate()) else {
            return Err(Shut::Login(BySocket::NoCertificate));
        };
        let judged = |error: PostgresError| match error {
            PostgresError::Certificate { .. } | PostgresError::NotTrusted { .. } => {
                Shut::Login(BySocket::Refused(Box::new(error.diagnostic())))
            }
            // Role `pgstead` is not there, may not log in, or is not let in from here.
            _ if error.is_not_admitted() => Shut::Login(BySocket::Refused(Box::new(error.diagnostic()))),
            _ => Shut::Otherwise(Box::new(error.diagnostic())),
        };
        self.connect_over_tls(name, door, host, tls).await.map_err(Shut::Otherwise)?.map_err(judged)
    }

    /// Connects as role `pgstead`, on whichever way there is. What the instance answers is the inner result.
    async fn connect_over_tls(
        &self,
        name: &ServerName,
        door: &Door,
        host: &H,
        tls: &Tls,
    ) -> Result<Result<Client, PostgresError>, Box<Diagnostic>> {
        let (target, wish) = self.wish(name, door, host).await?;
        let error = match Client::connect(&wish, tls).await {
            Ok(open) => return Ok(Ok(open)),
            Err(error) => error,
        };
        // A server that forwards nothing closes what was opened, as an instance does that does not run.
        let told = match host.may_forward(&target, door.port).await {
            Ok(()) => return Ok(Err(error)),
            Err(told) => Box::new(told.diagnostic()),
        };
        let Some(login) = &door.login else { return Err(told) };
        // That the instance does not run is no matter of the way; a relay that cannot work is.
        let stream = way::open(host, login, End::Address(&target, door.port)).await?;
        Ok(Client::connect_over(&wish, tls, stream).await)
    }

    /// Opens a session through the instance's local socket, as its owner: the host key of SSH proves the server. Where there is a
    /// role `pgstead`, the session has the rights of that role.
    async fn over_socket(&self, name: &ServerName, door: &Door, host: &H) -> Result<Client, Box<Diagnostic>> {
        let missing = |what: &str| {
            Box::new(Diagnostic::error(Code::NoSession, format!("server \"{name}\": {what}")).server(name))
        };
        let (Some(layout), Some(login)) = (&door.layout, &door.login) else {
            return Err(missing("where its instance is, is not known"));
        };
        let mut wish = ConnectWish::new(name.clone(), &layout.socket_directory, &door.verify_name);
        wish.version = Some(self.version);
        let mut refused: Option<PostgresError> = None;
        let mut users = vec![roles::SUPERUSER, layout.os_user.as_str()];
        users.dedup();
        for user in users {
            for role in [Some(roles::OPERATOR), None] {
                user.clone_into(&mut wish.user);
                let stream = way::open(host, login, End::Socket(layout, door.port)).await?;
                match Client::connect_locally(&wish, role, stream).await {
                    Ok(open) => return Ok(open),
                    Err(error) => {
                        let is_role_missing = error.is_invalid_value();
                        // The first says best what is wrong.
                        refused.get_or_insert(error);
                        if !is_role_missing {
                            break;
                        }
                    }
                }
            }
            if !refused.as_ref().is_some_and(PostgresError::is_not_admitted) {
                break;
            }
        }
        Err(refused.map_or_else(|| missing("it has no superuser"), |error| Box::new(error.diagnostic())))
    }

    /// Returns where a port is forwarded to, and what a session through it should be like.
    async fn wish(&self, name: &ServerName, door: &Door, host: &H) -> Result<(String, ConnectWish), Box<Diagnostic>> {
        let Some(target) = door.target.map(|target| target.to_string()) else {
            let message = format!("server \"{name}\": no address of its instance is known");
            return Err(Box::new(Diagnostic::error(Code::NoSession, message).server(name)));
        };
        let socket = host.forward(&target, door.port).await.map_err(|error| Box::new(error.diagnostic()))?;
        let mut wish = ConnectWish::new(name.clone(), socket, &door.verify_name);
        wish.version = Some(self.version);
        Ok((target, wish))
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

    /// Returns the certificate that a server serves, from the handshake of its session or from one without a login; PEM.
    pub async fn served(&self, name: &ServerName) -> Observed<String> {
        let Some(tls) = &self.tls else {
            return Observed::Unreadable(
                "no CA of the servers is known, and so nobody's certificate is looked at".to_owned(),
            );
        };
        let opened = match tls.has_certificate() {
            true => self.session(name).await.map(drop),
            false => self.look(name, tls).await,
        };
        match (tls.shown_by(name), opened) {
            (Some(der), _) => Observed::Known(pem_of(&der)),
            (None, Ok(())) => Observed::Unreadable("the session was opened without showing one".to_owned()),
            (None, Err(diagnostic)) => Observed::Unreadable(explain(&diagnostic)),
        }
    }

    /// Returns the certificate that a server serves to a connection that is opened now; PEM.
    pub async fn served_anew(&self, name: &ServerName) -> Observed<String> {
        let Some(tls) = &self.tls else {
            return Observed::Unreadable("no CA of the servers is known".to_owned());
        };
        match (self.look(name, tls).await, tls.shown_by(name)) {
            (Ok(()), Some(der)) => Observed::Known(pem_of(&der)),
            (Ok(()), None) => Observed::Unreadable("the connection was opened without showing one".to_owned()),
            (Err(diagnostic), _) => Observed::Unreadable(explain(&diagnostic)),
        }
    }

    /// Sees which certificate a server shows, without a login.
    async fn look(&self, name: &ServerName, tls: &Tls) -> Result<(), Box<Diagnostic>> {
        let (Some(door), Some(Ok(host))) = (self.doors.get(name), self.hosts.get(name)) else { return Ok(()) };
        let (target, wish) = self.wish(name, door, host).await?;
        let told = |error: PostgresError| Box::new(error.diagnostic());
        if host.may_forward(&target, door.port).await.is_ok() {
            return tls.look(&wish, wish.dial().await.map_err(told)?).await.map_err(told);
        }
        let Some(login) = &door.login else { return Ok(()) };
        let stream = way::open(host, login, End::Address(&target, door.port)).await?;
        tls.look(&wish, stream).await.map_err(told)
    }
}

/// Adds why another way was not taken.
fn also(told: Box<Diagnostic>, why: &BySocket) -> Box<Diagnostic> {
    let first = match why {
        BySocket::NoCertificate => return told,
        BySocket::Refused(diagnostic) => explain(diagnostic),
    };
    let then = told.detail.as_deref().unwrap_or_default();
    let detail = ["Over TLS: ", first.trim_end_matches('.'), ". Through its local socket: ", then].concat();
    Box::new(told.detail(detail))
}

/// Says in one line what a diagnostic says.
pub(crate) fn explain(diagnostic: &Diagnostic) -> String {
    match &diagnostic.detail {
        Some(detail) => [&diagnostic.message, ": ", detail].concat(),
        None => diagnostic.message.clone(),
    }
}

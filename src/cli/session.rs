//! What every command that meets servers does first: connect to all, observe all.
//!
//! It holds the connections for the command's whole time, and has no opinion on what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::{Timestamp, Unit};

use super::inventory::Inventory;
use crate::apply::passwords::{Passwords, Primary};
use crate::apply::{material, passwords};
use crate::check::evidence::Log;
use crate::check::{CheckReport, Evidence, Selection};
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::event::{Event, Events};
use crate::judge::ServerState;
use crate::model::argv::Login;
use crate::model::host_key;
use crate::model::lost::Lost;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::topology::{Server, Topology};
use crate::observe::log::LogEnd;
use crate::observe::parse;
use crate::observe::probe::Wish;
use crate::pki::{Authority, CertificatePair, OperatorSecrets, PkiError, StoredSecrets};
use crate::plan::adoption::elsewhere;
use crate::plan::links::network;
use crate::plan::operation::failover::Parting;
use crate::plan::operation::reseed::{Diagnosis, Divergence};
use crate::plan::operation::rotate::Renewal;
use crate::plan::operation::{failover, reseed, switchover};
use crate::plan::survey::authority::{Keys, Standing};
use crate::plan::survey::{authority, history, password};
use crate::plan::{Consent, Material};
use crate::postgres::Tls;
use crate::prove::{OfRotation, Sessions};
use crate::remote::{ConnectOptions, Connector, RemoteError, Ssh, close_all};
use crate::state::journal::operator;
use crate::state::{Holder, RunLock, StateDir, StateError};
use crate::{check, judge, observe, prove};

/// The name of the first phase in events.
const CONNECT: &str = "connect";

/// How long a command that plans changes waits for an instance that starts or stops, as after an interrupted run; beyond that
/// it is refused, as one that does not answer is.
const SETTLE: Duration = Duration::from_secs(5);

/// What a command that plans changes looks at.
pub(super) fn to_plan() -> Wish {
    Wish { settle: SETTLE, ..Wish::default() }
}

/// How long a server that is said to be off may take to answer.
const LAST_CALL: Duration = Duration::from_secs(2);

/// Connections to all servers, and what was seen over them.
#[derive(Debug)]
pub(super) struct Session<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) state: StateDir,
    pub(super) hosts: BTreeMap<ServerName, Result<Ssh, String>>,
    /// Why servers could not be reached.
    pub(super) unreachable: Vec<Diagnostic>,
    pub(super) observation: Observation,
    pub(super) events: Events,
}

/// Servers that are not there for a command as the others are.
#[derive(Debug, Default)]
pub(super) struct Away {
    /// These are said to be off: nobody waits for them longer than it takes to be sure.
    pub(super) off: BTreeSet<ServerName>,
    /// The operator leaves these out: nobody looks at them.
    pub(super) left_out: BTreeSet<ServerName>,
}

impl<'a> Session<'a> {
    /// Connects to all servers and observes them. One that cannot be reached is a fact, not a failure.
    pub(super) async fn open(inventory: &'a Inventory, wish: Wish, events: Events) -> Result<Self, Failure> {
        Self::open_despite(inventory, wish, events, Away::default()).await
    }

    /// Does the same where some servers are away. While those that are said to be off are called, the others are looked at.
    pub(super) async fn open_despite(
        inventory: &'a Inventory,
        wish: Wish,
        events: Events,
        away: Away,
    ) -> Result<Self, Failure> {
        let Away { off, left_out } = away;
        let state = StateDir::at(&inventory.state_dir);
        let mut session = Self {
            inventory,
            state,
            hosts: BTreeMap::new(),
            unreachable: Vec::new(),
            observation: Observation::default(),
            events,
        };
        let topology = &inventory.topology;
        let is_called = |server: &&Server| !left_out.contains(&server.name);
        let names = topology.servers().filter(is_called).map(|server| server.name.clone()).collect();
        session.events.send(Event::PhaseStarted { phase: CONNECT, servers: names });
        let options = ConnectOptions::new(absolute(session.state.known_hosts()));
        let there = topology.servers().filter(is_called).filter(|server| !off.contains(&server.name));
        let connected = connect(options.clone(), there, &session.events).await?;
        session.add(connected);
        if off.is_empty() {
            session.observe(wish).await;
            return Ok(session);
        }
        let options = ConnectOptions { connect_timeout: LAST_CALL, ..options };
        let events = session.events.clone();
        let missing = topology.servers().filter(|server| off.contains(&server.name));
        let (called, ()) = tokio::join!(connect(options, missing, &events), session.observe(wish));
        let called = called?;
        let is_there = called.iter().any(|(_, result)| result.is_ok());
        session.add(called);
        for name in &off {
            if let Some(Err(why)) = session.hosts.get(name) {
                session.observation.servers.insert(name.clone(), Observed::Unreadable(why.clone()));
            }
        }
        if is_there {
            session.observe(wish).await;
        }
        Ok(session)
    }

    /// Takes connections, and notes why there is none.
    fn add(&mut self, connected: Vec<(&Server, Result<Ssh, RemoteError>)>) {
        for (server, result) in connected {
            let error = result.as_ref().err().map(ToString::to_string);
            self.events.send(Event::PhaseDone { phase: CONNECT, server: server.name.clone(), error });
            let host = result.map_err(|error| {
                let diagnostic = error.diagnostic();
                let said = diagnostic.detail.clone().unwrap_or_else(|| diagnostic.message.clone());
                // What ssh says of a key names neither the reason nor the way out.
                let key =
                    [host_key::CHANGED, host_key::UNKNOWN].into_iter().find(|key| diagnostic.message.ends_with(key));
                let why = key.map_or(said.clone(), |key| [key, ". ", &said].concat());
                self.unreachable.push(diagnostic);
                why
            });
            self.hosts.insert(server.name.clone(), host);
        }
    }

    /// Looks again over the same connections. Servers between which addresses may be translated are asked for that once.
    pub(super) async fn observe(&mut self, wish: Wish) {
        let topology = &self.inventory.topology;
        let now = observe::observe(topology, &self.hosts, wish, &self.events).await;
        let before = std::mem::replace(&mut self.observation, now);
        network::remember(&before, &mut self.observation);
        let mut meetings = network::meetings(topology, &self.observation);
        if wish.dials {
            // A check judges the links as they are; a plan admits every server to every other.
            let primary = judge::primary_or_preferred(topology, &self.observation);
            let links = topology.links(primary);
            meetings.retain(|meeting| {
                links.iter().any(|link| link.standby == meeting.caller && link.upstream == meeting.called)
            });
        }
        if !meetings.is_empty() {
            observe::meet::meet(topology, &meetings, &self.hosts, &mut self.observation).await;
        }
    }

    /// Reads what a plan must compare before it attaches a server: one more round trip, to just the servers concerned.
    pub(super) async fn compare_histories(&mut self) {
        let questions = history::questions(&self.inventory.topology, &self.observation);
        if !questions.is_empty() {
            observe::history::compare_histories(questions, &self.hosts, &mut self.observation).await;
        }
    }

    /// Looks at what servers must have themselves: one more round trip, to just the servers concerned.
    pub(super) async fn look_elsewhere(&mut self, consent: Consent) {
        let inquiries = elsewhere::questions(&self.inventory.topology, &self.observation, consent);
        if !inquiries.is_empty() {
            let topology = &self.inventory.topology;
            observe::places::look(topology, inquiries, &self.hosts, &mut self.observation).await;
        }
    }

    /// Reads what a re-seed must know besides: the WAL of the server and of its upstream, and which of its files are missing.
    pub(super) async fn look_for_reseed(&mut self, server: &ServerName) {
        let questions = reseed::questions(&self.inventory.topology, &self.observation, server);
        let damage = self.damage(server).await;
        if !questions.is_empty() {
            observe::history::compare_histories(questions, &self.hosts, &mut self.observation).await;
        }
        self.observation.damage.extend(damage.map(|damage| (server.clone(), damage)));
        if let Some(inquiry) = reseed::inquiry(&self.inventory.topology, &self.observation, server) {
            let (topology, inquiries) = (&self.inventory.topology, BTreeMap::from([(server.clone(), inquiry)]));
            observe::places::look(topology, inquiries, &self.hosts, &mut self.observation).await;
        }
    }

    /// Reads what a switchover must compare before servers follow a new primary, and what tells whether a bootstrap is due first.
    pub(super) async fn compare_for_switchover(&mut self, to: &ServerName) {
        let questions = switchover::questions(&self.inventory.topology, &self.observation, to);
        if !questions.is_empty() {
            observe::history::compare_histories(questions, &self.hosts, &mut self.observation).await;
        }
        self.look_elsewhere(switchover::OF_BOOTSTRAP).await;
    }

    /// Reads what a failover must compare before servers follow a new primary.
    pub(super) async fn compare_for_failover(&mut self, request: failover::Request<'_>) {
        // As often as there are servers, at the most: each answer leaves one behind, and asks about those who followed it.
        for _ in self.inventory.topology.servers() {
            let questions = failover::questions(&self.inventory.topology, &self.observation, request);
            if questions.is_empty() {
                return;
            }
            observe::history::compare_histories(questions, &self.hosts, &mut self.observation).await;
        }
    }

    /// Reads what only a dead primary has, in its WAL, and what its tables are called, on its successor.
    pub(super) async fn lost_by_failover(&self, parting: &Parting, to: &ServerName) -> Option<Observed<Lost>> {
        let at = |name: &ServerName| {
            let host = self.hosts.get(name)?.as_ref().ok()?;
            Some((host, self.observation.server(name)?.layout.known()?))
        };
        let (host, layout) = at(to)?;
        let successor = (host, layout, self.inventory.topology.server(to)?);
        let Parting { from, timeline, left_at } = parting;
        Some(observe::lost::read(at(from)?, successor, *timeline, *left_at).await)
    }

    async fn damage(&self, name: &ServerName) -> Option<Observed<Vec<String>>> {
        let host = self.hosts.get(name)?.as_ref().ok()?;
        let server = self.inventory.topology.server(name)?;
        let seen = self.observation.server(name)?;
        let is_running = ServerState::of_seen(seen).instance().is_some();
        Some(observe::damage::look(host, server, seen.layout.known()?, is_running).await)
    }

    /// Reads what only a diverged server has: two round trips, and none where it did not diverge.
    pub(super) async fn only_on(&self, diagnosis: &Diagnosis) -> Option<Observed<Lost>> {
        let divergence = diagnosis.divergence.as_ref()?;
        let at = |name: &ServerName| {
            let host = self.hosts.get(name)?.as_ref().ok()?;
            Some((host, self.observation.server(name)?.layout.known()?))
        };
        let (host, layout) = at(&diagnosis.primary)?;
        let primary = (host, layout, self.inventory.topology.server(&diagnosis.primary)?);
        let Divergence { timeline, left_at, .. } = *divergence;
        Some(observe::lost::read(at(&diagnosis.server)?, primary, timeline, left_at).await)
    }

    /// Says whether a server could not be looked at: its connection may be worth opening anew.
    pub(super) fn lost_one(&self) -> bool {
        self.observation.servers.values().any(|seen| seen.known().is_none())
    }

    /// Ends a command that needs every server when one could not be reached.
    pub(super) fn require_all(&self) -> Result<(), Failure> {
        if self.unreachable.is_empty() {
            return Ok(());
        }
        Err(Failure::all(FailureKind::Unreachable, self.unreachable.clone()))
    }

    /// Ends a command for one server when that one could not be reached: it says why itself, in better words than its absence.
    pub(super) fn require(&self, server: &str) -> Result<(), Failure> {
        let is_about = |why: &&Diagnostic| why.server.as_deref() == Some(server);
        let unreachable: Vec<Diagnostic> = self.unreachable.iter().filter(is_about).cloned().collect();
        if unreachable.is_empty() { Ok(()) } else { Err(Failure::all(FailureKind::Unreachable, unreachable)) }
    }

    /// Returns who each connection is.
    pub(super) fn logins(&self) -> BTreeMap<ServerName, Login> {
        let seen = self.observation.servers.iter();
        seen.filter_map(|(name, seen)| Some((name.clone(), seen.known()?.login.clone()))).collect()
    }

    /// Loads the operator's secrets and makes in memory what is missing; but no CA beside one that servers use already.
    pub(super) fn keys(&self) -> Result<Keys, Failure> {
        keys(&self.state, &self.inventory.topology, &self.observation)
    }

    /// Does the same where the operator wishes another CA in the place of one that is lost.
    pub(super) fn keys_of_new_authority(&self) -> Result<Keys, Failure> {
        let keys = complete(&self.state, stored(&self.state)?, &self.inventory.topology)?;
        // A password that the servers do not have any more, or not yet, is not brought there: another one is made.
        let (topology, observation) = (&self.inventory.topology, &self.observation);
        Ok(match keys {
            Keys::Held(secrets)
                if password::is_another(topology, observation, password::in_use(topology, observation, &secrets)) =>
            {
                let stale = secrets.replication.clone();
                Keys::Held(Box::new(secrets.with_another_password(stale)))
            }
            keys => keys,
        })
    }

    /// Does the same where another CA is to take the place of the one that servers use, or is doing so.
    pub(super) fn keys_of_rotation(&self) -> Result<Keys, Failure> {
        let (topology, stored) = (&self.inventory.topology, stored(&self.state)?);
        match authority::standing(topology, &self.observation, &held(&stored)) {
            Standing::Elsewhere(authority) => Ok(Keys::Elsewhere(authority)),
            Standing::Unmade => complete(&self.state, stored, topology),
            Standing::Here => {
                let lifetimes = topology.common().lifetimes;
                let ca = stored.ca.clone();
                let stored = stored
                    .succeed(topology.name(), &operator(), lifetimes, Timestamp::now())
                    .map_err(|error| Failure::one(FailureKind::Refused, unusable(&self.state, ca.as_ref(), &error)))?;
                complete(&self.state, stored, topology)
            }
        }
    }

    /// Returns the certificate of the CA that this machine has stored, where it has one.
    pub(super) fn held_authority(&self) -> Result<Option<String>, Failure> {
        Ok(stored(&self.state)?.ca.map(|ca| ca.certificate))
    }

    /// Makes what a plan needs besides: certificates that are due, and the run's name.
    pub(super) fn material(&self, keys: &Keys) -> Result<Material, Failure> {
        self.material_for(keys, Renewal::OfNone)
    }

    /// Reads the passwords of application roles; makes those that are to be made.
    pub(super) async fn passwords(&self) -> Result<Passwords, Vec<Diagnostic>> {
        let topology = &self.inventory.topology;
        let primary = self.observation.server(judge::primary_or_preferred(topology, &self.observation));
        let primary = match primary.map(|seen| (&seen.instance, &seen.data_directory)) {
            Some((Observed::Known(instance), _)) => Primary::Runs(&instance.roles),
            Some((_, Observed::Absent)) => Primary::New,
            Some(_) | None => Primary::Unasked,
        };
        passwords::read(&topology.common().roles, primary, &self.state).await
    }

    /// The same for a change of the primary, which replaces no certificate of another CA on its way.
    pub(super) fn material_of_role_change(&self, keys: &Keys) -> Result<Material, Failure> {
        let mut material = self.material(keys)?;
        authority::keep_others(&self.inventory.topology, &self.observation, &mut material);
        Ok(material)
    }

    /// The same for a re-seed of one server.
    pub(super) fn material_of_reseed(&self, keys: &Keys, server: &ServerName) -> Result<Material, Failure> {
        let (topology, now) = (&self.inventory.topology, Timestamp::now());
        material::prepare_reseed(topology, &self.observation, keys, server, now).map_err(|error| pki_failure(&error))
    }

    /// The same, with new certificates for some servers in any case.
    pub(super) fn material_for(&self, keys: &Keys, renewal: Renewal<'_>) -> Result<Material, Failure> {
        material::prepare(&self.inventory.topology, &self.observation, keys, renewal, Timestamp::now())
            .map_err(|error| pki_failure(&error))
    }

    /// Returns the sessions to the instances; none is opened yet.
    pub(super) fn sessions(&self, keys: &Keys) -> Result<Sessions<'_, Ssh>, Failure> {
        let tls = match keys {
            Keys::Held(secrets) => Some(Tls::new(&secrets.authorities(), &secrets.operator)),
            Keys::Elsewhere(authority) => authority.certificate.as_deref().map(Tls::without_certificate),
        };
        let tls = tls.transpose().map_err(|error| Failure::one(FailureKind::Refused, error.diagnostic()))?;
        let sessions = Sessions::new(&self.inventory.topology, &self.observation, &self.hosts, tls);
        Ok(sessions.with_rotation(self.of_rotation(keys)?))
    }

    /// Returns what shows which of two CAs servers trust, while one takes the place of the other.
    fn of_rotation(&self, keys: &Keys) -> Result<Option<OfRotation>, Failure> {
        let Keys::Held(secrets) = keys else { return Ok(None) };
        if secrets.former.is_none() {
            return Ok(None);
        }
        let tls = |pair: &CertificatePair| {
            Tls::new(&secrets.authorities(), pair)
                .map_err(|error| Failure::one(FailureKind::Refused, error.diagnostic()))
        };
        let (topology, now) = (&self.inventory.topology, Timestamp::now());
        let alone = Authority::open(topology.name(), &secrets.ca, topology.common().lifetimes)
            .and_then(|authority| authority.issue_operator(now))
            .map_err(|error| pki_failure(&error))?;
        let former = secrets
            .of_former(topology.name(), topology.common().lifetimes, now)
            .map_err(|error| pki_failure(&error))?;
        Ok(Some(OfRotation { new: tls(&alone)?, former: former.as_ref().map(tls).transpose()? }))
    }

    /// Judges the topology: after trying what a selection wants, or from what was observed alone.
    pub(super) async fn check(&self, selection: Option<&Selection>) -> Result<CheckReport, Failure> {
        let topology = &self.inventory.topology;
        let now = Timestamp::now();
        let at = now.round(Unit::Millisecond).unwrap_or(now);
        let Some(selection) = selection else {
            let evidence = Evidence { at, ..Evidence::default() };
            return Ok(check::check(topology, &self.observation, &evidence, &Selection::default()));
        };
        let keys = self.keys()?;
        let sessions = self.sessions(&keys)?;
        let dials = async {
            match selection.wants("L15") {
                true => Some(observe::look_again(topology, &self.hosts, &self.observation).await),
                false => None,
            }
        };
        let (mut evidence, dials) =
            tokio::join!(prove::gather(&sessions, &self.hosts, topology, &self.observation, selection, at), dials);
        (evidence.authority, evidence.elsewhere) = match &keys {
            Keys::Held(secrets) => (Some(secrets.authorities()), None),
            Keys::Elsewhere(authority) => (authority.certificate.clone(), Some(authority.clone())),
        };
        evidence.in_rotation = matches!(&keys, Keys::Held(secrets) if secrets.former.is_some());
        let mut observation = self.observation.clone();
        evidence.dialled = dials.is_some();
        for (name, records) in dials.into_iter().flatten() {
            if let Some(Observed::Known(seen)) = observation.servers.get_mut(&name) {
                parse::add_second_look(seen, &records);
            }
        }
        let report = check::check(topology, &observation, &evidence, selection);
        evidence.logs = self.logs(&check::logs_wanted(&report)).await;
        Ok(match evidence.logs.is_empty() {
            true => report,
            false => check::check(topology, &observation, &evidence, selection),
        })
    }

    /// Reads the ends of logs: one more round trip, to just the servers concerned.
    async fn logs(&self, wanted: &BTreeSet<ServerName>) -> BTreeMap<ServerName, Observed<Log>> {
        let looks = wanted.iter().map(async |name| {
            let host = self.hosts.get(name)?.as_ref().ok()?;
            let layout = self.observation.server(name)?.layout.known()?;
            let end = observe::log::look(host, layout, None).await;
            Some((name.clone(), end.map(|LogEnd { file, text, .. }| Log { file, text })))
        });
        join_all(looks).await.into_iter().flatten().collect()
    }

    /// Closes the connections.
    pub(super) async fn close(self) {
        close_all(self.hosts.into_values().filter_map(Result::ok)).await;
    }
}

/// Loads the operator's secrets and makes in memory what is missing; but no CA beside one that servers use already.
pub(super) fn keys(state: &StateDir, topology: &Topology, observation: &Observation) -> Result<Keys, Failure> {
    let stored = stored(state)?;
    match authority::standing(topology, observation, &held(&stored)) {
        Standing::Elsewhere(authority) => Ok(Keys::Elsewhere(authority)),
        Standing::Here | Standing::Unmade => complete(state, stored, topology),
    }
}

/// Returns the certificates of the CAs that are stored.
fn held(stored: &StoredSecrets) -> Vec<&str> {
    stored.ca.iter().chain(&stored.former).map(|ca| ca.certificate.as_str()).collect()
}

fn stored(state: &StateDir) -> Result<StoredSecrets, Failure> {
    state.load_secrets().map_err(|error| Failure::one(FailureKind::Refused, error.diagnostic()))
}

fn complete(state: &StateDir, stored: StoredSecrets, topology: &Topology) -> Result<Keys, Failure> {
    let ca = stored.ca.clone();
    let (secrets, _) =
        OperatorSecrets::complete(stored, topology.name(), &operator(), topology.common().lifetimes, Timestamp::now())
            .map_err(|error| match &ca {
                Some(_) => Failure::one(FailureKind::Refused, unusable(state, ca.as_ref(), &error)),
                None => pki_failure(&error),
            })?;
    Ok(Keys::Held(Box::new(secrets)))
}

async fn connect<'a>(
    options: ConnectOptions,
    servers: impl Iterator<Item = &'a Server>,
    events: &Events,
) -> Result<Vec<(&'a Server, Result<Ssh, RemoteError>)>, Failure> {
    let connector = Connector::new(options, events.clone())
        .map_err(|error| Failure::one(FailureKind::Unreachable, error.diagnostic()))?;
    Ok(connector.connect_all(servers).await)
}

/// Says where what cannot be used is, and what to do about it.
fn unusable(state: &StateDir, ca: Option<&CertificatePair>, error: &PkiError) -> Diagnostic {
    let [certificate, key] = state.authority_files(ca).map(|path| path.display().to_string());
    let told = Diagnostic::error(Code::Certificates, error.to_string());
    if let PkiError::FormerMissing = error {
        let [former, its_key] = state.authority_files(None).map(|path| path.display().to_string());
        return told
            .detail(format!("The new one is {certificate} and {key}. Of the other, {former} or {its_key} is not there."))
            .hint("Put both back, from a backup or from another machine that has them, and run the same command again. Nothing was changed. Where they are lost for good: pgstead bootstrap --new-authority gives every server certificates of the new one.");
    }
    told.detail(format!("It was read from {certificate} and {key}."))
        .hint("Put both files back, from a backup or from another machine that has them. Nothing was changed. Where the key is lost for good, move both away: pgstead bootstrap --new-authority makes another CA.")
}

fn pki_failure(error: &PkiError) -> Failure {
    Failure::one(FailureKind::Refused, Diagnostic::error(Code::Certificates, error.to_string()))
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// Takes the state directory for a run of an operation, for as long as what is returned lives; a dry run takes nothing.
///
/// # Errors
/// Locked, by another run of this state directory; refused, where it cannot be made or written.
pub(super) fn hold(inventory: &Inventory, operation: &str, is_dry_run: bool) -> Result<Option<RunLock>, Failure> {
    if is_dry_run {
        return Ok(None);
    }
    let holder = Holder::this_process(operator(), operation, Timestamp::now());
    let locked = StateDir::at(&inventory.state_dir).lock(&holder).map_err(|error| {
        let is_locked = matches!(error, StateError::Locked { .. });
        let kind = if is_locked { FailureKind::Locked } else { FailureKind::Refused };
        Failure::one(kind, error.diagnostic())
    });
    locked.map(Some)
}

/// Names the state directory across machines: a lock on a server that carries this mark belongs to a dead run, since
/// the living one holds the directory's own lock. Without a mark no lock is its own.
pub(super) fn state_identity(state: &StateDir) -> String {
    state.mark().ok().flatten().unwrap_or_else(|| "a state directory without a mark".to_owned())
}

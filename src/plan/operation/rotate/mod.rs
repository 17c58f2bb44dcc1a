//! The plan of `rotate certificates`: servers get new certificates of the CA that this machine holds. One after the other, the
//! primary last; each is proven, by connections that are opened anew, before the next is touched. It restarts nothing.

pub mod passwords;
pub mod succession;

use std::collections::BTreeSet;

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::{ServerState, State};
use crate::model::name::ServerName;
use crate::model::observation::{Dial, Observation};
use crate::model::observed::Observed;
use crate::model::topology::{Link, Server, Topology};
use crate::plan::files::desired;
use crate::plan::material::Due;
use crate::plan::seen::Seen;
use crate::plan::step::{Action, Risk, Step};
use crate::plan::steps::service;
use crate::plan::survey::{Unsaid, authority, survey_of};
use crate::plan::{Material, Plan, PlanBuilder, StepId, files};
use crate::{judge, pki};

/// Whose certificates are replaced although they serve.
#[derive(Debug, Clone, Copy)]
pub enum Renewal<'a> {
    /// Nobody's: only what is due is.
    OfNone,
    /// Those of these servers.
    Of(&'a BTreeSet<ServerName>),
    /// Those of these servers that the CA has not signed, but the one whose place it takes.
    OfAuthority(&'a BTreeSet<ServerName>),
}

/// Returns the servers that are meant where nobody is named: all that have an instance, but for those that have to be re-seeded.
pub fn all(topology: &Topology, observation: &Observation) -> BTreeSet<ServerName> {
    let passed_over = authority::passed_over(topology, observation);
    let has_data = State::of(topology, observation).names(|server| server.data.is_some());
    has_data.into_iter().filter(|name| !passed_over.contains(name)).cloned().collect()
}

/// Returns the servers without which these cannot get new certificates: themselves, and those that they are linked with.
pub fn needed(topology: &Topology, observation: &Observation, servers: &BTreeSet<ServerName>) -> BTreeSet<ServerName> {
    let links = topology.links(judge::primary_or_preferred(topology, observation));
    let ends = links.into_iter().map(|link| [link.upstream, link.standby]);
    let concerned = ends.filter(|ends| ends.iter().any(|end| servers.contains(end)));
    servers.iter().cloned().chain(concerned.flatten()).collect()
}

/// Says what can be done where all servers are meant, and not all answer.
pub fn of_those_that_answer(topology: &Topology, observation: &Observation) -> Option<Diagnostic> {
    let mut answer = all(topology, observation);
    answer.retain(|name| {
        let needed = needed(topology, observation, &BTreeSet::from([name.clone()]));
        needed.iter().all(|name| observation.server(name).is_some())
    });
    let names: Vec<&str> = answer.iter().map(ServerName::as_str).collect();
    (!names.is_empty()).then(|| {
        Diagnostic::error(Code::Unreachable, "all servers are meant, and not all of them can be reached").hint(format!(
            "Those that can be rotated without the others: pgstead rotate certificates {}",
            names.join(" ")
        ))
    })
}

/// Plans new certificates for these servers.
///
/// # Errors
/// Every reason to refuse, at once. Nothing was changed.
pub fn plan_rotation(
    topology: &Topology,
    observation: &Observation,
    material: &Material,
    servers: &BTreeSet<ServerName>,
) -> Result<Plan, Vec<Diagnostic>> {
    let state = State::of(topology, observation);
    if let Some(authority) = &material.elsewhere {
        return Err(vec![authority.refusal(topology.name(), "Only whoever holds its key can issue certificates.")]);
    }
    if material.former.is_some() {
        let [message, facts, help] = authority::told_in_rotation(topology.name());
        return Err(vec![Diagnostic::error(Code::AuthorityInRotation, message).detail(facts).hint(help)]);
    }
    let unsaid = Unsaid { no_primary: true, preference: true, ..Unsaid::default() };
    let survey = survey_of(topology, observation, unsaid, |name| servers.contains(name));
    let mut refusals = survey.refusals;
    let bare = survey.servers.values().filter(|seen| seen.data.is_none());
    refusals.extend(bare.map(|seen| {
        let name = &seen.server.name;
        let message = format!("server \"{name}\" has no instance, and needs no certificates yet");
        Diagnostic::error(Code::NothingToRotate, message)
            .server(name)
            .hint("pgstead bootstrap makes it, with certificates.")
    }));
    let foreign = authority::of_others(topology, observation, material);
    let passed_over = authority::passed_over(topology, observation);
    let counts = |name: &ServerName| !passed_over.contains(&name);
    let unfit = unfit(&state, material);
    refusals.extend(unfit.into_iter().filter(|one| !foreign.iter().any(|other| other.server == one.server)));
    refusals.extend(foreign);
    let own = material.ca_certificate.as_deref().unwrap_or_default();
    refusals.extend(distrust(&state, own, counts));
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let mut plan = PlanBuilder::default();
    let mut notes = survey.notes;
    notes.extend(left_out(&state, servers, &passed_over));
    let links = state.primary().map(|primary| topology.links(primary)).unwrap_or_default();
    let logins = Logins::of(&state, &links);
    notes.extend(logins.not_demanded(servers));
    let mut before: Vec<StepId> = Vec::new();
    for seen in in_order(topology, &links, &survey.servers.values().copied().collect::<Vec<_>>()) {
        let installed = install_leaf(&mut plan, material, seen, &before);
        if seen.instance.is_some() {
            let read = plan.add(service::reload(seen), installed);
            before = proofs(&mut plan, &logins, seen, Served::of(material, seen), &[read]);
        } else {
            before = installed.map_or(before, |id| vec![id]);
            let name = &seen.server.name;
            let message = format!("server \"{name}\" does not run: it serves its new certificate when it is started");
            notes.push(Diagnostic::note(Code::NotServedYet, message).server(name));
        }
    }
    prove_streaming(&mut plan, &state, &links, servers, before);
    Ok(Plan { topology: topology.name().clone(), steps: plan.finish(), settings: Vec::new(), notes })
}

/// Refuses where a server does not trust this machine's CA, or has not read yet that it does: it would refuse the others.
fn distrust(state: &State<'_>, own: &str, counts: impl Fn(&ServerName) -> bool) -> Vec<Diagnostic> {
    let trusts = |(name, server): (&ServerName, ServerState<'_>)| {
        let seen = server.seen?;
        let bundle = seen.layout.known()?.own("ca.crt");
        let text = seen.files.get(&bundle).and_then(Observed::known)?.content.as_deref().unwrap_or_default();
        let is_in = desired::trusts(text, own) && !server.waits_for_reload().contains(&bundle);
        let message = format!("server \"{name}\" does not trust the CA that this machine holds");
        (!is_in).then(|| {
            Diagnostic::error(Code::ChangesPending, message)
                .server(name)
                .detail("It is not in its ca.crt, or that waits for a reload. It would refuse the new certificates of the others.")
                .hint("Run it first: pgstead bootstrap")
        })
    };
    state.servers().filter(|(name, _)| counts(name)).filter_map(trusts).collect()
}

/// Refuses where a running server's certificates do not serve: others could not log in to it, or it to them, whoever gets new ones.
fn unfit(state: &State<'_>, material: &Material) -> Vec<Diagnostic> {
    let unfit = material.certificates_to_replace.iter().filter_map(|(name, due)| match due {
        Due::Unfit(why) => Some((name, why)),
        Due::Wished => None,
    });
    unfit
        .filter(|(name, _)| state.instance(name).is_some())
        .map(|(name, why)| {
            let message = format!("server \"{name}\" needs new certificates before any are rotated");
            Diagnostic::error(Code::ChangesPending, message)
                .server(name)
                .detail(format!(
                    "Its own do not serve: {why}. Each step is proven by servers that log in to each other."
                ))
                .hint("First: pgstead bootstrap")
        })
        .collect()
}

/// Says which servers keep what they have.
fn left_out(state: &State<'_>, servers: &BTreeSet<ServerName>, passed_over: &[&ServerName]) -> Vec<Diagnostic> {
    let told = |(name, server): (&ServerName, ServerState<'_>)| {
        if servers.contains(name) {
            return None;
        }
        if passed_over.contains(&name) {
            return Some(authority::told_passed_over(name));
        }
        if let Some(why) = server.unreached {
            let message = format!("server \"{name}\" could not be looked at, and keeps the certificates that it has");
            return Some(Diagnostic::warning(Code::NotLookedAt, message).server(name).detail(why));
        }
        let has_none = server.seen.is_some() && server.data.is_none();
        let message = format!("server \"{name}\" has no instance, and needs no certificates yet");
        has_none.then(|| Diagnostic::note(Code::NothingToRotate, message).server(name))
    };
    state.servers().filter_map(told).collect()
}

/// Who is made to log in to whom, after certificates have changed.
struct Logins<'a> {
    state: &'a State<'a>,
    links: &'a [Link],
    /// Whether every standby must log in to its upstream, although it could not before: an earlier run may have cut it off.
    every_link: bool,
}

impl<'a> Logins<'a> {
    fn of(state: &'a State<'a>, links: &'a [Link]) -> Self {
        Self { state, links, every_link: false }
    }

    /// Demands all links as well that could not be opened before.
    fn of_every_link(self) -> Self {
        Self { every_link: true, ..self }
    }

    /// Refuses where a standby cannot log in to its upstream: nobody could tell that it is not by what comes next.
    fn broken_links(&self) -> Vec<Diagnostic> {
        let broken = self.links.iter().filter_map(|Link { standby, upstream }| {
            let runs = [standby, upstream].iter().all(|name| self.state.instance(name).is_some());
            match self.dial(standby, upstream)? {
                Observed::Unreadable(why) if runs => Some((standby, upstream, why)),
                _ => None,
            }
        });
        let told = |(standby, upstream, why): (&ServerName, &ServerName, &String)| {
            let message = format!("server \"{standby}\" cannot log in to its upstream \"{upstream}\" for replication");
            Diagnostic::error(Code::DialFailed, message)
                .server(standby)
                .detail(format!("A CA is replaced only where every link can be opened anew: each step is proven by that. {why}"))
                .hint("Fix what the DETAIL says; \"pgstead bootstrap\" writes a record that is missing in pg_hba.conf. Then run the same command again.")
        };
        broken.map(told).collect()
    }

    /// What could not be done before is not demanded. Where nobody tried, it is between two of whom one is the primary or follows the
    /// other: these need it now.
    fn demands(&self, from: &ServerName, to: &ServerName) -> bool {
        let is_linked =
            |link: &Link| [(&link.standby, &link.upstream), (&link.upstream, &link.standby)].contains(&(from, to));
        match self.dial(from, to) {
            Some(Observed::Known(_)) => true,
            Some(Observed::Unreadable(_)) => {
                self.every_link && self.links.iter().any(|link| (&link.standby, &link.upstream) == (from, to))
            }
            _ => self.links.iter().any(is_linked) || [from, to].iter().any(|end| self.state.primary() == Some(*end)),
        }
    }

    fn dial(&self, from: &ServerName, to: &ServerName) -> Option<&'a Observed<Dial>> {
        Some(&self.state.seen(from)?.peers.get(to)?.dial)
    }

    /// Says which logins of these servers, and to them, failed before anything was changed.
    fn not_demanded(&self, servers: &BTreeSet<ServerName>) -> Vec<Diagnostic> {
        let mut notes = Vec::new();
        let running = self.state.names(|server| server.instance().is_some());
        for from in &running {
            for to in running.iter().filter(|to| servers.contains(**to) || servers.contains(*from)) {
                let Some(Observed::Unreadable(why)) = self.dial(from, to) else { continue };
                if self.demands(from, to) {
                    continue;
                }
                let message =
                    format!("server \"{from}\" cannot log in to \"{to}\" for replication, and is not made to");
                notes.push(
                    Diagnostic::note(Code::DialFailed, message)
                        .server(from)
                        .detail(format!("It was so before anything was changed. {why}")),
                );
            }
        }
        notes
    }
}

/// Standbys before their upstreams, the primary last.
fn in_order<'a>(topology: &Topology, links: &[Link], servers: &[Seen<'a>]) -> Vec<Seen<'a>> {
    let standbys = links.iter().rev().map(|link| &link.standby);
    let others =
        topology.servers().map(|server| &server.name).filter(|name| !links.iter().any(|link| link.standby == **name));
    let named = |name: &ServerName| servers.iter().find(|seen| seen.server.name == *name).copied();
    standbys.chain(others).filter_map(named).collect()
}

/// Adds the step that installs the certificates that a server receives in this run, where it does.
fn install_leaf(plan: &mut PlanBuilder, material: &Material, seen: Seen<'_>, before: &[StepId]) -> Option<StepId> {
    let group = [&seen.layout.os_user, ":"].concat();
    let entries = desired::certificates(seen, material, &group);
    let title = "install new certificates";
    (!entries.is_empty()).then(|| {
        let step = files::install(&seen.server.name, seen.seen, seen.layout, title, &entries, None);
        plan.add(step, before.iter().copied())
    })
}

/// What is to be seen of the certificate that a server serves.
enum Served {
    /// That it is this one ([`crate::plan::Leaf::id`]).
    Is(String),
    /// Nothing; why servers log in to each other all the same.
    Unasked(&'static str),
}

impl Served {
    /// Its certificate of this run, or else the one that it has.
    fn of(material: &Material, seen: Seen<'_>) -> Self {
        if let Some(leaf) = material.leaves.get(&seen.server.name) {
            return Self::Is(leaf.id.clone());
        }
        let file = seen.seen.files.get(&seen.layout.own("tls/server.crt")).and_then(Observed::known);
        let facts = file.and_then(|file| pki::parse_certificate(file.content.as_deref()?).ok());
        facts.map_or(Self::Unasked("with the certificates that it has"), |facts| Self::Is(facts.id()))
    }
}

/// Adds the steps that prove a server that has read its files: it serves its certificate, and it and others log in to each other anew.
/// Returns the last of them.
fn proofs(
    plan: &mut PlanBuilder,
    logins: &Logins<'_>,
    seen: Seen<'_>,
    served: Served,
    before: &[StepId],
) -> Vec<StepId> {
    let (state, name) = (logins.state, &seen.server.name);
    let (mut last, how) = match served {
        Served::Unasked(how) => (before.to_vec(), Some(how)),
        Served::Is(id) => {
            let serves = Step {
                title: "prove that it serves the new certificate, to a connection that is opened anew".to_owned(),
                server: Some(name.clone()),
                risk: Risk::Read,
                action: Action::ProveServed { server: name.clone(), id },
                files: Vec::new(),
            };
            (vec![plan.add(serves, before.iter().copied())], None)
        }
    };
    let served = last.clone();
    let others: Vec<Seen<'_>> = state
        .topology
        .servers()
        .filter(|other| other.name != *name)
        .filter_map(|other| Seen::of_observed(state.topology, &other.name, state.seen(&other.name)?))
        .filter(|other| other.state().instance().is_some())
        .collect();
    let named: Vec<&Server> =
        others.iter().map(|other| other.server).filter(|other| logins.demands(name, &other.name)).collect();
    if !named.is_empty() {
        last.push(plan.add(log_in(state.topology, seen, &named, how), served.iter().copied()));
    }
    let back = others.iter().filter(|other| logins.demands(&other.server.name, name));
    last.extend(
        back.map(|other| plan.add(log_in(state.topology, *other, &[seen.server], how), served.iter().copied())),
    );
    last
}

/// Adds the step in which a row arrives over every link that streams and has one of these servers at an end.
fn prove_streaming(
    plan: &mut PlanBuilder,
    state: &State<'_>,
    links: &[Link],
    servers: &BTreeSet<ServerName>,
    before: Vec<StepId>,
) {
    let concerned = |link: &&Link| servers.contains(&link.standby) || servers.contains(&link.upstream);
    let streams =
        |link: &&Link| state.instance(&link.standby).is_some() && state.sends_to(&link.upstream, &link.standby);
    let streaming: Vec<Link> = links.iter().filter(concerned).filter(streams).cloned().collect();
    if let (Some(primary), false) = (state.primary(), streaming.is_empty()) {
        plan.add(Step::prove(primary, streaming), before);
    }
}

/// The step by which a server logs in to others anew, as a standby of theirs would.
fn log_in(topology: &Topology, from: Seen<'_>, others: &[&Server], how: Option<&str>) -> Step {
    let names: Vec<String> = others.iter().map(|other| format!("\"{}\"", other.name)).collect();
    let how = how.map_or(String::new(), |how| format!(", {how}"));
    let title = format!("log in to {} anew, for replication{how}", names.join(" and "));
    let action = Action::LogIn(others.iter().map(|other| service::log_in(topology, from, other)).collect());
    Step { title, server: Some(from.server.name.clone()), risk: Risk::Read, action, files: Vec::new() }
}

//! The plan of `rotate certificates --ca`: a new CA takes the place of the one that servers use. Every server trusts both, then each
//! gets certificates of the new one, then the former one leaves; each step is proven before the next (hazard 80).
//!
//! What is issued leads to the former CA as well, so that whoever trusts that one alone goes on (ADR 29).

use std::collections::BTreeSet;

use crate::diagnostic::Code;
use crate::diagnostic::Diagnostic;
use crate::judge::State;
use crate::model::name::ServerName;
use crate::model::name::TopologyName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::topology::Topology;
use crate::pki;
use crate::plan::Material;
use crate::plan::Plan;
use crate::plan::PlanBuilder;
use crate::plan::StepId;
use crate::plan::files;
use crate::plan::files::Entry;
use crate::plan::files::desired;
use crate::plan::operation::rotate::Logins;
use crate::plan::operation::rotate::Served;
use crate::plan::operation::rotate::in_order;
use crate::plan::operation::rotate::install_leaf;
use crate::plan::operation::rotate::proofs;
use crate::plan::operation::rotate::prove_streaming;
use crate::plan::operation::rotate::unfit;
use crate::plan::seen::Seen;
use crate::plan::step::Action;
use crate::plan::step::Risk;
use crate::plan::step::Step;
use crate::plan::step::Trust;
use crate::plan::steps::service;
use crate::plan::survey::Unsaid;
use crate::plan::survey::authority;
use crate::plan::survey::survey_of;

/// What a former CA needs so that it can leave.
const NEEDS_ALL: &str =
    "One that comes back later with certificates of the former CA alone would be refused by the others.";

/// Says what can be done where not all servers answer.
pub fn of_those_that_do_not_answer() -> Diagnostic {
    Diagnostic::error(Code::AuthorityNeedsAll, "a CA is replaced only where every server can be reached")
        .detail(NEEDS_ALL)
        .hint("Nothing was begun. Bring it back, or take a server that is lost for good out of the inventory, and run the same command again.")
}

/// Plans that a new CA takes the place of the one that servers use, or the rest of that.
///
/// # Errors
/// Every reason to refuse, at once. Nothing was changed.
pub fn plan_succession(
    topology: &Topology,
    observation: &Observation,
    material: &Material,
) -> Result<Plan, Vec<Diagnostic>> {
    let state = State::of(topology, observation);
    if let Some(authority) = &material.elsewhere {
        return Err(vec![
            authority.refusal(topology.name(), "Only whoever holds its key can let another one take its place."),
        ]);
    }
    let (Some(own), Some(former)) = (&material.ca_certificate, &material.former) else {
        return Err(vec![nothing(topology.name())]);
    };
    let passed_over = authority::passed_over(topology, observation);
    let unsaid = Unsaid { no_primary: true, preference: true, ..Unsaid::default() };
    let survey = survey_of(topology, observation, unsaid, |name| !passed_over.contains(&name));
    let mut refusals = survey.refusals;
    let servers: Vec<Seen<'_>> = survey.servers.values().copied().filter(|seen| seen.data.is_some()).collect();
    refusals.extend(servers.iter().filter(|seen| seen.instance.is_none()).map(|seen| stopped(&seen.server.name)));
    let foreign = authority::of_others(topology, observation, material);
    let unfit = unfit(&state, material);
    refusals.extend(unfit.into_iter().filter(|one| !foreign.iter().any(|other| other.server == one.server)));
    refusals.extend(foreign);
    if !refusals.is_empty() {
        return Err(refusals);
    }
    if servers.is_empty() {
        return Err(vec![nothing(topology.name())]);
    }
    let mut notes = survey.notes;
    notes.extend(passed_over.iter().map(|name| authority::told_passed_over(name)));
    let links = state.primary().map(|primary| topology.links(primary)).unwrap_or_default();
    let logins = Logins::of(&state, &links);
    let names: BTreeSet<ServerName> = servers.iter().map(|seen| seen.server.name.clone()).collect();
    notes.extend(logins.not_demanded(&names));
    let servers: Vec<Server<'_>> =
        in_order(topology, &links, &servers).into_iter().map(|seen| Server { seen, own, former }).collect();
    let is_due = |server: &Server<'_>| {
        let seen = server.seen;
        material.certificates_to_replace.contains_key(&seen.server.name)
            || seen.state().waits_for_reload().iter().any(|file| file.starts_with(&seen.layout.own("tls/")))
    };
    let mut plan = PlanBuilder::default();
    if !servers.iter().any(|server| server.has_trust_to_change() || is_due(server)) {
        return Ok(Plan { topology: topology.name().clone(), steps: Vec::new(), settings: Vec::new(), notes });
    }
    notes.push(told(topology.name(), former));
    let mut before: Vec<StepId> = servers.iter().map(|server| server.gains(&mut plan)).collect();
    for Server { seen, .. } in &servers {
        let installed = install_leaf(&mut plan, material, *seen, &before);
        let read = match (installed, is_due(&Server { seen: *seen, own, former })) {
            (None, false) => None,
            (installed, _) => Some(plan.add(service::reload(*seen), installed.map_or(before.clone(), |id| vec![id]))),
        };
        let after = read.map_or(before, |id| vec![id]);
        before = proofs(&mut plan, &logins, *seen, Served::of(material, *seen), &after);
    }
    for server in servers.iter().filter(|server| server.has_trust_to_change()) {
        let lost = server.loses(&mut plan, &before);
        before = proofs(&mut plan, &logins, server.seen, Served::Unasked("by the new CA alone"), &[lost]);
    }
    prove_streaming(&mut plan, &state, &links, &names, before);
    Ok(Plan { topology: topology.name().clone(), steps: plan.finish(), settings: Vec::new(), notes })
}

/// Refuses where nobody has a certificate of a CA.
fn nothing(topology: &TopologyName) -> Diagnostic {
    Diagnostic::error(Code::NothingToRotate, format!("no server of topology {topology} has certificates yet"))
        .hint("pgstead bootstrap makes the servers, and the CA.")
}

/// Refuses while a server does not run.
fn stopped(name: &ServerName) -> Diagnostic {
    let message = format!("server \"{name}\" does not run, and a CA is replaced only where every server does");
    Diagnostic::error(Code::AuthorityNeedsAll, message)
        .server(name)
        .detail(NEEDS_ALL)
        .hint("Start it first: pgstead bootstrap. Take a server that is lost for good out of the inventory.")
}

/// Says what becomes of applications.
fn told(topology: &TopologyName, former: &str) -> Diagnostic {
    let end = pki::parse_certificate(former).map(|facts| facts.not_after.strftime("%-d %B %Y").to_string());
    let day = end.map_or(String::new(), |day| format!(", on {day}"));
    Diagnostic::note(Code::AuthoritySucceeded, format!("topology {topology} gets a new CA in the place of the one in use"))
        .detail(format!("Servers show what leads to either: applications that verify them go on with the CA certificate that they have, until that ends{day}."))
        .hint("Before then give them the new one: ca.crt of any server, when this is done.")
}

/// A server whose trust changes.
#[derive(Clone, Copy)]
struct Server<'a> {
    seen: Seen<'a>,
    own: &'a str,
    former: &'a str,
}

impl Server<'_> {
    fn path(&self) -> String {
        self.seen.layout.own("ca.crt")
    }

    fn has(&self) -> Option<String> {
        self.seen.seen.files.get(&self.path()).and_then(Observed::known)?.content.clone()
    }

    /// Says whether it does not trust the new CA alone, as far as these two go, or has not read yet that it does.
    fn has_trust_to_change(&self) -> bool {
        let has = self.has().unwrap_or_default();
        !desired::trusts(&has, self.own) || desired::trusts(&has, self.former) || self.waits_for_reload()
    }

    fn waits_for_reload(&self) -> bool {
        self.seen.state().waits_for_reload().contains(&self.path())
    }

    fn both(&self) -> Option<String> {
        let has = self.has();
        let more = if has.is_some() { None } else { Some(self.former.to_owned()) };
        desired::joined(Some(self.own), has, more.as_slice())
    }

    /// Adds the steps by which it trusts the new CA as well. Returns the last.
    fn gains(&self, plan: &mut PlanBuilder) -> StepId {
        let is_missing = !desired::trusts(&self.has().unwrap_or_default(), self.own);
        let installed = self
            .both()
            .filter(|_| is_missing)
            .map(|bundle| plan.add(self.install("trust the new CA as well", bundle), []));
        let read = match installed {
            Some(_) => {
                let title = "reload, so that both CAs are trusted".to_owned();
                Some(plan.add(Step { title, ..service::reload(self.seen) }, installed))
            }
            // Where a run was interrupted, it has read neither.
            None => self.waits_for_reload().then(|| plan.add(service::reload(self.seen), [])),
        };
        let title = "prove that it takes certificates of the new CA";
        plan.add(self.prove(title, Trust::Gained), read)
    }

    /// Adds the steps by which it trusts the former CA no more. Returns the last.
    fn loses(&self, plan: &mut PlanBuilder, before: &[StepId]) -> StepId {
        let (before, both) = (before.iter().copied(), self.both().unwrap_or_default());
        let title = "reload, so that the former CA is trusted no more".to_owned();
        let reload = Step { title, ..service::reload(self.seen) };
        let read = match desired::trusts(&both, self.former) {
            true => {
                let bundle = desired::without(&both, self.former);
                let installed = plan.add(self.install("trust the former CA no more", bundle), before);
                plan.add(reload, [installed])
            }
            false => plan.add(reload, before),
        };
        plan.add(self.prove("prove that it refuses certificates of the former CA", Trust::Lost), [read])
    }

    fn install(&self, title: &str, bundle: String) -> Step {
        let Seen { server, seen, layout, .. } = self.seen;
        let owner = files::own_directory_owner(seen, layout);
        let mut entries = vec![Entry::text(self.path(), &owner, "0644", bundle)];
        entries.extend(files::recorded(seen, layout, &entries));
        files::install(&server.name, seen, layout, title, &entries, None)
    }

    fn prove(&self, title: &str, trust: Trust) -> Step {
        let name = &self.seen.server.name;
        Step {
            title: title.to_owned(),
            server: Some(name.clone()),
            risk: Risk::Read,
            action: Action::ProveTrust { server: name.clone(), trust },
            files: Vec::new(),
        }
    }
}

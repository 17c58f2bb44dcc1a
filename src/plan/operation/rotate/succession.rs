//! The plan of `rotate certificates --ca`: a new CA takes the place of the one that servers use. Every server trusts both, then each
//! gets certificates of the new one, then the former one leaves; each step is proven before the next (hazard 80).
//!
//! What is issued leads to the former CA as well, so that whoever trusts that one alone goes on (ADR 29).

use std::collections::BTreeSet;

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::State;
use crate::model::name::{ServerName, TopologyName};
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::topology::Topology;
use crate::pki;
use crate::plan::files::{Entry, desired};
use crate::plan::operation::rotate::{Logins, Served, in_order, install_leaf, proofs, prove_streaming, unfit};
use crate::plan::seen::Seen;
use crate::plan::step::{Action, Risk, Step, Trust};
use crate::plan::steps::service;
use crate::plan::survey::{Unsaid, authority, survey_of};
use crate::plan::{Material, Plan, PlanBuilder, StepId, files};

/// What a former CA needs so that it can leave.
const NEEDS_ALL: &str =
    "One that comes back later with certificates of the former CA alone would be refused by the others.";

/// Says what can be done where not all servers answer.
pub fn of_those_that_do_not_answer() -> Diagnostic {
    Diagnostic::error(Code::AuthorityNeedsAll, "a CA is replaced only where every server can be reached")
        .detail(NEEDS_ALL)
        .hint("This run changed nothing. Bring it back, or take a server that is lost for good out of the inventory, and run the same command again.")
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
    let Some(own) = &material.ca_certificate else { return Err(vec![nothing(topology.name())]) };
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
    // All is done but the end, which is on this machine.
    let Some(former) = &material.former else {
        return Ok(Plan { topology: topology.name().clone(), steps: Vec::new(), settings: Vec::new(), notes });
    };
    notes.extend(passed_over.iter().map(|name| authority::told_passed_over(name)));
    let links = state.primary().map(|primary| topology.links(primary)).unwrap_or_default();
    // A login that fails in the middle may be what an earlier run has done: it is demanded then.
    let has_begun = servers.iter().any(|seen| Server { seen: *seen, own, former }.trusts_new());
    let logins = match has_begun {
        true => Logins::of(&state, &links).of_every_link(),
        false => Logins::of(&state, &links),
    };
    let broken = logins.broken_links();
    if !has_begun && !broken.is_empty() {
        return Err(broken);
    }
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
    notes.extend(told(topology.name(), former, material));
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
    // As long as the former CA is there, nobody has seen all servers refuse it: a run may have ended between a file and its proof.
    for server in &servers {
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

/// Says what becomes of applications: whoever knows an earlier CA alone goes on until what leads there ends, which is when the
/// earliest of them does. A library that counts every certificate on the way to a CA that allows none refuses them.
fn told(topology: &TopologyName, former: &str, material: &Material) -> Vec<Diagnostic> {
    let shown = material.leaves.values().next().map(|leaf| pki::split_bundle(&leaf.server_certificate));
    let chain: Vec<String> = shown.and_then(Result::ok).unwrap_or_default().into_iter().skip(1).collect();
    let facts = |pem: &str| pki::parse_certificate(pem).ok();
    let ends = chain.iter().map(String::as_str).chain([former]).filter_map(|pem| Some(facts(pem)?.not_after));
    let day = ends.min().map_or(String::new(), |end| end.strftime(", on %-d %B %Y").to_string());
    let mut told = vec![
        Diagnostic::note(Code::AuthoritySucceeded, format!("topology {topology} gets a new CA in the place of the one in use"))
            .detail(format!("Servers show what leads to either: applications that verify them go on with the CA certificate that they have, until the earliest of these CAs ends{day}."))
            .hint("Before then give them the new one: ca.crt of any server, when this is done."),
    ];
    if facts(former).is_some_and(|facts| facts.path_length.is_some()) {
        let message = "applications that are written in Go, and know the CA in use alone, will be refused";
        told.push(
            Diagnostic::warning(Code::AuthoritySucceeded, message)
                .detail("That CA was made by an early release and allows no other below it (pathlen:0). What is built on OpenSSL, as libpq, goes on all the same; Go's pgx and lib/pq, where they verify the servers (sslmode=verify-ca, verify-full), do not.")
                .hint("They are refused as soon as the first server has its new certificate. Be ready to give them the new ca.crt at once: every server has it when the first step is done."),
        );
    }
    told
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

    fn trusts_new(&self) -> bool {
        desired::trusts(&self.has().unwrap_or_default(), self.own)
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
        let installed = self
            .both()
            .filter(|_| !self.trusts_new())
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::diagnostic::Severity;
    use crate::model::lifetimes::Lifetimes;
    use crate::model::secret::Secret;
    use crate::plan::Leaf;

    /// Made by an early release: `openssl x509` with `basicConstraints=critical,CA:TRUE,pathlen:0`.
    const EARLY: &str = include_str!("../../../../tests/data/early-ca.crt");

    #[test]
    fn applications_that_will_be_refused_are_named_beforehand() {
        let (topology, now) = ("lab".parse().unwrap(), Timestamp::now());
        let lasts = |days| Lifetimes { ca_valid: days, ..Lifetimes::default() };
        let first = pki::create_authority(&topology, "ops@laptop", lasts(400), now).unwrap();
        let stored = |ca| pki::StoredSecrets { ca: Some(ca), ..pki::StoredSecrets::default() };
        let two = stored(first).succeed(&topology, "ops@laptop", lasts(4000), now).unwrap();
        let three =
            pki::StoredSecrets { former: None, ..two }.succeed(&topology, "ops@laptop", lasts(5000), now).unwrap();
        let leaf = |chain: &str| Leaf {
            server_certificate: [EARLY, chain].concat(),
            server_key: Secret::new(""),
            client_certificate: String::new(),
            client_key: Secret::new(""),
            id: String::new(),
        };
        let former = three.former.unwrap().certificate;
        let chain = three.chain.unwrap();
        assert_eq!(pki::split_bundle(&chain).unwrap().len(), 2);
        let material = Material {
            run: String::new(),
            ca_certificate: None,
            former: None,
            elsewhere: None,
            leaves: BTreeMap::from([("a".parse().unwrap(), leaf(&chain))]),
            certificates_to_replace: BTreeMap::new(),
            passwords: BTreeMap::new(),
            replication: None,
            is_password_elsewhere: false,
        };
        // The one before the former ends first.
        let end = (now + jiff::SignedDuration::from_hours(400 * 24)).strftime("%-d %B %Y").to_string();
        let notes = told(&topology, &former, &material);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].detail.as_ref().unwrap().ends_with(&format!("ends, on {end}.")), "{notes:?}");

        let of_early = told(&topology, EARLY, &material);
        assert_eq!(of_early[1].severity, Severity::Warning);
        assert!(of_early[1].detail.as_ref().unwrap().contains("pgx and lib/pq"), "{of_early:?}");
    }
}

//! The plan of `bootstrap`: from what is there to what the inventory wants.
//!
//! Reads like the manual's procedure: files, instance, roles, slots, base backups, start, proof, synchronous replication
//! last (hazards.md, section 3.13).

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::ServerState;
use crate::model::identity::Configuration;
use crate::model::job::Job;
use crate::model::name::ServerName;
use crate::model::observation::{Observation, ServerObservation};
use crate::model::observed::Observed;
use crate::model::topology::{Authentication, Link, Topology};
use crate::plan::adoption::standby::Others;
use crate::plan::adoption::{elsewhere, places, standby, values};
use crate::plan::files::decided::{Change, Decided};
use crate::plan::files::parameters::{ConfRole, synchronous_standby_names};
use crate::plan::files::{brought, desired, effects, guard, pooler};
use crate::plan::links::network;
use crate::plan::operation::leaving;
use crate::plan::operation::leaving::Leaving;
use crate::plan::seen::Seen;
use crate::plan::step::{Risk, Step};
use crate::plan::steps::job::Earlier;
use crate::plan::steps::seed::Manner;
use crate::plan::steps::{change, job, orphans, roles as applications, seed, service, slots, sql, tablespaces, trust};
use crate::plan::survey::consent::{Consent, passed_over};
use crate::plan::survey::{OF_BOOTSTRAP, Survey, authority, history, left_out, password, removed, survey_of};
use crate::plan::{Material, Plan, PlanBuilder, SettingChange, StepId, adoption, files};
use crate::render::hba::roles;

/// Plans a bootstrap.
///
/// # Errors
/// Every reason to refuse, at once. Nothing was changed.
pub fn plan_bootstrap(
    topology: &Topology,
    observation: &Observation,
    material: &Material,
    consent: Consent,
) -> Result<Plan, Vec<Diagnostic>> {
    plan_without(topology, observation, material, consent, None)
}

/// Plans a bootstrap of what is left where an operator removes a server, which neither topology nor observation has.
///
/// # Errors
/// Every reason to refuse, at once. Nothing was changed.
pub(in crate::plan) fn plan_without(
    topology: &Topology,
    observation: &Observation,
    material: &Material,
    consent: Consent,
    leaving: Option<&Leaving<'_>>,
) -> Result<Plan, Vec<Diagnostic>> {
    let is_unfinished = |(name, seen): (&ServerName, &Observed<ServerObservation>)| {
        let seen = seen.known()?;
        guard::unfinished(name, ServerState::of_seen(seen))
    };
    let unfinished: Vec<Diagnostic> = observation.servers.iter().filter_map(is_unfinished).collect();
    if !unfinished.is_empty() {
        return Err(unfinished);
    }
    let passed_over = passed_over(topology, observation, consent);
    let is_concerned = |name: &ServerName| !passed_over.contains(&name);
    let Survey { servers, primary, mut refusals, mut notes } =
        survey_of(topology, observation, OF_BOOTSTRAP, is_concerned);
    let left_out = left_out::left_out(observation);
    notes.extend(passed_over.iter().map(|name| match left_out.contains(name) {
        true => left_out::told(name),
        false => authority::told_passed_over(name),
    }));
    let Some(primary) = primary else { return Err(refusals) };
    let barred = left_out::barred(topology, observation, &primary, &servers, consent);
    if !barred.is_empty() {
        refusals.extend(barred);
        return Err(refusals);
    }
    let links = topology.links(&primary);
    let served = servers
        .get(&primary)
        .and_then(|seen| Some(seen.instance?.settings.get("synchronous_standby_names")?.setting.clone()))
        .unwrap_or_default();
    let wish = topology.synchronous(&primary);
    // Who commits are to wait for may be one that is passed over: that stays as it is.
    let waits_for_one = wish.as_ref().is_some_and(|wish| wish.standbys.iter().any(|name| passed_over.contains(&name)));
    let wished = || wish.as_ref().map(synchronous_standby_names).unwrap_or_default();
    let final_names = if waits_for_one { served.clone() } else { wished() };
    // Turning on comes last, after the proof; turning off comes at once (hazard 49).
    let first_names = if final_names.is_empty() { String::new() } else { served };

    let removed = removed::removed(topology, &servers, leaving.map(|leaving| leaving.server));
    let primary_seen = servers.get(&primary).copied();
    let others = Others { topology, observation, servers: &servers };
    let mut decided: BTreeMap<&ServerName, Decided<'_>> = BTreeMap::new();
    for (name, seen) in &servers {
        let role = match links.iter().find(|link| link.standby == *name) {
            None => ConfRole::Primary(first_names.clone()),
            Some(link) => desired::standby_role(topology, *seen, &link.upstream),
        };
        let wanted = match desired::wanted(topology, observation, material, *seen, primary_seen, role) {
            Ok(wanted) => wanted,
            Err(diagnostic) => {
                refusals.push(diagnostic);
                continue;
            }
        };
        let mut files_now = wanted.outside.clone();
        if seen.data.is_some() {
            files_now.extend(wanted.inside.iter().cloned());
        }
        let comparison = files::compare(name, seen.seen, seen.layout, &files_now);
        refusals.extend(comparison.refusals);
        notes.extend(comparison.drift);
        let mut install = comparison.changes;
        if let Some(link) = links.iter().find(|link| link.standby == *name && seen.joins()) {
            refusals.extend(others.refusals(*seen, &wanted, link));
            notes.extend(others.notes(*seen, link));
        } else if seen.adopted {
            refusals.extend(adoption::refusals(topology, *seen, &wanted, &servers));
            notes.extend(adoption::notes(*seen, others, &links));
            let at = install.len().saturating_sub(1);
            install.splice(at..at, seed::marks(*seen, &wanted, &seen.layout.data_directory));
        } else if seen.configuration == Configuration::Kept {
            refusals.extend(adoption::overridden(topology, *seen, &wanted));
        } else if links.iter().any(|link| {
            link.upstream == *name && servers.get(&link.standby).is_some_and(|standby| standby.data.is_none())
        }) {
            refusals.extend(brought::travels(topology, *seen, &BTreeSet::new()));
        }
        // Each new standby gets the files of the primary.
        let is_copied = *name == primary && servers.values().any(|standby| standby.data.is_none());
        if is_copied {
            refusals.extend(adoption::needed_by_standbys(*seen, &adoption::our_settings(*seen, &wanted), true));
        }
        if !seen.adopted
            && let Some(record) = seed::missing_record(*seen)
        {
            install.insert(install.len().saturating_sub(1), record);
        }
        let change = change::decide(seen, &install, &comparison.edited);
        if let Change::Restart { parameters } = &change
            && *name == primary
            && !seen.adopted
        {
            notes.extend(adoption::waiting(*seen, parameters));
        }
        if seen.instance.is_none() {
            refusals.extend(service::barred(*seen));
        }
        let behind = pooler::behind(topology, *seen, &install);
        let last = leaving::last_files(topology, *seen, &files_now, &removed);
        decided.insert(name, Decided { seen: *seen, wanted, install, last, change, trust: None, behind });
    }
    if let Some(of_primary) = decided.get(&primary) {
        let joining = servers.values().filter(|seen| seen.joins());
        refusals.extend(joining.flat_map(|seen| standby::too_few(of_primary, *seen)));
        refusals.extend(others.names_that_go(of_primary.seen, &links));
    }
    trust::split(&mut decided);
    refusals.extend(authority::refusals(topology.name(), material, decided.keys().copied()));
    refusals.extend(password::refusals(topology, observation, material, decided.keys().copied()));
    if !consent.new_authority {
        refusals.extend(authority::of_others(topology, observation, material));
    }
    refusals.extend(tablespaces::refusals(topology));
    refusals.extend(primary_seen.into_iter().flat_map(|primary| applications::refusals(topology, primary)));
    notes.extend(primary_seen.into_iter().flat_map(|primary| applications::notes(topology, material, primary)));
    notes.extend(primary_seen.and_then(tablespaces::note));
    // Each new standby gets what the primary has, whenever it comes.
    if let Some(primary) = primary_seen.filter(|_| servers.values().any(|seen| seen.data.is_none())) {
        refusals.extend(places::refusals(primary));
        let new = servers.values().filter(|seen| seen.data.is_none());
        let made = new.flat_map(|seen| elsewhere::to_make(topology, *seen, primary_seen)).collect();
        notes.extend(places::notes(primary, &made));
    }
    notes.extend(removed::told(&servers, &removed, leaving.map(|leaving| leaving.server)));
    refusals.extend(removed::refusal(&primary, servers.get(&primary), &removed, leaving.map(|leaving| leaving.server)));
    let steps = Steps { topology, observation, material, primary: &primary, links: &links, decided: &decided, others };
    let mut lacking = Vec::new();
    for server in decided.values() {
        let link = links.iter().find(|link| link.standby == server.seen.server.name);
        let is_adopting = link.is_some_and(|link| steps.adopted_copy(link).is_some());
        let judged = elsewhere::judge(topology, observation, server.seen, primary_seen, |_| is_adopting);
        lacking.extend(judged.refusals);
        notes.extend(judged.notes);
    }
    refusals.extend(values::told_once(lacking));
    notes.extend(authority::notes(topology.name(), material));
    notes.extend(password::note(material));
    notes.extend(network::notes(topology, observation));
    refusals.extend(history::refusals(topology, observation, &servers, &links));
    refusals.extend(orphans::refusals(topology, observation, &servers, &links));
    if first_names != final_names
        && let Some(server) = decided.get(&primary)
    {
        // The same file is replaced once more at the end; a hand edit stands in the way of that as well.
        let role = ConfRole::Primary(final_names.clone());
        if let Ok(wanted) = desired::wanted(topology, observation, material, server.seen, primary_seen, role) {
            let entries = desired::configuration_only(&wanted, server.seen.layout);
            let mut later = files::compare(&primary, server.seen.seen, server.seen.layout, &entries).refusals;
            later.retain(|refusal| refusal.code == Code::EditedByHand && !refusals.contains(refusal));
            refusals.extend(later);
        }
    }
    let tablespaces = primary_seen.map(|primary| tablespaces::missing(topology, primary)).unwrap_or_default();
    let new_tablespace = tablespaces.keys().next().map(|name| name.as_str());
    refusals.extend(left_out::refusals(observation, &primary, &links, &decided, new_tablespace));
    let settings: Vec<SettingChange> = decided.values().flat_map(effects::of).collect();
    refusals.extend(change::refusals(
        &primary,
        decided.values().map(|server| (server.seen, &server.change)),
        &settings,
        consent.allow_restart,
    ));
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let changes = decided.values().map(|server| (server.seen, &server.change));
    notes.extend(change::restart_of_primary(&primary, changes, &settings));
    let mut plan = steps.list();
    if first_names != final_names {
        steps.turn_synchronous_on(&mut plan, final_names);
    }
    let others: Vec<&Decided<'_>> = steps.in_order().map(|(_, server)| server).collect();
    leaving::steps(&mut plan, leaving, &removed, &others);
    Ok(Plan { topology: topology.name().clone(), steps: plan.finish(), settings, notes })
}

/// Everything that listing the steps needs.
struct Steps<'a> {
    topology: &'a Topology,
    observation: &'a Observation,
    material: &'a Material,
    primary: &'a ServerName,
    links: &'a [Link],
    decided: &'a BTreeMap<&'a ServerName, Decided<'a>>,
    others: Others<'a>,
}

impl Steps<'_> {
    fn list(&self) -> PlanBuilder {
        let mut plan = PlanBuilder::default();
        trust::steps(&mut plan, self.decided);
        let mut installed: BTreeMap<&ServerName, StepId> = BTreeMap::new();
        for (name, server) in self.in_order() {
            if let Some(step) = guard::reload_units(server.seen, &server.install) {
                installed.insert(name, plan.add(step, []));
            }
            // What a restart brings into force is installed right before it, in the safe order. What joins gets its files when its
            // upstream is ready for it.
            if matches!(server.change, Change::Restart { .. }) || server.seen.joins() {
                continue;
            }
            let included = server.included_step().map(|step| plan.add(step, []));
            if let Some(step) = server.install_step() {
                let before = included.into_iter().chain(installed.get(name).copied());
                installed.insert(name, plan.add(step, before));
            }
        }
        for (_, server) in self.in_order() {
            if let Some(step) = service::enable_service(server.seen) {
                plan.add(step, []);
            }
            let primary = self.topology.server(self.primary);
            if let Some(step) =
                primary.and_then(|primary| pooler::reload(self.topology, server.seen, primary, &server.install))
            {
                plan.add(step, []);
            }
        }
        // A job's record that is still there beside a finished data directory has done its service.
        for (_, server) in self.in_order().filter(|(_, server)| server.seen.data.is_some()) {
            self.clear_earlier(&mut plan, server.seen, None);
        }
        // "ready" is the step after which a server's instance serves with its new files.
        let mut ready: BTreeMap<&ServerName, StepId> = BTreeMap::new();
        let mut prove: Vec<Link> = Vec::new();
        let mut before_proof: Vec<StepId> = Vec::new();
        change::steps(&mut plan, self.primary, self.links, self.decided, &installed, &mut ready);
        before_proof.extend(ready.values().copied());
        before_proof.extend(installed.values().copied());
        // Standbys join one after another, so that only one is away at a time; the first when all others have settled.
        let mut joined_before: Vec<StepId> = ready.values().copied().collect();

        // The primary: a new instance where there is none.
        if let Some((name, server)) = self.in_order().next().filter(|(_, server)| server.seen.data.is_none()) {
            let adopted = match job::earlier(server.seen, None, true) {
                Earlier::Adopt(job) => Some(job),
                Earlier::None | Earlier::Clear(_) => None,
            };
            let cleared = self.clear_earlier(&mut plan, server.seen, adopted);
            let places = places::make(self.topology, server.seen, None).map(|step| plan.add(step, []));
            let new = seed::new_instance(self.topology, self.material, server.seen, &server.wanted, adopted);
            let made = plan.add(new.make, cleared);
            let complete = plan.add(new.complete, installed.get(name).copied().into_iter().chain(places).chain([made]));
            ready.insert(name, plan.add(new.start, [complete]));
        }
        let roles_ready = self.create_roles(&mut plan, &ready);
        self.create_applications(&mut plan, roles_ready.or(ready.get(self.primary).copied()));

        // The standbys, upstreams first.
        let mut slots_made: BTreeMap<&ServerName, StepId> = BTreeMap::new();
        for link in self.links {
            let (Some(server), Some(upstream)) = (self.decided.get(&link.standby), self.decided.get(&link.upstream))
            else {
                continue;
            };
            let usable = self.has_slot(link);
            let mut waits: Vec<StepId> = ready.get(&link.upstream).copied().into_iter().collect();
            if !usable {
                let made = *slots_made.entry(&link.upstream).or_insert_with(|| {
                    let made = plan.add(self.create_slots(upstream.seen), waits.iter().copied());
                    before_proof.push(made);
                    made
                });
                waits = vec![made];
            }
            if server.seen.joins() {
                waits.extend(roles_ready.into_iter().chain(ready.get(self.primary).copied()));
                let former = self.others.former_slot(server.seen, link);
                let former = former.as_ref().and_then(|slot| Some((self.decided.get(&slot.upstream)?.seen, slot)));
                // Whoever follows it comes when all of that is done.
                waits.append(&mut joined_before);
                let joined = standby::join(&mut plan, self.topology, server, link, self.primary, former, waits);
                joined_before.push(joined);
                ready.insert(&link.standby, joined);
                before_proof.push(joined);
                continue;
            }
            if server.seen.data.is_some() {
                // What restarts is proven link by link on the way.
                if !usable || matches!(server.change, Change::Start | Change::Reload) {
                    prove.push(link.clone());
                }
                continue;
            }
            let adopted = self.adopted_copy(link);
            let cleared = self.clear_earlier(&mut plan, server.seen, adopted);
            waits.extend(cleared);
            if adopted.is_none() {
                let orphans = orphans::of(self.topology, self.observation, server.seen, upstream.seen);
                let after = waits.clone();
                waits.extend(
                    orphans.map(|addresses| plan.add(orphans::end(server.seen, upstream.seen, &addresses), after)),
                );
            }
            waits.extend(roles_ready);
            waits.extend(installed.get(&link.standby));
            // Where the primary has tablespaces already, the base backup brings them to the same paths.
            let of_primary = self.decided.get(self.primary).map(|primary| primary.seen);
            if of_primary.is_some_and(|primary| !primary.tablespaces().is_empty()) {
                waits.push(plan.add(tablespaces::make_directories(server.seen, of_primary), []));
            }
            waits.extend(places::make(self.topology, server.seen, of_primary).map(|step| plan.add(step, [])));
            let (topology, material) = (self.topology, self.material);
            let copy = seed::base_backup(
                topology,
                material,
                server.seen,
                &server.wanted,
                upstream.seen,
                of_primary.unwrap_or(upstream.seen),
                Manner { adopted, ..Manner::default() },
            );
            let copied = plan.add(copy.make, waits);
            let complete = plan.add(copy.complete, [copied]);
            let started = plan.add(copy.start, [complete]);
            ready.insert(&link.standby, started);
            before_proof.push(started);
            prove.push(link.clone());
        }
        before_proof.extend(roles_ready);
        let moved: Vec<ServerName> = prove.iter().map(|link| link.standby.clone()).collect();
        if !prove.is_empty() {
            before_proof = vec![plan.add(self.prove(prove), before_proof)];
        }
        self.drop_left_over(&mut plan, &moved, &before_proof);
        self.create_tablespaces(&mut plan);
        plan
    }

    /// Adds the step that clears away an earlier run's job, unless it is adopted.
    fn clear_earlier(&self, plan: &mut PlanBuilder, seen: Seen<'_>, adopted: Option<&Job>) -> Option<StepId> {
        let left = seen.seen.jobs.first().filter(|_| adopted.is_none())?;
        Some(plan.add(seed::clear_job(self.topology, seen, left), []))
    }

    /// Says whether the slot of a link is there and holds its WAL.
    fn has_slot(&self, link: &Link) -> bool {
        self.decided.get(&link.upstream).is_some_and(|upstream| slots::has(upstream.seen, &link.standby))
    }

    /// WAL that a server keeps for nobody fills its disk: a standby follows another, or was never moved here after all. A slot in
    /// use is dropped only when its standby was just proven to follow another.
    fn drop_left_over(&self, plan: &mut PlanBuilder, moved: &[ServerName], before: &[StepId]) {
        for (_, server) in self.in_order().filter(|(_, server)| !server.seen.adopted) {
            for (standby, is_active) in slots::left_over(self.topology, self.links, server.seen) {
                // Of one that is left out nobody knows whether it needs its slot.
                let Some(decided) = self.decided.get(standby) else { continue };
                let has_job = !decided.seen.seen.jobs.is_empty();
                if !has_job && (!is_active || moved.contains(standby)) {
                    plan.add(slots::drop(server.seen, standby), before.iter().copied());
                }
            }
        }
    }

    /// One step for all slots that an upstream lacks.
    fn create_slots(&self, upstream: Seen<'_>) -> Step {
        let is_made = |link: &&Link| link.upstream == upstream.server.name && self.decided.contains_key(&link.standby);
        let links = self.links.iter().filter(is_made).filter(|link| !self.has_slot(link));
        slots::create(upstream, links.map(|link| &link.standby))
    }

    /// The primary first, then standbys behind their upstreams.
    fn in_order(&self) -> impl Iterator<Item = (&ServerName, &Decided<'_>)> {
        let names = std::iter::once(self.primary).chain(self.links.iter().map(|link| &link.standby));
        names.filter_map(|name| Some((name, self.decided.get(name)?)))
    }

    fn prove(&self, links: Vec<Link>) -> Step {
        Step::prove(self.primary, links)
    }

    /// Returns the copy that an earlier run began and that is gone on with. It needs its slot, and an upstream that can still be
    /// told from others.
    fn adopted_copy(&self, link: &Link) -> Option<&Job> {
        let [server, upstream] = [&link.standby, &link.upstream].map(|name| self.decided.get(name));
        let is_usable = self.has_slot(link) && upstream?.seen.system_identifier().is_some();
        match job::earlier(server?.seen, Some(link.upstream.as_str()), is_usable) {
            Earlier::Adopt(job) => Some(job),
            Earlier::None | Earlier::Clear(_) => None,
        }
    }

    fn create_tablespaces(&self, plan: &mut PlanBuilder) {
        let Some(primary) = self.decided.get(self.primary) else { return };
        let missing = tablespaces::missing(self.topology, primary.seen);
        if missing.is_empty() {
            return;
        }
        let mut before = plan.all();
        for (_, server) in self.in_order() {
            before.push(plan.add(tablespaces::make_directories(server.seen, None), []));
        }
        plan.add(tablespaces::create(primary.seen, &missing), before);
    }

    fn create_roles(&self, plan: &mut PlanBuilder, ready: &BTreeMap<&ServerName, StepId>) -> Option<StepId> {
        let server = self.decided.get(self.primary)?;
        let instance = server.seen.instance;
        let wanted_roles = [roles::REPLICATOR, roles::REWIND, roles::OPERATOR];
        let has_role = |role: &str| instance.is_some_and(|instance| instance.roles.contains_key(role));
        let lacks_grants = |role: &str| {
            instance.and_then(|instance| instance.roles.get(role)?.complete).is_some_and(|complete| !complete)
        };
        let is_by_password = self.topology.common().replication.authentication == Authentication::ScramSha256;
        let there = instance.and_then(|instance| instance.roles.get(roles::REPLICATOR)?.verifier_sha256.as_ref());
        let wanted = self.material.replication.as_ref().filter(|_| is_by_password);
        let verifier =
            wanted.filter(|wanted| there != Some(&wanted.verifier_sha256)).map(|wanted| wanted.role.verifier.clone());
        let is_made = |name: &String| {
            applications::is_owned(self.topology, name)
                || instance
                    .is_some_and(|instance| instance.databases.contains(name) || instance.owners.contains_key(name))
        };
        let missing = sql::Missing {
            roles: wanted_roles.into_iter().filter(|role| !has_role(role)).collect(),
            grants: wanted_roles.into_iter().filter(|role| lacks_grants(role)).collect(),
            verifier,
            canary: !instance.is_some_and(|instance| instance.canary),
            comments: server.seen.configuration == Configuration::Kept,
            canary_chain: instance.is_some_and(|instance| instance.canary && !instance.canary_chain),
            databases: self.topology.common().databases.iter().filter(|name| !is_made(name)).cloned().collect(),
        };
        if missing.is_empty() {
            return None;
        }
        let mut what: Vec<String> = Vec::new();
        if !missing.roles.is_empty() {
            what.push(format!("roles {}", missing.roles.join(", ")));
        }
        if missing.verifier.is_some() && missing.roles.is_empty() {
            what.push("the password of replicator".to_owned());
        }
        if missing.canary {
            what.push("the canary table".to_owned());
        }
        if missing.canary_chain {
            what.push("the hash chain of the canary table".to_owned());
        }
        if !missing.databases.is_empty() {
            what.push(format!("databases {}", missing.databases.join(", ")));
        }
        let commands = vec![sql::psql(server.seen.layout, server.seen.server, missing.sql())];
        // What a stopped instance has, nobody could ask.
        let verb = if server.seen.data.is_some() && instance.is_none() { "make sure of" } else { "create" };
        let created = (!what.is_empty()).then(|| format!("{verb} {}", what.join("; ")));
        let granted =
            (!missing.grants.is_empty()).then(|| format!("grant what is missing to {}", missing.grants.join(", ")));
        let title: Vec<String> = created.into_iter().chain(granted).collect();
        let step = Step::run(self.primary, Risk::Reversible, title.join("; "), commands);
        Some(plan.add(step, ready.get(self.primary).copied()))
    }

    /// One step for each role of an application that is missing or differs, one after the other.
    fn create_applications(&self, plan: &mut PlanBuilder, ready: Option<StepId>) {
        let Some(primary) = self.decided.get(self.primary) else { return };
        let mut before = ready;
        for step in applications::steps(self.topology, self.material, primary.seen) {
            before = Some(plan.add(step, before));
        }
    }

    /// The last file and the last reload: commits wait for standbys from here on.
    fn turn_synchronous_on(&self, plan: &mut PlanBuilder, names: String) {
        let Some(server) = self.decided.get(self.primary) else { return };
        let role = ConfRole::Primary(names.clone());
        let Ok(wanted) =
            desired::wanted(self.topology, self.observation, self.material, server.seen, Some(server.seen), role)
        else {
            return;
        };
        let entries = desired::configuration_only(&wanted, server.seen.layout);
        // A standby that commits are to wait for must stream before they do (hazard 49).
        if !plan.proves_links() {
            let of_wish = |link: &&Link| names.contains(&crate::quote::sql::identifier(link.standby.as_str()));
            let links = self.links.iter().filter(of_wish).cloned().collect();
            let before = plan.all();
            plan.add(self.prove(links), before);
        }
        let after: Vec<StepId> = plan.all();
        let title = format!("install synchronous_standby_names = '{names}'");
        let step = files::install(self.primary, server.seen.seen, server.seen.layout, title, &entries, None);
        let installed = plan.add(step, after);
        plan.add(service::reload(server.seen), [installed]);
    }
}

//! The steps of a switchover, from wherever it is: each is left out where it is done already.

use std::collections::BTreeMap;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::argv::{Argv, Piece, RunAs};
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::role_file::RoleFile;
use crate::model::topology::{Link, Synchronous, Topology};
use crate::plan::files::decided::Change;
use crate::plan::files::desired::Wanted;
use crate::plan::files::parameters::{ConfRole, synchronous_standby_names};
use crate::plan::files::{Entry, brought, desired, guard};
use crate::plan::operation::switchover::stage::Stage;
use crate::plan::seen::Seen;
use crate::plan::step::{Action, HandOver, Risk, Step};
use crate::plan::steps::hooks::RoleChange;
use crate::plan::steps::{change, hooks, seed, service, slots, sql};
use crate::plan::survey::{authority, password};
use crate::plan::{Material, PlanBuilder, StepId, files, scripts};

/// How long the primary may take to shut down, in seconds: nobody can write meanwhile, and a checkpoint was just written.
const STOP_SECONDS: u32 = 60;

/// How long its successor may stand still on the way to the shutdown checkpoint, in seconds.
const PATIENCE_SECONDS: u64 = 10;

/// Everything that listing the steps needs.
pub(in crate::plan) struct Steps<'a> {
    pub(in crate::plan) topology: &'a Topology,
    pub(in crate::plan) observation: &'a Observation,
    pub(in crate::plan) material: &'a Material,
    pub(in crate::plan) servers: &'a BTreeMap<ServerName, Seen<'a>>,
    /// The links below the new primary.
    pub(in crate::plan) links: &'a [Link],
    pub(in crate::plan) stage: Stage<'a>,
    pub(in crate::plan) to: &'a ServerName,
    /// What makes the new primary the primary, one step after the other, where that is no handover.
    pub(in crate::plan) opening: Vec<Step>,
    /// The primary until then, as hooks are told; of a handover it is known anyway.
    pub(in crate::plan) departed: Option<&'a ServerName>,
}

/// The steps with what is said of them.
#[derive(Debug, Default)]
pub(in crate::plan) struct Listed {
    pub(in crate::plan) plan: PlanBuilder,
    pub(in crate::plan) notes: Vec<Diagnostic>,
}

/// What one server gets.
pub(super) struct Needs {
    pub(super) install: Vec<Entry>,
    change: Change,
}

impl<'a> Steps<'a> {
    /// Lists the steps.
    ///
    /// # Errors
    /// Every reason to refuse, such as files that were edited by hand.
    pub(in crate::plan) fn list(&self) -> Result<Listed, Vec<Diagnostic>> {
        let mut listed = Listed::default();
        let names = self.synchronous().as_ref().map(synchronous_standby_names).unwrap_or_default();
        listed.notes.extend(authority::notes(self.topology.name(), self.material));
        listed.notes.extend(password::note(self.material));
        listed.notes.extend(self.fewer_synchronous());
        let served = self.setting(self.to, "synchronous_standby_names");
        // Turning on comes last, after the proof; turning off comes at once (hazard 49).
        let first_names = if names.is_empty() { String::new() } else { served };
        let mut refusals = Vec::new();
        let mut changes: BTreeMap<&ServerName, Needs> = BTreeMap::new();
        for (name, seen) in self.servers {
            match self.change(name, *seen, &first_names) {
                Ok((needs, drift)) => {
                    // No role needs a restart; what else was changed in the inventory is a bootstrap's business.
                    refusals.extend(restart_pending(name, &needs.change));
                    changes.insert(name, needs);
                    listed.notes.extend(drift);
                }
                Err(all) => refusals.extend(all),
            }
        }
        let demotion = match self.stage {
            Stage::Whole { from, .. } => match self.demotion(from) {
                Ok(step) => step,
                Err(all) => {
                    refusals.extend(all);
                    None
                }
            },
            _ => None,
        };
        if !refusals.is_empty() {
            return Err(refusals);
        }
        let plan = &mut listed.plan;
        let slots = self.create_slots(plan);
        let handed = match self.opening.as_slice() {
            [] => self.hand_over(plan, &slots, demotion)?,
            steps => {
                let chain = |before: Vec<StepId>, step: Step| vec![plan.add(step, before)];
                let hook = self.role_change().before().map(hooks::step);
                hook.into_iter().chain(steps.iter().cloned()).fold(slots.clone(), chain).first().copied()
            }
        };
        let mut before_proof: Vec<StepId> = slots.clone();
        before_proof.extend(handed);
        let pointed = self.point_poolers(plan, &mut changes, handed.as_ref().map_or(&slots, std::slice::from_ref));
        before_proof.extend(pointed.values());
        for name in self.in_order() {
            let (Some(seen), Some(Needs { install, change })) = (self.servers.get(name), changes.get(name)) else {
                continue;
            };
            // Both write the server's manifest, one behind the other.
            let first = pointed.get(name).or(handed.as_ref());
            let after: &[StepId] = first.map_or(&slots, std::slice::from_ref);
            before_proof.extend(self.bring_in_line(plan, *seen, install, change, after));
        }
        // What could not be asked before it runs again.
        let late = self.late_slots(plan, &before_proof);
        before_proof.extend(late);
        let left_over: Vec<Step> =
            self.servers.values().flat_map(|seen| drop_left_over(self.topology, *seen, self.links)).collect();
        let is_settled = plan.all().is_empty() && left_over.is_empty() && first_names == names;
        if is_settled {
            return Ok(listed);
        }
        if let Some(hook) = self.role_change().after() {
            plan.add(hooks::step(hook), handed.map_or_else(|| before_proof.clone(), |handed| vec![handed]));
        }
        let proven = match self.proven().next() {
            Some(_) => vec![plan.add(self.prove(), before_proof)],
            None => before_proof,
        };
        if first_names != names {
            self.turn_synchronous_on(plan, &names, &proven)?;
        }
        for step in left_over {
            plan.add(step, proven.clone());
        }
        if handed.is_some()
            && let Some(seen) = self.servers.get(self.to)
        {
            // A re-seed reads the new timeline in the control file (hazard 70).
            let command = sql::psql(seen.layout, seen.server, sql::checkpoint());
            let title = "write a checkpoint, so that its control file names its timeline";
            plan.add(Step::run(self.to, Risk::Reversible, title, vec![command]), proven);
        }
        Ok(listed)
    }

    /// The wish for synchronous replication, as far as the servers are there that commits would wait for.
    fn synchronous(&self) -> Option<Synchronous> {
        let wish = self.topology.synchronous(self.to)?;
        let is_there =
            |name: &&ServerName| self.proven().any(|link| link.standby == **name && link.upstream == *self.to);
        let standbys: Vec<ServerName> = wish.standbys.iter().filter(is_there).cloned().collect();
        let count = wish.count.min(standbys.len());
        (count > 0).then_some(Synchronous { count, standbys, ..wish })
    }

    /// The links that can be proven: both servers are there.
    fn proven(&self) -> impl Iterator<Item = &Link> {
        let is_there = |name: &ServerName| self.servers.contains_key(name);
        self.links.iter().filter(move |link| is_there(&link.standby) && is_there(&link.upstream))
    }

    /// What hooks are told.
    fn role_change(&self) -> RoleChange<'a> {
        RoleChange { topology: self.topology, from: self.departed.or(self.former()), to: self.to }
    }

    /// The former primary, where it is still to become a standby in this run.
    pub(super) fn former(&self) -> Option<&'a ServerName> {
        match self.stage {
            Stage::Whole { from, .. } | Stage::Stopped { from } => Some(from),
            Stage::Promoted { .. } => None,
        }
    }

    fn setting(&self, name: &ServerName, parameter: &str) -> String {
        let instance = self.servers.get(name).and_then(|seen| seen.instance);
        instance.and_then(|instance| instance.settings.get(parameter)).map_or("", |setting| &setting.setting).to_owned()
    }

    /// The new primary first, then standbys behind their upstreams.
    fn in_order(&self) -> impl Iterator<Item = &ServerName> {
        std::iter::once(self.to).chain(self.links.iter().map(|link| &link.standby))
    }

    fn role(&self, name: &ServerName, seen: Seen<'_>, names: &str) -> ConfRole {
        match self.links.iter().find(|link| link.standby == *name) {
            None => ConfRole::Primary(names.to_owned()),
            Some(link) => desired::standby_role(self.topology, seen, &link.upstream),
        }
    }

    fn wanted(&self, seen: Seen<'_>, role: ConfRole) -> Result<Wanted, Diagnostic> {
        let primary = self.servers.get(self.to).copied();
        desired::wanted(self.topology, self.observation, self.material, seen, primary, role)
    }

    /// What a server's files must be from then on, and what its instance needs for that.
    fn change(
        &self,
        name: &ServerName,
        seen: Seen<'_>,
        names: &str,
    ) -> Result<(Needs, Vec<Diagnostic>), Vec<Diagnostic>> {
        let wanted = self.wanted(seen, self.role(name, seen, names)).map_err(|diagnostic| vec![diagnostic])?;
        let all: Vec<Entry> = wanted.outside.iter().chain(&wanted.inside).cloned().collect();
        let comparison = files::compare(name, seen.seen, seen.layout, &all);
        if !comparison.refusals.is_empty() {
            return Err(comparison.refusals);
        }
        let mut install = comparison.changes;
        let is_former = match self.stage {
            Stage::Promoted { from } => from == Some(name),
            Stage::Whole { from, .. } | Stage::Stopped { from } => from == name,
        };
        if is_former {
            let at = install.len().saturating_sub(1);
            install.splice(at..at, seed::marks(seen, &wanted, &seen.layout.data_directory));
        }
        let change = change::decide(&seen, &install, &comparison.edited);
        Ok((Needs { install, change }, comparison.drift))
    }

    /// Upstreams keep WAL for their standbys before those need it. What does not run is asked later.
    fn create_slots(&self, plan: &mut PlanBuilder) -> Vec<StepId> {
        let running = self.in_order().filter_map(|name| self.servers.get(name)).filter(|seen| seen.instance.is_some());
        let mut added = Vec::new();
        for upstream in running {
            let missing: Vec<&ServerName> =
                self.standbys_of(upstream).filter(|standby| !slots::has(*upstream, standby)).collect();
            if !missing.is_empty() {
                added.push(plan.add(slots::create(*upstream, missing), []));
            }
        }
        added
    }

    /// The same of upstreams that did not run when they were looked at.
    fn late_slots(&self, plan: &mut PlanBuilder, before: &[StepId]) -> Vec<StepId> {
        let stopped = self.servers.values().filter(|seen| seen.instance.is_none());
        let upstreams = stopped.filter(|seen| self.standbys_of(seen).next().is_some());
        upstreams.map(|seen| plan.add(slots::create(*seen, self.standbys_of(seen)), before.iter().copied())).collect()
    }

    fn standbys_of(&self, upstream: &Seen<'_>) -> impl Iterator<Item = &ServerName> {
        let name = upstream.server.name.clone();
        self.links.iter().filter(move |link| link.upstream == name).map(|link| &link.standby)
    }

    /// Marks the primary as about to hand over: from then on nothing starts it.
    fn demotion(&self, from: &ServerName) -> Result<Option<Step>, Vec<Diagnostic>> {
        let Some(seen) = self.servers.get(from) else { return Ok(None) };
        let names = self.setting(from, "synchronous_standby_names");
        let wanted = self.wanted(*seen, ConfRole::Primary(names)).map_err(|diagnostic| vec![diagnostic])?;
        let mut entries: Vec<Entry> = wanted.outside.iter().chain(&wanted.inside).cloned().collect();
        let role = seen.layout.role_file();
        for entry in &mut entries {
            if let Entry::File { path, content, .. } = entry
                && *path == role
            {
                *content = Piece::Text(RoleFile::Demoted { successor: self.to.as_str() }.text());
            }
        }
        let comparison = files::compare(from, seen.seen, seen.layout, &entries);
        if !comparison.refusals.is_empty() {
            return Err(comparison.refusals);
        }
        let title = format!("mark it as about to hand over to \"{}\": nothing starts it from now on", self.to);
        let mut step = files::install(from, seen.seen, seen.layout, title, &role_alone(&entries, seen), None);
        step.files.retain(|file| file.path == role);
        Ok(Some(step))
    }

    /// Checkpoints, so that the shutdown has little to write; the mark; the handover itself. None where it is done already.
    fn hand_over(
        &self,
        plan: &mut PlanBuilder,
        slots: &[StepId],
        demotion: Option<Step>,
    ) -> Result<Option<StepId>, Vec<Diagnostic>> {
        let Some(from) = self.former() else { return Ok(None) };
        let (Some(former), Some(successor)) = (self.servers.get(from), self.servers.get(self.to)) else {
            return Ok(None);
        };
        let mut before = slots.to_vec();
        if let Some(demotion) = demotion {
            let write = |seen: &Seen<'_>, title: &str| {
                let command = sql::psql(seen.layout, seen.server, sql::checkpoint());
                Step::run(&seen.server.name, Risk::Reversible, title, vec![command])
            };
            if let timeout_s @ 1.. = self.topology.common().drain_timeout_s {
                before = vec![plan.add(drain(from, timeout_s), before)];
            }
            let title = "write a checkpoint, so that the shutdown has little left to write";
            let last = plan.add(write(former, title), before.clone());
            let title = "write a restartpoint, so that the promotion has little left to write";
            let other = plan.add(write(successor, title), before);
            before = vec![plan.add(demotion, [last, other])];
        }
        let (topology, observation, material) = (self.topology, self.observation, self.material);
        let both = back(topology, observation, material, *former)?;
        let mut undo: Vec<(ServerName, Vec<Argv>)> =
            both.into_iter().map(|commands| (from.clone(), commands)).collect();
        let mut unmark = match former.instance {
            Some(_) => vec![(from.clone(), vec![primary_again(topology, observation, material, *former)?])],
            None => undo.clone(),
        };
        let made: Vec<&Link> = self
            .links
            .iter()
            .filter(|link| link.upstream == *self.to && !slots::has(*successor, &link.standby))
            .collect();
        if !made.is_empty() {
            let drop = |link: &&Link| sql::drop_slot(&link.standby);
            let text = made.iter().map(drop).fold(crate::quote::sql::Sql::new(), crate::quote::sql::Sql::then);
            let dropped = (self.to.clone(), vec![sql::psql(successor.layout, successor.server, text)]);
            undo.push(dropped.clone());
            unmark.push(dropped);
        }
        // Who was made to wait goes on, whatever comes of this.
        undo.extend(self.resumes());
        unmark.extend(self.resumes());
        let step = Step {
            title: match former.instance {
                Some(_) => format!("shut it down, and promote \"{}\" when that has its shutdown checkpoint", self.to),
                None => format!("promote \"{}\" when that has the shutdown checkpoint", self.to),
            },
            server: Some(from.clone()),
            risk: Risk::Disruptive,
            action: Action::HandOver(Box::new(HandOver {
                from: from.clone(),
                to: self.to.clone(),
                stop: vec![stand_down(*former)],
                promote: service::promote(*successor),
                patience_s: PATIENCE_SECONDS,
                unmark,
                undo,
                end: vec![service::ended(*former)],
                // One that has shut down already was begun by another run, which has run it.
                before: former.instance.and_then(|_| self.role_change().before()),
                pause: self.pauses(former.instance.is_some()),
                undone: self.role_change().undone(),
            })),
            files: Vec::new(),
        };
        Ok(Some(plan.add(step, before)))
    }

    /// Installs what a server lacks for its role, and brings its instance up to that. Returns the last steps.
    fn bring_in_line(
        &self,
        plan: &mut PlanBuilder,
        seen: Seen<'_>,
        install: &[Entry],
        change: &Change,
        after: &[StepId],
    ) -> Option<StepId> {
        let name = &seen.server.name;
        let mut last: Option<StepId> = None;
        let mut add = |plan: &mut PlanBuilder, step: Step| {
            let before: Vec<StepId> = last.map_or(after.to_vec(), |last| vec![last]);
            last = Some(plan.add(step, before));
        };
        let is_former = self.former() == Some(name);
        if is_former && seen.layout.unit.is_some() {
            // The manager is told; its stop joins what it does by itself about a process that has ended.
            let title = "tell systemd that the instance has stopped";
            add(plan, Step::run(name, Risk::Reversible, title, vec![service::settle(seen)]));
        }
        if let Some(step) = guard::reload_units(seen, install) {
            add(plan, step);
        }
        if !install.is_empty() {
            let title = match (name == self.to, is_former) {
                (true, _) => "install the files of the primary".to_owned(),
                (_, true) => "install the files of a standby".to_owned(),
                _ => format!("follow \"{}\"", self.upstream(name).unwrap_or(self.to)),
            };
            add(plan, files::install(name, seen.seen, seen.layout, title, install, None));
        }
        let step = match change {
            _ if is_former => Some(service::start(seen)),
            // It is known to be the one that was promoted.
            Change::Start if name == self.to => Some(service::start_alone(seen)),
            Change::Start => Some(service::start(seen)),
            Change::Reload => Some(service::reload(seen)),
            Change::Restart { .. } => Some(service::restart(seen)),
            Change::None => None,
        };
        if let Some(step) = step {
            add(plan, step);
        }
        last
    }

    fn upstream(&self, name: &ServerName) -> Option<&ServerName> {
        self.links.iter().find(|link| link.standby == *name).map(|link| &link.upstream)
    }

    fn prove(&self) -> Step {
        Step::prove(self.to, self.proven().cloned().collect())
    }

    /// The last file and the last reload: commits wait for standbys from here on.
    fn turn_synchronous_on(
        &self,
        plan: &mut PlanBuilder,
        names: &str,
        proven: &[StepId],
    ) -> Result<(), Vec<Diagnostic>> {
        let Some(seen) = self.servers.get(self.to) else { return Ok(()) };
        let wanted = self.wanted(*seen, ConfRole::Primary(names.to_owned())).map_err(|diagnostic| vec![diagnostic])?;
        let entries = desired::configuration_only(&wanted, seen.layout);
        let title = format!("install synchronous_standby_names = '{names}'");
        let mut step = files::install(self.to, seen.seen, seen.layout, title, &entries, None);
        step.files.clear();
        let installed = plan.add(step, proven.iter().copied());
        plan.add(service::reload(*seen), [installed]);
        Ok(())
    }

    /// Says where fewer standbys can be waited for than the inventory promises.
    fn fewer_synchronous(&self) -> Option<Diagnostic> {
        let promised = self.topology.common().replication.synchronous.as_ref()?.count;
        let left = self.synchronous().map_or(0, |wish| wish.count);
        (left < promised).then(|| {
            let message = format!("commits on \"{}\" will wait for {left} standbys, and not for {promised}", self.to);
            Diagnostic::warning(Code::FewerSynchronousStandbys, message)
                .server(self.to)
                .detail("Only who streams from the primary directly can be waited for.")
                .hint(
                    "Name standbys in replication.synchronous that stream from it, too, or remove their \"upstream\".",
                )
        })
    }
}

/// Waits for transactions that are under way while everybody can write: the shutdown ends what is not ended by then.
fn drain(from: &ServerName, timeout_s: u64) -> Step {
    Step {
        title: format!("let transactions end that are under way, for {timeout_s} s at most"),
        server: Some(from.clone()),
        risk: Risk::Read,
        action: Action::Drain { timeout_s },
        files: Vec::new(),
    }
}

fn restart_pending(name: &ServerName, change: &Change) -> Option<Diagnostic> {
    let Change::Restart { parameters } = change else { return None };
    // What acts on standbys alone comes into force with the very start that makes it one.
    let names = parameters.iter().map(|(name, _)| name.as_str()).filter(|name| brought::find(name).is_none());
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        return None;
    }
    Some(
        Diagnostic::error(Code::ChangesPending, format!("server \"{name}\" is not as the inventory says"))
            .server(name)
            .detail(format!("A bootstrap would restart it for {}.", names.join(", ")))
            .hint("First: pgstead bootstrap. A change of the primary carries no other change along."),
    )
}

/// Returns the steps that drop what a server keeps for others that do not stream from it any more: WAL would be held back for
/// nobody. Slots of others are theirs.
pub(in crate::plan) fn drop_left_over(topology: &Topology, seen: Seen<'_>, links: &[Link]) -> Vec<Step> {
    let name = &seen.server.name;
    let is_used = |standby: &ServerName| links.iter().any(|link| link.upstream == *name && link.standby == *standby);
    // Of one that is stopped nobody knows what it has.
    let is_there = |standby: &ServerName| match seen.instance {
        Some(instance) => instance.slots.get(&standby.slot_name()).is_some_and(|slot| slot.slot_type == "physical"),
        None => true,
    };
    let standbys = topology.servers().map(|server| &server.name).filter(|standby| *standby != name);
    let left = standbys.filter(|standby| is_there(standby) && !is_used(standby));
    left.map(|standby| slots::drop(seen, standby)).collect()
}

/// Shuts the primary down and tells where its WAL ends.
fn stand_down(seen: Seen<'_>) -> Argv {
    let layout = seen.layout;
    Argv::new(RunAs::User(layout.os_user.clone()), "sh").args(["-c", scripts::STAND_DOWN, "pgstead-stand-down"]).args([
        &layout.data_directory,
        &layout.program("pg_controldata"),
        &STOP_SECONDS.to_string(),
    ])
}

/// The role file and the manifest that knows of it, and of nothing else that is only about to change.
fn role_alone(entries: &[Entry], seen: &Seen<'_>) -> Vec<Entry> {
    let role = seen.layout.role_file();
    let mut alone: Vec<Entry> = entries.iter().filter(|entry| entry.path() == role).cloned().collect();
    let manifest = files::recorded(seen.seen, seen.layout, &alone);
    alone.extend(manifest.or_else(|| files::manifest(seen.layout, entries)));
    alone
}

/// Returns the command that gives a primary that was about to hand over its role back.
pub(in crate::plan) fn primary_again(
    topology: &Topology,
    observation: &Observation,
    material: &Material,
    seen: Seen<'_>,
) -> Result<Argv, Vec<Diagnostic>> {
    let setting = seen.instance.and_then(|instance| instance.settings.get("synchronous_standby_names"));
    // Of one that is stopped the file tells it; what that was meant to be is what the inventory wishes.
    let names = match setting {
        Some(setting) => setting.setting.clone(),
        None => topology.synchronous(&seen.server.name).as_ref().map(synchronous_standby_names).unwrap_or_default(),
    };
    let role = ConfRole::Primary(names);
    let wanted = desired::wanted(topology, observation, material, seen, Some(seen), role)
        .map_err(|diagnostic| vec![diagnostic])?;
    let entries: Vec<Entry> = wanted.outside.iter().chain(&wanted.inside).cloned().collect();
    Ok(files::install_argv(seen.seen, seen.layout, &role_alone(&entries, &seen), None))
}

/// Returns the commands that make a primary the primary again that is shutting down, or has: what gives it its role back, and
/// what starts it. Each reads files from standard input, or none: they are two executions.
pub(in crate::plan) fn back(
    topology: &Topology,
    observation: &Observation,
    material: &Material,
    seen: Seen<'_>,
) -> Result<[Vec<Argv>; 2], Vec<Diagnostic>> {
    let role = vec![service::ended(seen), primary_again(topology, observation, material, seen)?];
    Ok([role, service::start_alone_commands(seen)])
}

//! The steps of a re-seed, in the order in which each is safe where the one before was the last: nothing may start the
//! server, then the new data are made and proven beside the old ones, and only then do they trade places.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::diagnostic::Diagnostic;
use crate::judge::link::receives_from;
use crate::judge::{StartsAs, wal};
use crate::model::argv::{Argv, Piece, RunAs};
use crate::model::aside::{Aside, Reason};
use crate::model::job::{Job, JobKind};
use crate::model::method::{Method, Space};
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::role_file::RoleFile;
use crate::model::topology::Link;
use crate::model::wal::{DEFAULT_SEGMENT_BYTES, Segment};
use crate::plan::adoption::places;
use crate::plan::files::decided::Change;
use crate::plan::files::desired::Wanted;
use crate::plan::files::{Entry, desired, guard, pooler};
use crate::plan::operation::reseed::Request;
use crate::plan::operation::reseed::case::{Case, Data};
use crate::plan::operation::reseed::diagnosis::{Condition, Diagnosis, Divergence};
use crate::plan::operation::reseed::ladder::Rung;
use crate::plan::seen::Seen;
use crate::plan::step::{Risk, Step};
use crate::plan::steps::job::Earlier;
use crate::plan::steps::rewind::Kept;
use crate::plan::steps::seed::Manner;
use crate::plan::steps::{change, job, orphans, rewind, seed, service, slots, sql, tablespaces};
use crate::plan::survey::aside;
use crate::plan::{Material, PlanBuilder, StepId, adoption, files, scripts};

/// The steps with what is said of them.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) steps: PlanBuilder,
    pub(super) set_aside: Option<String>,
    pub(super) notes: Vec<Diagnostic>,
}

/// Returns what the primary has more of than the server would have: it would not start.
pub(super) fn short(case: &Case<'_>, material: &Material, method: Method) -> Vec<Diagnostic> {
    let seen = way(case, method);
    let role = desired::standby_role(case.topology, seen, &case.link.upstream);
    let wanted = desired::wanted(case.topology, case.observation, material, seen, Some(case.primary), role);
    // Why nobody knows its files is told by the steps.
    let ours = wanted.map(|wanted| adoption::our_settings(seen, &wanted)).unwrap_or_default();
    adoption::needed_by_standbys(case.primary, &ours, false)
}

/// Returns the server as a way sees it: a copy is made as if it had no data.
pub(super) fn way<'a>(case: &Case<'a>, method: Method) -> Seen<'a> {
    match method {
        Method::Replay => case.seen(),
        Method::Rewind | Method::Basebackup => case.bare,
    }
}

/// Lists the steps of a way; none where nothing is wrong.
///
/// # Errors
/// Every reason to refuse, at once.
pub(super) fn list(
    case: &Case<'_>,
    diagnosis: &Diagnosis,
    material: &Material,
    bare: &Observation,
    rung: Option<&Rung>,
    request: Request<'_>,
) -> Result<Listed, Vec<Diagnostic>> {
    let Some(&Rung { method, cost, .. }) = rung else { return Ok(Listed::default()) };
    let seen = way(case, method);
    let role = desired::standby_role(case.topology, seen, &case.link.upstream);
    let wanted = desired::wanted(case.topology, case.observation, material, seen, Some(case.primary), role)
        .map_err(|diagnostic| vec![diagnostic])?;
    let compression = cost.filter(|cost| cost.is_compressed).map(|_| seed::ZSTD);
    let manner = Manner { compression, max_rate: request.max_rate, ..Manner::default() };
    let steps = Steps { case, diagnosis, material, bare, wanted, manner };
    match method {
        Method::Replay => steps.replay(),
        Method::Rewind if request.space == Space::Reuse => steps.anew(JobKind::Reuse, request.now),
        Method::Rewind => steps.anew(JobKind::Rewind, request.now),
        Method::Basebackup => steps.anew(JobKind::New, request.now),
    }
}

struct Steps<'a, 'b> {
    case: &'b Case<'a>,
    diagnosis: &'b Diagnosis,
    material: &'b Material,
    bare: &'b Observation,
    wanted: Wanted,
    manner: Manner<'b>,
}

impl Steps<'_, '_> {
    /// The data directory is good: it is given what it lacks to be the standby that it was, and started.
    fn replay(&self) -> Result<Listed, Vec<Diagnostic>> {
        let case = self.case;
        let seen = case.seen();
        let name = &case.server.name;
        let mut wanted: Vec<Entry> = self.wanted.outside.clone();
        wanted.extend(self.wanted.inside.iter().cloned());
        let comparison = files::compare(name, case.raw, case.layout, &wanted);
        if !comparison.refusals.is_empty() {
            return Err(comparison.refusals);
        }
        let mut install = comparison.changes;
        if !matches!(seen.state().starts_as, None | Some(StartsAs::Standby)) {
            let at = install.len().saturating_sub(1);
            install.splice(at..at, seed::marks(seen, &self.wanted, &case.layout.data_directory));
        }
        let change = change::decide(&seen, &install, &comparison.edited);
        let mut listed = Listed { notes: comparison.drift, ..Listed::default() };
        let plan = &mut listed.steps;
        let mut before: Vec<StepId> =
            guard::reload_units(seen, &install).map(|step| plan.add(step, [])).into_iter().collect();
        if !install.is_empty() {
            let step = files::install(name, case.raw, case.layout, "install the files of a standby", &install, None);
            let step = step.then(pooler::behind(case.topology, seen, &install));
            before = vec![plan.add(step, before)];
        }
        // What an earlier run made beside a data directory that turned out to be good is of no use any more.
        before.extend(self.clear(plan, None));
        before.extend(self.slot(plan, false, []));
        let paused = seen.instance.and_then(|instance| instance.replay_pause_state.as_deref());
        if paused.is_some_and(|state| state != "not paused") {
            let command = sql::psql(case.layout, case.server, sql::resume_replay());
            before = vec![plan.add(Step::run(name, Risk::Reversible, "resume replay", vec![command]), before)];
        }
        let brought_up = match change {
            Change::Start => Some(service::start(seen)),
            Change::Reload => Some(service::reload(seen)),
            Change::Restart { .. } => Some(service::restart(seen)),
            Change::None => None,
        };
        if let Some(step) = brought_up {
            before = vec![plan.add(step, before)];
        }
        if plan.all().is_empty() && self.diagnosis.condition == Condition::Streaming {
            return Ok(listed);
        }
        let proven = self.prove(plan, before);
        self.keep_followers(plan, proven);
        Ok(listed)
    }

    /// Whoever followed the server follows it still; a slot that is missing is made.
    fn keep_followers(&self, plan: &mut PlanBuilder, before: StepId) {
        let case = self.case;
        let known = case.seen().instance.map(|instance| &instance.slots);
        // Who was to follow it, and follows the one that took its place meanwhile, is a bootstrap's business.
        let host = ["host=", &case.server.address.to_string(), " "].concat();
        let follows = |follower: &&Seen<'_>| {
            let instance = follower.instance.and_then(|instance| instance.settings.get("primary_conninfo"));
            instance.is_none_or(|conninfo| conninfo.setting.contains(&host))
        };
        for follower in case.followers.iter().filter(follows) {
            let name = &follower.server.name;
            let mut last = before;
            if !known.is_none_or(|slots| slots.contains_key(&name.slot_name())) {
                last = plan.add(slots::create(case.seen(), [name]), [before]);
            }
            let link = Link { upstream: case.server.name.clone(), standby: name.clone() };
            self.add_proof(plan, vec![link], vec![last]);
        }
    }

    /// New data are made beside the old ones, and take their place.
    fn anew(&self, kind: JobKind, now: Timestamp) -> Result<Listed, Vec<Diagnostic>> {
        let case = self.case;
        let name = &case.server.name;
        let held = self.held();
        let comparison = files::compare(name, case.raw, case.layout, &held);
        if !comparison.refusals.is_empty() {
            return Err(comparison.refusals);
        }
        let mut install = comparison.changes;
        // What stands in the old data directory stays on record until that is replaced.
        if let Some(manifest) = files::recorded(case.raw, case.layout, &install) {
            let place = install.iter_mut().find(|entry| entry.path() == manifest.path());
            place.into_iter().for_each(|entry| *entry = manifest.clone());
        }
        let mut listed = Listed { notes: comparison.drift, ..Listed::default() };
        let plan = &mut listed.steps;
        let lent = self.lend_followers(plan)?;
        let mut before: Vec<StepId> =
            guard::reload_units(case.bare, &install).map(|step| plan.add(step, [])).into_iter().collect();
        if !install.is_empty() {
            let title = "hold the server: nothing starts it until its new data are in their place";
            let step = files::install(name, case.raw, case.layout, title, &install, None);
            let step = step.then(pooler::behind(case.topology, case.bare, &install));
            before = vec![plan.add(step, before)];
        }
        before.extend(lent);
        if let Some(step) = self.stop() {
            before = vec![plan.add(step, before)];
        }
        if let Some(step) = self.archive_waiting() {
            before = vec![plan.add(step, before)];
        }
        let adopted = self.adopted(kind);
        let mut ready = before;
        ready.extend(self.clear(plan, adopted));
        let source = self.source(kind);
        ready.extend(self.slot(plan, kind != JobKind::New, ready.clone()));
        if adopted.is_none()
            && let Some(step) = self.end_walsenders()
        {
            ready = vec![plan.add(step, ready)];
        }
        let since = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let run = self.material.run.clone();
        let aside = Aside { since, run, reason: self.reason(), is_forgotten: false };
        let (topology, material) = (case.topology, self.material);
        ready.extend(places::make(topology, case.bare, Some(case.primary)).map(|step| plan.add(step, [])));
        let made = match kind {
            JobKind::Rewind | JobKind::Reuse => {
                let kept = self.kept(kind, &aside);
                rewind::rewound_copy(topology, material, case.bare, &self.wanted, source, kept.as_ref(), adopted)
            }
            JobKind::New => {
                if !case.primary.tablespaces().is_empty() {
                    ready.push(plan.add(tablespaces::make_directories(case.bare, Some(case.primary)), []));
                }
                seed::base_backup(
                    topology,
                    material,
                    case.bare,
                    &self.wanted,
                    source,
                    case.primary,
                    Manner { adopted, keeper: self.keeper(source), ..self.manner },
                )
            }
        };
        let mut last = plan.add(made.make, ready);
        if case.state().data.is_some() {
            listed.set_aside = Some(aside.path(case.layout.place()));
            if kind != JobKind::Reuse {
                let raw = Seen { seen: case.raw, ..case.bare };
                let step = aside::set_aside(raw, &aside).map_err(|refusal| vec![*refusal])?;
                last = plan.add(step, [last]);
            }
        }
        last = plan.add(made.complete, [last]);
        last = plan.add(self.release(), [last]);
        last = plan.add(made.start, [last]);
        let proven = self.prove(plan, vec![last]);
        self.return_followers(plan, proven)?;
        Ok(listed)
    }

    /// What is kept of a data directory that is rewound itself.
    fn kept(&self, kind: JobKind, aside: &Aside) -> Option<Kept> {
        let divergence = self.diagnosis.divergence.as_ref().filter(|_| kind == JobKind::Reuse)?;
        // The segment in which the two parted, to its beginning.
        Some(Kept { aside: aside.path(self.case.layout.place()), first: self.parted_in(divergence) })
    }

    /// Everything outside the data directory as a standby has it, but for a role that the start guard refuses.
    fn held(&self) -> Vec<Entry> {
        let role = self.case.layout.role_file();
        let mut held = self.wanted.outside.clone();
        for entry in &mut held {
            if let Entry::File { path, content, .. } = entry
                && *path == role
            {
                *content = Piece::Text(RoleFile::Fenced.text());
            }
        }
        held
    }

    /// The role is a standby's from here on.
    fn release(&self) -> Step {
        let case = self.case;
        let role = case.layout.role_file();
        let owned: Vec<Entry> = self.wanted.outside.iter().chain(&self.wanted.inside).cloned().collect();
        let mut entries: Vec<Entry> =
            self.wanted.outside.iter().filter(|entry| entry.path() == role).cloned().collect();
        entries.extend(files::manifest(case.layout, &owned));
        let mut step =
            files::install(&case.server.name, case.raw, case.layout, "let it start as a standby", &entries, None);
        step.files.clear();
        step
    }

    /// Stops what runs in the old data directory. Of one that was killed a moment ago the service manager may not know yet, or
    /// it still runs what should stop it.
    fn stop(&self) -> Option<Step> {
        let seen = Seen { seen: self.case.raw, ..self.case.bare };
        let service = seen.seen.service.known();
        let is_settled = service.is_none_or(|service| matches!(service.active.as_str(), "inactive" | "failed"));
        (seen.state().instance().is_some() || !is_settled).then(|| service::stop_replaced(seen))
    }

    /// Archives what a former primary did not get to: WAL that the other side has received and does not archive (hazards 65,
    /// 72). What only this server has stays out of the archive.
    fn archive_waiting(&self) -> Option<Step> {
        let case = self.case;
        let left = self.diagnosis.divergence.as_ref()?;
        let upstream = case.upstream.instance?;
        // Of a standby that was promoted itself, the timeline is nobody else's.
        let is_of_both = wal::left(upstream, left.timeline).is_some();
        let is_on = upstream.settings.get("archive_mode").is_some_and(|setting| setting.setting != "off");
        if !is_of_both || !is_on || !matches!(case.data, Data::Ours(_)) {
            return None;
        }
        let layout = case.layout;
        let config = layout.config_file();
        let command = Argv::new(RunAs::User(layout.os_user.clone()), "sh").args([
            "-c",
            scripts::ARCHIVE_WAITING,
            "pgstead-archive-waiting",
            &layout.data_directory,
            &layout.bin_directory,
            config.as_deref().unwrap_or("-"),
            &self.parted_in(left),
        ]);
        let title = format!("archive what waits for that, of the WAL that \"{}\" has, too", case.link.upstream);
        Some(Step::run(&case.server.name, Risk::Reversible, title, vec![command]))
    }

    /// The segment in which a server and its upstream parted, by its name on the server's timeline.
    fn parted_in(&self, divergence: &Divergence) -> String {
        let control = self.case.seen().data.and_then(|data| data.control.known());
        let segment_bytes = control.and_then(|control| control.segment_bytes).unwrap_or(DEFAULT_SEGMENT_BYTES);
        Segment::before(divergence.left_at, segment_bytes).0.file(divergence.timeline)
    }

    /// Whom the new data come from: pg_rewind needs a source that accepts writes (hazard 75).
    fn source(&self, kind: JobKind) -> Seen<'_> {
        match kind {
            JobKind::Rewind | JobKind::Reuse => self.case.primary,
            JobKind::New => self.case.sender(),
        }
    }

    /// The upstream, where another server sends the copy: it keeps the WAL.
    fn keeper(&self, sender: Seen<'_>) -> Option<Seen<'_>> {
        Some(self.case.upstream).filter(|upstream| upstream.server.name != sender.server.name)
    }

    fn adopted(&self, kind: JobKind) -> Option<&Job> {
        let from = &self.source(kind).server.name;
        match job::earlier(self.case.bare, Some(from.as_str()), self.has_slot()) {
            Earlier::Adopt(job)
                if (job.kind == JobKind::New) == (kind == JobKind::New) && self.case.ripe_job() == Some(job) =>
            {
                Some(job)
            }
            _ => None,
        }
    }

    fn clear(&self, plan: &mut PlanBuilder, adopted: Option<&Job>) -> Option<StepId> {
        let left = self.case.raw.jobs.first().filter(|_| adopted.is_none())?;
        Some(plan.add(seed::clear_job(self.case.topology, self.case.seen(), left), []))
    }

    fn has_slot(&self) -> bool {
        slots::has(self.case.upstream, &self.case.server.name)
    }

    /// Reserves the WAL that the server needs, before anything is copied (hazard 22). A source that was promoted a moment ago
    /// is given its checkpoint, or pg_rewind would still see its old timeline (hazard 70).
    fn slot(
        &self,
        plan: &mut PlanBuilder,
        with_checkpoint: bool,
        after: impl IntoIterator<Item = StepId>,
    ) -> Vec<StepId> {
        let Case { upstream, primary, server, .. } = self.case;
        let after: Vec<StepId> = after.into_iter().collect();
        let mut added = Vec::new();
        if !self.has_slot() {
            added.push(plan.add(slots::create(*upstream, [&server.name]), after.clone()));
        }
        if with_checkpoint {
            let command = sql::psql(primary.layout, primary.server, sql::checkpoint());
            let title = "write a checkpoint, so that its control file names its timeline";
            added.push(plan.add(Step::run(&primary.server.name, Risk::Reversible, title, vec![command]), after));
        }
        added
    }

    /// Connections under the server's name that its old instance left on the upstream hold its slot.
    fn end_walsenders(&self) -> Option<Step> {
        let case = self.case;
        let addresses: BTreeSet<&str> = orphans::of(case.topology, self.bare, case.bare, case.upstream)?;
        Some(orphans::end(case.bare, case.upstream, &addresses))
    }

    fn reason(&self) -> Reason {
        match self.diagnosis.condition {
            Condition::Diverged | Condition::Twin | Condition::Ahead => Reason::Diverged,
            Condition::Damaged => Reason::Damaged,
            _ => Reason::Replaced,
        }
    }

    /// Lets those that follow the server follow the primary while it is away, so that they are not cut off for as long as a
    /// copy takes, nor from the WAL that only the primary has from then on. They need not be restarted.
    fn lend_followers(&self, plan: &mut PlanBuilder) -> Result<Vec<StepId>, Vec<Diagnostic>> {
        let case = self.case;
        // Those that follow a server that diverged have what it has.
        if self.diagnosis.condition.may_lose_writes() {
            return Ok(Vec::new());
        }
        let mut lent = Vec::new();
        for follower in &case.followers {
            let name = &follower.server.name;
            let wanted = self.following(*follower, &case.primary.server.name).map_err(|diagnostic| vec![diagnostic])?;
            let all: Vec<Entry> = wanted.outside.iter().chain(&wanted.inside).cloned().collect();
            let comparison = files::compare(name, follower.seen, follower.layout, &all);
            if !comparison.refusals.is_empty() {
                return Err(comparison.refusals);
            }
            let slot = plan.add(slots::create(case.primary, [name]), []);
            if comparison.changes.is_empty() {
                continue;
            }
            let title = format!("follow \"{}\" meanwhile", case.primary.server.name);
            let step = files::install(name, follower.seen, follower.layout, title, &comparison.changes, None);
            let installed = plan.add(step, [slot]);
            let reloaded = plan.add(service::reload(*follower), [installed]);
            // Who streams goes on streaming before the server is stopped. Who does not is not made worse by waiting for nobody.
            lent.push(match follower.instance.and_then(|instance| receives_from(case.topology, instance)) {
                Some(_) => {
                    let link = Link { upstream: case.primary.server.name.clone(), standby: name.clone() };
                    self.add_proof(plan, vec![link], vec![reloaded])
                }
                _ => reloaded,
            });
        }
        Ok(lent)
    }

    /// Gives those that follow the server back to it: it has its slots anew, and the WAL from its own beginning on.
    fn return_followers(&self, plan: &mut PlanBuilder, before: StepId) -> Result<(), Vec<Diagnostic>> {
        let case = self.case;
        let is_lent = !self.diagnosis.condition.may_lose_writes();
        for follower in &case.followers {
            let name = &follower.server.name;
            let mut last = plan.add(slots::create(case.seen(), [name]), [before]);
            if is_lent {
                // Its new data begin with their base backup: whoever is not past that could never be served from them.
                let link = Link { upstream: case.primary.server.name.clone(), standby: name.clone() };
                last = self.add_proof(plan, vec![link], vec![last]);
                let wanted = self.following(*follower, &case.server.name).map_err(|diagnostic| vec![diagnostic])?;
                let entries = desired::configuration_only(&wanted, follower.layout);
                let title = format!("follow \"{}\" again", case.server.name);
                let mut step = files::install(name, follower.seen, follower.layout, title, &entries, None);
                step.files.clear();
                let installed = plan.add(step, [last]);
                last = plan.add(service::reload(*follower), [installed]);
            }
            // Who followed a server that diverged has what it had, and is a case of its own.
            if !is_lent {
                continue;
            }
            let link = Link { upstream: case.server.name.clone(), standby: name.clone() };
            let proven = self.add_proof(plan, vec![link], vec![last]);
            plan.add(slots::drop(case.primary, name), [proven]);
        }
        Ok(())
    }

    fn following(&self, follower: Seen<'_>, upstream: &ServerName) -> Result<Wanted, Diagnostic> {
        let case = self.case;
        let role = desired::standby_role(case.topology, follower, upstream);
        desired::wanted(case.topology, case.observation, self.material, follower, Some(case.primary), role)
    }

    /// The proof of the server's own link.
    fn prove(&self, plan: &mut PlanBuilder, before: Vec<StepId>) -> StepId {
        self.add_proof(plan, vec![self.case.link.clone()], before)
    }

    fn add_proof(&self, plan: &mut PlanBuilder, links: Vec<Link>, before: Vec<StepId>) -> StepId {
        plan.add(Step::prove(&self.case.primary.server.name, links), before)
    }
}

//! What a change of the primary means for PgBouncer beside the servers (docs/adr/0019-a-pooler-waits.md).

use std::collections::BTreeMap;

use crate::model::argv::Argv;
use crate::model::name::ServerName;
use crate::plan::files::pooler;
use crate::plan::operation::switchover::steps::{Needs, Steps};
use crate::plan::seen::Seen;
use crate::plan::{PlanBuilder, StepId};

impl Steps<'_> {
    /// What makes clients wait, last before the shutdown; of a primary that has shut down already an earlier run has done so.
    pub(super) fn pauses(&self, runs: bool) -> Vec<(ServerName, Vec<Argv>)> {
        let seen = self.servers.values().filter(|_| runs);
        seen.filter_map(|seen| pooler::pause(self.topology, *seen)).collect()
    }

    /// What lets them go on where nobody is promoted.
    pub(super) fn resumes(&self) -> impl Iterator<Item = (ServerName, Vec<Argv>)> {
        self.servers.values().filter_map(|seen| pooler::resume(self.topology, *seen))
    }

    /// Clients that come through PgBouncer go on as soon as somebody accepts writes.
    pub(super) fn point_poolers(
        &self,
        plan: &mut PlanBuilder,
        changes: &mut BTreeMap<&ServerName, Needs>,
        handed: &[StepId],
    ) -> BTreeMap<&ServerName, StepId> {
        let mut added = BTreeMap::new();
        let Some(primary) = self.topology.server(self.to) else { return added };
        let may_wait = self.former().and_then(|from| self.servers.get(from)).is_some();
        for (name, seen) in self.servers {
            let Some(Needs { install, .. }) = changes.get_mut(name) else { continue };
            let step = pooler::point(self.topology, *seen, primary, install, may_wait);
            if let Some(step) = step {
                added.insert(name, plan.add(step, handed.iter().copied()));
            }
        }
        // The former primary of a failover is fenced, and clients may come through its PgBouncer still.
        let fenced = self.departed.and_then(|from| Seen::of_stopped(self.topology, self.observation, from));
        if let Some(step) = fenced.and_then(|seen| pooler::point_fenced(self.topology, seen, primary)) {
            plan.add(step, handed.iter().copied());
        }
        added
    }
}

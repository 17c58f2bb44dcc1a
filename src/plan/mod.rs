//! Decides everything before a server is touched.
//!
//! Pure: (topology, observation, material) in, a [`Plan`] or all refusals out. The plan is so specific that nothing is
//! left to decide while a server is touched. Nothing here runs, reads a clock, or draws a random number.

pub mod adoption;
pub mod files;
pub mod links;
pub mod material;
pub mod operation;
pub mod scripts;
pub mod seen;
pub mod step;
pub mod steps;
pub mod survey;

use serde::Serialize;

use crate::diagnostic::Diagnostic;
use crate::model::name::{ServerName, TopologyName};
pub use files::effects::SettingChange;
pub use material::{Leaf, Material, Replication};
pub use operation::bootstrap::plan_bootstrap;
pub use operation::failover::plan_failover;
pub use operation::forget::plan_forget;
pub use operation::reseed::plan_reseed;
pub use operation::switchover::{plan_abort, plan_switchover};
pub use step::{Action, Copying, FileChange, HandOver, Hook, Promotion, Risk, Room, Step, Trust};
pub use survey::consent::Consent;

/// A directed acyclic graph of steps, listed so that each step stands behind those it waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The topology it is for.
    pub topology: TopologyName,
    /// The steps in readable order.
    pub steps: Vec<PlannedStep>,
    /// Every effective setting of a running instance that changes.
    pub settings: Vec<SettingChange>,
    /// What the operator should know although nothing is refused.
    pub notes: Vec<Diagnostic>,
}

/// The number of a step in its plan, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct StepId(pub u32);

/// A step and the steps it waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedStep {
    /// Its number.
    pub id: StepId,
    /// The steps that must have succeeded before; all have smaller numbers.
    pub after: Vec<StepId>,
    /// What is done.
    pub step: Step,
}

impl Plan {
    /// Says whether carrying the plan out may change a server: that of a step, the upstream of a copy, which may have to drop
    /// the copy's slot, the successor of a primary, or one whose PgBouncer lets clients wait.
    pub fn touches(&self, server: &ServerName) -> bool {
        self.steps.iter().any(|planned| {
            let touches_another = match &planned.step.action {
                Action::Copy(copying) => copying.room.server == *server,
                Action::HandOver(hand_over) => {
                    hand_over.to == *server || hand_over.pause.iter().any(|(paused, _)| paused == server)
                }
                Action::Run(_)
                | Action::LogIn(_)
                | Action::Drain { .. }
                | Action::Promote(_)
                | Action::ProveLinks { .. }
                | Action::ProveServed { .. }
                | Action::ProveTrust { .. }
                | Action::Hook(_) => false,
            };
            planned.step.server.as_ref() == Some(server) || touches_another
        })
    }

    /// Says whether carrying the plan out would change anything.
    pub fn changes(&self) -> bool {
        !self.steps.is_empty()
    }
}

/// Collects steps and hands out their numbers.
#[derive(Debug, Default)]
pub struct PlanBuilder {
    steps: Vec<PlannedStep>,
    first: Vec<StepId>,
}

impl PlanBuilder {
    /// Adds a step that waits for others, and returns its number.
    pub fn add(&mut self, step: Step, after: impl IntoIterator<Item = StepId>) -> StepId {
        let id = StepId(self.steps.len() as u32 + 1);
        let mut after: Vec<StepId> = after.into_iter().collect();
        if after.is_empty() {
            after.clone_from(&self.first);
        }
        after.sort_unstable();
        after.dedup();
        self.steps.push(PlannedStep { id, after, step });
        id
    }

    /// Lets every later step wait for some, be it through another.
    pub fn first_of_all(&mut self, steps: Vec<StepId>) {
        self.first = steps;
    }

    /// Returns the numbers of all steps so far.
    pub fn all(&self) -> Vec<StepId> {
        self.steps.iter().map(|step| step.id).collect()
    }

    /// Returns the numbers of the steps that no other waits for: what waits for these waits for all.
    pub fn last(&self) -> Vec<StepId> {
        let is_waited_for = |id: &StepId| self.steps.iter().any(|step| step.after.contains(id));
        self.all().into_iter().filter(|id| !is_waited_for(id)).collect()
    }

    /// Says whether a step proves links.
    pub fn proves_links(&self) -> bool {
        self.steps.iter().any(|planned| matches!(planned.step.action, Action::ProveLinks { .. }))
    }

    /// Ends the collection.
    pub fn finish(self) -> Vec<PlannedStep> {
        self.steps
    }
}

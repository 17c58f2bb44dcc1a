//! Takes back a switchover that has not come to the promotion: the primary is the primary again.

use crate::diagnostic::Diagnostic;
use crate::judge::State;
use crate::model::observation::Observation;
use crate::model::topology::Topology;
use crate::plan::files::pooler;
use crate::plan::operation::switchover::{Switchover, stage, steps, unseen};
use crate::plan::step::{Risk, Step};
use crate::plan::steps::service;
use crate::plan::survey::{Survey, survey};
use crate::plan::{Material, Plan, PlanBuilder, StepId};

/// Plans to take a switchover back.
///
/// # Errors
/// Every reason to refuse: none was begun, somebody was promoted, or a server could not be looked at, which may have been.
pub fn plan_abort(
    topology: &Topology,
    observation: &Observation,
    material: &Material,
) -> Result<Switchover, Vec<Diagnostic>> {
    let state = State::of(topology, observation);
    let unseen = unseen(&state);
    if !unseen.is_empty() {
        return Err(unseen);
    }
    let (from, to) = stage::to_take_back(&state).map_err(|refusal| vec![*refusal])?;
    let Survey { servers, refusals, notes, .. } = survey(topology, observation);
    let Some(seen) = servers.get(from).filter(|_| refusals.is_empty()) else { return Err(refusals) };
    let links = topology.links(from);
    let mut plan = PlanBuilder::default();
    // Under the successor's lock: from here on nobody promotes it who was about to.
    let looked: Vec<StepId> = servers
        .get(to)
        .filter(|seen| seen.data.is_some())
        .map(|seen| plan.add(service::is_standby(*seen), []))
        .into_iter()
        .collect();
    let step = |title: &str, commands| Step::run(from, Risk::Reversible, title, commands);
    let mut last = match seen.instance {
        Some(_) => {
            let command = steps::primary_again(topology, observation, material, *seen)?;
            vec![plan.add(step("let it stay the primary", vec![command]), looked)]
        }
        None => {
            let [role, start] = steps::back(topology, observation, material, *seen)?;
            let role = plan.add(step("let it be the primary again", role), looked);
            vec![plan.add(step("start it as the primary again", start), [role])]
        }
    };
    for server in servers.values().filter(|server| server.server.name != *from) {
        // What the switchover made on its successor.
        for step in steps::drop_left_over(topology, *server, &links) {
            last.push(plan.add(step, []));
        }
    }
    let resumed: Vec<Step> = servers.values().filter_map(|server| pooler::resume_step(topology, *server)).collect();
    for step in resumed {
        plan.add(step, last.iter().copied());
    }
    plan.add(Step::prove(from, links), last);
    let plan = Plan { topology: topology.name().clone(), steps: plan.finish(), settings: Vec::new(), notes };
    Ok(Switchover { from: Some(from.clone()), to: from.clone(), plan })
}

//! Whether the sessions that a plan will need can be had, looked at before its first step: none is begun whose later steps are known
//! to fail.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::judge::ServerState;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::topology::Topology;
use crate::plan::survey::authority::asked_by_socket;
use crate::plan::{Action, Plan};
use crate::prove::Sessions;
use crate::remote::Host;

/// Refuses where a session that the plan needs cannot be had. Returns what is worth knowing of those that can.
pub(super) async fn require<H: Host>(
    sessions: &Sessions<'_, H>,
    plan: &Plan,
    observation: &Observation,
) -> Result<Vec<Diagnostic>, Failure> {
    let Needed { opened, reached } = needed(plan, observation);
    let open = async |name: &ServerName| sessions.session(name).await.err();
    let reach = async |name: &ServerName| sessions.may_reach(name).await.err();
    let (opened, reached) =
        tokio::join!(join_all(opened.into_iter().map(open)), join_all(reached.into_iter().map(reach)));
    let refused: Vec<Diagnostic> = opened.into_iter().chain(reached).flatten().map(|told| *told).collect();
    match refused.as_slice() {
        [] => Ok(sessions.by_socket().iter().map(|(name, why)| told(name, why)).collect()),
        _ => Err(Failure::all(FailureKind::Refused, refused)),
    }
}

/// Returns why no session could be had, of every server to which there is no way.
pub(super) async fn missing<H: Host>(sessions: &Sessions<'_, H>, topology: &Topology) -> Vec<Diagnostic> {
    let looks = topology.servers().map(async |server| sessions.may_reach(&server.name).await.err());
    join_all(looks).await.into_iter().flatten().map(|told| *told).collect()
}

fn told(name: &ServerName, why: &str) -> Diagnostic {
    Diagnostic::warning(Code::AskedBySocket, asked_by_socket(name)).server(name).detail(why)
}

/// The servers that sessions are needed to.
struct Needed<'a> {
    /// These serve, and are as pgstead made them.
    opened: BTreeSet<&'a ServerName>,
    /// These are yet to be made, changed or started: all that can be looked at is the way there.
    reached: BTreeSet<&'a ServerName>,
}

fn needed<'a>(plan: &'a Plan, observation: &Observation) -> Needed<'a> {
    let actions = || plan.steps.iter().map(|planned| &planned.step.action);
    // Whoever is to be the primary counts: that others cannot be asked does not keep clients waiting.
    let successors: BTreeSet<&ServerName> = actions()
        .filter_map(|action| match action {
            Action::HandOver(hand_over) => Some(&hand_over.to),
            Action::Promote(promotion) => Some(&promotion.server),
            _ => None,
        })
        .collect();
    if !successors.is_empty() {
        return Needed { opened: successors, reached: BTreeSet::new() };
    }
    let proven = actions().flat_map(|action| match action {
        Action::ProveLinks { primary, links } => {
            let of_links = links.iter().flat_map(|link| [&link.upstream, &link.standby]);
            std::iter::once(primary).chain(of_links).collect()
        }
        _ => Vec::new(),
    });
    let proven: BTreeSet<&ServerName> = proven.collect();
    let changed: BTreeSet<&ServerName> = plan.steps.iter().filter_map(|planned| planned.step.server.as_ref()).collect();
    let is_settled = |name: &&ServerName| {
        ServerState::of(observation.servers.get(*name)).instance().is_some() && !changed.contains(*name)
    };
    let (opened, reached) = proven.into_iter().partition(is_settled);
    Needed { opened, reached }
}

//! The servers that nobody could look at, and nobody answers for: what shows all the same that such a one is a standby, and what
//! that it may be a primary. The one that is replaced is `place`'s business (docs/adr/0013-what-a-failover-takes-for-proof.md).

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::State;
use crate::model::name::ServerName;
use crate::model::observation::Dial;
use crate::plan::operation::failover::{Request, attest};

/// What is known of one that could not be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// A server that was looked at sends WAL to it.
    Receives,
    /// It answered another server's login with the timeline of the dead primary, or an earlier one: it was not promoted.
    Identified,
    /// It answered with a later timeline.
    Beyond { its: u32, last: u32 },
    /// It answered as a copy of another cluster: whom the inventory means is not there.
    Foreign,
    /// SSH reaches it, and something there hangs.
    Hangs,
    /// Nobody reaches it.
    Silent,
}

/// Says whether a server that nobody could look at holds a failover back: it may be a primary, as far as anybody knows.
pub(super) fn may_be_primary(
    state: &State<'_>,
    request: Request<'_>,
    from: Option<&ServerName>,
    name: &ServerName,
) -> bool {
    match standing(state, request, from, name) {
        Standing::Receives | Standing::Identified => false,
        Standing::Beyond { .. } | Standing::Foreign | Standing::Silent => true,
        // One that hangs is no reason to think of more than that: but whom the successor follows is the primary, or leads there.
        Standing::Hangs => !from.is_some_and(|from| state.is_to_follow(request.to, from)),
    }
}

fn standing(state: &State<'_>, request: Request<'_>, from: Option<&ServerName>, name: &ServerName) -> Standing {
    if state.servers().any(|(other, _)| state.sends_to(other, name)) {
        return Standing::Receives;
    }
    let seen = state.servers().filter_map(|(_, server)| server.seen);
    let answers: Vec<&Dial> = seen.filter_map(|seen| seen.peers.get(name)?.dial.known()).collect();
    // Of several answers the latest timeline counts.
    let its = answers.iter().map(|dial| dial.timeline).max();
    if let Some((its, (system, last))) = its.zip(last_timeline(state, request, from)) {
        return match its <= last {
            _ if answers.iter().any(|dial| dial.system_identifier != system) => Standing::Foreign,
            true => Standing::Identified,
            false => Standing::Beyond { its, last },
        };
    }
    if state.observation.hanging.contains(name) { Standing::Hangs } else { Standing::Silent }
}

/// The cluster's system identifier, and the timeline of the primary that is replaced: by its own control file; or, where nobody can
/// read that, by the successor, if that one follows it.
fn last_timeline(state: &State<'_>, request: Request<'_>, from: Option<&ServerName>) -> Option<(u64, u32)> {
    let from = from?;
    if state.seen(from).is_some() {
        let control = state.server(from).control?;
        return Some((control.system_identifier, control.timeline));
    }
    let instance = state.instance(request.to)?;
    state.is_to_follow(request.to, from).then_some((instance.system_identifier, instance.timeline))
}

/// Tells of each that could not be looked at why the failover goes on without it, or what holds it back.
pub(super) fn told(state: &State<'_>, request: Request<'_>, from: Option<&ServerName>) -> Vec<Diagnostic> {
    let is_unseen =
        |name: &&ServerName| Some(*name) != from && state.seen(name).is_none() && !request.attested.contains(*name);
    let told = |name: &ServerName| {
        let standing = standing(state, request, from, name);
        match may_be_primary(state, request, from, name) {
            false => left(request.to, name, standing),
            true => held(request.to, name, standing),
        }
    };
    state.servers().map(|(name, _)| name).filter(is_unseen).map(told).collect()
}

fn left(to: &ServerName, name: &ServerName, standing: Standing) -> Diagnostic {
    let told = Diagnostic::warning(Code::NotLookedAt, format!("\"{name}\" could not be looked at")).server(name);
    match standing {
        Standing::Receives => told
            .detail("It receives WAL, so that it is a standby. Whether it has received more than the successor is not known.")
            .hint("It follows when it is back: pgstead bootstrap, or pgstead reseed."),
        Standing::Identified => told
            .detail(format!("It answers another server's login with the timeline of the former primary, so that it was not promoted. Whether it has received more than the successor is not known; it does not follow \"{to}\" yet."))
            .hint(format!("When it can be looked at again: pgstead bootstrap, or pgstead reseed {name}")),
        Standing::Beyond { .. } | Standing::Foreign | Standing::Hangs | Standing::Silent => told
            .detail(format!("Its server answers over SSH, and something there hangs: a disk, perhaps. Nothing says that it was promoted. Whether it has received more than the successor is not known; it does not follow \"{to}\" yet."))
            .hint(format!("See what hangs there, before anybody promotes it by hand. Then: pgstead bootstrap, or pgstead reseed {name}")),
    }
}

fn held(to: &ServerName, name: &ServerName, standing: Standing) -> Diagnostic {
    const TWO: &str = "Two servers would accept writes.";
    let unlooked = format!("server \"{name}\" cannot be looked at, and is no standby of the primary that is dead");
    let message = match standing {
        Standing::Beyond { .. } | Standing::Foreign => unlooked,
        Standing::Hangs => format!("server \"{name}\" hangs, and nothing shows that it is a standby"),
        Standing::Receives | Standing::Identified | Standing::Silent => {
            format!("server \"{name}\" cannot be reached, and nothing shows that it is a standby")
        }
    };
    let detail = match standing {
        Standing::Beyond { its, last } => format!("It answers another server's login with timeline {its}; that of the former primary is {last}. It was promoted, or follows one that was. {TWO}"),
        Standing::Foreign => "It answers another server's login as a copy of another cluster. Where the one is that the inventory means, and what it does, is not known.".to_owned(),
        _ => format!("It may have been promoted. {TWO}"),
    };
    let hint = match standing {
        Standing::Beyond { .. } => {
            "Look at it where it runs: where it accepts writes it is the primary already.".to_owned()
        }
        Standing::Foreign => {
            format!("Correct the address of \"{name}\" in the inventory, and run the same command again.")
        }
        _ => format!("Bring it back, and run the same command again. {}", attest::hint(to, &[name])),
    };
    Diagnostic::error(Code::NotFenced, message).server(name).detail(detail).hint(hint)
}

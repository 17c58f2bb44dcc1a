//! The plan of `remove`: a server leaves the topology. The others become as an inventory without it says; then it is stopped, where
//! it can be reached and that was not declined, and what is kept for it goes. Its data directory is never touched.

use crate::diagnostic::{Code, Diagnostic};
use crate::judge;
use crate::judge::link;
use crate::judge::{Role, ServerState, StartsAs, State};
use crate::model::identity::Configuration;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::role_file::RoleFile;
use crate::model::topology::Topology;
use crate::pki;
use crate::plan::files::brought::SyncNames;
use crate::plan::files::guard;
use crate::plan::operation::bootstrap::plan_without;
use crate::plan::operation::leaving::Leaving;
use crate::plan::operation::reseed;
use crate::plan::seen::Seen;
use crate::plan::step::Step;
use crate::plan::steps::service;
use crate::plan::survey::removed;
use crate::plan::survey::{Unsaid, survey_of};
use crate::plan::{Consent, Material, Plan};

/// Whom an operator removes.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The server.
    pub server: &'a ServerName,
    /// Whether its instance goes on.
    pub keep_running: bool,
}

/// Plans a removal.
///
/// # Errors
/// Every reason to refuse, at once. Nothing was changed.
pub fn plan_removal(
    topology: &Topology,
    observation: &Observation,
    material: &Material,
    request: Request<'_>,
) -> Result<Plan, Vec<Diagnostic>> {
    let Request { server, .. } = request;
    let state = State::of(topology, observation);
    let mut observed = observation.clone();
    observed.servers.remove(server);
    for seen in observed.servers.values_mut() {
        if let Observed::Known(seen) = seen {
            seen.peers.remove(server);
        }
    }
    let Some(_) = topology.server(server) else {
        return plan_of_unlisted(topology, &observed, material, server);
    };
    let refusals = needed(&state, server);
    let (true, Some(rest)) = (refusals.is_empty(), topology.without(server)) else { return Err(refusals) };
    let leaving = Leaving { server, steps: farewell(&state, request) };
    let mut plan =
        plan_without(&rest, &observed, material, Consent::default(), Some(&leaving)).map_err(of_bootstrap)?;
    plan.notes.push(told(&state, request));
    plan.notes.extend(is_the_last(&rest));
    Ok(plan)
}

/// Says that no standby is left.
fn is_the_last(rest: &Topology) -> Option<Diagnostic> {
    (rest.servers().count() == 1).then(|| {
        Diagnostic::warning(Code::NoStandby, "the topology then has no standby")
            .detail("There is one copy of the data, and nothing to fail over to.")
    })
}

/// The inventory does not have it any more: only what the others know of it is left.
fn plan_of_unlisted(
    topology: &Topology,
    observed: &Observation,
    material: &Material,
    server: &ServerName,
) -> Result<Plan, Vec<Diagnostic>> {
    let survey = survey_of(topology, observed, Unsaid::default(), |_| true);
    let is_known = removed::listed(topology, &survey.servers).any(|name| name == *server);
    if let (false, true, Err(unknown)) = (is_known, survey.refusals.is_empty(), reseed::find(topology, server.as_str()))
    {
        return Err(vec![unknown.hint("If it was removed before, look whether a slot of it is left: pgstead check")]);
    }
    let leaving = Leaving { server, steps: Vec::new() };
    let mut plan =
        plan_without(topology, observed, material, Consent::default(), Some(&leaving)).map_err(of_bootstrap)?;
    let message = format!("server \"{server}\" is not in the inventory any more");
    plan.notes.push(
        Diagnostic::note(Code::ServerRemoved, message)
            .detail("The others admit it no more, end what it still receives, and keep no WAL for it. Its address is not known here, so nothing on it is changed.")
            .hint("Make sure that its instance does not run. Started by somebody, it could become a second primary."),
    );
    Ok(plan)
}

/// What a bootstrap refuses that is not about the removal is to be done first.
fn of_bootstrap(mut refusals: Vec<Diagnostic>) -> Vec<Diagnostic> {
    for refusal in refusals.iter_mut().filter(|refusal| refusal.code == Code::RestartNeedsConsent) {
        refusal.hint =
            Some("Make that change first: pgstead bootstrap --allow-restart. Then remove the server.".to_owned());
    }
    refusals
}

/// Says what others need the server for.
fn needed(state: &State<'_>, server: &ServerName) -> Vec<Diagnostic> {
    let State { topology, .. } = *state;
    let refuse = |message: String| Diagnostic::error(Code::ServerNeeded, message).server(server);
    let mut refusals = Vec::new();
    refusals.extend(is_the_primary(state, server));
    if topology.preferred_primary() == server && refusals.is_empty() {
        let now = judge::primary_or_preferred(topology, state.observation);
        refusals.push(
            refuse(format!("server \"{server}\" has kind: primary in the inventory"))
                .detail("An inventory without it has no primary.")
                .hint(format!(
                    "Give that to another server first, such as the present primary: servers.{now}.kind: primary."
                )),
        );
    }
    let below: Vec<&ServerName> = topology.declared_below(server).collect();
    if !below.is_empty() {
        let names = below.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let ways = below.iter().map(|name| format!("servers.{name}.upstream")).collect::<Vec<_>>().join(", ");
        refusals.push(
            refuse(format!("server \"{server}\" is the upstream of {names}"))
                .detail("They would be cut off from the primary.")
                .hint(format!("Name another upstream for them, or none, which means the primary: {ways}. Then run the same command again, which moves them first.")),
        );
    } else if let Some(standby) = follows_unseen(state, server) {
        refusals.push(
            refuse(format!("server \"{standby}\" receives WAL from \"{server}\", which could not be looked at"))
                .detail("So it runs, and may accept writes.")
                .hint(format!(
                    "Make \"{server}\" reachable over SSH, or stop its instance. Then run the same command again."
                )),
        );
    }
    let wish = topology.common().replication.synchronous.as_ref();
    if let Some(wish) = wish.filter(|wish| wish.standbys.contains(server) && wish.standbys.len() <= wish.count) {
        let (count, listed) = (wish.count, wish.standbys.len());
        let message = match listed {
            1 => format!("commits wait for server \"{server}\" alone"),
            _ => format!("commits wait for {count} of {listed} standbys, and server \"{server}\" is one of them"),
        };
        refusals.push(
            refuse(message)
                .detail("Without it there are fewer than replication.synchronous promises.")
                .hint("Change that in the inventory: another standby in its place, a lower count, or none. Then run the same command again, which does that first."),
        );
    } else {
        refusals.extend(waited_for_now(state, server));
    }
    refusals
}

/// Says that commits wait for it now, whatever the inventory says: when nobody admits it any more, they would wait until the names are
/// changed, and for ever where a run is interrupted before that.
fn waited_for_now(state: &State<'_>, server: &ServerName) -> Option<Diagnostic> {
    let primary = state.primary()?;
    let setting = state.instance(primary)?.settings.get("synchronous_standby_names")?;
    let value = &setting.setting;
    let names = SyncNames::parse(value)?;
    let is_it = |one: &str| server.as_str().eq_ignore_ascii_case(one);
    let is_named = names.there(is_it) > 0 && names.there(|_| false) == 0;
    let others =
        |one: &str| !is_it(one) && state.topology.servers().any(|other| other.name.as_str().eq_ignore_ascii_case(one));
    if !is_named || names.there(others) >= names.count {
        return None;
    }
    let is_of_another_file = state.server(primary).configuration() == Configuration::Kept
        && !setting.sourcefile.as_deref().is_some_and(|file| file.ends_with("/pgstead.conf"));
    // Where commits are to wait for nobody, the first step that changes anything on the primary says so, too.
    let stops_waiting = || state.topology.without(server).is_some_and(|rest| rest.synchronous(primary).is_none());
    if !is_of_another_file && stops_waiting() {
        return None;
    }
    let refused = Diagnostic::error(Code::ServerNeeded, format!("commits on \"{primary}\" wait for server \"{server}\" now"))
        .server(server)
        .detail(format!("synchronous_standby_names is '{value}' there. As soon as nobody admits \"{server}\", commits would wait for ever."));
    Some(match (&setting.sourcefile, state.server(server).unreached) {
        (Some(file), _) if is_of_another_file => refused.hint(format!(
            "Change that in {file} on \"{primary}\", and there: SELECT pg_reload_conf(); Then run the same command again."
        )),
        (_, Some(_)) => refused.hint(format!("First: pgstead bootstrap --without {server}, which changes that as the inventory says. Then run the same command again.")),
        (_, None) => refused.hint("First: pgstead bootstrap, which changes that as the inventory says. Then run the same command again."),
    })
}

/// Says why it cannot leave where it is the primary, or nobody can say that it is not.
fn is_the_primary(state: &State<'_>, server: &ServerName) -> Option<Diagnostic> {
    let it = state.server(server);
    let refuse = |message: String| Diagnostic::error(Code::ServerNeeded, message).server(server);
    let other = state.writers().into_iter().find(|name| *name != server);
    let switch =
        format!("Make another server the primary first: pgstead switchover --to SERVER. Then: pgstead remove {server}");
    match (it.role, other) {
        (Role::Primary(_), None) => Some(refuse(format!("server \"{server}\" is the primary")).hint(switch)),
        (Role::Primary(_), Some(other)) => Some(
            refuse(format!("server \"{server}\" accepts writes, and so does \"{other}\""))
                .detail("Nobody but you knows which of them has the data that counts.")
                .hint(format!("If the data of \"{other}\" count: stop the instance of \"{server}\", on \"{server}\". Then run the same command again. If those of \"{server}\" count: stop the instance of \"{other}\", on \"{other}\", and do not remove \"{server}\".")),
        ),
        (Role::StoppedPrimary(_), None) => Some(
            refuse(format!("server \"{server}\" is the primary, and does not run"))
                .detail("No other server accepts writes.")
                .hint("Start its instance on the server itself and switch over; or, where it cannot run any more: pgstead failover --to SERVER."),
        ),
        (Role::Unknown(_), _) if has_no_postgres(it) => None,
        (Role::Unknown(why), _) if it.is_stopped() => Some(
            refuse(format!("server \"{server}\": its data directory could not be looked at, and may be a primary's"))
                .detail(format!("No instance runs there. {why}"))
                .hint("Make it readable, or switch the machine off for good. Then run the same command again."),
        ),
        (Role::Unknown(why), _) if it.seen.is_some() && it.starts_as != Some(StartsAs::Standby) => Some(
            refuse(format!("server \"{server}\": its instance runs and does not answer, and may be a primary"))
                .detail(why)
                .hint("Stop its instance on the server itself. Then run the same command again."),
        ),
        _ => None,
    }
}

/// Says whether PostgreSQL is not installed there, and nobody listens at its port: the machine was installed anew.
fn has_no_postgres(it: ServerState<'_>) -> bool {
    it.seen.is_some_and(|seen| seen.layout.is_absent() && seen.listener.is_absent())
}

/// Returns a standby that receives from the server although nobody could look at that.
fn follows_unseen<'a>(state: &State<'a>, server: &ServerName) -> Option<&'a ServerName> {
    state.server(server).unreached?;
    let follows = |other: &ServerState<'_>| {
        other.instance().is_some_and(|instance| link::streams_from(state.topology, instance, server))
    };
    state.servers().find(|(_, other)| follows(other)).map(|(name, _)| name)
}

/// Returns what happens on the server itself: nothing starts its instance from then on, and it is stopped.
fn farewell(state: &State<'_>, request: Request<'_>) -> Vec<Step> {
    let it = state.server(request.server);
    let seen = it.seen.and_then(|seen| Seen::of_observed(state.topology, request.server, seen));
    let Some(seen) = seen.filter(|_| has_its_data(state, request.server)) else { return Vec::new() };
    let runs = !it.is_stopped();
    if runs && request.keep_running {
        return Vec::new();
    }
    let holds = !matches!(it.role_file, Some(RoleFile::Removed | RoleFile::Fenced | RoleFile::Demoted { .. }));
    let hold = holds.then(|| guard::hold_removed(seen));
    hold.into_iter().chain(runs.then(|| service::stop_removed(seen))).collect()
}

/// Says whether its data directory is that of this server of this topology.
fn has_its_data(state: &State<'_>, server: &ServerName) -> bool {
    let mark = state.server(server).mark;
    mark.is_some_and(|mark| mark.topology == state.topology.name().as_str() && mark.server == server.as_str())
}

/// Says what becomes of the server, what stays on it, and what is left to the operator.
fn told(state: &State<'_>, request: Request<'_>) -> Diagnostic {
    let Request { server, keep_running } = request;
    let it = state.server(server);
    let start_alone = state.topology.common().replication.start_alone;
    let has_no_unit = it.seen.and_then(|seen| seen.layout.known()).is_some_and(|layout| layout.unit.is_none());
    let what = match (it.unreached, it.is_stopped(), keep_running) {
        (Some(_), ..) if start_alone => {
            "It could not be reached, and nothing on it is changed. When it is back, its instance starts, and the others refuse it; if it was the primary once, it accepts writes then (replication.start_alone). If it runs now, it goes on answering clients, with data that grow old. Switch it off for good."
        }
        (Some(_), ..) => {
            "It could not be reached, and nothing on it is changed. When it is back, its instance starts as a standby, and the others refuse it. If it runs now, it goes on answering clients, with data that grow old. Switch it off, or stop it there."
        }
        (None, ..) if !has_its_data(state, server) => "It has no data of this topology, and nothing on it is changed.",
        (None, true, _) if has_no_unit => {
            "It does not run, and pgstead starts it no more. No unit runs it: a script of yours could start it."
        }
        (None, true, _) => "It does not run, and nothing starts it from now on.",
        (None, false, false) if has_no_unit => {
            "Its instance is stopped, and pgstead starts it no more. No unit runs it: a script of yours could start it."
        }
        (None, false, false) => "Its instance is stopped, and nothing starts it from now on.",
        (None, false, true) => "Its instance goes on, and receives nothing more: what it answers grows old.",
    };
    let until =
        certificate_ends(state, server).map_or_else(|| "until they expire".to_owned(), |end| format!("until {end}"));
    Diagnostic::note(Code::ServerRemoved, format!("server \"{server}\" leaves topology {}", state.topology.name()))
        .server(server)
        .detail(format!("{what} Whatever is on it stays: data directory, files, keys. Its certificates stay valid {until}: what keeps it out is that no other server has a record for it in pg_hba.conf."))
        .hint(format!("Take {} out of the inventory: the next bootstrap would make it a standby again.", lines_of(state.topology, server)))
}

/// Names what an inventory has of a server.
fn lines_of(topology: &Topology, server: &ServerName) -> String {
    let wish = topology.common().replication.synchronous.as_ref();
    let is_waited_for = wish.is_some_and(|wish| wish.standbys.contains(server));
    let besides = if is_waited_for { format!(", and \"{server}\" in replication.synchronous,") } else { String::new() };
    format!("servers.{server}{besides}")
}

/// Returns the day on which the last of its certificates expires, where they could be read.
fn certificate_ends(state: &State<'_>, server: &ServerName) -> Option<String> {
    let seen = state.seen(server)?;
    let layout = seen.layout.known()?;
    let ends = ["tls/server.crt", "tls/client.crt"].into_iter().filter_map(|name| {
        let text = seen.files.get(&layout.own(name)).and_then(Observed::known)?.content.as_deref()?;
        Some(pki::parse_certificate(text).ok()?.not_after)
    });
    ends.max().map(|end| end.strftime("%Y-%m-%d").to_string())
}

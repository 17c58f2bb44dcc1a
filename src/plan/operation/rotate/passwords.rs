//! The plan of `rotate passwords`: roles get other passwords. That of the replication role is proven by standbys that log in anew;
//! it restarts nothing, and no session ends.

use std::collections::BTreeSet;

use super::{Logins, in_order, log_in};
use crate::diagnostic::{Code, Diagnostic};
use crate::judge::State;
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::role::PasswordSource;
use crate::model::secret::Secret;
use crate::model::topology::{Authentication, Link, Server, Topology};
use crate::plan::files::Entry;
use crate::plan::seen::Seen;
use crate::plan::step::{Risk, Step};
use crate::plan::steps::sql;
use crate::plan::survey::{Unsaid, authority, survey_of};
use crate::plan::{Material, Plan, PlanBuilder, StepId, files};
use crate::quote::sh;
use crate::quote::sql::Sql;
use crate::quote::uri;
use crate::render::hba::roles;

/// Returns the roles that get other passwords: those that are named, or role replicator where nobody is and it has one.
///
/// # Errors
/// Every role whose password pgstead does not make.
pub fn meant(topology: &Topology, named: &[String]) -> Result<BTreeSet<String>, Vec<Diagnostic>> {
    let all: BTreeSet<String> = match named {
        [] => BTreeSet::from([roles::REPLICATOR.to_owned()]),
        named => named.iter().cloned().collect(),
    };
    let refusals: Vec<Diagnostic> = all.iter().filter_map(|role| not_made(topology, role)).collect();
    if refusals.is_empty() { Ok(all) } else { Err(refusals) }
}

/// Says why pgstead makes no password for a role, where it makes none.
fn not_made(topology: &Topology, role: &str) -> Option<Diagnostic> {
    let refusal = |code, message: String| Diagnostic::error(code, message);
    let generated: Vec<&str> = topology
        .common()
        .roles
        .iter()
        .filter(|(_, role)| role.password == Some(PasswordSource::Generated))
        .map(|(name, _)| name.as_str())
        .collect();
    let of_others = |what: &str| match generated.as_slice() {
        [] => format!("pgstead makes no password of this topology. {what}"),
        some => format!("Roles with a password that pgstead makes: {}. {what}", some.join(", ")),
    };
    if role == roles::REPLICATOR {
        let is_by_password = topology.common().replication.authentication == Authentication::ScramSha256;
        return (!is_by_password).then(|| {
            let told = "role replicator has no password: it logs in with certificates".to_owned();
            let hint = match generated.first() {
                Some(role) => format!("For certificates: pgstead rotate certificates. For the role of an application: pgstead rotate passwords {}", sh::quote(role)),
                None => "For certificates: pgstead rotate certificates".to_owned(),
            };
            refusal(Code::NothingToRotate, told).hint(hint)
        });
    }
    let Some(wanted) = topology.common().roles.get(role) else {
        return Some(
            refusal(Code::NothingToRotate, format!("there is no role \"{role}\" in postgres.roles"))
                .detail(of_others("Passwords of other roles are yours alone."))
                .hint("Name a role that pgstead makes the password of."),
        );
    };
    match &wanted.password {
        Some(PasswordSource::Generated) => None,
        None => Some(
            refusal(Code::NothingToRotate, format!("postgres.roles names no password for role \"{role}\""))
                .hint("Set its password to \"generated\" in postgres.roles, or change it where it is kept."),
        ),
        Some(PasswordSource::File(_) | PasswordSource::Command(_)) => Some(
            refusal(Code::NothingToRotate, format!("pgstead does not make the password of role \"{role}\""))
                .detail("A file or a program gives it, as postgres.roles says.")
                .hint("Put another password there, then run: pgstead bootstrap"),
        ),
    }
}

/// Plans other passwords for these roles. The material has the new ones.
///
/// # Errors
/// Every reason to refuse, at once. Nothing was changed.
pub fn plan_passwords(
    topology: &Topology,
    observation: &Observation,
    material: &Material,
    meant: &BTreeSet<String>,
) -> Result<Plan, Vec<Diagnostic>> {
    let state = State::of(topology, observation);
    let with_replicator = meant.contains(roles::REPLICATOR);
    let mut refusals = Vec::new();
    if let (true, Some(authority)) = (with_replicator, &material.elsewhere) {
        refusals.push(authority.refusal(
            topology.name(),
            "The password of role replicator is kept beside it, and only there another one is made.",
        ));
    }
    let unsaid = Unsaid { preference: true, ..Unsaid::default() };
    let primary = state.primary();
    let passed_over = authority::passed_over(topology, observation);
    let survey = survey_of(topology, observation, unsaid, |name| {
        primary == Some(name) || (with_replicator && state.seen(name).is_some() && !passed_over.contains(&name))
    });
    refusals.extend(survey.refusals);
    let Some(seen) = primary.and_then(|name| survey.servers.get(name)).filter(|seen| seen.instance.is_some()) else {
        if refusals.is_empty() {
            refusals.push(
                Diagnostic::error(Code::PrimaryMissing, "no server that could be looked at accepts writes")
                    .hint("A password is changed on the primary. Look what is wrong: pgstead check"),
            );
        }
        return Err(refusals);
    };
    refusals.extend(meant.iter().filter_map(|role| missing(*seen, role)));
    if with_replicator {
        refusals.extend(not_by_password_yet(*seen));
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let mut plan = PlanBuilder::default();
    let mut notes = survey.notes;
    let applications = meant.iter().filter(|role| *role != roles::REPLICATOR);
    let mut before: Option<StepId> = None;
    for role in applications {
        let Some(password) = material.passwords.get(role) else { continue };
        before = Some(plan.add(alter(*seen, role, &password.verifier), before));
        notes.push(
            Diagnostic::note(Code::PasswordChanges, format!("role \"{role}\" gets another password"))
                .detail("Sessions that are open go on. New ones with the former password are refused at once.")
                .hint(format!(
                    "When this run has ended, give the application the new one: file role.{}.password of the state directory. To end sessions of whoever stole the former one, on every server: SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {}",
                    uri::token(role),
                    crate::quote::sql::literal(role)
                )),
        );
    }
    if let (true, Some(replication)) = (with_replicator, &material.replication) {
        notes.extend(keep_the_former(&state, &passed_over));
        let links = topology.links(&seen.server.name);
        // An earlier run may have cut a standby off.
        let logins = Logins::of(&state, &links).of_every_link();
        let all: BTreeSet<ServerName> = survey.servers.keys().map(|name| (*name).clone()).collect();
        notes.extend(logins.not_demanded(&all));
        let line = replication.passfile();
        // Nothing is changed where a standby does not replay: others might have to wait for it in the middle.
        let flowing = flowing(&state, &links);
        let prove = |plan: &mut PlanBuilder, before: Vec<StepId>| match flowing.is_empty() {
            true => before,
            false => vec![plan.add(Step::prove(&seen.server.name, flowing.clone()), before)],
        };
        let proven = prove(&mut plan, before.into_iter().collect());
        let kept = plan.add(install(*seen, line.clone()), proven);
        let altered = plan.add(alter(*seen, roles::REPLICATOR, &replication.role.verifier), [kept]);
        // A standby lets its own standbys in by the verifier that it has replayed: a row that comes later has to arrive first.
        let replayed = prove(&mut plan, vec![altered]);
        let with_data: Vec<Seen<'_>> = survey.servers.values().copied().filter(|seen| seen.data.is_some()).collect();
        let ordered = in_order(topology, &links, &with_data);
        let standbys = ordered.iter().filter(|standby| standby.server.name != seen.server.name);
        let mut installed: Vec<StepId> = Vec::new();
        for standby in standbys {
            let is_next =
                links.iter().any(|link| link.standby == standby.server.name && link.upstream == seen.server.name);
            let before = if is_next { vec![altered] } else { replayed.clone() };
            installed.push(plan.add(install(*standby, line.clone()), before));
        }
        installed.extend(&replayed);
        let running = || ordered.iter().filter(|seen| seen.instance.is_some());
        for from in running() {
            let others = running().map(|to| to.server).filter(|to| to.name != from.server.name);
            let demanded: Vec<&Server> = others.filter(|to| logins.demands(&from.server.name, &to.name)).collect();
            if !demanded.is_empty() {
                plan.add(log_in(topology, *from, &demanded, Some("with the new password")), installed.iter().copied());
            }
        }
    }
    Ok(Plan { topology: topology.name().clone(), steps: plan.finish(), settings: Vec::new(), notes })
}

/// Returns the links over which everything streams that comes from the primary. What hangs behind one that does not gets nothing.
fn flowing(state: &State<'_>, links: &[Link]) -> Vec<Link> {
    let mut reached: BTreeSet<&ServerName> = state.primary().into_iter().collect();
    let mut flowing = Vec::new();
    for link in links {
        let runs = state.instance(&link.standby).is_some();
        if reached.contains(&link.upstream) && runs && state.sends_to(&link.upstream, &link.standby) {
            reached.insert(&link.standby);
            flowing.push(link.clone());
        }
    }
    flowing
}

/// Refuses where a role is not there.
fn missing(primary: Seen<'_>, role: &str) -> Option<Diagnostic> {
    let instance = primary.instance?;
    (!instance.roles.contains_key(role)).then(|| {
        Diagnostic::error(Code::NothingToRotate, format!("there is no role \"{role}\" on the primary yet"))
            .server(&primary.server.name)
            .hint("pgstead bootstrap makes it, with a password.")
    })
}

/// Refuses where the servers were not set up for that yet: the role may be the operator's own, and others log in with its password.
fn not_by_password_yet(primary: Seen<'_>) -> Option<Diagnostic> {
    let passfile = primary.seen.files.get(&primary.layout.own("passfile"));
    let is_set_up = passfile.and_then(Observed::known).is_some() && !primary.adopted;
    (!is_set_up).then(|| {
        Diagnostic::error(Code::ChangesPending, "the servers do not log in by password yet")
            .server(&primary.server.name)
            .detail("The inventory says so (replication.authentication), and the primary was not set up for it.")
            .hint("Run it first: pgstead bootstrap")
    })
}

/// Says which servers cannot get the new password of role replicator now.
fn keep_the_former(state: &State<'_>, passed_over: &[&ServerName]) -> Vec<Diagnostic> {
    let told = |(name, server): (&ServerName, crate::judge::ServerState<'_>)| {
        let why = match server.unreached {
            Some(why) => format!("It could not be looked at. {why}"),
            None if passed_over.contains(&name) => "Another server took its place; it does not run.".to_owned(),
            None => return None,
        };
        let message =
            format!("server \"{name}\" keeps the former password of role replicator, and cannot log in with it");
        let way_back = match passed_over.contains(&name) {
            true => format!("pgstead reseed {name}"),
            false => "pgstead bootstrap".to_owned(),
        };
        Some(
            Diagnostic::warning(Code::NotLookedAt, message)
                .server(name)
                .detail(why)
                .hint(format!("When it is back, this gives it the new one, from this machine: {way_back}")),
        )
    };
    state.servers().filter_map(told).collect()
}

fn alter(primary: Seen<'_>, role: &str, verifier: &Secret) -> Step {
    let sql = Sql::new().text("BEGIN;\n").then(sql::password(role, verifier)).text("COMMIT;\n");
    let title = format!("give role {role} another password");
    Step::run(&primary.server.name, Risk::Disruptive, title, vec![sql::psql(primary.layout, primary.server, sql)])
}

fn install(seen: Seen<'_>, line: Secret) -> Step {
    let group = [&seen.layout.os_user, ":"].concat();
    let entry = Entry::secret(seen.layout.own("passfile"), &group, line);
    files::install(&seen.server.name, seen.seen, seen.layout, "install passfile", &[entry], None)
}

//! The plan of `release`: pgstead leaves, and replication goes on under plain PostgreSQL.
//!
//! Each step leaves servers that can be restarted, rebooted and promoted (docs/adr/0031-a-release-folds-before-it-takes.md): first the
//! configuration becomes plain files that say the same, then the roles and the canary table go, and then, standbys first, the start
//! guard and the rest. The mark is among the last, so that an interrupted release is known and gone on with.

use std::collections::BTreeSet;

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::{Role, ServerState, StartsAs, State};
use crate::model::argv::Argv;
use crate::model::identity::Configuration;
use crate::model::layout::START_GUARD;
use crate::model::name::ServerName;
use crate::model::observation::{FileFact, Observation, ServerObservation};
use crate::model::observed::Observed;
use crate::model::role_file::RoleFile;
use crate::model::topology::{Link, Topology};
use crate::pki;
use crate::plan::files::footprint::Place;
use crate::plan::files::{Entry, Keeper, footprint, guard, kept, marked, released};
use crate::plan::seen::Seen;
use crate::plan::step::{Action, Risk, Step};
use crate::plan::steps::{service, sql};
use crate::plan::survey::left_out;
use crate::plan::{Plan, PlanBuilder, StepId, files, scripts};
use crate::render::hba::roles;

/// Plans a release.
///
/// # Errors
/// Every reason to refuse, at once. Nothing was changed.
pub fn plan_release(topology: &Topology, observation: &Observation) -> Result<Plan, Vec<Diagnostic>> {
    let state = State::of(topology, observation);
    let mut refusals = Vec::new();
    let mut leaving: Vec<Leaving<'_>> = Vec::new();
    for (name, server) in state.servers().filter(|(name, _)| !left_out::left_out(observation).contains(name)) {
        match of_server(&state, name, server) {
            Ok(found) => leaving.extend(found),
            Err(more) => refusals.extend(more),
        }
    }
    let left_out = left_out::left_out(observation);
    let primary = match state.writers().as_slice() {
        [one] => Some(*one),
        _ if leaving.is_empty() && left_out.is_empty() => None,
        [] => {
            refusals.push(no_primary(&left_out));
            None
        }
        some => {
            refusals.push(two_primaries(some));
            None
        }
    };
    if !refusals.is_empty() {
        return Err(refusals);
    }
    leaving.sort_by_key(|one| Some(&one.seen.server.name) != primary);
    let mut plan = PlanBuilder::default();
    list(&mut plan, &state, primary, &leaving);
    let steps = plan.finish();
    let mut notes: Vec<Diagnostic> = left_out.into_iter().map(without).collect();
    notes.extend(unfit_links(&state, primary, &leaving));
    notes.extend(leaving.iter().filter_map(start_script));
    notes.extend(stays(topology, observation));
    notes.push(told(&state, primary, steps.is_empty()));
    Ok(Plan { topology: topology.name().clone(), steps, settings: Vec::new(), notes })
}

/// A server on which something is left.
struct Leaving<'a> {
    seen: Seen<'a>,
    /// Its configuration files as the operator's; those that are so already are left out.
    files: Vec<Entry>,
    /// Whether its unit asks the start guard.
    has_guard: bool,
    /// Whether the files beside that are there still.
    has_files: bool,
    /// Who keeps its configuration; none where that is the operator's already.
    configuration: Option<Configuration>,
}

/// Lists the steps.
fn list(plan: &mut PlanBuilder, state: &State<'_>, primary: Option<&ServerName>, leaving: &[Leaving<'_>]) {
    let mut before: Vec<StepId> = Vec::new();
    for one in leaving {
        let Seen { server, seen, layout, .. } = one.seen;
        let installed = (!one.files.is_empty()).then(|| {
            let title = "make its configuration files yours: they stand alone, and say the same";
            plan.add(files::install(&server.name, seen, layout, title, &one.files, None), [])
        });
        before.push(plan.add(service::reload(one.seen), installed));
    }
    let links = primary.map(|primary| state.topology.links(primary)).unwrap_or_default();
    let concerned: BTreeSet<&ServerName> = leaving.iter().map(|one| &one.seen.server.name).collect();
    let is_concerned = |link: &&Link| {
        (concerned.contains(&link.upstream) || concerned.contains(&link.standby))
            && state.sends_to(&link.upstream, &link.standby)
    };
    let logins: Vec<Step> = links.iter().filter(is_concerned).filter_map(|link| log_in(state, link)).collect();
    if !logins.is_empty() {
        before = logins.into_iter().map(|step| plan.add(step, before.iter().copied())).collect();
    }
    if let Some(step) = leaving.iter().find(|one| Some(&one.seen.server.name) == primary).and_then(take_objects) {
        before = vec![plan.add(step, before)];
    }
    let (primaries, standbys): (Vec<_>, Vec<_>) =
        leaving.iter().partition(|one| Some(&one.seen.server.name) == primary);
    for group in [&standbys, &primaries] {
        // Whoever was promoted by hand meanwhile, as behind a long question, is found while the guards of the others stand.
        let still: Vec<StepId> =
            standbys.iter().map(|one| plan.add(service::is_standby(one.seen), before.iter().copied())).collect();
        if !still.is_empty() {
            before = still;
        }
        let mut done = Vec::new();
        for one in group {
            let mut last = before.clone();
            for step in [take_guard(one), take_files(one)].into_iter().flatten() {
                last = vec![plan.add(step, last)];
            }
            done.extend(last);
        }
        if !done.is_empty() {
            before = done;
        }
    }
}

/// What is left on a server; none where nothing is.
fn of_server<'a>(
    state: &State<'a>,
    name: &ServerName,
    server: ServerState<'a>,
) -> Result<Option<Leaving<'a>>, Vec<Diagnostic>> {
    let Some(seen) = server.seen else {
        return Err(vec![
            Diagnostic::error(Code::Unreachable, format!("server \"{name}\" could not be observed"))
                .server(name)
                .detail(server.unreached.unwrap_or("It was not looked at."))
                .hint(format!("It is down for now? Release the others: pgstead release --without {name}")),
        ]);
    };
    if let Some(why) = seen.layout.unreadable() {
        return Err(vec![blocked(name, "nobody can tell where its files are").detail(why)]);
    }
    // Where PostgreSQL is not installed nothing of ours was started; where its files would be nobody knows.
    let Some(seen) = Seen::of_observed(state.topology, name, seen) else { return Ok(None) };
    let mark = server.data.and_then(|data| data.identity.known());
    let is_ours = server.mark.is_some_and(|mark| mark.topology == state.topology.name().as_str());
    let has_guard = has_guard(seen);
    let configuration = configuration_of(server, seen);
    let is_there = |path: &String| fact(seen, path).is_some() && !is_operators(seen, path, configuration);
    let has_files = is_ours || footprint::going(seen.layout).any(|(_, path)| is_there(&path));
    if !has_guard && !has_files {
        return Ok(None);
    }
    let mut refusals = Vec::new();
    if let (Some(_), false) = (mark, is_ours) {
        refusals.push(
            blocked(name, "its data directory has a mark that is not this topology's")
                .hint("Correct the address in the inventory, or take the server out of it."),
        );
    }
    if let Some(other) = server.mark.filter(|mark| is_ours && mark.server != name.as_str()) {
        let why = format!("its data directory is that of server \"{}\"", other.server);
        refusals.push(blocked(name, &why).hint("Correct the addresses in the inventory."));
    }
    refusals.extend(unfit(name, server, seen));
    let mut files = Vec::new();
    match configuration.map_or(Ok(Vec::new()), |configuration| yours(seen, configuration)) {
        Ok(entries) => files = entries,
        Err(refusal) => refusals.push(*refusal),
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    Ok(Some(Leaving { seen, files, has_guard, has_files, configuration }))
}

/// Says why a server cannot be released as it is.
fn unfit(name: &ServerName, server: ServerState<'_>, seen: Seen<'_>) -> Option<Diagnostic> {
    if let Some(unfinished) = guard::unfinished(name, server) {
        return Some(unfinished);
    }
    let without = format!("leave it out: pgstead release --without {name}");
    if matches!(server.role_file, Some(RoleFile::Fenced | RoleFile::Removed)) {
        return Some(
            blocked(name, "its start guard is all that keeps its instance from starting")
                .detail("It was fenced, or removed: without the guard a reboot would start it, and it could accept writes beside the primary.")
                .hint(format!("Bring it back first: pgstead reseed {name}. Or {without}")),
        );
    }
    if !seen.seen.jobs.is_empty() {
        return Some(blocked(name, "a base backup or a rewind of it is unfinished").hint(
            "Finish it: pgstead bootstrap, or the pgstead reseed that was begun. Then run the same command again.",
        ));
    }
    match (server.role, server.starts_as) {
        (Role::Primary(_), Some(StartsAs::Primary)) | (Role::Standby(_), Some(StartsAs::Standby)) => None,
        (Role::Primary(_), Some(_)) => Some(
            blocked(name, "it is the primary, and would not start as one")
                .detail("It has a standby.signal or a recovery.signal.")
                .hint("Is it the only one that accepts writes? Then remove that file from its data directory, and run the same command again."),
        ),
        (Role::Standby(_), Some(_)) => Some(
            blocked(name, "it is a standby without standby.signal")
                .detail("Its next start would make it a second primary. The start guard is all that keeps it from that.")
                .hint("Create the file in its data directory, owned by the instance's OS user. Then run the same command again."),
        ),
        (role, _) => unfit_role(name, role, &without),
    }
}

/// Says why a server cannot be released that is neither a primary nor a standby, or of which nobody sees as what it would start.
fn unfit_role(name: &ServerName, role: Role<'_>, without: &str) -> Option<Diagnostic> {
    match role {
        Role::Primary(_) | Role::Standby(_) => {
            Some(blocked(name, "its data directory cannot be seen").hint(format!("Let it be read, or {without}")))
        }
        Role::Unknown(why) => {
            Some(blocked(name, "what it is cannot be seen").detail(why).hint(format!("Let it answer, or {without}")))
        }
        _ => Some(
            blocked(name, "its instance does not run")
                .detail("Nobody can see whether it would start as it should without the start guard.")
                .hint(format!(
                    "Start it: pgstead bootstrap. It is to stay away? Take it out: pgstead remove {name}. Or {without}"
                )),
        ),
    }
}

fn blocked(name: &ServerName, why: &str) -> Diagnostic {
    Diagnostic::error(Code::ReleaseBlocked, format!("server \"{name}\" cannot be released: {why}")).server(name)
}

/// Whoever is left out may accept writes where nobody looks: then nothing is said that would make a second primary.
fn no_primary(left_out: &[&ServerName]) -> Diagnostic {
    if !left_out.is_empty() {
        let names: Vec<String> = left_out.iter().map(|name| format!("\"{name}\"")).collect();
        let names = names.join(", ");
        return Diagnostic::error(Code::ReleaseBlocked, "none of the servers that are looked at accepts writes")
            .detail(format!("Left out: {names}. The primary may be among them, and go on where pgstead does not reach it."))
            .hint("Let it answer over SSH, and run the same command without --without. Do not promote another server before you know that it is off.");
    }
    Diagnostic::error(Code::ReleaseBlocked, "no server accepts writes")
        .detail("Nobody can tell which server is the primary once pgstead has left.")
        .hint("Make one the primary first: pgstead bootstrap, or pgstead failover --to SERVER. The release was begun before? Make sure that the former primary is off and stays off. Then by hand, where its data count: SELECT pg_promote(); and at once run the same command again: until then the start guard does not let that server start as a primary.")
}

fn two_primaries(names: &[&ServerName]) -> Diagnostic {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    Diagnostic::error(Code::ReleaseBlocked, format!("{} accept writes", names.join(" and ")))
        .detail("Nobody but you knows which of them has the data that counts.")
        .hint("Stop the one that does not count and bring it back: pgstead reseed SERVER. Then run the same command again.")
}

fn fact<'a>(seen: Seen<'a>, path: &str) -> Option<&'a FileFact> {
    seen.seen.files.get(path).and_then(Observed::known)
}

/// Says whether the unit asks the start guard, or its drop-in is there still.
fn has_guard(seen: Seen<'_>) -> bool {
    let words = seen.layout.start_guard(seen.topology, &seen.server.name);
    let asks = seen.seen.service.known().and_then(|service| service.runs_before_start(&words)).unwrap_or_default();
    let drop_in = seen.layout.guard_drop_in().and_then(|path| fact(seen, &path));
    let is_ours = drop_in.is_some_and(|fact| fact.content != guard::drop_in_without(seen));
    asks || is_ours
}

/// Says whether a file has a name of ours and is the operator's: the configuration is not in two files, or includes it by a line that
/// is not ours.
fn is_operators(seen: Seen<'_>, path: &str, configuration: Option<Configuration>) -> bool {
    let home = seen.layout.config_home();
    let conf = fact(seen, &[home, "/postgresql.conf"].concat()).and_then(|fact| fact.content.as_deref());
    let own = || conf.and_then(|text| marked::parse(text).ok()).map(|marked| marked.own).unwrap_or_default();
    path == [home, "/", kept::FILE].concat()
        && (configuration != Some(Configuration::Kept) || released::names(&own(), kept::FILE))
}

/// Says who keeps the configuration: by the mark, or where an earlier run took that, by what is in the file.
fn configuration_of(server: ServerState<'_>, seen: Seen<'_>) -> Option<Configuration> {
    if let Some(mark) = server.mark {
        return Some(mark.configuration);
    }
    let conf = fact(seen, &[seen.layout.config_home(), "/postgresql.conf"].concat())?.content.as_deref()?;
    let has_parts = marked::parse(conf).map_or(true, |marked| !marked.parts.is_empty());
    let is_whole = conf.lines().next().is_some_and(|first| first.ends_with(", written by pgstead."));
    match (has_parts, is_whole) {
        (true, _) => Some(Configuration::Kept),
        (_, true) => Some(Configuration::Written),
        _ => None,
    }
}

/// Returns the configuration files as the operator's, where they are not so yet.
fn yours(seen: Seen<'_>, configuration: Configuration) -> Result<Vec<Entry>, Box<Diagnostic>> {
    let name = &seen.server.name;
    let path = |file: &str| [seen.layout.config_home(), "/", file].concat();
    let unreadable = |path: &str, why: &str| {
        let message = format!("server \"{name}\": could not read {path}");
        Box::new(Diagnostic::error(Code::ConfigurationUnreadable, message).server(name).detail(why))
    };
    let read = |path: &str| match seen.seen.files.get(path).map(Observed::look) {
        Some(Ok(Some(fact))) => Ok(fact.clone()),
        Some(Err(why)) => Err(unreadable(path, why)),
        _ => Err(unreadable(path, "It is not there.")),
    };
    let mut entries = Vec::new();
    for file in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        let path = path(file);
        let found = read(&path)?;
        let text = found.content.clone().unwrap_or_default();
        let becomes = match (file, configuration) {
            ("postgresql.conf", Configuration::Written) => Ok(released::settings(&text)),
            ("postgresql.conf", Configuration::Kept) => match marked::parse(&text) {
                Ok(marked) if marked.parts.is_empty() => Ok(text.clone()),
                Ok(marked) if !marked.parts.iter().all(marked::Part::is_intact) => {
                    let message =
                        format!("server \"{name}\": the part of {path} that pgstead wrote was edited by hand");
                    return Err(Box::new(
                        Diagnostic::error(Code::EditedByHand, message)
                            .server(name)
                            .detail("A release puts pgstead's settings in the place of that part. The edit would be gone.")
                            .hint("Move the edit behind the end mark of the part, and restore the part. Then run the same command again."),
                    ));
                }
                Ok(_) => {
                    let ours = read(&[seen.layout.config_home(), "/", kept::FILE].concat())?;
                    released::folded(&text, &ours.content.unwrap_or_default())
                }
                Err(damaged) => Err(damaged),
            },
            ("pg_hba.conf", _) => released::hba(&text, configuration),
            _ => released::ident(&text, configuration),
        };
        let becomes = becomes.map_err(|error| {
            let message = format!("server \"{name}\": {path}: {error}");
            Box::new(
                Diagnostic::error(Code::MarkDamaged, message)
                    .server(name)
                    .detail("What is the operator's text and what pgstead's cannot be told apart.")
                    .hint("Put the end mark back behind the last line of the part that pgstead wrote."),
            )
        })?;
        if becomes == text {
            continue;
        }
        if found.is_link {
            let message = format!("server \"{name}\": {path} is a symbolic link");
            return Err(Box::new(
                Diagnostic::error(Code::FileIsALink, message)
                    .server(name)
                    .detail("A file is changed by a rename onto its place, which would replace the link.")
                    .hint("Put the file itself there, and link to it from the other place."),
            ));
        }
        let keeper = match configuration {
            Configuration::Written => Keeper::Pgstead,
            // The rest may hold secrets, and stays.
            Configuration::Kept => shown(&text, &becomes),
        };
        entries.push(Entry::kept(path, &found.owner, &found.mode, becomes, keeper));
    }
    Ok(entries)
}

/// Shows what becomes of our parts of an operator's file.
fn shown(before: &str, after: &str) -> Keeper {
    let marked = marked::parse(before).unwrap_or_default();
    let own: BTreeSet<&str> = marked.own.lines().collect();
    let new = after.lines().filter(|line| !own.contains(line)).flat_map(|line| [line, "\n"]).collect();
    Keeper::Operator { before: marked.parts.iter().map(|part| part.text.as_str()).collect(), after: new }
}

/// The step by which a standby logs in to its upstream anew, by the records that are in force then.
fn log_in(state: &State<'_>, link: &Link) -> Option<Step> {
    let from = Seen::of_observed(state.topology, &link.standby, state.seen(&link.standby)?)?;
    let upstream = state.topology.server(&link.upstream)?;
    let title = format!("log in to \"{}\" anew, for replication", link.upstream);
    let action = Action::LogIn(vec![service::log_in(state.topology, from, upstream)]);
    Some(Step { title, server: Some(link.standby.clone()), risk: Risk::Read, action, files: Vec::new() })
}

/// The step that takes the canary table and the roles away, where they are there.
fn take_objects(one: &Leaving<'_>) -> Option<Step> {
    let Seen { server, layout, .. } = one.seen;
    let instance = one.seen.state().instance()?;
    let is_ours = |role: &&str| match (instance.roles.get(*role), one.configuration) {
        (Some(_), Some(Configuration::Written)) => true,
        (Some(row), _) => row.comment.as_deref() == Some(kept::ROLE_COMMENT),
        (None, _) => false,
    };
    let gone: Vec<&str> = released::ROLES.into_iter().filter(is_ours).collect();
    let mut what: Vec<String> =
        instance.canary.then(|| "the canary table, with schema pgstead".to_owned()).into_iter().collect();
    what.extend((!gone.is_empty()).then(|| format!("roles {}", gone.join(", "))));
    let is_written = one.configuration == Some(Configuration::Written);
    let signed = is_written && instance.roles.get(roles::REPLICATOR).is_some_and(|row| row.comment.is_none());
    let command = sql::psql(layout, server, sql::take_away(instance.canary, &gone, signed));
    (!what.is_empty())
        .then(|| Step::run(&server.name, Risk::Reversible, format!("drop {}", what.join("; ")), vec![command]))
}

/// The step behind which the unit asks no start guard.
fn take_guard(one: &Leaving<'_>) -> Option<Step> {
    let Seen { server, seen, layout, .. } = one.seen;
    let path = layout.guard_drop_in().filter(|_| one.has_guard)?;
    let title = "take the start guard out of its unit";
    Some(match guard::drop_in_without(one.seen) {
        Some(text) => {
            let entries = [Entry::text(&path, "root:root", "0644", text)];
            files::install(&server.name, seen, layout, title, &entries, None)
        }
        None => Step::run(&server.name, Risk::Reversible, title, vec![take_away(seen, one.seen, [("u", path)])]),
    })
}

/// The step that takes away what is left then, the mark and the list of files last.
fn take_files(one: &Leaving<'_>) -> Option<Step> {
    let Seen { server, seen, layout, .. } = one.seen;
    let going = footprint::going(layout).filter(|(_, path)| !is_operators(one.seen, path, one.configuration));
    let word = |place| if matches!(place, Place::OwnDirectory(_)) { "d" } else { "f" };
    let command = take_away(seen, one.seen, going.map(|(place, path)| (word(place), path)));
    let title = "take its mark, its start guard and its lists away";
    one.has_files.then(|| Step::run(&server.name, Risk::Reversible, title, vec![command]))
}

fn take_away(seen: &ServerObservation, of: Seen<'_>, paths: impl IntoIterator<Item = (&'static str, String)>) -> Argv {
    let argv = Argv::new(files::administrator(seen), "sh").args(["-c", scripts::TAKE_AWAY, "pgstead-take-away"]);
    let argv = argv.arg(&of.layout.os_user);
    paths.into_iter().fold(argv, |argv, (word, path)| argv.arg(word).arg(path))
}

/// Says what a server that is left out keeps, and what is to be done by hand.
fn without(name: &ServerName) -> Diagnostic {
    Diagnostic::warning(Code::LeftOut, format!("server \"{name}\" is left out, and is not released"))
        .server(name)
        .detail("Nothing on it is changed: its start guard stays, and asks the others, who go on letting it in. While it is away, its slot may keep WAL on its upstream, up to max_slot_wal_keep_size.")
        .hint(format!("When it answers again: pgstead release. It never comes back? Drop its slot on its upstream: SELECT pg_drop_replication_slot('{}');", name.slot_name()))
}

/// Says that what starts the instance at boot must not ask the start guard any more, where no unit does so.
fn start_script(one: &Leaving<'_>) -> Option<Diagnostic> {
    let Seen { server, layout, .. } = one.seen;
    let path = layout.own(START_GUARD);
    fact(one.seen, &path).filter(|_| layout.guard_drop_in().is_none())?;
    Some(
        Diagnostic::warning(Code::Released, format!("server \"{}\": {path} goes", server.name))
            .server(&server.name)
            .detail("A script that calls it before pg_ctl starts the instance fails from then on, at the next boot as well.")
            .hint("Take the call out of that script first."),
    )
}

/// Says which links do not stream: pgstead could still mend them.
fn unfit_links(state: &State<'_>, primary: Option<&ServerName>, leaving: &[Leaving<'_>]) -> Vec<Diagnostic> {
    let links = primary.map(|primary| state.topology.links(primary)).unwrap_or_default();
    let is_silent = |link: &&Link| {
        leaving.iter().any(|one| one.seen.server.name == link.standby) && !state.sends_to(&link.upstream, &link.standby)
    };
    let tell = |link: &Link| {
        Diagnostic::warning(
            Code::Released,
            format!("server \"{}\" does not stream from \"{}\"", link.standby, link.upstream),
        )
        .server(&link.standby)
        .detail("Once pgstead has left, nobody but you brings it back.")
        .hint("Look first: pgstead check")
    };
    links.iter().filter(is_silent).map(tell).collect()
}

/// Says of each server what stays on it, with the days on which its certificates expire.
pub fn stays(topology: &Topology, observation: &Observation) -> Vec<Diagnostic> {
    let state = State::of(topology, observation);
    let of_one = |(name, server): (&ServerName, ServerState<'_>)| {
        let seen = Seen::of_observed(topology, name, server.seen?)?;
        let own = |file: &str| fact(seen, &seen.layout.own(file));
        own("ca.crt").or(own("tls/server.crt"))?;
        let mut detail = vec![format!("In {}: {}.", seen.layout.pgstead_directory, files_that_stay(seen).join(", "))];
        let instance = server.instance();
        let slots: Vec<String> = instance
            .into_iter()
            .flat_map(|instance| &instance.slots)
            .filter(|(slot, _)| topology.servers().any(|other| other.name.slot_name() == **slot))
            .map(|(slot, _)| format!("\"{slot}\""))
            .collect();
        if !slots.is_empty() {
            detail.push(format!("Replication slots: {}.", slots.join(", ")));
        }
        if let Role::Primary(instance) = server.role {
            if instance.roles.contains_key(roles::REPLICATOR) {
                detail.push(format!("Role {}, with which standbys log in.", roles::REPLICATOR));
            }
            let names = instance.settings.get("synchronous_standby_names").map(|setting| setting.setting.as_str());
            if let Some(names) = names.filter(|names| !names.is_empty()) {
                detail.push(format!("Commits go on waiting: synchronous_standby_names = '{names}'."));
            }
        }
        if !seen.seen.beside.is_empty() {
            detail.push(format!("Beside the data directory: {}.", seen.seen.beside.join(", ")));
        }
        let message = format!("server \"{name}\": what stays, and is yours");
        Some(Diagnostic::note(Code::Released, message).server(name).detail(detail.join(" ")))
    };
    state.servers().filter_map(of_one).collect()
}

fn files_that_stay(seen: Seen<'_>) -> Vec<String> {
    let fact = |file: &str| fact(seen, &seen.layout.own(file));
    let until = |file: &str| {
        let end = pki::parse_certificate(fact(file)?.content.as_deref()?).ok()?.not_after;
        Some(end.strftime("%Y-%m-%d").to_string())
    };
    let dated = |name: &str, file: &str| {
        let end = until(file).map_or(String::new(), |end| format!(", valid until {end}"));
        format!("{name}{end}")
    };
    let mut all = vec![
        dated("ca.crt (the CA", "ca.crt") + ")",
        [dated("tls (the certificate of the server", "tls/server.crt"), dated("; that of its links", "tls/client.crt")]
            .concat()
            + ")",
    ];
    all.extend(fact("passfile").map(|_| "passfile".to_owned()));
    all.extend(fact(crate::model::layout::POOLER).map(|_| "pgbouncer.ini, which PgBouncer includes".to_owned()));
    all.push("audit.jsonl, which tells what pgstead did".to_owned());
    all
}

/// Says what pgstead's leaving means.
fn told(state: &State<'_>, primary: Option<&ServerName>, is_done: bool) -> Diagnostic {
    let topology = state.topology.name();
    let moved = primary.filter(|name| *name != state.topology.preferred_primary());
    let first =
        moved.map_or(String::new(), |name| format!(" Say servers.{name}.kind: primary in the inventory first."));
    let back = format!(
        "To have pgstead back: pgstead bootstrap, which adopts the servers as they are, without a copy.{first}"
    );
    if is_done {
        return Diagnostic::note(
            Code::Released,
            format!("nothing of pgstead's is left to take from topology {topology}"),
        )
        .hint(back);
    }
    Diagnostic::note(Code::Released, format!("topology {topology} goes on without pgstead"))
        .detail("Nothing is stopped or restarted. From then on nothing keeps a former primary from starting beside its successor, and nobody checks the links or renews certificates: that is yours. The state directory on this machine has the key of the CA: keep it for new certificates.")
        .hint(back)
}

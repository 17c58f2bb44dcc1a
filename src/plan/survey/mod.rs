//! Says what each server is before anything is planned: bare, ours, or something that must not be touched.
//!
//! Every reason to refuse is collected; none is acted upon.

pub mod aside;
pub mod authority;
pub mod consent;
pub mod history;
pub mod left_out;
pub mod offline;
pub mod ownership;
pub mod password;
pub mod removed;
pub mod unasked;

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::{Role, State};
use crate::model::argv::RootAccess;
use crate::model::layout::LayoutKind;
use crate::model::name::ServerName;
use crate::model::observation::{Instance, Observation, ServerObservation};
use crate::model::observed::Observed;
use crate::model::role_file::RoleFile;
use crate::model::topology::{Server, Topology};
use crate::plan::files::released;
use crate::plan::links::network;
use crate::plan::seen::Seen;

/// Bytes that a new instance needs at the least: template databases, a few WAL segments, and some air.
const MINIMUM_BYTES: u64 = 256 << 20;
/// Clocks that differ by more make certificates, leases and ages lie (hazard 15).
const CLOCK_REFUSE_MS: i64 = 5_000;
/// Clocks that differ by more are worth a warning.
const CLOCK_WARN_MS: i64 = 1_000;

/// The survey of all servers.
#[derive(Debug, Default)]
pub struct Survey<'a> {
    /// The servers that can be planned for.
    pub servers: BTreeMap<ServerName, Seen<'a>>,
    /// The server that is or will be the primary.
    pub primary: Option<ServerName>,
    /// Why the plan must be refused.
    pub refusals: Vec<Diagnostic>,
    /// What the operator should know.
    pub notes: Vec<Diagnostic>,
}

/// What a survey does not say, since whoever asks judges it for itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unsaid<'a> {
    /// That no server is a primary.
    pub no_primary: bool,
    /// That the primary is another server than the inventory prefers.
    pub preference: bool,
    /// That a server's own disk has no room for new data.
    pub room_of: Option<&'a ServerName>,
    /// That a standby is yet to be adopted: a bootstrap does that, and nobody else works with it before.
    pub unadopted: bool,
}

/// What the survey of a bootstrap does not say.
pub const OF_BOOTSTRAP: Unsaid<'static> =
    Unsaid { no_primary: false, preference: false, room_of: None, unadopted: true };

/// Surveys all servers.
pub fn survey<'a>(topology: &'a Topology, observation: &'a Observation) -> Survey<'a> {
    survey_of(topology, observation, Unsaid::default(), |_| true)
}

/// Surveys the servers that an operation is about, and no others.
pub fn survey_of<'a>(
    topology: &'a Topology,
    observation: &'a Observation,
    unsaid: Unsaid<'_>,
    is_concerned: impl Fn(&ServerName) -> bool,
) -> Survey<'a> {
    let mut survey = Survey::default();
    let state = State::of(topology, observation);
    for server in topology.servers().filter(|server| is_concerned(&server.name)) {
        match observation.servers.get(&server.name) {
            Some(Observed::Known(seen)) => survey_server(&mut survey, &state, server, seen, unsaid),
            Some(Observed::Unreadable(why)) => survey.refusals.push(
                Diagnostic::error(Code::Unreachable, format!("server \"{}\" could not be observed", server.name))
                    .server(&server.name)
                    .detail(why.clone())
                    .hint("Nothing was begun. Run the same command again when it answers."),
            ),
            _ => survey.refusals.push(
                Diagnostic::error(Code::Unreachable, format!("server \"{}\" was not observed", server.name))
                    .server(&server.name)
                    .hint("Nothing was begun. Run the same command again when it answers."),
            ),
        }
    }
    compare_servers(&mut survey, observation, unsaid);
    let is_whole =
        topology.servers().all(|server| !is_concerned(&server.name) || survey.servers.contains_key(&server.name));
    find_primary(&mut survey, topology, unsaid, is_whole);
    // A new standby is configured as its primary is.
    let kept = survey.primary.as_ref().and_then(|name| survey.servers.get(name)).map(|primary| primary.configuration);
    for seen in survey.servers.values_mut().filter(|seen| seen.data.is_none()) {
        seen.configuration = kept.unwrap_or_default();
    }
    survey
}

/// Says whether something that listens on an address, as `ss` writes it with its port, is in the way of an instance that is to
/// listen on these: elsewhere on the machine is another's place, as on a loopback lab.
fn is_in_the_way(taken: &str, wanted: &[IpAddr]) -> bool {
    let host = taken.rsplit_once(':').map_or(taken, |(host, _)| host).trim_matches(['[', ']']);
    let host = host.split_once('%').map_or(host, |(host, _)| host);
    // A wildcard takes every address; so does what nobody understands.
    host.parse::<IpAddr>().map_or(true, |ip| ip.is_unspecified() || wanted.contains(&ip))
}

fn survey_server<'a>(
    survey: &mut Survey<'a>,
    state: &State<'a>,
    server: &'a Server,
    seen: &'a ServerObservation,
    unsaid: Unsaid<'_>,
) {
    let State { topology, observation, .. } = *state;
    let name = &server.name;
    let before = survey.refusals.len();
    let mut refuse = |diagnostic: Diagnostic| survey.refusals.push(diagnostic.server(name));
    let Observed::Known(layout) = &seen.layout else {
        let version = topology.common().version;
        if let Some(why) = seen.layout.unreadable() {
            let message = format!("server \"{name}\": nobody can tell where its instance is and whose");
            refuse(
                Diagnostic::error(Code::LayoutUnreadable, message)
                    .detail(why)
                    .hint("Look where the path of its data directory leads, and to whom that belongs."),
            );
            return;
        }
        refuse(match seen.other_installations.as_slice() {
            [] => Diagnostic::error(Code::PostgresqlNotInstalled, format!("server \"{name}\": PostgreSQL {version} is not installed"))
                .hint(format!("On Debian: apt-get install postgresql-{version}. Elsewhere name the programs' place as servers.{name}.bin_directory.")),
            others => Diagnostic::error(Code::WrongMajorVersion, format!("server \"{name}\": PostgreSQL {version} is not installed, another version is"))
                .detail(format!("Found {}.", others.join(", ")))
                .hint(format!("Install version {version} there, or set postgres.version.")),
        });
        return;
    };
    let version = topology.common().version.number();
    if let Some(found) = seen.version.known()
        && found.major != version
    {
        refuse(
            Diagnostic::error(
                Code::WrongMajorVersion,
                format!("server \"{name}\": {}/postgres is version {found}, not {version}", layout.bin_directory),
            )
            .hint(format!("Set servers.{name}.bin_directory to the programs of version {version}.")),
        );
    }
    if seen.login.root == RootAccess::None && layout.kind != LayoutKind::Plain {
        let user = &seen.login.user;
        let said = seen.os.sudo_refused.as_deref().map_or("", str::trim);
        // Its words are told as they are; only what it is about decides the way out (sudoers, requiretty).
        let hint = match said.contains("tty") {
            true => format!(
                "sudo wants a terminal there. Take that away for this login, in /etc/sudoers.d/pgstead: Defaults:{user} !requiretty"
            ),
            false if seen.os.sudo_as_instance == Some(true) => {
                format!("The rule for root is missing. In /etc/sudoers.d/pgstead: {user} ALL=(root) NOPASSWD: ALL")
            }
            false => format!("Allow it, for example in /etc/sudoers.d/pgstead: {user} ALL=(ALL) NOPASSWD: ALL"),
        };
        let said = if said.is_empty() { String::new() } else { format!(" It said: {said}") };
        refuse(
            Diagnostic::error(
                Code::NoRoot,
                format!(
                    "server \"{name}\": user \"{}\" is not root and cannot use sudo without a password",
                    seen.login.user
                ),
            )
            .detail(format!("Configuration below {} and the service need root.{said}", layout.config_home()))
            .hint(hint),
        );
        return;
    }
    if seen.login.root == RootAccess::Sudo && seen.os.sudo_as_instance == Some(false) {
        let (user, os_user) = (&seen.login.user, &layout.os_user);
        let message = format!("server \"{name}\": user \"{user}\" may act as root by sudo, and not as \"{os_user}\"");
        refuse(
            Diagnostic::error(Code::NoInstanceUser, message)
                .detail("Programs of PostgreSQL run as the instance's user, and never as root.")
                .hint(format!("The rule for \"{os_user}\" is missing. In /etc/sudoers.d/pgstead: {user} ALL=({os_user}) NOPASSWD: ALL")),
        );
        return;
    }
    if !seen.os.os_user_exists {
        refuse(
            Diagnostic::error(
                Code::OsUserMissing,
                format!("server \"{name}\": there is no OS user \"{}\" to own the instance", layout.os_user),
            )
            .hint("The PostgreSQL packages create it; for another installation create it yourself."),
        );
    }
    // What is wrong with its surroundings keeps nobody from saying what is wrong with it besides.
    let mut besides = Vec::new();
    if seen.os.clock_skew_ms.abs() > CLOCK_REFUSE_MS {
        besides.push(
            Diagnostic::error(
                Code::ClockSkew,
                format!(
                    "server \"{name}\": its clock differs from this machine's by {:.1} s",
                    seen.os.clock_skew_ms as f64 / 1000.0
                ),
            )
            .hint("Start time synchronisation there (chrony or systemd-timesyncd)."),
        );
    }
    let mut is_foreign = false;
    let owned = match ownership::owned(state, server, seen, layout) {
        Ok(owned) => {
            let is_joining = owned.is_some_and(|owned| owned.adopted) && state.server(name).standby().is_some();
            if is_joining && !unsaid.unadopted {
                refuse(ownership::not_adopted(name));
            }
            owned
        }
        Err(diagnostic) => {
            is_foreign = true;
            refuse(diagnostic);
            None
        }
    };
    let data = owned.map(|owned| owned.data);
    let instance = match (state.server(name).answer, data) {
        (Ok(Some(instance)), Some(_)) => {
            unasked::asked_otherwise(name, seen).into_iter().for_each(&mut refuse);
            Some(instance)
        }
        (Err(why), Some(_)) => {
            let message = format!("server \"{name}\": the instance runs and does not answer");
            refuse(unasked::refusal(name, seen).unwrap_or_else(|| {
                Diagnostic::error(Code::InstanceUnreadable, message)
                .detail(why)
                .hint("Nothing was begun. If it is starting, run the same command again shortly. Otherwise check its log; if it hangs or its socket is gone, restart it.")
            }));
            None
        }
        _ => None,
    };
    // The instance of a foreign data directory is that directory's refusal, and one that does not answer its own.
    let is_silent = data.is_some() && state.server(name).answer.is_err();
    if instance.is_none()
        && !is_silent
        && let Observed::Known(listener) = &seen.listener
        && !(is_foreign && listener.process == "postgres")
        && listener.addresses.iter().any(|taken| is_in_the_way(taken, &network::listen(topology, observation, server)))
    {
        besides.push(
            Diagnostic::error(Code::PortTaken, format!("server \"{name}\": port {} is taken", server.port))
                .detail(format!(
                    "{} listens on {}.",
                    if listener.process.is_empty() { "Another process" } else { &listener.process },
                    listener.addresses.join(", ")
                ))
                .hint(format!("Stop it, or choose another port: servers.{name}.postgres.port.")),
        );
    }
    if data.is_some() && state.server(name).role_file == Some(RoleFile::Removed) {
        survey.notes.push(removed::still_listed(name));
    }
    // What a job's record names is awaited or cleared away by this very plan.
    let of_a_job = |path: &&String| seen.jobs.iter().any(|job| job.seeds.contains(path));
    survey
        .notes
        .extend(seen.beside.iter().filter(|path| !of_a_job(path)).map(|path| aside::remark(name, layout, path)));
    if (CLOCK_WARN_MS..=CLOCK_REFUSE_MS).contains(&seen.os.clock_skew_ms.abs()) {
        survey.notes.push(
            Diagnostic::warning(
                Code::ClockSkew,
                format!(
                    "server \"{name}\": its clock differs from this machine's by {:.1} s",
                    seen.os.clock_skew_ms as f64 / 1000.0
                ),
            )
            .server(name),
        );
    }
    if survey.refusals.len() == before {
        let configuration = owned.map(|owned| owned.configuration).unwrap_or_default();
        let adopted = owned.is_some_and(|owned| owned.adopted);
        let (topology, version) = (topology.name(), topology.common().version);
        let seen = Seen { topology, version, server, seen, layout, data, instance, configuration, adopted };
        match released::unfinished(seen) {
            Some(refusal) => survey.refusals.push(refusal),
            None => drop(survey.servers.insert(name.clone(), seen)),
        }
    }
    survey.refusals.extend(besides.into_iter().map(|refusal| refusal.server(name)));
}

/// Compares servers with each other: machines, architectures, system identifiers, free space.
fn compare_servers(survey: &mut Survey<'_>, observation: &Observation, unsaid: Unsaid<'_>) {
    let mut machines: BTreeMap<&str, &ServerName> = BTreeMap::new();
    for (name, seen) in &observation.servers {
        // A loopback lab runs every server on one machine, which is what its addresses say.
        let Some(seen) = seen.known() else { continue };
        let (Some(id), Some(surveyed)) = (seen.os.machine_id.known(), survey.servers.get(name)) else { continue };
        if surveyed.server.address.ip().is_some_and(|ip| ip.is_loopback()) {
            continue;
        }
        if let Some(other) = machines.insert(id, name) {
            survey.refusals.push(
                Diagnostic::error(Code::SameMachineId, format!("servers \"{other}\" and \"{name}\" have the same machine id"))
                    .server(name)
                    .detail(format!("Both say {id}: they are one machine under two addresses, or one is a clone of the other."))
                    .hint("Give the clone an id of its own (systemd-machine-id-setup) and new SSH host keys, or correct the inventory."),
            );
        }
    }
    let source_bytes =
        survey.servers.values().filter_map(|seen| Some(seen.instance?.database_bytes)).max().unwrap_or(0);
    let mut refusals = Vec::new();
    let mut architecture: Option<(&ServerName, &str)> = None;
    for (name, seen) in &survey.servers {
        match architecture {
            None => architecture = Some((name, &seen.seen.os.architecture)),
            Some((other, first)) if first != seen.seen.os.architecture => refusals.push(
                Diagnostic::error(
                    Code::ArchitectureDiffers,
                    format!("servers \"{other}\" and \"{name}\" have different architectures"),
                )
                .server(name)
                .detail(format!(
                    "They are {first} and {}; physical replication needs the same.",
                    seen.seen.os.architecture
                )),
            ),
            Some(_) => {}
        }
        if seen.data.is_none()
            && let Some(why) = seen.seen.disks.get(&seen.layout.data_directory).and_then(Observed::unreadable)
        {
            refusals.push(
                Diagnostic::error(
                    Code::DiskUnreadable,
                    format!("server \"{name}\": could not see how much is free for {}", seen.layout.data_directory),
                )
                .server(name)
                .detail(why),
            );
        }
        if seen.data.is_none()
            && let Some(Observed::Known(disk)) = seen.seen.disks.get(&seen.layout.data_directory)
        {
            // Data and WAL of the source, and a fifth more (hazard 16).
            let needed = MINIMUM_BYTES.max(MINIMUM_BYTES + source_bytes / 5 * 6);
            if disk.free_bytes < needed && unsaid.room_of != Some(name) {
                let (held, advice) = aside::room_held(name, seen.seen).unwrap_or_default();
                refusals.push(
                    Diagnostic::error(
                        Code::DiskTooSmall,
                        format!("server \"{name}\": not enough free space for {}", seen.layout.data_directory),
                    )
                    .server(name)
                    .detail(format!(
                        "{} has {} MB free; at least {} MB are needed.{}{held}",
                        disk.mount,
                        disk.free_bytes >> 20,
                        needed >> 20,
                        if held.is_empty() { "" } else { " " }
                    ))
                    .hint(
                        format!("Free space there, or choose another place: servers.{name}.data_directory. {advice}")
                            .trim_end(),
                    ),
                );
            }
        }
    }
    survey.refusals.extend(refusals);
}

/// Says whether a stopped server's role file calls it a standby although no signal file does (hazard 34).
fn is_fallen_standby(seen: &Seen<'_>) -> bool {
    let state = seen.state();
    matches!(state.role, Role::StoppedPrimary(_)) && state.role_file == Some(RoleFile::Standby)
}

/// Says whether a stopped server is fenced: another one took its place, and nothing starts it.
fn is_fenced(seen: &Seen<'_>) -> bool {
    seen.instance.is_none() && seen.state().is_fenced()
}

/// Finds the server that is the primary now; the inventory's wish counts only where no server has data yet. Where a server is refused,
/// nobody knows what it is: then only one that accepts writes now counts, so that what is wrong with the others is told as well.
fn find_primary(survey: &mut Survey<'_>, topology: &Topology, unsaid: Unsaid<'_>, is_whole: bool) {
    let with_data: Vec<&Seen<'_>> = survey.servers.values().filter(|seen| seen.data.is_some()).collect();
    let (fenced, primaries): (Vec<&&Seen<'_>>, Vec<&&Seen<'_>>) =
        with_data.iter().filter(|seen| seen.state().is_primary_like()).partition(|seen| is_fenced(seen));
    let writers: Vec<(&ServerName, &Instance)> =
        primaries.iter().filter_map(|seen| Some((&seen.server.name, seen.instance?))).collect();
    if !is_whole && writers.len() != 1 {
        return;
    }
    let fenced = fenced.iter().map(|seen| {
        let name = &seen.server.name;
        Diagnostic::error(Code::ServerFenced, format!("server \"{name}\" is fenced: another server took its place"))
            .server(name)
            .detail("It does not run, and nothing starts it. It may have writes that no other server has.")
            .hint(format!("Look what they are, and bring it back as a standby: pgstead reseed {name} --dry-run"))
    });
    let fenced: Vec<Diagnostic> = fenced.collect();
    let (replaced, primaries): (Vec<&&Seen<'_>>, Vec<&&Seen<'_>>) = match writers.as_slice() {
        [(_, one)] => {
            primaries.into_iter().partition(|seen| !is_fallen_standby(seen) && seen.state().is_replaced_by(one))
        }
        _ => (Vec::new(), primaries),
    };
    let replaced = replaced.iter().map(|seen| {
        let name = &seen.server.name;
        Diagnostic::error(Code::FormerPrimaryBack, format!("server \"{name}\" was replaced while it was away"))
            .server(name)
            .detail("It does not run, and nobody has fenced it. It may have writes that no other server has.")
            .hint(format!(
                "Do not start it. To fence it: pgstead failover --to {}. Then look what they are, and bring it back as a standby: pgstead reseed {name} --dry-run",
                writers.first().map_or("the primary", |(name, _)| name.as_str())
            ))
    });
    let replaced: Vec<Diagnostic> = replaced.collect();
    let evidence = |seen: &Seen<'_>| {
        format!(
            "\"{}\" ({}, system identifier {})",
            seen.server.name,
            if seen.instance.is_some() { "accepts writes now" } else { "stopped, would accept writes when started" },
            seen.system_identifier().map_or("unknown".to_owned(), |id| id.to_string())
        )
    };
    match primaries.as_slice() {
        [] if with_data.is_empty() => survey.primary = Some(topology.preferred_primary().clone()),
        [] if unsaid.no_primary => {}
        [] => survey.refusals.push(
            Diagnostic::error(Code::PrimaryMissing, "no server is a primary, although standbys exist")
                .detail(format!(
                    "Data directories of standbys are on {}.",
                    with_data.iter().map(|seen| format!("\"{}\"", seen.server.name)).collect::<Vec<_>>().join(", ")
                ))
                .hint("Bring the primary back first. A standby is never promoted by bootstrap."),
        ),
        [one] => {
            survey.primary = Some(one.server.name.clone());
            if !unsaid.preference && one.server.name != *topology.preferred_primary() {
                survey.notes.push(Diagnostic::note(
                    Code::PrimaryElsewhere,
                    format!(
                        "the primary is \"{}\"; the inventory prefers \"{}\", which moves nothing back",
                        one.server.name,
                        topology.preferred_primary()
                    ),
                ));
            }
        }
        several if several.iter().filter(|seen| is_fallen_standby(seen)).count() + 1 == several.len() => {
            let refusals = several.iter().filter(|seen| is_fallen_standby(seen)).map(|seen| {
                let name = &seen.server.name;
                let path = &seen.layout.data_directory;
                Diagnostic::error(
                    Code::StandbySignalMissing,
                    format!("server \"{name}\" was a standby and has no standby.signal: started like this it would be a second primary"),
                )
                .server(name)
                .detail("It is stopped, and its role file says standby. Nothing was changed.")
                .hint(format!(
                    "If it only lost the file: touch {path}/standby.signal && chown {user}: {path}/standby.signal. If somebody promoted it, it has writes of its own, and comes back as a standby by: pgstead reseed {name}",
                    user = seen.layout.os_user
                ))
            });
            survey.refusals.extend(refusals.collect::<Vec<_>>());
        }
        several => survey.refusals.push(
            Diagnostic::error(Code::TwoPrimaries, "more than one server is a primary")
                .detail(format!("{}.", several.iter().map(|seen| evidence(seen)).collect::<Vec<_>>().join(", ")))
                .hint("Find out which one has the data that counts and stop the others; nothing was changed."),
        ),
    }
    survey.refusals.extend(fenced);
    survey.refusals.extend(replaced);
    let Some(expected) = survey.primary.as_ref().and_then(|name| survey.servers.get(name)?.system_identifier()) else {
        return;
    };
    for seen in survey.servers.values() {
        if let Some(found) = seen.system_identifier().filter(|found| *found != expected) {
            survey.refusals.push(
                Diagnostic::error(
                    Code::SystemIdentifierDiffers,
                    format!("server \"{}\": its data is not a copy of the primary's", seen.server.name),
                )
                .server(&seen.server.name)
                .detail(format!("Its system identifier is {found}; the primary's is {expected}.")),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_address_of_the_machine_is_not_in_the_way() {
        let wanted: Vec<IpAddr> = ["127.0.0.11", "fd00::1"].iter().map(|ip| ip.parse().unwrap()).collect();
        for taken in
            ["127.0.0.11:5432", "[fd00::1]:5432", "*:5432", "0.0.0.0:5432", "[::]:5432", "127.0.0.11%lo:5432", "?"]
        {
            assert!(is_in_the_way(taken, &wanted), "{taken}");
        }
        for free in ["127.0.0.12:5432", "[fd00::2]:5432", "10.0.0.1:5432"] {
            assert!(!is_in_the_way(free, &wanted), "{free}");
        }
    }
}

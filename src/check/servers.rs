//! Judges servers: one writer, one history, configuration that survives a restart, room for role changes.

use crate::check::{
    Evidence, Finding, ServerReport, access, brought, certificates, durability, files, guard, log, pooler, room, slots,
    soundness,
};
use crate::diagnostic::{Code, Diagnostic};
use crate::judge::{Role, ServerState, StartsAs, State, Writes};
use crate::model::host_key;
use crate::model::identity::Configuration;
use crate::model::layout::Layout;
use crate::model::name::ServerName;
use crate::model::observation::{Instance, ServerObservation};
use crate::model::observed::Observed;
use crate::model::parameter::HOT_STANDBY_PARAMETERS;
use crate::model::role_file::RoleFile;
use crate::model::thresholds::Thresholds;
use crate::model::topology::Link;
use crate::plan::files::guard::finish_or_take_back;
use crate::plan::files::kept;
use crate::plan::links::network;
use crate::plan::survey::unasked;
use crate::render::postgresql_conf::parse_settings;

/// The settings that decide what a server is; they must come from the file that pgstead wrote (hazard 30).
const MANAGED: [&str; 15] = [
    "cluster_name",
    "hba_file",
    "hot_standby",
    "listen_addresses",
    "max_slot_wal_keep_size",
    "primary_conninfo",
    "primary_slot_name",
    "recovery_target_timeline",
    "ssl",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_key_file",
    "synchronous_standby_names",
    "wal_level",
    "wal_log_hints",
];

/// Returns what the report says of every server.
pub fn report(state: &State<'_>) -> Vec<ServerReport> {
    let report = |(name, server): (&ServerName, ServerState<'_>)| {
        let instance = server.instance();
        ServerReport {
            name: name.clone(),
            reachable: server.seen.is_some(),
            in_recovery: instance.map(|_| server.standby().is_some()),
            timeline: instance.map(|instance| instance.timeline),
            system_identifier: instance.map(|instance| instance.system_identifier.to_string()),
        }
    };
    state.servers().map(report).collect()
}

/// Judges all servers.
pub fn check_servers(state: &State<'_>, primary: &ServerName, links: &[Link], evidence: &Evidence) -> Vec<Finding> {
    let topology = state.topology;
    let thresholds = &topology.common().thresholds;
    let mut findings = one_writer(state);
    findings.extend(certificates::authority_elsewhere(topology, evidence));
    findings.extend(certificates::authority_in_rotation(topology, evidence));
    let seen_primary = state.seen(primary);
    let reference = state.instance(primary);
    let single = state.primary();
    let rate = reference.and_then(|instance| instance.health.wal?.bytes_per_second(thresholds.slot_outage_s));
    if let Role::Primary(reference) = state.server(primary).role {
        findings.extend(durability::check_synchronous(topology, primary, reference, thresholds));
        findings.extend(durability::check_archive_trip(primary, evidence));
        findings.extend(slots::check_failover_slots(state, primary, reference));
    }
    for server in topology.servers() {
        let name = &server.name;
        let state = state.server(name);
        let Some(seen) = state.seen else {
            findings.push(Finding::unknown(not_looked_at(name, state.unreached.unwrap_or_default())));
            continue;
        };
        let Observed::Known(layout) = &seen.layout else {
            findings.push(Finding::unhealthy(
                Diagnostic::error(
                    Code::PostgresqlNotInstalled,
                    format!("server \"{name}\": PostgreSQL {} is not installed", topology.common().version),
                )
                .server(name)
                .hint("\"pgstead plan\" says what it looked for and what it found."),
            ));
            continue;
        };
        findings.extend(guard::check_guard(topology, name, seen, layout));
        let pools = topology.server(primary).into_iter().flat_map(|to| pooler::check_pooler(topology, name, seen, to));
        findings.extend(pools.map(Finding::of_topology));
        let instance = match state.answer {
            Ok(Some(instance)) => instance,
            Ok(None) => {
                let message = format!("server \"{name}\": no instance runs on port {}", server.port);
                let mut diagnostic = Diagnostic::error(Code::InstanceNotRunning, message)
                    .server(name)
                    .hint(how_it_comes_back(name, state));
                let log = evidence.logs.get(name).and_then(Observed::known);
                let last =
                    log.and_then(|log| Some(format!("Its log says: {} ({})", log::last_words(&log.text)?, log.file)));
                if let Some(said) = guard::last_refusal(seen, layout).map(str::to_owned).or(last) {
                    diagnostic = diagnostic.detail(said);
                }
                findings.push(Finding::unhealthy(diagnostic));
                continue;
            }
            Err(why) => {
                let message = format!("server \"{name}\": the instance does not answer");
                findings.push(unasked(name, seen).unwrap_or_else(|| {
                    Finding::unknown(Diagnostic::error(Code::InstanceUnreadable, message).server(name).detail(why))
                }));
                continue;
            }
        };
        findings.extend(unasked(name, seen));
        let mut of_server = configuration(name, state, layout, instance);
        of_server.extend(role_survives_restart(name, single.map(|single| single == name), state, seen, layout));
        of_server.extend(brought::check_brought(topology, server, seen, instance));
        of_server.extend(files::check_files(name, seen, layout));
        of_server.extend(access::check_access(name, instance));
        if matches!(state.role, Role::Primary(_)) {
            of_server.extend(access::check_roles(name, instance));
        }
        if let Some(reference) = reference {
            of_server.extend(same_history(name, primary, state, instance, reference));
            if name != primary {
                of_server.extend(hot_standby_parameters(name, primary, instance, reference));
            }
        }
        of_server.extend(headroom(name, instance, thresholds));
        of_server.extend(certificates::check_certificates(server, seen, layout, instance, evidence, topology.common()));
        of_server.extend(soundness::check_pages(name, seen, instance, evidence));
        of_server.extend(soundness::check_collations(name, seen, instance, primary, seen_primary.zip(reference)));
        of_server.extend(slots::check_left_over(topology, name, links, instance, thresholds));
        of_server.extend(slots::check_strangers(topology, name, instance));
        of_server.extend(durability::check_archiver(name, state.writes() == Writes::Now, instance, thresholds));
        of_server.extend(durability::check_archive_directory(name, seen, instance));
        of_server.extend(durability::check_settings(topology, server, instance));
        of_server.extend(room::check_disks(name, seen, rate, thresholds));
        of_server.extend(room::check_slot_cap(name, seen, layout, instance, thresholds));
        of_server
            .extend(seen_primary.and_then(|of_primary| room::check_clock(name, seen, primary, of_primary, thresholds)));
        of_server.extend(dials(name, links, seen, instance, evidence.dialled));
        findings.extend(of_server);
    }
    findings
}

/// L1: a server that could not be looked at; where it is not the one that was trusted, that is said, and nothing about a network.
fn not_looked_at(name: &ServerName, why: &str) -> Diagnostic {
    let key = [(host_key::CHANGED, host_key::CHANGED_HINT), (host_key::UNKNOWN, host_key::UNKNOWN_HINT)];
    let known = key.into_iter().find(|(said, _)| why.starts_with(said));
    let message = format!("server \"{name}\" could not be looked at");
    let message = known.map_or(message.clone(), |(said, _)| [&message, ": ", said].concat());
    let hint =
        known.map_or("Bring its server, or the network to it, back; then look again: pgstead check", |(_, hint)| hint);
    let detail = match known {
        Some(_) => why.to_owned(),
        None => [why.trim().trim_end_matches('.'), ". Unreachable is not dead: nothing is known about its instance."]
            .concat(),
    };
    Diagnostic::error(Code::ServerUnreachable, message).server(name).detail(detail).hint(hint)
}

/// L1: an instance that runs, and lets nobody ask as pgstead does. What could be asked in another way is known, and yet nothing
/// can be done there.
fn unasked(name: &ServerName, seen: &ServerObservation) -> Option<Finding> {
    let why = seen.unasked().or(seen.asked_otherwise.as_deref())?;
    let message = format!("server \"{name}\": its instance runs, and cannot be asked");
    let told = Diagnostic::error(Code::InstanceUnasked, message).server(name);
    let told = told.detail(why.trim()).hint(unasked::way_out(why));
    Some(if ServerState::of_seen(seen).instance().is_some() {
        Finding::unhealthy(told)
    } else {
        Finding::unknown(told)
    })
}

/// L1: exactly one server accepts writes.
fn one_writer(state: &State<'_>) -> Vec<Finding> {
    let writers = state.writers();
    let unknown = state.servers().any(|(_, server)| matches!(server.writes(), Writes::Unknown(_)));
    match writers.as_slice() {
        [_] => Vec::new(),
        [] if unknown => vec![Finding::unknown(
            Diagnostic::error(Code::NoPrimarySeen, "no server that could be looked at accepts writes")
                .detail("The primary may be among those that could not be looked at.")
                .hint("Bring them back, then look again: pgstead check"),
        )],
        [] => vec![Finding::unhealthy(
            Diagnostic::error(Code::NoPrimary, "no server accepts writes")
                .hint("Bring the primary back. A standby is promoted only by a failover."),
        )],
        several => {
            let names: Vec<String> = several.iter().map(|name| format!("\"{name}\"")).collect();
            vec![Finding::unhealthy(
                Diagnostic::error(
                    Code::TwoPrimaries,
                    format!("{} servers accept writes: {}", several.len(), names.join(", ")),
                )
                .hint("Stop clients now, then find out which server has the data that counts."),
            )]
        }
    }
}

/// L2 and L3: the same system identifier, the same timeline, the same history text.
fn same_history(
    name: &ServerName,
    primary: &ServerName,
    state: ServerState<'_>,
    instance: &Instance,
    reference: &Instance,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if instance.system_identifier != reference.system_identifier {
        findings.push(Finding::unhealthy(
            Diagnostic::error(
                Code::SystemIdentifierDiffers,
                format!("server \"{name}\" is not a copy of \"{primary}\""),
            )
            .server(name)
            .detail(format!(
                "System identifiers are {} and {}.",
                instance.system_identifier, reference.system_identifier
            )),
        ));
    } else if instance.timeline != reference.timeline {
        findings.push(Finding::unhealthy(
            Diagnostic::error(
                Code::TimelineDiffers,
                format!(
                    "server \"{name}\" is on timeline {}, the primary on {}",
                    instance.timeline, reference.timeline
                ),
            )
            .server(name)
            .detail(if state.standby().is_some() {
                "It follows a server that was promoted, or it did not follow the promotion of the primary."
            } else {
                "It accepts writes itself: it was promoted."
            }),
        ));
    } else if instance.timeline > 1 && instance.history != reference.history {
        findings.push(Finding::unhealthy(
            Diagnostic::error(
                Code::HistoryDiffers,
                format!("server \"{name}\" has another history of timeline {} than the primary", instance.timeline),
            )
            .server(name)
            .detail("Two servers were promoted independently; the number of the timeline is the same by chance."),
        ));
    }
    findings
}

/// L13: the configuration files are free of errors, nothing waits for a restart, and ours decide.
fn configuration(name: &ServerName, state: ServerState<'_>, layout: &Layout, instance: &Instance) -> Vec<Finding> {
    let mut findings: Vec<Finding> = instance
        .file_errors
        .iter()
        .map(|error| {
            let line = error.line.map_or(String::new(), |line| format!(" line {line}"));
            Finding::unhealthy(
                Diagnostic::error(
                    Code::ConfigurationError,
                    format!("server \"{name}\": {}{line} has an error", error.file),
                )
                .server(name)
                .detail(
                    [
                        error.error.trim_end_matches('.'),
                        ". The instance runs with its old configuration; the next restart may fail.",
                    ]
                    .concat(),
                )
                .hint("Correct the file, then: SELECT pg_reload_conf();"),
            )
        })
        .collect();
    let pending = state.waits_for_restart();
    if !pending.is_empty() {
        findings.push(Finding::unhealthy(
            Diagnostic::error(
                Code::RestartPending,
                format!("server \"{name}\": {} wait for a restart", pending.join(", ")),
            )
            .server(name)
            .hint("\"pgstead bootstrap\" restarts servers in the safe order."),
        ));
    }
    if !state.waits_for_reload().is_empty() {
        findings.push(Finding::unhealthy(
            Diagnostic::error(Code::ReloadPending, format!("server \"{name}\": files changed after they were last read"))
                .server(name)
                .detail(format!("{}.", state.waits_for_reload().join(", ")))
                .hint("\"pgstead bootstrap\" reloads what it wrote. A hand edit it leaves alone: restore the file, or reload there."),
        ));
    }
    // Where the configuration is the operator's, ours is what our included file sets.
    let keeper = state.configuration();
    let ours = kept::settings_file(layout, keeper);
    let text = state
        .seen
        .and_then(|seen| seen.files.get(&ours))
        .and_then(Observed::known)
        .and_then(|fact| fact.content.as_deref());
    let included = parse_settings(text.unwrap_or_default());
    if !instance.health.unserved.is_empty() {
        findings.push(Finding::unhealthy(
            Diagnostic::error(Code::NotServed, format!("server \"{name}\" does not run with what its files say"))
                .server(name)
                .detail(format!("Another value is in force of {}.", instance.health.unserved.join(", ")))
                .hint("Reload there: SELECT pg_reload_conf(); and look again: a reload takes nothing when a file has an error."),
        ));
    }
    for parameter in MANAGED {
        let Some(setting) = instance.settings.get(parameter) else { continue };
        if keeper == Configuration::Kept && !included.contains_key(parameter) {
            continue;
        }
        if let Some(file) = setting.sourcefile.as_ref().filter(|file| **file != ours) {
            findings.push(Finding::unhealthy(
                Diagnostic::error(Code::SettingOverridden, format!("server \"{name}\": {parameter} comes from {file}"))
                    .server(name)
                    .detail(format!("It should come from {ours}."))
                    .hint(format!("ALTER SYSTEM RESET {parameter}; then reload.")),
            ));
        }
    }
    findings
}

/// Says how an instance that does not run comes back.
fn how_it_comes_back(name: &ServerName, state: ServerState<'_>) -> String {
    match state.role_file {
        Some(RoleFile::Fenced) => format!(
            "Another server took its place, and nothing starts it. Look what it has, and bring it back as a standby: pgstead reseed {name} --dry-run"
        ),
        Some(RoleFile::Removed) => format!(
            "It was removed from the topology: take servers.{name} out of the inventory. Or \"pgstead bootstrap\" makes it a standby again."
        ),
        Some(RoleFile::Demoted { successor }) => finish_or_take_back(successor),
        _ => "\"pgstead bootstrap\" starts it, or shows why it cannot.".to_owned(),
    }
}

/// L14: signal files, recovery target, role file and service say what the server is, also after a reboot.
/// What a server's role file has to say is known where a single server accepts writes: without one it may be that the primary
/// cannot be asked.
fn role_survives_restart(
    name: &ServerName,
    is_primary: Option<bool>,
    state: ServerState<'_>,
    seen: &ServerObservation,
    layout: &Layout,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut wrong = |code, message: String, hint: &str| {
        findings.push(Finding::unhealthy(Diagnostic::error(code, message).server(name).hint(hint)));
    };
    match (state.role, state.starts_as) {
        (Role::Standby(_), Some(StartsAs::Primary | StartsAs::Recovery)) => wrong(
            Code::StandbySignalMissing,
            format!("server \"{name}\" is a standby without standby.signal"),
            "The next restart would make it a second primary. Create the file now, owned by the instance's OS user.",
        ),
        (Role::Primary(_), Some(StartsAs::Standby)) => wrong(
            Code::StandbySignalStale,
            format!("server \"{name}\" is the primary and has a standby.signal"),
            "The next restart would make it a standby.",
        ),
        _ => {}
    }
    if state.has_recovery_signal() {
        wrong(
            Code::RecoverySignal,
            format!("server \"{name}\" has a recovery.signal"),
            "Remove it: a restart would begin an archive recovery.",
        );
    }
    let path = layout.role_file();
    let expected = is_primary.map(|is_primary| match is_primary {
        true => (RoleFile::Primary, "primary"),
        false => (RoleFile::Standby, "standby"),
    });
    match state.role_file.zip(expected) {
        // Of one that was about to hand over, the guard's own finding says more.
        None | Some((RoleFile::Demoted { .. }, _)) => {}
        Some((role, (expected, _))) if role == expected => {}
        Some((role, (_, word))) => wrong(
            Code::RoleFile,
            format!("server \"{name}\" is a {word} and its role file says {}", role.word()),
            &format!(
                "The next start will be refused. If it is to stay a {word}: echo {word} >{path}; \"pgstead plan\" shows what would change."
            ),
        ),
    }
    if state.lacks_role_file {
        wrong(
            Code::RoleFile,
            format!("server \"{name}\" has no role file"),
            "The next start will be refused. \"pgstead bootstrap\" installs it.",
        );
    }
    if let Observed::Known(service) = &seen.service
        && !service.starts_at_boot
    {
        wrong(
            Code::ServiceNotEnabled,
            format!("server \"{name}\": the instance does not start when the machine boots"),
            &match seen.layout.known().map(Layout::config_home) {
                Some(home) if service.enabled => format!("If it is to: write auto into {home}/start.conf."),
                _ if service.is_boot_masked => {
                    "If it is to: systemctl unmask postgresql.service, then \"pgstead bootstrap\".".to_owned()
                }
                _ => "\"pgstead bootstrap\" enables its service.".to_owned(),
            },
        );
    }
    findings
}

/// L17, first half: the five parameters are at least as high as on the primary (hazard 38).
fn hot_standby_parameters(
    name: &ServerName,
    primary: &ServerName,
    instance: &Instance,
    reference: &Instance,
) -> Vec<Finding> {
    let value = |instance: &Instance, parameter: &str| -> Option<i64> {
        instance.settings.get(parameter)?.setting.parse().ok()
    };
    HOT_STANDBY_PARAMETERS
        .iter()
        .filter_map(|parameter| {
            let (own, wanted) = (value(instance, parameter)?, value(reference, parameter)?);
            (own < wanted).then(|| {
                Finding::unhealthy(
                    Diagnostic::error(
                        Code::HotStandbyParameter,
                        format!("server \"{name}\": {parameter} is {own}, on \"{primary}\" it is {wanted}"),
                    )
                    .server(name)
                    .detail("A standby with less pauses replay and refuses to start."),
                )
            })
        })
        .collect()
}

/// L17, second half: walsenders and slots are left for a role change and a base backup.
fn headroom(name: &ServerName, instance: &Instance, thresholds: &Thresholds) -> Vec<Finding> {
    let limit = |parameter: &str| -> Option<usize> { instance.settings.get(parameter)?.setting.parse().ok() };
    [("max_wal_senders", instance.senders.len()), ("max_replication_slots", instance.slots.len())]
        .into_iter()
        .filter_map(|(parameter, used)| {
            let limit = limit(parameter)?;
            (limit < used + usize::try_from(thresholds.headroom).unwrap_or(usize::MAX / 2)).then(|| {
                Finding::unhealthy(
                    Diagnostic::error(
                        Code::NoHeadroom,
                        format!("server \"{name}\": {used} of {parameter} = {limit} are in use"),
                    )
                    .server(name)
                    .hint(format!("Raise {parameter} in the inventory.")),
                )
            })
        })
        .collect()
}

/// L15: a fresh replication login from this server to every other, with the production certificate.
fn dials(
    name: &ServerName,
    links: &[Link],
    seen: &ServerObservation,
    instance: &Instance,
    dialled: bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (peer, facts) in &seen.peers {
        // What a standby cannot open to its upstream decides about its link; anything else about a link of tomorrow.
        let link = links.iter().find(|link| link.standby == *name && link.upstream == *peer);
        let about = |finding: Finding| match link {
            Some(link) => finding.on(link),
            None => finding.with([peer.clone()]).of_topology(),
        };
        match &facts.dial {
            Observed::Known(dial) if dial.system_identifier == instance.system_identifier => {}
            Observed::Known(dial) => findings.push(about(Finding::unhealthy(
                Diagnostic::error(
                    Code::DialWrongServer,
                    format!("server \"{name}\" dials \"{peer}\" and reaches another instance"),
                )
                .server(name)
                .detail(format!("It answers with system identifier {}.", dial.system_identifier)),
            ))),
            Observed::Absent => {}
            Observed::NotAsked => findings.extend(dialled.then(|| {
                about(Finding::unknown(
                    Diagnostic::error(
                        Code::DialUnknown,
                        format!("server \"{name}\" could not be made to dial \"{peer}\""),
                    )
                    .server(name)
                    .detail("The connection to it was lost, or PostgreSQL is not installed there."),
                ))
            })),
            Observed::Unreadable(why) => findings.push(about(Finding::unhealthy(
                Diagnostic::error(
                    Code::DialFailed,
                    format!("server \"{name}\" cannot open a replication connection to \"{peer}\""),
                )
                .server(name)
                .detail(why.clone())
                .hint(match network::not_admitted(why) {
                    Some(ip) if !facts.routes.is_empty() && facts.routes.iter().all(|route| route.source != ip) => {
                        format!("\"{peer}\" sees it come from {ip}: something on the way translates the address. \"pgstead bootstrap\" finds that out and admits it.")
                    }
                    _ if link.is_some() => "Fix what the DETAIL says: the standby's next reconnect fails for the same reason.".to_owned(),
                    _ => "No link needs this now; a role change would.".to_owned(),
                }),
            ))),
        }
    }
    findings
}

//! Judges promises about WAL: synchronous standbys are there, and segments arrive in the archive.

use crate::check::{Evidence, Finding};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::archive::copy_directory;
use crate::model::name::ServerName;
use crate::model::observation::{Instance, ServerObservation};
use crate::model::observed::Observed;
use crate::model::parameter::UNSAFE_SETTINGS;
use crate::model::thresholds::Thresholds;
use crate::model::topology::{Purpose, Server, Topology};
use crate::plan::files::brought::SyncNames;

/// L19: as many synchronous standbys as promised, named one by one, nobody waits, and nobody is exempt.
pub(super) fn check_synchronous(
    topology: &Topology,
    primary: &ServerName,
    instance: &Instance,
    thresholds: &Thresholds,
) -> Vec<Finding> {
    let Some(wish) = topology.synchronous(primary) else {
        return names_of_others(primary, instance).into_iter().map(Finding::of_topology).collect();
    };
    let mut findings = Vec::new();
    let setting = |name: &str| instance.settings.get(name).map_or("", |setting| setting.setting.as_str());
    let names = setting("synchronous_standby_names");
    let there: Vec<&str> = instance
        .senders
        .iter()
        .filter(|sender| matches!(sender.sync_state.as_str(), "sync" | "quorum"))
        .map(|sender| sender.application_name.as_str())
        .collect();
    let missing = || wish.standbys.iter().filter(|name| !there.contains(&name.as_str())).cloned();
    if there.len() < wish.count {
        let named: Vec<String> = missing().map(|name| format!("\"{name}\"")).collect();
        findings.push(Finding::unhealthy(
            Diagnostic::error(
                Code::SyncStandbyMissing,
                format!("server \"{primary}\": {} of {} synchronous standbys are there", there.len(), wish.count),
            )
            .server(primary)
            .detail(format!("Not synchronous now: {}. synchronous_standby_names is '{names}'.", named.join(", ")))
            .hint(if names.is_empty() {
                "Commits wait for nobody. \"pgstead plan\" shows what should be set."
            } else {
                "Commits wait until one comes back. To let them pass, set replication.synchronous: off and bootstrap."
            }),
        ).with(missing()));
    }
    if names.contains('*') {
        findings.push(Finding::unhealthy(
            Diagnostic::error(
                Code::SyncNamesWildcard,
                format!("server \"{primary}\": any client that streams counts as a synchronous standby"),
            )
            .server(primary)
            .detail(format!("synchronous_standby_names is '{names}'."))
            .hint("Name the standbys: pg_receivewal and a base backup match *, too."),
        ));
    }
    let waiting: Vec<u64> =
        instance.health.sync_waits_ms.iter().copied().filter(|wait| *wait > thresholds.sync_wait_ms).collect();
    if let Some(longest) = waiting.iter().max() {
        findings.push(Finding::unhealthy(
            Diagnostic::error(
                Code::SyncWaiting,
                format!("server \"{primary}\": {} sessions wait for a synchronous standby", waiting.len()),
            )
            .server(primary)
            .detail(format!("The longest has waited for {:.1} s (wait event SyncRep). Their changes are durable on the primary already; cancelling such a session does not undo them.", *longest as f64 / 1000.0))
            .hint("Bring the synchronous standbys back, or take those that stay away out of replication.synchronous: pgstead bootstrap"),
        ).with(missing()));
    }
    let mut exempt = instance.health.commit_overrides.clone();
    if matches!(setting("synchronous_commit"), "off" | "local") {
        exempt.insert(0, ["everybody: synchronous_commit=", setting("synchronous_commit")].concat());
    }
    exempt.retain(|text| matches!(text.rsplit('=').next(), Some("off" | "local")));
    if !exempt.is_empty() {
        findings.push(Finding::remark(
            Diagnostic::warning(Code::SyncOverride, format!("server \"{primary}\": some commits wait for no standby"))
                .server(primary)
                .detail(format!("{}.", exempt.join("; ")))
                .hint("A failover may lose what they commit. If that is not meant: ALTER ROLE or ALTER DATABASE … RESET synchronous_commit."),
        ));
    }
    findings.into_iter().map(Finding::of_topology).collect()
}

/// Names for which commits wait although the inventory promises nothing, and of which too few are there: clients hang.
fn names_of_others(primary: &ServerName, instance: &Instance) -> Option<Finding> {
    let setting = instance.settings.get("synchronous_standby_names")?;
    let wish = SyncNames::parse(&setting.setting)?;
    let there =
        instance.senders.iter().filter(|sender| matches!(sender.sync_state.as_str(), "sync" | "quorum")).count();
    (there < wish.count).then(|| {
        let from = setting.sourcefile.as_deref().unwrap_or(&setting.source);
        Finding::unhealthy(
            Diagnostic::error(
                Code::SyncNamesForeign,
                format!("server \"{primary}\": commits wait for standbys that are not there"),
            )
            .server(primary)
            .detail(format!(
                "synchronous_standby_names is '{}', from: {from}. {there} of {} stream. The inventory promises nothing of that sort.",
                setting.setting, wish.count
            ))
            .hint("ALTER SYSTEM RESET synchronous_standby_names; or take it out of that file; then SELECT pg_reload_conf(); To promise it: replication.synchronous."),
        )
    })
}

/// L12: nothing is set with which committed data do not survive. What the inventory of a lab wants is none of these.
pub(super) fn check_settings(topology: &Topology, server: &Server, instance: &Instance) -> Vec<Finding> {
    let name = &server.name;
    let is_lab = topology.common().purpose == Purpose::Lab;
    let is_wanted = |parameter: &str| {
        let own = [&server.parameters, &topology.common().parameters];
        is_lab && own.iter().any(|all| all.keys().any(|name| name.as_str() == parameter))
    };
    let found = UNSAFE_SETTINGS.into_iter().filter_map(|one| {
        let setting = instance.settings.get(one.name)?;
        (setting.setting != one.safe && !is_wanted(one.name)).then_some((one, setting))
    });
    found
        .map(|(one, setting)| {
            let from = setting.sourcefile.as_deref().unwrap_or(&setting.source);
            Finding::unhealthy(
                Diagnostic::error(
                    Code::UnsafeSetting,
                    format!("server \"{name}\": {} is {}", one.name, setting.setting),
                )
                .server(name)
                .detail(format!("It comes from: {from}. {}.", capital(one.what)))
                .hint(format!(
                    "Set {} = {}. Pages that were written meanwhile may be damaged: check --deep reads them.",
                    one.name, one.safe
                )),
            )
            .of_topology()
        })
        .collect()
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// L20: the archiver of one server does its work.
pub(super) fn check_archiver(
    name: &ServerName,
    is_primary: bool,
    instance: &Instance,
    thresholds: &Thresholds,
) -> Vec<Finding> {
    let mode = instance.settings.get("archive_mode").map_or("", |setting| setting.setting.as_str());
    let archives = mode == "always" || (mode == "on" && is_primary);
    let Some(archiver) = instance.health.archiver.as_ref().filter(|_| archives) else { return Vec::new() };
    let mut findings = Vec::new();
    let last = archiver.last_archived_wal.as_deref().unwrap_or("none");
    if archiver.last_failed_us.is_some_and(|failed| archiver.last_archived_us.is_none_or(|done| failed > done)) {
        findings.push(Finding::unhealthy(
            Diagnostic::error(Code::ArchiveFailing, format!("server \"{name}\" cannot archive WAL"))
                .server(name)
                .detail(format!(
                    "It failed {} times, the last time with {}; the last segment that arrived is {last}.",
                    archiver.failed_count,
                    archiver.last_failed_wal.as_deref().unwrap_or("an unknown segment"),
                ))
                .hint("The log has the words of archive_command. WAL is kept until it succeeds, and fills the disk."),
        ));
    }
    if archiver.ready > thresholds.archive_backlog_segments {
        findings.push(Finding::unhealthy(
            Diagnostic::error(
                Code::ArchiveBacklog,
                format!("server \"{name}\": {} segments wait for the archiver", archiver.ready),
            )
            .server(name)
            .detail(format!("The last segment that arrived is {last}."))
            .hint("It archives more slowly than WAL is written, or hangs: look at archive_command's processes."),
        ));
    }
    findings.into_iter().map(Finding::of_topology).collect()
}

/// L20: a standby would archive as the primary does, once it is the primary. The command came with the copy; what it writes to
/// did not.
pub(super) fn check_archive_directory(
    name: &ServerName,
    seen: &ServerObservation,
    instance: &Instance,
) -> Option<Finding> {
    let value = |name: &str| instance.settings.get(name).map_or("", |setting| setting.setting.as_str());
    let directory = copy_directory(value("archive_command")).filter(|_| value("archive_mode") != "off")?;
    seen.disks.get(directory)?.known().filter(|disk| disk.absent)?;
    Some(Finding::remark(
        Diagnostic::warning(
            Code::ArchiveDirectoryMissing,
            format!("server \"{name}\": archive_command writes to {directory}, which is not there"),
        )
        .server(name)
        .detail("Once it is the primary it archives nothing, and keeps all WAL.")
        .hint(format!("Mount it there, or make it for the instance's user: {directory}")),
    ))
}

/// L20: a segment went through the archive.
pub(super) fn check_archive_trip(primary: &ServerName, evidence: &Evidence) -> Vec<Finding> {
    let finding = match evidence.archive.as_ref().map(Observed::look) {
        None | Some(Ok(None)) => return Vec::new(),
        Some(Err(why)) => Finding::unknown(
            Diagnostic::error(
                Code::ArchiveUnknown,
                format!("server \"{primary}\": no segment could be sent through the archive"),
            )
            .server(primary)
            .detail(why),
        ),
        Some(Ok(Some(trip))) if trip.archived_ms.is_none() => Finding::unhealthy(
            Diagnostic::error(
                Code::ArchiveLate,
                format!(
                    "server \"{primary}\": segment {} was not archived within {:.1} s",
                    trip.segment,
                    trip.waited_ms as f64 / 1000.0
                ),
            )
            .server(primary)
            .detail("pg_stat_archiver names no segment as late as that. What was committed since the last archived segment exists on the servers alone.")
            .hint("Look at archive_command's words in the log, and at its processes."),
        ),
        Some(Ok(Some(trip))) => match trip.copy_equal.look() {
            Ok(Some(true)) => return Vec::new(),
            Ok(Some(false)) => Finding::unhealthy(
                Diagnostic::error(
                    Code::ArchiveDiffers,
                    format!("server \"{primary}\": the archive's copy of {} is not equal", trip.segment),
                )
                .server(primary)
                .detail("Its SHA-256 is another than that of the file in pg_wal.")
                .hint("Look at archive_command, and at its disk: a restore from this archive would fail there."),
            ),
            other => Finding::remark(
                Diagnostic::note(
                    Code::ArchiveCopyNotSeen,
                    format!("server \"{primary}\": the archive's copy of {} was not compared", trip.segment),
                )
                .server(primary)
                .detail(format!(
                    "The archiver says that it arrived after {} ms. {}",
                    trip.archived_ms.unwrap_or_default(),
                    other.err().unwrap_or("archive_command does not tell where the copy is.")
                )),
            ),
        },
    };
    vec![finding.of_topology()]
}

//! Judges versions and what control files say: what a copy of the primary's bytes needs to be the same.

use crate::diagnostic::{Code, Diagnostic};
use crate::model::version::ServerVersion;
use crate::preflight::Finding;
use crate::preflight::facts::{Facts, Seen};

/// The first minor version of each major one without CVE-2026-6475: a source could overwrite files of who copies it
/// (hazard 8).
const PATCHED: [ServerVersion; 4] = [
    ServerVersion { major: 15, minor: 18 },
    ServerVersion { major: 16, minor: 14 },
    ServerVersion { major: 17, minor: 10 },
    ServerVersion { major: 18, minor: 4 },
];

pub(super) fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for seen in facts.servers() {
        found.extend(holes(seen));
        found.extend(checksums(seen));
    }
    if let Some(source) = facts.source() {
        for standby in facts.standbys() {
            found.extend(minor(source, standby));
            found.extend(control(source, standby));
        }
    }
    found.into_iter().map(Finding::from).collect()
}

fn holes(seen: Seen<'_>) -> Option<Diagnostic> {
    let (name, version) = (seen.name, seen.seen.version.known()?);
    let patched = PATCHED.iter().find(|patched| patched.major == version.major && version < patched)?;
    Some(
        Diagnostic::error(
            Code::MinorVersionUnsafe,
            format!("server \"{name}\": PostgreSQL {version} has a hole that a base backup opens"),
        )
        .server(name)
        .detail(format!(
            "CVE-2026-6475: a hostile source overwrites files of the server that copies it. Mended in {patched}."
        ))
        .hint(format!("Upgrade to {patched} or later.")),
    )
}

fn minor(source: Seen<'_>, standby: Seen<'_>) -> Option<Diagnostic> {
    let (own, its) = (standby.seen.version.known()?, source.seen.version.known()?);
    // Another major version is the survey's matter.
    (own.major == its.major && own.minor != its.minor).then(|| {
        Diagnostic::warning(
            Code::MinorVersionDiffers,
            format!("servers \"{}\" and \"{}\" have different minor versions", source.name, standby.name),
        )
        .server(standby.name)
        .detail(format!("They are {its} and {own}."))
        .hint("Upgrade standbys first, then the primary (manual, 27.2.1).")
    })
}

/// Page checksums, where data is: without them rot is copied unseen (hazard 12).
fn checksums(seen: Seen<'_>) -> Option<Diagnostic> {
    let name = seen.name;
    let control = seen.seen.data_directory.known()?.control.known()?;
    (control.checksum_version == 0).then(|| {
        let hints = seen.setting("wal_log_hints") == Some("on");
        Diagnostic::warning(Code::ChecksumsOff, format!("server \"{name}\": its data pages have no checksums"))
            .server(name)
            .detail(match hints {
                true => "The control file says version 0. Pages that rot are not noticed, and are copied.",
                false => "The control file says version 0, and wal_log_hints is off: pages that rot are copied unseen, and pg_rewind cannot be used.",
            })
            .hint("pg_checksums --enable on the stopped instance, on every copy before the next start (hazard 13).")
    })
}

/// Two copies of one database cluster whose control files differ in what must be the same.
fn control(source: Seen<'_>, standby: Seen<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let control = |seen: Seen<'_>| Some(seen.seen.data_directory.known()?.control.known()?.clone());
    if let (Some(its), Some(own)) = (control(source), control(standby))
        && its.checksum_version != own.checksum_version
    {
        found.push(
            Diagnostic::error(Code::ChecksumsDiffer, format!("servers \"{}\" and \"{}\" differ in data page checksums", source.name, standby.name))
                .server(standby.name)
                .detail(format!("Their versions are {} and {}.", its.checksum_version, own.checksum_version))
                .hint("pg_checksums ran on one of them alone: a good page then looks damaged after a switchover (hazard 13). Run it on both, stopped."),
        );
    }
    if let (Some(its), Some(own)) = (source.instance_readiness(), standby.instance_readiness()) {
        let differing: Vec<String> = its
            .control
            .iter()
            .filter(|(key, _)| *key != "data_checksums" && *key != "data_page_checksum_version")
            .filter_map(|(key, value)| {
                let other = own.control.get(key)?;
                (other != value).then(|| format!("{key} is {value} and {other}"))
            })
            .collect();
        if !differing.is_empty() {
            found.push(
                Diagnostic::error(
                    Code::ControlDiffers,
                    format!("servers \"{}\" and \"{}\" were built or made differently", source.name, standby.name),
                )
                .server(standby.name)
                .detail(format!("{}.", differing.join("; ")))
                .hint("Physical replication needs the same (hazard 10). Install the same build."),
            );
        }
    }
    found
}

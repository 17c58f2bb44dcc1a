//! Judges data on disk and the order of sorting: checksums, `pg_amcheck`, collations, versions between servers.

use crate::check::evidence::AmcheckOutcome;
use crate::check::{Evidence, Finding};
use crate::diagnostic::{Code, Diagnostic};
use crate::judge::ServerState;
use crate::model::health::Collation;
use crate::model::name::ServerName;
use crate::model::observation::{Instance, ServerObservation};
use crate::model::observed::Observed;

/// L12: pages and indexes.
pub(super) fn check_pages(
    name: &ServerName,
    seen: &ServerObservation,
    instance: &Instance,
    evidence: &Evidence,
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = instance
        .health
        .checksum_failures
        .iter()
        .map(|row| {
            let database = if row.database.is_empty() { "shared objects" } else { &row.database };
            let last = row.last.as_ref().map_or(String::new(), |last| format!(" The last was at {last}."));
            Finding::unhealthy(
                Diagnostic::error(Code::ChecksumFailures, format!("server \"{name}\" has read damaged pages of {database}"))
                    .server(name)
                    .detail(format!("pg_stat_database counts {} checksum failures.{last}", row.failures))
                    .hint("The log names the file and block. A standby with damage needs a new base backup; SELECT pg_stat_reset() in that database forgets the count afterwards."),
            )
        })
        .collect();
    if let Some(control) = ServerState::of_seen(seen).control
        && control.checksum_version == 0
    {
        findings.push(Finding::remark(
            Diagnostic::note(Code::ChecksumsOff, format!("server \"{name}\" has no data checksums"))
                .server(name)
                .detail("Damaged pages are not noticed when they are read.")
                .hint("pg_checksums --enable, on a stopped instance; then on every other."),
        ));
    }
    match evidence.amcheck.as_ref().and_then(|all| all.get(name)).map(Observed::look) {
        Some(Ok(Some(databases))) => {
            let missing: Vec<&str> = databases
                .iter()
                .filter(|run| run.outcome == AmcheckOutcome::NotInstalled)
                .map(|run| run.database.as_str())
                .collect();
            if !missing.is_empty() {
                findings.push(Finding::unknown(
                    Diagnostic::error(
                        Code::AmcheckMissing,
                        format!("server \"{name}\": {} could not be read", missing.join(", ")),
                    )
                    .server(name)
                    .detail("The extension amcheck is not installed there.")
                    .hint("On the primary, in each of these databases: CREATE EXTENSION amcheck;"),
                ));
            }
            for run in databases {
                let database = &run.database;
                match &run.outcome {
                    AmcheckOutcome::Sound | AmcheckOutcome::NotInstalled => {}
                    AmcheckOutcome::Damage(words) => findings.push(Finding::unhealthy(
                        Diagnostic::error(Code::AmcheckDamage, format!("server \"{name}\": database {database} is damaged"))
                            .server(name)
                            .detail(words.clone())
                            .hint("An index: REINDEX on the primary. A table, or damage on a standby alone: the standby needs a new base backup."),
                    )),
                    AmcheckOutcome::Failed(why) => findings.push(failed(name, database, why)),
                }
            }
        }
        Some(Err(why)) => findings.push(failed(name, "every database", why)),
        Some(Ok(None)) | None => {}
    }
    findings
}

fn failed(name: &ServerName, database: &str, why: &str) -> Finding {
    Finding::unknown(
        Diagnostic::error(Code::AmcheckFailed, format!("server \"{name}\": {database} could not be read to the end"))
            .server(name)
            .detail(why.to_owned()),
    )
}

/// L18: indexes were built in the order in which this server sorts, and every server sorts alike.
pub(super) fn check_collations(
    name: &ServerName,
    seen: &ServerObservation,
    instance: &Instance,
    primary: &ServerName,
    of_primary: Option<(&ServerObservation, &Instance)>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let changed: Vec<&Collation> = instance
        .health
        .collations
        .iter()
        .filter(|row| row.recorded.is_some() && row.actual.is_some() && row.recorded != row.actual)
        .collect();
    if !changed.is_empty() {
        findings.push(Finding::unhealthy(
            Diagnostic::error(Code::CollationVersion, format!("server \"{name}\" sorts otherwise than its indexes were built"))
                .server(name)
                .detail(versions(&changed, "built with", |row| &row.recorded))
                .hint("On the primary, per database: REINDEX, then ALTER DATABASE … REFRESH COLLATION VERSION. On a standby alone: the same C library or ICU as on the primary."),
        ));
    }
    let Some((reference, of_primary)) = of_primary.filter(|_| name != primary) else { return findings };
    let other: Vec<&Collation> = instance
        .health
        .collations
        .iter()
        .filter(|row| {
            let there = of_primary.health.collations.iter().find(|there| there.database == row.database);
            there.is_some_and(|there| there.actual != row.actual)
        })
        .collect();
    if !other.is_empty() {
        let there = of_primary
            .health
            .collations
            .iter()
            .map(|row| [row.database.as_str(), " ", row.actual.as_deref().unwrap_or("none")].concat());
        findings.push(Finding::unhealthy(
            Diagnostic::error(Code::CollationDiffers, format!("server \"{name}\" sorts otherwise than \"{primary}\""))
                .server(name)
                .detail(format!(
                    "Collation versions here: {}; on \"{primary}\": {}.",
                    list(&other),
                    there.collect::<Vec<_>>().join(", ")
                ))
                .hint("Index scans here may miss rows. Install the same release of the operating system."),
        ));
    }
    if let (Observed::Known(own), Observed::Known(theirs)) = (&seen.os.libc, &reference.os.libc)
        && own != theirs
    {
        findings.push(Finding::remark(
            Diagnostic::warning(Code::LibcDiffers, format!("server \"{name}\" has {own}, \"{primary}\" has {theirs}"))
                .server(name)
                .detail("The C library decides how text is sorted where a collation comes from it."),
        ));
    }
    if let (Observed::Known(own), Observed::Known(theirs)) = (&seen.version, &reference.version)
        && own.major == theirs.major
        && own.minor != theirs.minor
    {
        findings.push(Finding::remark(
            Diagnostic::warning(
                Code::MinorVersionDiffers,
                format!("server \"{name}\" has PostgreSQL {own}, \"{primary}\" has {theirs}"),
            )
            .server(name)
            .detail("Release notes say when a minor release changes how indexes or WAL are read.")
            .hint("Upgrade standbys first, the primary last."),
        ));
    }
    findings
}

fn list(rows: &[&Collation]) -> String {
    let words = rows.iter().map(|row| [row.database.as_str(), " ", row.actual.as_deref().unwrap_or("none")].concat());
    words.collect::<Vec<_>>().join(", ")
}

fn versions(rows: &[&Collation], word: &str, other: impl Fn(&Collation) -> &Option<String>) -> String {
    let text = |row: &&Collation| {
        let (there, here) = (other(row).as_deref().unwrap_or("none"), row.actual.as_deref().unwrap_or("none"));
        format!("{}: {word} {there}, here is {here}", row.database)
    };
    rows.iter().map(text).collect::<Vec<_>>().join("; ") + "."
}

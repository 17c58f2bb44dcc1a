//! Judges the libraries that decide the order of texts: an index that was built with one is wrong with another (hazard 11).
//!
//! Where a database depends on the library that differs it is an error: the standby's answers are wrong from the first
//! query on, silently, and after a role change the index is damaged further. Where none is known to depend on it, it is a
//! warning: the next database may.

use crate::diagnostic::{Code, Diagnostic};
use crate::model::readiness::Database;
use crate::preflight::Finding;
use crate::preflight::facts::{Facts, Seen};

/// Who orders texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Library {
    Libc,
    Icu,
}

pub(super) fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let Some(source) = facts.source() else { return Vec::new() };
    for standby in facts.standbys() {
        found.extend(compare(source, standby, Library::Libc));
        found.extend(compare(source, standby, Library::Icu));
    }
    for seen in facts.servers() {
        found.extend(stale(seen));
    }
    found.into_iter().map(Finding::from).collect()
}

/// Says whether a name of libc orders by code point, in every version.
pub(super) fn is_by_code_point(collation: &str) -> bool {
    matches!(collation.to_ascii_lowercase().as_str(), "c" | "posix" | "c.utf-8" | "c.utf8")
}

/// Says whether a library decides an order in a database.
fn depends(database: &Database, library: Library) -> bool {
    match library {
        Library::Libc => {
            database.provider == "c" && !is_by_code_point(&database.collation)
                || database.collations.iter().any(|collation| collation.ends_with("(libc)"))
        }
        Library::Icu => {
            database.provider == "i" || database.collations.iter().any(|collation| collation.ends_with("(ICU)"))
        }
    }
}

fn compare(source: Seen<'_>, standby: Seen<'_>, library: Library) -> Option<Diagnostic> {
    // Where there is none, as on a system of another C library, that is a difference too.
    let version = |seen: Seen<'_>| match library {
        Library::Libc => match seen.seen.os.libc.look() {
            Ok(Some(version)) => Some(version.clone()),
            Ok(None) => Some("another C library than GNU's".to_owned()),
            Err(_) => None,
        },
        Library::Icu => match seen.ready.installed.icu.look() {
            Ok(Some(version)) => Some(["ICU ", version].concat()),
            Ok(None) => Some("no ICU".to_owned()),
            Err(_) => None,
        },
    };
    let (its, own) = (version(source)?, version(standby)?);
    if its == own {
        return None;
    }
    let (name, other) = (standby.name, source.name);
    let databases = source.instance_readiness().map(|ready| &ready.databases);
    let dependent: Vec<String> = databases
        .into_iter()
        .flatten()
        .filter(|(_, database)| database.known().is_some_and(|database| depends(database, library)))
        .map(|(name, _)| format!("\"{name}\""))
        .collect();
    let message = format!("servers \"{other}\" and \"{name}\" order texts by different libraries");
    let versions = format!("They have {its} and {own}.");
    let diagnostic = match (library, dependent.is_empty()) {
        (Library::Libc, false) => Diagnostic::error(Code::LibcDiffers, message),
        (Library::Libc, true) => Diagnostic::warning(Code::LibcDiffers, message),
        (Library::Icu, false) => Diagnostic::error(Code::IcuDiffers, message),
        (Library::Icu, true) => Diagnostic::warning(Code::IcuDiffers, message),
    };
    Some(
        diagnostic
            .server(name)
            .detail(match dependent.as_slice() {
                [] => {
                    format!("{versions} No database is known to depend on it: C, C.UTF-8 and builtin locales do not.")
                }
                some => {
                    format!("{versions} Indexes on text of {} may give wrong answers on \"{name}\".", some.join(", "))
                }
            })
            .hint("Run the same release of the system on both, or use databases with a builtin or C.UTF-8 locale."),
    )
}

/// An instance whose own libraries changed under its indexes.
fn stale(seen: Seen<'_>) -> Vec<Diagnostic> {
    let name = seen.name;
    let mut found = Vec::new();
    for (database, facts) in seen.instance_readiness().map(|ready| &ready.databases).into_iter().flatten() {
        let facts = match facts.look() {
            Ok(Some(facts)) => facts,
            Ok(None) => continue,
            Err(why) => {
                found.push(
                    Diagnostic::warning(
                        Code::DatabaseUnreadable,
                        format!("server \"{name}\": could not look into database \"{database}\""),
                    )
                    .server(name)
                    .detail(why)
                    .hint("Its collations, extensions and libraries are unknown."),
                );
                continue;
            }
        };
        let mut changed = facts.stale_collations.clone();
        if let (Some(recorded), Some(actual)) = (&facts.collation_version, &facts.actual_version)
            && recorded != actual
        {
            changed.insert(0, format!("the database's own {}: {recorded}, now {actual}", facts.collation));
        }
        if !changed.is_empty() {
            found.push(
                Diagnostic::warning(Code::CollationStale, format!("server \"{name}\": database \"{database}\" was ordered by another library version"))
                    .server(name)
                    .detail(format!("Recorded, and what is there: {}.", changed.join("; ")))
                    .hint("REINDEX what depends on it, then ALTER DATABASE … REFRESH COLLATION VERSION; a copy would copy the damage."),
            );
        }
    }
    found
}

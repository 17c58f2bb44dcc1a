//! Judges whether what the primary uses is installed on every standby: locales, libraries, extensions (hazard 14).

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Code, Diagnostic};
use crate::model::observed::Observed;
use crate::model::readiness::Database;
use crate::preflight::Finding;
use crate::preflight::collation::is_by_code_point;
use crate::preflight::facts::{Facts, Seen, list};

/// The parameters that load libraries.
const PRELOAD: [&str; 3] = ["shared_preload_libraries", "session_preload_libraries", "local_preload_libraries"];

pub(super) fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    let Some(source) = facts.source() else { return Vec::new() };
    let mut found = Vec::new();
    for standby in facts.standbys() {
        found.extend(unseen(source, standby));
        found.extend(locales(source, standby));
        found.extend(libraries(source, standby));
        found.extend(extensions(source, standby));
    }
    found.into_iter().map(Finding::from).collect()
}

fn databases(seen: Seen<'_>) -> impl Iterator<Item = (&String, &Database)> {
    let all = seen.instance_readiness().map(|ready| &ready.databases).into_iter().flatten();
    all.filter_map(|(name, database)| Some((name, database.known()?)))
}

/// What could not be compared, where there is something to compare.
fn unseen(source: Seen<'_>, standby: Seen<'_>) -> Option<Diagnostic> {
    source.instance()?;
    standby.layout()?;
    let name = standby.name;
    let installed = &standby.ready.installed;
    let what: Vec<&str> = [
        ("locales", installed.locales.known().is_none()),
        ("libraries", installed.libraries.known().is_none()),
        ("extensions", installed.extensions.known().is_none()),
    ]
    .into_iter()
    .filter_map(|(what, is_unseen)| is_unseen.then_some(what))
    .collect();
    if what.is_empty() {
        return None;
    }
    let why = installed.libraries.unreadable().unwrap_or("they could not be listed");
    Some(
        Diagnostic::warning(
            Code::InstallationUnreadable,
            format!("server \"{name}\": could not see which {} are installed", what.join(" and ")),
        )
        .server(name)
        .detail(format!("Whether what the primary uses is there is unknown: {why}."))
        .hint("pg_config of this version tells the places; it comes with the client or development package."),
    )
}

/// Writes a locale of libc as `locale -a` lists it: `en_US.UTF-8` is `en_US.utf8` there.
fn normal(locale: &str) -> String {
    match locale.split_once('.') {
        Some((language, encoding)) => {
            let encoding: String = encoding.chars().filter(|c| *c != '-').collect();
            [language, ".", &encoding.to_ascii_lowercase()].concat()
        }
        None => locale.to_owned(),
    }
}

fn locales(source: Seen<'_>, standby: Seen<'_>) -> Option<Diagnostic> {
    let name = standby.name;
    let there: BTreeSet<String> =
        standby.ready.installed.locales.known()?.iter().map(|locale| normal(locale)).collect();
    let mut missing: BTreeMap<&String, Vec<String>> = BTreeMap::new();
    for (database, facts) in databases(source) {
        let order = (facts.provider == "c").then_some(&facts.collation);
        for locale in order.into_iter().chain([&facts.ctype]) {
            let users = !is_by_code_point(locale) && !there.contains(&normal(locale));
            if users {
                missing.entry(locale).or_default().push(database.clone());
            }
        }
    }
    if missing.is_empty() {
        return None;
    }
    let lines = missing.iter_mut().map(|(locale, databases)| {
        databases.dedup();
        format!("{locale} of {}", list(databases))
    });
    Some(
        Diagnostic::error(
            Code::LocaleMissing,
            format!("server \"{name}\": locales of the primary's databases are not installed"),
        )
        .server(name)
        .detail(format!(
            "Not in locale -a: {}. Nobody could connect to these databases there.",
            lines.collect::<Vec<_>>().join("; ")
        ))
        .hint("Install them: locale-gen on Debian, glibc-langpack-… on the RHEL family."),
    )
}

/// Returns the name of a library below the package library directory; other places are not looked at.
fn library(text: &str) -> Option<&str> {
    let name = text.trim().trim_matches('"');
    let name = name.strip_prefix("$libdir/").unwrap_or(name);
    let name = name.strip_prefix("plugins/").unwrap_or(name).trim_end_matches(".so");
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

fn libraries(source: Seen<'_>, standby: Seen<'_>) -> Vec<Diagnostic> {
    let name = standby.name;
    let Observed::Known(there) = &standby.ready.installed.libraries else { return Vec::new() };
    let is_missing = |library: &str| !there.iter().any(|other| other == library);
    let mut found = Vec::new();
    let mut preload = Vec::new();
    for parameter in PRELOAD {
        let setting = source.setting(parameter).unwrap_or_default();
        for library in setting.split(',').filter_map(library).filter(|library| is_missing(library)) {
            preload.push(format!("{library} ({parameter})"));
        }
    }
    if !preload.is_empty() {
        found.push(
            Diagnostic::error(
                Code::PreloadLibraryMissing,
                format!("server \"{name}\": libraries that the primary loads at its start are not installed"),
            )
            .server(name)
            .detail(format!("Missing: {}. With the primary's configuration it would not start.", preload.join(", ")))
            .hint("Install the packages that hold them."),
        );
    }
    let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (database, facts) in databases(source) {
        for library in facts.libraries.iter().filter_map(|text| library(text)).filter(|library| is_missing(library)) {
            missing.entry(library).or_default().push(database.clone());
        }
    }
    if !missing.is_empty() {
        let lines: Vec<String> =
            missing.iter().map(|(library, databases)| format!("{library} of {}", list(databases))).collect();
        found.push(
            Diagnostic::error(
                Code::FunctionLibraryMissing,
                format!("server \"{name}\": libraries that functions of the primary need are not installed"),
            )
            .server(name)
            .detail(format!("Missing: {}. Queries that need them fail there.", lines.join("; ")))
            .hint("Install the packages that hold them, in the primary's version."),
        );
    }
    found
}

fn extensions(source: Seen<'_>, standby: Seen<'_>) -> Vec<Diagnostic> {
    let name = standby.name;
    let Observed::Known(there) = &standby.ready.installed.extensions else { return Vec::new() };
    let (mut missing, mut versions) = (BTreeMap::<&String, Vec<String>>::new(), BTreeMap::<String, Vec<String>>::new());
    for (database, facts) in databases(source) {
        for (extension, version) in &facts.extensions {
            match there.get(extension) {
                None => missing.entry(extension).or_default().push(database.clone()),
                Some(installed) if !installed.contains(version) => {
                    versions.entry(format!("{extension} {version}")).or_default().push(database.clone());
                }
                Some(_) => {}
            }
        }
    }
    let lines = |of: Vec<(String, Vec<String>)>| {
        of.iter().map(|(what, databases)| format!("{what} of {}", list(databases))).collect::<Vec<_>>().join("; ")
    };
    let mut found = Vec::new();
    if !missing.is_empty() {
        let missing = missing.into_iter().map(|(extension, databases)| (extension.clone(), databases)).collect();
        found.push(
            Diagnostic::error(
                Code::ExtensionMissing,
                format!("server \"{name}\": extensions of the primary are not installed"),
            )
            .server(name)
            .detail(format!("No control file: {}.", lines(missing)))
            .hint("Install the packages that hold them, such as postgresql-VERSION-NAME on Debian."),
        );
    }
    if !versions.is_empty() {
        found.push(
            Diagnostic::warning(
                Code::ExtensionVersionMissing,
                format!("server \"{name}\": extensions of the primary are installed in other versions"),
            )
            .server(name)
            .detail(format!("No script leads to: {}.", lines(versions.into_iter().collect())))
            .hint("Install the same package versions; the library of another version may not know the functions."),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locales_are_compared_as_libc_does() {
        assert_eq!(normal("en_US.UTF-8"), normal("en_US.utf8"));
        assert_eq!(normal("de_DE"), "de_DE");
    }

    #[test]
    fn libraries_have_one_name() {
        assert_eq!(library("$libdir/hstore"), Some("hstore"));
        assert_eq!(library(" \"pg_stat_statements\""), Some("pg_stat_statements"));
        assert_eq!(library("$libdir/plugins/x.so"), Some("x"));
        assert_eq!(library("/opt/lib/x.so"), None);
        assert_eq!(library(""), None);
    }
}

//! Tablespaces: the same directory on every server, made before the primary's WAL asks standbys for it (hazard 7).
//!
//! They are created after the links are proven, so that a first base backup copies none.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::diagnostic::Diagnostic;
use crate::model::argv::Argv;
use crate::model::observation::Instance;
use crate::model::topology::Topology;
use crate::plan::files;
use crate::plan::scripts;
use crate::plan::sql;
use crate::plan::step::Risk;
use crate::plan::step::Step;
use crate::plan::survey::Seen;
use crate::quote::sql::Sql;

/// Returns why the wished tablespaces cannot be: a standby replays the primary's paths as they are.
pub fn refusals(topology: &Topology) -> Vec<Diagnostic> {
    let mut servers = topology.servers();
    let Some(first) = servers.next() else { return Vec::new() };
    servers
        .filter(|server| server.tablespaces != first.tablespaces)
        .map(|server| {
            Diagnostic::error(
                "tablespaces-differ",
                format!("server \"{}\" has tablespaces elsewhere than \"{}\"", server.name, first.name),
            )
            .server(&server.name)
            .detail("A standby replays the primary's CREATE TABLESPACE with the primary's path.")
            .hint("Use the same paths everywhere; a symbolic link or a mount on the server can lead elsewhere.")
        })
        .collect()
}

/// Returns the tablespaces that the primary does not have yet.
pub fn missing<'a>(topology: &'a Topology, primary: Seen<'_>) -> BTreeMap<&'a String, &'a String> {
    let wanted = topology.server(&primary.server.name).map(|server| &server.tablespaces);
    let has = |name: &String| primary.instance.is_some_and(|instance| instance.tablespaces.contains_key(name));
    wanted.into_iter().flatten().filter(|(name, _)| !has(name)).collect()
}

/// Returns the step that makes the directories on one server: those that the inventory names, and those that the primary
/// has already. What is there is left alone.
pub fn make_directories(seen: Seen<'_>, upstream: Option<&Instance>) -> Step {
    let existing = upstream.into_iter().flat_map(|instance| instance.tablespaces.values());
    let directories: BTreeSet<&String> = seen.server.tablespaces.values().chain(existing).collect();
    let commands = directories.into_iter().map(|directory| {
        Argv::new(files::administrator(seen.seen), "sh").args([
            "-c",
            scripts::ENSURE_DIRECTORY,
            "pgstead-ensure-directory",
            directory,
            &seen.layout.os_user,
        ])
    });
    let title = "make the directories of the tablespaces";
    Step::run(&seen.server.name, Risk::Reversible, title, commands.collect())
}

/// Returns the step that creates tablespaces on the primary.
pub fn create(primary: Seen<'_>, missing: &BTreeMap<&String, &String>) -> Step {
    let sql = missing.iter().fold(Sql::new(), |sql, (name, directory)| {
        sql.text("CREATE TABLESPACE ").identifier(name).text(" LOCATION ").literal(directory).text(";\n")
    });
    let names: Vec<&str> = missing.keys().map(|name| name.as_str()).collect();
    let title = format!("create tablespaces {}", names.join(", "));
    let command = sql::psql(primary.layout, primary.server, sql);
    Step::run(&primary.server.name, Risk::Reversible, title, vec![command])
}

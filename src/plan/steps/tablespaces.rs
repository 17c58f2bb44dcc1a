//! Tablespaces: the same directory on every server, made before the primary's WAL asks standbys for it (hazard 7).
//!
//! They are created after the links are proven, so that a first base backup copies none.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Code, Diagnostic};
use crate::model::argv::{Argv, RunAs};
use crate::model::topology::Topology;
use crate::plan::seen::Seen;
use crate::plan::step::{Risk, Step};
use crate::plan::steps::sql;
use crate::plan::{files, scripts};
use crate::quote::sql::Sql;

/// Returns why the wished tablespaces cannot be: a standby replays the primary's paths as they are.
pub fn refusals(topology: &Topology) -> Vec<Diagnostic> {
    let mut servers = topology.servers();
    let Some(first) = servers.next() else { return Vec::new() };
    servers
        .filter(|server| server.tablespaces != first.tablespaces)
        .map(|server| {
            Diagnostic::error(
                Code::TablespacesDiffer,
                format!("server \"{}\" has tablespaces elsewhere than \"{}\"", server.name, first.name),
            )
            .server(&server.name)
            .detail("A standby replays the primary's CREATE TABLESPACE with the primary's path.")
            .hint("Use the same paths everywhere; a symbolic link or a mount on the server can lead elsewhere.")
        })
        .collect()
}

/// Says whether nobody could ask which tablespaces a primary has: it has data, and does not run.
pub fn are_unknown(primary: Seen<'_>) -> bool {
    primary.data.is_some() && primary.instance.is_none()
}

/// Tells that tablespaces are created by a later run, where nobody knows yet which are there.
pub fn note(primary: Seen<'_>) -> Option<Diagnostic> {
    let names: Vec<&str> = primary.server.tablespaces.keys().map(String::as_str).collect();
    let name = &primary.server.name;
    (are_unknown(primary) && !names.is_empty()).then(|| {
        Diagnostic::note(
            Code::TablespacesUnknown,
            format!("server \"{name}\" does not run: nobody could ask which tablespaces it has"),
        )
        .server(name)
        .detail(format!("This run starts it and creates no tablespace. The inventory has {}.", names.join(", ")))
        .hint("Run the same command again behind this one: it creates those that are not there, where there are any.")
    })
}

/// Returns the tablespaces that the primary does not have yet, as far as anybody could ask it.
pub fn missing<'a>(topology: &'a Topology, primary: Seen<'_>) -> BTreeMap<&'a String, &'a String> {
    if are_unknown(primary) {
        return BTreeMap::new();
    }
    let wanted = topology.server(&primary.server.name).map(|server| &server.tablespaces);
    let has = |name: &String| primary.instance.is_some_and(|instance| instance.tablespaces.contains_key(name));
    wanted.into_iter().flatten().filter(|(name, _)| !has(name)).collect()
}

/// Returns the step that makes the directories on one server: those that the inventory names, and those that the primary
/// has already. What is there is left alone.
pub fn make_directories(seen: Seen<'_>, primary: Option<Seen<'_>>) -> Step {
    let existing = primary.into_iter().flat_map(|primary| primary.tablespaces()).map(|(_, path)| path);
    let wished: BTreeSet<&str> = seen.server.tablespaces.values().map(String::as_str).collect();
    let directories: BTreeSet<&str> = wished.iter().copied().chain(existing).collect();
    let make = |directory: &str| match wished.contains(directory) {
        true => files::make_directory(seen.seen, seen.layout, directory, "0700"),
        false => files::make_told_directory(seen.seen, seen.layout, directory, "0700"),
    };
    let commands = directories.into_iter().map(make);
    let title = "make the directories of the tablespaces";
    Step::run(&seen.server.name, Risk::Reversible, title, commands.collect())
}

/// Where a tablespace is copied to, and where it belongs. The first lies in the second, so that giving it its name is a
/// rename, also where the tablespace is a mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Where the copy puts it.
    pub from: String,
    /// Its location on every server.
    pub to: String,
}

impl Move {
    /// Returns the option of `pg_basebackup`; an equals sign in a path is escaped (manual, `pg_basebackup`).
    pub fn mapping(&self) -> String {
        let escaped = |path: &str| path.replace('\\', "\\\\").replace('=', "\\=");
        ["--tablespace-mapping=", &escaped(&self.to), "=", &escaped(&self.from)].concat()
    }
}

/// Returns where a run's copies of a primary's tablespaces go first.
pub fn all_to_come(primary: Seen<'_>, run: &str) -> Vec<Move> {
    primary.tablespaces().into_iter().map(|(_, location)| to_come(location, run)).collect()
}

/// Returns all directories that a copy makes: the new data directory, and one for each tablespace.
pub fn seeds(seed: &str, moves: &[Move]) -> Vec<String> {
    std::iter::once(seed.to_owned()).chain(moves.iter().map(|one| one.from.clone())).collect()
}

/// Returns where a run's copy of a tablespace goes first.
fn to_come(location: &str, run: &str) -> Move {
    Move { from: [location, SEED, run].concat(), to: location.to_owned() }
}

/// Returns the moves of a copy that an earlier run began, from the directories on its record.
pub fn moves(seeds: &[String], run: &str) -> Vec<Move> {
    let suffix = [SEED, run].concat();
    seeds.iter().filter_map(|from| Some(to_come(from.strip_suffix(&suffix)?, run))).collect()
}

/// What the name of a copied tablespace begins with, in its location.
const SEED: &str = "/pgstead.seed.";

/// Returns the command that gives copied tablespaces their places, where there are any.
pub fn settle(seen: Seen<'_>, seed: &str, moves: &[Move]) -> Option<Argv> {
    let run_as = RunAs::User(seen.layout.os_user.clone());
    let script = ["-c", scripts::SETTLE_TABLESPACES, "pgstead-settle-tablespaces", seed];
    let places = moves.iter().flat_map(|one| [&one.from, &one.to]);
    (!moves.is_empty()).then(|| Argv::new(run_as, "sh").args(script).args(places))
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

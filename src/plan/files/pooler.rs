//! PgBouncer beside the instances: the file that tells it which server is the primary, and what its console is told around a
//! change of the primary, so that clients wait for a moment instead of being sent away (docs/adr/0019-a-pooler-waits.md).
//!
//! The file stands in pgstead's own directory. The operator's `pgbouncer.ini` includes it; pgstead never writes there.

use crate::model::argv::{Argv, RunAs};
use crate::model::layout::POOLER;
use crate::model::name::ServerName;
use crate::model::pooler::Pooler;
use crate::model::role_file::RoleFile;
use crate::model::topology::{Server, Topology};
use crate::plan::files::Entry;
use crate::plan::seen::Seen;
use crate::plan::step::{Risk, Step};
use crate::plan::{files, scripts};
use crate::quote::pgbouncer;

/// Returns the file that PgBouncer includes: its databases, at the primary. None where the inventory has no pooler.
pub fn file(topology: &Topology, seen: Seen<'_>, primary: &Server) -> Option<Entry> {
    topology.common().pooler.as_ref()?;
    let path = seen.layout.own(POOLER);
    let mut text = [
        "; Written by pgstead: the databases, at the server that is the primary. At the end of pgbouncer.ini:\n;   %include ",
        &path,
        "\n[databases]\n",
    ]
    .concat();
    for database in topology.common().databases.iter().filter_map(|name| pgbouncer::key(name)) {
        let place = [" = host=", &primary.address.to_string(), " port=", &primary.port.to_string(), "\n"].concat();
        text.push_str(database);
        text.push_str(&place);
    }
    // Behind this nothing may stand but [databases]: a section that is opened once more loses what it had (seen with 1.18).
    Some(Entry::text(path, &files::own_directory_owner(seen.seen, seen.layout), "0644", text))
}

/// Returns what makes the clients of a server's PgBouncer wait. None where it does not answer, or serves none of the databases.
pub fn pause(topology: &Topology, seen: Seen<'_>) -> Option<(ServerName, Vec<Argv>)> {
    Some((seen.server.name.clone(), vec![console(topology, seen, "pause")?]))
}

/// Returns what lets them go on, where they wait.
pub fn resume(topology: &Topology, seen: Seen<'_>) -> Option<(ServerName, Vec<Argv>)> {
    Some((seen.server.name.clone(), vec![console(topology, seen, "resume")?]))
}

/// Returns the step that lets clients go on that wait.
pub fn resume_step(topology: &Topology, seen: Seen<'_>) -> Option<Step> {
    let pools = seen.seen.pooler.known()?;
    pools.databases.values().any(|pool| pool.is_paused).then_some(())?;
    let (server, commands) = resume(topology, seen)?;
    Some(Step::run(&server, Risk::Reversible, "let PgBouncer's clients go on", commands))
}

/// Returns the step that leads a server's PgBouncer to the primary, and lets its clients go on; with what it installs taken
/// from `install`. None where PgBouncer does not answer, which reads the file when it starts, and where there is nothing to do.
pub fn point(
    topology: &Topology,
    seen: Seen<'_>,
    primary: &Server,
    install: &mut Vec<Entry>,
    may_wait: bool,
) -> Option<Step> {
    let path = seen.layout.own(POOLER);
    let file = install.iter().find(|entry| entry.path() == path).cloned();
    if file.is_none() && !may_wait && is_led(topology, seen, primary) {
        return None;
    }
    let step = led(topology, seen, primary, file, &[])?;
    install.retain(|entry| entry.path() != path);
    // The manifest alone would say the same again.
    if install.iter().all(|entry| entry.path() == seen.layout.own("manifest")) {
        install.clear();
    }
    Some(step)
}

/// The same of a server whose instance this plan fences, or an earlier one has: its role file says so by then. A file that was
/// edited by hand is left alone.
pub fn point_fenced(topology: &Topology, seen: Seen<'_>, primary: &Server) -> Option<Step> {
    let file = file(topology, seen, primary)?;
    let comparison = files::compare(&seen.server.name, seen.seen, seen.layout, std::slice::from_ref(&file));
    let is_edited = !comparison.refusals.is_empty() || !comparison.edited.is_empty();
    let file = Some(file).filter(|file| comparison.changes.iter().any(|change| change.path() == file.path()));
    if is_edited || (file.is_none() && is_led(topology, seen, primary)) {
        return None;
    }
    let owner = files::own_directory_owner(seen.seen, seen.layout);
    let role = Entry::text(seen.layout.role_file(), &owner, "0644", RoleFile::Fenced.text());
    led(topology, seen, primary, file, &[role])
}

/// Says whether all that a server's PgBouncer serves of the topology leads to the primary, and nobody waits.
fn is_led(topology: &Topology, seen: Seen<'_>, primary: &Server) -> bool {
    let Some(pools) = seen.seen.pooler.known() else { return true };
    let is_led = |name: &String| pools.databases.get(name).is_none_or(|pool| pool.leads_to(primary) && !pool.is_paused);
    topology.common().databases.iter().all(is_led)
}

/// The step itself. `before` are files that another step has installed by then; the manifest knows of them.
fn led(topology: &Topology, seen: Seen<'_>, primary: &Server, file: Option<Entry>, before: &[Entry]) -> Option<Step> {
    seen.seen.pooler.known()?;
    let told = console(topology, seen, "point").or_else(|| console(topology, seen, "reload"))?;
    let title = ["lead PgBouncer to \"", primary.name.as_str(), "\", and let its clients go on"].concat();
    let Some(file) = file else {
        return Some(Step::run(&seen.server.name, Risk::Reversible, title, vec![told]));
    };
    let all: Vec<Entry> = before.iter().cloned().chain([file.clone()]).collect();
    let entries: Vec<Entry> = std::iter::once(file).chain(files::recorded(seen.seen, seen.layout, &all)).collect();
    Some(files::install(&seen.server.name, seen.seen, seen.layout, title, &entries, None).then(Some(told)))
}

/// Returns what lets PgBouncer read its file anew, where that is about to be installed.
pub fn behind(topology: &Topology, seen: Seen<'_>, install: &[Entry]) -> Option<Argv> {
    let path = seen.layout.own(POOLER);
    let is_installed = install.iter().any(|entry| entry.path() == path);
    (is_installed && seen.seen.pooler.known().is_some()).then(|| console(topology, seen, "reload"))?
}

/// Returns the step that lets PgBouncer read its file anew where it does not do what stands there.
pub fn reload(topology: &Topology, seen: Seen<'_>, primary: &Server, install: &[Entry]) -> Option<Step> {
    let pools = seen.seen.pooler.known()?;
    let path = seen.layout.own(POOLER);
    let is_right = |name: &String| pools.databases.get(name).is_none_or(|pool| pool.leads_to(primary));
    if install.iter().any(|entry| entry.path() == path) || topology.common().databases.iter().all(is_right) {
        return None;
    }
    let command = console(topology, seen, "reload")?;
    let title = ["let PgBouncer read where \"", primary.name.as_str(), "\" is"].concat();
    Some(Step::run(&seen.server.name, Risk::Reversible, title, vec![command]))
}

/// Returns the databases of the topology that a server's PgBouncer serves; it knows nothing of others.
fn served(topology: &Topology, seen: Seen<'_>) -> Vec<String> {
    let Some(pools) = seen.seen.pooler.known() else { return Vec::new() };
    topology.common().databases.iter().filter(|name| pools.databases.contains_key(*name)).cloned().collect()
}

/// Returns a command to the console; of one that is about databases none where it serves none.
fn console(topology: &Topology, seen: Seen<'_>, what: &str) -> Option<Argv> {
    let Pooler { port, socket_directory, os_user, pause_timeout_s } = topology.common().pooler.as_ref()?;
    let served = served(topology, seen);
    if served.is_empty() && what != "reload" {
        return None;
    }
    Some(
        Argv::new(RunAs::User(os_user.clone()), "sh")
            .args(["-c", scripts::POOLER, "pgstead-pooler", what, &seen.layout.program("psql"), socket_directory])
            .args([port.to_string(), pause_timeout_s.to_string()])
            .args(served.iter().map(|name| pgbouncer::name(name))),
    )
}

//! Judges the start guard: there, asked before every start, and not about to refuse the next one (hazards 34, 40, 55).
//!
//! What signal files say of the role is judged in `servers`.

use crate::check::Finding;
use crate::diagnostic::{Code, Diagnostic};
use crate::judge::ServerState;
use crate::model::identity::Identity;
use crate::model::layout::{Layout, START_GUARD, START_REFUSED};
use crate::model::name::{ServerName, TopologyName};
use crate::model::observation::ServerObservation;
use crate::model::observed::Observed;
use crate::model::topology::Topology;
use crate::plan::files::guard;
use crate::plan::files::guard::PEERS;

const MENDS: &str = "\"pgstead bootstrap\" installs it and puts it into force.";

/// Judges the guard of one server that pgstead configured; any other has none.
pub fn check_guard(topology: &Topology, name: &ServerName, seen: &ServerObservation, layout: &Layout) -> Vec<Finding> {
    if seen.files.get(&layout.own("manifest")).and_then(Observed::known).is_none() {
        return Vec::new();
    }
    let unfinished = check_unfinished(topology, name, ServerState::of_seen(seen));
    let marked = check_mark(topology.name(), name, seen, layout);
    let asked = check_asked(topology.name(), name, seen, layout).or_else(|| check_changed(name, seen, layout));
    let asked = asked.or_else(|| check_outdated(topology, name, seen));
    let past = check_past(name, seen, layout);
    marked.into_iter().chain(asked).chain(unfinished).chain(past).collect()
}

/// Returns the files that the guard consists of: the script, what asks it, and whom it asks.
pub fn files(layout: &Layout) -> Vec<String> {
    [layout.own(START_GUARD), layout.own(PEERS)].into_iter().chain(layout.guard_drop_in()).collect()
}

/// Returns what the guard said when it refused the last start.
pub fn last_refusal<'a>(seen: &'a ServerObservation, layout: &Layout) -> Option<&'a str> {
    let said = seen.files.get(&layout.own(START_REFUSED)).and_then(Observed::known);
    said.and_then(|fact| fact.content.as_deref()).map(str::trim).filter(|text| !text.is_empty())
}

/// A primary that was about to hand over: whatever it is now, its next start is refused.
fn check_unfinished(topology: &Topology, name: &ServerName, server: ServerState<'_>) -> Option<Finding> {
    let successor = server.successor()?;
    if !topology.servers().any(|server| server.name.as_str() == successor) {
        let message =
            format!("server \"{name}\" was about to hand over to \"{successor}\", which is not in the inventory");
        return Some(Finding::unhealthy(
            Diagnostic::error(Code::SuccessorOutside, message)
                .server(name)
                .detail(format!("Its role file says so. \"{successor}\" may have been promoted, and accept writes; nobody looks at it."))
                .hint(format!("Put \"{successor}\" back into the inventory. {}", guard::finish_or_take_back(successor))),
        ));
    }
    let message = format!("server \"{name}\" was about to hand over to \"{successor}\", and that is not finished");
    Some(Finding::unhealthy(
        Diagnostic::error(Code::SwitchoverUnfinished, message)
            .server(name)
            .detail("Its role file says demoted: the start guard refuses its next start.")
            .hint(guard::finish_or_take_back(successor)),
    ))
}

fn check_asked(
    topology: &TopologyName,
    name: &ServerName,
    seen: &ServerObservation,
    layout: &Layout,
) -> Option<Finding> {
    let missing = |message: String, why: &str| {
        let why = [why, " A lost standby.signal or an unfinished copy would start as a second primary."].concat();
        let diagnostic = Diagnostic::error(Code::StartGuardMissing, format!("server \"{name}\": {message}"));
        Some(Finding::unhealthy(diagnostic.server(name).detail(why).hint(MENDS)))
    };
    let unreadable = |message: String, why: &str| {
        let diagnostic = Diagnostic::error(Code::StartGuardUnreadable, format!("server \"{name}\": {message}"));
        Some(Finding::unknown(diagnostic.server(name).detail(why.to_owned())))
    };
    for path in files(layout) {
        match seen.files.get(&path).map(Observed::look) {
            Some(Ok(None)) if path == layout.own(PEERS) => {
                let message = format!("server \"{name}\": {path} is not there");
                let diagnostic = Diagnostic::error(Code::StartGuardMissing, message).server(name);
                return Some(Finding::unhealthy(
                    diagnostic
                        .detail("The start guard does not know whom to ask whether another server is the primary now, and refuses the next start of a primary.")
                        .hint(MENDS),
                ));
            }
            Some(Ok(None)) => {
                return missing(
                    format!("{path} is not there"),
                    "Nothing checks what the instance is before it starts.",
                );
            }
            Some(Err(why)) => return unreadable(format!("could not look at {path}"), why),
            Some(Ok(Some(_))) | None => {}
        }
    }
    let unit = layout.unit.as_deref()?;
    match seen.service.look() {
        Ok(Some(service)) => {
            let asked = service.runs_before_start(&layout.start_guard(topology, name))?;
            let message = format!("{unit} does not ask the start guard");
            let why = "The service manager has not read the guard's drop-in, or another file overrides it.";
            if asked { None } else { missing(message, why) }
        }
        Err(why) => unreadable(format!("could not see what {unit} does before a start"), why),
        Ok(None) => None,
    }
}

/// A file of the guard that is not what was installed: it may ask nobody any more, and let everything start.
fn check_changed(name: &ServerName, seen: &ServerObservation, layout: &Layout) -> Option<Finding> {
    let manifest = seen.files.get(&layout.own("manifest")).and_then(Observed::known)?.content.as_deref()?;
    let recorded = |path: &str| manifest.lines().filter_map(|line| line.split_once("  ")).find(|(_, of)| *of == path);
    let is_changed = |path: &String| {
        let fact = seen.files.get(path).and_then(Observed::known);
        fact.zip(recorded(path)).is_some_and(|(fact, (hash, _))| fact.sha256 != hash)
    };
    let path = files(layout).into_iter().find(is_changed)?;
    Some(Finding::unhealthy(
        Diagnostic::error(Code::StartGuardChanged, format!("server \"{name}\": {path} is not what was installed"))
            .server(name)
            .detail("The start guard may let an instance start that was replaced, or is not complete.")
            .hint(format!("\"pgstead plan\" shows the difference. To have it as it was: mv {path} {path}.changed on the server, then pgstead bootstrap.")),
    ))
}

/// A file of the guard that was installed as it is, by an earlier version of pgstead: what the guard has learned since does not
/// hold there yet.
fn check_outdated(topology: &Topology, name: &ServerName, seen: &ServerObservation) -> Option<Finding> {
    let is_other = |(path, hash): &(String, String)| {
        seen.files.get(path).and_then(Observed::known).is_some_and(|fact| fact.sha256 != *hash)
    };
    let (path, _) = guard::current(topology, name, seen).into_iter().find(is_other)?;
    Some(Finding::remark(
        Diagnostic::warning(
            Code::StartGuardOutdated,
            format!("server \"{name}\": {path} is not of this version of pgstead"),
        )
        .server(name)
        .detail("Another version installed it. What the start guard has learned since does not hold there yet.")
        .hint("pgstead bootstrap installs this version's. It restarts nothing for that."),
    ))
}

/// An instance that runs although its unit does not: whoever started it went past the guard.
fn check_past(name: &ServerName, seen: &ServerObservation, layout: &Layout) -> Option<Finding> {
    let unit = layout.unit.as_deref()?;
    let is_down = |state: &str| matches!(state, "inactive" | "failed");
    let service = seen.service.known().filter(|service| is_down(&service.active))?;
    ServerState::of_seen(seen).instance()?;
    Some(Finding::remark(
        Diagnostic::warning(Code::StartUnguarded, format!("server \"{name}\": the instance runs, and {unit} is {}", service.active))
            .server(name)
            .detail("It was started past its unit, as by pg_ctl or pg_ctlcluster as the instance's user: the start guard was not asked. The service manager will not stop it in order.")
            .hint(format!("When a moment without it is acceptable: stop it as it was started, then: systemctl start {unit}")),
    ))
}

/// A mark that is gone, or that is another server's: what runs goes on, and the next start is refused.
fn check_mark(
    topology: &TopologyName,
    name: &ServerName,
    seen: &ServerObservation,
    layout: &Layout,
) -> Option<Finding> {
    let data = ServerState::of_seen(seen).data?;
    let what = match data.identity.look() {
        Ok(None) => "has no mark".to_owned(),
        Err(_) => return None,
        Ok(Some(text)) => match Identity::parse(text) {
            Some(mark) if mark.topology == topology.as_str() && mark.server == name.as_str() => return None,
            Some(mark) => format!("has the mark of server \"{}\" of topology \"{}\"", mark.server, mark.topology),
            None => "has an unreadable identity file".to_owned(),
        },
    };
    let path = &layout.data_directory;
    Some(Finding::unhealthy(
        Diagnostic::error(Code::MarkWrong, format!("server \"{name}\": data directory {path} {what}"))
            .server(name)
            .detail("pgstead.identity says whose data it is and that it is complete. The start guard refuses the next start.")
            .hint("Find out whether somebody moved the file or the directory, and put it back as it was."),
    ))
}

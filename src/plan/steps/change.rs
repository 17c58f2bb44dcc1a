//! Changes of running instances: what a new file needs, and in which order servers take it.
//!
//! A standby must never have less of the five hot-standby parameters than its primary: what rises, rises on standbys
//! first; what falls, falls on the primary first; one restart at a time, with proof between (hazard 38).

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::model::argv::Piece;
use crate::model::identity::Configuration;
use crate::model::name::ServerName;
use crate::model::observation::Setting;
use crate::model::observed::Observed;
use crate::model::parameter::{HOT_STANDBY_PARAMETERS, is_same_value};
use crate::model::topology::Link;
use crate::plan::files::decided::{Change, Decided, Direction};
use crate::plan::files::{Entry, kept};
use crate::plan::seen::Seen;
use crate::plan::step::{Action, Risk, Step};
use crate::plan::steps::service;
use crate::plan::{PlanBuilder, SettingChange, StepId};
use crate::render::postgresql_conf::parse_settings;

/// Decides what one server needs for its changed files. What someone edited by hand, and did not put into effect, is not
/// a reason to reload or restart.
pub fn decide(seen: &Seen<'_>, install: &[Entry], edited: &BTreeSet<String>) -> Change {
    if seen.data.is_none() {
        return Change::None;
    }
    let Some(instance) = seen.instance else { return Change::Start };
    let mut restart = Vec::new();
    let settings_file = kept::settings_file(seen.layout, seen.configuration);
    for entry in install {
        let Entry::File { path, content: Piece::Text(text), .. } = entry else { continue };
        if *path != settings_file {
            continue;
        }
        let before = seen.seen.files.get(path).and_then(Observed::known).and_then(|fact| fact.content.as_deref());
        let (before, after) = (parse_settings(before.unwrap_or_default()), parse_settings(text));
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names.into_iter().filter(|name| before.get(*name) != after.get(*name)) {
            let Some(setting) = instance.settings.get(name) else {
                // An extension's parameter, or one that this server does not know: its library loads at start.
                restart.push((name.clone(), Direction::Free));
                continue;
            };
            if setting.context == "postmaster" && !same_value(setting, after.get(name)) {
                restart.push((name.clone(), direction(name, setting, after.get(name))));
            }
        }
    }
    let path = settings_file;
    let observed = seen.seen.files.get(&path).and_then(Observed::known).and_then(|fact| fact.content.as_deref());
    let observed = parse_settings(observed.unwrap_or_default());
    // When the operator's own settings come into force is the operator's business.
    let is_ours = |name: &String| seen.configuration == Configuration::Written || observed.contains_key(name);
    let waiting = seen.state().waits_for_restart();
    for (name, setting) in instance.settings.iter().filter(|_| !edited.contains(&path)) {
        if waiting.contains(&name.as_str()) && is_ours(name) && !restart.iter().any(|(known, _)| known == name) {
            restart.push((name.clone(), direction(name, setting, observed.get(name))));
        }
    }
    // Only files that an instance reads need a reload; those of pgstead itself do not.
    let is_read = |entry: &Entry| match entry {
        Entry::File { path, .. } if seen.layout.guard_drop_in().as_ref() == Some(path) => false,
        Entry::File { path, .. } => path.ends_with(".conf") && !path.ends_with("/start.conf") || path.ends_with(".crt"),
        Entry::Link { .. } => true,
        Entry::Directory { .. } => false,
    };
    if !restart.is_empty() {
        Change::Restart { parameters: restart }
    } else if install.iter().any(is_read) || seen.state().waits_for_reload().iter().any(|file| !edited.contains(file)) {
        Change::Reload
    } else {
        Change::None
    }
}

fn same_value(setting: &Setting, wanted: Option<&String>) -> bool {
    wanted.is_some_and(|wanted| is_same_value(wanted, &setting.setting, setting.unit.as_deref()))
}

fn direction(name: &str, setting: &Setting, wanted: Option<&String>) -> Direction {
    if !HOT_STANDBY_PARAMETERS.contains(&name) {
        return Direction::Free;
    }
    let now: Option<i64> = setting.setting.parse().ok();
    // A parameter that leaves the file falls back to the default; of the five, no default is above what was set to be higher.
    match (now, wanted.and_then(|text| text.parse::<i64>().ok())) {
        (Some(now), Some(wanted)) if wanted > now => Direction::Rises,
        _ => Direction::Falls,
    }
}

/// Says in a plan that the serving primary restarts, which is refused without a consent of its own.
pub fn restart_of_primary<'a>(
    primary: &ServerName,
    mut servers: impl Iterator<Item = (Seen<'a>, &'a Change)>,
    settings: &[SettingChange],
) -> Option<Diagnostic> {
    let parameters = servers.find_map(|(seen, change)| match change {
        Change::Restart { parameters } if seen.server.name == *primary => Some(parameters),
        _ => None,
    })?;
    let message = format!("server \"{primary}\" is the serving primary and has to be restarted");
    Some(
        Diagnostic::note(Code::RestartNeedsConsent, message)
            .server(primary)
            .detail(changed(primary, parameters, settings))
            .hint(CONSENT),
    )
}

/// Makes a remark of the refusal that a restart needs a consent.
pub fn remark(refusal: Diagnostic) -> Option<Diagnostic> {
    let is_it = refusal.code == Code::RestartNeedsConsent;
    is_it.then(|| Diagnostic { severity: Severity::Note, ..refusal }.hint(CONSENT))
}

const CONSENT: &str = "pgstead bootstrap --allow-restart does it; without that option a bootstrap is refused.";

/// Names the parameters for which a primary restarts.
fn changed(primary: &ServerName, parameters: &[(String, Direction)], settings: &[SettingChange]) -> String {
    let words = |name: &String| match settings.iter().find(|one| one.server == *primary && one.name == *name) {
        Some(SettingChange { before, source, after: Some(after), .. }) => {
            format!("{name} from '{before}' ({source}) to '{after}'")
        }
        _ => name.clone(),
    };
    let names: Vec<String> = parameters.iter().map(|(name, _)| words(name)).collect();
    format!("Changed: {}. Clients are disconnected for a moment.", names.join(", "))
}

/// Returns why changes must be refused.
pub fn refusals<'a>(
    primary: &ServerName,
    servers: impl Iterator<Item = (Seen<'a>, &'a Change)>,
    settings: &[SettingChange],
    allow_restart: bool,
) -> Vec<Diagnostic> {
    let mut refusals = Vec::new();
    let mut directions = BTreeSet::new();
    for (seen, change) in servers {
        let Change::Restart { parameters } = change else { continue };
        for (_, direction) in parameters {
            match direction {
                Direction::Rises => directions.insert("rise"),
                Direction::Falls => directions.insert("fall"),
                Direction::Free => false,
            };
        }
        if seen.server.name == *primary && !allow_restart {
            let message = format!("server \"{primary}\" is the serving primary and would have to be restarted");
            refusals.push(
                Diagnostic::error(Code::RestartNeedsConsent, message)
                    .server(primary)
                    .detail(changed(primary, parameters, settings))
                    .hint("Run again with --allow-restart when that is acceptable."),
            );
        }
    }
    if directions.len() > 1 {
        refusals.push(
            Diagnostic::error(
                Code::HotStandbyParametersMixed,
                "some hot-standby parameters rise and others fall in one change",
            )
            .detail(format!(
                "They are {}. Rising ones start on the standbys, falling ones on the primary.",
                HOT_STANDBY_PARAMETERS.join(", ")
            ))
            .hint("Make two changes: first raise, run bootstrap, then lower."),
        );
    }
    refusals
}

/// Adds the steps that bring running and stopped instances up to their files, in the safe order.
pub(in crate::plan) fn steps<'a>(
    plan: &mut PlanBuilder,
    primary: &ServerName,
    links: &[Link],
    decided: &BTreeMap<&'a ServerName, Decided<'a>>,
    installed: &BTreeMap<&ServerName, StepId>,
    ready: &mut BTreeMap<&'a ServerName, StepId>,
) {
    // Stopped instances and reloads have no order among each other.
    // What joins reads its new files when its upstream is ready for it.
    for (name, server) in decided.iter().filter(|(_, server)| !server.seen.joins()) {
        let after = installed.get(*name).copied();
        let id = match &server.change {
            Change::None | Change::Restart { .. } => continue,
            // All servers were looked at, none is left out, and it is the only one that would accept writes.
            Change::Start if *name == primary => plan.add(service::start_alone(server.seen), after),
            Change::Start => plan.add(service::start(server.seen), after),
            Change::Reload => plan.add(service::reload(server.seen), after),
        };
        ready.insert(name, id);
    }
    let falls = decided.values().any(|server| {
        matches!(&server.change, Change::Restart { parameters } if parameters.iter().any(|(_, d)| *d == Direction::Falls))
    });
    let mut order: Vec<&ServerName> = links.iter().rev().map(|link| &link.standby).collect();
    if falls {
        order.push(primary);
        order.reverse();
    } else {
        order.push(primary);
    }
    let mut previous: Vec<StepId> = installed.values().copied().chain(ready.values().copied()).collect();
    for name in order {
        let Some((name, server)) = decided.get_key_value(name) else { continue };
        if !matches!(server.change, Change::Restart { .. }) || server.seen.joins() {
            continue;
        }
        if let Some(install) = server.install_step() {
            previous = vec![plan.add(install, previous)];
        }
        let restarted = plan.add(service::restart(server.seen), previous);
        ready.insert(name, restarted);
        // Every link that this restart interrupts is proven before the next server is touched.
        let touched: Vec<Link> = links
            .iter()
            .filter(|link| link.standby == **name || link.upstream == **name)
            .filter(|link| {
                decided.get(&link.standby).is_some_and(|standby| standby.seen.data.is_some() && !standby.seen.joins())
            })
            .cloned()
            .collect();
        previous = vec![restarted];
        if !touched.is_empty() {
            let proof = Step {
                title: format!("prove that replay goes on after the restart of \"{name}\""),
                server: None,
                risk: Risk::Reversible,
                action: Action::ProveLinks { primary: primary.clone(), links: touched },
                files: Vec::new(),
            };
            previous = vec![plan.add(proof, [restarted])];
        }
    }
}

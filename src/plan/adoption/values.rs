//! Values that a server may not start with: which its PostgreSQL is asked about before anything is changed, what to do about one that
//! it does not accept, and those that it accepts one by one and not together.

use crate::diagnostic::{Code, Diagnostic};
use crate::model::parameter::MANAGED_PARAMETERS;
use crate::model::topology::Server;
use crate::plan::adoption::settings::{INVENTORY, Settings};
use crate::plan::seen::Seen;

/// Settings whose values a machine must know, with what makes it know them.
const OF_MACHINES: [(&str, &str); 8] = [
    ("lc_messages", LOCALE),
    ("lc_monetary", LOCALE),
    ("lc_numeric", LOCALE),
    ("lc_time", LOCALE),
    ("timezone", TIME_ZONE),
    ("log_timezone", TIME_ZONE),
    ("timezone_abbreviations", "Put that file beside the others of PostgreSQL's timezonesets there"),
    // From version 18 on.
    ("io_method", "Install PostgreSQL there as the primary has it"),
];
const LOCALE: &str = "Make that locale there (localedef, or the package locales)";
const TIME_ZONE: &str = "Install it there (on Debian the package tzdata-legacy has the old names)";

/// Returns the settings that PostgreSQL is asked about: all that the server does not have yet, with the value and where it is set.
///
/// Not among them: those of extensions, which nobody knows who has not loaded them; commands, which PostgreSQL takes as they are and
/// which may hold a password; those that pgstead sets itself; and the one that PostgreSQL judges by a limit of its process, which a
/// session of SSH does not share with a unit of systemd.
pub(super) fn to_ask(settings: &Settings<'_>) -> Vec<(String, String, String)> {
    let names = settings.names().into_iter().filter(|name| {
        !name.contains('.')
            && !name.ends_with("_command")
            && name != "max_stack_depth"
            && (name == "db_user_namespace" || !MANAGED_PARAMETERS.iter().any(|(managed, _)| managed == name))
    });
    names.filter_map(|name| settings.get(&name).map(|(value, set)| (name, value, set))).collect()
}

/// Returns what to do about a value that is not accepted, by what PostgreSQL said of it.
pub(super) fn way(server: &Server, name: &str, set: &str, said: &str) -> String {
    let is_known = !said.starts_with("unrecognized configuration parameter");
    let machine = OF_MACHINES.iter().find(|(one, _)| *one == name && is_known).map(|(_, way)| *way);
    if set == INVENTORY {
        let is_own = server.parameters.keys().any(|own| own.as_str() == name);
        let at = if is_own { ["servers.", server.name.as_str()].concat() } else { "postgres".to_owned() };
        let or = machine.map(|way| format!("; or where the value is right: {way}")).unwrap_or_default();
        return format!("Correct {at}.parameters.{name} in the inventory{or}.");
    }
    let out = match set.contains("/postgresql.auto.conf") {
        true => format!("ALTER SYSTEM RESET {name}"),
        false => "take it out of that file".to_owned(),
    };
    match machine {
        Some(way) => [way, "; or use a value that every server accepts."].concat(),
        None => format!("Install the same release of PostgreSQL on all servers, built alike; or {out}."),
    }
}

/// Returns what is said where PostgreSQL could not be asked about values.
pub(super) fn not_asked(seen: Seen<'_>, why: Option<&str>) -> Diagnostic {
    let name = &seen.server.name;
    let message = format!("server \"{name}\": its PostgreSQL could not be asked whether it accepts all settings");
    let detail = [why.unwrap_or("nothing was said of it"), "."].concat();
    Diagnostic::warning(Code::ValueNotAccepted, message)
        .server(name)
        .detail(detail)
        .hint("Each file of settings is checked again before it is put in place.")
}

/// Returns the settings that are accepted one by one, and with which an instance does not start all the same.
pub(super) fn refused_together(seen: Seen<'_>, settings: &Settings<'_>) -> Vec<Diagnostic> {
    let name = &seen.server.name;
    let refused = |message: String, detail: String, hint: &str| {
        let message = format!("server \"{name}\": {message}");
        Diagnostic::error(Code::ValueNotAccepted, message).server(name).detail(detail).hint(hint)
    };
    let mut refusals = Vec::new();
    let new = |names: &[&str]| names.iter().any(|name| settings.get(name).is_some());
    let names = ["superuser_reserved_connections", "reserved_connections", "max_connections"];
    let [superusers, others, all] =
        [(names[0], 3), (names[1], 0), (names[2], 100)].map(|(name, default)| settings.number(name, default));
    if let (true, Some(superusers), Some(others), Some(all)) = (new(&names), superusers, others, all)
        && superusers.saturating_add(others) >= all
    {
        refusals.push(refused(
            format!("max_connections = {all} leaves none that is not reserved"),
            format!("superuser_reserved_connections is {superusers}, reserved_connections {others}. PostgreSQL starts only where fewer are reserved than there are."),
            "Raise max_connections, or reserve fewer.",
        ));
    }
    // A temporary one ends with its session, and is none that a start finds.
    let slots = seen.instance.map_or(0, |instance| instance.slots.values().filter(|slot| !slot.temporary).count());
    let wished = settings.our_number("max_replication_slots").and_then(|number| usize::try_from(number).ok());
    if let Some(wished) = wished.filter(|wished| *wished < slots) {
        refusals.push(refused(
            format!("max_replication_slots = {wished} is fewer than it has"),
            format!("It has {slots}, and PostgreSQL does not start with more than it may have."),
            "Drop slots that nobody needs, or allow as many.",
        ));
    }
    refusals
}

/// Tells once what several servers refuse for the same reason.
pub(in crate::plan) fn told_once(refusals: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut told: Vec<(Diagnostic, String, Vec<String>)> = Vec::new();
    for refusal in refusals {
        let server = refusal.server.clone().unwrap_or_default();
        let what = refusal.message.replacen(&["server \"", &server, "\": "].concat(), "", 1);
        let same = told.iter_mut().find(|(before, said, _)| {
            let of_it = |one: &Diagnostic| (one.code, one.detail.clone(), one.hint.clone());
            matches!(refusal.code, Code::ValueNotAccepted | Code::NoCommonTls)
                && *said == what
                && of_it(before) == of_it(&refusal)
        });
        match same {
            Some((.., names)) => names.push(server),
            None => told.push((refusal, what, vec![server])),
        }
    }
    let named = told.into_iter().map(|(mut refusal, what, names)| {
        if let [first @ .., last] = names.as_slice()
            && !first.is_empty()
        {
            refusal.message = ["servers \"", &first.join("\", \""), "\" and \"", last, "\": ", &what].concat();
            refusal.server = None;
        }
        refusal
    });
    named.collect()
}

//! What an existing primary brings along without noticing: settings that do nothing there, and act on every copy of it.
//!
//! One table says what each does and which value undoes it. Where the operator's files set one, our file, read after them,
//! sets the value that undoes it. `ALTER SYSTEM` and the command line win over every file, travel with a copy or come back
//! when this server is a standby itself one day, and are refused. The names for which commits wait are judged here, too.

use std::collections::BTreeSet;

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::Role;
use crate::model::observation::{FileSetting, Instance, Setting};
use crate::model::parameter::{is_at_most, is_same_value, is_same_written};
use crate::model::topology::Topology;
use crate::plan::files::base::Base;
use crate::plan::files::parameters;
use crate::plan::files::parameters::synchronous_standby_names;
use crate::plan::seen::Seen;
use crate::render::postgresql_conf::ConfSetting;

/// A setting that acts on standbys, or on the slots that they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brought {
    /// The parameter.
    pub name: &'static str,
    /// Its value with which nothing happens.
    pub neutral: &'static str,
    /// What happens with another one.
    pub acts: &'static str,
    /// Whether our file sets it in any case where it acts; else only where the operator's files do.
    pub is_ours: bool,
    /// Whether replay ends by it.
    pub ends_recovery: bool,
    /// Up to which value nothing happens either, where it is a time.
    pub at_most: Option<&'static str>,
}

const fn brought(name: &'static str, neutral: &'static str, acts: &'static str) -> Brought {
    Brought { name, neutral, acts, is_ours: false, ends_recovery: false, at_most: None }
}

const fn late(name: &'static str, neutral: &'static str, at_most: &'static str, acts: &'static str) -> Brought {
    Brought { name, neutral, acts, is_ours: false, ends_recovery: false, at_most: Some(at_most) }
}

const fn ends(name: &'static str, acts: &'static str) -> Brought {
    Brought { name, neutral: "", acts, is_ours: false, ends_recovery: true, at_most: None }
}

const fn ours(name: &'static str, neutral: &'static str, acts: &'static str) -> Brought {
    Brought { name, neutral, acts, is_ours: true, ends_recovery: false, at_most: None }
}

const ENDS: &str = "it ends replay, and the server stops or becomes a second primary";

/// Every setting of that sort in versions 15 to 18 (manual, 20.5.5, 20.5.6, 20.6).
///
/// Not among them: `restore_command`, which a standby may need; `recovery_target_action` and `recovery_target_inclusive`, which
/// say nothing without a target; `wal_receiver_create_temp_slot`, which says nothing beside `primary_slot_name`;
/// `synchronized_standby_slots`, which `check` compares with the slots that are there; `max_standby_*_delay`, `hot_standby_feedback` and the timeouts of sessions, which mean on a
/// standby what the operator means on the primary, and which sessions of ours do not obey.
pub const TABLE: [Brought; 15] = [
    ends("recovery_target", ENDS),
    ends("recovery_target_lsn", ENDS),
    ends("recovery_target_name", ENDS),
    ends("recovery_target_time", ENDS),
    ends("recovery_target_xid", ENDS),
    // Up to version 15.
    ends("promote_trigger_file", "a file of that name makes it a second primary"),
    brought("recovery_end_command", "", "it is run at its promotion"),
    brought("archive_cleanup_command", "", "what it needs no more is removed from the archive of all"),
    brought("recovery_min_apply_delay", "0", "it replays as late as that"),
    late("wal_retrieve_retry_interval", "5s", "1min", "it dials again as late as that when its connection has ended"),
    // From version 18 on.
    brought("idle_replication_slot_timeout", "0", "its slot is lost when it stays away as long as that"),
    ours("primary_conninfo", "", "it dials whom that names"),
    ours("primary_slot_name", "", "it uses another slot"),
    ours("hot_standby", "on", "nobody can read from it, or see how far it is"),
    ours("recovery_target_timeline", "latest", "it does not follow a promoted server"),
];

/// Returns what the table says of a parameter.
pub fn find(name: &str) -> Option<&'static Brought> {
    TABLE.iter().find(|one| one.name == name)
}

impl Brought {
    /// Says whether a value in base units does nothing.
    pub fn is_neutral(&self, setting: &Setting) -> bool {
        let unit = setting.unit.as_deref();
        is_same_value(self.neutral, &setting.setting, unit) || self.is_tolerable(&setting.setting, unit)
    }

    /// Says whether a value as written does nothing.
    pub(super) fn is_neutral_written(&self, value: &str, unit: Option<&str>) -> bool {
        value == self.neutral
            || !self.neutral.is_empty() && is_same_written(value, self.neutral, unit)
            || self.is_tolerable(value, unit)
    }

    fn is_tolerable(&self, value: &str, unit: Option<&str>) -> bool {
        self.at_most.is_some_and(|limit| is_at_most(value, limit, unit))
    }
}

/// Returns the settings that undo what the operator's files set. On a primary these do nothing yet: there they are set only
/// where that needs no restart.
pub(in crate::plan) fn undone(
    topology: &Topology,
    seen: Seen<'_>,
    base: &Base<'_>,
    is_primary: bool,
) -> Vec<ConfSetting> {
    let wanted = parameters::of_inventory(topology, seen.server);
    let acts = |one: &&Brought| {
        let unit = seen.instance.and_then(|instance| instance.settings.get(one.name)?.unit.as_deref());
        base.acts(one, unit) && !wanted.contains_key(one.name) && (!is_primary || is_free(seen, one.name))
    };
    let mut settings: Vec<ConfSetting> = Vec::new();
    for one in TABLE.iter().filter(|one| !one.is_ours).filter(acts) {
        settings.push(ConfSetting::because(one.name, one.neutral, "undoes what the files before this one set"));
    }
    settings
}

/// Says whether the value that undoes a setting comes into force without a restart. Settings that are not in the table always do.
pub(in crate::plan) fn is_free(seen: Seen<'_>, name: &str) -> bool {
    let in_force = seen.instance.and_then(|instance| instance.settings.get(name));
    find(name).zip(in_force).is_none_or(|(one, setting)| setting.context != "postmaster" || one.is_neutral(setting))
}

/// Returns what `ALTER SYSTEM` has set on a server that a copy is made of, and what would act on the copy: it travels along.
pub(in crate::plan) fn travels(topology: &Topology, seen: Seen<'_>, judged: &BTreeSet<String>) -> Vec<Diagnostic> {
    let Some(instance) = seen.instance else { return Vec::new() };
    let name = &seen.server.name;
    let wanted = parameters::of_inventory(topology, seen.server);
    let to_judge = TABLE.iter().filter(|one| !judged.contains(one.name) && !wanted.contains_key(one.name));
    let found = to_judge.filter_map(|one| {
        let unit = instance.settings.get(one.name).and_then(|setting| setting.unit.as_deref());
        let set = of_alter_system(instance, one.name).filter(|set| !one.is_neutral_written(&set.setting, unit))?;
        Some((one, set))
    });
    found
        .map(|(one, set)| {
            Diagnostic::error(Code::SettingOverridden, format!("server \"{name}\": ALTER SYSTEM has set {}", one.name))
                .server(name)
                .detail(format!(
                    "{} has {}. On a standby {}; it travels with every copy, and wins over every file.",
                    place(set),
                    set.setting,
                    one.acts
                ))
                .hint(format!("ALTER SYSTEM RESET {}; no reload is needed before the next run.", one.name))
        })
        .collect()
}

/// Returns what wins over every file on a primary and would act on its copies, or on itself once it is a standby. `judged` is
/// what was refused already.
pub(in crate::plan) fn refusals(topology: &Topology, seen: Seen<'_>, judged: &BTreeSet<String>) -> Vec<Diagnostic> {
    let Role::Primary(instance) = seen.state().role else { return Vec::new() };
    let name = &seen.server.name;
    let wanted = parameters::of_inventory(topology, seen.server);
    let mut refusals = travels(topology, seen, judged);
    for one in TABLE.iter().filter(|one| !judged.contains(one.name) && !wanted.contains_key(one.name)) {
        let setting = instance.settings.get(one.name);
        let set = setting.filter(|setting| setting.source == "command line" && !one.is_neutral(setting));
        if let Some(setting) = set {
            refusals.push(
                Diagnostic::error(
                    Code::SettingOnCommandLine,
                    format!("server \"{name}\": {} was set on the command line of the instance", one.name),
                )
                .server(name)
                .detail(format!("It has {}. Once this server is a standby, {}.", setting.setting, one.acts))
                .hint("Start the instance without it."),
            );
        }
    }
    refusals.extend(names_of_others(topology, seen, instance));
    refusals
}

/// Returns what the operator should know of settings that our file undoes on standbys, and of those that go along.
pub(in crate::plan) fn notes(seen: Seen<'_>, instance: &Instance) -> Vec<Diagnostic> {
    let name = &seen.server.name;
    let mut notes = Vec::new();
    for one in TABLE.iter().filter(|one| !one.is_ours) {
        let unit = instance.settings.get(one.name).and_then(|setting| setting.unit.as_deref());
        let Some(set) = of_files(instance, one.name).filter(|set| !one.is_neutral_written(&set.setting, unit)) else {
            continue;
        };
        notes.push(
            Diagnostic::warning(Code::StandbySetting, format!("server \"{name}\": {} is set", one.name))
                .detail(format!(
                    "{} has {}. On a standby {}: pgstead.conf takes it back there.",
                    place(set),
                    set.setting,
                    one.acts
                ))
                .hint("Take it out of that file, when nothing else needs it."),
        );
    }
    if let Some(set) = of_files(instance, "restore_command").filter(|set| !set.setting.is_empty()) {
        notes.push(
            Diagnostic::note(Code::RestoreCommand, format!("server \"{name}\": restore_command is set"))
                .detail(format!(
                    "{} has {}. Every standby asks that archive for WAL and for histories of timelines, before its upstream.",
                    place(set),
                    set.setting
                ))
                .hint("An archive that holds another server's timelines would lead standbys astray."),
        );
    }
    if let Some(set) = instance.file_settings.iter().rfind(|set| set.name == "archive_mode" && set.setting == "always")
    {
        notes.push(
            Diagnostic::note(Code::ArchiveModeAlways, format!("server \"{name}\": archive_mode is always"))
                .detail(format!(
                    "{} has it. Every standby archives what it receives, too, by the same archive_command. Where that refuses a file that is there already, it fails, and the standby keeps all WAL.",
                    place(set)
                ))
                .hint("archive_mode = on, unless each server has an archive of its own, or archive_command accepts a file that is there with the same content."),
        );
    }
    let parameter = "synchronous_standby_names";
    if let Some(set) = of_files(instance, parameter)
        && instance.settings.get(parameter).is_some_and(|setting| setting.setting == set.setting)
        && !set.setting.is_empty()
    {
        notes.push(
            Diagnostic::warning(Code::SyncNamesKept, format!("server \"{name}\": commits wait for standbys"))
                .detail(format!(
                    "{} has {parameter} = '{}'. It stays in force here; a standby that becomes the primary waits for nobody.",
                    place(set),
                    set.setting
                ))
                .hint("Promise it for every primary: replication.synchronous in the inventory."),
        );
    }
    notes
}

/// Says whether the operator's files name standbys that commits on this server would wait for, and do not yet: it was made a
/// copy of a primary with such names, which mean other servers there.
pub(in crate::plan) fn waits_for_others(seen: Seen<'_>, base: &Base<'_>) -> bool {
    let parameter = "synchronous_standby_names";
    let value = base.file_value(parameter).unwrap_or_default();
    let now = seen.instance.and_then(|instance| instance.settings.get(parameter));
    !value.is_empty() && now.is_none_or(|now| now.setting != value)
}

/// Names for which commits wait and that nobody here has: clients hang as soon as they commit, also behind a role change.
fn names_of_others(topology: &Topology, seen: Seen<'_>, instance: &Instance) -> Option<Diagnostic> {
    let name = &seen.server.name;
    let parameter = "synchronous_standby_names";
    let set = of_alter_system(instance, parameter).or_else(|| of_files(instance, parameter));
    let value = &instance.settings.get(parameter)?.setting;
    let from = set.map_or("Its command line".to_owned(), place);
    if let Some(wish) = topology.synchronous(name) {
        let wanted = synchronous_standby_names(&wish);
        let auto = of_alter_system(instance, parameter).filter(|auto| auto.setting != wanted)?;
        return Some(
            Diagnostic::error(Code::SettingOverridden, format!("server \"{name}\": ALTER SYSTEM has set {parameter}"))
                .server(name)
                .detail(format!("{} has {}; {wanted} is needed.", place(auto), auto.setting))
                .hint(format!("ALTER SYSTEM RESET {parameter}; SELECT pg_reload_conf();")),
        );
    }
    // Where our own file sets it, the inventory has just taken it back.
    let is_ours =
        instance.settings.get(parameter)?.sourcefile.as_deref().is_some_and(|file| file.ends_with("/pgstead.conf"));
    let wish = SyncNames::parse(value).filter(|_| !is_ours)?;
    let here = wish.there(|one| {
        topology.servers().any(|server| server.name != *name && server.name.as_str().eq_ignore_ascii_case(one))
            || instance.senders.iter().any(|sender| sender.application_name.eq_ignore_ascii_case(one))
    });
    (here < wish.count).then(|| {
        let undo = match set {
            Some(set) if set.file.ends_with("/postgresql.auto.conf") => format!("ALTER SYSTEM RESET {parameter};"),
            _ => format!("Take it out of that file: {parameter} = '';"),
        };
        Diagnostic::error(
            Code::SyncNamesForeign,
            format!("server \"{name}\": commits wait for standbys that do not exist"),
        )
        .server(name)
        .detail(format!(
            "{from} has {parameter} = '{value}'. It needs {}, and {here} of these names are servers of the inventory or stream now.",
            wish.count
        ))
        .hint(format!("{undo} SELECT pg_reload_conf(); For standbys of this topology: replication.synchronous."))
    })
}

/// What a value of `synchronous_standby_names` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncNames {
    /// For how many commits wait.
    pub count: usize,
    /// The names, as they are written, without quotes.
    pub names: Vec<String>,
}

impl SyncNames {
    /// Reads a value (manual, 20.6.2); `None` where it names nobody.
    pub fn parse(value: &str) -> Option<Self> {
        let text = value.trim();
        let (head, list) = match text.split_once('(') {
            Some((head, rest)) if !head.contains('"') => (head.trim(), rest.trim().trim_end_matches(')')),
            _ => ("", text),
        };
        let count = head.split_whitespace().last().and_then(|word| word.parse().ok()).unwrap_or(1);
        let mut names = vec![String::new()];
        let mut quoted = false;
        for c in list.chars() {
            match c {
                '"' => quoted = !quoted,
                ',' if !quoted => names.push(String::new()),
                c if c.is_whitespace() && !quoted => {}
                c => names.last_mut()?.push(c),
            }
        }
        names.retain(|name| !name.is_empty());
        (!names.is_empty()).then_some(Self { count, names })
    }

    /// Returns how many of the names are there; a `*` is whoever comes.
    pub fn there(&self, is_there: impl Fn(&str) -> bool) -> usize {
        self.names.iter().map(|name| if name == "*" { self.count } else { usize::from(is_there(name)) }).sum()
    }
}

/// Returns where something is set.
pub(in crate::plan) fn place(set: &FileSetting) -> String {
    match set.line {
        Some(line) => format!("{} line {line}", set.file),
        None => set.file.clone(),
    }
}

/// Says whether `ALTER SYSTEM` has set it.
pub(in crate::plan) fn is_of_alter_system(set: &FileSetting) -> bool {
    set.file.ends_with("/postgresql.auto.conf")
}

fn of_alter_system<'a>(instance: &'a Instance, name: &str) -> Option<&'a FileSetting> {
    instance.file_settings.iter().rfind(|set| is_of_alter_system(set) && set.name == name)
}

/// What the operator's files say last.
fn of_files<'a>(instance: &'a Instance, name: &str) -> Option<&'a FileSetting> {
    let is_theirs = |set: &&FileSetting| !is_of_alter_system(set) && !set.file.ends_with("/pgstead.conf");
    instance.file_settings.iter().rfind(|set| is_theirs(set) && set.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parameter::MANAGED_PARAMETERS;

    #[test]
    fn names_are_read_as_the_server_reads_them() {
        let parse = |value| SyncNames::parse(value).map(|all| (all.count, all.names.join("|")));
        assert_eq!(parse(""), None);
        assert_eq!(parse("old"), Some((1, "old".into())));
        assert_eq!(parse("a, \"b (c), d\""), Some((1, "a|b (c), d".into())));
        assert_eq!(parse("ANY 2 (s1, \"s 2\",s3)"), Some((2, "s1|s 2|s3".into())));
        assert_eq!(parse("2(a,b)"), Some((2, "a|b".into())));
        assert_eq!(parse("FIRST 1 (*)"), Some((1, "*".into())));
        assert_eq!(SyncNames::parse("FIRST 2 (*)").unwrap().there(|_| false), 2);
    }

    #[test]
    fn what_acts_on_a_standby_is_no_wish_of_an_inventory() {
        for one in TABLE {
            let is_managed = MANAGED_PARAMETERS.iter().any(|(name, _)| *name == one.name);
            let may_be_wished =
                ["recovery_min_apply_delay", "wal_retrieve_retry_interval", "idle_replication_slot_timeout"]
                    .contains(&one.name);
            assert!(is_managed != may_be_wished, "{}", one.name);
        }
    }
}

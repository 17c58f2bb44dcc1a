//! Adopts an existing primary and its standbys: why it cannot be done, and what the operator should know.
//!
//! Judges only; which files change is for `kept`, whose data it is for `ownership`.

pub mod elsewhere;
mod encryption;
mod lost;
pub mod places;
mod settings;
pub mod standby;
pub(super) mod values;

use std::collections::BTreeMap;
use std::path::Path;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::argv::Piece;
use crate::model::identity::Configuration;
use crate::model::name::ServerName;
use crate::model::observation::{FileSetting, Instance};
use crate::model::parameter::{HOT_STANDBY_PARAMETERS, is_same_value, is_same_written};
use crate::model::topology::{Authentication, Link, Topology};
use crate::pki;
use crate::plan::adoption::standby::{FormerSlot, Others};
use crate::plan::files::decided::Direction;
use crate::plan::files::desired::Wanted;
use crate::plan::files::{Entry, brought, kept, parameters, silent};
use crate::plan::seen::Seen;
use crate::render::hba::roles;
use crate::render::postgresql_conf::parse_settings;

/// Returns why a primary cannot be adopted as it is.
pub fn refusals(
    topology: &Topology,
    primary: Seen<'_>,
    wanted: &Wanted,
    servers: &BTreeMap<ServerName, Seen<'_>>,
) -> Vec<Diagnostic> {
    let Some(instance) = primary.instance else { return Vec::new() };
    let name = &primary.server.name;
    let mut refusals = overridden(topology, primary, wanted);
    refusals.extend(elsewhere(primary, instance));
    refusals.extend(foreign_roles(topology, instance));
    refusals.extend(certificate(topology, primary, instance));
    refusals.extend(revocation(topology, primary, instance));
    refusals.extend(not_in_force(primary));
    for standby in servers.values().filter(|seen| seen.data.is_none()) {
        let slot = standby.server.name.slot_name();
        if instance.slots.get(&slot).is_some_and(|row| row.active || row.slot_type != "physical") {
            refusals.push(
                Diagnostic::error(
                    Code::SlotInUse,
                    format!("server \"{name}\": slot \"{slot}\" is used by somebody else"),
                )
                .detail(format!("It would be the slot of standby \"{}\".", standby.server.name))
                .hint("Give the standby another name in the inventory, or the other consumer another slot."),
            );
        }
    }
    refusals.into_iter().map(|refusal| with_server(refusal, name)).collect()
}

pub(in crate::plan::adoption) fn with_server(diagnostic: Diagnostic, name: &ServerName) -> Diagnostic {
    if diagnostic.server.is_some() { diagnostic } else { diagnostic.server(name) }
}

/// Returns why our settings would have no effect: `ALTER SYSTEM` and the command line win over every file (hazard 30).
/// On a primary also why others would act on its copies.
pub fn overridden(topology: &Topology, seen: Seen<'_>, wanted: &Wanted) -> Vec<Diagnostic> {
    let Some(instance) = seen.instance else { return Vec::new() };
    let name = &seen.server.name;
    let mut refusals = Vec::new();
    let ours = our_settings(seen, wanted);
    let judged = ours.keys().cloned().collect();
    for (parameter, value) in ours {
        let unit = instance.settings.get(&parameter).and_then(|setting| setting.unit.as_deref());
        let of_auto = instance
            .file_settings
            .iter()
            .rfind(|setting| setting.file.ends_with("/postgresql.auto.conf") && setting.name == parameter);
        let is_in_the_way = |auto: &&FileSetting| {
            !is_same_written(&auto.setting, &value, unit) && !standby::is_taken_over(seen, &parameter)
        };
        if let Some(auto) = of_auto.filter(is_in_the_way) {
            refusals.push(
                Diagnostic::error(
                    Code::SettingOverridden,
                    format!("server \"{name}\": ALTER SYSTEM has set {parameter}"),
                )
                .server(name)
                .detail(format!(
                    "{} has {}; {} is needed.{}",
                    auto.file,
                    shown(&auto.setting),
                    shown(&value),
                    acts(&parameter)
                ))
                .hint(format!("ALTER SYSTEM RESET {parameter}; no reload is needed before the next run.")),
            );
        }
        let setting = instance.settings.get(&parameter).filter(|setting| setting.source == "command line");
        if let Some(setting) = setting.filter(|setting| !is_same_value(&value, &setting.setting, unit)) {
            refusals.push(
                Diagnostic::error(
                    Code::SettingOnCommandLine,
                    format!("server \"{name}\": {parameter} was set on the command line of the instance"),
                )
                .server(name)
                .detail(format!("It has {}; {value} is needed, and no file can change it.", shown(&setting.setting)))
                .hint("Move it into postgresql.conf and start the instance without it."),
            );
        }
    }
    refusals.extend(brought::refusals(topology, seen, &judged));
    if seen.joins() {
        refusals.extend(brought::travels(topology, seen, &judged));
    }
    refusals
}

/// What a standby must have at least as much of as its primary, and would get less of: it would not start (hazard 30). `ours` is what
/// our file sets on it; `is_brought` is whether this run brings that to the primary first.
pub fn needed_by_standbys(primary: Seen<'_>, ours: &BTreeMap<String, String>, is_brought: bool) -> Vec<Diagnostic> {
    let Some(instance) = primary.instance else { return Vec::new() };
    let name = &primary.server.name;
    let is_kept = primary.configuration == Configuration::Kept;
    let judge = |parameter: &&str| {
        let setting = instance.settings.get(*parameter)?;
        let of_ours = ours.get(*parameter);
        // What ALTER SYSTEM sets comes along with every copy; of files, those of the operator do.
        let comes_along = |set: &&FileSetting| {
            set.name.eq_ignore_ascii_case(parameter)
                && (brought::is_of_alter_system(set) || is_kept && of_ours.is_none())
        };
        let set = instance.file_settings.iter().rfind(comes_along);
        let has = set.map(|set| set.setting.as_str()).or(of_ours.map(String::as_str)).or(setting.boot.as_deref());
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let is_enough = has.and_then(number).zip(number(&setting.setting)).is_some_and(|(has, needed)| has >= needed);
        if is_enough || is_brought && of_ours.is_some() && (is_kept || set.is_none()) {
            return None;
        }
        let has = has.unwrap_or("another value");
        // Files that pgstead writes whole say everything: what the inventory no longer sets has its default on a copy.
        if set.is_none() && (of_ours.is_some() || !is_brought && !is_kept && setting.boot.is_some()) {
            let message = format!("server \"{name}\": {parameter} of the inventory is lower than what it runs with");
            return Some(Diagnostic::error(Code::LowerSettingWaits, message)
                .server(name)
                .detail(format!("It has {}, and the inventory says {has}. A standby would get {has}, must have at least as many as the primary, and would not start.", setting.setting))
                .hint(format!("Leave {} in the inventory until this server is back; then pgstead bootstrap lowers it everywhere, in the order that standbys need.", setting.setting)));
        }
        if setting.source == "command line" {
            let message = format!("server \"{name}\": {parameter} was set on the command line of the instance");
            return Some(Diagnostic::error(Code::SettingOnCommandLine, message)
                .server(name)
                .detail(format!("It has {}; a standby must have at least as many, and would get {has} from the files: it would not start.", setting.setting))
                .hint("Set it in postgresql.conf, too, or in place of the option; no restart is needed before the next run."));
        }
        // What no file sets comes from elsewhere, such as the environment, and no value of it waits for anything.
        let set = set?;
        let message = format!("server \"{name}\": {parameter} was lowered and the instance not restarted since");
        Some(Diagnostic::error(Code::LowerSettingWaits, message)
            .server(name)
            .detail(format!("It has {}, and {} says {has}. A standby would get {has}, must have at least as many as the primary, and would not start.", setting.setting, brought::place(set)))
            .hint(format!("Restart the instance first, or write {} there until you do.", setting.setting)))
    };
    HOT_STANDBY_PARAMETERS.iter().filter_map(judge).collect()
}

/// What a setting does on a standby, where it does nothing here.
fn acts(parameter: &str) -> String {
    brought::find(parameter).map_or(String::new(), |one| format!(" On a standby {}.", one.acts))
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "an empty value" } else { value }
}

/// Returns the settings of our file.
pub fn our_settings(seen: Seen<'_>, wanted: &Wanted) -> BTreeMap<String, String> {
    let path = kept::settings_file(seen.layout, seen.configuration);
    let entries = wanted.outside.iter().chain(&wanted.inside);
    let text = entries.filter_map(|entry| match entry {
        Entry::File { path: at, content: Piece::Text(text), .. } if *at == path => Some(text.as_str()),
        _ => None,
    });
    text.map(parse_settings).next().unwrap_or_default()
}

/// Configuration files that are not where the layout has them.
fn files_elsewhere(seen: Seen<'_>, instance: &Instance) -> Vec<Diagnostic> {
    let (name, layout) = (&seen.server.name, seen.layout);
    let mut refusals = Vec::new();
    let runs_on = instance.settings.get("data_directory").map(|setting| setting.setting.trim_end_matches('/'));
    // A place that is a link is told by either name.
    let is_here = |path: &str| [layout.data_directory.as_str(), layout.place()].contains(&path);
    if let Some(elsewhere) = runs_on.filter(|path| !is_here(path)) {
        refusals.push(
            Diagnostic::error(
                Code::ConfigurationElsewhere,
                format!("server \"{name}\": its instance runs on data directory {elsewhere}"),
            )
            .detail(format!(
                "The data directory that was looked at is {}: the instance would run on that one after its next restart.",
                layout.data_directory
            ))
            .hint(format!("Name the one on which it runs in the inventory, servers.{name}.data_directory; or start the instance on the other, if that has the data that count.")),
        );
    }
    for (parameter, file) in
        [("config_file", "postgresql.conf"), ("hba_file", "pg_hba.conf"), ("ident_file", "pg_ident.conf")]
    {
        let expected = [layout.config_home(), "/", file].concat();
        if let Some(found) = instance.settings.get(parameter).filter(|setting| setting.setting != expected) {
            refusals.push(
                Diagnostic::error(
                    Code::ConfigurationElsewhere,
                    format!("server \"{name}\": {parameter} is {}", found.setting),
                )
                .detail(format!("In this layout it is {expected}, and so it will be on every standby."))
                .hint("Move the file there and restart the instance once without that setting."),
            );
        }
    }
    refusals
}

/// The same, and included ones that a standby would not have.
fn elsewhere(primary: Seen<'_>, instance: &Instance) -> Vec<Diagnostic> {
    let (name, layout) = (&primary.server.name, primary.layout);
    let mut refusals = files_elsewhere(primary, instance);
    let below = |path: &str, home: &str| Path::new(path).starts_with(home);
    let silent: Vec<String> = silent::includes(primary).into_iter().map(|silent| silent.path).collect();
    for path in instance.included_files.keys().chain(&silent) {
        if !below(path, layout.config_home()) && !below(path, &layout.data_directory) {
            refusals.push(
                Diagnostic::error(
                    Code::IncludedElsewhere,
                    format!("server \"{name}\": the configuration includes {path}"),
                )
                .detail("A standby has no such file, and would not start.")
                .hint(format!("Move it below {}.", layout.config_home())),
            );
        }
    }
    refusals
}

/// A list of revoked certificates: an instance that has one lets in no certificate of a CA that has none there, and the topology's CA
/// is its own.
fn revocation(topology: &Topology, primary: Seen<'_>, instance: &Instance) -> Vec<Diagnostic> {
    let wished = parameters::of_inventory(topology, primary.server);
    let of_files = |parameter: &&str| {
        let set = instance.file_settings.iter().rfind(|set| set.name.eq_ignore_ascii_case(parameter))?;
        (!set.setting.is_empty() && !wished.contains_key(*parameter)).then_some(set)
    };
    let refusal = |set: &FileSetting| {
        Diagnostic::error(Code::CrlOfOthers, format!("{} names {}", set.name, set.setting))
            .detail(format!("{} has it. An instance with such a list refuses every certificate of a CA that has none in it: those of pgstead, which the topology's CA issues, among them.", brought::place(set)))
            .hint("Take it out of that file, then: SELECT pg_reload_conf(); A list that the topology's CA signed belongs into the inventory: postgres.parameters.")
    };
    ["ssl_crl_file", "ssl_crl_dir"].iter().filter_map(of_files).map(refusal).collect()
}

/// Edits that the instance has not read: the reload of an adoption would put them into force.
fn not_in_force(primary: Seen<'_>) -> Option<Diagnostic> {
    let waiting = primary.state().waits_for_reload().iter();
    let files: Vec<&str> = waiting.map(String::as_str).filter(|file| !standby::written_by_us(primary, file)).collect();
    let files = files.join(", ");
    (!files.is_empty()).then(|| {
        Diagnostic::error(Code::EditNotInForce, "configuration files were changed after they were last read")
            .detail(format!("{files}. The reload of the adoption would put these changes into force."))
            .hint("If they are meant: SELECT pg_reload_conf(); else take them back. Then run again.")
    })
}

/// Roles that have the names of ours and were made by somebody else.
fn foreign_roles(topology: &Topology, instance: &Instance) -> Vec<Diagnostic> {
    let by_password = topology.common().replication.authentication == Authentication::ScramSha256;
    let foreign =
        |role: &str| instance.roles.get(role).filter(|row| row.comment.as_deref() != Some(kept::ROLE_COMMENT)).cloned();
    let mut refusals = Vec::new();
    for role in [roles::OPERATOR, roles::REWIND] {
        if foreign(role).is_some() {
            refusals.push(
                Diagnostic::error(Code::RoleExists, format!("role \"{role}\" exists and was not made by pgstead"))
                    .detail("It would get privileges and HBA records of its own.")
                    .hint(format!("If nobody needs it: ALTER ROLE {role} RENAME TO {role}_old;")),
            );
        }
    }
    if let Some(row) = foreign(roles::REPLICATOR) {
        let role = roles::REPLICATOR;
        if !row.replication || !row.login {
            refusals.push(
                Diagnostic::error(Code::RoleUnsuitable, format!("role \"{role}\" exists and may not replicate"))
                    .detail("Standbys connect as this role.")
                    .hint(format!("ALTER ROLE {role} LOGIN REPLICATION; or rename it.")),
            );
        } else if by_password {
            refusals.push(
                Diagnostic::error(Code::RoleExists, format!("role \"{role}\" exists, with a password of its own"))
                    .detail("Its password would be replaced, and whoever uses it could not connect any more.")
                    .hint("Set replication.authentication: certificate, which needs no password; or rename the role."),
            );
        }
    }
    refusals
}

/// A certificate that clients may verify today is not replaced without consent.
fn certificate(topology: &Topology, primary: Seen<'_>, instance: &Instance) -> Option<Diagnostic> {
    let facts = pki::parse_certificate(served(primary, instance)?).ok()?;
    if facts.is_self_issued || topology.common().replace_certificate {
        return None;
    }
    Some(
        Diagnostic::error(
            Code::CertificateInUse,
            format!("server \"{}\" serves a certificate of CA \"{}\"", primary.server.name, facts.issuer_cn),
        )
        .detail("Its place is taken by one of the topology's CA. A client that verifies the server's certificate could not connect any more until it trusts that CA.")
        .hint("Give such clients the topology's CA certificate first (pgstead render shows it), then set postgres.replace_certificate: true."),
    )
}

/// The certificate that is served now and is not ours.
fn served<'a>(primary: Seen<'_>, instance: &'a Instance) -> Option<&'a str> {
    let file = instance.settings.get("ssl_cert_file")?;
    (file.setting != primary.layout.own("tls/server.crt")).then_some(())?;
    instance.certificate.as_deref()
}

/// Says that the certificate that is served goes.
fn replaced_certificate(seen: Seen<'_>, instance: &Instance) -> Option<Diagnostic> {
    served(seen, instance)?;
    let message = format!("server \"{}\": the certificate that it serves is replaced", seen.server.name);
    Some(
        Diagnostic::warning(Code::CertificateReplaced, message)
            .detail("Clients that verify it (sslmode verify-ca or verify-full) must trust the topology's CA."),
    )
}

/// Says which settings of the operator's wait for a restart, besides those for which one is planned.
pub fn waiting(primary: Seen<'_>, planned: &[(String, Direction)]) -> Option<Diagnostic> {
    let name = &primary.server.name;
    let mut waiting = primary.state().waits_for_restart();
    waiting.retain(|one| !planned.iter().any(|(name, _)| name == one));
    (!waiting.is_empty()).then(|| {
        Diagnostic::warning(Code::RestartWaits, format!("server \"{name}\": settings of its own wait for a restart"))
            .server(name)
            .detail(format!(
                "They are {}. The next restart, whoever does it, puts them into force.",
                waiting.join(", ")
            ))
    })
}

/// Returns what the operator should know about an adoption that is not refused.
pub fn notes(primary: Seen<'_>, others: Others<'_>, links: &[Link]) -> Vec<Diagnostic> {
    let Some(instance) = primary.instance else { return Vec::new() };
    let name = &primary.server.name;
    let mut notes = vec![
        Diagnostic::note(
            Code::Adopted,
            format!("server \"{name}\" has an existing primary, which is adopted as it is"),
        )
        .detail("Its configuration stays the operator's; pgstead adds an included file and marked parts."),
    ];
    if primary.data.and_then(|data| data.control.known()).is_some_and(|control| control.checksum_version == 0) {
        notes.push(
            Diagnostic::warning(Code::ChecksumsOff, format!("server \"{name}\": its data has no page checksums"))
                .detail("Damaged pages are not noticed when they are read (hazard 12).")
                .hint("pg_checksums --enable, on every server while all are stopped."),
        );
    }
    notes.extend(replaced_certificate(primary, instance));
    notes.extend(brought::notes(primary, instance));
    notes.extend(waiting(primary, &[]));
    let is_of_one = |slot: &String| {
        let mut joining =
            links.iter().filter(|link| others.servers.get(&link.standby).is_some_and(|seen| seen.joins()));
        joining.any(|link| link.upstream == *name && link.standby.slot_name() == *slot)
    };
    let joining =
        links.iter().filter_map(|link| Some((others.servers.get(&link.standby).filter(|seen| seen.joins())?, link)));
    let former: Vec<FormerSlot> = joining.filter_map(|(seen, link)| others.former_slot(*seen, link)).collect();
    let is_former = |slot: &String| former.iter().any(|one| one.upstream == *name && one.name == *slot);
    for (slot, row) in instance.slots.iter().filter(|(slot, _)| !is_former(slot) && !is_of_one(slot)) {
        let active = if row.active { "active" } else { "inactive" };
        notes.push(
            Diagnostic::note(Code::ForeignSlot, format!("server \"{name}\": slot \"{slot}\" is not pgstead's"))
                .detail(format!("It is {active}. From now on max_slot_wal_keep_size limits the WAL that it holds.")),
        );
    }
    for sender in instance.senders.iter().filter(|sender| !others.is_of_one_that_joins(name, sender)) {
        notes.push(
            Diagnostic::note(
                Code::ForeignSender,
                format!("server \"{name}\": \"{}\" receives WAL and is not pgstead's", sender.application_name),
            )
            .detail(format!("It comes from {}.", sender.client_addr.as_deref().unwrap_or("a local socket"))),
        );
    }
    notes.into_iter().map(|note| note.server(name)).collect()
}

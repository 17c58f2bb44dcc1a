//! The configuration of servers whose files are the operator's own: an adopted primary, and the standbys copied from it.
//!
//! Ours is one included file, read last, and marked parts of the HBA and ident files. Nothing that a client can do today
//! stops working, so only what replication needs is set, and only where the operator's own files do not set it already.

use std::net::IpAddr;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::identity::Configuration;
use crate::model::layout::Layout;
use crate::model::observed::Observed;
use crate::model::topology::Topology;
use crate::plan::files::base::Base;
use crate::plan::files::marked::Marked;
use crate::plan::files::parameters::ConfRole;
use crate::plan::files::{Entry, Keeper, brought, marked, parameters, silent};
use crate::plan::seen::Seen;
use crate::render::RenderError;
use crate::render::hba::{Access, roles};
use crate::render::postgresql_conf::{ConfSetting, PostgresqlConf, Section};

/// The name of our file beside the operator's `postgresql.conf`.
pub const FILE: &str = "pgstead.conf";

/// The line by which the operator's file reads ours, after everything else.
const INCLUDE: &str = "include 'pgstead.conf'\n";

/// The comment of roles that pgstead made beside others: no HBA record of the operator's lets anybody in as them.
pub const ROLE_COMMENT: &str = "made by pgstead";

/// Returns the configuration files of one server.
///
/// # Errors
/// A file cannot be read, or the primary does not run, so that nobody knows what its files say.
pub fn configuration(
    topology: &Topology,
    seen: Seen<'_>,
    primary: Option<Seen<'_>>,
    listen: &[IpAddr],
    access: &Access,
    role: &ConfRole,
) -> Result<Vec<Entry>, Diagnostic> {
    let (server, layout) = (seen.server, seen.layout);
    let source = if seen.data.is_some() { seen } else { primary.unwrap_or(seen) };
    let broken = |error: RenderError| Diagnostic::error(Code::Template, error.to_string()).server(&server.name);
    let path = |name: &str| [layout.config_home(), "/", name].concat();
    let (owner, mode) = owner_and_mode(seen, source, "postgresql.conf");
    let observed = |name: &str| seen.seen.files.get(&path(name)).and_then(Observed::known)?.content.clone();
    // A server that has data has files of its own, and what they say besides ours nobody knows while it does not run: then what ours
    // says stays. Those of a copy to be made say what the primary's do.
    let own = Some(seen).filter(|seen| seen.data.is_some()).and_then(Base::of);
    let base = match (own, primary.and_then(Base::of)) {
        (None, Some(of_primary)) if seen.data.is_some() => {
            let ours = observed(FILE).ok_or_else(|| lost(seen, &path(FILE)))?;
            Some(of_primary.stopped(seen, &ours))
        }
        (own, of_primary) => own.or(of_primary),
    };

    let ours = match &base {
        Some(base) => conf(topology, seen, base, listen, role).render().map_err(broken)?,
        None => observed(FILE).ok_or_else(|| {
            Diagnostic::error(
                Code::PrimaryNotRunning,
                format!("server \"{}\": its settings depend on those of the primary, which does not run", server.name),
            )
            .server(&server.name)
            .hint("Start the primary's instance and run again.")
        })?,
    };
    let mut entries = vec![Entry::text(path(FILE), &owner, &mode, ours)];
    let reserved = reserved_roles(primary);
    let hba = access.render_hba_part(&reserved).map_err(broken)?;
    let ident = access.render_ident_part().map_err(broken)?;
    for (name, before, behind) in [
        ("postgresql.conf", String::new(), INCLUDE.to_owned()),
        ("pg_hba.conf", hba, access.records()),
        ("pg_ident.conf", String::new(), ident),
    ] {
        let own = own_text(source, name)?;
        let text = marked::compose(&before, &own.own, &behind);
        let ours = [before, behind].concat();
        let (owner, mode) = owner_and_mode(seen, source, name);
        let (text, keeper) = if seen.data.is_none() {
            let shown = ["# As on the primary, with pgstead's part:\n", &ours].concat();
            (text, Keeper::Copied { shown })
        } else {
            let now: String = own.parts.iter().map(|part| part.text.as_str()).collect();
            // A file whose marks are damaged is compared as it is, and refused.
            let text = if own.damaged { observed(name).unwrap_or_default() } else { text };
            (text, Keeper::Operator { before: now, after: ours })
        };
        entries.push(Entry::kept(path(name), &owner, &mode, text, keeper));
    }
    if seen.data.is_none() {
        entries.extend(included(seen, source, &owner, &mode));
    }
    Ok(entries)
}

/// Nothing tells what our file said on a server that does not run.
fn lost(seen: Seen<'_>, path: &str) -> Diagnostic {
    let name = &seen.server.name;
    Diagnostic::error(Code::ConfigurationUnreadable, format!("server \"{name}\": could not read {path}"))
        .server(name)
        .detail("Its instance does not run, and nothing else tells what pgstead set there beside the operator's own files.")
        .hint(format!(
            "Put that file back as it was. If it is lost, copy the server anew: pgstead reseed {name} --method basebackup"
        ))
}

/// The operator's text of one file, and our parts of it.
struct Own {
    own: String,
    parts: Vec<marked::Part>,
    damaged: bool,
}

fn own_text(source: Seen<'_>, name: &str) -> Result<Own, Diagnostic> {
    let path = [source.layout.config_home(), "/", name].concat();
    let server = &source.server.name;
    let unreadable = |why: &str| {
        Diagnostic::error(Code::ConfigurationUnreadable, format!("server \"{server}\": could not read {path}"))
            .server(server)
            .detail(why.to_owned())
    };
    match source.seen.files.get(&path).map(Observed::look) {
        Some(Ok(Some(fact))) => {
            let text = fact.content.as_deref().unwrap_or_default();
            Ok(match marked::parse(text) {
                Ok(Marked { own, parts }) => Own { own, parts, damaged: false },
                Err(_) => Own { own: text.to_owned(), parts: Vec::new(), damaged: true },
            })
        }
        Some(Ok(None)) if name == "pg_ident.conf" => Ok(Own { own: String::new(), parts: Vec::new(), damaged: false }),
        Some(Err(why)) => Err(unreadable(why)),
        _ => Err(unreadable("It is not there.")),
    }
}

/// What the primary's own files include, for a server that has none: below its directory of configuration files, where
/// that is outside the data directory. What lies inside the data directory comes with the base backup.
fn included(seen: Seen<'_>, source: Seen<'_>, owner: &str, mode: &str) -> Vec<Entry> {
    let (Some(from), Some(to)) = (&source.layout.config_directory, &seen.layout.config_directory) else {
        return Vec::new();
    };
    let files = source.instance.into_iter().flat_map(|instance| &instance.included_files);
    let below = files.filter_map(|(path, text)| Some((path.strip_prefix(from.as_str())?.strip_prefix('/')?, text)));
    let mut entries = Vec::new();
    for (path, text) in below {
        let to = [to.as_str(), "/", path].concat();
        if let Some((directory, _)) = to.rsplit_once('/') {
            entries.push(Entry::directory(directory, owner, "0755"));
        }
        let shown = "# As on the primary.\n".to_owned();
        entries.push(Entry::kept(to, owner, mode, text, Keeper::Copied { shown }));
    }
    for silent in silent::includes(source) {
        let Some(path) = silent.path.strip_prefix(from.as_str()).and_then(|rest| rest.strip_prefix('/')) else {
            continue;
        };
        let to = [to.as_str(), "/", path].concat();
        if silent.is_directory {
            entries.push(Entry::directory(to, owner, "0755"));
        } else {
            if let Some((directory, _)) = to.rsplit_once('/') {
                entries.push(Entry::directory(directory, owner, "0755"));
            }
            let text = "# There is no setting in it on the primary.\n".to_owned();
            entries.push(Entry::kept(to, owner, mode, text.clone(), Keeper::Copied { shown: text }));
        }
    }
    entries
}

/// A file keeps its owner and its mode; one that comes from the primary has the mode that it has there, which is the
/// distribution's or the operator's wish.
fn owner_and_mode(seen: Seen<'_>, source: Seen<'_>, name: &str) -> (String, String) {
    let path = [source.layout.config_home(), "/", name].concat();
    let fact = source.seen.files.get(&path).and_then(Observed::known);
    let mode = fact.map(|fact| fact.mode.clone()).filter(|mode| !mode.is_empty());
    let owner = fact.filter(|_| seen.data.is_some()).map(|fact| fact.owner.clone());
    (
        owner.unwrap_or_else(|| [&seen.layout.os_user, ":"].concat()),
        mode.unwrap_or_else(|| seen.layout.configuration_mode(name).to_owned()),
    )
}

/// The roles that are ours alone: those that are not there yet, and those whose comment says so.
fn reserved_roles(primary: Option<Seen<'_>>) -> Vec<&'static str> {
    let instance = primary.and_then(|primary| primary.instance);
    let ours = |role: &&str| match instance.and_then(|instance| instance.roles.get(*role)) {
        Some(row) => row.comment.as_deref() == Some(ROLE_COMMENT),
        // Without an instance nobody knows; then no record is changed either.
        None => true,
    };
    [roles::OPERATOR, roles::REPLICATOR, roles::REWIND].into_iter().filter(ours).collect()
}

/// What our file sets.
fn conf(topology: &Topology, seen: Seen<'_>, base: &Base<'_>, listen: &[IpAddr], role: &ConfRole) -> PostgresqlConf {
    let (server, layout) = (seen.server, seen.layout);
    let unless_said = |settings: Vec<ConfSetting>, values: &[(&str, &str)]| -> Vec<ConfSetting> {
        let said = |name: &str| values.iter().any(|(other, value)| *other == name && base.says(name, value));
        settings.into_iter().filter(|setting| !said(&setting.name)).collect()
    };
    let mut places = parameters::places(layout);
    places.push(("port", server.port.to_string()));
    places.push(("unix_socket_directories", socket_directories(base, layout)));
    let settings = places.iter().map(|(name, value)| ConfSetting::new(*name, value)).collect();
    let said: Vec<(&str, &str)> = places.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut connections = unless_said(settings, &said);
    let is_primary = matches!(role, ConfRole::Primary(_));
    connections.extend(
        listen_addresses(seen, base, listen, is_primary).map(|value| ConfSetting::new("listen_addresses", value)),
    );
    connections.extend(parameters::tls(layout));

    let cap = topology.common().replication.max_slot_wal_keep_size.as_str();
    let mut replication = unless_said(
        vec![
            ConfSetting::new("hot_standby", "on"),
            ConfSetting::because("max_slot_wal_keep_size", cap, "a lost standby cannot fill this disk"),
            ConfSetting::new("recovery_target_timeline", "latest"),
        ],
        &[("hot_standby", "on"), ("max_slot_wal_keep_size", cap), ("recovery_target_timeline", "latest")],
    );
    // What does nothing on a primary is no reason to restart one.
    replication.retain(|setting| !is_primary || brought::is_free(seen, &setting.name));
    if base.written("wal_level").map_or_else(|| base.says("wal_level", "minimal"), |written| written.is_some()) {
        replication.push(ConfSetting::new("wal_level", "replica"));
    }
    if !base.checksums && !base.says("wal_log_hints", "on") {
        replication.push(ConfSetting::because("wal_log_hints", "on", "without data checksums pg_rewind needs it"));
    }
    let needed = 2 * topology.servers().count() + 4;
    for name in ["max_wal_senders", "max_replication_slots"] {
        if base.has_fewer(name, needed) {
            replication.push(ConfSetting::because(name, needed.to_string(), "every server can serve all others"));
        }
    }
    let undone = brought::undone(topology, seen, base, is_primary);
    for setting in parameters::link_defaults(topology) {
        if !base.sets(&setting.name) && undone.iter().all(|one| one.name != setting.name) {
            replication.push(setting);
        }
    }
    replication.extend(undone);
    let role = match role {
        ConfRole::Primary(names) => Section {
            title: "This server is the primary",
            settings: (!names.is_empty() || brought::waits_for_others(seen, base))
                .then(|| ConfSetting::new("synchronous_standby_names", names))
                .into_iter()
                .collect(),
        },
        standby => parameters::role_section(standby),
    };
    let mut sections = vec![
        Section { title: "Connections: TLS for replication and for every client that wants it", settings: connections },
        Section { title: "Replication", settings: replication },
        role,
    ];
    let own = parameters::of_inventory(topology, server);
    if !own.is_empty() {
        let settings = own.into_iter().map(|(name, value)| ConfSetting::new(name, value)).collect();
        sections.push(Section { title: "From the inventory", settings });
    }
    sections.retain(|section| !section.settings.is_empty());
    PostgresqlConf {
        file: FILE,
        server: server.name.to_string(),
        topology: topology.name().to_string(),
        sections,
        include_dir: None,
    }
}

/// Local clients find the socket where the operator's files put it; pgstead where the layout has it.
fn socket_directories(base: &Base<'_>, layout: &Layout) -> String {
    let value = base.value("unix_socket_directories").unwrap_or_default();
    // /var/run is a link to /run wherever systemd runs.
    let real = |path: &str| path.trim().replacen("/var/run/", "/run/", 1);
    let has = value.split(',').any(|directory| real(directory) == real(&layout.socket_directory));
    let added = [value, &layout.socket_directory];
    if has {
        value.to_owned()
    } else {
        added.iter().filter(|one| !one.is_empty()).copied().collect::<Vec<_>>().join(", ")
    }
}

/// What must be listened on besides what is: `None` where the operator's own value has it all. Nothing is taken away but,
/// on a standby, addresses of the primary that this server does not have.
fn listen_addresses(seen: Seen<'_>, base: &Base<'_>, wanted: &[IpAddr], is_primary: bool) -> Option<String> {
    if base.written("listen_addresses") == Some(None) {
        return None;
    }
    let value = base.value("listen_addresses").unwrap_or("localhost");
    let all: Vec<&str> = value.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
    let is_foreign = |entry: &&str| {
        entry.parse::<IpAddr>().is_ok_and(|ip| {
            !is_primary && !ip.is_unspecified() && !ip.is_loopback() && !seen.seen.addresses.contains(&ip)
        })
    };
    let kept: Vec<&str> = all.iter().copied().filter(|entry| !is_foreign(entry)).collect();
    let has = |ip: &IpAddr| {
        kept.iter().any(|entry| match entry.parse::<IpAddr>() {
            Ok(own) => own == *ip || own.is_unspecified() && own.is_ipv4() == ip.is_ipv4(),
            // A name is not resolved here; of this one alone the meaning is known.
            Err(_) => *entry == "*" || *entry == "localhost" && *ip == IpAddr::from([127, 0, 0, 1]),
        })
    };
    let missing: Vec<String> = wanted.iter().filter(|ip| !has(ip)).map(IpAddr::to_string).collect();
    // What our file adds to the operator's own goes on being added.
    if missing.is_empty() && kept.len() == all.len() && base.written("listen_addresses").is_none() {
        return None;
    }
    let entries: Vec<String> = kept.into_iter().map(str::to_owned).chain(missing).collect();
    Some(entries.join(","))
}

/// Returns the path of the file that holds our settings on a server.
pub fn settings_file(layout: &Layout, configuration: Configuration) -> String {
    let name = match configuration {
        Configuration::Written => "postgresql.conf",
        Configuration::Kept => FILE,
    };
    [layout.config_home(), "/", name].concat()
}

//! Which value every parameter of a server has (design, section 8).

use std::collections::BTreeMap;

use crate::model::layout::{Layout, LayoutKind};
use crate::model::topology::{Server, Synchronous, SynchronousMode, Topology};
use crate::quote::sql;
use crate::render::postgresql_conf::{ConfSetting, PostgresqlConf, Section};

/// The role of a server in the file that is rendered for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfRole {
    /// It accepts writes. The text is the value of `synchronous_standby_names`; empty is off.
    Primary(String),
    /// It streams.
    Standby {
        /// `primary_conninfo`.
        conninfo: String,
        /// `primary_slot_name`.
        slot: String,
    },
}

/// Settings that an inventory may override.
pub fn defaults(topology: &Topology) -> Vec<ConfSetting> {
    // A standby holds one walsender, a base backup two more. Rounded up, so that adding a standby needs no restart.
    let servers = topology.servers().count();
    let senders = (2 * servers + 8).next_multiple_of(32).to_string();
    let mut settings = vec![
        ConfSetting::because("max_wal_senders", &senders, "the same everywhere, with room for more standbys"),
        ConfSetting::because("max_replication_slots", &senders, "one for each link, in every role"),
        ConfSetting::because("tcp_keepalives_idle", "30", "seconds; a dead peer on a WAN is noticed"),
        ConfSetting::new("tcp_keepalives_interval", "10"),
        ConfSetting::new("tcp_keepalives_count", "3"),
        ConfSetting::new("hot_standby_feedback", "off"),
        ConfSetting::new("timezone", "Etc/UTC"),
        ConfSetting::new("log_timezone", "Etc/UTC"),
    ];
    settings.extend(link_defaults(topology));
    settings
}

/// Defaults that concern links alone: no client notices them.
pub fn link_defaults(topology: &Topology) -> Vec<ConfSetting> {
    let mut settings = vec![
        ConfSetting::because("wal_keep_size", "512MB", "so that a short outage needs no re-seed"),
        ConfSetting::because("wal_retrieve_retry_interval", "500ms", "a standby finds a new upstream quickly"),
        ConfSetting::new("wal_sender_timeout", "30s"),
        ConfSetting::new("wal_receiver_timeout", "30s"),
        ConfSetting::new("wal_receiver_status_interval", "1s"),
        ConfSetting::new("log_replication_commands", "on"),
    ];
    if topology.common().version.has_wal_summarizer() {
        settings.push(ConfSetting::because("summarize_wal", "on", "a later re-seed can copy changed blocks only"));
    }
    settings
}

/// Returns the value of `synchronous_standby_names`, with names quoted (hazard 53).
pub fn synchronous_standby_names(wish: &Synchronous) -> String {
    let mode = match wish.mode {
        SynchronousMode::Any => "ANY",
        SynchronousMode::First => "FIRST",
    };
    let names: Vec<String> = wish.standbys.iter().map(|name| sql::identifier(name.as_str())).collect();
    [mode, " ", &wish.count.to_string(), " (", &names.join(", "), ")"].concat()
}

/// Returns where a server's files are, as far as its layout keeps them outside the data directory.
pub fn places(layout: &Layout) -> Vec<(&'static str, String)> {
    let Some(directory) = &layout.config_directory else { return Vec::new() };
    let mut places = vec![
        ("data_directory", layout.data_directory.clone()),
        ("hba_file", [directory, "/pg_hba.conf"].concat()),
        ("ident_file", [directory, "/pg_ident.conf"].concat()),
    ];
    if let (LayoutKind::Debian, Some(cluster)) = (layout.kind, directory.strip_prefix("/etc/postgresql/")) {
        // The service looks for this one.
        places.push(("external_pid_file", ["/var/run/postgresql/", &cluster.replacen('/', "-", 1), ".pid"].concat()));
    }
    places
}

/// Returns the settings of TLS: every server proves itself with a certificate of the topology's CA.
pub fn tls(layout: &Layout) -> Vec<ConfSetting> {
    vec![
        ConfSetting::new("ssl", "on"),
        ConfSetting::new("ssl_ca_file", layout.own("ca.crt")),
        ConfSetting::new("ssl_cert_file", layout.own("tls/server.crt")),
        ConfSetting::new("ssl_key_file", layout.own("tls/server.key")),
    ]
}

/// Returns the section of a role.
pub fn role_section(role: &ConfRole) -> Section {
    match role {
        ConfRole::Primary(synchronous) => Section {
            title: "This server is the primary",
            settings: vec![ConfSetting::new("synchronous_standby_names", synchronous)],
        },
        ConfRole::Standby { conninfo, slot } => Section {
            title: "This server is a standby",
            settings: vec![
                ConfSetting::new("primary_conninfo", conninfo),
                ConfSetting::new("primary_slot_name", slot),
                ConfSetting::new("synchronous_standby_names", ""),
            ],
        },
    }
}

/// Returns the parameters that the inventory gives a server: its own before those of all.
pub fn of_inventory<'a>(topology: &'a Topology, server: &'a Server) -> BTreeMap<&'a str, &'a String> {
    let mut own: BTreeMap<&str, &String> = BTreeMap::new();
    for parameters in [&topology.common().parameters, &server.parameters] {
        own.extend(parameters.iter().map(|(name, value)| (name.as_str(), value)));
    }
    own
}

/// Returns the whole `postgresql.conf` of a server.
pub fn postgresql_conf(
    topology: &Topology,
    server: &Server,
    layout: &Layout,
    listen: &[String],
    role: &ConfRole,
) -> PostgresqlConf {
    let mut sections = Vec::new();
    if layout.config_directory.is_some() {
        let setting = |(name, value): (&'static str, String)| match name {
            "external_pid_file" => ConfSetting::because(name, value, "the service looks for it"),
            _ => ConfSetting::new(name, value),
        };
        sections.push(Section { title: "Files", settings: places(layout).into_iter().map(setting).collect() });
    }
    let mut connections = vec![
        ConfSetting::new("listen_addresses", listen.join(",")),
        ConfSetting::new("port", server.port.to_string()),
        ConfSetting::new("unix_socket_directories", &layout.socket_directory),
    ];
    connections.extend(tls(layout));
    connections.push(ConfSetting::new("ssl_min_protocol_version", "TLSv1.2"));
    connections.push(ConfSetting::new("password_encryption", "scram-sha-256"));
    sections.push(Section { title: "Connections: TLS for every network client", settings: connections });
    sections.push(Section {
        title: "Replication",
        settings: vec![
            ConfSetting::because("cluster_name", server.name.as_str(), "also the application_name of its walreceiver"),
            ConfSetting::new("wal_level", "replica"),
            ConfSetting::because("wal_log_hints", "on", "pg_rewind stays possible"),
            ConfSetting::new("hot_standby", "on"),
            ConfSetting::because(
                "max_slot_wal_keep_size",
                &topology.common().replication.max_slot_wal_keep_size,
                "a lost standby cannot fill this disk",
            ),
            ConfSetting::new("recovery_target_timeline", "latest"),
        ],
    });
    sections.push(role_section(role));
    let own = of_inventory(topology, server);
    let defaults = defaults(topology).into_iter().filter(|setting| !own.contains_key(setting.name.as_str())).collect();
    sections.push(Section { title: "Defaults of pgstead, which the inventory may override", settings: defaults });
    if !own.is_empty() {
        let settings = own.into_iter().map(|(name, value)| ConfSetting::new(name, value)).collect();
        sections.push(Section { title: "From the inventory", settings });
    }
    PostgresqlConf {
        file: "postgresql.conf",
        server: server.name.to_string(),
        topology: topology.name().to_string(),
        sections,
        include_dir: (layout.kind == LayoutKind::Debian).then(|| crate::quote::conf::value("conf.d")),
    }
}

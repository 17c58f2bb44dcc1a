//! Where a distribution keeps PostgreSQL: programs, data, configuration, service.
//!
//! Layouts are found on the server, not configured: the probe is handed the candidates of this file and reports which
//! one is there. No other file knows these paths.

use serde::{Deserialize, Serialize};

use crate::model::name::{ServerName, TopologyName};
use crate::model::topology::Server;
use crate::model::version::Major;

/// The value of `service` that says: no service manager, start the instance with `pg_ctl`.
pub const NO_SERVICE: &str = "pg_ctl";

/// Where the administrator's files of systemd are, drop-ins of units among them.
const UNIT_DIRECTORY: &str = "/etc/systemd/system";

/// The drop-in by which a unit asks the start guard. Not `pgstead.conf`: that is a file of the instance.
const GUARD_DROP_IN: &str = "pgstead-start-guard.conf";

/// The file in pgstead's own directory that says: here was a complete data directory.
pub const DATA_DIRECTORY_RECORD: &str = "data-directory";

/// The name of the start guard in pgstead's own directory.
pub const START_GUARD: &str = "start-guard";

/// The file in pgstead's own directory that PgBouncer includes.
pub const POOLER: &str = "pgbouncer.ini";

/// The file in pgstead's own directory in which the start guard says what it refused last.
pub const START_REFUSED: &str = "start-refused";

/// A family of installations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayoutKind {
    /// Debian and Ubuntu with `postgresql-common`: configuration outside the data directory, unit `postgresql@15-main`.
    Debian,
    /// PGDG packages of the RHEL family: configuration in the data directory, unit `postgresql-15`.
    Rhel,
    /// Any other: programs in a directory, `pg_ctl`, no service.
    Plain,
}

/// The places of one instance on one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The family.
    pub kind: LayoutKind,
    /// The directory of `postgres`, `initdb` and the other programs.
    pub bin_directory: String,
    pub data_directory: String,
    /// Where the data directory really is, where its path is a symbolic link: what is made or set aside stands beside that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_place: Option<String>,
    /// The directory of the configuration files where they are outside the data directory.
    pub config_directory: Option<String>,
    /// The systemd unit, where one runs the instance.
    pub unit: Option<String>,
    /// The directory of the Unix-domain socket.
    pub socket_directory: String,
    /// The OS user that owns the instance.
    pub os_user: String,
    /// The directory for what pgstead keeps about this instance: certificates, role file, manifest, lock, audit log.
    pub pgstead_directory: String,
}

impl Layout {
    /// Returns the candidates for a server in the order in which the probe should try them.
    ///
    /// Whoever owns a plain instance is left open (an empty `os_user`): the probe finds it out.
    pub fn candidates(topology: &str, server: &Server, version: Major) -> Vec<Layout> {
        if server.service.as_deref() == Some(NO_SERVICE) {
            return vec![Layout::plain(server, version)];
        }
        vec![
            Layout::debian(topology, server, version),
            Layout::rhel(topology, server, version),
            Layout::plain(server, version),
        ]
    }

    fn debian(topology: &str, server: &Server, version: Major) -> Layout {
        // A unit such as postgresql@15-my-app names the postgresql-common cluster, in which further dashes are its own; "main" is
        // the distribution's default.
        let unit = server.service.as_deref().map(|unit| unit.strip_suffix(".service").unwrap_or(unit));
        let instance = unit.and_then(|unit| unit.strip_prefix("postgresql@")?.split_once('-'));
        let cluster = instance.map_or("main", |(_, cluster)| cluster);
        let own = format!("{version}/{cluster}");
        Layout {
            kind: LayoutKind::Debian,
            bin_directory: server.bin_directory.clone().unwrap_or_else(|| format!("/usr/lib/postgresql/{version}/bin")),
            data_directory: server.data_directory.clone().unwrap_or_else(|| format!("/var/lib/postgresql/{own}")),
            data_place: None,
            config_directory: Some(format!("/etc/postgresql/{own}")),
            unit: Some(format!("postgresql@{version}-{cluster}.service")),
            socket_directory: "/var/run/postgresql".to_owned(),
            os_user: "postgres".to_owned(),
            pgstead_directory: shared_directory(topology, server),
        }
    }

    fn rhel(topology: &str, server: &Server, version: Major) -> Layout {
        Layout {
            kind: LayoutKind::Rhel,
            bin_directory: server.bin_directory.clone().unwrap_or_else(|| format!("/usr/pgsql-{version}/bin")),
            data_directory: server.data_directory.clone().unwrap_or_else(|| format!("/var/lib/pgsql/{version}/data")),
            data_place: None,
            config_directory: None,
            unit: Some(server.service.clone().unwrap_or_else(|| format!("postgresql-{version}.service"))),
            socket_directory: "/run/postgresql".to_owned(),
            os_user: "postgres".to_owned(),
            pgstead_directory: shared_directory(topology, server),
        }
    }

    fn plain(server: &Server, version: Major) -> Layout {
        let data_directory = server.data_directory.clone().unwrap_or_else(|| "/var/lib/postgresql/data".to_owned());
        Layout {
            kind: LayoutKind::Plain,
            bin_directory: server.bin_directory.clone().unwrap_or_else(|| format!("/usr/local/pgsql-{version}/bin")),
            // Beside the data directory, since nobody may be root here; the socket too, since /run is root's.
            pgstead_directory: format!("{data_directory}.pgstead"),
            socket_directory: format!("{data_directory}.pgstead"),
            data_directory,
            data_place: None,
            config_directory: None,
            unit: None,
            os_user: String::new(),
        }
    }

    /// Returns the path of `postgresql.conf`, where that is not in the data directory.
    pub fn config_file(&self) -> Option<String> {
        self.config_directory.as_ref().map(|home| [home, "/postgresql.conf"].concat())
    }

    /// Returns the file to which the service manager or `pg_ctl` sends the instance's log; its logging collector has its own.
    pub fn log_file(&self) -> String {
        match (&self.config_directory, self.kind) {
            (Some(directory), LayoutKind::Debian) => {
                let cluster = directory.trim_start_matches("/etc/postgresql/").replacen('/', "-", 1);
                ["/var/log/postgresql/postgresql-", &cluster, ".log"].concat()
            }
            (_, LayoutKind::Rhel) => [&self.data_directory, "/log/postgresql.log"].concat(),
            _ => self.own("postgresql.log"),
        }
    }

    /// Returns the path of a program of this installation.
    pub fn program(&self, name: &str) -> String {
        format!("{}/{name}", self.bin_directory)
    }

    /// Returns the directory that holds the configuration files once the data directory is in place.
    pub fn config_home(&self) -> &str {
        self.config_directory.as_deref().unwrap_or(&self.data_directory)
    }

    /// Returns the mode of a configuration file where nobody has decided it: in `/etc` everybody may read the settings, as the
    /// distribution makes them and as its tools for all users need them.
    pub fn configuration_mode(&self, name: &str) -> &'static str {
        match self.kind {
            LayoutKind::Debian if name == "postgresql.conf" => "0644",
            _ => "0640",
        }
    }

    /// Returns the path of a file in pgstead's own directory.
    pub fn own(&self, name: &str) -> String {
        format!("{}/{name}", self.pgstead_directory)
    }

    /// Returns the file that says what the start guard lets the instance start as.
    pub fn role_file(&self) -> String {
        self.own("role")
    }

    /// Returns the file by which the unit asks the start guard before every start, where a unit runs the instance.
    pub fn guard_drop_in(&self) -> Option<String> {
        let unit = self.unit.as_deref()?;
        let unit = unit.strip_suffix(".service").unwrap_or(unit);
        Some(format!("{UNIT_DIRECTORY}/{unit}.service.d/{GUARD_DROP_IN}"))
    }

    /// Returns the command that asks the start guard. The shell runs it, so that its file needs no label and no mode
    /// that lets a service manager execute it.
    pub fn start_guard(&self, topology: &TopologyName, server: &ServerName) -> Vec<String> {
        let mut words = vec![
            "/bin/sh".to_owned(),
            self.own(START_GUARD),
            self.data_directory.clone(),
            self.role_file(),
            topology.to_string(),
            server.to_string(),
        ];
        words.extend(self.unit.clone());
        words
    }

    /// Returns where the data directory is or will be, behind its link where its path is one.
    pub fn place(&self) -> &str {
        self.data_place.as_deref().unwrap_or(&self.data_directory)
    }

    /// Returns where a base backup or a new instance is put together before it becomes the data directory (hazard 19).
    pub fn seed_directory(&self, run: &str) -> String {
        format!("{}.seed.{run}", self.place())
    }
}

fn shared_directory(topology: &str, server: &Server) -> String {
    format!("/var/lib/pgstead/{topology}/{}", server.name)
}

//! Judges what is said of PgBouncer.

use crate::diagnostic::{Code, Diagnostic};
use crate::inventory::problems::{Path, shown};
use crate::inventory::validate::Judge;
use crate::inventory::words;
use crate::model::pooler::Pooler;
use crate::quote::pgbouncer;

/// Debian's and upstream's port of PgBouncer.
pub(super) const DEFAULT_PORT: u16 = 6432;
/// Debian's directory of its socket.
const DEFAULT_SOCKET_DIRECTORY: &str = "/var/run/postgresql";
/// Debian's user of it.
const DEFAULT_OS_USER: &str = "postgres";
/// performance.md, section 4: clients wait for no longer than that before a switchover is given up.
const DEFAULT_PAUSE_TIMEOUT_S: u64 = 2;
/// The database by which PgBouncer's console is reached.
const CONSOLE: &str = "pgbouncer";

impl Judge<'_, '_> {
    /// Returns how PgBouncer is reached, where there is; what is wrong with that is added to the problems.
    pub(super) fn pooler(&mut self, databases: &[String]) -> Option<Pooler> {
        let raw = self.raw.pooler.clone()?;
        let path = Path::of(&["pooler"]);
        let port = raw.port.unwrap_or(DEFAULT_PORT);
        let socket_directory = raw.socket_directory.unwrap_or_else(|| DEFAULT_SOCKET_DIRECTORY.to_owned());
        let os_user = raw.os_user.unwrap_or_else(|| DEFAULT_OS_USER.to_owned());
        self.word(
            &path.key("socket_directory"),
            Code::InvalidDirectory,
            "directory",
            &socket_directory,
            words::server_directory,
        );
        self.word(&path.key("os_user"), Code::InvalidUser, "user", &os_user, words::login_user);
        if databases.is_empty() {
            let problem =
                Diagnostic::error(Code::PoolerWithoutDatabases, "\"pooler\" needs the databases that it serves")
                    .hint("Name them in postgres.databases. Those that exist stay as they are.");
            self.problems.add(&path, problem);
        }
        if databases.iter().any(|database| database == CONSOLE) {
            let message = format!("no pool can serve database \"{CONSOLE}\"");
            let problem = Diagnostic::error(Code::PoolerConsole, message)
                .detail("By that name PgBouncer's console is reached.")
                .hint("Give the database another name, or leave \"pooler\" out.");
            self.problems.add(&path, problem);
        }
        for database in databases.iter().filter(|database| pgbouncer::key(database).is_none()) {
            let problem = Diagnostic::error(Code::PoolerDatabase, format!("PgBouncer cannot serve database {}", shown(database)))
                .detail("A key of its configuration holds ASCII letters, digits, \"_\", \"-\" and \".\" alone; any other ends the reading of the whole file.")
                .hint("Rename the database, or leave it out of postgres.databases: clients then reach it without the pooler.");
            self.problems.add(&path, problem);
        }
        let shared = self.postgres(|postgres| &postgres.port).copied().unwrap_or(super::DEFAULT_PORT);
        let servers = self.raw.servers.iter().flatten().map(|(_, server)| server.postgres.as_ref());
        let mut ports = servers.map(|postgres| postgres.and_then(|postgres| postgres.port).unwrap_or(shared));
        if ports.any(|other| other == port) {
            let problem = Diagnostic::error(Code::PortTakenTwice, format!("port {port} is an instance's, too"))
                .hint("Give PgBouncer a port of its own.");
            self.problems.add(&path.key("port"), problem);
        }
        let pause_timeout_s = raw.pause_timeout_s.unwrap_or(DEFAULT_PAUSE_TIMEOUT_S);
        Some(Pooler { port, socket_directory, os_user, pause_timeout_s })
    }
}

//! Connection strings for clients: every server is named, and the one that accepts writes is found by the client itself, so that
//! a change of the primary needs no change of theirs (hazard 64; manual, 34.1.1.3).

use serde::Serialize;

use crate::model::role::ApplicationRole;
use crate::model::topology::{Server, Topology};
use crate::quote::{conninfo, uri};

/// How long one server may take to answer, in seconds, before the next is tried. libpq takes no less than two.
const CONNECT_TIMEOUT_S: &str = "3";

/// A server whose power or line went tells nobody: a client that waits for its answer asks after 5 s whether it is there, and
/// gives it up after 15 s, instead of after the kernel's quarter of an hour. The second is for what was sent and not
/// acknowledged, in milliseconds.
const NOTICES_SILENCE: [(&str, &str); 4] =
    [("keepalives_idle", "5"), ("keepalives_interval", "5"), ("keepalives_count", "2"), ("tcp_user_timeout", "15000")];

/// After how many seconds the JDBC driver asks again what a server is; ten, unless it is told otherwise.
const HOST_RECHECK_S: &str = "2";

/// The word by which libpq and its like find the server that accepts writes.
const READ_WRITE: &str = "read-write";

/// The version of libpq from which on it can spread connections over servers (`load_balance_hosts`).
const BALANCES_SINCE: u32 = 16;

/// What a client says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Client<'a> {
    /// Its role; none leaves it to the client.
    pub user: Option<&'a str>,
    /// Where it has the certificate of the CA; none leaves it to the driver (`~/.postgresql/root.crt`).
    pub sslrootcert: Option<&'a str>,
}

/// The connection strings of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Strings {
    /// The database.
    pub database: String,
    /// For libpq and whoever reads its URIs.
    pub uri: String,
    /// For libpq, as keywords and values.
    pub keyword: String,
    /// For the JDBC driver.
    pub jdbc: String,
    /// For one driver, where one was asked for.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub driver: Option<ForDriver>,
}

/// What a client connects with.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::EnumString, strum::IntoStaticStr, strum::VariantNames,
)]
#[strum(serialize_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// psql, and all that is built on libpq and hands it its string.
    Psql,
    /// The JDBC driver.
    Jdbc,
    /// Python's psycopg.
    Psycopg,
    /// Go's pgx and lib/pq.
    Go,
    /// Postgres.js.
    Node,
}

/// The connection strings of one database for one driver, as its own documentation has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForDriver {
    /// The driver.
    pub driver: Driver,
    /// Leads to the server that accepts writes.
    pub read_write: String,
    /// Leads to a standby.
    pub read_only: String,
}

/// Returns the connection strings of databases: the preferred primary first, then its standbys behind their upstreams.
pub fn strings(topology: &Topology, databases: &[String], client: Client<'_>, driver: Option<Driver>) -> Vec<Strings> {
    let primary = topology.preferred_primary();
    let links = topology.links(primary);
    let names = std::iter::once(primary).chain(links.iter().map(|link| &link.standby));
    let servers: Vec<&Server> = names.filter_map(|name| topology.server(name)).collect();
    let all = databases.iter().map(|database| {
        // Whoever asks for a driver wants to connect an application, which is its database's owner.
        let user = client.user.or_else(|| driver.and_then(|_| owner(topology, database)));
        let target = Target { servers: &servers, database, client: Client { user, ..client } };
        let balances = topology.common().version.number() >= BALANCES_SINCE;
        Strings {
            database: database.clone(),
            uri: target.uri(target.of_libpq(READ_WRITE)),
            keyword: target.keyword(target.of_libpq(READ_WRITE)),
            jdbc: target.jdbc(&[("targetServerType", "primary")]),
            driver: driver.map(|driver| target.for_driver(driver, balances)),
        }
    });
    all.collect()
}

/// Returns the role that owns a database and may log in.
pub fn owner<'a>(topology: &'a Topology, database: &str) -> Option<&'a str> {
    let owns = |role: &ApplicationRole| role.login && role.owns.iter().any(|owned| owned == database);
    topology.common().roles.iter().find(|(_, role)| owns(role)).map(|(name, _)| name.as_str())
}

/// Returns what the strings of a driver do not say.
pub fn notes(topology: &Topology, driver: Driver) -> Vec<&'static str> {
    let balances = topology.common().version.number() >= BALANCES_SINCE;
    let spreads = balances.then_some("\"load_balance_hosts\" needs libpq 16 or later: leave it out for an older one.");
    let password = "The password belongs into ~/.pgpass, which nobody else may read.";
    let falls_back = "The read-only string prefers standbys, and leads to the primary where none answers.";
    let mut notes = match driver {
        Driver::Psql => vec![falls_back, password],
        Driver::Psycopg => vec![
            "The read-only string leads to standbys alone. psycopg 3 asks one server at a time, and would take the primary for \"prefer-standby\" (its issue 1021).",
            password,
        ],
        Driver::Jdbc => vec![falls_back, "Give the password as the property \"password\", never in the URL."],
        Driver::Go => vec![
            falls_back,
            "The strings are for pgx, and for lib/pq 1.11.0 or later; an older lib/pq takes one server.",
            "Neither notices a server that went silent by a keyword: give the dialer a KeepAliveConfig, and statements a context with a deadline.",
            password,
        ],
        Driver::Node => vec![
            "The strings are for Postgres.js, which may wait at a server that does not answer, or take the first one that does although it is a standby (its issue 815): behind PgBouncer an application is safe from both.",
            "node-postgres (pg) takes one server: connect to one after the other, and keep the one where SHOW transaction_read_only says off.",
            "Postgres.js takes no IPv6 address, and verifies no server by any address, since it names none to TLS: the servers' addresses in the inventory must be host names for it. Give it the CA as NODE_EXTRA_CA_CERTS, or as ssl: { ca }, and the password as the option \"password\".",
        ],
    };
    notes.extend(spreads.filter(|_| matches!(driver, Driver::Psql | Driver::Psycopg)));
    notes
}

/// What a string leads to.
struct Target<'a> {
    servers: &'a [&'a Server],
    database: &'a str,
    client: Client<'a>,
}

type Pairs<'a> = Vec<(&'a str, &'a str)>;

impl<'a> Target<'a> {
    fn for_driver(&self, driver: Driver, balances: bool) -> ForDriver {
        let spread = |mut pairs: Pairs<'a>| {
            pairs.extend(balances.then_some(("load_balance_hosts", "random")));
            pairs
        };
        let (read_write, read_only) = match driver {
            Driver::Psql => (self.uri(self.of_libpq(READ_WRITE)), self.uri(spread(self.of_libpq("prefer-standby")))),
            // psycopg 3 goes through the servers itself, and gives libpq one at a time: of a single server "prefer-standby" takes a
            // primary, too.
            Driver::Psycopg => {
                (self.keyword(self.of_libpq(READ_WRITE)), self.keyword(spread(self.of_libpq("standby"))))
            }
            Driver::Jdbc => (
                self.jdbc(&[("targetServerType", "primary")]),
                self.jdbc(&[("targetServerType", "preferSecondary"), ("loadBalanceHosts", "true")]),
            ),
            // A keyword that it does not know goes to the server, which refuses it.
            // Of a URI with several hosts net/url takes none that is an IPv6 address; keywords both drivers read themselves.
            Driver::Go => (self.keyword(self.of_go(READ_WRITE)), self.keyword(self.of_go("prefer-standby"))),
            Driver::Node => (self.uri(of_node(READ_WRITE)), self.uri(of_node("prefer-standby"))),
        };
        ForDriver { driver, read_write, read_only }
    }

    fn list(&self, of: impl Fn(&Server) -> String) -> String {
        self.servers.iter().map(|server| of(server)).collect::<Vec<_>>().join(",")
    }

    fn places(&self) -> String {
        self.list(|server| [&uri::host(&server.address.to_string()), ":", &server.port.to_string()].concat())
    }

    fn uri(&self, pairs: Pairs<'_>) -> String {
        let at = self.client.user.map_or(String::new(), |user| [&uri::token(user), "@"].concat());
        let (places, name) = (self.places(), uri::token(self.database));
        ["postgresql://", &at, &places, "/", &name, "?", &uri::query(pairs)].concat()
    }

    fn keyword(&self, pairs: Pairs<'_>) -> String {
        let hosts = self.list(|server| server.address.to_string());
        let ports = self.list(|server| server.port.to_string());
        let mut all: Pairs<'_> = vec![("host", &hosts), ("port", &ports)];
        all.extend(self.user());
        all.push(("dbname", self.database));
        all.extend(pairs);
        conninfo::join(all)
    }

    fn jdbc(&self, finds: &[(&str, &str)]) -> String {
        let rest =
            [("connectTimeout", CONNECT_TIMEOUT_S), ("hostRecheckSeconds", HOST_RECHECK_S), ("tcpKeepAlive", "true")];
        let pairs = self.user().into_iter().chain(finds.iter().copied()).chain(rest).chain(self.tls());
        ["jdbc:postgresql://", &self.places(), "/", &uri::token(self.database), "?", &uri::query(pairs)].concat()
    }

    fn user(&self) -> Option<(&'a str, &'a str)> {
        self.client.user.map(|user| ("user", user))
    }

    fn tls(&self) -> Pairs<'a> {
        let authority = self.client.sslrootcert.map(|path| ("sslrootcert", path));
        [("sslmode", "verify-full")].into_iter().chain(authority).collect()
    }

    fn of_libpq(&self, target: &'a str) -> Pairs<'a> {
        let finds = [("target_session_attrs", target), ("connect_timeout", CONNECT_TIMEOUT_S)];
        finds.into_iter().chain(NOTICES_SILENCE).chain(self.tls()).collect()
    }

    fn of_go(&self, target: &'a str) -> Pairs<'a> {
        let finds = [("target_session_attrs", target), ("connect_timeout", CONNECT_TIMEOUT_S)];
        finds.into_iter().chain(self.tls()).collect()
    }
}

/// Postgres.js has the file of the CA elsewhere, and hands to the server what it does not know.
fn of_node(target: &str) -> Pairs<'_> {
    vec![("target_session_attrs", target), ("connect_timeout", CONNECT_TIMEOUT_S), ("sslmode", "verify-full")]
}

//! Connection strings for clients: every server is named, and the one that accepts writes is found by the client itself, so that
//! a change of the primary needs no change of theirs (hazard 64; manual, 34.1.1.3).

use serde::Serialize;

use crate::model::topology::Server;
use crate::model::topology::Topology;
use crate::quote::conninfo;
use crate::quote::uri;

/// How long one server may take to answer, in seconds, before the next is tried. libpq takes no less than two.
const CONNECT_TIMEOUT_S: &str = "3";

/// A server whose power or line went tells nobody: a client that waits for its answer asks after 5 s whether it is there, and
/// gives it up after 15 s, instead of after the kernel's quarter of an hour. The second is for what was sent and not
/// acknowledged, in milliseconds.
const NOTICES_SILENCE: [(&str, &str); 4] =
    [("keepalives_idle", "5"), ("keepalives_interval", "5"), ("keepalives_count", "2"), ("tcp_user_timeout", "15000")];

/// After how many seconds the JDBC driver asks again what a server is; ten, unless it is told otherwise.
const HOST_RECHECK_S: &str = "2";

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
}

/// Returns the connection strings of databases: the preferred primary first, then its standbys behind their upstreams.
pub fn strings(topology: &Topology, databases: &[String], client: Client<'_>) -> Vec<Strings> {
    let primary = topology.preferred_primary();
    let links = topology.links(primary);
    let names = std::iter::once(primary).chain(links.iter().map(|link| &link.standby));
    let servers: Vec<&Server> = names.filter_map(|name| topology.server(name)).collect();
    databases.iter().map(|database| of_database(&servers, database, client)).collect()
}

fn of_database(servers: &[&Server], database: &str, client: Client<'_>) -> Strings {
    let list = |of: fn(&Server) -> String| servers.iter().map(|server| of(server)).collect::<Vec<_>>().join(",");
    let (hosts, ports) = (list(|server| server.address.to_string()), list(|server| server.port.to_string()));
    let places = list(|server| [&uri::host(&server.address.to_string()), ":", &server.port.to_string()].concat());
    let user = client.user.map(|user| ("user", user));
    let tls = std::iter::once(("sslmode", "verify-full")).chain(client.sslrootcert.map(|path| ("sslrootcert", path)));
    let tls: Vec<(&str, &str)> = tls.collect();
    let of_libpq = || {
        let finds = [("target_session_attrs", "read-write"), ("connect_timeout", CONNECT_TIMEOUT_S)];
        finds.into_iter().chain(NOTICES_SILENCE).chain(tls.iter().copied())
    };
    let of_jdbc = [
        ("targetServerType", "primary"),
        ("connectTimeout", CONNECT_TIMEOUT_S),
        ("hostRecheckSeconds", HOST_RECHECK_S),
        ("tcpKeepAlive", "true"),
    ];
    let place = [("host", hosts.as_str()), ("port", &ports)].into_iter().chain(user).chain([("dbname", database)]);
    let at = client.user.map_or(String::new(), |user| [&uri::token(user), "@"].concat());
    let name = uri::token(database);
    Strings {
        database: database.to_owned(),
        uri: ["postgresql://", &at, &places, "/", &name, "?", &uri::query(of_libpq())].concat(),
        keyword: conninfo::join(place.chain(of_libpq())),
        jdbc: [
            "jdbc:postgresql://",
            &places,
            "/",
            &name,
            "?",
            &uri::query(user.into_iter().chain(of_jdbc).chain(tls.iter().copied())),
        ]
        .concat(),
    }
}

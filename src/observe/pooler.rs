//! Reads what PgBouncer's console says. Pure.

use crate::model::pooler::{Pool, Pools};

/// The console's own database.
const CONSOLE: &str = "pgbouncer";

/// Turns the answer to `SHOW DATABASES`, a line of names and then one for each database, between tabs, into facts. Versions differ
/// in what they show besides.
pub(super) fn parse_pools(text: &str) -> Option<Pools> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next()?.split('\t').collect();
    let place = |name: &str| names.iter().position(|other| *other == name);
    let (name, host, port, paused) = (place("name")?, place("host")?, place("port")?, place("paused")?);
    let pool = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let pool = Pool {
            host: (*fields.get(host)?).to_owned(),
            port: fields.get(port)?.parse().ok()?,
            is_paused: *fields.get(paused)? != "0",
        };
        Some(((*fields.get(name)?).to_owned(), pool))
    };
    let mut databases: std::collections::BTreeMap<String, Pool> = lines.map(pool).collect::<Option<_>>()?;
    databases.remove(CONSOLE);
    Some(Pools { databases })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_versions_add_does_not_matter() {
        let of_1_18 = "name\thost\tport\tdatabase\tforce_user\tpool_size\tmin_pool_size\treserve_pool\tpool_mode\tmax_connections\tcurrent_connections\tpaused\tdisabled
app\t10.0.0.1\t5432\tapp\t\t20\t0\t0\t\t0\t1\t1\t0
pgbouncer\t\t6432\tpgbouncer\tpgbouncer\t2\t0\t0\tstatement\t0\t0\t0\t0";
        let of_1_24 = "name\thost\tport\tdatabase\tforce_user\tpool_size\tmin_pool_size\treserve_pool_size\tserver_lifetime\tpool_mode\tload_balance_hosts\tmax_connections\tcurrent_connections\tmax_client_connections\tcurrent_client_connections\tpaused\tdisabled
app\t10.0.0.1\t5432\tapp\t\t20\t0\t0\t3600\t\t\t0\t1\t0\t1\t1\t0
pgbouncer\t\t6432\tpgbouncer\tpgbouncer\t2\t0\t0\t3600\tstatement\t\t0\t0\t0\t0\t0\t0";
        let pool = Pool { host: "10.0.0.1".to_owned(), port: 5432, is_paused: true };
        let pools = Pools { databases: [("app".to_owned(), pool)].into() };
        for text in [of_1_18, of_1_24] {
            assert_eq!(parse_pools(text), Some(pools.clone()));
        }
    }

    #[test]
    fn what_is_no_such_answer_is_not_taken_for_one() {
        assert_eq!(parse_pools(""), None);
        assert_eq!(parse_pools("name\thost\tport\napp\tx\t1"), None);
        assert_eq!(parse_pools("name\thost\tport\tpaused\napp\tx\tmany\t0"), None);
    }
}

//! Judges PgBouncer: it leads to the primary, and nobody is left waiting (hazard 64).

use crate::check::Finding;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::layout::POOLER;
use crate::model::name::ServerName;
use crate::model::observation::ServerObservation;
use crate::model::topology::{Server, Topology};

/// Judges the PgBouncer of one server.
pub fn check_pooler(
    topology: &Topology,
    name: &ServerName,
    seen: &ServerObservation,
    primary: &Server,
) -> Vec<Finding> {
    let Some(pooler) = &topology.common().pooler else { return Vec::new() };
    let pools = match seen.pooler.look() {
        Ok(Some(pools)) => pools,
        Ok(None) => {
            return vec![Finding::remark(
                Diagnostic::warning(Code::PoolerAbsent, format!("server \"{name}\": PgBouncer does not run"))
                    .server(name)
                    .detail(format!("Nothing answers at {}/.s.PGSQL.{}.", pooler.socket_directory, pooler.port))
                    .hint("Start it. It reads which server is the primary by itself."),
            )];
        }
        Err(why) => {
            return vec![Finding::unknown(
                Diagnostic::error(
                    Code::PoolerUnknown,
                    format!("server \"{name}\": PgBouncer's console does not answer"),
                )
                .server(name)
                .detail(why.trim().to_owned())
                .hint("It admits the user that PgBouncer runs as over its socket; pooler.os_user says who that is."),
            )];
        }
    };
    let place = format!("{}:{}", primary.address, primary.port);
    let file = seen.layout.known().map_or(POOLER.to_owned(), |layout| layout.own(POOLER));
    let judge = |database: &String| {
        let Some(pool) = pools.databases.get(database) else {
            return Some(Finding::unhealthy(
                Diagnostic::error(
                    Code::PoolerNotIncluded,
                    format!("server \"{name}\": PgBouncer does not serve \"{database}\""),
                )
                .server(name)
                .hint(format!("At the end of its pgbouncer.ini: %include {file}  Then, in its console: RELOAD")),
            ));
        };
        if pool.is_paused {
            return Some(Finding::unhealthy(
                Diagnostic::error(
                    Code::PoolerPaused,
                    format!("server \"{name}\": PgBouncer's clients of \"{database}\" wait"),
                )
                .server(name)
                .detail("It is paused: a switchover did not come to its end, or somebody asked for it.")
                .hint("Finish the switchover, or take it back. Where there is none, in its console: RESUME"),
            ));
        }
        (!pool.leads_to(primary)).then(|| {
            let at = format!("It connects to {}:{}; the primary is {place}.", pool.host, pool.port);
            let message =
                format!("server \"{name}\": PgBouncer leads clients of \"{database}\" elsewhere than to the primary");
            Finding::unhealthy(
                Diagnostic::error(Code::PoolerElsewhere, message)
                    .server(name)
                    .detail(at)
                    .hint("\"pgstead bootstrap\" writes where the primary is, and lets PgBouncer read it."),
            )
        })
    };
    topology.common().databases.iter().filter_map(judge).collect()
}

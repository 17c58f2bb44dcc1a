//! Runs `pg_amcheck` on standbys: every page and index is read there, and compared with the tables.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use futures_util::future::join_all;

use crate::check::evidence::{Amcheck, AmcheckOutcome};
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::session;
use crate::model::topology::Topology;
use crate::observe::records::Records;
use crate::quote::conninfo;
use crate::remote::{Host, LOOK};
use crate::render::hba::roles;

static SCRIPT: LazyLock<String> =
    LazyLock::new(|| include_str!("scripts/amcheck.sh").replace("# @@SESSION@@", &session::FUNCTION));

/// A database that is not read: it is a template, and nobody's data are in it.
const TEMPLATE: &str = "template1";

/// Reads every database of some standbys. One whose instance was not seen is left out; others say that already.
pub(super) async fn run_amcheck<H: Host>(
    topology: &Topology,
    observation: &Observation,
    hosts: &BTreeMap<ServerName, Result<H, String>>,
    standbys: &[&ServerName],
) -> BTreeMap<ServerName, Observed<Vec<Amcheck>>> {
    let runs = standbys.iter().map(async |name| {
        let seen = observation.server(name)?;
        let (server, layout, instance) = (topology.server(name)?, seen.layout.known()?, seen.instance.known()?);
        let host = hosts.get(*name)?.as_ref().ok()?;
        let databases: Vec<String> =
            instance.databases.iter().filter(|database| *database != TEMPLATE).cloned().collect();
        let limit_s = topology.common().thresholds.amcheck_timeout_s;
        let mut words = vec![limit_s.to_string(), layout.bin_directory.clone(), layout.socket_directory.clone()];
        words.extend([server.port.to_string(), layout.os_user.clone(), roles::SUPERUSER.to_owned()]);
        words.extend(databases.iter().map(|database| target(database)));
        let n_databases = u64::try_from(databases.len()).unwrap_or(u64::MAX);
        let limit = LOOK + Duration::from_secs(limit_s.saturating_mul(n_databases).min(u64::from(u32::MAX)));
        let said = match host.probe_within(limit, &SCRIPT, &words).await {
            Ok(output) => match Records::parse(&output.stdout) {
                Ok(records) => Observed::Known(read(&records, databases, limit_s)),
                Err(error) => Observed::Unreadable(error.to_string()),
            },
            Err(error) => Observed::Unreadable(error.to_string()),
        };
        Some(((*name).clone(), said))
    });
    join_all(runs).await.into_iter().flatten().collect()
}

/// Returns a database as `pg_amcheck` takes it: a bare name such as `a=b` or `postgresql://x` would be read as a connection string.
fn target(database: &str) -> String {
    conninfo::join([("dbname", database)])
}

fn read(records: &Records, databases: Vec<String>, limit_s: u64) -> Vec<Amcheck> {
    let outcome = |number: usize| {
        let number = number.to_string();
        let said = records.text(&["said.", &number].concat());
        outcome(records.text(&["status.", &number].concat()).trim(), &said, limit_s)
    };
    databases.into_iter().enumerate().map(|(number, database)| Amcheck { database, outcome: outcome(number) }).collect()
}

/// Returns what a status and the words of `pg_amcheck` mean (manual, pg_amcheck; `timeout` ends with 124 or 137).
fn outcome(status: &str, said: &str, limit_s: u64) -> AmcheckOutcome {
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    if said.contains("amcheck is not installed") {
        return AmcheckOutcome::NotInstalled;
    }
    match status {
        "0" => AmcheckOutcome::Sound,
        "2" => AmcheckOutcome::Damage(words),
        "124" | "137" => AmcheckOutcome::Failed(["not finished within ", &limit_s.to_string(), " s"].concat()),
        _ => AmcheckOutcome::Failed(if words.is_empty() { ["it ended with status ", status].concat() } else { words }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_a_name_and_no_connection_string() {
        for (database, expected) in [
            ("demo", "dbname=demo"),
            ("a=b", "dbname=a=b"),
            ("postgresql://x", "dbname=postgresql://x"),
            ("host=x y", "dbname='host=x y'"),
            ("O'Brien \\", "dbname='O\\'Brien \\\\'"),
        ] {
            assert_eq!(target(database), expected);
            assert_eq!(conninfo::value(expected, "dbname").as_deref(), Some(database));
        }
    }

    #[test]
    fn words_of_pg_amcheck() {
        let missing = "pg_amcheck: warning: skipping database \"demo\": amcheck is not installed\n\
                       pg_amcheck: error: no relations to check";
        assert_eq!(outcome("1", missing, 9), AmcheckOutcome::NotInstalled);
        assert_eq!(outcome("0", "", 9), AmcheckOutcome::Sound);
        let damage = "btree index \"demo.public.i\":\n    ERROR:  heap tuple lacks matching index tuple";
        assert!(matches!(outcome("2", damage, 9), AmcheckOutcome::Damage(words) if words.contains("i\": ERROR: heap")));
        assert_eq!(outcome("124", "", 9), AmcheckOutcome::Failed("not finished within 9 s".into()));
        assert_eq!(outcome("", "", 9), AmcheckOutcome::Failed("it ended with status ".into()));
    }
}

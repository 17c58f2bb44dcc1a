//! Reads what a diverged server wrote on its own, from its WAL, and what the tables are called, from the primary: two round
//! trips, in which nothing can be changed. What could not be read stays unknown, and is said to be.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use crate::model::layout::Layout;
use crate::model::lost::{Lost, LostTable};
use crate::model::lsn::Lsn;
use crate::model::observed::Observed;
use crate::model::session;
use crate::model::topology::Server;
use crate::observe::records::Records;
use crate::remote::Host;
use crate::render::hba::roles;

/// How long that may take: it reads files of any size.
const LIMIT: Duration = Duration::from_secs(300);

/// The text of the script.
pub static SCRIPT: LazyLock<String> =
    LazyLock::new(|| include_str!("lost.sh").replace("# @@SESSION@@", &session::FUNCTION));

/// Reads what a server wrote on a timeline from a position on.
pub async fn read<H: Host>(
    diverged: (&H, &Layout),
    primary: (&H, &Layout, &Server),
    timeline: u32,
    left_at: Lsn,
) -> Observed<Lost> {
    let (host, layout) = diverged;
    let words = ["lost", &layout.os_user, &layout.program("pg_waldump"), &layout.data_directory];
    let mut words: Vec<String> = words.map(str::to_owned).to_vec();
    words.extend([timeline.to_string(), left_at.to_string()]);
    let records = match ask(host, &words).await {
        Ok(records) => records,
        Err(why) => return Observed::Unreadable(why),
    };
    let (mut lost, counts) = match parse(&records) {
        Ok(parsed) => parsed,
        Err(why) => return Observed::Unreadable(why),
    };
    let (host, layout, server) = primary;
    let words = ["names", &layout.os_user, &layout.program("psql"), &layout.socket_directory];
    let mut words: Vec<String> = words.map(str::to_owned).to_vec();
    words.extend([server.port.to_string(), roles::SUPERUSER.to_owned()]);
    words.extend(counts.keys().cloned());
    let named = match ask(host, &words).await {
        Ok(records) => records.get("names.tables").known().cloned().unwrap_or_default(),
        Err(_) => String::new(),
    };
    name(&mut lost, &counts, &named);
    Observed::Known(lost)
}

async fn ask<H: Host>(host: &H, words: &[String]) -> Result<Records, String> {
    let output = host.probe_within(LIMIT, &SCRIPT, words).await.map_err(|error| error.to_string())?;
    Records::parse(&output.stdout).map_err(|error| error.to_string())
}

/// Returns what was lost without its tables, and the records of each relation by `OID/FILENODE`.
fn parse(records: &Records) -> Result<(Lost, BTreeMap<String, u64>), String> {
    let text = |name: &str| records.get(&["lost.", name].concat());
    let transactions = match text("transactions").look()? {
        Some(text) => text.trim().parse().map_err(|_| "pg_waldump could not be understood".to_owned())?,
        None => return Err("pg_waldump said nothing".to_owned()),
    };
    let word = |name: &str| text(name).known().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let relation = |line: &str| {
        let (relation, count) = line.split_once(' ')?;
        Some((relation.to_owned(), count.trim().parse().ok()?))
    };
    let counts = word("relations").unwrap_or_default().lines().filter_map(relation).collect();
    let end = word("end").and_then(|end| end.parse().ok());
    Ok((Lost { transactions, first: word("first"), last: word("last"), end, ..Lost::default() }, counts))
}

fn name(lost: &mut Lost, counts: &BTreeMap<String, u64>, named: &str) {
    let table = |line: &str| {
        let mut parts = line.split('\t');
        let (relation, database, name) = (parts.next()?, parts.next()?, parts.next()?);
        let records = *counts.get(relation)?;
        Some(LostTable { database: database.to_owned(), name: name.to_owned(), records })
    };
    lost.tables = named.lines().filter_map(table).collect();
    lost.tables.sort_by(|one, other| (other.records, &one.name).cmp(&(one.records, &other.name)));
    lost.unnamed = (counts.len() - lost.tables.len().min(counts.len())) as u64;
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Runs the script with a program that says what `pg_waldump` of PostgreSQL 15 says.
    fn run(says: &str) -> Result<(Lost, BTreeMap<String, u64>), String> {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("pg_waldump");
        std::fs::write(&program, ["#!/bin/sh\ncat <<'E'\n", says, "E\nexit 1\n"].concat()).unwrap();
        assert!(Command::new("chmod").arg("755").arg(&program).status().unwrap().success());
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        let output = Command::new("sh")
            .args(["-c", &SCRIPT, "pgstead-probe", "lost", user.trim()])
            .arg(&program)
            .args(["/data", "1", "0/3000000"])
            .output()
            .unwrap();
        parse(&Records::parse(&output.stdout).unwrap())
    }

    #[test]
    fn transactions_and_tables_are_counted() {
        let (mut lost, counts) = run("\
rmgr: Heap        len (rec/tot):    211/   211, tx:        745, lsn: 0/03C8C708, prev 0/03C8C6D0, desc: INSERT+INIT off 1 flags 0x00, blkref #0: rel 1663/5/16384 blk 0
rmgr: Heap        len (rec/tot):    211/   211, tx:        745, lsn: 0/03C8C7E0, prev 0/03C8C708, desc: INSERT off 2 flags 0x00, blkref #0: rel 1663/5/16384 blk 0
rmgr: Btree       len (rec/tot):     64/    64, tx:        745, lsn: 0/03C8C8B8, prev 0/03C8C7E0, desc: INSERT_LEAF off 2, blkref #0: rel 1663/5/16390 blk 1
rmgr: Transaction len (rec/tot):     34/    34, tx:        745, lsn: 0/03C8C8F8, prev 0/03C8C8B8, desc: COMMIT 2026-11-27 07:33:05.123456 UTC
rmgr: Transaction len (rec/tot):     98/    98, tx:        746, lsn: 0/03C8C920, prev 0/03C8C8F8, desc: COMMIT 2026-11-27 07:33:06.000000 UTC; inval msgs: catcache 55
pg_waldump: error: error in WAL record at 0/3C8C920: invalid record length at 0/3C8C988: wanted 24, got 0
").unwrap();
        assert_eq!((lost.transactions, lost.end), (2, Some("0/3C8C920".parse().unwrap())));
        assert_eq!(lost.first.as_deref(), Some("2026-11-27 07:33:05.123456 UTC"));
        assert_eq!(lost.last.as_deref(), Some("2026-11-27 07:33:06.000000 UTC"));
        assert_eq!(counts, BTreeMap::from([("5/16384".to_owned(), 2), ("5/16390".to_owned(), 1)]));
        name(&mut lost, &counts, "5/16384\tpostgres\tpublic.t\n5/9\tpostgres\tpublic.other\n");
        assert_eq!((lost.tables[0].name.as_str(), lost.tables[0].records, lost.unnamed), ("public.t", 2, 1));
    }

    #[test]
    fn what_cannot_be_read_is_not_called_nothing() {
        let why =
            run("pg_waldump: error: could not find file \"000000010000000000000003\": No such file or directory\n");
        assert!(why.unwrap_err().contains("could not find file"));
    }
}

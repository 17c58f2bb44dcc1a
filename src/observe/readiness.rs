//! Turns the probe's further records into what a preflight judges. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::model::lsn::Lsn;
use crate::model::observed::Observed;
use crate::model::readiness::{Database, Identity, Installed, InstanceReadiness, Machine, Mount, Place, Readiness};
use crate::observe::parse::MapParsed;
use crate::observe::records::Records;

/// Turns one server's records into facts; unreadable where the probe was not asked for them.
pub fn parse_readiness(records: &Records) -> Observed<Readiness> {
    if records.get("r.meminfo").known().is_none() {
        return Observed::default();
    }
    Observed::Known(Readiness {
        machine: parse_machine(records),
        identity: Identity {
            ssh_host_keys: lines(&records.text("r.ssh_host_keys")),
            product_uuid: trimmed(records, "r.product_uuid"),
            boot_id: trimmed(records, "r.boot_id"),
            virtualisation: trimmed(records, "r.virtualisation"),
            product: trimmed(records, "r.product"),
            networks: lines(&records.text("r.networks")),
        },
        mounts: parse_mounts(&records.text("r.df"), &records.text("r.mounts")),
        places: records.with_prefix("place.").filter_map(|(_, value)| parse_place(value.known()?)).collect(),
        wal_directory: records.get("r.wal_directory").known().cloned(),
        leftovers: lines(&records.text("r.leftovers")),
        missing_programs: lines(&records.text("r.missing_programs")),
        firewalls: lines(&records.text("r.firewalls")),
        installed: Installed {
            locales: records.get("r.locales").map(|text| lines(&text)),
            libraries: records.get("r.libraries").map(|text| lines(&text)),
            extensions: records.get("r.extensions").map(|text| parse_extensions(&text)),
            icu: trimmed(records, "r.icu"),
            missing_programs: lines(&records.text("r.postgres_missing")),
        },
        instance: parse_instance(records),
    })
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn trimmed(records: &Records, name: &str) -> Observed<String> {
    records.get(name).map(|text| text.trim().to_owned())
}

fn parse_machine(records: &Records) -> Machine {
    let meminfo = records.text("r.meminfo");
    let field = |label: &str| -> u64 {
        let words = meminfo.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(':'));
        words.and_then(|words| words.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    let huge = records.text("r.huge");
    Machine {
        os_family: records.text("r.os_family"),
        processors: records.text("r.processors").trim().parse().unwrap_or(0),
        memory_bytes: field("MemTotal") << 10,
        swap_bytes: field("SwapTotal") << 10,
        overcommit_memory: records.text("r.overcommit").trim().parse().ok(),
        transparent_huge_pages: huge
            .split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'))
            .map(|(word, _)| word.to_owned()),
        huge_page_bytes: field("HugePages_Total") * (field("Hugepagesize") << 10),
        open_files: records.get("r.open_files").map_parsed(|text| text.trim().parse().ok()),
        removes_ipc: records.text("r.removes_ipc").trim() == "1",
        automatic_restarts: lines(&records.text("r.automatic_restarts")),
        selinux: trimmed(records, "r.selinux"),
        time_service: trimmed(records, "r.time_service"),
        time_zone: trimmed(records, "r.time_zone"),
    }
}

/// Joins what `df` says of space with what the kernel says of options.
fn parse_mounts(df: &str, table: &str) -> BTreeMap<String, Mount> {
    let mut options = BTreeMap::new();
    for line in table.lines() {
        let mut words = line.split_whitespace().skip(1);
        if let (Some(target), Some(_), Some(found)) = (words.next(), words.next(), words.next()) {
            // Later mounts lie on top of earlier ones at the same place.
            options.insert(target.replace("\\040", " "), found.to_owned());
        }
    }
    df.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [target @ .., source, kind, free, total, inodes] = words.as_slice() else { return None };
            let target = target.join(" ");
            let mount = Mount {
                kind: (*kind).to_owned(),
                options: options.get(&target).cloned().unwrap_or_default(),
                source: (*source).to_owned(),
                free_bytes: free.parse().ok()?,
                total_bytes: total.parse().ok()?,
                free_inodes: inodes.parse().ok(),
            };
            Some((target, mount))
        })
        .collect()
}

fn parse_place(text: &str) -> Option<(String, Observed<Place>)> {
    let mut lines = text.lines();
    let (path, mount) = (lines.next()?, lines.next()?);
    let rest = lines.next().unwrap_or_default();
    if mount == "!" {
        return Some((path.to_owned(), Observed::Unreadable(rest.to_owned())));
    }
    let there = rest.split_once(' ');
    let place = Place {
        mount: mount.to_owned(),
        entries: there.and_then(|(entries, _)| entries.parse().ok()),
        owner: there.map(|(_, owner)| owner.to_owned()),
    };
    Some((path.to_owned(), Observed::Known(place)))
}

/// Reads lines of an extension's name and, behind it, a version that a script leads to.
fn parse_extensions(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut extensions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut controlled = Vec::new();
    for line in text.lines() {
        match line.split_once(' ') {
            Some((name, version)) => extensions.entry(name.to_owned()).or_default().push(version.to_owned()),
            None => controlled.push(line.to_owned()),
        }
    }
    // Without a control file there is no extension, whatever scripts lie there.
    extensions.retain(|name, _| controlled.contains(name));
    for versions in extensions.values_mut() {
        versions.sort();
        versions.dedup();
    }
    for name in controlled {
        extensions.entry(name).or_default();
    }
    extensions
}

/// The JSON that `readiness.sql` returns.
#[derive(Deserialize)]
struct InstanceJson {
    control: BTreeMap<String, String>,
    uptime_seconds: f64,
    wal_bytes: Option<u64>,
    wal_seconds: Option<f64>,
    wal_first: Option<Lsn>,
    wal_first_at: f64,
    wal_directory_bytes: u64,
    tablespace_bytes: BTreeMap<String, u64>,
    walsenders: u64,
    rewind_role: bool,
    rewind_lacks: Vec<String>,
    backups: Vec<String>,
    synchronous_commit_overrides: Vec<String>,
    archiver_failing: Option<String>,
    inactive_slots: BTreeMap<String, i64>,
    long_transactions: BTreeMap<String, f64>,
    prepared_transactions: BTreeMap<String, f64>,
}

/// The JSON that `database.sql` returns.
#[derive(Deserialize)]
struct DatabaseJson {
    provider: String,
    collation: String,
    ctype: String,
    collation_version: Option<String>,
    actual_version: Option<String>,
    collations: Vec<String>,
    stale_collations: Vec<String>,
    extensions: Option<BTreeMap<String, String>>,
    libraries: Vec<String>,
    unlogged_tables: u64,
    files: u64,
}

fn parse_instance(records: &Records) -> Observed<InstanceReadiness> {
    // Without a layout the probe ends before it asks.
    records.get("r.instance").and_then(|text| instance(records, &text))
}

fn instance(records: &Records, text: &str) -> Observed<InstanceReadiness> {
    let json: InstanceJson = match serde_json::from_str(text) {
        Ok(json) => json,
        Err(error) => return Observed::Unreadable(error.to_string()),
    };
    let wal = records.text("r.wal");
    let (second, at) = wal.trim().split_once('|').unwrap_or_default();
    Observed::Known(InstanceReadiness {
        control: json.control,
        uptime_seconds: json.uptime_seconds,
        wal_bytes: json.wal_bytes.unwrap_or(0),
        wal_seconds: json.wal_seconds.unwrap_or(0.0),
        wal_first: json.wal_first,
        wal_second: second.parse().ok(),
        wal_sample_seconds: at.parse::<f64>().map_or(0.0, |at| (at - json.wal_first_at).max(0.0)),
        wal_directory_bytes: json.wal_directory_bytes,
        tablespace_bytes: json.tablespace_bytes,
        walsenders: json.walsenders,
        rewind_lacks: if json.rewind_role { Observed::Known(json.rewind_lacks) } else { Observed::Absent },
        backups: json.backups,
        synchronous_commit_overrides: json.synchronous_commit_overrides,
        archiver_failing: json.archiver_failing,
        inactive_slots: json.inactive_slots,
        long_transactions: json.long_transactions,
        prepared_transactions: json.prepared_transactions,
        databases: records.with_prefix("database.").filter_map(|(_, value)| parse_database(value.known()?)).collect(),
    })
}

fn parse_database(text: &str) -> Option<(String, Observed<Database>)> {
    let (name, rest) = text.split_once('\n')?;
    if let Some(why) = rest.strip_prefix("!\n") {
        return Some((name.to_owned(), Observed::Unreadable(why.trim().to_owned())));
    }
    let database = match serde_json::from_str::<DatabaseJson>(rest) {
        Ok(json) => Observed::Known(Database {
            provider: json.provider,
            collation: json.collation,
            ctype: json.ctype,
            collation_version: json.collation_version,
            actual_version: json.actual_version,
            collations: json.collations,
            stale_collations: json.stale_collations,
            extensions: json.extensions.unwrap_or_default(),
            libraries: json.libraries,
            unlogged_tables: json.unlogged_tables,
            files: json.files,
        }),
        Err(error) => Observed::Unreadable(error.to_string()),
    };
    Some((name.to_owned(), database))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_have_space_and_options() {
        let df = "/                      overlay overlay 1000 2000 300\n/srv/two words  /dev/sda1 ext4 5 9 -\n";
        let table = "overlay / overlay rw,relatime 0 0\n/dev/sda1 /srv/two\\040words ext4 ro,noexec 0 0\n";
        let mounts = parse_mounts(df, table);
        assert_eq!(mounts["/"].free_inodes, Some(300));
        assert_eq!(mounts["/srv/two words"].options, "ro,noexec");
        assert_eq!(mounts["/srv/two words"].free_inodes, None);
    }

    #[test]
    fn extensions_need_a_control_file() {
        let found = parse_extensions("hstore\nhstore 1.4\nhstore 1.8\nhstore 1.8\ngone 1.0\n");
        assert_eq!(found, BTreeMap::from([("hstore".to_owned(), vec!["1.4".to_owned(), "1.8".to_owned()])]));
    }

    #[test]
    fn places_and_databases_say_why_they_could_not_be_seen() {
        let (_, place) = parse_place("/srv/a\n/srv\n2 postgres").unwrap();
        assert_eq!(place.known().unwrap().entries, Some(2));
        assert_eq!(parse_place("/srv/a\n/srv\n-").unwrap().1.known().unwrap().entries, None);
        assert_eq!(parse_place("/srv/a\n!\nno way").unwrap().1.unreadable(), Some("no way"));
        assert_eq!(parse_database("db\n!\npsql: no way\n").unwrap().1.unreadable(), Some("psql: no way"));
    }
}

//! Judges disks: space and inodes per mount against what a base backup brings, where it would go, and whether the
//! primary keeps WAL for as long as the copy takes (hazards 6, 7, 16; field.md, section 5).

use std::collections::BTreeMap;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::observed::Observed;
use crate::model::quantity::{bytes, seconds};
use crate::model::readiness::Mount;
use crate::plan::survey::aside;
use crate::preflight::facts::{Facts, Seen, list};
use crate::preflight::seed::TablespaceSeed;
use crate::preflight::{Finding, Seed};

/// File systems that are not on this machine's own disk, or not on a disk at all.
const UNSUITED: [&str; 9] = ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "fuse.glusterfs", "9p", "tmpfs", "ramfs"];

pub(super) fn judge(facts: &Facts<'_>, seeds: &[Seed]) -> Vec<Finding> {
    let mut found = Vec::new();
    for seen in facts.servers() {
        found.extend(file_systems(seen));
        found.extend(nearly_full(facts, seen));
        found.extend(slot_cap(facts, seen));
    }
    found.extend(facts.source().map(|source| declared(facts, source)).unwrap_or_default());
    for seed in seeds {
        let (Some(source), Some(standby)) = (facts.source(), facts.server(&seed.standby)) else { continue };
        found.extend(same_kind_of_mount(source, standby));
        found.extend(space(facts, seed, source, standby));
        found.extend(places(seed, standby));
        found.extend(retention(facts, seed, source));
    }
    found.into_iter().map(Finding::from).collect()
}

/// Returns the mount below which a path is: as the server said, else by its mount points.
fn mount_of<'a>(seen: Seen<'a>, path: &str) -> Option<(&'a str, &'a Mount)> {
    let said = match seen.ready.places.get(path) {
        Some(Observed::Known(place)) => Some(place.mount.as_str()),
        _ => seen.seen.disks.get(path).and_then(Observed::known).map(|disk| disk.mount.as_str()),
    };
    let is_below = |mount: &str| {
        mount == "/" || path == mount || path.strip_prefix(mount).is_some_and(|rest| rest.starts_with('/'))
    };
    let mounts = &seen.ready.mounts;
    let found = said.and_then(|said| mounts.get_key_value(said));
    let found =
        found.or_else(|| mounts.iter().filter(|(mount, _)| is_below(mount)).max_by_key(|(mount, _)| mount.len()));
    found.map(|(name, mount)| (name.as_str(), mount))
}

fn file_systems(seen: Seen<'_>) -> Vec<Diagnostic> {
    let name = seen.name;
    let Some(layout) = seen.layout() else { return Vec::new() };
    let mut found = Vec::new();
    let paths = [&layout.data_directory].into_iter().chain(seen.server.tablespaces.values());
    let mut told = BTreeMap::new();
    for path in paths {
        let Some((at, mount)) = mount_of(seen, path) else { continue };
        if told.insert(at, ()).is_some() {
            continue;
        }
        if mount.options.split(',').any(|option| option == "ro") {
            found.push(
                Diagnostic::error(Code::MountReadOnly, format!("server \"{name}\": {at} is mounted read-only"))
                    .server(name)
                    .detail(format!("{path} is there, on {} with options {}.", mount.source, mount.options))
                    .hint("A file system that found errors remounts itself like this: look at the kernel's log."),
            );
        }
        if UNSUITED.contains(&mount.kind.as_str()) {
            found.push(
                Diagnostic::warning(
                    Code::UnsuitedFileSystem,
                    format!("server \"{name}\": {at} is a file system of type {}", mount.kind),
                )
                .server(name)
                .detail(format!("{path} would be on it: {}.", mount.source))
                .hint(
                    "Data belongs on a local disk; a network file system needs hard mounts and sync (manual, 19.2.2).",
                ),
            );
        }
    }
    found
}

/// A file system in use that is nearly full (L21).
fn nearly_full(facts: &Facts<'_>, seen: Seen<'_>) -> Vec<Diagnostic> {
    let Some(layout) = seen.layout().filter(|_| seen.has_data()) else { return Vec::new() };
    let name = seen.name;
    let mut found = Vec::new();
    if let Some((at, mount)) = mount_of(seen, &layout.data_directory)
        && mount.total_bytes > 0
        && (mount.free_bytes as f64) < mount.total_bytes as f64 * facts.thresholds.disk_free
    {
        found.push(
            Diagnostic::warning(Code::DiskNearlyFull, format!("server \"{name}\": {at} is nearly full"))
                .server(name)
                .detail(format!("{} of {} are free.", bytes(mount.free_bytes), bytes(mount.total_bytes)))
                .hint("A standby that is down lets WAL grow up to max_slot_wal_keep_size."),
        );
    }
    found
}

/// What slots may keep once the inventory's cap is in force, against the disk of the WAL: any server may become an upstream
/// (hazard 45).
fn slot_cap(facts: &Facts<'_>, seen: Seen<'_>) -> Option<Diagnostic> {
    let layout = seen.layout()?;
    let name = seen.name;
    let wish = &facts.topology.common().replication.max_slot_wal_keep_size;
    let cap = super::host::size(wish, super::host::MEGABYTE)?;
    let path = seen.ready.wal_directory.as_deref().unwrap_or(&layout.data_directory);
    let (at, mount) = mount_of(seen, path)?;
    let room =
        mount.free_bytes.saturating_add(seen.instance().and_then(|instance| instance.wal_directory_bytes).unwrap_or(0));
    (mount.total_bytes > 0 && cap > room).then(|| {
        Diagnostic::warning(
            Code::SlotCapExceedsDisk,
            format!("server \"{name}\": slots may keep more WAL than {at} can hold"),
        )
        .server(name)
        .detail(format!(
            "replication.max_slot_wal_keep_size is {}; there is room for {}. A standby that stays away would stop this server.",
            bytes(cap),
            bytes(room)
        ))
        .hint("Lower replication.max_slot_wal_keep_size, or give WAL a larger disk.")
    })
}

/// Tablespaces that the primary has and the inventory does not name.
fn declared(facts: &Facts<'_>, source: Seen<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (tablespace, location) in source.instance().map(|instance| &instance.tablespaces).into_iter().flatten() {
        let without: Vec<String> = facts
            .standbys()
            .filter(|standby| !standby.has_data() && !standby.server.tablespaces.contains_key(tablespace))
            .map(|standby| standby.name.to_string())
            .collect();
        if without.is_empty() {
            continue;
        }
        found.push(
            Diagnostic::warning(Code::TablespaceUndeclared, format!("tablespace \"{tablespace}\" of \"{}\" is not in the inventory", source.name))
                .server(source.name)
                .detail(format!("It is at {location}. On {} a bootstrap makes that directory, on whatever disk is there.", list(&without)))
                .hint("Where it is to have a disk of its own, mount that first. Named as servers.NAME.tablespaces, its file system is judged here, too."),
        );
    }
    found
}

/// The primary's data have a disk of their own, and the copy would fill the root file system (hazard 6).
fn same_kind_of_mount(source: Seen<'_>, standby: Seen<'_>) -> Vec<Diagnostic> {
    let name = standby.name;
    let mut found = Vec::new();
    let (Some(its), Some(own)) = (source.layout(), standby.layout()) else { return found };
    let data = (its.data_directory.as_str(), own.data_directory.as_str());
    let tablespaces = source.instance().map(|instance| &instance.tablespaces).into_iter().flatten();
    for (there, here) in [data].into_iter().chain(tablespaces.map(|(_, path)| (path.as_str(), path.as_str()))) {
        if let (Some((mount, of_source)), Some(("/", root))) = (mount_of(source, there), mount_of(standby, here))
            && mount != "/"
        {
            found.push(
                Diagnostic::warning(
                    Code::NotOnItsOwnMount,
                    format!("server \"{name}\": {here} would fill the root file system"),
                )
                .server(name)
                .detail(format!(
                    "On \"{}\" {there} is on {mount} ({}, {}); here it is on / ({}, {} free).",
                    source.name,
                    of_source.source,
                    bytes(of_source.total_bytes),
                    root.source,
                    bytes(root.free_bytes)
                ))
                .hint("Is a disk not mounted? Mount it first; the copy goes below it."),
            );
        }
    }
    found
}

/// Space and inodes on every mount that the copy needs.
fn space(facts: &Facts<'_>, seed: &Seed, source: Seen<'_>, standby: Seen<'_>) -> Vec<Diagnostic> {
    let name = standby.name;
    let Some(layout) = standby.layout() else { return Vec::new() };
    let wal_now = source.instance_readiness().map_or(0, |ready| ready.wal_directory_bytes);
    // What is written during the copy lands beside it, and is kept until the next restart point.
    let wal = seed.wal_bytes.max(wal_now);
    let mut needs: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut need = |path: &str, data: u64, wal: u64| {
        if let Some((mount, _)) = mount_of(standby, path) {
            let sum = needs.entry(mount).or_default();
            *sum = (sum.0 + data, sum.1 + wal);
        }
    };
    need(&layout.data_directory, seed.data_bytes(), wal);
    for tablespace in &seed.tablespaces {
        need(&tablespace.location, tablespace.bytes, 0);
    }
    let mut found = Vec::new();
    for (at, (data, wal)) in needs {
        let Some(mount) = standby.ready.mounts.get(at) else { continue };
        let spare = (data as f64 * facts.thresholds.spare) as u64;
        let needed = data + wal + spare;
        let time = estimate(seed);
        if mount.free_bytes < needed {
            // Only what is on this very mount holds room here.
            let is_here = mount_of(standby, &layout.data_directory).is_some_and(|(of_data, _)| of_data == at);
            let held = aside::room_held(name, standby.seen).filter(|_| is_here);
            let (held, advice) =
                held.map(|(held, advice)| (format!(" {held}"), format!(" {advice}"))).unwrap_or_default();
            found.push(
                Diagnostic::error(
                    Code::SpaceShort,
                    format!("server \"{name}\": {at} is too small for the base backup"),
                )
                .server(name)
                .detail(format!(
                    "It has {} free. Needed are {}: {} of data, {} of WAL, and {} to spare. {time}{held}",
                    bytes(mount.free_bytes),
                    bytes(needed),
                    bytes(data),
                    bytes(wal),
                    bytes(spare)
                ))
                .hint(format!(
                    "Free space there, enlarge it, or choose another place: servers.{name}.data_directory.{advice}"
                )),
            );
        }
        let files = seed.files + seed.files / 5;
        if let Some(free) = mount.free_inodes.filter(|free| *free > 0 && *free < files) {
            found.push(
                Diagnostic::error(
                    Code::InodesShort,
                    format!("server \"{name}\": {at} has too few inodes for the base backup"),
                )
                .server(name)
                .detail(format!("{free} are free; the primary has about {} files.", seed.files))
                .hint("Make the file system anew with more inodes (mkfs.ext4 -i), or use XFS."),
            );
        }
    }
    found
}

/// Says how long a copy will take and where the number comes from.
fn estimate(seed: &Seed) -> String {
    let speed = bytes(seed.bytes_per_second as u64);
    let source = if seed.measured { "measured" } else { "presumed" };
    format!(
        "At {speed} per second ({source}) it takes {}; the primary writes {} of WAL per second.",
        seconds(seed.seconds),
        bytes(seed.wal_bytes_per_second as u64)
    )
}

/// Directories of tablespaces on the standby where something else stands already. Whether a copy can go there is judged by the
/// plan of a bootstrap.
fn places(seed: &Seed, standby: Seen<'_>) -> Vec<Diagnostic> {
    let name = standby.name;
    let is_full = |entries: &u64| *entries > 0;
    let warning = |tablespace: &TablespaceSeed| {
        let path = &tablespace.location;
        let entries = standby.ready.places.get(path)?.known()?.entries.filter(is_full)?;
        Some(
            Diagnostic::warning(Code::TablespaceNotEmpty, format!("server \"{name}\": {path} is not empty"))
                .server(name)
                .detail(format!("Tablespace \"{}\" would be copied there; it has {entries} entries.", tablespace.name))
                .hint("Look at what it holds: the copy leaves it as it is, beside its own."),
        )
    };
    seed.tablespaces.iter().filter_map(warning).collect()
}

/// Whether the primary keeps WAL until the copy has ended: the cap of the slot, and the room on its disk.
fn retention(facts: &Facts<'_>, seed: &Seed, source: Seen<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    // -1 is no cap. What the inventory says is what a bootstrap sets before the copy.
    let wish = &facts.topology.common().replication.max_slot_wal_keep_size;
    let cap = super::host::size(wish, super::host::MEGABYTE);
    let wal = seed.wal_bytes;
    if let Some(cap) = cap.filter(|cap| wal > *cap) {
        found.push(
            Diagnostic::error(Code::WalRetentionShort, format!("the base backup of \"{}\" lasts longer than WAL is kept for it", seed.standby))
                .server(&seed.standby)
                .detail(format!(
                    "{} are to be copied. {} That is {} of WAL; max_slot_wal_keep_size is {}.",
                    bytes(seed.bytes),
                    estimate(seed),
                    bytes(wal),
                    bytes(cap)
                ))
                .hint("Raise replication.max_slot_wal_keep_size as far as the primary's disk allows, or copy when less is written."),
        );
    }
    let Some(layout) = source.layout() else { return found };
    // The directory of WAL may be a link to another disk.
    let path = source.ready.wal_directory.as_deref().unwrap_or(&layout.data_directory);
    if let Some((at, mount)) = mount_of(source, path) {
        let kept = cap.map_or(wal, |cap| wal.min(cap));
        if kept > mount.free_bytes {
            found.push(
                Diagnostic::error(
                    Code::PrimarySpaceShort,
                    format!("server \"{}\": {at} has too little room for the WAL of a base backup", source.name),
                )
                .server(source.name)
                .detail(format!(
                    "While \"{}\" copies, up to {} of WAL are kept; {} are free. {}",
                    seed.standby,
                    bytes(kept),
                    bytes(mount.free_bytes),
                    estimate(seed)
                ))
                .hint("Free space there, lower replication.max_slot_wal_keep_size, or copy when less is written."),
            );
        }
    }
    found
}

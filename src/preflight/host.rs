//! Judges each machine: its size, its kernel, what is missing there and what may restart PostgreSQL behind our back.

use crate::diagnostic::{Code, Diagnostic};
use crate::model::observed::Observed;
use crate::model::quantity::{bytes, count};
use crate::preflight::Finding;
use crate::preflight::facts::{Facts, Seen, list};

/// The least number of files that a process of PostgreSQL must be able to open: `max_files_per_process`.
const OPEN_FILES: u64 = 1_000;

pub(super) fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for seen in facts.servers() {
        found.extend(kernel(seen));
        found.extend(programs(seen));
        found.extend(keepers(seen));
    }
    for standby in facts.standbys() {
        if let Some(source) = facts.source() {
            found.extend(compare(facts, source, standby));
        }
    }
    for seen in facts.servers() {
        found.extend(memory(facts, seen));
    }
    found.into_iter().map(Finding::from).collect()
}

fn kernel(seen: Seen<'_>) -> Vec<Diagnostic> {
    let (name, machine) = (seen.name, &seen.ready.machine);
    let mut found = Vec::new();
    if machine.transparent_huge_pages.as_deref() == Some("always") {
        found.push(
            Diagnostic::note(Code::TransparentHugePages, format!("server \"{name}\": transparent huge pages are always on"))
                .server(name)
                .detail("/sys/kernel/mm/transparent_hugepage/enabled says always; PostgreSQL's own memory gains nothing and stalls when the kernel compacts.")
                .hint("Set it to madvise, and use huge_pages with reserved pages."),
        );
    }
    if machine.overcommit_memory == Some(1) {
        found.push(
            Diagnostic::warning(
                Code::OvercommitAlways,
                format!("server \"{name}\": the kernel promises memory that it does not have"),
            )
            .server(name)
            .detail(
                "vm.overcommit_memory is 1: when memory runs out, the kernel kills processes, PostgreSQL's among them.",
            )
            .hint("Set vm.overcommit_memory = 2 (manual, 19.4.4 \"Linux Memory Overcommit\")."),
        );
    }
    if let Observed::Known(limit) = machine.open_files
        && limit < OPEN_FILES
    {
        found.push(
            Diagnostic::warning(
                Code::OpenFilesLimit,
                format!("server \"{name}\": the instance may open {limit} files only"),
            )
            .server(name)
            .detail(format!("A process of PostgreSQL uses up to {OPEN_FILES} (max_files_per_process)."))
            .hint("Raise LimitNOFILE of its service, or \"nofile\" of its user."),
        );
    }
    if machine.removes_ipc {
        found.push(
            Diagnostic::warning(
                Code::RemoveIpc,
                format!("server \"{name}\": logging out removes the instance's shared memory"),
            )
            .server(name)
            .detail("RemoveIPC is on in logind.conf, and the user of the instance is an ordinary one (manual, 19.4.2).")
            .hint("Set RemoveIPC=no in /etc/systemd/logind.conf, or make it a system user."),
        );
    }
    if let Observed::Known(word) = &machine.selinux
        && word == "Enforcing"
    {
        found.push(
            Diagnostic::note(Code::SelinuxEnforcing, format!("server \"{name}\": SELinux is enforcing"))
                .server(name)
                .detail("A data directory, tablespace or port outside the packages' own places needs a label of PostgreSQL.")
                .hint("semanage fcontext and restorecon for directories, semanage port for the port."),
        );
    }
    found
}

fn programs(seen: Seen<'_>) -> Vec<Diagnostic> {
    let name = seen.name;
    let mut found = Vec::new();
    let (perl, missing): (Vec<&String>, Vec<&String>) =
        seen.ready.missing_programs.iter().partition(|program| *program == "perl");
    if !missing.is_empty() {
        found.push(
            Diagnostic::error(
                Code::ProgramsMissing,
                format!("server \"{name}\": programs are missing that every server needs"),
            )
            .server(name)
            .detail(format!("Not in its path: {}.", list(&missing)))
            .hint("Install the packages that hold them, such as coreutils, util-linux and systemd."),
        );
    }
    if !perl.is_empty() {
        found.push(
            Diagnostic::note(
                Code::PerlMissing,
                format!("server \"{name}\": without perl no way to or from it is measured"),
            )
            .server(name)
            .detail("Ports, latency, loss and throughput of its links are unknown.")
            .hint("Install perl-base; nothing but the preflight needs it."),
        );
    }
    if let (Some(layout), missing @ [_, ..]) = (seen.layout(), seen.ready.installed.missing_programs.as_slice()) {
        found.push(
            Diagnostic::error(
                Code::PostgresqlProgramsMissing,
                format!("server \"{name}\": the installation of PostgreSQL is not whole"),
            )
            .server(name)
            .detail(format!("{} lacks {}.", layout.bin_directory, list(missing)))
            .hint("Install the server and the client package of this version."),
        );
    }
    if let [first, ..] = seen.ready.leftovers.as_slice() {
        found.push(
            Diagnostic::warning(
                Code::LeftByEarlierInstallation,
                format!("server \"{name}\": {first} is left of an instance that is gone"),
            )
            .server(name)
            .detail(format!("There is no data directory, but files in {}.", list(&seen.ready.leftovers)))
            .hint("Look at them; \"pgstead plan\" shows what would become of each file. Rename them when nobody needs them."),
        );
    }
    found
}

/// What keeps the clock, and what restarts PostgreSQL without being asked.
fn keepers(seen: Seen<'_>) -> Vec<Diagnostic> {
    let (name, machine) = (seen.name, &seen.ready.machine);
    let mut found = Vec::new();
    // The clock of a container is its machine's.
    if machine.time_service.is_absent() && !seen.is_container() {
        found.push(
            Diagnostic::warning(Code::TimeNotSynchronised, format!("server \"{name}\": nothing keeps its clock right"))
                .server(name)
                .detail("None of chrony, systemd-timesyncd, ntpd and openntpd is active.")
                .hint("Install and start chrony."),
        );
    }
    if let [first, ..] = machine.automatic_restarts.as_slice() {
        found.push(
            Diagnostic::warning(
                Code::AutomaticRestart,
                format!("server \"{name}\": {first} may restart PostgreSQL at any time"),
            )
            .server(name)
            .detail(format!("Active, without an exception for PostgreSQL: {}.", list(&machine.automatic_restarts)))
            .hint("Except postgresql from it (Unattended-Upgrade::Package-Blacklist, $nrconf{override_rc}), and upgrade standbys first by hand."),
        );
    }
    found
}

fn compare(facts: &Facts<'_>, source: Seen<'_>, standby: Seen<'_>) -> Vec<Diagnostic> {
    let (name, other) = (standby.name, source.name);
    let (own, its) = (&standby.ready.machine, &source.ready.machine);
    let mut found = Vec::new();
    if own.os_family != its.os_family {
        found.push(
            Diagnostic::warning(
                Code::OsFamilyDiffers,
                format!("servers \"{other}\" and \"{name}\" run different systems"),
            )
            .server(name)
            .detail(format!("They are \"{}\" and \"{}\".", source.seen.os.name, standby.seen.os.name))
            .hint(
                "Libraries that decide the order of texts differ between systems; see the findings about collations.",
            ),
        );
    }
    let small = |own: u64, its: u64| (own as f64) < its as f64 * facts.thresholds.smaller;
    if small(own.memory_bytes, its.memory_bytes) || small(own.processors, its.processors) {
        found.push(
            Diagnostic::warning(
                Code::SmallerThanPrimary,
                format!("server \"{name}\" is much smaller than \"{other}\""),
            )
            .server(name)
            .detail(format!(
                "It has {} and {} of memory; \"{other}\" has {} and {}.",
                count(own.processors as usize, "processor"),
                bytes(own.memory_bytes),
                count(its.processors as usize, "processor"),
                bytes(its.memory_bytes)
            ))
            .hint("After a role change it carries the primary's load (hazard 16)."),
        );
    }
    if let (Some(own), Some(its)) = (own.time_zone.known(), its.time_zone.known())
        && own != its
    {
        found.push(
            Diagnostic::note(Code::TimeZoneDiffers, format!("servers \"{other}\" and \"{name}\" have different time zones"))
                .server(name)
                .detail(format!("They are {its} and {own}. The instances use their parameter timezone; logs and cron jobs of the system do not."))
                .hint("Use the same zone everywhere, UTC for choice."),
        );
    }
    found
}

/// Compares what the instance will ask for with what the machine has.
fn memory(facts: &Facts<'_>, seen: Seen<'_>) -> Vec<Diagnostic> {
    let (name, machine) = (seen.name, &seen.ready.machine);
    let written = |parameter: &str| {
        let find = |parameters: &crate::model::parameter::Parameters| {
            parameters.iter().find(|(name, _)| name.as_str() == parameter).map(|(_, value)| value.clone())
        };
        find(&seen.server.parameters).or_else(|| find(&facts.topology.common().parameters))
    };
    let Some(wanted) = written("shared_buffers").and_then(|text| size(&text, BLOCK)).or_else(|| of_instance(seen))
    else {
        return Vec::new();
    };
    let huge = written("huge_pages").or_else(|| seen.setting("huge_pages").map(str::to_owned));
    let mut found = Vec::new();
    if machine.memory_bytes > 0 && wanted as f64 > machine.memory_bytes as f64 * 0.8 {
        found.push(
            Diagnostic::error(
                Code::MemoryTooSmall,
                format!("server \"{name}\" has too little memory for shared_buffers"),
            )
            .server(name)
            .detail(format!("shared_buffers is {}; it has {}.", bytes(wanted), bytes(machine.memory_bytes)))
            .hint(format!("Lower it there: servers.{name}.parameters.shared_buffers.")),
        );
    }
    if huge.as_deref() == Some("on") && machine.huge_page_bytes < wanted {
        found.push(
            Diagnostic::error(
                Code::HugePagesTooFew,
                format!("server \"{name}\": too few huge pages for shared_buffers"),
            )
            .server(name)
            .detail(format!(
                "huge_pages is on and shared_buffers is {}; huge pages of {} are reserved. It would not start.",
                bytes(wanted),
                bytes(machine.huge_page_bytes)
            ))
            .hint("Raise vm.nr_hugepages (manual, 19.4.5), or set huge_pages to try."),
        );
    }
    found
}

fn of_instance(seen: Seen<'_>) -> Option<u64> {
    // The unit of shared_buffers is a block, of 8 kB everywhere.
    Some(u64::try_from(seen.number("shared_buffers")?).ok()? << BLOCK)
}

/// A block, in which sizes of memory are counted where a file names no unit: 2 to this power.
const BLOCK: u32 = 13;
/// A megabyte, in which sizes of WAL are counted then.
pub(super) const MEGABYTE: u32 = 20;

/// Reads a size as written in a configuration file; without a unit it counts 2 to the power of `base`.
pub(super) fn size(text: &str, base: u32) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let number: u64 = digits.parse().ok()?;
    let shift = match text[digits.len()..].trim() {
        "" => base,
        "B" => 0,
        "kB" => 10,
        "MB" => 20,
        "GB" => 30,
        "TB" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_units_of_the_configuration_file() {
        assert_eq!(size("32MB", BLOCK), Some(32 << 20));
        assert_eq!(size("4 GB", BLOCK), Some(4 << 30));
        assert_eq!(size("4096", BLOCK), Some(32 << 20));
        assert_eq!(size("much", BLOCK), None);
    }
}

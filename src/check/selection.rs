//! Which checks are wanted, and why one was left out. It looks at nothing.

use crate::check::Evidence;
use crate::check::catalog::{CHECKS, check_of};
use crate::diagnostic::Code;
use crate::judge::State;
use crate::model::name::ServerName;

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Codes and numbers of checks; empty means all. L1 is never left out: without it nothing else is known.
    pub only: Vec<String>,
    /// Leave out samples that need time.
    pub quick: bool,
    /// Read every page and index, and send a segment through the archive.
    pub deep: bool,
}

impl Selection {
    /// Says whether a check is wanted, itself or one of its codes.
    pub fn wants(&self, check: &str) -> bool {
        self.only.is_empty()
            || check == CHECKS[0].0
            || self.only.iter().any(|word| word == check || word.parse().ok().and_then(check_of) == Some(check))
    }

    /// Says whether a finding is wanted.
    pub fn keeps(&self, code: Code) -> bool {
        let check = check_of(code);
        self.only.is_empty()
            || check == Some(CHECKS[0].0)
            || self.only.iter().any(|word| word == code.as_str() || check == Some(word.as_str()))
    }
}

/// What was left out of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Left {
    /// All of it, and why.
    Whole(&'static str),
    /// A part, and which.
    Part(&'static str),
    Nothing,
}

/// Returns what was left out of a check.
pub(super) fn left_out(
    check: &str,
    state: &State<'_>,
    primary: &ServerName,
    evidence: &Evidence,
    selection: &Selection,
) -> Left {
    use Left::*;
    if !selection.wants(check) {
        return Whole("not asked for (--only)");
    }
    let instance = state.instance(primary);
    let is_off = |parameter: &str| {
        instance.is_some_and(|instance| instance.settings.get(parameter).is_some_and(|s| s.setting == "off"))
    };
    match check {
        "L6" | "L7" | "L11" if evidence.canaries.is_none() => Whole("no row was written"),
        "L8" if selection.quick => Part("whether lag grows takes samples over time (--quick)"),
        "L12" if evidence.amcheck.is_none() => Part("pages and indexes are read with --deep alone"),
        "L15" if !evidence.dialled => Whole("no connection was tried"),
        "L16" if evidence.served.is_none() => Part("no server was asked which certificate it serves"),
        "L19" if state.topology.common().replication.synchronous.is_none() => Whole("replication is asynchronous"),
        "L20" if is_off("archive_mode") => Whole("archiving is off"),
        "L20" if evidence.archive.is_none() => {
            Part("a segment is sent through the archive with --deep alone; continuity of backups is never looked at")
        }
        "L20" => Part("continuity of backups is never looked at"),
        "L22" => Whole("nothing is restarted by a check"),
        "L23" if instance.is_some_and(|instance| !super::slots::has_failover_slots(instance)) => {
            Whole("there is no failover slot")
        }
        _ => Nothing,
    }
}

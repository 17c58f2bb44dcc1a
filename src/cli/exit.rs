//! Every exit code, and what maps to it (design, section 5). Nothing else in the program names a number.

use crate::check::Verdict;
use crate::diagnostic::FailureKind;
use crate::ui::nagios::State;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub u8);

/// Done, or healthy.
pub const DONE: Exit = Exit(0);
/// The command line is wrong.
pub const USAGE: Exit = Exit(2);
/// The inventory is invalid.
pub const INVENTORY_INVALID: Exit = Exit(3);
/// A server could not be reached.
pub const UNREACHABLE: Exit = Exit(4);
/// Refused, or not confirmed; nothing was changed.
pub const REFUSED: Exit = Exit(5);
/// A step failed; what was done before it stays done.
pub const STEP_FAILED: Exit = Exit(6);
/// A link or server is proven not to work.
pub const UNHEALTHY: Exit = Exit(7);
/// Changes are pending (`plan --exit-code`).
pub const CHANGES_PENDING: Exit = Exit(8);
/// Another run holds the lock.
pub const LOCKED: Exit = Exit(9);
/// Could not look, so neither healthy nor unhealthy.
pub const UNKNOWN: Exit = Exit(10);
/// A defect of pgstead.
pub const BUG: Exit = Exit(70);

/// The table for `--help` and the man page; a test compares it with the constants.
pub const TABLE: &[(Exit, &str)] = &[
    (DONE, "done, or healthy"),
    (USAGE, "the command line is wrong"),
    (INVENTORY_INVALID, "the inventory is invalid"),
    (UNREACHABLE, "a server could not be reached"),
    (REFUSED, "refused or not confirmed; nothing was changed"),
    (STEP_FAILED, "a step failed; run the same command again to go on"),
    (UNHEALTHY, "unhealthy"),
    (CHANGES_PENDING, "changes are pending (plan --exit-code)"),
    (LOCKED, "another run holds the lock"),
    (UNKNOWN, "unknown: could not look"),
    (BUG, "a defect of pgstead"),
];

/// How a monitoring plugin ends (`check --format nagios`); its numbers are the monitoring system's, not ours.
pub fn of_nagios(state: State) -> Exit {
    match state {
        State::Ok => DONE,
        State::Warning => Exit(1),
        State::Critical => Exit(2),
        State::Unknown => Exit(3),
    }
}

impl From<FailureKind> for Exit {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Usage => USAGE,
            FailureKind::Inventory => INVENTORY_INVALID,
            FailureKind::Unreachable => UNREACHABLE,
            FailureKind::Refused => REFUSED,
            FailureKind::StepFailed => STEP_FAILED,
            FailureKind::Unhealthy => UNHEALTHY,
            FailureKind::Locked => LOCKED,
            FailureKind::Unknown => UNKNOWN,
            FailureKind::Bug => BUG,
        }
    }
}

impl From<Verdict> for Exit {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Healthy => DONE,
            Verdict::Unhealthy => UNHEALTHY,
            Verdict::Unknown => UNKNOWN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_contract() {
        let codes: Vec<u8> = TABLE.iter().map(|(exit, _)| exit.0).collect();
        assert_eq!(codes, [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 70]);
        assert_eq!(Exit::from(FailureKind::Refused), Exit(5));
        assert_eq!(Exit::from(Verdict::Unknown), Exit(10));
        let states = [State::Ok, State::Warning, State::Critical, State::Unknown];
        assert_eq!(states.map(of_nagios), [Exit(0), Exit(1), Exit(2), Exit(3)]);
    }
}

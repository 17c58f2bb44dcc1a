//! Judges how long certificates are valid: a renewal must come before the end, and a CA must outlast what it signs.

use crate::diagnostic::{Code, Diagnostic};
use crate::inventory::problems::Path;
use crate::inventory::validate::Judge;
use crate::model::lifetimes::Lifetimes;

impl Judge<'_, '_> {
    pub(super) fn lifetimes(&mut self) -> Lifetimes {
        let (given, or) = (self.raw.certificates.unwrap_or_default(), Lifetimes::default());
        let formerly = self.raw.thresholds.as_ref().and_then(|thresholds| thresholds.certificate_warning_days);
        let lifetimes = Lifetimes {
            valid: given.valid_days.unwrap_or(or.valid),
            renew_before: given.renew_before_days.or(formerly).unwrap_or(or.renew_before),
            ca_valid: given.ca_valid_days.unwrap_or(or.ca_valid),
        };
        let Lifetimes { valid, renew_before, ca_valid } = lifetimes;
        let mut crossed = |why: String| {
            let problem = Diagnostic::error(Code::LifetimesCrossed, why);
            self.problems.add(&Path::of(&["certificates"]), problem.detail("A key that is not given has its default."));
        };
        if renew_before >= valid {
            crossed(format!(
                "renew_before_days is {renew_before}, not less than valid_days, which is {valid}: each certificate would be due at once"
            ));
        }
        if valid > ca_valid {
            crossed(format!(
                "valid_days is {valid}, more than ca_valid_days, which is {ca_valid}: no certificate is accepted behind the end of its CA"
            ));
        }
        lifetimes
    }
}

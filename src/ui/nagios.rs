//! The result of `check` as one line with performance data, as monitoring plugins write it. It judges nothing.

use crate::check::{CheckReport, Finding, Verdict};
use crate::diagnostic::Severity;

/// The state that a monitoring system knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All is well.
    Ok,
    /// It works, and will hurt.
    Warning,
    /// Proven not to work.
    Critical,
    /// Could not look.
    Unknown,
}

impl State {
    /// Returns the state of a report: a warning that changes no verdict is a warning here, too.
    pub fn of(report: &CheckReport) -> Self {
        let warns = |finding: &Finding| finding.diagnostic.severity >= Severity::Warning;
        match report.verdict {
            Verdict::Unhealthy => Self::Critical,
            Verdict::Unknown => Self::Unknown,
            Verdict::Healthy if report.findings.iter().any(warns) => Self::Warning,
            Verdict::Healthy => Self::Ok,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// Renders a report: state, what is worst, and for each standby how long its canary took and how far it is behind.
pub fn render(report: &CheckReport) -> String {
    let state = State::of(report);
    let healthy = report.links.iter().filter(|link| link.verdict == Verdict::Healthy).count();
    let text = match report.findings.as_slice() {
        [] => format!("{}: {healthy} of {} links are proven", report.topology, report.links.len()),
        [worst, others @ ..] => {
            let follow = report.causes().next().map_or(0, |(_, follow)| follow);
            let more = match (others.len(), follow) {
                (0, _) => String::new(),
                (more, 0) => format!(" (and {more} more)"),
                (more, follow) if more == follow => format!(" ({follow} more follow from it)"),
                (more, follow) => format!(" (and {more} more, {follow} of which follow from it)"),
            };
            format!("{}: [{}] {}{more}", report.topology, worst.diagnostic.code, worst.diagnostic.message)
        }
    };
    let mut data = Vec::new();
    for link in &report.links {
        data.extend(link.canary_ms.map(|ms| format!("canary_{}={ms:.0}ms", link.standby)));
        data.extend(link.lag_bytes.map(|bytes| format!("lag_{}={bytes}B", link.standby)));
    }
    line(state, &text, &data.join(" "))
}

/// Renders what ended a check early.
pub fn render_failure(message: &str) -> String {
    line(State::Unknown, message, "")
}

fn line(state: State, text: &str, data: &str) -> String {
    // A bar begins the performance data, and a line feed would end the line.
    let text: String = text.chars().map(|c| if c == '|' || c.is_control() { ' ' } else { c }).collect();
    let bar = if data.is_empty() { "" } else { "|" };
    format!("PGSTEAD {} - {text}{bar}{data}\n", state.word())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Finding;
    use crate::ui::samples;

    #[test]
    fn one_line_for_every_state() {
        let sick = samples::check();
        assert_eq!(
            render(&sick),
            "PGSTEAD CRITICAL - crawler: [canary-lost] a write on \"a\" did not reach \"c\" within 5 s (and 1 \
             more)|canary_b=12ms lag_b=0B lag_c=5242880B\n"
        );
        let well = CheckReport { verdict: Verdict::Healthy, findings: Vec::new(), ..samples::check() };
        assert!(render(&well).starts_with("PGSTEAD OK - crawler: 1 of 3 links are proven|"), "{}", render(&well));
        let warned: Vec<Finding> = samples::check().findings.into_iter().skip(1).collect();
        let warned = CheckReport { verdict: Verdict::Healthy, findings: warned, ..samples::check() };
        assert_eq!(State::of(&warned), State::Warning);
        let unknown = CheckReport { verdict: Verdict::Unknown, ..samples::check() };
        assert_eq!(State::of(&unknown), State::Unknown);
        assert_eq!(render_failure("a | b\nc"), "PGSTEAD UNKNOWN - a   b c\n");
    }
}

//! The results of `bootstrap` and `check` as text. It judges nothing: verdicts and outcomes are given.

use crate::apply::RunReport;
use crate::check::{CheckEntry, CheckReport, LinkReport, Verdict};
use crate::diagnostic::Diagnostic;
use crate::model::name::ServerName;
use crate::model::quantity::{bytes, count, milliseconds, seconds, signed_bytes};
use crate::state::journal::Outcome;
use crate::ui::columns::{cell, styled, table};
use crate::ui::diagnostic;
use crate::ui::look::{Look, Style, one_line, visible, wrap};

/// Renders the result of a run: what was done, how long it took, and what to do next.
pub fn render_run(report: &RunReport, look: Look) -> String {
    if report.failure.is_none() && !report.changed {
        return format!("No changes. {} is as the inventory says. ({})\n", report.topology, seconds(report.seconds));
    }
    let rows: Vec<_> = report
        .steps
        .iter()
        .map(|step| {
            let (word, style, took) = match step.outcome {
                Outcome::Done => ("done", Style::Good, seconds(step.seconds)),
                Outcome::Failed => ("failed", Style::Bad, seconds(step.seconds)),
                Outcome::Unknown => ("unknown", Style::Bad, seconds(step.seconds)),
                Outcome::LeftRunning => ("goes on", Style::Warn, seconds(step.seconds)),
                Outcome::NotStarted => ("not started", Style::Warn, String::new()),
            };
            vec![
                cell(step.id.0.to_string()),
                cell(step.server.as_ref().map_or("(all)", ServerName::as_str)),
                styled(word, style),
                cell(took),
                cell(&step.title),
            ]
        })
        .collect();
    let done = report.steps.iter().filter(|step| step.outcome == Outcome::Done).count();
    let table = table(&["#", "SERVER", "RESULT", "TIME", "STEP"], &rows, look);
    let took = seconds(report.seconds);
    let end = match &report.failure {
        None => format!(
            "{} {} done in {took}.\nNext: \"pgstead check\" proves every link; \"pgstead status\" shows the topology.\n",
            look.paint(Style::Good, &format!("{}:", report.topology)),
            count(done, "step"),
        ),
        Some(_) => format!(
            "{} stopped after {took}; {done} of {} done.\nNext: remove the cause and run the same command again. It looks \
             at the servers first, does not repeat what is done, and goes on with {}.\n",
            look.paint(Style::Bad, &format!("{}:", report.topology)),
            count(report.steps.len(), "step"),
            report.steps.iter().find(|step| step.outcome != Outcome::Done).map_or("what is left".to_owned(), |step| {
                let server = step.server.as_ref().map_or(String::new(), |server| format!(" on \"{server}\""));
                format!("this step{server}: {}", one_line(&step.title))
            }),
        ),
    };
    format!("{table}\n{end}")
}

/// Renders the result of a removal: what went, and what it led to and stays.
pub fn render_forget(report: &RunReport, name: &str, size: Option<u64>, left: &[String], look: Look) -> String {
    if report.failure.is_some() {
        return render_run(report, look);
    }
    let freed = size.map_or(String::new(), |size| format!(" {} are free again.", bytes(size)));
    let mut out =
        format!("{} {name} is removed in {}.{freed}\n", look.paint(Style::Good, "done:"), seconds(report.seconds));
    for place in left {
        out.push_str(&format!("It led to {place}, which stays as it is.\n"));
    }
    out
}

/// Renders the result of a release: that it is done, and what stays on each server.
pub fn render_release(report: &RunReport, stays: &[Diagnostic], look: Look) -> String {
    if report.failure.is_some() {
        return render_run(report, look);
    }
    let mut out = match report.changed {
        true => format!(
            "{} released in {}. Replication goes on without pgstead.\n",
            look.paint(Style::Good, &format!("{}:", report.topology)),
            seconds(report.seconds)
        ),
        false => format!("No changes. Nothing of pgstead's is left to take from topology {}.\n", report.topology),
    };
    for one in stays {
        out.push_str(&diagnostic::render(one, look));
    }
    out
}

/// Renders the result of a check: the links as a table, the findings, the verdict.
pub fn render_check(report: &CheckReport, look: Look) -> String {
    let mut out = String::new();
    if !report.links.is_empty() {
        out.push_str(&links(&report.links, look));
        out.push('\n');
    }
    for finding in &report.findings {
        match finding.follows {
            // Its advice is that of its cause.
            Some(_) if !look.whole => out.push_str(&consequence(&finding.diagnostic, look)),
            _ => out.push_str(&diagnostic::render(&finding.diagnostic, look)),
        }
    }
    if !report.findings.is_empty() {
        out.push('\n');
    }
    if look.whole {
        out.push_str(&checks(&report.checks, look));
        out.push('\n');
    } else {
        for entry in report.checks.iter().filter(|entry| entry.skipped.is_some_and(|why| why.ends_with("(--quick)"))) {
            out.push_str(&format!("Left out: {}: {}\n", entry.id, entry.skipped.unwrap_or_default()));
        }
    }
    let of = |verdict: Verdict| report.links.iter().filter(|link| link.verdict == verdict).count();
    out.push_str(&format!(
        "{}: {} ({} healthy, {} unhealthy, {} unknown)\n",
        report.topology,
        look.paint(verdict_style(report.verdict), verdict_word(report.verdict)),
        count(of(Verdict::Healthy), "link"),
        of(Verdict::Unhealthy),
        of(Verdict::Unknown),
    ));
    if let Some(next) = report.next() {
        out.push_str(&wrap(&format!("Next: {}", visible(next)), look.width, "", "  "));
        out.push('\n');
    }
    out
}

/// Renders what follows from the finding above it, in one line.
fn consequence(diagnostic: &Diagnostic, look: Look) -> String {
    let arrow = look.or_ascii("└", "-");
    format!("  {arrow} follows: {} [{}]\n", one_line(&diagnostic.message), diagnostic.code)
}

fn checks(checks: &[CheckEntry], look: Look) -> String {
    let rows: Vec<_> = checks
        .iter()
        .map(|entry| {
            vec![
                cell(entry.id),
                cell(entry.title),
                entry.verdict.map_or(cell(""), |verdict| styled(verdict_word(verdict), verdict_style(verdict))),
                cell(entry.skipped.unwrap_or_default()),
            ]
        })
        .collect();
    table(&["CHECK", "PROVES", "VERDICT", "LEFT OUT"], &rows, look)
}

fn links(links: &[LinkReport], look: Look) -> String {
    let text = |value: &Option<String>| cell(value.as_deref().unwrap_or_default());
    let rows: Vec<_> = links
        .iter()
        .map(|link| {
            vec![
                cell(format!("{} {} {}", link.upstream, look.or_ascii("→", "->"), link.standby)),
                text(&link.state),
                text(&link.sync_state),
                text(&link.slot),
                text(&link.tls),
                cell(link.canary_ms.map(milliseconds).unwrap_or_default()),
                cell(link.lag_bytes.map(signed_bytes).unwrap_or_default()),
                styled(verdict_word(link.verdict), verdict_style(link.verdict)),
            ]
        })
        .collect();
    table(&["LINK", "STATE", "SYNC", "SLOT", "TLS", "CANARY", "LAG", "VERDICT"], &rows, look)
}

/// Returns the word for a verdict.
pub(crate) fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Healthy => "healthy",
        Verdict::Unknown => "unknown",
        Verdict::Unhealthy => "unhealthy",
    }
}

/// Returns the colour for a verdict.
pub(crate) fn verdict_style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Healthy => Style::Good,
        Verdict::Unknown => Style::Warn,
        Verdict::Unhealthy => Style::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples;

    #[test]
    fn runs() {
        insta::assert_snapshot!(render_run(&samples::run(), Look::PLAIN));
        insta::assert_snapshot!(render_run(&samples::failed_run(), Look::PLAIN));
        let nothing = RunReport { changed: false, steps: Vec::new(), seconds: 0.42, ..samples::run() };
        assert_eq!(render_run(&nothing, Look::PLAIN), "No changes. crawler is as the inventory says. (0.4 s)\n");
    }

    #[test]
    fn check() {
        insta::assert_snapshot!(render_check(&samples::check(), Look::PLAIN));
        insta::assert_snapshot!(render_check(&samples::check(), Look { unicode: false, ..Look::PLAIN }));
        insta::assert_snapshot!(render_check(&samples::check(), Look { whole: true, ..Look::PLAIN }));
    }
}

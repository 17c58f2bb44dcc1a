//! The result of `preflight` as text: what was measured, what is to be copied, what was found. It judges nothing.

use crate::diagnostic::Severity;
use crate::model::pair::Reach;
use crate::model::quantity::{bytes, count, milliseconds, seconds};
use crate::preflight::report::WayReport;
use crate::preflight::{PreflightReport, Seed};
use crate::ui::columns::{cell, styled, table};
use crate::ui::diagnostic;
use crate::ui::look::{Look, Style};

/// Renders the result of a preflight.
pub fn render(report: &PreflightReport, look: Look) -> String {
    let mut out = String::new();
    if !report.ways.is_empty() {
        out.push_str(&ways(&report.ways, look));
        out.push('\n');
    }
    if !report.seeds.is_empty() {
        out.push_str(&seeds(&report.seeds, look));
        out.push('\n');
    }
    for finding in &report.findings {
        out.push_str(&diagnostic::render(&finding.diagnostic, look));
    }
    if !report.findings.is_empty() {
        out.push('\n');
    }
    for skip in &report.skipped {
        out.push_str(&format!("Skipped {}: {}\n", skip.code, crate::ui::look::one_line(&skip.reason)));
    }
    if !report.only.is_empty() {
        let only: Vec<&str> = report.only.iter().map(|code| code.as_str()).collect();
        out.push_str(&format!("Ran only: {}; other checks were skipped.\n", only.join(", ")));
    }
    let of =
        |severity: Severity| report.findings.iter().filter(|finding| finding.diagnostic.severity == severity).count();
    let (word, style) = match report.ready {
        true => ("ready", Style::Good),
        false => ("not ready", Style::Bad),
    };
    out.push_str(&format!(
        "{}: {} ({}, {}, {})\n",
        report.topology,
        look.paint(style, word),
        count(of(Severity::Error), "error"),
        count(of(Severity::Warning), "warning"),
        count(of(Severity::Note), "note"),
    ));
    out
}

fn ways(ways: &[WayReport], look: Look) -> String {
    let rows: Vec<_> = ways
        .iter()
        .map(|way| {
            let measured = way.measured.as_ref();
            let (port, style) = match measured.map(|way| &way.port) {
                None => ("not measured", Style::Warn),
                Some(Reach::Open) => ("open", Style::Good),
                Some(Reach::Refused) => ("refused", Style::Bad),
                Some(Reach::TimedOut) => ("no answer", Style::Bad),
                Some(Reach::NotResolved) => ("no address", Style::Bad),
                Some(Reach::Failed(_)) => ("failed", Style::Bad),
            };
            let echo = measured.and_then(|way| way.echo_ms);
            let rate = measured.and_then(|way| way.bytes_per_second);
            vec![
                cell(format!("{} {} {}", way.from, look.or_ascii("→", "->"), way.to)),
                styled(port, style),
                cell(echo.map(|[_, mean, _]| milliseconds(mean)).unwrap_or_default()),
                cell(way.loss.map(|loss| format!("{:.0} %", loss * 100.0)).unwrap_or_default()),
                cell(rate.map(|rate| format!("{}/s", bytes(rate as u64))).unwrap_or_default()),
            ]
        })
        .collect();
    table(&["WAY", "PORT", "ECHO", "LOSS", "THROUGHPUT"], &rows, look)
}

fn seeds(seeds: &[Seed], look: Look) -> String {
    let rows: Vec<_> = seeds
        .iter()
        .map(|seed| {
            vec![
                cell(format!("{} {} {}", seed.upstream, look.or_ascii("→", "->"), seed.standby)),
                cell(bytes(seed.bytes)),
                cell(format!(
                    "{}/s{}",
                    bytes(seed.bytes_per_second as u64),
                    if seed.measured { "" } else { " (presumed)" }
                )),
                cell(seconds(seed.seconds)),
                cell(bytes(seed.wal_bytes)),
            ]
        })
        .collect();
    table(&["BASE BACKUP", "BYTES", "SPEED", "TIME", "WAL MEANWHILE"], &rows, look)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{Code, Diagnostic};
    use crate::model::pair::{Answer, Pair, Way};
    use crate::preflight::{Finding, Skipped};
    use crate::ui::json;
    use crate::ui::json::PreflightDocument;

    fn report() -> PreflightReport {
        let name = |text: &str| text.parse::<crate::model::ServerName>().unwrap();
        let way = Way {
            port: Reach::Open,
            answer: Some(Answer::Tls),
            side_port: Some(Reach::Open),
            listen_error: None,
            source_here: "10.0.0.1".parse().ok(),
            source_there: "10.0.0.1".parse().ok(),
            echo_ms: Some([0.21, 0.28, 0.9]),
            echo_segments: 25,
            echo_retransmits: 1,
            bytes_per_second: Some(11_500_000.0),
            path_mtu: Some(1500),
        };
        let blocked = Way {
            port: Reach::TimedOut,
            answer: None,
            side_port: Some(Reach::TimedOut),
            source_there: None,
            echo_ms: None,
            echo_segments: 0,
            echo_retransmits: 0,
            bytes_per_second: None,
            path_mtu: None,
            ..way.clone()
        };
        let measured = |from, to, measured: Option<Way>| WayReport {
            from: name(from),
            to: name(to),
            loss: measured.as_ref().filter(|way| way.echo_segments > 0).map(|_| 0.04),
            measured,
        };
        PreflightReport {
            topology: "crawler".parse().unwrap(),
            ready: false,
            findings: vec![
                Finding {
                    diagnostic: Diagnostic::error(Code::PortBlocked, "\"b\" gets no answer from \"a\" on port 5432")
                        .detail("Packets vanish on the way.")
                        .hint("Open the port."),
                    pair: Some(Pair::new(&name("b"), &name("a"))),
                },
                Finding::from(
                    Diagnostic::warning(Code::ChecksumsOff, "server \"a\": its data pages have no checksums")
                        .server("a"),
                ),
            ],
            only: Vec::new(),
            skipped: vec![Skipped { code: Code::SameSubnet, reason: "one room, known".to_owned() }],
            ways: vec![measured("a", "b", Some(way)), measured("b", "a", Some(blocked)), measured("b", "c", None)],
            seeds: vec![Seed {
                upstream: name("a"),
                standby: name("b"),
                bytes: 120 << 30,
                tablespaces: Vec::new(),
                files: 2_000,
                bytes_per_second: 11_500_000.0,
                measured: true,
                seconds: 11_204.1,
                wal_bytes_per_second: 300_000.0,
                wal_bytes: 3_361_230_000,
            }],
        }
    }

    #[test]
    fn preflight() {
        insta::assert_snapshot!(render(&report(), Look::PLAIN));
        let one = PreflightReport { only: vec![Code::SpaceShort], ready: true, findings: Vec::new(), ..report() };
        insta::assert_snapshot!(render(&one, Look { unicode: false, ..Look::PLAIN }));
        insta::assert_snapshot!(json::text(&PreflightDocument::new(&report())).unwrap());
    }
}

//! One cause is one finding: says which findings follow from which, and in which order they are told. It drops none.

use std::cmp::Reverse;

use crate::check::{Finding, Scope};
use crate::diagnostic::Code;
use crate::model::name::ServerName;
use crate::model::topology::Link;

/// A finding, as others name it from which they follow.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Cause {
    pub code: Code,
    /// Its server, where it has one.
    pub server: Option<String>,
}

/// Whom a cause may concern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Everybody.
    Topology,
    /// Its server, the links there, and who receives rows through it.
    Server,
    /// The standby of its link, and who receives rows through that.
    Link,
}

/// What follows from what.
struct Rule {
    causes: &'static [Code],
    reach: Reach,
    followers: &'static [&'static [Code]],
}

/// A link that does not stream.
const STREAM: &[Code] = &[
    Code::Lag,
    Code::LagGrowing,
    Code::LinkSilent,
    Code::NoReceiver,
    Code::NoReply,
    Code::NoSender,
    Code::NotStreaming,
    Code::ReceiverNotStreaming,
    Code::SlotInactive,
];
/// Rows that do not arrive.
const ROWS: &[Code] = &[Code::CanaryLost, Code::CanaryUnknown];
/// What cannot be asked or opened.
const LOOKS: &[Code] = &[
    Code::CertificateNotSeen,
    Code::DialFailed,
    Code::DialUnknown,
    Code::NoPrimary,
    Code::NoPrimarySeen,
    Code::ReplyUnknown,
    Code::StandbyNotSeen,
    Code::UpstreamNotSeen,
];
/// Promises that a missing standby breaks.
const PROMISES: &[Code] = &[Code::SyncStandbyMissing, Code::SyncWaiting];

/// The causes, those first that explain the most.
const RULES: &[Rule] = &[
    Rule {
        causes: &[Code::TwoPrimaries],
        reach: Reach::Topology,
        followers: &[
            STREAM,
            ROWS,
            PROMISES,
            &[
                Code::HistoryDiffers,
                Code::RoleFile,
                Code::StandbyAhead,
                Code::StandbySignalMissing,
                Code::TimelineDiffers,
                Code::WrongUpstream,
            ],
        ],
    },
    Rule {
        causes: &[
            Code::ServerUnreachable,
            Code::PostgresqlNotInstalled,
            Code::InstanceNotRunning,
            Code::InstanceUnasked,
            Code::InstanceUnreadable,
        ],
        reach: Reach::Server,
        followers: &[LOOKS, STREAM, ROWS, PROMISES],
    },
    Rule {
        causes: &[Code::SystemIdentifierDiffers, Code::TimelineDiffers, Code::HistoryDiffers],
        reach: Reach::Server,
        followers: &[STREAM, ROWS, PROMISES, &[Code::DialWrongServer]],
    },
    Rule {
        causes: &[Code::CertificateExpired, Code::CrlExpired],
        reach: Reach::Server,
        followers: &[STREAM, ROWS, PROMISES, &[Code::CertificateNotSeen, Code::DialFailed]],
    },
    Rule {
        causes: &[Code::ConfigurationError],
        reach: Reach::Server,
        followers: &[&[Code::NotServed, Code::ReloadPending]],
    },
    Rule {
        causes: &[Code::HotStandbyParameter],
        reach: Reach::Server,
        followers: &[ROWS, &[Code::Lag, Code::LagGrowing, Code::ReplayPaused]],
    },
    Rule { causes: &[Code::DialFailed], reach: Reach::Link, followers: &[STREAM, ROWS, PROMISES] },
    Rule {
        causes: &[Code::SlotLost, Code::SlotMissing, Code::SlotTaken],
        reach: Reach::Link,
        followers: &[STREAM, ROWS, PROMISES],
    },
    Rule {
        causes: &[Code::UpstreamOutside, Code::WrongUpstream],
        reach: Reach::Link,
        followers: &[STREAM, ROWS, PROMISES],
    },
    Rule { causes: &[Code::ReplayPaused], reach: Reach::Link, followers: &[ROWS, &[Code::Lag, Code::LagGrowing]] },
    Rule {
        causes: &[Code::NoSender],
        reach: Reach::Link,
        followers: &[
            &[Code::Lag, Code::LagGrowing, Code::NoReceiver, Code::ReceiverNotStreaming, Code::SlotInactive],
            ROWS,
            PROMISES,
        ],
    },
    Rule {
        causes: &[Code::NoReceiver, Code::LinkSilent, Code::NotStreaming],
        reach: Reach::Link,
        followers: &[&[Code::Lag, Code::LagGrowing, Code::NoReply], ROWS, PROMISES],
    },
    Rule { causes: &[Code::CanaryLost], reach: Reach::Link, followers: &[ROWS] },
    Rule { causes: &[Code::NoPrimary, Code::NoPrimarySeen], reach: Reach::Topology, followers: &[ROWS, PROMISES] },
];

/// Codes of which one finding stands for all: one command mends them on every server.
const ALIKE: [Code; 1] = [Code::CertificateExpired];

/// Returns the place of the rule in which a code is a cause; behind all others where it is none.
fn rank(code: Code) -> usize {
    RULES.iter().position(|rule| rule.causes.contains(&code)).unwrap_or(RULES.len())
}

/// The links, to follow rows on their way.
struct Way<'a> {
    links: &'a [Link],
    primary: &'a ServerName,
}

impl Way<'_> {
    /// Says whether rows that arrive at a standby come through a server, or it is that server.
    fn comes_through(&self, standby: &ServerName, server: &str) -> bool {
        let mut at = standby;
        // A chain is no longer than there are links.
        for _ in 0..=self.links.len() {
            if at.as_str() == server {
                return true;
            }
            match self.links.iter().find(|link| link.standby == *at) {
                Some(link) => at = &link.upstream,
                None => return false,
            }
        }
        false
    }

    fn concerns(&self, reach: Reach, cause: &Finding, finding: &Finding) -> bool {
        let about = match (reach, &cause.scope, cause.diagnostic.server.as_deref()) {
            (Reach::Topology, ..) => return true,
            (Reach::Link, Scope::Link(standby), _) => standby.as_str(),
            (Reach::Link, ..) | (Reach::Server, _, None) => return false,
            (Reach::Server, _, Some(server)) => server,
        };
        let code = finding.diagnostic.code;
        if matches!(code, Code::NoPrimary | Code::NoPrimarySeen) {
            return self.primary.as_str() == about;
        }
        let is_of = match &finding.scope {
            Scope::Link(standby) if ROWS.contains(&code) => self.comes_through(standby, about),
            Scope::Link(standby) => {
                let upstream = self.links.iter().find(|link| link.standby == *standby).map(|link| &link.upstream);
                standby.as_str() == about
                    || (reach == Reach::Server && upstream.is_some_and(|upstream| upstream.as_str() == about))
            }
            Scope::Server | Scope::Topology => {
                reach == Reach::Server && finding.diagnostic.server.as_deref() == Some(about)
            }
        };
        is_of || finding.others.iter().any(|other| other.as_str() == about)
    }
}

/// Sorts findings: what is worst first, and behind each cause what follows from it.
pub fn group(mut findings: Vec<Finding>, links: &[Link], primary: &ServerName) -> Vec<Finding> {
    let way = Way { links, primary };
    findings.sort_by_key(|finding| Reverse((finding.verdict, finding.diagnostic.severity)));
    let parents: Vec<Option<usize>> = (0..findings.len()).map(|at| parent(&findings, at, &way)).collect();
    let root = |mut at: usize| {
        while let Some(parent) = parents[at] {
            at = parent;
        }
        at
    };
    let roots: Vec<usize> = (0..findings.len()).map(root).collect();
    let gravity: Vec<_> = (0..findings.len())
        .map(|root| {
            let members = roots.iter().zip(&findings).filter(|(of, _)| **of == root);
            members.map(|(_, finding)| (finding.verdict, finding.diagnostic.severity)).max()
        })
        .collect();
    let causes: Vec<Cause> = findings
        .iter()
        .map(|finding| Cause { code: finding.diagnostic.code, server: finding.diagnostic.server.clone() })
        .collect();
    let mut order: Vec<(usize, Finding)> = findings.into_iter().enumerate().collect();
    let keys: Vec<_> = roots.iter().map(|root| (Reverse(gravity[*root]), rank(causes[*root].code), *root)).collect();
    order.sort_by_key(|(at, _)| (keys[*at], roots[*at] != *at, *at));
    order
        .into_iter()
        .map(|(at, finding)| {
            let follows = (roots[at] != at).then(|| causes[roots[at]].clone());
            Finding { follows, ..finding }
        })
        .collect()
}

/// Returns the finding from which another one follows: of several causes the one that explains the most. A cause follows only
/// from one that explains more, so that nothing goes in circles.
fn parent(findings: &[Finding], at: usize, way: &Way<'_>) -> Option<usize> {
    let finding = &findings[at];
    let code = finding.diagnostic.code;
    if ALIKE.contains(&code) {
        let first = findings.iter().position(|other| other.diagnostic.code == code)?;
        return (first != at).then_some(first);
    }
    RULES[..rank(code)].iter().chain(RULES.get(rank(code)).filter(|_| code == Code::CanaryLost)).find_map(|rule| {
        if !rule.followers.iter().any(|codes| codes.contains(&code)) {
            return None;
        }
        let explains = |(other, cause): &(usize, &Finding)| {
            *other != at
                && rule.causes.contains(&cause.diagnostic.code)
                && way.concerns(rule.reach, cause, finding)
                // Rows are lost once on their way: what is nearer to the primary counts.
                && (code != Code::CanaryLost || cause.diagnostic.code != code || cause.scope != finding.scope)
        };
        findings.iter().enumerate().find(explains).map(|(other, _)| other)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;
    use crate::diagnostic::Diagnostic;

    fn name(name: &str) -> ServerName {
        name.parse().unwrap()
    }

    fn finding(code: Code, server: &str, scope: Scope) -> Finding {
        let diagnostic = Diagnostic::error(code, format!("about \"{server}\"")).server(server);
        Finding { diagnostic, verdict: Verdict::Unhealthy, scope, others: Vec::new(), follows: None }
    }

    fn told(findings: Vec<Finding>) -> Vec<String> {
        let link = |upstream: &str, standby: &str| Link { upstream: name(upstream), standby: name(standby) };
        let grouped = group(findings, &[link("a", "b"), link("b", "c"), link("a", "d")], &name("a"));
        let word = |code: Code, server: Option<&str>| [code.as_str(), "@", server.unwrap_or("-")].concat();
        grouped
            .iter()
            .map(|finding| {
                let own = word(finding.diagnostic.code, finding.diagnostic.server.as_deref());
                match &finding.follows {
                    Some(cause) => [" ", &own, " < ", &word(cause.code, cause.server.as_deref())].concat(),
                    None => own,
                }
            })
            .collect()
    }

    #[test]
    fn a_stopped_server_is_one_finding_with_what_follows() {
        let on = |standby: &str| Scope::Link(name(standby));
        let findings = vec![
            finding(Code::SlotInactive, "a", Scope::Topology),
            finding(Code::CanaryLost, "c", on("c")),
            finding(Code::CanaryLost, "d", on("d")),
            finding(Code::NoSender, "a", on("b")),
            finding(Code::InstanceNotRunning, "b", Scope::Server),
            finding(Code::NoReceiver, "c", on("c")),
        ];
        assert_eq!(
            told(findings),
            [
                "instance-not-running@b",
                " canary-lost@c < instance-not-running@b",
                " no-sender@a < instance-not-running@b",
                " no-receiver@c < instance-not-running@b",
                "canary-lost@d",
                "slot-inactive@a",
            ]
        );
    }

    #[test]
    fn a_finding_follows_from_what_is_wrong_with_another_server_that_it_is_about() {
        let cause = || finding(Code::InstanceNotRunning, "d", Scope::Server);
        let others = |code| [cause(), finding(code, "a", Scope::Topology).with([name("d")])].into();
        let follows = "sync-standby-missing@a < instance-not-running@d";
        assert_eq!(told(others(Code::SyncStandbyMissing))[1], [" ", follows].concat());
        assert_eq!(told(others(Code::DialFailed))[1], " dial-failed@a < instance-not-running@d");
        // Whoever only names it does not follow from it.
        let named = finding(Code::SyncStandbyMissing, "a", Scope::Topology);
        assert!(!told(vec![cause(), named])[1].contains('<'));
    }

    #[test]
    fn rows_that_are_lost_on_their_way_are_lost_once() {
        let on = |standby: &str| Scope::Link(name(standby));
        let findings = vec![finding(Code::CanaryLost, "c", on("c")), finding(Code::CanaryLost, "b", on("b"))];
        assert_eq!(told(findings), ["canary-lost@b", " canary-lost@c < canary-lost@b"]);
    }

    #[test]
    fn certificates_that_have_expired_are_one_cause() {
        let findings = ["a", "b", "c"].map(|server| finding(Code::CertificateExpired, server, Scope::Server));
        let told = told(findings.into_iter().collect());
        assert_eq!(told[0], "certificate-expired@a");
        assert!(told[1..].iter().all(|one| one.ends_with(" < certificate-expired@a")), "{told:?}");
    }

    #[test]
    fn every_code_is_one_that_exists() {
        let known = |code: &Code| crate::check::catalog::check_of(*code).is_some();
        for rule in RULES {
            assert!(rule.causes.iter().all(&known), "{:?}", rule.causes);
            assert!(rule.followers.iter().flat_map(|codes| codes.iter()).all(&known));
        }
    }
}

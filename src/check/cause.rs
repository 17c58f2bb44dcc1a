//! One cause is one finding: says which findings follow from which, and in which order they are told. It drops none.

use std::cmp::Reverse;

use crate::check::Finding;
use crate::check::Scope;
use crate::model::name::ServerName;
use crate::model::topology::Link;

/// A finding, as others name it from which they follow.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Cause {
    /// Its code.
    pub code: &'static str,
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
    causes: &'static [&'static str],
    reach: Reach,
    followers: &'static [&'static [&'static str]],
}

/// A link that does not stream.
const STREAM: &[&str] = &[
    "lag",
    "lag-growing",
    "link-silent",
    "no-receiver",
    "no-reply",
    "no-sender",
    "not-streaming",
    "receiver-not-streaming",
    "slot-inactive",
];
/// Rows that do not arrive.
const ROWS: &[&str] = &["canary-lost", "canary-unknown"];
/// What cannot be asked or opened.
const LOOKS: &[&str] = &[
    "certificate-not-seen",
    "dial-failed",
    "dial-unknown",
    "no-primary",
    "no-primary-seen",
    "reply-unknown",
    "standby-not-seen",
    "upstream-not-seen",
];
/// Promises that a missing standby breaks.
const PROMISES: &[&str] = &["sync-standby-missing", "sync-waiting"];

/// The causes, those first that explain the most.
const RULES: &[Rule] = &[
    Rule {
        causes: &["two-primaries"],
        reach: Reach::Topology,
        followers: &[
            STREAM,
            ROWS,
            PROMISES,
            &[
                "history-differs",
                "role-file",
                "standby-ahead",
                "standby-signal-missing",
                "timeline-differs",
                "wrong-upstream",
            ],
        ],
    },
    Rule {
        causes: &[
            "server-unreachable",
            "postgresql-not-installed",
            "instance-not-running",
            "instance-unasked",
            "instance-unreadable",
        ],
        reach: Reach::Server,
        followers: &[LOOKS, STREAM, ROWS, PROMISES],
    },
    Rule {
        causes: &["system-identifier-differs", "timeline-differs", "history-differs"],
        reach: Reach::Server,
        followers: &[STREAM, ROWS, PROMISES, &["dial-wrong-server"]],
    },
    Rule {
        causes: &["certificate-expired", "crl-expired"],
        reach: Reach::Server,
        followers: &[STREAM, ROWS, PROMISES, &["certificate-not-seen", "dial-failed"]],
    },
    Rule { causes: &["configuration-error"], reach: Reach::Server, followers: &[&["not-served", "reload-pending"]] },
    Rule {
        causes: &["hot-standby-parameter"],
        reach: Reach::Server,
        followers: &[ROWS, &["lag", "lag-growing", "replay-paused"]],
    },
    Rule { causes: &["dial-failed"], reach: Reach::Link, followers: &[STREAM, ROWS, PROMISES] },
    Rule {
        causes: &["slot-lost", "slot-missing", "slot-taken"],
        reach: Reach::Link,
        followers: &[STREAM, ROWS, PROMISES],
    },
    Rule { causes: &["upstream-outside", "wrong-upstream"], reach: Reach::Link, followers: &[STREAM, ROWS, PROMISES] },
    Rule { causes: &["replay-paused"], reach: Reach::Link, followers: &[ROWS, &["lag", "lag-growing"]] },
    Rule {
        causes: &["no-sender"],
        reach: Reach::Link,
        followers: &[&["lag", "lag-growing", "no-receiver", "receiver-not-streaming", "slot-inactive"], ROWS, PROMISES],
    },
    Rule {
        causes: &["no-receiver", "link-silent", "not-streaming"],
        reach: Reach::Link,
        followers: &[&["lag", "lag-growing", "no-reply"], ROWS, PROMISES],
    },
    Rule { causes: &["canary-lost"], reach: Reach::Link, followers: &[ROWS] },
    Rule { causes: &["no-primary", "no-primary-seen"], reach: Reach::Topology, followers: &[ROWS, PROMISES] },
];

/// Codes of which one finding stands for all: one command mends them on every server.
const ALIKE: [&str; 1] = ["certificate-expired"];

/// Returns the place of the rule in which a code is a cause; behind all others where it is none.
fn rank(code: &str) -> usize {
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
        if code.starts_with("no-primary") {
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
        is_of || mentions(finding, about)
    }
}

/// Says whether a finding of another server names a server or its slot.
fn mentions(finding: &Finding, server: &str) -> bool {
    let diagnostic = &finding.diagnostic;
    let slot = server.replace('-', "_");
    let named = [["\"", server, "\""].concat(), ["\"", &slot, "\""].concat()];
    let is_said = |text: &str| named.iter().any(|name| text.contains(name.as_str()));
    match finding.scope {
        Scope::Link(_) => false,
        _ => {
            is_said(&diagnostic.message)
                || (PROMISES.contains(&diagnostic.code) && diagnostic.detail.as_deref().is_some_and(is_said))
        }
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
    RULES[..rank(code)].iter().chain(RULES.get(rank(code)).filter(|_| code == "canary-lost")).find_map(|rule| {
        if !rule.followers.iter().any(|codes| codes.contains(&code)) {
            return None;
        }
        let explains = |(other, cause): &(usize, &Finding)| {
            *other != at
                && rule.causes.contains(&cause.diagnostic.code)
                && way.concerns(rule.reach, cause, finding)
                // Rows are lost once on their way: what is nearer to the primary counts.
                && (code != "canary-lost" || cause.diagnostic.code != code || cause.scope != finding.scope)
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

    fn finding(code: &'static str, server: &str, scope: Scope) -> Finding {
        let diagnostic = Diagnostic::error(code, format!("about \"{server}\"")).server(server);
        Finding { diagnostic, verdict: Verdict::Unhealthy, scope, follows: None }
    }

    fn told(findings: Vec<Finding>) -> Vec<String> {
        let link = |upstream: &str, standby: &str| Link { upstream: name(upstream), standby: name(standby) };
        let grouped = group(findings, &[link("a", "b"), link("b", "c"), link("a", "d")], &name("a"));
        let word = |code: &str, server: Option<&str>| [code, "@", server.unwrap_or("-")].concat();
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
            finding("slot-inactive", "a", Scope::Topology),
            finding("canary-lost", "c", on("c")),
            finding("canary-lost", "d", on("d")),
            finding("no-sender", "a", on("b")),
            finding("instance-not-running", "b", Scope::Server),
            finding("no-receiver", "c", on("c")),
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
    fn rows_that_are_lost_on_their_way_are_lost_once() {
        let on = |standby: &str| Scope::Link(name(standby));
        let findings = vec![finding("canary-lost", "c", on("c")), finding("canary-lost", "b", on("b"))];
        assert_eq!(told(findings), ["canary-lost@b", " canary-lost@c < canary-lost@b"]);
    }

    #[test]
    fn certificates_that_have_expired_are_one_cause() {
        let findings = ["a", "b", "c"].map(|server| finding("certificate-expired", server, Scope::Server));
        let told = told(findings.into_iter().collect());
        assert_eq!(told[0], "certificate-expired@a");
        assert!(told[1..].iter().all(|one| one.ends_with(" < certificate-expired@a")), "{told:?}");
    }

    #[test]
    fn every_code_is_one_that_exists() {
        let known = |code: &&str| crate::check::catalog::check_of(code).is_some();
        for rule in RULES {
            assert!(rule.causes.iter().all(&known), "{:?}", rule.causes);
            assert!(rule.followers.iter().flat_map(|codes| codes.iter()).all(&known));
        }
    }
}

//! Judges certificates: what a server serves is what it has, is valid for its address, and lasts (L16).
//!
//! A link that runs does not notice that a certificate has expired; the next reconnect does.

use jiff::Timestamp;

use crate::check::{Evidence, Finding};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::layout::Layout;
use crate::model::lifetimes::Lifetimes;
use crate::model::name::ServerName;
use crate::model::observation::{Instance, ServerObservation};
use crate::model::observed::Observed;
use crate::model::thresholds::Thresholds;
use crate::model::topology::{Common, Server, Topology};
use crate::pki;
use crate::pki::CertificateFacts;
use crate::plan::survey::authority;

/// What mends what a rotation could not: it is proven by servers that accept each other.
const MENDS: &str = "\"pgstead bootstrap\" installs a new one and reloads.";

/// Tells where another machine holds the CA. What servers serve is judged by the CA's certificate, which they have.
pub(super) fn authority_elsewhere(topology: &Topology, evidence: &Evidence) -> Option<Finding> {
    let [message, facts, help] = evidence.elsewhere.as_ref()?.told(topology.name());
    let diagnostic = Diagnostic::note(Code::AuthorityElsewhere, message).detail(facts).hint(help);
    Some(Finding::remark(diagnostic).of_topology())
}

/// Tells that one CA takes the place of another, and that this is not done yet.
pub(super) fn authority_in_rotation(topology: &Topology, evidence: &Evidence) -> Option<Finding> {
    let [message, facts, help] = authority::told_in_rotation(topology.name());
    let diagnostic = Diagnostic::warning(Code::AuthorityInRotation, message).detail(facts).hint(help);
    evidence.in_rotation.then(|| Finding::remark(diagnostic).of_topology())
}

/// Judges the certificates of one server.
pub(super) fn check_certificates(
    server: &Server,
    seen: &ServerObservation,
    layout: &Layout,
    instance: &Instance,
    evidence: &Evidence,
    common: &Common,
) -> Vec<Finding> {
    let mut judge = Judge {
        name: &server.name,
        now: evidence.at,
        thresholds: &common.thresholds,
        lifetimes: common.lifetimes,
        findings: Vec::new(),
    };
    let text = |file: &str| seen.files.get(&layout.own(file)).and_then(Observed::known)?.content.as_deref();
    let (of_server, of_client) = (text("tls/server.crt"), text("tls/client.crt"));
    let on_disk = of_server.and_then(|pem| judge.read("server certificate", pem));
    let served = match evidence.served.as_ref().and_then(|all| all.get(&server.name)).map(Observed::look) {
        Some(Ok(Some(pem))) => judge.read("served certificate", pem),
        Some(Err(why)) => {
            judge.findings.push(Finding::unknown(
                Diagnostic::error(
                    Code::CertificateNotSeen,
                    format!("server \"{}\": which certificate it serves could not be seen", server.name),
                )
                .server(&server.name)
                .detail(why),
            ));
            None
        }
        Some(Ok(None)) | None => None,
    };
    if let (Some(served), Some(on_disk)) = (&served, &on_disk)
        && served.fingerprint_sha256 != on_disk.fingerprint_sha256
    {
        judge.wrong(
            Code::CertificateNotServed,
            "it serves another certificate than the one in its file",
            format!(
                "Served: until {}, SHA-256 {}…; in {}: until {}, SHA-256 {}….",
                served.not_after,
                &served.fingerprint_sha256[..16],
                layout.own("tls/server.crt"),
                on_disk.not_after,
                &on_disk.fingerprint_sha256[..16]
            ),
            "Reload the instance: SELECT pg_reload_conf();",
        );
    }
    let shown = evidence.served.as_ref().and_then(|all| all.get(&server.name)).and_then(Observed::known);
    if let (Some(shown), Some(authority), Some(served)) = (shown, &evidence.authority, &served)
        && !pki::split_bundle(authority)
            .is_ok_and(|all| all.iter().any(|one| pki::verify_signed_by(shown, one).is_ok()))
    {
        judge.wrong(
            Code::CertificateForeign,
            "it serves a certificate that the CA of this topology has not signed",
            format!(
                "It is for \"{}\", signed by \"{}\", SHA-256 {}…. Whoever verifies the server refuses it.",
                served.subject_cn,
                served.issuer_cn,
                &served.fingerprint_sha256[..16]
            ),
            "Find out who answers there, and who installed it: pgstead history --servers. \"pgstead plan\" shows what would be installed.",
        );
    }
    if let Some(why) = evidence.by_socket.get(&server.name) {
        let diagnostic = Diagnostic::warning(Code::AskedBySocket, authority::asked_by_socket(&server.name));
        judge.findings.push(Finding::remark(diagnostic.server(&server.name).detail(why.clone())));
    }
    if let Some(facts) = served.as_ref().or(on_disk.as_ref()) {
        judge.lasts(Which::Server, facts, "Standbys and clients that connect anew refuse it.");
        judge.is_for(server, facts);
    }
    if let Some(facts) = of_client.and_then(|pem| judge.read("client certificate", pem)) {
        judge.lasts(
            Which::Client,
            &facts,
            "A link that streams goes on; the next reconnect of the standby is refused.",
        );
    }
    // A bundle may hold the authority of tomorrow or of yesterday: the ones that signed what is in use count.
    for authority in text("ca.crt").map(pki::split_bundle).and_then(Result::ok).unwrap_or_default() {
        let signed = |leaf: Option<&str>| leaf.is_some_and(|leaf| pki::verify_signed_by(leaf, &authority).is_ok());
        if (signed(of_server) || signed(of_client))
            && let Some(facts) = judge.read("CA certificate", &authority)
        {
            judge.lasts(Which::Authority, &facts, "No certificate that it signed is accepted any more.");
        }
    }
    // What follows the server's certificate leads to former CAs.
    for former in of_server.map(pki::split_bundle).and_then(Result::ok).unwrap_or_default().iter().skip(1) {
        judge.leads_on(former);
    }
    judge.revocations(instance);
    judge.findings
}

/// Whose certificate it is.
#[derive(Clone, Copy)]
enum Which {
    Server,
    Client,
    Authority,
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "server certificate",
            Self::Client => "client certificate",
            Self::Authority => "CA certificate",
        }
    }
}

struct Judge<'a> {
    name: &'a ServerName,
    now: Timestamp,
    thresholds: &'a Thresholds,
    lifetimes: Lifetimes,
    findings: Vec<Finding>,
}

impl Judge<'_> {
    fn wrong(&mut self, code: Code, what: &str, detail: String, hint: &str) {
        let diagnostic = Diagnostic::error(code, format!("server \"{}\": {what}", self.name));
        self.findings.push(Finding::unhealthy(diagnostic.server(self.name).detail(detail).hint(hint)));
    }

    fn read(&mut self, what: &str, pem: &str) -> Option<CertificateFacts> {
        match pki::parse_certificate(pem) {
            Ok(facts) => Some(facts),
            Err(error) => {
                let message = format!("server \"{}\": its {what} is not understood", self.name);
                let diagnostic = Diagnostic::error(Code::CertificateUnreadable, message);
                self.findings
                    .push(Finding::unknown(diagnostic.server(self.name).detail(format!("{error}.")).hint(MENDS)));
                None
            }
        }
    }

    /// Judges how long a certificate lasts.
    fn lasts(&mut self, which: Which, facts: &CertificateFacts, then: &str) {
        let days = facts.days_left(self.now);
        let until = facts.not_after;
        let what = which.name();
        let in_time = match which {
            Which::Server | Which::Client => format!("pgstead rotate certificates {}", self.name),
            Which::Authority => "pgstead rotate certificates --ca".to_owned(),
        };
        if facts.not_before > self.now {
            let detail = format!("It is valid from {} on. {then}", facts.not_before);
            self.wrong(Code::CertificateNotValidYet, &format!("its {what} is not valid yet"), detail, MENDS);
        } else if until <= self.now {
            let detail = format!("It was valid until {until}. {then}");
            let mends = match which {
                Which::Server | Which::Client => MENDS,
                Which::Authority => {
                    "On the machine that holds the CA, move ca.crt and ca.key away: \"pgstead bootstrap --new-authority\" makes another one."
                }
            };
            self.wrong(Code::CertificateExpired, &format!("its {what} has expired"), detail, mends);
        } else if days <= i64::try_from(self.thresholds.certificate_error_days).unwrap_or(i64::MAX) {
            let detail = format!("It is valid until {until}. {then}");
            self.wrong(Code::CertificateExpiring, &format!("its {what} expires in {days} days"), detail, &in_time);
        } else if self.lifetimes.is_due(days) {
            let message = format!("server \"{}\": its {what} expires in {days} days", self.name);
            let diagnostic = Diagnostic::warning(Code::CertificateExpiring, message);
            let detail = format!("It is valid until {until}.");
            self.findings.push(Finding::remark(diagnostic.server(self.name).detail(detail).hint(in_time)));
        }
    }

    /// Judges how long applications go on that know a former CA alone: the server shows them what leads there.
    fn leads_on(&mut self, former: &str) {
        let Ok(facts) = pki::parse_certificate(former) else { return };
        let days = facts.days_left(self.now);
        if facts.not_after <= self.now || !self.lifetimes.is_due(days) {
            return;
        }
        let message =
            format!("server \"{}\": applications that know a former CA alone refuse it in {days} days", self.name);
        let detail = format!("What leads to that CA is valid until {}, as the CA itself was.", facts.not_after);
        self.findings.push(Finding::remark(
            Diagnostic::warning(Code::FormerAuthorityEnding, message)
                .server(self.name)
                .detail(detail)
                .hint("Give applications that verify the servers the CA certificate of now: ca.crt of any server."),
        ));
    }

    /// Judges whether a certificate proves the address that is dialled.
    fn is_for(&mut self, server: &Server, facts: &CertificateFacts) {
        let dialled = server.address.to_string();
        let names_it = match server.address.ip() {
            Some(ip) => facts.ip_addresses.contains(&ip),
            None => facts.dns_names.iter().any(|name| name.eq_ignore_ascii_case(&dialled)),
        };
        if !names_it {
            let names = facts.dns_names.iter().cloned().chain(facts.ip_addresses.iter().map(ToString::to_string));
            let names = names.collect::<Vec<_>>().join(", ");
            self.wrong(
                Code::CertificateName,
                &format!("its certificate is not valid for {dialled}"),
                format!("It is for {names}. A standby that verifies its upstream refuses it."),
                MENDS,
            );
        }
    }

    /// Judges the CRL: one that is out of date refuses every client certificate.
    fn revocations(&mut self, instance: &Instance) {
        let Some(file) = instance.settings.get("ssl_crl_file").map(|s| s.setting.as_str()).filter(|f| !f.is_empty())
        else {
            return;
        };
        let mends = "Let the authority write a new CRL, install it and reload.";
        let next = match instance.health.crl.as_deref().map(pki::crl_next_update) {
            Some(Ok(next)) => next,
            Some(Err(error)) => return self.unknown_crl(file, format!("{error}.")),
            None => return self.unknown_crl(file, "It is not there.".to_owned()),
        };
        let Some(next) = next else { return };
        let days = (next.as_second() - self.now.as_second()).div_euclid(86_400);
        let detail =
            format!("{file} names {next} for its next update. Afterwards every client certificate is refused.");
        if next <= self.now {
            self.wrong(Code::CrlExpired, "its CRL is out of date", detail, mends);
        } else if days <= i64::try_from(self.thresholds.certificate_error_days).unwrap_or(i64::MAX) {
            self.wrong(Code::CrlExpiring, &format!("its CRL is out of date in {days} days"), detail, mends);
        } else if self.lifetimes.is_due(days) {
            let message = format!("server \"{}\": its CRL is out of date in {days} days", self.name);
            let diagnostic = Diagnostic::warning(Code::CrlExpiring, message);
            self.findings.push(Finding::remark(diagnostic.server(self.name).detail(detail).hint(mends)));
        }
    }

    fn unknown_crl(&mut self, file: &str, why: String) {
        let message = format!("server \"{}\": the CRL {file} could not be read", self.name);
        let diagnostic = Diagnostic::error(Code::CrlUnreadable, message);
        self.findings.push(Finding::unknown(diagnostic.server(self.name).detail(why)));
    }
}

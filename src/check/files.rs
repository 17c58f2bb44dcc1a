//! Judges the files that pgstead installed: still as they were written, and the keys nobody else's.
//!
//! What the instance makes of them is judged in `servers`.

use crate::check::{Finding, guard};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::layout::Layout;
use crate::model::name::ServerName;
use crate::model::observation::ServerObservation;
use crate::model::observed::Observed;

/// The private keys of a server, of which a restart or a reconnect needs each (hazard 77).
const KEYS: [&str; 2] = ["tls/server.key", "tls/client.key"];

/// Judges the files of one server.
pub fn check_files(name: &ServerName, seen: &ServerObservation, layout: &Layout) -> Vec<Finding> {
    let mut findings = drift(name, seen, layout);
    findings.extend(KEYS.iter().filter_map(|key| check_key(name, seen, &layout.own(key))));
    findings
}

/// A key that others may read, or that is gone: what runs goes on, and the next restart or reconnect fails.
fn check_key(name: &ServerName, seen: &ServerObservation, path: &str) -> Option<Finding> {
    let mends = "\"pgstead bootstrap\" replaces key and certificate.";
    match seen.files.get(path)?.look() {
        Ok(Some(fact)) if fact.mode == "600" => None,
        Ok(Some(fact)) => Some(Finding::unhealthy(
            Diagnostic::error(Code::KeyExposed, format!("server \"{name}\": {path} has mode {}, not 600", fact.mode))
                .server(name)
                .detail("PostgreSQL uses no private key that others may read: the next restart or reconnect fails.")
                .hint(mends),
        )),
        Ok(None) => Some(Finding::unhealthy(
            Diagnostic::error(Code::KeyMissing, format!("server \"{name}\": {path} is not there"))
                .server(name)
                .detail("The next restart or reconnect fails.")
                .hint(mends),
        )),
        Err(why) => Some(Finding::unknown(
            Diagnostic::error(Code::KeyUnreadable, format!("server \"{name}\": could not look at {path}"))
                .server(name)
                .detail(why),
        )),
    }
}

/// A file that differs from what the manifest says was installed: a remark, since it may be meant. Another authority is
/// not meant, and of the start guard's files more is said in `guard`.
fn drift(name: &ServerName, seen: &ServerObservation, layout: &Layout) -> Vec<Finding> {
    let manifest = seen.files.get(&layout.own("manifest")).and_then(Observed::known);
    let text = manifest.and_then(|fact| fact.content.as_deref()).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once("  "))
        .filter_map(|(hash, path)| {
            let fact = seen.files.get(path)?;
            if path == layout.own("ca.crt") && fact.known().is_none_or(|fact| fact.sha256 != hash) {
                return Some(Finding::unhealthy(
                    Diagnostic::error(
                        Code::AuthorityReplaced,
                        format!("server \"{name}\": {path} is not what was installed"),
                    )
                    .server(name)
                    .detail("By it the server verifies its upstream, its standbys and pgstead.")
                    .hint("\"pgstead plan\" shows the difference."),
                ));
            }
            if guard::files(layout).iter().any(|file| file == path) {
                return None;
            }
            let (code, what) = match fact {
                Observed::Known(fact) if fact.sha256 != hash => (Code::Drift, "was edited by hand"),
                // Without these it is more than a remark.
                Observed::Absent if path == layout.role_file() => return None,
                Observed::Absent => (Code::FileMissing, "is missing"),
                _ => return None,
            };
            Some(Finding::remark(
                Diagnostic::warning(code, format!("server \"{name}\": {path} {what}"))
                    .server(name)
                    .hint("\"pgstead plan\" shows the difference."),
            ))
        })
        .collect()
}

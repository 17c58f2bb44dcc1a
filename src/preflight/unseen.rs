//! Says what could not be looked at: a server that nobody judged is not a good one.

use crate::diagnostic::{Code, Diagnostic};
use crate::model::observed::Observed;
use crate::preflight::Finding;
use crate::preflight::facts::Facts;

pub(super) fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, seen) in &facts.observation.servers {
        // One that could not be reached is told already.
        let Some(seen) = seen.known() else { continue };
        let ready = match &seen.readiness {
            Observed::Known(ready) => ready,
            _ => {
                found.push(
                    Diagnostic::error(
                        Code::ServerNotJudged,
                        format!("server \"{name}\": could not look at the machine"),
                    )
                    .server(name)
                    .detail(format!(
                        "{}: nothing is known of its memory, disks and installation.",
                        seen.readiness.unreadable().unwrap_or("The probe found nothing")
                    ))
                    .hint("Is /proc mounted there?"),
                );
                continue;
            }
        };
        if ready.mounts.is_empty() {
            found.push(
                Diagnostic::error(Code::MountsUnreadable, format!("server \"{name}\": could not see its file systems"))
                    .server(name)
                    .detail("df gave no answer within five seconds: whether there is room is unknown.")
                    .hint("A network file system that hangs does this: run df there by hand."),
            );
        }
        if seen.instance.known().is_some()
            && let Some(why) = ready.instance.unreadable()
        {
            found.push(
                Diagnostic::warning(
                    Code::InstanceNotJudged,
                    format!("server \"{name}\": could not look through the running instance"),
                )
                .server(name)
                .detail(format!("{}.", why.trim_end_matches('.')))
                .hint("What it holds back, needs and lacks is unknown; see its log."),
            );
        }
    }
    found.into_iter().map(Finding::from).collect()
}

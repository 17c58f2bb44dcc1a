//! Every server trusts a CA before one has a certificate of it: a link that is opened anew in between, or after a run that was
//! interrupted there, would be refused (hazard 80).

use std::collections::BTreeMap;

use crate::model::name::ServerName;
use crate::model::observed::Observed;
use crate::plan::files::Entry;
use crate::plan::files::decided::{Change, Decided};
use crate::plan::step::Step;
use crate::plan::steps::service;
use crate::plan::{PlanBuilder, files};

/// The file of the CA certificates that a server trusts.
const BUNDLE: &str = "ca.crt";

/// Where certificates change, takes what servers trust out of what is installed with them: that comes first.
pub(in crate::plan) fn split(decided: &mut BTreeMap<&ServerName, Decided<'_>>) {
    // Certificate and key change by one link.
    let changes_certificate = |server: &Decided<'_>| {
        let link = server.seen.layout.own("tls");
        server.install.iter().any(|entry| entry.path() == link)
    };
    if !decided.values().any(changes_certificate) {
        return;
    }
    for server in decided.values_mut().filter(|server| server.seen.data.is_some()) {
        let (layout, seen) = (server.seen.layout, server.seen.seen);
        let bundle = layout.own(BUNDLE);
        // Where there was none, nobody is verified by it yet.
        if seen.files.get(&bundle).and_then(Observed::known).is_none() {
            continue;
        }
        let (mut trust, install): (Vec<Entry>, Vec<Entry>) =
            server.install.drain(..).partition(|entry| entry.path() == bundle);
        server.install = install;
        if trust.is_empty() && !server.seen.state().waits_for_reload().contains(&bundle) {
            continue;
        }
        if !trust.is_empty() {
            trust.extend(files::recorded(seen, layout, &trust));
        }
        let manifest = layout.own("manifest");
        if server.install.iter().all(|entry| entry.path() == manifest) {
            server.install.clear();
            if server.change == Change::Reload {
                server.change = Change::None;
            }
        }
        server.trust = Some(trust);
    }
}

/// Adds the steps by which all servers trust what they are to; every later step waits for them.
pub(in crate::plan) fn steps(plan: &mut PlanBuilder, decided: &BTreeMap<&ServerName, Decided<'_>>) {
    let mut last = Vec::new();
    for (name, server) in decided {
        let Some(trust) = &server.trust else { continue };
        let title = "trust both CAs";
        let installed = (!trust.is_empty())
            .then(|| plan.add(files::install(name, server.seen.seen, server.seen.layout, title, trust, None), []));
        let read = server.seen.instance.is_some().then(|| {
            let title = "reload, so that both CAs are trusted".to_owned();
            plan.add(Step { title, ..service::reload(server.seen) }, installed)
        });
        last.extend(read.or(installed));
    }
    plan.first_of_all(last);
}

//! Every file that a server should have.

use std::net::IpAddr;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::identity;
use crate::model::identity::Configuration;
use crate::model::layout::{Layout, LayoutKind, START_GUARD};
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::role_file::RoleFile;
use crate::model::topology::{Authentication, Topology};
use crate::plan::files::parameters::ConfRole;
use crate::plan::files::{Entry, Keeper, guard, kept, parameters, pooler, trust};
use crate::plan::links::conninfo::primary_conninfo;
use crate::plan::links::network;
use crate::plan::seen::Seen;
use crate::plan::{Material, files, scripts};
use crate::render::hba::Access;

/// The files of one server.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Files outside the data directory, which can be installed at once.
    pub outside: Vec<Entry>,
    /// Files inside the data directory, by their final paths: configuration, where the layout keeps it there.
    pub inside: Vec<Entry>,
    /// What makes a data directory complete: its mark and, on a standby, `standby.signal`.
    pub marks: Vec<(&'static str, String)>,
}

/// Returns the role of a standby in its files.
pub fn standby_role(topology: &Topology, standby: Seen<'_>, upstream: &ServerName) -> ConfRole {
    let conninfo = topology
        .server(upstream)
        .map(|upstream| primary_conninfo(topology, standby.server, standby.layout, upstream))
        .unwrap_or_default();
    ConfRole::Standby { conninfo, slot: standby.server.name.slot_name() }
}

/// Returns every file that a server should have.
///
/// # Errors
/// A template is broken, or the server has no address to listen on.
pub fn wanted(
    topology: &Topology,
    observation: &Observation,
    material: &Material,
    seen: Seen<'_>,
    primary: Option<Seen<'_>>,
    role: ConfRole,
) -> Result<Wanted, Diagnostic> {
    let (server, layout) = (seen.server, seen.layout);
    let addresses = network::listen(topology, observation, server);
    let listen: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let user = layout.os_user.as_str();
    let group = [user, ":"].concat();
    let root = files::own_directory_owner(seen.seen, layout);
    let broken =
        |error: crate::render::RenderError| Diagnostic::error(Code::Template, error.to_string()).server(&server.name);
    let access = Access {
        server: server.name.to_string(),
        topology: topology.name().to_string(),
        os_user: user.to_owned(),
        peers: network::peers(topology, observation),
        own_addresses: addresses.clone(),
        by_certificate: topology.common().replication.authentication == Authentication::Certificate,
        records: topology.common().hba.clone(),
    };
    let home = layout.config_home();
    let configuration = match seen.configuration {
        Configuration::Written => {
            let conf = parameters::postgresql_conf(topology, server, layout, &listen, &role);
            vec![
                Entry::text(
                    [home, "/postgresql.conf"].concat(),
                    &group,
                    layout.configuration_mode("postgresql.conf"),
                    conf.render().map_err(broken)?,
                ),
                Entry::text([home, "/pg_hba.conf"].concat(), &group, "0640", access.render_hba().map_err(broken)?),
                Entry::text([home, "/pg_ident.conf"].concat(), &group, "0640", access.render_ident().map_err(broken)?),
            ]
        }
        Configuration::Kept => kept::configuration(topology, seen, primary, &addresses, &access, &role)?,
    };

    let mut outside = Vec::new();
    // What exists on a server whose configuration is the operator's is the operator's, too.
    if layout.kind == LayoutKind::Debian && (seen.configuration == Configuration::Written || seen.data.is_none()) {
        outside.extend(debian_cluster(home, &group, seen.configuration));
    }
    if layout.kind != LayoutKind::Plain {
        for (depth, _) in layout.pgstead_directory.match_indices('/').skip(3) {
            outside.push(Entry::directory(&layout.pgstead_directory[..depth], &root, "0755"));
        }
    }
    outside.push(Entry::directory(&layout.pgstead_directory, &root, "0755"));
    outside.extend(
        ca_bundle(topology, observation, seen, primary, material)
            .map(|bundle| Entry::text(layout.own("ca.crt"), &root, "0644", bundle)),
    );
    outside.push(Entry::text(layout.own("wait-ready"), &root, "0755", scripts::WAIT_READY));
    outside.push(Entry::text(layout.own(START_GUARD), &root, "0755", scripts::START_GUARD));
    outside.push(guard::peers(topology, seen));
    let at = primary.map(|primary| primary.server).or_else(|| topology.server(topology.preferred_primary()));
    outside.extend(at.and_then(|at| pooler::file(topology, seen, at)));
    let role_file = if matches!(role, ConfRole::Primary(_)) { RoleFile::Primary } else { RoleFile::Standby };
    outside.push(Entry::text(layout.role_file(), &root, "0644", role_file.text()));
    if let (Authentication::ScramSha256, Some(replication)) =
        (topology.common().replication.authentication, &material.replication)
    {
        outside.push(Entry::secret(layout.own("passfile"), &group, replication.passfile()));
    }
    outside.extend(certificates(seen, material, &group));
    outside.extend(guard::drop_in(seen));
    let (inside, marks) =
        (Vec::new(), vec![(identity::FILE, identity::text(topology.name(), &server.name, seen.configuration))]);
    let mut wanted = Wanted { outside, inside, marks };
    if matches!(role, ConfRole::Standby { .. }) {
        wanted.marks.push(("standby.signal", String::new()));
    }
    if layout.config_directory.is_some() {
        wanted.outside.extend(configuration)
    } else {
        wanted.inside = configuration
    }
    Ok(wanted)
}

/// Returns the directories and small files that `pg_createcluster` would make.
fn debian_cluster(home: &str, group: &str, configuration: Configuration) -> Vec<Entry> {
    let depths = home.match_indices('/').skip(2).map(|(depth, _)| &home[..depth]);
    let mut entries: Vec<Entry> = depths.map(|directory| Entry::directory(directory, group, "0755")).collect();
    entries.push(Entry::directory(home, group, "0755"));
    entries.push(Entry::directory([home, "/conf.d"].concat(), group, "0755"));
    for (name, text) in [
        ("start.conf", "# Written by pgstead: start when the machine boots.\nauto\n"),
        ("pg_ctl.conf", "# Written by pgstead.\npg_ctl_options = ''\n"),
        ("environment", "# Written by pgstead.\n"),
    ] {
        let keeper = match configuration {
            Configuration::Written => Keeper::Pgstead,
            Configuration::Kept => Keeper::Copied { shown: text.to_owned() },
        };
        entries.push(Entry::kept([home, "/", name].concat(), group, "0644", text, keeper));
    }
    entries
}

/// Returns the certificates that a server receives in this run, in a directory of their own behind one link, so that
/// certificate and key always change together (hazard 77).
pub(in crate::plan) fn certificates(seen: Seen<'_>, material: &Material, group: &str) -> Vec<Entry> {
    let name = &seen.server.name;
    let (Some(leaf), true) = (material.leaves.get(name), material.certificates_to_replace.contains_key(name)) else {
        return Vec::new();
    };
    let directory = seen.layout.own(&["tls.", &leaf.id].concat());
    let path = |name: &str| [&directory, "/", name].concat();
    vec![
        Entry::directory(&directory, group, "0700"),
        Entry::text(path("server.crt"), group, "0644", &leaf.server_certificate),
        Entry::secret(path("server.key"), group, leaf.server_key.clone()),
        Entry::text(path("client.crt"), group, "0644", &leaf.client_certificate),
        Entry::secret(path("client.key"), group, leaf.client_key.clone()),
        Entry::Link { path: seen.layout.own("tls"), target: ["tls.", &leaf.id].concat() },
    ]
}

/// Returns the CA certificates that a server trusts: this topology's first, then those it already trusts, so that a
/// lost state directory never cuts a link (hazard 80). Where the configuration is the operator's, clients may have
/// certificates of the operator's CA; every server trusts what the primary does. Where another machine holds the CA, a server trusts
/// what it does; none where that is nobody. A copy trusts in any case what the server does that it is to follow. A former CA of this
/// topology's that nobody needs any more leaves.
fn ca_bundle(
    topology: &Topology,
    observation: &Observation,
    seen: Seen<'_>,
    primary: Option<Seen<'_>>,
    material: &Material,
) -> Option<String> {
    let own = |seen: Seen<'_>| {
        let fact = seen.seen.files.get(&seen.layout.own("ca.crt")).and_then(Observed::known);
        fact.and_then(|fact| fact.content.clone())
    };
    let mut has = own(seen);
    if let (Some(text), Some(primary), Some(_)) = (&has, primary, &material.ca_certificate)
        && primary.server.name != seen.server.name
    {
        has = Some(trust::still_needed(topology, observation, material, text, own(primary).as_deref()));
    }
    let is_new = seen.data.is_none() || has.is_none();
    let mut texts: Vec<String> = Vec::new();
    if let (true, Some(primary)) = (is_new || seen.configuration == Configuration::Kept, primary) {
        texts.extend(own(primary).filter(|_| is_new || material.ca_certificate.is_some()));
    }
    if let (Configuration::Kept, Some(primary), Some(_)) = (seen.configuration, primary, &material.ca_certificate) {
        texts.extend(primary.instance.and_then(|instance| instance.authorities.clone()));
    }
    joined(material.ca_certificate.as_deref(), has, &texts)
}

/// Joins the CA certificates of texts. What a server trusts already keeps its order, which says nothing: two machines that hold two
/// CAs do not undo each other's.
pub(in crate::plan) fn joined(first: Option<&str>, has: Option<String>, more: &[String]) -> Option<String> {
    let mut texts: Vec<&str> = more.iter().map(String::as_str).collect();
    let mut bundle = match (first, &has) {
        (Some(first), Some(has)) if trusts(has, first) => has.clone(),
        (Some(first), has) => {
            if let Some(has) = has {
                texts.insert(0, has);
            }
            first.to_owned()
        }
        (None, Some(has)) => has.clone(),
        (None, None) => return more.first().cloned(),
    };
    for text in texts {
        let starts = text.match_indices("-----BEGIN CERTIFICATE-----").map(|(start, _)| &text[start..]);
        for block in starts.filter_map(|rest| Some(&rest[..rest.find(CERTIFICATE_END)? + CERTIFICATE_END.len()])) {
            if !bundle.contains(block) {
                if !bundle.ends_with('\n') {
                    bundle.push('\n');
                }
                bundle.push_str(block);
                bundle.push('\n');
            }
        }
    }
    Some(bundle)
}

/// Says whether a bundle of CA certificates holds one.
pub(in crate::plan) fn trusts(bundle: &str, certificate: &str) -> bool {
    let certificate = certificate.trim();
    !certificate.is_empty() && bundle.contains(certificate)
}

/// Returns a bundle of CA certificates without one.
pub(in crate::plan) fn without(bundle: &str, certificate: &str) -> String {
    let rest = bundle.replace(certificate.trim(), "");
    let lines = rest.lines().filter(|line| !line.trim().is_empty());
    lines.flat_map(|line| [line, "\n"]).collect()
}

const CERTIFICATE_END: &str = "-----END CERTIFICATE-----";

/// Returns `postgresql.conf` and the manifest alone: for a change of one setting.
pub fn configuration_only(wanted: &Wanted, layout: &Layout) -> Vec<Entry> {
    let all: Vec<&Entry> = wanted.outside.iter().chain(&wanted.inside).collect();
    let mut entries: Vec<Entry> = all
        .iter()
        .filter(|entry| matches!(entry, Entry::File { path, .. } if path.ends_with("/postgresql.conf") || path.ends_with("/pgstead.conf")))
        .map(|&entry| entry.clone())
        .collect();
    let owned: Vec<Entry> = all.into_iter().cloned().collect();
    entries.extend(files::manifest(layout, &owned));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_gets_what_it_lacks_and_keeps_its_order() {
        let ca = |name: &str| format!("-----BEGIN CERTIFICATE-----\n{name}\n{CERTIFICATE_END}\n");
        let (own, other, third) = (ca("OWN"), ca("OTHER"), ca("THIRD"));
        let both = [other.as_str(), &own].concat();
        assert_eq!(joined(Some(&own), None, &[]), Some(own.clone()));
        assert_eq!(joined(Some(&own), Some(other.clone()), &[]), Some([own.as_str(), &other].concat()));
        // A machine that holds one of two finds nothing to do.
        assert_eq!(joined(Some(&own), Some(both.clone()), std::slice::from_ref(&own)), Some(both.clone()));
        assert_eq!(joined(None, Some(both.clone()), std::slice::from_ref(&other)), Some(both.clone()));
        // What a copy's upstream trusts is added, whoever holds the CA.
        assert_eq!(
            joined(None, Some(other.clone()), &[both.clone(), third.clone()]),
            Some([&both, third.as_str()].concat())
        );
        assert_eq!(joined(None, None, std::slice::from_ref(&both)), Some(both));
        assert_eq!(joined(None, None, &[]), None);
        // One leaves, and the others stay.
        let all = joined(Some(&own), Some(other.clone()), std::slice::from_ref(&third)).unwrap();
        assert_eq!(without(&all, &other), [own.as_str(), &third].concat());
        assert_eq!(without(&without(&all, &other), &other), [own.as_str(), &third].concat());
    }
}

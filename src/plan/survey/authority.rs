//! Whose CA the servers' certificates are of, and what follows where this machine does not hold it.
//!
//! A CA is made for a topology that has none. Whoever made it holds its key, and nothing replaces it by the way: applications that
//! verify the servers would be refused from then on.

use std::collections::BTreeSet;

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::State;
use crate::model::name::{ServerName, TopologyName};
use crate::model::observation::{Observation, ServerObservation};
use crate::model::observed::Observed;
use crate::model::topology::Topology;
use crate::pki;
use crate::pki::OperatorSecrets;
use crate::plan::Material;
use crate::plan::material::Authority;

/// Where the key of the topology's CA is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// No server uses one: it may be made.
    Unmade,
    /// Here.
    Here,
    /// On another machine.
    Elsewhere(Authority),
}

/// What this machine can sign with, and log in with.
#[derive(Debug, Clone)]
pub enum Keys {
    /// All that belongs to the topology's CA.
    Held(Box<OperatorSecrets>),
    /// Nothing: another machine holds the CA.
    Elsewhere(Authority),
}

/// Says where the key of the CA is that the servers use; `own` are the certificates of those that this machine holds: two while one
/// takes the place of the other.
pub fn standing(topology: &Topology, observation: &Observation, own: &[&str]) -> Standing {
    let state = State::of(topology, observation);
    let passed_over = passed_over(topology, observation);
    let used_by = |is_out: bool| {
        let mut names = state.names(|server| server.seen.is_some());
        names.retain(|name| passed_over.contains(name) == is_out);
        // What others verify now counts first: the primary, and servers that run.
        names.sort_by_key(|name| (state.primary() != Some(*name), state.instance(name).is_none()));
        names.into_iter().filter_map(|name| used(name, observation.server(name)?)).collect::<Vec<Used>>()
    };
    let used = match used_by(false) {
        // A server whose place another took may have been fenced before the others got another CA.
        none if none.is_empty() => used_by(true),
        some => some,
    };
    let is_ours = |used: &Used| own.iter().any(|own| used.is_of(own));
    // One is enough: where a run was interrupted, some servers have certificates of an earlier one.
    match used.iter().find(|used| is_ours(used)).or(used.first()) {
        None => Standing::Unmade,
        Some(used) if is_ours(used) => Standing::Here,
        Some(used) => Standing::Elsewhere(used.authority.clone()),
    }
}

/// A CA with the certificate that it signed.
struct Used {
    authority: Authority,
    leaf: Option<String>,
}

impl Used {
    /// Says whether it is of a CA, by that one's certificate.
    fn is_of(&self, ca: &str) -> bool {
        match &self.leaf {
            Some(leaf) => pki::verify_signed_by(leaf, ca).is_ok(),
            None => self.authority.certificate.as_deref().is_some_and(|one| is_same(one, ca)),
        }
    }
}

fn used(name: &ServerName, seen: &ServerObservation) -> Option<Used> {
    let layout = seen.layout.known()?;
    let text = |file: &str| seen.files.get(&layout.own(file)).and_then(Observed::known)?.content.clone();
    let leaf = text("tls/server.crt").filter(|leaf| pki::parse_certificate(leaf).is_ok());
    let trusted = text("ca.crt").and_then(|bundle| pki::split_bundle(&bundle).ok()).unwrap_or_default();
    let certificate = match &leaf {
        Some(leaf) => trusted.into_iter().find(|one| pki::verify_signed_by(leaf, one).is_ok()),
        // Ours is the first.
        None => trusted.into_iter().next(),
    };
    if leaf.is_none() && certificate.is_none() {
        return None;
    }
    let facts = certificate.as_deref().and_then(|one| pki::parse_certificate(one).ok());
    let (maker, since) = facts.map_or((None, None), |facts| (facts.maker, Some(facts.not_before)));
    Some(Used { authority: Authority { server: name.clone(), certificate, maker, since }, leaf })
}

fn is_same(one: &str, other: &str) -> bool {
    let fingerprint = |pem: &str| pki::parse_certificate(pem).ok().map(|facts| facts.fingerprint_sha256);
    fingerprint(one).is_some_and(|one| Some(one) == fingerprint(other))
}

impl Authority {
    /// Says what is known of whoever holds its key.
    fn origin(&self) -> String {
        self.origin_of("It")
    }

    fn origin_of(&self, subject: &str) -> String {
        let day = self.since.map(|since| since.strftime("%-d %B %Y").to_string());
        match (&self.maker, day) {
            (Some(maker), Some(day)) => format!("{subject} was made by {maker} on {day}."),
            (None, Some(day)) => {
                format!("{subject} was made on {day}, by an earlier release that did not note by whom.")
            }
            _ => format!("Server \"{}\" has certificates of it.", self.server),
        }
    }

    /// Returns what to say where this machine does not hold the CA: a message, the facts, and what would help.
    pub fn told(&self, topology: &TopologyName) -> [String; 3] {
        [
            format!("this machine does not hold the CA of topology {topology}"),
            format!(
                "{} pgstead asks the servers through their local sockets over SSH, and issues no certificate.",
                self.origin()
            ),
            format!(
                "Nothing is wrong with the servers. To log in over TLS as well: copy .pgstead/{topology} from there."
            ),
        ]
    }

    /// Refuses what would need the CA.
    pub(in crate::plan) fn refusal(&self, topology: &TopologyName, needs: &str) -> Diagnostic {
        Diagnostic::error(Code::AuthorityNotHeld, format!("this machine does not hold the CA of topology {topology}"))
            .detail(format!("{} {needs}", self.origin()))
            .hint(format!("Copy .pgstead/{topology} from there. Where it is lost for good: pgstead bootstrap --new-authority makes another, and says who will be refused."))
    }
}

/// Tells that this machine does not hold the CA, where it does not, or that it is being replaced.
pub fn notes(topology: &TopologyName, material: &Material) -> Option<Diagnostic> {
    if material.former.is_some() {
        let [message, facts, help] = told_in_rotation(topology);
        return Some(Diagnostic::warning(Code::AuthorityInRotation, message).detail(facts).hint(help));
    }
    let [message, facts, help] = material.elsewhere.as_ref()?.told(topology);
    Some(Diagnostic::note(Code::AuthorityElsewhere, message).detail(facts).hint(help))
}

/// Returns what to say while a CA takes the place of another: a message, the facts, and what finishes it.
pub fn told_in_rotation(topology: &TopologyName) -> [String; 3] {
    [
        format!("the CA of topology {topology} is being replaced"),
        "Certificates of both CAs are in use, or trusted. Nothing is wrong with that for a while.".to_owned(),
        "To finish it: pgstead rotate certificates --ca".to_owned(),
    ]
}

/// Refuses for each of these servers that lacks what only the holder of the CA can give it.
pub fn refusals<'a>(
    topology: &TopologyName,
    material: &Material,
    servers: impl IntoIterator<Item = &'a ServerName>,
) -> Vec<Diagnostic> {
    let Some(authority) = &material.elsewhere else { return Vec::new() };
    let servers: BTreeSet<&ServerName> = servers.into_iter().collect();
    let needs = material.certificates_to_replace.iter().filter(|(name, _)| servers.contains(name));
    needs
        .map(|(name, reason)| {
            authority.refusal(topology, &format!("Server \"{name}\" needs certificates of it: {reason}.")).server(name)
        })
        .collect()
}

/// Refuses for each server whose certificate another CA has signed, which that server trusts, than the one that this machine holds,
/// and is to be replaced: whoever verifies it by that one would be refused. A certificate of nobody's CA is a mistake, and is replaced.
pub fn of_others(topology: &Topology, observation: &Observation, material: &Material) -> Vec<Diagnostic> {
    let refusal = |used: Used| {
        let name = &used.authority.server;
        let message = format!("server \"{name}\" has certificates of another CA than the one that this machine holds");
        Diagnostic::error(Code::AuthorityDiffers, message)
            .server(name)
            .detail(format!(
                "{} Applications that verify it by that CA would refuse one of this machine's.",
                used.authority.origin()
            ))
            .hint("Two CAs are in use. On the machine whose CA is to stay: pgstead bootstrap --new-authority")
    };
    let mut others = counted_others(topology, observation, &material.authorities());
    others.retain(|used| material.certificates_to_replace.contains_key(&used.authority.server));
    others.into_iter().map(refusal).collect()
}

/// Returns the CA of which servers have certificates beside these, if there is another.
pub fn beside(topology: &Topology, observation: &Observation, own: &[&str]) -> Option<Authority> {
    counted_others(topology, observation, own).into_iter().next().map(|used| used.authority)
}

/// The same as [`others`], without servers that have to be re-seeded, and those without data: they get certificates with it.
fn counted_others(topology: &Topology, observation: &Observation, own: &[&str]) -> Vec<Used> {
    let passed_over = passed_over(topology, observation);
    let bare = State::of(topology, observation).names(|server| server.data.is_none());
    let mut others = others(topology, observation, own);
    others.retain(|used| ![&passed_over, &bare].iter().any(|names| names.contains(&&used.authority.server)));
    others
}

/// The servers with certificates that another CA has signed, which they trust.
fn others(topology: &Topology, observation: &Observation, own: &[&str]) -> Vec<Used> {
    if own.is_empty() {
        return Vec::new();
    }
    let servers = topology.servers().filter_map(|server| Some((&server.name, observation.server(&server.name)?)));
    let used = servers.filter_map(|(name, seen)| used(name, seen));
    used.filter(|used| used.authority.certificate.is_some() && !own.iter().any(|own| used.is_of(own))).collect()
}

/// Keeps the certificates of another CA where they are: for a change of the primary, which is about something else.
pub fn keep_others(topology: &Topology, observation: &Observation, material: &mut Material) {
    for used in others(topology, observation, &material.authorities()) {
        material.certificates_to_replace.remove(&used.authority.server);
    }
}

/// The same for a re-seed of one server, as long as others have certificates of another CA, too: which of the two it is to be is for
/// whoever finishes what was begun. The last that is left over from a former CA gets what all others have.
pub fn keep_its(topology: &Topology, observation: &Observation, material: &mut Material, server: &ServerName) {
    let is_it = |used: &Used| used.authority.server == *server;
    let counted = counted_others(topology, observation, &material.authorities());
    if others(topology, observation, &material.authorities()).iter().any(is_it) && !counted.iter().all(is_it) {
        material.certificates_to_replace.remove(server);
    }
}

/// Returns the servers that get no certificate of a new CA yet: another one took their place, and they have to be re-seeded first,
/// for which the CA's key is needed.
pub fn passed_over<'a>(topology: &'a Topology, observation: &'a Observation) -> Vec<&'a ServerName> {
    State::of(topology, observation).names(|server| server.lost_its_place())
}

/// Says that a server is passed over.
pub fn told_passed_over(server: &ServerName) -> Diagnostic {
    let message = format!("server \"{server}\" is fenced and keeps the certificates that it has");
    Diagnostic::warning(Code::FencedPassedOver, message)
        .server(server)
        .detail("Another server took its place. It does not run, and nothing starts it.")
        .hint(format!("When this run has ended, look what it has, and bring it back with new certificates: pgstead reseed {server} --dry-run"))
}

/// Says who is refused by what another CA has signed than the one that servers use: a new one, or one that this machine holds
/// already, since it made it some time ago.
pub fn replaced(topology: &TopologyName, before: &Authority, held: Option<&str>) -> Diagnostic {
    let made = held.and_then(|held| pki::parse_certificate(held).ok()).map(|facts| facts.not_before);
    let what = match made {
        Some(made) => format!("the CA that this machine holds, of {}", made.strftime("%-d %B %Y")),
        None => "a new CA".to_owned(),
    };
    Diagnostic::warning(Code::AuthorityNew, format!("topology {topology} gets certificates of {what}"))
        .detail(format!("{} Servers trust both from then on. Applications that verify the servers with the certificate of the former alone (sslmode=verify-ca, verify-full) are refused from then on, and the machine that holds it asks the servers through their local sockets.", before.origin_of("The one in use")))
        .hint("Give every application the file ca.crt of any server (/var/lib/pgstead/TOPOLOGY/SERVER/ca.crt): it has both.")
}

/// Says that a server is asked on another way than over TLS.
pub fn asked_by_socket(server: &ServerName) -> String {
    format!("server \"{server}\" is asked through its local socket over SSH, and not over TLS")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::model::argv::Piece;
    use crate::model::lifetimes::Lifetimes;
    use crate::model::observation::FileFact;
    use crate::pki::CertificatePair;
    use crate::plan::files::hash::sha256;
    use crate::plan::files::{Entry, desired};
    use crate::plan::material::Due;
    use crate::plan::seen::Seen;

    fn topology() -> Topology {
        let text = std::fs::read_to_string("tests/plan/base/inventory.json").unwrap();
        crate::inventory::read(&text, "inventory").map_err(|problems| format!("{problems:?}")).unwrap().0
    }

    /// The servers of a topology with a CA in use, each with a certificate of it.
    fn observed(used: &[(&str, Option<&CertificatePair>)]) -> Observation {
        let text = std::fs::read_to_string("tests/plan/base/running.json").unwrap();
        let mut observation: Observation = serde_json::from_str(&text).unwrap();
        let now = Timestamp::now();
        for (name, ca) in used {
            let name: ServerName = name.parse().unwrap();
            let Some(Observed::Known(seen)) = observation.servers.get_mut(&name) else { unreachable!() };
            let layout = seen.layout.known().unwrap().clone();
            let Some(ca) = ca else { continue };
            let leaf = pki::Authority::open(&"lab".parse().unwrap(), ca, Lifetimes::default())
                .unwrap()
                .issue_server(&name, &[], now)
                .unwrap();
            for (file, text) in [("ca.crt", &ca.certificate), ("tls/server.crt", &leaf.certificate)] {
                seen.files.insert(layout.own(file), fact(text));
            }
        }
        observation
    }

    #[test]
    fn whoever_goes_back_to_a_ca_is_not_told_of_a_new_one() {
        let name: TopologyName = "lab".parse().unwrap();
        let at: Timestamp = "2026-05-03T10:00:00Z".parse().unwrap();
        let held = pki::create_authority(&name, "ops@laptop1", Lifetimes::default(), at).unwrap();
        let before = Authority {
            server: "a".parse().unwrap(),
            certificate: None,
            maker: Some("ops@laptop2".to_owned()),
            since: Some(Timestamp::UNIX_EPOCH),
        };
        let told = replaced(&name, &before, Some(&held.certificate));
        assert_eq!(told.message, "topology lab gets certificates of the CA that this machine holds, of 3 May 2026");
        assert!(told.detail.unwrap().starts_with("The one in use was made by ops@laptop2 on 1 January 1970. "));
        assert_eq!(replaced(&name, &before, None).message, "topology lab gets certificates of a new CA");
    }

    #[test]
    fn a_ca_is_made_for_a_topology_that_has_none() {
        let (topology, now) = (topology(), Timestamp::now());
        let ca = |maker| pki::create_authority(&"lab".parse().unwrap(), maker, Lifetimes::default(), now).unwrap();
        let (first, second) = (ca("ops@laptop1"), ca("ops@laptop2"));
        let at = |used: &[(&str, Option<&CertificatePair>)], own: Option<&CertificatePair>| {
            standing(&topology, &observed(used), own.map(|own| own.certificate.as_str()).as_slice())
        };
        assert_eq!(at(&[("a", None), ("b", None)], None), Standing::Unmade);
        assert_eq!(at(&[("a", None)], Some(&first)), Standing::Unmade);
        assert_eq!(at(&[("a", Some(&first)), ("b", Some(&first))], Some(&first)), Standing::Here);
        // One server is enough for that it is not made anew.
        for own in [None, Some(&second)] {
            let Standing::Elsewhere(held) = at(&[("b", Some(&first))], own) else { panic!("{own:?}") };
            assert_eq!((held.server.as_str(), held.maker.as_deref()), ("b", Some("ops@laptop1")));
            assert_eq!(held.certificate.as_deref().map(str::trim), Some(first.certificate.trim()));
        }
        // Where the own one is in use beside another, a run was interrupted: whoever made the other is asked before it is replaced.
        let mixed = [("a", Some(&second)), ("b", Some(&first))];
        assert_eq!(at(&mixed, Some(&first)), Standing::Here);
        let names = ["a", "b", "c"].map(|name| name.parse::<ServerName>().unwrap());
        let material_of = |own: &CertificatePair| material_of(own, None, &names);
        let differing = |own: &CertificatePair, used: &[(&str, Option<&CertificatePair>)]| {
            let refusals = of_others(&topology, &observed(used), &material_of(own));
            refusals.into_iter().map(|refusal| (refusal.code, refusal.server.unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(differing(&first, &mixed), [(Code::AuthorityDiffers, "a".to_owned())]);
        assert_eq!(differing(&first, &mixed[1..]), []);
        // Whatever else is done meanwhile leaves the certificates of the other as they are.
        let (seen, mut material) = (observed(&mixed), material_of(&first));
        let due = |material: &Material| {
            material.certificates_to_replace.keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
        };
        for name in &names {
            // There is no other one.
            keep_its(&topology, &seen, &mut material, name);
        }
        assert_eq!(due(&material), ["a", "b", "c"]);
        let two = observed(&[("a", Some(&second)), ("b", Some(&first)), ("c", Some(&second))]);
        let mut of_reseed = material.clone();
        keep_its(&topology, &two, &mut of_reseed, &names[1]);
        assert_eq!(due(&of_reseed), ["a", "b", "c"]);
        keep_its(&topology, &two, &mut of_reseed, &names[2]);
        assert_eq!(due(&of_reseed), ["a", "b"]);
        keep_others(&topology, &seen, &mut material);
        assert_eq!(due(&material), ["b", "c"]);
        // What is left as it is, is not refused.
        assert_eq!(of_others(&topology, &seen, &material), []);
        // Whoever finishes what was begun is told of the other.
        let other = beside(&topology, &seen, &[&first.certificate]).unwrap();
        assert_eq!((other.server.as_str(), other.maker.as_deref()), ("a", Some("ops@laptop2")));
        assert_eq!(beside(&topology, &observed(&mixed[1..]), &[&first.certificate]), None);
    }

    fn fact(text: &str) -> Observed<FileFact> {
        let (owner, mode) = ("root:root".to_owned(), "644".to_owned());
        Observed::Known(FileFact { owner, mode, content: Some(text.to_owned()), sha256: sha256(text), is_link: false })
    }

    /// Another server took the places of these.
    fn fenced(names: &[&ServerName], used: &[(&str, Option<&CertificatePair>)]) -> Observation {
        let mut observation = observed(used);
        for name in names {
            let Some(Observed::Known(seen)) = observation.servers.get_mut(name) else { unreachable!() };
            seen.instance = Observed::Absent;
            if let Observed::Known(data) = &mut seen.data_directory {
                data.standby_signal = false;
            }
            let role = seen.layout.known().unwrap().role_file();
            seen.files.insert(role, fact("fenced\n"));
        }
        observation
    }

    fn material_of(own: &CertificatePair, former: Option<&CertificatePair>, due: &[ServerName]) -> Material {
        Material {
            run: String::new(),
            ca_certificate: Some(own.certificate.clone()),
            former: former.map(|former| former.certificate.clone()),
            elsewhere: None,
            leaves: BTreeMap::new(),
            certificates_to_replace: due.iter().map(|name| (name.clone(), Due::Wished)).collect(),
            passwords: BTreeMap::new(),
            replication: None,
            is_password_elsewhere: false,
        }
    }

    #[test]
    fn a_server_that_comes_back_does_not_trust_a_former_ca_for_good() {
        let (topology, now) = (topology(), Timestamp::now());
        let ca = |topology: &str| {
            pki::create_authority(&topology.parse().unwrap(), "ops@laptop", Lifetimes::default(), now).unwrap()
        };
        let (first, second, foreign) = (ca("lab"), ca("lab"), ca("other"));
        let names = ["a", "b", "c"].map(|name| name.parse::<ServerName>().unwrap());
        let pem = |ca: &CertificatePair| ca.certificate.trim().to_owned();
        // What a server's ca.crt is to be: by the bundles that the primary and the server have.
        let bundle =
            |seen: &Observation, material: &Material, of_primary: &[&CertificatePair], has: &[&CertificatePair]| {
                let mut seen = seen.clone();
                for (name, bundle) in [(&names[1], of_primary), (&names[0], has)] {
                    let Some(Observed::Known(seen)) = seen.servers.get_mut(name) else { unreachable!() };
                    let text: String = bundle.iter().map(|ca| ca.certificate.as_str()).collect();
                    let path = seen.layout.known().unwrap().own("ca.crt");
                    seen.files.insert(path, fact(&text));
                }
                let state = |name| Seen::of_stopped(&topology, &seen, name).unwrap();
                let (server, primary) = (state(&names[0]), state(&names[1]));
                let role = desired::standby_role(&topology, server, &names[1]);
                let wanted = desired::wanted(&topology, &seen, material, server, Some(primary), role).unwrap();
                let path = server.layout.own("ca.crt");
                let is_bundle = |entry: &Entry| match entry {
                    Entry::File { path: of, content: Piece::Text(text), .. } if *of == path => Some(text.clone()),
                    _ => None,
                };
                let text = wanted.outside.iter().find_map(is_bundle).unwrap();
                pki::split_bundle(&text).unwrap().iter().map(|pem| pem.trim().to_owned()).collect::<Vec<_>>()
            };
        let away = fenced(&[&names[0]], &[("a", Some(&first)), ("b", Some(&second)), ("c", Some(&second))]);
        let alone = material_of(&second, None, &[]);
        assert_eq!(bundle(&away, &alone, &[&second], &[&first]), [pem(&second)]);
        // The operator's own CA, and another topology's, stay.
        assert_eq!(bundle(&away, &alone, &[&second], &[&first, &foreign]), [pem(&second), pem(&foreign)]);
        // As long as it is being replaced, all trust both.
        let both = material_of(&second, Some(&first), &[]);
        assert_eq!(bundle(&away, &both, &[&second], &[&first]), [pem(&second), pem(&first)]);
        // So do all while the primary does, or a server that runs has certificates of it: --new-authority in its middle, and after.
        assert_eq!(bundle(&away, &alone, &[&second, &first], &[&first]), [pem(&second), pem(&first)]);
        let mixed = fenced(&[&names[0]], &[("a", Some(&first)), ("b", Some(&second)), ("c", Some(&first))]);
        assert_eq!(bundle(&mixed, &alone, &[&second], &[&first]), [pem(&second), pem(&first)]);
        // Whoever does not hold the CA changes nobody's trust.
        let elsewhere = Material { ca_certificate: None, ..alone };
        assert_eq!(bundle(&away, &elsewhere, &[&second], &[&first]), [pem(&first)]);
    }

    #[test]
    fn servers_that_get_certificates_later_are_in_nobodys_way() {
        let (topology, now) = (topology(), Timestamp::now());
        let ca = || pki::create_authority(&"lab".parse().unwrap(), "ops@laptop", Lifetimes::default(), now).unwrap();
        let (first, second) = (ca(), ca());
        let names = ["a", "b", "c"].map(|name| name.parse::<ServerName>().unwrap());
        // Two are fenced: each can be re-seeded with certificates of the CA that all others have.
        let used = [("a", Some(&first)), ("b", Some(&second)), ("c", Some(&first))];
        let two = fenced(&[&names[0], &names[2]], &used);
        assert_eq!(passed_over(&topology, &two), [&names[0], &names[2]]);
        for name in [&names[0], &names[2]] {
            let mut material = material_of(&second, None, &names);
            keep_its(&topology, &two, &mut material, name);
            assert!(material.certificates_to_replace.contains_key(name), "{name}");
        }
        // One has files of the former CA, and no data.
        let mut bare = observed(&[("a", Some(&second)), ("b", Some(&second)), ("c", Some(&first))]);
        let material = material_of(&second, None, &names[2..]);
        assert_eq!(of_others(&topology, &bare, &material).len(), 1);
        let Some(Observed::Known(c)) = bare.servers.get_mut(&names[2]) else { unreachable!() };
        (c.instance, c.data_directory) = (Observed::Absent, Observed::Absent);
        assert_eq!(of_others(&topology, &bare, &material), []);
        assert_eq!(beside(&topology, &bare, &[&second.certificate]), None);
    }

    /// The first server by name is fenced, and kept the certificates of the CA that all others had before.
    #[test]
    fn a_fenced_server_does_not_stand_for_the_others() {
        let (topology, now) = (topology(), Timestamp::now());
        let ca = |maker| pki::create_authority(&"lab".parse().unwrap(), maker, Lifetimes::default(), now).unwrap();
        let (first, second) = (ca("ops@laptop1"), ca("ops@laptop2"));
        let names = ["a", "b", "c"].map(|name| name.parse::<ServerName>().unwrap());
        let fenced = |used: &[(&str, Option<&CertificatePair>)]| fenced(&[&names[0]], used);
        let maker = |seen: &Observation, own: Option<&CertificatePair>| match standing(
            &topology,
            seen,
            own.map(|own| own.certificate.as_str()).as_slice(),
        ) {
            Standing::Elsewhere(authority) => authority.maker.unwrap(),
            other => format!("{other:?}"),
        };
        let after = fenced(&[("a", Some(&first)), ("b", Some(&second)), ("c", Some(&second))]);
        assert_eq!(passed_over(&topology, &after), [&names[0]]);
        assert_eq!(maker(&after, None), "ops@laptop2");
        // Whoever made the former one holds that of nobody who runs.
        assert_eq!(maker(&after, Some(&first)), "ops@laptop2");
        assert_eq!(maker(&after, Some(&second)), "Here");
        assert_eq!(beside(&topology, &after, &[&second.certificate]), None);
        // Where nobody else uses one, it counts.
        assert_eq!(maker(&fenced(&[("a", Some(&first))]), None), "ops@laptop1");
    }
}

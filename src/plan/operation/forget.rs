//! The plan of `forget-aside`: the removal of one directory that was set aside, after proof that its successor streams.
//!
//! Everything that can be asked of the directory and of the links is asked here; the script asks again on the server. All
//! reasons to refuse come at once (docs/adr/0009-what-is-ever-removed.md).

use crate::diagnostic::{Code, Diagnostic};
use crate::judge;
use crate::judge::ServerState;
use crate::model::argv::Argv;
use crate::model::aside::{Aside, Beside};
use crate::model::beside::{BesideFact, BesideKind};
use crate::model::identity::Identity;
use crate::model::layout::Layout;
use crate::model::name::ServerName;
use crate::model::observation::{Observation, ServerObservation};
use crate::model::observed::Observed;
use crate::model::topology::Topology;
use crate::model::{aside, identity};
use crate::plan::step::{Risk, Step};
use crate::plan::survey::aside::in_the_way;
use crate::plan::{Plan, PlanBuilder, files, scripts};

/// What a check said of a link a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkProof {
    /// The receiving server.
    pub standby: ServerName,
    /// Whether the check proved it healthy, with a row that was written on the primary and read on the standby.
    pub is_proven: bool,
    /// The verdict in a word, for the refusal.
    pub verdict: String,
}

/// A removal that may be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Forget {
    /// Its steps.
    pub plan: Plan,
    /// The directory's own name, without the ending of a removal that has begun.
    pub name: String,
    /// Bytes that it occupies, where they could be counted.
    pub bytes: Option<u64>,
    /// Directories elsewhere to which it leads; they stay.
    pub leads_to: Vec<String>,
}

/// Plans to remove what a server has set aside.
///
/// # Errors
/// Every reason to refuse, at once. Nothing was changed.
pub fn plan_forget(
    topology: &Topology,
    observation: &Observation,
    links: &[LinkProof],
    server: &str,
    name: &str,
    run: &str,
) -> Result<Forget, Vec<Diagnostic>> {
    let Some(server) = topology.servers().map(|known| &known.name).find(|known| known.as_str() == server) else {
        let known: Vec<String> = topology.servers().map(|known| known.name.to_string()).collect();
        let message = format!("topology \"{}\" has no server \"{server}\"", topology.name());
        let detail = format!("It has {}.", known.join(", "));
        return Err(vec![Diagnostic::error(Code::ServerUnknown, message).detail(detail)]);
    };
    let seen = match observation.servers.get(server) {
        Some(Observed::Known(seen)) => seen,
        other => {
            let why = other.and_then(Observed::unreadable).unwrap_or("It was not looked at.").to_owned();
            let message = format!("server \"{server}\" could not be observed");
            return Err(vec![Diagnostic::error(Code::Unreachable, message).server(server).detail(why)]);
        }
    };
    let Observed::Known(layout) = &seen.layout else {
        let message = format!("server \"{server}\": PostgreSQL {} is not installed", topology.common().version);
        return Err(vec![Diagnostic::error(Code::PostgresqlNotInstalled, message).server(server)]);
    };
    let (fact, aside) = find(server, seen, layout, name)?;
    let path = Aside { is_forgotten: false, ..aside.clone() }.path(layout.place());
    let refuse = |code: Code, what: &str| {
        Diagnostic::error(code, format!("server \"{server}\": {} {what}", fact.path)).server(server)
    };
    let mut refusals = Vec::new();
    refusals.extend(in_the_way(fact).map(|(code, why)| refuse(code, "must not be removed").detail(why)));
    if let Some(place) = live_place_in(seen, &fact.path) {
        refusals.push(
            refuse(Code::AsideInUse, "must not be removed").detail(format!("The running instance has {place} in it.")),
        );
    }
    // Of what is no directory nothing else was looked at.
    if fact.kind == BesideKind::Directory
        && let Err((code, why)) = whose(topology, seen, fact, &aside)
    {
        refusals.push(refuse(code, "is not of this topology, as far as can be seen").detail(why));
    }
    let primary = judge::primary(topology, observation);
    match (primary, successor(topology, seen, primary, links, server)) {
        (Some(primary), Ok(())) if refusals.is_empty() => {
            let plan = plan(topology, (server, seen, layout), primary, (fact, &path), run);
            let name = aside::own_name(&path).to_owned();
            let bytes = fact.bytes.known().copied();
            return Ok(Forget { plan, name, bytes, leads_to: fact.leads_to.clone() });
        }
        (_, Err(why)) => refusals.push(
            Diagnostic::error(
                Code::SuccessorNotProven,
                format!("server \"{server}\": that what took its place streams is not proven"),
            )
            .server(server)
            .detail(why)
            .hint("What was set aside is kept until its successor is proven. \"pgstead check\" says what is wrong."),
        ),
        (None, Ok(())) | (Some(_), Ok(())) => {}
    }
    Err(refusals)
}

/// Finds what a name means, with or without the ending of a removal that has begun.
fn find<'a>(
    server: &ServerName,
    seen: &'a ServerObservation,
    layout: &Layout,
    name: &str,
) -> Result<(&'a BesideFact, Aside), Vec<Diagnostic>> {
    let begun = [name, aside::FORGOTTEN].concat();
    let called = |wanted: &str| seen.beside_facts.iter().find(|fact| aside::own_name(&fact.path) == wanted);
    let Some(fact) = called(name).or_else(|| called(&begun)) else {
        let named = |fact: &BesideFact| match aside::read(layout.place(), &fact.path) {
            Beside::Aside(_) => Some(aside::own_name(&fact.path).to_owned()),
            Beside::Seed { .. } | Beside::Other => None,
        };
        let there: Vec<String> = seen.beside_facts.iter().filter_map(named).collect();
        let detail = if there.is_empty() {
            format!("Nothing was set aside beside {}.", layout.place())
        } else {
            format!("Set aside beside {}: {}.", layout.place(), there.join(", "))
        };
        let message = format!("server \"{server}\": nothing of the name \"{name}\" was set aside");
        return Err(vec![
            Diagnostic::error(Code::AsideUnknown, message)
                .server(server)
                .detail(detail)
                .hint("\"pgstead status\" lists what was set aside; the name is the directory's own, without a path."),
        ]);
    };
    let refuse = |why: &str| {
        let message = format!("server \"{server}\": {} has no name of something that was set aside", fact.path);
        vec![Diagnostic::error(Code::AsideNotNamedByUs, message).server(server).detail(why.to_owned())]
    };
    match aside::read(layout.place(), &fact.path) {
        Beside::Aside(aside) => Ok((fact, aside)),
        Beside::Seed { .. } => Err(refuse("It is a data directory that a run put together and did not complete.")),
        Beside::Other => Err(refuse("pgstead did not give it, and never removes what it did not name.")),
    }
}

/// Says whether the directory is of this topology: by its mark, or by a system identifier that equals the topology's.
fn whose(
    topology: &Topology,
    seen: &ServerObservation,
    fact: &BesideFact,
    aside: &Aside,
) -> Result<(), (Code, String)> {
    if let Observed::Known(text) = &fact.identity {
        return match Identity::parse(text) {
            Some(identity) if identity.topology == topology.name().as_str() => Ok(()),
            Some(identity) => Err((
                Code::AsideNotOurs,
                format!("Its mark says: server \"{}\" of topology \"{}\".", identity.server, identity.topology),
            )),
            None => Err((Code::AsideNotOurs, "Its mark is not understood.".to_owned())),
        };
    }
    if let Some(why) = fact.identity.unreadable() {
        return Err((Code::AsideUnreadable, format!("Its mark could not be read: {why}.")));
    }
    // The last thing that a removal takes away is the mark; then nothing is left to lose.
    if aside.is_forgotten && fact.entries == 0 {
        return Ok(());
    }
    let ours = ServerState::of_seen(seen).instance().map(|instance| instance.system_identifier);
    match (fact.control.look(), ours) {
        (Ok(Some(control)), Some(ours)) if control.system_identifier == ours => Ok(()),
        (Ok(Some(control)), Some(ours)) => Err((
            Code::AsideNotOurs,
            format!(
                "It has no mark, and its system identifier is {}; the topology's is {ours}.",
                control.system_identifier
            ),
        )),
        (Ok(Some(_)), None) => Err((
            Code::AsideNotOurs,
            "It has no mark, and no instance runs here whose system identifier it could share.".to_owned(),
        )),
        (Ok(None), _) => Err((Code::AsideNotOurs, "It has neither a mark nor a control file.".to_owned())),
        (Err(why), _) => {
            Err((Code::AsideNotOurs, format!("It has no mark, and its control file could not be read: {why}.")))
        }
    }
}

/// Returns what the running instance keeps below a path, where it does: a tablespace, or the data directory itself.
fn live_place_in(seen: &ServerObservation, path: &str) -> Option<String> {
    let instance = ServerState::of_seen(seen).instance()?;
    let is_in = |place: &str| place == path || place.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    if instance.settings.get("data_directory").is_some_and(|setting| is_in(&setting.setting)) {
        return Some("its data directory".to_owned());
    }
    let held = instance.tablespaces.iter().find(|(_, place)| is_in(place));
    held.map(|(name, _)| format!("tablespace \"{name}\""))
}

/// Says whether the server's own instance is proven: a standby by its link, the primary by every link from it.
fn successor(
    topology: &Topology,
    seen: &ServerObservation,
    primary: Option<&ServerName>,
    links: &[LinkProof],
    server: &ServerName,
) -> Result<(), String> {
    let Some(primary) = primary else {
        return Err("No server, or more than one, was seen to accept writes.".to_owned());
    };
    let state = ServerState::of_seen(seen);
    if state.instance().is_none() {
        return Err("Its instance does not run, or does not answer.".to_owned());
    }
    let mark = state.mark;
    if mark.is_none_or(|mark| mark.topology != topology.name().as_str() || mark.server != server.as_str()) {
        return Err("The data directory in its place has no mark of this server.".to_owned());
    }
    let concerned: Vec<&LinkProof> = match primary == server {
        true => links.iter().collect(),
        false => links.iter().filter(|link| link.standby == *server && state.standby().is_some()).collect(),
    };
    if concerned.is_empty() {
        return Err("There is no link by which it could be proven.".to_owned());
    }
    match concerned.iter().find(|link| !link.is_proven) {
        Some(link) => Err(format!("The link towards \"{}\" is {}.", link.standby, link.verdict)),
        None => Ok(()),
    }
}

/// The proof once more, at the moment when it counts, and the removal behind it.
fn plan(
    topology: &Topology,
    (server, seen, layout): (&ServerName, &ServerObservation, &Layout),
    primary: &ServerName,
    (fact, path): (&BesideFact, &str),
    run: &str,
) -> Plan {
    let mut links = topology.links(primary);
    links.retain(|link| primary == server || link.standby == *server);
    let proof = Step::prove(primary, links);
    let mark = identity::text(topology.name(), server, ServerState::of_seen(seen).configuration());
    let command = Argv::new(files::administrator(seen), "sh")
        .args(["-c", scripts::FORGET_ASIDE, "pgstead-forget-aside", path, layout.place()])
        .args([&layout.pgstead_directory, run, &mark, &layout.os_user]);
    let title = match fact.path == path {
        true => format!("remove {path} for good"),
        false => format!("finish the removal of {path}"),
    };
    let mut plan = PlanBuilder::default();
    let proven = plan.add(proof, []);
    plan.add(Step::run(server, Risk::Destructive, title, vec![command]), [proven]);
    Plan { topology: topology.name().clone(), steps: plan.finish(), settings: Vec::new(), notes: Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// A directory that was set aside, its successor, and what pgstead keeps, in a directory of this test's own.
    struct Place {
        dir: tempfile::TempDir,
    }

    const NAME: &str = "main.aside.20260102T030405Z.r0.replaced";
    const GONE: &str = "main.aside.20260102T030405Z.r0.replaced.forgotten";
    const MARK: &str = "topology t\nserver b\n";

    impl Place {
        fn new() -> Self {
            let place = Self { dir: tempfile::tempdir().unwrap() };
            for directory in ["main/pg_tblspc", "own", &[NAME, "/base/1"].concat(), "elsewhere"] {
                fs::create_dir_all(place.path(directory)).unwrap();
            }
            fs::write(place.path("main/PG_VERSION"), "15\n").unwrap();
            fs::write(place.path(&[NAME, "/base/1/1259"].concat()), "rows").unwrap();
            fs::write(place.path("own/lock"), r#"{"run":"r1"}"#).unwrap();
            fs::write(place.path("elsewhere/kept"), "kept").unwrap();
            place.link("../elsewhere", &[NAME, "/base/link"].concat());
            place
        }

        fn link(&self, target: &str, name: &str) {
            std::os::unix::fs::symlink(target, self.path(name)).unwrap();
        }

        fn path(&self, name: &str) -> String {
            self.dir.path().join(name).to_str().unwrap().to_owned()
        }

        fn is_there(&self, name: &str) -> bool {
            Path::new(&self.path(name)).symlink_metadata().is_ok()
        }

        fn forget(&self, name: &str) -> Result<(), String> {
            let (aside, data, own) = (self.path(name), self.path("main"), self.path("own"));
            let script = scripts::FORGET_ASIDE;
            let output = Command::new("sh")
                .args(["-c", script, "test", &aside, &data, &own, "r1", MARK, "root"])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            if output.status.success() {
                Ok(())
            } else {
                Err(format!("{}: {said}", output.status.code().unwrap_or(-1)))
            }
        }

        #[track_caller]
        fn refuses(&self, why: &str) {
            let said = self.forget(NAME).unwrap_err();
            assert!(said.starts_with("73: ") && said.contains(why), "{said}");
            assert!(self.is_there("main/PG_VERSION") && self.is_there("elsewhere/kept"));
        }
    }

    #[test]
    fn one_directory_goes_and_nothing_that_it_leads_to() {
        let place = Place::new();
        place.forget(NAME).unwrap();
        assert!(!place.is_there(NAME) && !place.is_there(GONE));
        assert!(place.is_there("main/PG_VERSION") && place.is_there("elsewhere/kept") && place.is_there("own/lock"));
        place.refuses("is not a directory");
    }

    #[test]
    fn a_removal_that_was_interrupted_is_finished() {
        // Anywhere: after the rename, with the mark alone, and with nothing left in it.
        for left in [&["base/1/1259", "pgstead.identity"][..], &["pgstead.identity"], &[]] {
            let place = Place::new();
            fs::rename(place.path(NAME), place.path(GONE)).unwrap();
            if !left.contains(&"base/1/1259") {
                for name in ["base/1/1259", "base/link"] {
                    fs::remove_file(place.path(&[GONE, "/", name].concat())).unwrap();
                }
                fs::remove_dir(place.path(&[GONE, "/base/1"].concat())).unwrap();
                fs::remove_dir(place.path(&[GONE, "/base"].concat())).unwrap();
            }
            if left.contains(&"pgstead.identity") {
                fs::write(place.path(&[GONE, "/pgstead.identity"].concat()), MARK).unwrap();
            }
            place.forget(NAME).unwrap();
            assert!(!place.is_there(GONE) && place.is_there("elsewhere/kept"), "{left:?}");
        }
    }

    #[test]
    fn the_mark_is_the_last_to_go() {
        let place = Place::new();
        // What cannot be removed stops the removal: here a program that does not do it.
        let bin = place.path("bin");
        fs::create_dir(&bin).unwrap();
        fs::write(format!("{bin}/rm"), "#!/bin/sh\necho \"$@\" >&2\nexit 1\n").unwrap();
        Command::new("chmod").args(["755", &format!("{bin}/rm")]).status().unwrap();
        let script = ["PATH=", &bin, ":$PATH\n", scripts::FORGET_ASIDE].concat();
        let (aside, data, own) = (place.path(NAME), place.path("main"), place.path("own"));
        let output =
            Command::new("sh").args(["-c", &script, "t", &aside, &data, &own, "r1", MARK, "root"]).output().unwrap();
        assert_eq!(output.status.code(), Some(74));
        let asked = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(asked.contains("/base") && !asked.contains("pgstead.identity"), "{asked}");
        assert_eq!(fs::read_to_string(place.path(&[GONE, "/pgstead.identity"].concat())).unwrap(), MARK);
        assert!(place.is_there(&[GONE, "/base/1/1259"].concat()));
        place.forget(NAME).unwrap();
        assert!(!place.is_there(GONE));
    }

    #[test]
    fn each_reason_not_to_remove_rings() {
        let place = Place::new();
        fs::write(place.path("own/lock"), r#"{"run":"r11"}"#).unwrap();
        place.refuses("the lock of run r1 is not in");

        let place = Place::new();
        fs::create_dir(place.path("main.aside.x")).unwrap();
        fs::create_dir(place.path(GONE)).unwrap();
        for name in ["main", "elsewhere", "main.aside.x/../elsewhere", "other.aside.x", GONE] {
            let said = place.forget(name).unwrap_err();
            let why = ["does not stand beside", "is not a name"].iter().any(|why| said.contains(why));
            assert!(said.starts_with("73: ") && why, "{name}: {said}");
        }
        assert!(place.is_there("elsewhere/kept") && place.is_there("main/PG_VERSION") && place.is_there(GONE));

        place.refuses("both");

        let place = Place::new();
        fs::rename(place.path(NAME), place.path("moved")).unwrap();
        place.link("moved", NAME);
        place.refuses("is a symbolic link");
        assert!(place.is_there("moved/base/1/1259"));

        let place = Place::new();
        fs::rename(place.path("main"), place.path(&[NAME, "/main"].concat())).unwrap();
        place.link(&[NAME, "/main"].concat(), "main");
        place.refuses("is in");

        let place = Place::new();
        place.link(&place.path(&[NAME, "/base"].concat()), "main/pg_tblspc/16400");
        place.refuses("pg_tblspc/16400 is in");

        let place = Place::new();
        place.link(&place.path(&[NAME, "/pg_wal"].concat()), "main/pg_wal");
        fs::create_dir(place.path(&[NAME, "/pg_wal"].concat())).unwrap();
        place.refuses("pg_wal is in");

        let place = Place::new();
        let mut process =
            Command::new("sleep").arg("60").current_dir(place.path(&[NAME, "/base"].concat())).spawn().unwrap();
        place.refuses("works in");
        process.kill().unwrap();
        process.wait().unwrap();
        place.forget(NAME).unwrap();
    }
}

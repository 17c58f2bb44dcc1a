//! Setting a data directory aside, which is the only way in which pgstead makes room for another one, and what is said of
//! those that were: `reseed` calls [`set_aside`]; survey and preflight name what holds room. Nothing here removes anything.

use crate::diagnostic::{Code, Diagnostic};
use crate::model::argv::Argv;
use crate::model::aside;
use crate::model::aside::{Aside, Beside};
use crate::model::beside::BesideFact;
use crate::model::layout::Layout;
use crate::model::name::ServerName;
use crate::model::observation::ServerObservation;
use crate::model::quantity::bytes;
use crate::plan::seen::Seen;
use crate::plan::step::{Risk, Step};
use crate::plan::{files, scripts};

/// Returns the step that sets a server's data directory aside: a rename in its parent directory, after which the place is free.
///
/// Where an instance runs, the plan stops it before. The script asks everything again on the server at that moment, and that
/// the lock is the run's.
///
/// # Errors
/// Nobody knows whether its instance runs, it is a mount point, or the name is taken.
pub fn set_aside(seen: Seen<'_>, aside: &Aside) -> Result<Step, Box<Diagnostic>> {
    let (name, layout) = (&seen.server.name, seen.layout);
    let data = layout.place();
    let target = aside.path(data);
    let there = seen.state().data;
    let why = if seen.state().answer.is_err() {
        Some("Its instance could not be asked.".to_owned())
    } else if there.is_none() {
        Some("There is no data directory.".to_owned())
    } else if there.is_some_and(|data| data.is_mount_point) {
        Some("It is a mount point, which cannot be renamed.".to_owned())
    } else if seen.seen.beside.contains(&target) {
        Some(format!("{target} is there already."))
    } else {
        None
    };
    if let Some(why) = why {
        let message = format!("server \"{name}\": data directory \"{data}\" cannot be set aside");
        return Err(Box::new(Diagnostic::error(Code::CannotSetAside, message).server(name).detail(why)));
    }
    let command = Argv::new(files::administrator(seen.seen), "sh")
        .args(["-c", scripts::SET_ASIDE, "pgstead-set-aside", data, &target, &layout.pgstead_directory, &aside.run])
        .args([layout.unit.clone().unwrap_or_default(), files::own_directory_owner(seen.seen, layout)])
        .arg(&layout.os_user);
    let title = format!("set the data directory aside: {}", aside.reason);
    Ok(Step::run(name, Risk::Destructive, title, vec![command]))
}

/// Returns the remark about something that stands beside a data directory.
pub fn remark(server: &ServerName, layout: &Layout, path: &str) -> Diagnostic {
    let note = |kind: &str| {
        Diagnostic::note(Code::LeftBeside, format!("server \"{server}\": {path} is not in use; {kind}")).server(server)
    };
    match aside::read(layout.place(), path) {
        Beside::Seed { .. } => note("an interrupted run left it"),
        Beside::Aside(Aside { is_forgotten: true, .. }) => {
            note("its removal was interrupted").hint(command(server, path))
        }
        Beside::Aside(_) => {
            note("it was set aside").hint(format!("When it is no longer needed: {}", command(server, path)))
        }
        Beside::Other => note("pgstead did not name it, and never removes it"),
    }
}

/// Returns the command that removes what was set aside.
pub fn command(server: &ServerName, path: &str) -> String {
    let name = aside::own_name(path);
    format!("pgstead forget-aside {server} {}", name.strip_suffix(aside::FORGOTTEN).unwrap_or(name))
}

/// Returns what holds room on the disk of a data directory and might go, as a fact and an advice. It is told, never removed.
pub fn room_held(server: &ServerName, seen: &ServerObservation) -> Option<(String, String)> {
    let layout = seen.layout.known()?;
    let asides = |path: &&String| matches!(aside::read(layout.place(), path), Beside::Aside(_));
    let paths: Vec<&String> = seen.beside.iter().filter(asides).collect();
    let size = |path: &str| {
        let fact: Option<&BesideFact> = seen.beside_facts.iter().find(|fact| fact.path == path);
        fact.and_then(|fact| fact.bytes.known()).map_or(String::new(), |size| format!(" ({})", bytes(*size)))
    };
    let listed: Vec<String> = paths.iter().map(|path| format!("{path}{}", size(path))).collect();
    let commands: Vec<String> = paths.iter().map(|path| command(server, path)).collect();
    (!paths.is_empty()).then(|| {
        (
            format!("What was set aside stands there, too: {}.", listed.join(", ")),
            format!(
                "pgstead removes nothing to make room. Move what was set aside to another disk; once a successor streams, {} removes it.",
                commands.join(", ")
            ),
        )
    })
}

/// Returns why a directory beside a data directory must not be touched; none where nothing speaks against it.
pub(in crate::plan) fn in_the_way(fact: &BesideFact) -> Option<(Code, String)> {
    use crate::model::beside::BesideKind::*;
    match fact.kind {
        Link => return Some((Code::AsideNotADirectory, "It is a symbolic link.".to_owned())),
        Other => return Some((Code::AsideNotADirectory, "It is not a directory.".to_owned())),
        DataDirectory => {
            return Some((Code::AsideInUse, "It is the data directory itself, under another name.".to_owned()));
        }
        Directory => {}
    }
    match (fact.mount.look(), fact.process.look()) {
        (Ok(Some(mount)), _) => Some((Code::AsideHoldsMount, format!("Something is mounted at {mount}."))),
        (_, Ok(Some(pid))) => Some((Code::AsideInUse, format!("Process {pid} works in it."))),
        (Err(why), _) | (_, Err(why)) => Some((Code::AsideUnreadable, format!("{why}."))),
        (Ok(None), Ok(None)) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;

    /// A data directory with what pgstead keeps about it, in a directory of this test's own.
    struct Place {
        dir: tempfile::TempDir,
    }

    const NAME: &str = "main.aside.20260102T030405Z.r1.replaced";

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("main/global")).unwrap();
            fs::create_dir(dir.path().join("own")).unwrap();
            fs::write(dir.path().join("main/PG_VERSION"), "15\n").unwrap();
            fs::write(dir.path().join("own/lock"), r#"{"run":"r1","operation":"reseed"}"#).unwrap();
            fs::write(dir.path().join("own/data-directory"), format!("{}\n", dir.path().join("main").display()))
                .unwrap();
            Self { dir }
        }

        fn path(&self, name: &str) -> String {
            self.dir.path().join(name).to_str().unwrap().to_owned()
        }

        fn is_there(&self, name: &str) -> bool {
            Path::new(&self.path(name)).symlink_metadata().is_ok()
        }

        fn set_aside(&self, data: &str, target: &str) -> Result<(), String> {
            let owner = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
            let owner = [owner.trim(), ":"].concat();
            sh(scripts::SET_ASIDE, &[data, target, &self.path("own"), "r1", "", &owner, "root"])
        }

        #[track_caller]
        fn refuses(&self, why: &str) {
            let said = self.set_aside(&self.path("main"), &self.path(NAME)).unwrap_err();
            assert!(said.starts_with("73: ") && said.contains(why), "{said}");
            let record = fs::read_to_string(self.path("own/data-directory")).unwrap();
            assert_eq!(record.trim(), self.path("main"), "the record is as it was");
        }
    }

    fn sh(script: &str, args: &[&str]) -> Result<(), String> {
        let output = Command::new("sh").args(["-c", script, "test"]).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(format!("{}: {said}", output.status.code().unwrap_or(-1))) }
    }

    #[test]
    fn a_data_directory_is_renamed_and_its_record_follows() {
        let place = Place::new();
        place.set_aside(&place.path("main"), &place.path(NAME)).unwrap();
        assert!(!place.is_there("main") && place.is_there(&[NAME, "/PG_VERSION"].concat()));
        let record = fs::read_to_string(place.path("own/data-directory")).unwrap();
        assert_eq!(record.trim(), place.path(NAME));
        assert!(!place.is_there("own/data-directory.new"));
    }

    #[test]
    fn each_reason_not_to_set_aside_rings() {
        let place = Place::new();
        fs::write(place.path("own/lock"), r#"{"run":"r2"}"#).unwrap();
        place.refuses("the lock of run r1 is not in");
        fs::remove_file(place.path("own/lock")).unwrap();
        place.refuses("the lock of run r1 is not in");

        let place = Place::new();
        fs::create_dir(place.path(NAME)).unwrap();
        place.refuses("is there already");
        fs::remove_dir(place.path(NAME)).unwrap();
        std::os::unix::fs::symlink("nowhere", place.path(NAME)).unwrap();
        place.refuses("is there already");

        let place = Place::new();
        fs::rename(place.path("main"), place.path("elsewhere")).unwrap();
        place.refuses("is not a directory");
        std::os::unix::fs::symlink("elsewhere", place.path("main")).unwrap();
        place.refuses("is a symbolic link");

        let place = Place::new();
        let sleeper = |at: &str| {
            let mut command = Command::new("sleep");
            command.arg("60").current_dir(place.path(at)).stdin(Stdio::null()).spawn().unwrap()
        };
        for at in ["main", "main/global"] {
            let mut process = sleeper(at);
            place.refuses(&format!("process {} works in", process.id()));
            process.kill().unwrap();
            process.wait().unwrap();
        }
        // A postmaster that was killed leaves its file; the number is another process's by now.
        fs::write(place.path("main/postmaster.pid"), format!("{}\n", std::process::id())).unwrap();
        place.set_aside(&place.path("main"), &place.path(NAME)).unwrap();
    }

    #[test]
    fn neither_a_mount_nor_another_place_is_a_target() {
        let place = Place::new();
        let said = place.set_aside("/proc", "/proc.aside.20260102T030405Z.r1.replaced").unwrap_err();
        assert!(said.starts_with("73: ") && said.contains("another file system"), "{said}");
        let data = place.path("main");
        for target in ["own/main.aside.x", "other.aside.x", "main.aside./../x", "main"] {
            let said = place.set_aside(&data, &place.path(target)).unwrap_err();
            assert!(said.contains("does not stand beside"), "{target}: {said}");
        }
        assert!(place.is_there("main/PG_VERSION"));
    }

    #[test]
    fn what_holds_room_is_named_with_its_command() {
        let server = "b".parse().unwrap();
        let text = remark(&server, &layout(), "/srv/main.aside.20260102T030405Z.r1.replaced.forgotten");
        assert_eq!(text.hint.as_deref(), Some("pgstead forget-aside b main.aside.20260102T030405Z.r1.replaced"));
        let text = remark(&server, &layout(), "/srv/main.aside.old");
        assert!(text.message.ends_with("never removes it") && text.hint.is_none());
    }

    fn layout() -> Layout {
        Layout {
            kind: crate::model::layout::LayoutKind::Plain,
            bin_directory: "/usr/bin".into(),
            data_directory: "/srv/main".into(),
            data_place: None,
            config_directory: None,
            unit: None,
            socket_directory: "/srv/main.pgstead".into(),
            os_user: "postgres".into(),
            pgstead_directory: "/srv/main.pgstead".into(),
        }
    }
}

//! Whoever owns a directory can put a link in place of anything in it. With real shells, as root: whatever the instance's user
//! plants, root makes, changes and removes nothing that this user could not (docs/adr/0022-whose-hands.md).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use pgstead::observe::probe;
use pgstead::observe::probe::Wish;
use pgstead::plan::scripts;

/// Who plants the links; every system has it.
const USER: &str = "nobody";

/// A directory of root's, with one of the user's and one that is to stay as it is.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let me = Command::new("id").arg("-u").output().unwrap().stdout;
        assert_eq!(me, b"0\n", "this test acts as two users, for which it must be root");
        // Below /tmp everybody may rename; this is a place of root's.
        let dir = tempfile::Builder::new().prefix("pgstead-owner-").tempdir_in("/var/lib").unwrap();
        let place = Self { dir };
        run(&["chmod", "0755", &place.at("")]);
        for name in ["units", "own", "theirs"] {
            fs::create_dir(place.at(name)).unwrap();
            run(&["chmod", "0755", &place.at(name)]);
        }
        fs::create_dir(place.at("units/base")).unwrap();
        fs::write(place.at("units/base/ssh.service"), "root's\n").unwrap();
        place.give("theirs");
        place
    }

    fn at(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().trim_end_matches('/').to_owned()
    }

    fn give(&self, name: &str) {
        run(&["chown", "-Rh", USER, &self.at(name)]);
    }

    fn owner(&self, name: &str) -> u32 {
        fs::symlink_metadata(self.at(name)).unwrap().uid()
    }

    /// What is root's is as it was.
    #[track_caller]
    fn is_untouched(&self) {
        let all = Command::new("find").arg(self.at("units")).args(["-printf", "%P %u %m\\n"]).output().unwrap();
        let all = String::from_utf8(all.stdout).unwrap();
        let mut all: Vec<&str> = all.lines().map(str::trim).collect();
        all.sort_unstable();
        assert_eq!(all, ["base root 755", "base/ssh.service root 644", "root 755"]);
        assert_eq!(fs::read_to_string(self.at("units/base/ssh.service")).unwrap(), "root's\n");
    }
}

fn run(words: &[&str]) {
    assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success(), "{words:?}");
}

fn sh(script: &str, args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new("sh")
        .args(["-c", script, "test"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A script that refuses at once reads nothing.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

#[track_caller]
fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Issue 17, D1: `/etc/postgresql/15/main`, made a link into the directory of root's units by its owner.
#[test]
fn files_are_not_written_where_a_planted_link_leads() {
    let place = Place::new();
    symlink(place.at("units"), place.at("theirs/main")).unwrap();
    let conf = place.at("theirs/main/start.conf");
    let made = place.at("theirs/main/conf.d");
    let said = sh(
        scripts::INSTALL_FILES,
        &[USER, "d", &made, "nobody:", "0755", "f", &conf, "nobody:", "0644", "5"],
        "auto\n",
    );
    assert!(!said.status.success());
    place.is_untouched();

    // The place of the file itself, and that of what is written beside it.
    fs::remove_file(place.at("theirs/main")).unwrap();
    fs::create_dir(place.at("theirs/main")).unwrap();
    place.give("theirs");
    for name in ["start.conf", "start.conf.pgstead-new"] {
        symlink(place.at("units/base/ssh.service"), place.at(&["theirs/main/", name].concat())).unwrap();
    }
    succeeds(&sh(scripts::INSTALL_FILES, &[USER, "f", &conf, "nobody:", "0644", "5"], "auto\n"));
    place.is_untouched();
    assert_eq!(fs::read_to_string(&conf).unwrap(), "auto\n");
    assert_ne!(place.owner("theirs/main/start.conf"), 0, "root gave something away, or kept it, in the user's place");
}

/// What root installs in places of its own is root's, and what it hands over there is made where nobody else could swap it.
#[test]
fn a_place_of_roots_stays_roots() {
    let place = Place::new();
    let (role, tls) = (place.at("own/role"), place.at("own/tls.1"));
    let key = [&tls, "/server.key"].concat();
    let args = ["d", &tls, "nobody:", "0700", "f", &key, "nobody:", "0600", "4", "f", &role, "root:root", "0644", "8"];
    succeeds(&sh(scripts::INSTALL_FILES, &[&[USER][..], &args].concat(), "key\nprimary\n"));
    assert_eq!((place.owner("own/role"), fs::read_to_string(&role).unwrap().as_str()), (0, "primary\n"));
    assert_ne!(place.owner("own/tls.1"), 0);
    assert_ne!(place.owner("own/tls.1/server.key"), 0);
    assert_eq!(fs::metadata(&key).unwrap().mode() & 0o777, 0o600);
    // The directory is the user's, and so is what it puts there before the next file comes.
    let link = [&key, ".pgstead-new"].concat();
    symlink(place.at("units/base/new.service"), &link).unwrap();
    succeeds(&sh(scripts::INSTALL_FILES, &[USER, "f", &key, "nobody:", "0600", "4"], "KEY\n"));
    place.is_untouched();
}

/// Several places are judged with one program, whose answer holds names of the user's. A name that looks like an answer costs
/// all verdicts, and forges none.
#[test]
fn a_name_that_looks_like_a_verdict_is_none() {
    let place = Place::new();
    let judge = |places: &[&str]| {
        let script =
            ["user=nobody\n", include_str!("../src/plan/scripts/owner.sh"), "judge \"$@\"; echo \"=$verdicts\""];
        let said = sh(&script.concat(), places, "");
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    };
    let (own, theirs) = (place.at("own"), place.at("theirs"));
    let (absent, of_theirs) = (place.at("own/no  such"), place.at("theirs/no such"));
    assert_eq!(judge(&[&own, &theirs, &absent, &of_theirs]), "=1010");
    symlink(["x\nf: ", &theirs, "\n drwxr-xr-x root root y"].concat(), place.at("theirs/led")).unwrap();
    assert_eq!(judge(&[&place.at("theirs/led/main"), &theirs]), "=");
}

#[test]
fn a_directory_is_not_made_where_a_planted_link_leads() {
    let place = Place::new();
    symlink(place.at("units"), place.at("theirs/15")).unwrap();
    for directory in ["theirs/15/main", "theirs/15/a/b"] {
        assert!(!sh(scripts::ENSURE_DIRECTORY, &[&place.at(directory), USER, "0700"], "").status.success());
    }
    place.is_untouched();
    // In its own places it is the user's, and a new one in a place of root's is given to it.
    for directory in ["theirs/16/main", "own/new/data", "own/data/lib"] {
        succeeds(&sh(scripts::ENSURE_DIRECTORY, &[&place.at(directory), USER, "0700"], ""));
        assert_ne!(place.owner(directory), 0, "{directory}");
    }
    assert_eq!(place.owner("own/new"), 0);
    assert_eq!(fs::metadata(place.at("own/new/data")).unwrap().mode() & 0o777, 0o700);
}

/// Programs that stand before the true ones, and do something first: what another process would do in that very moment.
fn before(place: &Place, program: &str, does: &str) -> String {
    let bin = place.at("bin");
    fs::create_dir_all(&bin).unwrap();
    let truly = Command::new("sh").args(["-c", "command -v \"$1\"", "sh", program]).output().unwrap().stdout;
    let text = ["#!/bin/sh\n", does, "\nexec ", String::from_utf8(truly).unwrap().trim(), " \"$@\"\n"].concat();
    fs::write([&bin, "/", program].concat(), text).unwrap();
    run(&["chmod", "0755", &bin, &[&bin, "/", program].concat()]);
    ["PATH=", &bin, ":$PATH\n"].concat()
}

/// Issue 17, D3: the directory is swapped for a link between the moment in which what is in it was listed, and its removal.
#[test]
fn a_removal_that_is_led_astray_removes_nothing_of_roots() {
    const NAME: &str = "theirs/main.aside.20260102T030405Z.r0.replaced";
    let place = Place::new();
    for directory in ["theirs/main/pg_tblspc", &[NAME, "/base"].concat()] {
        fs::create_dir_all(place.at(directory)).unwrap();
    }
    fs::write(place.at(&[NAME, "/base/1259"].concat()), "rows").unwrap();
    fs::write(place.at("own/lock"), r#"{"run":"r1"}"#).unwrap();
    place.give("theirs");
    let gone = place.at(&[NAME, ".forgotten"].concat());
    let swap = format!("mv {gone} {gone}.moved 2>/dev/null && ln -s {} {gone}", place.at("units"));
    let script = [&before(&place, "rm", &swap), scripts::FORGET_ASIDE].concat();
    let (aside, data, own) = (place.at(NAME), place.at("theirs/main"), place.at("own"));
    let said = sh(&script, &[&aside, &data, &own, "r1", "topology t\nserver b\n", USER], "");
    assert!(!said.status.success());
    assert!(fs::symlink_metadata(&gone).unwrap().is_symlink(), "the attack did not happen");
    place.is_untouched();
}

/// The directory that the record names is another one by then: one above it was swapped for a link.
#[test]
fn what_an_unfinished_job_made_is_removed_by_its_owner() {
    let place = Place::new();
    let seed = place.at("theirs/15/main.seed.r0");
    fs::create_dir_all([&seed, "/base"].concat()).unwrap();
    place.give("theirs");
    fs::create_dir_all(place.at("victim/main.seed.r0")).unwrap();
    fs::write(place.at("victim/main.seed.r0/kept"), "root's\n").unwrap();
    fs::create_dir_all(place.at("own/jobs/seed")).unwrap();
    fs::write(place.at("own/jobs/seed/record"), format!("run r0\nseed {seed}\n")).unwrap();
    for name in ["lock", "status"] {
        fs::write(place.at(&["own/jobs/seed/", name].concat()), "").unwrap();
    }
    let above = place.at("theirs/15");
    let swap = format!("[ -L {above} ] || {{ mv {above} {above}.moved; ln -s {} {above}; }}", place.at("victim"));
    let script = [&before(&place, "rm", &swap), scripts::CLEAR_JOB].concat();
    let args = [&place.at("own/jobs/seed"), "-", &place.at("theirs/15/main"), "b", USER];
    let said = sh(&script, &args, "");
    assert!(fs::symlink_metadata(&above).unwrap().is_symlink(), "the attack did not happen");
    let kept = fs::read_to_string(place.at("victim/main.seed.r0/kept"));
    assert_eq!(kept.unwrap_or_default(), "root's\n", "{}", String::from_utf8_lossy(&said.stderr));
}

/// Root looks, and the owner of the directory decides what it looks at.
#[test]
fn what_root_alone_may_read_is_not_told_through_a_link() {
    const SECRET: &str = "root's secret";
    let place = Place::new();
    fs::write(place.at("units/secret"), SECRET).unwrap();
    run(&["chmod", "0600", &place.at("units/secret")]);
    fs::create_dir(place.at("theirs/main")).unwrap();
    fs::write(place.at("theirs/main/PG_VERSION"), "15\n").unwrap();
    for name in ["standby.signal", "pgstead.identity", "pg_ident.conf", "lock", "pg_hba.conf"] {
        symlink(place.at("units/secret"), place.at(&["theirs/main/", name].concat())).unwrap();
    }
    place.give("theirs/main");
    let data = place.at("theirs/main");
    let layout = ["layout", "plain", "/usr/lib/postgresql/15/bin", &data, "", "", &data, "", &data];
    let files = ["config", "pg_ident.conf", "own", "pg_hba.conf"];
    let words = [&["version", "15", "port", "5999"][..], &layout, &files].concat();
    let output = sh(probe::script(Wish::default()), &words, "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("#instance_user 6\nnobody") && text.contains("#end 2"), "{text}");
    assert!(!text.contains(SECRET) && text.contains("user nobody may not read it"), "{text}");
}

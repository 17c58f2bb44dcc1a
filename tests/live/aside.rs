//! What is set aside stays until it is forgotten by name, and goes only when its successor is proven: on real hosts.
//!
//! Nothing of pgstead's sets a data directory aside on these hosts yet, so its script is run as a step would run it.

use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Release;
use pgstead::plan::scripts;

use crate::refusals::refused;
use crate::scenario::Scenario;
use crate::scenario::until;

const OWN: &str = "/var/lib/pgstead/lab/b";

#[test]
fn what_was_set_aside_goes_when_its_successor_streams_on_15() {
    kept_until_forgotten(Release::Bookworm);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn what_was_set_aside_goes_when_its_successor_streams_on_17() {
    kept_until_forgotten(Release::Trixie);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn what_was_set_aside_goes_when_its_successor_streams_on_18() {
    kept_until_forgotten(Release::Forky);
}

/// Server b of a topology, and what the test does to it past pgstead.
struct Place<'a> {
    lab: &'a Scenario,
    data: String,
    unit: String,
}

impl Place<'_> {
    /// Sets b's data directory aside as a step would: with the run's lock, by the very script.
    fn set_aside(&self, target: &str) -> Result<(), String> {
        self.lab.host("b").write_file(&format!("{OWN}/lock"), br#"{"run":"r1","operation":"reseed"}"#).unwrap();
        let argv =
            ["sh", "-c", scripts::SET_ASIDE, "x", &self.data, target, OWN, "r1", &self.unit, "root:root", "postgres"];
        let output = self.lab.host("b").exec(&argv).unwrap();
        self.lab.run("b", &["rm", &format!("{OWN}/lock")]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }

    /// Demands a refusal of a removal that leaves every server as it was.
    #[track_caller]
    fn keeps(&self, what: &str, name: &str, code: &str) {
        refused(self.lab, what, &["forget-aside", "b", name, "--yes", "--format", "json"], 5, &[(code, "b")]);
    }
}

fn kept_until_forgotten(release: Release) {
    let lab = Scenario::bootstrapped(release, &["a", "b"]);
    lab.sql("a", "CREATE TABLE t AS SELECT 42 AS answer");
    let major = release.postgres_major();
    let data = format!("/var/lib/postgresql/{major}/main");
    let place = Place { lab: &lab, unit: format!("postgresql@{major}-main.service"), data: data.clone() };
    let name = "main.aside.20260102T030405Z.r1.replaced";
    let path = format!("/var/lib/postgresql/{major}/{name}");

    // The script refuses what runs, and what holds a mount.
    let said = place.set_aside(&path).unwrap_err();
    assert!(said.contains("works in"), "{said}");
    lab.eventually("b", "SELECT answer FROM t", "42");
    lab.run("b", &["systemctl", "stop", &place.unit]);
    for at in ["", "/pg_stat_tmp"] {
        lab.run("b", &["mount", "-t", "tmpfs", "tmpfs", &format!("{data}{at}")]);
        let said = place.set_aside(&path).unwrap_err();
        assert!(said.contains("mounted at") || said.contains("another file system"), "{said}");
        lab.run("b", &["umount", &format!("{data}{at}")]);
    }
    let inode = lab.run("b", &["stat", "-c", "%i", &data]);
    place.set_aside(&path).unwrap();
    assert_eq!(lab.run("b", &["stat", "-c", "%i", &path]), inode);
    assert_eq!(lab.run("b", &["cat", &format!("{OWN}/data-directory")]).trim(), path);

    // It is listed, and kept while nothing took its place.
    let status = lab.pgstead(&["status", "--format", "json"]).expect(0).json();
    let aside = &status["aside"][0];
    assert_eq!((&aside["server"], &aside["name"]), (&"b".into(), &name.into()), "{status:#}");
    assert_eq!((&aside["reason"], &aside["run"]), (&"replaced".into(), &"r1".into()));
    assert_eq!(aside["since"], "2026-01-02T03:04:05Z");
    let counted: u64 = lab.run("b", &["du", "-sx", "-B1", &path]).split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(aside["bytes"], counted);
    let text = lab.pgstead(&["status"]).expect(0).stdout;
    assert!(text.contains(&format!("pgstead forget-aside b {name}")), "{text}");
    place.keeps("no successor", name, "successor-not-proven");

    // An aside that is not in its place looks like a disk that is not mounted.
    lab.run("b", &["mv", &path, "/srv/moved"]);
    let gone = lab.pgstead(&["bootstrap", "--yes"]).expect(5);
    assert!(gone.codes().contains(&"data-directory-gone".to_owned()), "{gone}");
    lab.run("b", &["mv", "/srv/moved", &path]);

    // With it in its place the data is copied anew.
    let report = lab.bootstrap().json();
    assert!(report["steps"].to_string().contains("base backup"), "{report:#}");
    lab.settled();
    lab.streams("a", &["b"]);
    assert_eq!(lab.run("b", &["cat", &format!("{OWN}/data-directory")]).trim(), data);

    not_removed(&place, name, &path);
    removed(&place, name, &path);
}

/// Everything that must be kept, one after the other.
fn not_removed(place: &Place<'_>, name: &str, path: &str) {
    let lab = place.lab;
    let beside = |name: &str| path.replace(path.rsplit('/').next().unwrap(), name);
    place.keeps("a name that is not there", "main.aside.20260102T030405Z.r9.replaced", "aside-unknown");
    place.keeps("a path", path, "aside-unknown");
    place.keeps("the data directory", "main", "aside-unknown");

    lab.run("b", &["mkdir", "-p", "/srv/precious", &beside("main.aside.old"), &beside("main.seed.r7")]);
    lab.host("b").write_file("/srv/precious/kept", b"kept").unwrap();
    place.keeps("a name that is not ours", "main.aside.old", "aside-not-named-by-us");
    place.keeps("an unfinished seed", "main.seed.r7", "aside-not-named-by-us");
    let link = "main.aside.20260102T030405Z.r2.replaced";
    lab.run("b", &["ln", "-s", "/srv/precious", &beside(link)]);
    place.keeps("a link", link, "aside-not-a-directory");
    let foreign = "main.aside.20260102T030405Z.r3.damaged";
    lab.run("b", &["mkdir", &beside(foreign)]);
    place.keeps("neither mark nor control file", foreign, "aside-not-ours");
    let mark = format!("{}/pgstead.identity", beside(foreign));
    lab.host("b").write_file(&mark, b"topology other\nserver b\n").unwrap();
    place.keeps("a mark of another topology", foreign, "aside-not-ours");

    for at in ["base", "."] {
        lab.run("b", &["mount", "-t", "tmpfs", "tmpfs", &format!("{path}/{at}")]);
        let expected: &[(&str, &str)] = match at {
            "." => &[("aside-holds-mount", "b"), ("aside-not-ours", "b")],
            _ => &[("aside-holds-mount", "b")],
        };
        refused(lab, "a mount", &["forget-aside", "b", name, "--yes", "--format", "json"], 5, expected);
        lab.run("b", &["umount", &format!("{path}/{at}")]);
    }
    let directory = format!("--working-directory={path}/base");
    lab.run("b", &["systemd-run", "--quiet", "--unit=visitor", &directory, "sleep", "600"]);
    let visitor = ["systemctl", "show", "-P", "MainPID", "visitor"];
    until(Instant::now() + Duration::from_secs(5), || lab.run("b", &visitor).trim() != "0");
    place.keeps("a process in it", name, "aside-in-use");
    lab.run("b", &["systemctl", "stop", "visitor"]);

    lab.run("b", &["systemctl", "stop", &place.unit]);
    place.keeps("the successor is stopped", name, "successor-not-proven");
    lab.run("b", &["systemctl", "start", &place.unit]);
    lab.eventually("a", "SELECT count(*) FROM pg_stat_replication", "1");
    // It streams, and does not replay: a link that is not proven.
    lab.sql("b", "SELECT pg_wal_replay_pause()");
    place.keeps("the successor does not replay", name, "successor-not-proven");
    lab.sql("b", "SELECT pg_wal_replay_resume()");
    refused(lab, "nobody to ask", &["forget-aside", "b", name, "--format", "json"], 5, &[("consent-missing", "")]);
    refused(lab, "no server", &["forget-aside", "z", name, "--yes", "--format", "json"], 5, &[("server-unknown", "")]);
}

/// The removal: killed in the middle with pgstead itself, and finished by the same command.
fn removed(place: &Place<'_>, name: &str, path: &str) {
    let lab = place.lab;
    let forget = ["forget-aside", "b", name, "--yes", "--format", "json"];
    lab.run("b", &["mkdir", "/srv/space"]);
    lab.host("b").write_file("/srv/space/kept", b"kept").unwrap();
    lab.run("b", &["ln", "-s", "/srv/space", &format!("{path}/pg_tblspc/16400")]);
    let plan = lab.pgstead(&["forget-aside", "b", name, "--dry-run", "--format", "json"]).expect(0).json();
    assert_eq!(plan["steps"][1]["risk"], "destructive", "{plan:#}");
    lab.run("b", &["test", "-d", path]);

    // What comes first in the PATH of a login is believed: a removal that hangs after its first part.
    let rm = format!(
        "#!/bin/sh\n[ \"$1\" = -rf ] || exec /usr/bin/rm \"$@\"\n/usr/bin/rm -rf {path}.forgotten/base\necho $$ >/run/removing\nexec sleep 600\n"
    );
    lab.host("b").write_file("/usr/local/bin/rm", rm.as_bytes()).unwrap();
    lab.run("b", &["chmod", "755", "/usr/local/bin/rm"]);
    // The owner of the directory removes it, and says so there.
    lab.run("b", &["install", "-o", "postgres", "/dev/null", "/run/removing"]);
    let run = lab.start(&forget);
    let begun = || lab.host("b").exec(&["test", "-s", "/run/removing"]).unwrap().status.success();
    until(Instant::now() + Duration::from_secs(30), begun);
    assert!(begun(), "the removal did not begin");
    run.signal("KILL", true);
    run.end();
    let pid = lab.run("b", &["cat", "/run/removing"]);
    lab.run("b", &["kill", "-KILL", pid.trim()]);
    lab.run("b", &["/usr/bin/rm", "/usr/local/bin/rm"]);
    let left = lab.run("b", &["ls", &format!("{path}.forgotten")]);
    assert!(left.contains("PG_VERSION") && left.contains("pgstead.identity") && !left.contains("base\n"), "{left}");
    let status = lab.pgstead(&["status", "--format", "json"]).expect(0).json();
    let half = status["aside"].as_array().unwrap().iter().find(|aside| aside["half_removed"] == true).unwrap();
    assert_eq!(half["name"], format!("{name}.forgotten"));

    let report = lab.pgstead(&forget).expect(0);
    println!("{report}");
    let report = report.json();
    assert_eq!((&report["changed"], &report["set_aside"]), (&true.into(), &name.into()), "{report:#}");
    assert_eq!(report["left"], serde_json::json!(["/srv/space"]));
    assert!(report["bytes"].as_u64().is_some());
    for gone in [path, &format!("{path}.forgotten")] {
        assert!(!lab.host("b").exec(&["test", "-e", gone]).unwrap().status.success(), "{gone} is still there");
    }
    // Everything else is as it was.
    for kept in ["/srv/space/kept", "/srv/precious/kept"] {
        assert_eq!(lab.run("b", &["cat", kept]), "kept");
    }
    let directory = path.rsplit_once('/').unwrap().0;
    let listed = lab.run("b", &["ls", directory]);
    let names: Vec<&str> = listed.lines().collect();
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(lab.run("b", &["cat", &format!("{OWN}/audit.jsonl")]).contains("finish the removal of"));
    assert!(!lab.host("b").exec(&["test", "-e", &format!("{OWN}/lock")]).unwrap().status.success());
    assert!(lab.pgstead(&["history"]).expect(0).stdout.contains("forget-aside"));
    // Once more: it is not there any more.
    place.keeps("once more", name, "aside-unknown");
    lab.sql("a", "INSERT INTO t VALUES (43)");
    lab.eventually("b", "SELECT string_agg(answer::text, ',' ORDER BY answer) FROM t", "42,43");
    lab.settled();
    lab.streams("a", &["b"]);
}

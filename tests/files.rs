//! The script that installs files, with a real shell: what a run that was cut off left is cleared away, and nothing else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use pgstead::plan::scripts;

/// Installs the certificate directory `tls.NEW` with `server.key` and `server.crt`, and the link `tls` to it.
fn install(home: &Path, id: &str) {
    let mut child = command(home, id, true).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"key\ncrt\nman\n").unwrap();
    assert!(child.wait().unwrap().success(), "the files are not installed");
}

/// The command of that, with a manifest of the files or without one.
fn command(home: &Path, id: &str, manifest: bool) -> Command {
    let at = |name: &str| home.join(name).to_string_lossy().into_owned();
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let group = String::from_utf8(Command::new("id").arg("-gn").output().unwrap().stdout).unwrap();
    let owner = [user.trim(), ":", group.trim()].concat();
    let (directory, target) = (at(&["tls.", id].concat()), ["tls.", id].concat());
    let (key, certificate) = ([&directory, "/server.key"].concat(), [&directory, "/server.crt"].concat());
    let mut command = Command::new("sh");
    command
        .args(["-c", scripts::INSTALL_FILES, "sh", user.trim()])
        .args(["d", &directory, &owner, "0700"])
        .args(["f", &key, &owner, "0600", "4"])
        .args(["f", &certificate, &owner, "0644", "4"])
        .args(["l", &at("tls"), &target])
        .stdin(Stdio::piped());
    if manifest {
        command.args(["f", &at("manifest"), &owner, "0644", "4"]);
    }
    command
}

/// Returns all paths below a directory, sorted.
fn tree(home: &Path) -> Vec<String> {
    let output = Command::new("find").arg(".").args(["-mindepth", "1"]).current_dir(home).output().unwrap();
    let mut paths: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    paths.sort();
    paths
}

/// The schedule 10095 on PostgreSQL 17: the power went between a key's last byte and its rename.
#[test]
fn half_a_certificate_directory_of_an_earlier_run_goes() {
    let home = tempfile::tempdir().unwrap();
    for id in ["old", "foreign"] {
        fs::create_dir(home.path().join(["tls.", id].concat())).unwrap();
        fs::write(home.path().join(["tls.", id, "/server.key.pgstead-new"].concat()), "ke").unwrap();
        fs::write(home.path().join(["tls.", id, "/server.crt"].concat()), "crt\n").unwrap();
    }
    fs::write(home.path().join("tls.foreign/notes"), "the operator's\n").unwrap();
    fs::write(home.path().join("tls.conf"), "a file\n").unwrap();
    install(home.path(), "new");
    assert_eq!(
        tree(home.path()),
        [
            "./manifest",
            "./tls",
            "./tls.conf",
            "./tls.foreign",
            "./tls.foreign/notes",
            "./tls.new",
            "./tls.new/server.crt",
            "./tls.new/server.key",
        ]
    );
}

/// Until the link is switched, the files that it shows are read by the instance.
#[test]
fn the_certificate_directory_in_use_stays() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("tls.used")).unwrap();
    fs::write(home.path().join("tls.used/server.key"), "key\n").unwrap();
    fs::create_dir(home.path().join("elsewhere")).unwrap();
    fs::write(home.path().join("elsewhere/server.key"), "key\n").unwrap();
    symlink("tls.used", home.path().join("tls")).unwrap();
    symlink("elsewhere", home.path().join("tls.link")).unwrap();
    install(home.path(), "new");
    assert_eq!(
        tree(home.path()),
        [
            "./elsewhere",
            "./elsewhere/server.key",
            "./manifest",
            "./tls",
            "./tls.link",
            "./tls.new",
            "./tls.new/server.crt",
            "./tls.new/server.key",
            "./tls.used",
            "./tls.used/server.key",
        ]
    );
    assert_eq!(fs::read_link(home.path().join("tls")).unwrap(), Path::new("tls.new"));
}

/// A rotation brings certificates alone, without a manifest. The power may go behind each rename: whoever follows the link finds all.
#[test]
fn no_link_shows_a_directory_whose_files_have_no_names_yet() {
    for manifest in [false, true] {
        let mut cut = 0;
        loop {
            cut += 1;
            let home = tempfile::tempdir().unwrap();
            let at = |name: &str| home.path().join(name).to_string_lossy().into_owned();
            fs::create_dir(at("bin")).unwrap();
            fs::create_dir(at("tls.old")).unwrap();
            fs::write(at("tls.old/server.key"), "old\n").unwrap();
            fs::write(at("tls.old/server.crt"), "old\n").unwrap();
            symlink("tls.old", at("tls")).unwrap();
            // Renames, and ends the script with all its processes behind one of the renames.
            let mv = "#!/bin/sh\nPATH=${PATH#*:}\nmv \"$@\" || exit\necho >>\"$RENAMED\"\n[ \"$(wc -l <\"$RENAMED\")\" != \"$CUT\" ] || kill -s KILL 0\n";
            fs::write(at("bin/mv"), mv).unwrap();
            fs::set_permissions(at("bin/mv"), fs::Permissions::from_mode(0o755)).unwrap();
            let mut command = command(home.path(), "new", manifest);
            command.env("PATH", [at("bin"), std::env::var("PATH").unwrap()].join(":"));
            let mut child =
                command.env("RENAMED", at("renamed")).env("CUT", cut.to_string()).process_group(0).spawn().unwrap();
            child.stdin.take().unwrap().write_all(b"key\ncrt\nman\n").unwrap();
            let is_whole = child.wait().unwrap().success();
            let shown = fs::read_link(at("tls")).unwrap();
            for file in ["server.key", "server.crt"] {
                let file = home.path().join(&shown).join(file);
                assert!(file.exists(), "{cut} renames were made: {} is shown, and not there", file.display());
            }
            let is_told = fs::exists(at("manifest")).unwrap();
            assert!(!is_told || shown == Path::new("tls.new"), "the manifest tells of what no link shows");
            if is_whole {
                assert_eq!((cut, is_told), (if manifest { 5 } else { 4 }, manifest));
                break;
            }
        }
    }
}

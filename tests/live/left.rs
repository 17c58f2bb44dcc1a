//! What a scenario that failed leaves: a folder with what pgstead said, what it sees now, and the logs of the hosts.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use pgstead::lab::hosts::Host;
use pgstead::lab::hosts::Release;

use crate::scenario::Scenario;

/// How long one look may take, in seconds: a host that hangs is a reason to fail, too.
const LOOK_S: &str = "20";

/// Keeps what tells why a scenario failed, and says where. It never fails itself.
pub(crate) fn keep(lab: &Scenario) {
    let dir = folder();
    let _ = fs::remove_dir_all(&dir);
    if let Err(error) = fs::create_dir_all(&dir) {
        println!("nothing is left of it: {}: {error}", dir.display());
        return;
    }
    let _ = fs::copy(lab.said(), dir.join("pgstead.log"));
    let _ = fs::copy(lab.path(), dir.join("pgstead.yaml"));
    // The last observation, as pgstead makes it.
    let mut look = bounded();
    look.arg(lab.command(&[]).get_program()).arg("-i").arg(lab.path()).args(["-v", "check", "--format", "json"]);
    save(&mut look, &dir.join("check.log"));
    for host in lab.lab().hosts() {
        of_host(host, &dir.join(host.name()));
    }
    println!("what it left: {}", dir.display());
}

/// Below the target directory, under the test's name.
fn folder() -> PathBuf {
    let thread = std::thread::current();
    let name = std::env::var("NEXTEST_TEST_NAME").ok().or_else(|| thread.name().map(str::to_owned));
    let name = name.unwrap_or_else(|| std::process::id().to_string()).replace("::", ".");
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("failed").join(name)
}

fn of_host(host: &Host, dir: &Path) {
    let _ = fs::create_dir_all(dir);
    let _ = fs::copy(host.boot_log(), dir.join("boot.log"));
    let logs = host.root_dir().join("var/log/postgresql");
    save(bounded().args(["cp", "-r", "--no-dereference", "--"]).arg(logs).arg(dir), &dir.join("copied"));
    for (name, words) in [
        ("journal.log", &["journalctl", "--no-pager", "--boot"][..]),
        ("processes.log", &["ps", "axfww", "-o", "pid,ppid,user,stat,etime,wchan:20,args"]),
        ("units.log", &["systemctl", "--no-pager", "list-units", "--all", "postgresql*", "pgstead*"]),
    ] {
        if let Ok(inside) = host.command(words) {
            let mut command = bounded();
            command.arg(inside.get_program()).args(inside.get_args());
            save(&mut command, &dir.join(name));
        }
    }
}

fn bounded() -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", LOOK_S]);
    command
}

/// Runs a command and keeps all that it says.
fn save(command: &mut Command, to: &Path) {
    let text = match command.output() {
        Ok(output) => [output.stdout, output.stderr].concat(),
        Err(error) => error.to_string().into_bytes(),
    };
    let _ = fs::write(to, text);
}

#[test]
fn a_scenario_that_fails_leaves_what_tells_why() {
    let dir = folder();
    let failed = std::panic::catch_unwind(|| {
        let lab = Scenario::boot(Release::Trixie, &["a"]);
        lab.pgstead(&["validate"]).expect(0);
        panic!("it fails on purpose");
    });
    assert!(failed.is_err());
    let said = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert!(said("pgstead.log").contains("validate"));
    assert!(said("pgstead.yaml").contains("\"topology\""));
    assert!(said("check.log").contains("\"verdict\"") || said("check.log").contains("ERROR"), "{}", said("check.log"));
    assert!(said("a/journal.log").contains("systemd"));
    assert!(said("a/processes.log").contains("sshd"));
    assert!(said("a/boot.log").contains("systemd"));
    fs::remove_dir_all(&dir).unwrap();
}

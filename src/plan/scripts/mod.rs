//! The fixed scripts that steps run. Their texts never change with their arguments, which are always separate words.

use std::sync::LazyLock;

use crate::model::session;
use crate::quote::sh;

/// Installs files whole or not at all.
pub const INSTALL_FILES: &str = concat!(include_str!("owner.sh"), include_str!("install-files.sh"));
/// Tells PgBouncer's console something.
pub const POOLER: &str = include_str!("pooler.sh");
/// Waits until a killed postmaster is no process any more.
pub const AWAIT_REAPED: &str = include_str!("await-reaped.sh");
/// Waits until an instance accepts connections; installed on the server as a file.
pub const WAIT_READY: &str = include_str!("wait-ready.sh");
/// Says whether an instance may start; installed on the server as a file, and asked before every start.
pub const START_GUARD: &str = include_str!("start-guard.sh");
pub const STOP_INSTANCE: &str = concat!(include_str!("owner.sh"), include_str!("stop-instance.sh"));
/// Breaks an instance on purpose, in a lab.
pub const BREAK_INSTANCE: &str = include_str!("break-instance.sh");
/// Shuts a primary down, and says where its WAL ends.
pub const STAND_DOWN: &str = include_str!("stand-down.sh");
/// Tells a standby to be the primary.
pub const PROMOTE: &str = include_str!("promote.sh");
/// Fails where a server is no standby any more.
pub const IS_STANDBY: &str = include_str!("is-standby.sh");
/// Makes a directory where it is absent.
pub const ENSURE_DIRECTORY: &str = concat!(include_str!("owner.sh"), include_str!("ensure-directory.sh"));
/// Starts a detached job, in which a session of PostgreSQL is like every other of ours.
pub static START_JOB: LazyLock<String> = LazyLock::new(|| {
    [
        "pgstead_session=",
        &sh::quote(&session::FUNCTION),
        "
",
        include_str!("start-job.sh"),
    ]
    .concat()
});
/// Waits until a detached job has ended.
pub const WAIT_JOB: &str = include_str!("wait-job.sh");
/// Ends a detached job whole, and clears away what it did not finish.
pub const CLEAR_JOB: &str = concat!(include_str!("owner.sh"), include_str!("still.sh"), include_str!("clear-job.sh"));
/// Copies a data directory and rewinds the copy.
pub const REWIND_COPY: &str = include_str!("rewind-copy.sh");
/// Says how far that is.
pub const REWIND_PROGRESS: &str = include_str!("rewind-progress.sh");
/// Archives what waits for that in a stopped data directory.
pub const ARCHIVE_WAITING: &str = include_str!("archive-waiting.sh");
/// Fails where a copy is of another database system.
pub const SAME_SYSTEM: &str = include_str!("same-system.sh");
/// Gives copied tablespaces their places.
pub const SETTLE_TABLESPACES: &str = include_str!("settle-tablespaces.sh");
/// Takes files away that pgstead installed.
pub const TAKE_AWAY: &str = concat!(include_str!("owner.sh"), include_str!("take-away.sh"));
/// Renames a data directory, so that another can take its place.
pub const SET_ASIDE: &str = concat!(include_str!("owner.sh"), include_str!("still.sh"), include_str!("set-aside.sh"));
/// Removes a directory that was set aside: the only removal of a data directory.
pub const FORGET_ASIDE: &str =
    concat!(include_str!("owner.sh"), include_str!("still.sh"), include_str!("forget-aside.sh"));

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// Waits for an instance that never comes, beside a service manager that says what it is told to say.
    fn wait_beside(manager: &str, seconds: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("systemctl"), ["#!/bin/sh\nprintf '", manager, "'\n"].concat()).unwrap();
        assert!(Command::new("chmod").args(["755", &path("systemctl")]).status().unwrap().success());
        let search = [dir.path().to_str().unwrap(), ":", &std::env::var("PATH").unwrap()].concat();
        let output = Command::new("sh")
            .args(["-c", WAIT_READY, &path("wait-ready"), &path("data"), seconds, &path("log"), "unit"])
            .env("PATH", search)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    }

    #[test]
    fn a_start_that_waits_for_nobody_is_not_waited_for() {
        let said = wait_beside("ActiveState=activating\\nJob=143\\nControlPID=0\\nMainPID=0\\n", "60");
        assert!(said.contains("unit unit is activating for good"), "{said}");
        let said = wait_beside("ActiveState=failed\\nJob=0\\nControlPID=0\\nMainPID=0\\n", "60");
        assert!(said.contains("unit unit is failed"), "{said}");
        // Something is at work: the start guard, or the program that starts the instance.
        let said = wait_beside("ActiveState=activating\\nJob=143\\nControlPID=327\\nMainPID=0\\n", "2");
        assert!(said.contains("last seen: no postmaster.pid"), "{said}");
    }

    /// Waits for what stands for a postmaster that replays five segments: the first for as long as nothing is written to it.
    #[test]
    fn an_instance_that_replays_is_waited_for_as_long_as_it_takes() {
        const POSTMASTER: &str = "echo $$ >postmaster.pid
            replay() {
              title=\"postgres: main: startup recovering 00000001000000000000000$1\"
              shift
              bash -c 'exec -a \"$0\" \"$@\"' \"$title\" \"$@\"
            }
            replay 1 head -c 1
            for segment in 2 3 4 5; do replay $segment sleep 1.5; done
            printf '%s\n\n\n\n\n\n\nready\n' $$ >postmaster.pid
            sleep 60 & wait";
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().to_str().unwrap();
        let mut postmaster = Command::new("sh")
            .args(["-c", POSTMASTER])
            .current_dir(data)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", postmaster.id());
        let wait = |seconds: &str| {
            let script = ["-c", WAIT_READY, "wait-ready", data, seconds, "no-log"];
            let output = Command::new("sh").args(script).output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let replays = || {
            let child = std::fs::read_to_string(&children).unwrap_or_default();
            let title = std::fs::read_to_string(format!("/proc/{}/cmdline", child.trim()));
            title.is_ok_and(|title| title.contains("recovering 000000010000000000000001\0"))
        };
        while !replays() {
            std::thread::yield_now();
        }
        // It stands still for longer than this.
        let (code, said) = wait("1");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(", replaying segment 000000010000000000000001"), "{said}");
        // It gets on, and takes longer than this altogether.
        postmaster.stdin.take().unwrap().write_all(b"x").unwrap();
        assert_eq!(wait("4"), (Some(0), String::new()));
        Command::new("kill").args(std::fs::read_to_string(children).unwrap().split_whitespace()).status().unwrap();
        postmaster.wait().unwrap();
    }

    /// Stops what stands for a postmaster with one child: it does not end on the signal of a fast shutdown.
    fn stop_one_that_hangs(last: &str, stands_still: bool) -> (Option<i32>, String, bool) {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().to_str().unwrap();
        let mut hangs = Command::new("sh")
            .args(["-c", "trap '' INT; sleep 60 & echo $$ >postmaster.pid; wait; wait"])
            .current_dir(data)
            .spawn()
            .unwrap();
        let child = format!("/proc/{0}/task/{0}/children", hangs.id());
        let ready = || std::fs::read(dir.path().join("postmaster.pid")).is_ok_and(|pid| pid.ends_with(b"\n"));
        while !ready() {
            assert!(hangs.try_wait().unwrap().is_none());
            std::thread::yield_now();
        }
        let children = std::fs::read_to_string(&child).unwrap();
        if stands_still {
            Command::new("kill").args(["-s", "STOP", &hangs.id().to_string()]).status().unwrap();
        }
        // The one that is waited for is reaped meanwhile, as a postmaster is by init.
        let (output, ended) = std::thread::scope(|scope| {
            let stop = scope.spawn(|| {
                Command::new("sh")
                    .args(["-c", STOP_INSTANCE, "stop-instance", data, "1", last, "root"])
                    .output()
                    .unwrap()
            });
            if last != "immediate" {
                let output = stop.join().unwrap();
                let ended = hangs.try_wait().unwrap().is_some();
                hangs.kill().unwrap();
                hangs.wait().unwrap();
                return (output, ended);
            }
            hangs.wait().unwrap();
            (stop.join().unwrap(), true)
        });
        Command::new("kill").args(children.split_whitespace()).status().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap(), ended)
    }

    #[test]
    fn an_instance_that_does_not_end_is_named_with_its_processes() {
        let (code, said, ended) = stop_one_that_hangs("fast", false);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("has not ended 1 s after its fast shutdown was requested"), "{said}");
        assert!(said.contains("sleep 60"), "{said}");
        assert!(!ended, "it was ended all the same");
    }

    #[test]
    fn an_instance_that_is_replaced_ends_in_any_case() {
        for stands_still in [false, true] {
            let (code, said, _) = stop_one_that_hangs("immediate", stands_still);
            assert_eq!(code, Some(0), "{said}");
            assert!(said.contains("it is ended without a checkpoint"), "{said}");
        }
    }

    /// Some locales write a comma where others write a point; none of them need be installed where tests run.
    #[test]
    fn when_a_primary_stopped_is_said_in_every_locale() {
        let dir = tempfile::tempdir().unwrap();
        let stat = dir.path().join("stat");
        std::fs::write(&stat, "#!/bin/sh\n[ \"$LC_ALL\" = C ] && echo 1700000000.123 || echo 1700000000,123\n")
            .unwrap();
        assert!(Command::new("chmod").arg("755").arg(&stat).status().unwrap().success());
        let search = [dir.path().to_str().unwrap(), ":", &std::env::var("PATH").unwrap()].concat();
        let data = dir.path().to_str().unwrap();
        let output = Command::new("sh")
            .args(["-c", STAND_DOWN, "stand-down", data, "echo", "1"])
            .env("PATH", search)
            .env("LC_ALL", "de_DE.UTF-8")
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        let ago = said.lines().next().and_then(|line| line.strip_prefix("stopped ")?.strip_suffix(" ms ago"));
        let ago: i64 = ago.and_then(|ago| ago.parse().ok()).unwrap_or_else(|| panic!("{output:?}"));
        assert!(ago > 0, "{said}");
    }

    #[test]
    fn the_pid_of_another_process_is_not_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let mut other = Command::new("sleep").arg("60").current_dir("/").spawn().unwrap();
        std::fs::write(dir.path().join("postmaster.pid"), format!("{}\n", other.id())).unwrap();
        let data = dir.path().to_str().unwrap();
        let status =
            Command::new("sh").args(["-c", STOP_INSTANCE, "stop-instance", data, "1", "immediate", "root"]).status();
        assert_eq!(status.unwrap().code(), Some(0));
        assert!(other.try_wait().unwrap().is_none(), "it was stopped");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

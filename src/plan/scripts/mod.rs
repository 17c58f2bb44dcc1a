//! The fixed scripts that steps run. Their texts never change with their arguments, which are always separate words.

/// Installs files whole or not at all.
pub const INSTALL_FILES: &str = include_str!("install-files.sh");
/// Waits until an instance accepts connections; installed on the server as a file.
pub const WAIT_READY: &str = include_str!("wait-ready.sh");
/// Says whether an instance may start; installed on the server as a file, and asked before every start.
pub const START_GUARD: &str = include_str!("start-guard.sh");
/// Makes a directory where it is absent.
pub const ENSURE_DIRECTORY: &str = include_str!("ensure-directory.sh");
/// Starts a detached job.
pub const START_JOB: &str = include_str!("start-job.sh");
/// Waits until a detached job has ended.
pub const WAIT_JOB: &str = include_str!("wait-job.sh");
/// Ends a detached job whole, and clears away what it did not finish.
pub const CLEAR_JOB: &str = concat!(include_str!("still.sh"), include_str!("clear-job.sh"));
/// Copies a data directory and rewinds the copy.
pub const REWIND_COPY: &str = include_str!("rewind-copy.sh");
/// Fails where a copy is of another database system.
pub const SAME_SYSTEM: &str = include_str!("same-system.sh");
/// Gives copied tablespaces their places.
pub const SETTLE_TABLESPACES: &str = include_str!("settle-tablespaces.sh");
/// Renames a data directory, so that another can take its place.
pub const SET_ASIDE: &str = concat!(include_str!("still.sh"), include_str!("set-aside.sh"));
/// Removes a directory that was set aside: the only removal of a data directory.
pub const FORGET_ASIDE: &str = concat!(include_str!("still.sh"), include_str!("forget-aside.sh"));

#[cfg(test)]
mod tests {
    use std::process::Command;

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
}

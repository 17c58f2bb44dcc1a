//! Runs the operator's own programs, on the operator's machine: with a deadline, and without a terminal.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use crate::diagnostic::{Code, Diagnostic};
use crate::plan::Hook;

/// How much of what a hook says is told.
const TOLD_BYTES: usize = 2000;

/// Runs a hook to its end.
///
/// # Errors
/// It could not be started, did not end in time, or ended with another code than 0; with what it said.
pub async fn run(hook: &Hook) -> Result<(), Box<Diagnostic>> {
    let program = hook.program.display();
    let failed = |what: String, said: &str| {
        let diagnostic = Diagnostic::error(Code::HookFailed, format!("hook {program} {what}"));
        Box::new(match said.trim() {
            "" => diagnostic,
            said => diagnostic.detail(format!("It said: {said}")),
        })
    };
    let mut command = Command::new(&hook.program);
    command.envs(hook.environment.iter().map(|(name, value)| (*name, value.as_str())));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().map_err(|error| failed(format!("could not be started: {error}"), ""))?;
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let Ok(ended) = tokio::time::timeout(Duration::from_secs(hook.timeout_s), child.wait_with_output()).await else {
        if let Some(group) = group {
            // That it has just ended changes nothing.
            let _ = kill_process_group(group, Signal::KILL);
        }
        return Err(failed(format!("did not end within {} s, and was killed", hook.timeout_s), ""));
    };
    let output = ended.map_err(|error| failed(format!("could not be waited for: {error}"), ""))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said[said.len().saturating_sub(TOLD_BYTES)..]).into_owned();
    Err(failed(format!("ended with {}", output.status), &said))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    use super::*;

    async fn ran(script: &str, timeout_s: u64) -> (Result<(), Box<Diagnostic>>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("it's a hook");
        std::fs::write(&program, ["#!/bin/sh\ncd \"${0%/*}\"\n", script].concat()).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let environment = vec![("PGSTEAD_PRIMARY", "a".to_owned()), ("PGSTEAD_TO", String::new())];
        (run(&Hook { program, environment, timeout_s, may_fail: false }).await, dir)
    }

    #[tokio::test]
    async fn it_is_told_what_changes() {
        let (result, dir) = ran("echo \"$PGSTEAD_PRIMARY ${PGSTEAD_TO-unset}\" >told; cat", 30).await;
        assert_eq!(result, Ok(()));
        assert_eq!(std::fs::read_to_string(dir.path().join("told")).unwrap(), "a \n");
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_with_its_words() {
        let (result, _dir) = ran("echo no address left; echo on eth0 >&2; exit 3", 30).await;
        let diagnostic = result.unwrap_err();
        assert!(diagnostic.message.ends_with("it's a hook ended with exit status: 3"), "{}", diagnostic.message);
        assert_eq!(diagnostic.detail.as_deref(), Some("It said: no address left\non eth0"));
        let hook = Hook { program: "/nowhere".into(), environment: vec![], timeout_s: 1, may_fail: false };
        assert!(run(&hook).await.unwrap_err().message.contains("could not be started"));
    }

    /// With all its children: one that waits in the background would hold its output open.
    #[tokio::test]
    async fn one_that_does_not_end_is_ended() {
        let begun = Instant::now();
        let (result, dir) = ran("echo $$ >group; sleep 60 & sleep 60", 1).await;
        assert!(result.unwrap_err().message.contains("did not end within 1 s"));
        assert!(begun.elapsed() < Duration::from_secs(30));
        let group = std::fs::read_to_string(dir.path().join("group")).unwrap();
        let group = Pid::from_raw(group.trim().parse().unwrap()).unwrap();
        // Ended, and maybe not waited for yet.
        let limit = Duration::from_secs(10);
        let gone =
            crate::wait::until(
                limit,
                crate::wait::LOOK_AGAIN,
                async || match rustix::process::test_kill_process_group(group) {
                    Err(_) => crate::wait::Look::Ready(()),
                    Ok(()) => crate::wait::Look::NotYet("it is there".to_owned()),
                },
            );
        assert_eq!(gone.await, Ok(()));
    }
}

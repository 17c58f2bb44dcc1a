//! Runs programs of this machine and waits for what they bring about.
//!
//! Arguments are always a vector; no shell text is composed here or by a caller.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::error::Failure;

/// How often a wait looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Runs `command` to its end and returns what it printed on stdout; any status but success is a failure.
pub(in crate::lab) fn succeed(command: &mut Command) -> Result<String, Failure> {
    let output = finish(command, None)?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(ended_badly(command, &output))
    }
}

/// Runs `command` to its end, `input` being its stdin, whatever its status.
pub(in crate::lab) fn finish(command: &mut Command, input: Option<&[u8]>) -> Result<Output, Failure> {
    let text = shell_line(command);
    let failed_to_start = |source| Failure::Start { command: text, source };
    let Some(input) = input else {
        return command.stdin(Stdio::null()).output().map_err(failed_to_start);
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed_to_start)?;
    let mut pipe = child.stdin.take();
    // The input goes in from a thread of its own: a program that prints before it has read everything would stall us both.
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(pipe) = &mut pipe {
                // A program may end without reading its input; its status tells whether that was right.
                let _ = pipe.write_all(input);
            }
            drop(pipe);
        });
        child.wait_with_output()
    })
    .map_err(|source| Failure::Start { command: shell_line(command), source })
}

/// The failure that `output` of `command` is.
pub(in crate::lab) fn ended_badly(command: &Command, output: &Output) -> Failure {
    Failure::Command {
        command: shell_line(command),
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
    }
}

/// Returns `command` as a line for the reader of an error; nothing is ever run from it.
pub(super) fn shell_line(command: &Command) -> String {
    let mut line = String::new();
    for word in std::iter::once(command.get_program()).chain(command.get_args()) {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
        if !line.is_empty() {
            line.push(' ');
        }
        if !word.is_empty() && word.chars().all(plain) {
            line.push_str(&word);
        } else {
            line.push('\'');
            line.push_str(&word.replace('\'', r"'\''"));
            line.push('\'');
        }
    }
    line
}

/// Looks until `look` answers `Ok(Some(value))`, or fails with its last observation when `limit` has passed.
#[expect(
    clippy::disallowed_methods,
    reason = "the wait helper of the hosts lab: it has a deadline and keeps what it last saw"
)]
pub(super) fn wait_until<T>(
    awaited: &'static str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Look<T>, Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + limit;
    loop {
        match look()? {
            Look::Ready(value) => return Ok(value),
            Look::NotYet(last) if Instant::now() >= deadline => {
                return Err(Failure::Deadline { seconds: limit.as_secs(), awaited, last });
            }
            Look::NotYet(_) => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

/// One look of [`wait_until`].
pub(super) enum Look<T> {
    /// What was waited for is there.
    Ready(T),
    /// It is not; this was seen instead.
    NotYet(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_the_command_as_a_shell_would_take_it() {
        let mut command = Command::new("printf");
        command.args(["%s", "it's", "", "a b", "x=1"]);
        assert_eq!(shell_line(&command), r"printf %s 'it'\''s' '' 'a b' x=1");
    }

    #[test]
    fn a_failed_command_names_itself_and_its_reason() {
        let failure = succeed(Command::new("sh").args(["-c", "echo no such thing >&2; exit 3"]));
        let text = failure.unwrap_or_else(|failure| failure.to_string());
        assert_eq!(text, "exit status: 3: no such thing\nCOMMAND: sh -c 'echo no such thing >&2; exit 3'");
    }

    #[test]
    fn a_wait_that_runs_out_tells_the_last_observation() {
        let failure = wait_until::<()>("rain", Duration::ZERO, || Ok(Look::NotYet("sun".to_owned())));
        let text = failure.map_or_else(|failure| failure.to_string(), |()| String::new());
        assert_eq!(text, "waited 0 s for rain; last seen: sun");
    }
}

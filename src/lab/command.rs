//! Runs programs of this machine.
//!
//! Arguments are always a vector; no shell text is composed here or by a caller.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::Failure;
use crate::quote::sh;

/// Runs `command` to its end and returns what it printed on stdout; any status but success is a failure.
pub(super) fn succeed(command: &mut Command) -> Result<String, Failure> {
    let output = finish(command, None)?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(ended_badly(command, &output))
    }
}

/// Runs `command` to its end, `input` being its stdin, whatever its status.
pub(super) fn finish(command: &mut Command, input: Option<&[u8]>) -> Result<Output, Failure> {
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
pub(super) fn ended_badly(command: &Command, output: &Output) -> Failure {
    Failure::Command {
        command: shell_line(command),
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
    }
}

/// Returns `command` as a line for the reader of an error; nothing is ever run from it.
pub(super) fn shell_line(command: &Command) -> String {
    let words: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(|word| word.to_string_lossy()).collect();
    sh::join(&words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_names_itself_and_its_reason() {
        let failure = succeed(Command::new("sh").args(["-c", "echo no such thing >&2; exit 3"]));
        let text = failure.unwrap_or_else(|failure| failure.to_string());
        assert_eq!(text, "sh -c 'echo no such thing >&2; exit 3' ended with exit status: 3: no such thing");
    }
}

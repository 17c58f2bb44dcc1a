//! The shell text of one remote execution, built from quoted words only.
//!
//! Everything is one line: some login shells cannot quote a line feed. It runs in the root directory: another user than the one
//! who logged in may not be allowed back into that one's home, and find(1) fails there.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::model::argv::{Argv, Login};
use crate::quote::sh;

/// Becomes root where possible and lets a shell read the probe from standard input, which nothing here touches.
///
/// What sudo said where it let nothing be done is in `pgstead_sudo`. A look that never ends is ended there, too: whoever looks every minute would leave one behind each time.
const BOOT: &str = "cd / && unset pgstead_me; if me=$(id -un) && [ \"$me\" = root ]; then pgstead_me=root; export pgstead_me; exec timeout -k 2 \"$@\"; \
    elif pgstead_sudo=$(LC_ALL=C sudo -n true </dev/null 2>&1); then exec sudo -n -- timeout -k 2 \"$@\"; \
    else export pgstead_sudo; exec timeout -k 2 \"$@\"; fi";

/// Says on standard error which command failed. `$?` is still that of the command when the function begins.
const ON_FAILURE: &str =
    "pgstead_failed() { s=$?; printf '\\n%s %s %s\\n' pgstead-batch-failed \"$1\" \"$s\" >&2; exit \"$s\"; }";

const MARKER: &str = "pgstead-batch-failed";

/// What stands before and behind what a command of ours wrote: a shell's startup files and what wraps it may print, too.
const BEGIN: &[u8] = b"pgstead-begin\n";
const END: &[u8] = b"pgstead-end\n";

/// Returns a line with the first mark before its output. The login shell reads it, so it holds nothing that one of them would not
/// take, and nothing behind the command: that stays the shell's last one, whose status and parent are its own.
pub(super) fn marked(line: &str) -> String {
    ["printf '%s\\n' pgstead-begin && ", line].concat()
}

/// Returns what was written between the marks; up to its end where there is no second one, as behind a single command or one that
/// failed. None where not even the first mark
/// is there: something else ran.
pub(super) fn between_marks(stdout: Vec<u8>) -> Option<Vec<u8>> {
    let begin = find(&stdout, BEGIN, |places| places.next())? + BEGIN.len();
    let end = find(&stdout[begin..], END, |places| places.last()).map_or(stdout.len(), |at| begin + at);
    Some(stdout[begin..end].to_vec())
}

/// Reads up to the first mark and not a byte more: what follows is a stream's. Otherwise returns what came instead.
pub(super) async fn until_begun(reads: &mut (impl AsyncRead + Unpin)) -> Result<(), String> {
    let mut said: Vec<u8> = Vec::new();
    while said.len() < SAID_MAX_BYTES {
        match reads.read_u8().await {
            Ok(byte) => said.push(byte),
            Err(_) => break,
        }
        if said.ends_with(BEGIN) {
            return Ok(());
        }
    }
    Err(String::from_utf8_lossy(&said).split_whitespace().collect::<Vec<_>>().join(" "))
}

/// How much is read in search of the mark: the greeting of a login is shorter.
const SAID_MAX_BYTES: usize = 64 << 10;

fn find(
    text: &[u8],
    mark: &[u8],
    which: impl FnOnce(&mut dyn Iterator<Item = usize>) -> Option<usize>,
) -> Option<usize> {
    let mut places = text.windows(mark.len()).enumerate().filter(|(_, part)| *part == mark).map(|(at, _)| at);
    which(&mut places)
}

/// The kernel takes at most 128 KiB in one argument, and sshd hands the whole line to a shell as one.
const LINE_MAX_BYTES: usize = 120 * 1024;

/// Why commands cannot go into one remote execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("only one command of a batch may have standard input")]
    SeveralWithStdin,
    /// The text would be longer than the server's kernel takes.
    #[error("the batch has {bytes} bytes of shell text, more than the {LINE_MAX_BYTES} that fit into one argument")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// Returns the remote command line for a batch.
pub(super) fn batch(commands: &[Argv], login: &Login) -> Result<String, BatchError> {
    let (Some(last), earlier) = (commands.last(), commands.len().saturating_sub(1)) else {
        return Ok(String::new());
    };
    if commands.iter().filter(|command| !command.stdin.is_empty()).count() > 1 {
        return Err(BatchError::SeveralWithStdin);
    }
    let line = if earlier == 0 {
        ["cd / && ", &last.line(login)].concat()
    } else {
        let mut script = [ON_FAILURE, "; cd /"].concat();
        for (index, command) in commands.iter().enumerate() {
            script.push_str("; ");
            script.push_str(&command.line(login));
            if command.stdin.is_empty() {
                script.push_str(" </dev/null");
            }
            script.push_str(" || pgstead_failed ");
            script.push_str(&index.to_string());
        }
        script.push_str("; printf '%s\\n' pgstead-end");
        sh::join(&["sh", "-c", &script])
    };
    if line.len() > LINE_MAX_BYTES {
        return Err(BatchError::TooLong { bytes: line.len() });
    }
    Ok(line)
}

/// Returns the remote command line of a probe; the script itself goes to standard input.
pub(super) fn probe(limit: Duration, args: &[String]) -> String {
    let seconds = limit.as_secs().max(1).to_string();
    let mut words = vec!["sh", "-c", BOOT, "pgstead-probe", &seconds, "sh", "-s", "--"];
    words.extend(args.iter().map(String::as_str));
    sh::join(&words)
}

/// Finds which command of a batch failed, and with which status, and returns standard error without the marker.
pub(super) fn failed_command(stderr: &[u8]) -> Option<(usize, i32, Vec<u8>)> {
    let text = stderr.strip_suffix(b"\n")?;
    let start = text.iter().rposition(|&byte| byte == b'\n')?;
    let mut words = std::str::from_utf8(&text[start + 1..]).ok()?.split(' ');
    if words.next() != Some(MARKER) {
        return None;
    }
    let index = words.next()?.parse().ok()?;
    let status = words.next()?.parse().ok()?;
    Some((index, status, text[..start].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::argv::{RootAccess, RunAs};

    fn login() -> Login {
        Login { user: "ops".into(), root: RootAccess::Sudo }
    }

    fn run(line: &str, stdin: &str) -> std::process::Output {
        use std::io::Write;
        let mut child = std::process::Command::new("sh")
            .args(["-c", line])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn sh(script: &str) -> Argv {
        Argv::new(RunAs::Login, "sh").arg("-c").arg(script)
    }

    #[test]
    fn a_real_shell_stops_at_the_first_failure_and_says_which() {
        let batch = batch(&[sh("echo it\\'s"), sh("echo bad >&2; exit 3"), sh("echo never")], &login()).unwrap();
        let output = run(&batch, "");
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(output.stdout, b"it's\n");
        assert_eq!(failed_command(&output.stderr), Some((1, 3, b"bad\n".to_vec())));
    }

    #[test]
    fn what_others_print_is_not_ours() {
        let of = |text: &str| between_marks(text.as_bytes().to_vec()).map(|ours| String::from_utf8(ours).unwrap());
        assert_eq!(of("hello\npgstead-begin\na\nb\npgstead-end\nbye\n").as_deref(), Some("a\nb\n"));
        assert_eq!(of("no end of line pgstead-begin\nno end of linepgstead-end\n").as_deref(), Some("no end of line"));
        // Nothing of ours is cut where it holds a mark itself, as a file or a process list may.
        assert_eq!(
            of("pgstead-begin\npgstead-begin\npgstead-end\nx\npgstead-end\n").as_deref(),
            Some("pgstead-begin\npgstead-end\nx\n")
        );
        // It failed.
        assert_eq!(of("pgstead-begin\na\n").as_deref(), Some("a\n"));
        assert_eq!(of("This account is currently not available.\n"), None);
        let output = run(&marked(&batch(&[sh("cat; exit 3")], &login()).unwrap()), "x");
        assert_eq!((output.status.code(), between_marks(output.stdout)), (Some(3), Some(b"x".to_vec())));
        let several = marked(&batch(&[sh("printf a"), sh("printf b")], &login()).unwrap());
        let output = run(&[&several, "; echo goodbye"].concat(), "");
        assert_eq!((output.status.code(), between_marks(output.stdout)), (Some(0), Some(b"ab".to_vec())));
    }

    #[test]
    fn only_one_command_reads_standard_input() {
        let (bare, reads) = (Argv::new(RunAs::Login, "cat"), Argv::new(RunAs::Login, "cat").stdin_text("x"));
        for order in [[bare.clone(), reads.clone()], [reads.clone(), bare]] {
            let output = run(&marked(&batch(&order, &login()).unwrap()), "hello");
            assert_eq!(between_marks(output.stdout), Some(b"hello".to_vec()));
        }
        assert_eq!(batch(&[reads.clone(), reads], &login()), Err(BatchError::SeveralWithStdin));
    }

    #[test]
    fn status_255_of_a_command_in_a_batch_is_known() {
        let line = batch(&[sh("exit 255"), sh("true")], &login()).unwrap();
        assert_eq!(failed_command(&run(&line, "").stderr), Some((0, 255, Vec::new())));
    }

    #[test]
    fn a_probe_reads_its_script_from_standard_input_and_gets_its_arguments() {
        let line = probe(Duration::from_secs(60), &["a b".into(), "$(x)".into(), "-c".into()]);
        assert!(!line.contains('\n'));
        let output = run(&line, "printf '%s|' \"$@\"");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "a b|$(x)|-c|");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let huge = Argv::new(RunAs::Login, "true").arg("x".repeat(LINE_MAX_BYTES));
        assert!(matches!(batch(&[huge], &login()), Err(BatchError::TooLong { .. })));
    }
}

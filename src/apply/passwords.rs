//! Reads the passwords of application roles where the inventory says, on the operator's machine.
//!
//! What is read stays in memory: servers receive verifiers of it. A password that pgstead makes is made once, where a role has none.

use std::collections::BTreeMap;
use std::io;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::model::observation::Role;
use crate::model::role::{ApplicationRole, PasswordSource};
use crate::model::secret::Secret;
use crate::pki::RolePassword;
use crate::state::StateDir;

/// How long a program may take to print a password: a vault may ask somebody else first.
const LONGEST: Duration = Duration::from_secs(60);

/// More than any password: who names the wrong file is told so.
const MOST_BYTES: u64 = 4096;

/// How much of what a program says about its failure is told.
const TOLD_BYTES: usize = 2000;

const GROUP_AND_OTHERS: u32 = 0o077;

/// The passwords of application roles.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Passwords {
    /// Those that are known, by role.
    pub known: BTreeMap<String, RolePassword>,
    /// Those among them that were made just now, and are to be kept.
    pub made: BTreeMap<String, Secret>,
    /// Sources that gave none, of roles that go on with the password that they have.
    pub notes: Vec<Diagnostic>,
}

/// The primary, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub enum Primary<'a> {
    /// It has no data yet.
    New,
    /// It runs, and has these roles.
    Runs(&'a BTreeMap<String, Role>),
    /// It could not be asked.
    Unasked,
}

/// Reads every password. A source that gives none is in the way of nothing where its role has a password already, or may have one:
/// a vault that is down, or a file that only another machine has, must keep nobody from starting a primary.
///
/// # Errors
/// All password sources that failed for roles that need a password now.
pub async fn read(
    roles: &BTreeMap<String, ApplicationRole>,
    primary: Primary<'_>,
    state: &StateDir,
) -> Result<Passwords, Vec<Diagnostic>> {
    let mut passwords = Passwords::default();
    let mut problems = Vec::new();
    for (name, role) in roles {
        let found = match &role.password {
            None => continue,
            Some(PasswordSource::Generated) => match state.role_password(name) {
                Ok(Some(kept)) => Ok(kept),
                Err(error) => {
                    let unread = error.diagnostic();
                    match needs_one(name, primary) {
                        true => problems.push(unread),
                        false => passwords.notes.push(left(unread, name, primary)),
                    }
                    continue;
                }
                Ok(None) if needs_one(name, primary) => {
                    let made = RolePassword::generate();
                    passwords.made.insert(name.clone(), made.password.clone());
                    Ok(made.password)
                }
                // Somebody keeps it elsewhere, and applications have it.
                Ok(None) => continue,
            },
            Some(PasswordSource::File(path)) => of_file(path),
            Some(PasswordSource::Command(words)) => of_command(words).await,
        };
        match found.and_then(fit) {
            Ok(password) => drop(passwords.known.insert(name.clone(), RolePassword::of(password))),
            Err(why) if needs_one(name, primary) => problems.push(told(name, role.password.as_ref(), &why)),
            Err(why) => passwords.notes.push(left(told(name, role.password.as_ref(), &why), name, primary)),
        }
    }
    if problems.is_empty() { Ok(passwords) } else { Err(problems) }
}

/// Says whether a role surely has no password that anybody uses.
fn needs_one(name: &str, primary: Primary<'_>) -> bool {
    match primary {
        Primary::New => true,
        Primary::Runs(roles) => roles.get(name).is_none_or(|role| role.verifier_sha256.is_none()),
        Primary::Unasked => false,
    }
}

/// Turns what would refuse a run into a warning: the role is left as it is.
fn left(mut unread: Diagnostic, role: &str, primary: Primary<'_>) -> Diagnostic {
    let stays = match primary {
        Primary::Unasked => {
            format!("Whether role \"{role}\" has a password could not be asked; one that it has stays.")
        }
        Primary::New | Primary::Runs(_) => format!("Role \"{role}\" has a password, which stays."),
    };
    unread.severity = Severity::Warning;
    let why = unread.detail.take();
    unread.detail(why.into_iter().chain([stays]).collect::<Vec<_>>().join(" "))
}

fn told(role: &str, source: Option<&PasswordSource>, why: &str) -> Diagnostic {
    let (message, hint) = match source {
        Some(PasswordSource::File(path)) => (
            format!("file {} gives no password for role \"{role}\"", path.display()),
            "Put the password alone into the file, chmod 600, or correct postgres.roles.",
        ),
        // Its arguments may hold a secret.
        Some(PasswordSource::Command(words)) => (
            format!("program {} gives no password for role \"{role}\"", words.first().map_or("", String::as_str)),
            "Run it by hand: it must print the password alone, and end with code 0.",
        ),
        Some(PasswordSource::Generated) | None => (format!("no password for role \"{role}\""), "See postgres.roles."),
    };
    Diagnostic::error(Code::PasswordSource, message).detail(why).hint(hint)
}

/// Takes one line break at the end away, which editors and programs add, and refuses what is no password.
fn fit(text: Secret) -> Result<Secret, String> {
    let line = text.expose();
    let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
    match line.chars().find(|c| c.is_control()) {
        _ if line.is_empty() => Err("It is empty.".to_owned()),
        Some('\n') => Err("It has more than one line.".to_owned()),
        Some(_) => Err("It has a control character in it.".to_owned()),
        None => Ok(Secret::new(line)),
    }
}

fn of_file(path: &Path) -> Result<Secret, String> {
    let said = |error: io::Error| format!("{error}.");
    // A pipe that nobody writes into is not even opened: that would wait for a writer.
    if !std::fs::metadata(path).map_err(said)?.is_file() {
        return Err("It is no file.".to_owned());
    }
    let file = std::fs::File::open(path).map_err(said)?;
    let metadata = file.metadata().map_err(said)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & GROUP_AND_OTHERS != 0 {
        return Err(format!("Its mode is {mode:04o}: others than its owner may read or change it."));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(said)?;
    text(bytes)
}

fn text(bytes: Vec<u8>) -> Result<Secret, String> {
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("It has more than {MOST_BYTES} bytes."));
    }
    String::from_utf8(bytes).map(Secret::new).map_err(|_| "It is not in UTF-8.".to_owned())
}

/// What the program prints is a secret, and is never told; what it says on standard error may help.
async fn of_command(words: &[String]) -> Result<Secret, String> {
    let [program, arguments @ ..] = words else { return Err("There is no program.".to_owned()) };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("It could not be started: {error}."))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = tokio::time::timeout(LONGEST, async {
        let (printed, said) = tokio::join!(all(stdout, MOST_BYTES + 1), first(stderr, TOLD_BYTES as u64));
        (printed, said, child.wait().await)
    });
    let Ok((printed, said, status)) = ended.await else {
        return Err(format!("It did not end within {} s, and was killed.", LONGEST.as_secs()));
    };
    match status {
        Err(error) => Err(format!("It could not be waited for: {error}.")),
        Ok(status) if !status.success() => {
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            let said = if said.is_empty() { String::new() } else { format!(" It said: {said}") };
            Err(format!("It ended with {status}.{said}"))
        }
        Ok(_) => text(printed),
    }
}

/// Reads so many bytes, and then closes the pipe.
async fn all(pipe: Option<impl tokio::io::AsyncRead + Unpin>, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What was read before an error is what there is.
        let _ = pipe.take(most).read_to_end(&mut bytes).await;
    }
    bytes
}

/// Returns so many bytes, and reads the rest, too: a program that says more than is told must not fail by it.
async fn first(pipe: Option<impl tokio::io::AsyncRead + Unpin>, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = (&mut pipe).take(most).read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(verifier: Option<&str>) -> Role {
        let has =
            serde_json::json!({ "superuser": false, "replication": false, "login": true, "verifier_sha256": verifier });
        serde_json::from_value(has).unwrap()
    }

    fn file(text: &[u8], mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_file_holds_one_password_that_nobody_else_reads() {
        let read = |text: &[u8], mode| {
            let (_dir, path) = file(text, mode);
            of_file(&path).and_then(fit).map(|secret| secret.expose().to_owned())
        };
        assert_eq!(read("s3 cret ä\r\n".as_bytes(), 0o400), Ok("s3 cret ä".to_owned()));
        for (text, mode, why) in [
            (&b""[..], 0o600, "empty"),
            (b"\n", 0o600, "empty"),
            (b"a\nb\n", 0o600, "more than one line"),
            (b"a\0b", 0o600, "control character"),
            (b"\xff", 0o600, "UTF-8"),
            (&[b'a'; 5000], 0o600, "4096 bytes"),
            (b"s3cret", 0o640, "0640"),
            (b"s3cret", 0o604, "0604"),
        ] {
            let said = read(text, mode).unwrap_err();
            assert!(said.contains(why) && !said.contains("s3cret"), "{said}");
        }
        assert!(of_file(Path::new("/")).unwrap_err().contains("no file"));
        let (dir, _) = file(b"", 0o600);
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(of_file(&pipe).unwrap_err().contains("no file"), "and nobody waits for a writer");
    }

    /// Who has lost a vault, or works from another machine, must be able to start a primary all the same.
    #[tokio::test]
    async fn a_source_that_gives_none_is_in_the_way_only_of_a_role_that_needs_one() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path().join("state"));
        let wanted = |source| {
            BTreeMap::from([("app".to_owned(), ApplicationRole { password: Some(source), ..Default::default() })])
        };
        let (with, without) = (role(Some("5e")), role(None));
        let roles = |role: &Role| BTreeMap::from([("app".to_owned(), role.clone())]);
        let (has, lacks, missing) = (roles(&with), roles(&without), BTreeMap::new());
        let sources = [PasswordSource::File("/nowhere".into()), PasswordSource::Command(vec!["false".to_owned()])];
        for source in sources {
            let roles = wanted(source);
            for primary in [Primary::New, Primary::Runs(&lacks), Primary::Runs(&missing)] {
                let refused = read(&roles, primary, &state).await.unwrap_err();
                assert!(matches!(refused.as_slice(), [one] if one.severity == Severity::Error), "{refused:?}");
            }
            for (primary, said) in
                [(Primary::Runs(&has), "has a password, which stays"), (Primary::Unasked, "could not be asked")]
            {
                let Passwords { known, made, notes } = read(&roles, primary, &state).await.unwrap();
                assert!(known.is_empty() && made.is_empty());
                let [note] = notes.as_slice() else { panic!("{notes:?}") };
                assert!(note.severity == Severity::Warning && note.detail.as_ref().unwrap().contains(said), "{note:?}");
            }
        }
        // One that others may read, of those that pgstead made.
        state.save_role_password("app", &Secret::new("kept")).unwrap();
        std::fs::set_permissions(state.role_password_file("app"), std::fs::Permissions::from_mode(0o644)).unwrap();
        let generated = wanted(PasswordSource::Generated);
        assert!(read(&generated, Primary::Runs(&lacks), &state).await.is_err());
        assert_eq!(read(&generated, Primary::Runs(&has), &state).await.unwrap().notes.len(), 1);
    }

    #[tokio::test]
    async fn a_program_prints_one_and_what_it_prints_is_not_told() {
        let run = async |script: &str| {
            let words = ["sh", "-c", script].map(str::to_owned);
            of_command(&words).await.and_then(fit).map(|secret| secret.expose().to_owned())
        };
        assert_eq!(run("echo s3cret; echo careful >&2").await, Ok("s3cret".to_owned()));
        let said = run("echo s3cret; echo sealed >&2; exit 3").await.unwrap_err();
        assert!(said.contains("exit status: 3") && said.contains("sealed") && !said.contains("s3cret"), "{said}");
        assert!(run(":").await.unwrap_err().contains("empty"));
        assert!(run("cat").await.unwrap_err().contains("empty"), "it has no input");
        assert!(run("yes s3cret").await.is_err());
        let wordy = "i=0; while [ $i -lt 20000 ]; do echo careful >&2; i=$((i + 1)); done; echo s3cret";
        assert_eq!(run(wordy).await, Ok("s3cret".to_owned()), "whatever it says besides");
        assert!(of_command(&["/nowhere".to_owned()]).await.unwrap_err().contains("could not be started"));
    }
}

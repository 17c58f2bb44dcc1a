//! docs/tutorial.md is true: every command in it is run again, in a local lab, and answers what stands there. So is tests/cli/alarms.md,
//! which keeps what people read when something is wrong.
//!
//! Numbers, sizes, addresses and widths differ from run to run and are left out of the comparison. `PGSTEAD_BLESS=1` writes
//! what was answered into the document; read it then.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;

/// Labs look for free ports: another one must not take them just then.
static LAB: Mutex<()> = Mutex::new(());

/// How a block of commands and their answers begins.
const BLOCK: &str = "```console";

fn document(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A line of the document, or a command with the answer that stands behind it.
enum Part {
    Text(String),
    Command { line: String, answer: Vec<String> },
}

fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match (inside, line.strip_prefix("$ "), parts.last_mut()) {
            (true, Some(command), _) => parts.push(Part::Command { line: command.to_owned(), answer: Vec::new() }),
            (true, None, Some(Part::Command { answer, .. })) if line != "```" => answer.push(line.to_owned()),
            _ => parts.push(Part::Text(line.to_owned())),
        }
        inside = line == BLOCK || (inside && line != "```");
    }
    parts
}

/// Leaves out what differs from run to run: progress, numbers with their units, widths, and where the lab is.
fn shape(lines: &[String]) -> Vec<String> {
    let number = regex_lite::Regex::new(r"[0-9][0-9A-Fa-f:./-]*( ?([kMGT]?B|ms|s|min)\b)?").unwrap();
    let who = regex_lite::Regex::new(r"\S+@\S+").unwrap();
    let wide = regex_lite::Regex::new(r"[─ ]+").unwrap();
    // A primary that is killed may have committed what no standby has got, or not: that is chance, and either is told.
    let loss = regex_lite::Regex::new(
        r"^(NOTE|WARNING) \[failover-loss\].*|^DETAIL: (Nothing is lost:|On the former primary alone:).*|^Recovery point: .*",
    )
    .unwrap();
    let shaped = lines.iter().map(|line| {
        let line = loss.replace(line.trim(), "what is lost");
        let line = who.replace_all(&line, "WHO");
        let line = number.replace_all(&line, "N");
        wide.replace_all(&line, " ").trim().to_owned()
    });
    shaped.filter(|line| !line.is_empty()).collect()
}

/// A shell in which the commands run, one after the other, as somebody would type them.
struct Reader {
    home: tempfile::TempDir,
    at: PathBuf,
}

impl Reader {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        // OS user "postgres" must get there, too.
        let home = tempfile::Builder::new().prefix("pgstead-tutorial-").tempdir_in("/var/tmp").unwrap();
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let at = home.path().to_owned();
        Self { home, at }
    }

    fn command(&self, line: &str) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_pgstead"));
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", &["exec 2>&1; ", line].concat()]).current_dir(&self.at).stdin(Stdio::null());
        command.env("PATH", [program.parent().unwrap().to_str().unwrap(), ":", &path].concat());
        command.env("HOME", self.home.path()).env("LC_ALL", "C.UTF-8").env("USER", "me");
        command.env_remove("XDG_STATE_HOME").env_remove("PGSTEAD_INVENTORY");
        command
    }

    /// Runs a line and returns what it printed, without lines of progress.
    fn run(&mut self, line: &str) -> Vec<String> {
        if let Some(directory) = line.strip_prefix("cd ") {
            self.at.push(directory);
            return Vec::new();
        }
        let output = self.command(line).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let own = self.home.path().canonicalize().unwrap().display().to_string();
        let progress = regex_lite::Regex::new(r"^[0-9]{2}:[0-9]{2}:[0-9]{2} ").unwrap();
        let told = text.lines().filter(|line| !progress.is_match(line));
        told.map(|line| line.replace(&own, "/home/me").trim_end().to_owned()).collect()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let lab = self.home.path().join("lab");
        let _ = self.command(&format!("pgstead lab down --dir {}", lab.display())).output();
    }
}

#[test]
fn every_command_answers_what_the_tutorial_says() {
    answers(&document("docs/tutorial.md"));
}

/// Two servers that accept writes, a host key that nobody has recorded, and one that is another: `status` and `check`, word for word.
#[test]
fn alarms_are_told_word_for_word() {
    answers(&document("tests/cli/alarms.md"));
}

fn answers(document: &Path) {
    let _only = LAB.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let text = std::fs::read_to_string(document).unwrap();
    let mut reader = Reader::new();
    let mut told = String::new();
    let mut differences = Vec::new();
    let mut n_commands = 0;
    for part in parts(&text) {
        match part {
            Part::Text(line) => told.push_str(&format!("{line}\n")),
            Part::Command { line, answer } => {
                n_commands += 1;
                let now = reader.run(&line);
                if shape(&now) != shape(&answer) {
                    let (was, is) = (shape(&answer).join("\n"), shape(&now).join("\n"));
                    let diff = similar::TextDiff::from_lines(&was, &is).unified_diff().to_string();
                    differences.push(format!("$ {line}\n{diff}"));
                }
                told.push_str(&format!("$ {line}\n"));
                now.iter().for_each(|line| told.push_str(&format!("{line}\n")));
            }
        }
    }
    if std::env::var_os("PGSTEAD_BLESS").is_some() {
        std::fs::write(document, told).unwrap();
    }
    assert!(n_commands > 10, "{n_commands} commands were found");
    assert!(differences.is_empty(), "PGSTEAD_BLESS=1 accepts these:\n{}", differences.join("\n"));
}

/// A difference that is no number is seen.
#[test]
fn another_answer_has_another_shape() {
    let lines = |text: &str| shape(&text.lines().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(lines("b → c  streaming  0/303A558  12 ms"), lines("b → c   streaming 1/0 9.5 ms"));
    assert_ne!(lines("lab: healthy"), lines("lab: unhealthy"));
    assert_ne!(lines("a  primary"), lines("b  primary"));
}

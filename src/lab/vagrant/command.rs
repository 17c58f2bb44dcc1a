//! Runs Vagrant in a lab's directory, writes down all that it says, and takes the reason of a failure from its
//! machine-readable words. It never goes through a shell.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use super::Provider;
use super::error::VagrantLabError;
use super::place::Place;
use crate::lab::Failure;

/// What Vagrant said: lines of `time,target,type,data…`.
#[derive(Debug)]
pub(super) struct Said {
    lines: Vec<String>,
    /// What stood on standard error: a Vagrantfile that refuses to be read is told of there alone.
    errors: String,
}

impl Said {
    /// Returns the value of a kind that was said about a machine, the last one first.
    pub(super) fn about(&self, machine: &str, kind: &str) -> Option<String> {
        let fields = self.lines.iter().rev().filter_map(|line| fields(line));
        fields.into_iter().find(|found| found.target == machine && found.kind == kind).map(|found| found.data)
    }

    /// Returns the Vagrantfile's refusal to be read.
    fn early(&self) -> Option<String> {
        let (_, refusal) = self.errors.split_once("failed to initialize at a very early stage:")?;
        Some(refusal.trim().to_owned())
    }

    /// Returns the class and the message of the error that ended it.
    fn error(&self) -> Option<(String, String)> {
        let error = self.lines.iter().rev().filter_map(|line| fields(line)).find(|found| found.kind == "error-exit")?;
        let (class, message) = error.data.split_once(',')?;
        Some((class.to_owned(), message.trim().to_owned()))
    }
}

/// One machine-readable line.
struct Fields {
    target: String,
    kind: String,
    data: String,
}

fn fields(line: &str) -> Option<Fields> {
    let mut parts = line.splitn(4, ',');
    let (_time, target, kind, data) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // A comma in the class and message of an error is said in words of Vagrant's own, so that the first one parts them.
    let data = data.replace("%!(VAGRANT_COMMA)", ",").replace("\\n", "\n").replace("\\r", "");
    Some(Fields { target: target.to_owned(), kind: kind.to_owned(), data })
}

/// Runs `vagrant WORDS…` to its end. Machines that are not made yet are the provider's.
pub(super) fn vagrant(place: &Place, provider: Provider, words: &[&str]) -> Result<Said, VagrantLabError> {
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => VagrantLabError::ProgramMissing { program: "vagrant", package: "vagrant" },
        _ => could_not_run(source),
    };
    let log_path = place.log();
    let open = || File::options().create(true).append(true).open(&log_path);
    let mut log = open().map_err(Failure::file("write", &log_path))?;
    let error_log = open().map_err(Failure::file("write", &log_path))?;
    let _ = writeln!(log, "$ vagrant {}", words.join(" "));
    let mut command = Command::new("vagrant");
    command.args(words).args(["--machine-readable", "--no-color"]);
    environment(&mut command, place, provider);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (lines, errors) = std::thread::scope(|scope| {
        let errors = scope.spawn(|| follow(stderr, error_log));
        (follow(stdout, log), errors.join().unwrap_or_default())
    });
    let status = child.wait().map_err(could_not_run)?;
    let said = Said { lines, errors: errors.join("\n") };
    if status.success() { Ok(said) } else { Err(reason(words, &said, &status.to_string())) }
}

fn could_not_run(source: std::io::Error) -> VagrantLabError {
    Failure::Start { command: "vagrant".to_owned(), source }.into()
}

/// Reads lines to their end, and writes them down as they come, so that the log shows how far it is.
fn follow(stream: Option<impl Read>, mut log: File) -> Vec<String> {
    let lines = stream.into_iter().flat_map(|stream| BufReader::new(stream).split(b'\n').map_while(Result::ok));
    let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    lines.inspect(|line| drop(writeln!(log, "{line}"))).collect()
}

/// Lets a command find the lab's Vagrantfile and inventory, and nothing of another project.
fn environment(command: &mut Command, place: &Place, provider: Provider) {
    command
        .current_dir(place.project())
        .env("VAGRANT_CWD", place.project())
        .env("VAGRANT_DOTFILE_PATH", place.machines())
        .env("VAGRANT_CHECKPOINT_DISABLE", "1")
        .env("VAGRANT_DEFAULT_PROVIDER", provider.word())
        .env("PGSTEAD_INVENTORY", place.inventory())
        .env_remove("VAGRANT_VAGRANTFILE")
        .env_remove("PGSTEAD_PUBLIC_KEY");
}

fn reason(words: &[&str], said: &Said, status: &str) -> VagrantLabError {
    let program = ["vagrant ", words.first().copied().unwrap_or_default()].concat();
    match said.error() {
        Some((class, message)) if class.starts_with("Vagrant::Errors::Box") => VagrantLabError::NoBox { message },
        Some((_, message)) => VagrantLabError::Vagrant { program, message },
        None => match said.early() {
            Some(message) => VagrantLabError::Refused { message },
            None => VagrantLabError::Vagrant { program, message: status.to_owned() },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Said {
        Said { lines: text.lines().map(str::to_owned).collect(), errors: String::new() }
    }

    #[test]
    fn the_state_of_a_machine_is_read_from_its_own_line() {
        let said = said(
            "1795859000,a,metadata,provider,libvirt\n1795859001,a,state,running\n1795859001,b,state,not_created\n",
        );
        assert_eq!(said.about("a", "state").as_deref(), Some("running"));
        assert_eq!(said.about("b", "state").as_deref(), Some("not_created"));
        assert_eq!(said.about("c", "state"), None);
    }

    #[test]
    fn a_refusal_of_the_vagrantfile_and_a_missing_box_are_told_from_other_failures() {
        let errors = "Vagrant failed to initialize at a very early stage:\n\n/lab/pgstead.yaml: no\n".to_owned();
        let error = reason(&["up"], &Said { lines: Vec::new(), errors }, "1");
        assert!(
            matches!(&error, VagrantLabError::Refused { message } if message == "/lab/pgstead.yaml: no"),
            "{error}"
        );
        let no_box = said("1,,error-exit,Vagrant::Errors::BoxAddShortNotFound,The box 'x' could not be found\\nor");
        assert!(
            matches!(reason(&["up"], &no_box, "1"), VagrantLabError::NoBox { message } if message.ends_with("found\nor"))
        );
        let other =
            said("1,,error-exit,VagrantPlugins::ProviderLibvirt::Errors::CreateServerError,no%!(VAGRANT_COMMA) really");
        assert_eq!(reason(&["up"], &other, "1").to_string(), "vagrant up failed: no, really");
        assert_eq!(reason(&["up"], &said(""), "exit status: 3").to_string(), "vagrant up failed: exit status: 3");
    }
}

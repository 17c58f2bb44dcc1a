//! PostgreSQL as this machine has it, for tests that run an instance of their own.

use std::path::Path;
use std::process::Command;
use std::process::Stdio;

pub(crate) const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A program as the OS user that may run PostgreSQL: ourselves, or `postgres` where we are root. It works where everybody may
/// be, and nobody types.
pub(crate) fn program(name: &str) -> Command {
    let path = Path::new(BIN).join(name);
    assert!(path.exists(), "{} is missing: these tests need the package postgresql-15", path.display());
    let mut command = if is_root() { Command::new("runuser") } else { Command::new(&path) };
    if is_root() {
        command.args(["-u", "postgres", "--"]).arg(&path);
    }
    command.current_dir("/").stdin(Stdio::null());
    command
}

pub(crate) fn is_root() -> bool {
    Command::new("id").arg("-u").output().unwrap().stdout == b"0\n"
}

//! The keys of a lab: made for it, and taken away with it.

use std::path::Path;
use std::process::Command;

use super::Failure;
use super::command::succeed;

/// Makes a key pair, of which nobody else can read the private half, and returns the public one.
pub(super) fn make(path: &Path, comment: &str) -> Result<String, Failure> {
    succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(path))?;
    let public = path.with_added_extension("pub");
    std::fs::read_to_string(&public).map_err(Failure::file("read", &public))
}

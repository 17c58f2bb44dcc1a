//! Whose programs make a local lab, and where they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::LocalLabError;
use crate::lab::Failure;
use crate::lab::command::succeed;
use crate::model::version::Major;

/// The OS user under whose name root runs everything.
const OS_USER: &str = "postgres";

/// Where Debian and its relatives keep one directory per major version.
const INSTALLED: &str = "/usr/lib/postgresql";

/// The OS identity that owns the servers, and into which SSH logs in.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// Its name.
    pub(super) user: String,
    /// Its user id.
    pub(super) uid: u32,
    /// Its group id.
    pub(super) gid: u32,
    /// Whether this process is root and has to become that user.
    pub(super) from_root: bool,
}

impl Identity {
    /// Finds out who runs the servers: the current user, or `postgres` where that is root.
    pub(super) fn find() -> Result<Self, LocalLabError> {
        let from_root = rustix::process::geteuid().is_root();
        let of: &[&str] = if from_root { &[OS_USER] } else { &[] };
        let ask = |what: &str| succeed(Command::new("id").arg(what).args(of));
        let missing = |reason| LocalLabError::NoOsUser { user: OS_USER.to_owned(), reason };
        let user = match ask("-un") {
            Err(Failure::Command { .. }) if from_root => return Err(missing("does not exist")),
            answer => answer?.trim().to_owned(),
        };
        let number = |text: String| text.trim().parse::<u32>().map_err(|_| missing("has no user and group id"));
        Ok(Self { user, uid: number(ask("-u")?)?, gid: number(ask("-g")?)?, from_root })
    }

    /// Makes a command that runs under this identity.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = if self.from_root {
            let mut runuser = Command::new("runuser");
            runuser.args(["-u", &self.user, "--"]).arg(program.as_ref());
            runuser
        } else {
            Command::new(program.as_ref())
        };
        // The current directory may be one that this user cannot enter.
        command.current_dir("/");
        command
    }

    /// Gives a file or directory that this process made to the identity.
    pub(super) fn give(&self, path: &Path) -> Result<(), Failure> {
        if !self.from_root {
            return Ok(());
        }
        std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid))
            .map_err(Failure::file("change the owner of", path))
    }
}

/// Finds a program by its absolute path, or says which package has it.
pub(super) fn installed(program: &str, package: &'static str) -> Result<PathBuf, LocalLabError> {
    let path = PathBuf::from(program);
    if path.is_file() { Ok(path) } else { Err(LocalLabError::ProgramMissing { program: path, package }) }
}

/// Finds the programs of the wanted major version, or of the newest one.
pub(super) fn postgres(wanted: Option<Major>) -> Result<(Major, PathBuf), LocalLabError> {
    let mut found: Vec<Major> = std::fs::read_dir(INSTALLED)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Major::try_from(entry.file_name().to_str()?.parse::<u32>().ok()?).ok())
        .filter(|major| {
            bin_directory(*major).join("postgres").is_file() && bin_directory(*major).join("initdb").is_file()
        })
        .collect();
    found.sort();
    let major = match wanted {
        Some(major) if found.contains(&major) => major,
        Some(major) if !found.is_empty() => {
            let installed = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(LocalLabError::VersionMissing { wanted: major.number(), installed });
        }
        _ => *found.last().ok_or_else(|| LocalLabError::NoPostgres { looked_in: format!("{INSTALLED}/*/bin") })?,
    };
    Ok((major, bin_directory(major)))
}

fn bin_directory(major: Major) -> PathBuf {
    Path::new(INSTALLED).join(major.to_string()).join("bin")
}

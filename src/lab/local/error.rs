//! What can go wrong with the local lab, in words that say what to do. It decides nothing.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::lab::Failure;
use crate::model::name::ServerName;

/// Why the local lab could not be made, looked at or taken down.
#[derive(Debug, thiserror::Error)]
pub enum LocalLabError {
    #[error("neither XDG_STATE_HOME nor HOME is set to an absolute path; name a directory for the lab")]
    NoHome,
    /// The path of the directory cannot stand in every configuration file that would name it.
    #[error("lab directory {path:?} must have only letters, digits and \"/._-+@,\"")]
    BadPath { path: PathBuf },
    /// The socket of an instance would have a longer path than the kernel takes.
    #[error("lab directory \"{path}\" is too long: a socket in it would have {bytes} bytes of path, the limit is 107")]
    PathTooLong {
        path: PathBuf,
        /// The length that the socket's path would have.
        bytes: usize,
    },
    #[error("\"{path}\" exists and is not a pgstead lab; nothing was changed")]
    NotALab { path: PathBuf },
    #[error("\"{path}\" is a symbolic link, not a lab directory; nothing was changed")]
    Symlink { path: PathBuf },
    #[error("\"{path}\" belongs to another OS user (uid {uid}); nothing was changed")]
    NotOurs {
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    #[error("\"{mount_point}\" is a mount point inside the lab directory; unmount it first, nothing was removed")]
    Mounted { mount_point: PathBuf },
    #[error("the lab in \"{path}\" was left half made; take it down, then bring it up again")]
    HalfMade { path: PathBuf },
    #[error("\"{path}\" cannot be read as the state of a lab: {reason}")]
    BadState { path: PathBuf, reason: String },
    #[error("the lab in \"{path}\" is up with servers {have}, not {wanted}; take it down first")]
    OtherServers { path: PathBuf, have: String, wanted: String },
    #[error("a local lab has 1 to {max} servers, each with its own name")]
    BadServers {
        /// The largest number.
        max: usize,
    },
    #[error("port {port} on {address} is in use; name another port, or take down what listens there")]
    PortTaken { address: Ipv4Addr, port: u16 },
    #[error("no free ports for {servers} servers were found on 127.0.0.11 to 127.0.0.250")]
    NoFreePort {
        /// How many servers need one.
        servers: usize,
    },
    #[error("no PostgreSQL 15 to 19 was found in {looked_in}")]
    NoPostgres {
        /// Where it was looked for.
        looked_in: String,
    },
    #[error("PostgreSQL {wanted} is not installed; installed: {installed}")]
    VersionMissing {
        /// The wanted major version.
        wanted: u32,
        /// Those that are there.
        installed: String,
    },
    #[error("\"{program}\" is not installed; it is part of package {package}")]
    ProgramMissing {
        program: PathBuf,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// root runs the lab, and the OS user for the instances does not exist or cannot log in.
    #[error("root cannot run PostgreSQL, and OS user \"{user}\" {reason}")]
    NoOsUser { user: String, reason: &'static str },
    #[error("OS user \"{user}\" cannot reach \"{path}\"; name a lab directory that it may enter")]
    Unreachable {
        user: String,
        /// The directory that it cannot enter.
        path: PathBuf,
    },
    #[error("sshd of server \"{server}\" did not start ({command}): {log}")]
    SshdDidNotStart {
        server: ServerName,
        /// The command as a shell line.
        command: String,
        /// The end of its log.
        log: String,
    },
    #[error("process {pid} ({name}) did not end within {seconds} seconds; nothing was removed")]
    StillRunning {
        pid: i32,
        name: String,
        /// How long it was waited for.
        seconds: u64,
    },
    #[error(transparent)]
    Failed(#[from] Failure),
    #[error("could not write the lab's inventory as YAML: {reason}")]
    Inventory { reason: String },
}

impl LocalLabError {
    /// Says whether it is a refusal: nothing was changed.
    pub(in crate::lab) fn is_refusal(&self) -> bool {
        use LocalLabError as E;
        matches!(
            self,
            E::NoHome
                | E::BadPath { .. }
                | E::PathTooLong { .. }
                | E::NotALab { .. }
                | E::Symlink { .. }
                | E::NotOurs { .. }
                | E::Mounted { .. }
                | E::HalfMade { .. }
                | E::BadState { .. }
                | E::OtherServers { .. }
                | E::BadServers { .. }
                | E::PortTaken { .. }
                | E::NoFreePort { .. }
                | E::NoPostgres { .. }
                | E::VersionMissing { .. }
                | E::ProgramMissing { .. }
                | E::NoOsUser { .. }
                | E::Unreachable { .. }
        )
    }
}

//! What can go wrong with a Docker lab, in words that say what to do. It decides nothing.

use std::path::PathBuf;

use crate::diagnostic::Diagnostic;
use crate::lab::Failure;

/// Why a Docker lab could not be made, looked at, broken or taken down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DockerLabError {
    #[error("\"docker\" is not in PATH (Debian package \"docker.io\")")]
    NoClient,
    #[error("no Docker engine answers: {said}")]
    NoEngine {
        /// What the client said.
        said: String,
    },
    #[error("the Docker engine runs {os} containers, and a lab needs Linux")]
    NotLinux {
        /// What it runs.
        os: String,
    },
    #[error("neither \"docker compose\" nor \"docker-compose\" works (Debian package \"docker-compose\")")]
    NoCompose,
    #[error("could not read inventory \"{}\"", path.display())]
    ReadInventory { path: PathBuf, source: std::io::Error },
    /// The inventory that drives the lab is invalid.
    #[error("{}", .0.first().map_or("the inventory is invalid", |first| first.message.as_str()))]
    InvalidInventory(
        /// Everything that is wrong with it.
        Vec<Diagnostic>,
    ),
    #[error("inventory \"{name}\" makes no Docker lab: {problem}")]
    UnfitInventory { name: String, problem: String },
    #[error("network {network} of site \"{site}\" overlaps {other}")]
    NetworkTaken {
        network: String,
        /// Whose it is.
        site: String,
        /// What has it.
        other: String,
    },
    #[error("no port from {first} to {last} is free on 127.0.0.1")]
    NoFreePort {
        /// The first that was tried.
        first: u16,
        /// The last that was tried.
        last: u16,
    },
    #[error("the Docker engine has {has_mib} MiB of memory, and {servers} servers need {need_mib}")]
    TooLittleMemory {
        /// What it has.
        has_mib: u64,
        /// How many servers are wished.
        servers: usize,
        /// What they need.
        need_mib: u64,
    },
    #[error("\"{}\" of the Docker engine has {has_mib} MiB of room, and the lab needs {need_mib}", path.display())]
    TooLittleRoom {
        /// Where the engine keeps things.
        path: PathBuf,
        /// What is free there.
        has_mib: u64,
        /// What is needed.
        need_mib: u64,
    },
    /// The path of the directory can't stand in every file that would name it.
    #[error("lab directory {path:?} must have only letters, digits and \"/._-+@,\"")]
    BadPath { path: PathBuf },
    #[error("\"{}\" exists and is not a Docker lab of pgstead; nothing was changed", path.display())]
    NotALab { path: PathBuf },
    #[error("the lab in \"{}\" was left half made; take it down, then bring it up again", path.display())]
    HalfMade { path: PathBuf },
    #[error("the lab in \"{}\" is up with other servers; take it down first", path.display())]
    OtherServers { path: PathBuf },
    #[error(
        "there is no image \"{image}\", and it could not be pulled: {pull}; making one of Debian's packages {problem}"
    )]
    NoBase {
        image: String,
        /// What the pull said.
        pull: String,
        /// Why none was made.
        problem: String,
    },
    #[error("could not make a base image of Debian's packages")]
    MakeBase { source: Failure },
    #[error("could not build image \"{image}\"")]
    Build { image: String, source: Failure },
    /// The lab's own files could not be made or read.
    #[error("could not keep the lab in \"{}\"", dir.display())]
    Files { dir: PathBuf, source: Failure },
    #[error("could not start the containers")]
    Start { source: Failure },
    #[error("server \"{server}\" did not come up; its log ends:\n{log}")]
    Boot {
        server: String,
        /// The end of what it printed.
        log: String,
        source: Failure,
    },
    #[error("could not look at the containers of the lab")]
    Look { source: Failure },
    #[error("could not {doing} of server \"{server}\"")]
    Fault {
        /// Such as "cut the link".
        doing: &'static str,
        server: String,
        source: Failure,
    },
    #[error("could not take away the lab in \"{}\"", dir.display())]
    Clear { dir: PathBuf, source: Failure },
}

impl DockerLabError {
    /// Says whether it is a refusal: nothing was changed.
    pub(in crate::lab) fn is_refusal(&self) -> bool {
        !matches!(
            self,
            Self::NoBase { .. }
                | Self::MakeBase { .. }
                | Self::Build { .. }
                | Self::Files { .. }
                | Self::Start { .. }
                | Self::Boot { .. }
                | Self::Look { .. }
                | Self::Fault { .. }
                | Self::Clear { .. }
        )
    }

    /// Returns what would probably help.
    pub(in crate::lab) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoEngine { said } if said.contains("permission denied") => {
                Some("Whoever may use the engine is in OS group docker, or root.")
            }
            Self::NoEngine { .. } => Some("Start it: Docker Desktop, or \"systemctl start docker\"."),
            Self::NetworkTaken { .. } => {
                Some("Take down what has it, or give the servers other addresses in a copy of the inventory (-i).")
            }
            _ => None,
        }
    }
}

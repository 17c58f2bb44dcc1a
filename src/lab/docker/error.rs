//! What can go wrong with a Docker lab, in words that say what to do. It decides nothing.

use std::path::PathBuf;

use crate::diagnostic::Diagnostic;
use crate::lab::Failure;

/// Why a Docker lab could not be made, looked at, broken or taken down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DockerLabError {
    /// There is no client.
    #[error("\"docker\" is not in PATH (Debian package \"docker.io\")")]
    NoClient,
    /// The client reaches no engine.
    #[error("no Docker engine answers: {said}")]
    NoEngine {
        /// What the client said.
        said: String,
    },
    /// The engine runs no Linux containers.
    #[error("the Docker engine runs {os} containers, and a lab needs Linux")]
    NotLinux {
        /// What it runs.
        os: String,
    },
    /// Neither form of Compose is installed.
    #[error("neither \"docker compose\" nor \"docker-compose\" works (Debian package \"docker-compose\")")]
    NoCompose,
    /// The inventory that drives the lab could not be read.
    #[error("could not read inventory \"{}\"", path.display())]
    ReadInventory {
        /// The file.
        path: PathBuf,
        source: std::io::Error,
    },
    /// The inventory that drives the lab is invalid.
    #[error("{}", .0.first().map_or("the inventory is invalid", |first| first.message.as_str()))]
    InvalidInventory(
        /// Everything that is wrong with it.
        Vec<Diagnostic>,
    ),
    /// The inventory is a good one, and no Docker lab can be made of it.
    #[error("inventory \"{name}\" makes no Docker lab: {problem}")]
    UnfitInventory {
        /// The file.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A network of the lab is used on this machine already.
    #[error("network {network} of site \"{site}\" overlaps {other}")]
    NetworkTaken {
        network: String,
        /// Whose it is.
        site: String,
        /// What has it.
        other: String,
    },
    /// No port is free for the way in.
    #[error("no port from {first} to {last} is free on 127.0.0.1")]
    NoFreePort {
        /// The first that was tried.
        first: u16,
        /// The last that was tried.
        last: u16,
    },
    /// The engine has too little memory.
    #[error("the Docker engine has {has_mib} MiB of memory, and {servers} servers need {need_mib}")]
    TooLittleMemory {
        /// What it has.
        has_mib: u64,
        /// How many servers are wished.
        servers: usize,
        /// What they need.
        need_mib: u64,
    },
    /// The engine has too little room on its disk.
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
    BadPath {
        /// The path as given.
        path: PathBuf,
    },
    /// The directory holds something that is no Docker lab.
    #[error("\"{}\" exists and is not a Docker lab of pgstead; nothing was changed", path.display())]
    NotALab {
        /// The directory.
        path: PathBuf,
    },
    /// An earlier `up` was interrupted.
    #[error("the lab in \"{}\" was left half made; take it down, then bring it up again", path.display())]
    HalfMade {
        /// The lab directory.
        path: PathBuf,
    },
    /// The lab is up with another inventory than the one that was named.
    #[error("the lab in \"{}\" is up with other servers; take it down first", path.display())]
    OtherServers {
        /// The lab directory.
        path: PathBuf,
    },
    /// There is no image to build servers from, and none could be had.
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
    /// The base image could not be made of Debian's packages.
    #[error("could not make a base image of Debian's packages")]
    MakeBase { source: Failure },
    /// The image of the servers could not be built.
    #[error("could not build image \"{image}\"")]
    Build {
        /// Its name.
        image: String,
        source: Failure,
    },
    /// The lab's own files could not be made or read.
    #[error("could not keep the lab in \"{}\"", dir.display())]
    Files {
        /// The lab's directory.
        dir: PathBuf,
        source: Failure,
    },
    /// The containers and networks could not be made.
    #[error("could not start the containers")]
    Start { source: Failure },
    /// A server did not come up.
    #[error("server \"{server}\" did not come up; its log ends:\n{log}")]
    Boot {
        server: String,
        /// The end of what it printed.
        log: String,
        source: Failure,
    },
    /// The engine did not tell what is there.
    #[error("could not look at the containers of the lab")]
    Look { source: Failure },
    /// A fault could not be made or mended.
    #[error("could not {doing} of server \"{server}\"")]
    Fault {
        /// Such as "cut the link".
        doing: &'static str,
        server: String,
        source: Failure,
    },
    /// Something of the lab is still there after it was taken down.
    #[error("could not take away the lab in \"{}\"", dir.display())]
    Clear {
        /// The lab's directory.
        dir: PathBuf,
        source: Failure,
    },
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

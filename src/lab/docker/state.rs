//! What a Docker lab writes about itself, so that another process can find, use and remove it.
//!
//! A directory is removed only with our marker file in it, no symbolic link, and only what the lab put there.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::DockerLabError;
use super::spec::ROUTER_NAME;
use crate::lab::Failure;

/// The marker file.
const MARKER: &str = "docker-lab.json";
const MARKER_NEW: &str = "docker-lab.json.new";

/// What the lab puts into its directory, but for the marker. A topology's own state is in it as well, once there is one.
const PARTS: [&str; 6] = ["client", "image", "compose.yaml", ".env", "pgstead.yaml", ".pgstead"];

/// A Docker lab as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Of this form.
    version: u32,
    /// Whether `up` got to its end.
    pub(super) complete: bool,
    /// Names everything that the engine has of it.
    pub(super) project: String,
    /// The image of its containers.
    pub(super) image: String,
    /// The port of this machine that leads in.
    pub(super) port: u16,
    /// The login user.
    pub(super) user: String,
    /// The size of the disk of each server's data, where they have one.
    pub(super) disk_mib: Option<u32>,
    pub(super) servers: Vec<Placed>,
}

/// A server and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Placed {
    pub(super) name: String,
    pub(super) address: String,
    /// Where the router is in its site's network.
    pub(super) router: String,
}

impl State {
    /// Returns the state of a lab that is about to be made.
    pub(super) fn new(dir: &Path, image: String, port: u16, user: String, disk_mib: Option<u32>) -> Self {
        Self { version: 1, complete: false, project: project(dir), image, port, user, disk_mib, servers: Vec::new() }
    }

    /// Returns the name of a server's container, or of the router's.
    pub(super) fn container(&self, name: &str) -> String {
        [&self.project, "-", name].concat()
    }

    /// Returns the name of the router's container.
    pub(super) fn router(&self) -> String {
        self.container(ROUTER_NAME)
    }

    /// Reads the state of the lab in a directory; nothing where there is none. Anything but a lab is an error.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, DockerLabError> {
        let not_a_lab = || DockerLabError::NotALab { path: dir.to_owned() };
        let files = |source| DockerLabError::Files { dir: dir.to_owned(), source };
        match fs::symlink_metadata(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(files(Failure::file("look at", dir)(error))),
            Ok(meta) if !meta.is_dir() => return Err(not_a_lab()),
            Ok(_) => {}
        }
        let path = dir.join(MARKER);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // `up` was interrupted before it wrote the marker, or somebody made the directory for it.
                let mut entries = fs::read_dir(dir).map_err(Failure::file("read", dir)).map_err(files)?;
                let ours = entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == MARKER_NEW));
                return if ours { Ok(None) } else { Err(not_a_lab()) };
            }
            Err(error) => return Err(files(Failure::file("read", &path)(error))),
        };
        let state: Self = serde_json::from_str(&text)
            .map_err(|error| files(Failure::Content { path: path.clone(), problem: error.to_string() }))?;
        // A lab that was copied: its containers are those of the original.
        if state.version != 1 || state.project != project(dir) {
            return Err(not_a_lab());
        }
        Ok(Some(state))
    }

    /// Records the state, whole or not at all.
    pub(super) fn write(&self, dir: &Path) -> Result<(), Failure> {
        let path = dir.join(MARKER);
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Failure::Content { path: path.clone(), problem: error.to_string() })?;
        let new = dir.join(MARKER_NEW);
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).map_err(Failure::file("write", &path))
    }
}

/// Refuses a directory whose path could not stand in every file that has to name it.
pub(super) fn check_path(dir: &Path) -> Result<(), DockerLabError> {
    let plain = |c: char| c.is_alphanumeric() || "/._-+@,".contains(c);
    let above = dir.components().any(|part| matches!(part, std::path::Component::ParentDir));
    match dir.to_str() {
        Some(text) if text.chars().all(plain) && !above && dir.is_absolute() && dir.file_name().is_some() => Ok(()),
        _ => Err(DockerLabError::BadPath { path: dir.to_owned() }),
    }
}

/// Makes a directory for nobody else, and those above it.
pub(super) fn make_dir(dir: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Failure::file("make", dir))
}

/// Writes a file for nobody else, in the place of another.
pub(super) fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        io::Write::write_all(&mut file, text.as_bytes())
    };
    write().map_err(Failure::file("write", path))
}

/// Removes what the lab put into its directory, the marker last, and then the directory. What somebody else put there
/// stays, and the directory with it.
pub(super) fn remove(dir: &Path) -> Result<(), Failure> {
    for part in PARTS.map(|part| dir.join(part)) {
        match fs::symlink_metadata(&part) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&part),
            Ok(_) => fs::remove_file(&part),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => Err(error),
        }
        .map_err(Failure::file("remove", &part))?;
    }
    let marker = dir.join(MARKER);
    fs::remove_file(&marker).map_err(Failure::file("remove", &marker))?;
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed.map_err(Failure::file("remove", dir)),
    }
}

/// Returns the name of the lab in a directory among all that the engine has.
fn project(dir: &Path) -> String {
    let hash = Sha256::digest(dir.as_os_str().as_encoded_bytes());
    let key: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    ["pgstead-", &key].concat()
}

/// Returns where the lab's inventory is.
pub(super) fn inventory(dir: &Path) -> PathBuf {
    dir.join("pgstead.yaml")
}

//! The directory of a Vagrant lab: what is where in it, and what it says about the lab.
//!
//! The directory is all that one call hands to the next. Only one that says itself that it is a lab is removed.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::Provider;
use super::error::VagrantLabError;
use super::wanted::Wanted;
use crate::lab::{Failure, key};

/// What Vagrant reads, as it is in the project.
const PROJECT: [(&str, &str, u32); 4] = [
    ("Vagrantfile", include_str!("../../../vagrant/Vagrantfile"), 0o644),
    ("lab.rb", include_str!("../../../vagrant/lab.rb"), 0o644),
    ("guest", include_str!("../../../vagrant/guest"), 0o755),
    ("docker/Dockerfile", include_str!("../../../vagrant/docker/Dockerfile"), 0o644),
];

/// A lab's directory.
#[derive(Debug, Clone)]
pub(super) struct Place {
    dir: PathBuf,
}

/// What the directory says about its lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// What makes its machines.
    pub(super) provider: Provider,
    /// The name of its topology.
    pub(super) topology: String,
    /// The operator's login user in the machines.
    pub(super) user: String,
    /// The operator's private key; it stays where it is.
    pub(super) identity_file: PathBuf,
    /// Its servers: name and address.
    pub(super) servers: Vec<(String, String)>,
}

impl Place {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the Vagrantfile is.
    pub(super) fn project(&self) -> PathBuf {
        self.dir.join("vagrant")
    }

    /// Where Vagrant remembers its machines.
    pub(super) fn machines(&self) -> PathBuf {
        self.project().join(".vagrant")
    }

    pub(super) fn inventory(&self) -> PathBuf {
        self.dir.join("pgstead.yaml")
    }

    pub(super) fn known_hosts(&self) -> PathBuf {
        self.dir.join("known_hosts")
    }

    /// The key of the lab's own, where the inventory names none.
    pub(super) fn key(&self) -> PathBuf {
        self.dir.join("client/id_ed25519")
    }

    /// Everything that Vagrant said.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("vagrant.log")
    }

    fn state_file(&self) -> PathBuf {
        self.dir.join("vagrant-lab.json")
    }

    /// Reads what the directory says about its lab. One that is absent or empty says nothing.
    pub(super) fn look(&self) -> Result<Option<State>, VagrantLabError> {
        let path = self.state_file();
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|source| VagrantLabError::State { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.expect_nothing().map(|()| None),
            Err(source) => Err(Failure::file("read", path)(source).into()),
        }
    }

    fn expect_nothing(&self) -> Result<(), VagrantLabError> {
        match fs::read_dir(&self.dir).map(|entries| entries.count()) {
            Ok(0) => Ok(()),
            Ok(_) => Err(VagrantLabError::NotALab { path: self.dir.clone() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(Failure::file("read", &self.dir)(source).into()),
        }
    }

    /// Writes everything that Vagrant needs, what the lab says about itself first.
    pub(super) fn make(&self, wanted: &Wanted) -> Result<(), VagrantLabError> {
        let made = |path: &Path| fs::create_dir_all(path).map_err(Failure::file("make", path));
        made(&self.dir)?;
        // The operator's key may be in it.
        fs::set_permissions(&self.dir, Permissions::from_mode(0o700))
            .map_err(Failure::file("set the mode of", &self.dir))?;
        let state = serde_json::to_vec_pretty(&wanted.state)
            .map_err(|source| VagrantLabError::State { path: self.state_file(), source })?;
        write(&self.state_file(), &state)?;
        made(&self.project().join("docker"))?;
        for (name, text, mode) in PROJECT {
            let path = self.project().join(name);
            write(&path, text.as_bytes())?;
            fs::set_permissions(&path, Permissions::from_mode(mode))
                .map_err(Failure::file("set the mode of", &path))?;
        }
        if wanted.state.identity_file == self.key() {
            made(&self.dir.join("client"))?;
            key::make(&self.key(), "pgstead-lab")?;
        }
        write(&self.inventory(), wanted.inventory.as_bytes())
    }

    /// Returns whether Vagrant has a machine of a server, whatever its state.
    pub(super) fn has_machine(&self, server: &str) -> bool {
        let of_providers = fs::read_dir(self.machines().join("machines").join(server));
        of_providers.is_ok_and(|mut found| found.any(|entry| entry.is_ok_and(|entry| entry.path().join("id").exists())))
    }

    /// Returns whether the host keys of an address are known.
    pub(super) fn knows_host(&self, address: &str) -> bool {
        let text = fs::read_to_string(self.known_hosts()).unwrap_or_default();
        text.lines().any(|line| line.split(' ').next() == Some(address))
    }

    /// Removes the directory and all that is in it.
    pub(super) fn remove(&self) -> Result<(), VagrantLabError> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Failure::file("remove", &self.dir)(error).into())
            }
            _ => Ok(()),
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), VagrantLabError> {
    Ok(fs::write(path, bytes).map_err(Failure::file("write", path))?)
}

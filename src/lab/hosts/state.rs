//! What a lab writes about itself, so that another process can find, use and remove it.
//!
//! Holds paths and the state file's form; mounts and starts nothing.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::network::LabNumber;
use super::process::ProcessId;
use super::spec::{HostSpec, LabSpec};
use crate::lab::Failure;

const FILE: &str = "lab.json";

/// Below the lab's directory, where each host has one of its own.
pub(super) const HOSTS: &str = "hosts";

/// Below the lab's directory, where the operator's things are.
pub(super) const CLIENT: &str = "client";

/// The state file, written before anything else of the lab exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Of this form.
    version: u32,
    /// Names what the machine shares.
    pub(super) number: LabNumber,
    /// The process that the lab must not outlive.
    pub(super) owner: Option<ProcessId>,
    /// In the order of their addresses.
    pub(super) hosts: Vec<HostSpec>,
    /// What its hosts begin with, where that is more than a tree.
    #[serde(default)]
    pub(super) begins_with: Option<PathBuf>,
}

impl State {
    /// Returns the state of a lab that is about to be made.
    pub(super) fn new(number: LabNumber, owner: Option<ProcessId>, spec: LabSpec) -> Self {
        Self { version: 1, number, owner, hosts: spec.hosts, begins_with: spec.begins_with }
    }

    /// Tells whether `dir` holds a lab.
    pub(super) fn exists(dir: &Path) -> bool {
        dir.join(FILE).exists()
    }

    /// Reads the state of the lab in `dir`.
    pub(super) fn read(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(FILE);
        let text = fs::read_to_string(&path).map_err(Failure::file("read", &path))?;
        let state: Self = serde_json::from_str(&text)
            .map_err(|error| Failure::Content { path: path.clone(), problem: error.to_string() })?;
        if state.version == 1 {
            Ok(state)
        } else {
            Err(Failure::Content { path, problem: format!("version is {}, not 1", state.version) })
        }
    }

    /// Writes the state of the lab in `dir`.
    pub(super) fn write(&self, dir: &Path) -> Result<(), Failure> {
        let path = dir.join(FILE);
        let unfinished = dir.join("lab.json.new");
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Failure::Content { path: path.clone(), problem: error.to_string() })?;
        fs::write(&unfinished, text).map_err(Failure::file("write", &unfinished))?;
        fs::rename(&unfinished, &path).map_err(Failure::file("rename", &unfinished))
    }

    /// Removes the state file, the last thing that goes.
    pub(super) fn remove(dir: &Path) -> Result<(), Failure> {
        let path = dir.join(FILE);
        fs::remove_file(&path).map_err(Failure::file("remove", &path))
    }
}

/// Where a host keeps its things, below the lab's directory.
#[derive(Debug, Clone)]
pub(super) struct HostPaths(PathBuf);

impl HostPaths {
    /// Returns those of the host called `name`.
    pub(super) fn new(lab_dir: &Path, name: &str) -> Self {
        Self(lab_dir.join(HOSTS).join(name))
    }
    /// Everything below.
    pub(super) fn dir(&self) -> &Path {
        &self.0
    }
    /// What the host has written.
    pub(super) fn upper(&self) -> PathBuf {
        self.0.join("upper")
    }
    /// Of the overlay.
    pub(super) fn work(&self) -> PathBuf {
        self.0.join("work")
    }
    /// Where the overlay is mounted: the host's root directory.
    pub(super) fn root(&self) -> PathBuf {
        self.0.join("root")
    }
    /// Host key and machine id, which outlive a reset.
    pub(super) fn identity(&self) -> PathBuf {
        self.0.join("identity")
    }
    /// The private host key; the public one has `.pub` added.
    pub(super) fn host_key(&self) -> PathBuf {
        self.identity().join("ssh_host_ed25519_key")
    }
    pub(super) fn machine_id(&self) -> PathBuf {
        self.identity().join("machine-id")
    }
    /// The file that is the small disk.
    pub(super) fn disk_image(&self) -> PathBuf {
        self.0.join("disk.ext4")
    }
    /// Where the small disk is mounted outside.
    pub(super) fn disk(&self) -> PathBuf {
        self.0.join("disk")
    }
    /// The supervisor's process.
    pub(super) fn supervisor(&self) -> PathBuf {
        self.0.join("supervisor")
    }
    /// Says that the host is being taken down; a supervisor that comes up meanwhile ends.
    pub(super) fn stop_mark(&self) -> PathBuf {
        self.0.join("supervisor.stop")
    }
    /// What the host prints when it boots.
    pub(super) fn boot_log(&self) -> PathBuf {
        self.0.join("boot.log")
    }
}

/// Where the lab keeps the operator's things.
pub(super) fn identity_file(lab_dir: &Path) -> PathBuf {
    lab_dir.join(CLIENT).join("id_ed25519")
}

/// The true host keys of all hosts.
pub(super) fn known_hosts(lab_dir: &Path) -> PathBuf {
    lab_dir.join(CLIENT).join("known_hosts")
}

/// A configuration for a person's ssh.
pub(super) fn ssh_config(lab_dir: &Path) -> PathBuf {
    lab_dir.join(CLIENT).join("ssh_config")
}

//! Hosts, and pgstead with the inventory that describes them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use pgstead::lab::hosts;
use pgstead::lab::hosts::Guard;
use pgstead::lab::hosts::Host;
use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::LabSpec;
use pgstead::lab::hosts::Release;
use serde_json::Value;

use crate::common::PGSTEAD;
use crate::common::Result;

/// Booted hosts.
pub(crate) struct Servers {
    lab: Guard,
    dir: tempfile::TempDir,
    major: u32,
}

impl Servers {
    /// Boots hosts and makes them the servers of an inventory, which may still be changed.
    pub(crate) fn boot(release: Release, names: &[&str], change: impl FnOnce(&mut Value)) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("pgstead-bench-").tempdir_in("/var/tmp")?;
        let hosts = names.iter().map(|name| HostSpec::new(name, release)).collect();
        let lab = hosts::up(LabSpec::new(dir.path().join("lab"), hosts))?.guard();
        let servers = Self { lab, dir, major: release.postgres_major() };
        let mut inventory = hosts::inventory::value(&servers.lab);
        change(&mut inventory);
        fs::write(servers.inventory(), serde_json::to_string_pretty(&inventory)?)?;
        servers.command(&["bootstrap", "--yes"])?;
        Ok(servers)
    }

    /// Returns the host with a number, by its place among the names.
    pub(crate) fn host(&self, index: usize) -> &Host {
        &self.lab.hosts()[index]
    }

    pub(crate) fn data(&self) -> String {
        format!("/var/lib/postgresql/{}/main", self.major)
    }

    pub(crate) fn program(&self, name: &str) -> String {
        format!("/usr/lib/postgresql/{}/bin/{name}", self.major)
    }

    pub(crate) fn unit(&self) -> String {
        format!("postgresql@{}-main.service", self.major)
    }

    /// Runs pgstead to a good end.
    pub(crate) fn command(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(PGSTEAD);
        command.arg("-i").arg(self.inventory()).args(args).env("NO_COLOR", "1").stdin(Stdio::null());
        let output = command.output()?;
        if output.status.success() {
            return Ok(output);
        }
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        Err(format!("{args:?}: {}: {}", output.status, String::from_utf8_lossy(&said)).into())
    }

    fn inventory(&self) -> PathBuf {
        self.dir.path().join("pgstead.yaml")
    }
}

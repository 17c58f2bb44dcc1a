//! Which provider makes the machines, and whether it can be used here. It starts and installs nothing.

use std::fmt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::error::VagrantLabError;

/// Where libvirt listens: one daemon for all, or one for qemu.
const LIBVIRT_SOCKETS: [&str; 2] = ["/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"];

/// What makes the machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// qemu, with KVM where there is one.
    Libvirt,
    Virtualbox,
    /// Containers.
    Docker,
}

impl Provider {
    /// Returns Vagrant's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Libvirt => "libvirt",
            Self::Virtualbox => "virtualbox",
            Self::Docker => "docker",
        }
    }

    /// Returns the provider that is wished for, or the first that makes machines here. Either can be used.
    pub(super) fn choose(wished: Option<Self>) -> Result<Self, VagrantLabError> {
        if let Some(provider) = wished {
            return match provider.obstacle() {
                None => Ok(provider),
                Some(why) => Err(VagrantLabError::ProviderMissing { provider, why }),
            };
        }
        // Containers are not asked for unless they are named: the docker backend makes the better ones.
        let machines = [Self::Libvirt, Self::Virtualbox];
        machines.into_iter().find(|provider| provider.obstacle().is_none()).ok_or(VagrantLabError::NoProvider)
    }

    /// Returns why machines can't be made with it here.
    fn obstacle(self) -> Option<String> {
        match self {
            Self::Libvirt => libvirt_obstacle(),
            Self::Virtualbox => answers(Command::new("VBoxManage").arg("--version"), "VBoxManage"),
            Self::Docker => {
                answers(Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]), "docker")
            }
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

fn libvirt_obstacle() -> Option<String> {
    // Elsewhere than on this machine is for Vagrant to find out.
    let elsewhere = std::env::var("LIBVIRT_DEFAULT_URI").is_ok_and(|uri| uri != "qemu:///system");
    let listens = LIBVIRT_SOCKETS.into_iter().map(Path::new).find(|path| path.exists());
    let unreachable = match listens {
        _ if elsewhere => None,
        None => Some("no libvirt daemon listens on it (Debian package \"libvirt-daemon-system\")".to_owned()),
        Some(socket) => UnixStream::connect(socket).err().map(|error| format!("\"{}\": {error}", socket.display())),
    };
    unreachable.or_else(|| {
        let output = Command::new("vagrant").args(["plugin", "list", "--no-color"]).stdin(Stdio::null()).output();
        let plugins = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let has = plugins.lines().any(|line| line.starts_with("vagrant-libvirt "));
        (!has).then(|| "Vagrant has no plugin for it (Debian package \"vagrant-libvirt\")".to_owned())
    })
}

/// Asks a program whether it, and what it stands for, is there. Returns what is wrong.
fn answers(command: &mut Command, program: &str) -> Option<String> {
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            Some(text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing").trim().to_owned())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(format!("\"{program}\" is not installed")),
        Err(error) => Some(format!("\"{program}\": {error}")),
    }
}

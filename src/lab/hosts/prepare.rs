//! Gives each host its file system and its identity: keys, names, addresses, machine id.
//!
//! Files are written through the mounted overlay, so that directories keep the owner and mode that the tree gave them.
//! Runs before a host boots; never while it runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::host::Host;
use super::state::{self, HostPaths};
use super::{kept, mounts};
use crate::lab::command::succeed;
use crate::lab::{Failure, key};

/// Makes the operator's key pair.
pub(super) fn make_client_key(lab_dir: &Path) -> Result<(), Failure> {
    let key = state::identity_file(lab_dir);
    if let Some(dir) = key.parent() {
        fs::create_dir_all(dir).map_err(Failure::file("make", dir))?;
    }
    key::make(&key, "pgstead-lab").map(drop)
}

/// Makes what stays the same over a reset: the host key and the machine id.
pub(super) fn make_identity(lab_dir: &Path, host: &Host) -> Result<(), Failure> {
    let paths = host.paths();
    let identity = paths.identity();
    fs::create_dir_all(&identity).map_err(Failure::file("make", &identity))?;
    key::make(&paths.host_key(), &host.spec().name)?;
    let machine_id = match &host.spec().machine_id_of {
        Some(original) => read(&HostPaths::new(lab_dir, original).machine_id())?,
        None => format!("{}\n", read(Path::new("/proc/sys/kernel/random/uuid"))?.trim().replace('-', "")),
    };
    write(&paths.machine_id(), &machine_id)
}

/// Writes the known hosts and the configuration for a person's ssh.
pub(super) fn write_client_files(lab_dir: &Path, hosts: &[Host]) -> Result<(), Failure> {
    let mut known = String::new();
    let mut config = String::new();
    for host in hosts {
        let (address, port) = (host.address(), host.spec().ssh_port);
        let public = read(&host.paths().host_key().with_extension("pub"))?;
        let key: Vec<_> = public.split_whitespace().take(2).collect();
        let place = if port == 22 { address.to_string() } else { format!("[{address}]:{port}") };
        known.push_str(&format!("{place} {}\n", key.join(" ")));
        config.push_str(&format!("Host {}\n  HostName {address}\n  Port {port}\n", host.spec().name));
    }
    let [identity, known_hosts] = [state::identity_file(lab_dir), state::known_hosts(lab_dir)];
    config.push_str(&format!(
        "Host *\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  StrictHostKeyChecking yes\n",
        identity.display(),
        known_hosts.display()
    ));
    write(&known_hosts, &known)?;
    write(&state::ssh_config(lab_dir), &config)
}

/// Mounts a host's file system on `layers` (the uppermost first) and writes its identity into it.
///
/// Anything a former life of the host left is thrown away. What was kept of another life is copied and not mounted below: an overlay
/// gives who has a file of a lower layer open another file than who opens it to write, and renames no directory of one; PostgreSQL
/// does both.
pub(super) fn make_file_system(lab_dir: &Path, host: &Host, all: &[Host], layers: &[PathBuf]) -> Result<(), Failure> {
    let paths = host.paths();
    mounts::unmount_all(paths.dir())?;
    for old in [paths.upper(), paths.work(), paths.disk_image()] {
        mounts::remove_dir(&old)?;
    }
    for dir in [paths.work(), paths.root()] {
        fs::create_dir_all(&dir).map_err(Failure::file("make", &dir))?;
    }
    match host.begins_with() {
        Some(kept) => kept::copy(&kept, &paths.upper())?,
        None => fs::create_dir_all(paths.upper()).map_err(Failure::file("make", &paths.upper()))?,
    }
    mounts::mount_overlay(layers, &paths.upper(), &paths.work(), &paths.root())?;
    write_identity(lab_dir, host, all)?;
    make_small_disk(host)
}

/// Mounts what is not mounted of a host that was prepared before, as after a restart of this machine.
pub(super) fn mount_again(host: &Host, layers: &[PathBuf]) -> Result<(), Failure> {
    let paths = host.paths();
    if !mounts::is_mounted(&paths.root())? {
        mounts::mount_overlay(layers, &paths.upper(), &paths.work(), &paths.root())?;
    }
    if host.spec().small_disk.is_some() && !mounts::is_mounted(&paths.disk())? {
        mounts::mount_image(&paths.disk_image(), &paths.disk())?;
    }
    Ok(())
}

fn write_identity(lab_dir: &Path, host: &Host, all: &[Host]) -> Result<(), Failure> {
    let (paths, spec) = (host.paths(), host.spec());
    let root = paths.root();
    let mut hosts = format!("127.0.0.1 localhost\n{} operator\n", host.operator_address());
    for other in all {
        hosts.push_str(&format!("{} {}\n", other.address(), other.spec().name));
    }
    // A cut link takes the carrier away; the host keeps its address all the same, as on a switch that lost its uplink.
    let network = format!(
        "[Match]\nName=host0\n[Link]\nRequiredForOnline=no\n[Network]\nAddress={}/24\nLinkLocalAddressing=no\n\
         IPv6AcceptRA=no\nConfigureWithoutCarrier=yes\nIgnoreCarrierLoss=yes\n",
        host.address()
    );
    // The hybrid key exchange that comes first by default costs each side a tenth of a second of CPU a connection, and
    // here both sides of all connections share the same cores.
    let sshd = format!(
        "Port {}\nHostKey /etc/ssh/ssh_host_ed25519_key\nPasswordAuthentication no\nUseDNS no\n\
         KexAlgorithms curve25519-sha256\n",
        spec.ssh_port
    );
    write(&root.join("etc/hostname"), &format!("{}\n", spec.name))?;
    write(&root.join("etc/hosts"), &hosts)?;
    // As on Debian's own images. Without it a login has no locale, and initdb makes SQL_ASCII databases.
    write(&root.join("etc/default/locale"), "LANG=C.UTF-8\n")?;
    write(&root.join("etc/machine-id"), &read(&paths.machine_id())?)?;
    write(&root.join("etc/systemd/network/10-lab.network"), &network)?;
    write(&root.join("etc/ssh/sshd_config.d/10-lab.conf"), &sshd)?;
    // The greeting of a login costs five programs a connection, and nobody reads it here.
    mounts::remove_dir(&root.join("etc/update-motd.d"))?;
    for name in ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"] {
        let (from, to) = (paths.identity().join(name), root.join("etc/ssh").join(name));
        // A copy keeps the mode: 0600 for the private key.
        fs::copy(&from, &to).map_err(Failure::file("copy", &from))?;
    }
    let authorized = read(&state::identity_file(lab_dir).with_extension("pub"))?;
    for home in ["root", "home/ops", "home/guest"] {
        write(&root.join(home).join(".ssh/authorized_keys"), &authorized)?;
    }
    Ok(())
}

fn make_small_disk(host: &Host) -> Result<(), Failure> {
    let Some(wish) = &host.spec().small_disk else {
        return Ok(());
    };
    let paths = host.paths();
    let (image, disk) = (paths.disk_image(), paths.disk());
    let covered = paths.root().join(wish.mount_point.trim_start_matches('/'));
    fs::create_dir_all(&covered).map_err(Failure::file("make", &covered))?;
    fs::create_dir_all(&disk).map_err(Failure::file("make", &disk))?;
    let like = fs::metadata(&covered).map_err(Failure::file("look at", &covered))?;
    succeed(
        Command::new("mkfs.ext4")
            .args(["-q", "-m", "0", "-E", &format!("root_owner={}:{}", like.uid(), like.gid())])
            .arg(&image)
            .arg(format!("{}m", wish.mebibytes)),
    )?;
    mounts::mount_image(&image, &disk)?;
    let lost_and_found = disk.join("lost+found");
    fs::remove_dir(&lost_and_found).map_err(Failure::file("remove", &lost_and_found))?;
    fs::set_permissions(&disk, like.permissions()).map_err(Failure::file("set the mode of", &disk))
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(Failure::file("read", path))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(Failure::file("write", path))
}

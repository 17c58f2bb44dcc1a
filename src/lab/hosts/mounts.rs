//! Mounts, and the removal of directories that mounts may stand in.
//!
//! Root in a host is root outside, so nothing here removes or changes anything at or above a mount: what is below is
//! unmounted first, the kernel's own list is asked whether that is true, and removal stays on one file system besides.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::lab::Failure;
use crate::lab::command::succeed;
use crate::lab::wait::{Look, until};

/// How long a mount may stay busy after its last process has died.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(10);

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Mounts an overlay of `lower` (the uppermost first) and `upper` on `root`.
pub(super) fn mount_overlay(lower: &[PathBuf], upper: &Path, work: &Path, root: &Path) -> Result<(), Failure> {
    let lower: Vec<_> = lower.iter().map(|path| path.to_string_lossy()).collect();
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), upper.display(), work.display());
    succeed(Command::new("mount").args(["-t", "overlay", "-o", &options, "overlay"]).arg(root))?;
    Ok(())
}

/// Mounts a file system in this machine's memory on `dir`, for root alone, that grows up to `mebibytes`.
pub(super) fn mount_memory(dir: &Path, mebibytes: u64) -> Result<(), Failure> {
    let options = format!("mode=0700,size={mebibytes}m");
    succeed(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "pgstead-lab"]).arg(dir))?;
    Ok(())
}

/// Lets go of what [`mount_memory`] mounted on `dir`, where it did: it ends with its last user. For a while that may be the image of
/// a small disk, or a host of another lab that boots and still has this machine's mounts for its own.
pub(super) fn unmount_memory(dir: &Path) -> Result<(), Failure> {
    if is_mounted(dir)? {
        succeed(Command::new("umount").args(["--lazy", "--"]).arg(dir))?;
    }
    Ok(())
}

/// Mounts the ext4 file system in the file `image` on `dir`.
pub(super) fn mount_image(image: &Path, dir: &Path) -> Result<(), Failure> {
    succeed(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(image).arg(dir))?;
    Ok(())
}

/// Tells whether something is mounted on `dir`.
pub(super) fn is_mounted(dir: &Path) -> Result<bool, Failure> {
    Ok(mount_points_at_or_below(dir)?.iter().any(|mounted| mounted == dir))
}

/// Unmounts everything at or below `dir`, the innermost first, and makes sure that nothing is left.
pub(super) fn unmount_all(dir: &Path) -> Result<(), Failure> {
    unmount(|| mount_points_at_or_below(dir))
}

/// Unmounts everything below `dir`, and nothing that is mounted on it.
pub(super) fn unmount_below(dir: &Path) -> Result<(), Failure> {
    unmount(|| {
        let mut mounted = mount_points_at_or_below(dir)?;
        mounted.retain(|point| point != dir);
        Ok(mounted)
    })
}

fn unmount(mount_points: impl Fn() -> Result<Vec<PathBuf>, Failure>) -> Result<(), Failure> {
    until("everything to be unmounted", UNMOUNT_LIMIT, || {
        let mut last = String::new();
        for mounted in mount_points()?.iter().rev() {
            if let Err(failure) = succeed(Command::new("umount").arg("--").arg(mounted)) {
                last = failure.to_string();
            }
        }
        if mount_points()?.is_empty() { Ok(Look::Ready(())) } else { Ok(Look::NotYet(last)) }
    })
}

/// Removes `dir` and what is in it, unless something is still mounted there. An absent one is fine.
pub(super) fn remove_dir(dir: &Path) -> Result<(), Failure> {
    let mounted = mount_points_at_or_below(dir)?;
    if let Some(first) = mounted.first() {
        return Err(Failure::Observed(format!(
            "\"{}\" is still mounted, so \"{}\" is not removed",
            first.display(),
            dir.display()
        )));
    }
    succeed(Command::new("rm").args(["-rf", "--one-file-system", "--"]).arg(dir))?;
    Ok(())
}

/// Returns the mount points at or below `dir` (an absolute path without links), in the order they were mounted.
pub(super) fn mount_points_at_or_below(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mountinfo = fs::read_to_string(MOUNTINFO).map_err(Failure::file("read", MOUNTINFO))?;
    Ok(parse_mount_points(&mountinfo).into_iter().filter(|mounted| mounted.starts_with(dir)).collect())
}

fn parse_mount_points(mountinfo: &str) -> Vec<PathBuf> {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(|field| PathBuf::from(unescape(field))).collect()
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> String {
    field.replace(r"\040", " ").replace(r"\011", "\t").replace(r"\012", "\n").replace(r"\134", r"\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_the_kernel_writes_them() {
        let text = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                    44 27 0:39 / /srv/my\\040lab/hosts/a/root rw,relatime shared:3 - overlay overlay rw,lowerdir=/x\n";
        assert_eq!(parse_mount_points(text), [Path::new("/"), Path::new("/srv/my lab/hosts/a/root")]);
    }

    #[test]
    fn a_directory_with_a_mount_in_it_is_not_removed() {
        let refusal = remove_dir(Path::new("/proc"));
        assert!(refusal.is_err_and(|failure| failure.to_string().contains("is still mounted")));
    }
}

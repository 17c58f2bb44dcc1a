//! Who a state directory is to the servers: the mark that its runs leave in their locks.
//!
//! A lock with the very same mark belongs to a dead run, since the living one holds the directory's own lock. That is true only
//! where the kernel can say so: the mark names the directory's random identifier, the running kernel, and the file that the
//! directory's lock is. A copy of the directory, another container, another machine and the same one after a reboot have another
//! (docs/adr/0021-a-promotion-asks-the-lease.md).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::LazyLock;

use crate::state::error::StateError;
use crate::state::files;

const IDENTITY: &str = "identity";

/// Differs with every start of the kernel. Where nobody tells, it differs with every process: nothing is proven then.
static KERNEL: LazyLock<String> = LazyLock::new(|| {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if boot.trim().is_empty() { random() } else { boot.trim().to_owned() }
});

/// Makes the identifier of a directory where it has none. Only whoever holds the directory's lock may do this.
pub(super) fn make(directory: &Path) -> Result<(), StateError> {
    let path = directory.join(IDENTITY);
    match files::read_private(&path)?.is_some_and(|text| !text.trim().is_empty()) {
        true => Ok(()),
        false => files::replace(&path, (random() + "\n").as_bytes()),
    }
}

/// Returns the mark of a directory whose lock is the file `lock`; none where no run was ever begun there.
pub(super) fn mark(directory: &Path, lock: &Path) -> Result<Option<String>, StateError> {
    let Some(id) = files::read_private(&directory.join(IDENTITY))?.filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    let Ok(lock) = fs::metadata(lock) else { return Ok(None) };
    Ok(Some(format!("{} on {} in {}:{}", id.trim(), *KERNEL, lock.dev(), lock.ino())))
}

fn random() -> String {
    rand::random::<[u8; 16]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

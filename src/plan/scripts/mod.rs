//! The fixed scripts that steps run. Their texts never change with their arguments, which are always separate words.

/// Installs files whole or not at all.
pub const INSTALL_FILES: &str = include_str!("install-files.sh");
/// Waits until an instance accepts connections; installed on the server as a file.
pub const WAIT_READY: &str = include_str!("wait-ready.sh");
/// Says whether an instance may start; installed on the server as a file, and asked before every start.
pub const START_GUARD: &str = include_str!("start-guard.sh");
/// Makes a directory where it is absent.
pub const ENSURE_DIRECTORY: &str = include_str!("ensure-directory.sh");
/// Runs a command as the leader of a process group that can be found again.
pub const JOB: &str = include_str!("job.sh");
/// Ends such a group whole.
pub const CANCEL_JOB: &str = include_str!("cancel-job.sh");

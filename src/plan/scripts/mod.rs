//! The fixed scripts that steps run. Their texts never change with their arguments, which are always separate words.

/// Installs files whole or not at all.
pub const INSTALL_FILES: &str = include_str!("install-files.sh");
/// Waits until an instance accepts connections; installed on the server as a file.
pub const WAIT_READY: &str = include_str!("wait-ready.sh");
/// Says whether an instance may start; installed on the server as a file, and asked before every start.
pub const START_GUARD: &str = include_str!("start-guard.sh");
/// Makes a directory where it is absent.
pub const ENSURE_DIRECTORY: &str = include_str!("ensure-directory.sh");
/// Starts a detached job.
pub const START_JOB: &str = include_str!("start-job.sh");
/// Waits until a detached job has ended.
pub const WAIT_JOB: &str = include_str!("wait-job.sh");
/// Ends a detached job whole, and clears away what it did not finish.
pub const CLEAR_JOB: &str = concat!(include_str!("still.sh"), include_str!("clear-job.sh"));
/// Fails where a copy is of another database system.
pub const SAME_SYSTEM: &str = include_str!("same-system.sh");
/// Gives copied tablespaces their places.
pub const SETTLE_TABLESPACES: &str = include_str!("settle-tablespaces.sh");
/// Renames a data directory, so that another can take its place.
pub const SET_ASIDE: &str = concat!(include_str!("still.sh"), include_str!("set-aside.sh"));
/// Removes a directory that was set aside: the only removal of a data directory.
pub const FORGET_ASIDE: &str = concat!(include_str!("still.sh"), include_str!("forget-aside.sh"));

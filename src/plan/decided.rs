//! What is decided about one server before steps are listed: its files, and what a running instance needs for them.

use crate::plan::desired::Wanted;
use crate::plan::files;
use crate::plan::step::Step;
use crate::plan::survey::Seen;

/// What a running or stopped instance needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It does not run: start it.
    Start,
    /// It reads its files again.
    Reload,
    /// It restarts.
    Restart {
        /// The parameters that need it, with the direction of the five that must not be lower on a standby.
        parameters: Vec<(String, Direction)>,
    },
}

/// Whether a hot-standby parameter rises or falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It rises: standbys first.
    Rises,
    /// It falls: the primary first.
    Falls,
    /// Any order will do.
    Free,
}

/// What is decided about one server before its steps are listed.
pub(super) struct Decided<'a> {
    pub(super) seen: Seen<'a>,
    pub(super) wanted: Wanted,
    pub(super) install: Vec<files::Entry>,
    pub(super) change: Change,
}

impl Decided<'_> {
    /// Returns the step that installs the server's changed files, where any changed.
    pub(super) fn install_step(&self) -> Option<Step> {
        let Seen { server, seen, layout, .. } = self.seen;
        let manifest = layout.own("manifest");
        let paths: Vec<&str> = self
            .install
            .iter()
            .filter_map(|entry| match entry {
                files::Entry::File { path, .. } if *path != manifest => path.rsplit('/').next(),
                _ => None,
            })
            .collect();
        let title = match paths.as_slice() {
            [] if self.install.is_empty() => return None,
            [] => "install the list of files".to_owned(),
            few if few.len() <= 3 => format!("install {}", few.join(", ")),
            many => format!("install {} files", many.len()),
        };
        Some(files::install(&server.name, seen, layout, title, &self.install, None))
    }
}

//! What is decided about one server before steps are listed: its files, and what a running instance needs for them.

use crate::model::argv::Argv;
use crate::plan::files;
use crate::plan::files::Entry;
use crate::plan::files::desired::Wanted;
use crate::plan::seen::Seen;
use crate::plan::step::Step;

/// What a running or stopped instance needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It does not run: start it.
    Start,
    /// It reads its files again.
    Reload,
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
pub(in crate::plan) struct Decided<'a> {
    pub(in crate::plan) seen: Seen<'a>,
    pub(in crate::plan) wanted: Wanted,
    pub(in crate::plan) install: Vec<Entry>,
    /// What is installed when all else is done.
    pub(in crate::plan) last: Vec<Entry>,
    pub(in crate::plan) change: Change,
    /// What has to be there and read before any server gets a certificate of a CA that is new here; none where nothing has.
    pub(in crate::plan) trust: Option<Vec<Entry>>,
    /// What makes others than the instance read what was installed.
    pub(in crate::plan) behind: Option<Argv>,
}

impl Decided<'_> {
    /// Returns the step that installs what the operator's configuration includes and the server does not have: before the
    /// files that include it, which are validated together with it.
    pub(in crate::plan) fn included_step(&self) -> Option<Step> {
        let Seen { server, seen, layout, .. } = self.seen;
        let files = || self.install.iter().filter(|entry| entry.is_included());
        let holds_one = |directory: &str| {
            files().any(|entry| entry.path().strip_prefix(directory).is_some_and(|rest| rest.starts_with('/')))
        };
        let directories =
            self.install.iter().filter(|entry| matches!(entry, Entry::Directory { path, .. } if holds_one(path)));
        let included: Vec<Entry> = directories.chain(files()).cloned().collect();
        let title = "install what the primary's configuration includes";
        (files().next().is_some()).then(|| files::install(&server.name, seen, layout, title, &included, None))
    }

    /// Returns the step that installs the server's changed files, where any changed.
    pub(in crate::plan) fn install_step(&self) -> Option<Step> {
        let Seen { server, seen, layout, .. } = self.seen;
        let install: Vec<Entry> = self.install.iter().filter(|entry| !entry.is_included()).cloned().collect();
        let manifest = layout.own("manifest");
        let paths: Vec<&str> = install
            .iter()
            .filter_map(|entry| match entry {
                Entry::File { path, .. } if *path != manifest => path.rsplit('/').next(),
                _ => None,
            })
            .collect();
        let title = match paths.as_slice() {
            [] if install.is_empty() => return None,
            [] => "install the list of files".to_owned(),
            _ if self.seen.adopted => {
                "adopt the existing primary: install pgstead's part of its configuration".to_owned()
            }
            few if few.len() <= 3 => format!("install {}", few.join(", ")),
            many => format!("install {} files", many.len()),
        };
        Some(files::install(&server.name, seen, layout, title, &install, None).then(self.behind.clone()))
    }
}

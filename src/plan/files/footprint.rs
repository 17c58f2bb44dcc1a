//! All that pgstead leaves on a server, and what becomes of each when the topology is released: the one list, from which `release`
//! takes its files and which the documentation repeats. Whatever a bootstrap installs is on it; a test says so for every plan case.

use crate::model::identity;
use crate::model::layout::{DATA_DIRECTORY_RECORD, Layout, POOLER, START_GUARD, START_REFUSED};
use crate::plan::files::{guard, kept};

/// Where something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In pgstead's own directory.
    Own(&'static str),
    /// In pgstead's own directory, whatever follows the name.
    OwnBelow(&'static str),
    /// A directory in pgstead's own, which is empty when nothing is under way.
    OwnDirectory(&'static str),
    /// In the directory of the configuration files.
    Configuration(&'static str),
    /// Whatever else is below that: files that the operator's include.
    OtherConfiguration,
    /// In the data directory.
    Data(&'static str),
    /// The unit's drop-in.
    DropIn,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is taken away.
    Goes,
    /// It becomes the operator's, and says what it said.
    Yours,
    /// It stays as it is: links or clients need it, or it tells what was done.
    Stays,
    /// It is gone with the run that has it.
    OfARun,
}

impl Fate {
    /// Returns its words in the documentation.
    pub fn words(self) -> &'static str {
        match self {
            Fate::Goes => "goes",
            Fate::Yours => "becomes yours",
            Fate::Stays => "stays",
            Fate::OfARun => "is gone with its run",
        }
    }
}

/// One thing that pgstead leaves on a server.
#[derive(Debug, Clone, Copy)]
pub struct Left {
    pub place: Place,
    pub fate: Fate,
    /// What it is.
    pub what: &'static str,
}

const fn left(place: Place, fate: Fate, what: &'static str) -> Left {
    Left { place, fate, what }
}

/// The list. What goes does so in this order: behind the drop-in nobody asks the start guard any more, and the mark is last but one,
/// so that an interrupted run knows the server again.
pub const LIST: &[Left] = &[
    left(Place::DropIn, Fate::Goes, "the drop-in by which the unit asks the start guard"),
    left(Place::Own("role"), Fate::Goes, "what the start guard lets the instance start as"),
    left(Place::Own(guard::PEERS), Fate::Goes, "whom the start guard asks"),
    left(Place::Own(guard::START_ALONE), Fate::Goes, "the word by which a primary starts without an answer"),
    left(Place::Own(START_REFUSED), Fate::Goes, "what the start guard refused last"),
    left(Place::Own(START_GUARD), Fate::Goes, "the start guard"),
    left(Place::Own("wait-ready"), Fate::Goes, "the program that waits until the instance answers"),
    left(Place::Own(DATA_DIRECTORY_RECORD), Fate::Goes, "the record that there was a complete data directory"),
    left(Place::OwnDirectory("jobs"), Fate::Goes, "where records of base backups stand while they are taken"),
    left(Place::Configuration(kept::FILE), Fate::Goes, "pgstead's settings; they stand in postgresql.conf then"),
    left(Place::Data(identity::FILE), Fate::Goes, "the mark that says whose the data directory is"),
    left(Place::Own("manifest"), Fate::Goes, "the list of pgstead's files"),
    left(Place::Configuration("postgresql.conf"), Fate::Yours, "the settings"),
    left(
        Place::Configuration("pg_hba.conf"),
        Fate::Yours,
        "who is let in; the records of roles pgstead and pgstead_rewind go",
    ),
    left(Place::Configuration("pg_ident.conf"), Fate::Yours, "as whom; the maps of these two roles go"),
    left(Place::OtherConfiguration, Fate::Yours, "other files of the configuration, such as start.conf and conf.d"),
    left(Place::Data("standby.signal"), Fate::Stays, "what makes the instance a standby"),
    left(Place::Own("ca.crt"), Fate::Stays, "the CA certificates that the server trusts"),
    left(Place::OwnBelow("tls"), Fate::Stays, "the certificates and keys of the server and of its links"),
    left(Place::Own("passfile"), Fate::Stays, "the password of its links, where they have one"),
    left(Place::Own(POOLER), Fate::Stays, "what PgBouncer includes, where there is one"),
    left(Place::Own("postgresql.log"), Fate::Stays, "the instance's log, where pg_ctl runs it"),
    left(Place::Own("audit.jsonl"), Fate::Stays, "what pgstead did on the server"),
    left(Place::Own("generation"), Fate::Stays, "how many runs changed the server"),
    left(Place::OwnBelow("lock"), Fate::OfARun, "the lock of a run"),
];

/// Returns what something on a server is; none where it is not on the list.
pub fn find(layout: &Layout, path: &str) -> Option<&'static Left> {
    LIST.iter().find(|left| is_at(left.place, layout, path))
}

fn is_at(place: Place, layout: &Layout, path: &str) -> bool {
    let below = |home: &str| path.strip_prefix(home).is_some_and(|rest| rest.starts_with('/'));
    match place {
        Place::OwnBelow(name) => {
            let home = layout.own(name);
            path.strip_prefix(home.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '/']))
        }
        // In a data directory nothing else is.
        Place::OtherConfiguration => layout.config_directory.as_deref().is_some_and(below),
        _ => self::path(place, layout).as_deref() == Some(path),
    }
}

/// Returns where something is that has one place.
pub fn path(place: Place, layout: &Layout) -> Option<String> {
    match place {
        Place::Own(name) | Place::OwnDirectory(name) => Some(layout.own(name)),
        Place::Configuration(name) => Some([layout.config_home(), "/", name].concat()),
        Place::Data(name) => Some([&layout.data_directory, "/", name].concat()),
        Place::DropIn => layout.guard_drop_in(),
        Place::OwnBelow(_) | Place::OtherConfiguration => None,
    }
}

/// Returns what goes, in order, but for the drop-in.
pub fn going(layout: &Layout) -> impl Iterator<Item = (Place, String)> {
    let goes = LIST.iter().filter(|left| left.fate == Fate::Goes && left.place != Place::DropIn);
    goes.filter_map(|left| Some((left.place, path(left.place, layout)?)))
}

//! What a server has where settings and tablespaces of another lead: places, groups, programs, libraries.

use serde::{Deserialize, Serialize};

/// Something that a server may be asked about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// A file or a directory.
    Path(String),
    /// A directory for a tablespace, and whether there is one in it.
    Tablespace(String),
    /// A group of the operating system, and whether the instance's user is in it.
    Group(String),
    /// A program, by its path or as a shell finds it.
    Program(String),
    /// A library, as a setting names it.
    Library(String),
    /// Whether PostgreSQL accepts a value there, as `NAME=VALUE`.
    Value(String),
}

impl Question {
    /// Returns the word for what it asks about, and the name.
    pub fn words(&self) -> [&str; 2] {
        match self {
            Question::Path(name) => ["path", name],
            Question::Tablespace(name) => ["tablespace", name],
            Question::Group(name) => ["group", name],
            Question::Program(name) => ["program", name],
            Question::Library(name) => ["library", name],
            Question::Value(name) => ["value", name],
        }
    }

    /// Returns the key under which an observation has the answer.
    pub fn key(&self) -> String {
        self.words().join(" ")
    }
}

/// What is there. Of a group, a program and a library that are there, and of a value that is accepted, it is a file that may be read,
/// or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// What it is.
    pub kind: PlaceKind,
    /// Whether the instance's user may read it; a directory also enter it.
    pub readable: bool,
    /// Whether the instance's user may write there: into the directory, or where nothing is, into the nearest one above.
    pub writable: bool,
    /// Whether it is a directory that another user than the instance's has something in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// The nearest directory above, where nothing is; the link, where one leads nowhere; what PostgreSQL said, where it accepts no such
    /// value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub nearest: String,
    /// What it holds of a tablespace of this version: the name of a directory.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tablespace: String,
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceKind {
    /// Nothing.
    Missing,
    /// A directory, or a link to one.
    Directory,
    /// A file, or a link to one.
    File,
    /// A link to what is not there, or something behind such a link.
    Dangling,
    /// Something else.
    Other,
}

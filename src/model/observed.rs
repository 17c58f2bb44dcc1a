//! What looking at a server can yield.

use serde::Deserialize;
use serde::Serialize;

/// The result of looking for one fact. "Could not look" and "is not there" differ, always.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observed<T> {
    /// The fact, as seen.
    Known(T),
    /// Looked, and it is not there.
    Absent,
    /// Could not look, and why.
    Unreadable(String),
}

impl<T> Default for Observed<T> {
    fn default() -> Self {
        Observed::Unreadable("not looked at".to_owned())
    }
}

impl<T> Observed<T> {
    /// Returns the fact where it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Observed::Known(value) => Some(value),
            _ => None,
        }
    }

    /// Says whether the thing was looked for and is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Observed::Absent)
    }

    /// Returns why it could not be looked at.
    pub fn unreadable(&self) -> Option<&str> {
        match self {
            Observed::Unreadable(why) => Some(why),
            _ => None,
        }
    }

    /// Applies a function to a known fact and keeps the other two answers.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Observed<U> {
        match self {
            Observed::Known(value) => Observed::Known(f(value)),
            Observed::Absent => Observed::Absent,
            Observed::Unreadable(why) => Observed::Unreadable(why),
        }
    }
}

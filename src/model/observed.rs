//! What looking at a server can yield.

use serde::{Deserialize, Serialize};

/// The result of looking for one fact. "Could not look" and "is not there" differ, always.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observed<T> {
    /// The fact, as seen.
    Known(T),
    /// Looked, and it is not there.
    Absent,
    /// Could not look, and why.
    Unreadable(String),
    /// Nobody looked.
    #[default]
    NotAsked,
}

/// Why nothing is known of what nobody looked at.
const NOT_ASKED: &str = "not looked at";

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

    /// Returns what came of looking: the fact, or nothing where it is not there.
    ///
    /// # Errors
    /// Could not look, or nobody did; why.
    pub fn look(&self) -> Result<Option<&T>, &str> {
        match self {
            Observed::Known(value) => Ok(Some(value)),
            Observed::Absent => Ok(None),
            Observed::Unreadable(why) => Err(why),
            Observed::NotAsked => Err(NOT_ASKED),
        }
    }

    /// Returns why it is not known whether it is there.
    pub fn unreadable(&self) -> Option<&str> {
        self.look().err()
    }

    /// Applies a function to a known fact and keeps every other answer.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Observed<U> {
        self.and_then(|value| Observed::Known(f(value)))
    }

    /// Applies a function that may find out nothing to a known fact, and keeps every other answer.
    pub fn and_then<U>(self, f: impl FnOnce(T) -> Observed<U>) -> Observed<U> {
        match self {
            Observed::Known(value) => f(value),
            Observed::Absent => Observed::Absent,
            Observed::Unreadable(why) => Observed::Unreadable(why),
            Observed::NotAsked => Observed::NotAsked,
        }
    }
}

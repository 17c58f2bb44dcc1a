//! Names that travel into certificates, slots, `application_name`, paths and SQL.
//!
//! A name is checked once, here, so that no consumer has to doubt it (hazard 87).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name PostgreSQL keeps: `NAMEDATALEN` is 64 bytes with the terminating zero.
pub const NAME_MAX_BYTES: usize = 63;

/// Why a text is not a usable name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name must not be empty")]
    Empty,
    /// The text is longer than PostgreSQL keeps.
    #[error("a name may have at most {NAME_MAX_BYTES} bytes, this one has {bytes}")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The first character is neither a letter nor a digit; a leading `-` would read as an option.
    #[error("a name must start with an ASCII letter or digit, not {found:?}")]
    BadStart {
        /// The character found.
        found: char,
    },
    /// A character other than an ASCII letter, digit, `-`, `_` or `.`.
    #[error("a name may have only ASCII letters, digits, \"-\", \"_\" and \".\", not {found:?}")]
    BadCharacter {
        /// The character found.
        found: char,
    },
}

fn check(text: &str) -> Result<(), NameError> {
    let Some(first) = text.chars().next() else {
        return Err(NameError::Empty);
    };
    if text.len() > NAME_MAX_BYTES {
        return Err(NameError::TooLong { bytes: text.len() });
    }
    if !first.is_ascii_alphanumeric() {
        return Err(NameError::BadStart { found: first });
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        Some(found) => Err(NameError::BadCharacter { found }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                check(&text).map(|()| Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The inventory key of a server; also its `cluster_name`, its standby's `application_name` and the CN of its certificates.
    ServerName
}
name! {
    /// The inventory key of a site.
    SiteName
}
name! {
    /// The name of a topology; also the name of its state directories.
    TopologyName
}

impl ServerName {
    /// Returns the name of the physical slot that a standby of this name streams through.
    ///
    /// Slot names may hold only lower-case letters, digits and underscores (manual, 27.2.6), so the map is not
    /// injective: the inventory is refused when two servers would share a slot.
    pub fn slot_name(&self) -> String {
        self.0.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_but_usable_names_are_taken() {
        for text in ["a", "b-2", "Db.East_1", "9"] {
            assert!(text.parse::<ServerName>().is_ok(), "{text}");
        }
        assert_eq!("Db.East-1".parse::<ServerName>().map(|n| n.slot_name()), Ok("db_east_1".to_owned()));
    }

    #[test]
    fn hostile_names_are_refused() {
        for text in ["", "-a", "a b", "a'b", "$(x)", "a\nb", "ä", "a/b", ".a", &"x".repeat(64)] {
            assert!(text.parse::<ServerName>().is_err(), "{text:?}");
        }
    }
}

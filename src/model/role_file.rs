//! The role file beside an instance: what its start guard lets it start as. Written and read here, in one grammar.

/// What a role file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleFile<'a> {
    /// It starts as a primary.
    Primary,
    /// It starts as a standby.
    Standby,
    /// Nothing starts it: another server took its place (hazard 55).
    Fenced,
    /// Nothing starts it: it was taken out of its topology.
    Removed,
    /// Nothing starts it: it was about to hand over to another server (hazards 34, 55).
    Demoted {
        /// Its successor's name, as it is written.
        successor: &'a str,
    },
    /// Nothing starts it: no role is called so.
    Other(&'a str),
}

impl<'a> RoleFile<'a> {
    /// Reads the text as the start guard does: the first line counts, to the letter.
    pub fn parse(text: &'a str) -> Self {
        let mut lines = text.split('\n');
        match lines.next().unwrap_or_default() {
            "primary" => Self::Primary,
            "standby" => Self::Standby,
            "fenced" => Self::Fenced,
            "removed" => Self::Removed,
            "demoted" => Self::Demoted { successor: lines.next().unwrap_or_default() },
            other => Self::Other(other),
        }
    }

    /// Returns its first line.
    pub fn word(self) -> &'a str {
        match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::Fenced => "fenced",
            Self::Removed => "removed",
            Self::Demoted { .. } => "demoted",
            Self::Other(word) => word,
        }
    }

    /// Returns the text of the file.
    pub fn text(self) -> String {
        match self {
            Self::Demoted { successor } => [self.word(), "\n", successor, "\n"].concat(),
            _ => [self.word(), "\n"].concat(),
        }
    }

    /// Returns the successor that it names, where the server was about to hand over to one.
    pub fn successor(self) -> Option<&'a str> {
        match self {
            Self::Demoted { successor } => Some(successor),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        use RoleFile::*;
        for role in [Primary, Standby, Fenced, Removed, Demoted { successor: "b" }, Other("boss")] {
            assert_eq!(RoleFile::parse(&role.text()), role);
        }
    }

    #[test]
    fn it_is_read_as_the_start_guard_reads_it() {
        assert_eq!(RoleFile::parse("fenced"), RoleFile::Fenced, "by hand, without a line feed");
        assert_eq!(RoleFile::parse("primary\nsince today\n"), RoleFile::Primary);
        for text in ["", " primary\n", "standby \n", "fenced\r\n"] {
            assert!(matches!(RoleFile::parse(text), RoleFile::Other(_)), "{text:?}");
        }
        assert_eq!(RoleFile::parse("demoted\nb\n").successor(), Some("b"));
        assert_eq!(RoleFile::parse("demoted").successor(), Some(""));
    }
}

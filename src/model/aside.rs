//! The names of directories beside a data directory: set aside, half removed, half made, or nobody's.
//!
//! `DATA.aside.YYYYMMDDTHHMMSSZ.RUN.REASON` is a data directory that another one replaced, and with `.forgotten` behind it
//! one whose removal has begun. A name that does not read exactly so is shown as it is and never removed.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// What stands between the data directory's name and the rest.
const ASIDE: &str = ".aside.";
/// The same of a directory that a run puts together.
const SEED: &str = ".seed.";
/// What stands behind the name of a directory whose removal has begun.
pub const FORGOTTEN: &str = ".forgotten";
/// How the time is written: in UTC, to the second, and without a colon.
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// Why a data directory was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Another copy takes its place; nothing was wrong with it.
    Replaced,
    /// Its data went another way than the primary's.
    Diverged,
    /// It could not be read, or was found damaged.
    Damaged,
    /// What made it was interrupted.
    Interrupted,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 4] = [Reason::Replaced, Reason::Diverged, Reason::Damaged, Reason::Interrupted];

    /// Returns the word in the name.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Replaced => "replaced",
            Reason::Diverged => "diverged",
            Reason::Damaged => "damaged",
            Reason::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A data directory that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// Since when, to the second.
    pub since: Timestamp,
    /// The run that did it.
    pub run: String,
    /// Why.
    pub reason: Reason,
    /// Whether its removal has begun: it is not whole any more.
    pub is_forgotten: bool,
}

impl Aside {
    /// Returns the path that a data directory gets.
    pub fn path(&self, data_directory: &str) -> String {
        let since = TimeZone::UTC.to_datetime(self.since).strftime(TIME).to_string();
        let forgotten = if self.is_forgotten { FORGOTTEN } else { "" };
        [data_directory, ASIDE, &since, ".", &self.run, ".", self.reason.word(), forgotten].concat()
    }
}

/// What a directory beside a data directory is, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beside {
    /// It was set aside.
    Aside(Aside),
    /// A run put it together and did not complete it.
    Seed { run: String },
    /// Its name says something else; pgstead did not give it.
    Other,
}

/// Reads the path of something that stands beside a data directory.
pub fn read(data_directory: &str, path: &str) -> Beside {
    let rest = path.strip_prefix(data_directory).unwrap_or_default();
    if let Some(run) = rest.strip_prefix(SEED).filter(|run| is_run(run)) {
        return Beside::Seed { run: run.to_owned() };
    }
    let aside = rest.strip_prefix(ASIDE).and_then(parse);
    // One text for one meaning: what would be written otherwise was not written by us.
    match aside.filter(|aside| aside.path(data_directory) == path) {
        Some(aside) => Beside::Aside(aside),
        None => Beside::Other,
    }
}

/// Returns a path's last part: the name by which an operator calls a directory.
pub fn own_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn parse(text: &str) -> Option<Aside> {
    let (text, is_forgotten) = match text.strip_suffix(FORGOTTEN) {
        Some(text) => (text, true),
        None => (text, false),
    };
    let mut parts = text.split('.');
    let (since, run, word) = (parts.next()?, parts.next()?, parts.next()?);
    let reason = Reason::ALL.into_iter().find(|reason| reason.word() == word)?;
    if parts.next().is_some() || !is_run(run) {
        return None;
    }
    let since = DateTime::strptime(TIME, since).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some(Aside { since, run: run.to_owned(), reason, is_forgotten })
}

/// Says whether a text can be the name of a run: letters and digits.
fn is_run(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DATA: &str = "/var/lib/postgresql/15/main";

    #[test]
    fn a_name_says_when_who_and_why() {
        let path = "/var/lib/postgresql/15/main.aside.20260102T030405Z.202601020304051a2b.diverged";
        let Beside::Aside(aside) = read(DATA, path) else { panic!("{path}") };
        assert_eq!(aside.since.to_string(), "2026-01-02T03:04:05Z");
        assert_eq!(
            (aside.run.as_str(), aside.reason, aside.is_forgotten),
            ("202601020304051a2b", Reason::Diverged, false)
        );
        assert_eq!(aside.path(DATA), path);
        let half = [path, FORGOTTEN].concat();
        assert_eq!(read(DATA, &half), Beside::Aside(Aside { is_forgotten: true, ..aside }));
        assert_eq!(own_name(&half), "main.aside.20260102T030405Z.202601020304051a2b.diverged.forgotten");
        assert_eq!(read(DATA, "/var/lib/postgresql/15/main.seed.r1"), Beside::Seed { run: "r1".into() });
    }

    #[test]
    fn what_is_not_exactly_such_a_name_is_nobodys() {
        for rest in [
            "",
            ".aside.",
            ".aside.old",
            ".aside.20260102T030405Z.r1",
            ".aside.20260102T030405Z.r1.because",
            ".aside.20260102T030405Z.r1.replaced.",
            ".aside.20260102T030405Z.r1.replaced.1",
            ".aside.20260102T030405Z.r1.replaced/..",
            ".aside.20260102T030405Z.r1.replaced.forgotten.forgotten",
            ".aside.20260102T030405Z..replaced",
            ".aside.20260102T030405Z.r 1.replaced",
            ".aside.20260102T030405Z.../../x.replaced",
            ".aside.20260230T030405Z.r1.replaced",
            ".aside.2026012T030405Z.r1.replaced",
            ".aside.20260102t030405z.r1.replaced",
            ".aside.20260102T030405Z.r1.Replaced",
            ".seed.",
            ".seed.a/b",
        ] {
            assert_eq!(read(DATA, &[DATA, rest].concat()), Beside::Other, "{rest}");
        }
        assert_eq!(read("/srv/other", "/srv/data.aside.20260102T030405Z.r1.replaced"), Beside::Other);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            // From the year 1 to the year 9999.
            second in -62_135_596_800_i64..253_402_300_000,
            run in "[0-9a-zA-Z]{1,24}",
            reason in 0..Reason::ALL.len(),
            is_forgotten: bool,
            data in "/[a-z.]{1,12}(/[a-z.]{1,12}){0,3}",
        ) {
            let since = Timestamp::from_second(second).unwrap();
            let aside = Aside { since, run, reason: Reason::ALL[reason], is_forgotten };
            prop_assert_eq!(read(&data, &aside.path(&data)), Beside::Aside(aside));
        }

        #[test]
        fn what_is_read_is_written_in_the_same_way(rest in "(\\.aside\\.[0-9TZ.a-z]{0,40}|\\PC{0,40})") {
            let path = [DATA, &rest].concat();
            if let Beside::Aside(aside) = read(DATA, &path) {
                prop_assert_eq!(aside.path(DATA), path);
            }
        }
    }
}

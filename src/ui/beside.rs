//! What stands beside data directories, as a table with the commands that remove what was set aside. It judges nothing.

use jiff::Timestamp;

use crate::model::aside::Beside;
use crate::model::name::ServerName;
use crate::model::quantity::bytes;
use crate::ui::columns::{cell, table};
use crate::ui::look::{Look, one_line};

/// One directory beside a data directory.
#[derive(Debug, Clone, PartialEq)]
pub struct BesideView {
    pub server: ServerName,
    /// The directory's own name.
    pub name: String,
    /// What its name says.
    pub kind: Beside,
    /// When it last changed.
    pub modified: Option<Timestamp>,
    /// When it was looked at.
    pub now: Timestamp,
    /// What it occupies, where that was counted.
    pub bytes: Option<u64>,
    /// The command that removes it, where there is one.
    pub command: Option<String>,
}

impl BesideView {
    /// Says whether a run put it together and did not complete it.
    pub fn is_seed(&self) -> bool {
        matches!(self.kind, Beside::Seed { .. })
    }

    fn age(&self) -> String {
        let since = match &self.kind {
            Beside::Aside(aside) => Some(aside.since),
            Beside::Seed { .. } | Beside::Other => self.modified,
        };
        since.map_or(String::new(), |since| age(self.now.as_second() - since.as_second()))
    }

    fn reason(&self) -> String {
        match &self.kind {
            Beside::Aside(aside) if aside.is_forgotten => format!("{}, removal not finished", aside.reason),
            Beside::Aside(aside) => aside.reason.to_string(),
            Beside::Seed { .. } => "unfinished".to_owned(),
            Beside::Other => "not named by pgstead".to_owned(),
        }
    }

    fn run(&self) -> &str {
        match &self.kind {
            Beside::Aside(aside) => &aside.run,
            Beside::Seed { run } => run,
            Beside::Other => "",
        }
    }
}

/// Writes an age in the largest unit that it fills.
fn age(seconds: i64) -> String {
    match seconds.max(0) {
        few @ 0..60 => format!("{few} s"),
        few @ 60..3_600 => format!("{} min", few / 60),
        few @ 3_600..172_800 => format!("{} h", few / 3_600),
        many => format!("{} days", many / 86_400),
    }
}

/// Renders the table and the commands; nothing where nothing stands beside.
pub(super) fn render(all: &[BesideView], look: Look) -> String {
    if all.is_empty() {
        return String::new();
    }
    let rows: Vec<_> = all
        .iter()
        .map(|one| {
            vec![
                cell(one.server.as_str()),
                cell(one.bytes.map(bytes).unwrap_or_default()),
                cell(one.age()),
                cell(one.reason()),
                cell(one.run()),
                cell(&one.name),
            ]
        })
        .collect();
    let table = table(&["SERVER", "SIZE", "AGE", "WHY", "RUN", "BESIDE THE DATA DIRECTORY"], &rows, look);
    let commands: String =
        all.iter().filter_map(|one| one.command.as_deref()).map(|line| format!("  {}\n", one_line(line))).collect();
    let advice = if commands.is_empty() { "" } else { "When it is no longer needed:\n" };
    format!("\n{table}{advice}{commands}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::aside;

    #[test]
    fn what_stands_beside() {
        let view = |path: &str, bytes| BesideView {
            server: "b".parse().unwrap(),
            name: aside::own_name(path).to_owned(),
            kind: aside::read("/srv/main", path),
            modified: Some("2026-01-04T03:04:00Z".parse().unwrap()),
            now: "2026-01-05T03:04:05Z".parse().unwrap(),
            bytes,
            command: None,
        };
        let name = "main.aside.20260102T030405Z.r1.diverged";
        let mut whole = view(&["/srv/", name].concat(), Some(3 << 30));
        whole.command = Some(format!("pgstead forget-aside b {name}"));
        let half = view(&["/srv/", name, ".forgotten"].concat(), None);
        let all = [whole, half, view("/srv/main.seed.r2", Some(4096)), view("/srv/main.aside.old\x1b[2J", None)];
        insta::assert_snapshot!(render(&all, Look::PLAIN), @r"

        SERVER  SIZE    AGE     WHY                             RUN  BESIDE THE DATA DIRECTORY
        b       3.0 GB  3 days  diverged                        r1   main.aside.20260102T030405Z.r1.diverged
        b       -       3 days  diverged, removal not finished  r1   main.aside.20260102T030405Z.r1.diverged.forgotten
        b       4.0 kB  24 h    unfinished                      r2   main.seed.r2
        b       -       24 h    not named by pgstead            -    main.aside.old\x1b[2J
        When it is no longer needed:
          pgstead forget-aside b main.aside.20260102T030405Z.r1.diverged
        ");
        assert_eq!(render(&[], Look::PLAIN), "");
    }

    #[test]
    fn ages() {
        assert_eq!([age(-5), age(59), age(61), age(86_400), age(200_000)], ["0 s", "59 s", "1 min", "24 h", "2 days"]);
    }
}

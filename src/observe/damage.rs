//! Looks for files that must be in a data directory and are not: one round trip, to the server that is to be re-seeded.
//!
//! It reads names, not pages: what has rotted shows in checksums, which this does not compute.

use std::sync::LazyLock;

use std::time::Duration;

use crate::model::layout::Layout;
use crate::model::observed::Observed;
use crate::model::session;
use crate::model::topology::Server;
use crate::observe::records::Records;
use crate::remote::Host;
use crate::render::hba::roles;

/// How long that may take: it reads files of any size.
const LIMIT: Duration = Duration::from_secs(300);

/// The text of the script.
pub static SCRIPT: LazyLock<String> =
    LazyLock::new(|| include_str!("damage.sh").replace("# @@SESSION@@", &session::FUNCTION));

/// Returns what is missing in a server's data directory, in sentences. Absent: there is no data directory.
pub async fn look<H: Host>(host: &H, server: &Server, layout: &Layout, is_running: bool) -> Observed<Vec<String>> {
    let mut words = vec![layout.os_user.clone(), layout.data_directory.clone()];
    if is_running {
        words.extend([layout.program("psql"), layout.socket_directory.clone(), server.port.to_string()]);
        words.push(roles::SUPERUSER.to_owned());
    }
    let output = match host.probe_within(LIMIT, &SCRIPT, &words).await {
        Ok(output) => output,
        Err(error) => return Observed::Unreadable(error.to_string()),
    };
    match Records::parse(&output.stdout) {
        Ok(records) => lines(records.get("damage")),
        Err(error) => Observed::Unreadable(error.to_string()),
    }
}

fn lines(found: Observed<String>) -> Observed<Vec<String>> {
    found.map(|text| text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        /// Files as a small cluster has them.
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            for directory in ["global", "base/5", "pg_tblspc", "pg_xact", "pg_multixact/members", "pg_wal"] {
                fs::create_dir_all(place.0.path().join(directory)).unwrap();
            }
            for file in [
                "PG_VERSION",
                "global/pg_control",
                "global/pg_filenode.map",
                "base/5/PG_VERSION",
                "base/5/pg_filenode.map",
                "base/5/16384",
                "base/5/16384.1",
                "base/5/16384.2",
                "base/5/16384_fsm",
                "base/5/16384_vm",
                "base/5/16390_init",
                "base/5/16390_fsm",
                "base/5/t3_16400_fsm",
            ] {
                fs::write(place.0.path().join(file), "").unwrap();
            }
            place
        }

        fn look(&self) -> Observed<Vec<String>> {
            let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
            let output =
                Command::new("sh").args(["-c", &SCRIPT, "x", user.trim()]).arg(self.0.path()).output().unwrap();
            lines(Records::parse(&output.stdout).unwrap().get("damage"))
        }

        fn without(&self, file: &str) -> Vec<String> {
            fs::rename(self.0.path().join(file), self.0.path().join("away")).unwrap();
            let found = self.look().known().unwrap().clone();
            fs::rename(self.0.path().join("away"), self.0.path().join(file)).unwrap();
            found
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let place = Place::new();
        assert_eq!(place.look(), Observed::Known(Vec::new()));
        let gap = place.without("base/5/16384.1");
        assert!(gap.len() == 1 && gap[0].ends_with("16384.1 is missing, and 16384.2 is there."), "{gap:?}");
        let first = place.without("base/5/16384");
        assert!(first.len() == 3 && first.iter().all(|line| line.contains("16384 is missing")), "{first:?}");
        for file in ["global/pg_filenode.map", "base/5/PG_VERSION", "pg_xact"] {
            let found = place.without(file);
            assert!(found.iter().any(|line| line.ends_with(&format!("{file} is missing."))), "{file}: {found:?}");
        }
        assert_eq!(place.look(), Observed::Known(Vec::new()));
    }

    #[test]
    fn a_place_without_data_is_not_called_damaged() {
        let place = Place(tempfile::tempdir().unwrap());
        assert_eq!(place.look(), Observed::Absent);
    }
}

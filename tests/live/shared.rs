//! Beginnings that scenarios share: a topology is bootstrapped once for each release and start, and every scenario that only begins
//! there begins with a copy of what its servers had written then.
//!
//! A place for one is used by one scenario at a time, since the addresses in it are its number's. What must begin bare does not come
//! here. Everything is made anew when pgstead, the tests or the trees change.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts;
use pgstead::lab::hosts::HostSpec;
use sha2::Digest;
use sha2::Sha256;

use crate::scenario::until;

/// The numbers of shared labs, a place each: more than there are starts of scenarios that run side by side.
const PLACES: std::ops::Range<u8> = 128..144;
/// How long one of many scenarios may take to end.
const ENDS: Duration = Duration::from_secs(300);

/// A place that is this scenario's for as long as the value lives.
#[derive(Debug)]
pub(crate) struct Place {
    /// The number of the lab.
    pub(crate) number: u8,
    dir: PathBuf,
    key: String,
    _lock: File,
}

impl Place {
    /// Takes the place where this start was made before, or one where it can be made.
    pub(crate) fn take(start: &str, specs: &[HostSpec]) -> Self {
        // A lab whose owner was killed still uses its place.
        hosts::sweep().unwrap();
        let root = hosts::cache_dir().with_file_name("beginnings");
        std::fs::create_dir_all(&root).unwrap();
        let key = key_of(start, specs);
        // Whoever looks holds every free place for a moment: one looks at a time.
        let looks = File::create(root.join("looks")).unwrap();
        looks.lock().unwrap();
        // Scenarios of several runs may stand in all of them; then this one begins when another ends.
        let mut free: Vec<Self> = Vec::new();
        until(Instant::now() + ENDS, || {
            free = PLACES.filter_map(|number| Self::lock(&root, number, &key)).collect();
            !free.is_empty()
        });
        // Whoever waits for a key to be made would wait for as long as making another takes.
        let made = free.iter().position(Self::is_made);
        let least_used = || (0..free.len()).min_by_key(|index| free[*index].last_used());
        let Some(index) = made.or_else(least_used) else {
            panic!("more scenarios run side by side than there are places");
        };
        free.swap_remove(index)
    }

    fn lock(root: &Path, number: u8, key: &str) -> Option<Self> {
        let lock = File::create(root.join(format!("{number}.lock"))).unwrap();
        lock.try_lock().ok()?;
        Some(Self { number, dir: root.join(number.to_string()), key: key.to_owned(), _lock: lock })
    }

    /// Says whether this start is kept here.
    pub(crate) fn is_made(&self) -> bool {
        std::fs::read_to_string(self.dir.join("key")).is_ok_and(|key| key == self.key)
    }

    fn last_used(&self) -> i64 {
        self.dir.join("key").metadata().map_or(0, |key| key.mtime())
    }

    /// Empties the place, for this start to be made.
    pub(crate) fn clear(&self) {
        run(Command::new("rm").args(["-rf", "--one-file-system", "--"]).arg(&self.dir));
        std::fs::create_dir_all(&self.dir).unwrap();
    }

    /// Where what the hosts wrote is kept.
    pub(crate) fn hosts(&self) -> PathBuf {
        self.dir.join("hosts")
    }

    /// Where what the operator had is kept.
    pub(crate) fn operator(&self) -> PathBuf {
        self.dir.join("operator")
    }

    /// Ends the making: from now on the place holds this start.
    pub(crate) fn seal(&self) {
        std::fs::write(self.dir.join("files"), self.files()).unwrap();
        std::fs::write(self.dir.join("key"), &self.key).unwrap();
    }

    /// Demands that everything is as it was kept: a scenario that writes there would change those after it.
    pub(crate) fn require_unchanged(&self) {
        let (kept, now) = (std::fs::read_to_string(self.dir.join("files")).unwrap(), self.files());
        if kept != now {
            let kept: BTreeSet<&str> = kept.lines().collect();
            let changed: Vec<&str> = now.lines().filter(|line| !kept.contains(line)).take(5).collect();
            panic!("a scenario has written into {}, or removed from it: {changed:#?}", self.dir.display());
        }
        // It was used just now.
        run(Command::new("touch").arg("--").arg(self.dir.join("key")));
    }

    /// Returns what there is, a line each: kind, mode, owner, size, time of the last change, name.
    fn files(&self) -> String {
        const FORM: &str = "%y %m %U:%G %s %T@ %P\\n";
        let out =
            run(Command::new("find").arg(self.hosts()).arg(self.operator()).args(["!", "-type", "d", "-printf", FORM]));
        let mut lines: Vec<&[u8]> = out.split(|byte| *byte == b'\n').collect();
        lines.sort_unstable();
        lines.iter().map(|line| OsStr::from_bytes(line).to_string_lossy() + "\n").collect()
    }
}

/// Returns what a beginning depends on: the start, the hosts, their trees, this program and pgstead.
fn key_of(start: &str, specs: &[HostSpec]) -> String {
    let mut of = format!("{start}\n{specs:?}\n");
    for spec in specs {
        writeln!(of, "{}", hosts::tree_of(spec.release).display()).unwrap();
    }
    for program in [std::env::current_exe().unwrap(), env!("CARGO_BIN_EXE_pgstead").into()] {
        let built = program.metadata().unwrap();
        writeln!(of, "{} {} {}.{}", program.display(), built.len(), built.mtime(), built.mtime_nsec()).unwrap();
    }
    Sha256::digest(of).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Copies a directory with everything in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").args(["-a", "--no-target-directory", "--"]).arg(from).arg(to));
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn a_beginning_that_somebody_writes_into_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::lock(dir.path(), 128, "key").unwrap();
    assert!(Place::lock(dir.path(), 128, "key").is_none(), "two scenarios at one place");
    place.clear();
    for kept in [place.hosts(), place.operator()] {
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), "as it was").unwrap();
    }
    assert!(!place.is_made());
    place.seal();
    assert!(place.is_made());
    place.require_unchanged();
    std::fs::write(place.hosts().join("left-behind"), "").unwrap();
    assert!(std::panic::catch_unwind(|| place.require_unchanged()).is_err());
    std::fs::remove_file(place.hosts().join("left-behind")).unwrap();
    place.require_unchanged();
    std::fs::write(place.operator().join("file"), "as it is").unwrap();
    assert!(std::panic::catch_unwind(|| place.require_unchanged()).is_err());
}

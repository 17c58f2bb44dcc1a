//! The scripts of detached jobs with a real shell, as a process group: what starts, what is awaited, what is cleared away,
//! and above all what is not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::time::Duration;
use std::time::Instant;

use pgstead::model::job::Job;
use pgstead::model::job::JobState;
use pgstead::plan::scripts;
use tempfile::TempDir;

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    fn sh(&self, script: &str, args: &[&str]) -> Output {
        Command::new("sh").args(["-c", script, "sh"]).args(args).output().unwrap()
    }

    /// Starts a job of run r1 that makes `main.seed.r1`.
    fn start(&self, verifier: &str, command: &[&str]) -> Output {
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        let (job, seed) = (self.text("jobs/seed"), self.text("main.seed.r1"));
        let head = [&job, user.trim(), "-", verifier, "run", "r1", "seed", &seed, "upstream", "a", "--"];
        self.sh(&scripts::START_JOB, &[&head, command].concat())
    }

    fn wait(&self) -> Output {
        self.sh(scripts::WAIT_JOB, &[&self.text("jobs/seed"), "-"])
    }

    fn clear(&self) -> Output {
        self.sh(scripts::CLEAR_JOB, &[&self.text("jobs/seed"), "-", &self.text("main"), "b", "root"])
    }

    /// Makes the seed directory with a file in it.
    fn seed(&self) -> PathBuf {
        let seed = self.path("main.seed.r1");
        fs::create_dir(&seed).unwrap();
        fs::write(seed.join("PG_VERSION"), "15\n").unwrap();
        // A copy brings the mark of its source along.
        fs::write(seed.join("pgstead.identity"), "topology t\nserver a\n").unwrap();
        seed
    }

    fn record(&self, text: &str) {
        fs::create_dir_all(self.path("jobs/seed")).unwrap();
        for (name, text) in [("lock", ""), ("status", "ended 1\n"), ("output", ""), ("record", text)] {
            fs::write(self.path("jobs/seed").join(name), text).unwrap();
        }
    }

    fn job(&self) -> Option<Job> {
        let read = |name: &str| fs::read_to_string(self.path("jobs/seed").join(name)).unwrap_or_default();
        let is_free = Command::new("flock").args(["-n", "-s"]).arg(self.path("jobs/seed/lock")).arg("true").status();
        Job::parse("seed", &read("record"), !is_free.unwrap().success(), &read("status"))
    }
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_job_outlives_who_started_it_and_is_awaited() {
    let place = Place::new();
    let gate = place.text("gate");
    assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
    succeeds(&place.start("-", &["sh", "-c", "read -r go <\"$1\"; echo done; exit 3", "sh", &gate]));
    let deadline = Instant::now() + Duration::from_secs(10);
    while place.job().map(|job| job.state) != Some(JobState::Running) && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    assert_eq!(place.job().unwrap().state, JobState::Running);
    // No second one starts beside it.
    let second = place.start("-", &["true"]);
    assert!(said(&second).contains("still runs"), "{second:?}");

    let path = place.text("jobs/seed");
    let waiting = Command::new("sh").args(["-c", scripts::WAIT_JOB, "sh", &path, "-"]).spawn().unwrap();
    fs::write(&gate, "go\n").unwrap();
    assert_eq!(waiting.wait_with_output().unwrap().status.code(), Some(3));
    assert_eq!(place.job().unwrap().state, JobState::Ended(3));
    let again = place.wait();
    assert_eq!((again.status.code(), said(&again)), (Some(3), "done\n".to_owned()));
}

#[test]
fn what_is_made_is_verified_before_it_counts() {
    let place = Place::new();
    let seed = place.text("main.seed.r1");
    succeeds(&place.start("/bin/false", &["mkdir", &seed]));
    assert_eq!(place.wait().status.code(), Some(1));
    assert_eq!(place.job().unwrap().state, JobState::Ended(1));

    let place = Place::new();
    succeeds(&place.start("/bin/true", &["true"]));
    succeeds(&place.wait());
    assert_eq!(place.job().unwrap().state, JobState::Ended(0));
}

#[test]
fn a_running_job_is_ended_with_all_its_children() {
    let place = Place::new();
    let seed = place.text("main.seed.r1");
    // The child ignores the first signal, as a process in the middle of something may.
    let script = "mkdir \"$1\"; (trap '' TERM; exec tail -f /dev/null) & exec tail -f /dev/null";
    succeeds(&place.start("-", &["sh", "-c", script, "sh", &seed]));
    let deadline = Instant::now() + Duration::from_secs(10);
    while !Path::new(&seed).exists() && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    succeeds(&place.clear());
    assert!(!Path::new(&seed).exists());
    assert!(!place.path("jobs/seed").exists());
    // Nothing is left to clear.
    succeeds(&place.clear());
}

#[test]
fn a_killed_job_is_known_to_be_dead() {
    let place = Place::new();
    place.seed();
    succeeds(&place.start("-", &["tail", "-f", "/dev/null"]));
    let status = place.path("jobs/seed/status");
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut word = String::new();
    while !word.starts_with("running ") && Instant::now() < deadline {
        word = fs::read_to_string(&status).unwrap_or_default();
    }
    let group = word.trim().trim_start_matches("running ").to_owned();
    assert!(Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).status().unwrap().success());
    let waited = place.wait();
    assert!(waited.status.code() == Some(70) && said(&waited).contains("without a result"), "{waited:?}");
    assert_eq!(place.job().unwrap().state, JobState::Died);
    succeeds(&place.clear());
    assert!(!place.path("main.seed.r1").exists());
}

/// A WAL receiver that outlives its killed parent goes away with the job (hazard 17, finding 4).
#[test]
fn children_of_a_failed_command_do_not_stay() {
    let place = Place::new();
    succeeds(&place.start("-", &["sh", "-c", "tail -f /dev/null & kill -KILL $$"]));
    assert_eq!(place.wait().status.code(), Some(137));
    assert_eq!(place.job().unwrap().state, JobState::Ended(137));
}

#[test]
fn only_what_the_record_names_and_the_job_made_is_cleared_away() {
    let refuses = |prepare: &dyn Fn(&Place) -> (String, PathBuf), why: &str| {
        let place = Place::new();
        let (record, kept) = prepare(&place);
        place.record(&record);
        let cleared = place.clear();
        assert!(!cleared.status.success() && said(&cleared).contains(why), "{why}: {cleared:?}");
        assert!(kept.symlink_metadata().is_ok(), "{why}: {} is gone", kept.display());
        assert!(place.path("jobs/seed/record").exists(), "{why}");
    };
    let of = |place: &Place, name: &str| (format!("run r1\nseed {}\n", place.text(name)), place.path(name));
    refuses(
        &|place| {
            fs::create_dir(place.path("main")).unwrap();
            of(place, "main")
        },
        "its name is not one that run r1 gave",
    );
    refuses(
        &|place| {
            fs::create_dir(place.path("main.seed.r2")).unwrap();
            of(place, "main.seed.r2")
        },
        "its name is not one that run r1 gave",
    );
    refuses(
        &|place| {
            fs::create_dir(place.path("elsewhere")).unwrap();
            std::os::unix::fs::symlink(place.path("elsewhere"), place.path("main.seed.r1")).unwrap();
            of(place, "main.seed.r1")
        },
        "is a symbolic link",
    );
    refuses(
        &|place| {
            place.seed();
            fs::create_dir(place.path("x")).unwrap();
            of(place, "x/../main.seed.r1")
        },
        "its path is not plain",
    );
    refuses(
        &|place| {
            let seed = place.seed();
            (format!("run \nseed {}\n", seed.display()), seed)
        },
        "names no run",
    );
    refuses(
        &|place| {
            let seed = place.seed();
            (format!("run *\nseed {}\n", seed.display()), seed)
        },
        "names no run",
    );
}

#[test]
fn an_instance_in_the_way_is_left_alone() {
    let place = Place::new();
    let seed = place.seed();
    let mut instance = Command::new("tail").args(["-f", "/dev/null"]).current_dir(&seed).spawn().unwrap();
    fs::write(seed.join("postmaster.pid"), format!("{}\n", instance.id())).unwrap();
    place.record(&format!("run r1\nseed {}\n", seed.display()));
    let cleared = place.clear();
    instance.kill().unwrap();
    instance.wait().unwrap();
    assert!(said(&cleared).contains("works in"), "{cleared:?}");
    assert!(seed.exists());
    succeeds(&place.clear());
    assert!(!seed.exists());
}

#[test]
fn what_is_complete_is_set_aside_and_never_removed() {
    for (mark, status) in [(true, "ended 1\n"), (false, "ended 0\n")] {
        let place = Place::new();
        let seed = place.seed();
        if mark {
            fs::write(seed.join("pgstead.identity"), "topology t\nserver b\n").unwrap();
        }
        place.record(&format!("run r1\nseed {}\nupstream a\n", seed.display()));
        fs::write(place.path("jobs/seed/status"), status).unwrap();
        succeeds(&place.clear());
        let names: Vec<String> = fs::read_dir(place.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("main"))
            .collect();
        let [aside] = names.as_slice() else { panic!("{names:?}") };
        assert!(aside.starts_with("main.aside.20") && aside.ends_with("Z.r1.interrupted"), "{aside}");
        assert!(place.path(aside).join("PG_VERSION").exists());
    }
}

#[test]
fn copied_tablespaces_get_their_places() {
    let place = Place::new();
    let seed = place.seed();
    let (from, to) = (place.text("fast/pgstead.seed.r1"), place.text("fast"));
    fs::create_dir_all(format!("{from}/PG_15_1")).unwrap();
    fs::write(format!("{from}/PG_15_1/data"), "row").unwrap();
    fs::create_dir(seed.join("pg_tblspc")).unwrap();
    std::os::unix::fs::symlink(&from, seed.join("pg_tblspc/16384")).unwrap();
    // Twice: the second finds everything in its place.
    for _ in 0..2 {
        succeeds(&place.sh(scripts::SETTLE_TABLESPACES, &[&seed.to_string_lossy(), &from, &to]));
        assert_eq!(fs::read_to_string(seed.join("pg_tblspc/16384/PG_15_1/data")).unwrap(), "row");
        assert_eq!(fs::read_link(seed.join("pg_tblspc/16384")).unwrap(), Path::new(&to));
        assert!(!Path::new(&from).exists());
    }
    // Somebody else's files are not covered.
    fs::create_dir_all(format!("{from}/PG_15_1")).unwrap();
    let refused = place.sh(scripts::SETTLE_TABLESPACES, &[&seed.to_string_lossy(), &from, &to]);
    assert!(said(&refused).contains("is there already"), "{refused:?}");
    assert_eq!(fs::read_to_string(format!("{to}/PG_15_1/data")).unwrap(), "row");
}

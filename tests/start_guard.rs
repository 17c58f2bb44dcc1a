//! Whom the start guard asks before a primary starts, and what it makes of the answers (hazard 55). The other servers are
//! texts here; real ones stand in `live::failover` and `live::guard`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use pgstead::plan::scripts::START_GUARD;

/// A primary on timeline 3 of system 71, whose peers are b and c.
struct Primary(tempfile::TempDir);

const PSQL: &str = "#!/bin/sh
for word in \"$@\"; do case $word in host=*) peer=${word#host=} peer=${peer%% *} ;; esac; done
echo \"$peer\" >>\"${0%/*}/asked\"
cat \"${0%/*}/$peer\"
! grep -q '^psql: ' \"${0%/*}/$peer\"
";
const CONTROL: &str = "#!/bin/sh
echo 'Database system identifier:           71'
echo \"Latest checkpoint's TimeLineID:       3\"
";
const REFUSED: &str = "psql: error: connection to server at \"b\", port 5432 failed: Connection refused\n";
const SILENT: &str = "psql: error: connection to server at \"b\", port 5432 failed: timeout expired\n";

impl Primary {
    fn new(b: &str, c: &str) -> Self {
        let primary = Self(tempfile::tempdir().unwrap());
        primary.write("data/PG_VERSION", "17\n");
        primary.write("data/pgstead.identity", "topology lab\nserver a\n");
        primary.write("data/pg_wal/00000003.history", "2\t0/3000000\tno recovery target specified\n");
        primary.write("own/role", "primary\n");
        primary.write("bin/b", b);
        primary.write("bin/c", c);
        for (name, text) in [("bin/psql", PSQL), ("bin/pg_controldata", CONTROL)] {
            primary.write(name, text);
            assert!(Command::new("chmod").args(["755", &primary.path(name)]).status().unwrap().success());
        }
        let user = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(user.stdout).unwrap();
        let psql = primary.path("bin/psql");
        let peers = format!("# whom\npsql {psql}\nuser {user}peer b host=b user=r\npeer c host=c user=r\n");
        primary.write("own/peers", &peers);
        primary
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Asks whether it may start; returns what was said.
    fn start(&self) -> (bool, String) {
        let arguments = [&self.path("data"), &self.path("own/role"), "lab", "a"];
        let output = Command::new("sh").args(["-c", START_GUARD, "start-guard"]).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let kept = std::fs::read_to_string(self.0.path().join("own/start-refused"));
        match output.status.success() {
            true => assert!(kept.is_err(), "{kept:?}"),
            false => assert_eq!(kept.unwrap(), said),
        }
        (output.status.success(), said)
    }

    fn asked(&self) -> usize {
        std::fs::read_to_string(self.0.path().join("bin/asked")).unwrap_or_default().lines().count()
    }
}

#[track_caller]
fn refuses(b: &str, c: &str, words: &str) {
    let (started, said) = Primary::new(b, c).start();
    assert!(!started && said.contains(words), "{said}");
    assert!(said.contains("pgstead reseed a"), "{said}");
}

#[track_caller]
fn starts(primary: &Primary) -> String {
    let (started, said) = primary.start();
    assert!(started, "{said}");
    said
}

#[test]
fn a_primary_that_was_replaced_does_not_start() {
    refuses(
        "71 4 0/5000000 \non\n",
        "71 3 0/4000000 \non\n",
        "server \"b\" is on timeline 4, and this one's data on timeline 3",
    );
    refuses(SILENT, "71 4 0/4000000 \noff\n", "server \"c\" is a primary, on timeline 4");
    // A twin, and a primary on an earlier timeline: two would accept writes, whoever is right.
    refuses(REFUSED, "71 3 0/4000000 \noff\n", "server \"c\" is a primary, on timeline 3");
    refuses(REFUSED, "71 2 0/4000000 \noff\n", "server \"c\" is a primary, on timeline 2");
    // Sixteen is written 00000010 in names of files, and 16 in answers.
    refuses("71 16 0/5000000 \non\n", REFUSED, "is on timeline 16");
}

#[test]
fn a_primary_that_nobody_replaced_starts() {
    assert_eq!(starts(&Primary::new("71 3 0/5000000 \non\n", "71 2 0/3000000 \non\n")), "");
    // Somebody else's database system says nothing of this one.
    assert_eq!(starts(&Primary::new("72 9 0/5000000 \noff\n", REFUSED)), "");
    // It was promoted and crashed before the checkpoint that its control file would name.
    let promoted = Primary::new("71 10 0/5000000 \non\n", REFUSED);
    promoted.write("data/pg_wal/0000000A.history", "3\t0/3000000\tno recovery target specified\n");
    assert_eq!(starts(&promoted), "");
    // A standby asks nobody.
    let standby = Primary::new("71 4 0/5000000 \noff\n", REFUSED);
    standby.write("own/role", "standby\n");
    standby.write("data/standby.signal", "");
    assert_eq!((starts(&standby), standby.asked()), (String::new(), 0));
}

#[test]
fn where_nobody_can_be_asked_a_primary_does_not_start() {
    // Who refuses connections is there, and has no instance: nothing to wait for.
    let alone = Primary::new(REFUSED, REFUSED);
    assert_eq!((starts(&alone), alone.asked()), (String::new(), 2));
    // What is stopped knows nothing of the one that is silent: that may be the primary now.
    let (started, said) = Primary::new(SILENT, REFUSED).start();
    assert!(!started && said.contains("b (timeout expired)") && !said.contains("c ("), "{said}");
    // It is a standby, and may be waiting for this very one.
    let recovers = "psql: error: connection to server at \"c\", port 5432 failed: FATAL:  the database system is not yet accepting connections\nDETAIL:  Consistent recovery state has not been yet reached.\n";
    assert_eq!(starts(&Primary::new(SILENT, recovers)), "");
    // It may be a primary after a crash.
    let crashed =
        "psql: error: connection to server at \"c\", port 5432 failed: FATAL:  the database system is starting up\n";
    let (started, said) = Primary::new(SILENT, crashed).start();
    assert!(!started && said.contains("c (FATAL: the database system is starting up)"), "{said}");
    // One answer is enough.
    let one = Primary::new("71 3 0/5000000 \non\n", SILENT);
    assert_eq!((starts(&one), one.asked()), (String::new(), 2));
    // Who says nothing may not be reached yet: asked again, for a while.
    let silent = Primary::new(SILENT, SILENT);
    let (started, said) = silent.start();
    assert!(
        !started
            && said.contains("nobody can be asked")
            && ["b (timeout expired)", "c (timeout expired)"].iter().all(|one| said.contains(one)),
        "{said}"
    );
    assert!(said.contains(&format!("touch {}", silent.path("own/start-alone"))), "{said}");
    assert!(silent.asked() > 4, "{}", silent.asked());
    // A person's word on the server counts once, and for a minute.
    silent.write("own/start-alone", "");
    assert_eq!(starts(&silent), "");
    assert!(!silent.0.path().join("own/start-alone").exists());
    silent.write("own/start-alone", "");
    let old = ["-d", "2 minutes ago", &silent.path("own/start-alone")];
    assert!(Command::new("touch").args(old).status().unwrap().success());
    assert!(!silent.start().0);
}

#[test]
fn a_primary_may_be_allowed_to_start_alone() {
    let primary = Primary::new(SILENT, SILENT);
    let peers = std::fs::read_to_string(primary.path("own/peers")).unwrap();
    primary.write("own/peers", &(peers + "start_alone\n"));
    let said = starts(&primary);
    assert!(said.contains("starts all the same"), "{said}");
    // It asks all the same, and a primary is a primary.
    primary.write("bin/c", "71 4 0/5000000 \noff\n");
    assert!(!primary.start().0);
}

/// Where a service manager starts it, it waits until somebody answers, and says so meanwhile.
#[test]
fn under_a_service_manager_a_primary_waits_for_an_answer() {
    for (answer, starts) in [("71 3 0/5000000 \non\n", true), ("71 4 0/5000000 \noff\n", false)] {
        let primary = Primary::new(SILENT, SILENT);
        let arguments = [&primary.path("data"), &primary.path("own/role"), "lab", "a", "postgresql.service"];
        let mut guard = Command::new("sh").args(["-c", START_GUARD, "start-guard"]).args(arguments).spawn().unwrap();
        let said = || std::fs::read_to_string(primary.path("own/start-refused")).unwrap_or_default();
        while !said().contains("It starts when one of them answers") {
            assert!(guard.try_wait().unwrap().is_none(), "it ended");
            std::thread::yield_now();
        }
        primary.write("bin/c", answer);
        assert_eq!(guard.wait().unwrap().success(), starts);
        assert_eq!(said().is_empty(), starts, "{}", said());
    }
}

#[test]
fn a_name_of_a_path_does_not_matter() {
    let primary = Primary::new("71 4 0/5000000 \non\n", REFUSED);
    let peers = std::fs::read_to_string(primary.path("own/peers")).unwrap();
    let moved = primary.path("it's a \"directory\"");
    std::fs::rename(primary.path("bin"), &moved).unwrap();
    primary.write("own/peers", &peers.replace(&primary.path("bin"), Path::new(&moved).to_str().unwrap()));
    let (started, said) = primary.start();
    assert!(!started && said.contains("timeline 4"), "{said}");
}

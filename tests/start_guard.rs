//! Whom the start guard asks before a primary starts, and what it makes of the answers (hazard 55). The other servers are
//! texts here, and a primary's WAL is real in `start_guard_wal`; real servers stand in `live::guard` and `live::attest`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use pgstead::plan::scripts::START_GUARD;

/// A primary on timeline 3 of system 71, whose peers are b and c. Its WAL ends in segment 6.
struct Primary(tempfile::TempDir);

const PSQL: &str = "#!/bin/sh
for word in \"$@\"; do case $word in host=*) peer=${word#host=} peer=${peer%% *} ;; esac; done
echo \"$peer\" >>\"${0%/*}/asked\"
echo \"$@\" >\"${0%/*}/question\"
cat \"${0%/*}/$peer\"
";
const CONTROL: &str = "#!/bin/sh
echo 'Database system identifier:           71'
echo 'Latest checkpoint location:           0/5000060'
echo \"Latest checkpoint's REDO location:    0/5000028\"
echo \"Latest checkpoint's TimeLineID:       3\"
echo 'Bytes per WAL segment:                16777216'
";
const WALDUMP: &str = "#!/bin/sh
for word in \"$@\"; do case $word in --end=*) end=${word#--end=} ;; esac; done
case $end in 0/6* | 0/7000000) ;; *) exit 1 ;; esac
";
const REFUSED: &str = "psql: error: connection to server at \"b\", port 5432 failed: Connection refused\n";
const SILENT: &str = "psql: error: connection to server at \"b\", port 5432 failed: timeout expired\n";
/// It may be a primary after a crash.
const STARTS: &str =
    "psql: error: connection to server at \"b\", port 5432 failed: FATAL:  the database system is starting up\n";
/// It is a standby, and does not know yet what its own WAL tells it.
const RECOVERS: &str = "psql: error: connection to server at \"c\", port 5432 failed: FATAL:  the database system is not yet accepting connections\nDETAIL:  Consistent recovery state has not been yet reached.\n";

/// What a standby answers that knows no later timeline.
fn standby(timeline: u32, position: &str) -> String {
    format!("71 {timeline} {position} \non\nERROR:  58P01\n")
}

/// What a primary answers.
fn primary(timeline: u32) -> String {
    format!("71 {timeline} 0/5000000 \noff\nERROR:  58P01\n")
}

impl Primary {
    fn new(b: impl AsRef<str>, c: impl AsRef<str>) -> Self {
        let primary = Self(tempfile::tempdir().unwrap());
        primary.write("data/PG_VERSION", "17\n");
        primary.write("data/pgstead.identity", "topology lab\nserver a\n");
        primary.write("data/pg_wal/00000003.history", "2\t0/3000000\tno recovery target specified\n");
        primary.write("own/role", "primary\n");
        primary.write("bin/b", b.as_ref());
        primary.write("bin/c", c.as_ref());
        for (name, text) in [("bin/psql", PSQL), ("bin/pg_controldata", CONTROL), ("bin/pg_waldump", WALDUMP)] {
            primary.program(name, text);
        }
        let user = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(user.stdout).unwrap();
        let psql = primary.path("bin/psql");
        let peers = format!("# whom\npsql {psql}\nuser {user}peer b host=b user=r\npeer c host=c user=r\nend 2\n");
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

    fn program(&self, name: &str, text: &str) {
        self.write(name, text);
        assert!(Command::new("chmod").args(["755", &self.path(name)]).status().unwrap().success());
    }

    fn edit(&self, name: &str, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        self.write(name, &change(text));
    }

    fn guard(&self, more: &[&str]) -> Command {
        let mut guard = Command::new("sh");
        guard.args(["-c", START_GUARD, "start-guard", &self.path("data"), &self.path("own/role"), "lab", "a"]);
        guard.args(more);
        guard
    }

    fn kept(&self) -> Option<String> {
        std::fs::read_to_string(self.path("own/start-refused")).ok()
    }

    /// Asks whether it may start, where it is refused rather than waited for; returns what was said.
    fn start(&self) -> (bool, String) {
        let output = self.guard(&[]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        match (output.status.success(), self.kept()) {
            (true, kept) => assert_eq!(kept, None),
            (false, kept) => assert!(said.ends_with(&kept.unwrap()), "{said}"),
        }
        (output.status.success(), said)
    }

    /// Asks the same as a service manager does, until it waits.
    #[track_caller]
    fn waits(&self) -> Waits<'_> {
        let mut guard = self.guard(&["postgresql.service"]).stderr(Stdio::null()).spawn().unwrap();
        while !self.kept().is_some_and(|said| said.contains("It starts when one of them answers")) {
            assert_eq!(guard.try_wait().unwrap(), None, "it ended");
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
        Waits { guard, said: self.kept().unwrap(), primary: self }
    }

    fn asked(&self) -> usize {
        std::fs::read_to_string(self.path("bin/asked")).unwrap_or_default().lines().count()
    }
}

/// A guard that waits.
struct Waits<'a> {
    guard: Child,
    said: String,
    primary: &'a Primary,
}

impl Waits<'_> {
    /// Demands that it ends by itself, with a start or a refusal.
    #[track_caller]
    fn ends(mut self, starts: bool) {
        assert_eq!(self.guard.wait().unwrap().success(), starts);
        assert_eq!(self.primary.kept().is_none(), starts, "{:?}", self.primary.kept());
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

#[track_caller]
fn refuses(b: impl AsRef<str>, c: impl AsRef<str>, words: &str) {
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
        standby(4, "0/5000000"),
        standby(3, "0/4000000"),
        "server \"b\" is on timeline 4, and this one's data on timeline 3",
    );
    refuses(SILENT, primary(4), "server \"c\" is a primary, on timeline 4");
    // Whoever tells of the promotion may only have followed it: the one that accepts writes would have to be stopped.
    refuses(standby(4, "0/5000000"), primary(4), "stop the instance of \"c\" first");
    refuses(standby(4, "0/5000000"), SILENT, "stop the instance of the server that was promoted");
    // A twin, and a primary on an earlier timeline: two would accept writes, whoever is right.
    refuses(REFUSED, primary(3), "server \"c\" is a primary, on timeline 3");
    refuses(REFUSED, primary(2), "server \"c\" is a primary, on timeline 2");
    // Sixteen is written 00000010 in names of files, and 16 in answers.
    refuses(standby(16, "0/5000000"), REFUSED, "is on timeline 16");
    // It replays its own WAL after a start, and has not come to the timeline that it followed.
    let behind = "71 3 0/4000000 \non\n00000004.history 3\t0/4100000\tno recovery target specified\n\n";
    refuses(behind, REFUSED, "server \"b\" knows timeline 4");
    let primary = Primary::new(behind, REFUSED);
    primary.start();
    let question = std::fs::read_to_string(primary.path("bin/question")).unwrap();
    assert!(question.contains("-c TIMELINE_HISTORY 4"), "{question}");
}

#[test]
fn a_primary_that_nobody_replaced_starts() {
    assert_eq!(starts(&Primary::new(standby(3, "0/5000000"), standby(2, "0/3000000"))), "");
    // It was promoted and crashed before the checkpoint that its control file would name.
    let promoted = Primary::new(standby(10, "0/5000000"), REFUSED);
    promoted.write("data/pg_wal/0000000A.history", "3\t0/3000000\tno recovery target specified\n");
    assert_eq!(starts(&promoted), "");
    // Of its role file the first line counts, as for everybody who reads it.
    let noted = Primary::new(standby(3, "0/5000000"), standby(2, "0/3000000"));
    noted.write("own/role", "primary\nsince the move\n");
    assert_eq!(starts(&noted), "");
    // A standby asks nobody, and needs nothing for that.
    let follows = Primary::new(standby(4, "0/5000000"), REFUSED);
    follows.write("own/role", "standby\n");
    follows.write("data/standby.signal", "");
    std::fs::remove_file(follows.path("own/peers")).unwrap();
    assert_eq!((starts(&follows), follows.asked()), (String::new(), 0));
    // One that has no peers has nobody to ask.
    let lone = Primary::new(REFUSED, REFUSED);
    lone.edit("own/peers", |text| text.replace("peer ", "# ").replace("end 2", "end 0"));
    assert_eq!((starts(&lone), lone.asked()), (String::new(), 0));
    // One answer is enough.
    let one = Primary::new(standby(3, "0/5000000"), SILENT);
    assert_eq!((starts(&one), one.asked()), (String::new(), 2));
}

/// It was put back to an older state: what it had sent is on its standby, and not here any more (issue: restored snapshots).
#[test]
fn a_primary_that_lacks_what_its_standby_has_does_not_start() {
    let words = "server \"b\", its standby, has WAL up to 0/8000110, and this one has not";
    refuses(standby(3, "0/8000110"), standby(3, "0/6000110"), words);
    // After a crash its WAL goes on behind its last checkpoint; it may end with the segment.
    assert_eq!(starts(&Primary::new(standby(3, "0/6000110"), REFUSED)), "");
    assert_eq!(starts(&Primary::new(standby(3, "0/7000000"), REFUSED)), "");
    // A word does not count against an answer.
    let restored = Primary::new(standby(3, "0/8000110"), REFUSED);
    restored.write("own/start-alone", "");
    assert!(!restored.start().0);
}

/// All of them may have lost their power together: who knows nothing yet is asked again, and is no reason to start.
#[test]
fn where_nobody_answers_a_primary_waits_for_the_first_who_does() {
    // It may have been the primary of a later timeline, or not have heard of this one: it does not know of a still later one.
    let earlier = standby(2, "0/3000000");
    let foreign = "72 9 0/5000000 \noff\nERROR:  58P01\n";
    let torn = "71 3 0/5000000 \non\nserver closed the connection unexpectedly\n";
    let reasons = [
        (REFUSED, REFUSED, "b (Connection refused); c (Connection refused)"),
        (REFUSED, RECOVERS, "c (FATAL:  the database system is not yet accepting connections)"),
        (STARTS, RECOVERS, "b (FATAL:  the database system is starting up)"),
        (SILENT, REFUSED, "b (timeout expired)"),
        (SILENT, SILENT, "c (timeout expired)"),
        (REFUSED, &earlier, "c (it is still on the earlier timeline 2)"),
        (foreign, REFUSED, "b (it has another database system)"),
        (torn, REFUSED, "b (71 3 0/5000000"),
        ("71x 3 0/5000000 \non\nERROR:  58P01\n", REFUSED, "b (71x 3"),
        ("", REFUSED, "b ()"),
    ];
    std::thread::scope(|scope| {
        for (b, c, words) in reasons {
            scope.spawn(move || {
                let primary = Primary::new(b, c);
                let waits = primary.waits();
                assert!(waits.said.contains("nobody can be asked") && waits.said.contains(words), "{}", waits.said);
                assert!(waits.said.contains(&format!("touch {}", primary.path("own/start-alone"))), "{}", waits.said);
                assert!(primary.asked() > 2, "{}", primary.asked());
            });
        }
        for (answer, starts) in [(standby(3, "0/5000000"), true), (standby(4, "0/5000000"), false)] {
            scope.spawn(move || {
                let primary = Primary::new(REFUSED, STARTS);
                let waits = primary.waits();
                primary.write("bin/c", &answer);
                waits.ends(starts);
            });
        }
    });
}

/// Where nothing could start it later, it is refused in the end.
#[test]
fn without_a_service_manager_a_primary_is_refused_after_half_a_minute() {
    let begun = std::time::Instant::now();
    let (started, said) = Primary::new(REFUSED, SILENT).start();
    assert!(
        !started && said.contains("was not started: nobody can be asked") && said.contains("start-alone"),
        "{said}"
    );
    assert!((29..40).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

/// A person's word on the server counts against silence, once, and for a minute.
#[test]
fn a_word_counts_once_and_against_silence_alone() {
    let word = |primary: &Primary, when: &str| {
        let touch = Command::new("touch").args(["-d", when, &primary.path("own/start-alone")]).status();
        assert!(touch.unwrap().success());
    };
    let is_there = |primary: &Primary| Path::new(&primary.path("own/start-alone")).exists();
    let silent = Primary::new(REFUSED, SILENT);
    word(&silent, "now");
    assert_eq!((starts(&silent), silent.asked()), (String::new(), 2));
    assert!(!is_there(&silent));
    // Those who answer are asked first.
    for (b, c) in [(REFUSED.to_owned(), primary(4)), (standby(4, "0/5000000"), SILENT.to_owned())] {
        let replaced = Primary::new(b, c);
        word(&replaced, "now");
        assert!(!replaced.start().0);
    }
    // One that was not needed means nothing later.
    let answered = Primary::new(standby(3, "0/5000000"), REFUSED);
    word(&answered, "now");
    assert_eq!(starts(&answered), "");
    assert!(!is_there(&answered));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let old = Primary::new(REFUSED, SILENT);
            word(&old, "2 minutes ago");
            old.waits();
        });
        scope.spawn(|| {
            let early = Primary::new(REFUSED, SILENT);
            word(&early, "10 minutes");
            let waits = early.waits();
            assert!(waits.said.contains("start-alone counts for nothing: its time is in the future"), "{}", waits.said);
            // A second one is a word of now.
            word(&early, "now");
            waits.ends(true);
        });
    });
}

#[test]
fn a_primary_may_be_allowed_to_start_alone() {
    let allowed = Primary::new(REFUSED, SILENT);
    allowed.edit("own/peers", |text| text.replace("peer b", "start_alone\npeer b"));
    let said = starts(&allowed);
    assert!(said.contains("starts all the same"), "{said}");
    // It asks all the same, and a primary is a primary.
    allowed.write("bin/c", &primary(4));
    assert!(!allowed.start().0);
}

/// What it can't read or run is no reason to start.
#[test]
fn a_guard_that_cannot_ask_refuses() {
    let refuses = |what: &str, spoil: &dyn Fn(&Primary)| {
        let spoiled = Primary::new(standby(3, "0/5000000"), REFUSED);
        spoil(&spoiled);
        let (started, said) = spoiled.start();
        assert!(!started && said.contains(what), "{said}");
    };
    let peers = |spoiled: &Primary, change: &dyn Fn(String) -> String| spoiled.edit("own/peers", change);
    refuses("own/peers can't be read", &|spoiled| std::fs::remove_file(spoiled.path("own/peers")).unwrap());
    for change in [
        |_: String| String::new(),
        |text: String| text.replace("peer c", "# "),
        |text: String| text.replace("end 2\n", ""),
        |text: String| text.replace("psql ", "# "),
        |text: String| text.replace("user ", "# "),
    ] {
        refuses("own/peers is not whole", &|spoiled| peers(spoiled, &change));
    }
    for control in [
        "#!/bin/sh\necho 'no such file' >&2; exit 1\n".to_owned(),
        CONTROL.replace("0/5000028", "nothing"),
        CONTROL.replace("TimeLineID", "Time"),
        CONTROL.replace("71'", "x'"),
        CONTROL.replace("16777216", ""),
    ] {
        refuses("can't be read: ", &|spoiled| spoiled.program("bin/pg_controldata", &control));
    }
}

#[test]
fn a_name_of_a_path_does_not_matter() {
    let primary = Primary::new(standby(4, "0/5000000"), REFUSED);
    let peers = std::fs::read_to_string(primary.path("own/peers")).unwrap();
    let moved = primary.path("it's a \"directory\"");
    std::fs::rename(primary.path("bin"), &moved).unwrap();
    primary.write("own/peers", &peers.replace(&primary.path("bin"), Path::new(&moved).to_str().unwrap()));
    let (started, said) = primary.start();
    assert!(!started && said.contains("timeline 4"), "{said}");
}

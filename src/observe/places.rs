//! Looks where settings and tablespaces lead, on the servers that must have what is there: one more round trip to just those.
//! It has no way to change anything; `plan/elsewhere.rs` asks, and judges the answers.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::place::{Place, PlaceKind, Question};
use crate::model::topology::Topology;
use crate::observe::records::Records;
use crate::plan::adoption::elsewhere::Inquiry;
use crate::remote::Host;

/// The text of the script.
pub const SCRIPT: &str = include_str!("places.sh");

/// Asks all servers at once. The answers become part of the observation.
pub async fn look<H: Host>(
    topology: &Topology,
    inquiries: BTreeMap<ServerName, Inquiry>,
    hosts: &BTreeMap<ServerName, Result<H, String>>,
    observation: &mut Observation,
) {
    let asked = &*observation;
    let looks = inquiries.into_iter().map(async |(name, inquiry)| {
        let answers = ask(topology, &name, &inquiry, hosts, asked).await;
        let of = |question: &Question, index: usize| {
            let answer = answers.as_ref().map(|answers| answer(answers, index + 1));
            (question.key(), answer.unwrap_or_else(|why| Observed::Unreadable(why.clone())))
        };
        let places = inquiry.questions.iter().enumerate().map(|(index, question)| of(question, index)).collect();
        (name, places)
    });
    let places = join_all(looks).await;
    observation.places.extend(places);
}

async fn ask<H: Host>(
    topology: &Topology,
    server: &ServerName,
    inquiry: &Inquiry,
    hosts: &BTreeMap<ServerName, Result<H, String>>,
    observation: &Observation,
) -> Result<Records, String> {
    let host = match hosts.get(server) {
        Some(Ok(host)) => host,
        Some(Err(why)) => return Err(why.clone()),
        None => return Err("there is no connection to it".to_owned()),
    };
    let layout = observation.server(server).and_then(|seen| seen.layout.known()).ok_or("its layout is not known")?;
    let version = topology.common().version.to_string();
    let place = [&version, &layout.os_user, &layout.bin_directory, &inquiry.library_path];
    let mut words: Vec<String> = place.map(String::clone).into();
    words.extend(arguments(&inquiry.questions));
    let output = host.probe(SCRIPT, &words).await.map_err(|error| error.to_string())?;
    Records::parse(&output.stdout)
        .map_err(|error| [&error.to_string(), ": ", String::from_utf8_lossy(&output.stderr).trim()].concat())
}

fn arguments(questions: &[Question]) -> impl Iterator<Item = String> {
    questions.iter().flat_map(|question| question.words().map(str::to_owned))
}

fn answer(records: &Records, number: usize) -> Observed<Place> {
    records.get(&["answer.", &number.to_string()].concat()).and_then(|text| {
        parse(&text).map_or_else(|| Observed::Unreadable(["not understood: ", &text].concat()), Observed::Known)
    })
}

fn parse(text: &str) -> Option<Place> {
    let mut lines = text.split('\n');
    let mut words = lines.next()?.split(' ');
    let kind = match words.next()? {
        "missing" => PlaceKind::Missing,
        "directory" => PlaceKind::Directory,
        "file" => PlaceKind::File,
        "dangling" => PlaceKind::Dangling,
        "other" => PlaceKind::Other,
        _ => return None,
    };
    let mut flag = || Some(words.next()? == "1");
    let (readable, writable, shared) = (flag()?, flag()?, flag()?);
    let is_looked_for = matches!(kind, PlaceKind::Missing | PlaceKind::Dangling);
    let nearest = lines.next().filter(|_| is_looked_for).unwrap_or_default().to_owned();
    let tablespace = text.rsplit_once('\n').map_or("", |(_, last)| last).to_owned();
    let tablespace =
        if kind == PlaceKind::Directory && tablespace.starts_with("PG_") { tablespace } else { String::new() };
    Some(Place { kind, readable, writable, shared, nearest, tablespace })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn run(search: &str, questions: &[Question]) -> Vec<Place> {
        let answers = answers(&std::env::var("PATH").unwrap(), search, questions);
        answers.iter().map(|answer| answer.known().unwrap().clone()).collect()
    }

    fn answers(path: &str, search: &str, questions: &[Question]) -> Vec<Observed<Place>> {
        script(SCRIPT, path, &me(), BIN, search, questions)
    }

    const BIN: &str = "/usr/lib/postgresql/15/bin";

    fn me() -> String {
        String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_owned()
    }

    fn run_as_instance(questions: &[Question]) -> Vec<Observed<Place>> {
        // PostgreSQL does not run as root.
        let user = if me() == "root" { "postgres".to_owned() } else { me() };
        script(SCRIPT, &std::env::var("PATH").unwrap(), &user, BIN, "", questions)
    }

    fn script(
        text: &str,
        path: &str,
        user: &str,
        bin: &str,
        search: &str,
        questions: &[Question],
    ) -> Vec<Observed<Place>> {
        let output = Command::new("/bin/sh")
            .env("PATH", path)
            .args(["-c", text, "pgstead-probe", "15", user, bin, search])
            .args(arguments(questions))
            .output()
            .unwrap();
        let records = Records::parse(&output.stdout).unwrap();
        (1..=questions.len()).map(|number| answer(&records, number)).collect()
    }

    /// The script is run for real.
    #[test]
    fn what_is_there_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::create_dir_all(at("space/PG_15_202209061")).unwrap();
        std::fs::create_dir_all(at("older/PG_13_202007201")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        std::fs::write(at("ours.so"), "").unwrap();
        std::os::unix::fs::symlink("/nowhere", at("link")).unwrap();
        let path = |name: &str| Question::Path(at(name));
        let all = ["space", "older", "file", "link", "not there/at all"].map(path);
        // Of what is no tablespace's place nothing is listed.
        let [logs] = <[Place; 1]>::try_from(run("", &[path("space")])).unwrap();
        assert_eq!((logs.kind, logs.tablespace.as_str()), (PlaceKind::Directory, ""));
        let all = all.map(|question| Question::Tablespace(question.words()[1].to_owned()));
        let [space, older, file, link, none] = <[Place; 5]>::try_from(run("", &all)).unwrap();
        assert_eq!((space.kind, space.tablespace.as_str()), (PlaceKind::Directory, "PG_15_202209061"));
        assert!(space.readable && space.writable);
        assert_eq!((older.kind, older.tablespace.as_str()), (PlaceKind::Directory, ""));
        assert_eq!((file.kind, link.kind, link.readable), (PlaceKind::File, PlaceKind::Dangling, false));
        let [behind] = <[Place; 1]>::try_from(run("", &[path("link/not/there")])).unwrap();
        assert_eq!((behind.kind, behind.nearest, behind.writable), (PlaceKind::Dangling, at("link"), false));
        assert_eq!(
            (none.kind, none.nearest.as_str(), none.writable),
            (PlaceKind::Missing, dir.path().to_str().unwrap(), true)
        );

        let others = ["ours", "$libdir/plpgsql", "plpgsql", "theirs"].map(|name| Question::Library(name.to_owned()));
        let kinds = |found: Vec<Place>| found.iter().map(|place| place.kind).collect::<Vec<_>>();
        let search = ["$libdir:", dir.path().to_str().unwrap()].concat();
        use PlaceKind::*;
        assert_eq!(kinds(run(&search, &others)), [File, File, File, Missing]);
        assert_eq!(kinds(run("$libdir", &others)), [Missing, File, File, Missing]);
        std::fs::create_dir(at("space/program")).unwrap();
        let programs = ["test", "/bin/sh", "not-there-at-all", &at("file"), &at("space/program")]
            .map(|name| Question::Program(name.to_owned()));
        let programs = run("", &programs);
        assert_eq!(programs.iter().map(|one| one.readable).collect::<Vec<_>>(), [true, true, false, false, false]);
        assert_eq!(kinds(programs), [File, File, Missing, File, File]);
        let gid = String::from_utf8(Command::new("id").arg("-g").output().unwrap().stdout).unwrap();
        let groups = ["root", "nobody-has-this", gid.trim(), "1987654321"].map(|name| Question::Group(name.to_owned()));
        let groups = run("", &groups);
        assert!(groups[2].readable, "{groups:?}");
        assert_eq!(kinds(groups), [File, Missing, File, Missing]);
    }

    /// A look that hangs, as on a file system whose server is gone, does not spoil the other answers.
    #[test]
    fn a_place_that_does_not_answer_is_the_only_one_unread() {
        let dir = tempfile::tempdir().unwrap();
        let slow = dir.path().join("sh");
        std::fs::write(&slow, "#!/bin/sh\ncase $4 in */slow) exec tail -f /dev/null ;; esac\nexec /bin/sh \"$@\"\n")
            .unwrap();
        std::fs::set_permissions(&slow, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let path = [dir.path().to_str().unwrap(), ":", &std::env::var("PATH").unwrap()].concat();
        let questions = ["/slow", "/"].map(|path| Question::Path(path.to_owned()));
        let answers = answers(&path, "", &questions);
        assert_eq!(answers[0].unreadable(), Some("it did not answer within 3 seconds"));
        assert_eq!(answers[1].known().unwrap().kind, PlaceKind::Directory);
    }

    /// However many values there are, PostgreSQL is run once more for each that it does not accept.
    #[test]
    fn values_that_postgres_does_not_accept_are_told_apart() {
        let value = |text: &str| Question::Value(text.to_owned());
        let good = ["work_mem=5MB", "max_connections=100", "log_timezone=UTC"].map(value);
        let bad = [
            "lc_messages=xx_XX",
            "timezone=Ours/Here",
            "shared_buffers=1",
            "wal_keep_segments=1",
            "log_statement_stats=on",
        ]
        .map(value);
        // Good by itself, and not beside another one.
        let all = [&[value("log_parser_stats=on")], good.as_slice(), bad.as_slice()].concat();
        let said = |all: &[Question]| -> Vec<String> {
            let kept = |place: Place| if place.kind == PlaceKind::File { String::new() } else { place.nearest };
            run_as_instance(all).into_iter().map(|answer| kept(answer.known().unwrap().clone())).collect()
        };
        assert!(said(&good).iter().all(String::is_empty), "{:?}", said(&good));
        let answers = said(&all);
        assert!(answers[..4].iter().all(String::is_empty), "{answers:?}");
        for (answer, word) in answers[4..].iter().zip([
            "\"lc_messages\": \"xx_XX\"",
            "\"TimeZone\": \"Ours/Here\"",
            "shared_buffers",
            "unrecognized configuration parameter \"wal_keep_segments\"",
            "\"log_statement_stats\"",
        ]) {
            assert!(answer.contains(word), "{answers:?}");
        }
        // Of two values of one parameter the one that is not accepted is told.
        assert_eq!(said(&["work_mem=5MB", "work_mem=banana"].map(value))[0], "");
        assert!(said(&["work_mem=5MB", "work_mem=banana"].map(value))[1].contains("banana"));
    }

    /// One limit counts for all values: nobody waits for each.
    #[test]
    fn a_postgres_that_does_not_answer_is_waited_for_once() {
        let dir = tempfile::tempdir().unwrap();
        let slow = dir.path().join("postgres");
        std::fs::write(&slow, "#!/bin/sh\nexec tail -f /dev/null\n").unwrap();
        std::fs::set_permissions(&slow, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let questions = ["a=1", "b=2", "c=3"].map(|text| Question::Value(text.to_owned()));
        let impatient = SCRIPT.replace("patience=12", "patience=2");
        let bin = dir.path().to_str().unwrap();
        let answers = script(&impatient, &std::env::var("PATH").unwrap(), &me(), bin, "", &questions);
        for answer in answers {
            assert_eq!(answer.unreadable(), Some("it did not answer within 2 seconds"));
        }
    }
}

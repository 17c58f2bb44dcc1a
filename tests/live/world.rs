//! Servers as people have them, and what is said when something there is not as it should be: on real hosts.

use pgstead::lab::hosts::Block;
use pgstead::lab::hosts::Release;

use crate::refusals::refused;
use crate::scenario::Scenario;

/// Whether the proof of a link has begun on a server.
const IS_PROVEN: &str =
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'pgstead' AND query ~ 'canary'";

/// What is told of a link that was waited for until its time was over.
const WAITED: &str = "Nothing moved for";

/// What a standby says in its log, and will not pass, ends the proof of its link: it is named, and not waited for.
#[test]
fn a_link_that_cannot_come_up_is_told_at_once() {
    let lab = Scenario::bootstrapped(Release::Bookworm, &["a", "b"]);
    // Nothing arrives until the proof has begun. What is not refused would arrive over the connection that is open, so that one
    // is ended before anything arrives again; the standby dials anew, and is refused.
    lab.host("b").block_arriving(Block::Drop, lab.host("a").address(), None).unwrap();
    let run = lab.start(&["bootstrap", "--yes", "--format", "json"]);
    lab.eventually("b", IS_PROVEN, "t");
    lab.sql("a", "ALTER ROLE replicator NOLOGIN");
    let receiver = lab.sql("b", "SELECT pid FROM pg_stat_wal_receiver");
    lab.run("b", &["kill", &receiver]);
    lab.eventually("b", &format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {receiver}"), "0");
    lab.host("b").unblock().unwrap();
    let ran = run.end().expect(7);
    let error = &ran.json()["error"];
    assert_eq!(error["code"], "link-not-proven", "{ran}");
    let detail = error["detail"].as_str().unwrap();
    assert!(!detail.contains(WAITED), "{detail}");
    assert!(detail.contains("The log of \"b\" says"), "{detail}");
    assert!(detail.contains("role \"replicator\" is not permitted to log in"), "{detail}");
    assert!(detail.contains("/var/log/postgresql/postgresql-15-main.log"), "{detail}");
    // The same line is what check tells, with its cause first.
    let check = lab.pgstead(&["check", "--format", "json"]).expect(7).json();
    let findings = check["findings"].as_array().unwrap();
    let told = findings.iter().find(|one| one["code"] == "no-sender").unwrap();
    assert!(told["detail"].as_str().unwrap().contains("is not permitted to log in"), "{check:#}");
    // Whether the new ALTER ROLE has reached "b", too, is chance: then no role may log in there either, which is a cause beside it.
    assert!(findings[0]["follows_from"].is_null() && told["follows_from"].is_object(), "{check:#}");
    assert!(check["next"].is_string(), "{check:#}");
    lab.sql("a", "ALTER ROLE replicator LOGIN");
    lab.eventually("a", "SELECT state FROM pg_stat_replication", "streaming");
    // A cron job that finds all well says nothing.
    let quiet = lab.pgstead(&["-q", "check"]).expect(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""), "{quiet}");
    lab.settled();
}

/// A standby that is promoted while its link is proven is an alarm, and no wait.
#[test]
fn a_standby_that_promotes_itself_is_told_at_once() {
    let lab = Scenario::bootstrapped(Release::Trixie, &["a", "b"]);
    // Nothing arrives, and nobody complains yet.
    lab.host("b").block_arriving(Block::Drop, lab.host("a").address(), None).unwrap();
    let run = lab.start(&["bootstrap", "--yes", "--format", "json"]);
    lab.eventually("b", IS_PROVEN, "t");
    lab.sql("b", "SELECT pg_promote()");
    let ran = run.end().expect(7);
    let error = &ran.json()["error"];
    assert_eq!(error["code"], "standby-promoted", "{ran}");
    assert!(!error["detail"].to_string().contains(WAITED), "{ran}");
    assert!(error["hint"].as_str().unwrap().contains("pgstead reseed b"), "{ran}");
}

/// Databases and roles are called what PostgreSQL lets them be called.
#[test]
fn databases_and_roles_have_names_of_people_on_15() {
    named(Release::Bookworm);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn databases_and_roles_have_names_of_people_on_17() {
    named(Release::Trixie);
}

fn named(release: Release) {
    const DATABASES: [&str; 4] = ["a=b", "postgresql://x", "Müller & Söhne", "\"q\" O'Brien.C"];
    const ROLE: &str = "Jörg \"x\" O'Brien";
    let mut lab = Scenario::bootstrapped(release, &["a", "b"]);
    let address = lab.host("b").address().to_string();
    lab.sql("a", "CREATE DATABASE \"a=b\"");
    lab.sql("a", "CREATE ROLE \"Jörg \"\"x\"\" O'Brien\" LOGIN PASSWORD 'only-here'");
    lab.edit(|inventory| {
        inventory["postgres"]["databases"] = DATABASES.into();
        let record = |database: &str| serde_json::json!({ "database": database, "user": ROLE, "address": format!("{address}/32") });
        inventory["postgres"]["hba"] = DATABASES.iter().map(|database| record(database)).collect();
    });
    lab.bootstrap();
    let found = lab.sql("a", "SELECT count(*) FROM pg_database WHERE datname IN ('a=b', 'postgresql://x', 'Müller & Söhne', '\"q\" O''Brien.C')");
    assert_eq!(found, "4");
    assert_eq!(lab.sql("a", "SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL"), "0");
    let host = format!("PGHOST={}", lab.host("a").address());
    for database in DATABASES {
        let (user, database) = (format!("PGUSER={ROLE}"), format!("PGDATABASE={database}"));
        let words = [
            "env",
            &host,
            &user,
            &database,
            "PGPASSWORD=only-here",
            "PGSSLMODE=require",
            "psql",
            "-XAtqw",
            "-c",
            "SELECT 1",
        ];
        assert_eq!(lab.run("b", &words).trim(), "1", "{database}");
    }
    let deep = lab.pgstead(&["check", "--deep", "--format", "json"]);
    let findings = deep.json()["findings"].as_array().unwrap().clone();
    let missing = findings.iter().find(|finding| finding["code"] == "amcheck-missing").unwrap();
    let told = missing["message"].as_str().unwrap();
    assert!(DATABASES.iter().all(|database| told.contains(database)), "each was asked by its name: {deep}");
    assert!(!deep.codes().contains(&"amcheck-failed".to_owned()), "{deep}");
    lab.settled();
}

/// A login that prints is no obstacle, and neither is a server that forwards nothing.
#[test]
fn ssh_as_administrators_leave_it_on_15() {
    ssh(Release::Bookworm);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn ssh_as_administrators_leave_it_on_18() {
    ssh(Release::Forky);
}

fn ssh(release: Release) {
    let mut lab = Scenario::bootstrapped(release, &["a", "b"]);
    let print = "printf 'Welcome to %s\\nno end of line' \"$(uname -n)\"";
    lab.run(
        "b",
        &[
            "sh",
            "-c",
            "printf '%s\\n' \"$1\" | cat - /root/.bashrc >/root/.bashrc.new; mv /root/.bashrc.new /root/.bashrc",
            "sh",
            print,
        ],
    );
    lab.sshd("a", "recorder", "ForceCommand sh -c \"$SSH_ORIGINAL_COMMAND\"; echo recorded: goodbye\n");
    lab.pgstead(&["check"]).expect(0);
    lab.settled();
    lab.sshd("b", "hardened", "AllowTcpForwarding no\n");
    lab.edit(|inventory| inventory["postgres"]["parameters"]["work_mem"] = "5MB".into());
    // Sessions go through a program on the server; without one it is refused before anything is changed.
    const HIDE: &str = "for program in perl python3; do [ ! -e /usr/bin/$program ] || mv /usr/bin/$program /usr/bin/$program.away; done";
    const SHOW: &str = "for program in perl python3; do [ ! -e /usr/bin/$program.away ] || mv /usr/bin/$program.away /usr/bin/$program; done";
    lab.run("b", &["sh", "-c", HIDE]);
    let ran = lab.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(5);
    let error = &ran.json()["error"];
    assert_eq!((error["code"].as_str(), error["server"].as_str()), (Some("ssh-forwarding-off"), Some("b")), "{ran}");
    assert_eq!(lab.sql("a", "SHOW work_mem"), "4MB", "nothing was changed");
    lab.run("b", &["sh", "-c", SHOW]);
    lab.bootstrap();
    assert_eq!(lab.sql("b", "SHOW work_mem"), "5MB");
    lab.settled();
    let ran = lab.pgstead(&["check", "--format", "json"]).expect(0);
    assert!(!ran.codes().contains(&"asked-by-socket".to_owned()), "it is asked over TLS: {ran}");
    let moved = lab.pgstead(&["switchover", "--to", "b", "--yes", "--format", "json"]).expect(0);
    assert_eq!(lab.sql("b", "SELECT pg_is_in_recovery()"), "f", "{moved}");
    lab.pgstead(&["switchover", "--to", "a", "--yes", "--format", "json"]).expect(0);
    lab.sshd("b", "hardened", "");
    lab.settled();
}

/// A sudo that wants a terminal says so in its own words; with the way out that is named a bootstrap goes through.
#[test]
fn a_sudo_that_wants_a_terminal_is_named() {
    let mut lab = Scenario::boot(Release::Trixie, &["a", "b"]);
    lab.edit(|inventory| inventory["ssh"]["user"] = "ops".into());
    lab.host("b").write_file("/etc/sudoers.d/hardened", b"Defaults requiretty\n").unwrap();
    let ran = refused(&lab, "requiretty", &["bootstrap", "--yes", "--format", "json"], 5, &[("no-root", "b")]);
    let error = &ran.json()["error"];
    let (detail, hint) = (error["detail"].as_str().unwrap(), error["hint"].as_str().unwrap());
    // What sudo says is asked of it here, over a session without a terminal as ours are.
    let said = lab.run("b", &["sh", "-c", "runuser -u ops -- setsid sudo -n true 2>&1 </dev/null || :"]);
    assert!(said.contains("tty") && detail.contains(said.trim()), "{said:?}: {ran}");
    let way = "Defaults:ops !requiretty";
    assert!(hint.contains("/etc/sudoers.d/pgstead") && hint.ends_with(way), "{ran}");
    let status = lab.pgstead(&["status"]).expect(0);
    assert!(!status.stdout.contains("unreachable"), "{status}");
    lab.host("b").write_file("/etc/sudoers.d/pgstead", format!("{way}\n").as_bytes()).unwrap();
    lab.bootstrap();
    lab.streams("a", &["b"]);
    assert_eq!(lab.sql("b", "SELECT pg_is_in_recovery()"), "t");
    lab.settled();
}

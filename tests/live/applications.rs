//! An application gets its role and database from the inventory, and works with what pgstead tells it: on real hosts.
//!
//! The application is psql on a host that is no server of the topology.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::scenario::Scenario;
use crate::secrets::contains;
use crate::secrets::found_on;
use crate::secrets::watch_processes;
use crate::switchover::Writer;
use crate::switchover::Written;
use crate::switchover::hand_over;
use crate::switchover::is_primary;
use crate::switchover::nothing_is_lost;

/// Names as PostgreSQL takes them, of which each means something to psql, a shell, a file system or a connection string.
const ODD_ROLE: &str = "../o'b \"x\"; \\q $do$ :app";
const ODD_DATABASE: &str = "a=b host='x' \"$(c)\" \\! %s";

const SERVERS: [&str; 3] = ["a", "b", "c"];

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn an_application_works_with_what_it_is_told_on_15() {
    an_application(Release::Bookworm);
}

#[test]
fn an_application_works_with_what_it_is_told_on_17() {
    an_application(Release::Trixie);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn an_application_works_with_what_it_is_told_on_18() {
    an_application(Release::Forky);
}

/// Runs psql as the application, on a host.
fn psql(lab: &Scenario, host: &str, string: &str, sql: &str) -> Result<String, String> {
    let argv = ["env", "PGPASSFILE=/run/app.pass", "psql", string, "-XAtqw", "-v", "ON_ERROR_STOP=1", "-c", sql];
    let output = lab.host(host).exec(&argv).unwrap();
    let said = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    if output.status.success() { Ok(said(output.stdout)) } else { Err(said(output.stderr)) }
}

fn an_application(release: Release) {
    let mut lab = Scenario::boot(release, &["a", "b", "c", "d"]);
    let client = format!("{}/32", lab.host("d").address());
    lab.edit(|inventory| {
        inventory["servers"].as_object_mut().unwrap().remove("d");
        inventory["postgres"]["parameters"]["log_statement"] = json!("all");
        inventory["postgres"]["databases"] = json!(["app", ODD_DATABASE]);
        inventory["postgres"]["roles"] = json!({
            "app": { "owns": ["app"], "password": "generated", "connection_limit": 20, "member_of": ["readers"] },
            "readers": { "login": false, "member_of": ["pg_monitor"] },
            "report": { "login": false, "reads": ["app", ODD_DATABASE] },
            ODD_ROLE: { "owns": [ODD_DATABASE], "password": "generated" },
            "clerk": { "login": false, "uses": ["app"] },
        });
        inventory["postgres"]["hba"] = json!([{ "database": "app", "user": "app", "address": client }]);
    });
    let (mut seen, stop) = (BTreeSet::new(), AtomicBool::new(false));
    let mut said = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| watch_processes(&mut seen, &stop));
        // Judged when nobody watches any more: a panic here would wait for the watch, and that for its end.
        let mut run = |args: &[&str]| said.push(lab.pgstead(args));
        run(&["plan", "-v", "--format", "json"]);
        run(&["bootstrap", "--yes", "-v", "--format", "json"]);
        run(&["plan", "-v"]);
        stop.store(true, Ordering::Relaxed);
    });
    let said: Vec<String> = said.into_iter().map(|ran| ran.expect(0).to_string()).collect();
    let kept = lab.state().join("role.app.password");
    let password = std::fs::read_to_string(&kept).unwrap();
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o7777, 0o600);

    // The server has a verifier, and what the inventory says.
    let role = "SELECT rolcanlogin, rolsuper, rolconnlimit, rolpassword ~ '^SCRAM-SHA-256[$]4096:', \
        pg_has_role(oid, 'readers', 'member') FROM pg_authid WHERE rolname = 'app'";
    assert_eq!(lab.sql("a", role), "t|f|20|t|t");
    assert_eq!(lab.sql("a", "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'readers'"), "f");
    assert_eq!(lab.sql("a", "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'app'"), "app");

    let owners = "SELECT string_agg(datname || ' of ' || pg_get_userbyid(datdba), ', ' ORDER BY datname) FROM pg_database WHERE datname NOT LIKE 'template%' AND datname <> 'postgres'";
    assert_eq!(lab.sql("a", owners), format!("{ODD_DATABASE} of {ODD_ROLE}, app of app"));
    let n_files = std::fs::read_dir(lab.state())
        .unwrap()
        .flatten()
        .filter(|file| file.file_name().to_string_lossy().starts_with("role."))
        .count();
    assert_eq!(n_files, 2, "a password of each role that logs in, and in the state directory");

    // The application is its database's owner, also in schema public, and goes on through a switchover with one string.
    lab.host("d").write_file("/run/app.ca", &std::fs::read(lab.state().join("ca.crt")).unwrap()).unwrap();
    for host in ["c", "d"] {
        lab.host(host).write_file("/run/app.pass", format!("*:*:*:app:{password}\n").as_bytes()).unwrap();
        lab.run(host, &["chmod", "600", "/run/app.pass"]);
    }
    let told = lab.pgstead(&["conninfo", "--for", "psql", "--sslrootcert", "/run/app.ca"]).expect(0).stdout;
    let line =
        |what: &str| told.lines().find_map(|line| Some(line.trim().strip_prefix(what)?.trim().to_owned())).unwrap();
    let (string, read_only) = (line("read-write"), line("read-only"));
    assert!(told.contains(&format!("keeps it in {}.", kept.display())), "{told}");
    psql(&lab, "d", &string, "CREATE TABLE public.ledger (id bigserial PRIMARY KEY)").unwrap();
    assert_eq!([may(&lab, "a", "report"), may(&lab, "a", "clerk")], ["t f f", "t t t"], "on a table that came later");
    let session = "SELECT current_user, ssl, inet_client_addr() FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(psql(&lab, "d", &string, session), Ok(format!("app|t|{}", lab.host("d").address())));
    for string in [read_only, psycopg(&lab, "read_only")] {
        assert_eq!(psql(&lab, "d", &string, "SELECT pg_is_in_recovery()"), Ok("t".to_owned()), "{string}");
    }
    let writer = Writer::with(&lab, "d", &string);
    hand_over(&lab, "a", "b");
    is_primary(&lab, "b", &["a", "c"]);
    writer.goes_on();
    let Written { acknowledged, longest_gap_ms } = writer.end();
    println!("{} rows, longest gap {longest_gap_ms} ms", acknowledged.len());
    nothing_is_lost(&lab, &acknowledged, &SERVERS);
    assert_eq!(
        lab.host("b").psql(lab.port, "app", "SELECT tableowner FROM pg_tables WHERE tablename = 'ledger'").unwrap(),
        "app"
    );

    // It gets another password, and the former one opens no more.
    let ran = lab.pgstead(&["rotate", "passwords", "app", "--yes", "--format", "json"]).expect(0);
    assert!(ran.codes().contains(&"password-changes".to_owned()), "{ran}");
    let refused = psql(&lab, "d", &string, "SELECT 1").unwrap_err();
    assert!(refused.contains("password authentication failed"), "{refused}");
    let another = std::fs::read_to_string(&kept).unwrap();
    assert_ne!(another, password);
    lab.host("d").write_file("/run/app.pass", format!("*:*:*:app:{another}\n").as_bytes()).unwrap();
    assert_eq!(psql(&lab, "d", &string, "SELECT 1"), Ok("1".to_owned()));

    // From elsewhere nobody is let in with it, and with another password nobody is at all.
    lab.run("c", &["cp", "/var/lib/pgstead/lab/c/ca.crt", "/run/app.ca"]);
    let refused = psql(&lab, "c", &string, "SELECT 1").unwrap_err();
    assert!(refused.contains("no pg_hba.conf entry"), "{refused}");
    lab.host("d").write_file("/run/app.pass", b"*:*:*:app:another\n").unwrap();
    let refused = psql(&lab, "d", &string, "SELECT 1").unwrap_err();
    assert!(refused.contains("password authentication failed"), "{refused}");

    // The password is where the operator keeps it, and nowhere else; nor is the verifier in a log.
    lab.run("c", &["rm", "/run/app.pass"]);
    assert!(!seen.iter().any(|text| contains(text, &password)), "in a process list");
    assert!(!said.iter().any(|text| text.contains(&password)), "in what pgstead said");
    assert!(!std::fs::read_to_string(lab.state().join("journal.jsonl")).unwrap().contains(&password), "in the journal");
    for server in SERVERS {
        assert_eq!(found_on(&lab, server, &format!("{password}\n{another}\n")), "", "on {server}");
        let log = lab.run(server, &["sh", "-c", "cat /var/log/postgresql/*"]);
        assert!(!log.contains("SCRAM-SHA-256$"), "{server}: {log}");
        assert!(server != "a" || log.contains("CREATE TABLE public.ledger"), "a logs every statement: {log}");
    }
    lab.settled();
    // Who has lost the password leaves the role as it is: the application has it.
    std::fs::remove_file(&kept).unwrap();
    let verifier = "SELECT rolpassword FROM pg_authid WHERE rolname = 'app'";
    let before = lab.sql("b", verifier);
    lab.bootstrap();
    assert_eq!((lab.sql("b", verifier), kept.exists()), (before, false));
    let string = psycopg(&lab, "read_write");
    others_passwords(&mut lab, &string);
}

/// Whether a role may read and write the application's rows, and take numbers of its sequence.
fn may(lab: &Scenario, host: &str, role: &str) -> String {
    let sql = format!(
        "SELECT concat_ws(' ', has_table_privilege('{role}', 'ledger', 'SELECT'), has_table_privilege('{role}', 'ledger', 'INSERT') \
         AND has_table_privilege('{role}', 'ledger', 'DELETE'), has_sequence_privilege('{role}', 'ledger_id_seq', 'USAGE'))"
    );
    lab.host(host).psql(lab.port, "app", &sql).unwrap()
}

/// The string for psycopg, which hands it to libpq.
fn psycopg(lab: &Scenario, what: &str) -> String {
    let ask = ["conninfo", "--for", "psycopg", "--role", "app", "--sslrootcert", "/run/app.ca", "--format", "json"];
    let told = lab.pgstead(&ask).expect(0).json();
    told["databases"][0]["for"][what].as_str().unwrap().to_owned()
}

/// The operator keeps passwords elsewhere: in a file, and where a program prints them. "b" is the primary.
fn others_passwords(lab: &mut Scenario, string: &str) {
    // A server's own verifier is one of the password, whatever letters it has.
    lab.sql("b", "CREATE ROLE made LOGIN PASSWORD 'pässwörd Ⅸ'");
    let beside = |name: &str| lab.path().with_file_name(name);
    let (file, program) = (beside("secret"), beside("vault"));
    std::fs::write(&file, "kept in a file\n").unwrap();
    std::fs::write(&program, "#!/bin/sh\necho 'pässwörd Ⅸ'\n").unwrap();
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&program, 0o755);
    mode(&file, 0o644);
    lab.edit(|inventory| {
        let roles = &mut inventory["postgres"]["roles"];
        roles["app"]["password"] = json!({ "file": "secret" });
        roles["app"]["connection_limit"] = json!(30);
        roles["report"] = json!({ "login": false, "uses": ["app"], "reads": [ODD_DATABASE] });
        roles["clerk"] = json!({ "login": false, "reads": ["app"] });
        roles["made"] = json!({ "password": { "command": ["./vault"] } });
    });
    let verifiers = "SELECT string_agg(rolpassword, ' ' ORDER BY rolname) FROM pg_authid";
    let before = lab.sql("b", verifiers);
    // A source that gives none is in the way of nothing: the role has a password.
    let told = lab.pgstead(&["plan"]).expect(0);
    assert!(told.to_string().contains("[password-source]") && !told.to_string().contains("another password"), "{told}");
    assert_eq!(lab.sql("b", verifiers), before);

    mode(&file, 0o600);
    // What others make, and what they have given, stays as it is.
    let in_app = |lab: &Scenario, sql: &str| lab.host("b").psql(lab.port, "app", sql).unwrap();
    in_app(lab, "CREATE TABLE theirs (); CREATE TABLE shared (); GRANT INSERT ON shared TO clerk");
    let plan = lab.pgstead(&["plan", "--format", "json"]).expect(0).json();
    let titles: Vec<&str> =
        plan["steps"].as_array().unwrap().iter().map(|step| step["title"].as_str().unwrap()).collect();
    let wanted = [
        "alter role app: connection limit from 20 to 30, another password",
        "let clerk read database app, and write it no more",
        "let report write database app, too",
    ];
    assert_eq!(titles, wanted);
    lab.bootstrap();
    assert_eq!(lab.sql("b", "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'app'"), "30");
    assert_eq!([may(lab, "b", "report"), may(lab, "b", "clerk")], ["t t t", "t f f"]);
    let others = "SELECT has_table_privilege('report', 'theirs', 'SELECT'), has_table_privilege('clerk', 'theirs', 'SELECT'), \
        has_table_privilege('clerk', 'shared', 'INSERT')";
    assert_eq!(in_app(lab, others), "f|f|t");
    lab.host("d").write_file("/run/app.pass", b"*:*:*:app:kept in a file\n").unwrap();
    assert_eq!(psql(lab, "d", string, "SELECT pg_is_in_recovery()"), Ok("f".to_owned()));
    lab.settled();
}

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
        inventory["postgres"]["databases"] = json!(["app"]);
        inventory["postgres"]["roles"] = json!({
            "app": { "owns": ["app"], "password": "generated", "connection_limit": 20, "member_of": ["readers"] },
            "readers": { "login": false, "member_of": ["pg_monitor"] },
        });
        inventory["postgres"]["hba"] = json!([{ "database": "app", "user": "app", "address": client }]);
    });
    let (mut seen, stop) = (BTreeSet::new(), AtomicBool::new(false));
    let mut said = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| watch_processes(&mut seen, &stop));
        let mut run = |args: &[&str]| said.push(lab.pgstead(args).expect(0).to_string());
        run(&["plan", "-v", "--format", "json"]);
        run(&["bootstrap", "--yes", "-v", "--format", "json"]);
        run(&["plan", "-v"]);
        stop.store(true, Ordering::Relaxed);
    });
    let kept = lab.state().join("role.app.password");
    let password = std::fs::read_to_string(&kept).unwrap();
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o7777, 0o600);

    // The server has a verifier, and what the inventory says.
    let role = "SELECT rolcanlogin, rolsuper, rolconnlimit, rolpassword ~ '^SCRAM-SHA-256[$]4096:', \
        pg_has_role(oid, 'readers', 'member') FROM pg_authid WHERE rolname = 'app'";
    assert_eq!(lab.sql("a", role), "t|f|20|t|t");
    assert_eq!(lab.sql("a", "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'readers'"), "f");
    assert_eq!(lab.sql("a", "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'app'"), "app");

    // The application is its database's owner, also in schema public, and goes on through a switchover with one string.
    lab.host("d").write_file("/run/app.ca", &std::fs::read(lab.state().join("ca.crt")).unwrap()).unwrap();
    for host in ["c", "d"] {
        lab.host(host).write_file("/run/app.pass", format!("*:*:*:app:{password}\n").as_bytes()).unwrap();
        lab.run(host, &["chmod", "600", "/run/app.pass"]);
    }
    let told =
        lab.pgstead(&["conninfo", "--user", "app", "--sslrootcert", "/run/app.ca", "--format", "json"]).expect(0);
    let string = told.json()["databases"][0]["uri"].as_str().unwrap().to_owned();
    assert!(string.contains("sslmode=verify-full"), "{string}");
    psql(&lab, "d", &string, "CREATE TABLE public.ledger (id bigserial PRIMARY KEY)").unwrap();
    let session = "SELECT current_user, ssl, inet_client_addr() FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(psql(&lab, "d", &string, session), Ok(format!("app|t|{}", lab.host("d").address())));
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
        assert_eq!(found_on(&lab, server, &format!("{password}\n")), "", "on {server}");
        let log = lab.run(server, &["sh", "-c", "cat /var/log/postgresql/*"]);
        assert!(!log.contains("SCRAM-SHA-256$"), "{server}: {log}");
        assert!(server != "a" || log.contains("CREATE TABLE public.ledger"), "a logs every statement: {log}");
    }
    lab.settled();
}

//! What a primary that people bring has in its files, its databases and its environment, and what its clients obey, does
//! nothing to its standbys and nothing to pgstead. What wins over every file is refused, and nothing was changed then.
//!
//! What holds on the hosts is read there with psql, from files and from the end of the log.

use std::time::Instant;

use pgstead::lab::hosts::Release;

use crate::adoption::Existing;
use crate::adoption::own_wishes_only;
use crate::refusals::refused;
use crate::scenario::Scenario;
use crate::scenario::chain;
use crate::scenario::until;
use crate::switchover::SOON;
use crate::switchover::there_and_back_again;

/// Settings of a former life: they do nothing on a primary.
const FORMER_LIFE: &str = "recovery_target_name = 'before_the_upgrade'\nrecovery_target_action = promote\n\
    recovery_end_command = 'touch /tmp/ended'\narchive_cleanup_command = 'touch /tmp/cleaned'\n\
    recovery_min_apply_delay = '1h'\nprimary_conninfo = 'host=192.0.2.1 user=old password=s3cret'\n\
    primary_slot_name = 'old'\nwal_retrieve_retry_interval = '1h'\n";

/// What clients are to obey, and values that the server shows otherwise than they are written.
const FOR_CLIENTS: &str = "default_transaction_read_only = on\ndefault_transaction_isolation = serializable\n\
    default_transaction_deferrable = on\nstatement_timeout = '150ms'\nlock_timeout = '50ms'\n\
    idle_session_timeout = '300ms'\nidle_in_transaction_session_timeout = '100ms'\nclient_min_messages = log\n\
    search_path = 'nowhere'\nDateStyle = 'SQL, DMY'\nIntervalStyle = sql_standard\nbytea_output = escape\n\
    row_security = off\nlog_timezone = 'utc'\nrecovery_prefetch = true\narchive_command = 'cp %p /nowhere/%f'\n\
    autovacuum_naptime = '60 s'\nsome_extension.place = 'X'\n";

/// Variables of libpq that somebody left for everybody on the machine.
const ENVIRONMENT: &str = "PGSERVICE=elsewhere\nPGHOSTADDR=192.0.2.1\nPGTARGETSESSIONATTRS=read-write\nPGREQUIREAUTH=gss\n\
    PGGSSENCMODE=require\nPGCHANNELBINDING=require\nPGSSLNEGOTIATION=direct\nPGSSLMODE=verify-full\nPGUSER=nobody\n\
    PGOPTIONS='-c work_mem=banana'\nPGCLIENTENCODING=LATIN1\nPGDATABASE=nowhere\n";

/// What the superuser's sessions, and those in the database that pgstead works in, are to obey besides.
const OF_US: [&str; 4] = [
    "SET default_transaction_read_only = off; ALTER ROLE postgres SET client_encoding = 'LATIN1'",
    "SET default_transaction_read_only = off; ALTER ROLE postgres SET search_path = 'nowhere'",
    "SET default_transaction_read_only = off; ALTER DATABASE postgres SET extra_float_digits = '-15'",
    "SET default_transaction_read_only = off; ALTER ROLE postgres IN DATABASE postgres SET IntervalStyle = 'iso_8601'",
];

/// A trigger that lets nobody make anything, and one that writes whenever pgstead logs in.
const NO_DDL: &str = "SET default_transaction_read_only = off; CREATE FUNCTION public.no() RETURNS event_trigger LANGUAGE plpgsql AS \
    $$BEGIN RAISE EXCEPTION 'nobody makes anything here'; END$$; CREATE EVENT TRIGGER no_ddl ON ddl_command_start \
    EXECUTE FUNCTION public.no()";
const AT_LOGIN: &str = "SET default_transaction_read_only = off; CREATE TABLE public.logins (who text); \
    GRANT INSERT ON public.logins TO public; CREATE FUNCTION public.note() RETURNS event_trigger LANGUAGE plpgsql AS \
    $$BEGIN IF session_user = 'pgstead' THEN INSERT INTO public.logins VALUES (session_user); END IF; END$$; \
    CREATE EVENT TRIGGER note_logins ON login EXECUTE FUNCTION public.note()";

#[test]
fn what_a_primary_brings_along_acts_on_nobody_on_15() {
    acts_on_nobody(Release::Bookworm);
}

#[test]
#[ignore = "plays on 15 and 18 in every run, on all releases in make soak"]
fn what_a_primary_brings_along_acts_on_nobody_on_17() {
    acts_on_nobody(Release::Trixie);
}

#[test]
fn what_a_primary_brings_along_acts_on_nobody_on_18() {
    acts_on_nobody(Release::Forky);
}

/// Files of the operator's that are in no encoding of today: a word in Latin-1 in each.
#[test]
fn files_that_are_not_utf_8_keep_every_byte() {
    const RELEASE: Release = Release::Trixie;
    const FILES: [&str; 4] = ["postgresql.conf", "pg_hba.conf", "pg_ident.conf", "conf.d/tuning.conf"];
    let mut lab = Scenario::boot(RELEASE, &["a", "b"]);
    own_wishes_only(&mut lab);
    let existing = Existing::on_debian(&lab, RELEASE, true);
    for file in FILES {
        lab.run("a", &["sh", "-c", r#"printf '# f\374r alle\n' >>"$1""#, "sh", &existing.path(file)]);
    }
    lab.run("a", &["systemctl", "reload", &existing.unit]);
    lab.bootstrap();
    lab.streams("a", &["b"]);
    lab.settled();
    there_and_back_again(&lab);
    for (server, file) in ["a", "b"].into_iter().flat_map(|server| FILES.map(|file| (server, file))) {
        let path = existing.path(file);
        let count = r#"LC_ALL=C grep -c "^# f$(printf '\374')r alle$" "$1""#;
        let lines = lab.run(server, &["sh", "-c", count, "sh", &path]);
        assert_eq!(lines.trim(), "1", "{path} of {server}");
    }
}

/// Directories that the primary names, and that no server has by itself: a standby starts, other users reach its socket there,
/// and that it could archive nothing as the primary is told before it is one.
#[test]
fn directories_that_a_primary_names_are_made_or_told() {
    const RELEASE: Release = Release::Bookworm;
    const ELSEWHERE: &str = "unix_socket_directories = '/var/run/postgresql, /srv/sockets'\narchive_mode = on\n\
        archive_command = 'test ! -f /srv/archive/%f && cp %p /srv/archive/%f'\n";
    let mut lab = Scenario::boot(RELEASE, &["a", "b"]);
    own_wishes_only(&mut lab);
    let existing = Existing::on_debian(&lab, RELEASE, true);
    lab.run("a", &["install", "-d", "-o", "postgres", "/srv/sockets", "/srv/archive"]);
    write(&lab, "a", &existing.path("conf.d/elsewhere.conf"), ELSEWHERE);
    lab.run("a", &["systemctl", "restart", &existing.unit]);
    let plan = lab.pgstead(&["plan", "--format", "json"]).expect(0).json();
    let notes: Vec<&str> =
        plan["notes"].as_array().unwrap().iter().filter_map(|note| note["message"].as_str()).collect();
    for named in ["unix_socket_directories names /srv/sockets", "archive_command names /srv/archive"] {
        assert!(notes.iter().any(|note| note.contains(named)), "{named}: {notes:#?}");
    }
    lab.bootstrap();
    lab.streams("a", &["b"]);
    let from_there = ["runuser", "-u", "nobody", "--", "/usr/lib/postgresql/15/bin/pg_isready", "-h", "/srv/sockets"];
    lab.run("b", &from_there);
    let missing = |told: bool| {
        let check = lab.pgstead(&["check", "--format", "json"]).expect(0);
        assert_eq!(check.codes().contains(&"archive-directory-missing".to_owned()), told, "{check}");
    };
    missing(true);
    lab.run("b", &["install", "-d", "-o", "postgres", "/srv/archive"]);
    missing(false);
    lab.settled();
}

/// Where no question of the test's own is ended for its time: what clients obey here is too short for a busy machine.
const UNHURRIED: &str = "dbname=postgres options='-c default_transaction_isolation=read\\\\ committed -c statement_timeout=0 \
    -c lock_timeout=0 -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0'";
/// The same where there is one more.
const UNHURRIED_FROM_17: &str = "dbname=postgres options='-c default_transaction_isolation=read\\\\ committed \
    -c statement_timeout=0 -c lock_timeout=0 -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0 \
    -c transaction_timeout=0'";

fn acts_on_nobody(release: Release) {
    let mut lab = Scenario::boot(release, &["a", "b"]);
    lab.database = if release == Release::Bookworm { UNHURRIED } else { UNHURRIED_FROM_17 };
    own_wishes_only(&mut lab);
    lab.edit(|inventory| inventory["replication"]["authentication"] = "scram-sha-256".into());
    let existing = Existing::on_debian(&lab, release, true);
    let is_15 = release == Release::Bookworm;
    let of_release = match release {
        Release::Bookworm => "promote_trigger_file = '/tmp/promote'\n",
        Release::Trixie => "transaction_timeout = '150ms'\n",
        Release::Forky | Release::Experimental => {
            "transaction_timeout = '150ms'\nidle_replication_slot_timeout = '1min'\n"
        }
    };
    write(&lab, "a", &existing.path("conf.d/former.conf"), &[FORMER_LIFE, FOR_CLIENTS, of_release].concat());
    for name in ["a", "b"] {
        write(&lab, name, "/etc/environment", ENVIRONMENT);
    }
    if !is_15 {
        lab.sql("a", AT_LOGIN);
    }
    lab.sql("a", NO_DDL);
    for of_us in OF_US {
        lab.sql("a", of_us);
    }
    lab.run("a", &["systemctl", "restart", &existing.unit]);
    assert_eq!(lab.sql("a", "SHOW recovery_target_name"), "before_the_upgrade");
    for set in [
        "primary_conninfo = 'host=192.0.2.1 user=old password=s3cret'",
        "recovery_target_time = '2020-01-01 00:00:00+00'",
        "synchronous_standby_names = 'old'",
    ] {
        lab.sql("a", &format!("ALTER SYSTEM SET {set}"));
    }
    lab.sql("a", "SELECT pg_reload_conf()");

    // What wins over every file is refused, by a preflight as by a bootstrap, and what it holds is no secret of ours to tell.
    let overridden = [("setting-overridden", "a"), ("sync-names-foreign", "a")];
    let bootstrap = ["bootstrap", "--yes", "--format", "json"];
    let told = refused(&lab, "settings of a former life", &bootstrap, 5, &overridden);
    for word in ["primary_conninfo", "recovery_target_time", "postgresql.auto.conf line ", "password=********", "RESET"]
    {
        assert!(told.stdout.contains(word), "{word}: {told}");
    }
    let preflight = lab.pgstead(&["preflight", "--format", "json"]);
    for told in [&told, &preflight] {
        assert!(!told.to_string().contains("s3cret"), "{told}");
    }
    for code in ["setting-overridden", "sync-names-foreign"] {
        assert!(preflight.codes().contains(&code.to_owned()), "{preflight}");
    }
    for name in ["primary_conninfo", "recovery_target_time", "synchronous_standby_names"] {
        lab.sql("a", &format!("ALTER SYSTEM RESET {name}"));
    }
    // A server goes on saying that it waits for a restart, although nothing differs any more.
    lab.run("a", &["systemctl", "restart", &existing.unit]);

    let plan = lab.pgstead(&["plan", "--format", "json"]).expect(0).json();
    let notes = plan["notes"].as_array().unwrap();
    let warned: Vec<&str> = notes
        .iter()
        .filter(|note| note["code"] == "standby-setting")
        .map(|note| note["detail"].as_str().unwrap())
        .collect();
    // One more on 15, and another one on 18.
    assert_eq!(warned.len(), if release == Release::Trixie { 5 } else { 6 }, "{notes:#?}");
    assert!(warned.iter().all(|detail| detail.contains("conf.d/former.conf line ")), "{warned:#?}");
    lab.bootstrap();
    lab.streams("a", &["b"]);
    for (name, neutral) in [
        ("recovery_target_name", ""),
        ("recovery_min_apply_delay", "0"),
        ("primary_slot_name", "b"),
        ("wal_retrieve_retry_interval", "5s"),
    ] {
        assert_eq!(lab.sql("b", &format!("SHOW {name}")), neutral, "{name}");
    }
    if is_15 {
        lab.run("b", &["touch", "/tmp/promote"]);
    }
    if release.postgres_major() >= 18 {
        // The slot of a standby that stays away is kept, whoever is the primary.
        assert_eq!(
            lab.sql("a", "SHOW idle_replication_slot_timeout") + &lab.sql("b", "SHOW idle_replication_slot_timeout"),
            "00"
        );
    }
    let of_others = "SELECT count(*) > 0 FROM public.pg_stat_statements WHERE query ~ 'CREATE EVENT TRIGGER'";
    assert_eq!(lab.sql("a", of_others), "t");
    let verifiers = "SELECT count(*) FROM public.pg_stat_statements WHERE query ~ 'SCRAM-SHA-256[$]'";
    assert_eq!(lab.sql("a", verifiers), "0");
    // What clients obey they obey as before, on the copy, too.
    for name in ["a", "b"] {
        for (setting, value) in [("statement_timeout", "150ms"), ("default_transaction_read_only", "on")] {
            let mut shown = String::new();
            until(Instant::now() + SOON, || {
                let show = format!("SHOW {setting}");
                shown = lab.host(name).psql(lab.port, "postgres", &show).unwrap_or_else(|error| chain(&error));
                shown == value
            });
            assert_eq!(shown, value, "{name} {setting}");
        }
    }
    lab.settled();
    // Of the operator's files, pgstead's parts alone are compared.
    let diff = lab.pgstead(&["render", "--diff"]).expect(0);
    assert!(!diff.stdout.contains("do not touch") && !diff.stdout.contains("max_connections = 123"), "{diff}");
    there_and_back_again(&lab);
    let check = lab.pgstead(&["check", "--format", "json"]).expect(0);
    assert!(!check.codes().contains(&"not-served".to_owned()), "{check}");
    assert_eq!(lab.sql("b", "SELECT pg_is_in_recovery()"), "t");
    for name in ["a", "b"] {
        let traces = lab.run(name, &["sh", "-c", "ls /tmp/ended /tmp/cleaned 2>/dev/null || :"]);
        assert_eq!(traces, "", "a command of a former life ran on {name}");
    }
    if !is_15 {
        assert_eq!(lab.sql("a", "SELECT count(*) FROM public.logins"), "0");
    }
    // It is in force for everybody else.
    let made =
        lab.host("a").psql(lab.port, "postgres", "SET default_transaction_read_only = off; CREATE TABLE public.t ()");
    assert!(made.is_err_and(|error| format!("{error:?}").contains("nobody makes anything here")));

    // The standby is promoted, whatever ends statements of others after 150 ms, and needs no restart for it.
    lab.host("a").signal_postmaster(&format!("/var/lib/postgresql/{}/main", release.postgres_major()), "KILL").unwrap();
    until(Instant::now() + SOON, || lab.host("a").psql(lab.port, "postgres", "SELECT 1").is_err());
    lab.pgstead(&["failover", "--to", "b", "--accept-loss", "--yes", "--format", "json"]).expect(0);
    assert_eq!(lab.sql("b", "SELECT pg_is_in_recovery()"), "f");
    assert_eq!(lab.sql("b", "SELECT string_agg(name, ' ') FROM pg_settings WHERE pending_restart"), "");
    assert_eq!(lab.sql("b", "SHOW recovery_target_name"), "");
}

fn write(lab: &Scenario, host: &str, path: &str, text: &str) {
    lab.run(host, &["sh", "-c", "printf %s \"$2\" >\"$1\" && chmod 644 \"$1\"", "sh", path, text]);
}

/// Records that let nobody ask, and those in another file, are refused with the way out; an instance that its owner starts by hand
/// stays one.
#[test]
fn records_of_the_owner_s_let_nobody_ask_or_stand_elsewhere() {
    const RELEASE: Release = Release::Forky;
    const BOOTSTRAP: [&str; 5] = ["bootstrap", "--allow-restart", "--yes", "--format", "json"];
    let mut lab = Scenario::boot(RELEASE, &["a", "b"]);
    own_wishes_only(&mut lab);
    let existing = Existing::on_debian(&lab, RELEASE, true);
    write(&lab, "a", &existing.path("start.conf"), "manual\n");
    let hba = existing.path("pg_hba.conf");
    let records = lab.run("a", &["cat", &hba]);
    let admits = |first: &str, wanted: bool| {
        write(&lab, "a", &hba, &[first, &records].concat());
        lab.run("a", &["systemctl", "reload", &existing.unit]);
        let is_in = || lab.host("a").psql(lab.port, "postgres", "SELECT 1").is_ok();
        until(Instant::now() + SOON, || is_in() == wanted);
        assert_eq!(is_in(), wanted, "{first:?} is in force");
    };
    admits("local all all reject\n", false);
    let ran = refused(&lab, "nobody may ask", &BOOTSTRAP, 5, &[("instance-unasked", "a")]);
    assert!(ran.json()["error"]["detail"].as_str().unwrap().contains("pg_hba.conf rejects connection"), "{ran}");
    // What the hint says; and from 16 on records may stand in a directory.
    lab.run("a", &["install", "-d", "-o", "postgres", &existing.path("hba.d")]);
    write(&lab, "a", &existing.path("hba.d/more.conf"), "host all nobody 192.0.2.1/32 reject\n");
    admits("local all postgres peer\nlocal all all reject\ninclude_dir hba.d\n", true);
    let ran = refused(&lab, "records elsewhere", &BOOTSTRAP, 5, &[("included-elsewhere", "a")]);
    assert!(ran.json()["error"]["message"].as_str().unwrap().ends_with("reads hba.d"), "{ran}");
    admits("local all postgres peer\nlocal all all reject\nhost all nobody 192.0.2.1/32 reject\n", true);
    lab.pgstead(&BOOTSTRAP).expect(0);
    lab.streams("a", &["b"]);
    assert_eq!(lab.run("a", &["cat", &existing.path("start.conf")]), "manual");
    for server in ["a", "b"] {
        let theirs =
            "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'reject' AND 'nobody' = ANY (user_name)";
        assert_eq!(lab.sql(server, theirs), "1", "on {server}");
    }
    // Whether it starts with the machine is its owner's choice, which is told until it is made.
    let check = lab.pgstead(&["check", "--format", "json"]).expect(7);
    let finding = check.json()["findings"][0].clone();
    assert_eq!(
        (finding["code"].as_str(), finding["server"].as_str()),
        (Some("service-not-enabled"), Some("a")),
        "{check}"
    );
    let way = format!("write auto into {}.", existing.path("start.conf"));
    assert!(finding["hint"].as_str().unwrap().ends_with(&way), "{check}");
    write(&lab, "a", &existing.path("start.conf"), "auto\n");
    lab.settled();
}

/// What waits for a restart is the operator's: it is told, waits on, and comes into force with a restart that somebody consented to. A
/// value that a standby could not start with is refused.
#[test]
fn a_setting_that_waits_for_a_restart_is_told_and_waits_on() {
    const RELEASE: Release = Release::Bookworm;
    const BOOTSTRAP: [&str; 4] = ["bootstrap", "--yes", "--format", "json"];
    const CONSENTED: [&str; 5] = ["bootstrap", "--allow-restart", "--yes", "--format", "json"];
    const WAITS: &str = "SELECT setting || ' ' || pending_restart FROM pg_settings WHERE name = 'max_connections'";
    let mut lab = Scenario::boot(RELEASE, &["a", "b"]);
    own_wishes_only(&mut lab);
    Existing::on_debian(&lab, RELEASE, true);
    let alter = |value: &str| {
        lab.sql("a", &format!("ALTER SYSTEM SET max_connections = {value}"));
        lab.sql("a", "SELECT pg_reload_conf()");
        lab.eventually("a", WAITS, "123 true");
    };
    alter("50");
    let started = lab.sql("a", "SELECT pg_postmaster_start_time()");
    let ran = refused(&lab, "fewer connections", &CONSENTED, 5, &[("lower-setting-waits", "a")]);
    let detail = ran.json()["error"]["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("It has 123, and /var/lib/postgresql/15/main/postgresql.auto.conf line"), "{detail}");
    alter("200");
    preflight_notes(&lab, "restart-waits", "max_connections");
    // A wish of the inventory's needs a restart, and nobody consented to one.
    let wish = |lab: &mut Scenario, value: serde_json::Value| {
        lab.edit(|inventory| inventory["postgres"]["parameters"] = value)
    };
    wish(&mut lab, serde_json::json!({ "max_files_per_process": 1200 }));
    preflight_notes(&lab, "restart-needs-consent", "max_files_per_process");
    assert_eq!(lab.pgstead(&BOOTSTRAP).expect(5).json()["error"]["code"], "restart-needs-consent");
    assert_eq!(lab.sql("a", WAITS), "123 true");
    // Without that wish nothing of pgstead's needs one, whatever is allowed.
    wish(&mut lab, serde_json::json!({}));
    let plan = lab.pgstead(&["plan", "--format", "json"]).expect(0);
    assert!(plan.json()["notes"].as_array().unwrap().iter().any(|note| note["code"] == "restart-waits"), "{plan}");
    lab.pgstead(&CONSENTED).expect(0);
    lab.streams("a", &["b"]);
    assert_eq!(lab.sql("a", "SELECT pg_postmaster_start_time()"), started);
    assert_eq!((lab.sql("a", WAITS).as_str(), lab.sql("b", WAITS).as_str()), ("123 true", "200 false"));
    // With it, and with consent, both come into force; that is told before.
    wish(&mut lab, serde_json::json!({ "max_files_per_process": 1200 }));
    assert_eq!(lab.pgstead(&BOOTSTRAP).expect(5).json()["error"]["code"], "restart-needs-consent");
    assert_eq!(lab.sql("a", "SELECT pg_postmaster_start_time()"), started);
    preflight_notes(&lab, "restart-waits", "max_connections");
    lab.pgstead(&CONSENTED).expect(0);
    lab.streams("a", &["b"]);
    assert_ne!(lab.sql("a", "SELECT pg_postmaster_start_time()"), started);
    assert_eq!((lab.sql("a", WAITS).as_str(), lab.sql("b", WAITS).as_str()), ("200 false", "200 false"));
    assert_eq!(lab.sql("a", "SHOW max_files_per_process") + &lab.sql("b", "SHOW max_files_per_process"), "12001200");
    lab.settled();
}

/// A preflight tells something of a setting, and so does a plan.
#[track_caller]
fn preflight_notes(lab: &Scenario, code: &str, names: &str) {
    let ran = lab.pgstead(&["preflight", "--format", "json"]);
    let document = ran.json();
    let told =
        |one: &serde_json::Value| one["code"] == code && one["detail"].as_str().unwrap_or_default().contains(names);
    assert!(document["findings"].as_array().unwrap().iter().any(told), "{code} of {names}: {ran}");
}

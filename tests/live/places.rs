//! What settings and tablespaces of a primary name is looked for on the servers that get them, before anything is changed: on real
//! hosts.

use std::time::Instant;

use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::adoption::own_wishes_only;
use crate::refusals;
use crate::refusals::refused;
use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::until;
use crate::switchover::SOON;

const BOOTSTRAP: [&str; 5] = ["bootstrap", "--allow-restart", "--yes", "--format", "json"];

/// What an instance cannot start without, and what it does without.
const SETTINGS: &str = "listen_addresses = '*'\nlogging_collector = on\nlog_directory = '/var/log/ours'\n\
    unix_socket_directories = '/var/run/postgresql, /srv/sockets'\nunix_socket_group = 'app'\n\
    restore_command = 'fetch-wal %f %p'\ndynamic_library_path = '/opt/ours/lib:$libdir'\n\
    shared_preload_libraries = 'ours'\nkrb_server_keyfile = 'FILE:/etc/pg.keytab'\n\
    log_timezone = 'Ours/Here'\nssl_ecdh_curve = 'secp521r1'\n";

#[test]
fn what_a_primary_names_and_a_standby_lacks_is_refused_on_15() {
    lacks(Release::Bookworm);
}

#[test]
fn what_a_primary_names_and_a_standby_lacks_is_refused_on_17() {
    lacks(Release::Trixie);
}

fn lacks(release: Release) {
    let mut lab = Scenario::boot(release, &["a", "b"]);
    own_wishes_only(&mut lab);
    let version = release.postgres_major().to_string();
    lab.run("a", &["pg_createcluster", &version, "main", "--", "--data-checksums"]);
    let shell = |lab: &Scenario, host: &str, script: &str| lab.run(host, &["sh", "-ec", script, "sh", &version]);
    // A time zone that no package has, and a library that is in none: one of PostgreSQL's own under another name.
    const HAVE: &str = "getent group app || groupadd --system app; usermod -aG app postgres\n\
        install -d -o postgres /srv/sockets /opt/ours/lib; install -d -o postgres -m 700 /var/log/ours\n\
        cp \"/usr/lib/postgresql/$1/lib/auth_delay.so\" /opt/ours/lib/ours.so\n\
        printf '#!/bin/sh\\nexit 1\\n' >/usr/local/bin/fetch-wal; chmod 755 /usr/local/bin/fetch-wal\n\
        install -D -m 644 /usr/share/zoneinfo/Etc/UTC /usr/share/zoneinfo/Ours/Here";
    shell(&lab, "a", HAVE);
    lab.run("a", &["install", "-o", "postgres", "-m", "600", "/dev/null", "/etc/pg.keytab"]);
    lab.run(
        "a",
        &[
            "sh",
            "-c",
            "printf %s \"$2\" >>\"$1\"",
            "sh",
            &format!("/etc/postgresql/{version}/main/postgresql.conf"),
            SETTINGS,
        ],
    );
    // WAL on a disk of its own, names in a file of their own, and a list of certificates that another CA revoked.
    const ELSEWHERE: &str = "install -d -o postgres -m 700 /srv/wal; mv \"/var/lib/postgresql/$1/main/pg_wal\" /srv/wal/pg_wal\n\
        ln -s /srv/wal/pg_wal \"/var/lib/postgresql/$1/main/pg_wal\"\n\
        echo nobody_has_this_name >/etc/admins; echo 'host all @/etc/admins 192.0.2.1/32 reject' >>\"/etc/postgresql/$1/main/pg_hba.conf\"\n\
        cd /etc/ssl; openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.crt -subj /CN=other -days 2 2>/dev/null\n\
        : >index.txt; echo 01 >crlnumber; printf '[ca]\\ndefault_ca=d\\n[d]\\ndatabase=index.txt\\ncrlnumber=crlnumber\\ndefault_md=sha256\\ndefault_crl_days=30\\n' >other.cnf\n\
        openssl ca -gencrl -config other.cnf -keyfile other.key -cert other.crt -out other.crl 2>/dev/null\n\
        echo \"ssl_crl_file = '/etc/ssl/other.crl'\" >>\"/etc/postgresql/$1/main/postgresql.conf\"";
    shell(&lab, "a", ELSEWHERE);
    lab.run("a", &["systemctl", "start", &format!("postgresql@{version}-main")]);
    lab.run("a", &["install", "-d", "-o", "postgres", "/srv/space", "/srv/room"]);
    lab.sql("a", "CREATE TABLESPACE space LOCATION '/srv/space'");
    lab.sql("a", "CREATE TABLESPACE room LOCATION '/srv/room'");
    lab.sql("a", "CREATE TABLE t TABLESPACE space AS SELECT 42 AS answer");
    // Inside the data directory, which PostgreSQL warns of, and as its developers have them.
    let inside = format!("/var/lib/postgresql/{version}/main/inside");
    lab.run("a", &["install", "-d", "-o", "postgres", "-m", "700", &inside]);
    lab.sql("a", &format!("CREATE TABLESPACE inside LOCATION '{inside}'"));
    let psql = ["runuser", "-u", "postgres", "--", "psql", "-Xq", "-c", "SET allow_in_place_tablespaces = on"];
    lab.run("a", &[&psql[..], &["-c", "CREATE TABLESPACE in_place LOCATION ''"]].concat());
    // patroni/patroni 671, bitnami/containers 21548: what is left of an instance that was there before.
    let left = lab.run("a", &["ls", "/srv/space"]).trim().to_owned();
    assert!(left.starts_with("PG_"), "{left}");
    lab.run("b", &["install", "-d", "-o", "postgres", "/srv/space", &format!("/srv/space/{left}/5")]);
    lab.run("b", &["touch", "/srv/room", &format!("/srv/space/{left}/5/1249")]);
    lab.run("b", &["install", "-d", "-m", "755", "/srv/sockets"]);
    // What the first look finds keeps nobody from looking further.
    refusals::take_port(&lab, "b");

    let expected = [
        ("crl-of-others", "a"),
        ("included-elsewhere", "a"),
        ("library-missing", "b"),
        ("no-common-tls", "a"),
        ("path-unfit", "b"),
        ("port-taken", "b"),
        ("tablespace-in-data-directory", "b"),
        ("tablespace-taken", "b"),
        ("value-not-accepted", ""),
        ("value-not-accepted", "b"),
    ];
    // What the inventory wishes is judged by the PostgreSQL of each server, the bare one too.
    // CrunchyData/postgres-operator 2094: a parameter that this version does not have any more.
    lab.edit(|inventory| {
        inventory["postgres"]["parameters"]["work_mem"] = "banana".into();
        inventory["servers"]["b"]["parameters"] = json!({ "wal_compression": "lz5", "wal_keep_segments": "100" });
    });
    let ran = refused(&lab, "what standbys lack", &BOOTSTRAP, 5, &expected);
    let told = |code: &str, words: &str| {
        let document = ran.json();
        let all = document["errors"].as_array().unwrap();
        let is_it = |one: &&serde_json::Value| one["code"] == code && one["message"].as_str().unwrap().contains(words);
        assert!(all.iter().any(|one| is_it(&one)), "{code} of {words}: {ran}");
    };
    told("tablespace-in-data-directory", &inside);
    told("tablespace-in-data-directory", "pg_tblspc/");
    told("tablespace-taken", "/srv/space holds a tablespace already");
    told("path-unfit", "/srv/room is not a directory");
    told(
        "path-unfit",
        "log_directory names /var/log/ours, which is not there, and user postgres may not make it in /var/log",
    );
    told(
        "path-unfit",
        "unix_socket_directories names /srv/sockets, which is a directory that user postgres may not write",
    );
    told("path-unfit", "unix_socket_group names app, which is not there");
    told("path-unfit", "restore_command names fetch-wal, which is not there");
    told("library-missing", "\"ours\"");
    told("value-not-accepted", "log_timezone = Ours/Here is not accepted there: invalid value for parameter");
    told("value-not-accepted", "servers \"a\" and \"b\": work_mem = banana is not accepted there: invalid value");
    told("value-not-accepted", "invalid value for parameter \"wal_compression\": \"lz5\" (Available values: pglz, lz4");
    told("value-not-accepted", "unrecognized configuration parameter \"wal_keep_segments\"");
    told("no-common-tls", "ssl_ecdh_curve = secp521r1");
    refused(&lab, "what standbys lack, plan", &["plan", "--format", "json"], 5, &expected);
    assert_eq!(lab.run("b", &["find", "/srv/space", "-type", "f"]).trim(), format!("/srv/space/{left}/5/1249"));

    // The ways out that it names.
    lab.edit(|inventory| {
        inventory["postgres"]["parameters"]["work_mem"] = "5MB".into();
        inventory["servers"]["b"]["parameters"] = json!({ "wal_compression": "lz4" });
    });
    refusals::free_port(&lab, "b");
    lab.sql("a", "DROP TABLESPACE inside");
    lab.sql("a", "DROP TABLESPACE in_place");
    shell(
        &lab,
        "a",
        "sed -i '/^host all @/d' \"/etc/postgresql/$1/main/pg_hba.conf\"; sed -i '/^ssl_crl_file/d; /^ssl_ecdh_curve/d' \"/etc/postgresql/$1/main/postgresql.conf\"",
    );
    lab.sql("a", "SELECT pg_reload_conf()");
    lab.eventually("a", "SHOW ssl_crl_file", "");
    lab.eventually("a", "SHOW ssl_ecdh_curve", "prime256v1");
    shell(&lab, "b", HAVE);
    lab.run("b", &["chown", "postgres:", "/srv/sockets"]);
    lab.run("b", &["mv", &format!("/srv/space/{left}"), "/srv/space/of-before"]);
    lab.run("b", &["mv", "/srv/room", "/srv/room.of-before"]);
    let plan = lab.pgstead(&["plan", "--format", "json"]).expect(0);
    let says = |ran: &Ran, code: &str, words: &str| {
        let all = ran.json()["notes"].as_array().unwrap().clone();
        assert!(all.iter().any(|one| one["code"] == code && one["message"].as_str().unwrap().contains(words)), "{ran}");
    };
    says(&plan, "path-needed-on-standbys", "\"b\": krb_server_keyfile names /etc/pg.keytab, which is not there");
    says(&plan, "wal-on-another-disk", "its pg_wal is a link to");
    lab.pgstead(&BOOTSTRAP).expect(0);
    lab.streams("a", &["b"]);
    lab.eventually("b", "SELECT answer FROM t", "42");
    lab.run("b", &["test", "!", "-L", &format!("/var/lib/postgresql/{version}/main/pg_wal")]);
    assert_eq!(lab.sql("b", "SHOW shared_preload_libraries"), "ours");
    assert_eq!(lab.sql("b", "SELECT current_setting('work_mem') || current_setting('wal_compression')"), "5MBlz4");
    // It may begin another file between the two looks.
    let mut both = (String::new(), String::new());
    until(Instant::now() + SOON, || {
        let there = lab.run("b", &["sh", "-c", "ls /var/log/ours | wc -l"]);
        both = (lab.sql("b", "SELECT count(*) FROM pg_ls_logdir()"), there.trim().to_owned());
        both.0 == both.1
    });
    assert_eq!(both.0, both.1);
    lab.run("b", &["test", "-S", "/srv/sockets/.s.PGSQL.5432"]);
    lab.run("b", &["test", "-f", "/srv/space/of-before/5/1249"]);
    lab.settled();
}

//! Situations from public reports of people who replicated a server that was there already, rebuilt on real hosts.
//!
//! Each report is named where its situation is made.

use std::time::Instant;

use pgstead::lab::hosts::Release;

use crate::adoption::own_wishes_only;
use crate::refusals::refused;
use crate::scenario::Scenario;
use crate::scenario::until;
use crate::switchover::SOON;
use crate::switchover::is_primary;

/// Appends to a file of a host.
fn append(lab: &Scenario, host: &str, path: &str, text: &str) {
    lab.run(host, &["sh", "-c", "printf %s \"$2\" >>\"$1\"", "sh", path, text]);
}

fn data(release: Release) -> String {
    format!("/var/lib/postgresql/{}/main", release.postgres_major())
}

fn made_by_debian(lab: &Scenario, release: Release) -> String {
    let version = release.postgres_major().to_string();
    lab.run("a", &["pg_createcluster", &version, "main", "--", "--data-checksums"]);
    format!("/etc/postgresql/{version}/main")
}

fn start(lab: &Scenario, release: Release) {
    lab.run("a", &["systemctl", "restart", &format!("postgresql@{}-main", release.postgres_major())]);
}

/// a dies, b takes over, and a comes back by a rewind.
///
/// bitnami/containers 34986: a rewind has to end a crash first, and the configuration is not in the data directory.
fn there_and_back_by_rewind(lab: &Scenario, release: Release) {
    lab.sql("a", "CREATE TABLE t AS SELECT 41 AS answer");
    lab.eventually("b", "SELECT answer FROM t", "41");
    lab.host("a").signal_postmaster(&data(release), "KILL").unwrap();
    until(Instant::now() + SOON, || lab.host("a").psql(lab.port, "postgres", "SELECT 1").is_err());
    lab.pgstead(&["failover", "--to", "b", "--accept-loss", "--yes", "--format", "json"]).expect(0);
    lab.sql("b", "UPDATE t SET answer = 42");
    let reseed = ["reseed", "a", "--method", "rewind", "--accept-divergence", "--yes", "--format", "json"];
    lab.pgstead(&reseed).expect(0);
    lab.eventually("a", "SELECT answer FROM t", "42");
    lab.bootstrap();
    is_primary(lab, "b", &["a"]);
    lab.pgstead(&["switchover", "--to", "a", "--yes", "--format", "json"]).expect(0);
    lab.streams("a", &["b"]);
    lab.settled();
}

#[test]
fn a_server_as_its_packages_make_it_and_its_owner_tuned_it() {
    const RELEASE: Release = Release::Trixie;
    let mut lab = Scenario::boot(RELEASE, &["a", "b"]);
    own_wishes_only(&mut lab);
    let home = made_by_debian(&lab, RELEASE);
    // EnterpriseDB/repmgr 712: conf.d is included and empty, and a standby without the directory does not start.
    lab.run("a", &["install", "-d", "-o", "postgres", &format!("{home}/conf.d")]);
    append(&lab, "a", &format!("{home}/postgresql.conf"), "include_dir 'conf.d'\n");
    // sclorg/postgresql-container 157: nothing may replicate. pgbackrest 2274, CrunchyData/postgres-operator 2615: more locks
    // and workers than a standby has by default.
    append(
        &lab,
        "a",
        &format!("{home}/postgresql.conf"),
        "wal_level = minimal\nmax_wal_senders = 0\n\
        max_locks_per_transaction = 512\nmax_worker_processes = 16\nmax_prepared_transactions = 20\n",
    );
    // kostiantyn-nemchenko/ansible-role-patroni 37: no record lets a standby in; here one turns everybody away.
    let reject = "sed -i '1i host replication all 0.0.0.0/0 reject\\nhostnossl all all 0.0.0.0/0 reject' \"$1\"";
    lab.run("a", &["sh", "-c", reject, "sh", &format!("{home}/pg_hba.conf")]);
    start(&lab, RELEASE);
    // CrunchyData/postgres-operator 2952: more connections than a standby has by default.
    lab.sql("a", "ALTER SYSTEM SET max_connections = 300");
    start(&lab, RELEASE);
    // cloudnative-pg 3728, vmware-archive/pg_rewind 54: files in the data directory that their owner may not write.
    lab.run("a", &["chmod", "0400", &format!("{}/postgresql.auto.conf", data(RELEASE))]);
    // hapostgres/pg_auto_failover 773: a certificate in the data directory.
    lab.run("a", &["sh", "-ec", "cp /etc/ssl/certs/ssl-cert-snakeoil.pem \"$1/server.crt\" && chown postgres: \"$1/server.crt\" && chmod 0400 \"$1/server.crt\"", "sh", &data(RELEASE)]);
    let bootstrap = ["bootstrap", "--allow-restart", "--yes", "--format", "json"];
    lab.pgstead(&bootstrap).expect(0);
    lab.streams("a", &["b"]);
    assert_eq!(lab.sql("b", "SHOW max_connections"), "300");
    there_and_back_by_rewind(&lab, RELEASE);
}

#[test]
fn a_server_whose_altered_settings_lead_nowhere() {
    const RELEASE: Release = Release::Bookworm;
    let mut lab = Scenario::boot(RELEASE, &["a", "b"]);
    own_wishes_only(&mut lab);
    made_by_debian(&lab, RELEASE);
    start(&lab, RELEASE);
    // sorintlab/stolon 468: nobody shall ALTER SYSTEM, so its file is a link to nowhere, which pg_rewind refuses.
    lab.run("a", &["ln", "-sfT", "/dev/null", &format!("{}/postgresql.auto.conf", data(RELEASE))]);
    start(&lab, RELEASE);
    lab.pgstead(&["bootstrap", "--allow-restart", "--yes", "--format", "json"]).expect(0);
    lab.streams("a", &["b"]);
    there_and_back_by_rewind(&lab, RELEASE);
}

#[test]
fn a_server_that_has_more_connections_by_its_command_line() {
    const RELEASE: Release = Release::Trixie;
    let mut lab = Scenario::boot(RELEASE, &["a", "b"]);
    own_wishes_only(&mut lab);
    let home = made_by_debian(&lab, RELEASE);
    start(&lab, RELEASE);
    append(&lab, "a", &format!("{home}/postgresql.conf"), "listen_addresses = '*'\n");
    lab.run("a", &["systemctl", "stop", "postgresql@17-main"]);
    // autobase-tech/autobase 588: started by hand with an option; no file has what a standby must have.
    lab.run("a", &["pg_ctlcluster", "17", "main", "start", "-o", "-c max_connections=300"]);
    assert_eq!(
        lab.sql("a", "SELECT setting || ' ' || source FROM pg_settings WHERE name = 'max_connections'"),
        "300 command line"
    );
    let bootstrap = ["bootstrap", "--yes", "--format", "json"];
    refused(&lab, "by the command line", &bootstrap, 5, &[("setting-on-command-line", "a")]);
    append(&lab, "a", &format!("{home}/postgresql.conf"), "max_connections = 300\n");
    lab.sql("a", "SELECT pg_reload_conf()");
    lab.bootstrap();
    lab.streams("a", &["b"]);
    assert_eq!(lab.sql("b", "SHOW max_connections"), "300");
}

#[test]
fn a_busy_server_whose_places_are_taken_elsewhere() {
    const RELEASE: Release = Release::Bookworm;
    let mut lab = Scenario::boot(RELEASE, &["a", "b"]);
    own_wishes_only(&mut lab);
    let home = made_by_debian(&lab, RELEASE);
    // sorintlab/stolon 476, EnterpriseDB/repmgr 86 and 129, pgmoneta/pgmoneta 253: WAL is recycled before a standby asks for it.
    let settings = "listen_addresses = '*'\nmin_wal_size = 32MB\nmax_wal_size = 32MB\nwal_keep_size = 0\n";
    append(&lab, "a", &format!("{home}/postgresql.conf"), settings);
    // hapostgres/pg_auto_failover 844, patroni/patroni 671, bitnami/containers 21548: something stands where a tablespace is to be.
    lab.run("a", &["install", "-d", "-o", "postgres", "/srv/tblspc"]);
    start(&lab, RELEASE);
    lab.sql("a", "CREATE TABLESPACE app LOCATION '/srv/tblspc'");
    lab.sql("a", "CREATE TABLE load (filler text) TABLESPACE app");
    lab.run("b", &["sh", "-c", "install -d -o postgres /srv/tblspc && touch /srv/tblspc/what-is-this"]);
    let preflight = lab.pgstead(&["preflight", "--format", "json"]);
    assert!(preflight.codes().contains(&"tablespace-undeclared".to_owned()), "{preflight}");
    let bootstrap = ["bootstrap", "--allow-restart", "--yes", "--format", "json"];
    // It writes as fast as it can, until a slot keeps so much for the standby that it might be lost.
    const BUSY: &str = "while [ ! -e /run/enough ]; do runuser -u postgres -- psql -Xqc \"INSERT INTO load SELECT repeat(md5(random()::text), 100) \
        FROM generate_series(1, 3000) WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) > 3e8); \
        CHECKPOINT\"; done";
    let mut busy = lab.host("a").command(&["sh", "-c", BUSY]).unwrap().spawn().unwrap();
    let ran = lab.pgstead(&bootstrap);
    lab.run("a", &["touch", "/run/enough"]);
    busy.wait().unwrap();
    assert_eq!(ran.code, 0, "{ran}");
    lab.streams("a", &["b"]);
    let rows = lab.sql("a", "SELECT count(*) FROM load");
    lab.eventually("b", "SELECT count(*) FROM load", &rows);
    // What somebody else keeps there besides stays.
    lab.run("b", &["test", "-e", "/srv/tblspc/what-is-this"]);
    lab.settled();
}

/// pgmoneta/pgmoneta 58, pgbouncer/pgbouncer 835: whoever looks for the socket at its usual place finds none.
#[test]
fn a_server_whose_socket_is_in_tmp() {
    const RELEASE: Release = Release::Trixie;
    let mut lab = Scenario::boot(RELEASE, &["a", "b"]);
    own_wishes_only(&mut lab);
    let home = made_by_debian(&lab, RELEASE);
    append(&lab, "a", &format!("{home}/postgresql.conf"), "listen_addresses = '*'\nunix_socket_directories = '/tmp'\n");
    start(&lab, RELEASE);
    lab.pgstead(&["bootstrap", "--allow-restart", "--yes", "--format", "json"]).expect(0);
    let ask = |server: &str, sql: &str| {
        lab.run(server, &["runuser", "-u", "postgres", "--", "psql", "-h", "/tmp", "-XAtc", sql]).trim().to_owned()
    };
    assert_eq!(
        ask("a", "SELECT string_agg(application_name, ' ') FROM pg_stat_replication WHERE state = 'streaming'"),
        "b"
    );
    lab.pgstead(&["switchover", "--to", "b", "--yes", "--format", "json"]).expect(0);
    assert_eq!(ask("b", "SELECT pg_is_in_recovery()") + &ask("a", "SELECT pg_is_in_recovery()"), "ft");
    lab.pgstead(&["check", "--format", "json"]).expect(0);
}

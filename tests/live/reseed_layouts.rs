//! A re-seed and a switchover where things are elsewhere than Debian puts them: on real hosts.

use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::scenario::Scenario;
use crate::switchover::there_and_back_again;

const DATA: &str = "/srv/pg/data";

/// No service: `pg_ctl` stops, starts and promotes; the jobs are process groups of their own.
#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn a_server_that_pg_ctl_runs_comes_back_on_15() {
    run_by_pg_ctl(Release::Bookworm);
}

#[test]
fn a_server_that_pg_ctl_runs_comes_back_on_17() {
    run_by_pg_ctl(Release::Trixie);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn a_server_that_pg_ctl_runs_comes_back_on_18() {
    run_by_pg_ctl(Release::Forky);
}

fn run_by_pg_ctl(release: Release) {
    let programs = format!("/usr/lib/postgresql/{}/bin", release.postgres_major());
    let mut lab = Scenario::boot(release, &["a", "b"]);
    lab.edit(|inventory| {
        for name in ["a", "b"] {
            inventory["servers"][name]["service"] = json!("pg_ctl");
            inventory["servers"][name]["data_directory"] = json!(DATA);
            inventory["servers"][name]["bin_directory"] = json!(programs);
        }
    });
    // Its socket is where nobody looks for it.
    for name in ["a", "b"] {
        let [there, here] = ["/srv/pg/data.pgstead", "/var/run/postgresql"].map(|at| format!("{at}/.s.PGSQL.5432"));
        lab.run(name, &["ln", "-s", &there, &here]);
    }
    let pg_ctl = |lab: &Scenario, verb: &str| {
        let program = format!("{programs}/pg_ctl");
        lab.run("b", &["runuser", "-u", "postgres", "--", &program, "-s", "-w", "-D", DATA, "-l", "/dev/null", verb]);
    };
    comes_back_by_every_way(&lab, &programs, pg_ctl);
}

/// User `ops` with sudo, sshd on 2222, PostgreSQL on 5433, data in a directory of its own.
#[test]
fn a_server_that_a_user_with_sudo_reaches_comes_back() {
    let release = Release::Trixie;
    let specs = ["a", "b"].map(|name| HostSpec { ssh_port: 2222, ..HostSpec::new(name, release) });
    let mut lab = Scenario::of(specs.into());
    lab.edit(|inventory| {
        inventory["ssh"]["user"] = json!("ops");
        inventory["postgres"]["port"] = json!(5433);
        for name in ["a", "b"] {
            inventory["servers"][name]["data_directory"] = json!(DATA);
        }
    });
    for name in ["a", "b"] {
        lab.run(name, &["rm", "/root/.ssh/authorized_keys"]);
    }
    let systemctl = |lab: &Scenario, verb: &str| {
        let _ = lab.host("b").exec(&["systemctl", "reset-failed", "postgresql@17-main.service"]);
        lab.run("b", &["systemctl", verb, "postgresql@17-main.service"]);
    };
    comes_back_by_every_way(&lab, "/usr/lib/postgresql/17/bin", systemctl);
}

fn comes_back_by_every_way(lab: &Scenario, programs: &str, service: impl Fn(&Scenario, &str)) {
    lab.bootstrap();
    lab.sql("a", "CREATE EXTENSION amcheck");
    lab.sql("a", "CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 8) AS text FROM generate_series(1, 20000) i");
    lab.sql("a", "CREATE UNIQUE INDEX ON t (id)");
    lab.eventually("b", "SELECT count(*) FROM t", "20000");
    let comes_back = |more: &[&str], method: &str| {
        let args = [&["reseed", "b", "--yes", "--format", "json"], more].concat();
        let ran = lab.pgstead(&args).expect(0);
        assert_eq!(ran.json()["method"], method, "{ran}");
        const ROWS: &str = "SELECT count(*) || ' ' || md5(string_agg(id || text, ',' ORDER BY id)) FROM t";
        lab.eventually("b", ROWS, &lab.sql("a", ROWS));
        lab.streams("a", &["b"]);
        let amcheck = [programs, "/pg_amcheck"].concat();
        let (port, socket) = (lab.port.to_string(), lab.sql("b", "SHOW unix_socket_directories"));
        let at = ["-h", &socket, "-p", &port, "--heapallindexed", "-d", "postgres"];
        lab.run("b", &[&["runuser", "-u", "postgres", "--", &amcheck][..], &at].concat());
        service(lab, "stop");
        let checksums = [programs, "/pg_checksums"].concat();
        lab.run("b", &["runuser", "-u", "postgres", "--", &checksums, "--check", "-D", DATA]);
    };
    service(lab, "stop");
    comes_back(&[], "replay");
    comes_back(&["--method", "basebackup"], "basebackup");
    service(lab, "start");
    lab.eventually("b", "SELECT pg_is_in_recovery()", "t");
    lab.sql("b", "SELECT pg_promote()");
    lab.eventually("b", "SELECT pg_is_in_recovery()", "f");
    lab.sql("b", "INSERT INTO t VALUES (30001, 'only here')");
    lab.sql("a", "INSERT INTO t VALUES (40001, 'over there')");
    service(lab, "stop");
    comes_back(&["--method", "rewind", "--accept-divergence"], "rewind");
    // While it runs: it is stopped by the re-seed itself.
    service(lab, "start");
    lab.eventually("b", "SELECT pg_is_in_recovery()", "t");
    comes_back(&["--method", "basebackup"], "basebackup");
    service(lab, "start");
    lab.eventually("a", "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", "1");
    lab.settled();
    there_and_back_again(lab);
}

//! An existing primary becomes part of a topology: its data, its configuration and its clients stay as they are.
//!
//! The primaries are made as operators make them: with Debian's tools, with `initdb` and `pg_ctl`, and as the packages of
//! PGDG lay them out. An application is connected all the time; what it saw is read from its own output.

use std::process::Child;
use std::process::Stdio;

use pgstead::lab::hosts::Release;
use serde_json::Value;

use crate::refusals::refused;
use crate::scenario::Scenario;
use crate::scenario::with_pause;
use crate::switchover::there_and_back_again;

/// One gigabyte of pgbench tables, with its indexes.
const GIGABYTE: &str = "68";
/// A few pages.
const SMALL: &str = "1";

#[test]
fn a_debian_primary_is_adopted_on_15() {
    debian(Release::Bookworm, SMALL);
}

#[test]
fn a_debian_primary_is_adopted_on_17() {
    debian(Release::Trixie, SMALL);
}

#[test]
fn a_debian_primary_is_adopted_on_18() {
    debian(Release::Forky, SMALL);
}

#[test]
#[ignore = "19 is in Debian's experimental suite alone: make soak"]
fn a_debian_primary_is_adopted_on_19() {
    debian(Release::Experimental, SMALL);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn a_debian_primary_with_a_gigabyte_is_adopted_on_15() {
    debian(Release::Bookworm, GIGABYTE);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn a_debian_primary_with_a_gigabyte_is_adopted_on_17() {
    debian(Release::Trixie, GIGABYTE);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn a_debian_primary_with_a_gigabyte_is_adopted_on_18() {
    debian(Release::Forky, GIGABYTE);
}

/// Nothing that needs a restart: nobody notices.
fn debian(release: Release, scale: &str) {
    let mut lab = Scenario::boot(release, &["a", "b", "c"]);
    own_wishes_only(&mut lab);
    let existing = Existing::on_debian(&lab, release, true);
    existing.fill(&lab, scale);
    let before = existing.dump(&lab, "a");
    let settings = lab.sql("a", SETTINGS);
    let app = Application::start(&lab, "c");

    let plan = lab.pgstead(&["plan", "--format", "json"]).expect(0).json();
    let changed: Vec<&str> = plan["settings"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert!(changed.contains(&"ssl_ca_file") && changed.contains(&"wal_keep_size"), "{plan:#}");
    assert!(plan["settings"].as_array().unwrap().iter().all(|setting| setting["restart"] == false), "{plan:#}");
    let report = lab.bootstrap().json();
    assert_eq!(report["changed"], true);

    app.saw_nothing();
    assert_eq!(lab.sql("a", SETTINGS), settings, "the operator's settings");
    for name in ["a", "b", "c"] {
        assert_eq!(existing.dump(&lab, name), before, "{name}");
        assert_eq!(lab.sql(name, "SHOW work_mem"), "7MB", "{name}");
        assert_eq!(lab.sql(name, "SHOW random_page_cost"), "1.3", "{name}");
        assert_eq!(lab.sql(name, "SHOW maintenance_work_mem"), "77MB", "{name}");
        assert_eq!(
            lab.sql(
                name,
                "SELECT count(*) FROM pg_hba_file_rules WHERE user_name = '{app}' AND auth_method = 'scram-sha-256'"
            ),
            "1",
            "{name}"
        );
        let spaces = "SELECT string_agg(pg_tablespace_location(oid), ' ' ORDER BY spcname) FROM pg_tablespace WHERE spcname ~ '^(fast|slow)$'";
        assert_eq!(lab.sql(name, spaces), "/srv/pg/fast /srv/pg/slow", "{name}");
    }
    lab.streams("a", &["b"]);
    lab.streams("b", &["c"]);
    lab.settled();
    there_and_back_again(&lab);

    hand_edits_are_shown_and_stay(&mut lab, &existing);
}

/// What an operator writes into their own files afterwards is told, and never touched; ours still changes beside it.
fn hand_edits_are_shown_and_stay(lab: &mut Scenario, existing: &Existing) {
    let conf = existing.path("postgresql.conf");
    let hba = existing.path("pg_hba.conf");
    lab.run("a", &["sed", "-i", "s/^work_mem = .*/work_mem = '9MB'/", &conf]);
    lab.run("a", &["sed", "-i", "/^host app app/i # a note of the operator", &hba]);
    let edited = [&conf, &hba].map(|path| lab.run("a", &["cat", path]));
    let plan = lab.pgstead(&["plan", "--format", "json"]).expect(0).json();
    let drift = |plan: &Value| -> Vec<String> {
        let notes = plan["notes"].as_array().unwrap().iter().filter(|note| note["code"] == "drift");
        notes.map(|note| note["message"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(drift(&plan).len(), 2, "{plan:#}");
    assert_eq!(plan["changes"], false, "{plan:#}");
    assert_eq!(lab.bootstrap().json()["changed"], false);
    assert_eq!([&conf, &hba].map(|path| lab.run("a", &["cat", path])), edited);

    // A wish of the inventory goes into our part; the edits stay.
    lab.edit(|inventory| {
        let record = serde_json::json!([{ "database": "app", "user": "reader", "address": "192.0.2.0/24" }]);
        inventory["postgres"]["hba"] = record;
        inventory["postgres"]["parameters"] = serde_json::json!({ "log_checkpoints": "off" });
    });
    assert_eq!(lab.bootstrap().json()["changed"], true);
    let after = lab.run("a", &["cat", &hba]);
    assert!(after.contains("# a note of the operator\n"), "{after}");
    assert!(after.contains("hostssl \"app\" \"reader\" 192.0.2.0/24 scram-sha-256\n"), "{after}");
    for name in ["a", "b", "c"] {
        assert_eq!(lab.sql(name, "SHOW log_checkpoints"), "off", "{name}");
    }

    // An edit inside our part stands in the way of a change of that part, and of nothing else.
    lab.run("a", &["sed", "-i", "s/^hostssl replication .*/& # mine/", &hba]);
    let plan = lab.pgstead(&["plan", "--format", "json"]).expect(0).json();
    assert_eq!(plan["changes"], false, "{plan:#}");
    lab.edit(|inventory| inventory["postgres"]["hba"] = serde_json::json!([]));
    let refused = lab.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(5);
    assert!(refused.codes().contains(&"edited-by-hand".to_owned()), "{refused}");
}

/// A restart is refused first; with consent it is the one moment in which clients are disconnected.
#[test]
fn an_adoption_that_needs_a_restart_asks_for_it() {
    let mut lab = Scenario::boot(Release::Bookworm, &["a", "b"]);
    own_wishes_only(&mut lab);
    let existing = Existing::on_debian(&lab, Release::Bookworm, false);
    existing.fill(&lab, SMALL);
    lab.sql("a", "ALTER SYSTEM SET max_wal_senders = 4");
    lab.run("a", &["systemctl", "restart", &existing.unit]);
    lab.run(
        "a",
        &["sed", "-i", "s/^listen_addresses = .*/listen_addresses = 'localhost'/", &existing.path("postgresql.conf")],
    );
    let started = lab.sql("a", "SELECT pg_postmaster_start_time()");

    // An edit that nobody has put into force is not put into force by the way.
    let unread = lab.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(5);
    assert!(unread.codes().contains(&"edit-not-in-force".to_owned()), "{unread}");
    lab.sql("a", "SELECT pg_reload_conf()");

    let refused = lab.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(5);
    assert_eq!(refused.codes().iter().filter(|code| *code == "setting-overridden").count(), 2, "{refused}");
    lab.sql("a", "ALTER SYSTEM RESET max_wal_senders");
    lab.run("a", &["sed", "-i", "s/^max_wal_senders = .*/max_wal_senders = 4/", &existing.path("postgresql.conf")]);
    lab.sql("a", "SELECT pg_reload_conf()");
    let refused = lab.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(5);
    assert!(refused.codes().contains(&"restart-needs-consent".to_owned()), "{refused}");
    assert!(refused.stdout.contains("max_wal_senders from '4' ("), "{refused}");
    assert_eq!(lab.sql("a", "SELECT pg_postmaster_start_time()"), started);

    let app = Application::start(&lab, "b");
    lab.pgstead(&["bootstrap", "--yes", "--allow-restart", "--format", "json"]).expect(0);
    app.saw_a_restart();
    assert_ne!(lab.sql("a", "SELECT pg_postmaster_start_time()"), started);
    assert_eq!(lab.sql("a", "SHOW max_wal_senders"), "8");
    lab.streams("a", &["b"]);
    lab.settled();
}

/// A standby made past pgstead, its promoted twin, a second instance of other data, the primary of somebody else, a
/// primary that does not run: refused with the evidence, and untouched.
#[test]
fn whose_data_it_is_decides_on_15() {
    whose_data_it_is(Release::Bookworm);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn whose_data_it_is_decides_on_17() {
    whose_data_it_is(Release::Trixie);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn whose_data_it_is_decides_on_18() {
    whose_data_it_is(Release::Forky);
}

fn whose_data_it_is(release: Release) {
    const BOOTSTRAP: &[&str] = &["bootstrap", "--yes", "--format", "json"];
    const COPY: &str = "set -e; v=$1; pg_createcluster $v main; echo max_connections = 123 >>/etc/postgresql/$v/main/postgresql.conf; cd /var/lib/postgresql/$v; mv main /var/lib/postgresql/other
        runuser -u postgres -- /usr/lib/postgresql/$v/bin/pg_basebackup -D /var/lib/postgresql/$v/main -R -c fast -d \"host=$2 user=copier\"";
    let mut lab = Scenario::boot(release, &["a", "b"]);
    own_wishes_only(&mut lab);
    let existing = Existing::on_debian(&lab, release, true);
    let version = release.postgres_major().to_string();
    lab.sql("a", "CREATE ROLE copier LOGIN REPLICATION");
    lab.run(
        "a",
        &[
            "sh",
            "-c",
            "printf 'host replication copier 0.0.0.0/0 trust\\n' >>\"$1\"",
            "sh",
            &existing.path("pg_hba.conf"),
        ],
    );
    lab.sql("a", "SELECT pg_reload_conf()");
    for directory in ["/srv/pg/fast", "/srv/pg/slow"] {
        lab.run("b", &["install", "-d", "-o", "postgres", directory]);
    }
    lab.run("b", &["sh", "-c", COPY, "sh", &version, &lab.host("a").address().to_string()]);
    let unit = existing.unit.as_str();

    lab.run("b", &["systemctl", "start", unit]);
    lab.eventually("a", "SELECT state FROM pg_stat_replication", "streaming");
    let plan = lab.pgstead(&["plan", "--format", "json"]).expect(0);
    assert_eq!(plan.stdout.matches("is adopted as it is").count(), 2, "{plan}");
    lab.run("b", &["systemctl", "stop", unit]);
    let standby = refused(&lab, "a standby that does not run", BOOTSTRAP, 5, &[("unmanaged-standby", "b")]);
    assert!(standby.stdout.contains("start its instance"), "{standby}");
    lab.run("b", &["systemctl", "start", unit]);

    lab.sql("b", "SELECT pg_promote()");
    lab.eventually("b", "SELECT pg_is_in_recovery()", "f");
    let twin = refused(&lab, "a promoted twin", BOOTSTRAP, 5, &[("second-primary", "b")]);
    let identifier = lab.sql("a", "SELECT system_identifier FROM pg_control_system()");
    for evidence in [identifier.as_str(), "it runs and accepts writes", "on timeline 1", "one is a copy of the other"] {
        assert!(twin.stdout.contains(evidence), "{evidence}: {twin}");
    }
    lab.run("b", &["systemctl", "stop", unit]);
    refused(&lab, "a stopped twin", BOOTSTRAP, 5, &[("second-primary", "b")]);

    lab.run("b", &["sh", "-c", "cd /var/lib/postgresql/$1; mv main ../twin; mv ../other main", "sh", &version]);
    lab.run("b", &["systemctl", "start", unit]);
    let other = refused(&lab, "data of another system identifier", BOOTSTRAP, 5, &[("data-directory-not-ours", "b")]);
    assert!(other.stdout.contains("another identifier"), "{other}");

    lab.run("b", &["systemctl", "stop", unit]);
    lab.run(
        "b",
        &[
            "sh",
            "-c",
            "mv /var/lib/postgresql/$1/main /var/lib/postgresql/foreign; rm -r /etc/postgresql/$1",
            "sh",
            &version,
        ],
    );
    lab.run("b", &["sh", "-c", "rm -r /srv/pg/fast/* /srv/pg/slow/*"]);
    lab.run("a", &["systemctl", "stop", unit]);
    let stopped = refused(&lab, "a primary that does not run", BOOTSTRAP, 5, &[("data-directory-not-ours", "a")]);
    assert!(stopped.stdout.contains("start its instance"), "{stopped}");

    // What was in the way is out of the way: now it goes. Who was let in for the copy is not any more.
    lab.run("a", &["sed", "-i", "/copier/d", &existing.path("pg_hba.conf")]);
    lab.run("a", &["systemctl", "start", unit]);
    lab.bootstrap();
    lab.streams("a", &["b"]);
    lab.settled();
}

/// As the packages of PGDG lay it out on Red Hat's systems: unit `postgresql-15`, programs in `/usr/pgsql-15/bin`, data and
/// configuration below `/var/lib/pgsql`. The programs are Debian's: no such packages can be installed on these hosts.
#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn a_primary_laid_out_as_pgdg_does_is_adopted_on_15() {
    laid_out_as_pgdg(Release::Bookworm);
}

#[test]
fn a_primary_laid_out_as_pgdg_does_is_adopted_on_17() {
    laid_out_as_pgdg(Release::Trixie);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn a_primary_laid_out_as_pgdg_does_is_adopted_on_18() {
    laid_out_as_pgdg(Release::Forky);
}

fn laid_out_as_pgdg(release: Release) {
    const LAY_OUT: &str = "set -e; v=$1
        mkdir -p /usr/pgsql-$v /var/lib/pgsql/$v; mv /usr/lib/postgresql/$v/bin /usr/pgsql-$v/bin
        ln -s /usr/lib/postgresql/$v/lib /usr/pgsql-$v/lib; ln -sf /usr/pgsql-$v/bin/psql /usr/bin/psql
        chown -R postgres: /var/lib/pgsql
        cat >/etc/systemd/system/postgresql-$v.service <<END
[Service]
Type=notify
User=postgres
Group=postgres
Environment=PGDATA=/var/lib/pgsql/$v/data/
RuntimeDirectory=postgresql
ExecStart=/usr/pgsql-$v/bin/postgres -D \\${PGDATA}
ExecReload=/bin/kill -HUP \\$MAINPID
KillMode=mixed
KillSignal=SIGINT
TimeoutSec=0
[Install]
WantedBy=multi-user.target
END
        systemctl daemon-reload";
    let mut lab = Scenario::boot(release, &["a", "b", "c"]);
    own_wishes_only(&mut lab);
    let version = release.postgres_major().to_string();
    for name in ["a", "b", "c"] {
        lab.run(name, &["sh", "-c", LAY_OUT, "sh", &version]);
    }
    let home = format!("/var/lib/pgsql/{version}/data");
    let existing = Existing { unit: format!("postgresql-{version}"), bin: format!("/usr/pgsql-{version}/bin"), home };
    existing.initialize(&lab, &["--data-checksums"]);
    lab.run("a", &["systemctl", "enable", "--quiet", "--now", &existing.unit]);
    existing.prepare(&lab);
    existing.fill(&lab, SMALL);
    adopted_unnoticed(&lab, &existing);
    let active = lab.run("b", &["systemctl", "is-active", &existing.unit]);
    assert_eq!(active.trim(), "active");
}

/// No service at all: `initdb`, a socket in /tmp, `pg_ctl`, and a user of its own.
#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn a_primary_run_by_pg_ctl_is_adopted_on_15() {
    run_by_pg_ctl(Release::Bookworm);
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn a_primary_run_by_pg_ctl_is_adopted_on_17() {
    run_by_pg_ctl(Release::Trixie);
}

#[test]
fn a_primary_run_by_pg_ctl_is_adopted_on_18() {
    run_by_pg_ctl(Release::Forky);
}

fn run_by_pg_ctl(release: Release) {
    let mut lab = Scenario::boot(release, &["a", "b", "c"]);
    own_wishes_only(&mut lab);
    let version = release.postgres_major().to_string();
    let bin = format!("/usr/lib/postgresql/{version}/bin");
    let home = "/srv/databases/main".to_owned();
    lab.edit(|inventory| {
        for name in ["a", "b", "c"] {
            let server = inventory["servers"][name].as_object_mut().unwrap();
            server.insert("service".into(), "pg_ctl".into());
            server.insert("data_directory".into(), home.clone().into());
            server.insert("bin_directory".into(), bin.clone().into());
        }
    });
    let existing = Existing { unit: String::new(), home, bin };
    lab.run("a", &["install", "-d", "-o", "postgres", "/srv/databases"]);
    existing.initialize(&lab, &["--data-checksums"]);
    let pg_ctl = format!("{}/pg_ctl", existing.bin);
    let log = format!("{}/../postgresql.log", existing.home);
    lab.run("a", &["runuser", "-u", "postgres", "--", &pg_ctl, "start", "-s", "-w", "-D", &existing.home, "-l", &log]);
    existing.prepare(&lab);
    existing.fill(&lab, SMALL);
    adopted_unnoticed(&lab, &existing);
}

/// The application sees nothing, and every server has the operator's data and settings.
fn adopted_unnoticed(lab: &Scenario, existing: &Existing) {
    let before = existing.dump(lab, "a");
    let settings = lab.sql("a", SETTINGS);
    let app = Application::start(lab, "c");
    assert_eq!(lab.bootstrap().json()["changed"], true);
    app.saw_nothing();
    assert_eq!(lab.sql("a", SETTINGS), settings, "the operator's settings");
    for name in ["a", "b", "c"] {
        let socket = lab.host(name).exec(&["test", "-S", "/var/run/postgresql/.s.PGSQL.5432"]).unwrap();
        assert!(socket.status.success(), "{name}: the socket is where clients look for it");
        assert_eq!(existing.dump(lab, name), before, "{name}");
        assert_eq!(lab.sql(name, "SHOW work_mem"), "7MB", "{name}");
        assert_eq!(lab.sql(name, "SHOW maintenance_work_mem"), "77MB", "{name}");
    }
    lab.streams("a", &["b"]);
    lab.streams("b", &["c"]);
    lab.settled();
}

const SETTINGS: &str = "SELECT string_agg(name || '=' || setting, E'\\n' ORDER BY name) FROM pg_settings WHERE name IN \
    ('work_mem', 'max_connections', 'random_page_cost', 'maintenance_work_mem', 'shared_preload_libraries', 'timezone', \
     'listen_addresses', 'password_encryption', 'shared_buffers', 'cluster_name')";

/// The inventory of a hosts lab wishes a database and a parameter; an operator who adopts wishes none.
pub(crate) fn own_wishes_only(lab: &mut Scenario) {
    lab.edit(|inventory| {
        let postgres = inventory["postgres"].as_object_mut().unwrap();
        postgres.remove("databases");
        postgres.remove("parameters");
    });
}

/// A primary that was there before pgstead.
pub(crate) struct Existing {
    /// Its unit.
    pub(crate) unit: String,
    home: String,
    bin: String,
}

impl Existing {
    /// Returns the path of a configuration file.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.home)
    }

    /// Made by Debian's tools, then edited by hand.
    pub(crate) fn on_debian(lab: &Scenario, release: Release, checksums: bool) -> Self {
        let version = release.postgres_major().to_string();
        let mut create = vec!["pg_createcluster", &version, "main"];
        if checksums {
            create.extend(["--", "--data-checksums"]);
        }
        lab.run("a", &create);
        let existing = Self {
            unit: format!("postgresql@{version}-main"),
            home: format!("/etc/postgresql/{version}/main"),
            bin: format!("/usr/lib/postgresql/{version}/bin"),
        };
        existing.edit_by_hand(lab);
        lab.run(
            "a",
            &["sh", "-c", "mkdir -p \"$1/conf.d\"; printf 'random_page_cost = 1.3\\n' >\"$1/conf.d/tuning.conf\"; printf \"include_dir 'conf.d'\\n\" >>\"$1/postgresql.conf\"", "sh", &existing.home],
        );
        lab.run("a", &["systemctl", "start", &existing.unit]);
        existing.prepare(lab);
        existing
    }

    /// Made by `initdb` in the data directory's place, then edited by hand.
    fn initialize(&self, lab: &Scenario, options: &[&str]) {
        let initdb = format!("{}/initdb", self.bin);
        let words = ["runuser", "-u", "postgres", "--", &initdb, "--no-instructions", "-D", &self.home];
        lab.run("a", &[&words, options].concat());
        self.edit_by_hand(lab);
    }

    fn edit_by_hand(&self, lab: &Scenario) {
        const EDIT: &str = "cat >>\"$1/postgresql.conf\" <<'END'\n\
            # --- ours, do not touch\nlisten_addresses = '*'\nwork_mem = '7MB'\nmax_connections = 123\n\
            max_wal_senders = 10\nshared_preload_libraries = 'pg_stat_statements'\nEND\n\
            printf 'host app app 0.0.0.0/0 scram-sha-256\\n' >>\"$1/pg_hba.conf\"";
        lab.run("a", &["sh", "-c", EDIT, "sh", &self.home]);
    }

    fn prepare(&self, lab: &Scenario) {
        lab.run("a", &["install", "-d", "-o", "postgres", "/srv/pg/fast", "/srv/pg/slow"]);
        lab.sql("a", "ALTER SYSTEM SET maintenance_work_mem = '77MB'");
        lab.sql("a", "SELECT pg_reload_conf()");
        lab.sql("a", "CREATE TABLESPACE fast LOCATION '/srv/pg/fast'");
        lab.sql("a", "CREATE TABLESPACE slow LOCATION '/srv/pg/slow'");
        lab.sql("a", "CREATE ROLE app LOGIN PASSWORD 'app of the test'");
        lab.sql("a", "CREATE DATABASE app OWNER app");
        lab.sql("a", "CREATE DATABASE bench TABLESPACE slow");
        lab.sql("a", "CREATE EXTENSION pg_stat_statements");
    }

    fn fill(&self, lab: &Scenario, scale: &str) {
        let pgbench = format!("{}/pgbench", self.bin);
        let fill = ["runuser", "-u", "postgres", "--", &pgbench, "-i", "-q", "-s", scale, "--tablespace=fast", "bench"];
        lab.run("a", &fill);
    }

    /// Returns the hash of a whole dump.
    fn dump(&self, lab: &Scenario, server: &str) -> String {
        const DUMP: &str = "set -e; runuser -u postgres -- \"$1/pg_dump\" --restrict-key=pgstead -p \"$2\" bench >/dev/shm/dump; \
            sha256sum </dev/shm/dump; rm /dev/shm/dump";
        lab.run(server, &["sh", "-c", DUMP, "sh", &self.bin, &lab.port.to_string()])
    }
}

/// A client on another machine, as it was before: one session that goes on writing, and connects again when it is thrown
/// out; and a new session every tenth of a second.
pub(crate) struct Application<'a> {
    lab: &'a Scenario,
    host: &'a str,
    child: Child,
}

impl<'a> Application<'a> {
    pub(crate) fn start(lab: &'a Scenario, host: &'a str) -> Self {
        const RUN: &str = "umask 077; printf '*:*:*:app:app of the test\\n' >/run/app.pass; touch /run/app
            export PGPASSFILE=/run/app.pass PGHOST=$1 PGPORT=$2 PGUSER=app PGDATABASE=app
            psql -Xqc 'CREATE TABLE ledger (n int)' || exit 1
            while [ -e /run/app ]; do
              while [ -e /run/app ]; do printf 'INSERT INTO ledger VALUES (1) RETURNING n;\\n'; pause 0.02; done |
                psql -XAtq >>/run/app.written 2>>/run/app.written.errors
            done &
            writer=$!
            while [ -e /run/app ]; do psql -XAtqc 'SELECT 1' >>/run/app.read 2>>/run/app.read.errors; pause 0.1; done
            wait $writer";
        let address = lab.host("a").address().to_string();
        let port = lab.port.to_string();
        let mut command = lab.host(host).command(&["bash", "-c", &with_pause(RUN), "bash", &address, &port]).unwrap();
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        lab.eventually("a", "SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = 'app'", "t");
        Self { lab, host, child }
    }

    /// Ends it. It saw no error at all, and what it was told is written is there.
    pub(crate) fn saw_nothing(mut self) {
        let (written, [writer, reader]) = self.end();
        assert_eq!(writer, "", "what the long session saw");
        assert_eq!(reader, "", "what the short sessions saw");
        let count = self.lab.host("a").psql(self.lab.port, "app", "SELECT count(*) FROM ledger").unwrap();
        assert_eq!(written.to_string(), count);
        assert!(written > 50, "{written}");
    }

    /// Ends it. It saw one restart and nothing else, works again, and what it was told is written is there.
    fn saw_a_restart(mut self) {
        const OF_A_RESTART: [&str; 12] = [
            "terminating connection due to administrator command",
            "server closed the connection unexpectedly",
            "This probably means the server terminated abnormally",
            "before or while processing the request.",
            "SSL connection has been closed unexpectedly",
            // A session that was about to begin.
            "SSL SYSCALL error: EOF detected",
            "SSL error: unexpected eof while reading",
            "Connection reset by peer",
            "connection to server was lost",
            "the database system is ",
            "Connection refused",
            "Is the server running on that host and accepting TCP/IP connections?",
        ];
        let before = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let lines = || self.lab.run(self.host, &["sh", "-c", "wc -l </run/app.written"]).trim().parse::<u64>().unwrap();
        let now = lines();
        crate::scenario::until(before, || lines() > now + 20);
        let (written, errors) = self.end();
        assert!(written > now + 20, "it does not write any more");
        for errors in &errors {
            let strange = errors.lines().filter(|line| !OF_A_RESTART.iter().any(|known| line.contains(known)));
            assert_eq!(strange.collect::<Vec<_>>(), Vec::<&str>::new(), "{errors}");
        }
        // A restart ends the long session once. A short one is there at that moment or is not.
        let [writer, reader] = errors.map(|errors| errors.matches(OF_A_RESTART[0]).count());
        assert_eq!(writer, 1, "the long session");
        assert!(reader <= 1, "the short sessions were ended {reader} times");
        let count = self.lab.host("a").psql(self.lab.port, "app", "SELECT count(*) FROM ledger").unwrap();
        // One row may have been written whose answer was lost.
        assert!([written, written + 1].contains(&count.parse().unwrap()), "{written} {count}");
    }

    /// How many rows were written, and what went wrong: in the long session, and in the short ones.
    fn end(&mut self) -> (u64, [String; 2]) {
        self.lab.run(self.host, &["rm", "/run/app"]);
        assert!(self.child.wait().unwrap().success());
        let written = self.lab.run(self.host, &["sh", "-c", "wc -l </run/app.written"]);
        assert_eq!(self.lab.run(self.host, &["sh", "-c", "sort -u /run/app.read"]).trim(), "1");
        let errors =
            ["/run/app.written.errors", "/run/app.read.errors"].map(|file| self.lab.run(self.host, &["cat", file]));
        (written.trim().parse().unwrap(), errors)
    }
}

//! A whole topology that somebody made by hand is adopted as it is: nothing is copied, nobody is restarted, no row is lost.
//!
//! That nothing was copied is read from the servers: inodes and times of the data directories, and the primary's log, in which every
//! base backup is a line.

use pgstead::lab::hosts::Release;

use crate::adoption::Application;
use crate::adoption::Existing;
use crate::adoption::own_wishes_only;
use crate::faults::BOOTSTRAP;
use crate::faults::crash_points;
use crate::faults::crashing;
use crate::faults::until_it_comes_through;
use crate::scenario::Scenario;
use crate::switchover::there_and_back_again;

/// The password of the role that the operator's standbys use.
const PASSWORD: &str = "s3cret-of-the-copier";

/// What `pg_basebackup -R` makes, with the configuration of Debian's tools beside it: version, host, what else it is told.
const COPY: &str = "set -e; v=$1; host=$2; shift 2; pg_createcluster $v main >/dev/null
    cat >>/etc/postgresql/$v/main/postgresql.conf <<'END'
listen_addresses = '*'
work_mem = '9MB'
max_connections = 123
END
    printf 'host replication copier 0.0.0.0/0 scram-sha-256\\n' >>/etc/postgresql/$v/main/pg_hba.conf
    mv /var/lib/postgresql/$v/main /var/lib/postgresql/$v/empty
    runuser -u postgres -- /usr/lib/postgresql/$v/bin/pg_basebackup -D /var/lib/postgresql/$v/main -R -c fast \
        -d \"host=$host user=copier password=s3cret-of-the-copier\" \"$@\"
    systemctl start postgresql@$v-main";

#[test]
fn a_trio_made_by_hand_is_adopted_without_a_copy_on_17() {
    made_by_hand(Release::Trixie);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn a_trio_made_by_hand_is_adopted_without_a_copy_on_15() {
    made_by_hand(Release::Bookworm);
}

#[test]
#[ignore = "plays on 17 in every run, on all releases in make soak"]
fn a_trio_made_by_hand_is_adopted_without_a_copy_on_18() {
    made_by_hand(Release::Forky);
}

/// One standby with a slot of its own, and one behind it without.
fn made_by_hand(release: Release) {
    let lab = trio(release);
    let data = format!("/var/lib/postgresql/{}/main", release.postgres_major());
    let before = as_they_are(&lab, &data);
    let backups = base_backups(&lab, release);
    let app = Application::start(&lab, "c");

    let plan = lab.pgstead(&["plan", "--format", "json"]).expect(0);
    assert!(!plan.to_string().contains(PASSWORD), "{plan}");
    let document = plan.json();
    let adopted = document["notes"].as_array().unwrap().iter().filter(|note| note["code"] == "adopted");
    assert_eq!(adopted.map(|note| note["server"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b", "c"], "{plan}");
    let preflight = lab.pgstead(&["preflight", "--format", "json"]);
    assert!(!preflight.to_string().contains(PASSWORD), "{preflight}");
    // Interrupted where the files are there and their values not in force, and where the connection is new and the mark not there.
    let moments = [
        "after:b: adopt the existing standby: install pgstead's part of its configuration",
        "after:c: go over to pgstead's connection: ALTER SYSTEM RESET primary_conninfo; reload",
    ];
    for moment in moments {
        let (ran, struck) = crashing(&lab, moment);
        assert_eq!((ran.code, struck.as_deref()), (-1, Some(moment)), "{ran}");
    }
    let ran = lab.bootstrap();
    assert!(!ran.to_string().contains(PASSWORD), "{ran}");

    app.saw_nothing();
    assert_eq!(as_they_are(&lab, &data), before, "data directories and postmasters");
    assert_eq!(base_backups(&lab, release), backups, "base backups that were begun on a");
    lab.streams("a", &["b"]);
    lab.streams("b", &["c"]);
    assert_eq!(lab.sql("a", "SELECT string_agg(slot_name, ' ') FROM pg_replication_slots"), "b");
    for name in ["b", "c"] {
        assert_eq!(lab.sql(name, "SHOW work_mem"), "9MB", "{name}: its own configuration");
        let auto = lab.run(name, &["cat", &format!("{data}/postgresql.auto.conf")]);
        assert!(!auto.contains("primary_"), "{name}: {auto}");
    }
    lab.settled();
    let rows = lab.host("a").psql(lab.port, "app", "SELECT count(*) FROM ledger").unwrap();
    for name in ["b", "c"] {
        let has = lab.host(name).psql(lab.port, "app", "SELECT count(*) FROM ledger").unwrap();
        assert_eq!(has, rows, "{name}");
    }
    there_and_back_again(&lab);

    for name in ["a", "b", "c"] {
        lab.host(name).power_cut().unwrap();
    }
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let lab = &lab;
            scope.spawn(move || lab.host(name).boot().unwrap());
        }
    });
    lab.eventually(
        "a",
        "SELECT string_agg(application_name || ' ' || state, ', ') FROM pg_stat_replication",
        "b streaming",
    );
    lab.eventually(
        "b",
        "SELECT string_agg(application_name || ' ' || state, ', ') FROM pg_stat_replication",
        "c streaming",
    );
    lab.settled();
}

#[test]
#[ignore = "takes minutes: make soak"]
fn an_adoption_of_a_trio_is_killed_at_every_step_on_18() {
    killed_at_every_step(Release::Forky);
}

/// Whatever was done when pgstead was killed, the same command finishes the work. A slot whose standby went over in a run that did
/// not come to drop it is nobody's to prove: it is told.
fn killed_at_every_step(release: Release) {
    let mut lab = trio(release);
    let data = format!("/var/lib/postgresql/{}/main", release.postgres_major());
    let plan = lab.pgstead(&["plan", "--format", "json"]).expect(0).json();
    let mut left = crash_points(&plan, &["locked", "unlocking", "unlocked"]);
    // Steps that run side by side are done when one of them is the last thing that a run does: another round for them.
    for round in 1..=6 {
        if left.is_empty() {
            break;
        }
        if round > 1 {
            lab.reset();
            by_hand(&mut lab, release);
        }
        let before = as_they_are(&lab, &data);
        until_it_comes_through(&lab, BOOTSTRAP, &mut left, |_| ()).expect(0);
        assert_eq!(as_they_are(&lab, &data), before, "data directories and postmasters");
        base_backups(&lab, release);
        lab.streams("a", &["b"]);
        lab.streams("b", &["c"]);
        if lab.sql("a", "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'of_b'") == "1" {
            let check = lab.pgstead(&["check", "--format", "json"]).expect(7);
            assert_eq!(check.codes(), ["slot-inactive"], "{check}");
            lab.sql("a", "SELECT pg_drop_replication_slot('of_b')");
        }
        lab.settled();
    }
    assert_eq!(left, Vec::<String>::new(), "crash points that no run came to");
}

/// Boots a primary of Debian's tools, with two standbys that an operator made of it.
fn trio(release: Release) -> Scenario {
    let mut lab = Scenario::boot(release, &["a", "b", "c"]);
    by_hand(&mut lab, release);
    lab
}

fn by_hand(lab: &mut Scenario, release: Release) {
    own_wishes_only(lab);
    let lab = &*lab;
    let existing = Existing::on_debian(lab, release, true);
    let version = release.postgres_major().to_string();
    for name in ["b", "c"] {
        lab.run(name, &["install", "-d", "-o", "postgres", "/srv/pg/fast", "/srv/pg/slow"]);
    }
    lab.sql("a", &format!("CREATE ROLE copier LOGIN REPLICATION PASSWORD '{PASSWORD}'"));
    lab.sql("a", "ALTER SYSTEM SET log_replication_commands = on");
    let admit = ["sh", "-c", "printf 'host replication copier 0.0.0.0/0 scram-sha-256\\n' >>\"$1\"", "sh"];
    lab.run("a", &[&admit[..], &[&existing.path("pg_hba.conf")]].concat());
    lab.run("a", &["systemctl", "reload", &existing.unit]);
    // A reload is read by each process in its own time.
    lab.eventually("a", "SHOW log_replication_commands", "on");
    let [a, b] = ["a", "b"].map(|name| lab.host(name).address().to_string());
    lab.run("b", &["sh", "-c", COPY, "sh", &version, &a, "-C", "-S", "of_b"]);
    lab.eventually("a", "SELECT state FROM pg_stat_replication", "streaming");
    lab.run("c", &["sh", "-c", COPY, "sh", &version, &b]);
    // It came with the copy, beside the connection to a, and is of no use on b: the last of a name counts.
    lab.sql("c", "ALTER SYSTEM RESET primary_slot_name");
    lab.sql("c", "SELECT pg_reload_conf()");
    lab.eventually("b", "SELECT state FROM pg_stat_replication", "streaming");
}

/// What a copy, or a restart, would change: inodes, the time of a file that nobody writes again, and since when the instance runs.
fn as_they_are(lab: &Scenario, data: &str) -> Vec<String> {
    let version = format!("{data}/PG_VERSION");
    let of = |name: &&str| {
        let files =
            lab.run(name, &["stat", "-c", "%n %i %y", &version]) + &lab.run(name, &["stat", "-c", "%n %i", data]);
        files + &lab.sql(name, "SELECT pg_postmaster_start_time()")
    };
    ["a", "b", "c"].iter().map(of).collect()
}

/// How often somebody began a base backup of the primary.
fn base_backups(lab: &Scenario, release: Release) -> String {
    let log = format!("/var/log/postgresql/postgresql-{}-main.log", release.postgres_major());
    let count = lab.run("a", &["grep", "-c", "received replication command: BASE_BACKUP", &log]);
    assert_eq!(count.trim(), "1", "the one of b is in the log");
    count
}

//! Alarms of `check` about links and roles: a healthy topology, one thing broken, the code that names it, and health again.
//!
//! One topology serves all alarms of a release, one after the other. What is restored must be healthy again, or the
//! next alarm would prove nothing. With `PGSTEAD_CAPTURE=DIR` what was seen is kept there as cases for `tests/check.rs`.

use pgstead::lab::hosts::Release;

use crate::alarm::AT_ONCE;
use crate::alarm::Alarms;
use crate::alarm::CANARY;
use crate::alarm::Expected;
use crate::alarm::SILENCE;
use crate::scenario::Scenario;

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn every_alarm_is_named_on_15() {
    every_alarm(Release::Bookworm);
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn every_alarm_is_named_on_17() {
    every_alarm(Release::Trixie);
}

#[test]
fn every_alarm_is_named_on_18() {
    every_alarm(Release::Forky);
}

fn every_alarm(release: Release) {
    let mut lab = Scenario::boot(release, &["a", "b", "c"]);
    // One region: a canary that does not come is given up after 2 s on every link.
    lab.edit(|inventory| {
        for site in inventory["sites"].as_object_mut().unwrap().values_mut() {
            site["region"] = "华东".into();
        }
    });
    lab.bootstrap();
    let mut alarms = Alarms::new(lab, release);
    alarms.quiet("healthy");
    alarms.standby_stopped();
    alarms.slot_dropped();
    alarms.replay_paused();
    alarms.access_removed();
    alarms.wrong_authority();
    alarms.other_upstream();
    alarms.signal_file_deleted();
    alarms.service_not_enabled();
    alarms.garbage_in_files();
    alarms.restart_pending();
    alarms.key_exposed();
    alarms.key_missing();
    alarms.primary_stopped();
    alarms.link_cut_silently();
    alarms.standby_unreachable();
    alarms.primary_unreachable();
    alarms.two_primaries();
    alarms.end();
}

impl Alarms {
    fn standby_stopped(&mut self) {
        self.systemctl("c", "stop");
        let expected = Expected {
            exit: 7,
            findings: &[("instance-not-running", Some("c")), ("no-sender", Some("b"))],
            links: ["healthy", "unhealthy"],
            seconds: AT_ONCE,
        };
        self.alarm("standby-stopped", &expected);
        self.systemctl("c", "start");
        self.quiet("standby-stopped");
    }

    fn slot_dropped(&mut self) {
        self.systemctl("c", "stop");
        self.lab.eventually("b", "SELECT active FROM pg_replication_slots WHERE slot_name = 'c'", "f");
        self.lab.sql("b", "SELECT pg_drop_replication_slot('c')");
        self.systemctl("c", "start");
        let expected = Expected {
            exit: 7,
            // Whether the standby is just trying again is chance.
            findings: &[("slot-missing", Some("b")), ("canary-lost", Some("c"))],
            links: ["healthy", "unhealthy"],
            seconds: CANARY,
        };
        self.alarm("slot-missing", &expected);
        // What the hint says helps.
        self.lab.pgstead(&["bootstrap", "--yes"]).expect(0);
        self.quiet("slot-missing");
    }

    fn replay_paused(&mut self) {
        self.lab.sql("c", "SELECT pg_wal_replay_pause()");
        self.lab.eventually("c", "SELECT pg_get_wal_replay_pause_state() <> 'not paused'", "t");
        let expected = Expected {
            exit: 7,
            findings: &[("replay-paused", Some("c")), ("canary-lost", Some("c"))],
            links: ["healthy", "unhealthy"],
            seconds: CANARY,
        };
        self.alarm("replay-paused", &expected);
        self.lab.sql("c", "SELECT pg_wal_replay_resume()");
        self.quiet("replay-paused");
    }

    fn access_removed(&mut self) {
        let hba = self.config("pg_hba.conf");
        let record = format!("/^hostssl replication .*{}.*/d", self.lab.host("b").address());
        self.keep("a", &hba);
        self.lab.run("a", &["sed", "-i", &record, &hba]);
        self.lab.sql("a", "SELECT pg_reload_conf()");
        self.disconnect("a", "b");
        let expected = Expected {
            exit: 7,
            findings: &[
                ("dial-failed", Some("b")),
                ("no-sender", Some("a")),
                ("canary-lost", Some("b")),
                ("drift", Some("a")),
            ],
            links: ["unhealthy", "unhealthy"],
            seconds: CANARY,
        };
        self.alarm("access-removed", &expected);
        self.restore("a", &hba);
        self.lab.sql("a", "SELECT pg_reload_conf()");
        self.quiet("access-removed");
    }

    fn wrong_authority(&mut self) {
        let bundle = self.lab.run("b", &["sh", "-c", "ls /var/lib/pgstead/lab/*/ca.crt"]);
        self.keep("b", &bundle);
        // A valid certificate, of somebody else.
        let made =
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=other -keyout /dev/null";
        let other = self.lab.host("b").run(&["sh", "-c", made]);
        let other = other.unwrap_or_else(|_| crate::alarm::on_this_machine(made));
        self.lab.host("b").write_file(&bundle, other.as_bytes()).unwrap();
        self.disconnect("a", "b");
        let expected = Expected {
            exit: 7,
            findings: &[
                ("dial-failed", Some("b")),
                ("no-sender", Some("a")),
                ("no-receiver", Some("b")),
                ("authority-replaced", Some("b")),
            ],
            links: ["unhealthy", "unhealthy"],
            seconds: CANARY,
        };
        self.alarm("wrong-authority", &expected);
        self.restore("b", &bundle);
        self.quiet("wrong-authority");
    }

    fn other_upstream(&mut self) {
        let conninfo = self.lab.sql("c", "SHOW primary_conninfo");
        let (a, b) = (self.lab.host("a").address().to_string(), self.lab.host("b").address().to_string());
        assert!(conninfo.contains(&b), "{conninfo}");
        let other = conninfo.replace(&b, &a).replace('\'', "''");
        self.lab.sql("c", &format!("ALTER SYSTEM SET primary_conninfo = '{other}'"));
        self.lab.sql("c", "ALTER SYSTEM SET primary_slot_name = ''");
        self.lab.sql("c", "SELECT pg_reload_conf()");
        self.lab.eventually("c", "SELECT status, sender_host FROM pg_stat_wal_receiver", &format!("streaming|{a}"));
        let expected = Expected {
            exit: 7,
            findings: &[("wrong-upstream", Some("c")), ("setting-overridden", Some("c")), ("no-sender", Some("b"))],
            links: ["healthy", "unhealthy"],
            seconds: CANARY,
        };
        self.alarm("wrong-upstream", &expected);
        self.lab.sql("c", "ALTER SYSTEM RESET primary_conninfo");
        self.lab.sql("c", "ALTER SYSTEM RESET primary_slot_name");
        self.lab.sql("c", "SELECT pg_reload_conf()");
        self.quiet("wrong-upstream");
    }

    fn signal_file_deleted(&mut self) {
        let signal = format!("/var/lib/postgresql/{}/main/standby.signal", self.major);
        self.keep("c", &signal);
        self.lab.run("c", &["rm", &signal]);
        let expected = Expected {
            exit: 7,
            findings: &[("standby-signal-missing", Some("c"))],
            links: ["healthy", "unhealthy"],
            seconds: AT_ONCE,
        };
        self.alarm("standby-signal-missing", &expected);
        self.restore("c", &signal);
        self.quiet("standby-signal-missing");
    }

    fn service_not_enabled(&mut self) {
        let start = self.config("start.conf");
        self.keep("c", &start);
        self.lab.run("c", &["sed", "-i", "s/^auto/manual/", &start]);
        let expected = Expected {
            exit: 7,
            findings: &[("service-not-enabled", Some("c")), ("drift", Some("c"))],
            links: ["healthy", "unhealthy"],
            seconds: AT_ONCE,
        };
        self.alarm("service-not-enabled", &expected);
        self.restore("c", &start);
        self.quiet("service-not-enabled");
    }

    fn garbage_in_files(&mut self) {
        for (file, name) in [("pg_hba.conf", "garbage-in-hba"), ("postgresql.conf", "garbage-in-conf")] {
            let path = self.config(file);
            self.keep("b", &path);
            self.lab.run("b", &["sh", "-c", "echo 'nobody knows what this is' >> \"$1\"", "sh", &path]);
            self.hang_up("b");
            let expected = Expected {
                exit: 7,
                findings: &[("configuration-error", Some("b")), ("drift", Some("b"))],
                links: ["unhealthy", "healthy"],
                seconds: AT_ONCE,
            };
            self.alarm(name, &expected);
            self.restore("b", &path);
            self.hang_up("b");
            self.quiet(name);
        }
    }

    fn restart_pending(&mut self) {
        // One that a file of ours sets: PostgreSQL forgets to clear the flag of one that no file sets.
        self.lab.sql("c", "ALTER SYSTEM SET shared_buffers = '48MB'");
        self.lab.sql("c", "SELECT pg_reload_conf()");
        self.lab.eventually("c", "SELECT pending_restart FROM pg_settings WHERE name = 'shared_buffers'", "t");
        let expected = Expected {
            exit: 7,
            findings: &[("restart-pending", Some("c"))],
            links: ["healthy", "unhealthy"],
            seconds: AT_ONCE,
        };
        self.alarm("restart-pending", &expected);
        self.lab.sql("c", "ALTER SYSTEM RESET shared_buffers");
        self.lab.sql("c", "SELECT pg_reload_conf()");
        self.quiet("restart-pending");
    }

    fn key_exposed(&mut self) {
        self.lab.run("c", &["sh", "-c", "chmod 644 /var/lib/pgstead/lab/*/tls/server.key"]);
        let expected = Expected {
            exit: 7,
            findings: &[("key-exposed", Some("c"))],
            links: ["healthy", "unhealthy"],
            seconds: AT_ONCE,
        };
        self.alarm("key-exposed", &expected);
        // What the hint says helps.
        self.lab.pgstead(&["bootstrap", "--yes"]).expect(0);
        self.quiet("key-exposed");
    }

    fn key_missing(&mut self) {
        self.lab.run("c", &["sh", "-c", "cd /var/lib/pgstead/lab/*/tls/ && mv client.key away"]);
        let expected = Expected {
            exit: 7,
            findings: &[("key-missing", Some("c")), ("dial-failed", Some("c"))],
            links: ["healthy", "unhealthy"],
            seconds: AT_ONCE,
        };
        self.alarm("key-missing", &expected);
        self.lab.run("c", &["sh", "-c", "cd /var/lib/pgstead/lab/*/tls/ && mv away client.key"]);
        self.quiet("key-missing");
    }

    fn primary_stopped(&mut self) {
        self.systemctl("a", "stop");
        let expected = Expected {
            exit: 7,
            findings: &[("no-primary", None), ("instance-not-running", Some("a"))],
            links: ["unhealthy", "unknown"],
            seconds: AT_ONCE,
        };
        self.alarm("no-primary", &expected);
        self.systemctl("a", "start");
        self.quiet("no-primary");
    }

    /// Neither side is told; the upstream still calls it streaming, and `check` must not believe that.
    fn link_cut_silently(&mut self) {
        let state = "SELECT state FROM pg_stat_replication WHERE application_name = 'c'";
        self.lab.lab().drop_link(self.lab.host("b"), self.lab.host("c")).unwrap();
        assert_eq!(self.lab.sql("b", state), "streaming");
        let expected = Expected {
            exit: 7,
            findings: &[("canary-lost", Some("c")), ("dial-failed", Some("c")), ("dial-failed", Some("b"))],
            links: ["healthy", "unhealthy"],
            seconds: SILENCE,
        };
        self.alarm("link-silent", &expected);
        self.lab.lab().mend_drop(self.lab.host("b"), self.lab.host("c")).unwrap();
        self.quiet("link-silent");
    }

    fn standby_unreachable(&mut self) {
        let operator = self.lab.host("c").operator_address();
        self.lab.host("c").drop_arriving_from(operator).unwrap();
        let expected = Expected {
            exit: 10,
            findings: &[("server-unreachable", Some("c")), ("standby-not-seen", Some("c"))],
            links: ["healthy", "unknown"],
            seconds: SILENCE,
        };
        self.alarm("standby-unreachable", &expected);
        self.lab.host("c").accept_arriving_from(operator).unwrap();
        self.quiet("standby-unreachable");
    }

    fn primary_unreachable(&mut self) {
        let operator = self.lab.host("a").operator_address();
        self.lab.host("a").drop_arriving_from(operator).unwrap();
        let expected = Expected {
            exit: 10,
            findings: &[("no-primary-seen", None), ("server-unreachable", Some("a")), ("upstream-not-seen", Some("a"))],
            links: ["unknown", "unknown"],
            seconds: SILENCE,
        };
        self.alarm("primary-unreachable", &expected);
        self.lab.host("a").accept_arriving_from(operator).unwrap();
        self.quiet("primary-unreachable");
    }

    fn two_primaries(&mut self) {
        let data = format!("/var/lib/postgresql/{}/main", self.major);
        let program = format!("/usr/lib/postgresql/{}/bin/pg_ctl", self.major);
        self.lab.run("b", &["runuser", "-u", "postgres", "--", &program, "-D", &data, "promote", "--wait"]);
        let expected = Expected {
            exit: 7,
            findings: &[("two-primaries", None)],
            links: ["unhealthy", "unhealthy"],
            seconds: AT_ONCE,
        };
        self.alarm("two-primaries", &expected);
        let refused = self.lab.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(5);
        assert!(refused.codes().iter().any(|code| code == "two-primaries"), "{refused}");
    }
}

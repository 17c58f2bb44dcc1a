//! A server that answers over SSH while something hangs there, as a disk whose reads never return: on real hosts.

use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Release;

use crate::attest::A_IS_OFF;
use crate::attest::TO_B;
use crate::attest::notices;
use crate::attest::unit;
use crate::frozen::hangs;
use crate::invariants::never_two;
use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::until;
use crate::switchover::is_primary;
use crate::traces::Recorders;

/// No look at a server that hangs takes longer than this; nor does what follows from it.
const SOON: Duration = Duration::from_secs(120);

/// Whoever reads a certain file never comes back, and no process of the instance gets on: so it is where a disk hangs.
fn hangs_with_its_instance(lab: &Scenario, server: &str, release: Release) {
    hangs(lab, server);
    lab.run(server, &["systemctl", "kill", "--signal=STOP", &unit(release)]);
}

/// The disk answers again. What stood still in memory goes on, or was ended before by whoever gave it up.
fn is_well_again(lab: &Scenario, server: &str, release: Release, signal: &str) {
    lab.run(server, &["systemctl", "kill", &format!("--signal={signal}"), &unit(release)]);
    lab.run(server, &["rm", "-r", &format!("/var/lib/pgstead/lab/{server}/jobs/hangs")]);
}

#[track_caller]
fn soon(lab: &Scenario, args: &[&str]) -> Ran {
    let begun = Instant::now();
    let ran = lab.pgstead(args);
    assert!(begun.elapsed() < SOON, "{:?}: {ran}", begun.elapsed());
    ran
}

/// A standby that followed the dead primary and hangs: nothing shows that it is a standby, and nothing that it was promoted.
#[test]
fn a_standby_of_the_dead_primary_that_hangs_holds_nothing_back() {
    const RELEASE: Release = Release::Bookworm;
    let mut lab = Scenario::boot(RELEASE, &["a", "b", "c"]);
    lab.edit(|inventory| {
        inventory["servers"]["c"].as_object_mut().unwrap().remove("upstream");
    });
    lab.bootstrap();
    let recorders = Recorders::begin(&lab, None);
    hangs_with_its_instance(&lab, "c", RELEASE);
    lab.host("a").signal_postmaster("/var/lib/postgresql/15/main", "KILL").unwrap();
    until(Instant::now() + SOON, || lab.host("a").psql(lab.port, "postgres", "SELECT 1").is_err());
    let ran = soon(&lab, &[TO_B, &["--accept-loss"]].concat()).expect(0);
    assert!(ran.codes().contains(&"not-looked-at".to_owned()), "{ran}");
    assert!(ran.stderr.contains("something there hangs"), "{ran}");
    is_primary(&lab, "b", &[]);
    is_well_again(&lab, "c", RELEASE, "CONT");
    lab.pgstead(&["reseed", "a", "--accept-divergence", "--yes", "--format", "json"]).expect(0);
    lab.bootstrap();
    is_primary(&lab, "b", &["a", "c"]);
    lab.streams("b", &["a", "c"]);
    lab.settled();
    assert_eq!(never_two(&recorders.end()), Vec::<String>::new());
}

/// The primary itself hangs. Nothing can be fenced through it, so that a person has to cut it off, and to answer for that.
#[test]
fn a_primary_whose_reads_never_return_is_given_up_by_a_person() {
    const RELEASE: Release = Release::Trixie;
    let lab = Scenario::boot(RELEASE, &["a", "b"]);
    lab.bootstrap();
    hangs_with_its_instance(&lab, "a", RELEASE);
    let check = soon(&lab, &["check", "--format", "json"]).expect(7);
    assert!(check.codes().contains(&"server-unreachable".to_owned()), "{check}");
    soon(&lab, &["status"]);
    let refused = soon(&lab, TO_B).expect(5);
    assert!(refused.codes().contains(&"not-fenced".to_owned()), "{refused}");
    assert!(refused.stderr.contains("answers over SSH and hangs"), "{refused}");
    // The standby still counts on it, until it notices by its own time limit.
    notices(&lab, "b");
    soon(&lab, &[TO_B, A_IS_OFF].concat()).expect(0);
    is_primary(&lab, "b", &[]);
    lab.sql("b", "CREATE TABLE t AS SELECT 42 AS answer");
    // What was cut off does not come back as it was.
    is_well_again(&lab, "a", RELEASE, "KILL");
    until(Instant::now() + SOON, || lab.host("a").psql(lab.port, "postgres", "SELECT 1").is_err());
    lab.pgstead(&["reseed", "a", "--accept-divergence", "--yes", "--format", "json"]).expect(0);
    lab.eventually("a", "SELECT answer FROM t", "42");
    is_primary(&lab, "b", &["a"]);
    lab.settled();
}

//! The lease on the servers, and what journals tell of runs that were refused, overtaken or killed.

use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Release;

use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::Started;
use crate::scenario::until;

const YES: &[&str] = &["bootstrap", "--yes", "--format", "json"];

/// Two hosts, a run in the middle of b's base backup, and the path of another operator's state directory.
pub(crate) fn in_the_middle() -> (Scenario, Started, String) {
    let lab = Scenario::boot(Release::Bookworm, &["a", "b"]);
    lab.host("b").limit_rate(6).unwrap();
    let run = lab.start(YES);
    copies(&lab);
    let other = lab.path().with_file_name("other-state").to_string_lossy().into_owned();
    (lab, run, other)
}

fn copies(lab: &Scenario) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut seen = String::new();
    until(deadline, || {
        let phase = "SELECT phase FROM pg_stat_progress_basebackup";
        seen = lab.host("a").psql(lab.port, "postgres", phase).unwrap_or_default();
        seen == "streaming database files"
    });
    assert_eq!(seen, "streaming database files");
}

fn lock(server: &str) -> String {
    format!("/var/lib/pgstead/lab/{server}/lock")
}

/// As if the lease had not been renewed for as long; the host's own clock judges.
fn age(lab: &Scenario, when: &str) {
    for server in ["a", "b"] {
        lab.run(server, &["touch", "-d", when, &lock(server)]);
    }
}

fn with_state(lab: &Scenario, state: &str, args: &[&str]) -> Ran {
    lab.pgstead(&[args, &["--state", state]].concat())
}

fn locks(lab: &Scenario) -> String {
    ["a", "b"]
        .map(|server| lab.run(server, &["sh", "-c", "find /var/lib/pgstead -name 'lock*' -not -path '*/jobs/*'"]))
        .concat()
}

#[test]
fn a_living_lease_is_respected_and_a_dead_one_is_taken_over() {
    let (lab, first, other) = in_the_middle();
    let run = lab.run("b", &["sed", "s/.*\"run\":\"\\([^\"]*\\)\".*/\\1/", &lock("b")]);

    // Two at once: one refuses, and names the holder.
    let refused = with_state(&lab, &other, YES).expect(9);
    assert!(refused.codes().contains(&"locked".to_owned()), "{refused}");
    for words in ["bootstrap by ", run.trim(), "renewed ", "its lease ends in "] {
        assert!(refused.stderr.contains(words), "{words}: {refused}");
    }
    // Nor does anything begin beside the run on its own machine.
    for beside in [&["unlock", "--yes"][..], &["drill", "switchover", "--yes"]] {
        let refused = lab.pgstead(beside).expect(9);
        assert!(
            refused.codes().contains(&"locked".to_owned()) && refused.stderr.contains("\"bootstrap\" of "),
            "{refused}"
        );
    }
    // A living lease is not broken by --yes, and is shown.
    let unbroken = with_state(&lab, &other, &["unlock", "--yes"]).expect(9);
    assert!(unbroken.codes().contains(&"lease-living".to_owned()), "{unbroken}");
    assert!(unbroken.stderr.contains("The lease lives") && unbroken.stderr.contains(run.trim()), "{unbroken}");
    let status = with_state(&lab, &other, &["status"]).expect(0);
    assert_eq!(status.stdout.matches("[locked by ").count(), 2, "{status}");

    // The first one's machine sleeps past its lease; the second takes over and finishes.
    first.signal("STOP", false);
    age(&lab, "2 minutes ago");
    lab.host("b").unlimit().unwrap();
    let second = with_state(&lab, &other, YES).expect(0);
    assert!(second.codes().contains(&"lease-taken-over".to_owned()), "{second}");
    assert!(second.stderr.contains(run.trim()), "{second}");
    assert_eq!(locks(&lab), "");

    // It wakes up, changes nothing, and says whose fault it is not.
    let facts = "find /etc/postgresql /var/lib/pgstead -type f ! -name audit.jsonl ! -name generation -exec sha256sum {} + | sort; \
                 systemctl show -P InvocationID postgresql@15-main";
    let before = ["a", "b"].map(|server| lab.run(server, &["sh", "-c", facts]));
    first.signal("CONT", false);
    let woken = first.end().expect(9);
    assert_eq!(woken.json()["error"]["code"], "lease-lost", "{woken}");
    assert_eq!(["a", "b"].map(|server| lab.run(server, &["sh", "-c", facts])), before);
    lab.streams("a", &["b"]);

    // Any machine can read the whole story from the servers, this one's state being lost.
    let nowhere = lab.path().with_file_name("no-state").to_string_lossy().into_owned();
    let story = with_state(&lab, &nowhere, &["history", "--servers", "--format", "json"]).expect(0).json();
    let runs = story["runs"].as_array().unwrap();
    let of_first = runs.iter().find(|one| one["id"] == run.trim()).unwrap();
    assert!(of_first["message"].as_str().unwrap().contains("was taken over by"), "{story}");
    assert_eq!(of_first["servers"], serde_json::json!(["a", "b"]));
    let of_second = runs.iter().find(|one| one["result"] == "done").unwrap();
    assert!(of_second["steps"].as_u64().unwrap() > 3, "{story}");
}

#[test]
fn a_killed_run_tells_the_step_that_had_begun() {
    let (lab, first, other) = in_the_middle();
    first.signal("KILL", false);
    first.end();
    let local = lab.pgstead(&["history", "--format", "json"]).expect(0).json();
    let killed = &local["runs"][0];
    assert_eq!((&killed["result"], &killed["running"]), (&serde_json::Value::Null, &false.into()));
    let begun = killed["unfinished"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
    assert!(begun.starts_with("b: ") && begun.contains("base backup"), "{local}");
    let shown = lab.pgstead(&["history"]).expect(0);
    assert!(shown.stdout.contains("did not end") && shown.stdout.contains(&begun), "{shown}");

    // The servers say the same to whoever has no journal.
    let servers = with_state(&lab, &other, &["history", "--servers", "--format", "json"]).expect(0).json();
    assert_eq!(servers["runs"][0]["unfinished"].as_array().unwrap().last().unwrap(), &begun, "{servers}");
    assert_eq!(servers["runs"][0]["id"], killed["id"]);

    // A lease that has ended is broken by the ordinary consent; the audit log keeps its holder.
    age(&lab, "2 minutes ago");
    let broken = with_state(&lab, &other, &["unlock", "--yes", "--format", "json"]).expect(0);
    for lock in broken.json()["locks"].as_array().unwrap() {
        assert_eq!((&lock["living"], &lock["broken"]), (&false.into(), &true.into()), "{broken}");
    }
    assert_eq!(locks(&lab), "");

    // One server that cannot be reached is named, and the rest is told.
    lab.host("b").unlimit().unwrap();
    lab.run("b", &["systemctl", "stop", "ssh.socket", "ssh.service"]);
    let half = with_state(&lab, &other, &["history", "--servers"]).expect(4);
    assert!(half.stdout.contains("broken by"), "{half}");
    lab.run("b", &["systemctl", "start", "ssh.service"]);

    lab.bootstrap();
    lab.streams("a", &["b"]);
    lab.settled();
}

#[test]
fn a_cut_line_is_unknown_and_the_same_command_finishes() {
    let (lab, run, _) = in_the_middle();
    // Everything on b goes on, and nobody hears of it.
    lab.host("b").cut_link().unwrap();
    let unknown = run.end().expect(10);
    assert!(unknown.codes().contains(&"outcome-unknown".to_owned()), "{unknown}");
    let steps = unknown.json()["steps"].as_array().unwrap().clone();
    assert!(steps.iter().any(|step| step["outcome"] == "unknown"), "{unknown}");
    assert!(unknown.stderr.is_empty() || unknown.stderr.contains("same command again"), "{unknown}");
    lab.host("b").mend_link().unwrap();
    lab.host("b").unlimit().unwrap();
    lab.bootstrap();
    lab.streams("a", &["b"]);
    assert_eq!(locks(&lab), "");
    lab.settled();
}

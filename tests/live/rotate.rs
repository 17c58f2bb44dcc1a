//! Servers get new certificates while everything goes on. On real hosts.
//!
//! What is asserted is read on the hosts: files, what openssl is shown, who can log in, and that no walsender ended.

use pgstead::lab::hosts::Release;

use crate::authority::NAMES;
use crate::authority::trust_each_other;
use crate::faults::until_it_comes_through;
use crate::laptop::another_laptop;
use crate::laptop::certificates;
use crate::laptop::first_laptop;
use crate::laptop::served;
use crate::scenario::Scenario;

const ROTATE: [&str; 5] = ["rotate", "certificates", "--yes", "--format", "json"];

fn of_all(lab: &Scenario) -> [(String, String); 3] {
    NAMES.map(|name| (certificates(lab, name), served(lab, name)))
}

/// The fingerprint of the certificate in a server's file, as openssl writes it.
fn installed(lab: &Scenario, name: &str) -> String {
    let file = format!("/var/lib/pgstead/lab/{name}/tls/server.crt");
    lab.run(name, &["openssl", "x509", "-in", &file, "-noout", "-fingerprint", "-sha256"])
}

#[test]
fn certificates_are_rotated_and_no_link_ends() {
    let lab = Scenario::bootstrapped(Release::Trixie, &NAMES);
    let senders = || ["a", "b"].map(|name| lab.sql(name, "SELECT string_agg(pid::text, ',') FROM pg_stat_replication"));
    let (before, links) = (of_all(&lab), senders());

    // One that is named, and no other.
    let ran = lab.pgstead(&["rotate", "certificates", "c", "--yes", "--format", "json"]).expect(0);
    assert_eq!(ran.json()["changed"], true, "{ran}");
    let now = of_all(&lab);
    assert_eq!(now[..2], before[..2]);
    assert!(now[2].0 != before[2].0 && now[2].1 != before[2].1, "{now:?}");
    assert_eq!(now[2].1, installed(&lab, "c"));

    // All of them, killed before and behind each step of the first one; the others have the same steps.
    let plan = lab.pgstead(&["rotate", "certificates", "--dry-run", "--format", "json"]).expect(0).json();
    let steps: Vec<(&str, &str)> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["server"].as_str().unwrap_or("all"), step["title"].as_str().unwrap()))
        .collect();
    let is_install = |(_, title): &(&str, &str)| title.starts_with("install");
    assert_eq!(steps.iter().filter(|step| is_install(step)).map(|step| step.0).collect::<Vec<_>>(), ["c", "b", "a"]);
    let second = steps.iter().skip(1).position(is_install).unwrap() + 1;
    let moment = |when: &str, (server, title): &(&str, &str)| format!("{when}:{server}: {title}");
    let mut left: Vec<String> =
        steps[..second].iter().flat_map(|step| [moment("before", step), moment("after", step)]).collect();
    // Steps that run side by side are done when one of them is the last thing that a run does: another round for them.
    for _ in 1..=4 {
        if left.is_empty() {
            break;
        }
        until_it_comes_through(&lab, &ROTATE, &mut left, |point| trust_each_other(&lab, point)).expect(0);
    }
    assert_eq!(left, Vec::<String>::new(), "moments that no run came to");
    for ((name, now), before) in NAMES.iter().zip(of_all(&lab)).zip(&before) {
        assert!(now.0 != before.0 && now.1 != before.1, "{name}: {now:?}");
        assert_eq!(now.1, installed(&lab, name), "{name} serves another certificate than it has");
    }
    trust_each_other(&lab, "at the end");
    assert_eq!(senders(), links, "a link was opened anew");
    lab.settled();

    // Only whoever holds the CA issues certificates.
    let now = of_all(&lab);
    another_laptop(&lab);
    let ran = lab.pgstead(&ROTATE).expect(5);
    assert!(ran.codes().contains(&"authority-not-held".to_owned()), "{ran}");
    assert_eq!(of_all(&lab), now);
    first_laptop(&lab);
}

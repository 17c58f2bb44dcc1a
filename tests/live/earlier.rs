//! A topology that an earlier version of pgstead set up: what it lacks is told, and a bootstrap brings it up. On real hosts.

use pgstead::lab::hosts::Release;

use crate::scenario::Scenario;

/// As an earlier version left it: another start guard, recorded as installed.
const OTHER_GUARD: &str = r#"cd "$1" && before=$(sha256sum <start-guard | cut -d' ' -f1) && echo '# of another version' >>start-guard &&
    after=$(sha256sum <start-guard | cut -d' ' -f1) && sed -i "s/^$before /$after /" manifest"#;

#[test]
fn what_an_earlier_version_set_up_is_told_and_brought_up() {
    let lab = Scenario::bootstrapped(Release::Trixie, &["a", "b"]);
    let started = lab.sql("a", "SELECT pg_postmaster_start_time()");
    let outdated = ["start-guard-outdated", "role-outdated"];
    let codes = lab.pgstead(&["check", "--format", "json"]).expect(0).codes();
    assert!(!codes.iter().any(|code| outdated.contains(&code.as_str())), "{codes:?}");

    for server in ["a", "b"] {
        lab.run(server, &["sh", "-ec", OTHER_GUARD, "sh", &format!("/var/lib/pgstead/lab/{server}")]);
    }
    lab.sql("a", "REVOKE pg_checkpoint FROM pgstead");
    lab.sql("a", "ALTER ROLE pgstead RESET event_triggers");
    lab.sql("a", "REVOKE EXECUTE ON FUNCTION pg_read_binary_file(text) FROM pgstead_rewind");
    let check = lab.pgstead(&["check", "--format", "json"]).expect(0);
    for code in outdated {
        assert!(check.codes().contains(&code.to_owned()), "{code}: {check}");
    }
    lab.bootstrap();
    let check = lab.pgstead(&["check", "--format", "json"]).expect(0);
    assert!(!check.codes().iter().any(|code| outdated.contains(&code.as_str())), "{check}");
    assert_eq!(lab.sql("a", "SELECT pg_has_role('pgstead', 'pg_checkpoint', 'member')"), "t");
    let set = "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'pgstead'::regrole";
    assert_eq!(lab.sql("a", set), "{event_triggers=off}");
    assert_eq!(lab.sql("a", "SELECT pg_postmaster_start_time()"), started, "a was restarted");

    // Each for itself: without either of them nothing is proven any more.
    for (lost, held) in [
        ("USAGE ON SCHEMA pgstead", "has_schema_privilege('pgstead', 'pgstead', 'usage')"),
        ("DELETE ON pgstead.canary", "has_table_privilege('pgstead', 'pgstead.canary', 'delete')"),
    ] {
        lab.sql("a", &format!("REVOKE {lost} FROM pgstead"));
        assert_eq!(lab.sql("a", &format!("SELECT {held}")), "f", "{lost}");
        let check = lab.pgstead(&["check", "--format", "json"]);
        assert!(check.codes().contains(&"role-outdated".to_owned()), "{lost}: {check}");
        let ran = lab.bootstrap();
        assert!(ran.stdout.contains("grant what is missing to pgstead"), "{lost}: {ran}");
        assert_eq!(lab.sql("a", &format!("SELECT {held}")), "t", "{lost}");
    }
    assert_eq!(lab.sql("a", "SELECT pg_postmaster_start_time()"), started, "a was restarted");
    lab.settled();
}

//! `state/` on a real file system.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::allow_attributes)]

use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use pgstead::model::lifetimes::Lifetimes;
use pgstead::pki::OperatorSecrets;
use pgstead::pki::PkiError;
use pgstead::pki::RolePassword;
use pgstead::pki::StoredSecrets;
use pgstead::pki::Succession;
use pgstead::state::Holder;
use pgstead::state::StateDir;
use pgstead::state::StateError;
use pgstead::state::journal::Entry;
use pgstead::state::journal::Outcome;
use pgstead::state::journal::RunResult;

fn secrets() -> OperatorSecrets {
    OperatorSecrets::complete(
        StoredSecrets::default(),
        &"lab".parse().unwrap(),
        "ops@laptop",
        Lifetimes::default(),
        Timestamp::now(),
    )
    .unwrap()
    .0
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn secrets_come_back_and_nothing_is_written_before_saving() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::at(dir.path().join(".pgstead/lab"));
    assert_eq!(state.load_secrets().unwrap(), StoredSecrets::default());
    assert!(state.read_journal().unwrap().entries.is_empty() && state.lock_holder().unwrap().is_none());
    assert!(!dir.path().join(".pgstead").exists());

    let secrets = secrets();
    state.save_secrets(&secrets).unwrap();
    let inodes = || -> Vec<_> {
        use std::os::unix::fs::MetadataExt;
        fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().ino()).collect()
    };
    let before = inodes();
    let (again, made) = OperatorSecrets::complete(
        state.load_secrets().unwrap(),
        &"lab".parse().unwrap(),
        "ops@laptop",
        Lifetimes::default(),
        Timestamp::now(),
    )
    .unwrap();
    let kept = OperatorSecrets { is_password_new: false, ..secrets };
    assert_eq!((&again, made.any()), (&kept, false));
    state.save_secrets(&again).unwrap();
    assert_eq!(inodes(), before);
}

/// Another password takes the place of one, and a run is killed between any two files: there are two, each with its own verifier.
#[test]
fn a_new_password_takes_its_place_and_the_former_one_stays_until_nobody_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::at(dir.path());
    let first = OperatorSecrets { is_password_new: false, ..secrets() };
    state.save_secrets(&first).unwrap();
    assert_eq!(state.load_secrets().unwrap().former_password, None);
    let second = first.clone().with_another_password(first.replication.clone());
    assert_ne!(second.replication, first.replication);
    state.save_secrets(&second).unwrap();
    let loaded = state.load_secrets().unwrap();
    assert_eq!(
        (loaded.replication, loaded.former_password),
        (Some(second.replication.clone()), Some(first.replication.clone()))
    );
    // The verifier was written, and the password was not.
    fs::write(dir.path().join("replication.password"), first.replication.password.expose()).unwrap();
    let mixed = state.load_secrets().unwrap().replication.unwrap();
    assert_eq!(mixed.password, first.replication.password);
    assert!(
        mixed.verifier != second.replication.verifier
            && RolePassword::pair(mixed.password.clone(), mixed.verifier.clone()) == mixed
    );
    state.save_secrets(&OperatorSecrets { former_password: None, ..second.clone() }).unwrap();
    let loaded = state.load_secrets().unwrap();
    assert_eq!((loaded.replication, loaded.former_password), (Some(second.replication), None));
}

/// A CA takes the place of another, and a run is killed at each moment of writing that down: either is whole, and there is no third.
#[test]
fn a_new_ca_takes_its_place_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::at(dir.path());
    let (lifetimes, now) = (Lifetimes::default(), Timestamp::now());
    let topology = "lab".parse().unwrap();
    let complete = |stored| OperatorSecrets::complete(stored, &topology, "ops@laptop", lifetimes, now).unwrap().0;
    let loaded = || complete(state.load_secrets().unwrap());
    let one = secrets();
    state.save_secrets(&one).unwrap();
    let two = complete(state.load_secrets().unwrap().succeed(&topology, "ops@laptop", lifetimes, now).unwrap());
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    let write = |name: &str, text: &[u8]| {
        fs::write(dir.path().join(name), text).unwrap();
        fs::set_permissions(dir.path().join(name), Permissions::from_mode(0o600)).unwrap();
    };

    // It is written: the chain, the key, the certificate. Until the last one the former is the CA.
    for (name, text) in [("ca.chain.crt", two.chain.as_bytes()), ("ca.new.key", two.ca.key.expose().as_bytes())] {
        write(name, text);
        let now = loaded();
        assert_eq!((&now.ca, &now.former, now.chain.as_str()), (&one.ca, &None, ""), "{name}");
    }
    state.save_secrets(&two).unwrap();
    assert_eq!(loaded(), two);
    assert_eq!(read("ca.crt"), one.ca.certificate.as_bytes());

    // It takes the place: the key, the certificate, and the other copies go.
    write("ca.key", two.ca.key.expose().as_bytes());
    let done = OperatorSecrets { former: None, ..two.clone() };
    // The same command makes no other now, and ends.
    let ended = |when: &str| {
        let stored = state.load_secrets().unwrap();
        assert_eq!((stored.succession, &stored.former), (Succession::Ended, &None), "{when}");
        assert_eq!(complete(stored.succeed(&topology, "ops@laptop", lifetimes, now).unwrap()), done, "{when}");
    };
    ended("the key");
    write("ca.crt", two.ca.certificate.as_bytes());
    ended("the certificate");
    // A run of an earlier release went on from here with a third, and was killed.
    write("ca.new.key", one.ca.key.expose().as_bytes());
    ended("another key");
    write("ca.new.key", two.ca.key.expose().as_bytes());
    fs::remove_file(dir.path().join("ca.new.crt")).unwrap();
    ended("one copy is gone");
    write("ca.new.crt", two.ca.certificate.as_bytes());
    state.save_secrets(&done).unwrap();
    assert_eq!(loaded(), done);
    assert_eq!(state.load_secrets().unwrap().succession, Succession::None);
    assert!(!dir.path().join("ca.new.crt").exists() && !dir.path().join("ca.new.key").exists());
    assert_eq!(read("ca.crt"), two.ca.certificate.as_bytes());
}

/// The key of a CA that servers may use is never written over, and what is missing is named.
#[test]
fn a_new_ca_whose_former_one_is_lost_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::at(dir.path());
    let (lifetimes, now) = (Lifetimes::default(), Timestamp::now());
    let topology = "lab".parse().unwrap();
    let complete = |stored| OperatorSecrets::complete(stored, &topology, "ops@laptop", lifetimes, now).unwrap().0;
    let succeed = || state.load_secrets().unwrap().succeed(&topology, "ops@laptop", lifetimes, now);
    let one = secrets();
    state.save_secrets(&one).unwrap();
    let two = complete(succeed().unwrap());
    let third = complete(succeed().unwrap());
    state.save_secrets(&two).unwrap();
    let files = |ca: &OperatorSecrets| {
        state.authority_files(Some(&ca.ca)).map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
    };
    assert_eq!(
        (files(&one), files(&two)),
        (["ca.crt", "ca.key"].map(str::to_owned), ["ca.new.crt", "ca.new.key"].map(str::to_owned))
    );

    fs::remove_file(dir.path().join("ca.key")).unwrap();
    let stored = state.load_secrets().unwrap();
    assert_eq!((stored.ca.as_ref(), stored.succession), (Some(&two.ca), Succession::WithoutFormer));
    assert!(matches!(succeed(), Err(PkiError::FormerMissing)));
    let refused = state.save_secrets(&third).unwrap_err();
    assert!(matches!(refused, StateError::AnotherAuthority { .. }), "{refused:?}");
    assert_eq!(fs::read_to_string(dir.path().join("ca.new.key")).unwrap(), two.ca.key.expose());
    // What goes on with it lets it take its place.
    state.save_secrets(&OperatorSecrets { former: None, ..two.clone() }).unwrap();
    assert_eq!(complete(state.load_secrets().unwrap()).ca, two.ca);
    assert_eq!(fs::read_to_string(dir.path().join("ca.key")).unwrap(), two.ca.key.expose());

    // A certificate that has taken its place goes before another key comes.
    fs::write(dir.path().join("ca.new.crt"), &two.ca.certificate).unwrap();
    state.save_secrets(&third).unwrap();
    assert_eq!(complete(state.load_secrets().unwrap()).ca, third.ca);
}

/// Writes into the directory that the environment names; the next test runs it below an open umask.
#[test]
fn write_everything_where_told() {
    let Some(dir) = std::env::var_os("PGSTEAD_TEST_STATE") else { return };
    let state = StateDir::at(dir);
    state.save_secrets(&secrets()).unwrap();
    state.append_journal(&[started("r1")]).unwrap();
    drop(state.lock(&Holder::this_process("ops@desk", "bootstrap", Timestamp::now())).unwrap());
}

#[test]
fn modes_do_not_follow_the_umask() {
    for umask in ["000", "022"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/lab");
        let status = Command::new("sh")
            .args(["-c", "umask \"$1\"; exec \"$0\" --exact write_everything_where_told"])
            .arg(std::env::current_exe().unwrap())
            .arg(umask)
            .env("PGSTEAD_TEST_STATE", &path)
            .output()
            .unwrap();
        assert!(status.status.success(), "{status:?}");
        assert_eq!(mode(&path), 0o700);
        let files: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 9, "{files:?}");
        for file in files {
            assert_eq!(mode(&file), 0o600, "{file:?}");
        }
    }
}

#[test]
fn exposed_secrets_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::at(dir.path().join("lab"));
    state.save_secrets(&secrets()).unwrap();
    let key = state.path().join("ca.key");
    fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
    let error = state.load_secrets().unwrap_err();
    assert!(matches!(error, StateError::Exposed { mode: 0o640, .. }), "{error:?}");
    assert_eq!(error.diagnostic().command.unwrap(), format!("chmod 600 {}", key.display()));
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(state.path(), Permissions::from_mode(0o770)).unwrap();
    assert!(matches!(state.load_secrets().unwrap_err(), StateError::OpenDirectory { .. }));
    assert!(matches!(state.create().unwrap_err(), StateError::OpenDirectory { .. }));
}

#[test]
fn a_copy_of_a_directory_has_another_mark() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::at(dir.path().join("lab"));
    assert_eq!(state.mark().unwrap(), None);
    let run = || drop(state.lock(&Holder::this_process("ops@desk", "bootstrap", Timestamp::now())).unwrap());
    run();
    let mark = state.mark().unwrap().unwrap();
    run();
    assert_eq!(state.mark().unwrap(), Some(mark.clone()));
    let copy = dir.path().join("copy");
    assert!(Command::new("cp").arg("-a").arg(state.path()).arg(&copy).status().unwrap().success());
    let of_copy = StateDir::at(&copy).mark().unwrap().unwrap();
    assert_eq!(of_copy.split(' ').next(), mark.split(' ').next(), "it was not copied");
    assert_ne!(of_copy, mark);
    // Whose lock file was removed while a run has it locked is nobody that the kernel could tell apart.
    let held = state.lock(&Holder::this_process("ops@desk", "bootstrap", Timestamp::now())).unwrap();
    fs::remove_file(state.path().join("lock")).unwrap();
    assert_eq!(state.mark().unwrap(), None);
    run();
    assert_ne!(state.mark().unwrap(), Some(mark));
    drop(held);
}

#[test]
fn one_run_at_a_time_and_the_other_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::at(dir.path().join("lab"));
    let holder = Holder::this_process("ops@desk", "bootstrap", "2030-01-01T00:00:00Z".parse().unwrap());
    let lock = state.lock(&holder).unwrap();
    assert_eq!(state.lock_holder().unwrap(), Some(holder.clone()));
    match state.lock(&Holder::this_process("ops@other", "check", Timestamp::now())).unwrap_err() {
        error @ StateError::Locked { .. } => {
            let detail = error.diagnostic().detail.unwrap();
            let expected =
                format!("\"bootstrap\" of ops@desk, process {}, runs since 2030-01-01T00:00:00Z.", std::process::id());
            assert_eq!(detail, expected);
        }
        other => panic!("{other:?}"),
    }
    drop(lock);
    assert_eq!(state.lock_holder().unwrap(), None);
    drop(state.lock(&holder).unwrap());
}

fn started(run: &str) -> Entry {
    Entry::RunStarted {
        state: None,
        run: run.into(),
        time: "2030-01-01T00:00:00Z".parse().unwrap(),
        operator: "ops@desk".into(),
        operation: "bootstrap".into(),
    }
}

#[test]
fn the_journal_survives_a_torn_line() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::at(dir.path().join("lab"));
    let time: Timestamp = "2030-01-01T00:00:01Z".parse().unwrap();
    state.append_journal(&[started("r1")]).unwrap();
    state
        .append_journal(&[Entry::Step {
            step: None,
            run: "r1".into(),
            time,
            title: "start the instance".into(),
            server: Some("a".parse().unwrap()),
            outcome: Outcome::Done,
            seconds: 0.5,
            commands: vec!["systemctl start postgresql@15-main".into()],
        }])
        .unwrap();
    let path = state.path().join("journal.jsonl");
    let mut text = fs::read(&path).unwrap();
    text.extend(b"{\"event\":\"step\",\"run\":\"r1\",\"ti\xc3");
    fs::write(&path, text).unwrap();
    state
        .append_journal(&[Entry::RunEnded {
            run: "r1".into(),
            time,
            result: RunResult::Failed,
            seconds: 1.5,
            message: Some("disk full".into()),
        }])
        .unwrap();
    state.append_journal(&[started("r2")]).unwrap();
    let journal = state.read_journal().unwrap();
    assert_eq!((journal.entries.len(), journal.unreadable_lines), (4, 1));
    let runs = journal.runs();
    assert_eq!(
        (runs[0].steps_done, runs[0].result, runs[0].message.as_deref()),
        (1, Some(RunResult::Failed), Some("disk full"))
    );
    assert_eq!((runs[1].run.as_str(), runs[1].result), ("r2", None));
}

#[test]
fn asking_who_holds_the_lock_is_not_holding_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::at(dir.path().join("lab"));
    let holder = Holder::this_process("ops@desk", "bootstrap", Timestamp::now());
    drop(state.lock(&holder).unwrap());
    let asker = {
        let state = state.clone();
        std::thread::spawn(move || (0..5000).for_each(|_| drop(state.lock_holder().unwrap())))
    };
    while !asker.is_finished() {
        drop(state.lock(&holder).unwrap());
    }
    asker.join().unwrap();
}

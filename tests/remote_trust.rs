//! `trust` against a real sshd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::allow_attributes)]

mod ports;
mod sshd;

use std::process::Command;

use pgstead::event::Events;
use pgstead::model::topology::Server;
use pgstead::remote::ConnectReason;
use pgstead::remote::Connector;
use pgstead::remote::HostKey;
use pgstead::remote::KeyState;
use pgstead::remote::RemoteError;
use pgstead::remote::trust;
use pgstead::remote::trust::Scan;

use crate::sshd::Sshd;

async fn scan(sshd: &Sshd, servers: &[Server]) -> Vec<Scan> {
    trust::scan(&Connector::new(sshd.options(), Events::silent()).unwrap(), servers).await
}

fn only_key(scans: &[Scan]) -> &HostKey {
    match scans {
        [Scan { keys: Ok(keys), .. }] if keys.len() == 1 => &keys[0],
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_unknown_key_is_shown_recorded_and_then_trusted() {
    let sshd = Sshd::start();
    std::fs::remove_file(sshd.known_hosts()).unwrap();
    let servers = [sshd.server("a")];
    let scans = scan(&sshd, &servers).await;
    let key = only_key(&scans);
    assert_eq!((scans[0].endpoint.as_str(), key.state), (format!("127.0.0.1:{}", sshd.port).as_str(), KeyState::New));
    let shown = Command::new("ssh-keygen").arg("-lf").arg(sshd.dir.path().join("host_key.pub")).output().unwrap();
    assert!(String::from_utf8(shown.stdout).unwrap().contains(&key.fingerprint));
    assert!(!sshd.known_hosts().exists());

    trust::record(&sshd.known_hosts(), [key]).unwrap();
    trust::record(&sshd.known_hosts(), [key]).unwrap();
    assert_eq!(std::fs::read_to_string(sshd.known_hosts()).unwrap(), format!("{}\n", key.line));
    assert_eq!(only_key(&scan(&sshd, &servers).await).state, KeyState::Known);
    let connector = Connector::new(sshd.options(), Events::silent()).unwrap();
    connector.connect(&servers[0]).await.unwrap().close().await;
    // Hashed names are found, too.
    let hashed = Command::new("ssh-keygen").arg("-Hf").arg(sshd.known_hosts()).output().unwrap();
    assert!(hashed.status.success());
    assert_eq!(only_key(&scan(&sshd, &servers).await).state, KeyState::Known);
}

#[tokio::test]
async fn a_changed_key_is_told_and_a_dead_server_is_no_key() {
    let sshd = Sshd::start();
    sshd.trust_impostor();
    assert_eq!(only_key(&scan(&sshd, &[sshd.server("a")]).await).state, KeyState::Changed);
    let mut dead = sshd.server("b");
    dead.ssh.port = Some(ports::own());
    let scans = scan(&sshd, &[sshd.server("a"), dead]).await;
    assert_eq!(scans.len(), 2);
    match &scans[1].keys {
        Err(error @ RemoteError::ScanHostKeys { .. }) => eprintln!("dead: {:?}", error.diagnostic()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn keys_behind_a_jump_host_are_fetched_through_it() {
    let sshd = Sshd::start();
    std::fs::remove_file(sshd.known_hosts()).unwrap();
    let mut servers = [sshd.server("a"), sshd.server("b")];
    for server in &mut servers {
        server.ssh.jump = vec![format!("{}@localhost:{}", sshd.user, sshd.port)];
    }
    let scans = scan(&sshd, &servers).await;
    assert_eq!(scans.len(), 3, "{scans:?}");
    assert_eq!(scans[0].server, None);
    assert!(scans[1..].iter().all(Scan::waits_for_jump_host), "{scans:?}");

    trust::record(&sshd.known_hosts(), scans[0].keys.as_ref().unwrap()).unwrap();
    let scans = scan(&sshd, &servers).await;
    for scan in &scans[1..] {
        let keys = scan.keys.as_ref().unwrap();
        assert_eq!(keys[0].state, KeyState::New, "{scans:?}");
        trust::record(&sshd.known_hosts(), keys).unwrap();
    }
    let connector = Connector::new(sshd.options(), Events::silent()).unwrap();
    connector.connect(&servers[0]).await.unwrap().close().await;

    sshd.trust_impostor();
    let scans = scan(&sshd, &servers).await;
    let behind = scans[1].keys.as_ref().unwrap_err();
    assert!(matches!(behind, RemoteError::Connect { reason: ConnectReason::HostKeyChanged, .. }), "{behind:?}");
}

#[tokio::test]
async fn the_users_aliases_mean_what_they_mean_to_ssh() {
    let sshd = Sshd::start();
    let config = sshd.dir.path().join("user_config");
    std::fs::write(&config, format!("Host db1\nHostName 127.0.0.1\nPort {}\n", sshd.port)).unwrap();
    let mut server = sshd.server("a");
    server.address = "db1".parse().unwrap();
    server.ssh.port = None;
    let mut options = sshd.options();
    options.user_config = vec![config];
    let connector = Connector::new(options, Events::silent()).unwrap();
    assert_eq!(only_key(&trust::scan(&connector, [&server]).await).state, KeyState::Known);
    connector.connect(&server).await.unwrap().close().await;
}

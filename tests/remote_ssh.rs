//! `remote/` against a real sshd.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::allow_attributes
)]

mod ports;
mod sshd;

use std::io::Read;
use std::io::Write;
use std::time::Duration;
use std::time::Instant;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use pgstead::diagnostic::Code;
use pgstead::event::Event;
use pgstead::event::Events;
use pgstead::model::argv::Argv;
use pgstead::model::argv::RunAs;
use pgstead::model::secret::Secret;
use pgstead::model::topology::Server;
use pgstead::remote::ConnectReason;
use pgstead::remote::Connector;
use pgstead::remote::Host;
use pgstead::remote::RemoteError;
use pgstead::remote::Ssh;
use pgstead::remote::close_all;
use pgstead::wait;
use pgstead::wait::Look;

use crate::sshd::Sshd;

fn sh(script: &str) -> Argv {
    Argv::new(RunAs::Login, "sh").arg("-c").arg(script)
}

async fn connect(sshd: &Sshd) -> Ssh {
    let connector = Connector::new(sshd.options(), Events::silent()).unwrap();
    match connector.connect(&sshd.server("a")).await {
        Ok(ssh) => ssh,
        Err(error) => panic!("{:#?}\n{}", error.diagnostic(), sshd.log()),
    }
}

async fn refusal(sshd: &Sshd, server: &Server) -> (ConnectReason, RemoteError) {
    let connector = Connector::new(sshd.options(), Events::silent()).unwrap();
    match connector.connect(server).await {
        Err(error @ RemoteError::Connect { reason, .. }) => (reason, error),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_command_and_the_command_with_it() {
    let sshd = Sshd::start();
    let ssh = connect(&sshd).await;
    let mut relay = ssh.relay(&sh("echo $$; exec cat"), &sshd.login()).await.unwrap();
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        line.push(relay.read_u8().await.unwrap());
    }
    let process = std::path::PathBuf::from(format!("/proc/{}", String::from_utf8(line).unwrap().trim()));
    // Every byte, marks of ours among them.
    let sent = b"\x00\xffpgstead-begin\npgstead-end\n";
    relay.write_all(sent).await.unwrap();
    let mut got = vec![0; sent.len()];
    relay.read_exact(&mut got).await.unwrap();
    assert_eq!(got, sent);
    assert!(process.exists());
    drop(relay);
    let ended = wait::until(Duration::from_secs(10), Duration::from_millis(20), async || match process.exists() {
        true => Look::NotYet(format!("{} is there", process.display())),
        false => Look::Ready(()),
    });
    assert!(ended.await.is_ok(), "it runs on although nobody holds the stream");

    let mut relay = ssh.relay(&sh("echo why >&2; exit 3"), &sshd.login()).await.unwrap();
    assert!(relay.read_u8().await.is_err());
    assert_eq!(relay.last_words().await, "why");
    ssh.close().await;
}

#[tokio::test]
async fn one_session_at_a_time_is_enough() {
    let sshd = Sshd::start_with("MaxSessions 1\n");
    let ssh = connect(&sshd).await;
    let login = sshd.login();
    let runs = (0..8).map(async |number| ssh.run(&[sh(&format!("sleep 0.05; echo {number}"))], &login).await);
    for (number, ran) in futures_util::future::join_all(runs).await.into_iter().enumerate() {
        assert_eq!(ran.unwrap().text(), format!("{number}\n"));
    }
    // A stream would hold the only one.
    let error = ssh.relay(&sh("exec cat"), &login).await.unwrap_err();
    assert!(matches!(error, RemoteError::OneSession { .. }), "{error:?}");
    assert_eq!(ssh.run(&[sh("echo free")], &login).await.unwrap().text(), "free\n");
    ssh.close().await;
}

#[tokio::test]
async fn commands_run_and_each_batch_is_one_round_trip() {
    let sshd = Sshd::start();
    let (events, heard) = Events::channel();
    let connector = Connector::new(sshd.options(), events).unwrap();
    let begun = Instant::now();
    let ssh = connector.connect(&sshd.server("a")).await.unwrap();
    eprintln!("connect: {:?}", begun.elapsed());
    assert_eq!(ssh.name().as_str(), "a");

    let output = ssh.run(&[sh("echo \"it's\"; echo e >&2")], &sshd.login()).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (b"it's\n".as_slice(), b"e\n".as_slice()));
    let batch = [sh("echo 1"), sh("echo 2"), Argv::new(RunAs::Login, "cat").stdin_text("3\n")];
    assert_eq!(ssh.run(&batch, &sshd.login()).await.unwrap().text(), "1\n2\n3\n");
    assert_eq!(ssh.run(&[], &sshd.login()).await.unwrap().text(), "");
    assert_eq!(ssh.probe("id -u; echo \"$1\"", &["a b".into()]).await.unwrap().text().lines().last(), Some("a b"));

    let begun = Instant::now();
    for _ in 0..20 {
        ssh.run(&[Argv::new(RunAs::Login, "true")], &sshd.login()).await.unwrap();
    }
    eprintln!("run: {:?}", begun.elapsed() / 20);
    let begun = Instant::now();
    ssh.close().await;
    eprintln!("close: {:?}", begun.elapsed());
    drop(connector);
    let trips = heard.iter().filter(|event| matches!(event, Event::RoundTrip { .. })).count();
    assert_eq!(trips, 3 + 20);
}

/// The most memory that this process has had, in MB.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

#[tokio::test]
async fn a_server_that_never_stops_writing_costs_no_memory() {
    let sshd = Sshd::start();
    let ssh = connect(&sshd).await;
    let before = peak_mb();
    for script in ["cat /dev/zero", "cat /dev/zero >&2"] {
        let told = ssh.run(&[sh(script)], &sshd.login()).await.unwrap_err();
        assert!(matches!(told, RemoteError::TooMuch { .. }), "{told:?}");
        let told = ssh.probe(script, &[]).await.unwrap_err();
        assert!(told.to_string().contains("wrote more than 32 MB"), "{told}");
    }
    assert!(peak_mb() < before + 200, "{before} MB before, {} MB", peak_mb());
    assert_eq!(ssh.run(&[sh("echo on")], &sshd.login()).await.unwrap().text(), "on\n");
    ssh.close().await;
}

#[tokio::test]
async fn a_look_that_never_ends_is_ended_on_both_sides() {
    let sshd = Sshd::start();
    let ssh = connect(&sshd).await;
    let dir = tempfile::tempdir().unwrap();
    let (hangs, pid) = (dir.path().join("hangs"), dir.path().join("pid"));
    let made = std::process::Command::new("mkfifo").arg(&hangs).status().unwrap();
    assert!(made.success());
    let words = [&hangs, &pid].map(|path| path.to_string_lossy().into_owned());
    let begun = Instant::now();
    let script = "echo $$ >\"$2\"; cat \"$1\"";
    let told = ssh.probe_within(Duration::from_secs(1), script, &words).await.unwrap_err();
    assert!(matches!(told, RemoteError::TimedOut { seconds: 1, .. }), "{told:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let pid = std::fs::read_to_string(&words[1]).unwrap();
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists(), "it is left");
    // One that hears no signal, as who waits for a disk, is given up here.
    let deaf = "echo $$ $PPID >\"$1\"; kill -STOP $PPID $$";
    let told = ssh.probe_within(Duration::from_secs(1), deaf, &words[1..]).await.unwrap_err();
    assert!(matches!(told, RemoteError::TimedOut { seconds: 1, .. }), "{told:?}");
    let pids = std::fs::read_to_string(&words[1]).unwrap();
    assert!(std::process::Command::new("kill").arg("-KILL").args(pids.split_whitespace()).status().unwrap().success());
    assert_eq!(ssh.run(&[sh("echo on")], &sshd.login()).await.unwrap().text(), "on\n");
    let told = ssh.run_within(Duration::from_millis(300), &[sh("sleep 60")], &sshd.login()).await.unwrap_err();
    assert!(told.outcome_is_unknown(), "{told:?}");
    ssh.close().await;
}

/// A session recorder that goes on when its command has ended: the look is given up, and its server is named.
#[tokio::test]
async fn a_recorder_that_never_ends_is_given_up() {
    let sshd = Sshd::start_with("ForceCommand sh -c \"$SSH_ORIGINAL_COMMAND\"; exec timeout 20 tail -f /dev/null\n");
    let ssh = connect(&sshd).await;
    let begun = Instant::now();
    let told = ssh.probe_within(Duration::from_secs(1), "echo here", &[]).await.unwrap_err();
    assert!(matches!(told, RemoteError::TimedOut { seconds: 1, .. }), "{told:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    ssh.close().await;
}

#[tokio::test]
async fn a_batch_stops_at_the_first_failure_and_names_it() {
    let sshd = Sshd::start();
    let ssh = connect(&sshd).await;
    let batch = [sh("echo one"), sh("echo why >&2; exit 4"), sh("echo never")];
    match ssh.run(&batch, &sshd.login()).await.unwrap_err() {
        RemoteError::Command { index, status, stdout, stderr, line, .. } => {
            assert_eq!((index, status), (1, Some(4)));
            assert_eq!((stdout.as_slice(), stderr.as_slice()), (b"one\n".as_slice(), b"why\n".as_slice()));
            assert_eq!(line, "sh -c 'echo why >&2; exit 4'");
        }
        other => panic!("{other:?}"),
    }
    let single = ssh.run(&[sh("exit 7")], &sshd.login()).await.unwrap_err();
    assert!(matches!(single, RemoteError::Command { index: 0, status: Some(7), .. }), "{single:?}");
    let missing = ssh.run(&[Argv::new(RunAs::Login, "/no/such/program")], &sshd.login()).await.unwrap_err();
    assert!(matches!(missing, RemoteError::Command { status: Some(127), .. }), "{missing:?}");
    let killed = ssh.run(&[sh("kill -9 $$")], &sshd.login()).await.unwrap_err();
    assert!(matches!(killed, RemoteError::Command { status: None, .. }), "{killed:?}");
    let ambiguous = ssh.run(&[sh("exit 255")], &sshd.login()).await.unwrap_err();
    assert!(ambiguous.outcome_is_unknown(), "{ambiguous:?}");
    let known = ssh.run(&[sh("exit 255"), sh("true")], &sshd.login()).await.unwrap_err();
    assert!(matches!(known, RemoteError::Command { index: 0, status: Some(255), .. }), "{known:?}");
    assert!(ssh.is_connected().await);
    ssh.close().await;
}

#[tokio::test]
async fn secret_bytes_travel_on_standard_input_only() {
    let sshd = Sshd::start();
    let ssh = connect(&sshd).await;
    let secret = "cänary-$(x)'\"\\\n\u{1}end";
    // The command shows its standard input, and whether the text is in any process's arguments.
    let command =
        sh("cat; printf '|'; grep -lsa '[c]änary-' /proc/[0-9]*/cmdline | wc -l").stdin_secret(Secret::new(secret));
    let output = ssh.run(&[command], &sshd.login()).await.unwrap();
    assert_eq!(output.text().trim_end(), format!("{secret}|0"));
    // A command that does not read its input is judged by its status alone.
    let big = Argv::new(RunAs::Login, "true").stdin_text("x".repeat(1 << 20));
    ssh.run(&[big], &sshd.login()).await.unwrap();
    ssh.close().await;
}

#[tokio::test]
async fn ten_megabytes_come_back_whole() {
    let sshd = Sshd::start();
    let ssh = connect(&sshd).await;
    let begun = Instant::now();
    let output = ssh.run(&[sh("head -c 10485760 /dev/zero")], &sshd.login()).await.unwrap();
    eprintln!("10 MiB: {:?}", begun.elapsed());
    assert_eq!(output.stdout.len(), 10 << 20);
    let echo = Argv::new(RunAs::Login, "cat").stdin_text("y".repeat(10 << 20));
    assert_eq!(ssh.run(&[echo], &sshd.login()).await.unwrap().stdout.len(), 10 << 20);
    ssh.close().await;
}

#[tokio::test]
async fn twenty_commands_at_once_stay_within_what_sshd_allows() {
    let sshd = Sshd::start();
    let ssh = connect(&sshd).await;
    let login = sshd.login();
    let batch = [sh("sleep 0.05; echo x")];
    let runs = (0..20).map(|_| ssh.run(&batch, &login));
    for result in futures_util::future::join_all(runs).await {
        assert_eq!(result.unwrap().text(), "x\n");
    }
    ssh.close().await;
}

#[tokio::test]
async fn a_changed_host_key_is_refused() {
    let sshd = Sshd::start();
    sshd.trust_impostor();
    let (reason, error) = refusal(&sshd, &sshd.server("a")).await;
    assert_eq!(reason, ConnectReason::HostKeyChanged);
    assert_eq!(error.diagnostic().code, Code::HostKeyChanged);
}

#[tokio::test]
async fn an_unknown_host_key_is_refused_and_not_recorded() {
    let sshd = Sshd::start();
    std::fs::write(sshd.known_hosts(), "").unwrap();
    let (reason, error) = refusal(&sshd, &sshd.server("a")).await;
    assert_eq!(reason, ConnectReason::HostKeyUnknown);
    assert!(error.diagnostic().hint.unwrap().contains("pgstead trust"));
    assert_eq!(std::fs::read_to_string(sshd.known_hosts()).unwrap(), "");
}

#[tokio::test]
async fn reasons_are_told_apart() {
    let sshd = Sshd::start();
    let mut refused = sshd.server("a");
    refused.ssh.port = Some(ports::own());
    assert_eq!(refusal(&sshd, &refused).await.0, ConnectReason::Refused);
    let mut denied = sshd.server("a");
    denied.ssh.identity_file = Some(sshd.dir.path().join("host_key"));
    assert_eq!(refusal(&sshd, &denied).await.0, ConnectReason::PermissionDenied);
    let mut nowhere = sshd.server("a");
    nowhere.address = "nowhere.invalid".parse().unwrap();
    assert_eq!(refusal(&sshd, &nowhere).await.0, ConnectReason::NotResolved);
}

#[tokio::test]
async fn the_users_configuration_counts_and_cannot_weaken_checks() {
    let sshd = Sshd::start();
    let config = sshd.dir.path().join("user_config");
    let ran = sshd.dir.path().join("local_command_ran");
    let hostile = format!(
        "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nPermitLocalCommand yes\nLocalCommand touch {}\n\
         KnownHostsCommand /bin/cat {}\nForwardAgent yes\nHost *\nPort {}\nUser {}\n",
        ran.display(),
        sshd.known_hosts().display(),
        sshd.port,
        sshd.user,
    );
    std::fs::write(&config, hostile).unwrap();
    let mut options = sshd.options();
    options.user_config = vec![config];
    let mut server = sshd.server("a");
    server.ssh.port = None;
    server.ssh.user = None;
    let ssh = Connector::new(options.clone(), Events::silent()).unwrap().connect(&server).await.unwrap();
    ssh.close().await;
    assert!(!ran.exists());
    options.known_hosts = sshd.dir.path().join("none");
    match Connector::new(options, Events::silent()).unwrap().connect(&server).await.unwrap_err() {
        RemoteError::Connect { reason, .. } => assert_eq!(reason, ConnectReason::HostKeyUnknown),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_forwarded_socket_reaches_a_port_of_the_server() {
    let sshd = Sshd::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    });
    let ssh = connect(&sshd).await;
    let socket = ssh.forward("127.0.0.1", port).await.unwrap();
    assert_eq!(ssh.forward("127.0.0.1", port).await.unwrap(), socket);
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        stream.write_all(b"ping").unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).unwrap();
        bytes
    });
    assert_eq!(&answer.await.unwrap(), b"ping");
    echo.join().unwrap();
    ssh.close().await;
}

#[tokio::test]
async fn a_killed_connection_leaves_the_outcome_unknown() {
    let sshd = Sshd::start();
    let ssh = connect(&sshd).await;
    // The parent of the command is sshd's process for this connection.
    let error = ssh.run(&[sh("kill -9 $PPID; sleep 3")], &sshd.login()).await.unwrap_err();
    assert!(error.outcome_is_unknown(), "{error:?}");
    let after = ssh.run(&[sh("true")], &sshd.login()).await.unwrap_err();
    assert!(matches!(after, RemoteError::Disconnected { .. }), "{after:?}");
    ssh.close().await;
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let sshd = Sshd::start();
    let mut options = sshd.options();
    options.alive_interval = Duration::from_secs(1);
    options.alive_count = 1;
    let ssh = Connector::new(options, Events::silent()).unwrap().connect(&sshd.server("a")).await.unwrap();
    let begun = Instant::now();
    let script = "p=$PPID; (sleep 6; kill -9 $p) >/dev/null 2>&1 </dev/null & kill -STOP $p; sleep 5";
    let error = ssh.run(&[sh(script)], &sshd.login()).await.unwrap_err();
    assert!(error.outcome_is_unknown(), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    ssh.close().await;
}

#[tokio::test]
async fn a_jump_host_is_passed_and_its_failure_explained() {
    let sshd = Sshd::start();
    let mut server = sshd.server("a");
    server.ssh.jump = vec![format!("{}@localhost:{}", sshd.user, sshd.port)];
    let connector = Connector::new(sshd.options(), Events::silent()).unwrap();
    let ssh = connector.connect(&server).await.unwrap();
    assert_eq!(ssh.run(&[sh("echo ok")], &sshd.login()).await.unwrap().text(), "ok\n");
    assert!(groups(ssh_processes(&sshd)).iter().all(|group| *group != own_group()));
    ssh.close().await;

    server.ssh.jump = vec![format!("{}@localhost:{}", sshd.user, ports::own())];
    match connector.connect(&server).await.unwrap_err() {
        RemoteError::Connect { reason: ConnectReason::Jump, detail, .. } => {
            assert!(detail.contains("Connection refused"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
    let mut beyond = sshd.server("a");
    beyond.ssh.jump = vec![format!("{}@localhost:{}", sshd.user, sshd.port)];
    beyond.ssh.port = Some(ports::own());
    match connector.connect(&beyond).await.unwrap_err() {
        RemoteError::Connect { reason: ConnectReason::Jump, detail, .. } => eprintln!("beyond: {detail}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn masters_are_out_of_reach_of_ctrl_c_and_end_without_being_told() {
    let sshd = Sshd::start();
    let ssh = connect(&sshd).await;
    let masters = ssh_processes(&sshd);
    assert_eq!(masters.len(), 1, "{masters:?}");
    assert!(groups(masters).iter().all(|group| *group != own_group()));
    // Idle for longer than a master without clients lives: the leash holds it.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(ssh.run(&[sh("true")], &sshd.login()).await.is_ok());
    drop(ssh);
    let begun = Instant::now();
    while !ssh_processes(&sshd).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the master stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eprintln!("dropped master ended after {:?}", begun.elapsed());

    let all = Connector::new(sshd.options(), Events::silent()).unwrap();
    let servers = [sshd.server("a"), sshd.server("b"), sshd.server("c")];
    let begun = Instant::now();
    let connections = all.connect_all(&servers).await;
    eprintln!("connect to 3: {:?}", begun.elapsed());
    let begun = Instant::now();
    close_all(connections.into_iter().map(|(_, ssh)| ssh.unwrap())).await;
    eprintln!("close 3: {:?}", begun.elapsed());
    while !ssh_processes(&sshd).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "a closed master stays");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    eprintln!("3 closed masters ended after {:?}", begun.elapsed());
}

/// The ssh processes (not sshd's) that talk to this sshd, by their port argument.
fn ssh_processes(sshd: &Sshd) -> Vec<u32> {
    let port = sshd.port.to_string();
    let listing = std::fs::read_dir("/proc").unwrap();
    listing
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = command.split(|&byte| byte == 0).collect();
            let text = String::from_utf8_lossy(&command).into_owned();
            words.first().is_some_and(|word| word.ends_with(b"ssh") || word.starts_with(b"ssh:"))
                && text.contains(&port)
        })
        .collect()
}

fn groups(pids: Vec<u32>) -> Vec<i32> {
    pids.into_iter().map(|pid| group_of(&pid.to_string())).collect()
}

fn own_group() -> i32 {
    group_of("self")
}

fn group_of(pid: &str) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(2).unwrap().parse().unwrap()
}

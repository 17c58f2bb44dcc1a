//! `postgres/` against a real PostgreSQL with certificates of `pki/`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::allow_attributes
)]

mod installed;
mod ports;

use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use pgstead::diagnostic::Code;
use pgstead::model::lifetimes::Lifetimes;
use pgstead::model::name::TopologyName;
use pgstead::pki;
use pgstead::pki::Authority;
use pgstead::pki::CertificatePair;
use pgstead::postgres::Client;
use pgstead::postgres::ConnectWish;
use pgstead::postgres::PostgresError;
use pgstead::postgres::Tls;
use pgstead::wait;
use pgstead::wait::Look;
use tokio::net::TcpStream;
use tokio::net::UnixListener;

use crate::installed::BIN;
use crate::installed::is_root;
use crate::installed::program;

struct Instance {
    dir: tempfile::TempDir,
    port: u16,
    ca: CertificatePair,
    authority: Authority,
}

fn run(command: &mut Command) {
    let output = command.current_dir("/").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Instance {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("pgstead-tls-").tempdir_in("/tmp").unwrap();
        let topology: TopologyName = "lab".parse().unwrap();
        let now = Timestamp::now();
        let ca = pki::create_authority(&topology, "ops@laptop", Lifetimes::default(), now).unwrap();
        let authority = Authority::open(&topology, &ca, Lifetimes::default()).unwrap();
        let server = authority.issue_server(&"a".parse().unwrap(), &["127.0.0.1".parse().unwrap()], now).unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("ca.crt"), &ca.certificate).unwrap();
        std::fs::write(at("server.crt"), &server.certificate).unwrap();
        std::fs::write(at("server.key"), server.key.expose()).unwrap();
        run(Command::new("chmod").arg("600").arg(at("server.key")));
        if is_root() {
            run(Command::new("chown").arg("postgres").args([dir.path(), &at("server.key")]));
        }
        let data = at("data");
        run(program("initdb").args(["--no-sync", "--auth=trust", "--username=postgres", "--pgdata"]).arg(&data));
        let port = ports::own();
        let conf = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{dir}'\nssl = on\nfsync = off\n\
             ssl_ca_file = '{dir}/ca.crt'\nssl_cert_file = '{dir}/server.crt'\nssl_key_file = '{dir}/server.key'\n",
            dir = dir.path().display()
        );
        std::fs::write(data.join("postgresql.conf"), conf).unwrap();
        std::fs::write(
            data.join("pg_hba.conf"),
            "local all,replication all trust\nhostssl all pgstead 127.0.0.1/32 cert\n",
        )
        .unwrap();
        let log = data.join("log");
        run(program("pg_ctl")
            .arg("--pgdata")
            .arg(&data)
            .arg("--log")
            .arg(&log)
            .args(["--wait", "start"])
            .stdout(Stdio::null()));
        let instance = Self { dir, port, ca, authority };
        instance.sql(
            "CREATE ROLE pgstead LOGIN; GRANT pg_monitor TO pgstead; CREATE SCHEMA pgstead; \
            CREATE TABLE pgstead.canary (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, nonce text NOT NULL, \
              written_at timestamptz NOT NULL DEFAULT clock_timestamp()); \
            GRANT USAGE ON SCHEMA pgstead TO pgstead; GRANT SELECT, INSERT, DELETE ON pgstead.canary TO pgstead",
        );
        instance
    }

    fn sql(&self, sql: &str) {
        let (dir, port) = (self.dir.path().display().to_string(), self.port.to_string());
        run(program("psql").args([
            "-X",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            &dir,
            "-p",
            &port,
            "-U",
            "postgres",
            "-c",
            sql,
        ]));
    }

    /// Returns a setting as a new session sees it.
    fn shown(&self, name: &str) -> String {
        let (dir, port) = (self.dir.path().display().to_string(), self.port.to_string());
        let show = ["-XAtq", "-h", &dir, "-p", &port, "-U", "postgres", "-c", &format!("SHOW {name}")];
        let output = program("psql").args(show).current_dir("/").stdin(Stdio::null()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn operator(&self) -> CertificatePair {
        self.authority.issue_operator(Timestamp::now()).unwrap()
    }

    fn tls(&self) -> Tls {
        Tls::new(&self.ca.certificate, &self.operator()).unwrap()
    }

    fn relay(&self) -> PathBuf {
        self.relay_to(self.port)
    }

    /// A relay as `remote/` makes one: a local socket that leads to a TCP port.
    fn relay_to(&self, port: u16) -> PathBuf {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.dir.path().join(format!("relay{number}"));
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        path
    }

    fn wish(&self, verify_name: &str) -> ConnectWish {
        ConnectWish::new("a".parse().unwrap(), self.relay(), verify_name)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let stop = program("pg_ctl")
            .arg("--pgdata")
            .arg(self.dir.path().join("data"))
            .args(["-m", "immediate", "stop"])
            .current_dir("/")
            .stdout(Stdio::null())
            .status();
        assert!(stop.is_ok_and(|status| status.success()), "the instance did not stop");
    }
}

#[tokio::test]
async fn sessions_are_verified_both_ways() {
    let instance = Instance::start();
    let tls = instance.tls();
    let begun = Instant::now();
    let client = Client::connect(&instance.wish("127.0.0.1"), &tls).await.unwrap();
    eprintln!("connect: {:?}", begun.elapsed());
    assert!(!client.in_recovery().await.unwrap());
    Client::connect(&instance.wish("a"), &tls).await.unwrap();

    let shown = |tls: &Tls| tls.shown_by(&instance.wish("a").server).map(|der| pki::pem_of(&der));
    let served = pki::parse_certificate(&shown(&tls).unwrap()).unwrap();
    assert!(served.ip_addresses.contains(&"127.0.0.1".parse().unwrap()), "{served:?}");

    for wrong in ["127.0.0.2", "b"] {
        let error = Client::connect(&instance.wish(wrong), &tls).await.unwrap_err();
        assert!(matches!(error, PostgresError::Certificate { .. }), "{wrong}: {error:?}");
        assert!(error.to_string().contains(wrong));
    }

    let other =
        pki::create_authority(&"lab".parse().unwrap(), "ops@laptop", Lifetimes::default(), Timestamp::now()).unwrap();
    let stranger = Tls::new(&other.certificate, &instance.operator()).unwrap();
    let error = Client::connect(&instance.wish("127.0.0.1"), &stranger).await.unwrap_err();
    assert_eq!(shown(&stranger), shown(&tls), "a certificate that is refused is remembered, too");
    assert!(matches!(error, PostgresError::Certificate { .. }), "{error:?}");
    assert_eq!(error.diagnostic().code, Code::ServerCertificate);
    // While a CA is replaced, both count.
    let both = [other.certificate.as_str(), &instance.ca.certificate].concat();
    Client::connect(&instance.wish("a"), &Tls::new(&both, &instance.operator()).unwrap()).await.unwrap();

    // A certificate of another CA is none for the server; one of ours in another name is not the role's.
    let foreign = Authority::open(&"lab".parse().unwrap(), &other, Lifetimes::default())
        .unwrap()
        .issue_operator(Timestamp::now())
        .unwrap();
    let error = Client::connect(&instance.wish("a"), &Tls::new(&instance.ca.certificate, &foreign).unwrap()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, PostgresError::NotTrusted { .. }), "{error:?}");
    eprintln!("foreign client certificate: {:?}", error.diagnostic().detail);
    let server = instance.authority.issue_client(&"b".parse().unwrap(), Timestamp::now()).unwrap();
    let error = Client::connect(&instance.wish("a"), &Tls::new(&instance.ca.certificate, &server).unwrap()).await;
    assert_eq!(error.unwrap_err().sqlstate(), Some("28000"));

    let mut nobody = instance.wish("a");
    nobody.user = "postgres".to_owned();
    let error = Client::connect(&nobody, &tls).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("28000"), "{error:?}");
    assert!(error.diagnostic().detail.unwrap().contains("pg_hba.conf"));
}

/// Where this machine has no certificate: the host key of SSH proves the server, and its owner lets us in.
#[tokio::test]
async fn a_session_through_the_local_socket_has_the_rights_of_role_pgstead() {
    let instance = Instance::start();
    let local = async || {
        tokio::net::UnixStream::connect(instance.dir.path().join(format!(".s.PGSQL.{}", instance.port))).await.unwrap()
    };
    let mut wish = instance.wish("a");
    wish.user = "postgres".to_owned();
    let limited = Client::connect_locally(&wish, Some("pgstead"), local().await).await.unwrap();
    limited.write_canary("n1").await.unwrap();
    instance.sql("REVOKE INSERT ON pgstead.canary FROM pgstead");
    assert_eq!(limited.write_canary("n2").await.unwrap_err().sqlstate(), Some("42501"), "it works as the superuser");
    let superuser = Client::connect_locally(&wish, None, local().await).await.unwrap();
    superuser.write_canary("n3").await.unwrap();
    let error = Client::connect_locally(&wish, Some("nobody"), local().await).await.unwrap_err();
    assert!(error.is_invalid_value() && !error.is_not_admitted(), "{error:?}");

    // Who answers can be seen without a certificate, and nobody gets in with none.
    let bare = Tls::without_certificate(&instance.ca.certificate).unwrap();
    let wish = instance.wish("a");
    assert!(!bare.has_certificate() && instance.tls().has_certificate());
    bare.look(&wish, wish.dial().await.unwrap()).await.unwrap();
    let shown = pki::parse_certificate(&pki::pem_of(&bare.shown_by(&wish.server).unwrap())).unwrap();
    assert_eq!(shown.subject_cn, "a");
    assert!(Client::connect(&wish, &bare).await.is_err());
    let wrong = instance.wish("b");
    let error = bare.look(&wrong, wrong.dial().await.unwrap()).await.unwrap_err();
    assert!(matches!(error, PostgresError::Certificate { .. }), "{error:?}");
}

#[tokio::test]
async fn missing_client_certificate_and_plain_text_are_refused_by_the_server() {
    let instance = Instance::start();
    // libpq as the attacker: our own client cannot be made to leave its certificate out.
    let cases = [("sslmode=require", "requires a valid client certificate"), ("sslmode=disable", "no encryption")];
    for (conninfo, expected) in cases {
        let target = format!("host=127.0.0.1 port={} user=pgstead dbname=postgres {conninfo}", instance.port);
        let output = Command::new(format!("{BIN}/psql")).args(["-X", "-c", "select 1", &target]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{conninfo}: {said}");
    }
}

/// `plan/adoption/encryption.rs` says which of these are refused.
#[tokio::test]
async fn a_server_whose_tls_has_nothing_in_common_lets_nobody_in() {
    let instance = Instance::start();
    let tls = instance.tls();
    let rsa = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256";
    let ecdsa = ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"];
    let curve = |name: &'static str| ("ssl_ecdh_curve", name);
    // Before version 18 a curve of another name is none: what was read before stays in force.
    let mut rows = vec![(curve("secp521r1"), false), (curve("X25519"), false), (curve("P-256"), false)];
    rows.extend(["secp384r1", "prime256v1"].map(|name| (curve(name), true)));
    rows.extend([(("ssl_max_protocol_version", "TLSv1.2"), true), (("ssl_ciphers", rsa), false)]);
    rows.extend(ecdsa.map(|name| (("ssl_ciphers", name), true)));
    rows.extend([(("ssl_max_protocol_version", "TLSv1.3"), true), (("ssl_ciphers", rsa), true)]);
    for ((name, value), is_let_in) in rows {
        instance.sql(&format!("ALTER SYSTEM SET {name} = '{value}'"));
        instance.sql("SELECT pg_reload_conf()");
        // A session that shows it was begun behind the reload of the postmaster, certificates and all.
        let shown = wait::until(Duration::from_secs(20), wait::LOOK_AGAIN, async || match instance.shown(name) {
            shown if shown == value => Look::Ready(()),
            other => Look::NotYet(other),
        });
        assert_eq!(shown.await, Ok(()), "{name} is not {value}");
        let session = Client::connect(&instance.wish("a"), &tls).await;
        assert_eq!(session.is_ok(), is_let_in, "{name} = {value}: {:?}", session.err());
    }
}

#[tokio::test]
async fn queries_decode_what_the_server_says() {
    let instance = Instance::start();
    let client = Client::connect(&instance.wish("a"), &instance.tls()).await.unwrap();
    let first = client.write_canary("n1").await.unwrap();
    let begun = Instant::now();
    let second = client.write_canary("n2").await.unwrap();
    eprintln!("canary: {:?}", begun.elapsed());
    assert!(second.seq > first.seq && second.lsn > first.lsn);
    let state = client.canary_state(first.seq).await.unwrap();
    assert_eq!((state.nonce.as_deref(), state.replay_lsn), (Some("n1"), None));
    assert_eq!(client.canary_state(999).await.unwrap().nonce, None);
    instance.sql("UPDATE pgstead.canary SET written_at = now() - interval '2 days' WHERE nonce = 'n1'");
    client.write_canary("n3").await.unwrap();
    assert_eq!(client.canary_state(first.seq).await.unwrap().nonce, None);
    assert_eq!(client.sender_states("b").await.unwrap(), []);
    assert_eq!(client.basebackup_progress("b").await.unwrap(), None);

    // The table of an earlier release has no chain, which is no error.
    assert_eq!(client.chain_digest(999).await.unwrap(), None);
    instance.sql(
        "ALTER TABLE pgstead.canary RENAME TO lone; \
        CREATE TABLE pgstead.canary (LIKE pgstead.lone INCLUDING ALL, prev_hash text NOT NULL DEFAULT '', hash text NOT NULL \
          GENERATED ALWAYS AS (encode(sha256(decode(prev_hash, 'hex') || int8send(seq) || decode(nonce, 'hex')), 'hex')) STORED); \
        GRANT SELECT, INSERT, DELETE ON pgstead.canary TO pgstead",
    );
    let first = client.write_canary("0a").await.unwrap();
    let second = client.write_canary("0b").await.unwrap();
    let chain = client.chain(second.seq).await.unwrap();
    assert_eq!(chain.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [first.seq, second.seq]);
    let digest = client.chain_digest(second.seq).await.unwrap().unwrap();
    assert_eq!(digest.rows, 2);
    assert_ne!(client.chain_digest(first.seq).await.unwrap().unwrap().sha256, digest.sha256);
    instance.sql("DROP TABLE pgstead.canary; ALTER TABLE pgstead.lone RENAME TO canary");

    instance.sql("REVOKE INSERT ON pgstead.canary FROM pgstead");
    let error = client.write_canary("n4").await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("42501"));
    assert_eq!(error.to_string(), "server \"a\": could not write a canary");
    instance.sql("GRANT INSERT ON pgstead.canary TO pgstead");

    // A standby that never answers must not hold a canary up.
    instance.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    instance.sql("SELECT pg_reload_conf()");
    client.write_canary("n5").await.unwrap();
}

#[tokio::test]
async fn a_standby_is_seen_from_both_ends() {
    let instance = Instance::start();
    let copy = instance.dir.path().join("copy");
    let (host, port) = (instance.dir.path().display().to_string(), instance.port.to_string());
    let copied = ports::own();
    run(program("pg_basebackup")
        .args(["-h", &host, "-p", &port, "-U", "postgres", "-R", "-c", "fast", "-D"])
        .arg(&copy));
    let line = format!("host={host} port={port} user=postgres application_name=b");
    std::fs::write(copy.join("postgresql.auto.conf"), format!("primary_conninfo = '{line}'\nport = {copied}\n"))
        .unwrap();
    run(program("pg_ctl").arg("-D").arg(&copy).args(["-l", "/dev/null", "--wait", "start"]).stdout(Stdio::null()));
    let primary = Client::connect(&instance.wish("a"), &instance.tls()).await.unwrap();
    let standby = instance.relay_to(copied);
    let standby =
        Client::connect(&ConnectWish::new("b".parse().unwrap(), standby, "a"), &instance.tls()).await.unwrap();
    assert!(standby.in_recovery().await.unwrap());
    let canary = primary.write_canary("through").await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let state = standby.canary_state(canary.seq).await.unwrap();
        if state.nonce.as_deref() == Some("through") && state.replay_lsn >= Some(canary.lsn) {
            break;
        }
        assert!(Instant::now() < deadline, "{state:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let senders = primary.sender_states("b").await.unwrap();
    assert_eq!(senders.len(), 1);
    assert_eq!((senders[0].state.as_str(), senders[0].sync_state.as_str()), ("streaming", "async"));
    assert!(senders[0].sent_lsn >= Some(canary.lsn) && senders[0].reply_time_us.is_some());
    assert_eq!(standby.write_canary("no").await.unwrap_err().sqlstate(), Some("25006"));
    run(program("pg_ctl").arg("-D").arg(&copy).args(["-m", "immediate", "stop"]).stdout(Stdio::null()));
    let error = standby.in_recovery().await.unwrap_err();
    assert!(matches!(error, PostgresError::Query { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mute");
    let _listener = UnixListener::bind(&path).unwrap();
    let topology: TopologyName = "lab".parse().unwrap();
    let ca = pki::create_authority(&topology, "ops@laptop", Lifetimes::default(), Timestamp::now()).unwrap();
    let operator =
        Authority::open(&topology, &ca, Lifetimes::default()).unwrap().issue_operator(Timestamp::now()).unwrap();
    let tls = Tls::new(&ca.certificate, &operator).unwrap();
    let mut wish = ConnectWish::new("a".parse().unwrap(), &path, "a");
    wish.connect_timeout = Duration::from_millis(200);
    assert!(matches!(Client::connect(&wish, &tls).await.unwrap_err(), PostgresError::TimedOut { .. }));
    wish.socket = dir.path().join("none");
    assert!(matches!(Client::connect(&wish, &tls).await.unwrap_err(), PostgresError::Socket { .. }));
    assert!(Tls::new("garbage", &operator).is_err());
    assert!(!format!("{tls:?} {wish:?}").contains("PRIVATE"));
}

//! A real sshd on 127.0.0.1 for tests: own port, own host key, the current user.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::allow_attributes,
    unreachable_pub
)]

use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use pgstead::model::argv::Login;
use pgstead::model::argv::RootAccess;
use pgstead::model::topology::Server;
use pgstead::model::topology::Ssh;
use pgstead::remote::ConnectOptions;

use crate::ports;

const SSHD: &str = "/usr/sbin/sshd";

/// The server, its keys and its files; ends with the value.
#[derive(Debug)]
pub struct Sshd {
    pub dir: tempfile::TempDir,
    pub port: u16,
    pub user: String,
    child: Child,
}

impl Sshd {
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same with more lines in its configuration.
    pub fn start_with(more: &str) -> Self {
        assert!(Path::new(SSHD).exists(), "{SSHD} is missing: these tests need the package openssh-server");
        let dir = tempfile::Builder::new().prefix("pgstead-sshd-").tempdir().unwrap();
        let user = stdout(Command::new("id").arg("-un"));
        if user == "root" && !Path::new("/run/sshd").exists() {
            std::fs::create_dir("/run/sshd").expect("sshd as root needs the directory /run/sshd");
        }
        keygen(&dir.path().join("host_key"));
        keygen(&dir.path().join("login_key"));
        // bash reads ~/.bashrc below sshd: the developer's own must not slow or change the tests.
        let key = std::fs::read_to_string(dir.path().join("login_key.pub")).unwrap();
        let authorized = format!("environment=\"HOME={}\" {key}", dir.path().display());
        std::fs::write(dir.path().join("authorized_keys"), authorized).unwrap();
        let port = ports::own();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let config = [
            format!("Port {port}\nListenAddress 127.0.0.1\nHostKey {}\n", at("host_key")),
            format!("AuthorizedKeysFile {}\nPidFile none\nPermitUserEnvironment yes\n", at("authorized_keys")),
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n".to_owned(),
            "PermitRootLogin yes\nPrintMotd no\nAllowTcpForwarding yes\nMaxStartups 100\n".to_owned(),
            more.to_owned(),
        ];
        std::fs::write(dir.path().join("sshd_config"), config.concat()).unwrap();
        let child = Command::new(SSHD)
            .args(["-D", "-E"])
            .arg(dir.path().join("sshd.log"))
            .arg("-f")
            .arg(dir.path().join("sshd_config"))
            .stdin(Stdio::null())
            // A session that ends a little later than the test holds nothing of it open.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let sshd = Self { dir, port, user, child };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "sshd does not listen: {}", sshd.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        sshd.trust();
        sshd
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("sshd.log")).unwrap_or_default()
    }

    pub fn known_hosts(&self) -> PathBuf {
        self.dir.path().join("known_hosts")
    }

    /// Records the host key, whatever was recorded before.
    pub fn trust(&self) {
        self.record(&self.dir.path().join("host_key.pub"));
    }

    /// Records another key than the server has.
    pub fn trust_impostor(&self) {
        keygen(&self.dir.path().join("other_key"));
        self.record(&self.dir.path().join("other_key.pub"));
    }

    fn record(&self, key: &Path) {
        let key = std::fs::read_to_string(key).unwrap();
        std::fs::write(self.known_hosts(), format!("[127.0.0.1]:{0},[localhost]:{0} {key}", self.port)).unwrap();
    }

    /// Options that leave the developer's own ssh configuration out.
    pub fn options(&self) -> ConnectOptions {
        ConnectOptions { user_known_hosts: vec![], user_config: vec![], ..ConnectOptions::new(self.known_hosts()) }
    }

    pub fn server(&self, name: &str) -> Server {
        Server {
            name: name.parse().unwrap(),
            address: "127.0.0.1".parse().unwrap(),
            site: "main".parse().unwrap(),
            port: 5432,
            parameters: Default::default(),
            data_directory: None,
            tablespaces: Default::default(),
            bin_directory: None,
            service: None,
            ssh: Ssh {
                user: Some(self.user.clone()),
                port: Some(self.port),
                identity_file: Some(self.dir.path().join("login_key")),
                ..Ssh::default()
            },
        }
    }

    pub fn login(&self) -> Login {
        let root = if self.user == "root" { RootAccess::Root } else { RootAccess::None };
        Login { user: self.user.clone(), root }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keygen(path: &Path) {
    stdout(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path));
}

fn stdout(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

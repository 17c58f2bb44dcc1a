//! A Docker engine of a test's own, in network, mount and cgroup places of its own: the machine's firewall, its bridges
//! and whatever engine runs on it are not touched. It ends with the test, also when that is killed.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// What runs in the new namespaces. In /run are the sockets of containerd and the lock of iptables: nobody else's.
const INSIDE: &str = "set -e; mount -t tmpfs tmpfs /run; ip link set lo up; exec dockerd \"$@\"";

/// The engine, and a directory that goes with it.
pub(crate) struct Engine {
    process: Child,
    directory: tempfile::TempDir,
}

impl Engine {
    /// Starts it. Fails, and says so, without root or the packages docker.io and docker-compose.
    pub(crate) fn start() -> Self {
        // Not the default temporary directory, which may be one in memory.
        let directory = tempfile::Builder::new().prefix("pgstead-docker-").tempdir_in("/var/tmp").unwrap();
        let at = |name: &str| directory.path().join(name);
        let log = fs::File::create(at("log")).unwrap();
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "unshare", "--net", "--mount", "--", "sh", "-c", INSIDE, "dockerd"])
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .args(["--cgroup-parent", &group()])
            .arg("--host")
            .arg(["unix://", &at("socket").display().to_string()].concat())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let engine = Self { process, directory };
        let begun = Instant::now();
        while !engine.docker(&["version", "--format", "{{.Server.Version}}"]).status.success() {
            let log = fs::read_to_string(engine.path("log")).unwrap();
            assert!(begun.elapsed() < START_LIMIT, "dockerd does not answer (docker.io installed? root?): {log}");
            thread::sleep(Duration::from_millis(50));
        }
        engine
    }

    /// Returns a path in the engine's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns a command that runs where the engine's networks are.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.process.id().to_string(), "--net", "--"])
            .arg(program.as_ref())
            .env("DOCKER_HOST", ["unix://", &self.path("socket").display().to_string()].concat())
            .env("HOME", self.directory.path())
            .env_remove("PGSTEAD_INVENTORY")
            .current_dir(self.directory.path());
        command
    }

    /// Runs the client.
    pub(crate) fn docker(&self, arguments: &[&str]) -> Output {
        self.command("docker").args(arguments).output().unwrap()
    }

    /// Runs the client and returns the lines that it printed.
    pub(crate) fn lines(&self, arguments: &[&str]) -> Vec<String> {
        let output = self.docker(arguments);
        assert!(output.status.success(), "docker {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// Returns what is mounted in the engine's directory.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.process.id())).unwrap();
        let here = self.directory.path().display().to_string();
        mounts.lines().filter(|line| line.contains(&here)).map(str::to_owned).collect()
    }
}

/// The control group of the containers.
fn group() -> String {
    format!("pgstead-docker-{}", std::process::id())
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-s", "TERM", "--", &self.process.id().to_string()]).status();
        let begun = Instant::now();
        while self.process.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < STOP_LIMIT || thread::panicking(), "dockerd does not end");
            thread::sleep(Duration::from_millis(50));
        }
        // Empty ones go; they are the kernel's directories.
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(hierarchy.path().join(group()));
        }
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(group()));
    }
}

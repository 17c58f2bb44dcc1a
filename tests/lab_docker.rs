//! The Docker lab, up, broken, mended and down for real, and what keeps it from coming up.
//!
//! Needs root and the packages docker.io and docker-compose for an engine of its own; fails, and says so, without them.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and tells how long it took")]
#![expect(clippy::disallowed_methods, reason = "these tests watch other processes come and go")]

#[path = "docker/engine.rs"]
mod engine;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use engine::Engine;
use serde_json::Value;

const PGSTEAD: &str = env!("CARGO_BIN_EXE_pgstead");
const SOCKET: &str = "/var/lib/postgresql/15/main.pgstead";

/// A lab in an engine of its own, and what has been done so far, with the time it took.
struct Lab {
    engine: Engine,
    begun: Instant,
}

impl Lab {
    /// Runs a command about the lab itself.
    fn lab(&self, words: &str) -> Output {
        let dir = self.engine.path("lab");
        let output = self
            .engine
            .command(PGSTEAD)
            .args(["--format", "json", "lab", "--backend", "docker", "--dir"])
            .arg(dir)
            .args(words.split_whitespace())
            .output()
            .unwrap();
        self.tell(&["lab ", words].concat(), &output);
        output
    }

    /// Runs a command on the lab's topology, as an operator would.
    fn pgstead(&self, words: &str) -> Output {
        let inventory = self.engine.path("lab/pgstead.yaml");
        let output = self
            .engine
            .command(PGSTEAD)
            .arg("-i")
            .arg(inventory)
            .args(["--format", "json"])
            .args(words.split_whitespace())
            .output()
            .unwrap();
        self.tell(words, &output);
        output
    }

    fn tell(&self, words: &str, output: &Output) {
        eprintln!("{:5.1} s  {words}: {:?}", self.begun.elapsed().as_secs_f64(), output.status.code());
    }

    /// Runs a program in a server's container, past its sshd.
    fn exec(&self, server: &str, argv: &[&str]) -> Output {
        let container = self.container(server);
        let argv = [&["exec", "--user", "root", container.as_str()], argv].concat();
        self.engine.docker(&argv)
    }

    fn container(&self, server: &str) -> String {
        let names = self.engine.lines(&["ps", "--all", "--format", "{{.Names}}"]);
        names.into_iter().find(|name| name.ends_with(&format!("-{server}"))).unwrap()
    }

    /// Asks an instance itself.
    fn psql(&self, server: &str, sql: &str) -> String {
        let output = self.exec(
            server,
            &[
                "runuser",
                "-u",
                "postgres",
                "--",
                "psql",
                "-XAqt",
                "-h",
                SOCKET,
                "-d",
                "demo",
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                sql,
            ],
        );
        match output.status.success() {
            true => String::from_utf8(output.stdout).unwrap().trim().to_owned(),
            false => String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Waits until a standby answers what its primary was told.
    fn await_answer(&self, server: &str, sql: &str, wanted: &str) {
        let begun = Instant::now();
        loop {
            let answer = self.psql(server, sql);
            if answer == wanted {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{server}: {sql}: {answer}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// One ping that has to come back within a second.
    fn pings(&self, from: &str, address: &str) -> bool {
        self.exec(from, &["ping", "-n", "-q", "-c", "1", "-W", "1", address]).status.success()
    }

    /// Everything of labs that the engine has, but for images.
    fn remains(&self) -> Vec<String> {
        let mut found = self.engine.lines(&["ps", "--all", "--format", "{{.Names}}"]);
        found.extend(self.engine.lines(&["network", "ls", "--filter", "type=custom", "--format", "{{.Name}}"]));
        found.extend(self.engine.lines(&["volume", "ls", "--format", "{{.Name}}"]));
        found.extend(self.engine.mounts().into_iter().filter(|mount| mount.contains("/volumes/")));
        found
    }
}

#[track_caller]
fn ended(output: &Output, code: i32) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{}{stderr}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

fn running(status: &Value) -> Vec<(&str, bool)> {
    let servers = status["servers"].as_array().unwrap();
    servers.iter().map(|server| (server["name"].as_str().unwrap(), server["running"].as_bool().unwrap())).collect()
}

/// What an engine could spoil for others on this machine.
fn machine() -> (String, Option<String>, Vec<String>) {
    let policies = Command::new("iptables").arg("-S").output().unwrap().stdout;
    let policies =
        String::from_utf8(policies).unwrap().lines().filter(|l| l.starts_with("-P")).collect::<Vec<_>>().join(" ");
    let filtered = fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables").ok();
    let interfaces = fs::read_dir("/sys/class/net").unwrap().flatten();
    let interfaces = interfaces.map(|entry| entry.file_name().into_string().unwrap());
    (policies, filtered, interfaces.filter(|name| name.starts_with("br-") || name.starts_with("docker")).collect())
}

#[test]
fn a_lab_comes_up_breaks_is_mended_and_leaves_nothing() {
    let before = machine();
    let lab = Lab { engine: Engine::start(), begun: Instant::now() };

    // A network of the lab that somebody has already is named, and nothing is made.
    lab.engine.lines(&["network", "create", "--subnet", "10.214.2.128/25", "theirs"]);
    let refused = ended(&lab.lab("up"), 5);
    let message = "network 10.214.2.0/24 of site \"metro\" overlaps 10.214.2.128/25 of Docker network \"theirs\"";
    assert_eq!(refused["error"]["message"], message);
    assert!(!lab.engine.path("lab").exists());
    lab.engine.lines(&["network", "rm", "theirs"]);
    assert_eq!(lab.remains(), Vec::<String>::new());

    let up = ended(&lab.lab("up --disk 400"), 0);
    assert_eq!((&up["backend"], running(&up)), (&Value::from("docker"), vec![("a", true), ("b", true), ("c", true)]));
    assert!(lab.remains().len() > 9, "the search for remains finds what is there: {:?}", lab.remains());
    // Somebody waits for processes whose parent has ended: PostgreSQL takes those that nobody waits for to be alive.
    assert_eq!(String::from_utf8(lab.exec("a", &["cat", "/proc/1/comm"]).stdout).unwrap(), "docker-init\n");
    // A second time changes nothing, and the operator's key stays here.
    let containers = lab.engine.lines(&["ps", "--quiet"]);
    assert_eq!(ended(&lab.lab("up"), 0), up);
    assert_eq!(lab.engine.lines(&["ps", "--quiet"]), containers);
    let key = fs::read_to_string(lab.engine.path("lab/client/id_ed25519")).unwrap();
    let mode = fs::metadata(lab.engine.path("lab/client/id_ed25519")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The lines before this one are the same in every such key.
    let line = key.lines().nth(3).unwrap();
    for container in &containers {
        let seen =
            lab.engine.docker(&["exec", "--user", "root", container, "grep", "-rlF", line, "/root", "/home", "/etc"]);
        assert_eq!(seen.status.code(), Some(1), "{seen:?}");
        assert!(!lab.engine.lines(&["inspect", container]).join("\n").contains(line));
    }

    ended(&lab.pgstead("bootstrap --yes"), 0);
    assert_eq!(ended(&lab.pgstead("check"), 0)["verdict"], "healthy");
    lab.psql("a", "create table journey (station text); insert into journey values ('first')");
    for standby in ["b", "c"] {
        lab.await_answer(standby, "select count(*) from journey", "1");
        assert_eq!(lab.psql(standby, "select pg_is_in_recovery()"), "t");
    }
    // The ways lead through the router, which changes no address: this one is what HBA records and certificates are about.
    assert_eq!(lab.psql("a", "select client_addr from pg_stat_replication"), "10.214.2.11");
    let hostname = lab.lab("ssh b hostname");
    assert_eq!(String::from_utf8_lossy(&hostname.stdout), "b\n");

    // The power of b is cut: its instance does not come back by itself, and what it had is still there.
    let off = ended(&lab.lab("fault power b off"), 0);
    assert_eq!(running(&off), [("a", true), ("b", false), ("c", true)]);
    assert!(!lab.pings("a", "10.214.2.11"));
    lab.psql("a", "insert into journey values ('while b was off')");
    assert_eq!(ended(&lab.pgstead("check --only L4"), 7)["verdict"], "unhealthy");
    assert_eq!(running(&ended(&lab.lab("fault power b on"), 0)), running(&up));
    assert_eq!(ended(&lab.pgstead("reseed b --yes"), 0)["method"], "replay");
    for standby in ["b", "c"] {
        lab.await_answer(standby, "select count(*) from journey", "2");
    }

    // The link of c is cut: nobody reaches it, and it reaches nobody, until it is mended.
    ended(&lab.lab("fault link c off"), 0);
    assert!(!lab.pings("b", "10.214.3.11") && !lab.pings("c", "10.214.2.11") && lab.pings("a", "10.214.2.11"));
    ended(&lab.lab("fault link c on"), 0);
    assert!(lab.pings("b", "10.214.3.11") && lab.pings("c", "10.214.1.11"));

    // The disk of c is full, and free again.
    let write = || lab.exec("c", &["dd", "if=/dev/zero", "of=/var/lib/postgresql/x", "bs=64k", "count=1"]).status;
    ended(&lab.lab("fault disk c full"), 0);
    assert!(!write().success());
    ended(&lab.lab("fault disk c free"), 0);
    assert!(write().success());

    // A slow line, both ways.
    let limits = |server: &str| {
        let shown = lab.exec(server, &["tc", "qdisc", "show"]);
        String::from_utf8(shown.stdout).unwrap().matches("rate 20Mbit").count()
    };
    ended(&lab.lab("fault rate c 20"), 0);
    assert_eq!((limits("c"), limits("router"), limits("b")), (1, 1, 0));
    ended(&lab.lab("fault rate c off"), 0);
    assert_eq!((limits("c"), limits("router")), (0, 0));
    assert_eq!(ended(&lab.lab("fault clock c 90"), 5)["error"]["code"], "lab-cannot");

    lab.psql("a", "insert into journey values ('at last')");
    lab.await_answer("c", "select count(*) from journey", "3");
    assert_eq!(ended(&lab.pgstead("check"), 0)["verdict"], "healthy");
    assert_eq!(ended(&lab.pgstead("bootstrap --yes"), 0)["changed"], false);

    // A lab that was left half made is told from one that is up, and goes away like any other.
    let marker = lab.engine.path("lab/docker-lab.json");
    let text = fs::read_to_string(&marker).unwrap().replace("\"complete\": true", "\"complete\": false");
    fs::write(&marker, text).unwrap();
    let b = lab.container("b");
    lab.engine.lines(&["rm", "--force", &b]);
    let half = ended(&lab.lab("up"), 5);
    assert!(half["error"]["message"].as_str().unwrap().contains("half made"), "{half}");
    assert_eq!(ended(&lab.lab("status"), 0)["inventory"], Value::Null);

    // What is kept is said, and is all there is.
    let down = ended(&lab.lab("down"), 0);
    assert_eq!((lab.remains(), lab.engine.path("lab").exists()), (Vec::<String>::new(), false));
    let mut kept: Vec<String> = serde_json::from_value(down["kept"].clone()).unwrap();
    let mut images = lab.engine.lines(&["image", "ls", "--format", "image {{.Repository}}:{{.Tag}}"]);
    kept.sort();
    images.sort();
    assert_eq!(images, kept);
    ended(&lab.lab("down"), 0);

    drop(lab);
    assert_eq!(machine(), before, "the machine's own firewall and bridges are as they were");
}

/// Returns the program of Compose's second version, as the release of Debian has it that ships that.
fn second_compose(directory: &Path) -> PathBuf {
    let tree = directory.join("compose");
    let made = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=extract", "--include=docker-compose", "trixie"])
        .arg(&tree)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let places = ["usr/libexec/docker/cli-plugins/docker-compose", "usr/bin/docker-compose"];
    places.iter().map(|place| tree.join(place)).find(|path| path.is_file()).unwrap()
}

#[test]
fn a_lab_comes_up_with_the_second_version_of_compose() {
    let lab = Lab { engine: Engine::start(), begun: Instant::now() };
    let plugins = lab.engine.path(".docker/cli-plugins");
    fs::create_dir_all(&plugins).unwrap();
    fs::copy(second_compose(&lab.engine.path("")), plugins.join("docker-compose")).unwrap();

    let up = ended(&lab.lab("up"), 0);
    assert_eq!(running(&up), [("a", true), ("b", true), ("c", true)]);
    // Who made a container is written on it.
    let version = "{{index .Config.Labels \"com.docker.compose.version\"}}";
    for server in ["a", "b", "c"] {
        let version = lab.engine.lines(&["inspect", "--format", version, &lab.container(server)]);
        assert!(version[0].starts_with("2."), "{version:?}");
    }
    ended(&lab.pgstead("bootstrap --yes"), 0);
    assert_eq!(ended(&lab.pgstead("check"), 0)["verdict"], "healthy");
    lab.psql("a", "create table journey (station text); insert into journey values ('first')");
    for standby in ["b", "c"] {
        lab.await_answer(standby, "select count(*) from journey", "1");
    }
    ended(&lab.lab("down"), 0);
    assert_eq!((lab.remains(), lab.engine.path("lab").exists()), (Vec::<String>::new(), false));
}

/// Runs `lab up` with nothing in PATH but a client that says what it is told, and returns the one message.
fn up_with(client: Option<&str>, arguments: &[&str], code: i32) -> String {
    let directory = tempfile::tempdir().unwrap();
    let programs = directory.path().join("bin");
    fs::create_dir(&programs).unwrap();
    if let Some(script) = client {
        let path = programs.join("docker");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let lab = directory.path().join("lab");
    let output = Command::new(PGSTEAD)
        .args(["--format", "json"])
        .args(arguments)
        .args(["lab", "up", "--backend", "docker", "--dir"])
        .arg(&lab)
        .env("PATH", &programs)
        .env_remove("PGSTEAD_INVENTORY")
        .output()
        .unwrap();
    let error = ended(&output, code);
    assert_eq!(error["errors"].as_array().unwrap().len(), 1, "{error}");
    assert!(!lab.exists(), "nothing was made");
    error["error"]["message"].as_str().unwrap().to_owned()
}

/// A client as it answers where everything is there; a test changes one answer.
const CLIENT: &str = "#!/bin/sh
case \"$1\" in
version) echo linux ;;
info) echo '8589934592 /nonexistent' ;;
compose) echo 2.26.1 ;;
esac
";

#[test]
fn what_is_missing_is_one_message_and_nothing_is_made() {
    assert_eq!(up_with(None, &[], 5), "\"docker\" is not in PATH (Debian package \"docker.io\")");
    let no_engine = "#!/bin/sh\necho 'Cannot connect to the Docker daemon. Is it running?' >&2; exit 1\n";
    let message = "no Docker engine answers: Cannot connect to the Docker daemon. Is it running?";
    assert_eq!(up_with(Some(no_engine), &[], 5), message);
    let message = "the Docker engine runs windows containers, and a lab needs Linux";
    assert_eq!(up_with(Some(&CLIENT.replace("linux", "windows")), &[], 5), message);
    let message = "neither \"docker compose\" nor \"docker-compose\" works (Debian package \"docker-compose\")";
    assert_eq!(up_with(Some(&CLIENT.replace("echo 2.26.1", "exit 1")), &[], 5), message);
    let message = "the Docker engine has 256 MiB of memory, and 3 servers need 576";
    assert_eq!(up_with(Some(&CLIENT.replace("8589934592", "268435456")), &[], 5), message);
}

#[test]
fn an_inventory_that_makes_no_lab_is_one_message_and_nothing_is_made() {
    let inventories = Path::new(env!("CARGO_MANIFEST_DIR")).join("inventories");
    let example = inventories.join("example.yaml").display().to_string();
    let message = up_with(Some(CLIENT), &["-i", &example], 5);
    assert!(message.ends_with("makes no Docker lab: its purpose is not lab"), "{message}");
    let directory = tempfile::tempdir().unwrap();
    let broken = directory.path().join("broken.yaml");
    let text = fs::read_to_string(inventories.join("docker.yaml")).unwrap();
    fs::write(&broken, text.replace("kind: primary", "kind: secondary")).unwrap();
    up_with(Some(CLIENT), &["-i", &broken.display().to_string()], 3);
    up_with(Some(CLIENT), &["-i", "/nonexistent.yaml"], 5);
}

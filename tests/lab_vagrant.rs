//! The Vagrant lab: its Vagrantfile is valid for every provider, what can't be is refused in one message, and nothing is
//! left behind.
//!
//! Vagrant itself is real here, and so is its libvirt plugin (packages of `scripts/install-packages test`; without them
//! these tests fail). VirtualBox and a Docker daemon are stood in for by programs that say they are there: no machine is
//! made. A whole life with real machines takes minutes: `scripts/vagrant-cycle`, which `make soak` runs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use tempfile::TempDir;

const THREE: &str = "topology: t
purpose: lab
postgres: { version: 15 }
sites:
  main: {}
  metro: { lab: { rate_mbit: 100 } }
  remote: { lab: { rate_mbit: 20, delay_ms: 30 } }
servers:
  a: { address: 10.99.7.11, site: main, kind: primary }
  b: { address: 10.99.7.12, site: metro, kind: standby }
  c: { address: 10.99.7.13, site: remote, kind: standby, upstream: b }
ssh: { user: ops, identity_file: key, known_hosts: known_hosts }
";

/// An operator's machine: an inventory, a key, a home, and programs that stand in for providers.
struct Operator {
    dir: TempDir,
}

impl Operator {
    fn new(inventory: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["bin", "home", "state"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("key.pub"), "ssh-ed25519 AAAA operator\n").unwrap();
        fs::write(dir.path().join("key"), "private\n").unwrap();
        let operator = Self { dir };
        operator.inventory(inventory);
        operator
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn inventory(&self, text: &str) {
        fs::write(self.path("lab.yaml"), text).unwrap();
    }

    /// Puts a program before all others.
    fn stand_in(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, ["#!/bin/sh\n", script].concat()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Stands in for VirtualBox and for a Docker daemon: enough to be asked for a version.
    fn stand_in_for_providers(&self) {
        self.stand_in("VBoxManage", "case \"$1\" in --version) echo 7.0.14r161095 ;; list) ;; *) exit 1 ;; esac\n");
        self.stand_in("docker", "case \"$1\" in version) echo 24.0.0 ;; *) exit 1 ;; esac\n");
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let path = std::env::var("PATH").unwrap();
        command
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("HOME", self.path("home"))
            .env("VAGRANT_HOME", self.path("home/.vagrant.d"))
            .env("VAGRANT_CHECKPOINT_DISABLE", "1")
            .env("PGSTEAD_KVM", "no")
            .env_remove("PGSTEAD_INVENTORY")
            .env_remove("PGSTEAD_PUBLIC_KEY")
            .env_remove("LIBVIRT_DEFAULT_URI")
            .env_remove("VAGRANT_DEFAULT_PROVIDER");
        command
    }

    /// Runs Vagrant on the project's Vagrantfile.
    fn vagrant(&self, words: &[&str], provider: &str) -> Output {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("vagrant");
        let mut command = self.command("vagrant");
        command
            .args(words)
            .current_dir(project)
            .env("VAGRANT_DOTFILE_PATH", self.path("state"))
            .env("PGSTEAD_INVENTORY", self.path("lab.yaml"))
            .env("VAGRANT_DEFAULT_PROVIDER", provider);
        let output = command.output();
        output.unwrap_or_else(|error| panic!("{error}: is Vagrant installed? scripts/install-packages test"))
    }

    /// Runs `pgstead lab` on the Vagrant backend.
    fn lab(&self, words: &[&str]) -> Output {
        let (first, rest) = words.split_first().unwrap();
        let mut command = self.command(env!("CARGO_BIN_EXE_pgstead"));
        command.args(["lab", first]).args(rest).args(["--backend", "vagrant", "--dir"]).arg(self.path("lab"));
        command.output().unwrap()
    }

    fn has_lab(&self) -> bool {
        self.path("lab").exists()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// The refusal of what the Vagrantfile reads the inventory with, without the inventory's place. Ruby alone is quicker than
/// Vagrant, which has the same words and its own start around them.
fn refusal(inventory: &str) -> String {
    let operator = Operator::new(inventory);
    let script = "module Vagrant; module Errors; class VagrantError < StandardError; end; end; end
        require ARGV[0]
        begin
          PgsteadLab.new(ARGV[1], ARGV[2]).check_before(['up', '--provider=virtualbox'])
        rescue PgsteadLab::Refused => refused
          puts refused.error_message
        end";
    let mut command = operator.command("ruby");
    command.args(["-e", script]).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("vagrant/lab.rb"));
    let output = command.arg(operator.path("lab.yaml")).arg(operator.path("state")).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    text(&output).replace(&operator.path("lab.yaml").display().to_string(), "INVENTORY").trim().to_owned()
}

#[test]
fn the_vagrantfile_is_valid_for_every_provider() {
    let own = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("inventories/vagrant.yaml")).unwrap();
    let operator = Operator::new(&own);
    operator.stand_in_for_providers();
    for provider in ["libvirt", "virtualbox", "docker"] {
        let output = operator.vagrant(&["validate"], provider);
        assert!(output.status.success(), "{provider}: {}", text(&output));
        assert!(text(&output).contains("Vagrantfile validated successfully"), "{provider}: {}", text(&output));
    }
}

/// The alarm of the test above: what a provider does not know is found.
#[test]
fn a_vagrantfile_with_an_option_that_a_provider_does_not_know_is_not_valid() {
    let operator = Operator::new(THREE);
    operator.stand_in_for_providers();
    let project = operator.path("project");
    fs::create_dir(&project).unwrap();
    let of_project = Path::new(env!("CARGO_MANIFEST_DIR")).join("vagrant");
    for name in ["lab.rb", "guest"] {
        fs::copy(of_project.join(name), project.join(name)).unwrap();
    }
    let vagrantfile = fs::read_to_string(of_project.join("Vagrantfile")).unwrap();
    let broken = [
        ("libvirt", "libvirt.memory =", "libvirt.memorie ="),
        ("virtualbox", "virtualbox.memory =", "virtualbox.memorie ="),
        ("docker", "docker.has_ssh =", "docker.has_shh ="),
    ];
    for (provider, good, bad) in broken {
        assert!(vagrantfile.contains(good), "the Vagrantfile has no {good}");
        fs::write(project.join("Vagrantfile"), vagrantfile.replace(good, bad)).unwrap();
        let mut command = operator.command("vagrant");
        command.arg("validate").current_dir(&project).env("VAGRANT_DEFAULT_PROVIDER", provider);
        let output = command.env("PGSTEAD_INVENTORY", operator.path("lab.yaml")).output().unwrap();
        assert!(!output.status.success(), "{provider} took {bad}: {}", text(&output));
    }
}

/// Vagrant takes a name for the beginning of an identifier, and would destroy c where b was named.
#[test]
fn a_machine_whose_name_another_identifier_begins_with_is_itself() {
    let operator = Operator::new(THREE);
    let index = operator.path("home/.vagrant.d/data/machine-index");
    fs::create_dir_all(&index).unwrap();
    let machine = serde_json::json!({
        "local_data_path": operator.path("state"),
        "vagrantfile_path": Path::new(env!("CARGO_MANIFEST_DIR")).join("vagrant"),
        "vagrantfile_name": null, "name": "c", "provider": "libvirt", "state": "running",
        "updated_at": null, "extra_data": {}, "architecture": null,
    });
    let known = serde_json::json!({ "version": 1, "machines": { "bbbb0123456789abcdef0123456789ab": machine } });
    fs::write(index.join("index"), known.to_string()).unwrap();
    let output = operator.vagrant(&["status", "b", "--machine-readable"], "libvirt");
    let said = text(&output);
    assert!(said.contains(",b,state,not_created") && !said.contains(",c,"), "{said}");
}

#[test]
fn what_cannot_be_a_lab_is_refused_in_one_message() {
    let with = |from: &str, to: &str| {
        assert!(THREE.contains(from));
        THREE.replace(from, to)
    };
    for (inventory, message) in [
        (with("10.99.7.12", "10.99.7.11"), "INVENTORY: servers a and b have the same address, 10.99.7.11"),
        (with("10.99.7.12", "10.99.7.1"), "INVENTORY: server b: address 10.99.7.1 is this machine's in 10.99.7.0/24"),
        (
            with("10.99.7.12", "10.5.7.12"),
            "INVENTORY: the servers' addresses have less than the first 16 bits in common, and can't be one network",
        ),
        (
            with("10.99.7.12", "b.example.com"),
            "INVENTORY: server b: \"b.example.com\" is no IPv4 address, which a machine of a lab needs",
        ),
        (
            with("10.99.7.12", "8.8.8.8"),
            "INVENTORY: server b: 8.8.8.8 is no private IPv4 address, which a machine of a lab needs",
        ),
        (
            with("purpose: lab\n", ""),
            "INVENTORY: its purpose is not \"lab\"; machines with the addresses of real servers would be taken for them",
        ),
        (
            [THREE, "lab: { memory_mb: 128 }\n"].concat(),
            "INVENTORY: server a: memory_mb is 128, and must be a number of at least 256",
        ),
        (
            [THREE, "lab: { disk_gb: 1 }\n"].concat(),
            "INVENTORY: server a: disk_gb is 1, and must be a number of at least 4",
        ),
        (with("servers:\n", "others:\n"), "INVENTORY: there are no servers"),
    ] {
        assert_eq!(refusal(&inventory), message);
    }
    let much = refusal(&[THREE, "lab: { memory_mb: 10000000 }\n"].concat());
    assert!(much.starts_with("INVENTORY: a, b, c need 30000000 MB of memory, and this machine has "), "{much}");
    let no_key = refusal(&with("identity_file: key", "identity_file: elsewhere"));
    assert!(no_key.starts_with("INVENTORY: there is no public key in "), "{no_key}");
    let no_yaml = refusal("topology: [");
    assert!(no_yaml.starts_with("INVENTORY: "), "{no_yaml}");
    assert_eq!(refusal(THREE), "", "the inventory that the others differ from is no lab itself");
}

/// Needs root: the address is put on an interface of a network of the test's own.
#[test]
fn a_network_in_which_this_machine_stands_already_is_refused() {
    let operator = Operator::new(THREE);
    operator.stand_in_for_providers();
    let mut command = operator.command("unshare");
    command.args(["--net", "sh", "-c", "ip address add 10.99.7.200/24 dev lo && exec \"$@\"", "sh"]);
    command.arg(env!("CARGO_BIN_EXE_pgstead")).args(["lab", "up", "--backend", "vagrant", "--provider", "virtualbox"]);
    command.arg("-i").arg(operator.path("lab.yaml")).arg("--dir").arg(operator.path("lab"));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", text(&output));
    assert!(
        text(&output).contains(
            "its network 10.99.7.0/24 is in use on this machine already (10.99.7.200 on lo); is another lab up?"
        ),
        "{}",
        text(&output)
    );
    assert!(!operator.has_lab());
}

#[test]
fn a_provider_that_is_not_there_is_refused_before_anything_is_made() {
    let operator = Operator::new(THREE);
    operator.stand_in("VBoxManage", "echo 'The vboxdrv kernel module is not loaded' >&2; exit 1\n");
    let output = operator.lab(&["up", "--provider", "virtualbox"]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output));
    let message = "ERROR [vagrant-lab]: the provider virtualbox can't be used on this machine: The vboxdrv kernel module is not loaded";
    assert!(text(&output).contains(message), "{}", text(&output));
    operator.stand_in("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1\n");
    let output = operator.lab(&["up", "--provider", "docker"]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output));
    assert!(text(&output).contains("Cannot connect to the Docker daemon"), "{}", text(&output));
    assert!(!operator.has_lab());
}

/// The whole way through the real Vagrant, up to a box that is nowhere.
#[test]
fn a_box_that_is_nowhere_is_told_and_leaves_nothing() {
    let operator = Operator::new(THREE);
    operator.stand_in_for_providers();
    // Nothing of the network: the catalogue may be asked elsewhere, and has no such box either.
    let mut command = operator.command("unshare");
    command.args(["--net", env!("CARGO_BIN_EXE_pgstead"), "lab", "up", "--backend", "vagrant"]);
    command.args(["--provider", "virtualbox", "--dir"]).arg(operator.path("lab"));
    let output = command.env("PGSTEAD_BOX", "pgstead/no-such-box").output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", text(&output));
    let text = text(&output);
    assert!(text.contains("ERROR [vagrant-lab]: the box is not on this machine, and could not be fetched"), "{text}");
    assert!(text.contains("pgstead/no-such-box") && text.contains("vagrant/build-box"), "{text}");
    assert!(!operator.has_lab(), "{text}");
}

/// A stand-in for Vagrant that makes machines of files, and writes down what it was told.
const FILES: &str = r#"
printf '%s\n' "$*" >>"$HOME/told"
case $1 in
up)
    [ -z "${FAIL-}" ] || { echo "1,,error-exit,Vagrant::Errors::Other,no power"; exit 1; }
    for server in a b c; do
        mkdir -p "$VAGRANT_DOTFILE_PATH/machines/$server/virtualbox"
        echo running >"$VAGRANT_DOTFILE_PATH/machines/$server/virtualbox/id"
    done
    for address in 192.168.56.11 192.168.56.12 192.168.56.13; do
        echo "$address ssh-ed25519 AAAA" >>"$VAGRANT_CWD/../known_hosts"
    done
    ;;
halt) echo poweroff >"$VAGRANT_DOTFILE_PATH/machines/$3/virtualbox/id" ;;
status)
    for server in a b c; do
        echo "1,$server,state,$(cat "$VAGRANT_DOTFILE_PATH/machines/$server/virtualbox/id" 2>/dev/null || echo not_created)"
    done
    ;;
destroy) [ -n "${KEEP-}" ] || rm -f "$VAGRANT_DOTFILE_PATH"/machines/*/*/id ;;
esac
"#;

#[test]
fn a_lab_is_made_broken_mended_and_taken_away() {
    let operator = Operator::new(THREE);
    operator.stand_in_for_providers();
    operator.stand_in("vagrant", FILES);
    let done = |words: &[&str]| {
        let output = operator.lab(words);
        assert!(output.status.success(), "{words:?}: {}", text(&output));
        text(&output)
    };
    let up = done(&["up", "--provider", "virtualbox"]);
    assert!(up.contains("a       192.168.56.11:22  running") && up.contains("pgstead.yaml bootstrap"), "{up}");
    // The key is the lab's own, and nobody else's to read.
    let key = operator.path("lab/client/id_ed25519");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let mut validate = operator.command(env!("CARGO_BIN_EXE_pgstead"));
    validate.arg("-i").arg(operator.path("lab/pgstead.yaml")).arg("validate");
    assert!(validate.output().unwrap().status.success());

    let off = done(&["fault", "power", "b", "off"]);
    assert!(off.contains("b       192.168.56.12:22  stopped"), "{off}");
    let again = operator.lab(&["fault", "power", "b", "off"]);
    assert_eq!(again.status.code(), Some(5), "{}", text(&again));
    done(&["up"]);
    let other = operator.lab(&["up", "--servers", "2"]);
    assert_eq!(other.status.code(), Some(5), "{}", text(&other));
    assert!(text(&other).contains("another lab is up in"), "{}", text(&other));

    done(&["down"]);
    assert!(!operator.has_lab());
    done(&["down"]);
    let told = fs::read_to_string(operator.path("home/told")).unwrap();
    assert!(told.contains("halt --force b --machine-readable"), "{told}");
    assert!(told.contains("destroy --force --no-parallel"), "{told}");
}

#[test]
fn a_lab_that_does_not_come_up_leaves_nothing_and_one_that_does_not_go_is_told() {
    let operator = Operator::new(THREE);
    operator.stand_in_for_providers();
    operator.stand_in("vagrant", &["FAIL=yes\n", FILES].concat());
    let output = operator.lab(&["up", "--provider", "virtualbox"]);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output));
    assert!(text(&output).contains("ERROR [vagrant-lab]: vagrant up failed: no power"), "{}", text(&output));
    assert!(!operator.has_lab(), "{}", text(&output));

    operator.stand_in("vagrant", &["KEEP=yes\n", FILES].concat());
    assert!(operator.lab(&["up", "--provider", "virtualbox"]).status.success());
    let output = operator.lab(&["down"]);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output));
    assert!(text(&output).contains("the machine of server \"a\" is still there"), "{}", text(&output));
    assert!(operator.has_lab(), "what it takes to take it away must stay");
}

#[test]
fn a_directory_with_something_else_is_left_alone() {
    let operator = Operator::new(THREE);
    operator.stand_in_for_providers();
    operator.stand_in("vagrant", FILES);
    fs::create_dir(operator.path("lab")).unwrap();
    fs::write(operator.path("lab/mine"), "x").unwrap();
    for words in [&["up", "--provider", "virtualbox"][..], &["down"], &["status"]] {
        let output = operator.lab(words);
        assert_eq!(output.status.code(), Some(5), "{words:?}: {}", text(&output));
        assert!(text(&output).contains("is not empty, and no Vagrant lab"), "{}", text(&output));
    }
    assert!(operator.path("lab/mine").exists());
}

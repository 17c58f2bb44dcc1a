//! One host of a running lab, as tests handle it: out of band, never over SSH.
//!
//! What is done here goes past sshd and pgstead, so that a test can verify independently what pgstead did.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::error::HostsLabError;
use super::network::LabNumber;
use super::spec::HostSpec;
use super::state::{HostPaths, State};
use super::tree;
use super::{boot, prepare};
use crate::lab::Failure;
use crate::lab::command::{ended_badly, finish};

/// A host of a lab, running or not.
#[derive(Debug, Clone)]
pub struct Host {
    lab_dir: PathBuf,
    number: LabNumber,
    index: u8,
    spec: HostSpec,
    paths: HostPaths,
    begins_with: Option<PathBuf>,
}

impl Host {
    /// Returns the hosts of the lab in `lab_dir`.
    pub(super) fn all(lab_dir: &Path, state: &State) -> Vec<Self> {
        (0..)
            .zip(&state.hosts)
            .map(|(index, spec)| Self {
                lab_dir: lab_dir.to_owned(),
                number: state.number,
                index,
                spec: spec.clone(),
                paths: HostPaths::new(lab_dir, &spec.name),
                begins_with: state.begins_with.clone(),
            })
            .collect()
    }

    /// Returns what the host was wished to be.
    #[must_use]
    pub fn spec(&self) -> &HostSpec {
        &self.spec
    }

    /// Returns the host's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Returns the host's address, which it keeps as long as the lab exists.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.number.host_address(self.index)
    }

    /// Returns this machine's address, as the host sees the operator.
    #[must_use]
    pub fn operator_address(&self) -> Ipv4Addr {
        self.number.bridge_address()
    }

    /// Tells whether the host runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        boot::supervisor(self).is_some()
    }

    /// Returns the process id, on this machine, of the host's init.
    #[must_use]
    pub fn init_pid(&self) -> Option<u32> {
        boot::init(self).map(|init| init.pid)
    }

    /// Returns where the host's root directory is mounted on this machine. A small disk is not in it.
    #[must_use]
    pub fn root_dir(&self) -> PathBuf {
        self.paths.root()
    }

    /// Returns the file with everything that the host printed while it booted and shut down.
    #[must_use]
    pub fn boot_log(&self) -> PathBuf {
        self.paths.boot_log()
    }

    pub(super) fn paths(&self) -> &HostPaths {
        &self.paths
    }

    pub(super) fn machine(&self) -> String {
        self.number.machine(self.index)
    }

    pub(super) fn link(&self) -> String {
        self.number.link(self.index)
    }

    pub(super) fn bridge(&self) -> String {
        self.number.bridge()
    }

    /// Runs `argv` as root on the host, past its sshd, to its end, whatever its status.
    pub fn exec(&self, argv: &[&str]) -> Result<Output, HostsLabError> {
        self.exec_with_input(argv, b"")
    }

    /// Runs `argv` as [`Self::exec`] does, with `input` as its stdin.
    pub fn exec_with_input(&self, argv: &[&str], input: &[u8]) -> Result<Output, HostsLabError> {
        finish(&mut self.enter(argv)?, Some(input)).map_err(|source| self.exec_error(source))
    }

    /// Runs `argv` as [`Self::exec`] does and returns its stdout without the last newline; fails unless it succeeds.
    pub fn run(&self, argv: &[&str]) -> Result<String, HostsLabError> {
        let mut command = self.enter(argv)?;
        self.success(&mut command, b"").map(|stdout| {
            let text = String::from_utf8_lossy(&stdout);
            text.strip_suffix('\n').unwrap_or(&text).to_owned()
        })
    }

    /// Runs SQL as the operating system's `postgres` over the local socket; returns unaligned rows, fields parted by `|`.
    pub fn psql(&self, port: u16, database: &str, sql: &str) -> Result<String, HostsLabError> {
        let port = port.to_string();
        let mut command = self.enter(&[
            "runuser",
            "--user=postgres",
            "--",
            "sh",
            "-c",
            // The program itself: what Debian puts in front of it is Perl, and takes longer than most queries.
            // A standby takes no serializable session, whatever is the default there.
            r#"PATH=$(echo /usr/lib/postgresql/*/bin):$PATH PGOPTIONS='-c default_transaction_isolation=read\ committed' exec psql "$@""#,
            "psql",
            "--no-psqlrc",
            "--quiet",
            "--no-align",
            "--tuples-only",
            "--set=ON_ERROR_STOP=1",
            "--port",
            &port,
            "--dbname",
            database,
        ])?;
        self.success(&mut command, sql.as_bytes()).map(|stdout| {
            let text = String::from_utf8_lossy(&stdout);
            text.strip_suffix('\n').unwrap_or(&text).to_owned()
        })
    }

    /// Returns what is in a file of the host; a stopped host is read as well.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>, HostsLabError> {
        let mut command = self.enter_or_chroot(&["cat", "--", path])?;
        self.success(&mut command, b"")
    }

    /// Writes a file of the host, of mode 0644 and root's if it is new; a stopped host is written as well.
    pub fn write_file(&self, path: &str, content: &[u8]) -> Result<(), HostsLabError> {
        let mut command = self.enter_or_chroot(&["sh", "-c", "umask 022; exec cat > \"$1\"", "sh", path])?;
        self.success(&mut command, content).map(drop)
    }

    /// Boots the stopped host and returns when its sshd answers. Faults of the network are gone after that.
    pub fn boot(&self) -> Result<(), HostsLabError> {
        self.require_running(false)?;
        let layers = self.layers()?;
        prepare::mount_again(self, &layers)
            .and_then(|()| boot::clear_remains(self))
            .map_err(|source| self.prepare_error(source))?;
        self.start()?;
        boot::wait_for_ssh(self)
    }

    /// Begins to boot the host; [`boot::wait_for_ssh`] sees it come up.
    pub(super) fn start(&self) -> Result<(), HostsLabError> {
        boot::start(self).map_err(|source| HostsLabError::Boot {
            host: self.spec.name.clone(),
            log_tail: tree::tail(&self.boot_log(), 20),
            source,
        })
    }

    /// Kills everything on the host at once. What its programs had written is kept, as the kernel lives on: a lost page
    /// cache can't be had this way.
    pub fn power_cut(&self) -> Result<(), HostsLabError> {
        boot::kill(self)
            .and_then(|killed| boot::wait_until_gone(&killed))
            .and_then(|()| boot::clear_remains(self))
            .map_err(|source| self.stop_error(source))
    }

    /// Shuts the host down cleanly, services stopped in their order.
    pub fn shut_down(&self) -> Result<(), HostsLabError> {
        boot::shut_down(self).and_then(|()| boot::clear_remains(self)).map_err(|source| self.stop_error(source))
    }

    /// Throws away everything the host has written and boots it as it first was, with the same keys and addresses.
    pub fn reset(&self) -> Result<(), HostsLabError> {
        self.power_cut()?;
        let state = State::read(&self.lab_dir).map_err(|source| self.prepare_error(source))?;
        self.make_file_system(&Self::all(&self.lab_dir, &state))?;
        self.start()?;
        boot::wait_for_ssh(self)
    }

    pub(super) fn make_file_system(&self, all: &[Self]) -> Result<(), HostsLabError> {
        let layers = self.layers()?;
        prepare::make_file_system(&self.lab_dir, self, all, &layers).map_err(|source| self.prepare_error(source))
    }

    /// Returns what lies below that which the host writes, the uppermost first.
    fn layers(&self) -> Result<Vec<PathBuf>, HostsLabError> {
        tree::layers(self.spec.release, self.spec.postgres_installed)
    }

    /// Returns what the host begins with, where that is more than its layers.
    pub(super) fn begins_with(&self) -> Option<PathBuf> {
        self.begins_with.as_ref().map(|kept| HostPaths::new(kept, &self.spec.name).upper())
    }

    /// Returns the command that [`Self::exec`] would run, for a caller that starts or feeds it otherwise.
    pub fn command(&self, argv: &[&str]) -> Result<Command, HostsLabError> {
        self.enter(argv)
    }

    fn enter(&self, argv: &[&str]) -> Result<Command, HostsLabError> {
        let init = boot::init(self).ok_or_else(|| self.wrong_state(false))?;
        Ok(boot::enter(init, argv))
    }

    fn enter_or_chroot(&self, argv: &[&str]) -> Result<Command, HostsLabError> {
        if self.is_running() {
            return self.enter(argv);
        }
        let mut command = Command::new("chroot");
        command.arg(self.root_dir()).args(argv);
        Ok(command)
    }

    fn success(&self, command: &mut Command, input: &[u8]) -> Result<Vec<u8>, HostsLabError> {
        match finish(command, Some(input)) {
            Ok(output) if output.status.success() => Ok(output.stdout),
            Ok(output) => Err(self.exec_error(ended_badly(command, &output))),
            Err(failure) => Err(self.exec_error(failure)),
        }
    }

    fn require_running(&self, wanted: bool) -> Result<(), HostsLabError> {
        let running = self.is_running();
        if running == wanted { Ok(()) } else { Err(self.wrong_state(running)) }
    }

    pub(super) fn wrong_state(&self, running: bool) -> HostsLabError {
        HostsLabError::WrongState { host: self.spec.name.clone(), running }
    }

    fn exec_error(&self, source: Failure) -> HostsLabError {
        HostsLabError::Exec { host: self.spec.name.clone(), source }
    }

    pub(super) fn prepare_error(&self, source: Failure) -> HostsLabError {
        HostsLabError::PrepareHost { host: self.spec.name.clone(), source }
    }

    pub(super) fn stop_error(&self, source: Failure) -> HostsLabError {
        HostsLabError::Stop { host: self.spec.name.clone(), source }
    }
}

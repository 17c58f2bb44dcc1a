//! Faults of the network: a cut link, a slow link, silence between two hosts.
//!
//! All of them live in the host's network namespace or on its link, so a power cut mends them. Delay and loss can't be
//! made (the kernels this runs on may lack `netem`); rate limits use `tbf`.

use std::net::Ipv4Addr;
use std::process::Command;

use super::boot;
use super::error::HostsLabError;
use super::host::Host;
use super::network::interface_exists;
use super::process::ProcessId;
use crate::lab::Failure;
use crate::lab::command::{ended_badly, finish, succeed};

/// Packets from the addresses in the set vanish before the host's own rules see them. They are dropped on arrival and not
/// on departure, where the sender would be told of it.
const DROP_TABLE: &str = "
table inet pgstead_lab {
    set dropped { type ipv4_addr; }
    chain arriving { type filter hook prerouting priority raw; policy accept; ip saddr @dropped counter drop; }
}
";

/// What the blocks of [`Host::block_arriving`] stand in. Rejecting is possible only where packets are the host's own.
const BLOCK_TABLE: &str = "
table inet pgstead_blocks {
    chain arriving { type filter hook input priority raw; policy accept; }
}
";

/// What becomes of a packet that is not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// It vanishes, and its sender waits.
    Drop,
    /// Its sender is told: a reset for TCP, an ICMP error for the rest.
    Reject,
}

/// Runs another program in place of one: `$0` as the caller said it, and the true one beside it as `.true`.
const WRAP: &str = "set -e; [ -e \"$1.true\" ] || mv -- \"$1\" \"$1.true\"; cat >\"$1.new\"; chmod 0755 \"$1.new\"; mv -- \"$1.new\" \"$1\"";
const UNWRAP: &str = "[ ! -e \"$1.true\" ] || mv -- \"$1.true\" \"$1\"";

/// Fills a file system but for some KiB. Somebody else may write there or remove at the same time: then it is about that.
pub(in crate::lab) const FILL: &str = "set -e; rm -f -- \"$1/filler\"; free=$(df --output=avail -k -- \"$1\" | tail -n 1); \
    head -c \"$(( (free - $2) * 1024 ))\" /dev/zero 2>/dev/null >\"$1/filler\" || [ -s \"$1/filler\" ]";

/// Turns one byte of a file into its complement, in place.
const FLIP: &str = "set -e; old=$(od -An -tu1 -j \"$2\" -N 1 -- \"$1\"); \
    printf \"\\\\$(printf %03o $((255 - old)))\" | dd of=\"$1\" bs=1 seek=\"$2\" conv=notrunc,fsync status=none";

/// A new host key, as after a reinstallation, or by someone in the middle.
const NEW_HOST_KEY: &str = "set -e; rm -f /etc/ssh/ssh_host_ed25519_key*; \
    ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key; systemctl restart ssh";

/// A queue no longer than this keeps a slow link from being one of seconds.
const QUEUE_LATENCY: &str = "50ms";

/// The least burst that lets full segments through at every rate.
const MIN_BURST_BYTES: u64 = 64 * 1024;

impl Host {
    /// Pulls the plug of the host's link to everyone: neither side is told, the host sees its carrier go.
    pub fn cut_link(&self) -> Result<(), HostsLabError> {
        self.set_link("down").map_err(|source| self.fault("cut the link", source))
    }

    /// Puts the plug back.
    pub fn mend_link(&self) -> Result<(), HostsLabError> {
        self.set_link("up").map_err(|source| self.fault("mend the link", source))
    }

    /// Lets whatever `sender` sends to this host vanish; the sender's side is not told.
    pub fn drop_arriving_from(&self, sender: Ipv4Addr) -> Result<(), HostsLabError> {
        let doing = "drop traffic on arrival";
        self.running_init()
            .and_then(|init| self.change_dropped(init, "add", sender).map_err(|source| self.fault(doing, source)))
    }

    /// Lets what `sender` sends arrive again.
    pub fn accept_arriving_from(&self, sender: Ipv4Addr) -> Result<(), HostsLabError> {
        let doing = "accept traffic on arrival";
        self.running_init()
            .and_then(|init| self.change_dropped(init, "delete", sender).map_err(|source| self.fault(doing, source)))
    }

    /// Blocks what arrives from `sender`: everything, or what is about one TCP port on either side.
    pub fn block_arriving(&self, how: Block, sender: Ipv4Addr, port: Option<u16>) -> Result<(), HostsLabError> {
        let init = self.running_init()?;
        let mut rules = String::from(BLOCK_TABLE);
        let mut rule = |matches: &str, verdict: &str| {
            rules.push_str(&format!(
                "add rule inet pgstead_blocks arriving ip saddr {sender} {matches} counter {verdict}\n"
            ));
        };
        let (tcp, other) = match how {
            Block::Drop => ("drop", "drop"),
            Block::Reject => ("reject with tcp reset", "reject"),
        };
        match port {
            Some(port) => {
                rule(&format!("tcp dport {port}"), tcp);
                rule(&format!("tcp sport {port}"), tcp);
            }
            None => {
                rule("meta l4proto tcp", tcp);
                rule("", other);
            }
        }
        let mut command = boot::enter(init, &["nft", "--file", "-"]);
        finish_well(&mut command, rules.as_bytes()).map_err(|source| self.fault("block traffic on arrival", source))
    }

    /// Lets everything arrive that [`Self::block_arriving`] blocked.
    pub fn unblock(&self) -> Result<(), HostsLabError> {
        let init = self.running_init()?;
        // Naming the table first makes it exist.
        let rules = format!("{BLOCK_TABLE}delete table inet pgstead_blocks\n");
        let mut command = boot::enter(init, &["nft", "--file", "-"]);
        finish_well(&mut command, rules.as_bytes()).map_err(|source| self.fault("unblock traffic", source))
    }

    /// Sends a signal to the postmaster of a data directory: `STOP`, `CONT`, `KILL`.
    pub fn signal_postmaster(&self, data_directory: &str, signal: &str) -> Result<(), HostsLabError> {
        const SIGNAL: &str = "exec kill -s \"$2\" -- \"$(head -n 1 \"$1/postmaster.pid\")\"";
        self.run(&["sh", "-c", SIGNAL, "sh", data_directory, signal]).map(drop)
    }

    /// Runs `script` instead of the program at `path`, which is then at `path.true`.
    pub fn replace_program(&self, path: &str, script: &str) -> Result<(), HostsLabError> {
        let mut command = self.command(&["sh", "-c", WRAP, "sh", path])?;
        finish_well(&mut command, script.as_bytes()).map_err(|source| self.fault("replace a program", source))
    }

    /// Undoes [`Self::replace_program`].
    pub fn restore_program(&self, path: &str) -> Result<(), HostsLabError> {
        self.run(&["sh", "-c", UNWRAP, "sh", path]).map(drop)
    }

    /// Fills the file system of a directory but for `kibibytes`. The file `filler` in it holds what frees the room again.
    pub fn fill_disk(&self, directory: &str, kibibytes: u32) -> Result<(), HostsLabError> {
        self.run(&["sh", "-c", FILL, "sh", directory, &kibibytes.to_string()]).map(drop)
    }

    /// Undoes [`Self::fill_disk`].
    pub fn free_disk(&self, directory: &str) -> Result<(), HostsLabError> {
        self.run(&["rm", "-f", "--", &format!("{directory}/filler")]).map(drop)
    }

    /// Turns a byte of a file around, behind the back of whatever uses it.
    pub fn flip_byte(&self, path: &str, offset: u64) -> Result<(), HostsLabError> {
        self.run(&["sh", "-c", FLIP, "sh", path, &offset.to_string()]).map(drop)
    }

    /// Gives the host another host key.
    pub fn replace_host_key(&self) -> Result<(), HostsLabError> {
        self.run(&["sh", "-c", NEW_HOST_KEY]).map(drop)?;
        boot::wait_for_ssh(self)
    }

    /// Gives the host its own host key back.
    pub fn restore_host_key(&self) -> Result<(), HostsLabError> {
        const INSTALL: &str = "umask 077; cat >/etc/ssh/ssh_host_ed25519_key; systemctl restart ssh";
        let path = self.paths().host_key();
        let key = std::fs::read(&path).map_err(Failure::file("read", &path));
        let mut command = self.command(&["sh", "-c", INSTALL])?;
        key.and_then(|key| finish_well(&mut command, &key))
            .map_err(|source| self.fault("restore the host key", source))?;
        boot::wait_for_ssh(self)
    }

    /// Limits the host's link to `megabits` per second, each way.
    pub fn limit_rate(&self, megabits: u32) -> Result<(), HostsLabError> {
        let rate = format!("{megabits}mbit");
        let bytes_in_10_ms = u64::from(megabits) * 1_000_000 / 8 / 100;
        let burst = bytes_in_10_ms.max(MIN_BURST_BYTES).to_string();
        let link = self.link();
        let init = self.running_init()?;
        let limit = |dev| {
            [
                "tc",
                "qdisc",
                "replace",
                "dev",
                dev,
                "root",
                "tbf",
                "rate",
                &rate,
                "burst",
                &burst,
                "latency",
                QUEUE_LATENCY,
            ]
        };
        boot::in_network_of(init, &limit("host0"))
            .and_then(|_| succeed(Command::new("tc").args(&limit(&link)[1..])))
            .map(drop)
            .map_err(|source| self.fault("limit the rate", source))
    }

    /// Lets the host's link be as fast as it can.
    pub fn unlimit(&self) -> Result<(), HostsLabError> {
        let link = self.link();
        let init = self.running_init()?;
        let has_limit = |shown: &str| shown.contains(" tbf ");
        let unlimit = || {
            if has_limit(&boot::in_network_of(init, &["tc", "qdisc", "show", "dev", "host0"])?) {
                boot::in_network_of(init, &["tc", "qdisc", "delete", "dev", "host0", "root"])?;
            }
            if has_limit(&succeed(Command::new("tc").args(["qdisc", "show", "dev", &link]))?) {
                succeed(Command::new("tc").args(["qdisc", "delete", "dev", &link, "root"]))?;
            }
            Ok(())
        };
        unlimit().map_err(|source| self.fault("unlimit the rate", source))
    }

    fn set_link(&self, state: &str) -> Result<(), Failure> {
        let link = self.link();
        if !interface_exists(&link) {
            return Err(Failure::Observed(format!("there is no link \"{link}\": the host is not running")));
        }
        succeed(Command::new("ip").args(["link", "set", "dev", &link, state])).map(drop)
    }

    fn change_dropped(&self, init: ProcessId, change: &str, sender: Ipv4Addr) -> Result<(), Failure> {
        // Naming a table that exists adds nothing to it but would add the rule again.
        if succeed(&mut boot::enter(init, &["nft", "list", "table", "inet", "pgstead_lab"])).is_err() {
            let mut command = boot::enter(init, &["nft", "--file", "-"]);
            finish_well(&mut command, DROP_TABLE.as_bytes())?;
        }
        let element = format!("{{ {sender} }}");
        let changed =
            succeed(&mut boot::enter(init, &["nft", change, "element", "inet", "pgstead_lab", "dropped", &element]));
        match changed {
            // What was not dropped needs no mending.
            Err(Failure::Command { stderr, .. }) if change == "delete" && stderr.contains("No such file") => Ok(()),
            changed => changed.map(drop),
        }
    }

    fn running_init(&self) -> Result<ProcessId, HostsLabError> {
        boot::init(self).ok_or_else(|| self.wrong_state(false))
    }

    fn fault(&self, doing: &'static str, source: Failure) -> HostsLabError {
        HostsLabError::Fault { doing, host: self.name().to_owned(), source }
    }
}

/// Runs `command` with `input`; any status but success is a failure.
fn finish_well(command: &mut Command, input: &[u8]) -> Result<(), Failure> {
    let output = finish(command, Some(input))?;
    if output.status.success() { Ok(()) } else { Err(ended_badly(command, &output)) }
}

//! Faults of the network: a cut link, a slow link, silence between two hosts.
//!
//! All of them live in the host's network namespace or on its link, so a power cut mends them. Delay and loss can't be
//! made (the kernels this runs on may lack `netem`); rate limits use `tbf`.

use std::net::Ipv4Addr;
use std::process::Command;

use super::boot;
use super::command::succeed;
use super::error::{Failure, HostsLabError};
use super::host::Host;
use super::network::interface_exists;
use super::process::ProcessId;

/// Packets from the addresses in the set vanish before the host's own rules see them. They are dropped on arrival and not
/// on departure, where the sender would be told of it.
const DROP_TABLE: &str = "
table inet pgstead_lab {
    set dropped { type ipv4_addr; }
    chain arriving { type filter hook prerouting priority raw; policy accept; ip saddr @dropped counter drop; }
}
";

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
            let output = super::command::finish(&mut command, Some(DROP_TABLE.as_bytes()))?;
            if !output.status.success() {
                return Err(super::command::ended_badly(&command, &output));
            }
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

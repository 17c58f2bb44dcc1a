//! Chooses addresses and ports on the loopback network that nobody listens on. It binds only to look.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

use super::error::LocalLabError;

/// The port that is tried first for sshd.
pub const SSH_PORT: u16 = 22022;
/// The port that is tried first for PostgreSQL.
pub const POSTGRES_PORT: u16 = 54320;
/// The most servers that fit behind one another on 127.0.0.11 to 127.0.0.250.
pub const MAX_SERVERS: usize = 100;

const FIRST_OCTET: usize = 11;
const LAST_OCTET: usize = 250;
/// Labs of up to ten servers start ten addresses apart, so that two of them are told apart at a glance.
const STRIDE: usize = 10;
const PORTS_TO_TRY: u16 = 50;

/// Where the servers of a lab listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// One address per server.
    pub(super) addresses: Vec<Ipv4Addr>,
    /// The port of every sshd.
    pub(super) ssh_port: u16,
    /// The port of every instance.
    pub(super) postgres_port: u16,
}

/// Chooses a place for some servers. A port that is given is used as it is, or refused.
///
/// Addresses are what tells two labs apart: the sshds of one lab keep the next lab off its addresses even before any
/// instance listens there.
pub(super) fn choose(servers: usize, ssh: Option<u16>, postgres: Option<u16>) -> Result<Place, LocalLabError> {
    for offset in 0..PORTS_TO_TRY {
        let ssh_port = ssh.unwrap_or(SSH_PORT.saturating_add(offset));
        let postgres_port = postgres.unwrap_or(POSTGRES_PORT.saturating_add(offset));
        for first in (FIRST_OCTET..).step_by(STRIDE).take_while(|first| first + servers <= LAST_OCTET + 1) {
            let addresses = addresses(first, servers);
            if addresses.iter().all(|address| is_free(*address, ssh_port) && is_free(*address, postgres_port)) {
                return Ok(Place { addresses, ssh_port, postgres_port });
            }
        }
        // A port given by the operator is not tried again beside the next one, so name it where it is the reason.
        for port in [ssh, postgres].into_iter().flatten() {
            if let Some(address) = addresses(FIRST_OCTET, servers).into_iter().find(|a| !is_free(*a, port)) {
                return Err(LocalLabError::PortTaken { address, port });
            }
        }
    }
    Err(LocalLabError::NoFreePort { servers })
}

fn addresses(first: usize, servers: usize) -> Vec<Ipv4Addr> {
    (first..first + servers).filter_map(|octet| u8::try_from(octet).ok()).map(|o| Ipv4Addr::new(127, 0, 0, o)).collect()
}

/// Says whether a port could be listened on right now.
pub(super) fn is_free(address: Ipv4Addr, port: u16) -> bool {
    match TcpListener::bind((address, port)) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lab_gets_other_addresses() {
        let first = choose(3, None, None).unwrap();
        let _held = TcpListener::bind((first.addresses[1], first.ssh_port)).unwrap();
        let second = choose(3, None, None).unwrap();
        assert!(!second.addresses.contains(&first.addresses[1]) || second.ssh_port != first.ssh_port);
    }

    #[test]
    fn a_taken_port_that_was_asked_for_is_named() {
        let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = everywhere.local_addr().unwrap().port();
        let error = choose(3, Some(port), None).unwrap_err();
        assert!(matches!(error, LocalLabError::PortTaken { port: named, .. } if named == port), "{error}");
    }
}

//! Ports that are a test's own until its process ends.
//!
//! A port that was free a moment ago may be anybody's in the next: outgoing connections take theirs from the ephemeral range,
//! and other tests look for one, too. These lie below that range, and a lock keeps other tests away.

use std::fs::File;
use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::sync::Mutex;

/// Below the ephemeral ports of Linux (ip-sysctl, `ip_local_port_range`), above what services are given.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// The locks of this process.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Returns a port on which nobody listens, and which no other test takes.
pub(crate) fn own() -> u16 {
    let dir = std::env::temp_dir().join(format!("pgstead-test-ports-{}", rustix::process::getuid().as_raw()));
    std::fs::create_dir_all(&dir).unwrap();
    let mut held = HELD.lock().unwrap();
    // Everybody begins elsewhere, so that what one has just given back is not the next one's.
    let offset = (std::process::id() as u16).wrapping_mul(37) % RANGE.len() as u16;
    for step in 0..RANGE.len() as u16 {
        let port = RANGE.start + (offset + step) % RANGE.len() as u16;
        let lock = File::create(dir.join(port.to_string())).unwrap();
        if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            held.push(lock);
            return port;
        }
    }
    panic!("every port from {} to {} is taken", RANGE.start, RANGE.end);
}

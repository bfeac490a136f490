//! What the tests start (rollcall, health servers, upstreams) and how they ask (DNS, HTTP, commands).

pub(crate) mod dns;
pub(crate) mod encrypted;
pub(crate) mod health;
pub(crate) mod http;
pub(crate) mod namespace;
pub(crate) mod rollcall;
pub(crate) mod signed;
pub(crate) mod tools;
pub(crate) mod upstream;
pub(crate) mod wire;

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Asks again until `look` finds what it looks for, and returns it with the time it took. Fails at the deadline, with
/// what was seen last. The pause bounds how often the machine is asked; no time is given away that the answer did not need.
pub(crate) fn within<T>(limit: Duration, wanted: &str, mut look: impl FnMut() -> Result<T, String>) -> (T, Duration) {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return (found, start.elapsed()),
            Err(seen) if start.elapsed() > limit => panic!("not within {limit:?}: {wanted}\n  seen last  {seen}"),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// A port that nobody here has for UDP or TCP. None of those that the kernel gives to whoever asks for any, so that nobody has
/// it until the server is there that it is for; each once; and not tried, since a process that is just being started would hold
/// for a moment what it is tried with.
pub(crate) fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| fastrand::u16(..10_000).into());
    let tables = ["tcp", "udp", "tcp6", "udp6"].map(|name| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default());
    let local = tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(|line| line.split_ascii_whitespace().nth(1));
    let taken: HashSet<u16> = local.filter_map(|address| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok()).collect();
    let mut ports = (0..10_000).map(|_| 10_000 + next.fetch_add(1, Ordering::Relaxed) % 10_000);
    ports.find(|port| !taken.contains(port)).expect("a port from 10000 to 19999 that nobody has")
}

/// A file or folder of the project.
pub(crate) fn project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Shared machines stall: what must have happened by a time may happen up to ten times later. What must not happen
/// before a time is held to it exactly.
pub(crate) fn slack(limit: Duration) -> Duration {
    limit * 10
}

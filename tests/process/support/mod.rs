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

use std::net::{TcpListener, UdpSocket};
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

/// A port on 127.0.0.1 that is free for UDP and TCP. None of those that the kernel gives to whoever asks for any, so that nobody
/// has it until the server is there that it is for; and each once.
pub(crate) fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| fastrand::u16(..10_000).into());
    for _ in 0..10_000 {
        let port = 10_000 + next.fetch_add(1, Ordering::Relaxed) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of 127.0.0.1 from 10000 to 19999 is free for UDP and TCP");
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

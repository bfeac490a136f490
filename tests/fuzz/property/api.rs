//! Requests to the HTTP API: the first line is method and target, the rest is the body. Each has an answer, and none is our
//! own fault.

use std::cell::RefCell;
use std::time::Duration;

use rollcall::api::{self, Api};
use rollcall::registry::{Config, Identity, Registry};
use tokio::runtime::Runtime;

/// Requests that one registry takes, so that it does not grow for ever.
const REQUESTS: usize = 2_000;

struct Server {
    runtime: Runtime,
    api: Api,
    left: usize,
}

thread_local! {
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
}

fn start() -> Server {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let identity = Identity {
        node_name: "here".into(),
        node_id: "0a000000-0000-4000-8000-0000000000ff".into(),
        datacenter: "dc1".into(),
        address: "127.0.0.1".into(),
        node_meta: Default::default(),
    };
    let registry = runtime.block_on(async { Registry::open(Config::default(), identity) }).expect("it keeps nothing on disk");
    Server { runtime, api: Api::new(registry), left: REQUESTS }
}

pub(crate) fn holds(octets: &[u8]) {
    let line = octets.split(|octet| *octet == b'\n').next().unwrap_or_default();
    let body = octets.get(line.len() + 1..).unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else { return };
    let (method, target) = line.split_once(' ').unwrap_or(("GET", line));
    // Checks that are registered are run, and a fuzz sends nothing to anybody.
    let lower = body.to_ascii_lowercase();
    if [&b"http"[..], b"tcp", b"udp", b"\\u"].iter().any(|word| lower.windows(word.len()).any(|window| window == *word)) {
        return;
    }
    SERVER.with_borrow_mut(|server| {
        let current = server.get_or_insert_with(start);
        let exchange =
            async { tokio::time::timeout(Duration::from_millis(100), api::exchange(&current.api, method, target, body)).await };
        // What waits for a change waits for longer than that.
        if let Ok(Some((status, _))) = current.runtime.block_on(exchange) {
            assert!((100..600).contains(&status), "{status}");
        }
        current.left -= 1;
        if current.left == 0 {
            *server = None;
        }
    });
}

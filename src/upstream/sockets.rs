//! How many sockets may wait for datagrams of upstreams. Each is a file, and a process that has used up its files answers nobody
//! by TCP and registers nothing: a part of them is for this, and the rest for all else.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use rustix::process::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits;

/// Any address and port of ours, of the family of this one.
pub fn any_towards(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// The part of the files that is for such sockets.
const SHARE: u64 = 4;

/// Sockets that may still be opened; clones share them.
#[derive(Debug, Clone)]
pub struct Allowance(Arc<Semaphore>);

/// One of them, given back when dropped.
#[derive(Debug)]
pub struct Allowed(#[expect(dead_code, reason = "it is held")] OwnedSemaphorePermit);

impl Default for Allowance {
    /// That of the whole process, by the limit of files that it has when it first asks somebody.
    fn default() -> Self {
        static PROCESS: LazyLock<Allowance> = LazyLock::new(|| {
            let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / SHARE;
            Allowance::of(usize::try_from(files).unwrap_or(usize::MAX).min(limits::UPSTREAM_SOCKETS_MAX))
        });
        PROCESS.clone()
    }
}

impl Allowance {
    pub fn of(sockets: usize) -> Self {
        Self(Arc::new(Semaphore::new(sockets)))
    }

    /// One more socket, if it may be opened.
    pub fn take(&self) -> Option<Allowed> {
        self.0.clone().try_acquire_owned().ok().map(Allowed)
    }
}

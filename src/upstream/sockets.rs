//! How many sockets may wait for datagrams of upstreams. Each is a file, and a process that has used up its files answers
//! nobody by TCP and registers nothing: a part of them is for this, and the rest for all else.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Deserializer, de};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits;

/// Any address and port of ours, of the family of this one.
pub(super) fn any_towards(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Ports of ours from which plain questions leave by UDP, as `1024-65535`: both ends, and what is between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    first: u16,
    last: u16,
}

/// How often a port is drawn by lot until one is free.
const TRIES: usize = 16;

/// A socket towards this address, on one of these ports, or of those that the kernel gives, that nobody can foretell (RFC 5452,
/// 9.2).
pub fn bind_towards(address: SocketAddr, ports: Option<Ports>) -> io::Result<UdpSocket> {
    let mut any = any_towards(address);
    let Some(ports) = ports else { return UdpSocket::bind(any) };
    for _ in 0..TRIES {
        any.set_port(ports.draw()?);
        match UdpSocket::bind(any) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

impl Ports {
    /// None when there are too few of them, or some that are not for such use.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        let count = u32::from(last).checked_sub(first.into())? + 1;
        (first >= limits::UPSTREAM_PORT_MIN && count >= limits::UPSTREAM_PORTS_MIN).then_some(Self { first, last })
    }

    fn draw(self) -> io::Result<u16> {
        let mut octets = [0; 8];
        getrandom::fill(&mut octets)?;
        let count = u64::from(self.last - self.first) + 1;
        // Less than the count, so that it fits.
        Ok(self.first + (u64::from_be_bytes(octets) % count) as u16)
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ends = text.split_once('-').and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?)));
        ends.and_then(|(first, last)| Self::new(first, last)).ok_or_else(|| {
            let (least, count) = (limits::UPSTREAM_PORT_MIN, limits::UPSTREAM_PORTS_MIN);
            format!("expected {count} ports or more from {least} on, such as \"{least}-65535\"; got {text:?}")
        })
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ports_are_many_and_a_forger_cannot_foretell_them() {
        let ports: Ports = "1024-65535".parse().unwrap();
        let drawn: HashSet<u16> = (0..500).map(|_| ports.draw().unwrap()).collect();
        assert!(drawn.len() > 450 && drawn.iter().all(|port| *port >= 1024), "{drawn:?}");
        let narrow: Ports = "20000-21023".parse().unwrap();
        let drawn: HashSet<u16> = (0..20_000).map(|_| narrow.draw().unwrap()).collect();
        assert_eq!((drawn.len(), drawn.iter().min(), drawn.iter().max()), (1024, Some(&20_000), Some(&21_023)));
        for text in ["1023-65535", "20000-21022", "60000-50000", "1024-65536", "1024", "-", ""] {
            assert!(text.parse::<Ports>().is_err_and(|error| error.contains("got")), "{text}");
        }
        for address in ["192.0.2.1:53", "[2001:db8::1]:53"] {
            let socket = bind_towards(address.parse().unwrap(), Some(narrow)).unwrap();
            assert!((20_000..=21_023).contains(&socket.local_addr().unwrap().port()));
        }
    }
}

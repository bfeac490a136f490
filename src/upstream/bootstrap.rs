//! Where is an upstream that is written by name? Looked up when a connection is made, by servers that are written by address.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::address::{Host, Upstream};
use super::system;
use crate::problem::Problem;

/// How long a name's addresses are taken as they are, unless no connection to them can be made.
const FOUND_FOR: Duration = Duration::from_secs(60);
/// How long a look-up may take, and while there are addresses from before.
const FIRST_LOOK_UP_MAX: Duration = Duration::from_secs(4);
const LOOK_UP_MAX: Duration = Duration::from_secs(1);

/// Where an upstream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    At(SocketAddr),
    /// Where its name leads when a connection is made, so that no start waits for that, and a server that moves is found.
    Named(Bootstrap),
}

/// Who looks up the names of upstreams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bootstrap {
    /// Upstreams in plain text, by address; the system's when there are none.
    pub(super) via: Vec<SocketAddr>,
    /// Our listeners, which are never asked.
    pub(super) own: Vec<SocketAddr>,
}

/// The addresses of a name, and when they were looked up.
#[derive(Debug, Default)]
pub(super) struct Found(Mutex<Option<(Instant, Vec<SocketAddr>)>>);

impl Found {
    /// Where the server may be. What a name led to before is taken when it cannot be looked up now, and as long as it is young,
    /// unless it `has_failed`.
    pub(super) async fn addresses(&self, place: &Place, upstream: &Upstream, has_failed: bool) -> io::Result<Vec<SocketAddr>> {
        let (bootstrap, name) = match (place, &upstream.host) {
            (Place::At(address), _) => return Ok(vec![*address]),
            (Place::Named(_), Host::Address(address)) => {
                return address.at(upstream.port).map(|at| vec![at]).map_err(io::Error::other);
            }
            (Place::Named(bootstrap), Host::Name(name)) => (bootstrap, name),
        };
        let former = self.lock().clone();
        let patience = match former {
            Some((at, addresses)) if !has_failed && at.elapsed() < FOUND_FOR => return Ok(addresses),
            Some(_) => LOOK_UP_MAX,
            None => FIRST_LOOK_UP_MAX,
        };
        let found = match tokio::time::timeout(patience, bootstrap.look_up(name, upstream.port)).await {
            Ok(found) => found.map_err(|problem| io::Error::other(problem.to_string())),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        match (found, former) {
            (Ok(addresses), _) => {
                *self.lock() = Some((Instant::now(), addresses.clone()));
                Ok(addresses)
            }
            (Err(_), Some((_, addresses))) => Ok(addresses),
            (Err(error), None) => Err(error),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, Vec<SocketAddr>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bootstrap {
    /// The addresses of an upstream's name, but for our own.
    pub(super) async fn look_up(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, Problem> {
        let mut found = self.find(name, port).await?;
        found.retain(|address| !self.is_own(*address));
        if found.is_empty() {
            return Err(Problem::new(format!("upstream {name} is this server itself; it is left out")));
        }
        Ok(found)
    }

    /// The same with our own addresses.
    pub(super) async fn find(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, Problem> {
        let via = match self.via.is_empty() {
            true => system::upstreams(Path::new(system::RESOLV_CONF), Path::new(system::RESOLVED_CONF), &self.own)?,
            false => self.via.clone(),
        };
        system::bootstrap(name, port, &via).await
    }

    pub(super) fn is_own(&self, address: SocketAddr) -> bool {
        self.own.iter().any(|own| system::is_own(address, *own))
    }
}

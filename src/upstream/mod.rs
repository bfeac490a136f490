//! Whom do we ask? The servers that know what is not known here.
//!
//! Start with [`Forwarder`], which keeps answers and has a `group` of upstreams asked for others. What is to be sent is decided
//! in `resolve::forward`, and what may be changed of a message in `resolve::passing`; here are the driver and the sockets. UDP
//! has sockets that all upstreams share; every other protocol has connections that are kept (`link`), on which `tcp`, `https`
//! and `quic` say how a query becomes a reply, and `tls` whom to trust.

mod address;
mod bootstrap;
mod config;
mod connection;
mod cookies;
mod datagram;
mod forwarder;
mod group;
mod groups;
mod https;
mod keep;
mod link;
#[cfg(test)]
mod peer;
mod quic;
mod report;
mod sentry;
mod sockets;
mod spelling;
pub mod system;
mod tally;
mod tcp;
mod tls;
mod trouble;
mod udp;
#[cfg(test)]
pub(crate) mod udp_peer;
mod under_way;
mod validator;

use std::io;
use std::sync::Arc;

use bootstrap::{Bootstrap, Place};
use link::Link;

pub use self::cookies::Cookie;
pub use self::sockets::{Allowance, Allowed, Ports, bind_towards};
pub use self::udp::Lost;
pub use address::{Address, Host, Identity, Pin, Protocol, Upstream};
pub use config::{Config, Route, Sequential};
pub use forwarder::{Answered, Forwarder, Kept, Resolved};
pub use group::{Favourite, FirstAttempt};
pub use report::Try;
pub use tally::Counters;
pub use under_way::Turn;

/// Asks one server one question, by UDP again and again for as long as the caller waits; its name is looked up by the system's
/// servers, and asked by TCP then instead of UDP. The reply may be truncated.
pub async fn ask(upstream: Upstream, query: &[u8]) -> io::Result<Vec<u8>> {
    let place = match (&upstream.host, upstream.addresses.first()) {
        (Host::Address(address), _) | (Host::Name(_), Some(address)) => {
            Place::At(address.at(upstream.port).map_err(io::Error::other)?)
        }
        (Host::Name(_), None) => Place::Named(Bootstrap::default()),
    };
    match place {
        Place::At(address) if upstream.protocol == Protocol::Udp => udp::ask_alone(address, query).await,
        place => Arc::new(Link::new(upstream, place)).ask(query).await.map(|(_, reply)| reply),
    }
}

/// The connection came to an end before the reply did: whoever waits may try another one.
fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the connection ended before the reply")
}

fn set_id(octets: &mut [u8], id: u16) {
    if let Some(place) = octets.first_chunk_mut::<2>() {
        *place = id.to_be_bytes();
    }
}

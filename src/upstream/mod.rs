//! Whom do we ask? The servers that know what is not known here.
//!
//! What to do is decided in `resolve::forward`; here are the sockets, and the driver between the two. Start with
//! [`Forwarder`]. UDP has sockets that all upstreams share; every other protocol has connections that are kept
//! (`link`), on which `tcp`, `https` and `quic` say how a query becomes a reply, and `tls` whom to trust.

mod address;
mod forwarder;
mod https;
mod keep;
mod link;
#[cfg(test)]
mod peer;
mod quic;
mod sentry;
mod sockets;
mod spelling;
pub mod system;
mod tally;
mod tcp;
mod tls;
mod udp;
mod validator;

use std::io;
use std::sync::Arc;

use link::{Bootstrap, Link, Place};

pub use self::sockets::{Allowance, Allowed};
pub use self::udp::{GUESSED_AT, OTHER_CASE};
pub use address::{Host, Identity, Pin, Protocol, Upstream};
pub use forwarder::{
    Answered, Config, Favourite, FirstAttempt, Forwarder, Kept, Route, Sequential, add_edns, clear_ad, truncated, write_kept,
};
pub use tally::Counters;

/// Asks one server once, over a connection; its name is looked up by the system's servers. Who would take UDP is asked over
/// TCP.
pub async fn ask(upstream: Upstream, query: &[u8]) -> io::Result<Vec<u8>> {
    let place = match (&upstream.host, upstream.addresses.first()) {
        (Host::Address(address), _) | (Host::Name(_), Some(address)) => Place::At((*address, upstream.port).into()),
        (Host::Name(_), None) => Place::Named(Bootstrap::default()),
    };
    Arc::new(Link::new(upstream, place)).ask(query).await.map(|(_, reply)| reply)
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

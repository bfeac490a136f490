//! Whom do we ask? The servers that know what is not known here.
//!
//! What to do is decided in `resolve::forward`; here are the sockets, and the driver between the two. Start with
//! [`Forwarder`]. UDP has sockets that all upstreams share; every other protocol has connections that are kept
//! (`link`), on which `tcp`, `https` and `quic` say how a query becomes a reply, and `tls` whom to trust.

mod address;
mod forwarder;
mod https;
mod link;
#[cfg(test)]
mod peer;
mod quic;
pub mod system;
mod tcp;
mod tls;
mod udp;

use std::io;

pub use address::{Host, Identity, Pin, Protocol, Upstream};
pub use forwarder::{
    Config, Counters, Favourite, FirstAttempt, Forwarder, Kept, Route, Sequential, add_edns, truncated, write_kept,
};

/// The connection came to an end before the reply did: whoever waits may try another one.
fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the connection ended before the reply")
}

fn set_id(octets: &mut [u8], id: u16) {
    if let Some(place) = octets.first_chunk_mut::<2>() {
        *place = id.to_be_bytes();
    }
}

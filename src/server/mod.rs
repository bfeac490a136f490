//! Who asks us in DNS? One file a listener; all of them hand octets to the [`Responder`] and send back what it says.
//!
//! Start with [`Responder::answer`]: one query, from octets to octets.

mod batch;
mod bind;
mod explain;
mod prefetch;
mod relay;
mod responder;
mod tally;
mod tcp;
mod udp;

use std::io;
use std::sync::Arc;

use tokio::runtime::Handle;

pub use bind::{BindError, Bound, Holder, bind_dns, bind_http};
pub use responder::{Responder, Setup};

/// Starts answering on bound sockets. Needs a tokio runtime around it.
pub fn serve(bound: Vec<Bound>, responder: &Arc<Responder>) -> io::Result<()> {
    let runtime = Handle::current();
    runtime.spawn(prefetch::run(responder.due()));
    for Bound { udp, tcp, address } in bound {
        let listened = responder.tallies.listener(address.to_string(), "udp");
        for socket in udp {
            udp::serve(socket, responder.clone(), runtime.clone(), &listened)?;
        }
        let listened = responder.tallies.listener(address.to_string(), "tcp");
        runtime.spawn(tcp::serve(tokio::net::TcpListener::from_std(tcp)?, responder.clone(), listened));
    }
    Ok(())
}

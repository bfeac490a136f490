//! Who asks us in DNS? One file a listener; all of them hand octets to the [`Responder`] and send back what it says.
//!
//! Start with [`Responder::answer`]: one query, from octets to octets.

mod batch;
mod bind;
mod certificate;
mod clients;
mod encrypted;
mod explain;
mod holder;
mod hop;
mod http3;
mod https;
mod lists;
mod prefetch;
mod proxy;
mod query_log;
mod quic;
mod relay;
mod responder;
mod seats;
mod tally;
mod tcp;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::runtime::Handle;

use self::tcp::{Protocol, Reception};

pub use bind::{BindError, Bound, Holder, bind_dns, bind_http};
pub use certificate::Certificates;
pub use clients::{Clients, Config as ClientsConfig, Network};
pub use encrypted::{Config, Encrypted, EncryptedError, Way, renew};
pub use query_log::{Config as QueryLogConfig, Format as QueryLogFormat, QueryLog, Target as QueryLogTarget};
pub use responder::{Responder, Setup};

/// What answers.
pub struct Listeners {
    endpoints: Vec<quinn::Endpoint>,
}

impl Listeners {
    /// Tells those who would not see from the end of the process that it is the end.
    pub async fn close(&self) {
        quic::close(&self.endpoints).await;
    }
}

/// Starts answering on bound sockets. Needs a tokio runtime around it.
pub fn serve(
    bound: Vec<Bound>,
    encrypted: Option<Encrypted>,
    proxies: &[IpNet],
    responder: &Arc<Responder>,
) -> io::Result<Listeners> {
    let runtime = Handle::current();
    runtime.spawn(prefetch::run(responder.due()));
    runtime.spawn(lists::follow(responder.clone()));
    let seats = Arc::default();
    let reception = |address: SocketAddr, transport| {
        let listened = responder.tallies.listener(address.to_string(), transport);
        let (responder, seats, proxies) = (responder.clone(), Arc::clone(&seats), proxies.to_vec());
        Arc::new(Reception { responder, listened, seats, proxies })
    };
    for Bound { udp, tcp, address } in bound {
        let listened = responder.tallies.listener(address.to_string(), "udp");
        for socket in udp {
            udp::serve(socket, responder.clone(), runtime.clone(), &listened)?;
        }
        let listener = tokio::net::TcpListener::from_std(tcp)?;
        runtime.spawn(tcp::serve(listener, Protocol::Dns, reception(address, "tcp")));
    }
    let endpoints = encrypted.map(|encrypted| encrypted.serve(reception)).transpose()?.unwrap_or_default();
    Ok(Listeners { endpoints })
}
